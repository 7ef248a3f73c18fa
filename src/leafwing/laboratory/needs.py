"""What tools need of a run: each declares it with `@needs`, and it is checked before any data are read, with one form of message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec

from leafwing.conditions import pixel_conditions
from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.laboratory.finding import Finding
from leafwing.model import Model

P = ParamSpec("P")


@dataclass(frozen=True)
class Need:
    """Something that a run must have.

    Args:
        what: what is needed, in words.
        instead: what a run has or does instead, as in "this run generates points"; empty if it has what is needed.
        advice: what provides it.
    """

    what: str
    instead: Callable[[Model], str]
    advice: str

    def check(self, model: Model, user: str, advice: str = "") -> None:
        """Raises LeafwingError if a run lacks this.

        Args:
            model: the run's model.
            user: the tool that needs it, with an option if only that one does: `invert --method encoder`.
            advice: other advice than usual.
        """
        if instead := self.instead(model):
            raise LeafwingError(f"{user} needs {self.what}, and this run {instead}: {advice or self.advice}")


def needs(
    *needed: Need,
) -> Callable[[Callable[Concatenate[Model, P], Finding]], Callable[Concatenate[Model, P], Finding]]:
    """A decorator that declares what a tool needs; a call of the tool checks that first."""

    def decorate(tool: Callable[Concatenate[Model, P], Finding]) -> Callable[Concatenate[Model, P], Finding]:
        @wraps(tool)
        def checked(model: Model, /, *args: P.args, **options: P.kwargs) -> Finding:
            check_needs(checked, model)
            return tool(model, *args, **options)

        checked.needs = needed  # type: ignore[attr-defined]
        return checked

    return decorate


def needs_of(tool: Callable[..., Finding]) -> tuple[Need, ...]:
    """What a tool declares with `needs`."""
    return getattr(tool, "needs", ())


def check_needs(tool: Callable[..., Finding], model: Model) -> None:
    """Raises LeafwingError for the first need of a tool that a model does not meet."""
    for need in needs_of(tool):
        need.check(model, tool.__name__)


def _instead_of_images(model: Model) -> str:
    if model.spec.points:
        return "generates points"
    output, kind = model.output, model.kind(model.output)
    return "" if output.field == "image" and isinstance(kind, Image) else f"generates {output.field} ({kind})"


def _instead_of_latents(model: Model) -> str:
    names = pixel_conditions(model.output, model.spec)
    if names:
        return f"generates its {model.output.field} from {' and '.join(f'{name} ({model.spec.fields[name]})' for name in names)}"
    return "" if model.output.prior is not None else "has none"


def _instead_of_critic(model: Model) -> str:
    if not model.can("judge"):
        return "has none"
    names = pixel_conditions(model.output, model.spec)
    return f"has one that scores them together with {' and '.join(names)}" if names else ""


RECIPES = "choose another recipe, see `leafwing recipes`"
IMAGES = Need("images", _instead_of_images, RECIPES)
LATENTS = Need("samples that are generated from latents", _instead_of_latents, RECIPES)
CRITIC = Need("a critic that scores single samples", _instead_of_critic, RECIPES)
ENCODER = Need("an encoder", lambda model: "" if model.can("encode") else "has none", RECIPES)
LABELS = Need(
    "samples of a given class",
    lambda model: "" if model.labels else "is not class-conditional",
    "train a class-conditional recipe on images with labels, see `leafwing recipes`",
)
COMBINATIONS = Need(
    "conditions, or latents with named parts",
    lambda model: "" if model.output.conditions or model.codes else "has neither",
    "train a conditional recipe on images with labels or attributes, or one with latent codes, see `leafwing recipes`",
)

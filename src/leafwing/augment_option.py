"""The option `augment`, what critics see of images, as it is written; `engine.augmentation` makes the changes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from leafwing.errors import InvalidOption, did_you_mean
from leafwing.quantities import real

DIFF = ("color", "translation", "cutout")
"""The names of the changes of DiffAugment in `parts.augment.DIFF`, in the order in which they are made."""


@dataclass(frozen=True)
class AugmentOption:
    """The option `augment`, parsed.

    Args:
        kind: `diff`, `ada` with an adaptive p, or `p`, the changes of ADA with a given p.
        changes: of `DIFF`.
        start, end: p at the beginning and at the end of training, linear between them.
        probability: of `diff`, that an image is changed.
    """

    kind: str
    changes: tuple[str, ...] = ()
    start: float = 0.0
    end: float = 0.0
    probability: float = 1.0


def parse(text: str) -> AugmentOption | None:
    """The option `augment`: `none`, `diff`, `diff:color,translation`, `diff:p=0.7`, `ada`, `p=0.3` or `p=0:0.3`; None for `none`.

    Raises:
        InvalidOption: something else.
    """
    name, _, detail = text.strip().partition(":")
    if text.strip() == "none":
        return None
    if text.strip() == "ada":
        return AugmentOption("ada")
    if name == "diff":
        words = [word.strip() for word in detail.split(",")] if detail else []
        chances = [word for word in words if word.startswith("p=")]
        changes = [word for word in words if word not in chances] or [*DIFF]
        for word in changes:
            if word not in DIFF:
                raise InvalidOption("augment", text, f"the changes of diff are {', '.join(DIFF)}{did_you_mean(word, DIFF)}")
        probability = _probability(chances[0].removeprefix("p=")) if len(chances) == 1 else 0.0 if chances else 1.0
        if not 0 < probability <= 1:
            raise InvalidOption(
                "augment", text, "p, the probability that an image is changed, must be above 0 and at most 1: diff:p=0.7"
            )
        return AugmentOption("diff", tuple(word for word in DIFF if word in changes), probability=probability)
    if text.strip().startswith("p="):
        first, _, last = text.strip()[2:].partition(":")
        start, end = _probability(first), _probability(last or first)
        if not (0 <= start <= 1 and 0 <= end <= 1):
            raise InvalidOption("augment", text, "p must be a probability such as p=0.3, or two, p=0:0.3, for start and end")
        return AugmentOption("p", start=start, end=end)
    raise InvalidOption(
        "augment", text, "choose from none, diff, diff:color,translation,cutout, diff:p=0.7, ada, p=0.3, p=0:0.3"
    )


def _probability(text: str) -> float:
    """A number; -1 if it is none."""
    try:
        return real(text)
    except ValueError:
        return -1.0

"""Which feature network judges samples: the default, and that it is none of a kind with which they were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leafwing.errors import LeafwingError, did_you_mean
from leafwing.fields import Field
from leafwing.metrics import FEATURES
from leafwing.metrics.photographs import SMALLEST_SIDE
from leafwing.networks import lite0

FAMILIES = {"lite0": "ImageNet", "inception": "ImageNet"}
"""The images that a published network was trained on; the others were trained on the data at hand, or not at all."""
CLASSIFIED = "inception_score"
"""The metric that needs a classifier, which `lite0` is not here."""


@dataclass(frozen=True)
class FeatureChoice:
    """A feature network.

    Args:
        name: a key of `FEATURES`.
        reason: why it was chosen; empty if the user named it.
        trained_through: the network of its family with which the run was trained, if the user insists on it.
    """

    name: str
    reason: str = ""
    trained_through: str = ""

    def __str__(self) -> str:
        """One line for the user; empty if there is nothing to say."""
        if self.trained_through:
            return (
                f"features {self.name}: circular, because the run was trained with {self.trained_through}; its rows say so"
            )
        return f"features {self.name}: {self.reason}" if self.reason else ""


def choose_features(
    kind: Field,
    pretrained: Mapping[str, Sequence[str]],
    *,
    metrics: Sequence[str] = (),
    requested: str | None = None,
    circular: bool = False,
) -> FeatureChoice:
    """The feature network, and why.

    A network that was part of a critic or a loss is no judge of what it trained, because a generator learns to please it, not
    people, and neither is one that was trained on the same images: Kynkaanniemi et al. 2023, arXiv:2203.06026.

    Args:
        kind: what the samples are.
        pretrained: the networks with which each run was trained, by run or recipe; see `Game.pretrained`.
        metrics: those that are computed.
        requested: the network that the user named; None: `lite0` for images in colour if it is installed, else `own`.
        circular: the user insists on a network with which the run was trained.

    Raises:
        LeafwingError: no such network, or one with which a run was trained.
    """
    if requested is not None:
        if requested not in FEATURES:
            raise LeafwingError(f"no feature network {requested!r}{did_you_mean(requested, FEATURES)}")
        if circular:
            return FeatureChoice(requested, trained_through=relatives(requested, pretrained))
        require_unseen(requested, pretrained)
        return FeatureChoice(requested)
    if trainings := [name for name in pretrained if relatives("lite0", {name: pretrained[name]})]:
        be = "was" if len(trainings) == 1 else "were"
        return FeatureChoice("own", f"{' and '.join(trainings)} {be} trained with {relatives('lite0', pretrained)}")
    channels, (height, width) = kind.shape[0], kind.shape[-2:] if len(kind.shape) > 2 else (0, 0)
    if CLASSIFIED in metrics:
        return FeatureChoice("own", f"{CLASSIFIED} needs a classifier")
    if channels < 3:
        return FeatureChoice("own", "the default for images without colours")
    if min(height, width) < SMALLEST_SIDE:
        return FeatureChoice("own", f"the default for images of less than {SMALLEST_SIDE} px")
    if not lite0.is_installed():
        return FeatureChoice(
            "own", "lite0, which sees more in images in colour, is not installed: pip install 'leafwing[features]'"
        )
    return FeatureChoice("lite0", f"the default for images in colour from {SMALLEST_SIDE} px on")


def relatives(name: str, pretrained: Mapping[str, Sequence[str]]) -> str:
    """The networks with which runs were trained that are of the same family as `name`; empty if none is."""
    family = FAMILIES.get(name)
    names = {other for networks in pretrained.values() for other in networks}
    return " and ".join(sorted(other for other in names if other == name or (family and FAMILIES.get(other) == family)))


def require_unseen(name: str, pretrained: Mapping[str, Sequence[str]]) -> None:
    """Raises LeafwingError if a run was trained with a network of the same family."""
    for training, networks in pretrained.items():
        if relative := relatives(name, {training: networks}):
            raise LeafwingError(
                f"features {name} cannot judge {training}, which was trained with {relative}"
                + ("" if relative == name else f" (both networks were trained on {FAMILIES[name]})")
                + ". Use --features own; `leafwing evaluate --circular` computes such numbers all the same, and marks them"
            )


def require_available(name: str) -> None:
    """Raises LeafwingError if a network comes with a package that is not installed."""
    if name == "lite0":
        lite0.published_weights()

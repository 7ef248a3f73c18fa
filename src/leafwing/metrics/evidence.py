"""What metrics look at: real and generated samples under one protocol, and their features, worked out when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from leafwing.game import DataSpec


@dataclass(frozen=True)
class Measure:
    """One number.

    Args:
        name: "fid", "precision", "modes".
        value: the number; nan where it cannot be worked out.
        low, high: an interval of 95 %, by the way that the metric's file says; None where there is none.
        better: which way is better; empty where neither is.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    better: Literal["lower", "higher", ""] = ""


class Evidence(Protocol):
    """What a metric may ask for. Everything is worked out once, in chunks, and shared by all metrics of one evaluation.

    Pictures are float32 (b, channels, height, width) in [-1, 1], chunk after chunk; features are float32 (n, d); probabilities
    are float64 (n, classes) and sum to 1. `real` is the split that the protocol names; `train` is what the model was trained on.
    """

    spec: DataSpec
    seed: int
    n_real: int
    n_fake: int
    world: str
    """The built-in world that the data are, such as "ring" or "stacked:FOLDER"; empty for a user's pictures."""
    options: Mapping[str, Any]
    """How the data were read: size, fit and so on, as `leafwing.data.load` takes them."""

    def counting(self, what: str, done: int, total: int) -> None:
        """To be told by what takes long: what is done, how much of it, out of how much."""
        ...

    def real_pictures(self) -> Iterator[Tensor]: ...
    def fake_pictures(self) -> Iterator[Tensor]: ...
    def train_pictures(self) -> Iterator[Tensor]:
        """Every picture that the model was trained on, once and never mirrored, always in the same order."""
        ...

    def held_pictures(self) -> Iterator[Tensor]:
        """Pictures of the same source that were kept out of training, in the same order every time; none without such a part."""
        ...

    def fake_points(self) -> np.ndarray:
        """float64 (n_fake, 2), for worlds of points."""
        ...

    def real_features(self) -> np.ndarray: ...
    def fake_features(self) -> np.ndarray: ...
    def fake_probabilities(self) -> np.ndarray:
        """Of a classifier, for each sample.

        Raises:
            LeafwingError: the feature network is no classifier.
        """
        ...

    def fake_labels(self) -> np.ndarray | None:
        """int64 (n_fake,), the classes that were asked for; None for a model without labels."""
        ...

    def real_labels(self) -> np.ndarray | None:
        """int64 (n_real,), the classes of the real samples; None for data without labels."""
        ...

    def features(self, pictures: Tensor) -> np.ndarray:
        """Features of some pictures (b, channels, height, width) in [-1, 1]: float32 (b, d)."""
        ...

    def made_of(self, latents: Tensor) -> Tensor:
        """What the model makes of latents (b, size): pictures in [-1, 1]; for a model with labels, all of class 0."""
        ...

    def latents(self, n: int) -> Tensor:
        """n latents of the protocol's seed."""
        ...

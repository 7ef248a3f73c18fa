"""The input of metrics: real and generated samples under one protocol, and their features, computed on first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from leafwing.game import DataSpec
from leafwing.metrics.conclusions import Better

if TYPE_CHECKING:
    from torch import Tensor

    from leafwing.metrics.segmenter import Segmenter


@dataclass(frozen=True)
class Measure:
    """One value.

    Args:
        name: "fid", "precision", "modes".
        value: the value; NaN if undefined.
        low, high: 95% confidence interval, computed as described in the metric's file; None if there is none.
        better: which direction is better; empty if neither is.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    better: Better = ""


class Evidence(Protocol):
    """What a metric may use. Everything is computed once, in chunks, and shared by all metrics of an evaluation.

    Images are float32 (b, channels, height, width) in [-1, 1], in chunks; features are float32 (n, d); probabilities
    are float64 (n, classes) and sum to 1. `real` is the split that the protocol names; `train` is what the model was trained on.
    Sample i belongs to the real image i modulo `n_real`. Clips are evaluated as images: all frames of each.
    """

    spec: DataSpec
    seed: int
    n_real: int
    n_fake: int
    segmenter: Segmenter | None
    """The segmenter of `metrics.segmenter`, if one of the metrics needs it."""
    built_in: str
    """The built-in data set, such as "ring" or "stacked:FOLDER"; empty for a user's images."""
    options: Mapping[str, Any]
    """The options with which the data were loaded, as for `leafwing.data.load`: size, fit and so on."""
    scale: int
    """How many times larger the samples are than the images that they are generated from; 1 if not larger."""

    augment: str
    """The augmentation of what critics saw in training, as the setting of this name; `none` without."""

    def report_progress(self, what: str, done: int, total: int) -> None:
        """Progress of slow computations: description, amount done, total."""
        ...

    def real_pictures(self) -> Iterator[Tensor]: ...
    def fake_pictures(self) -> Iterator[Tensor]: ...
    def sample_numbers(self) -> Sequence[int]:
        """The number by which users know each sample: of those of a run its position, of pictures that in their folder."""
        ...

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in order, and the real target of each: chunks of both.

        Raises:
            LeafwingError: the samples are not generated from images with targets.
        """
        ...

    def with_sources(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples in order, and the image that each is generated from, of its own size and channels: chunks of (source, sample).

        Raises:
            LeafwingError: the samples are not generated from images, masks or label maps.
        """
        ...

    def cycles(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The images that all samples are generated from, in order, and the samples translated back: chunks of both.

        Raises:
            LeafwingError: the run does not translate both ways.
        """
        ...

    def inputs(self, name: str) -> Iterator[Tensor]:
        """One condition of all samples in order, in the format of networks: chunks (b, ...)."""
        ...

    def train_pictures(self) -> Iterator[Tensor]:
        """All training images, once each, unmirrored, in a fixed order."""
        ...

    def held_out_pictures(self) -> Iterator[Tensor]:
        """Held-out images of the same source, in a fixed order; empty if nothing was held out."""
        ...

    def fake_points(self) -> np.ndarray:
        """float64 (n_fake, 2), for built-in 2-D points."""
        ...

    def real_features(self) -> np.ndarray: ...
    def fake_features(self) -> np.ndarray: ...
    def fake_probabilities(self) -> np.ndarray:
        """Class probabilities of each sample.

        Raises:
            LeafwingError: the feature network is not a classifier.
        """
        ...

    def fake_labels(self) -> np.ndarray | None:
        """int64 (n_fake,), the classes that the samples were conditioned on; None for a model without labels."""
        ...

    def real_labels(self) -> np.ndarray | None:
        """int64 (n_real,), the classes of the real samples; None for data without labels."""
        ...

    def features(self, images: Tensor) -> np.ndarray:
        """Features of images (b, channels, height, width) in [-1, 1]: float32 (b, d)."""
        ...

    def generate(self, latents: Tensor) -> Tensor:
        """Images in [-1, 1] generated from latents (b, size), all with the same conditions and noise; with labels, all of class 0."""
        ...

    def latents(self, n: int) -> Tensor:
        """The first n latents of the protocol's seed.

        Raises:
            LeafwingError: the samples are generated without latents.
        """
        ...

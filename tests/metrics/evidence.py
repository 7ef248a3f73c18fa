"""A fake `Evidence`, built from images, points, features, labels and latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leafwing.game import DataSpec, Prior
from leafwing.metrics.evidence import Evidence
from leafwing.metrics.segmenter import Segmenter
from leafwing.parts.priors import Normal

CHUNK = 7


def flat(pictures: Tensor) -> np.ndarray:
    """Features that are the pixels: float32 (b, channels * height * width)."""
    return pictures.float().flatten(1).numpy()


def no_generator(latents: Tensor) -> Tensor:
    raise AssertionError("this test has no generator")


@dataclass
class FakeEvidence:
    """An `Evidence` built from its arguments.

    Args:
        real, fake: images (n, channels, height, width) in [-1, 1], or points (n, 2), or features (n, d).
        real_classes, fake_classes: int64 (n,); None for no labels.
        probabilities: of a classifier, float64 (n, classes).
        generator: latents (b, size) -> images.
        prior: distribution of the latents.
        network: images -> features (b, d); default: the pixels.
        train: the training images; default: the real images.
        held: the held-out images; default: none.
        sources: the conditions of the samples by name.
        scale: how many times larger the samples are than their inputs.
        source: the images that the samples are generated from.
        again: the samples translated back.
        segmenter: that of the metric of this name.
        augment: the augmentation of the training.
    """

    real: Tensor
    fake: Tensor
    real_classes: np.ndarray | None = None
    fake_classes: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    generator: Callable[[Tensor], Tensor] = no_generator
    prior: Prior = field(default_factory=lambda: Normal(4))
    network: Callable[[Tensor], np.ndarray] = flat
    train: Tensor | None = None
    held: Tensor | None = None
    sources: Mapping[str, Tensor] = field(default_factory=dict)
    scale: int = 1
    source: Tensor = field(default_factory=lambda: torch.empty(0))
    again: Tensor = field(default_factory=lambda: torch.empty(0))
    segmenter: Segmenter | None = None
    augment: str = "none"
    seed: int = 0
    built_in: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.real.ndim == 4:
            channels, height, width = self.real.shape[1:]
            self.spec = DataSpec.images(height, width, channels)
        else:
            self.spec = DataSpec.vectors(self.real.shape[1])
        self.n_real, self.n_fake = len(self.real), len(self.fake)

    def real_pictures(self) -> Iterator[Tensor]:
        return iter(self.real.float().split(CHUNK))

    def fake_pictures(self) -> Iterator[Tensor]:
        return iter(self.fake.float().split(CHUNK))

    def sample_numbers(self) -> range:
        return range(self.n_fake)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        targets = self.real.float()[torch.arange(self.n_fake) % self.n_real]
        return zip(self.fake_pictures(), targets.split(CHUNK), strict=True)

    def inputs(self, name: str) -> Iterator[Tensor]:
        return iter(self.sources[name].split(CHUNK))

    def with_sources(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.source.split(CHUNK), self.fake_pictures(), strict=True)

    def cycles(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.source.split(CHUNK), self.again.split(CHUNK), strict=True)

    def train_pictures(self) -> Iterator[Tensor]:
        return iter((self.real if self.train is None else self.train).float().split(CHUNK))

    def held_out_pictures(self) -> Iterator[Tensor]:
        return iter(() if self.held is None else self.held.float().split(CHUNK))

    def report_progress(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total, (what, done, total)

    def fake_points(self) -> np.ndarray:
        return self.fake.double().numpy()

    def real_features(self) -> np.ndarray:
        return self.features(self.real)

    def fake_features(self) -> np.ndarray:
        return self.features(self.fake)

    def fake_probabilities(self) -> np.ndarray:
        assert self.probabilities is not None, "this test has no probabilities"
        return self.probabilities

    def real_labels(self) -> np.ndarray | None:
        return self.real_classes

    def fake_labels(self) -> np.ndarray | None:
        return self.fake_classes

    def features(self, pictures: Tensor) -> np.ndarray:
        return self.network(pictures)

    def generate(self, latents: Tensor) -> Tensor:
        return self.generator(latents)

    def latents(self, n: int) -> Tensor:
        return self.prior(n, generator=torch.Generator().manual_seed(self.seed))


def is_evidence(fake: FakeEvidence) -> Evidence:
    """mypy compares the class with the protocol here."""
    return fake


def clouds(seed: int = 0, n: int = 300, d: int = 8, shift: float = 0.3, scale: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian clouds (n, d); the second is shifted by `shift` in every dimension and scaled by `scale`."""
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)), scale * random.standard_normal((n, d)) + shift


def pictures(seed: int = 0, n: int = 40, channels: int = 3, height: int = 64, width: int = 64) -> Tensor:
    """Smooth random images (n, channels, height, width) in [-1, 1]."""
    coarse = torch.randn(n, channels, height // 8 + 2, width // 8 + 2, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").clamp(-1, 1)

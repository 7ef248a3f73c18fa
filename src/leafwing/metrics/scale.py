"""Where a value lies between real images and noise: the same metrics of other real images, and of noise, against the same real images.

FID and KID have no unit, and a precision is never 1. What real images reach among themselves is the best that a generator can be
expected to reach, and noise is what it begins with, or worse. Both depend on the data and the protocol only, so they are stored in
leafwing's cache and computed once for all runs and checkpoints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.kid import kernel_distance
from leafwing.metrics.prdc import NAMES, precision_recall

VERSION = 2
"""Part of the name of a stored scale: increment it when the same data give other values."""
NOISE = 64
"""Pictures of noise: they are alike to a feature network, so that more would change nothing."""
MIN_HALF = 6
"""Smallest half for which all metrics are defined."""

METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], Mapping[str, float]]] = {
    "fid": lambda real, other: {"fid": frechet_distance(real, other)},
    "kid": lambda real, other: {"kid": kernel_distance(real, other)[0]},
    "prdc": precision_recall,
}
"""The metrics that have a scale, as functions of the features of real images (n, d) and of others (m, d)."""


@dataclass(frozen=True)
class Scale:
    """The two ends of a scale.

    Args:
        real: what other real images reach, by measure.
        noise: what noise reaches.
        others: which real images these are: `training images`, `other real images` or `halves`.
        n_real, n_others: numbers of real images that are compared; of clips, of their frames.
        n_noise: number of pictures of noise.
    """

    real: Mapping[str, float]
    noise: Mapping[str, float]
    others: str
    n_real: int
    n_others: int
    n_noise: int

    def of(self, measure: str, frames: int = 1) -> dict[str, Any]:
        """The scale of one measure, as plain JSON. As in protocols, clips of so many `frames` are counted, not their frames."""
        numbers = {"n_real": self.n_real // frames, "n_others": self.n_others // frames}
        return asdict(self) | {"real": self.real.get(measure), "noise": self.noise.get(measure)} | numbers


def measures_of(metrics: Sequence[str]) -> list[str]:
    """The measures of these metrics that have a scale."""
    return [name for metric in metrics if metric in METRICS for name in (NAMES if metric == "prdc" else (metric,))]


def compute(real: np.ndarray, others: np.ndarray | None, noise: np.ndarray, kind: str) -> Scale:
    """The scale of all metrics.

    Args:
        real: features of the real images (n, d).
        others: those of other real images (m, d); None: halves of `real` are compared.
        noise: those of noise (k, d).
        kind: which images the others are.
    """
    first, second = (real, others) if others is not None else (real[: len(real) // 2], real[len(real) // 2 :])

    def values(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        return {name: float(value) for function in METRICS.values() for name, value in function(a, b).items()}

    return Scale(
        values(first, second), values(real, noise), "halves" if others is None else kind, len(first), len(second), len(noise)
    )


def noise_images(spec: DataSpec, start: int, end: int) -> Tensor:
    """Pictures `start` to `end - 1` of uniform noise, (end - start, channels, height, width) in [-1, 1], each by its number."""
    shape = (spec.channels, spec.height, spec.width)
    parts = [torch.rand(shape, generator=torch.Generator().manual_seed(number)) for number in range(start, end)]
    return 2 * torch.stack(parts) - 1


def read(path: Path) -> Scale | None:
    """A stored scale; None if it is missing, damaged, or has changed since."""
    return files.read_checked(path, Scale)


def write(path: Path, scale: Scale) -> None:
    """Stores a scale. Errors are ignored: an unwritable cache only costs time at the next evaluation."""
    with contextlib.suppress(OSError, LeafwingError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_checked(path, asdict(scale))

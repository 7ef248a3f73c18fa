"""Sliced Wasserstein distance between patches, for each pyramid level. Karras et al. 2018, arXiv:1710.10196, section 5.

Images are decomposed into a Laplacian pyramid: each level holds the detail of one scale, from full resolution, halved while the
shorter side is at least 16 pixels; the last level is the low-pass residual. 128 patches of 7x7 are extracted per level and image,
and each side's patches are normalised to mean 0 and standard deviation 1 per channel. The distance of two sets of patches along a
random direction is that of their sorted projections; it is averaged over 4 x 128 directions and multiplied by 1,000.

If 128 patches per image would exceed 131,072 in total (from 1,024 images on), fewer are extracted from each, to bound memory; the
paper uses two million. Levels with fewer than 128 positions give as many patches as they have positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.errors import LeafwingError
from leafwing.metrics.evidence import Evidence, Measure

MIN_SIDE = 16
PATCH = 7
PATCHES = 128
MAX_PATCHES = 1 << 17
DIRECTIONS = 4 * 128
DIRECTIONS_PER_STEP = 16
"""Number of directions projected at a time, to bound memory."""


def measure(evidence: Evidence) -> list[Measure]:
    """`swd_64`, `swd_32`, `swd_16`: one per level, named by its shorter side in pixels; and `swd`, their mean.

    Raises:
        LeafwingError: points, or images below 7 pixels.
    """
    spec = evidence.spec
    if spec.points or min(spec.height, spec.width) < PATCH:
        raise LeafwingError(
            f"swd compares patches of {PATCH}x{PATCH} pixels, and these samples have none: remove it from --metrics"
        )
    per_image = max(1, min(PATCHES, MAX_PATCHES // max(evidence.n_real, evidence.n_fake)))
    measures = []
    for level, side in enumerate(sides(spec.height, spec.width)):  # one after another, to hold the patches of a single level
        real = patches(evidence.real_pictures(), level, per_image, evidence.seed)
        fake = patches(evidence.fake_pictures(), level, per_image, evidence.seed)
        report = partial(evidence.report_progress, f"patches of {side} pixels")
        measures.append(Measure(f"swd_{side}", sliced_distance(real, fake, evidence.seed, report), better="lower"))
    return [*measures, Measure("swd", float(np.mean([measure.value for measure in measures])), better="lower")]


def sides(height: int, width: int) -> list[int]:
    """The shorter sides of the levels of a pyramid, in pixels, from fine to coarse."""
    side = min(height, width)
    return [side, *sides(-(-side // 2), side)] if side >= 2 * MIN_SIDE else [side]


def _filter(images: Tensor, gain: float, stride: int = 1) -> Tensor:
    """Convolution with the binomial filter 1 4 6 4 1 in both directions, mirrored at the border (Burt & Adelson 1983)."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels = images.shape[1]
    kernel = (gain * line[:, None] * line).expand(channels, 1, 5, 5).to(images)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, stride=stride, groups=channels)


def pyramid(images: Tensor) -> list[Tensor]:
    """The Laplacian pyramid of images (b, channels, height, width): details from fine to coarse, and the low-pass residual."""
    levels = [images]
    for _ in sides(*images.shape[-2:])[1:]:
        fine = levels[-1]
        coarse = _filter(fine, 1, stride=2)
        upsampled = torch.zeros_like(fine)
        upsampled[:, :, ::2, ::2] = coarse
        levels[-1] = fine - _filter(upsampled, 4)
        levels.append(coarse)
    return levels


def patches(chunks: Iterator[Tensor], level: int, per_image: int, seed: int) -> np.ndarray:
    """Patches of a pyramid level of images in chunks (b, channels, height, width), `per_image` from each at random positions.

    Returns:
        float32 (patches, channels, 49).
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for chunk in chunks:
        windows = pyramid(chunk.float())[level].unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # (b, channels, rows, columns, 7, 7)
        b, channels, rows, columns = windows.shape[:4]
        count = min(per_image, rows * columns)
        row = torch.randint(rows, (b, count), generator=generator)
        column = torch.randint(columns, (b, count), generator=generator)
        selected = windows[torch.arange(b)[:, None], :, row, column]  # (b, count, channels, 7, 7)
        parts.append(selected.reshape(-1, channels, PATCH * PATCH).numpy())
    return np.concatenate(parts)


def sliced_distance(
    real: np.ndarray, fake: np.ndarray, seed: int, report: Callable[[int, int], None] = lambda done, total: None
) -> float:
    """The distance of patches (n, channels, 49) and (m, channels, 49), at least 0; the larger set is subsampled.

    `report` is a progress callback: directions done, total.
    """
    random = np.random.default_rng(seed)
    n = min(len(real), len(fake))
    a, b = (
        _normalise(side if len(side) == n else side[random.choice(len(side), n, replace=False)]) for side in (real, fake)
    )
    distances = []
    for done in range(0, DIRECTIONS, DIRECTIONS_PER_STEP):
        axes = random.standard_normal((DIRECTIONS_PER_STEP, a.shape[1])).astype(np.float32)
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        distances.append(np.abs(np.sort(axes @ a.T) - np.sort(axes @ b.T)).mean(dtype=np.float64))
        report(done + DIRECTIONS_PER_STEP, DIRECTIONS)
    return float(1_000 * np.mean(distances))


def _normalise(patches: np.ndarray) -> np.ndarray:
    """Patches (n, channels, 49) with mean 0 and standard deviation 1 in each channel: float32 (n, channels * 49)."""
    mean = patches.mean(axis=(0, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    deviation = patches.std(axis=(0, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    return ((patches - mean) / np.maximum(deviation, 1e-12)).reshape(len(patches), -1)

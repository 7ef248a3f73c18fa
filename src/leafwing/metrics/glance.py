"""A first look at samples, from a hundred of them without any network: variety, fine detail, nearness to the data, effect of labels.

Cheap enough for the end of every training. It tells an untrained or collapsed generator from one that works at all; which of two
that work is better is a question for the other metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

SIDE = 8
"""Distances are measured at 8x8 pixels, like the health signals: that keeps the subject, and averages noise away."""
SMALLEST_SIDE = 16
"""Below this side in pixels, details and subject cannot be told apart."""


@dataclass(frozen=True)
class Glance:
    """What was measured; None where it is undefined.

    Args:
        samples, real: numbers of samples and of real images.
        undefined: number of further samples with values that are not numbers, which are left out.
        variety: mean distance of two samples at 8x8 pixels, over that of two real images.
        distance: energy distance of samples and real images at 8x8 pixels over its maximum, 0 to 1.
        grey_distance: the same for copies of the mean real image.
        detail: share of the finest details in the contrast of a sample, 0 to 1: 0.75 for white noise.
        real_detail: the same of real images.
        label_effect: mean distance of two samples of one latent with different labels, over that of two latents with one label.
    """

    samples: int
    real: int
    variety: float
    distance: float
    grey_distance: float
    detail: float | None = None
    real_detail: float | None = None
    label_effect: float | None = None
    undefined: int = 0


def glance(samples: Tensor, real: Tensor, label_effect: float | None = None) -> Glance:
    """What a hundred samples show.

    Args:
        samples: images (n, channels, height, width) in [-1, 1] without transparency, or points (n, 2); more than one of them finite.
        real: the same, (m, ...); m > 1.
        label_effect: see `effect_of_labels`.
    """
    is_finite = samples.flatten(1).isfinite().all(1)
    samples = samples[is_finite]
    a, b = coarse(samples), coarse(real)
    spread = max(mean_distance(b), 1e-9)
    has_detail = samples.dim() == 4 and min(samples.shape[2:]) >= SMALLEST_SIDE
    return Glance(
        samples=len(samples),
        real=len(real),
        variety=mean_distance(a) / spread,
        distance=energy_distance(a, b),
        grey_distance=energy_distance(b.mean(0, keepdim=True).expand(2, -1), b),
        detail=fine_detail(samples) if has_detail else None,
        real_detail=fine_detail(real) if has_detail else None,
        label_effect=label_effect,
        undefined=int((~is_finite).sum()),
    )


def effect_of_labels(samples: Tensor, other_labels: Tensor, other_latents: Tensor) -> float | None:
    """How much samples change with their label, over how much they change with their latent; None if not even that changes them.

    Samples with values that are not numbers are left out.

    Args:
        samples: images (n, channels, height, width) or points (n, 2).
        other_labels: from the same latents, with other labels.
        other_latents: from other latents, with the same labels.
    """
    a, b, c = coarse(samples), coarse(other_labels), coarse(other_latents)
    by_latent, by_label = ((a - other).norm(dim=1).nanmean().item() for other in (c, b))
    return by_label / by_latent if by_latent >= 1e-6 and isfinite(by_label) else None


def coarse(samples: Tensor) -> Tensor:
    """Images (n, channels, height, width) at 8x8 pixels, points as they are: float64 (n, dimensions)."""
    samples = samples.double()
    return (adaptive_avg_pool2d(samples, SIDE) if samples.dim() == 4 else samples).flatten(1)


def mean_distance(samples: Tensor) -> float:
    """Mean Euclidean distance of two different ones of samples (n, dimensions)."""
    return (distances(samples, samples).sum() / (len(samples) * (len(samples) - 1))).item()


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of (n, dimensions) and (m, dimensions): (n, m). By differences, so that small ones are exact."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Energy distance of (n, dimensions) and (m, dimensions) over its maximum, 0 to 1; Szekely & Rizzo 2013, Energy statistics.

    The estimate is unbiased, and slightly negative for equal distributions.
    """
    across = distances(a, b).mean().item()
    return 1 - (mean_distance(a) + mean_distance(b)) / (2 * across) if across else 0.0


def fine_detail(images: Tensor) -> float:
    """The share of details of two pixels and less in the contrast of images (n, channels, height, width): 0 to 1.

    That of white noise is 0.75, and that of a smooth surface is near 0.
    """
    images = images.double()
    images = images[..., : images.shape[2] // 2 * 2, : images.shape[3] // 2 * 2]
    fine = images - interpolate(avg_pool2d(images, 2), scale_factor=2)
    contrast = images - images.mean((2, 3), keepdim=True)
    return (fine.square().sum() / contrast.square().sum().clamp_min(1e-12)).item()

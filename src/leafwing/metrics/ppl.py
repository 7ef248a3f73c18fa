"""Perceptual path length: change of samples under small steps in latent space. Karras et al. 2019, arXiv:1812.04948, section 4.1.

    E |f(G(z(t))) - f(G(z(t + e)))|^2 / e^2,    z(t) between two latents, e = 1e-4, without the lowest and highest 1% of the values

t is uniform on the path (`ppl`), or at its end (`ppl_ends`). Paths are spherical (`slerp`) for normal latents and linear for others,
so that intermediate latents are as likely as those seen in training; one-hot codes within latents stay those of the start. f is the
feature network of the protocol, where the paper uses LPIPS, so values are not comparable between feature networks, nor with the
paper. With classes, all samples are of class 0; all have the same noise inside networks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.latents import lerp, slerp
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import with_interval

EPSILON = 1e-4
BLOCK = 32
TRIM = 0.01
PRIOR_SAMPLES = 256
"""Number of latents used to detect whether the prior is normal."""

Interpolation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Start and end (n, size), positions (n,) -> intermediate latents (n, size)."""


def measure(evidence: Evidence) -> list[Measure]:
    """`ppl` and `ppl_ends` over as many paths as the protocol has samples, with intervals of a trimmed mean.

    Raises:
        LeafwingError: points.
    """
    if evidence.spec.points:
        raise LeafwingError("ppl requires images, and these are points: remove it from --metrics")
    n = evidence.n_fake
    ends = evidence.latents(2 * n)
    interpolate = path_of(evidence.latents(PRIOR_SAMPLES))
    positions = torch.rand(n, generator=torch.Generator().manual_seed(evidence.seed), dtype=torch.float64)
    return [
        trimmed_mean("ppl", squared_rates(evidence, interpolate, ends[:n], ends[n:], positions)),
        trimmed_mean("ppl_ends", squared_rates(evidence, interpolate, ends[:n], ends[n:], torch.zeros_like(positions))),
    ]


def squared_rates(
    evidence: Evidence, interpolate: Interpolation, start: Tensor, end: Tensor, positions: Tensor
) -> np.ndarray:
    """The squared feature distance over e^2 at each position (n,) of the paths between latents (n, size): float64 (n,)."""
    values = []
    for i in range(0, len(start), BLOCK):
        a, b, t = (part[i : i + BLOCK].cpu().double() for part in (start, end, positions))  # not every device has float64
        latents = torch.cat([interpolate(a, b, t), interpolate(a, b, t + EPSILON)]).to(start)
        before, after = np.split(evidence.features(evidence.generate(latents)).astype(np.float64), 2)
        values.append(np.square(before - after).sum(axis=1) / EPSILON**2)
        evidence.report_progress("steps in the latents", min(i + BLOCK, len(start)), len(start))
    return np.concatenate(values)


def path_of(latents: Tensor) -> Interpolation:
    """The interpolation for the prior of these latents (n, size)."""
    codes = ((latents == 0) | (latents == 1)).all(dim=0).cpu()
    path = slerp if exceeds_uniform(latents[:, ~codes.to(latents.device)]) else lerp
    if not codes.any():
        return path
    return lambda a, b, t: torch.where(codes, a, path(a.masked_fill(codes, 0), b.masked_fill(codes, 0), t))


def exceeds_uniform(latents: Tensor) -> bool:
    """Whether every dimension of latents (n, size) exceeds [-1, 1] at least once: the prior is normal, not uniform."""
    return bool((latents.abs().amax(dim=0) > 1).all())


def trimmed_mean(name: str, values: np.ndarray) -> Measure:
    """The mean of values (n,) between their 1st and 99th percentile, with the interval of a trimmed mean (Tukey & McLaughlin 1963)."""
    if not np.isfinite(values).all():
        return with_interval(name, float("nan"), 0, "lower")
    low, high = np.quantile(values, TRIM, method="lower"), np.quantile(values, 1 - TRIM, method="higher")
    value = float(values[(low <= values) & (values <= high)].mean())
    error = (
        float("nan")
        if len(values) == 1
        else float(values.clip(low, high).std(ddof=1)) / ((1 - 2 * TRIM) * np.sqrt(len(values)))
    )
    return with_interval(name, value, error, "lower", minimum=0)

"""Perceptual path length: change of samples under small steps in latent space. Karras et al. 2019, arXiv:1812.04948, section 4.1.

    E |f(G(z(t))) - f(G(z(t + e)))|^2 / e^2,    z(t) between two latents, e = 1e-4, without the lowest and highest 1 % of the values

t is uniform on the path (`ppl`), or at its end (`ppl_ends`). Paths are spherical (`slerp`) for normal latents and linear for others,
so that intermediate latents are as likely as those seen in training. f is the feature network of the protocol, where the paper uses
LPIPS, so values are not comparable between feature networks, nor with the paper. With classes, all samples are of class 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import within

EPSILON = 1e-4
BLOCK = 32
TRIM = 0.01
KNOWN = 256
"""Number of latents used to detect whether the prior is normal."""

Walk = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Start and end (n, size), times (n,) -> intermediate latents (n, size)."""


def measure(evidence: Evidence) -> list[Measure]:
    """`ppl` and `ppl_ends` over as many paths as the protocol has samples, with intervals of a trimmed mean.

    Raises:
        LeafwingError: points.
    """
    if evidence.spec.points:
        raise LeafwingError("ppl requires pictures, and these are points: remove it from --metrics")
    n = evidence.n_fake
    ends = evidence.latents(2 * n)
    walk = slerp if beyond_uniform(evidence.latents(KNOWN)) else straight
    times = torch.rand(n, generator=torch.Generator().manual_seed(evidence.seed), dtype=torch.float64)
    return [
        trimmed("ppl", jumps(evidence, walk, ends[:n], ends[n:], times)),
        trimmed("ppl_ends", jumps(evidence, walk, ends[:n], ends[n:], torch.zeros_like(times))),
    ]


def jumps(evidence: Evidence, walk: Walk, start: Tensor, end: Tensor, times: Tensor) -> np.ndarray:
    """The squared feature distance over e^2 at each time (n,) of the paths between latents (n, size): float64 (n,)."""
    found = []
    for i in range(0, len(start), BLOCK):
        a, b, t = (part[i : i + BLOCK].cpu().double() for part in (start, end, times))  # not every device has float64
        latents = torch.cat([walk(a, b, t), walk(a, b, t + EPSILON)]).to(start)
        here, there = np.split(evidence.features(evidence.made_of(latents)).astype(np.float64), 2)
        found.append(np.square(here - there).sum(axis=1) / EPSILON**2)
        evidence.report_progress("steps in the latents", min(i + BLOCK, len(start)), len(start))
    return np.concatenate(found)


def straight(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Latents (n, size) on straight lines from a to b (n, size), at times t (n,)."""
    return a + t[:, None] * (b - a)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation from a to b (White 2016, arXiv:1609.04468); linear if they are parallel or antiparallel.

    Args:
        a, b: the ends, each (n, size), or (size,) for one path.
        t: positions on the path (n,), 0 at a and 1 at b.

    Returns:
        (n, size); the norm goes from that of a to that of b.
    """
    angle = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1).acos()[..., None]
    sine, time = angle.sin(), t[:, None]
    curved = (((1 - time) * angle).sin() * a + (time * angle).sin() * b) / sine
    return torch.where(sine > 1e-6, curved, straight(a, b, t))


def beyond_uniform(latents: Tensor) -> bool:
    """Whether every dimension of latents (n, size) exceeds [-1, 1] at least once: the prior is normal, not uniform."""
    return bool((latents.abs().amax(dim=0) > 1).all())


def trimmed(name: str, values: np.ndarray) -> Measure:
    """The mean of values (n,) between their 1st and 99th percentile, with the interval of a trimmed mean (Tukey & McLaughlin 1963)."""
    if not np.isfinite(values).all():
        return within(name, float("nan"), 0, "lower")
    low, high = np.quantile(values, TRIM, method="lower"), np.quantile(values, 1 - TRIM, method="higher")
    value = float(values[(low <= values) & (values <= high)].mean())
    few = len(values) == 1
    error = float("nan") if few else float(values.clip(low, high).std(ddof=1)) / ((1 - 2 * TRIM) * np.sqrt(len(values)))
    return within(name, value, error, "lower", least=0)

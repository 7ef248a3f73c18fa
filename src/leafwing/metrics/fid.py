"""FID: Fréchet distance between two sets of features. Heusel et al. 2017, arXiv:1706.08500, eq. 6.

A Gaussian is fitted to each set; its mean m and covariance C are computed in float64:

    |m_r - m_f|^2 + tr C_r + tr C_f - 2 tr (C_r C_f)^(1/2)

With C = R^T R, the last trace is the sum of the singular values of R_r R_f^T. This needs no matrix square root and stays exact with
fewer samples than features, where square roots of the singular covariance lose half of their digits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from leafwing.metrics.clouds import check
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import with_interval

RESAMPLES = 30
MAX_DIMENSIONS = 256
"""Maximum feature dimension for which an interval is computed: 30 distances in 2,048 dimensions take minutes."""


def measure(evidence: Evidence) -> list[Measure]:
    """`fid`, with a bootstrap interval for at most 256 features; see `spread`."""
    real, fake = evidence.real_features(), evidence.fake_features()
    value = frechet_distance(real, fake)
    if real.shape[1] > MAX_DIMENSIONS or not np.isfinite(value):
        return [Measure("fid", value, better="lower")]
    report = partial(evidence.report_progress, "bootstrapping FID")
    return [with_interval("fid", value, spread(real, fake, evidence.seed, report=report), "lower", minimum=0)]


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """The distance between features (n, d) and (m, d), at least 0; NaN if a value is not finite.

    Raises:
        LeafwingError: fewer than two rows, or different dimensions.
    """
    if not check(real, fake, "fid"):
        return float("nan")
    (mean_r, root_r), (mean_f, root_f) = _gaussian(real), _gaussian(fake)
    cross = torch.linalg.svdvals(root_r @ root_f.T).sum()
    distance = (mean_r - mean_f).square().sum() + root_r.square().sum() + root_f.square().sum() - 2 * cross
    return max(0.0, distance.item())  # rounding may leave -1e-13


def _gaussian(features: np.ndarray) -> tuple[Tensor, Tensor]:
    """The mean (d,) of features (n, d), and an R (at most d, d) with R^T R = covariance, by incremental QR."""
    n, d = features.shape
    mean, root = features.mean(axis=0, dtype=np.float64), torch.empty(0, d, dtype=torch.float64)
    step = max(2 * d, 4096)
    for start in range(0, n, step):
        block = torch.from_numpy(features[start : start + step] - mean)
        root = torch.linalg.qr(torch.cat([root, block]), mode="r").R
    return torch.from_numpy(mean), root / (n - 1) ** 0.5


def spread(
    real: np.ndarray,
    fake: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """The standard deviation of the distance over draws of both sets, estimated by bootstrap.

    The distances of the resamples themselves are biased upwards, because a resample has fewer distinct rows and FID decreases with
    their number; so only their spread is used. The interval is for FID at this number of samples, not for infinitely many.

    `report` is a progress callback: resamples done, total.
    """
    random = np.random.default_rng(seed)

    def resample(features: np.ndarray) -> np.ndarray:
        return features[random.integers(0, len(features), len(features))]

    distances = []
    for done in range(resamples):
        distances.append(frechet_distance(resample(real), resample(fake)))
        report(done + 1, resamples)
    return float(np.std(distances, ddof=1))

"""KID: squared maximum mean discrepancy of features under a cubic kernel. Binkowski et al. 2018, arXiv:1801.01401, section 3.

    k(x, y) = (x . y / d + 1)^3
    mean k(x, x') + mean k(y, y') - 2 mean k(x, y),    the first two over pairs of distinct rows

It is unbiased for any number of samples, so it may be negative when the distributions agree. The paper and most implementations
average it over 100 random subsets of 1,000. Here all pairs are used once, which equals the mean over all such subsets, without
sampling noise and at lower cost.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel

from leafwing.metrics.clouds import blocks, check
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import with_interval


def measure(evidence: Evidence) -> list[Measure]:
    """`kid`, with a jackknife interval over samples and real images."""
    return [with_interval("kid", *kernel_distance(evidence.real_features(), evidence.fake_features()), "lower")]


def kernel_distance(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    """The distance between features (n, d) and (m, d), and its jackknife standard error.

    Only a block of the kernel matrix is in memory at a time. Both are NaN if a value is not finite.

    Raises:
        LeafwingError: fewer than three rows, or different dimensions.
    """
    if not check(real, fake, "kid"):
        return float("nan"), float("nan")
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    n, m = len(real), len(fake)
    within_real, within_fake = _sums(real, real)[0] - _diagonal(real), _sums(fake, fake)[0] - _diagonal(fake)
    cross_real, cross_fake = _sums(real, fake)

    def distance(a: np.ndarray, b: np.ndarray, ab: np.ndarray, n: int, m: int) -> np.ndarray:
        return a / (n * (n - 1)) + b / (m * (m - 1)) - 2 * ab / (n * m)

    a, b, ab = within_real.sum(), within_fake.sum(), cross_real.sum()
    without_real = distance(a - 2 * within_real, b, ab - cross_real, n - 1, m)
    without_fake = distance(a, b - 2 * within_fake, ab - cross_fake, n, m - 1)
    variance = (n - 1) * without_real.var() + (m - 1) * without_fake.var()
    return float(distance(a, b, ab, n, m)), float(np.sqrt(variance))


def _sums(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel matrix (n, m) over its columns and over its rows: (n,) and (m,)."""
    rows, columns = np.empty(len(a)), np.zeros(len(b))
    for block in blocks(len(a), len(b)):
        kernel = polynomial_kernel(a[block], b, degree=3, gamma=None, coef0=1)
        rows[block] = kernel.sum(axis=1)
        columns += kernel.sum(axis=0)
    return rows, columns


def _diagonal(features: np.ndarray) -> np.ndarray:
    """The kernel of each row with itself: (n,)."""
    return (np.square(features).mean(axis=1) + 1) ** 3

"""Precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991), density and coverage (Naeem et al. 2020, arXiv:2002.09797).

The manifold of a feature set is approximated by balls around its points whose radius is the distance to the k-th nearest neighbour.

    precision   fraction of samples inside a ball of the real set
    recall      fraction of real images inside a ball of the generated set
    density     number of real balls around a sample, divided by k: 1 if the sets agree, more if samples keep to dense regions
    coverage    fraction of real balls that contain a sample

k is 5 for all of them, as in the second paper. The first paper uses 3 for precision and recall, which gives slightly lower values.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from leafwing.metrics.clouds import blocks, check
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import with_interval

NAMES = ("precision", "recall", "density", "coverage")
NEAREST = 5
PARTS = 10
MIN_OF_CLASS = 20
"""Minimum number of samples of a class for its precision."""
MIN_SAMPLES = 300
"""Minimum number of samples for intervals: the spread of ten parts of 30 is still that of the whole, times the square root of ten."""


def variety(real: np.ndarray, fake: np.ndarray) -> float:
    """The spread of features (m, d) of samples around their mean, over that of real images (n, d); see `conclusions.says_nothing`."""
    spreads = [float(np.sqrt(features.astype(np.float64).var(axis=0).sum())) for features in (fake, real)]
    return spreads[0] / spreads[1] if spreads[1] > 0 else float("nan")


def measure(evidence: Evidence) -> list[Measure]:
    """`precision`, `recall`, `density` and `coverage`, with intervals for at least 300 samples; see `errors`."""
    real, fake = evidence.real_features(), evidence.fake_features()
    values, deviations = precision_recall(real, fake), errors(real, fake, evidence.seed)
    upper = {"precision": 1, "recall": 1, "density": inf, "coverage": 1}
    return [
        with_interval(name, values[name], deviations[name], "higher", minimum=0, maximum=upper[name], observations=PARTS)
        for name in NAMES
    ]


def by_class(real: np.ndarray, fake: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """The precision of the samples of each class, highest first: the fraction inside a ball of any real image, of its class or not.

    Empty if an input is not finite. Classes of fewer than `MIN_OF_CLASS` samples are left out.

    Args:
        real, fake: features (n, d) and (m, d).
        classes: those that the samples were generated for, int64 (m,).
        names: of the classes.
    """
    if not check(real, fake, "prdc", NEAREST + 1):
        return {}
    inside = _balls_around(real.astype(np.float64), fake.astype(np.float64), NEAREST) > 0
    members = {name: classes == number for number, name in enumerate(names)}
    shares = {name: float(inside[of_class].mean()) for name, of_class in members.items() if of_class.sum() >= MIN_OF_CLASS}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def errors(real: np.ndarray, fake: np.ndarray, seed: int, parts: int = PARTS) -> dict[str, float]:
    """Standard errors of the four values: their spread over ten random parts of both sets, divided by the square root of ten.

    The values of the parts are biased (balls of fewer points are larger), but their spread is similar. The errors are too small if a
    value is near 1 in all parts, and for a density far above 1. They are NaN if a set has fewer than 300 rows.
    """
    if min(len(real), len(fake)) < MIN_SAMPLES:
        return dict.fromkeys(NAMES, float("nan"))
    random = np.random.default_rng(seed)
    split = [np.array_split(random.permutation(len(features)), parts) for features in (real, fake)]
    values = [precision_recall(real[a], fake[b]) for a, b in zip(*split, strict=True)]
    return {name: float(np.std([part[name] for part in values], ddof=1) / np.sqrt(parts)) for name in NAMES}


def precision_recall(real: np.ndarray, fake: np.ndarray, nearest: int = NEAREST) -> dict[str, float]:
    """The four values by name, for features (n, d) and (m, d); all NaN if an input is not finite.

    Only a block of the distances is in memory at a time.

    Raises:
        LeafwingError: fewer than `nearest` + 1 rows, or different dimensions.
    """
    if not check(real, fake, "prdc", nearest + 1):
        return dict.fromkeys(NAMES, float("nan"))
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    radii_real, radii_fake = _radii(real, nearest), _radii(fake, nearest)
    balls = np.empty(len(fake))  # number of real balls around each sample
    recalled, covered = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for block in blocks(len(fake), len(real)):
        distances = euclidean_distances(fake[block], real)
        in_real = distances <= radii_real
        balls[block] = in_real.sum(axis=1)
        covered |= in_real.any(axis=0)
        recalled |= (distances <= radii_fake[block, None]).any(axis=0)
    return {
        "precision": float((balls > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(balls.mean() / nearest),
        "coverage": float(covered.mean()),
    }


def _balls_around(real: np.ndarray, fake: np.ndarray, nearest: int) -> np.ndarray:
    """The number of real balls around each sample: (m,)."""
    radii = _radii(real, nearest)
    return np.concatenate(
        [(euclidean_distances(fake[block], real) <= radii).sum(axis=1) for block in blocks(len(fake), len(real))]
    )


def _radii(features: np.ndarray, nearest: int) -> np.ndarray:
    """The distance of each point (n, d) to its k-th nearest other point: (n,)."""
    distances, _ = NearestNeighbors(n_neighbors=nearest, algorithm="brute").fit(features).kneighbors()
    return distances[:, -1]

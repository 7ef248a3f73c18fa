"""Precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991), density and coverage (Naeem et al. 2020, arXiv:2002.09797).

A cloud is taken for the union of balls around its points, each of which reaches to the k-th nearest other point of that cloud.

    precision   share of samples that lie in a ball of the real cloud
    recall      share of real pictures that lie in a ball of the generated cloud
    density     how many real balls a sample lies in, divided by k: 1 where clouds agree, more where samples keep to the middle
    coverage    share of real balls that hold a sample

k is 5 for all of them, as in the second paper. The first paper has 3 for precision and recall, so theirs are a little lower.
"""

from __future__ import annotations

from math import inf

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from leafwing.metrics.clouds import blocks, check
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import within

NAMES = ("precision", "recall", "density", "coverage")
NEAREST = 5
PARTS = 10
FEWEST = 300
"""Samples from which there are intervals: ten parts of 30 still scatter as the whole does, times the root of ten."""


def measure(evidence: Evidence) -> list[Measure]:
    """`precision`, `recall`, `density` and `coverage`, with intervals from 300 samples on; see `errors`."""
    real, fake = evidence.real_features(), evidence.fake_features()
    values, scatter = precision_recall(real, fake), errors(real, fake, evidence.seed)
    most = {"precision": 1, "recall": 1, "density": inf, "coverage": 1}
    return [within(name, values[name], scatter[name], "higher", least=0, most=most[name], parts=PARTS) for name in NAMES]


def errors(real: np.ndarray, fake: np.ndarray, seed: int, parts: int = PARTS) -> dict[str, float]:
    """Standard errors of the four numbers: how they scatter over ten random parts of both clouds, over the root of ten.

    The numbers of parts are others (balls of fewer points reach farther), but scatter alike. The errors are too small where a number
    is near 1 in all parts, and for a density far above 1. They are nan where a cloud has fewer than 300 rows.
    """
    if min(len(real), len(fake)) < FEWEST:
        return dict.fromkeys(NAMES, float("nan"))
    random = np.random.default_rng(seed)
    split = [np.array_split(random.permutation(len(cloud)), parts) for cloud in (real, fake)]
    found = [precision_recall(real[a], fake[b]) for a, b in zip(*split, strict=True)]
    return {name: float(np.std([one[name] for one in found], ddof=1) / np.sqrt(parts)) for name in NAMES}


def precision_recall(real: np.ndarray, fake: np.ndarray, nearest: int = NEAREST) -> dict[str, float]:
    """The four numbers by name, for features (n, d) and (m, d); each nan where a number is not finite.

    No more than a block of the distances is in memory.

    Raises:
        LeafwingError: fewer than `nearest` + 1 rows, or features that are not alike.
    """
    if not check(real, fake, nearest + 1, "prdc"):
        return dict.fromkeys(NAMES, float("nan"))
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    reach_real, reach_fake = _reach(real, nearest), _reach(fake, nearest)
    inside = np.empty(len(fake))  # how many real balls each sample lies in
    found, covered = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for part in blocks(len(fake), len(real)):
        distances = euclidean_distances(fake[part], real)
        in_real = distances <= reach_real
        inside[part] = in_real.sum(axis=1)
        covered |= in_real.any(axis=0)
        found |= (distances <= reach_fake[part, None]).any(axis=0)
    return {
        "precision": float((inside > 0).mean()),
        "recall": float(found.mean()),
        "density": float(inside.mean() / nearest),
        "coverage": float(covered.mean()),
    }


def _reach(features: np.ndarray, nearest: int) -> np.ndarray:
    """The distance of each point (n, d) to its k-th nearest other point: (n,)."""
    distances, _ = NearestNeighbors(n_neighbors=nearest, algorithm="brute").fit(features).kneighbors()
    return distances[:, -1]

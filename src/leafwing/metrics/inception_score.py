"""Inception score. Salimans et al. 2016, arXiv:1606.03498, section 4.

    exp E KL(p(y | x) || p(y)),    p(y) = E p(y | x), over samples x and the predictions p(y | x) of a classifier

The score is the mean over 10 splits of the samples, or over fewer with at least 100 samples each; it ranges from 1 to the number of
classes. A split of m samples scores m at most, and few samples score too low. Scores of different classifiers cannot be compared.
"""

from __future__ import annotations

import numpy as np

from leafwing.errors import LeafwingError
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import standard_error, with_interval

SPLITS, MIN_PART = 10, 100
"""The number of splits, and the smallest number of samples in each; with fewer than two times that there is one split."""


def measure(evidence: Evidence) -> list[Measure]:
    """`inception_score`, with an interval from the spread over splits (Student's t), if there are several.

    Raises:
        LeafwingError: the feature network is not a classifier.
    """
    probabilities = evidence.fake_probabilities()
    order = np.random.default_rng(evidence.seed).permutation(len(probabilities))  # files are often named by class
    values = scores(probabilities[order], max(1, min(SPLITS, len(order) // MIN_PART)))
    error, n = standard_error(values), len(values)
    return [with_interval("inception_score", float(values.mean()), error, "higher", minimum=1, observations=n)]


def scores(probabilities: np.ndarray, splits: int = SPLITS) -> np.ndarray:
    """The score of each of `splits` consecutive splits of probabilities (n, classes): float64 (splits,).

    Raises:
        LeafwingError: there are no samples.
    """
    from scipy.special import rel_entr

    if not len(probabilities):
        raise LeafwingError("inception_score requires at least one sample")
    parts = np.array_split(probabilities.astype(np.float64), min(splits, len(probabilities)))
    return np.array([np.exp(rel_entr(part, part.mean(axis=0)).sum(axis=1).mean()) for part in parts])

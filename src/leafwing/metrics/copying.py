"""Estimating how many samples are copies, from distances alone: statistics on arrays, independent of images.

The *closeness* of a sample or a reference image is its distance to the nearest training image divided by the mean distance to the next
ones (Carlini et al. 2023, Extracting Training Data from Diffusion Models, arXiv:2301.13188: a copy is close to one image, not to
many). Significance is assessed by ranks among the reference images alone (after Meehan et al. 2020, A Non-Parametric Test to Detect
Data-Copying in Generative Models, arXiv:2004.05675), with two kinds of test: a few samples are closer than nearly all reference images
(tail), or samples are closer overall. A generator that samples from the true distribution passes both, however dense the data is.
docs/guide/memorisation.md documents how the constants were chosen and their error rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leafwing.metrics.intervals import wilson

NEAR = 0.01
"""Reported for every run: the fraction of samples that are closer than this quantile of reference images."""
TAILS = (0.001, NEAR, 0.05)
"""Quantiles of the tail tests, which detect a few copies among many samples."""
ALPHA, ALPHA_RARE, RARE = 0.0005, 0.003, 0.002
"""Significance levels of these tests. The second applies to quantiles up to `RARE`, where generators without copying have almost no
samples, so that one copy in a hundred samples is barely more improbable."""
ALPHA_OVERALL, MIN_OVERALL = 0.01, 0.2
"""Test of overall closeness: significance level, and minimum estimated fraction of copies."""
COPIES, COPIES_OVERALL = 0.05, 0.4
"""Minimum fraction of copies, for the tail tests and the overall test, for the verdict `copies`; below it is `suspicious`."""
TWIN = 0.5
"""An image with a closeness below this has a twin (near-copy)."""
VERDICTS = ("copies", "suspicious", "none")


@dataclass(frozen=True)
class Comparison:
    """Samples compared with reference images in one feature space.

    Args:
        near: fraction of samples that are closer than 99% of the reference images.
        near_low, near_high: its 95% Wilson interval.
        near_expected: its expectation without copies: 1%, or more with fewer than a hundred reference images.
        nearer: probability that a sample is closer than a reference image; 0.5 without copies.
        distance_ratio: median distance of samples divided by that of reference images; 1 without copies.
        copied: estimated fraction of copies; 0 if not significant.
        is_overall_test: whether this comes from the overall test rather than from a tail test.
        share, expected: fraction of samples and of reference images that are closer than `threshold`.
        threshold: closeness below which that test counts samples.
        p_value: of that test.
    """

    near: float
    near_low: float
    near_high: float
    near_expected: float
    nearer: float
    distance_ratio: float
    copied: float
    is_overall_test: bool
    share: float
    expected: float
    threshold: float
    p_value: float

    @property
    def verdict(self) -> str:
        """`copies`, `suspicious` or `none`."""
        if not self.copied:
            return "none"
        return "copies" if self.copied >= (COPIES_OVERALL if self.is_overall_test else COPIES) else "suspicious"


def closeness(distances: np.ndarray) -> np.ndarray:
    """The nearest distance divided by the mean of the next ones: (n,) in [0, 1], from ascending distances (n, k)."""
    return np.asarray(distances[:, 0] / np.maximum(distances[:, 1:].mean(axis=1), 1e-6))


def compare(samples: np.ndarray, references: np.ndarray, distinct: float, distance_ratio: float) -> Comparison:
    """Compares the closeness of n samples with that of m reference images.

    Args:
        samples: (n,).
        references: (m,).
        distinct: effective number of distinct samples, 1 to n; see `count_distinct`.
        distance_ratio: copied to the result.
    """
    samples, references = np.sort(samples), np.sort(references)
    n, m, effective_n = len(samples), len(references), max(1, round(distinct))
    ranks = {quantile: max(1, int(quantile * m)) for quantile in TAILS}
    significant = []  # fraction of copies, overall test?, rank of the limit, p-value
    for rank in sorted(set(ranks.values())):
        fraction, expected = _fraction_below(samples, references, rank), rank / (m + 1)
        p_value = tail_p_value(fraction, effective_n, rank, m)
        if p_value <= (ALPHA_RARE if expected <= RARE else ALPHA):
            significant.append(((fraction - expected) / (1 - expected), False, rank, p_value))
    nearer = float(
        np.mean(2 * m - np.searchsorted(references, samples, "left") - np.searchsorted(references, samples, "right"))
    ) / (2 * m)
    overall = (2 * nearer - 1, True, (m + 1) // 2, overall_p_value(nearer, effective_n, m))
    near = _fraction_below(samples, references, ranks[NEAR])
    not_significant = (0.0, False, ranks[NEAR], tail_p_value(near, effective_n, ranks[NEAR], m))
    strongest = max(significant, default=not_significant)
    if strongest[0] < COPIES and overall[3] <= ALPHA_OVERALL and overall[0] >= MIN_OVERALL:
        strongest = overall
    copied, is_overall, rank, p_value = strongest
    low, high = wilson(near, n)
    return Comparison(
        near=near,
        near_low=low,
        near_high=high,
        near_expected=ranks[NEAR] / (m + 1),
        nearer=nearer,
        distance_ratio=distance_ratio,
        copied=copied,
        is_overall_test=is_overall,
        share=_fraction_below(samples, references, rank),
        expected=rank / (m + 1),
        threshold=float(references[rank - 1]),
        p_value=p_value,
    )


def tail_p_value(fraction: float, n: int, rank: int, m: int) -> float:
    """The probability that at least this fraction of n samples is closer than the `rank`-th closest of m reference images.

    If samples and reference images have the same distribution, the count is beta-binomial, BB(n, rank, m + 1 - rank), whatever that
    distribution is.
    """
    from scipy.stats import betabinom

    return float(betabinom.sf(round(fraction * n) - 1, n, rank, m + 1 - rank))


def overall_p_value(nearer: float, n: int, m: int) -> float:
    """The p-value of n samples being closer than m reference images this often: Mann-Whitney U test, normal approximation."""
    from scipy.stats import norm

    return float(norm.sf((nearer - 0.5) / np.sqrt((n + m + 1) / (12 * n * m))))


def resolution(references: np.ndarray, distinct: float) -> float:
    """The smallest detectable fraction of copies among the samples, if each copy were as close as a twin.

    Args:
        references: closeness of the reference images (m,): those with a twin mask copies.
        distinct: as for `compare`.
    """
    m, n = len(references), max(1, round(distinct))
    rank = min(int((references < TWIN).sum()) + 1, m)
    expected = rank / (m + 1)
    alpha = ALPHA_RARE if expected <= RARE else ALPHA
    low, high = 0, n + 1  # not detectable, detectable
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tail_p_value(middle / n, n, rank, m) <= alpha else (middle, high)
    return min(1.0, max(0.0, (high / n - expected) / (1 - expected)))


def count_distinct(sketch: Tensor, max_distance: float) -> tuple[float, float]:
    """The effective number of distinct images among n, and the fraction with a near-duplicate.

    The first is one over the probability that two of them, drawn with replacement, are near-duplicates: n if all differ, 1 if none do
    (the birthday test of Arora & Zhang 2017, Do GANs actually learn the distribution?, arXiv:1706.08224, in its simplest form).

    Args:
        sketch: (n, d), each of length 1; see `neighbours`.
        max_distance: distance below which images are near-duplicates.
    """
    n, pairs, with_duplicate = len(sketch), 0, 0
    flat = ~sketch.any(1)  # flat images match each other and nothing else
    for start in range(0, n, 512):
        duplicates = sketch[start : start + 512] @ sketch.T > 1 - max_distance**2 / 2
        duplicates |= flat[start : start + 512, None] & flat
        rows = torch.arange(len(duplicates))
        duplicates[rows, rows + start] = True
        counts = duplicates.sum(1)
        pairs += int(counts.sum())
        with_duplicate += int((counts > 1).sum())
    return n * n / pairs, with_duplicate / n


def _fraction_below(samples: np.ndarray, references: np.ndarray, rank: int) -> float:
    """The fraction of samples that are closer than the `rank`-th closest new image; both sorted ascending."""
    return float(np.searchsorted(samples, references[rank - 1], "left")) / len(samples)

"""Estimating how many samples are copies, from distances alone: statistics on arrays, independent of pictures.

Each sample and each new picture has a *closeness*: its distance to the nearest training picture divided by the mean distance to the
next ones (Carlini et al. 2023, Extracting Training Data from Diffusion Models, arXiv:2301.13188: a copy is close to one picture, not
to many). Significance is assessed by ranks among the new pictures alone (after Meehan et al. 2020, A Non-Parametric Test to Detect
Data-Copying in Generative Models, arXiv:2004.05675), with two tests: a few samples are closer than nearly all new pictures, or
samples are closer overall. A generator that samples from the true distribution passes both, however dense the data are.
docs/guide/memorisation.md documents how the constants were chosen and their error rates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leafwing.metrics.intervals import wilson

NEAR = 0.01
"""Reported for every run: the fraction of samples that are closer than this quantile of new pictures."""
TAILS = (0.001, NEAR, 0.05)
"""Quantiles tested for a few copies among many samples."""
ALPHA, ALPHA_RARE, RARE = 0.0005, 0.003, 0.002
"""Significance levels of these tests. The second applies to quantiles up to `RARE`, where generators without copying have almost no
samples, so that one copy in a hundred samples is barely more improbable."""
ALPHA_WHOLE, WHOLE = 0.01, 0.2
"""Test of overall closeness: significance level, and minimum estimated fraction of copies."""
COPIES, COPIES_WHOLE = 0.05, 0.4
"""Minimum fraction of copies, for the tail tests and the overall test, for the verdict `copies`; below it is `suspicious`."""
TWIN = 0.5
"""A picture with a closeness below this has a twin (near-copy)."""
VERDICTS = ("copies", "suspicious", "none")


@dataclass(frozen=True)
class Seen:
    """The results of one way of comparing pictures.

    Args:
        near: fraction of samples that are closer than 99 % of the new pictures.
        near_low, near_high: its 95 % Wilson interval.
        near_expected: its expectation without copies: 1 %, or more with fewer than a hundred new pictures.
        nearer: probability that a sample is closer than a new picture; 0.5 without copies.
        distance_ratio: median distance of samples over that of new pictures; 1 without copies.
        copied: estimated fraction of copies; 0 if not significant.
        whole: whether this comes from the overall test rather than from the tail tests.
        share, expected: fraction of samples and of new pictures that are closer than the limit of that test.
        limit: that limit.
        chance: p-value of that test.
    """

    near: float
    near_low: float
    near_high: float
    near_expected: float
    nearer: float
    distance_ratio: float
    copied: float
    whole: bool
    share: float
    expected: float
    limit: float
    chance: float

    @property
    def verdict(self) -> str:
        """`copies`, `suspicious` or `none`."""
        if not self.copied:
            return "none"
        return "copies" if self.copied >= (COPIES_WHOLE if self.whole else COPIES) else "suspicious"


def closeness(distances: np.ndarray) -> np.ndarray:
    """The nearest distance over the mean of the next ones: (n,) in [0, 1], from ascending distances (n, k)."""
    return np.asarray(distances[:, 0] / np.maximum(distances[:, 1:].mean(axis=1), 1e-6))


def compare(samples: np.ndarray, new: np.ndarray, different: float, distance_ratio: float) -> Seen:
    """Compares the closeness of n samples with that of m new pictures.

    Args:
        samples: (n,).
        new: (m,).
        different: effective number of distinct samples, 1 to n; see `variety`.
        distance_ratio: passed through.
    """
    samples, new = np.sort(samples), np.sort(new)
    n, m, worth = len(samples), len(new), max(1, round(different))
    ranks = {share: max(1, int(share * m)) for share in TAILS}
    found = []  # fraction of copies, overall test?, rank of the limit, p-value
    for rank in sorted(set(ranks.values())):
        share, expected = _below(samples, new, rank), rank / (m + 1)
        probable = chance(share, worth, rank, m)
        if probable <= (ALPHA_RARE if expected <= RARE else ALPHA):
            found.append(((share - expected) / (1 - expected), False, rank, probable))
    nearer = float(np.mean(2 * m - np.searchsorted(new, samples, "left") - np.searchsorted(new, samples, "right"))) / (2 * m)
    probable = chance_whole(nearer, worth, m)
    whole = (2 * nearer - 1, True, (m + 1) // 2, probable)
    near = _below(samples, new, ranks[NEAR])
    best = max(found, default=(0.0, False, ranks[NEAR], chance(near, worth, ranks[NEAR], m)))
    if best[0] < COPIES and probable <= ALPHA_WHOLE and whole[0] >= WHOLE:
        best = whole
    copied, on_the_whole, rank, probable = best
    low, high = wilson(near, n)
    return Seen(
        near=near,
        near_low=low,
        near_high=high,
        near_expected=ranks[NEAR] / (m + 1),
        nearer=nearer,
        distance_ratio=distance_ratio,
        copied=copied,
        whole=on_the_whole,
        share=_below(samples, new, rank),
        expected=rank / (m + 1),
        limit=float(new[rank - 1]),
        chance=probable,
    )


def chance(share: float, n: int, rank: int, m: int) -> float:
    """The probability that at least this fraction of n samples is closer than the `rank`-th closest of m new pictures.

    If samples and new pictures have the same distribution, the count is beta-binomial, BB(n, rank, m + 1 - rank), whatever that
    distribution is.
    """
    from scipy.stats import betabinom

    return float(betabinom.sf(round(share * n) - 1, n, rank, m + 1 - rank))


def chance_whole(nearer: float, n: int, m: int) -> float:
    """The p-value of n samples being closer than m new pictures this often: Mann-Whitney U test, normal approximation."""
    from scipy.stats import norm

    return float(norm.sf((nearer - 0.5) / np.sqrt((n + m + 1) / (12 * n * m))))


def resolution(new: np.ndarray, different: float) -> float:
    """The smallest detectable fraction of copies among the samples, if each copy were as close as a twin.

    Args:
        new: closeness of the new pictures (m,): those with a twin mask copies.
        different: as for `compare`.
    """
    m, worth = len(new), max(1, round(different))
    rank = min(int((new < TWIN).sum()) + 1, m)
    expected = rank / (m + 1)
    alpha = ALPHA_RARE if expected <= RARE else ALPHA
    low, high = 0, worth + 1  # not detectable, detectable
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle / worth, worth, rank, m) <= alpha else (middle, high)
    return min(1.0, max(0.0, (high / worth - expected) / (1 - expected)))


def variety(sketch: Tensor, equal: float) -> tuple[float, float]:
    """The effective number of distinct pictures among n, and the fraction with a near-duplicate.

    The first is one over the probability that two of them, drawn with replacement, are near-duplicates: n if all differ, 1 if none do
    (the birthday test of Arora & Zhang 2017, Do GANs actually learn the distribution?, arXiv:1706.08224, in its simplest form).

    Args:
        sketch: (n, d), each of length 1; see `neighbours`.
        equal: distance below which pictures are near-duplicates.
    """
    n, pairs, doubled = len(sketch), 0, 0
    flat = ~sketch.any(1)  # flat pictures match each other and nothing else
    for start in range(0, n, 512):
        alike = sketch[start : start + 512] @ sketch.T > 1 - equal**2 / 2
        alike |= flat[start : start + 512, None] & flat
        rows = torch.arange(len(alike))
        alike[rows, rows + start] = True
        counts = alike.sum(1)
        pairs += int(counts.sum())
        doubled += int((counts > 1).sum())
    return n * n / pairs, doubled / n


def _below(samples: np.ndarray, new: np.ndarray, rank: int) -> float:
    """The fraction of samples that are closer than the `rank`-th closest new picture; both sorted ascending."""
    return float(np.searchsorted(samples, new[rank - 1], "left")) / len(samples)

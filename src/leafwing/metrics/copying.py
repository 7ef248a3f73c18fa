"""How many samples must be copies, judged from distances alone: statistics on arrays, which know nothing of pictures.

For each sample and each new picture there is one number, its *closeness*: the distance to the nearest training picture over the mean
distance to the next ones (Carlini et al. 2023, Extracting Training Data from Diffusion Models, arXiv:2301.13188: a copy is near to one
picture, not to many). What counts as close is decided by rank among the new pictures alone (after Meehan et al. 2020, A Non-Parametric
Test to Detect Data-Copying in Generative Models, arXiv:2004.05675), in two ways: a few samples among many are closer than next to all
new pictures, or samples are closer on the whole. A generator that draws new pictures as nature does is no copier by either, however
dense the data are. docs/guide/memorisation.md says how the constants were set, and how often they are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leafwing.metrics.intervals import wilson

NEAR = 0.01
"""What is reported for every run: the share of samples that are closer than all but this share of new pictures."""
TAILS = (0.001, NEAR, 0.05)
"""The same at these shares shows a few copies among many samples."""
ALPHA, ALPHA_RARE, RARE = 0.0005, 0.003, 0.002
"""How improbable such a count must be without copies. The second holds up to the share `RARE`: there, generators that do not copy have
next to no samples, and one copy in a hundred samples is hardly more improbable than that."""
ALPHA_WHOLE, WHOLE = 0.01, 0.2
"""Samples that are closer on the whole: so improbable, and at least so many copies, before it counts."""
COPIES, COPIES_WHOLE = 0.05, 0.4
"""From these shares of copies on, seen among many or on the whole, the verdict is `copies`; fewer are `suspicious`."""
TWIN = 0.5
"""A picture whose closeness is below this has a twin."""
VERDICTS = ("copies", "suspicious", "none")


@dataclass(frozen=True)
class Seen:
    """What was seen by one way of comparing pictures.

    Args:
        near: the share of samples that are closer than 99 % of new pictures.
        near_low, near_high: its interval of 95 %, after Wilson.
        near_expected: what it is without copies: 1 %, or more where there are fewer than a hundred new pictures.
        nearer: how often a sample is closer than a new picture; 0.5 without copies.
        distance_ratio: the median distance of samples over that of new pictures; 1 without copies.
        copied: about so many of the samples are copies; 0 where that might be chance.
        whole: whether that shows in the samples on the whole, and not in a few among many.
        share, expected: how many samples, and how many new pictures, are closer than the limit at which it shows.
        limit: that limit.
        chance: how probable it is without copies.
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
    """The nearest distance over the mean of the next ones: (n,) from 0 to 1, of distances (n, k) in rising order."""
    return np.asarray(distances[:, 0] / np.maximum(distances[:, 1:].mean(axis=1), 1e-6))


def compare(samples: np.ndarray, new: np.ndarray, different: float, distance_ratio: float) -> Seen:
    """What the closeness of n samples shows beside that of m new pictures.

    Args:
        samples: (n,).
        new: (m,).
        different: how many different pictures the samples are worth, 1 to n; see `variety`.
        distance_ratio: is passed on.
    """
    samples, new = np.sort(samples), np.sort(new)
    n, m, worth = len(samples), len(new), max(1, round(different))
    ranks = {share: max(1, int(share * m)) for share in TAILS}
    found = []  # copies, on the whole?, rank of the limit, probability
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
    """How probable it is that at least this share of n samples is closer than the `rank`-th closest of m new pictures.

    When samples and new pictures come from the same source, that number follows the beta-binomial distribution
    BB(n, rank, m + 1 - rank), whatever the source is.
    """
    from scipy.stats import betabinom

    return float(betabinom.sf(round(share * n) - 1, n, rank, m + 1 - rank))


def chance_whole(nearer: float, n: int, m: int) -> float:
    """How probable it is that one of n samples is closer than one of m new pictures so often: Mann and Whitney's test."""
    from scipy.stats import norm

    return float(norm.sf((nearer - 0.5) / np.sqrt((n + m + 1) / (12 * n * m))))


def resolution(new: np.ndarray, different: float) -> float:
    """The smallest share of copies that would be seen among many samples, if each were as close as a twin.

    Args:
        new: the closeness of new pictures (m,): those with a twin of their own hide copies.
        different: as for `compare`.
    """
    m, worth = len(new), max(1, round(different))
    rank = min(int((new < TWIN).sum()) + 1, m)
    expected = rank / (m + 1)
    alpha = ALPHA_RARE if expected <= RARE else ALPHA
    low, high = 0, worth + 1  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle / worth, worth, rank, m) <= alpha else (middle, high)
    return min(1.0, max(0.0, (high / worth - expected) / (1 - expected)))


def variety(sketch: Tensor, equal: float) -> tuple[float, float]:
    """How many different pictures n pictures are worth, and the share of them that are nearly equal to another.

    The first is one over the chance that two of them, drawn with replacement, are nearly equal: n when all differ, 1 when none does
    (the birthday test of Arora & Zhang 2017, Do GANs actually learn the distribution?, arXiv:1706.08224, in its simplest form).

    Args:
        sketch: (n, d), each of length 1; see `neighbours`.
        equal: pictures at a smaller distance are nearly equal.
    """
    n, pairs, doubled = len(sketch), 0, 0
    flat = ~sketch.any(1)  # flat pictures are like no other, but like each other
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
    """The share of samples that are closer than the `rank`-th closest new picture; both in rising order."""
    return float(np.searchsorted(samples, new[rank - 1], "left")) / len(samples)

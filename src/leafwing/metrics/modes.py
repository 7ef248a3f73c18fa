"""Mode coverage on data whose modes are known: `ring`, `grid` and `stacked`.

The convention is that of VEEGAN (Srivastava et al. 2017, arXiv:1705.07761) and PacGAN (Lin et al. 2018, arXiv:1712.04086). A point
is assigned to the nearest mode, and is high-quality within three standard deviations of it; a mode is covered by at least one
high-quality point. A stacked image is assigned to the mode that a digit classifier predicts from its three planes. `SAMPLES` are
the sample sizes of the papers: more samples find more modes, so results for different sample sizes cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from leafwing.data import built_in, load
from leafwing.data.stacked import CLASSES, NAME, digits_of, is_stacked
from leafwing.errors import LeafwingError
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import wilson
from leafwing.metrics.reader import load_reader

MAX_DEVIATIONS = 3.0
"""Maximum distance, in standard deviations, between a high-quality point and its mode."""
CONFIDENT = 0.9
"""Minimum predicted probability of the digit in every plane for a stacked image to count as confident."""
SAMPLES = {"ring": 2_500, "grid": 2_500, NAME: 26_000}
"""Sample sizes of the papers, by data set."""


@dataclass(frozen=True)
class Coverage:
    """Coverage of known modes.

    Args:
        modes: number of covered modes.
        total: total number of modes.
        high_quality: fraction of high-quality samples; NaN for images.
        kl: see `reverse_kl`.
    """

    modes: int
    total: int
    high_quality: float
    kl: float


def total(world: str) -> int:
    """The number of modes of a built-in data set.

    Raises:
        LeafwingError: its modes are unknown.
    """
    if is_stacked(world):
        return len(CLASSES)
    if world not in SAMPLES:
        raise LeafwingError(f"the modes of {world or 'this data'} are unknown; data with known modes: {', '.join(SAMPLES)}")
    return len(built_in.modes(world))


def reverse_kl(counts: np.ndarray) -> float:
    """KL(q || p) = sum_k q_k log(q_k / p_k), in nats: q is the fraction of samples at each mode, p is uniform over the modes.

    0 if all modes are hit equally often, log(modes / m) if only m of them are. For n samples from p itself it is about
    (modes - 1) / 2n. It is called reverse because the samples come first; KL(p || q) would be infinite if any mode is missed.

    Args:
        counts: samples at each mode (modes,).
    """
    fractions = counts[counts > 0] / counts.sum()
    return float((fractions * np.log(fractions * len(counts))).sum())


def of_points(points: np.ndarray, centres: np.ndarray, sigma: float) -> Coverage:
    """Coverage by points.

    Args:
        points: float (n, 2); non-finite ones belong to no mode.
        centres: centres of the modes (modes, 2).
        sigma: standard deviation of every mode.
    """
    finite = points[np.isfinite(points).all(1)].astype(np.float64)
    if not len(finite):
        return Coverage(0, len(centres), 0.0, nan)
    distances = np.linalg.norm(finite[:, None] - centres[None], axis=2)
    nearest, high_quality = distances.argmin(1), distances.min(1) < MAX_DEVIATIONS * sigma
    kl = reverse_kl(np.bincount(nearest, minlength=len(centres)))
    return Coverage(len(np.unique(nearest[high_quality])), len(centres), float(high_quality.sum() / len(points)), kl)


def of_digits(digits: np.ndarray) -> Coverage:
    """Coverage by stacked images, from the digits predicted in their planes: int (n, 3)."""
    if not len(digits):
        return Coverage(0, len(CLASSES), nan, nan)
    counts = np.bincount(digits @ np.array([100, 10, 1]), minlength=len(CLASSES))
    return Coverage(int((counts > 0).sum()), len(CLASSES), nan, reverse_kl(counts))


def measure(evidence: Evidence) -> list[Measure]:
    """`modes`, `kl`; for points `high_quality`, for stacked digits `confident` and `reader_accuracy`; fractions with Wilson intervals.

    Raises:
        LeafwingError: the modes of this data are unknown.
    """
    total(evidence.built_in)
    if not is_stacked(evidence.built_in):
        coverage = of_points(evidence.fake_points(), built_in.modes(evidence.built_in), built_in.sigma(evidence.built_in))
        low, high = wilson(coverage.high_quality, evidence.n_fake)
        return [
            Measure("modes", coverage.modes, better="higher"),
            Measure("high_quality", coverage.high_quality, low, high, better="higher"),
            Measure("kl", coverage.kl, better="lower"),
        ]
    options = {**evidence.options, "channels": 1, "mirror": False}
    reader = load_reader(load(digits_of(evidence.built_in), **options), report_progress=evidence.report_progress)
    finite = (images[images.flatten(1).isfinite().all(1)] for images in evidence.fake_pictures())
    digits, confidence = (np.concatenate(parts) for parts in zip(*map(reader.read, finite), strict=True))
    coverage, confident = of_digits(digits), float((confidence.min(1) >= CONFIDENT).sum() / evidence.n_fake)
    return [
        Measure("modes", coverage.modes, better="higher"),
        Measure("kl", coverage.kl, better="lower"),
        Measure("confident", confident, *wilson(confident, evidence.n_fake), better="higher"),
        Measure("reader_accuracy", reader.accuracy),
    ]

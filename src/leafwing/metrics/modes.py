"""How many known modes are covered, and how well: on `ring`, `grid` and `stacked`, whose modes are known.

The convention is that of VEEGAN (Srivastava et al. 2017, arXiv:1705.07761) and PacGAN (Lin et al. 2018, arXiv:1712.04086). A point
belongs to the nearest mode, and is of high quality within three standard deviations of it; a mode is covered by one point of high
quality. A stacked picture belongs to the mode that a reader of single digits reads in its three planes. `SAMPLES` says how many
samples the papers draw: more samples find more modes, so numbers of different sizes cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from leafwing.data import load, worlds
from leafwing.data.stacked import CLASSES, NAME, digits_of, is_stacked
from leafwing.errors import LeafwingError
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import wilson
from leafwing.metrics.reader import reader_of

WITHIN = 3.0
"""Standard deviations between a point of high quality and its mode."""
CONFIDENT = 0.9
"""How probable the digit of every plane must be to the reader of a stacked picture that it is confident of."""
SAMPLES = {"ring": 2_500, "grid": 2_500, NAME: 26_000}
"""How many samples the papers draw, by world."""


@dataclass(frozen=True)
class Coverage:
    """What samples show of known modes.

    Args:
        modes: how many are covered.
        of: how many there are.
        high_quality: share of the samples that lie at a mode; nan for pictures.
        kl: see `reverse_kl`.
    """

    modes: int
    of: int
    high_quality: float
    kl: float


def total(world: str) -> int:
    """How many modes a world has.

    Raises:
        LeafwingError: its modes are not known.
    """
    if is_stacked(world):
        return len(CLASSES)
    if world not in SAMPLES:
        raise LeafwingError(f"the modes of {world or 'these data'} are not known; those are: {', '.join(SAMPLES)}.")
    return len(worlds.modes(world))


def reverse_kl(counts: np.ndarray) -> float:
    """KL(q || p) = sum_k q_k log(q_k / p_k), in nats: q is the share of the samples at each mode, p is 1 / modes for all.

    0 when all modes are hit equally often, log(modes / m) when m of them are and the others never. Of n samples that are drawn
    from p itself it is about (modes - 1) / 2n. It is called reverse because the samples stand in front; KL(p || q) would be
    infinite as soon as one mode is lost.

    Args:
        counts: samples at each mode (modes,).
    """
    shares = counts[counts > 0] / counts.sum()
    return float((shares * np.log(shares * len(counts))).sum())


def of_points(points: np.ndarray, centres: np.ndarray, sigma: float) -> Coverage:
    """Coverage by points.

    Args:
        points: float (n, 2); those that are not finite lie at no mode.
        centres: of the modes (modes, 2).
        sigma: standard deviation of every mode.
    """
    finite = points[np.isfinite(points).all(1)].astype(np.float64)
    if not len(finite):
        return Coverage(0, len(centres), 0.0, nan)
    distances = np.linalg.norm(finite[:, None] - centres[None], axis=2)
    nearest, good = distances.argmin(1), distances.min(1) < WITHIN * sigma
    kl = reverse_kl(np.bincount(nearest, minlength=len(centres)))
    return Coverage(len(np.unique(nearest[good])), len(centres), float(good.sum() / len(points)), kl)


def of_digits(digits: np.ndarray) -> Coverage:
    """Coverage by stacked pictures, of the digits read in their planes: int (n, 3)."""
    if not len(digits):
        return Coverage(0, len(CLASSES), nan, nan)
    counts = np.bincount(digits @ np.array([100, 10, 1]), minlength=len(CLASSES))
    return Coverage(int((counts > 0).sum()), len(CLASSES), nan, reverse_kl(counts))


def measure(evidence: Evidence) -> list[Measure]:
    """`modes`, `kl`; for points `high_quality`, for stacked digits `confident` and `reader_accuracy`; shares with Wilson's intervals.

    Raises:
        LeafwingError: the modes of these data are not known.
    """
    total(evidence.world)
    if not is_stacked(evidence.world):
        found = of_points(evidence.fake_points(), worlds.modes(evidence.world), worlds.sigma(evidence.world))
        low, high = wilson(found.high_quality, evidence.n_fake)
        quality = Measure("high_quality", found.high_quality, low, high, better="higher")
        return [Measure("modes", found.modes, better="higher"), quality, Measure("kl", found.kl, better="lower")]
    alike = {**evidence.options, "channels": 1, "mirror": False}
    reader = reader_of(load(digits_of(evidence.world), **alike), counting=evidence.counting)
    finite = (pictures[pictures.flatten(1).isfinite().all(1)] for pictures in evidence.fake_pictures())
    digits, sure = (np.concatenate(each) for each in zip(*(reader.read(pictures) for pictures in finite), strict=True))
    found, share = of_digits(digits), float((sure.min(1) >= CONFIDENT).sum() / evidence.n_fake)
    return [
        Measure("modes", found.modes, better="higher"),
        Measure("kl", found.kl, better="lower"),
        Measure("confident", share, *wilson(share, evidence.n_fake), better="higher"),
        Measure("reader_accuracy", reader.accuracy),
    ]

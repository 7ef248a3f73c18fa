"""Schedules: functions of the clock."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

from leafwing.game import Clock


def cosine(start: float, end: float) -> Callable[[Clock], float]:
    """From start to end over all of training along half a cosine. Loshchilov & Hutter 2016, arXiv:1608.03983, eq. 5."""
    return lambda clock: end + (start - end) * (1 + cos(pi * clock.progress)) / 2


def linear(start: float, end: float, images: int) -> Callable[[Clock], float]:
    """Linear from start to end over `images` images, then constant."""
    return lambda clock: start + (end - start) * min(1.0, clock.images / images)


def step(start: float, end: float, share: float) -> Callable[[Clock], float]:
    """`start` in the first part of planned training, `end` from this share of it on."""
    return lambda clock: start if clock.planned_progress < share else end


def decay(start: float, factor: float, images: int) -> Callable[[Clock], float]:
    """Exponential decay: start is divided by `factor` every `images` images, continuously."""
    return lambda clock: start * float(factor) ** (-clock.images / images)


def linear_at_the_end(start: float, after: float = 0.5) -> Callable[[Clock], float]:
    """Constant, then linear to 0 from the share `after` of training on. Zhu et al. 2017, arXiv:1703.10593, section 4; 1: constant."""
    return lambda clock: start * min(1.0, (1 - clock.progress) / (1 - after)) if after < 1 else start

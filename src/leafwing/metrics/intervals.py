"""Confidence intervals."""

from __future__ import annotations

from math import inf, isfinite
from typing import Literal

from leafwing.metrics.evidence import Measure


def within(
    name: str,
    value: float,
    error: float,
    better: Literal["lower", "higher", ""] = "",
    *,
    least: float = -inf,
    most: float = inf,
    parts: int = 0,
) -> Measure:
    """A measure with a 95 % interval: value plus and minus 1.96 standard errors, clipped to [least, most].

    There is no interval if value or error is not finite: a diverged generator, or a single observation.

    Args:
        parts: number of observations behind the error if small: Student's t replaces 1.96.
    """
    if not isfinite(value) or not isfinite(error):
        return Measure(name, value, better=better)
    from scipy.special import stdtrit

    wide = float(error) * (stdtrit(parts - 1, 0.975).item() if parts else 1.96)
    return Measure(name, value, max(least, value - wide), min(most, value + wide), better)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion of n."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)

"""A number with its interval, where there is one."""

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
    """A measure with an interval of 95 %: value plus and minus 1.96 standard errors, as far as that lies from `least` to `most`.

    Without an interval where value or error is not finite: a generator that diverged, or a single observation.

    Args:
        parts: how many observations the error was estimated from, where they are few: Student's t takes the place of 1.96.
    """
    if not isfinite(value) or not isfinite(error):
        return Measure(name, value, better=better)
    from scipy.special import stdtrit

    wide = float(error) * (stdtrit(parts - 1, 0.975).item() if parts else 1.96)
    return Measure(name, value, max(least, value - wide), min(most, value + wide), better)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share of n."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)

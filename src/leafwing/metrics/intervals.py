"""Confidence intervals."""

from __future__ import annotations

from math import inf, isfinite

import numpy as np

from leafwing.metrics.conclusions import Better
from leafwing.metrics.evidence import Measure


def standard_error(values: np.ndarray) -> float:
    """The standard error of the mean of values (n,); NaN for a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def mean(name: str, values: np.ndarray, better: Better = "") -> Measure:
    """The mean of values (n,), with its normal interval."""
    return with_interval(name, float(values.mean()), standard_error(values), better)


def with_interval(
    name: str,
    value: float,
    error: float,
    better: Better = "",
    *,
    minimum: float = -inf,
    maximum: float = inf,
    observations: int = 0,
) -> Measure:
    """A measure with a 95% interval: value plus and minus 1.96 standard errors, clipped to [minimum, maximum].

    There is no interval if value or error is not finite: a diverged generator, or a single observation.

    Args:
        observations: number of observations behind the error, if small: Student's t then replaces 1.96.
    """
    if not isfinite(value) or not isfinite(error):
        return Measure(name, value, better=better)
    from scipy.special import stdtrit

    half_width = float(error) * (stdtrit(observations - 1, 0.975).item() if observations else 1.96)
    return Measure(name, value, max(minimum, value - half_width), min(maximum, value + half_width), better)


def wilson(fraction: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval for a fraction of n."""
    from scipy.stats import binomtest

    interval = binomtest(round(fraction * n), n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)

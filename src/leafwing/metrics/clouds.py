"""Checks and helpers for metrics that compare two sets of feature vectors; independent of networks and images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leafwing.errors import LeafwingError

CHUNK = 32 << 20
"""Maximum size in bytes of a block of a pairwise matrix, which is never held in memory as a whole."""


def check(real: np.ndarray, fake: np.ndarray, minimum: int, metric: str) -> bool:
    """Whether two feature sets (n, d) and (m, d) can be compared: False if a value is not finite (a diverged generator).

    Raises:
        LeafwingError: one side has fewer than `minimum` rows, or their dimensions differ.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise LeafwingError(f"{metric} requires features (n, d) of the same network, not {real.shape} and {fake.shape}")
    for side, n in (("real", len(real)), ("generated", len(fake))):
        if n < minimum:
            raise LeafwingError(
                f"{metric} requires at least {minimum} {side} samples, but there are {n}: increase the number of samples"
            )
    return bool(np.isfinite(real).all() and np.isfinite(fake).all())


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Row slices of a float64 matrix (rows, columns), each at most `CHUNK` bytes."""
    step = max(1, CHUNK // (8 * columns))
    return (slice(start, start + step) for start in range(0, rows, step))

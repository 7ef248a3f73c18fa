"""Checks and helpers for metrics that compare two sets of feature vectors; independent of networks and images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leafwing.errors import LeafwingError

LEAST = {"fid": 2, "kid": 3, "prdc": 6}
"""The metrics that compare sets, and the smallest number of feature vectors on either side with which each is defined."""
CHUNK = 32 << 20
"""Maximum size in bytes of a block of a pairwise matrix, which is never held in memory as a whole."""


def check(real: np.ndarray, fake: np.ndarray, metric: str, minimum: int = 0) -> bool:
    """Whether two feature sets (n, d) and (m, d) can be compared: False if a value is not finite (a diverged generator).

    Raises:
        LeafwingError: one side has fewer than `minimum` rows (0: those of `LEAST`), or their dimensions differ.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise LeafwingError(f"{metric} requires features (n, d) of the same network, not {real.shape} and {fake.shape}")
    minimum = minimum or LEAST[metric]
    for side, n, advice in (
        ("real", len(real), "hold out more when training (--hold-out), or name other data (--data)"),
        ("generated", len(fake), "increase the number of samples"),
    ):
        if n < minimum:
            raise LeafwingError(f"{metric} requires at least {minimum} {side} samples, but there are {n}: {advice}")
    return bool(np.isfinite(real).all() and np.isfinite(fake).all())


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Row slices of a float64 matrix (rows, columns), each at most `CHUNK` bytes."""
    step = max(1, CHUNK // (8 * columns))
    return (slice(start, start + step) for start in range(0, rows, step))

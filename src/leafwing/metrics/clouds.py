"""Two clouds of features, as the metrics that compare clouds want them. No network and no picture is known here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from leafwing.errors import LeafwingError

CHUNK = 32 << 20
"""Bytes of a block of a matrix that holds a number for each pair: all that is ever kept of such a matrix."""


def check(real: np.ndarray, fake: np.ndarray, needed: int, metric: str) -> bool:
    """Whether two clouds (n, d) and (m, d) can be compared: False where a number is not finite (a generator that diverged).

    Raises:
        LeafwingError: one side has fewer than `needed` rows, or their features are not alike.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise LeafwingError(f"{metric} compares features (n, d) of one network, not {real.shape} with {fake.shape}")
    for side, n in (("real", len(real)), ("generated", len(fake))):
        if n < needed:
            raise LeafwingError(f"{metric} needs at least {needed} {side} samples, and there are {n}: ask for more of them")
    return bool(np.isfinite(real).all() and np.isfinite(fake).all())


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a float64 matrix (rows, columns), each of which is no more than `CHUNK` bytes."""
    step = max(1, CHUNK // (8 * columns))
    return (slice(start, start + step) for start in range(0, rows, step))

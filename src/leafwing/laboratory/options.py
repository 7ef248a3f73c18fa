"""Checks of options that several tools have."""

from __future__ import annotations

from math import inf

from leafwing.errors import LeafwingError


def require_counts(**counts: int) -> None:
    """Raises LeafwingError for a count below 1, naming its option."""
    for name, value in counts.items():
        if value < 1:
            raise LeafwingError(f"--{name} {value}: must be at least 1")


def require_weights(**weights: float) -> None:
    """Raises LeafwingError for a weight that is negative or not finite, naming its option."""
    for name, value in weights.items():
        if not 0 <= value < inf:
            raise LeafwingError(f"--{name} {value}: must be a finite number of at least 0")

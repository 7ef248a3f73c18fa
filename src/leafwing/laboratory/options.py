"""Checks of options that several tools have."""

from __future__ import annotations

from math import inf

from leafwing.errors import InvalidOption


def require_counts(least: int = 1, /, **counts: int) -> None:
    """Raises LeafwingError for a count below `least`, naming its option."""
    for name, value in counts.items():
        if value < least:
            raise InvalidOption(name, value, f"must be at least {least}")


def require_weights(**weights: float) -> None:
    """Raises LeafwingError for a weight that is negative or not finite, naming its option."""
    for name, value in weights.items():
        if not 0 <= value < inf:
            raise InvalidOption(name, value, "must be a finite number of at least 0")

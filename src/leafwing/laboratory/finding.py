"""What a tool of the laboratory finds: figures for programs, pictures and words for people. Nothing here writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from PIL.Image import Image

Counting = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, out of how much."""


def quiet(what: str, done: int, total: int) -> None:
    """Hears how far something is and says nothing."""


@dataclass(frozen=True)
class Finding:
    """What one tool found in one model.

    Args:
        figures: numbers by name: text, numbers, lists, dictionaries; nan or None for what cannot be worked out.
        words: what they mean, a sentence each.
        sheets: pictures by name, each with its title, heads and legend on it.
        films: animations by name, their frames; each runs in a loop.
        arrays: what other tools can go on with, such as latents.
    """

    figures: Mapping[str, Any]
    words: Sequence[str] = ()
    sheets: Mapping[str, Image] = field(default_factory=dict)
    films: Mapping[str, Sequence[Image]] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def plain(figures: Any) -> Any:
    """Figures in plain JSON, which has no word for what is no finite number but None."""
    if isinstance(figures, Mapping):
        return {str(name): plain(value) for name, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [plain(value) for value in figures]
    value = figures.item() if isinstance(figures, np.generic) else figures
    return None if isinstance(value, float) and not isfinite(value) else value

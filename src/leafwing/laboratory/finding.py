"""The result of a laboratory tool: figures for programs, images and sentences for people. Nothing here writes files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from PIL.Image import Image

from leafwing.laboratory.sheet import Animation


@dataclass(frozen=True)
class Finding:
    """The result of one tool for one model.

    Args:
        figures: results by name: text, numbers, lists, dictionaries; NaN or None if undefined.
        words: their interpretation, one sentence each.
        sheets: image grids by name, with title, column heads and legend.
        animations: looping animations by name.
        arrays: arrays by name, such as latents, which other tools accept as input.
    """

    figures: Mapping[str, Any]
    words: Sequence[str] = ()
    sheets: Mapping[str, Image] = field(default_factory=dict)
    animations: Mapping[str, Animation] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def plain(figures: Any) -> Any:
    """Figures as plain JSON, with None for non-finite numbers."""
    if isinstance(figures, Mapping):
        return {str(name): plain(value) for name, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [plain(value) for value in figures]
    value = figures.item() if isinstance(figures, np.generic) else figures
    return None if isinstance(value, float) and not isfinite(value) else value

"""Validation of the reading options: size, channels, fit, background.

Arguments become numbers, or an error that says what was expected. Nothing here opens a file.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Any

from PIL import ImageColor

from leafwing.errors import InvalidOption

FITS = ("crop", "pad", "stretch")
CHANNELS = (1, 2, 3, 4)
LARGEST = 4096
"""The largest height or width, in pixels."""

Size = int | str | tuple[int, int]
"""`64` (square), `"64"`, `"64x96"` (height x width) or `(64, 96)`, in pixels."""


@dataclass(frozen=True)
class Target:
    """The target format of every image; `background` as the user wrote it, `rgb` the same colour as three numbers 0 to 255."""

    height: int
    width: int
    channels: int
    fit: str
    background: str
    rgb: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (self.height, self.width, self.channels)

    def as_dict(self) -> dict[str, Any]:
        """The options of `load` that determine the content of a pack, as plain JSON."""
        return {
            "size": f"{self.height}x{self.width}",
            "channels": self.channels,
            "fit": self.fit,
            "background": self.background,
        }


@dataclass(frozen=True)
class Options:
    """The requested options; None: chosen from the data."""

    size: tuple[int, int] | None
    channels: int | None
    fit: str
    background: str
    rgb: tuple[int, int, int]

    def target(self, size: tuple[int, int], channels: int) -> Target:
        """Fills in the options that were not requested."""
        height, width = self.size or size
        return Target(height, width, self.channels or channels, self.fit, self.background, self.rgb)


def check(size: Size | None, channels: int | None, fit: str, background: str) -> Options:
    """Validates the options of `load` and `doctor`.

    Raises:
        LeafwingError: an invalid option; the message names it, its value and what is possible.
    """
    if channels is not None and (isinstance(channels, bool) or channels not in CHANNELS):
        raise InvalidOption("channels", channels, "choose from 1 (grey), 2 (grey + alpha), 3 (RGB), 4 (RGBA)")
    if fit not in FITS:
        raise InvalidOption("fit", fit, f"choose from {', '.join(FITS)}")
    return Options(None if size is None else _size(size), channels, fit, background, _colour(background))


def _size(size: Size) -> tuple[int, int]:
    """Height and width in pixels."""
    error = InvalidOption(
        "size", size, f"give one number for a square (64) or height x width (64x96), each from 1 to {LARGEST} pixels"
    )
    sides: tuple[Any, ...]
    if isinstance(size, str):
        match = re.fullmatch(r"\s*([0-9]{1,6})(?:\s*[xX×]\s*([0-9]{1,6}))?\s*", size)
        if match is None:
            raise error
        sides = (int(match[1]), int(match[2] or match[1]))
    else:
        sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    try:
        numbers = [operator.index(side) for side in sides if not isinstance(side, bool)]
    except TypeError:
        raise error from None
    if len(numbers) != 2 or not all(1 <= number <= LARGEST for number in numbers):
        raise error
    return numbers[0], numbers[1]


def _colour(background: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255."""
    try:
        colour = ImageColor.getrgb(background)
    except (ValueError, AttributeError, TypeError):
        colour = (0, 0, 0, 0)
    if len(colour) != 3:
        raise InvalidOption(
            "background", background, "give an opaque colour by name (white), by hex (#ff8800) or as rgb(255, 136, 0)"
        )
    return colour

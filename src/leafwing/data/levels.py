"""Which values of greyscale images become black and white: one mapping for a whole data set.

Files with more than 8 bits do not say what their values mean: photographs use all 16 bits, cameras and scanners 12 of them, tomographs
negative values, depth maps metres. Their values are surveyed first, and mapped in the same way in every file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from leafwing.errors import InvalidOption

Range = tuple[float, float]
"""The values that become black and white."""
QUANTILES = np.linspace(0, 1, 129)
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that integer values may use."""
DARK, BRIGHT, CONTRAST = 25, 230, 12
"""An image is nearly black if no value of 255 is above the first, nearly white if none is below the second, and flat if its values
differ by no more than the third."""
COLOURLESS = 2
"""An image is grey if the colours of a pixel differ by no more than this, of 255."""
NOTABLE = 0.05
"""The share of such images from which on they are mentioned."""


@dataclass(frozen=True)
class Levels:
    """The option `levels`: two values, or two percentiles of the values of all images."""

    low: float
    high: float
    percent: bool = False


def parse(text: object, name: str) -> Levels | None:
    """`auto` or None -> None; `0:4095`, `-1024:3072`, `1%:99%` -> the levels.

    Raises:
        LeafwingError: something else.
    """
    if text in (None, "auto"):
        return None
    number = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
    match = re.fullmatch(rf"\s*{number}(%?)\s*:\s*{number}(%?)\s*", str(text))
    if match:
        low, high, percent = float(match[1]), float(match[3]), match[2] == "%"
        if match[2] == match[4] and low < high and (not percent or 0 <= low < high <= 100):
            return Levels(low, high, percent)
    raise InvalidOption(
        name,
        text,
        "give the values that become black and white (0:4095, -1000:400), percentiles of all values (1%:99%), or auto",
    )


def show(levels: Range) -> str:
    """(0, 4095) -> `0:4095`, as the option is written."""
    return ":".join(np.format_float_positional(level, trim="-") for level in levels)


def describe(levels: Range) -> str:
    """The mapping in words."""
    return f"{levels[0]:,.10g} becomes black and {levels[1]:,.10g} white"


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one image: smallest, largest, whether they are floating-point numbers, and quantiles if they are needed."""

    low: float
    high: float
    floating: bool
    quantiles: np.ndarray | None = None


def has_depth(mode: str) -> bool:
    """Whether images of this mode of Pillow are greyscale with more than 8 bits."""
    return mode in ("F", "LA;16") or mode.startswith("I")


def summarise(values: np.ndarray, floating: bool, percentiles: bool) -> Values:
    """The summary of an image's finite values."""
    low, high = float(values.min()), float(values.max())
    return Values(low, high, floating, np.quantile(values, QUANTILES).astype(np.float32) if percentiles else None)


def choose(option: Levels | None, images: Sequence[Values]) -> Range | None:
    """The mapping of a data set; None: that of the file formats, 0 to 65,535 for integers and 0 to 1 for floating-point numbers.

    Args:
        option: what the user chose; None: integers from 0 on use as many bits as the largest value needs; floating-point numbers lie
            between 0 and 1 or 0 and 255, or between 0 and the largest one if that is above 1 and too small for 255 to be white; all
            other values lie between the smallest and the largest one.
        images: the values of the images with more than 8 bits, or of all greyscale images for percentiles.
    """
    if option and not option.percent:
        return (option.low, option.high)
    if not images:
        return None
    if option:
        pooled = np.concatenate([image.quantiles for image in images if image.quantiles is not None])
        low, high = (float(value) for value in np.percentile(pooled, (option.low, option.high)))
        if not any(image.floating for image in images):
            low, high = math.floor(low), math.ceil(high)
        return (low, high) if low < high else (low, low + 1)
    low, high = min(image.low for image in images), max(image.high for image in images)
    floating = any(image.floating for image in images)
    if floating and low >= 0 and high <= 1:
        return None
    if floating and low >= 0 and high <= 255:
        return (0.0, white_of(high))
    if not floating and low >= 0 and high < 2 ** DEPTHS[-1]:
        bits = next(bits for bits in DEPTHS if high < 2**bits)
        return None if bits == DEPTHS[-1] else (0.0, 2.0**bits - 1)
    return (low, high) if low < high else (low, low + 1)


def white_of(high: float) -> float:
    """The floating-point value that is white if the values of all images go from 0 to this one, at most 255.

    Resampling and rounding leave values just above 1: if white were 255 then, every image would be black.
    """
    return 1.0 if high <= 1 else high if high <= DARK else 255.0


def applies_to_bytes(levels: Range | None) -> bool:
    """Whether a mapping is meant for 8-bit images too: whole numbers from 0 to 255."""
    return levels is not None and all(0 <= level <= 255 and level == int(level) for level in levels)


@dataclass
class Tones:
    """Counts images, and those that are nearly black, nearly white or flat; `what` these are, and the `option` of their levels."""

    what: str = "images"
    option: str = "--levels"
    images: int = 0
    dark: int = 0
    bright: int = 0
    flat: int = 0
    peak: int = 0
    floor: int = 255
    grey: bool = True
    bytes: bool = True
    deep: bool = False
    colourless: bool = True

    def add(self, pixels: np.ndarray, mode: str = "L") -> None:
        """Counts an image.

        Args:
            pixels: (height, width, channels), uint8 or uint16.
            mode: Pillow's mode of the file.
        """
        self.bytes = self.bytes and mode == "L"
        self.deep = self.deep or has_depth(mode)
        channels = pixels.shape[-1]
        colours = pixels[..., : 1 if channels < 3 else 3]
        scale = 257 if pixels.dtype == np.uint16 else 1
        low, high = int(colours.min()) // scale, int(colours.max()) // scale
        self.images += 1
        self.dark += high <= DARK
        self.bright += low >= BRIGHT
        self.flat += high - low <= CONTRAST
        if self.colourless and channels >= 3:
            self.colourless = bool((colours.max(-1) - colours.min(-1)).max() <= COLOURLESS * scale)
        self.peak, self.floor, self.grey = max(self.peak, high), min(self.floor, low), self.grey and channels < 3

    def notes(self) -> list[str]:
        """What users should know, in sentences."""
        hint = ""
        if self.grey and self.peak <= DARK and self.bytes:
            hint = f"; {self.option} 0:{self.peak} makes {self.peak} white" if self.peak > 0 else ""
        elif self.grey and self.deep:
            hint = f"; {self.option} 1%:99% leaves out the most extreme values"
        darkest = f", the brightest of all is {self.peak}" if self.dark == self.images else ""
        brightest = f", the darkest of all is {self.floor}" if self.bright == self.images else ""
        kinds: Iterable[tuple[str, int, str]] = (
            ("nearly black", self.dark, f"no value is above {DARK} of 255{darkest}{hint}"),
            ("nearly white", self.bright, f"no value is below {BRIGHT} of 255{brightest}{hint * self.deep}"),
            ("flat", self.flat, f"their values differ by at most {CONTRAST} of 255"),
        )
        notes = []
        if self.what == "images" and self.images and self.colourless and not self.grey:
            notes.append("All images are grey, but stored in colour; --channels 1 makes smaller networks that learn faster.")
        return notes + [
            f"{count:,} of {self.images:,} {self.what} are {kind}: {why}."
            for kind, count, why in kinds
            if count and count >= NOTABLE * self.images and (kind != "flat" or count > self.dark + self.bright)
        ]

"""Validation of the reading options: size, channels, fit, background, crop_from, bits, levels, input.

Arguments become numbers, or an error that says what was expected. Nothing here opens a file.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import ImageColor

from leafwing.data import levels as tones
from leafwing.data.levels import Levels, Range
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.fields import Image

if TYPE_CHECKING:
    import numpy as np

FITS = ("crop", "pad", "stretch", "tiles")
CHANNELS = (1, 2, 3, 4)
BITS = ("auto", 8, 16)
LARGEST = 4096
"""The largest height or width, in pixels."""

Size = int | str | tuple[int, int]
"""`64` (square), `"64"`, `"64x96"` (height x width) or `(64, 96)`, in pixels."""


@dataclass(frozen=True)
class Target:
    """The target format of every image.

    Args:
        height, width: size in pixels of the images as they are stored.
        channels: as for `fields.Image`.
        fit: one of `FITS`.
        background: the colour as the user wrote it.
        rgb: the same as three numbers 0 to 255.
        window: height and width of the random windows that batches see; None: the whole images.
        bits: 8 or 16.
        levels: the values of greyscale images that become black and white; None: those of the file formats.
    """

    height: int
    width: int
    channels: int
    fit: str
    background: str
    rgb: tuple[int, int, int]
    window: tuple[int, int] | None = None
    bits: int = 8
    levels: Range | None = None

    def centre(self, pixels: np.ndarray) -> np.ndarray:
        """The window in the centre of stored pixels (height, width, channels); all of them without windows."""
        height, width = self.window or (self.height, self.width)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        return pixels[top : top + height, left : left + width]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (self.height, self.width, self.channels)

    def as_dict(self) -> dict[str, Any]:
        """The options of `load` that determine the content of a pack, as plain JSON."""
        height, width = self.window or (self.height, self.width)
        options = {"size": f"{height}x{width}", "channels": self.channels, "fit": self.fit, "background": self.background}
        if self.window:
            options["crop_from"] = f"{self.height}x{self.width}"
        options |= {"levels": tones.show(self.levels)} if self.levels else {}
        return options | ({"bits": 16} if self.bits == 16 else {})


@dataclass(frozen=True)
class Options:
    """The requested options; None: chosen from the data."""

    size: tuple[int, int] | None
    channels: int | None
    fit: str
    background: str
    rgb: tuple[int, int, int]
    crop_from: tuple[int, ...] | None = None
    bits: int | str | None = None
    levels: Levels | None = None
    input_levels: Levels | None = None
    labels: str | None = None

    def target(self, size: tuple[int, int], channels: int, bits: int = 8) -> Target:
        """Fills in the options that were not requested.

        Raises:
            LeafwingError: the images are not larger than the windows of them.
        """
        height, width = window = self.size or size
        if self.crop_from:
            height, width = self._whole(height, width)
        return Target(
            height, width, self.channels or channels, self.fit, self.background, self.rgb,
            window if self.crop_from else None, bits,
        )  # fmt: skip

    def _whole(self, height: int, width: int) -> tuple[int, int]:
        """The size of whole images, for windows of this size: of a single number the other side is in proportion."""
        assert self.crop_from is not None
        if len(self.crop_from) == 2:
            whole = (self.crop_from[0], self.crop_from[1])
        else:
            scale = self.crop_from[0] / min(height, width)
            whole = (round(height * scale), round(width * scale))
        if whole[0] < height or whole[1] < width or whole == (height, width):
            raise InvalidOption(
                "crop_from",
                "x".join(map(str, self.crop_from)),
                f"windows of {height}x{width} pixels (--size) are cropped from "
                f"larger images; choose a larger number, such as {round(min(height, width) * 1.12)}",
            )
        if max(whole) > LARGEST:
            raise InvalidOption("crop_from", "x".join(map(str, self.crop_from)), f"at most {LARGEST} pixels")
        return whole


def like(image: Image, options: Mapping[str, Any]) -> Target:
    """How other pictures are read like the images of a data set: whole, where these are tiles.

    Args:
        image: their format.
        options: the reading options of the data set, as `run.json` has them.
    """
    fit = options.get("fit", "crop")
    chosen = check(
        (image.height, image.width), image.channels, "crop" if fit == "tiles" else fit, options.get("background", "white"),
        options.get("crop_from"), levels=options.get("levels"),
    )  # fmt: skip
    target = chosen.target((image.height, image.width), image.channels, image.bits)
    return replace(target, levels=tones.choose(chosen.levels, []))


def check_input(input: Any) -> str | None:
    """The option `input` as text.

    Raises:
        LeafwingError: neither a word nor a path.
    """
    if input is None or isinstance(input, str | os.PathLike):
        return None if input is None else os.fspath(input)
    what = type(input).__name__
    raise LeafwingError(
        f"input: a path or the name of a built-in data set, not {what}: save an array with numpy.save('inputs.npy', array) and give "
        "its path"
    )


def check(
    size: Size | None,
    channels: int | None,
    fit: str,
    background: str,
    crop_from: Size | None = None,
    bits: int | str | None = None,
    levels: str | None = None,
    input_levels: str | None = None,
    labels: str | None = None,
) -> Options:
    """Validates the options of `load` and `doctor`.

    Raises:
        LeafwingError: an invalid option; the message names it, its value and what is possible.
    """
    if channels is not None and (isinstance(channels, bool) or channels not in CHANNELS):
        raise InvalidOption("channels", channels, "choose from 1 (grey), 2 (grey + alpha), 3 (RGB), 4 (RGBA)")
    if fit not in FITS:
        raise InvalidOption("fit", fit, f"choose from {', '.join(FITS)}")
    chosen = None if bits is None else next((item for item in BITS if str(item) == str(bits)), "")
    if chosen == "":
        raise InvalidOption("bits", bits, f"choose from {', '.join(map(str, BITS))}")
    if chosen == 16 and channels not in (None, 1):
        raise InvalidOption(
            "bits",
            bits,
            f"only greyscale images can have 16 bits, not those of --channels {channels}; omit one of these options",
        )
    whole: tuple[int, ...] | None = None
    if crop_from is not None:
        both = isinstance(crop_from, tuple | list) or bool(re.search("[xX×]", str(crop_from)))
        whole = parse_size(crop_from, "crop_from")[: 2 if both else 1]
    return Options(
        None if size is None else parse_size(size), channels, fit, background, _colour(background), whole, chosen,
        tones.parse(levels, "levels"), tones.parse(input_levels, "input_levels"), labels,
    )  # fmt: skip


def parse_size(size: Size, option: str = "size") -> tuple[int, int]:
    """Height and width in pixels."""
    error = InvalidOption(
        option, size, f"give one number for a square (64) or height x width (64x96), each from 1 to {LARGEST} pixels"
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

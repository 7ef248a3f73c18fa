"""Checks of options that several tools have."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from leafwing.errors import InvalidOption, LeafwingError
from leafwing.files import require_file
from leafwing.machine import available_memory
from leafwing.pixels import eight_bits
from leafwing.quantities import show_bytes

if TYPE_CHECKING:
    from PIL import Image

    from leafwing.model import Model

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""Pillow's names of the formats of pictures that options name; some of its others start external programs."""
MOST = 50_000
"""The largest number of samples, steps or trials of a tool, which it computes one after another; see `require_memory`."""
COPIES = 2
"""How often an image is in memory: computed in blocks, which are put together."""


def require_counts(least: int = 1, /, **counts: int) -> None:
    """Raises LeafwingError for a count below `least` or above `MOST`, naming its option."""
    for name, value in counts.items():
        if value < least:
            raise InvalidOption(name, value, f"must be at least {least}")
        if value > MOST:
            raise InvalidOption(name, value, f"must be at most {MOST:,}")


def require_memory(model: Model, images: int, /, **option: object) -> None:
    """Raises LeafwingError, naming an option, if so many images of a model, which are kept, need more than half of the free memory.

    Args:
        model: the model.
        images: their number.
        option: the option that decides on it, by name.
    """
    needed, free = COPIES * 4 * model.spec.size * images, available_memory()
    for name, value in option.items():
        if free is not None and needed > free / 2:
            reason = f"needs about {show_bytes(needed)} of memory, and {show_bytes(free)} are free: choose fewer"
            raise InvalidOption(name, value, reason)


def require_weights(**weights: float) -> None:
    """Raises LeafwingError for a weight that is negative or not finite, naming its option."""
    for name, value in weights.items():
        if not 0 <= value < inf:
            raise InvalidOption(name, value, "must be a finite number of at least 0")


def read_picture(option: str, file: Path, width: int, height: int, mode: str) -> Image.Image:
    """The picture that an option names, in a mode of Pillow; only files of `FORMATS` are read, whatever their name.
    Greyscale of 16 bits becomes 8 bits.

    Raises:
        LeafwingError: no such file, not a picture, or one of another size than width x height.
    """
    import numpy as np
    from PIL import Image

    try:
        require_file(file)
        with Image.open(file, formats=FORMATS) as image:
            if image.size != (width, height):  # before memory is taken
                raise InvalidOption(
                    option,
                    file,
                    f"{image.width}x{image.height} pixels, but images of this run have {width}x{height} (width x height)",
                )
            if image.mode.startswith("I"):  # Pillow would turn all values above 255 white
                return Image.fromarray(eight_bits(np.asarray(image).astype(np.uint16))).convert(mode)
            return image.convert(mode)
    except LeafwingError:
        raise
    except Exception as error:  # damaged files make Pillow's plugins raise nearly any type
        raise InvalidOption(option, file, f"cannot read the image ({error})") from None

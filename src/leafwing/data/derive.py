"""Inputs that are computed from the images themselves: grey, edges, blur, low2, low4, low8, hole.

All are pure functions of stored pixels, uint8 (n, height, width, channels), so that they can also be applied to new images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import numpy as np

from leafwing.errors import InvalidOption
from leafwing.fields import Field, Image, Mask
from leafwing.pixels import LUMA

VERSION = 1
"""Part of the fingerprint of data with such an input: increase it when a function yields other pixels."""
BLUR = 1 / 16
"""Standard deviation of the blur, as a fraction of the shorter side."""
FACTORS = {"low2": 2, "low4": 4, "low8": 8}
"""The factor by which inputs at a low resolution reduce both sides, by their name."""
HOLE_GREY = 128

Columns = dict[str, np.ndarray]


def grey(pixels: np.ndarray) -> Columns:
    """The luminance (ITU-R BT.601, as in Pillow) on white: `input` (n, height, width, 1)."""
    return {"input": _luminance(pixels)[..., None].round().astype(np.uint8)}


def edges(pixels: np.ndarray) -> Columns:
    """The magnitude of the Sobel gradient of the luminance, white on black: `input` (n, height, width, 1).

    It is divided by 4, so that a step from black to white gives 255, and limited to 255.
    """
    from scipy.ndimage import correlate1d

    luminance = _luminance(pixels)  # scipy's own sobel would also smooth over the images of the batch
    differences = (correlate1d(luminance, [-1, 0, 1], axis, mode="nearest") for axis in (1, 2))
    down, across = (
        correlate1d(part, [1, 2, 1], axis, mode="nearest") for axis, part in zip((2, 1), differences, strict=True)
    )
    return {"input": _to_bytes(np.hypot(down, across) / 4)[..., None]}


def blur(pixels: np.ndarray) -> Columns:
    """The image after a Gaussian filter with a standard deviation of 1/16 of the shorter side: `input`, the shape of the image."""
    from scipy.ndimage import gaussian_filter

    sigma = BLUR * min(pixels.shape[1:3])
    return {"input": _from_premultiplied(gaussian_filter(_premultiplied(pixels), (0, sigma, sigma, 0), mode="nearest"))}


def low(pixels: np.ndarray, factor: int) -> Columns:
    """The image reduced by averaging factor x factor pixels: `input` (n, height / factor, width / factor, channels)."""
    n, height, width, channels = pixels.shape
    blocks = _premultiplied(pixels).reshape(n, height // factor, factor, width // factor, factor, channels)
    return {"input": _from_premultiplied(blocks.mean((2, 4)))}


def hole(pixels: np.ndarray) -> Columns:
    """The image with a grey rectangle over a quarter of its area: `input`; and `hole` (n, height, width, 1), 1 in the rectangle.

    A hash of the content chooses the place, so that it is the same in every run.
    """
    n, height, width, channels = pixels.shape
    mask = np.zeros((n, height, width, 1), np.uint8)
    for image, covered in zip(pixels, mask, strict=True):
        digest = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=8).digest()
        tall, wide = max(1, height // 2), max(1, width // 2)
        top = int.from_bytes(digest[:4], "big") % (height - tall + 1)
        left = int.from_bytes(digest[4:], "big") % (width - wide + 1)
        covered[top : top + tall, left : left + wide] = 1
    fill = np.full(channels, HOLE_GREY, np.uint8)
    if channels in (2, 4):
        fill[-1] = 255
    return {"input": np.where(mask == 1, fill, pixels), "hole": mask}


DERIVED: dict[str, Callable[[np.ndarray], Columns]] = {
    "grey": grey,
    "edges": edges,
    "blur": blur,
    **{name: partial(low, factor=factor) for name, factor in FACTORS.items()},
    "hole": hole,
}
"""Each derived input by its name on the command line: stored pixels, uint8 (n, height, width, channels) -> stored columns by field."""


def derives(name: str, choice: bool | None = None) -> bool:
    """Whether an input is derived from the pictures that a trained translator is used on.

    What only leaves out a part of a picture (grey, edges, hole) is derived from it, as in training. What makes it worse (blur, low4)
    is not: the network undoes that, so pictures are the input themselves, and an upscaler makes them larger.

    Args:
        name: a key of `DERIVED`.
        choice: the user's choice; None: as described.
    """
    return not (name == "blur" or name.startswith("low")) if choice is None else choice


def describe_choice(name: str, derived: bool) -> str:
    """What is done with pictures, as a sentence for users."""
    if derived:
        return f"The input was derived from each picture, as in training: {name}."
    if derives(name):
        return f"Each picture was taken as the input itself; in training it was derived: {name}."
    return (
        f"Each picture was taken as the input itself, because this run undoes {name}; --derive applies it to pictures first."
    )


def derived_fields(name: str, image: Image) -> dict[str, Field]:
    """The fields of a derived input.

    Args:
        name: a key of `DERIVED`.
        image: the field of the images.

    Raises:
        LeafwingError: these images do not allow it.
    """
    height, width, channels = image.height, image.width, image.channels
    if name == "grey" and channels < 3:
        raise InvalidOption("input", name, "the images have no colours; choose another input, or --channels 3")
    if factor := FACTORS.get(name):
        if height % factor or width % factor:
            nearest = "x".join(str(max(1, round(side / factor)) * factor) for side in (height, width))
            raise InvalidOption(
                "input", name, f"both sides must be divisible by {factor}, not {height}x{width}; choose --size {nearest}"
            )
        return {"input": Image(height // factor, width // factor, channels)}
    if name == "hole":
        return {"input": image, "hole": Mask(height, width)}
    return {"input": Image(height, width, channels if name == "blur" else 1)}


def _luminance(pixels: np.ndarray) -> np.ndarray:
    """The luminance of images on white: float32 (n, height, width), 0 to 255."""
    values = pixels.astype(np.float32)
    colours = values[..., :3] if pixels.shape[3] > 2 else values[..., :1]
    weights = np.array(LUMA if colours.shape[3] == 3 else [1], np.float32)
    luminance = colours @ weights
    if pixels.shape[3] in (2, 4):
        alpha = values[..., -1] / 255
        luminance = luminance * alpha + 255 * (1 - alpha)
    return luminance


def _premultiplied(pixels: np.ndarray) -> np.ndarray:
    """Pixels as float32, colours multiplied by the alpha channel if there is one: invisible pixels must not bleed."""
    values = pixels.astype(np.float32)
    if pixels.shape[3] in (2, 4):
        values[..., :-1] *= values[..., -1:] / 255
    return values


def _from_premultiplied(values: np.ndarray) -> np.ndarray:
    """The inverse, rounded to uint8."""
    if values.shape[3] in (2, 4):
        values[..., :-1] *= 255 / np.maximum(values[..., -1:], 0.5)
    return _to_bytes(values)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)

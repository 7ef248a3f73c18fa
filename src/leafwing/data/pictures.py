"""From the bytes of one image to a validated array of pixels.

An image is rejected with a reason (`UnusableImageError`); no other exception leaves this file, whatever the bytes are. `sources`
provides the bytes; `pack` and `doctor` use the array.

Conversion: alpha is composited on the background unless it is kept (2 or 4 channels). Greyscale with more than 8 bits is mapped by the
levels of its data set (`levels`); without any, 0..65535 (floating-point numbers: 0..1) become 0..255, and a file with other values is
rescaled from its own minimum and maximum. Of several frames or pages the first is used. EXIF orientation is applied.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from leafwing.data import formats, levels
from leafwing.data.options import Target

# EPS is missing on purpose: Pillow would start Ghostscript for it.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "DIB", "TIFF", "GIF", "PPM", "JPEG2000", "HEIF", "JXL")
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".pgm", ".ppm",
    ".pbm", ".pnm", ".jp2", ".j2k", ".heic", ".heif", ".jxl",
})  # fmt: skip
"""File extensions of images, in lower case."""
PLUGINS = ("HEIF", "JXL")
"""Those of the formats that are read only with a plugin."""
WITHOUT_AVIF = "no AVIF"
"""What `special_formats` has where Pillow was built without AVIF."""
GREY_MODES = frozenset({"1", "L", "LA", "La", "LA;16", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
DEEP_FORMATS = frozenset({"PNG", "PPM"})
"""Formats in which Pillow's mode I is unsigned with 16 bits."""
HALVES = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
"""The halves of an image, each with the other one."""
ENLARGE = 2.0
"""An image that would have to be enlarged by more than this factor is too small."""
LARGEST_PIXELS = 89_478_485
"""Larger images are rejected: decompression bombs. JPEG files may be larger if they are decoded at a reduced size."""
LARGEST_FILE = 256 * 2**20
"""Bytes; larger files are rejected unread, so that a video in the folder cannot fill the memory."""

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableImageError(Exception):
    """A file that cannot be used as an image; its message is the reason, for the user, and what would help."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.reason = reason


class MisplacedError(UnusableImageError):
    """A usable image whose box or key points are not: it is usable without `field`."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(reason)
        self.field = field


class UnreadableImageError(UnusableImageError):
    """The bytes are not an image or a corrupt one, as opposed to a valid image that does not fit (too small)."""


class UnsupportedImageError(UnreadableImageError):
    """The bytes are a picture of a kind that is not read."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image: size in pixels (after EXIF rotation), Pillow's mode (`LA;16`: grey and alpha, 16 bits), format."""

    height: int
    width: int
    mode: str
    format: str
    frames: bool = False
    """Whether it contains several frames or pages."""
    profile: bool = False
    """Whether it has a colour profile other than sRGB, from which it is converted."""
    transparent: bool = False
    """Whether it has an alpha channel, or a transparent colour."""
    negative: bool = False
    """Whether its file has 0 for white and 16 bits, so that its values are inverted."""

    @property
    def deep(self) -> bool:
        """Whether it is unsigned greyscale with 16 bits, without an alpha channel."""
        return self.mode.startswith("I;16") or (self.mode == "I" and self.format in DEEP_FORMATS)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image: `pixels` uint8 or uint16 (height, width, channels), its original size, the part used (left, top, right,
    bottom)."""

    pixels: np.ndarray
    height: int
    width: int
    box: tuple[int, int, int, int]


@contextmanager
def strict() -> Iterator[None]:
    """Makes Pillow reject truncated files and decompression bombs, and silences its warnings about unusual files.

    Both switches affect the whole process: enter once, around the reading threads.
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        Image.MAX_IMAGE_PIXELS = None  # _check_pixels knows which larger images can be reduced
        _formats()  # registers the plugins before threads need them
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


def header(data: bytes, raw: tuple[int, ...] | None = None) -> Header:
    """Reads the header only.

    Args:
        data: the file.
        raw: height and width, and channels if there are several, if the data is raw 8-bit pixels instead of a file.

    Raises:
        UnusableImageError: with the reason.
    """

    def read(data: bytes) -> Header:
        image = _open(data, raw)
        height, width = image.height, image.width
        # PNG would be decoded to look for trailing EXIF; TIFF has its sides swapped already.
        if image.format in ("JPEG", "MPO", "WEBP", "AVIF", "JXL") and _orientation(image) in (5, 6, 7, 8):
            height, width = width, height
        # MPO comes from phones: one image with a preview, not an animation.
        frames = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        transparent = bool(image.has_transparency_data)
        mode = "LA;16" if formats.SPLIT in image.info else image.mode
        profile, negative = formats.has_profile(image), formats.is_negative(image)
        return Header(height, width, mode, image.format or "IDX", frames, profile, transparent, negative)

    with _convert_errors():
        return _repairing(read, data)


@contextmanager
def opened(data: bytes, raw: tuple[int, ...] | None = None) -> Iterator[Image.Image]:
    """A decoded image, upright, in its own size and mode.

    Raises:
        UnusableImageError: with the reason; other exceptions in the body become one as well.
    """

    def read(data: bytes) -> Image.Image:
        image = _load(_open(data, raw))
        orientation = _orientation(image)
        image = formats.to_srgb(image)
        return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image

    with _convert_errors():
        yield _repairing(read, data)


def decode(data: bytes, target: Target, raw: tuple[int, ...] | None = None) -> Picture:
    """Decodes, rotates, fits and converts one image.

    Raises:
        UnusableImageError: with the reason.
    """
    with _convert_errors():
        image, width, height = _upright(data, target, raw)
        return _fit(image, (width, height), (0, 0, width, height), target)


def decode_tiles(data: bytes, target: Target, raw: tuple[int, ...] | None = None) -> list[Picture]:
    """Decodes one image, and cuts it into tiles at its own resolution, row by row: a grid in its centre, without overlap.

    Raises:
        UnusableImageError: with the reason; an image that is smaller than a tile.
    """
    with _convert_errors():
        image, width, height = _upright(data, target, raw)
        return _tiles(image, (width, height), (0, 0, width, height), target)


def decode_half_tiles(
    data: bytes, half: str, targets: tuple[Target, Target], raw: tuple[int, ...] | None = None
) -> tuple[list[Picture], list[Picture]]:
    """The same for two halves of one image, see `decode_halves`."""
    with _convert_errors():
        image, width, height = _upright(data, targets[0], raw)
        first, second = (
            _tiles(image.crop(box := half_box(width, height, name)), (width, height), box, target)
            for name, target in zip((half, HALVES[half]), targets, strict=True)
        )
        return first, second


def count_tiles(height: int, width: int, target: Target) -> tuple[int, int]:
    """The number of rows and columns of tiles in an image of this size."""
    return height // target.height, width // target.width


def _tiles(image: Image.Image, size: tuple[int, int], part: tuple[int, int, int, int], target: Target) -> list[Picture]:
    """The tiles of an image that is a part (left, top, right, bottom) of an original of this size (width, height)."""
    rows, columns = count_tiles(image.height, image.width, target)
    if not rows * columns:
        raise UnusableImageError(
            f"too small: {image.height}x{image.width} is less than a tile of {target.height}x{target.width}",
            "choose a smaller --size, or another --fit, to use it",
        )
    if target.bits == 8:
        image, target = _eight_bits(image, target.levels), replace(target, levels=None)  # in one way for all tiles
    top, left = (image.height - rows * target.height) // 2, (image.width - columns * target.width) // 2
    tiles = []
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * target.width, top + row * target.height
            box = (x, y, x + target.width, y + target.height)
            place = (part[0] + box[0], part[1] + box[1], part[0] + box[2], part[1] + box[3])
            tiles.append(Picture(render(image.crop(box), target), size[1], size[0], place))
    return tiles


def decode_halves(
    data: bytes, half: str, targets: tuple[Target, Target], raw: tuple[int, ...] | None = None
) -> tuple[Picture, Picture]:
    """Decodes one file, and fits two halves of it as two images. The middle column of an odd width belongs to neither.

    Args:
        data: the file.
        half: a name of `HALVES`.
        targets: the formats of this half and of the other one, which differ in the channels only.
        raw: as for `header`.

    Returns:
        This half and the other one.

    Raises:
        UnusableImageError: with the reason.
    """
    target = targets[0]
    across = half in ("left", "right")
    whole = replace(target, width=2 * target.width) if across else replace(target, height=2 * target.height)
    with _convert_errors():
        image, width, height = _upright(data, whole, raw, multiple=16)
        first, second = (
            _fit(image.crop(half_box(*image.size, name)), (width, height), half_box(width, height, name), target)
            for name, target in zip((half, HALVES[half]), targets, strict=True)
        )
        return first, second


def half_box(width: int, height: int, half: str) -> tuple[int, int, int, int]:
    """A half of an image of this size: left, top, right, bottom, in pixels."""
    return {
        "left": (0, 0, width // 2, height),
        "right": (width - width // 2, 0, width, height),
        "top": (0, 0, width, height // 2),
        "bottom": (0, height - height // 2, width, height),
    }[half]


def half_header(header: Header, half: str) -> Header:
    """The header of a half of an image, as if it were a file of its own."""
    left, top, right, bottom = half_box(header.width, header.height, half)
    return replace(header, height=bottom - top, width=right - left)


def _upright(data: bytes, target: Target, raw: tuple[int, ...] | None, multiple: int = 1) -> tuple[Image.Image, int, int]:
    """The upright image, which may be reduced if it is much larger than the target, and its original width and height.

    Args:
        data: the file.
        target: the target format.
        raw: as for `header`.
        multiple: reduce only images whose sides are divisible by this.
    """
    return _repairing(partial(_read_upright, target=target, raw=raw, multiple=multiple), data)


def _read_upright(data: bytes, target: Target, raw: tuple[int, ...] | None, multiple: int) -> tuple[Image.Image, int, int]:
    image = _open(data, raw)
    width, height = image.size
    if image.format == "JPEG" and target.fit != "tiles" and width % multiple == height % multiple == 0:
        _draft(image, target)
    image = _load(image)
    orientation = _orientation(image)  # TIFF is rotated on loading and reports 1 now
    image = formats.to_srgb(image)
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    return image, width, height


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that remains to be applied; JPEG XL has been turned, unless it is a JPEG file in another wrapping."""
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if isinstance(orientation, int) else 1


def _fit(image: Image.Image, size: tuple[int, int], part: tuple[int, int, int, int], target: Target) -> Picture:
    """Fits an image that is a part (left, top, right, bottom) of an original of this size (width, height), and may be reduced."""
    left, top, right, bottom = part
    width, height = right - left, bottom - top
    scale = enlargement(width, height, target) if width and height else math.inf
    if scale > ENLARGE:
        raise UnusableImageError(
            f"too small: {height}x{width} would be enlarged {scale:.1f} times for {target.height}x{target.width} "
            f"(at most {ENLARGE:g})",
            "choose a smaller --size to use it",
        )
    used = [round(side) for side in _box(width, height, target)]
    box = (left + used[0], top + used[1], left + used[2], top + used[3])
    return Picture(render(image, target), size[1], size[0], box)


def enlargement(width: int, height: int, target: Target) -> float:
    """The factor by which the used part of an image is enlarged (below 1: reduced); `width` and `height` in pixels."""
    across, down = target.width / width, target.height / height
    return min(across, down) if target.fit == "pad" else max(across, down)


def render(image: Image.Image, target: Target) -> np.ndarray:
    """Fits an upright Pillow image of any mode and size: (height, width, channels) uint8 or, with 16 bits, uint16."""
    if target.bits == 16:
        return _render_deep(image, target)
    image = _eight_bits(image, target.levels)
    grey = image.mode in GREY_MODES
    if image.has_transparency_data:
        image = image.convert("LA" if grey and "transparency" not in image.info else "RGBA")
        if target.channels in (1, 3):
            canvas = Image.new("RGBA", image.size, (*target.rgb, 255))
            image = Image.alpha_composite(canvas, image.convert("RGBA"))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[target.channels]
    image = image.convert(mode)
    size = (target.width, target.height)
    inner = _inner(*image.size, target)
    # Pillow premultiplies alpha before resampling, so invisible pixels do not bleed.
    image = image.resize(inner, Image.Resampling.LANCZOS, box=_box(*image.size, target), reducing_gap=3.0)
    if inner != size:
        # If alpha is kept the bars are transparent: an opaque bar would be part of the image.
        alpha = 0 if target.channels in (2, 4) else 255
        canvas = Image.new("RGBA", size, (*target.rgb, alpha)).convert(mode)
        canvas.paste(image, _corner(inner, target))
        image = canvas
    return np.asarray(image).reshape(target.shape)


def _render_deep(image: Image.Image, target: Target) -> np.ndarray:
    """An image in 16 bits: (height, width, 1) uint16. One with 8 bits is multiplied by 257."""
    deep = image.mode.startswith("I")
    values = np.asarray(image if deep else Image.fromarray(render(image, replace(target, bits=8))[:, :, 0])).astype(
        np.float32
    )
    if deep and target.levels:
        values = _between(values, target.levels) * 65535
    elif not deep:
        values *= 257
    elif not 0 <= values.min() <= values.max() <= 65535:
        raise UnusableImageError("has values outside of 0 to 65,535")
    image = Image.fromarray(values)
    size, inner = (target.width, target.height), _inner(*image.size, target)
    image = image.resize(inner, Image.Resampling.LANCZOS, box=_box(*image.size, target), reducing_gap=3.0)
    if inner != size:
        canvas = Image.new("F", size, 257 * int(np.asarray(Image.new("RGB", (1, 1), target.rgb).convert("L"))[0, 0]))
        canvas.paste(image, _corner(inner, target))
        image = canvas
    return np.rint(np.asarray(image)).clip(0, 65535).astype(np.uint16)[:, :, None]


def fractions(
    points: np.ndarray, width: int, height: int, target: Target, box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Points in pixels of an image (n, 2), x and y, as fractions of the fitted image; below 0 or above 1 outside of it.

    Args:
        points: the points.
        width, height: size of the image in pixels.
        target: the target format.
        box: left, top, right and bottom of the tile that is the fitted image, if it is one.
    """
    if box and target.fit == "tiles":
        return (points - box[:2]) / (target.width, target.height)
    left, top, right, bottom = _box(width, height, target)
    inner = _inner(width, height, target)
    shares = (points - (left, top)) / (right - left, bottom - top)
    return (shares * inner + _corner(inner, target)) / (target.width, target.height)


def _inner(width: int, height: int, target: Target) -> tuple[int, int]:
    """Width and height in pixels of an image inside the fitted one: all of it, unless there are bars."""
    if target.fit != "pad":
        return (target.width, target.height)
    scale = enlargement(width, height, target)
    return (_whole_pixels(width * scale, target.width), _whole_pixels(height * scale, target.height))


def _corner(inner: tuple[int, int], target: Target) -> tuple[int, int]:
    """Left and top in pixels of an image of this width and height inside the fitted one."""
    return ((target.width - inner[0]) // 2, (target.height - inner[1]) // 2)


def _whole_pixels(length: float, limit: int) -> int:
    return max(1, min(limit, round(length)))


def _box(width: int, height: int, target: Target) -> tuple[float, float, float, float]:
    """The part of the image that is used: left, top, right, bottom, in its own pixels."""
    if target.fit not in ("crop", "tiles"):  # a single image is not cut into tiles
        return (0.0, 0.0, float(width), float(height))
    scale = enlargement(width, height, target)
    across, down = min(width, target.width / scale), min(height, target.height / scale)
    left, top = (width - across) / 2, (height - down) / 2
    return (left, top, left + across, top + down)


def _draft(image: Image.Image, target: Target) -> None:
    """Lets the JPEG decoder reduce the image; at least twice the target size is left for Lanczos."""
    width, height = image.size
    if _orientation(image) in (5, 6, 7, 8):
        width, height = height, width
    scale = 2 * enlargement(width, height, target)
    # the same factor applies to both sides, so the rotation no longer matters
    image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))


def survey_values(data: bytes, percentiles: bool, raw: tuple[int, ...] | None = None) -> levels.Values | None:
    """The values of a greyscale image; None if they are not all finite.

    Args:
        data: the file.
        percentiles: whether quantiles are needed.
        raw: as for `header`.

    Raises:
        UnusableImageError: with the reason.
    """
    with _convert_errors():
        image = _load(_open(data, raw))
        if formats.SPLIT in image.info:
            values, alpha = formats.join_bytes(image)
            values = values[alpha > 0] if alpha.any() else values
        else:
            values = np.asarray(image.convert("L") if image.mode in ("1", "LA", "La") else image)
        if not np.isfinite(values).all():
            return None
        return levels.summarise(values, image.mode == "F", percentiles)


def _between(values: np.ndarray, mapping: levels.Range) -> np.ndarray:
    """Values as fractions of the way from black to white, clipped to 0..1."""
    low, high = mapping
    return ((values - low) / (high - low)).clip(0, 1)


def _eight_bits(image: Image.Image, mapping: levels.Range | None) -> Image.Image:
    """Maps greyscale images with more than 8 bits to 8 bits, and those with 8 if the mapping is meant for them; others are returned
    unchanged."""
    if formats.SPLIT in image.info:
        deep, alpha = formats.join_bytes(image)
        grey = np.rint(_between(deep, mapping) * 255) if mapping else deep >> 8
        return Image.fromarray(np.dstack([grey.astype(np.uint8), alpha]))
    if not levels.has_depth(image.mode) and not (image.mode == "L" and levels.applies_to_bytes(mapping)):
        return image
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise UnusableImageError("has NaN or infinite values")
    if mapping:
        return Image.fromarray(np.rint(_between(values, mapping) * 255).astype(np.uint8))
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        values *= 255
    elif image.mode != "F" and low >= 0 and high <= 65535:
        values /= 257
    else:
        values = (values - low) * (255 / (high - low) if high > low else 0.0)
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _open(data: bytes, raw: tuple[int, ...] | None) -> Image.Image:
    if raw is not None:
        return Image.frombytes(("L", "LA", "RGB", "RGBA")[raw[2] - 1 if len(raw) == 3 else 0], (raw[1], raw[0]), data)
    if not data:
        raise UnreadableImageError("empty file")
    split = formats.split_bytes(data)
    try:
        image = Image.open(io.BytesIO(split or data), formats=_formats())
    except UnidentifiedImageError:
        what, is_picture = formats.describe(data)
        if is_picture:
            raise UnsupportedImageError(what) from None
        raise UnreadableImageError(
            what or ("not an image" if not _looks_like_image(data) else "truncated or corrupt: broken header")
        ) from None
    if split:
        image.info[formats.SPLIT] = True
    if image.format not in ("JPEG", "MPO") or image.width * image.height > 64 * LARGEST_PIXELS:  # reduced by up to 8 a side
        _check_pixels(image)
    return image


def _load(image: Image.Image) -> Image.Image:
    """The image with its pixels, of which 0 is black."""
    _check_pixels(image)
    image.load()
    return formats.to_positive(image)


def _check_pixels(image: Image.Image) -> None:
    """Rejects an image that is too large to be decoded."""
    if image.width * image.height > LARGEST_PIXELS:
        raise UnusableImageError(
            f"more than {LARGEST_PIXELS // 10**6} million pixels: a decompression bomb, or too large to train on"
        )


T = TypeVar("T")


def _repairing(work: Callable[[bytes], T], data: bytes) -> T:
    """The result of reading a file; if that fails, of a repaired one, if it can be repaired."""
    try:
        return work(data)
    except UnsupportedImageError:
        raise
    except Exception as error:
        if isinstance(error, UnusableImageError) and not isinstance(error, UnreadableImageError):
            raise
        fixed = None
        with suppress(Exception):  # a damaged file, as before
            fixed = formats.repair(data, LARGEST_PIXELS)
        if fixed is None:
            raise
        return work(fixed)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    formats.register_plugins()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def special_formats() -> tuple[str, ...]:
    """What this installation reads more or less than a usual one: the `PLUGINS` that it has, and `WITHOUT_AVIF`."""
    plugins = tuple(name for name in PLUGINS if name in _formats())
    return plugins if "AVIF" in _formats() else (*plugins, WITHOUT_AVIF)


def _looks_like_image(data: bytes) -> bool:
    """Whether the first bytes are those of an image, to distinguish a broken header from a text file."""
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8")) or data[8:12] in (b"WEBP", b"avif")


@contextmanager
def _convert_errors() -> Iterator[None]:
    """Converts all exceptions of Pillow to `UnusableImageError`."""
    try:
        yield
    except UnusableImageError:
        raise
    except MemoryError:
        raise UnreadableImageError("needs more memory than available") from None
    except (
        Exception
    ) as error:  # corrupt files make Pillow's plugins raise nearly any type: struct.error, KeyError, zlib.error ...
        message = " ".join(str(error).split())[:120] or type(error).__name__
        raise UnreadableImageError(f"truncated or corrupt: {message}") from None

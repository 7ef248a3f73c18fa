"""Square crops of pictures: aligned by two points or around a box, resampled once; and what is measured of them.

Coordinates are pixels of the upright picture, with (0, 0) at its upper left corner and not in the middle of its first pixel. Nothing
here reads or writes files; `annotations` reads points and boxes, `commands.prepare` decides what is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from leafwing.data.pictures import GREY_MODES, UnusableImageError

OUTSIDE = ("reflect", "edge", "reject")
"""What continues a picture over its edges, where a crop needs that: the picture mirrored, its outermost pixels, or nothing."""
VIEW, DISTANCE, HALF = 96, 16, 6
"""Surroundings of points are compared in a view of this side in which the two points have this distance: a point's pixel, and as many
in each direction."""
SAMPLES = 64
"""The part of a crop outside its picture is measured at the centres of this many rows and columns."""

Point = tuple[float, float]
Places = tuple[float, float, float, float]
"""x and y of two places in a crop, as fractions of its side."""


@dataclass(frozen=True)
class Crop:
    """A square of a picture, possibly rotated. Points are complex numbers x + iy.

    Args:
        corner: its upper left corner in the picture, in pixels.
        step: from one pixel of the crop to the next one in its row, in pixels of the picture.
        size: side in pixels of the crop.
    """

    corner: complex
    step: complex
    size: int

    @property
    def side(self) -> float:
        """Its side in pixels of the picture."""
        return abs(self.step) * self.size

    @property
    def angle(self) -> float:
        """Its rotation in the picture in degrees, clockwise, from -180 to 180."""
        return math.degrees(math.atan2(self.step.imag, self.step.real))

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points of the picture (n, 2) in pixels of the crop (n, 2)."""
        return _pairs((_complex(points) - self.corner) / self.step)

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Points of the crop (n, 2) in pixels of the picture (n, 2)."""
        return _pairs(self.corner + self.step * _complex(points))

    @property
    def corners(self) -> np.ndarray:
        """Its corners in the picture (4, 2), clockwise from the upper left one."""
        return self.locate(self.size * np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))


def by_points(first: Point, second: Point, places: Places, size: int) -> Crop:
    """The crop of this size in which two different points of the picture have these places."""
    goals = complex(*places[:2]) * size, complex(*places[2:]) * size
    step = (complex(*second) - complex(*first)) / (goals[1] - goals[0])
    return Crop(complex(*first) - step * goals[0], step, size)


def by_box(box: Sequence[float], width: int, height: int, scale: float, size: int) -> Crop:
    """The square around the centre of a box, moved into the picture as far as it fits.

    Args:
        box: left, top, width, height.
        width, height: of the picture.
        scale: side of the square, in longer sides of the box.
        size: side of the crop.
    """
    left, top, across, down = box
    side = scale * max(across, down)
    x, y = left + (across - side) / 2, top + (down - side) / 2
    x = min(max(x, 0), width - side) if side <= width else (width - side) / 2
    y = min(max(y, 0), height - side) if side <= height else (height - side) / 2
    return Crop(complex(x, y), complex(side / size), size)


def clip_box(box: Sequence[float], width: int, height: int) -> tuple[float, float, float, float]:
    """The part of a box (left, top, width, height) inside a picture.

    Raises:
        UnusableImageError: that is less than half of it, as if it had been made for another picture.
    """
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    across, down = min(box[0] + box[2], width) - left, min(box[1] + box[3], height) - top
    if across <= 0 or down <= 0 or (across / box[2]) * (down / box[3]) < 0.5:
        raise UnusableImageError(f"less than half of its box lies inside the picture of {width}x{height} pixels")
    return left, top, across, down


def share_outside(crop: Crop, width: int, height: int) -> float:
    """The fraction of a crop's area that lies outside a picture of this size."""
    ticks = (np.arange(SAMPLES) + 0.5) * (crop.size / SAMPLES)
    places = crop.locate(np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2))
    return 1 - float(((places >= 0) & (places <= (width, height))).all(1).mean())


def plain(image: Image.Image) -> Image.Image:
    """An upright picture in a mode that can be resampled: L, LA, RGB or RGBA, and F for grey with 16 bits, as 0 to 65,535.

    Raises:
        UnusableImageError: its values are no 8 or 16 bits.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float32)
        if image.mode == "F" or not 0 <= values.min() <= values.max() <= 65535:
            raise UnusableImageError("has values that are neither 8 nor 16 bits: convert it to 16-bit PNG")
        return Image.fromarray(values)
    grey = image.mode in GREY_MODES
    if image.has_transparency_data:
        return image.convert("LA" if grey else "RGBA")
    return image.convert("L" if grey else "RGB")


def warp(image: Image.Image, crop: Crop, outside: str = "reflect") -> Image.Image:
    """Resamples a crop in one step: rotated at the resolution of the picture or finer, and reduced to whole pixels by Lanczos.

    Args:
        image: from `plain`.
        crop: the crop; most of it lies inside the picture.
        outside: reflect or edge, see `OUTSIDE`.

    Returns:
        An image of the same mode, for mode F with 16 bits.
    """
    scale = abs(crop.step)
    shrink = max(1, int(scale // 4))  # whole blocks of pixels first, so that a large picture costs no more than a small one
    finer = max(1, math.ceil(scale / shrink - 1e-9))  # samples of each pixel, in a row
    border = 3 if finer > 1 else 0  # pixels around the crop that the filter reaches
    whole = Crop(crop.corner - crop.step * complex(border, border), crop.step, crop.size + 2 * border)
    piece, corner = _surroundings(image, whole, 3 * shrink, outside)
    piece = piece.reduce(shrink) if shrink > 1 else piece
    step, start = crop.step / (shrink * finer), (whole.corner - corner) / shrink
    matrix = (step.real, -step.imag, start.real, step.imag, step.real, start.imag)
    side, low, high = whole.size * finer, border * finer, (border + crop.size) * finer
    result = piece.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    if finer > 1:
        result = result.resize((crop.size, crop.size), Image.Resampling.LANCZOS, box=(low, low, high, high))
    return Image.fromarray(np.rint(np.asarray(result)).clip(0, 65535).astype(np.uint16)) if result.mode == "F" else result


def _surroundings(image: Image.Image, crop: Crop, margin: int, outside: str) -> tuple[Image.Image, complex]:
    """The part of a picture around a crop, continued over its edges, and the place of its upper left corner."""
    low, high = np.floor(crop.corners.min(0)).astype(int) - margin, np.ceil(crop.corners.max(0)).astype(int) + margin
    size = np.array(image.size)
    first, last = low.clip(0, size - 1), high.clip(1, size)
    piece = image.crop((first[0], first[1], last[0], last[1]))
    before, after = first - low, high - last
    if before.any() or after.any():
        pixels = np.asarray(piece)
        borders = [(before[1], after[1]), (before[0], after[0]), (0, 0)][: pixels.ndim]
        piece = Image.fromarray(np.pad(pixels, borders, "reflect" if outside == "reflect" else "edge"))
    return piece, complex(*low.tolist())


def sharpness(image: Image.Image) -> float:
    """The variance of the Laplacian of an image in grey, 0 to 255."""
    grey = _grey(image)
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner).var())


def side_of(first: Point, second: Point, third: Point) -> float:
    """On which side of the line through two points a third one lies, in distances of these: positive below, if they are level."""
    return _relative(first, second, third).imag


def turn(first: Point, second: Point, third: Point) -> float:
    """How far a third point is from the middle of two, along their line, in their distances: 0 for the mouth of a frontal face."""
    return abs(_relative(first, second, third).real)


def _relative(first: Point, second: Point, third: Point) -> complex:
    one, two = complex(*first), complex(*second)
    return (complex(*third) - (one + two) / 2) / (two - one)


def surroundings(image: Image.Image, points: np.ndarray, first: Point, second: Point) -> np.ndarray:
    """What lies around the points of a picture: edges, in equal contrast; to be compared by `resemblance`.

    Args:
        image: from `plain`.
        points: (n, 2); NaN for a point that is missing.
        first, second: the two points by which pictures are aligned.

    Returns:
        float16 (n, pixels); zeros for points that are missing or far from the two.
    """
    shrink = max(1, int(math.dist(first, second) / (2 * DISTANCE)))
    small = Image.fromarray(np.rint(_grey(image)).clip(0, 255).astype(np.uint8)).reduce(shrink)
    middle = (VIEW - DISTANCE) / 2
    places = (middle / VIEW, 0.5, (middle + DISTANCE) / VIEW, 0.5)
    one, two = ((x / shrink, y / shrink) for x, y in (first, second))
    view = by_points(one, two, places, VIEW)
    grey = _grey(warp(small, view, "edge"))
    down, across = np.gradient(grey)
    edges = np.hypot(down, across)
    rows = np.zeros((len(points), (2 * HALF + 1) ** 2), np.float16)
    for row, (x, y) in zip(rows, view.place(points / shrink).tolist(), strict=True):
        if HALF <= x <= VIEW - 1 - HALF and HALF <= y <= VIEW - 1 - HALF:
            left, top = round(x) - HALF, round(y) - HALF
            patch = edges[top : top + 2 * HALF + 1, left : left + 2 * HALF + 1].ravel()
            patch = patch - patch.mean()
            row[:] = patch / max(float(np.linalg.norm(patch)), 1e-6)
    return rows


def resemblance(patches: Sequence[np.ndarray]) -> np.ndarray:
    """How far the surroundings of each picture's points correlate with the mean of the other pictures'; about 0 by chance.

    Args:
        patches: from `surroundings`, of each picture (n, pixels); copied one at a time, because all of them are many gigabytes.

    Returns:
        (pictures,), from -1 to 1: means over the points.
    """
    total = np.zeros(patches[0].shape, np.float32)
    for patch in patches:
        total += patch
    result = np.zeros(len(patches))
    for index, patch in enumerate(patches):
        one = patch.astype(np.float32)
        others = total - one
        others /= np.linalg.norm(others, axis=1, keepdims=True).clip(1e-6)
        result[index] = (one * others).sum() / max(1, int(one.any(1).sum()))
    return result


def _grey(image: Image.Image) -> np.ndarray:
    """An image in grey, 0 to 255, as float32."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image).astype(np.float32) / 257
    return np.asarray(image.convert("L")).astype(np.float32)


def _complex(points: np.ndarray) -> np.ndarray:
    return points[:, 0] + 1j * points[:, 1]


def _pairs(numbers: np.ndarray) -> np.ndarray:
    return np.stack([numbers.real, numbers.imag], -1)

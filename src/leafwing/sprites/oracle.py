"""The oracle: reads sprites back from images of any origin, with a confidence. `scene` defines what it reads.

It is not a trained model. The background is the median of the border. A partially covered pixel lies on the line between the two
colours, so the sprite's colour is the one whose line explains the image best, and the position on that line is the pixel's coverage.
Each of the six shapes is fitted to that map by least squares, over centroid, radius and angle (Levenberg 1944, Marquardt 1963),
initialised from the map's moments; the shape with the smallest residual wins. Finally the scene is rendered again and compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leafwing.errors import LeafwingError
from leafwing.sprites import draw
from leafwing.sprites.scene import ANGLE, BETWEEN_SIZES, RADII, Scenes, place_of
from leafwing.sprites.shapes import AREAS, SHAPES
from leafwing.sprites.words import BACKGROUND_RGB, COLOUR_RGB, WORDS, parse_all

if TYPE_CHECKING:
    import torch

MIN_CONFIDENCE = 0.6
"""Readings below this confidence do not count. An image of two equal sprites has about 0.5."""
TOLERANCE = 32.0
"""Maximum colour deviation per channel, in levels of 255; anything beyond counts as unexplained."""
_GRID = 24  # large images are averaged down to no less than this many pixels per side,
_COARSE = 16  # and for the confidence, which should ignore pixel noise, to no less than this
_WINDOW = 0.72  # side of the window around the sprite, as a fraction of the image side
_STEPS = 6
_CHUNK = 128
_MIN_RADIUS, _MAX_RADIUS = 0.9 * RADII["small"][0], 1.1 * RADII["large"][1]


@dataclass(frozen=True, eq=False)
class Reading:
    """The readings of n images.

    Args:
        scenes: the scenes; `template` and `chance` are 0.
        confidence: float64 (n,), 0 to 1: the share of an image's difference from a plain background that the scene explains.
        size: pixels per side of the images.
    """

    scenes: Scenes
    confidence: np.ndarray
    size: int

    def __len__(self) -> int:
        """Number of images read."""
        return len(self.confidence)

    @property
    def sure(self) -> np.ndarray:
        """Which readings count: bool (n,), a confidence of at least `MIN_CONFIDENCE`."""
        return self.confidence >= MIN_CONFIDENCE

    @property
    def box(self) -> np.ndarray:
        """Bounding boxes of the sprites: float32 (n, 4), left, top, width, height in pixels."""
        return self.scenes.box(self.size)


def read(pictures: np.ndarray | torch.Tensor) -> Reading:
    """Reads images.

    Args:
        pictures: uint8 (n, size, size, 3), or floats in [-1, 1] of that shape or (n, 3, size, size); numpy or torch, any device.
            Images with NaN or infinite values have confidence 0.

    Raises:
        LeafwingError: another shape, size or type.
    """
    levels = _levels(pictures)
    size = levels.shape[1]
    draw.check(size)
    parts = [_read(levels[start : start + _CHUNK]) for start in range(0, max(len(levels), 1), _CHUNK)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    confidence = arrays.pop("confidence")
    n = len(confidence)
    scenes = Scenes(
        **arrays,
        size=(arrays["radius"] > BETWEEN_SIZES).astype(np.int64),
        place=place_of(arrays["x"], arrays["y"]),
        template=np.zeros(n, np.int64),
        chance=np.zeros((n, 4)),
    )
    return Reading(scenes, confidence, size)


def agreement(reading: Reading, expected: Scenes | Sequence[str] | np.ndarray) -> dict[str, float]:
    """Shares (0 to 1) of images that show the expected scenes.

    Args:
        reading: the readings of n images.
        expected: n scenes, or n captions, which may omit words.

    Returns:
        `shape`, `colour`, `size`, `place`, `background`: the part is correct, among the images for which it is specified; parts that
        no caption mentions are omitted. `caption`: everything specified is correct. `sure`: the reading counts. A reading that does
        not count is wrong in everything.

    Raises:
        LeafwingError: the numbers differ, or a caption does not parse.
    """
    parts = {part: getattr(expected, part) for part in WORDS} if isinstance(expected, Scenes) else parse_all(expected)
    if len(parts["shape"]) != len(reading) or not len(reading):
        raise LeafwingError(f"{len(reading)} images and {len(parts['shape'])} scenes: give one scene per image.")
    shares, all_correct = dict[str, float](), reading.sure.copy()
    for part, words in parts.items():
        specified, correct = words >= 0, reading.sure & (getattr(reading.scenes, part) == words)
        if specified.any():
            shares[part] = float(correct[specified].mean())
        all_correct &= correct | ~specified
    return {**shares, "caption": float(all_correct.mean()), "sure": float(reading.sure.mean())}


def _levels(pictures: np.ndarray | torch.Tensor) -> np.ndarray:
    """Images of any supported type as float32 (n, size, size, 3) from 0 to 255."""
    if not isinstance(pictures, np.ndarray):  # numpy has no bfloat16
        pictures = (pictures.detach().float() if pictures.is_floating_point() else pictures).cpu().numpy()
    array, is_bytes = pictures, pictures.dtype == np.uint8
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] != 3 or array.shape[1] != array.shape[2]:
        raise LeafwingError(f"the oracle reads square RGB images, (n, size, size, 3), not {array.shape}.")
    if not is_bytes and array.dtype.kind != "f":
        raise LeafwingError(f"the oracle reads uint8, or floats in [-1, 1], not {array.dtype}.")
    floats = array.astype(np.float32)
    return floats if is_bytes else np.where(np.isinf(floats), np.nan, (np.clip(floats, -1, 1) + 1) * np.float32(127.5))


def _downsample(pictures: np.ndarray, min_size: int) -> np.ndarray:
    """Average-pools with the largest divisor of the size that leaves at least `min_size` pixels per side."""
    n, size = pictures.shape[:2]
    factor = max(k for k in range(1, size + 1) if size % k == 0 and (size // k >= min_size or k == 1))
    return pictures.reshape(n, size // factor, factor, size // factor, factor, 3).mean(axis=(2, 4))


def _read(levels: np.ndarray) -> dict[str, np.ndarray]:
    """A chunk of images (n, size, size, 3), 0 to 255 -> the arrays of their scenes, and `confidence`."""
    finite = np.isfinite(levels).all(axis=(1, 2, 3))
    levels = np.where(finite[:, None, None, None], levels, 0)
    small = _downsample(levels, _GRID)
    grid = small.shape[1]
    border = np.concatenate([small[:, 0], small[:, -1], small[:, 1:-1, 0], small[:, 1:-1, -1]], axis=1)
    ground = np.median(border, axis=1)
    background = _nearest(ground, BACKGROUND_RGB)
    difference = small - ground[:, None, None]
    colour = _sprite_colour(difference, ground)
    fits = _fit(difference, ground, colour)
    paint = _mean_colour(difference, ground, fits, grid)
    # The mean colour of the sprite is more accurate than that of single pixels: fit again where the two disagree.
    changed = np.flatnonzero(_nearest(paint, COLOUR_RGB) != colour)
    colour[changed] = _nearest(paint[changed], COLOUR_RGB)
    for name, values in _fit(difference[changed], ground[changed], colour[changed]).items():
        fits[name][changed] = values
    paint = _clip_near(_mean_colour(difference, ground, fits, grid), COLOUR_RGB[colour])
    ground = _clip_near(ground, BACKGROUND_RGB[background])
    cover = _cover(fits, grid)
    redrawn = ground[:, None, None] + cover[..., None] * (paint - ground)[:, None, None]
    coarse = _downsample(small, _COARSE)
    unexplained = ((coarse - _downsample(redrawn, _COARSE)) ** 2).sum(axis=(1, 2, 3), dtype=np.float64)
    contrast = ((coarse - ground[:, None, None]) ** 2).sum(axis=(1, 2, 3), dtype=np.float64)
    confidence = np.clip(1 - unexplained / np.maximum(contrast, 1), 0, 1) * finite
    return {
        "shape": fits["shape"],
        "colour": colour,
        "background": background,
        **{name: fits[name] / grid for name in ("x", "y", "radius")},
        "angle": np.where(fits["shape"] == 0, 0.0, fits["angle"]),
        "confidence": confidence,
    }


def _nearest(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Indices of the nearest colours of a palette: int64 (n,)."""
    return ((colours[:, None] - palette) ** 2).sum(axis=2).argmin(axis=1)


def _clip_near(colours: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Clips colours to within `TOLERANCE` of reference colours."""
    return np.clip(colours, references - TOLERANCE, references + TOLERANCE)


def _sprite_colour(difference: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The sprite's colour from single pixels: the one whose mixtures with the background explain the most. int64 (n,)."""
    explained = []
    for paint in COLOUR_RGB:
        line = paint - ground
        squared_length = np.maximum((line**2).sum(axis=1), 1)[:, None, None]
        share = np.einsum("nijc,nc->nij", difference, line) / squared_length
        clipped = np.clip(share, 0, 1)
        explained.append(((2 * share - clipped) * clipped * squared_length).sum(axis=(1, 2)))
    return np.stack(explained, axis=1).argmax(axis=1)


def _mean_colour(difference: np.ndarray, ground: np.ndarray, fits: dict[str, np.ndarray], grid: int) -> np.ndarray:
    """The mean colour of the sprite by least squares, (n, 3)."""
    cover = _cover(fits, grid)
    weight = np.maximum((cover**2).sum(axis=(1, 2)), 1e-6)
    return ground + np.einsum("nij,nijc->nc", cover, difference) / weight[:, None]


def _cover(fits: dict[str, np.ndarray], grid: int) -> np.ndarray:
    """Pixel coverage by the fitted sprites: float32 (n, grid, grid)."""
    cover = np.zeros((len(fits["x"]), grid, grid), np.float32)
    for shape in range(len(SHAPES)):
        rows = np.flatnonzero(fits["shape"] == shape)
        x, y, radius, angle = (fits[name][rows] for name in ("x", "y", "radius", "angle"))
        corner = np.zeros((len(rows), 2), np.int64)
        cover[rows] = draw.patch(shape, x, y, radius, angle, corner, grid, max(2, 64 // grid))
    return cover


def _fit(difference: np.ndarray, ground: np.ndarray, colour: np.ndarray) -> dict[str, np.ndarray]:
    """The shape that explains the coverage map best: `shape`, and `x`, `y`, `radius`, `angle` in pixels and degrees."""
    n, grid = difference.shape[:2]
    line = COLOUR_RGB[colour] - ground
    share = np.einsum("nijc,nc->nij", difference, line) / np.maximum((line**2).sum(axis=1), 1)[:, None, None]
    share = np.clip(share, -1, 2)
    width = min(grid, round(_WINDOW * grid))
    corner, centre = _locate(share, width)
    rows = np.arange(n)[:, None, None]
    window = share[rows, (corner[:, 1:] + np.arange(width))[:, :, None], (corner[:, :1] + np.arange(width))[:, None, :]]
    area = np.maximum(window.sum(axis=(1, 2)), 1)
    best: dict[str, np.ndarray] = {}
    best_error = np.full(n, np.inf)
    for shape in range(len(SHAPES)):
        radius = np.clip(np.sqrt(area / AREAS[shape]), _MIN_RADIUS * grid, _MAX_RADIUS * grid)
        guess = np.stack([centre[:, 0], centre[:, 1], radius, np.zeros(n)], axis=1)
        guess, error = _fit_shape(shape, guess, window, corner, grid)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        names = ("x", "y", "radius", "angle")
        fit = {"shape": np.full(n, shape), **dict(zip(names, guess.T, strict=True))}
        best = {name: np.where(better, values, best[name]) if best else values for name, values in fit.items()}
    return best


def _locate(share: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A window around the sprite: its first column and row, int64 (n, 2), and the centroid of its content, in pixels.

    The window starts at the box of half the image side with the most coverage, and follows the centroid.
    """
    n, grid = share.shape[:2]
    half = grid // 2
    sums = np.zeros((n, grid + 1, grid + 1))
    sums[:, 1:, 1:] = share.cumsum(axis=1).cumsum(axis=2)
    boxes = sums[:, half:, half:] - sums[:, half:, :-half] - sums[:, :-half, half:] + sums[:, :-half, :-half]
    start = boxes.reshape(n, boxes.shape[1] ** 2).argmax(axis=1)
    centre = np.stack([start % boxes.shape[2], start // boxes.shape[2]], axis=1) + half / 2
    pixels = np.arange(grid) + 0.5
    for reach in (half / 2 + 1, width / 2, width / 2):
        inside = (np.abs(pixels - centre[:, :, None]) <= reach).astype(float)
        weight = np.maximum(share, 0) * inside[:, 1, :, None] * inside[:, 0, None, :]
        total = np.maximum(weight.sum(axis=(1, 2)), 1e-6)
        centre = np.stack([weight.sum(axis=1) @ pixels, weight.sum(axis=2) @ pixels], axis=1) / total[:, None]
    corner = np.floor(centre - width / 2 + 0.5).clip(0, grid - width).astype(np.int64)
    return corner, centre


def _fit_shape(
    shape: int, guess: np.ndarray, window: np.ndarray, corner: np.ndarray, grid: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fits one shape to windows of the coverage map: x, y, radius, angle (n, 4), and the squared error (n,)."""
    n, width = window.shape[:2]
    fine = max(2, 64 // grid)
    low = np.array([0, 0, _MIN_RADIUS * grid, -1.1 * ANGLE])
    high = np.array([grid, grid, _MAX_RADIUS * grid, 1.1 * ANGLE])
    best, best_error = guess, np.full(n, np.inf)
    damping = np.full(n, 1e-2)
    normal, gradient = np.zeros((n, 4, 4)), np.zeros((n, 4))
    for step in range(_STEPS + 1):
        cover = draw.patch(shape, guess[:, 0], guess[:, 1], guess[:, 2], guess[:, 3], corner, width, fine)
        residual = window - cover
        error = (residual**2).sum(axis=(1, 2))
        better = error < best_error
        best_error, best = np.where(better, error, best_error), np.where(better[:, None], guess, best)
        damping = np.where(better, damping * 0.3, damping * 10)
        if step == _STEPS:
            break
        # Translation, scaling and rotation shift the rendered shape, so its image gradients give the derivatives.
        down, across = np.gradient(cover, axis=(1, 2))
        x = corner[:, :1, None] + np.arange(width) + 0.5 - guess[:, :1, None]
        y = corner[:, 1:, None] + np.arange(width)[:, None] + 0.5 - guess[:, 1:2, None]
        rotation = np.radians(across * y - down * x)
        scaling = (across * x + down * y) / -guess[:, 2, None, None]
        jacobian = np.stack([-across, -down, scaling, rotation], axis=1).reshape(n, 4, width**2)
        normal = np.where(better[:, None, None], jacobian @ jacobian.transpose(0, 2, 1), normal)
        gradient = np.where(better[:, None], np.einsum("nkp,np->nk", jacobian, residual.reshape(n, width**2)), gradient)
        # A circle is invariant under rotation: the small constant keeps its normal equations solvable.
        diagonal = np.einsum("nkk->nk", normal)
        damped = normal + np.einsum("nk,kl->nkl", diagonal * damping[:, None] + 1e-6, np.eye(4))
        guess = np.clip(best + np.linalg.solve(damped, gradient[..., None])[..., 0], low, high)
    return best, best_error

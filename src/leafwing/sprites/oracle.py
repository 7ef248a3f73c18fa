"""The oracle: it reads sprites back from images of any origin, with a confidence. `scene` defines what it reads.

It is not a learnt model. The background is the median of the border. A partially covered pixel lies on the line between the two
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

SURE = 0.6
"""The minimum confidence for a reading to count. An image of two equal sprites has about half."""
TOLERANCE = 32.0
"""Maximum colour deviation per channel, in levels of 255; anything beyond counts as unexplained."""
_GRID = 24  # large images are averaged down to at least this many pixels per side
_ROUGH = 16  # and for the confidence, which should ignore pixel noise, to at least this many
_WINDOW = 0.72  # side of the window around the sprite, as a fraction of the image side
_STEPS = 6
_CHUNK = 128
_LEAST, _MOST = 0.9 * RADII["small"][0], 1.1 * RADII["large"][1]


@dataclass(frozen=True, eq=False)
class Reading:
    """The readings of n images.

    Args:
        scenes: the scenes as read; `template` and `chance` are 0.
        confidence: float64 (n,), 0 to 1: the share of an image's difference from a plain background explained by the scene.
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
        """Which readings count: bool (n,), a confidence of at least `SURE`."""
        return self.confidence >= SURE

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
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    confidence = joined.pop("confidence")
    n = len(confidence)
    found = Scenes(
        **joined,
        size=(joined["radius"] > BETWEEN_SIZES).astype(np.int64),
        place=place_of(joined["x"], joined["y"]),
        template=np.zeros(n, np.int64),
        chance=np.zeros((n, 4)),
    )
    return Reading(found, confidence, size)


def agreement(reading: Reading, wanted: Scenes | Sequence[str] | np.ndarray) -> dict[str, float]:
    """Accuracy with which images show the requested scenes: shares from 0 to 1.

    Args:
        reading: of n images.
        wanted: their scenes, or captions, which may omit words.

    Returns:
        `shape`, `colour`, `size`, `place`, `background`: over the images for which it was specified; parts that no caption mentions
        are omitted. `caption`: everything specified is right. `sure`: the reading counts. A reading that does not count is wrong
        in all.

    Raises:
        LeafwingError: the numbers differ, or a caption does not parse.
    """
    said = {part: getattr(wanted, part) for part in WORDS} if isinstance(wanted, Scenes) else parse_all(wanted)
    if len(said["shape"]) != len(reading) or not len(reading):
        raise LeafwingError(f"{len(reading)} images and {len(said['shape'])} scenes: give one scene per image.")
    found, every = dict[str, float](), reading.sure.copy()
    for part, words in said.items():
        right = reading.sure & (getattr(reading.scenes, part) == words)
        if (words >= 0).any():
            found[part] = float(right[words >= 0].mean())
        every &= right | (words < 0)
    return {**found, "caption": float(every.mean()), "sure": float(reading.sure.mean())}


def _levels(pictures: np.ndarray | torch.Tensor) -> np.ndarray:
    """Images of any supported type as float32 (n, size, size, 3) from 0 to 255."""
    if not isinstance(pictures, np.ndarray):  # numpy has no bfloat16
        pictures = (pictures.detach().float() if pictures.is_floating_point() else pictures).cpu().numpy()
    array, whole = pictures, pictures.dtype == np.uint8
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] != 3 or array.shape[1] != array.shape[2]:
        raise LeafwingError(f"the oracle reads square RGB images, (n, size, size, 3), not {array.shape}.")
    if not whole and array.dtype.kind != "f":
        raise LeafwingError(f"the oracle reads uint8, or floats in [-1, 1], not {array.dtype}.")
    floats = array.astype(np.float32)
    return floats if whole else np.where(np.isinf(floats), np.nan, (np.clip(floats, -1, 1) + 1) * np.float32(127.5))


def _averaged(pictures: np.ndarray, least: int) -> np.ndarray:
    """Average-pools with the largest divisor of the size that leaves at least `least` pixels per side."""
    n, size = pictures.shape[:2]
    by = max(k for k in range(1, size + 1) if size % k == 0 and (size // k >= least or k == 1))
    return pictures.reshape(n, size // by, by, size // by, by, 3).mean(axis=(2, 4))


def _read(levels: np.ndarray) -> dict[str, np.ndarray]:
    """A chunk of images (n, size, size, 3), 0 to 255 -> the arrays of their scenes, and `confidence`."""
    finite = np.isfinite(levels).all(axis=(1, 2, 3))
    levels = np.where(finite[:, None, None, None], levels, 0)
    small = _averaged(levels, _GRID)
    grid = small.shape[1]
    border = np.concatenate([small[:, 0], small[:, -1], small[:, 1:-1, 0], small[:, 1:-1, -1]], axis=1)
    ground = np.median(border, axis=1)
    background = _nearest(ground, BACKGROUND_RGB)
    away = small - ground[:, None, None]
    colour = _colour(away, ground)
    fits = _fit(away, ground, colour)
    paint = _paint(away, ground, fits, grid)
    # The whole sprite determines its colour better than single pixels do; where the results differ, everything is fitted again.
    wrong = np.flatnonzero(_nearest(paint, COLOUR_RGB) != colour)
    colour[wrong] = _nearest(paint[wrong], COLOUR_RGB)
    for name, values in _fit(away[wrong], ground[wrong], colour[wrong]).items():
        fits[name][wrong] = values
    paint = _near(_paint(away, ground, fits, grid), COLOUR_RGB[colour])
    ground = _near(ground, BACKGROUND_RGB[background])
    cover = _cover(fits, grid)
    drawn = ground[:, None, None] + cover[..., None] * (paint - ground)[:, None, None]
    rough, redrawn = _averaged(small, _ROUGH), _averaged(drawn, _ROUGH)
    unexplained = ((rough - redrawn) ** 2).sum(axis=(1, 2, 3), dtype=np.float64)
    contrast = ((rough - ground[:, None, None]) ** 2).sum(axis=(1, 2, 3), dtype=np.float64)
    confidence = np.clip(1 - unexplained / np.maximum(contrast, 1), 0, 1) * finite
    return {
        "shape": fits["shape"],
        "colour": colour,
        "background": background,
        **{name: fits[name] / grid for name in ("x", "y", "radius")},
        "angle": np.where(fits["shape"] == 0, 0.0, fits["angle"]),
        "confidence": confidence,
    }


def _nearest(found: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Indices of the nearest named colours: int64 (n,)."""
    return ((found[:, None] - named) ** 2).sum(axis=2).argmin(axis=1)


def _near(found: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Measured colours, clipped to within `TOLERANCE` of the named ones."""
    return np.clip(found, named - TOLERANCE, named + TOLERANCE)


def _colour(away: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """The sprite's colour from single pixels: the one whose mixtures with the background explain most. int64 (n,)."""
    explained = []
    for paint in COLOUR_RGB:
        line = paint - ground
        long = np.maximum((line**2).sum(axis=1), 1)[:, None, None]
        share = np.einsum("nijc,nc->nij", away, line) / long
        held = np.clip(share, 0, 1)
        explained.append(((2 * share - held) * held * long).sum(axis=(1, 2)))
    return np.stack(explained, axis=1).argmax(axis=1)


def _paint(away: np.ndarray, ground: np.ndarray, fits: dict[str, np.ndarray], grid: int) -> np.ndarray:
    """The colour of the whole sprite by least squares, (n, 3)."""
    cover = _cover(fits, grid)
    weight = np.maximum((cover**2).sum(axis=(1, 2)), 1e-6)
    return ground + np.einsum("nij,nijc->nc", cover, away) / weight[:, None]


def _cover(fits: dict[str, np.ndarray], grid: int) -> np.ndarray:
    """Pixel coverage by the fitted sprites: float32 (n, grid, grid)."""
    found = np.zeros((len(fits["x"]), grid, grid), np.float32)
    for shape in range(len(SHAPES)):
        rows = np.flatnonzero(fits["shape"] == shape)
        x, y, radius, angle = (fits[name][rows] for name in ("x", "y", "radius", "angle"))
        corner = np.zeros((len(rows), 2), np.int64)
        found[rows] = draw.patch(shape, x, y, radius, angle, corner, grid, max(2, 64 // grid))
    return found


def _fit(away: np.ndarray, ground: np.ndarray, colour: np.ndarray) -> dict[str, np.ndarray]:
    """The shape that explains the coverage map best: `shape`, and `x`, `y`, `radius`, `angle` in pixels and degrees."""
    n, grid = away.shape[:2]
    line = COLOUR_RGB[colour] - ground
    share = np.einsum("nijc,nc->nij", away, line) / np.maximum((line**2).sum(axis=1), 1)[:, None, None]
    share = np.clip(share, -1, 2)
    width = min(grid, round(_WINDOW * grid))
    corner, centre = _place(share, width)
    rows = np.arange(n)[:, None, None]
    seen = share[rows, (corner[:, 1:] + np.arange(width))[:, :, None], (corner[:, :1] + np.arange(width))[:, None, :]]
    area = np.maximum(seen.sum(axis=(1, 2)), 1)
    best: dict[str, np.ndarray] = {}
    least = np.full(n, np.inf)
    for shape in range(len(SHAPES)):
        radius = np.clip(np.sqrt(area / AREAS[shape]), _LEAST * grid, _MOST * grid)
        guess = np.stack([centre[:, 0], centre[:, 1], radius, np.zeros(n)], axis=1)
        guess, left = _polished(shape, guess, seen, corner, grid)
        better = left < least
        least = np.where(better, left, least)
        names = ("x", "y", "radius", "angle")
        now = {"shape": np.full(n, shape), **dict(zip(names, guess.T, strict=True))}
        best = {name: np.where(better, values, best[name]) if best else values for name, values in now.items()}
    return best


def _place(share: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A window around the sprite: its first column and row, int64 (n, 2), and the centroid of its content, in pixels.

    The window starts at the box of half the image side with the most coverage, and follows the centroid.
    """
    n, grid = share.shape[:2]
    wide = grid // 2
    sums = np.zeros((n, grid + 1, grid + 1))
    sums[:, 1:, 1:] = share.cumsum(axis=1).cumsum(axis=2)
    boxes = sums[:, wide:, wide:] - sums[:, wide:, :-wide] - sums[:, :-wide, wide:] + sums[:, :-wide, :-wide]
    place = boxes.reshape(n, boxes.shape[1] ** 2).argmax(axis=1)
    centre = np.stack([place % boxes.shape[2], place // boxes.shape[2]], axis=1) + wide / 2
    pixels = np.arange(grid) + 0.5
    for reach in (wide / 2 + 1, width / 2, width / 2):
        near = (np.abs(pixels - centre[:, :, None]) <= reach).astype(float)
        weight = np.maximum(share, 0) * near[:, 1, :, None] * near[:, 0, None, :]
        total = np.maximum(weight.sum(axis=(1, 2)), 1e-6)
        centre = np.stack([weight.sum(axis=1) @ pixels, weight.sum(axis=2) @ pixels], axis=1) / total[:, None]
    corner = np.floor(centre - width / 2 + 0.5).clip(0, grid - width).astype(np.int64)
    return corner, centre


def _polished(
    shape: int, guess: np.ndarray, seen: np.ndarray, corner: np.ndarray, grid: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fits one shape: x, y, radius, angle (n, 4) and the squared error (n,) of the best iterate."""
    n, width = seen.shape[:2]
    fine = max(2, 64 // grid)
    low = np.array([0, 0, _LEAST * grid, -1.1 * ANGLE])
    high = np.array([grid, grid, _MOST * grid, 1.1 * ANGLE])
    best, least = guess, np.full(n, np.inf)
    trust = np.full(n, 1e-2)
    normal, slope = np.zeros((n, 4, 4)), np.zeros((n, 4))
    for step in range(_STEPS + 1):
        cover = draw.patch(shape, guess[:, 0], guess[:, 1], guess[:, 2], guess[:, 3], corner, width, fine)
        rest = seen - cover
        left = (rest**2).sum(axis=(1, 2))
        better = left < least
        least, best = np.where(better, left, least), np.where(better[:, None], guess, best)
        trust = np.where(better, trust * 0.3, trust * 10)
        if step == _STEPS:
            break
        # Translation, scaling and rotation shift the rendered shape, so its image gradients give the derivatives.
        down, across = np.gradient(cover, axis=(1, 2))
        x = corner[:, :1, None] + np.arange(width) + 0.5 - guess[:, :1, None]
        y = corner[:, 1:, None] + np.arange(width)[:, None] + 0.5 - guess[:, 1:2, None]
        turned = np.radians(across * y - down * x)
        grown = (across * x + down * y) / -guess[:, 2, None, None]
        ways = np.stack([-across, -down, grown, turned], axis=1).reshape(n, 4, width**2)
        normal = np.where(better[:, None, None], ways @ ways.transpose(0, 2, 1), normal)
        slope = np.where(better[:, None], np.einsum("nkp,np->nk", ways, rest.reshape(n, width**2)), slope)
        # A circle is invariant under rotation: the small constant keeps its normal equations solvable.
        own = np.einsum("nkk->nk", normal)
        damped = normal + np.einsum("nk,kl->nkl", own * trust[:, None] + 1e-6, np.eye(4))
        guess = np.clip(best + np.linalg.solve(damped, slope[..., None])[..., 0], low, high)
    return best, least

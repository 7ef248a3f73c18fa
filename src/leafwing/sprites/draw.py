"""Images of sprites and derived fields: masks, outlines, low-resolution copies, clips, two domains. `scene` provides the scenes.

A pixel's coverage by a sprite is the mean of soft inside tests on a fine grid, from the shapes' signed distances: accurate to 0.04.
Only the window around a sprite is computed. Sums are taken one by one, in a fixed order, so that the same scenes give the same
bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from leafwing.errors import LeafwingError
from leafwing.sprites.scene import COMBINATIONS, RADII, Scenes, margin, moved, scenes
from leafwing.sprites.shapes import REACH, SHAPES, distance
from leafwing.sprites.words import BACKGROUND_RGB, BACKGROUNDS, COLOUR_RGB, SIZES

LEAST, MOST = 16, 128
"""Minimum and maximum image size."""
LINE = 1.25
"""The width of an outline in pixels."""
FRAMES = 8
"""Default number of frames of a clip."""
_FINE = 128  # minimum number of tests per image side; at least four per pixel side
_STROKE = 0.04  # the line width of the outline domain, as a fraction of the image side
_CHUNK = 512
_WHITE = list(BACKGROUNDS).index("white")


def patch(
    shape: int,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    angle: np.ndarray,
    corner: np.ndarray,
    width: int,
    fine: int,
    line: float = 0.0,
) -> np.ndarray:
    """Pixel coverage by sprites of one shape, in square windows: float32 (n, width, width), 0 to 1.

    Args:
        shape: an index in `SHAPES`.
        x: horizontal centroids in pixels, (n,).
        y: vertical centroids in pixels, (n,).
        radius: in pixels, (n,).
        angle: degrees, (n,).
        corner: the first column and row of each window, (n, 2).
        width: of the windows, in pixels.
        fine: tests per pixel side.
        line: 0 for a filled sprite; otherwise the line width of its outline in pixels.
    """
    turn, scale = np.radians(angle), 1 / radius
    cos, sin = ((way * scale).astype(np.float32)[:, None, None] for way in (np.cos(turn), np.sin(turn)))
    sharp = (radius * fine).astype(np.float32)[:, None, None]
    half = np.float32(line / 2 * fine)
    total = np.zeros((len(x), width, width), np.float32)
    steps = (np.arange(fine) + 0.5) / fine
    across = (corner[:, 0] - x)[:, None, None] + np.arange(width)
    down = (corner[:, 1] - y)[:, None, None] + np.arange(width)[:, None]
    for step_down in steps:
        v = (down + step_down).astype(np.float32)
        for step_across in steps:
            u = (across + step_across).astype(np.float32)
            away = distance(shape, u * cos + v * sin, v * cos - u * sin) * sharp
            if line:
                away = np.abs(away) - half
            total += np.clip(np.float32(0.5) - away, 0, 1)
    return total * np.float32(1 / fine**2)


def draw(some: Scenes, size: int, *, line: float = 0.0) -> np.ndarray:
    """Renders scenes: uint8 (n, size, size, 3).

    Args:
        some: the scenes.
        size: 16 to 128.
        line: 0 for filled sprites; otherwise only their outlines, with this line width in pixels.

    Raises:
        LeafwingError: unsupported size.
    """
    check(size)
    found = np.empty((len(some), size, size, 3), np.uint8)
    found[:] = BACKGROUND_RGB[some.background].astype(np.uint8)[:, None, None]
    for rows, places, cover in _windows(some, size, line):
        ground = BACKGROUND_RGB[some.background[rows]][:, None, None]
        colour = COLOUR_RGB[some.colour[rows]][:, None, None]
        found[places] = np.rint(ground + cover[..., None] * (colour - ground)).astype(np.uint8)
    return found


def coverage(some: Scenes, size: int, *, line: float = 0.0) -> np.ndarray:
    """Pixel coverage by the sprite: float32 (n, size, size), 0 to 1. Arguments and errors as for `draw`."""
    check(size)
    found = np.zeros((len(some), size, size), np.float32)
    for _, places, cover in _windows(some, size, line):
        found[places] = cover
    return found


def segmentation(some: Scenes, size: int) -> np.ndarray:
    """Segmentation by majority coverage: uint8 (n, size, size), 0 for the background, 1 + the index of the shape for a sprite."""
    return (coverage(some, size) >= 0.5) * (some.shape + 1).astype(np.uint8)[:, None, None]


def edges(some: Scenes, size: int) -> np.ndarray:
    """Outlines in white on black, `LINE` pixels wide: uint8 (n, size, size, 1)."""
    return np.rint(coverage(some, size, line=LINE) * 255).astype(np.uint8)[..., None]


def low(some: Scenes, size: int) -> np.ndarray:
    """Images at a quarter of the size, averaged over 4x4 pixels: uint8 (n, size / 4, size / 4, 3).

    Raises:
        LeafwingError: a size that is not a multiple of four.
    """
    if size % 4:
        raise LeafwingError(f"low: size {size} is not a multiple of 4; choose one that is.")
    tall = draw(some, size).reshape(len(some), size // 4, 4, size // 4, 4, 3).sum(axis=(2, 4), dtype=np.int32)
    return ((tall + 8) // 16).astype(np.uint8)


def hole(some: Scenes, size: int) -> np.ndarray:
    """A random box that covers the sprite: uint8 (n, size, size, 1), 1 in the hole.

    It extends beyond the sprite by a pixel on each side and up to a quarter of the image more, within the image.
    """
    check(size)
    box = some.box(size)
    first = np.maximum(np.floor(box[:, :2]) - 1, 0)
    last = np.minimum(np.ceil(box[:, :2] + box[:, 2:]) + 1, size)
    more = np.floor(some.chance[:, 0:2] * (size / 4 + 1))
    before = np.floor(some.chance[:, 2:4] * (more + 1))
    first, last = np.maximum(first - before, 0), np.minimum(last + more - before, size)
    pixels = np.arange(size)
    inside = (pixels >= first[..., None]) & (pixels < last[..., None])
    return (inside[:, 1, :, None] & inside[:, 0, None, :]).astype(np.uint8)[..., None]


def movement(some: Scenes, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """The centroids in each frame of a clip: x and y, float64 (n, frames), fractions of the image side.

    From its position in the scene each sprite moves uniformly along a straight line, towards the farther side both horizontally and
    vertically, by 40 to 100 per cent of the free distance.

    Raises:
        LeafwingError: fewer than one frame.
    """
    if frames < 1:
        raise LeafwingError(f"a clip has at least one frame, not {frames}.")
    free = margin(some.radius)
    time = np.arange(frames) / max(frames - 1, 1)
    paths = []
    for start, chance in ((some.x, some.chance[:, 0]), (some.y, some.chance[:, 1])):
        way = np.where(start < 0.5, 1 - free, free) - start
        paths.append(start[:, None] + (way * (0.4 + 0.6 * chance))[:, None] * time)
    return paths[0], paths[1]


def clip(some: Scenes, size: int, frames: int = FRAMES) -> np.ndarray:
    """Moving sprites, see `movement`: uint8 (n, frames, size, size, 3). The first frame is the scene itself."""
    x, y = movement(some, frames)
    every = some.rows(np.repeat(np.arange(len(some)), frames))
    return draw(moved(every, x.ravel(), y.ravel()), size).reshape(len(some), frames, size, size, 3)


def domains(n: int, size: int, seed: int = 0) -> tuple[tuple[np.ndarray, Scenes], tuple[np.ndarray, Scenes]]:
    """Two unpaired domains: outlines on white, and filled sprites on black, grey or brown.

    Each combination of shape, colour, size and place is in only one of the domains; every single word appears in both.

    Returns:
        For each domain, images uint8 (n, size, size, 3) and their scenes.

    Raises:
        LeafwingError: unsupported size, or a negative number.
    """
    # Every 2,592 scenes contain 1,296 of the first domain, and 972 of the second excluding white backgrounds.
    every = scenes(-(-n // 972) * COMBINATIONS if n > 0 else n, seed)
    odd = (every.shape + every.colour + every.size + every.place) % 2 == 1
    a = every.rows(np.flatnonzero(~odd)[:n])
    a = replace(a, background=np.full(n, _WHITE))
    b = every.rows(np.flatnonzero(odd & (every.background != _WHITE))[:n])
    return (draw(a, size, line=max(LINE, _STROKE * size)), a), (draw(b, size), b)


def check(size: int) -> None:
    """Checks an image size.

    Raises:
        LeafwingError: unsupported size.
    """
    if not LEAST <= size <= MOST:
        raise LeafwingError(f"size={size}: sprite images have {LEAST} to {MOST} pixels per side.")


def _windows(some: Scenes, size: int, line: float) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]]:
    """Scenes of one shape and size at a time: their rows, the indices of their windows in (n, size, size), the coverage there."""
    fine = max(4, -(-_FINE // size))
    for shape in range(len(SHAPES)):
        for word, name in enumerate(SIZES):
            # At a star's tips an outline extends by 2.9 times half its width.
            width = min(size, int(np.ceil(2 * REACH * RADII[name][1] * size + 3 * line)) + 3)
            every = np.flatnonzero((some.shape == shape) & (some.size == word))
            for start in range(0, len(every), _CHUNK):
                rows = every[start : start + _CHUNK]
                x, y = some.x[rows] * size, some.y[rows] * size
                corner = np.floor(np.stack([x, y], axis=1) - width / 2 + 0.5).clip(0, size - width).astype(np.int64)
                cover = patch(shape, x, y, some.radius[rows] * size, some.angle[rows], corner, width, fine, line)
                across, down = corner[:, :1] + np.arange(width), corner[:, 1:] + np.arange(width)
                yield rows, (rows[:, None, None], down[:, :, None], across[:, None, :]), cover

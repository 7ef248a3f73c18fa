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
from leafwing.sprites import scene
from leafwing.sprites.scene import COMBINATIONS, RADII, Scenes
from leafwing.sprites.shapes import REACH, SHAPES, distance
from leafwing.sprites.words import BACKGROUND_RGB, BACKGROUNDS, COLOUR_RGB, SIZES

MIN_SIZE, MAX_SIZE = 16, 128
"""Minimum and maximum image size."""
LINE = 1.25
"""The width of an outline in pixels."""
FRAMES = 8
"""Default number of frames of a clip."""
_FINE = 128  # minimum number of tests per image side; at least four per pixel side
_STROKE = 0.04  # line width in the domain of outlines, as a fraction of the image side
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
    cos, sin = ((values * scale).astype(np.float32)[:, None, None] for values in (np.cos(turn), np.sin(turn)))
    sharpness = (radius * fine).astype(np.float32)[:, None, None]
    half = np.float32(line / 2 * fine)
    total = np.zeros((len(x), width, width), np.float32)
    steps = (np.arange(fine) + 0.5) / fine
    across = (corner[:, 0] - x)[:, None, None] + np.arange(width)
    down = (corner[:, 1] - y)[:, None, None] + np.arange(width)[:, None]
    for step_down in steps:
        v = (down + step_down).astype(np.float32)
        for step_across in steps:
            u = (across + step_across).astype(np.float32)
            signed = distance(shape, u * cos + v * sin, v * cos - u * sin) * sharpness
            if line:
                signed = np.abs(signed) - half
            total += np.clip(np.float32(0.5) - signed, 0, 1)
    return total * np.float32(1 / fine**2)


def draw(scenes: Scenes, size: int, *, line: float = 0.0) -> np.ndarray:
    """Renders scenes: uint8 (n, size, size, 3).

    Args:
        scenes: the scenes.
        size: 16 to 128.
        line: 0 for filled sprites; otherwise only their outlines, with this line width in pixels.

    Raises:
        LeafwingError: unsupported size.
    """
    check(size)
    images = np.empty((len(scenes), size, size, 3), np.uint8)
    images[:] = BACKGROUND_RGB[scenes.background].astype(np.uint8)[:, None, None]
    for rows, window, cover in _windows(scenes, size, line):
        ground = BACKGROUND_RGB[scenes.background[rows]][:, None, None]
        colour = COLOUR_RGB[scenes.colour[rows]][:, None, None]
        images[window] = np.rint(ground + cover[..., None] * (colour - ground)).astype(np.uint8)
    return images


def coverage(scenes: Scenes, size: int, *, line: float = 0.0) -> np.ndarray:
    """Pixel coverage by the sprite: float32 (n, size, size), 0 to 1. Arguments and errors as for `draw`."""
    check(size)
    result = np.zeros((len(scenes), size, size), np.float32)
    for _, window, cover in _windows(scenes, size, line):
        result[window] = cover
    return result


def segmentation(scenes: Scenes, size: int) -> np.ndarray:
    """Segmentation by majority coverage: uint8 (n, size, size), 0 for the background, 1 + the index of the shape for a sprite."""
    return (coverage(scenes, size) >= 0.5) * (scenes.shape + 1).astype(np.uint8)[:, None, None]


def edges(scenes: Scenes, size: int) -> np.ndarray:
    """Outlines in white on black, `LINE` pixels wide: uint8 (n, size, size, 1)."""
    return np.rint(coverage(scenes, size, line=LINE) * 255).astype(np.uint8)[..., None]


def low(scenes: Scenes, size: int) -> np.ndarray:
    """Images at a quarter of the size, averaged over 4x4 pixels: uint8 (n, size / 4, size / 4, 3).

    Raises:
        LeafwingError: a size that is not a multiple of four.
    """
    if size % 4:
        raise LeafwingError(f"low: size {size} is not a multiple of 4; choose one that is.")
    sums = draw(scenes, size).reshape(len(scenes), size // 4, 4, size // 4, 4, 3).sum(axis=(2, 4), dtype=np.int32)
    return ((sums + 8) // 16).astype(np.uint8)


def hole(scenes: Scenes, size: int) -> np.ndarray:
    """Masks of a random box that covers the sprite: uint8 (n, size, size, 1), 1 in the hole.

    It extends beyond the sprite by a pixel on each side and up to a quarter of the image more, within the image.
    """
    check(size)
    box = scenes.box(size)
    first = np.maximum(np.floor(box[:, :2]) - 1, 0)
    last = np.minimum(np.ceil(box[:, :2] + box[:, 2:]) + 1, size)
    extra = np.floor(scenes.chance[:, 0:2] * (size / 4 + 1))
    before = np.floor(scenes.chance[:, 2:4] * (extra + 1))
    first, last = np.maximum(first - before, 0), np.minimum(last + extra - before, size)
    pixels = np.arange(size)
    inside = (pixels >= first[..., None]) & (pixels < last[..., None])
    return (inside[:, 1, :, None] & inside[:, 0, None, :]).astype(np.uint8)[..., None]


def movement(scenes: Scenes, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """The centroids in each frame of a clip: x and y, float64 (n, frames), fractions of the image side.

    From its position in the scene each sprite moves uniformly along a straight line, towards the farther side both horizontally and
    vertically, by 40 to 100 per cent of the free distance.

    Raises:
        LeafwingError: fewer than one frame.
    """
    if frames < 1:
        raise LeafwingError(f"a clip has at least one frame, not {frames}.")
    free = scene.margin(scenes.radius)
    time = np.arange(frames) / max(frames - 1, 1)
    paths = []
    for start, chance in ((scenes.x, scenes.chance[:, 0]), (scenes.y, scenes.chance[:, 1])):
        longest = np.where(start < 0.5, 1 - free, free) - start
        paths.append(start[:, None] + (longest * (0.4 + 0.6 * chance))[:, None] * time)
    return paths[0], paths[1]


def clip(scenes: Scenes, size: int, frames: int = FRAMES) -> np.ndarray:
    """Moving sprites, see `movement`: uint8 (n, frames, size, size, 3). The first frame is the scene itself."""
    x, y = movement(scenes, frames)
    repeated = scenes.rows(np.repeat(np.arange(len(scenes)), frames))
    return draw(scene.move(repeated, x.ravel(), y.ravel()), size).reshape(len(scenes), frames, size, size, 3)


def domains(n: int, size: int, seed: int = 0) -> tuple[tuple[np.ndarray, Scenes], tuple[np.ndarray, Scenes]]:
    """Two unpaired domains: outlines on white, and filled sprites on black, grey or brown.

    Each combination of shape, colour, size and place is in only one of the domains; every single word appears in both.

    Returns:
        For each domain, images uint8 (n, size, size, 3) and their scenes.

    Raises:
        LeafwingError: unsupported size, or a negative number.
    """
    # Every 2,592 scenes contain 1,296 of the first domain, and 972 of the second excluding white backgrounds.
    combinations = scene.scenes(-(-n // 972) * COMBINATIONS if n > 0 else n, seed)
    odd = (combinations.shape + combinations.colour + combinations.size + combinations.place) % 2 == 1
    a = combinations.rows(np.flatnonzero(~odd)[:n])
    a = replace(a, background=np.full(n, _WHITE))
    b = combinations.rows(np.flatnonzero(odd & (combinations.background != _WHITE))[:n])
    return (draw(a, size, line=max(LINE, _STROKE * size)), a), (draw(b, size), b)


def check(size: int) -> None:
    """Checks an image size.

    Raises:
        LeafwingError: unsupported size.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise LeafwingError(f"--size {size}: sprite images have {MIN_SIZE} to {MAX_SIZE} pixels per side")


def _windows(scenes: Scenes, size: int, line: float) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]]:
    """Scenes of one shape and size at a time: their rows, the indices of their windows in (n, size, size), the coverage there."""
    fine = max(4, -(-_FINE // size))
    for shape in range(len(SHAPES)):
        for word, name in enumerate(SIZES):
            # At a star's tips an outline extends by 2.9 times half its width.
            width = min(size, int(np.ceil(2 * REACH * RADII[name][1] * size + 3 * line)) + 3)
            indices = np.flatnonzero((scenes.shape == shape) & (scenes.size == word))
            for start in range(0, len(indices), _CHUNK):
                rows = indices[start : start + _CHUNK]
                x, y = scenes.x[rows] * size, scenes.y[rows] * size
                corner = np.floor(np.stack([x, y], axis=1) - width / 2 + 0.5).clip(0, size - width).astype(np.int64)
                cover = patch(shape, x, y, scenes.radius[rows] * size, scenes.angle[rows], corner, width, fine, line)
                across, down = corner[:, :1] + np.arange(width), corner[:, 1:] + np.arange(width)
                yield rows, (rows[:, None, None], down[:, :, None], across[:, None, :]), cover

"""The scenes of the data set `sprites`, in numbers and words; shapes and pixels are defined elsewhere.

A scene is one sprite on a plain background. Six shapes, six colours, two sizes, nine places and four backgrounds are combined
freely; the exact position, size and rotation vary within a word. The ranges of two words never touch, so that an image can be
read without ambiguity.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from leafwing.errors import LeafwingError
from leafwing.sprites.shapes import REACH, SHAPES, keypoints, outline
from leafwing.sprites.words import BACKGROUNDS, COLOURS, PLACES, SIZES, TEMPLATES, WORDS, caption

RADII = {"small": (0.125, 0.15), "large": (0.185, 0.22)}
"""Minimum and maximum radius of each size, as a fraction of the image side."""
ANGLE = 20.0
"""Maximum rotation of sprites in degrees, either way; circles are not rotated, since it would be invisible."""
SHAPE_OF_WORDS = tuple(len(words) for words in WORDS.values())
COMBINATIONS = int(np.prod(SHAPE_OF_WORDS))
"""Number of combinations of words: 2,592."""

# Between these a coordinate is in the middle, outside it is left or right, top or bottom. Sprites keep a distance of `_GAP` to them.
THIRDS = (0.41, 0.59)
_GAP = 0.05
BETWEEN_SIZES = (RADII["small"][1] + RADII["large"][0]) / 2
_EDGE = 0.02  # minimum distance between a sprite and the image border
_ORDER, _X, _Y, _RADIUS, _ANGLE, _TEMPLATE, _CHANCE = range(7)


@dataclass(frozen=True)
class Scene:
    """One scene in words and numbers.

    Args:
        shape: a word of `SHAPES`.
        colour: a word of `COLOURS`.
        size: a word of `SIZES`.
        place: a word of `PLACES`.
        background: a word of `BACKGROUNDS`.
        x: the centroid's distance from the left edge, 0 to 1 as a fraction of the image side.
        y: the centroid's distance from the upper edge, 0 to 1.
        radius: as a fraction of the image side.
        angle: degrees, clockwise.
        caption: one sentence with all of the words.
    """

    shape: str
    colour: str
    size: str
    place: str
    background: str
    x: float
    y: float
    radius: float
    angle: float
    caption: str


@dataclass(frozen=True, eq=False)
class Scenes:
    """Many scenes: arrays of one length n. `scenes[3]` is a `Scene`, `scenes.rows(...)` a subset.

    Args:
        shape: int64 (n,), indices in `SHAPES`; it is also the label.
        colour: int64 (n,), indices in `COLOURS`.
        size: int64 (n,), indices in `SIZES`.
        place: int64 (n,), indices in `PLACES`.
        background: int64 (n,), indices in `BACKGROUNDS`.
        x: float64 (n,), as for `Scene`.
        y: float64 (n,).
        radius: float64 (n,).
        angle: float64 (n,), degrees.
        template: int64 (n,), indices in `TEMPLATES`.
        chance: float64 (n, 4) in [0, 1): random numbers of the scene, for derived fields such as a hole or a movement.
    """

    shape: np.ndarray
    colour: np.ndarray
    size: np.ndarray
    place: np.ndarray
    background: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    template: np.ndarray
    chance: np.ndarray

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.shape)

    def __getitem__(self, number: int) -> Scene:
        """One scene by index."""
        words = {part: names[int(getattr(self, part)[number])] for part, names in WORDS.items()}
        x, y, radius, angle = (float(getattr(self, name)[number]) for name in ("x", "y", "radius", "angle"))
        return Scene(**words, x=x, y=y, radius=radius, angle=angle, caption=caption(int(self.template[number]), words))

    def rows(self, rows: slice | np.ndarray) -> Scenes:
        """A subset of the scenes, by a slice, a mask or indices."""
        return Scenes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @property
    def combination(self) -> np.ndarray:
        """Index of each scene's combination of words: int64 (n,), 0 to 2,591."""
        return np.ravel_multi_index(tuple(getattr(self, part) for part in WORDS), SHAPE_OF_WORDS)

    @property
    def attributes(self) -> np.ndarray:
        """Binary attributes, one column per word of `ATTRIBUTES`: uint8 (n, 23).

        `middle` is 1 if no other word of place is.
        """
        across, down = self.place % 3, self.place // 3
        where = (down == 0, down == 2, across == 0, across == 2, self.place == PLACES.index("middle"))
        return np.concatenate(
            [
                np.eye(len(SHAPES), dtype=np.uint8)[self.shape],
                np.eye(len(COLOURS), dtype=np.uint8)[self.colour],
                np.eye(len(SIZES), dtype=np.uint8)[self.size],
                np.stack(where, axis=1).astype(np.uint8),
                np.eye(len(BACKGROUNDS), dtype=np.uint8)[self.background],
            ],
            axis=1,
        )

    @property
    def captions(self) -> np.ndarray:
        """One sentence per scene, with all five words: an array of str (n,)."""
        rows = zip(self.template.tolist(), *(getattr(self, part).tolist() for part in WORDS), strict=True)
        sentences = [
            caption(template, {part: WORDS[part][code] for part, code in zip(WORDS, codes, strict=True)})
            for template, *codes in rows
        ]
        return np.array(sentences, dtype=np.str_)

    def box(self, size: int) -> np.ndarray:
        """Axis-aligned bounding boxes: float32 (n, 4), left, top, width and height in pixels of an image of `size`.

        Not rounded: a pixel in column i covers i to i + 1.
        """
        boxes = np.empty((len(self), 4), np.float32)
        for shape in range(len(SHAPES)):
            rows = np.flatnonzero(self.shape == shape)
            corners = self._transform(rows, outline(shape))
            low, high = corners.min(axis=1), corners.max(axis=1)
            boxes[rows] = np.concatenate([low, high - low], axis=1) * size
        return boxes

    def keypoints(self, size: int) -> np.ndarray:
        """Centre, top, right, bottom, left of each sprite: float32 (n, 5, 3), x and y in pixels, and 1 if visible.

        They rotate with the sprite. All are visible, because a single sprite is not occluded and stays inside the image.
        """
        points = np.ones((len(self), 5, 3), np.float32)
        for shape in range(len(SHAPES)):
            rows = np.flatnonzero(self.shape == shape)
            points[rows, :, :2] = self._transform(rows, keypoints(shape)) * size
        return points

    def _transform(self, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Points (k, 2) in one shape's coordinates -> (rows, k, 2) as fractions of the image side."""
        turn = np.radians(self.angle[rows, None])
        cos, sin, (u, v) = np.cos(turn), np.sin(turn), points.T
        rotated = np.stack([u * cos - v * sin, u * sin + v * cos], axis=2) * self.radius[rows, None, None]
        return rotated + np.stack([self.x[rows], self.y[rows]], axis=1)[:, None]


def scenes(n: int, seed: int = 0) -> Scenes:
    """The first n scenes of a seed's infinite sequence.

    Every block of 2,592 scenes contains every combination of words once, in a new order. A longer sequence starts with every
    shorter one.

    Args:
        n: number of scenes; 0 or more.
        seed: 0 or more.

    Raises:
        LeafwingError: a negative number.
    """
    if n < 0 or seed < 0:
        raise LeafwingError(f"scenes(n={n}, seed={seed}): neither may be negative.")
    blocks = -(-n // COMBINATIONS)
    order = np.concatenate(
        [
            np.empty(0, np.int64),
            *(np.argsort(_bits(seed, _ORDER, COMBINATIONS, block), kind="stable") for block in range(blocks)),
        ]
    )
    shape, colour, size, place, background = np.unravel_index(order[:n], SHAPE_OF_WORDS)
    low, high = np.array(list(RADII.values()))[size].T
    radius = low + (high - low) * _uniform(seed, _RADIUS, n)
    return Scenes(
        shape=shape,
        colour=colour,
        size=size,
        place=place,
        background=background,
        x=_coordinate(place % 3, radius, _uniform(seed, _X, n)),
        y=_coordinate(place // 3, radius, _uniform(seed, _Y, n)),
        radius=radius,
        angle=np.where(shape == 0, 0.0, ANGLE * (2 * _uniform(seed, _ANGLE, n) - 1)),
        template=(_bits(seed, _TEMPLATE, n) % np.uint64(len(TEMPLATES))).astype(np.int64),
        chance=_uniform(seed, _CHANCE, 4 * n).reshape(n, 4),
    )


def margin(radius: np.ndarray) -> np.ndarray:
    """Minimum distance of a centroid from the image border, for any shape and angle; float64 (n,), fractions of the image side."""
    return REACH * radius + _EDGE


def place_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The place of each centroid: int64 (n,), indices in `PLACES`; `x` and `y` as fractions of the image side."""
    return 3 * np.digitize(y, THIRDS) + np.digitize(x, THIRDS)


def move(scenes: Scenes, x: np.ndarray, y: np.ndarray) -> Scenes:
    """Moves sprites to other centroids, float64 (n,) each; `place` is updated."""
    return replace(scenes, x=x, y=y, place=place_of(x, y))


def _coordinate(third: np.ndarray, radius: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The coordinate of a centroid in a third (0, 1, 2), at a fraction `share` of the way from its outer to its inner end."""
    outer, inner = margin(radius), THIRDS[0] - _GAP
    near = outer + (inner - outer) * share
    middle = THIRDS[0] + _GAP + (THIRDS[1] - THIRDS[0] - 2 * _GAP) * share
    return np.choose(third, [near, middle, 1 - near])


def _bits(seed: int, purpose: int, n: int, block: int = 0) -> np.ndarray:
    """n random words of 64 bits. numpy guarantees the raw stream of Philox across versions, but not what is derived from it."""
    words = np.random.Philox(np.random.SeedSequence((seed, block, purpose))).random_raw(n)
    return np.asarray(words, dtype=np.uint64)


def _uniform(seed: int, purpose: int, n: int) -> np.ndarray:
    """n numbers in [0, 1), from the upper 53 bits of the stream."""
    return (_bits(seed, purpose, n) >> np.uint64(11)) * 2.0**-53

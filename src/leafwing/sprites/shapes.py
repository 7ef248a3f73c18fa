"""The six shapes: their signed distances, outlines and key points. Vocabulary and pixels are defined elsewhere.

A shape has its own coordinates: its centroid is the origin, u points right, v points down, and the unit is the sprite's radius.
The units are chosen so that shapes of equal radius look equally large; no point is further than `REACH` from the centroid.
"""

from __future__ import annotations

import math

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
"""A shape's label is its index here."""
KEYPOINTS = ("centre", "top", "right", "bottom", "left")
"""Names of the key points, in order."""
REACH = 1.25
"""Maximum distance of any shape's points from its centroid, in radii."""

_SQUARE = 0.88  # half the side
_CORNER = 1.25  # circumradius of triangle and star
_NOTCH = 0.42  # a star's inner radius, as a fraction of its outer one
_ARM, _THICK = 1.15, 0.38  # length and half-width of a cross's arms
# A heart is a square standing on its corner, with sides 2 a, and a half disc of radius a on each upper side. `_DROP` is the distance
# of the square's centre below the centroid.
_LOBE = 0.67
_DROP = _LOBE * (math.pi / math.sqrt(2) + 4 / 3 / math.sqrt(2)) / (4 + math.pi)

AREAS = (
    math.pi,
    4 * _SQUARE**2,
    3 * math.sqrt(3) / 4 * _CORNER**2,
    5 * math.sin(math.pi / 5) * _NOTCH * _CORNER**2,
    4 * (2 * _ARM * _THICK - _THICK**2),
    (4 + math.pi) * _LOBE**2,
)
"""Areas in squared radii."""

Array = np.ndarray


def distance(shape: int, u: Array, v: Array) -> Array:
    """Signed distance of points from a shape, in radii; negative inside.

    Exact near smooth outlines and straight sides; straight sides are extended past convex corners, so that a band around the
    outline keeps sharp corners.

    Args:
        shape: an index in `SHAPES`.
        u: an array of any shape; positive to the right.
        v: an array of the same shape; positive downwards.
    """
    return (_circle, _square, _triangle, _star, _cross, _heart)[shape](u, v)


def outline(shape: int) -> Array:
    """Points of the outline with the convex hull of the shape, accurate to 1/10,000 of a radius: float64 (points, 2)."""
    if shape == 0:
        return _arc(0, 360, 1.0)
    if shape == 1:
        return _SQUARE * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    if shape == 2:
        return _arc(-90, 270, _CORNER, 4)[:-1]
    if shape == 3:
        return _arc(-90, 270, _CORNER, 6)[:-1]
    if shape == 4:
        ends = np.array([(_ARM, _THICK), (_ARM, -_THICK), (-_ARM, _THICK), (-_ARM, -_THICK)])
        return np.concatenate([ends, ends[:, ::-1]])
    side = _LOBE / math.sqrt(2)
    right = _arc(-135, 45, _LOBE) + np.array([side, _DROP - side])
    return np.concatenate([right, right * (-1, 1), [(0, _DROP + 2 * side)]])


def keypoints(shape: int) -> Array:
    """The `KEYPOINTS` of a shape: float64 (5, 2). All but the centre are on its outline.

    They are fixed to the shape and rotate with it: tips of a star, the notch and the point of a heart, the middle of a square's sides.
    """
    centre = (0.0, 0.0)
    if shape in (0, 1, 4):
        far = (1.0, _SQUARE, 0.0, 0.0, _ARM)[shape]
        return np.array([centre, (0, -far), (far, 0), (0, far), (-far, 0)])
    if shape == 2:
        x, y = _CORNER * math.sqrt(3) / 2, _CORNER / 2
        return np.array([centre, (0, -_CORNER), (x, y), (0, y), (-x, y)])
    if shape == 3:
        x, y = _CORNER * math.cos(math.pi / 10), -_CORNER * math.sin(math.pi / 10)
        return np.array([centre, (0, -_CORNER), (x, y), (0, _CORNER * _NOTCH), (-x, y)])
    side = _LOBE / math.sqrt(2)
    top, right, bottom = _DROP - 2 * side, (side + _LOBE, _DROP - side), _DROP + 2 * side
    return np.array([centre, (0, top), right, (0, bottom), (-right[0], right[1])])


def _arc(start: float, end: float, radius: float, points: int = 361) -> Array:
    turns = np.radians(np.linspace(start, end, points))
    return radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _circle(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v) - 1


def _square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - _SQUARE


def _triangle(u: Array, v: Array) -> Array:
    return np.maximum(v, np.abs(u) * (math.sqrt(3) / 2) - v / 2) - _CORNER / 2


def _star(u: Array, v: Array) -> Array:
    # Folded along three of its symmetry axes, a star is half of one tip: a single side.
    cos, sin = math.cos(math.pi / 5), math.sin(math.pi / 5)
    u, v = np.abs(u), -v
    over = 2 * np.maximum(cos * u - sin * v, 0)
    u, v = u - over * cos, v + over * sin
    over = 2 * np.maximum(-cos * u - sin * v, 0)
    u, v = np.abs(u + over * cos), v + over * sin - _CORNER
    along, down = _NOTCH * sin, _NOTCH * cos - 1
    return (v * along - u * down) / math.hypot(along, down)


def _cross(u: Array, v: Array) -> Array:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - _ARM, np.minimum(u, v) - _THICK)


def _heart(u: Array, v: Array) -> Array:
    u, v, side = np.abs(u), v - _DROP, _LOBE / math.sqrt(2)
    lobe = np.sqrt((u - side) ** 2 + (v + side) ** 2) - _LOBE
    return np.minimum((u + np.abs(v)) / math.sqrt(2) - _LOBE, lobe)

"""Rendering of sprites, compared with fine samples of polygons; masks and movements, compared with the images."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from leafwing.errors import LeafwingError
from leafwing.sprites import draw
from leafwing.sprites.scene import COMBINATIONS, Scenes, scenes
from leafwing.sprites.shapes import AREAS, REACH, SHAPES, distance, keypoints, outline
from leafwing.sprites.words import BACKGROUND_RGB, BACKGROUNDS, COLOUR_RGB


def spread(n: int, seed: int = 5) -> Scenes:
    """n scenes, with every shape in both sizes equally often."""
    every = scenes(COMBINATIONS, seed)
    kinds = [np.flatnonzero((every.shape == i % 6) & (every.size == i // 6 % 2))[i] for i in range(n)]
    return every.rows(np.array(kinds))


def polygon(shape: str) -> np.ndarray:
    """The corners of a shape with straight sides, computed independently."""
    if shape == "square":
        return 0.88 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if shape == "cross":
        a, b = 1.15, 0.38
        return np.array(
            [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b)]
        )
    points = {"triangle": 3, "star": 10}[shape]
    turns = 2 * np.pi * np.arange(points) / points - np.pi / 2
    far = np.where((np.arange(points) % 2 == 1) & (points == 10), 0.42 * 1.25, 1.25)
    return np.stack([far * np.cos(turns), far * np.sin(turns)], axis=1)


def inside(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points are inside a shape: by crossings with a polygon's sides, or for circle and heart by their parts."""
    if shape == "circle":
        return np.hypot(u, v) < 1
    if shape == "heart":
        drop = 0.67 * (np.pi + 4 / 3) / np.sqrt(2) / (4 + np.pi)
        side = 0.67 / np.sqrt(2)
        lobes = np.hypot(np.abs(u) - side, v - drop + side) < 0.67
        return lobes | (np.abs(u) + np.abs(v - drop) < 2 * side)
    result = np.zeros(u.shape, bool)
    corners = polygon(shape)
    for (a, b), (c, d) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if b != d:
            result ^= ((b > v) != (d > v)) & (u < (c - a) * (v - b) / (d - b) + a)
    return result


def reference(sample: Scenes, number: int, size: int) -> np.ndarray:
    """The share of each pixel that a sprite covers, from 16x16 samples per pixel."""
    fine = (np.arange(16 * size) + 0.5) / (16 * size)
    x, y = (fine - sample.x[number]) / sample.radius[number], (fine[:, None] - sample.y[number]) / sample.radius[number]
    turn = np.radians(sample.angle[number])
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return inside(SHAPES[sample.shape[number]], u, v).reshape(size, 16, size, 16).mean(axis=(1, 3))


@pytest.mark.parametrize(("size", "most"), [(16, 0.03), (31, 0.04), (64, 0.04), (128, 0.04)])
def test_pixels_are_mixed_by_their_coverage(size: int, most: float) -> None:
    sample = spread(12)
    cover, images = draw.coverage(sample, size), draw.draw(sample, size).astype(float)
    for number in range(len(sample)):
        expected = reference(sample, number, size)
        assert np.abs(cover[number] - expected).max() < most
        assert abs(cover[number].sum() / expected.sum() - 1) < 0.003
        ground, paint = BACKGROUND_RGB[sample.background[number]], COLOUR_RGB[sample.colour[number]]
        assert np.abs(images[number] - ground - cover[number][..., None] * (paint - ground)).max() <= 0.51


def test_images_never_change() -> None:
    sample = scenes(100, seed=0)
    data = b"".join(draw.draw(sample, size).tobytes() for size in (16, 32, 64))
    assert hashlib.sha256(data).hexdigest() == "fb5fe0279cc7f053f6d6e13afeecec249f37660d2f19adcaea0b8915e9dfe47b"
    assert np.array_equal(draw.draw(sample.rows(slice(40, 50)), 32), draw.draw(sample, 32)[40:50]), "images are independent"


def test_shapes_have_their_centroid_area_and_reach() -> None:
    fine = (np.arange(1024) + 0.5) / 1024 * 3 - 1.5
    u, v = np.meshgrid(fine, fine)
    for shape, name in enumerate(SHAPES):
        covered = inside(name, u, v)
        assert np.array_equal(covered, distance(shape, u, v) < 0), name
        assert covered.mean() * 9 == pytest.approx(AREAS[shape], rel=0.005)
        assert abs(u[covered].mean()) < 1e-3
        assert abs(v[covered].mean()) < 1e-3
        assert np.hypot(u, v)[covered].max() < REACH
        edge = np.concatenate([outline(shape), keypoints(shape)[1:]])
        assert np.abs(distance(shape, *edge.T)).max() < 1e-9


@pytest.mark.parametrize("size", [16, 32, 100])
def test_boxes_hold_exactly_what_differs_from_the_background(size: int) -> None:
    sample = scenes(300, seed=2)
    differs = (draw.draw(sample, size) != BACKGROUND_RGB[sample.background].astype(np.uint8)[:, None, None]).any(axis=3)
    for mask, (left, top, width, height) in zip(differs, sample.box(size), strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        actual = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        box = np.array([left, top, left + width, top + height])
        assert box.min() > 0
        assert box.max() < size
        # A tiny part of a sprite in a pixel may not change its colour, and the soft edge may change the next pixel.
        pixels = np.concatenate([np.floor(box[:2]), np.ceil(box[2:])])
        assert np.abs(actual - pixels).max() <= 1


def test_key_points_lie_in_the_sprite() -> None:
    sample = spread(60)
    points = sample.keypoints(64)
    assert (points.shape, points.dtype) == ((60, 5, 3), np.float32)
    assert (points[:, :, 2] == 1).all()
    assert np.allclose(points[:, 0, :2], np.stack([sample.x, sample.y], axis=1) * 64, atol=1e-4)
    cover = draw.coverage(sample, 64)
    for number in range(len(sample)):
        # Slightly towards the centre the pixel is covered at least in part; further out there is nothing.
        centre, edge = points[number, 0, :2], points[number, 1:, :2]
        direction = (edge - centre) / np.linalg.norm(edge - centre, axis=1, keepdims=True)
        column, row = np.floor(edge - 0.8 * direction).astype(int).T
        assert (cover[number, row, column] > 0).all()
        column, row = np.floor(edge + 2 * direction).astype(int).T.clip(0, 63)
        assert (cover[number, row, column] < 0.1).all()


def test_key_points_rotate_with_the_sprite() -> None:
    sample = spread(60)
    points = sample.keypoints(64)[:, :, :2].astype(float)
    pointed_up = np.isin(sample.shape, (1, 2, 3, 4))
    up = points[pointed_up, 1] - points[pointed_up, 0]
    assert np.allclose(np.degrees(np.arctan2(up[:, 0], -up[:, 1])), sample.angle[pointed_up], atol=0.01)
    _, top, right, bottom, left = points.swapaxes(0, 1)
    assert (left[:, 0] < np.minimum(top[:, 0], bottom[:, 0])).all()
    assert (right[:, 0] > np.maximum(top[:, 0], bottom[:, 0])).all()
    assert (top[:, 1] < bottom[:, 1]).all()


def test_segmentation_agrees_with_the_image() -> None:
    sample = scenes(100, seed=4)
    images, masks = draw.draw(sample, 32).astype(float), draw.segmentation(sample, 32)
    assert masks.dtype == np.uint8
    for number in range(len(sample)):
        ground, paint = BACKGROUND_RGB[sample.background[number]], COLOUR_RGB[sample.colour[number]]
        nearer = np.linalg.norm(images[number] - paint, axis=2) - np.linalg.norm(images[number] - ground, axis=2)
        clear = np.abs(nearer) > 4
        assert set(np.unique(masks[number])) == {0, sample.shape[number] + 1}
        assert np.array_equal((masks[number] > 0)[clear], (nearer < 0)[clear])


def test_edges_lie_on_the_outline() -> None:
    sample = spread(60)
    lines, cover = draw.edges(sample, 64)[..., 0] / 255, draw.coverage(sample, 64)
    for number in range(len(sample)):
        x, y = ((np.arange(64) + 0.5) - centre[number] * 64 for centre in (sample.x, sample.y))
        turn, scale = np.radians(sample.angle[number]), sample.radius[number] * 64
        u, v = (x * np.cos(turn) + y[:, None] * np.sin(turn)) / scale, (y[:, None] * np.cos(turn) - x * np.sin(turn)) / scale
        away = np.abs(distance(sample.shape[number], u, v)) * scale
        assert (lines[number][away > 1.5] == 0).all()
        assert (lines[number][away < 0.1] > 0.6).all()
        mixed = (cover[number] > 0.2) & (cover[number] < 0.8)
        assert (lines[number][mixed] > 0.4).all()
        # The sum is that of a line of this width along the whole outline.
        around = ((away < 2).sum()) / 4
        assert lines[number].sum() == pytest.approx(draw.LINE * around, rel=0.15)


def test_low_resolution_images_are_means() -> None:
    sample = spread(12)
    full, small = draw.draw(sample, 64).astype(float), draw.low(sample, 64)
    assert (small.shape, small.dtype) == ((12, 16, 16, 3), np.uint8)
    assert np.abs(full.reshape(12, 16, 4, 16, 4, 3).mean(axis=(2, 4)) - small).max() <= 0.5
    assert np.abs(small.astype(float) - draw.draw(sample, 16)).max() < 8


def test_holes_cover_the_sprite_and_little_else() -> None:
    sample = scenes(400, seed=6)
    masks, cover = draw.hole(sample, 32)[..., 0], draw.coverage(sample, 32)
    assert masks.dtype == np.uint8
    assert not cover[masks == 0].any()
    sides = np.stack([masks.any(axis=1).sum(axis=1), masks.any(axis=2).sum(axis=1)])
    assert np.array_equal(sides.prod(axis=0), masks.sum(axis=(1, 2))), "a box"
    assert sides.max() < 32
    more = sides - np.ceil(sample.box(32)[:, 2:].T)
    assert more.min() >= 1
    assert len(set(more[0])) > 6, "holes differ"
    # The sprite is not always in the middle of the hole.
    middle = np.stack([masks.any(axis=1) @ np.arange(32.0), masks.any(axis=2) @ np.arange(32.0)]) / sides + 0.5
    assert np.abs(middle - np.stack([sample.x, sample.y]) * 32).max() > 3


def test_a_clip_moves_along_a_line_and_stays_inside() -> None:
    sample = scenes(50, seed=8)
    frames = draw.clip(sample, 32, 6)
    assert (frames.shape, frames.dtype) == ((50, 6, 32, 32, 3), np.uint8)
    assert np.array_equal(frames[:, 0], draw.draw(sample, 32))
    ground = BACKGROUND_RGB[sample.background].astype(np.uint8)[:, None, None]
    covered = (frames != ground[:, :, None]).any(axis=4)
    assert not covered[:, :, [0, -1]].all(axis=3).any()
    covered_once = covered.any(axis=1)
    still = np.broadcast_to(ground[:, None], frames.shape)
    assert np.array_equal(
        frames[~np.broadcast_to(covered_once[:, None], covered.shape)],
        still[~np.broadcast_to(covered_once[:, None], covered.shape)],
    )
    x, y = draw.movement(sample, 6)
    weights = np.abs(frames.astype(float) - still).sum(axis=4)
    pixels = (np.arange(32) + 0.5) / 32
    centroids = np.stack([weights.sum(axis=2) @ pixels, weights.sum(axis=3) @ pixels]) / weights.sum(axis=(2, 3))
    assert np.abs(centroids - np.stack([x, y])).max() < 0.1 / 32
    steps = np.diff(np.stack([x, y]), axis=2)
    assert np.allclose(steps, steps[:, :, :1])
    assert np.abs(steps.sum(axis=2)).min() > 0.08
    # No sprite is cut off: its area is the same in each frame.
    ink = weights.sum(axis=(2, 3))
    assert np.allclose(ink, ink[:, :1], rtol=0.01)
    assert np.array_equal(draw.clip(sample, 32, 1)[:, 0], frames[:, 0])


def test_domains_share_no_sprite() -> None:
    (outlines, a), (filled, b) = draw.domains(500, 32, seed=1)
    assert outlines.shape == filled.shape == (500, 32, 32, 3)
    white = list(BACKGROUNDS).index("white")
    assert set(a.background) == {white}
    assert white not in set(b.background)
    words = [
        set(zip(*(getattr(domain, part).tolist() for part in ("shape", "colour", "size", "place")), strict=True))
        for domain in (a, b)
    ]
    assert not words[0] & words[1]
    sums = [domain.shape + domain.colour + domain.size + domain.place for domain in (a, b)]
    assert [set(numbers % 2) for numbers in sums] == [{0}, {1}], "as in the packs of earlier runs"
    for domain in (a, b):
        assert len(domain) == 500
        for part, count in (("shape", 6), ("colour", 6), ("size", 2), ("place", 9)):
            shares = np.bincount(getattr(domain, part), minlength=count) / 500 * count
            assert 0.6 < shares.min() <= shares.max() < 1.4
    assert np.array_equal(filled, draw.draw(b, 32))
    # An outline is hollow: the centroid of a large circle, square or heart is white.
    hollow = np.flatnonzero((a.size == 1) & np.isin(a.shape, (0, 1, 5)))
    row, column = (a.y[hollow] * 32).astype(int), (a.x[hollow] * 32).astype(int)
    assert (outlines[hollow, row, column] == 245).all()
    assert [len(part[1]) for part in draw.domains(0, 32)] == [0, 0]


@pytest.mark.parametrize("size", [15, 129, 0])
@pytest.mark.parametrize("make", [draw.draw, draw.coverage, draw.segmentation, draw.edges, draw.hole, draw.clip])
def test_unsupported_sizes_are_refused(make: object, size: int) -> None:
    assert callable(make)
    with pytest.raises(LeafwingError, match=f"--size {size}: .*16 to 128 pixels"):
        make(scenes(2), size)


def test_other_invalid_arguments_are_refused() -> None:
    with pytest.raises(LeafwingError, match="multiple of 4"):
        draw.low(scenes(2), 18)
    with pytest.raises(LeafwingError, match="at least one frame, not 0"):
        draw.clip(scenes(2), 16, 0)
    with pytest.raises(LeafwingError, match="negative"):
        draw.domains(-1, 16)

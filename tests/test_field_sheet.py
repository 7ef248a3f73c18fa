"""Sheets of samples with all of their fields: what is drawn where."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow

from leafwing import pictures
from leafwing.field_sheet import (
    CELL,
    GAP,
    LINE,
    MARGIN,
    MAX_CELL,
    MAX_HEIGHT,
    MAX_SAMPLES,
    MAX_WIDTH,
    sheet,
    side_by_side,
)
from leafwing.fields import Attributes, Box, Caption, Clip, Field, Image, Keypoints, Label, Mask, Segmentation, Vector

GREY = 100


def colour(index: int) -> tuple[int, ...]:
    """The colour of a class."""
    return tuple(pictures.PALETTE[index].tolist())


def images(n: int = 1, side: int = 16, channels: int = 3) -> np.ndarray:
    return np.full((n, side, side, channels), GREY, np.uint8)


def cell(image: Pillow.Image, column: int, row: int = 0, side: int = CELL) -> np.ndarray:
    """One cell of the first block, (side, side, 3)."""
    left, top = MARGIN + column * (side + GAP), MARGIN + LINE + row * (LINE + side + GAP)
    return np.asarray(image)[top : top + side, left : left + side].astype(int)


def draw(fields: dict[str, Field], **samples: np.ndarray) -> Pillow.Image:
    return sheet({"image": Image(16, 16, 3), **fields}, {"image": images(), **samples})


def inner(pixels: np.ndarray) -> np.ndarray:
    """Without the frame."""
    return pixels[1:-1, 1:-1]


def test_images_are_enlarged_and_others_fill_the_same_cell() -> None:
    low = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1) * 10
    drawn = draw({"low": Image(4, 4, 1)}, low=low)
    assert (inner(cell(drawn, 0)) == GREY).all()
    expected = low[0].repeat(CELL // 4, 0).repeat(CELL // 4, 1).repeat(3, 2)
    assert np.array_equal(inner(cell(drawn, 1)), inner(expected))


@pytest.mark.parametrize(("channels", "expected"), [(1, GREY), (2, round(GREY * GREY / 255 + 255 - GREY)), (4, 194)])
def test_every_number_of_channels_is_drawn_on_white(channels: int, expected: int) -> None:
    drawn = sheet({"image": Image(16, 16, channels)}, {"image": images(channels=channels)})
    assert np.abs(inner(cell(drawn, 0)) - expected).max() <= 1


def test_large_images_are_reduced() -> None:
    drawn = sheet({"image": Image(1024, 512)}, {"image": np.full((1, 1024, 512, 3), GREY, np.uint8)})
    assert drawn.height < MAX_CELL + 80
    assert (cell(drawn, 0, side=MAX_CELL)[1:-1, 1 : MAX_CELL // 2 - 1] == GREY).all()


def test_boxes_are_outlined_where_they_are() -> None:
    drawn = cell(draw({"box": Box()}, box=np.array([[0.25, 0.5, 0.5, 0.25]], np.float32)), 1)
    rows, columns = np.nonzero((drawn == [255, 221, 0]).all(2))
    quarter = CELL // 4
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (quarter, 2 * quarter, 3 * quarter - 1, 3 * quarter - 1)
    assert (drawn[rows.min() + 3 : rows.max() - 2, columns.min() + 3 : columns.max() - 2] == GREY).all()


def test_visible_key_points_are_dots_in_the_colours_of_the_legend() -> None:
    points = np.array([[[0.25, 0.5, 1], [0.75, 0.5, 1], [0.5, 0.25, 0]]], np.float32)
    image = draw({"keypoints": Keypoints(("nose", "left_eye", "tail"))}, keypoints=points)
    drawn, quarter = cell(image, 1), CELL // 4
    assert tuple(drawn[2 * quarter, quarter]) == colour(1)
    assert tuple(drawn[2 * quarter, 3 * quarter]) == colour(2)
    assert (drawn[quarter, 2 * quarter] == GREY).all(), "hidden"
    legend = np.asarray(image)[MARGIN + 2 * LINE + CELL :].reshape(-1, 3)
    for index in (1, 2, 3):
        assert (legend == colour(index)).all(1).sum() > 100


def test_boxes_and_key_points_share_a_drawing() -> None:
    samples = {"box": np.array([[0.1, 0.1, 0.8, 0.8]], np.float32), "points": np.array([[[0.5, 0.5, 1]]], np.float32)}
    drawn = draw({"box": Box(), "points": Keypoints(("centre",)), "other": Image(16, 16, 3)}, **samples, other=images())
    assert (inner(cell(drawn, 0)) == GREY).all()
    assert (inner(cell(drawn, 1)) == GREY).all()
    both = cell(drawn, 2)
    assert tuple(both[CELL // 2, CELL // 2]) == colour(1)
    assert (both == [255, 221, 0]).all(2).any()


def test_masks_tint_the_image_and_segmentations_cover_it() -> None:
    mask = np.zeros((1, 16, 16, 1), np.uint8)
    mask[:, :, :8] = 1
    classes = mask[..., 0] * 2
    kinds: dict[str, Field] = {"hole": Mask(16, 16), "parts": Segmentation(16, 16, ("sky", "sea", "land"))}
    drawn = draw(kinds, hole=mask, parts=classes)
    hole, parts = cell(drawn, 1), cell(drawn, 2)
    half = CELL // 2
    assert (hole[1:-1, half:-1] == GREY).all(), "outside the mask"
    assert len({tuple(pixel) for pixel in hole[1:-1, 1:half].reshape(-1, 3)}) == 1
    assert not (hole[1:-1, 1:half] == GREY).all(2).any()
    tints = [parts[half, half // 2], parts[half, half + half // 2]]
    for tint, index in zip(tints, (2, 0), strict=True):
        assert np.abs(tint - (0.7 * np.array(colour(index)) + 0.3 * GREY)).max() <= 2


def test_clips_are_strips_of_frames() -> None:
    clip = np.arange(20, dtype=np.uint8)[None, :, None, None, None].repeat(16, 2).repeat(16, 3).repeat(3, 4) * 10
    drawn = draw({"clip": Clip(20, 16, 16)}, clip=clip)
    levels = [int(cell(drawn, column, 1)[CELL // 2, CELL // 2, 0]) for column in range(8)]
    assert levels == [0, 30, 50, 80, 110, 140, 160, 190], "evenly spaced, with the first and the last"
    short = draw({"clip": Clip(2, 16, 16)}, clip=clip[:, :2])
    assert [int(cell(short, column, 1)[CELL // 2, CELL // 2, 0]) for column in range(2)] == [0, 10]


TEXTS: list[tuple[Field, np.ndarray]] = [
    (Label(("cat", "dog")), np.array([1])),
    (Attributes(("smiling", "colour=red")), np.array([[0, 1]], np.uint8)),
    (Caption(("a", "star"), 3), np.array([[1, 2, 0]])),
    (Caption(("a", "star"), 3), np.array([[[1, 2, 0], [2, 0, 0]]])),
    (Vector(2), np.array([[0.5, 1.25]], np.float32)),
]


@pytest.mark.parametrize(("kind", "stored"), TEXTS)
def test_other_fields_are_written_below(kind: Field, stored: np.ndarray) -> None:
    plain, drawn = draw({}), draw({"field": kind}, field=stored)
    assert drawn.height == plain.height + LINE
    below = np.asarray(drawn)[MARGIN + LINE + CELL + GAP :]
    assert (below < 100).any()
    other = draw({"field": kind}, field=stored * 0)
    assert not np.array_equal(np.asarray(drawn), np.asarray(other)), "the text is that of the sample"


def test_long_captions_are_wrapped() -> None:
    words = tuple(f"word{i}" for i in range(30))
    drawn = draw({"caption": Caption(words, 30)}, caption=np.arange(1, 31)[None])
    assert drawn.width == draw({}).width
    assert drawn.height > draw({}).height + 5 * LINE


def test_as_many_samples_are_drawn_as_fit() -> None:
    few = sheet({"image": Image(16, 16)}, {"image": images(3)})
    many = sheet({"image": Image(16, 16)}, {"image": images(100)})
    assert few.width < many.width <= MAX_WIDTH
    assert (
        many.height
        == -(-MAX_SAMPLES // ((MAX_WIDTH - 2 * MARGIN) // (200 + MARGIN))) * (LINE + CELL + GAP + MARGIN) + MARGIN + 1
    )
    clips = np.zeros((30, 8, 256, 256, 3), np.uint8)
    tall = sheet({"image": Image(256, 256), "clip": Clip(8, 256, 256)}, {"image": images(30, 256), "clip": clips})
    assert tall.height <= MAX_HEIGHT + 2 * MARGIN


def test_drawings_are_placed_side_by_side_with_titles() -> None:
    red, grey = Pillow.new("RGB", (30, 20), "red"), Pillow.new("L", (10, 40), GREY)
    both = np.asarray(side_by_side([("a", red), ("a longer title", grey)]))
    assert ((both == [255, 0, 0]).all(2)).sum() == 600
    assert ((both == GREY).all(2)).sum() >= 400
    assert both.shape[0] == 40 + LINE + GAP + 2 * MARGIN


def test_colours_of_classes_differ() -> None:
    assert len({colour(index) for index in range(256)}) == 256


@pytest.mark.parametrize("side", [100, 140])
def test_images_of_about_the_size_of_a_cell_are_drawn_as_they_are(side: int) -> None:
    columns = np.tile(np.arange(side, dtype=np.uint8)[None, None, :, None], (1, side, 1, 3))
    drawn = np.asarray(sheet({"image": Image(side, side, 3)}, {"image": columns}))
    rows = drawn[MARGIN + LINE + side // 2, MARGIN : MARGIN + side, 0]
    assert rows[1:-1].tolist() == [*range(side)][1:-1], "within the frame"

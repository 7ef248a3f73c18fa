"""Sheets: where images and texts are, how far small images are enlarged, and exact sizes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from leafwing import layout
from leafwing.errors import LeafwingError
from leafwing.layout import GAP, LINE, MAX_NAME, MIN_TEXT, PAPER


def block(colour: str = "red", width: int = 100, height: int = 80) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def has_text(sheet: Image.Image, left: int, top: int, width: int, height: int) -> bool:
    return bool(np.asarray(sheet.convert("L"))[top : top + height, left : left + width].min() < 100)


def test_rows_may_be_of_different_lengths_and_what_is_empty_is_light() -> None:
    sheet = layout.arrange([[block(), block()], [block("blue")]])
    assert sheet.size == (2 * 100 + 3 * GAP, 2 * 80 + 3 * GAP)
    assert sheet.getpixel((GAP, GAP)) == (255, 0, 0)
    assert sheet.getpixel((GAP, 2 * GAP + 80)) == (0, 0, 255)
    empty = np.asarray(sheet)[GAP + 80 :, 2 * GAP + 100 :]
    assert (empty == PAPER).all()


def test_transparency_is_on_white() -> None:
    sheet = layout.arrange([[Image.new("RGBA", (10, 10), (0, 0, 0, 0))]], gap=0)
    assert {*np.unique(sheet)} == {255}


def test_titles_names_texts_and_captions_have_their_places() -> None:
    plain = layout.arrange([[block(), block()]])
    titled = layout.arrange([[block(), block()]], titles=["left", "right"])
    assert titled.size == (plain.width, plain.height + LINE)
    assert has_text(titled, GAP, 0, 40, LINE + GAP)
    assert has_text(titled, 2 * GAP + 100, 0, 40, LINE + GAP)
    named = layout.arrange([[block(), block()]], names=["dog"])
    assert named.height == plain.height
    assert has_text(named, 0, 0, named.width - plain.width, named.height)
    below = layout.arrange([[block(), block()]], texts=[["", "dog"]])
    assert below.size == (plain.width, plain.height + LINE)
    assert not has_text(below, GAP, GAP + 80, 100, LINE)
    assert has_text(below, 2 * GAP + 100, GAP + 80, 100, LINE)
    captioned = layout.arrange([[block(), block()]], captions=["what it shows " * 4])
    assert captioned.height == plain.height + 2 * LINE + 2 * GAP


def test_columns_are_wide_enough_for_short_texts_and_titles_only() -> None:
    tiny = block(width=8, height=8)
    assert layout.arrange([[tiny]], texts=[["seven"]]).width > 2 * GAP + 25
    assert layout.arrange([[tiny]], texts=[["seven " * 9]]).width == 2 * GAP + MIN_TEXT
    long_name = layout.arrange([[tiny]], names=["seven" * 20])
    assert long_name.width == 4 * GAP + MAX_NAME + 8


def test_long_texts_are_wrapped_and_cut() -> None:
    assert layout.wrap("word " * 2, 100) == ["word word"]
    lines = layout.wrap("word " * 50, 100)
    assert len(lines) == 3
    assert lines[2].endswith("...")
    assert all(layout.text_width(line) <= 100 for line in lines)
    (cut,) = layout.wrap("w" * 99, 100)
    assert cut.endswith("w...")
    assert [layout.text_image("word " * count, 100).size for count in (2, 50)] == [(100, LINE), (100, 3 * LINE)]


@pytest.mark.parametrize(
    ("width", "height", "columns", "rows", "expected"),
    [(16, 16, 8, 8, 8), (28, 28, 8, 8, 4), (64, 64, 8, 8, 2), (65, 65, 8, 8, 1), (16, 128, 1, 1, 1), (16, 16, 100, 1, 2)],
)
def test_small_images_are_enlarged_by_a_whole_factor(
    width: int, height: int, columns: int, rows: int, expected: int
) -> None:
    assert layout.enlargement(width, height, columns, rows) == expected


def test_a_sheet_that_cannot_be_opened_is_an_error() -> None:
    layout.check_sheet(64, 64, 100, 100, 1)
    with pytest.raises(LeafwingError, match=r"27,200x27,200 pixels.*smaller --scale than 4, or --folder"):
        layout.check_sheet(67, 67, 100, 100, 4)


def test_an_image_fits_exactly_and_is_enlarged_pixel_by_pixel() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 8, 3), np.uint8)
    image = Image.fromarray(noise)
    grown = layout.fit(image, 64, 64)
    assert grown.size == (32, 64)
    assert np.array_equal(np.asarray(grown), noise.repeat(4, 0).repeat(4, 1))
    assert layout.fit(image, 100, 50).size == (24, 50), "an odd side, which films do not have"
    assert layout.fit(image, 4, 4).size == (2, 4)
    assert layout.fit(image, 8, 16) is image
    smooth = layout.fit(image, 64, 64, is_smooth=True)
    assert smooth.size == (32, 64)
    assert len(smooth.getcolors(4_096) or []) > len(grown.getcolors(4_096) or [])

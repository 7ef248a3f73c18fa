"""Sheets, animations and charts."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from leafwing.errors import LeafwingError
from leafwing.laboratory.sheet import Animation, chart, sheet


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_with_any_number_of_channels(channels: int) -> None:
    row = torch.full((2, channels, 8, 8), 1.0)
    row[1] = -1
    if channels in (2, 4):
        row[:, -1] = 1
    pixels = np.asarray(sheet("Title", [("first", row)], heads=["a", "b"], legend="a legend " * 20))
    assert pixels.shape[2] == 3
    assert (pixels == 0).all(2).sum() >= 72 * 72, "the black image is as large as a cell"


def test_a_column_head_that_is_cut_off_ends_with_dots() -> None:
    row, name = np.zeros((1, 8, 8, 3), np.uint8), "a long name of a class"
    assert sheet("", [("", row)], heads=[name]) in [
        sheet("", [("", row)], heads=[f"{name[:length]}..."]) for length in range(5, len(name))
    ]
    assert sheet("", [("", row)], heads=["short"]) != sheet("", [("", row)], heads=["short..."])


def test_transparent_parts_are_white() -> None:
    row = torch.zeros(1, 4, 8, 8) - 1
    pixels = np.asarray(sheet("", [("", row)]))
    assert (pixels[20:60, 20:60] == 255).all()


def test_large_images_are_not_enlarged_and_rows_may_differ() -> None:
    image = sheet("", [("", torch.zeros(3, 3, 128, 128)), ("", torch.zeros(1, 3, 128, 128))])
    assert image.width < 3 * 128 + 60


def test_8_bit_pixels_are_not_changed_and_those_of_16_bits_become_8() -> None:
    pixels = np.full((1, 9, 9, 3), (10, 20, 30), np.uint8)
    assert (np.asarray(sheet("", [("", pixels)])) == (10, 20, 30)).all(2).sum() == (9 * 8) ** 2
    grey = pixels[..., :1]
    assert sheet("", [("", grey * np.uint16(257))]) == sheet("", [("", grey)])


def test_the_frames_of_an_animation_fill_its_time() -> None:
    frames = [np.full((8, 8, 3), level, np.uint8) for level in (0, 128, 255)]
    animation = Animation(frames, seconds=1.0)
    assert animation.step == 333
    assert not animation.note
    for _ in range(2):
        middle = [image.getpixel((image.width // 2, image.height // 2)) for image in animation]
        assert middle == [(level, level, level) for level in (0, 128, 255)]
    many = Animation(frames * 200)
    assert many.step == 20
    assert "12 s instead of 4" in many.note


def test_a_chart_has_lines_bands_and_a_size() -> None:
    image = chart(
        "T",
        {"a": ([1, 10], [0, 1]), "b": ([1, 10], [1, 0], [0.9, -0.1], [1.1, 0.1])},
        x_label="x",
        y_label="y",
        logarithmic=True,
    )
    assert image.size == (770, 440)
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 20


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LeafwingError, match=r"leafwing\[explore\]"):
        chart("T", {"a": ([0, 1], [0, 1])}, x_label="x", y_label="y")

"""Sheets, films and charts."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from leafwing.errors import LeafwingError
from leafwing.laboratory.sheet import chart, film, sheet, webp


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_of_any_channels_stand_where_they_should(channels: int) -> None:
    row = torch.full((2, channels, 8, 8), 1.0)
    row[1] = -1
    if channels in (2, 4):
        row[:, -1] = 1
    made = np.asarray(sheet("Title", [("first", row)], heads=["a", "b"], legend="what it is " * 20))
    assert made.shape[2] == 3
    squares = (made == 0).all(2)
    assert squares.sum() >= 72 * 72, "the black picture is as large as a cell"


def test_transparent_parts_are_white() -> None:
    row = torch.zeros(1, 4, 8, 8) - 1
    made = np.asarray(sheet("", [("", row)]))
    assert (made[20:60, 20:60] == 255).all()


def test_large_pictures_are_not_enlarged_and_rows_may_differ() -> None:
    made = sheet("", [("", torch.zeros(3, 3, 128, 128)), ("", torch.zeros(1, 3, 128, 128))])
    assert made.width < 3 * 128 + 60


def test_pixels_are_taken_as_they_are() -> None:
    pixels = np.full((1, 9, 9, 3), (10, 20, 30), np.uint8)
    assert (np.asarray(sheet("", [("", pixels)])) == (10, 20, 30)).all(2).sum() == (9 * 8) ** 2


def test_a_film_runs_in_a_loop() -> None:
    frames = film([torch.full((1, 3, 8, 8), level) for level in (-1.0, 0.0, 1.0)])
    with Image.open(io.BytesIO(webp(frames, 1.0))) as made:
        assert made.n_frames == 3
        assert made.info["loop"] == 0


def test_a_chart_has_lines_bands_and_a_size() -> None:
    made = chart(
        "T", {"a": ([1, 10], [0, 1]), "b": ([1, 10], [1, 0], [0.9, -0.1], [1.1, 0.1])}, across="x", up="y", logarithmic=True
    )
    assert made.size == (770, 440)
    assert len(np.unique(np.asarray(made).reshape(-1, 3), axis=0)) > 20


def test_without_matplotlib_a_chart_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LeafwingError, match=r"leafwing\[explore\]"):
        chart("T", {"a": ([0, 1], [0, 1])}, across="x", up="y")

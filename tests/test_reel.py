"""Which sample grids a reel shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageSequence

import leafwing
from bare_run import create
from leafwing.commands.reel import spread
from leafwing.progress import Reporter


@pytest.mark.parametrize(
    ("images", "shown"),
    [
        ([7], [7]),
        ([0, 10, 20, 30], [0, 10, 20, 30]),
        ([0, 10, 20, 23], [0, 10, 20, 23]),  # the last one, always
        ([0, 1, 2, 3, 4, 14, 24], [0, 14, 24]),  # slow at first
        ([0, 1, 2, 3, 4, 5, 6, 16, 26], [0, 5, 16, 26]),
        ([0, 10, 20, 30, 35, 40, 45], [0, 10, 20, 30, 35, 40, 45]),  # resumed, half as long
    ],
)
def test_grids_are_about_evenly_spaced(images: list[int], shown: list[int]) -> None:
    paths = [Path(f"{number:09d}.png") for number in images]
    assert [int(path.stem) for path in spread(paths)] == shown


def test_a_reel_says_how_many_grids_it_shows_if_not_all(tmp_path: Path) -> None:
    run, listener, said = create(root=tmp_path), Reporter(), list[str]()
    listener.say = said.append  # type: ignore[method-assign]
    for number in (0, 1, 2, 12, 22):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(run.samples / f"{number:09d}.png")
    with Image.open(leafwing.reel(run, progress=listener)) as film:
        assert len([*ImageSequence.Iterator(film)]) == 3
    assert said == [f"{run.folder / 'reel.webp'}: 3 of 5 sample grids, about evenly spaced"]

"""Which sample grids a reel shows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import leafwing
from bare_run import create
from leafwing.commands.reel import spread
from leafwing.errors import LeafwingError
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


def damaged(path: Path, how: str) -> None:
    """Replaces a sample grid by one that cannot be read."""
    content = path.read_bytes()
    path.unlink()
    if how == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes({"no picture": b"x", "empty": b"", "cut": content[: len(content) // 2]}[how])


@pytest.mark.parametrize("how", ["no picture", "empty", "cut", "a pipe"])
@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("kind", ["webp", "mp4"])
def test_a_damaged_grid_is_named(tmp_path: Path, how: str, place: int, kind: str) -> None:
    """Also one that is read while the film is written, which is no fault of the disk."""
    if kind == "mp4":
        pytest.importorskip("av")
    if how == "a pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    run, noise = create(root=tmp_path), np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(run.samples / f"{number:09d}.png")
    damaged(run.samples / f"{place:09d}.png", how)
    words = "not a file" if how == "a pipe" else "; delete it, or restore it from a copy"
    with pytest.raises(LeafwingError, match=rf"samples/{place:09d}\.png.*{words}") as caught:
        leafwing.reel(run, out=tmp_path / f"film.{kind}", progress=False)
    assert caught.value.exit_code == 2
    assert not [*tmp_path.glob("*film*")]


def test_a_reel_says_how_many_grids_it_shows_if_not_all(tmp_path: Path) -> None:
    run, listener, said = create(root=tmp_path), Reporter(), list[str]()
    listener.say = said.append  # type: ignore[method-assign]
    for number in (0, 1, 2, 12, 22):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(run.samples / f"{number:09d}.png")
    with Image.open(leafwing.reel(run, progress=listener)) as film:
        assert len([*ImageSequence.Iterator(film)]) == 3
    assert said == [f"{run.folder / 'reel.webp'}: 3 of 5 sample grids, about evenly spaced"]

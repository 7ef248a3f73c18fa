"""What has changed in a source since it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leafwing import data
from leafwing.data.changes import Changes, compare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def changes(folder: Path, loaded: data.Dataset, cache: Path) -> Changes | None:
    return compare(folder, loaded.options, loaded.fingerprint, cache=cache)


@pytest.mark.parametrize("has_attributes", [True, False])
def test_attributes_that_were_changed_or_taken_away_are_named(folder: Path, tmp_path: Path, has_attributes: bool) -> None:
    table = folder / "labels.csv"
    rows = ["file,smiling,hat", *(f"{i}.png,{i % 2},{i // 2}" for i in range(4))]
    if has_attributes:
        table.write_text("\n".join(rows) + "\n")
    loaded = data.load(folder, size=8, cache=tmp_path / "cache")
    assert bool(loaded.spec.attributes) == has_attributes
    assert changes(folder, loaded, tmp_path / "cache") is None
    if has_attributes:
        table.write_text("\n".join(rows[:-1]) + "\n3.png,0,0\n")
        assert str(changes(folder, loaded, tmp_path / "cache")).startswith("attributes, captions or other annotations")
        table.unlink()
    else:
        table.write_text("\n".join(rows) + "\n")
    found = changes(folder, loaded, tmp_path / "cache")
    assert found
    assert found == Changes(annotations=True)


def test_pictures_are_named_by_what_happened_to_them(folder: Path, tmp_path: Path) -> None:
    loaded = data.load(folder, size=8, cache=tmp_path / "cache")
    (folder / "0.png").rename(folder / "new.png")
    Image.new("RGB", (8, 8), "red").save(folder / "1.png")
    found = changes(folder, loaded, tmp_path / "cache")
    assert found == Changes(added=("new.png",), removed=("0.png",), changed=("1.png",))
    assert str(found) == "1 image added (new.png), 1 image removed (0.png), 1 image changed (1.png)"

"""Training without images that repeat others: `--duplicates first`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import picture, write
from PIL import Image

import leafwing
from leafwing.commands.feeding import split_data
from leafwing.commands.plan import resolve_training
from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.progress import Reporter

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 4, "size": 16, "threads": 1, "precision": "fp32"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twelve different images, two exact copies, and one in another brightness."""
    root = write(tmp_path / "photos", [f"{index:02}.png" for index in range(12)], height=32, width=32)
    shutil.copy(root / "03.png", root / "20.png")
    shutil.copy(root / "03.png", root / "21.png")
    pixels = np.asarray(Image.open(root / "05.png")).astype(int)
    Image.fromarray(np.clip(pixels + 3, 0, 255).astype(np.uint8)).save(root / "22.png")
    return root


def test_the_first_of_each_group_remains(source: Path) -> None:
    data = load(source, size=16)
    distinct = data.distinct()
    assert (len(data), len(distinct)) == (15, 12)
    assert distinct.rows is not None
    assert distinct.rows.tolist() == [*range(12)]  # in the order of names: the originals come first
    assert distinct.distinct() is not data
    assert len(distinct.distinct()) == 12
    training, held_out = distinct.split(3)
    assert sorted([*training.to_rows(np.arange(9)), *held_out.to_rows(np.arange(3))]) == [*range(12)]


def test_images_with_16_bits(tmp_path: Path) -> None:
    for index in range(6):
        grey = picture(index % 4, height=32, width=32)[:, :, 0]
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"{index}.png")
    data = load(tmp_path, size=16, bits=16)
    assert data.array.dtype == np.uint16
    assert len(data.distinct()) == 4


def test_training_uses_each_once_and_resumes_so(source: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    class Listener(Reporter):
        def say(self, text: str) -> None:
            lines.append(text)

    options = {**TINY, "duplicates": "first", "hold_out": 2}
    whole = leafwing.train(source, "dcgan", out=tmp_path / "whole", images=48, progress=Listener(), **options)
    assert any("repeat an earlier image: 3 of 15" in line for line in lines)
    assert whole.data.duplicates == 3
    assert whole.data.used == 12
    assert [len(part) for part in split_data(whole.data, load(source, size=16))] == [10, 2]
    part = leafwing.train(source, "dcgan", out=tmp_path / "part", images=24, **options)
    leafwing.resume(part.folder, images=48)
    assert [*part.weights().values()][-1].read_bytes() == [*whole.weights().values()][-1].read_bytes()
    for name in ("20.png", "21.png"):
        (source / name).unlink()
    changed = leafwing.resume(whole.folder, images=64, changed="new")
    assert (changed.data.samples, changed.data.duplicates, changed.data.used) == (13, 1, 12)


def test_a_replay_leaves_out_the_same(source: Path, tmp_path: Path) -> None:
    whole = leafwing.train(source, "dcgan", out=tmp_path / "whole", images=8, duplicates="first", hold_out=2, **TINY)
    again = leafwing.train(replay=whole.folder, out=tmp_path / "again")
    assert again.data == whole.data
    kept = leafwing.train(replay=whole.folder, out=tmp_path / "kept", duplicates="keep", images=8)
    assert kept.data.duplicates is None


def test_points_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match="only images are compared"):
        leafwing.train("ring", "gan", duplicates="first", images=8, out=tmp_path / "run")


def test_classes_of_which_nothing_is_left_to_train_on_are_named(source: Path, tmp_path: Path) -> None:
    warnings: list[str] = []

    class Warned(Reporter):
        def warn(self, text: str) -> None:
            warnings.append(text)

    for name, files in (("a", [*source.glob("*.png")]), ("b", [*source.glob("*.png")][:1])):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for path in files:
            shutil.copy(path, tmp_path / "classes" / name)
    resolve_training(tmp_path / "classes", "cgan", {"size": 16}, {}, Warned())
    assert warnings == []
    resolve_training(tmp_path / "classes", "cgan", {"size": 16, "duplicates": "first"}, {}, Warned())
    (warning,) = warnings
    assert warning.startswith("classes without an image to train on: b; all of their images are held out, or repeat")

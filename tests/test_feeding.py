"""The data of a run, found again with its input: from the cache, from its sources, and noticed when they change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from leafwing.commands.feeding import permissive_spec, reload_data, split_data
from leafwing.config import DataConfig, convert_json
from leafwing.data import Dataset, load
from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.progress import Reporter


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LEAFWING_CACHE", str(folder))
    return folder


def write(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 40, 80, 3), np.uint8)
    for index, image in enumerate(pixels):
        PillowImage.fromarray(image).save(folder / f"{index}.png")
    return folder


def run_of(data: Dataset, folder: Path, **values: Any) -> Any:
    """A run whose section `data` has been written and read again."""
    config = DataConfig(
        source=data.source,
        options=data.options,
        fingerprint=data.fingerprint,
        samples=len(data),
        rejected=0,
        spec=data.spec,
        parts=dict(data.parts) or None,
        **values,
    )
    plain = json.loads(json.dumps(config.as_dict()))
    return SimpleNamespace(data=convert_json(Path("run.json"), plain, DataConfig), folder=folder)


def same(a: Dataset, b: Dataset) -> bool:
    first, second = a.batch(3, 5, 20), b.batch(3, 5, 20)
    return (
        a.spec == b.spec and a.fingerprint == b.fingerprint and all(torch.equal(first[name], second[name]) for name in first)
    )


@pytest.mark.parametrize("option", ["left", "edges", "hole", "second"])
@pytest.mark.parametrize("missing", ["source", "cache"])
def test_data_with_an_input_is_found_again(tmp_path: Path, cache: Path, option: str, missing: str) -> None:
    source, second = write(tmp_path / "a", 5, 0), write(tmp_path / "b", 7, 1)
    data = load(source, size=32, mirror=True, input=second if option == "second" else option)
    run = run_of(data, tmp_path)
    assert run.data.spec == data.spec
    for folder in (source, second) if missing == "source" else (cache,):
        shutil.rmtree(folder)
    assert same(reload_data(run, Reporter()), data)


@pytest.mark.parametrize("missing", ["a", "b"])
def test_each_source_is_found_by_itself(tmp_path: Path, cache: Path, missing: str) -> None:
    data = load(write(tmp_path / "a", 5, 0), size=32, input=write(tmp_path / "b", 7, 1))
    shutil.rmtree(tmp_path / missing)
    shutil.rmtree(cache / "packs" / data.parts["input" if missing == "a" else "image"])
    assert same(reload_data(run_of(data, tmp_path), Reporter()), data)


@pytest.mark.parametrize("changed", ["a", "b"])
def test_a_changed_source_is_noticed_and_named(tmp_path: Path, cache: Path, changed: str) -> None:
    data = load(write(tmp_path / "a", 5, 0), size=32, input=write(tmp_path / "b", 7, 1))
    run = run_of(data, tmp_path / "run")
    shutil.rmtree(cache)
    write(tmp_path / changed, 3, 9)
    with pytest.raises(LeafwingError, match=f"{tmp_path / changed} has changed since {tmp_path / 'run'} was trained on it"):
        reload_data(run, Reporter())


def test_a_missing_second_source_is_named(tmp_path: Path, cache: Path) -> None:
    data = load(write(tmp_path / "a", 5, 0), size=32, input=write(tmp_path / "b", 7, 1))
    shutil.rmtree(cache)
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(LeafwingError, match=r"is not in the cache, and its source cannot be read: .*/b'?: no such file"):
        reload_data(run_of(data, tmp_path), Reporter())


def test_the_training_part_has_training_images_of_both_sources(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", 10, 0), size=32, input=write(tmp_path / "b", 20, 1))
    training, held_out = split_data(run_of(data, tmp_path, held_out=2).data, data)
    both = [{image.numpy().tobytes() for image in part.batch(0, 0, 40).input} for part in (training, held_out)]
    assert [len(images) for images in both] == [16, 4]
    assert not both[0] & both[1]


def test_recipes_are_tried_with_an_input_of_the_size_that_it_will_have() -> None:
    assert permissive_spec(32, 48, "low4").fields["input"] == Image(8, 12, 3)
    assert permissive_spec(32, 48, "edges").fields["input"] == Image(32, 48, 1)
    assert permissive_spec(32, 48, "right").fields["input"] == permissive_spec(32, 48).fields["input"] == Image(32, 48, 3)
    with pytest.raises(LeafwingError, match="--input low4: both sides must be divisible by 4"):
        permissive_spec(33, 48, "low4")

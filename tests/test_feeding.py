"""The data of a run, found again with its input: from the cache, from its sources, and noticed when they change."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import leafwing
from leafwing import recipes
from leafwing.commands import real_data
from leafwing.commands.feeding import count_images, generates_from_pictures, permissive_spec, reload_data, split_data
from leafwing.commands.plan import describe_held_out, resolve_training
from leafwing.config import DataConfig, convert_json
from leafwing.data import Dataset, load
from leafwing.data.loading import join_sources
from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.progress import Reporter
from paired import SCALE


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


@pytest.mark.parametrize("listed", ["folders", "list"])
def test_labels_of_a_second_source_cost_no_image_and_earlier_runs_keep_those_that_they_had(
    tmp_path: Path, cache: Path, listed: str
) -> None:
    source, second = write(tmp_path / "a", 5, 0), tmp_path / "b"
    if listed == "folders":
        for number, name in enumerate(("x", "y")):
            write(second / name, 15, number)
        write(second, 1, 2)
    else:
        write(second, 31, 1)
        (second / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(30)))
    data = load(source, size=32, input=second)
    assert len(data.streams["input"].data) == 31
    assert data.parts["input_labels"] == "none"
    earlier = join_sources(load(source, size=32, bits="auto"), load(second, size=32, bits="auto"))
    assert (len(earlier.streams["input"].data), earlier.parts.get("input_labels")) == (30, None)
    for changed in ("old", None, "new"):
        for whole in (data, earlier):
            again = reload_data(run_of(whole, tmp_path / "run"), Reporter(), changed)
            assert same(again, whole)
            assert again.parts == whole.parts
    for whole in (data, earlier):  # evaluate --data recognises it
        run = SimpleNamespace(data=run_of(whole, tmp_path).data, spec=whole.spec)
        assert real_data._read_as(run, second, "input", Reporter()).fingerprint == whole.parts["input"]  # type: ignore[arg-type]
    shutil.rmtree(cache)
    for whole in (data, earlier):
        assert same(reload_data(run_of(whole, tmp_path / "run"), Reporter()), whole)


def test_an_epoch_of_pairs_has_one_image_of_each_also_if_the_folder_is_given_by_its_path(tmp_path: Path) -> None:
    for name in ("A", "B"):
        write(tmp_path / "set" / name, 5, 0)
    for option in ("A", str(tmp_path / "set" / "A")):
        assert count_images(tmp_path / "set", {"input": option, "hold_out": 0}, "pix2pix") == 5


@pytest.mark.parametrize("changed", ["a", "b"])
def test_a_changed_source_is_noticed_and_named(tmp_path: Path, cache: Path, changed: str) -> None:
    data = load(write(tmp_path / "a", 5, 0), size=32, input=write(tmp_path / "b", 7, 1))
    run = run_of(data, tmp_path / "run")
    shutil.rmtree(cache)
    write(tmp_path / changed, 3, 9)
    message = f"{tmp_path / changed} has changed since {tmp_path / 'run'} was trained on it"
    with pytest.raises(LeafwingError, match=re.escape(message)):
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
    with pytest.raises(LeafwingError, match="input='low4': both sides must be divisible by 4"):
        permissive_spec(33, 48, "low4")


# --- windows and held-out pairs -------------------------------------------------------------------------------------------------

TRANSLATOR: dict[str, Any] = {"input": "grey", "size": 16, "width": 4, "patch": 1, "batch": 4, "device": "cpu", "threads": 1}


def last_weights(run: Any) -> bytes:
    return (run.folder / f"weights-{max(run.weights()):09d}.safetensors").read_bytes()


def test_random_windows_are_repeated_by_resume_and_replay(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", 12, 0)
    given = {**TRANSLATOR, "crop_from": 20, "mirror": True, "log_every": 8, "save_every": 8, "hold_out": 2}
    whole = leafwing.train(folder, "pix2pix", out=tmp_path / "whole", images=32, **given)
    part = leafwing.train(folder, "pix2pix", out=tmp_path / "part", images=16, **given)
    assert whole.config["data"]["options"]["crop_from"] == "20x20"
    assert last_weights(leafwing.resume(part.folder, images=32)) == last_weights(whole)
    assert last_weights(leafwing.train(replay=whole.folder, out=tmp_path / "again")) == last_weights(whole)
    plain = leafwing.train(folder, "pix2pix", out=tmp_path / "plain", images=32, **{**given, "crop_from": None})
    assert last_weights(plain) != last_weights(whole)


def test_translators_hold_out_a_tenth_by_default(tmp_path: Path) -> None:
    messages: list[str] = []

    class Listener(Reporter):
        def say(self, text: str) -> None:
            messages.append(text)

    folder = write(tmp_path / "set", 12, 0)
    resolved = resolve_training(folder, "pix2pix", {"input": "grey", "size": 16}, {}, Listener())
    assert resolved.data_config.held_out == 1
    assert any("held out of training: 1 of 12" in message for message in messages)
    assert describe_held_out(125, 500, False) == "held out of training: 125 of 500, for evaluation; see --hold-out"
    assert "none, because --hold-out auto needs 500 images; --hold-out 20 takes" in describe_held_out(0, 200, False)
    for value, expected in ((0, 0), (5, 5), ("auto", 1)):
        given = {"input": "grey", "size": 16, "hold_out": value}
        assert resolve_training(folder, "pix2pix", given, {}, Reporter()).data_config.held_out == expected
    assert resolve_training(folder, "dcgan", {"size": 16}, {}, Reporter()).data_config.held_out == 0
    few = write(tmp_path / "few", 9, 1)
    assert resolve_training(few, "pix2pix", {"input": "grey", "size": 16}, {}, Reporter()).data_config.held_out == 0


def test_the_held_out_share_is_the_same_of_both_unpaired_sources(tmp_path: Path) -> None:
    data = load(write(tmp_path / "a", 20, 0), size=16, input=str(write(tmp_path / "b", 30, 1)))
    training, held_out = data.split(2)
    assert [len(part.streams["input"].data) for part in (training, held_out)] == [27, 3]


def test_fields_from_which_images_are_generated() -> None:
    spec = permissive_spec(16, 16)
    card = recipes.describe("dcgan")
    for needs, expected in ((("image",), False), (("image", "input"), True), (("segmentation",), True), (("clip",), False)):
        assert generates_from_pictures(replace(card, needs=needs), "dcgan", card.resolve({}), spec) is expected


@pytest.mark.parametrize(
    ("recipe", "options", "expected"), [("sggan_sparse", {"width": 4, "width_d": 4, "blocks": 1}, True), ("cgan", {}, False)]
)
def test_recipes_that_change_images_generate_from_them(recipe: str, options: dict[str, int], expected: bool) -> None:
    card = recipes.describe(recipe)
    assert generates_from_pictures(card, recipe, card.resolve(options), permissive_spec(16, 16)) is expected


def test_what_a_recipe_file_generates_images_from_is_seen_in_its_game(tmp_path: Path) -> None:
    path = tmp_path / "scale.py"
    path.write_text(SCALE.replace(", input=Image", "").replace("input", "image"))
    folder = write(tmp_path / "set", 12, 0)
    assert resolve_training(folder, str(path), {"size": 16}, {}, Reporter()).data_config.held_out == 1


def test_pairs_with_one_input_are_held_out_together_in_new_runs(tmp_path: Path) -> None:
    """As three renderings of each drawing: with one of them in training, the others would not be new to the generator."""
    folder = write(tmp_path / "set", 36, 0)
    rows = [f"{index}.png,{index % 12}.png" for index in range(36)]
    (folder / "pairs.csv").write_text("\n".join(["image,input", *rows]) + "\n")

    def inputs(config: DataConfig) -> list[set[bytes]]:
        data = load(config.source, **config.options)
        parts = split_data(config, data)
        return [{part.stored("input", [row]).tobytes() for row in range(len(part))} for part in parts]

    given = {"input": str(folder / "pairs.csv"), "size": 16, "hold_out": 6}
    config = resolve_training(folder, "pix2pix", given, {}, Reporter()).data_config
    assert config.held_out_by == "input"
    training, held_out = inputs(config)
    assert len(held_out) == 2
    assert training.isdisjoint(held_out)
    earlier = run_of(load(folder, input=str(folder / "pairs.csv"), size=16), tmp_path, held_out=6)
    assert earlier.data.held_out_by is None
    assert set.intersection(*inputs(earlier.data)), "those of runs from before stay as they were"
    assert config.fingerprint == earlier.data.fingerprint
    assert resolve_training(folder, "pix2pix", {**given, "hold_out": 0}, {}, Reporter()).data_config.held_out_by is None


def test_a_replay_holds_out_what_its_run_held_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", 12, 0)
    (folder / "pairs.csv").write_text("\n".join(["image,input", *(f"{i}.png,{i % 4}.png" for i in range(12))]) + "\n")
    given = {**TRANSLATOR, "input": str(folder / "pairs.csv"), "hold_out": 3}
    run = leafwing.train(folder, "pix2pix", images=4, out=tmp_path / "run", progress=False, **given)
    assert run.data.held_out_by == "input"
    path = run.folder / "run.json"
    text = json.loads(path.read_text())
    del text["data"]["held_out_by"]  # as an earlier version wrote it
    path.write_text(json.dumps(text))
    again = leafwing.train(replay=run.folder, out=tmp_path / "again", progress=False)
    assert again.data.held_out_by is None

"""Images from images, from the command line and from Python: sprites from their outlines."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from kills import kill_and_compare
from leafwing import cli, data
from leafwing.cli.resume import finish
from leafwing.errors import LeafwingError
from leafwing.model import Model
from leafwing.runs import Run

OPTIONS = {"size": 16, "width": 8, "max_width": 16, "threads": 1, "precision": "fp32"}
TINY = [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained from the command line."""
    out = tmp_path_factory.mktemp("runs") / "sprites"
    train = ["train", "sprites", "--input", "edges", "--recipe", "pix2pix", "--images", "64", "--hold-out", "100"]
    assert cli.run([*train, "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture(scope="module")
def pairs() -> data.Dataset:
    return data.load("sprites", size=16, input="edges")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_training_logs_the_losses_and_draws_grids(run: Path) -> None:
    opened = Run(run)
    assert opened.records()[-1]["losses"].keys() == {"D/adversarial", "G/adversarial", "G/l1"}
    assert max(opened.weights()) == 64
    sheets = sorted(opened.samples.glob("*.png"))
    assert sheets
    height, width = pixels(sheets[-1]).shape[:2]
    assert min(height, width) >= 3 * 16, "input, generated and real image"


def test_translate_is_suggested_after_training(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finish(Run(run), False) == 0
    command = re.escape(f"translate {shlex.quote(str(run))} PICTURES")
    assert re.search(rf"next, to use it:\n.* {command}\n", capsys.readouterr().out)


def test_no_pixels_of_the_data_are_stored(run: Path) -> None:
    config = json.loads((run / "run.json").read_text())
    assert config["conditions"] == ["input"]
    assert not config["data"].get("examples")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_and_resumed_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    outcome = kill_and_compare("pix2pix", 3, tmp_path)
    assert outcome["kills"] > 0
    assert outcome["weights_equal"], outcome
    assert outcome["log_equal"], outcome


def test_a_run_in_two_parts_ends_with_the_same_bits(tmp_path: Path) -> None:
    arguments = {"recipe": "pix2pix", "input": "edges", **OPTIONS}
    whole = leafwing.train("sprites", images=48, out=tmp_path / "whole", **arguments)
    parts = leafwing.train("sprites", images=20, out=tmp_path / "parts", **arguments)
    parts = leafwing.resume(parts.folder, images=48)
    assert whole.weights()[48].read_bytes() == parts.weights()[48].read_bytes()


def test_evaluation_compares_with_the_held_out_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = ["--metrics", "kid,reconstruction", "--features", "pixels", "-n", "64"]
    assert cli.run(["evaluate", str(run), *metrics, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    values = {row["metric"]: row["value"] for row in rows}
    assert values.keys() >= {"kid", "psnr", "l1"}
    assert 0 < values["l1"] < 2
    assert {row["protocol"]["split"] for row in rows} == {"held-out"}


@pytest.mark.slow  # trains several runs
def test_translators_can_be_compared(tmp_path: Path) -> None:
    compare = ["compare", "sprites", "--input", "edges", "--recipes", "pix2pix", "--seeds", "1", "--images", "32"]
    metrics = ["--metrics", "kid", "--features", "pixels", "-n", "64", "--set", "width=8", "--set", "max_width=16"]
    assert cli.run([*compare, *metrics, "--size", "16", "--jobs", "1", "--out", str(tmp_path / "comparison")]) == 0
    assert (tmp_path / "comparison" / "report.html").is_file()


def test_a_folder_of_outlines_is_translated_with_names_and_sizes(run: Path, tmp_path: Path, pairs: data.Dataset) -> None:
    folder = tmp_path / "outlines"
    (folder / "more").mkdir(parents=True)
    outlines = pairs.stored("input", [0, 1, 2])[..., 0]
    Image.fromarray(outlines[0]).save(folder / "grey.png")
    Image.fromarray(outlines[1]).convert("RGB").resize((40, 24)).save(folder / "wide.jpg")
    Image.fromarray(outlines[2]).convert("RGBA").resize((17, 33)).save(folder / "more" / "tall.png")
    out = tmp_path / "out"
    assert cli.run(["translate", str(run), str(folder), "--out", str(out)]) == 0
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert written == ["grey.png", "more/tall.png", "wide.jpg"]
    assert [pixels(out / name).shape[:2] for name in written] == [(16, 16), (33, 17), (24, 40)]
    assert pixels(out / "more" / "tall.png").shape[2] == 4, "transparency is kept"
    expected = Model.load(run).translate(pairs.batches(0)(0, 1).input * 0 + torch.tensor(outlines[0] / 127.5 - 1).float())
    assert np.abs(pixels(out / "grey.png") - (expected[0].permute(1, 2, 0).numpy() + 1) * 127.5).max() <= 1


def test_a_translation_depends_on_its_image_number_and_seed_only(run: Path, pairs: data.Dataset) -> None:
    model, outlines = Model.load(run), pairs.batches(0)(0, 70).input
    images = model.translate(outlines, seed=3)
    assert images.shape == (70, 3, 16, 16)
    assert images.abs().max() <= 1
    assert torch.equal(model.translate(outlines, seed=3), images)
    assert (model.translate(outlines[:5], seed=3) - images[:5]).abs().max() <= 1 / 127.5
    assert (model.translate(outlines, seed=3, batch=16) - images).abs().max() <= 1 / 127.5
    noise = (model.translate(outlines, seed=4) - images).abs().flatten(1).amax(1)
    assert (noise > 1 / 127.5).all(), "dropout is noise"
    others = model.translate(outlines.flip(0), seed=3)
    assert (others - images).abs().flatten(1).amax(1)[:30].min() > 1 / 127.5


def test_the_discriminator_judges_pairs(run: Path, pairs: data.Dataset) -> None:
    model, batch = Model.load(run), pairs.batches(0)(0, 6)
    scores = model.judge(batch.image, input=batch.input)
    assert scores.shape == (6,)
    assert not torch.equal(model.judge(batch.image, input=batch.input.flip(0)), scores)
    with pytest.raises(LeafwingError, match="input"):
        model.judge(batch.image)


def test_sample_says_which_command_translates(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sample", str(run)]) == 2
    assert "leafwing translate" in capsys.readouterr().err
    with pytest.raises(LeafwingError, match=r"model\.translate"):
        Model.load(run).sample(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sprites"], r"recipe pix2pix needs the field input.*--input.*These data have image: image 16x16x3"),
        (["sprites", "--input", "unpaired"], r"recipe pix2pix needs the field input .* unpaired"),
        (
            ["sprites", "--input", "low"],
            r"recipe pix2pix: input and image must have the same size: image 4x4x3, image 16x16x3",
        ),
        (["sprites", "--input", "edges", "--patch", "70"], r"recipe pix2pix: --patch 70: .* patches of 1, 16, 34 pixels"),
        (["ring"], r"recipe pix2pix needs images.*points"),
    ],
)
def test_data_that_do_not_fit_are_refused_and_no_run_folder_is_left(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = TINY if "ring" not in arguments else TINY[2:]
    assert cli.run(["train", *arguments, "--recipe", "pix2pix", "--images", "64", *tiny]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert re.search(message, text), text
    assert list(tmp_path.iterdir()) == []


def test_segmentations_and_masks_are_inputs_too(tmp_path: Path) -> None:
    run = leafwing.train("sprites", "pix2pix", input="segmentation", images=8, out=tmp_path / "run", **OPTIONS)
    maps = data.load("sprites", size=16, input="segmentation").batches(0)(0, 3).input
    assert Model.load(run.folder).translate(maps).shape == (3, 3, 16, 16)

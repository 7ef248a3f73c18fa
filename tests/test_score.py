"""Scores of a user's own pictures, and what the methods of a model take."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from leafwing import cli, fields
from leafwing.data.options import like
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.model import Model
from leafwing.progress import Reporter
from saved_run import save

SIZE = 16
COLOUR = DataSpec.images(16, 16, 3, input=fields.Image(16, 16, 3))
NEGATIVE = 'Output("image", lambda nets, inputs, clock: nets.F(inputs.input), ("input",){})'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    leafwing.train("digits", "cgan", size=SIZE, images=32, batch=16, width=8, max_width=16, out=out, threads=1)
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    root.mkdir()
    for index in range(5):
        pixels = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE), np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.png")
    (root / "bad.jpg").write_bytes(b"")
    return root


def test_pictures_are_scored_as_the_model_judges_them(run: Path, folder: Path, tmp_path: Path) -> None:
    result = leafwing.score(run, folder, conditions=["label=3"])
    pixels = np.stack([np.asarray(Image.open(folder / name)) for name in result.names])[:, None]
    model = leafwing.Model.load(run)
    expected = model.judge(torch.from_numpy(pixels).float() / 127.5 - 1, label="3")
    assert result.names == [f"{index}.png" for index in range(5)]
    assert result.scores == pytest.approx(expected.tolist(), abs=1e-5)
    assert result.rejected == [{"name": "bad.jpg", "reason": "empty file"}]
    assert len({round(score, 6) for score in result.scores}) > 1
    one = leafwing.score(run, folder / "2.png", conditions=["label=3"], out=tmp_path / "scores.csv")
    assert one.scores == pytest.approx([result.scores[2]], abs=1e-5)
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == "file,score"
    with pytest.raises(LeafwingError, match="exists"):
        leafwing.score(run, folder, out=tmp_path / "scores.csv")


def test_the_progress_counts_each_picture_once(run: Path, folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    counts: list[tuple[int, int]] = []
    listener = Reporter()
    listener.report_progress = lambda what, done, total: counts.append((done, total))  # type: ignore[method-assign]
    assert len(leafwing.score(run, folder, progress=listener).rejected) == 2
    assert counts == [(6, 6)]


def test_a_missing_folder_of_the_scores_is_noticed_before_scoring(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leafwing.Model, "judge", lambda *args, **conditions: pytest.fail("scored"))
    with pytest.raises(LeafwingError, match=r"out='.*nowhere/x.csv': the folder .*nowhere does not exist"):
        leafwing.score(run, folder, out=tmp_path / "nowhere" / "x.csv")


def test_what_cannot_be_scored_is_said_without_options_that_do_not_exist(run: Path, folder: Path) -> None:
    Image.new("L", (2, 2)).save(folder / "small.png")
    small = leafwing.score(run, folder).rejected[-1]
    assert small == {"name": "small.png", "reason": "too small: 2x2 would be enlarged 8.0 times for 16x16 (at most 2)"}
    with pytest.raises(LeafwingError, match="is a run folder, whose sheets show many samples each"):
        leafwing.score(run, run)


def test_only_the_first_frame_is_scored_and_that_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.new("L", (SIZE, SIZE), grey) for grey in (20, 200)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "one.png")
    result = leafwing.score(run, tmp_path, conditions=["label=3"])
    assert result.names == ["one.png", "two.gif"]
    assert result.scores[1] == pytest.approx(result.scores[0], abs=1e-4)
    assert "Files with several frames or pages: 1; only the first was scored." in capsys.readouterr().err


def same_picture(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)).save(root / name)
    return root


def test_a_score_depends_on_the_picture_and_its_class_only(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_class = [
        leafwing.score(run, same_picture(tmp_path / "one", "a.png"), conditions={"label": i}).scores[0] for i in range(10)
    ]
    assert capsys.readouterr().err == ""
    assert len({round(score, 6) for score in as_class}) > 1
    unknown = leafwing.score(run, same_picture(tmp_path / "same", *(f"{i}.png" for i in range(3)), "3/3.png"))
    assert unknown.scores == pytest.approx([sum(as_class) / 10] * 4, abs=1e-5)
    assert "the mean over 10 classes" in capsys.readouterr().err
    folders = same_picture(tmp_path / "folders", "7/a.png", "3/b.png", "train/3/c.png", "7/d.png")
    by_folder = leafwing.score(run, folders)
    expected = [as_class[7 if "7" in name else 3] for name in by_folder.names]
    assert by_folder.scores == pytest.approx(expected, abs=1e-5)
    assert "the class that its folder is named after" in capsys.readouterr().err
    assert leafwing.score(run, folders, conditions={"label": "5"}).scores == pytest.approx([as_class[5]] * 4, abs=1e-5)


def test_a_discriminator_that_ignores_classes_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes: dict[str, Any] = {"size": SIZE, "images": 16, "batch": 16, "width": 8, "max_width": 16, "threads": 1}
    leafwing.train("digits", "acgan", out=tmp_path / "run", **sizes)
    pictures = same_picture(tmp_path / "pictures", "a.png", "b.png")
    capsys.readouterr()
    scores = leafwing.score(tmp_path / "run", pictures).scores
    assert scores == pytest.approx(leafwing.score(tmp_path / "run", pictures, conditions=["label=3"]).scores)
    messages = capsys.readouterr().err
    assert messages.count("does not look at classes") == 1
    assert "folders" not in messages


def test_open_attributes_are_those_of_some_real_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    leafwing.train(
        "sprites",
        "cgan",
        condition_on="both",
        size=SIZE,
        images=32,
        batch=16,
        width=8,
        max_width=16,
        out=out,
        threads=1,
    )
    capsys.readouterr()
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    for name in "ab":
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{name}.png")
    scores = leafwing.score(out, tmp_path / "pictures", conditions=["label=#0"]).scores
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert "conditions of real samples" in capsys.readouterr().err


def test_the_command_prints_a_table(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["score", str(run), str(folder), "--set", "label=3"]) == 0
    captured = capsys.readouterr()
    assert [line.partition(",")[0] for line in captured.out.splitlines()] == ["file", *(f"{i}.png" for i in range(5))]
    assert "bad.jpg: empty file" in captured.err
    assert cli.run(["score", str(run), str(folder), "--set", "label=3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["names"][0] == "0.png"
    assert cli.run(["score", str(run), str(folder / "bad.jpg")]) == 2
    assert "no picture can be used. bad.jpg: empty file" in capsys.readouterr().err


def test_a_run_without_scores_says_so(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "run"
    leafwing.train("ring", "gan", images=32, batch=16, out=out, threads=1)
    with pytest.raises(LeafwingError, match=r"not images: use model\.judge"):
        leafwing.score(out, folder)


@pytest.mark.parametrize("discrimination", [True, False])
def test_a_discriminator_that_compares_samples_scores_none(tmp_path: Path, folder: Path, discrimination: bool) -> None:
    out, how = tmp_path / "run", {"size": SIZE, "images": 16, "batch": 8, "width": 8, "max_width": 16, "threads": 1}
    leafwing.train("digits", "improved_gan", discrimination=discrimination, out=out, **how)
    if discrimination:
        with pytest.raises(LeafwingError, match="no discriminator that scores single samples"):
            leafwing.score(out, folder)
    else:
        assert len(leafwing.score(out, folder).scores) == 5


def test_models_take_arrays_of_several_types(run: Path) -> None:
    model = leafwing.Model.load(run)
    stored = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1), np.uint8)
    floats = stored.transpose(0, 3, 1, 2) / 127.5 - 1
    expected = model.judge(torch.from_numpy(floats).float(), label=1)
    for samples in (stored, torch.from_numpy(stored), stored.transpose(0, 3, 1, 2), floats, torch.from_numpy(floats)):
        assert torch.allclose(model.judge(samples, label=1), expected, atol=1e-5)
    wrong: list[tuple[Any, str]] = [
        (stored.astype(np.float32).transpose(0, 3, 1, 2), "values from .* far outside of"),
        (stored.astype(np.int64).transpose(0, 3, 1, 2), r"torch\.int64: give floating-point values"),
        (floats[:, :, :8], "those of this run have shape"),
        ("photo.png", "not str.* `leafwing score` reads files"),
    ]
    for value, message in wrong:
        with pytest.raises(LeafwingError, match=message):
            model.judge(value, label=1)


def test_other_pictures_are_read_whole_where_the_images_are_tiles_and_from_the_centre_where_they_are_windows() -> None:
    assert like(fields.Image(16, 24, 3), {"fit": "tiles", "background": "black"}).fit == "crop"
    target = like(fields.Image(4, 6, 1, bits=16), {"crop_from": "8x12", "levels": "0:4095"})
    assert (target.shape, target.window, target.bits, target.levels) == ((8, 12, 1), (4, 6), 16, (0, 4095))
    pixels = np.arange(8 * 12).reshape(8, 12, 1)
    assert np.array_equal(target.centre(pixels), pixels[2:6, 3:9])


@pytest.mark.parametrize(("further", "width"), [("", 16), (", multiple=1", 24)])
def test_arrays_and_bytes_are_translated_as_tensors_are(tmp_path: Path, further: str, width: int) -> None:
    model = Model.load(save(tmp_path / "run", COLOUR, NEGATIVE.format(further)), trust=True)
    stored = np.random.default_rng(0).integers(0, 256, (2, 16, width, 3), np.uint8)
    floats = torch.from_numpy(stored).movedim(-1, 1) / 127.5 - 1
    expected = model.translate(floats)
    assert torch.allclose(expected, -floats, atol=1e-6)
    for pictures in (floats.numpy(), stored, stored.transpose(0, 3, 1, 2), torch.from_numpy(stored)):
        assert torch.allclose(model.translate(pictures), expected, atol=1e-6)


def test_a_score_of_a_translator_is_of_the_image_and_its_input(tmp_path: Path, folder: Path) -> None:
    judge = "judge=[lambda nets, samples, inputs: (samples - inputs.input).flatten(1).mean(1)][0"
    run = save(tmp_path / "translator", COLOUR, f"{NEGATIVE.format('')}], {judge}")
    model, images = Model.load(run, trust=True), torch.zeros(2, 3, 16, 16)
    assert model.judge(images, input=images - 0.5).tolist() == [0.5, 0.5]
    with pytest.raises(LeafwingError, match=r"may look at input, too: judge\(samples, input=\.\.\.\)"):
        model.judge(images)
    with pytest.raises(
        LeafwingError, match=r"from input, at which .* may look, too: from Python, model.judge\(samples, input=\.\.\.\)"
    ):
        leafwing.score(run, folder, trust=True)

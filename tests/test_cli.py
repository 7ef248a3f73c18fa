"""The command line: output streams, exit codes, and a fast start-up.

Most commands run in this process; what is about processes (imports, Ctrl-C) runs in one of its own.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ending import ending
from leafwing import cli, recipes
from leafwing.layout import GAP, LINE
from leafwing.model import Model
from leafwing.pictures import to_pixels

STEP = 128 + GAP  # from one image to the next on a grid

TINY = [
    "--width",
    "8",
    "--max-width",
    "16",
    "--latent",
    "8",
    "--batch",
    "8",
    "--size",
    "16",
    "--threads",
    "1",
    "--precision",
    "fp32",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 small images in two classes, and a damaged one."""
    root = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for i in range(40):
        path = root / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    (root / "cat" / "broken.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "cats"
    assert cli.run(["train", str(folder), "--recipe", "cgan", "--images", "64", "--out", str(out), *TINY]) == 0
    return out


def document(capsys: pytest.CaptureFixture[str]) -> object:
    """Standard output, which must be one JSON document and nothing else."""
    return json.loads(capsys.readouterr().out)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def process(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("words", [["--help"], ["recipes"], ["train", "--help"], ["train", "--recipe", "wgan_gp", "--help"]])
def test_help_and_recipes_import_no_torch(words: list[str]) -> None:
    code = "import sys; from leafwing.cli import run; run(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = process("-c", code, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_python_dash_m_is_the_command() -> None:
    done = process("-m", "leafwing", "--version")
    assert done.stdout.strip() == "0.1.0"


def test_train_help_shows_the_options_of_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--recipe", "lsgan", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Mao et al. 2016" in text
    assert "--lr-d" in text
    assert "Default: 0.0001." in text
    assert cli.run(["train", "--help"]) == 0
    assert "--lr-d" not in capsys.readouterr().out


def test_training_creates_a_run_folder_and_prints_its_path(trained: Path, folder: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {"run.json", "recipe.py", "log.jsonl", "samples", "resume.pt", "reel.webp"}
    config = json.loads((trained / "run.json").read_text())
    assert config["recipe"] == "cgan"
    assert config["options"]["conditioning"] == "projection"
    assert config["options"]["width"] == 8
    assert config["data"]["spec"]["fields"]["label"]["names"] == ["cat", "dog"]
    assert config["data"]["rejected"] == 1
    assert config["data"]["source"] == str(folder)
    record = json.loads((trained / "log.jsonl").read_text().splitlines()[-1])
    assert record.keys() >= {"images", "seconds", "images_per_second", "losses", "memory"}
    assert record["images"] == 64
    assert record["losses"].keys() == {"D/adversarial", "G/adversarial"}
    width, height = size(trained / "samples" / "000000064.png")
    assert height == 2 * STEP + GAP
    assert 10 * STEP + GAP < width < 11 * STEP, "the names of the classes are beside their rows"


def test_train_as_json_prints_one_document(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert cli.run(["train", str(folder), "--images", "16", "--out", str(out), "--json", *TINY]) == 0
    result = document(capsys)
    assert isinstance(result, dict)
    assert result["run"] == str(out)
    assert result["images"] == 16
    for key in ("samples", "reel", "weights"):
        assert Path(result[key]).is_file()


def test_numbered_run_folders(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path / "runs")]
    for _ in range(2):
        assert cli.run(["train", str(folder), "--images", "8", *root, *TINY]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert [name[:11] for name in names] == ["0001-dcgan-", "0002-dcgan-"]
    capsys.readouterr()
    assert cli.run(["runs", "--json", *root]) == 0
    table = document(capsys)
    assert isinstance(table, list)
    assert [row["run"] for row in table] == names
    assert cli.run(["runs", *root]) == 0
    assert f"last means {names[1]}," in capsys.readouterr().out


def test_resume_continues_and_refuses_a_finished_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert cli.run(["train", str(folder), "--images", "16", "--out", out, *TINY]) == 0
    assert cli.run(["resume", out]) == 2
    assert "--images +100k" in capsys.readouterr().err
    assert cli.run(["resume", out, "--images", "+16", "--json"]) == 0
    result = document(capsys)
    assert isinstance(result, dict)
    assert result["images"] == 32


def test_replay_repeats_a_run_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert cli.run(["train", "--from", str(trained / "run.json"), "--out", str(again)]) == 0
    weights = "weights-000000064.safetensors"
    assert (again / weights).read_bytes() == (trained / weights).read_bytes()
    other = tmp_path / "other"
    assert cli.run(["train", "--from", str(trained / "run.json"), "--out", str(other), "--seed", "5", "--images", "16"]) == 0
    config = json.loads((other / "run.json").read_text())
    assert (config["schedule"]["seed"], config["schedule"]["images"], config["options"]["width"]) == (5, 16, 8)


def test_options_override_a_replay(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "--from", str(trained), "--recipe", "cgan", "--width", "4", "--images", "8", "--batch", "8"]
    assert cli.run([*words, "--out", str(out)]) == 0
    assert json.loads((out / "run.json").read_text())["options"]["width"] == 4


def test_sampling_needs_neither_data_nor_cache(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "no cache"))
    config = json.loads((trained / "run.json").read_text())
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("recipe.py", "weights-000000064.safetensors"):
        (moved / name).write_bytes((trained / name).read_bytes())
    config["data"]["source"] = "/nowhere"
    (moved / "run.json").write_text(json.dumps(config))
    assert cli.run(["sample", str(moved), "-n", "6", "--out", str(tmp_path / "a.png")]) == 0
    assert size(tmp_path / "a.png") == (3 * STEP + GAP, 2 * (STEP + LINE) + GAP)
    assert not (tmp_path / "no cache").exists()


def test_sample_kinds_and_labels(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sample", str(trained), "-n", "5", "--label", "all", "--out", str(tmp_path / "all.png")]) == 0
    width, height = size(tmp_path / "all.png")
    assert (width // STEP, height) == (5, 2 * STEP + GAP)
    assert cli.run(["sample", str(trained), "-n", "3", "--label", "dog", "--folder", "--out", str(tmp_path / "dogs")]) == 0
    assert sorted(path.name for path in (tmp_path / "dogs").iterdir()) == [f"00000{i}-dog.png" for i in range(3)]
    assert cli.run(["sample", str(trained), "-n", "3", "--npz", "--out", str(tmp_path / "some.npz")]) == 0
    with np.load(tmp_path / "some.npz") as arrays:
        assert arrays["samples"].shape == (3, 16, 16, 3)
        assert arrays["samples"].dtype == np.uint8
        assert arrays["labels"].tolist() == [0, 1, 0]
    with Image.open(tmp_path / "dogs" / "000001-dog.png") as dog:
        single = np.asarray(dog)
    assert cli.run(["sample", str(trained), "-n", "2", "--label", "1", "--npz", "--out", str(tmp_path / "one.npz")]) == 0
    with np.load(tmp_path / "one.npz") as arrays:
        assert np.array_equal(arrays["samples"][1], single)


def test_reel(trained: Path, tmp_path: Path) -> None:
    assert cli.run(["reel", str(trained), "--out", str(tmp_path / "reel.gif")]) == 0
    with Image.open(tmp_path / "reel.gif") as animation:
        assert animation.n_frames >= 2  # type: ignore[attr-defined]


def test_points_train_and_sample(tmp_path: Path) -> None:
    out = tmp_path / "ring"
    words = [
        "train",
        "ring",
        "--recipe",
        "wgan_gp",
        "--images",
        "320",
        "--width",
        "4",
        "--threads",
        "1",
        "--precision",
        "fp32",
    ]
    assert cli.run([*words, "--out", str(out)]) == 0
    assert cli.run(["sample", str(out), "-n", "7", "--npz", "--out", str(tmp_path / "points.npz")]) == 0
    with np.load(tmp_path / "points.npz") as arrays:
        assert arrays["samples"].shape == (7, 2)


def test_doctor_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", str(folder), "--json"]) == 0
    report = document(capsys)
    assert isinstance(report, dict)
    assert report["accepted"] == 40
    assert [one["name"] for one in report["rejected"]] == ["cat/broken.png"]
    assert cli.run(["doctor", str(folder)]) == 0
    assert "broken.png" in capsys.readouterr().out


def test_dry_run_measures_and_writes_no_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(folder), "--dry-run", "--root", str(tmp_path / "runs"), *TINY]
    assert cli.run([*words, "--json"]) == 0
    plan = document(capsys)
    assert isinstance(plan, dict)
    assert plan["images_per_second"] > 0
    assert plan["parameters"].keys() == {"G", "D"}
    assert not (tmp_path / "runs").exists()
    assert cli.run(words) == 0
    assert "images/s, measured" in capsys.readouterr().out


def test_dry_run_of_a_translator(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(folder), "--recipe", "pix2pix", "--input", "grey", "--images", "64", "--dry-run", "--size", "16"]
    assert cli.run([*words, "--width", "4"]) == 0
    assert "image: image 16x16x3; label: label (2 classes); input: image 16x16x1" in capsys.readouterr().out


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["recipes", "--json"]) == 0
    cards = document(capsys)
    assert isinstance(cards, list)
    names = {"gan", "dcgan", "dcgan_selu", "lsgan", "wgan", "wgan_gp", "r3gan", "cgan"}
    assert {card["name"] for card in cards} >= names
    assert all(card["year"] and card["line"] for card in cards)


BAD = {
    "no source": (["train"], "needs an image source"),
    "a source that is not there": (["train", "nowhere/at/all"], "nowhere/at/all"),
    "a recipe that is not there": (["train", "{folder}", "--recipe", "wgangp"], "did you mean wgan_gp"),
    "a recipe file that is not there": (["train", "{folder}", "--recipe", "./mine.py"], "mine.py"),
    "an option that is not there": (["train", "{folder}", "--recipe", "dcgan", "--widht", "3"], "--width"),
    "an option of another recipe": (["train", "{folder}", "--recipe", "dcgan", "--penalty", "3"], "--penalty"),
    "an option without a recipe": (["train", "{folder}", "--penalty", "3"], "--penalty"),
    "a number that is none": (["train", "{folder}", "--recipe", "dcgan", "--width", "wide"], "--width wide"),
    "a fraction for a count": (["train", "{folder}", "--recipe", "dcgan", "--width", "2.5"], "whole number"),
    "a negative rate": (["train", "{folder}", "--recipe", "dcgan", "--lr-g", "-1"], "--lr-g -1"),
    "a choice that is none": (["train", "{folder}", "--recipe", "cgan", "--conditioning", "hope"], "projection"),
    "a prior that is none": (["train", "{folder}", "--recipe", "dcgan", "--prior", "hope"], "normal"),
    "a size that does not divide": (["train", "{folder}", "--size", "24x40"], "16x32"),
    "a size that is none": (["train", "{folder}", "--size", "64x"], "size"),
    "a missing run": (["sample"], "sample: missing RUN: a run folder"),
    "missing recipes": (["compare", "digits"], "compare: --recipes is required"),
    "a missing value": (["train", "{folder}", "--width"], "--width needs a value"),
    "the wrong name of CUDA": (
        ["train", "{folder}", "--device", "gpu"],
        "--device gpu: choose from auto, cpu, cuda, mps",
    ),
    "a GPU by its number that this machine lacks": (["train", "{folder}", "--device", "cuda:99"], "--device cuda:99: no"),
    "a number of a device that has none": (
        ["train", "{folder}", "--device", "cpu:1"],
        "--device cpu:1: no such device; choose",
    ),
    "an unknown option": (["train", "{folder}", "--widht", "3"], "did you mean --width?"),
    "no images": (["train", "{folder}", "--images", "0"], "images"),
    "a duration that is none": (["train", "{folder}", "--time", "soon"], "time"),
    "labels where there are none": (["train", "{plain}", "--recipe", "cgan"], "needs labels"),
    "points for a recipe of pictures": (["train", "ring", "--recipe", "dcgan"], "points"),
    "a run that is not there": (["resume", "nothing"], "nothing"),
    "a run to sample that is not there": (["sample", "nothing"], "nothing"),
    "a label that is not there": (["sample", "{trained}", "--label", "horse"], "cat, dog"),
    "two kinds at once": (["sample", "{trained}", "--grid", "--npz"], "mutually exclusive"),
    "seeds for several processes": (["sample", "{trained}", "--seeds", "1-3", "--devices", "2"], "generated by one process"),
    "no samples": (["sample", "{trained}", "-n", "0"], "at least 1"),
    "a checkpoint that is not there": (["sample", "{trained}", "--checkpoint", "7"], "64"),
    "an existing run folder": (["train", "{folder}", "--out", "{trained}"], "never overwritten"),
    "a reel of another kind": (["reel", "{trained}", "--out", "{trained}/a.avi"], ".webp"),
    "a command that is none": (["trian"], "train"),
    "a device that this machine lacks": (["train", "{folder}", "--device", "mps"], "mps"),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_input_is_named_exits_2_and_writes_nothing(
    case: str,
    folder: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, named = BAD[case]
    monkeypatch.chdir(tmp_path)
    plain = tmp_path.parent / "plain"
    if not plain.exists():
        plain.mkdir()
        for i in range(4):
            Image.new("RGB", (16, 16), (i, 0, 0)).save(plain / f"{i}.png")
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    code = cli.run([word.format(folder=folder, trained=trained, plain=plain) for word in words])
    streams = capsys.readouterr()
    assert code == 2
    assert named in streams.err
    assert "Traceback" not in streams.err
    assert streams.out == ""
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_run_without_labels_rejects_a_label(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert cli.run(["train", str(folder), "--images", "8", "--out", out, *TINY]) == 0
    for label in ("cat", "all"):
        assert cli.run(["sample", out, "--label", label]) == 2
        assert f"--label {label}: this run was trained without labels: the data have labels" in capsys.readouterr().err


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 small images with attributes and without labels."""
    root = tmp_path_factory.mktemp("faces")
    noise = np.random.default_rng(1)
    lines = ["file,smiling,colour"]
    for i in range(60):
        Image.fromarray(noise.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(root / f"{i}.png")
        lines.append(f"{i}.png,{i % 2},{('red', 'blue', 'dark green')[i % 3]}")
    (root / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def attributed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "faces"
    assert cli.run(["train", str(faces), "--recipe", "cgan", "--images", "64", "--out", str(out), *TINY]) == 0
    return out


def test_attributes_from_a_list_to_samples(
    faces: Path, attributed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((attributed / "run.json").read_text())
    assert config["conditions"] == ["attributes"]
    names = config["data"]["spec"]["fields"]["attributes"]["names"]
    assert names == ["smiling", "colour=blue", "colour=dark green", "colour=red"]
    words = ["sample", str(attributed), "-n", "5", "--npz", "--seed", "3"]
    assert cli.run([*words, "--set", "smiling=1", "--set", "colour=dark green", "--out", str(tmp_path / "a.npz")]) == 0
    assert cli.run([*words, "--set", "smiling=1,colour=dark green", "--out", str(tmp_path / "b.npz")]) == 0
    assert cli.run([*words, "--out", str(tmp_path / "c.npz")]) == 0
    conditioned, again, free = (np.load(tmp_path / f"{name}.npz") for name in "abc")
    assert conditioned["attribute_names"].tolist() == names
    assert conditioned["attributes"].tolist() == 5 * [[1, 0, 1, 0]]
    assert (conditioned["samples"] == again["samples"]).all()
    assert len(np.unique(free["attributes"], axis=0)) > 1
    direct = Model.load(attributed).sample(5, 3, attributes={"smiling": 1, "colour": "dark green"})
    assert (conditioned["samples"] == to_pixels(direct)).all()
    capsys.readouterr()
    assert cli.run(["sample", str(attributed), "--set", "colour=red", "--json"]) == 0
    result = document(capsys)
    assert result["set"] == ["colour=red"]
    assert Path(result["written"]).name == "000000064-seed0-n64-colour_red.png"
    assert cli.run(["resume", str(attributed), "--images", "+8", "--json"]) == 0
    assert document(capsys)["images"] == 72


def test_a_sweep_of_classes_can_be_combined_with_attributes(faces: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "both"
    shutil.copytree(faces, labelled)
    lines = (labelled / "labels.csv").read_text().splitlines()
    (labelled / "labels.csv").write_text(
        "\n".join([lines[0] + ",label", *(f"{line},{'ab'[i % 2]}" for i, line in enumerate(lines[1:]))])
    )
    run = tmp_path / "run"
    words = [
        "train",
        str(labelled),
        "--recipe",
        "cgan",
        "--condition-on",
        "both",
        "--images",
        "16",
        "--out",
        str(run),
        *TINY,
    ]
    assert cli.run(words) == 0
    out = tmp_path / "all.npz"
    assert cli.run(["sample", str(run), "-n", "3", "--label", "all", "--set", "colour=red", "--npz", "--out", str(out)]) == 0
    with np.load(out) as arrays:
        assert arrays["labels"].tolist() == [0, 0, 0, 1, 1, 1]
        assert arrays["attributes"][:, 3].tolist() == 6 * [1]
        assert (
            arrays["attributes"][:, 0].tolist() == arrays["labels"].tolist()
        )  # in these data either all images of a class smile, or none


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "smilng=1"], "did you mean smiling"),
        (["--set", "smiling"], "write NAME=VALUE"),
        (["--set", "smiling=2"], "0 or 1"),
        (["--set", "smiling=1", "--set", "smiling=0"], "given twice"),
        (["--set", "colour=violet"], "blue, dark green, red"),
        (["--label", "3"], "trained without labels; --set can set smiling, colour"),
    ],
)
def test_invalid_attributes_exit_2(
    attributed: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sample", str(attributed), *words, "--out", str(tmp_path / "no.png")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()


def test_a_run_without_attributes_rejects_attributes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sample", str(trained), "--set", "smiling=1"]) == 2
    assert "no condition 'smiling'; available: label" in capsys.readouterr().err


@pytest.mark.parametrize(("condition_on", "message"), [("attributes", "needs attributes"), ("both", "needs attributes")])
def test_conditioning_on_attributes_needs_attributes(
    folder: Path, tmp_path: Path, condition_on: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(folder), "--recipe", "cgan", "--condition-on", condition_on, "--out", str(tmp_path / "run"), *TINY]
    assert cli.run(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_dry_run_and_evaluate_support_attributes(faces: Path, attributed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", str(faces), "--recipe", "cgan", "--images", "64", "--dry-run", *TINY]) == 0
    assert "attributes (smiling, colour)" in capsys.readouterr().out
    assert cli.run(["evaluate", str(attributed), "--metrics", "swd", "-n", "32", "--json"]) == 0
    rows = document(capsys)["rows"]
    assert rows[0]["protocol"]["conditions"] == "as the real ones"


def test_show_draws_a_sheet(folder: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    assert cli.run(["show", str(faces), "--size", "16", "--out", str(out), "--json"]) == 0
    result = document(capsys)
    assert result["attributes"] == {"smiling": 30, "colour=blue": 20, "colour=dark green": 20, "colour=red": 20}
    assert (result["samples"], result["size"], result["classes"]) == (60, "16x16", {})
    assert size(out) == (8 * STEP + GAP, 8 * STEP + GAP)
    assert cli.run(["show", str(faces), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err
    assert cli.run(["show", str(folder), "--size", "16", "--out", str(tmp_path / "classes.png")]) == 0
    assert size(tmp_path / "classes.png")[1] == 2 * STEP + GAP
    assert "classes: cat 50%, dog 50%" in capsys.readouterr().out
    assert cli.run(["show", "ring", "--out", str(tmp_path / "ring.png")]) == 0
    assert cli.run(["show", "ring", "--out", str(tmp_path / "ring.jpg")]) == 2


def test_show_draws_and_lists_every_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leafwing.data.sprites.COUNT", 100)
    monkeypatch.setattr("leafwing.data.sprites.UNPAIRED_COUNT", 80)
    out = [tmp_path / f"{i}.png" for i in range(4)]
    assert cli.run(["show", "sprites", "--size", "16", "--out", str(out[0])]) == 0
    assert size(out[0])[1] == 6 * STEP + GAP, "a row for each class"
    capsys.readouterr()
    fields = "caption,box,keypoints,segmentation,edges,low,hole,clip"
    assert cli.run(["show", "sprites", "--size", "16", "--fields", fields, "--out", str(out[1])]) == 0
    text = capsys.readouterr().out
    for line in (
        "caption:      caption (34 words",
        "box:          box",
        "clip:         clip of 8 frames",
        "hole:         mask 16x16",
    ):
        assert f"\n  {line}" in text
    assert "classes:" not in text
    assert min(size(out[1])) > 700
    assert cli.run(["show", "sprites", "--size", "16", "--input", "unpaired", "--out", str(out[2]), "--json"]) == 0
    assert document(capsys)["fields"]["input"] == "image 16x16x3, unpaired"
    assert cli.run(["show", "digits", "--fields", "box", "--out", str(out[3])]) == 2
    assert "--fields box: only the built-in sprites" in capsys.readouterr().err
    assert not out[3].exists()


def test_a_recipe_file_trains_resumes_and_samples(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = Path(recipes.FOLDER / "wgan_gp.py").read_text()
    mine = tmp_path / "mine.py"
    mine.write_text(original.replace("def wgan_gp(", "def mine(").replace("penalty: float = 10.0", "penalty: float = 7.0"))
    out = str(tmp_path / "run")
    words = ["train", str(folder), "--recipe", str(mine), "--n-critic", "1", "--images", "16", "--out", out, *TINY]
    assert cli.run(words) == 0
    assert json.loads(Path(out, "run.json").read_text())["options"]["penalty"] == 7.0
    for refused in (["resume", out, "--images", "+8"], ["sample", out]):
        assert cli.run(refused) == 2
        text = capsys.readouterr().err
        assert "def mine(" in text, "the recipe is shown"
        assert "--trust" in text
    assert cli.run(["resume", out, "--images", "+8", "--trust"]) == 0
    assert cli.run(["sample", out, "--trust", "--out", str(tmp_path / "grid.png")]) == 0


def test_a_diverging_training_exits_3(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = [
        "train",
        str(folder),
        "--recipe",
        "lsgan",
        "--lr-d",
        "1e30",
        "--images",
        "400",
        "--save-every",
        "8",
        "--log-every",
        "8",
    ]
    assert cli.run([*words, "--out", str(out), *TINY]) == 3
    text = capsys.readouterr().err
    assert "of player" in text
    assert "images" in text
    assert "there is no checkpoint yet" in text


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_finishes_the_turn_writes_a_checkpoint_and_prints_how_to_continue(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", str(folder), "--images", "10M", "--log-every", "80", "--out", str(out), *TINY]
    command = [sys.executable, "-m", "leafwing", *words]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    with ending(started) as child:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and (not (out / "log.jsonl").exists() or not (out / "log.jsonl").read_text()):
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        text, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert f"leafwing resume {shlex.quote(str(out))}" in text
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])["images"]
    assert (out / f"weights-{last:09d}.safetensors").exists()
    assert cli.run(["resume", str(out), "--images", str(last + 8)]) == 0


def test_a_damaged_run_is_listed_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "0001-a").mkdir()
    (tmp_path / "0001-a" / "run.json").write_text('{\n"recipe": "dc')
    assert cli.run(["runs", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["0001-a", "(damaged)"]
    assert "run.json: not valid JSON" in lines[2]

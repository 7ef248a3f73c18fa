"""`leafwing evaluate`: what is held against what, that numbers are kept with their conditions, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import leafwing
from leafwing import cli
from leafwing import metrics as room
from leafwing.commands.evaluate import evaluate
from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.protocol import comparable
from leafwing.model import Model
from leafwing.progress import Silent
from leafwing.runs import Run

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 16, "size": 16, "threads": 1, "precision": "fp32"}
HELD = 200
LEAFWING = [sys.executable, "-m", "leafwing"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Digits with labels, 200 of them held out; checkpoints at 32 and 64 images."""
    out = tmp_path_factory.mktemp("evaluate") / "run"
    return leafwing.train("digits", "cgan", images=64, save_every=32, hold_out=HELD, out=out, **TINY)


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """The same run, in a folder of its own, without numbers so far."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("points") / "ring"
    return leafwing.train("ring", "gan", images=64, out=out, batch=16, threads=1, precision="fp32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 small pictures in grey, without labels."""
    root = tmp_path / "pictures"
    root.mkdir()
    noise = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(noise.integers(0, 256, (20, 20), dtype=np.uint8)).save(root / f"{i}.png")
    return root


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metrics that were worked out, in order."""
    names: list[str] = []
    metric = room.metric
    monkeypatch.setattr(room, "metric", lambda name: names.append(name) or metric(name))
    return names


class Said(Silent):
    """Keeps what is said, and how far what was counted came."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counted: dict[str, list[int]] = {}

    def say(self, text: str) -> None:
        self.lines.append(text)

    def report_progress(self, what: str, done: int, total: int) -> None:
        self.counted.setdefault(what, []).append(done)


def numbers(run: Run, metrics: str = "fid", n: int = 100, features: str = "pixels", **how: Any) -> list[dict[str, Any]]:
    return evaluate(run.folder, metrics=metrics, n=n, features=features, **how)


# --- rows ----------------------------------------------------------------------------------------------------------------


def test_rows_have_all_that_a_number_needs_and_are_kept(run: Run) -> None:
    rows = numbers(run, "fid,kid,prdc", n=150, seed=3)
    assert [row["metric"] for row in rows] == ["fid", "kid", "precision", "recall", "density", "coverage"]
    assert [row["by"] for row in rows] == ["fid", "kid", *["prdc"] * 4]
    row = rows[0]
    assert row["value"] > 0
    assert row["low"] < row["high"]
    assert row["better"] == "lower"
    assert (row["run"], row["images"], row["weights"]) == ("run", 64, "weights-000000064.safetensors")
    assert (row["n"], row["seed"]) == (150, 3)
    network = row["protocol"].pop("network")
    assert len(network) == 64
    assert row["protocol"] == {
        "data": run.config["data"]["fingerprint"],
        "split": "held-out",
        "held_out": HELD,
        "n_real": 150,
        "n_fake": 150,
        "shape": "16x16x1",
        "fit": "crop",
        "background": "white",
        "mirror": False,
        "labels": "as the real ones",
        "features": "pixels",
        "seed": 3,
        "precision": "fp32",
        "resize": "lanczos",
        "version": 1,
    }
    row["protocol"]["network"] = network
    assert len({row["fingerprint"] for row in rows}) == 1
    comparable(rows)
    text = (run.folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line) for line in text.splitlines()] == rows


def test_the_number_is_that_of_samples_and_held_out_pictures(run: Run) -> None:
    """FID by hand, from `Model.sample` and the split; samples are of the real pictures' classes and rounded to 8 bits."""
    (row,) = numbers(run, n=120)
    _, held = load("digits", size=16).split(HELD)
    real = held.batch(0, 0, 120)
    fake = (Model.load(run).sample(120, label=real.label) * 127.5 + 127.5).round() / 127.5 - 1
    clouds = [x.flatten(1).numpy() for x in (real.image / 127.5 - 1, fake)]
    assert row["value"] == pytest.approx(frechet_distance(*clouds), rel=1e-6)


def test_what_is_known_is_not_worked_out_again(run: Run, worked_out: list[str]) -> None:
    first = numbers(run)
    assert numbers(run) == first
    assert worked_out == ["fid"]
    assert numbers(run, "fid,kid")[0] == first[0]
    assert worked_out == ["fid", "kid"]
    again = numbers(run, again=True)
    assert again[0]["value"] == pytest.approx(first[0]["value"], rel=1e-9)
    assert numbers(run) == again, "the newest counts"
    for other in ({"n": 101}, {"seed": 1}, {"checkpoint": 32}):
        numbers(run, **other)
    assert worked_out == ["fid", "kid", "fid", "fid", "fid", "fid"]
    assert len(run.numbers()) == 6


def test_other_weights_of_the_same_name_have_other_numbers(run: Run, worked_out: list[str]) -> None:
    """As after a training that went back and then another way."""
    before = numbers(run)
    run.weights()[64].write_bytes(run.weights()[32].read_bytes())
    after = numbers(run)
    assert worked_out == ["fid", "fid"]
    assert before[0]["value"] != after[0]["value"]
    assert before[0]["fingerprint"] == after[0]["fingerprint"]


def test_a_line_that_a_kill_cut_short_costs_that_line_alone(run: Run, worked_out: list[str]) -> None:
    path = run.folder / "metrics.jsonl"
    numbers(run, "fid,kid")
    path.write_bytes(path.read_bytes()[:-30])
    numbers(run, "fid,kid")
    assert worked_out == ["fid", "kid", "kid"]
    assert [row["metric"] for row in run.numbers()] == ["fid", "kid"]
    assert len(path.read_text().splitlines()) == 3


def test_what_is_finished_is_kept_when_the_next_metric_cannot_be_had(run: Run) -> None:
    with pytest.raises(LeafwingError, match=r"features pixels: .*not a classifier"):
        numbers(run, "fid,inception_score")
    assert [row["metric"] for row in run.numbers()] == ["fid"]


def test_metrics_without_a_network_do_not_depend_on_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafwing.metrics.features.load_features", lambda *_, **__: pytest.fail("a network was made"))
    rows = numbers(run, "swd", features="own")
    assert rows[0]["protocol"]["features"] == rows[0]["protocol"]["network"] == ""


def test_checkpoints_are_chosen_by_images(run: Run) -> None:
    assert [row["images"] for row in numbers(run, checkpoint="all")] == [32, 64]
    assert [row["images"] for row in numbers(run, checkpoint="32")] == [32]
    with pytest.raises(LeafwingError, match="no weights of 48 images; it has: 32, 64, or all"):
        numbers(run, checkpoint=48)


# --- both sides ----------------------------------------------------------------------------------------------------------


def test_without_a_held_out_part_it_is_the_training_data_and_that_is_said(run: Run) -> None:
    del run.config["data"]["held_out"]
    run.update()
    said = Said()
    (row,) = numbers(run, progress=said)
    assert (row["protocol"]["split"], row["protocol"]["held_out"]) == ("train", 0)
    assert any("nothing was held out of training" in line for line in said.lines)
    assert any("100 samples are few" in line for line in said.lines)


def test_other_pictures_are_read_as_the_run_read_its_own(run: Run, folder: Path) -> None:
    (row,) = numbers(run, data=folder)
    shown = row["protocol"]
    assert (shown["split"], shown["n_real"], shown["n_fake"]) == ("other", 40, 100)
    assert (shown["shape"], shown["labels"]) == ("16x16x1", "in turn")
    assert shown["data"] == load(folder, size=16, channels=1).fingerprint
    (same,) = numbers(run, data="digits")
    assert same["protocol"]["split"] == "all"
    with pytest.raises(LeafwingError, match="different evaluation protocols"):
        comparable([row, same])


def test_as_many_samples_as_real_pictures_unless_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = evaluate(run.folder, metrics="fid", features="pixels")
    assert (row["protocol"]["n_real"], row["n"]) == (HELD, HELD)
    monkeypatch.setattr(import_module("leafwing.commands.evaluate"), "MOST", 50)
    (row,) = evaluate(run.folder, metrics="fid", features="pixels")
    assert (row["protocol"]["n_real"], row["n"]) == (50, 50)
    (row,) = numbers(run, n=300)
    assert (row["protocol"]["n_real"], row["n"]) == (HELD, 300)


def test_points_have_modes(points: Run) -> None:
    rows = evaluate(points.folder, n=500)
    assert {row["by"] for row in rows} == {"modes"}
    assert rows[0]["protocol"]["shape"] == "points"
    (more, *_) = evaluate(points.folder)
    assert more["n"] == 2_500


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metrics": "fad"}, "no metric 'fad'; did you mean fid"),
        ({"metrics": ","}, "name at least one of fid"),
        ({"features": "inceptoin"}, "no feature network 'inceptoin'; did you mean inception"),
        ({"metrics": "modes"}, "metric modes needs data whose modes are known"),
        ({"weights": "x.pth"}, "--features inception"),
        ({"weights": "x.pth", "features": "inception"}, r"--weights x\.pth: no such file"),
        ({"n": 0}, "n 0: write a count above 0"),
        ({"seed": -1}, "seed -1"),
        ({"data": "nowhere"}, "'nowhere': no such file or folder"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"metrics": "ppl", "precision": "bf16"}, "ppl needs --precision fp32"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(run: Run, given: dict[str, Any], said: str) -> None:
    with pytest.raises(LeafwingError, match=said):
        numbers(run, **given)
    assert not (run.folder / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metrics": "modes,fid"}, "metric fid looks at pictures, and .* makes points; for points there is: modes"),
        ({"data": "grid"}, "other data are for pictures"),
    ],
)
def test_points_are_no_pictures(points: Run, given: dict[str, Any], said: str) -> None:
    with pytest.raises(LeafwingError, match=said):
        evaluate(points.folder, **given)


def test_a_run_before_its_first_checkpoint_has_no_numbers(run: Run) -> None:
    for path in run.weights().values():
        path.unlink()
    with pytest.raises(LeafwingError, match="holds no weights"):
        numbers(run)


# --- the command line ----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_the_protocol(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run.folder), "--metrics", "fid,kid,swd", "-n", "64", "--features", "pixels"]
    assert cli.run(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["images", "metric", "value", "95", "%", "better"]
    assert shown[1].split()[:2] == ["64", "fid"]
    rows = run.numbers()
    assert f"{rows[0]['value']:.4g}" in shown[1]
    assert shown[-2].endswith(f"fingerprint {rows[0]['fingerprint']}")
    assert shown[-1].endswith(f"fingerprint {rows[-1]['fingerprint']}"), "swd has no feature network"
    assert cli.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "run", "rows": rows}


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--metrics", "fad"], "did you mean fid"), (["--features", "onw"], "did you mean own"), (["-n", "few"], "few")],
)
def test_bad_words_end_with_2(run: Run, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", str(run.folder), *words]) == 2
    assert said in capsys.readouterr().err


def test_memorisation_leaves_its_verdict_a_report_and_a_page(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run.folder), "--metrics", "memorisation", "-n", "64"]
    assert cli.run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    row = told["rows"][0]
    assert told["verdict"] == row["verdict"] == "none"
    report = json.loads((run.folder / row["report"]).read_text())
    assert (row["report"], row["page"]) == ("memorisation-000000064.json", "memorisation-000000064.png")
    assert (report["verdict"], report["samples"], report["held"]) == ("none", 64, HELD)
    assert row["words"] == report["words"]
    with Image.open(run.folder / row["page"]) as page:
        assert min(page.size) > 100
    assert cli.run(words) == 0
    assert row["words"] in capsys.readouterr().out


def test_two_processes_find_what_one_finds(run: Run) -> None:
    """150 samples are three blocks: process 1 has nothing to do in the last round."""
    alone = numbers(run, "fid,kid,prdc,swd", n=150)
    (run.folder / "metrics.jsonl").unlink()
    words = ["evaluate", str(run.folder), "--metrics", "fid,kid,prdc,swd", "-n", "150", "--features", "pixels", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*LEAFWING, *words, "--devices", "2"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shared = json.loads(done.stdout)["rows"]  # one document: the second process says nothing
    assert [row["metric"] for row in shared] == [row["metric"] for row in alone]
    for one, other in zip(alone, shared, strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-5)
        assert other["fingerprint"] == one["fingerprint"]
    assert len(run.numbers()) == len(alone), "both wrote"

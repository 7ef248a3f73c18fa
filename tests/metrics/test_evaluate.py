"""`leafwing evaluate`: what is compared, how values are stored with their protocols, and which arguments are rejected."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import leafwing
from leafwing import cli, weights_file
from leafwing import metrics as room
from leafwing.commands.evaluate import evaluate
from leafwing.commands.figures import as_text
from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.metrics.fid import frechet_distance
from leafwing.metrics.protocol import fingerprint, require_same_protocol
from leafwing.model import Model
from leafwing.progress import Reporter
from leafwing.runs import Run

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 16, "size": 16, "threads": 1, "precision": "fp32"}
HELD_OUT = 200
LEAFWING = [sys.executable, "-m", "leafwing"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Digits with labels, 200 of them held out; checkpoints at 32 and 64 images."""
    out = tmp_path_factory.mktemp("evaluate") / "run"
    return leafwing.train("digits", "cgan", images=64, save_every=32, hold_out=HELD_OUT, out=out, **TINY)


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    """A copy of the same run, without metrics."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("points") / "ring"
    return leafwing.train("ring", "gan", images=64, out=out, batch=16, threads=1, precision="fp32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 small grey images without labels."""
    root = tmp_path / "pictures"
    root.mkdir()
    noise = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(noise.integers(0, 256, (20, 20), dtype=np.uint8)).save(root / f"{i}.png")
    return root


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metrics that were computed, in order."""
    names: list[str] = []
    metric = room.metric
    monkeypatch.setattr(room, "metric", lambda name: names.append(name) or metric(name))
    return names


class Recorder(Reporter):
    """Records notices and progress."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counted: dict[str, list[int]] = {}

    def say(self, text: str) -> None:
        self.lines.append(text)

    def report_progress(self, what: str, done: int, total: int) -> None:
        self.counted.setdefault(what, []).append(done)


def rows_of(run: Run, metrics: str = "fid", n: int = 100, features: str = "pixels", **how: Any) -> list[dict[str, Any]]:
    return evaluate(run.folder, metrics=metrics, n=n, features=features, **how)


# --- rows ----------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_training_removes_meanwhile(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the data are read, and while the first checkpoint is evaluated."""
    lines: list[str] = []

    class Lines(Reporter):
        def say(self, text: str) -> None:
            lines.append(text)

    def meanwhile(name: str, act: Callable[[], None]) -> None:
        evaluating = import_module("leafwing.commands.evaluate")
        before = getattr(evaluating, name)
        monkeypatch.setattr(evaluating, name, lambda *args, **options: (act(), before(*args, **options))[1])

    def remove(images: int) -> None:
        run.weights()[images].unlink() if images in run.weights() else None

    shutil.copy(run.weights()[64], run.folder / "weights-000000096.safetensors")
    meanwhile("load_real_data", lambda: remove(32))
    meanwhile("compute", lambda: remove(96))
    rows = evaluate(run, checkpoint="all", metrics="swd", n=100, progress=Lines())
    assert {row["images"] for row in rows} == {64}
    assert "not evaluated: the checkpoint at 96 images, which training has removed meanwhile" in lines
    shutil.copy(run.weights()[64], run.folder / "weights-000000032.safetensors")
    with pytest.raises(LeafwingError, match="no checkpoint at 32 images; available: 64"):
        evaluate(run, checkpoint=32, metrics="swd", n=100)
    read = weights_file.read
    monkeypatch.setattr(weights_file, "read", lambda path: [path.unlink(), read(path)])
    with pytest.raises(LeafwingError, match="has no weights file"):
        Model.load(run)


def test_rows_are_complete_and_stored(run: Run) -> None:
    rows = rows_of(run, "fid,kid,prdc", n=150, seed=3)
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
        "held_out": HELD_OUT,
        "n_real": 150,
        "n_fake": 150,
        "shape": "16x16x1",
        "fit": "crop",
        "background": "white",
        "mirror": False,
        "conditions": "as the real ones",
        "features": "pixels",
        "seed": 3,
        "precision": "fp32",
        "resize": "lanczos",
        "version": 2,
        "output": "image",
    }
    row["protocol"]["network"] = network
    assert len({row["fingerprint"] for row in rows}) == 1
    require_same_protocol(rows)
    text = (run.folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    assert [json.loads(line) for line in text.splitlines()] == rows


def test_fid_compares_samples_with_held_out_images(run: Run) -> None:
    """FID computed from `Model.sample` and the split; samples have the classes of the real images and are rounded to 8 bits."""
    (row,) = rows_of(run, n=120)
    _, held_out = load("digits", size=16).split(HELD_OUT)
    real = held_out.to_network(held_out.batch(0, 0, 120))
    fake = (Model.load(run).sample(120, label=real.label) * 127.5 + 127.5).round() / 127.5 - 1
    clouds = [x.flatten(1).numpy() for x in (real.image, fake)]
    assert row["value"] == pytest.approx(frechet_distance(*clouds), rel=1e-6)


@pytest.mark.parametrize("held_out", [True, False])
def test_the_network_of_a_run_is_trained_on_its_training_images(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, held_out: bool
) -> None:
    """Not on those that samples are compared with; on other data there is no such part."""
    from leafwing.metrics import features

    learned: list[int] = []
    load_features = features.load_features

    def record(name: str, data: Any, **how: Any) -> Any:
        learned.append(len(data))
        return load_features("pixels", None)

    monkeypatch.setattr(features, "load_features", record)
    rows = rows_of(run, features="own", n=40, **({} if held_out else {"data": str(folder)}))
    assert learned == [len(load("digits")) - HELD_OUT if held_out else 40]
    assert rows[0]["metric"] == "fid"


def test_stored_values_are_not_recomputed(run: Run, computed: list[str]) -> None:
    first = rows_of(run)
    assert rows_of(run) == first
    assert computed == ["fid"]
    assert rows_of(run, "fid,kid")[0] == first[0]
    assert computed == ["fid", "kid"]
    again = rows_of(run, recompute=True)
    assert again[0]["value"] == pytest.approx(first[0]["value"], rel=1e-9)
    assert rows_of(run) == again, "the latest row counts"
    for other in ({"n": 101}, {"seed": 1}, {"checkpoint": 32}):
        rows_of(run, **other)
    assert computed == ["fid", "kid", "fid", "fid", "fid", "fid"]
    assert len(run.metrics()) == 6


def test_values_of_an_earlier_version_are_reused(run: Run, computed: list[str]) -> None:
    """Rows whose protocol had `labels` instead of `conditions`, and no output."""
    rows = rows_of(run, "fid,swd")
    for row in rows:
        protocol = dict(row["protocol"])
        del protocol["output"]
        protocol["labels"] = protocol.pop("conditions")
        row |= {"protocol": protocol, "fingerprint": fingerprint(protocol), "value": 7.0}
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = rows_of(run, "fid,swd,kid")
    assert computed == ["fid", "swd", "kid"]
    assert [row["value"] for row in again[:-1]] == [7.0] * len(rows)
    assert again[0]["protocol"] == again[-1]["protocol"]


def test_replaced_weights_are_evaluated_again(run: Run, computed: list[str]) -> None:
    """As after a rollback and a different continuation."""
    before = rows_of(run)
    run.weights()[64].write_bytes(run.weights()[32].read_bytes())
    after = rows_of(run)
    assert computed == ["fid", "fid"]
    assert before[0]["value"] != after[0]["value"]
    assert before[0]["fingerprint"] == after[0]["fingerprint"]


def test_a_row_whose_protocol_was_edited_is_computed_again(run: Run, computed: list[str]) -> None:
    rows = rows_of(run)
    damaged = [row | {"protocol": {"seed": 0}} for row in rows]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in damaged))
    assert [row["protocol"] for row in rows_of(run)] == [row["protocol"] for row in rows]
    assert computed == ["fid", "fid"]


def test_a_truncated_line_loses_only_that_row(run: Run, computed: list[str]) -> None:
    path = run.folder / "metrics.jsonl"
    rows_of(run, "fid,kid")
    path.write_bytes(path.read_bytes()[:-30])
    rows_of(run, "fid,kid")
    assert computed == ["fid", "kid", "kid"]
    assert [row["metric"] for row in run.metrics()] == ["fid", "kid"]
    assert len(path.read_text().splitlines()) == 3


def test_finished_metrics_are_stored_when_a_later_one_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = room.metric

    def failing(name: str) -> Callable[..., Any]:
        if name == "kid":
            raise LeafwingError("no memory left")
        return metric(name)

    monkeypatch.setattr(room, "metric", failing)
    with pytest.raises(LeafwingError, match="no memory left"):
        rows_of(run, "fid,kid")
    assert [row["metric"] for row in run.metrics()] == ["fid"]


def test_metrics_without_features_do_not_load_a_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafwing.metrics.features.load_features", lambda *_, **__: pytest.fail("a network was loaded"))
    rows = rows_of(run, "swd", features="own")
    assert rows[0]["protocol"]["features"] == rows[0]["protocol"]["network"] == ""


def test_checkpoints_are_selected_by_images(run: Run) -> None:
    assert [row["images"] for row in rows_of(run, checkpoint="all")] == [32, 64]
    assert [row["images"] for row in rows_of(run, checkpoint="32")] == [32]
    with pytest.raises(LeafwingError, match="no checkpoint at 48 images; available: 32, 64, or all"):
        rows_of(run, checkpoint=48)


# --- both sides ----------------------------------------------------------------------------------------------------------


def test_without_held_out_data_the_training_data_are_used_with_a_notice(run: Run) -> None:
    del run.config["data"]["held_out"]
    run.update()
    progress = Recorder()
    (row,) = rows_of(run, progress=progress)
    assert (row["protocol"]["split"], row["protocol"]["held_out"]) == ("train", 0)
    assert any("--hold-out" in line for line in progress.lines)
    assert any("100" in line and "FID" in line for line in progress.lines)


def test_other_data_are_loaded_with_the_options_of_the_run(run: Run, folder: Path) -> None:
    (row,) = rows_of(run, data=folder)
    protocol = row["protocol"]
    assert (protocol["split"], protocol["n_real"], protocol["n_fake"]) == ("other", 40, 100)
    assert (protocol["shape"], protocol["conditions"]) == ("16x16x1", "defaults")
    assert protocol["data"] == load(folder, size=16, channels=1).fingerprint
    (same,) = rows_of(run, data="digits")
    assert same["protocol"]["split"] == "all"
    with pytest.raises(LeafwingError, match="different evaluation protocols"):
        require_same_protocol([row, same])


def test_classes_have_the_names_of_the_run_with_data_of_other_classes(run: Run, folder: Path) -> None:
    for number, path in enumerate(sorted(folder.iterdir())):
        other = folder / ("hat", "shoe")[number % 2]
        other.mkdir(exist_ok=True)
        path.rename(other / path.name)
    row = rows_of(run, "prdc", data=folder, n=200)[0]
    assert set(row["by_class"]) == {str(digit) for digit in range(10)}


def test_runs_with_augmentation_are_checked_for_leaks(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leafwing.metrics.leaks.STEPS", 5)
    with pytest.raises(LeafwingError, match="nothing to check"):
        rows_of(run, "fid,leaks")
    augmented = leafwing.train("digits", "dcgan", images=16, augment="p=.2", out=tmp_path / "augmented", **TINY)
    names = [row["by"] for row in evaluate(augmented.folder, n=50, features="pixels")]
    assert list(dict.fromkeys(names)) == ["fid", "kid", "prdc", "leaks", "memorisation"]
    rows = rows_of(augmented, "leaks", n=50)  # from the record
    assert [row["metric"] for row in rows] == [
        f"{kind}{end}" for kind in ("turned", "inverted") for end in ("", "_seen", "_real")
    ]
    assert "inverted in lightness" in as_text(rows)
    everything = [*evaluate(augmented.folder, n=50, features="pixels"), *rows]
    short, full = as_text(everything), as_text(everything, verbose=True)
    for detail in ("inverted_seen", "distance_ratio", "copied_near", "fingerprint"):
        assert detail in full
        assert detail not in short
    assert "inverted in lightness" in short, "in words"
    named = as_text(everything, metrics="fid, leaks")
    assert "inverted_seen" in named, "named by the user"
    assert "distance_ratio" not in named
    assert re.search(r"\ncopied |  copied  ", short)
    assert "50 samples vs. 1,797 training images\n" in short
    assert "turned_seen" in as_text(rows), "all that there is"
    assert rows[0]["protocol"]["split"] == "train"
    with_data = evaluate(augmented.folder, n=20, features="pixels", data=folder)
    assert "leaks" not in {row["by"] for row in with_data}


def test_the_default_number_of_samples_is_that_of_real_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = evaluate(run.folder, metrics="fid", features="pixels")
    assert (row["protocol"]["n_real"], row["n"]) == (HELD_OUT, HELD_OUT)
    monkeypatch.setattr(import_module("leafwing.commands.real_data"), "MAX_DEFAULT_SAMPLES", 50)
    (row,) = evaluate(run.folder, metrics="fid", features="pixels")
    assert (row["protocol"]["n_real"], row["n"]) == (50, 50)
    (row,) = rows_of(run, n=300)
    assert (row["protocol"]["n_real"], row["n"]) == (HELD_OUT, 300)


def test_points_are_evaluated_by_modes(points: Run) -> None:
    rows = evaluate(points.folder, n=500)
    assert {row["by"] for row in rows} == {"modes"}
    assert rows[0]["protocol"]["shape"] == "points"
    (more, *_) = evaluate(points.folder)
    assert more["n"] == 2_500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "fad"}, "no metric 'fad'; did you mean fid"),
        ({"metrics": ","}, "metrics='?,'?: .*fid"),
        ({"features": "inceptoin"}, "no feature network 'inceptoin'; did you mean inception"),
        ({"metrics": "modes"}, "modes"),
        ({"metrics": "fid,reconstruction"}, "metric reconstruction .* image is generated from label"),
        ({"output": "imge"}, "no output 'imge'; did you mean image"),
        ({"weights": "x.pth", "features": None}, "name the network too: --features lite0 or inception"),
        ({"circular": True, "features": None}, "name the network too"),
        ({"weights": "x.pth", "features": "inception"}, r"weights='?x\.pth'?: no such file"),
        ({"n": 0}, "n=.?0"),
        ({"n": 10**12}, r"n=.* needs about .* of memory, and .* are free: at most .* samples"),
        ({"seed": -1}, "seed=.?-1"),
        ({"data": "nowhere"}, "nowhere"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"metrics": "ppl", "precision": "bf16"}, "ppl .*--precision fp32"),
    ],
)
def test_invalid_arguments_are_rejected_and_write_nothing(
    run: Run, arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leafwing.commands.real_data.available_memory", lambda: 8 << 30)
    with pytest.raises(LeafwingError, match=message):
        rows_of(run, **arguments)
    assert not (run.folder / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "modes,fid"}, "metric fid .*points.*modes"),
        ({"data": "grid"}, "data='?grid"),
    ],
)
def test_image_metrics_and_other_data_are_rejected_for_points(points: Run, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        evaluate(points.folder, **arguments)


def test_a_run_without_checkpoints_is_rejected(run: Run) -> None:
    for path in run.weights().values():
        path.unlink()
    with pytest.raises(LeafwingError, match="no weights"):
        rows_of(run)


# --- the command line ----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_the_protocol(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(run.folder), "--metrics", "fid,kid,swd", "-n", "64", "--features", "pixels", "--verbose"]
    assert cli.run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(("The samples are ", "The distance of the samples "))
    assert "; other real images have " in lines[0]
    assert lines[1].split() == ["images", "metric", "value", "95%", "interval", "real", "images", "noise", "better"]
    assert lines[2].split()[:2] == ["64", "fid"]
    rows = run.metrics()
    assert f"{rows[0]['value']:.4g}" in lines[2]
    assert lines[-2].endswith(f"fingerprint {rows[0]['fingerprint']}")
    assert lines[-1].endswith(f"fingerprint {rows[-1]['fingerprint']}"), "swd has no feature network"
    assert cli.run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "run", "rows": rows}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--metrics", "fad"], "did you mean fid"), (["--features", "onw"], "did you mean own"), (["-n", "few"], "few")],
)
def test_invalid_options_exit_with_2(
    run: Run, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["evaluate", str(run.folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_memorisation_writes_its_verdict_a_report_and_a_page(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(run.folder), "--metrics", "memorisation", "-n", "64"]
    assert cli.run([*arguments, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    row = output["rows"][0]
    assert output["verdict"] == row["verdict"] == "none"
    report = json.loads((run.folder / row["report"]).read_text())
    assert (row["report"], row["page"]) == ("memorisation-000000064.json", "memorisation-000000064.png")
    assert (report["verdict"], report["samples"], report["held"]) == ("none", 64, HELD_OUT)
    assert row["words"] == report["words"]
    assert {"way", "ways", "new"} <= report.keys()
    assert {"whole", "limit", "chance"} <= report["ways"][report["way"]].keys()
    with Image.open(run.folder / row["page"]) as page:
        assert min(page.size) > 100
    assert cli.run(arguments) == 0
    assert row["words"] in capsys.readouterr().out


def test_each_evaluation_of_memorisation_keeps_its_page(run: Run) -> None:
    def page_of(**arguments: Any) -> tuple[Path, bytes]:
        row = rows_of(run, "memorisation", **arguments)[0]
        report = json.loads((run.folder / row["report"]).read_text())
        assert (report["samples"], report["fingerprint"]) == (row["n"], row["fingerprint"])
        page = run.folder / row["page"]
        return page, page.read_bytes()

    first, other = page_of(n=64), page_of(n=40, seed=5)
    assert first[0] != other[0]
    assert page_of(n=64) == first
    assert page_of(n=40, seed=5) == other
    rows = len(run.metrics())
    first[0].unlink()
    assert page_of(n=64) == first, "a page that is missing is made again"
    assert len(run.metrics()) > rows
    report = other[0].with_suffix(".json")
    report.write_text(report.read_text().replace('"fingerprint": "', '"fingerprint": "00'))
    replaced, _ = page_of(n=40, seed=5)
    assert replaced.is_file(), "and one that belongs to another evaluation is not shown"
    assert '"00' in report.read_text() or replaced == other[0]


@pytest.mark.slow  # starts several processes
def test_two_processes_give_the_same_values_as_one(run: Run) -> None:
    """150 samples are three blocks, so process 1 is idle in the last round."""
    single = rows_of(run, "fid,kid,prdc,swd", n=150)
    (run.folder / "metrics.jsonl").unlink()
    arguments = ["evaluate", str(run.folder), "--metrics", "fid,kid,prdc,swd", "-n", "150", "--features", "pixels", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [*LEAFWING, *arguments, "--devices", "2"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    shared = json.loads(process.stdout)["rows"]  # one document: the second process prints nothing
    assert [row["metric"] for row in shared] == [row["metric"] for row in single]
    for one, other in zip(single, shared, strict=True):
        assert other["value"] == pytest.approx(one["value"], rel=1e-5)
        assert other["fingerprint"] == one["fingerprint"]
    assert len(run.metrics()) == len(single), "both processes wrote"

"""`leafwing compare` as a whole: real trainings, interrupted and continued; failures; the report."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from fake_workers import Answer, FakeWorkers
from leafwing import cli, commands, recipes
from leafwing.commands.comparison import compare, report
from leafwing.commands.comparison.plan import ComparedRecipe
from leafwing.commands.comparison.record import RunState
from leafwing.data import Dataset, load
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import Clock, DataSpec, Output
from leafwing.metrics.conclusions import Budget
from leafwing.metrics.table import RunResult
from leafwing.model import Model
from leafwing.parts.priors import Normal
from leafwing.pixels import images_to_tensor
from leafwing.progress import Reporter
from leafwing.runs import Run
from page import Page
from paired import paired_data
from small_comparison import OPTIONS, RING, Finished, plan_of
from tiny import PICTURES, build, start, supports

# --- whole comparisons ------------------------------------------------------------------------------------------------------


def test_all_runs_are_trained_and_evaluated(finished: Finished) -> None:
    out, table = finished
    assert json.loads((out / "table.json").read_text()) == table
    assert [(run["recipe"], run["seed"]) for run in table["runs"]] == [("gan", 0), ("gan", 1), ("lsgan", 0), ("lsgan", 1)]
    for run in table["runs"]:
        assert (run["status"], run["images"], run["generator_steps"]) == ("finished", 600, 12)
        assert run["seconds"] > 0
        assert run["best"].keys() == run["final"].keys() == {"modes", "high_quality", "kl"}
        assert all(isinstance(value, float) for value in run["final"].values())
    assert {row["recipe"] for row in table["summary"]} == {"gan", "lsgan"}
    assert len(table["sentences"]) == 3
    assert all(sentence.endswith(".") for sentence in table["sentences"])
    lines = list(csv.reader((out / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert len(lines) == 5
    assert {"final_modes", "best_kl"} <= {*lines[0]}
    assert len(table["protocols"]) == 1
    run = Run(out / "runs" / "gan-seed1")
    assert run.settings.schedule.seed == 1
    assert run.config["options"]["width"] == 8
    checkpoints = list(run.weights())
    assert checkpoints[0] <= 50
    assert checkpoints[-1] == 600
    assert 8 <= len(checkpoints) <= 10
    rows = json.loads((out / "compare.json").read_text())["runs"]["gan-seed1"]["numbers"]
    evaluated = {row["images"] for row in rows}
    assert evaluated < {*checkpoints}
    assert len(evaluated) == 8
    assert 600 in evaluated


def test_a_second_call_repeats_nothing(finished: Finished, fake_workers: FakeWorkers) -> None:
    out, table = finished
    page = (out / "report.html").read_text()
    assert commands.compare("ring", **RING, out=out) == table
    assert fake_workers.requests == []
    assert (out / "report.html").read_text() == page


def test_the_command_line_does_the_same(
    finished: Finished, fake_workers: FakeWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    out, table = finished
    words = ["compare", "ring", "--recipes", "gan,lsgan", "--seeds", "2", "--images", "600", "-n", "200", "--jobs", "2"]
    words += [word for option in OPTIONS for word in ("--set", option)] + ["--out", str(out)]
    assert table["command"] == shlex.join(["leafwing", *words])
    assert cli.run(words) == 0
    output = capsys.readouterr().out
    assert output.startswith(" ".join(table["sentences"]))
    assert f"report  {out / 'report.html'}" in output
    assert cli.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == table
    assert cli.run(["compare", "ring", "--recipes", "gan", "--out", str(out)]) == 2
    assert fake_workers.requests == []


def test_a_recipe_file_can_be_compared(finished: Finished, fake_workers: FakeWorkers, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(recipes.locate("gan").read_text().replace("def gan(", "def mine("))
    arguments = {**RING, "recipes": [str(path)], "options": [option.removeprefix("gan.") for option in OPTIONS]}
    table = commands.compare("ring", **{**arguments, "seeds": 1}, out=tmp_path / "out")
    gan, mine = finished[1]["runs"][0], table["runs"][0]
    assert mine["recipe"] == "mine"
    assert (mine["final"], mine["best"]) == (gan["final"], gan["best"])
    assert table["sentences"][0].startswith("mine is the only recipe")
    path.write_text(path.read_text() + "\nOTHER = 1\n")
    with pytest.raises(
        LeafwingError, match=r"recipe mine: its file has changed.* restore \S*mine\.py as it was and continue"
    ):
        commands.compare("ring", **arguments, out=tmp_path / "out")


def test_recipes_and_seeds_can_be_added_but_not_removed(
    finished: Finished, fake_workers: FakeWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    before = (out / "compare.json").read_bytes()
    for change, message in (
        ({"images": 500}, "images: 600 before, 500 now"),
        ({"seeds": 1}, "missing seeds: 1"),
        ({"recipes": "gan"}, "missing recipe: lsgan"),
        ({"options": (*OPTIONS, "gan.lr_g=0.2")}, r"recipe gan: lr_g=0.001 before, 0.2 now"),
        ({"minutes": 1}, "minutes: None before, 1 now"),
    ):
        with pytest.raises(LeafwingError, match=message) as caught:
            commands.compare("ring", **{**RING, **change}, out=out)
        assert "leafwing compare ring --recipes gan,lsgan" in str(caught.value)
    with pytest.raises(LeafwingError, match=r"source: ring before, \S*grid now"):
        commands.compare("grid", **RING, out=out)
    assert (out / "compare.json").read_bytes() == before
    assert fake_workers.requests == []

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare.Workers, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        commands.compare("ring", **{**RING, "seeds": 3, "recipes": "gan,lsgan,wgan"}, out=out)
    content = json.loads((out / "compare.json").read_text())
    assert (content["seeds"], list(content["recipes"])) == ([0, 1, 2], ["gan", "lsgan", "wgan"])


def results(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of runs without times."""
    return [{key: value for key, value in run.items() if "seconds" not in key} for run in table["runs"]]


def test_an_interrupted_comparison_continues_with_the_same_results(
    finished: Finished, fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    out, limit = tmp_path / "out", time.monotonic() + 200

    def interrupt() -> None:
        while len([*out.glob("runs/*/weights-*")]) < 2 and time.monotonic() < limit:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    fake_workers.waits = True
    with pytest.raises(KeyboardInterrupt):
        commands.compare("ring", **{**RING, "seeds": 1}, out=out)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (out / "report.html").exists()
    reached = [max(Run(path.parent).weights()) for path in out.glob("runs/*/run.json")]
    assert len(reached) == 2
    assert all(0 < images < 600 for images in reached), reached
    fake_workers.requests.clear()
    fake_workers.waits = False
    table = commands.compare("ring", **{**RING, "seeds": 1}, out=out)
    assert fake_workers.calls().count("resume") == 2
    assert results(table) == results(finished[1])[::2]


def test_failures_do_not_affect_other_runs(fake_workers: FakeWorkers, tmp_path: Path) -> None:
    kills = [True]

    def answer(request: Mapping[str, Any]) -> Answer | None:
        arguments = request["arguments"]
        is_last = request["call"] == "train" and arguments["recipe"] == "lsgan" and arguments["settings"]["schedule"]["seed"]
        return (-signal.SIGKILL, "", "") if is_last and kills.pop() else None

    fake_workers.answer = answer
    arguments = {**RING, "options": (*OPTIONS, "gan.lr_d=1e30"), "out": tmp_path / "out"}
    table = commands.compare("ring", **arguments)
    gan, lsgan = sorted(table["summary"], key=lambda row: row["recipe"])
    assert (gan["collapsed"], gan["collapse_rate"], gan["final"]["modes"]["missing"]) == (2, 1.0, 2)
    assert (lsgan["runs"], lsgan["failed"]) == (2, 1)
    assert [run["status"] for run in table["runs"]] == ["diverged", "diverged", "finished", "failed"]
    assert re.search(r"became (nan|inf)", table["runs"][0]["why"])
    assert "SIGKILL" in table["runs"][3]["why"]
    assert "1 of 4 runs aborted" in table["sentences"][2]
    kills.append(False)
    fake_workers.requests.clear()
    table = commands.compare("ring", **arguments)
    assert fake_workers.calls() == ["evaluate", "train"], "the failed run is repeated, diverged ones are not"
    assert table["runs"][3]["status"] == "finished"


def test_a_full_disk_or_an_impossible_evaluation_ends_the_comparison(fake_workers: FakeWorkers, tmp_path: Path) -> None:
    fake_workers.answer = lambda request: (4, "", "leafwing: cannot write runs: No space left on device")
    with pytest.raises(StorageError, match="No space left"):
        commands.compare("ring", **RING, out=tmp_path / "full")
    assert len(fake_workers.requests) <= 2
    fake_workers.answer = lambda request: (2, "", "leafwing: no such thing") if request["call"] == "evaluate" else None
    with pytest.raises(LeafwingError, match=r"cannot be evaluated: no such thing. See .*logs"):
        commands.compare("ring", **{**RING, "seeds": 1}, out=tmp_path / "impossible")


def test_a_run_whose_folder_was_removed_is_trained_and_evaluated_again(
    finished: Finished, fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    shutil.rmtree(out / "runs" / "gan-seed0")
    fake_workers.answer = lambda request: (1, "", "leafwing: enough") if request["call"] == "train" else None
    failed = commands.compare("ring", **RING, out=out)["runs"][0]
    assert (failed["status"], failed["why"], failed["best"]["modes"]) == ("failed", "enough", None), "no old values"
    fake_workers.requests.clear()
    fake_workers.answer = lambda request: None
    assert results(commands.compare("ring", **RING, out=out)) == results(finished[1])
    assert fake_workers.calls() == ["evaluate", "train"]


def test_a_run_that_was_resumed_by_itself_is_compared_as_it_was_before(
    finished: Finished, fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    """At equal numbers of images; not with twice as many as the others."""
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    page, alone = (out / "report.html").read_text(), out / "runs" / "gan-seed0"
    content = json.loads((out / "compare.json").read_text())
    assert content["runs"]["gan-seed0"]["images"] == 600
    content["runs"]["gan-seed0"] |= {"images": None, "variety": None}  # as an earlier version wrote it
    (out / "compare.json").write_text(json.dumps(content))
    resumed = leafwing.resume(alone, images="+600", progress=False)
    config = json.loads((alone / "run.json").read_text())
    config["schedule"]["images"] = 9_000  # planned, and interrupted at 1,200
    (alone / "run.json").write_text(json.dumps(config))
    assert commands.compare("ring", **RING, out=out)["runs"] == finished[1]["runs"]
    assert (out / "report.html").read_text().replace(str(out), str(finished[0])) == page
    assert fake_workers.requests == []
    fake_workers.answer = lambda request: (2, "", "leafwing: enough")
    with pytest.raises(LeafwingError, match="gan-seed0 cannot be evaluated: enough"):
        commands.compare("ring", **{**RING, "n": 100, "jobs": 1}, out=out)
    assert fake_workers.calls() == ["evaluate"]
    checkpoints = fake_workers.requests[0]["arguments"]["checkpoints"]
    assert (len(checkpoints), checkpoints[-1], max(resumed.weights())) == (8, 600, 1200)
    resumed.weights()[600].unlink()
    with pytest.raises(LeafwingError, match=r"by itself, to 1,200 images, and its checkpoint at 600 .* Move this folder"):
        commands.compare("ring", **RING, out=out)
    record: Any = SimpleNamespace(run_state=lambda *run: RunState(images=300), run_folder=lambda *run: alone)
    assert report.end_of(plan_of("ring", tmp_path / "plan", **RING), record, "gan", 0) == 300, "its time was up"


def test_an_evaluation_that_succeeds_is_no_longer_reported_as_failed(
    finished: Finished, fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    out, warnings = tmp_path / "copy", list[str]()
    shutil.copytree(finished[0], out)
    content = json.loads((out / "compare.json").read_text())
    content["runs"]["gan-seed0"] |= {"evaluation": None, "unevaluated": "its evaluation was ended by SIGKILL"}
    (out / "compare.json").write_text(json.dumps(content))
    progress = Reporter()
    progress.warn = warnings.append  # type: ignore[method-assign]
    assert results(commands.compare("ring", **RING, out=out, progress=progress)) == results(finished[1])
    assert [text for text in warnings if "SIGKILL" in text] == []
    assert json.loads((out / "compare.json").read_text())["runs"]["gan-seed0"]["unevaluated"] == ""


def test_data_that_change_meanwhile_end_the_comparison_before_they_are_trained_on(
    fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for i in range(20):
        Image.new("L", (16, 16), 10 * i).save(source / f"{i:02}.png")
    late = source / "late.png"
    arguments: dict[str, Any] = {"seeds": 1, "size": 16, "images": 64, "options": ("width=8",), "jobs": 1, "out": out}
    arguments |= {"recipes": "gan,lsgan", "metrics": "fid", "features": "pixels", "hold_out": 4}

    def answer(request: Mapping[str, Any]) -> Answer | None:
        if request["call"] == "evaluate":
            Image.new("L", (16, 16), 255).save(late)
            return 0, json.dumps({"rows": []}), ""
        return None

    fake_workers.answer = answer
    began = "has changed since the comparison began: 21 samples instead of 20. Restore the images and labels"
    with pytest.raises(LeafwingError, match=began):
        commands.compare(source, **arguments)
    assert fake_workers.calls() == ["evaluate", "speed", "train"]
    with pytest.raises(LeafwingError, match=r"source has changed since that comparison began.*or restore the images"):
        commands.compare(source, **arguments)
    late.unlink()
    config = json.loads((out / "runs/gan-seed0/run.json").read_text())
    config["data"] |= {"fingerprint": "0" * 64, "samples": 21}
    (out / "runs/gan-seed0/run.json").write_text(json.dumps(config))
    with pytest.raises(
        LeafwingError, match=r"gan-seed0 was trained on other data .* 21 samples .* has 20 .*Remove this folder"
    ):
        commands.compare(source, **arguments)


def test_a_recipe_file_that_changes_meanwhile_ends_the_comparison_before_it_is_trained(
    fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    path, out = tmp_path / "mine.py", tmp_path / "out"
    text = recipes.locate("gan").read_text().replace("def gan(", "def mine(")
    path.write_text(text)
    arguments = {"recipes": str(path), "seeds": 2, "images": 64, "options": ("width=8",), "jobs": 1, "out": out}

    def answer(request: Mapping[str, Any]) -> Answer | None:
        if request["call"] == "evaluate":
            path.write_text(text + "OTHER = 1\n")
            return 0, json.dumps({"rows": []}), ""
        return None

    fake_workers.answer = answer
    with pytest.raises(LeafwingError, match=r"mine\.py has changed since the comparison began\. Restore it"):
        commands.compare("ring", **arguments)
    assert fake_workers.calls() == ["evaluate", "speed", "train"]
    path.write_text(text + "# a comment\n")
    (out / "runs/mine-seed0/recipe.py").write_text(text + "OTHER = 1\n")
    with pytest.raises(
        LeafwingError, match=r"mine-seed0 was trained with another version of .*mine\.py.* Remove this folder"
    ):
        commands.compare("ring", **arguments)
    assert fake_workers.calls() == ["evaluate", "speed", "train"]


# --- the report -------------------------------------------------------------------------------------------------------------


def test_a_run_that_held_out_other_pairs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an earlier version did, where pairs share an input."""
    config: dict[str, Any] = {"data": {"fingerprint": "f", "held_out": 2, "held_out_by": None}}
    monkeypatch.setattr(
        compare,
        "Run",
        lambda folder: SimpleNamespace(data=SimpleNamespace(**config["data"]), recipe_is_installed=lambda: True),
    )
    (tmp_path / "run.json").write_text("{}")
    record: Any = SimpleNamespace(run_folder=lambda name, seed: tmp_path)
    plan: Any = SimpleNamespace(
        conditions=SimpleNamespace(fingerprint="f"),
        data=SimpleNamespace(shared_field=lambda: "input"),
        recipes={"pix2pix": SimpleNamespace(digest="")},
    )
    with pytest.raises(LeafwingError, match=r"earlier version, .* with the same input together.*Remove this folder"):
        compare.existing_run(plan, record, "pix2pix", 0)
    for same in ({"held_out_by": "input"}, {"held_out": 0}):
        config["data"] |= same
        assert compare.existing_run(plan, record, "pix2pix", 0)
        config["data"]["held_out_by"] = None


def test_the_report_is_one_complete_file(finished: Finished) -> None:
    out, table = finished
    html = (out / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert page.references
    assert all(reference.startswith("data:image/webp;base64,") for reference in page.references)
    assert not {"script", "link", "iframe", "object"} & {*page.seen}
    assert not re.findall(r"@import|url\(|https?://", html)
    text = " ".join(" ".join(page.text).split())
    assert all(sentence in text for sentence in table["sentences"])
    assert table["command"] in text
    (fingerprint,) = table["protocols"]
    assert fingerprint in text
    assert page.seen.count("svg") == 4, "three measures over images, the first over time"
    assert page.seen.count("img") == 3 + 2 * 5 + 4, (
        "real points and those of two recipes, five moments of each, the end of each run"
    )
    for word in ("Learning curves", "All runs", "interquartile", "torch", "G steps"):
        assert word in text


def test_a_moved_comparison_continues_and_shows_pages_of_closest_pairs(
    finished: Finished, fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    content = json.loads((copy / "compare.json").read_text())
    for run in copy.glob("runs/gan-*"):
        for images in (300, 600):
            Image.new("RGB", (2_000, 500 + images)).save(run / f"memorisation-{images:09d}.png")
        content["runs"][run.name]["numbers"][-1] |= {"page": "memorisation-000000600.png", "words": "No copies."}
    Image.new("RGB", (2_000, 500)).save(copy / "runs" / "lsgan-seed0" / "memorisation-000000600.png")
    (copy / "compare.json").write_text(json.dumps(content))
    assert commands.compare("ring", **RING, out=copy)["runs"] == finished[1]["runs"]
    assert fake_workers.requests == []
    html = (copy / "report.html").read_text(encoding="utf-8")
    assert html.count("No copies.") == 1, "of one run of the recipe"
    (page,) = re.findall(r'<img alt="closest pairs of gan, seed \d" [^>]+ src="data:image/webp;base64,([^"]+)"', html)
    assert "closest pairs of lsgan" not in html, "another evaluation wrote that page"
    with Image.open(io.BytesIO(base64.b64decode(page))) as image:
        assert image.size == (1100, 605)


def test_different_protocols_are_refused_and_then_evaluated_again(
    finished: Finished, fake_workers: FakeWorkers, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished[0], copy)
    content = json.loads((copy / "compare.json").read_text())
    for row in content["runs"]["lsgan-seed1"]["numbers"]:
        row["protocol"] |= {"version": 0}
    (copy / "compare.json").write_text(json.dumps(content))
    (copy / "report.html").unlink()
    with pytest.raises(LeafwingError, match=r"version: 2 and 0.*repeat the evaluation of all runs"):
        commands.compare("ring", **RING, out=copy)
    assert not (copy / "report.html").exists()
    assert commands.compare("ring", **RING, out=copy)["runs"] == finished[1]["runs"]
    assert fake_workers.calls() == ["evaluate"] * 4


def test_costs_are_processor_time_if_that_is_known(finished: Finished) -> None:
    runs = [RunResult("gan", 0, "finished", processor=1.0), RunResult("gan", 1, "diverged")]
    plan: Any = SimpleNamespace(conditions=SimpleNamespace(minutes=2, images=None), device="cpu")
    assert report.budget(plan, runs) == Budget("time", 120.0, "processor_seconds", "CPU time")
    unknown = report.budget(plan, [*runs, RunResult("gan", 2, "finished")])
    assert unknown == Budget("time", 120.0, "seconds", "wall-clock time")
    assert (
        report.describe_limit(plan) == ", 90% of what fits into 2 minutes of CPU time at the speed that was measured first"
    )
    plan.device, plan.conditions = "cuda", SimpleNamespace(minutes=None, images=600)
    assert report.budget(plan, runs) == Budget("images", None, "seconds", "wall-clock time on cuda")
    assert report.describe_limit(plan) == ""
    plan.conditions = SimpleNamespace(minutes=1, images=600)
    assert report.describe_limit(plan) == ", or for 1 minute at most"
    out, table = finished
    assert table["equal"].startswith("Equal numbers of images: 600 images per run; ")
    assert table["equal"] in (out / "report.html").read_text(encoding="utf-8")
    assert (table["unequal"], [row["judged"] for row in table["summary"]]) == ("", [0, 0]), "12 steps of G are too few"
    assert "trained long enough to be judged" in table["sentences"][0]
    assert "too short to judge" in table["sentences"][2]


@pytest.mark.parametrize("name", [name for name in recipes.names() if supports(name, PICTURES)])
def test_generator_steps_are_those_of_the_loop(name: str) -> None:
    training = start(name, PICTURES, images=100)
    turns, take = [], training.engine.take

    def take_and_count(unit: Any, batch: Any, clock: Clock) -> Any:
        turns.extend(turn for turn in unit if "G" in turn.movers)
        return take(unit, batch, clock)

    training.engine.take = take_and_count  # type: ignore[method-assign]
    list(training.ticks(50))
    game = build(name, PICTURES)
    recipe = ComparedRecipe(name, {}, {}, game.batch, game.turns, game.abilities.outputs)
    assert report.generator_steps(recipe, 100, training.clock.images) == len(turns)
    assert report.generator_steps(recipe, 100, training.clock.images, "H") is None


def test_variety_is_relative_to_real_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits", size=16)
    real = images_to_tensor(data.pictures(range(256, 512)))

    class Trained:
        """A model that returns real images with reduced contrast, and noise that disappears at 8x8."""

        output = Output("image", lambda nets, inputs, clock: inputs.latent)

        def __init__(self, contrast: float) -> None:
            self.contrast = contrast

        def sample(self, n: int, seed: int) -> torch.Tensor:
            return self.contrast * real[:n] + 0.2 * torch.tensor([1.0, -1.0]).repeat(8)

    values = []
    for contrast in (1.0, 0.5, 0.0):
        monkeypatch.setattr(Model, "load", lambda run, checkpoint, contrast=contrast: Trained(contrast))
        values.append(report.relative_variety(SimpleNamespace(spec=data.spec), data, 600))  # type: ignore[arg-type]
    assert values[0] == pytest.approx(1.0, abs=0.05)
    assert values[1] == pytest.approx(values[0] / 2, rel=1e-3)
    assert values[2] == 0.0


@pytest.mark.parametrize(
    ("sample", "distinct", "expected"), [(0.5, 1, None), (math.nan, 2, 0.0), (math.inf, 2, 0.0), (0.5, 2, 0.0)]
)
def test_the_variety_is_finite_or_unknown(
    sample: float, distinct: int, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SimpleNamespace(output=Output("image", lambda nets, inputs, clock: inputs.latent))
    model.sample = lambda n, seed: torch.full((n, 1, 16, 16), sample)
    monkeypatch.setattr(Model, "load", lambda run, checkpoint: model)
    data = load(torch.arange(distinct, dtype=torch.uint8).mul(99).repeat(10)[:, None, None].expand(-1, 16, 16).numpy())
    assert report.relative_variety(SimpleNamespace(spec=data.spec), data, 600) == expected  # type: ignore[arg-type]


def test_the_variety_of_rare_classes_counts_as_often_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image in ten is black, and all samples show their class."""
    labels = (np.arange(300) % 10 > 0).astype(np.int64)
    images = np.tile((255 * labels).astype(np.uint8)[:, None, None, None], (1, 16, 16, 1))
    data = Dataset(
        DataSpec.images(16, 16, 1, labels=("black", "white")), {"image": images, "label": labels}, "ab" * 32, "", {}
    )

    class Trained:
        output = Output("image", lambda nets, inputs, clock: inputs.latent, ("label",), Normal(4))

        def sample(self, n: int, seed: int, label: torch.Tensor) -> torch.Tensor:
            return (2.0 * label - 1)[:, None, None, None].expand(n, 1, 16, 16)

    monkeypatch.setattr(Model, "load", lambda run, checkpoint: Trained())
    assert report.relative_variety(SimpleNamespace(spec=data.spec), data, 600) == pytest.approx(1, abs=1e-3)  # type: ignore[arg-type]


def test_a_recorded_variety_that_is_infinite_is_ignored(finished: Finished) -> None:
    plan = plan_of("ring", finished[0].parent / "plan", **RING)
    record: Any = SimpleNamespace(
        run_state=lambda *run: RunState(status="finished", variety=math.inf),
        run_folder=lambda *run: finished[0] / "runs" / "gan-seed0",
    )
    assert report.run_result(plan, record, "gan", 0).variety is None


def test_the_variety_of_translations_is_that_of_translated_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = paired_data()

    class Trained:
        """A model that returns its input with reduced contrast."""

        output = Output("image", lambda nets, inputs, clock: inputs.input, ("input",))

        def __init__(self, contrast: float) -> None:
            self.contrast = contrast

        def translate(self, images: torch.Tensor, output: str) -> torch.Tensor:
            return self.contrast * images

    for contrast in (1.0, 0.25):
        monkeypatch.setattr(Model, "load", lambda run, checkpoint, contrast=contrast: Trained(contrast))
        assert report.relative_variety(SimpleNamespace(spec=data.spec), data, 600) == pytest.approx(contrast, rel=1e-3)  # type: ignore[arg-type]

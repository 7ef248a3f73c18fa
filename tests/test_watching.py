"""The responses to health alarms: warnings, stopping, rollbacks; and kills during a rollback."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

import leafwing
from leafwing import cli, files, health
from leafwing.commands.watching import Monitor, against_divergence
from leafwing.config import BestCheckpoint
from leafwing.engine import Engine
from leafwing.errors import Diverged, LeafwingError
from leafwing.progress import Reporter
from leafwing.runs import Run

TINY: dict[str, Any] = {
    "recipe": "gan", "width": 8, "width_d": 8, "pieces": 2, "dropout": 0.5, "latent": 2, "batch": 4, "optimiser": "adam",
    "lr_g": 2e-4, "lr_d": 2e-4, "threads": 1, "precision": "fp32", "device": "cpu",
    "images": 256, "log_every": 16, "save_every": 32, "grid_every": 256,
}  # fmt: skip
"""With `often` there is a check every 32 images."""


class Recorder(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("LEAFWING_CACHE", str(folder))
        yield folder


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check every 32 images of TINY."""
    monkeypatch.setattr(health, "CHECK_INTERVAL", 8)


@pytest.fixture(scope="module")
def unmonitored(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training that is not monitored."""
    return leafwing.train("ring", out=tmp_path_factory.mktemp("calm") / "run", health="off", **TINY)


def last_weights(run: Run) -> bytes:
    return list(run.weights().values())[-1].read_bytes()


def alarm_at(
    at: int, since: int, times: int = 1, kind: str = "collapse"
) -> Callable[[list[dict[str, Any]]], list[health.Alarm]]:
    """Raises an alarm at `at` images about a symptom since `since`, until there were `times` rollbacks."""

    def alarms(records: list[dict[str, Any]]) -> list[health.Alarm]:
        checks = [record["images"] for record in records if "health" in record and record["images"] >= at]
        if not checks or sum("rolled_back" in record for record in records) >= times:
            return []
        return [health.Alarm(kind, "it is unhealthy", since, checks[0], None, 2.0, 1.0, "Do something.")]

    return alarms


def test_monitoring_does_not_change_a_run(unmonitored: Run, often: None, tmp_path: Path) -> None:
    recorder = Recorder()
    watched = leafwing.train("ring", out=tmp_path / "run", progress=recorder, **TINY)
    assert last_weights(watched) == last_weights(unmonitored)
    assert [record["losses"] for record in watched.records()] == [record["losses"] for record in unmonitored.records()]
    assert [record["images"] for record in watched.records() if "health" in record] == list(range(32, 257, 32))
    assert not any("health" in record for record in unmonitored.records())
    assert health.alarms(watched.records()) == []
    assert recorder.warnings == []
    assert (watched.settings.watching.health, watched.settings.watching.max_rollbacks) == ("warn", 3)


def test_an_alarm_is_reported_once_and_logged(
    unmonitored: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "alarms", alarm_at(at=125, since=96))
    recorder = Recorder()
    run = leafwing.train("ring", out=tmp_path / "run", progress=recorder, **TINY)
    assert recorder.warnings == ["it is unhealthy, since 96 images (2 > 1). Do something."]
    assert {record["images"]: record["alarms"][0]["kind"] for record in run.records() if "alarms" in record} == {
        128: "collapse"
    }
    assert run.stop_reason == "images"
    assert last_weights(run) == last_weights(unmonitored)


def test_training_stops_with_a_checkpoint_and_can_be_resumed(
    unmonitored: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "alarms", alarm_at(at=125, since=96))
    words = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    out = str(tmp_path / "run")
    assert cli.run(["train", "ring", "--out", out, "--health", "stop", "--json", *words]) == 3
    result = json.loads(capsys.readouterr().out)
    assert (result["stop_reason"], result["images"]) == ("unhealthy", 128)
    assert [alarm["symptom"] for alarm in result["alarms"]] == ["it is unhealthy"]
    assert Path(result["weights"]).exists()
    assert Path(result["samples"]).exists()
    assert cli.run(["resume", out]) == 0  # an alarm stops training only once
    assert "It is unhealthy, since 96" in capsys.readouterr().out
    assert last_weights(Run(out)) == last_weights(unmonitored)


def test_an_unknown_response_is_rejected(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"health='?pray'?: choose from warn, stop, rollback, off"):
        leafwing.train("ring", out=tmp_path / "run", health="pray", **TINY)
    with pytest.raises(LeafwingError, match=r"max_rollbacks='?-1"):
        leafwing.train("ring", out=tmp_path / "run", max_rollbacks=-1, **TINY)
    assert not (tmp_path / "run").exists()


def lines_of(run: Run) -> list[Any]:
    """The log without values that depend on wall-clock time."""
    timed = ("seconds", "images_per_second", "memory")
    return [{name: value for name, value in record.items() if name not in timed} for record in run.records()]


def files_of(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.folder.rglob("*") if path.suffix in (".safetensors", ".png")}


def test_training_rolls_back_before_the_symptom_and_continues_at_lower_rates(
    unmonitored: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "alarms", alarm_at(at=175, since=125))
    recorder = Recorder()
    run = leafwing.train("ring", out=tmp_path / "run", health="rollback", progress=recorder, **TINY)
    back = {"from": 192, "to": 96, "why": "collapse", "rate": 0.5}
    assert run.stop_reason == "images"
    assert list(run.history.rolled_back) == [back]
    assert json.loads((run.folder / "run.json").read_text())["history"]["rolled_back"] == [back]
    assert recorder.warnings[1].startswith(
        "rolled back from 192 to 96 images (collapse); all learning rates are now 0.5 times"
    )
    records = run.records()
    at = next(i for i, record in enumerate(records) if "rolled_back" in record)
    assert records[at]["rolled_back"] == back
    images = [record["images"] for record in records]
    assert images[at - 1 : at + 2] == [96, 96, 112]
    assert images == sorted(images)
    assert [record["losses"] for record in records[:at]] == [record["losses"] for record in unmonitored.records()[:at]]
    assert records[-1]["losses"] != unmonitored.records()[-1]["losses"]
    state = run.resume_state()
    assert state is not None
    assert state["rate"] == 0.5
    assert [group["lr"] for record in state["optimisers"].values() for group in record["param_groups"]] == [1e-4, 1e-4]
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds), "the time before the rollback counts"


def test_training_stops_after_the_maximum_number_of_roll_backs(
    unmonitored: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "alarms", alarm_at(at=125, since=75, times=9))
    run = leafwing.train("ring", out=tmp_path / "run", health="rollback", max_rollbacks=2, **TINY)
    assert run.stop_reason == "unhealthy"
    assert [record["rate"] for record in run.history.rolled_back] == [0.5, 0.25]
    assert run.records()[-1]["images"] == 128
    assert list(run.weights())[-1] == 128
    resumed = leafwing.resume(run.folder, health="off")
    assert resumed.records()[-1]["images"] == 256
    state = resumed.resume_state()
    assert state is not None
    assert state["rate"] == 0.25, "the learning rate stays low"


def test_alarms_that_lower_rates_cannot_resolve_only_warn(
    unmonitored: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "alarms", alarm_at(at=125, since=75, kind="overfit"))
    recorder = Recorder()
    run = leafwing.train("ring", out=tmp_path / "run", health="rollback", progress=recorder, **TINY)
    assert run.stop_reason == "images"
    assert len(recorder.warnings) == 1
    assert last_weights(run) == last_weights(unmonitored)


def inject_nan(monkeypatch: pytest.MonkeyPatch, at: int, once: bool = True) -> None:
    """A weight of G becomes NaN at `at` images."""
    check, left = Engine.check_weights, count()

    def lost(engine: Engine, images: int) -> None:
        if images == at and (not once or next(left) == 0):
            with torch.no_grad():
                next(engine.game.players["G"].net.parameters())[0] = float("nan")
        check(engine, images)

    monkeypatch.setattr(Engine, "check_weights", lost)


def test_training_rolls_back_after_a_nan(
    unmonitored: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject_nan(monkeypatch, at=144)
    run = leafwing.train("ring", out=tmp_path / "run", health="rollback", **TINY)
    assert list(run.history.rolled_back) == [{"from": 144, "to": 128, "why": "nan", "rate": 0.5}]
    assert run.records()[-1]["images"] == 256
    assert not any("diverged" in record for record in run.records())
    inject_nan(monkeypatch, at=144, once=False)
    with pytest.raises(Diverged, match=r"player G .* the last good checkpoint has 128 images"):
        leafwing.train("ring", out=tmp_path / "other", health="rollback", max_rollbacks=2, **TINY)
    other = Run(tmp_path / "other")
    assert len(other.history.rolled_back) == 2
    (alarm,) = health.alarms(other.records())
    assert (alarm.kind, alarm.since) == ("nan", 144)


def test_without_roll_backs_a_nan_ends_training(
    cache: Path, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject_nan(monkeypatch, at=16)
    with pytest.raises(Diverged, match="there is no checkpoint yet") as raised:
        leafwing.train("ring", out=tmp_path / "run", **TINY)
    (command,) = re.findall("`leafwing (.*?)`", str(raised.value))
    assert cli.run([*shlex.split(command), "--images", "16", "--out", str(tmp_path / "slower")]) == 0
    old, new = Run(tmp_path / "run"), Run(tmp_path / "slower")
    assert new.options == {**old.options, **{name: old.options[name] / 2 for name in ("lr_g", "lr_d")}}
    assert [alarm.kind for alarm in health.alarms(Run(tmp_path / "run").records())] == ["nan"]


def test_the_remedy_of_a_nan_is_a_command_that_works(unmonitored: Run, tmp_path: Path) -> None:
    """Only a run in bf16 is offered fp32, and as a new run, because a resumed one keeps its precision."""
    run = Run(shutil.copytree(unmonitored.folder, tmp_path / "my run"))
    text = against_divergence(run, has_checkpoint=True)
    (command,) = re.findall("`leafwing (.*?)`", text)
    assert cli.run([*shlex.split(command), "--images", "+16"]) == 0
    assert Run(run.folder).options["lr_g"] == run.options["lr_g"] / 2
    assert "fp32" not in text
    run.update(replace(run.settings, machine=replace(run.settings.machine, precision="bf16")))
    *_, precision = re.findall("`leafwing (.*?)`", against_divergence(run, has_checkpoint=True))
    assert precision == f"train --from '{run.folder}' --precision fp32"


def test_the_checkpoint_before_the_first_image_is_one_like_others(cache: Path, tmp_path: Path) -> None:
    """Trainings with rollbacks begin with it. It is not evaluated for early stopping."""
    options = {**TINY, "images": 64, "health": "rollback"}
    run = leafwing.train("ring", out=tmp_path / "run", stop_on="modes.kl", **options)
    assert run.history.best.images in (32, 64)
    assert {row["images"] for row in run.metrics()} == {32, 64}
    rows = leafwing.evaluate(run, checkpoint="all", metrics="modes", n=100, progress=False)
    assert list(dict.fromkeys(row["images"] for row in rows)) == [0, 32, 64]
    assert leafwing.Model.load(run, checkpoint=0).images == 0
    assert cli.run(["sample", str(run.folder), "--checkpoint", "0", "--out", str(tmp_path / "0.png")]) == 0
    with pytest.raises(LeafwingError, match="no checkpoint at 17 images; available: 0, 32, 64"):
        leafwing.Model.load(run, checkpoint=17)


def test_a_run_that_diverged_before_its_first_checkpoint_can_be_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        inject_nan(patch, at=16, once=False)
        with pytest.raises(Diverged, match="the last good checkpoint has 0 images"):
            leafwing.train("ring", out=tmp_path / "run", health="rollback", max_rollbacks=1, **TINY)
    assert {row["images"] for row in leafwing.evaluate(tmp_path / "run", n=100, progress=False)} == {0}
    started = leafwing.train("ring", out=tmp_path / "more", start=str(tmp_path / "run"), **{**TINY, "images": 16})
    assert started.history.start.images == 0
    leafwing.resume(tmp_path / "run", lr_g=4e-4, max_rollbacks=3)
    assert (
        "learning rates at this point, 0.5 times the schedule after rollbacks: G 0.0002, D 0.0001" in capsys.readouterr().err
    )


KILLS: dict[str, tuple[Any, str, str]] = {
    # Where the process ends: at the first call of this function during a rollback with this text in an argument.
    "before the checkpoint is in place": (files, "write", "resume.pt"),
    "before anything is removed": (Monitor, "_rewind_folder", ""),
    "before the log says so": (Run, "log", "rolled_back"),
    "before run.json says so": (Run, "update", ""),
}


def test_a_roll_back_removes_metrics_and_grids_of_later_checkpoints(
    often: None, unmonitored: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training writes other weights there, so grids, metrics and the record of the best checkpoint must go."""
    monkeypatch.setattr(health, "alarms", alarm_at(at=175, since=125))
    measure = Monitor.measure

    def noting(monitor: Monitor, tick: Any) -> dict[str, Any]:
        if not monitor.roll_backs and tick.clock.images == 192:
            row = {"metric": "modes", "by": "modes", "run": "run", "n": 8, "value": 1.0, "low": None, "high": None}
            row |= {"better": "higher", "protocol": {}, "fingerprint": ""}
            rows = [row | {"images": images} for images in (96, 128)]
            (monitor.run.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            (monitor.run.samples / "000000128.png").write_bytes(b"")
            monitor.run.update(best=BestCheckpoint(128, "modes", 1.0))
        return measure(monitor, tick)

    monkeypatch.setattr(Monitor, "measure", noting)
    run = leafwing.train("ring", out=tmp_path / "run", health="rollback", **TINY)
    assert [json.loads(record)["images"] for record in (run.folder / "metrics.jsonl").read_text().splitlines()] == [96]
    assert Run(run.folder).history.best is None
    assert sorted(path.stem for path in run.samples.iterdir()) == ["000000000", "000000256"]


class Killed(Exception):
    """Replaces a kill of the process."""


@pytest.fixture(scope="module")
def rolled_back_run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training with an alarm at 192 images, rolled back to 96."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "CHECK_INTERVAL", 8)
        patch.setattr(health, "alarms", alarm_at(at=175, since=125))
        return leafwing.train("ring", out=tmp_path_factory.mktemp("back") / "run", health="rollback", **TINY)


def test_a_number_of_rollbacks_needs_them(unmonitored: Run, tmp_path: Path) -> None:
    message = "max_rollbacks=5: needs --health rollback"
    with pytest.raises(LeafwingError, match=message):
        leafwing.train("ring", out=tmp_path / "run", max_rollbacks=5, **TINY)
    with pytest.raises(LeafwingError, match=message):
        leafwing.resume(unmonitored, images="+16", max_rollbacks=5)
    with pytest.raises(LeafwingError, match=message):
        leafwing.train(replay=unmonitored, out=tmp_path / "run", max_rollbacks=5, health="stop")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("moment", KILLS)
def test_a_kill_during_a_roll_back_loses_nothing(
    moment: str, rolled_back_run: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "alarms", alarm_at(at=175, since=125))
    home, name, about = KILLS[moment]
    original, roll_back, started = getattr(home, name), Monitor.roll_back, []

    def noted(monitor: Monitor) -> None:
        started.append(1)
        roll_back(monitor)

    def killed(*given: Any, **more: Any) -> Any:
        if started and (not about or any(about in str(record) for record in given)):
            raise Killed
        return original(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "roll_back", noted)
        patch.setattr(home, name, killed)
        with pytest.raises(Killed):
            leafwing.train("ring", out=tmp_path / "run", health="rollback", **TINY)
    resumed = leafwing.resume(tmp_path / "run")
    assert files_of(resumed) == files_of(rolled_back_run)
    assert lines_of(resumed) == lines_of(rolled_back_run)
    assert resumed.history.rolled_back == rolled_back_run.history.rolled_back


def test_an_interrupted_training_rolls_back_at_the_same_point(
    rolled_back_run: Run, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the symptom and the alarm, after the rollback, and in between."""
    monkeypatch.setattr(health, "alarms", alarm_at(at=175, since=125))
    part = leafwing.train("ring", out=tmp_path / "part", health="rollback", **TINY | {"images": 160})
    for images in (224, 256):
        part = leafwing.resume(part.folder, images=images)
    assert last_weights(part) == last_weights(rolled_back_run)
    assert part.history.rolled_back == rolled_back_run.history.rolled_back


def test_copies_are_kept_for_24_checks_and_the_one_before_them(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm can be about a symptom that is as old. There is a check and a checkpoint every 16 images."""
    monkeypatch.setattr(health, "CHECK_INTERVAL", 4)
    monkeypatch.setattr("os.fsync", lambda file: None)  # saves time
    options = TINY | {"images": 416, "save_every": 16, "keep_every": 0}
    run = leafwing.train("ring", out=tmp_path / "run", health="rollback", **options)
    assert sum("health" in record for record in run.records()) == 26
    states = sorted(int(path.stem.split("-")[1]) for path in run.folder.glob("resume-*.pt"))
    assert states == [416 - 16 * checks for checks in range(25, -1, -1)]
    assert set(states) <= run.weights().keys()
    assert len(run.weights()) <= len(states) + 1


def test_held_out_images_are_monitored(cache: Path, tmp_path: Path, often: None) -> None:
    options = {"width": 8, "max_width": 16, "latent": 8, "size": 16, "recipe": "dcgan"}
    kept = {
        name: TINY[name] for name in ("batch", "threads", "precision", "device", "log_every", "save_every", "grid_every")
    }
    run = leafwing.train("digits", out=tmp_path / "run", images=64, hold_out=200, **kept, **options)
    assert [0 <= record["health"]["held_out_separation"] <= 1 for record in run.records() if "health" in record] == [
        True,
        True,
    ]


@pytest.mark.slow  # starts several processes
def test_two_processes_roll_back_together(tmp_path: Path) -> None:
    """A rate that cannot work: NaN appears four times, and both roll back to the start three times."""
    words = [
        "train",
        "digits",
        "--recipe",
        "lsgan",
        "--lr-d",
        "1e30",
        "--images",
        "160",
        "--log-every",
        "16",
        "--health",
        "rollback",
    ]
    words += [
        "--width",
        "8",
        "--max-width",
        "16",
        "--batch",
        "16",
        "--precision",
        "fp32",
        "--threads",
        "1",
        "--devices",
        "2",
    ]
    command = [sys.executable, "-m", "leafwing", *words, "--out", str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert result.returncode == 3, result.stderr
    assert result.stderr.count("rolled back from") == 3
    assert "the last good checkpoint has 0 images" in result.stderr
    assert [record["rate"] for record in Run(tmp_path / "run").history.rolled_back] == [0.5, 0.25, 0.125]


# --- it works ---

SMALL = {"width": 8, "max_width": 16, "latent": 8, "batch": 4, "size": 16}
RUNS = {
    "dcgan": ("digits", SMALL),
    "cgan": ("digits", SMALL),
    "lsgan": ("digits", SMALL),
    "wgan_gp": ("ring", {"width": 16, "batch": 16}),
    "gan": (
        "ring",
        {"width": 16, "width_d": 16, "dropout": 0, "optimiser": "adam", "lr_g": 1e-3, "lr_d": 1e-3, "batch": 16},
    ),
}


@pytest.mark.parametrize("recipe", RUNS)
def test_healthy_runs_raise_no_alarm(recipe: str, cache: Path, tmp_path: Path) -> None:
    source, options = RUNS[recipe]
    often = {"log_every": 64, "grid_every": 10_000, "save_every": 10_000}
    images = 32 * 12 * options["batch"]
    run = leafwing.train(source, recipe, out=tmp_path / "run", images=images, threads=1, device="cpu", **often, **options)
    assert sum("health" in record for record in run.records()) == 12
    assert health.alarms(run.records()) == []


def test_an_oscillating_game_raises_an_alarm(cache: Path, tmp_path: Path) -> None:
    """Batches of 16 points are too few for least squares on the ring: samples run around it."""
    often = {"log_every": 64, "grid_every": 10**6, "save_every": 10**6}
    slow = {"width": 16, "batch": 16, "latent": 100, "lr_g": 1e-4, "lr_d": 1e-4}
    run = leafwing.train("ring", "lsgan", out=tmp_path / "run", images=32 * 24 * 16, threads=1, **often, **slow)
    assert {alarm.kind for alarm in health.alarms(run.records())} == {"oscillation"}

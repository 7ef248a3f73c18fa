"""CPU threads: the default depends only on the available cores; changes are recorded, resumed and replayed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import leafwing
from leafwing import machine
from leafwing.commands import hardware
from leafwing.commands import threads as thread_check
from leafwing.config import ThreadChange
from leafwing.engine import choose, setup
from leafwing.engine.processes import Processes
from leafwing.errors import LeafwingError
from leafwing.progress import Reporter
from leafwing.runs import Run
from leafwing.settings import HardwareSettings

TINY: dict[str, Any] = {
    "recipe": "gan", "width": 8, "width_d": 8, "pieces": 2, "dropout": 0.5, "latent": 2, "batch": 4, "optimiser": "adam",
    "lr_g": 2e-4, "lr_d": 2e-4, "precision": "fp32", "device": "cpu",
    "images": 256, "log_every": 16, "save_every": 64, "grid_every": 256, "health": "off",
}  # fmt: skip


class Recorder(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_the_quota_of_a_control_group_is_counted_in_cores(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("0::/job/step\n")
    root = group(tmp_path / "two", cpu__max="max 100000\n")
    assert machine.quota(root, process) is None
    group(root / "job", cpu__max="150000 100000\n")
    group(root / "job" / "step", cpu__max="max 100000\n")
    assert machine.quota(root, process) == 1.5, "a parent's quota applies to its children"
    process.write_text("4:cpu,cpuacct:/job\n3:memory:/elsewhere\n")
    old = group(tmp_path / "one" / "cpu" / "job", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert machine.quota(tmp_path / "one", process) == 3
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    assert machine.quota(tmp_path / "one", process) is None
    assert machine.quota(tmp_path / "one", tmp_path / "missing") is None


def test_cores_are_those_available_to_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    for limit, expected in ((None, 4), (1.5, 2), (0.2, 1), (16.0, 4)):
        monkeypatch.setattr(machine, "quota", lambda limit=limit: limit)
        assert machine.cores() == expected


def test_the_default_thread_count_ignores_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is not measured: it follows from the cores, and from a number that the user set for torch."""
    monkeypatch.setattr(setup, "measure_thread_speeds", lambda *counts, **how: pytest.fail("speed was measured"))
    monkeypatch.setattr(setup, "cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert choose("cpu").threads == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose("cpu").threads == 1


def test_measuring_speeds_does_not_change_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    speed = setup.measure_thread_speeds(1, 2, seconds=0.01)
    assert speed.keys() == {1, 2}
    assert min(speed.values()) > 0
    assert torch.get_num_threads() == before


def test_training_restores_the_number_of_threads(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    leafwing.train("ring", out=tmp_path / "run", **TINY, threads=1)
    assert torch.get_num_threads() == 2
    leafwing.resume(tmp_path / "run", images="+16", threads=1)
    assert torch.get_num_threads() == 2


def simulate_busy_core(monkeypatch: pytest.MonkeyPatch, slow_from: int) -> list[int]:
    """Training with two threads is slow from `slow_from` images on; returns the number of threads at each tick."""
    counts: list[int] = []
    is_slow = False
    check = thread_check.ThreadMonitor.check

    def check_simulated(self: Any, tick: Any) -> dict[str, Any]:
        nonlocal is_slow
        counts.append(torch.get_num_threads())
        is_slow = tick.clock.images >= slow_from
        slow = is_slow and torch.get_num_threads() > 1
        simulated = SimpleNamespace(
            clock=tick.clock, seconds=float(tick.clock.images), images_per_second=10.0 if slow else 100.0
        )
        return check(self, simulated)  # type: ignore[arg-type]

    monkeypatch.setattr(thread_check.ThreadMonitor, "check", check_simulated)
    monkeypatch.setattr(
        thread_check,
        "measure_thread_speeds",
        lambda *numbers, **how: {count: 30.0 if count > 1 and is_slow else 100.0 for count in numbers},
    )
    monkeypatch.setattr(thread_check, "PATIENCE", 0.0)
    for module in (thread_check, hardware):
        monkeypatch.setattr(module, "cores", lambda: 2)
    return counts


def test_slow_training_is_reported_once_and_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, reporter = simulate_busy_core(monkeypatch, slow_from=64), Recorder()
    run = leafwing.train("ring", out=tmp_path / "run", progress=reporter, **TINY, threads=2)
    assert set(counts) == {2}
    assert len(reporter.warnings) == 1
    for part in ("from 100 to 10 images/s", "1 would be about 3.3 times as fast", "--threads 1", "--threads auto"):
        assert part in reporter.warnings[0]
    assert run.history.thread_changes == ()


def test_auto_changes_threads_at_recorded_points_that_resume_and_replay_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "cores", lambda: 2)
    torch.set_num_threads(2)
    counts = simulate_busy_core(monkeypatch, slow_from=64)
    run = leafwing.train("ring", out=tmp_path / "run", **TINY, threads="auto")
    changes = run.history.thread_changes
    assert [change.threads for change in changes] == [2, 1]
    at = changes[1].images
    assert changes[0].images == 0 < at
    assert run.settings.machine.threads == "auto"
    assert [record["threads"] for record in run.records() if "threads" in record] == [1]
    whole = list(run.weights().values())[-1].read_bytes()

    counts.clear()
    monkeypatch.setattr(thread_check, "measure_thread_speeds", lambda *counts: pytest.fail("a replay measures nothing"))
    again = leafwing.train(replay=run.folder, out=tmp_path / "again")
    assert [threads for threads in counts if threads == 2] == [2] * (at // 16)
    assert counts[-1] == 1
    assert again.history.thread_changes == changes
    assert again.settings.machine.threads == 2, "a replay changes nothing by itself"
    assert list(again.weights().values())[-1].read_bytes() == whole

    counts.clear()
    monkeypatch.setattr(
        thread_check, "measure_thread_speeds", lambda *numbers, **how: {count: 100.0 / count for count in numbers}
    )
    resumed = leafwing.resume(run.folder, images="+32")
    assert set(counts) == {1}
    assert Run(resumed.folder).history.thread_changes == changes
    leafwing.resume(run.folder, images="+32", threads=2)
    assert Run(run.folder).history.thread_changes == ()


def test_auto_begins_with_the_number_of_threads_that_is_fastest_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy core makes two threads wait for each other, and the first tick may be minutes away."""
    monkeypatch.setattr(setup, "cores", lambda: 2)
    torch.set_num_threads(2)
    counts = simulate_busy_core(monkeypatch, slow_from=0)
    speeds = {1: 100.0, 2: 30.0}
    monkeypatch.setattr(thread_check, "measure_thread_speeds", lambda *numbers, **how: speeds)
    run = leafwing.train("ring", out=tmp_path / "run", **TINY, threads="auto")
    assert set(counts) == {1}
    assert [(change.images, change.threads) for change in run.history.thread_changes] == [(0, 2), (0, 1)]
    counts.clear()
    again = leafwing.train(replay=run.folder, out=tmp_path / "again")
    assert set(counts) == {1}
    assert [*again.weights().values()][-1].read_bytes() == [*run.weights().values()][-1].read_bytes()
    plan = leafwing.commands.forecast("ring", **TINY, threads="auto")
    assert plan["images_per_second"] > 0
    assert torch.get_num_threads() == 2


def test_a_warning_that_no_longer_holds_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_busy_core(monkeypatch, slow_from=64)
    reporter, speeds = Recorder(), iter([{1: 100.0, 2: 30.0}] * thread_check.SLICES)
    free = {1: 50.0, 2: 100.0}
    monkeypatch.setattr(thread_check, "measure_thread_speeds", lambda *counts, **how: next(speeds, free))
    leafwing.train("ring", out=tmp_path / "run", progress=reporter, **TINY, threads=2)
    assert next(speeds, None) is None
    assert reporter.warnings == []


@pytest.mark.parametrize(("disturbed", "fastest"), [(0, 2), (2, 2), (3, 1), (5, 1)])
def test_a_busy_core_is_noticed_though_it_is_free_in_between(
    disturbed: int, fastest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = iter([{1: 100.0, 2: 5.0}] * disturbed + [{1: 100.0, 2: 180.0}] * (thread_check.SLICES - disturbed))
    monkeypatch.setattr(thread_check, "measure_thread_speeds", lambda *counts, **how: next(slices))
    assert thread_check.fastest_threads(2, 2) == fastest
    assert next(slices, None) is None


def test_threads_are_a_number_or_auto(tmp_path: Path) -> None:
    for wrong in ("many", "1.5", "-2"):
        with pytest.raises(LeafwingError, match="threads="):
            leafwing.train("ring", out=tmp_path / "run", **TINY, threads=wrong)
    assert not (tmp_path / "run").exists()


def processes(count: int) -> Any:
    return SimpleNamespace(local_world_size=count)


@pytest.mark.parametrize(
    ("threads", "before", "now", "values", "expected"),
    [
        (4, 1, 2, {}, 2),
        (4, 1, 2, {"threads": 4}, 4),
        (2, 2, 2, {}, 2),
        (1, 1, 2, {}, 1),
        (16, 1, 2, {}, 2),
        (2, 2, 1, {}, 4),
        ("auto", 1, 2, {}, "auto"),
    ],
)
def test_other_numbers_of_processes_share_the_threads(
    threads: Any, before: int, now: int, values: dict[str, Any], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 4)
    lines: list[str] = []
    machine = hardware.divide_threads(HardwareSettings(threads=threads), values, before, processes(now), lines.append)
    assert machine.threads == expected
    assert len(lines) == (expected != threads)


def test_a_launcher_says_how_many_processes_share_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert (Processes(0, 4).local_world_size, Processes().local_world_size) == (2, 1)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert Processes(0, 4).local_world_size == 1


def test_what_is_slow_on_this_machine_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a training that begins, by one that is resumed and by a replay; and what can be done about it."""
    for module in (hardware, setup):
        monkeypatch.setattr(module, "cores", lambda: 1)
    monkeypatch.setattr(setup, "fast_bf16", lambda device: False)
    begun, resumed, again = Recorder(), Recorder(), Recorder()
    settings = {**TINY, "images": 8, "log_every": 8, "save_every": 8, "precision": "bf16"}
    run = leafwing.train("ring", out=tmp_path / "run", progress=begun, **settings, threads=2)
    share = "2 CPU threads share 1 core and wait for each other: --threads 1 is faster"
    assert begun.warnings == [share]
    leafwing.resume(run.folder, images="+8", progress=resumed)
    leafwing.train(replay=run.folder, out=tmp_path / "again", progress=again)
    assert resumed.warnings == again.warnings
    precision, threads = resumed.warnings
    assert "bf16, which is slow on this machine" in precision
    assert f"`leafwing train --from {shlex.quote(str(run.folder))} --precision fp32`" in precision
    assert threads == f"{share}, and then the weights match up to rounding"
    chosen = Recorder()
    leafwing.train(replay=run.folder, out=tmp_path / "fp32", progress=chosen, precision="fp32", threads=1)
    assert chosen.warnings == []


def test_several_processes_do_not_get_the_threads_that_one_adapted(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = SimpleNamespace(
        history=SimpleNamespace(thread_changes=(ThreadChange(0, 3),)), settings=SimpleNamespace(machine=HardwareSettings())
    )
    for count, threads in ((2, 1), (1, 3)):
        torch.set_num_threads(1)
        engine = SimpleNamespace(processes=SimpleNamespace(world_size=count), device=torch.device("cpu"))
        training: Any = SimpleNamespace(clock=SimpleNamespace(images=8), engine=engine)
        thread_check.ThreadMonitor(run, training, Reporter())
        assert torch.get_num_threads() == threads

"""Child processes of a comparison: their outcome, speed and CPU time; progress messages."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

import leafwing
from ending import ending
from fake_workers import Answer, FakeWorkers, measured
from leafwing import commands
from leafwing.commands.comparison import compare, speed
from leafwing.commands.comparison.forecast import Work
from leafwing.commands.comparison.record import Record, RunState
from leafwing.commands.comparison.workers import Child, Outcome, RunChild, Stopped, Workers, last_message
from leafwing.errors import LeafwingError
from leafwing.game import Clock
from leafwing.progress import Reporter
from leafwing.runs import Run
from leafwing.settings import OutputSettings, Schedule, Settings
from small_comparison import RING, Finished, plan_of
from tiny import PICTURES, build

# --- child processes --------------------------------------------------------------------------------------------------------


def test_a_real_child_process_makes_calls(tmp_path: Path) -> None:
    settings = asdict(Settings(schedule=Schedule(images=50), folder=OutputSettings(save_every=50)))
    folder, log = str(tmp_path / "run"), tmp_path / "log.txt"
    outcomes: list[Outcome] = []

    def task(call: RunChild) -> None:
        training = {"source": "ring", "recipe": "gan", "settings": settings, "out": folder, "width": 8, "batch": 50}
        outcomes.append(call("train", training, log))
        outcomes.append(call("resume", {"run": str(tmp_path / "nowhere")}, log))

    Workers([{"OMP_NUM_THREADS": "1"}]).run([task])
    trained, resumed = outcomes
    assert (trained.code, json.loads(trained.output)) == (0, {"run": folder, "stop_reason": "images"})
    assert list(Run(folder).weights()) == [50]
    assert (tmp_path / "run" / "reel.webp").exists()
    assert (resumed.code, resumed.output) == (2, "")
    assert "nowhere" in resumed.message
    (_, _, _, document, *_), *_ = [shlex.split(line) for line in log.read_text().splitlines() if line.startswith("$ ")]
    assert json.loads(document)["call"] == "train"


def test_the_last_message_explains_the_exit_code() -> None:
    assert last_message("$ leafwing x\nnoise\nleafwing: it broke\n", 2) == "it broke"
    assert last_message("$ leafwing x\nTraceback\nValueError: 3\n", 1) == "ValueError: 3"
    assert last_message("$ leafwing x\n", 1) == "ended with exit code 1"
    assert "memory" in last_message("", -signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not report the time of a single process")
def test_a_child_process_has_its_own_processor_time(tmp_path: Path) -> None:
    """A second of work counts in full; neither the work of an earlier process counts, nor sleep, nor a busy machine."""
    busy, asleep = "while time.process_time() < 1: pass\nprint(time.process_time())", "time.sleep(1.5)"
    with (tmp_path / "out").open("w+b") as out, ExitStack() as stack:
        other, first, second = (
            stack.enter_context(ending(Child([sys.executable, "-c", f"import time\n{work}"], stdout=out)))
            for work in ("time.sleep(600)", busy, asleep)
        )
        assert [first.wait(), second.wait(), other.poll()] == [0, 0, None]
        out.seek(0)
        reported = float(out.read())
        assert first.processor is not None
        assert second.processor is not None
        assert first.processor >= reported, "its end is included"
        assert second.processor < reported
        other.kill()
        assert [other.wait(), other.wait(), other.poll()] == [-signal.SIGKILL] * 3
        assert other.processor is not None


def test_cpu_time_is_summed_over_sessions(tmp_path: Path) -> None:
    plan = plan_of("ring", tmp_path / "plan", **RING)
    (tmp_path / "out").mkdir()
    record = Record(tmp_path / "out")
    record.begin(plan)
    folder = record.run_folder("gan", 0)

    def session(processor: float | None) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").touch()
        return Outcome(0, "", "", processor)

    def stopped() -> Outcome:
        raise Stopped(2.0)

    def killed() -> Outcome:
        raise KeyboardInterrupt

    compare.add_cpu_time(record, "gan", 0, lambda: session(3.0))
    with pytest.raises(Stopped):
        compare.add_cpu_time(record, "gan", 0, stopped)
    compare.add_cpu_time(record, "gan", 0, lambda: session(1.5))
    assert record.run_state("gan", 0).processor == 6.5
    with pytest.raises(KeyboardInterrupt):
        compare.add_cpu_time(record, "gan", 0, killed)
    compare.add_cpu_time(record, "gan", 0, lambda: session(1.0))
    assert record.run_state("gan", 0).processor is None, "the time of the killed session is unknown"


def test_a_run_that_another_process_trains_is_waited_for(finished: Finished) -> None:
    run = Run(finished[0] / "runs" / "gan-seed0")
    lock = FileLock(run.folder / ".lock", thread_local=False)
    lock.acquire()
    releases: list[float] = []

    def release() -> None:
        time.sleep(0.3)
        releases.append(time.monotonic())
        lock.release()

    thread = threading.Thread(target=release)
    thread.start()
    compare.wait_for_lock(run, pause=0.05)
    assert releases
    thread.join()
    assert compare.is_complete(run, budget(None, 600), "gan")


def test_waiting_for_another_process_is_announced_and_can_be_stopped(finished: Finished) -> None:
    run = Run(finished[0] / "runs" / "gan-seed0")
    lines: list[str] = []
    answers = iter([False, False, True])
    with FileLock(run.folder / ".lock", thread_local=False), pytest.raises(Stopped):
        compare.wait_for_lock(run, lambda: next(answers), lines.append, pause=0.01)
    assert lines == [
        f"{run.folder} is being trained by another process, perhaps of an earlier comparison: waiting for its end"
    ]


def budget(minutes: float | None, images: int | None) -> Any:
    """A plan with nothing but a budget."""
    return SimpleNamespace(
        conditions=SimpleNamespace(minutes=minutes, images=images), device="cpu", images={"gan": images or 10_000_000}
    )


def test_a_training_that_was_cut_short_continues_with_more_time(tmp_path: Path) -> None:
    settings = {"out": tmp_path / "run", "images": "10M", "time": 0.2, "width": 8, "threads": 1, "precision": "fp32"}
    run = leafwing.train("ring", "lsgan", **settings)
    seconds = run.records()[-1]["seconds"]
    assert compare.is_complete(run, budget(seconds / 60, 10_000_000), "gan")
    assert not compare.is_complete(run, budget(2 * seconds / 60, 10_000_000), "gan")
    assert not compare.is_complete(run, budget(seconds / 60, None), "gan"), "with minutes alone there is more time"
    assert not compare.is_complete(run, budget(None, 10_000_000), "gan")


def test_a_limit_that_is_no_whole_millisecond_can_be_reached() -> None:
    """The log rounds the seconds: 60 x (0.239 / 60) is more than 0.239."""
    for milliseconds in range(200, 1000):
        seconds = milliseconds / 1000
        run: Any = SimpleNamespace(
            weights=lambda: {64: Path("64.pt")},
            records=lambda seconds=seconds: [{"images": 64, "seconds": seconds}],
            settings=SimpleNamespace(schedule=SimpleNamespace(images=10_000)),
        )
        assert compare.is_complete(run, budget(seconds / 60, 10_000), "gan")
        assert not compare.is_complete(run, budget((seconds + 0.001) / 60, 10_000), "gan")
    run.records = lambda: [{"images": 64}]  # edited
    assert not compare.is_complete(run, budget(1, 10_000), "gan")


# --- speed ------------------------------------------------------------------------------------------------------------------


def test_minutes_become_images_at_the_measured_speed(fake_workers: FakeWorkers, tmp_path: Path) -> None:
    def answer(request: Mapping[str, Any]) -> Answer:
        if request["call"] == "speed":
            return measured({"gan": 1000.0, "lsgan": 50.0})
        return 1, "", "leafwing: enough"

    fake_workers.answer = answer
    arguments = {**RING, "images": None, "minutes": 2}
    with pytest.raises(LeafwingError, match=r"no run was evaluated \(enough\)"):
        commands.compare("ring", **arguments, out=tmp_path / "out")
    orders = sorted(list(given["recipes"]) for given in fake_workers.arguments("speed"))
    assert orders == [["gan", "lsgan"], ["lsgan", "gan"]], "all recipes in every slot, each slot starts with another"
    schedules = [given["settings"]["schedule"] for given in fake_workers.arguments("train")]
    assert {schedule["images"] for schedule in schedules} == {int(0.9 * 120 * 1000), int(0.9 * 120 * 50)}
    assert {schedule["time"] for schedule in schedules} == {480.0}
    fake_workers.requests.clear()
    with pytest.raises(LeafwingError, match="no run was evaluated"):
        commands.compare("ring", **arguments, out=tmp_path / "out")
    assert "speed" not in fake_workers.calls(), "the numbers of images stay"
    fake_workers.answer = lambda request: (2, "", "leafwing: no memory")
    with pytest.raises(LeafwingError, match=r"no memory. See .*speed[01]"):
        commands.compare("ring", **arguments, out=tmp_path / "bad")


def test_images_follow_from_the_median_speed() -> None:
    speeds = {"a": [100.0, 1.0, 110.0], "b": [50.0], "c": [0.001]}
    images = speed.images_in_time(speeds, 60, {"a": 64, "b": 64, "c": 64})
    assert images == {"a": 5400, "b": 2700, "c": 64}, "at least one batch"


def test_a_slice_has_whole_rounds_and_no_warm_up() -> None:
    """Rounds of four turns of D and one of G, which shows no images and takes half of the time; slow at first."""
    now = [0.0]
    stopwatch = speed.Stopwatch(lambda: now[0])
    clock = Clock(0, 10**12, 0)
    for _ in range(20):
        for turn in range(5):
            now[0] += (0.05 if turn < 4 else 0.2) * (3 if now[0] < 0.4 else 1)
            clock = Clock(clock.images + 10 * (turn < 4), 10**12, clock.round)
            if stopwatch(clock):
                assert stopwatch.speed == pytest.approx(100.0), "40 images in a round of 0.4 s"
                assert now[0] < 3
                return
        clock = Clock(clock.images, 10**12, clock.round + 1)
    pytest.fail("the slice never ended")


def test_a_slice_of_a_very_long_round_ends_within_it() -> None:
    now = [0.0]
    stopwatch = speed.Stopwatch(lambda: now[0])
    for turn in range(1, 100):
        now[0] += 4.0
        if stopwatch(Clock(8 * turn, 10**12, 0)):
            break
    assert (stopwatch.speed, turn) == (2.0, 6), "12 s of warm-up, 12 s of the slice"


def test_a_slice_is_taken_of_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now, moments = [0.0], []
    game = build("adagan", PICTURES, components=2)

    def ticks(every: int, should_stop: Any) -> list[None]:
        seconds = 0.01 if moments[-1] < 0.5 else 0.1
        for turn in range(1, 1000):
            now[0] += seconds
            if should_stop(Clock(turn, 10**12, turn)):
                break
        return []

    setup = SimpleNamespace(device="cpu", threads=1)
    training = SimpleNamespace(game=game, engine=SimpleNamespace(setup=setup), move_to=moments.append, ticks=ticks)
    monkeypatch.setattr(speed, "new_training", lambda *arguments: (None, training))
    monkeypatch.setattr(speed, "clock_of", lambda device, threads: lambda: now[0])
    assert speed.measure_slice("photos", "adagan", Settings(), {}) == pytest.approx(2 / (0.01 + 0.1))


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 3.0), ("cuda", 100.0), ("mps", 100.0)])
def test_a_cpu_is_timed_by_its_own_work_and_other_devices_by_the_wall_clock(
    device: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a program that competes for the cores does not change a measured speed."""
    monkeypatch.setattr(time, "process_time", lambda: 12.0)
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    assert speed.clock_of(device, threads=4)() == seconds


# --- messages ---------------------------------------------------------------------------------------------------------------


def test_messages_say_how_far_the_runs_are_and_what_remains(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    progress = Reporter()
    progress.say = texts.append  # type: ignore[method-assign]
    runs = [("gan", 0), ("gan", 1), ("gan", 2)]
    plan: Any = SimpleNamespace(runs=runs, images={"gan": 1200}, jobs=1, costs={})
    record: Any = SimpleNamespace(
        run_state=lambda name, seed: RunState(status="finished"),
        run_folder=lambda name, seed: finished[0] / "runs" / ("gan-seed0" if seed == 1 else "nothing"),
    )
    messages = compare.ProgressReporter(plan, record, progress, {run: ["training", "evaluation"] for run in runs})
    messages.update()
    assert texts == [], "at most every half minute"
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    messages.last_update = 0.0
    messages.begin("gan", 0, "training")
    now[0] = 100.0
    messages.end_training("gan", 0)
    assert texts == ["gan seed 0 finished in 1m 40s"]
    messages.begin("gan", 0, "evaluation")
    now[0] = 120.0
    messages.end_evaluation("gan", 0)
    messages.end("gan", 0)
    assert texts[1:] == ["gan seed 0 evaluated in 20s", "1 of 3 runs done, about 4m 00s left"]
    messages.timetable.begin(("gan", 1), "training")
    now[0] = 180.0
    messages.update()
    assert texts[3].startswith("gan seed 1: 600 of 1.2k images, ")
    assert texts[4] == "1 of 3 runs done, about 3m 30s left", (
        "60 and 20 s, and 110 and 20 s, as the two trainings so far took 110"
    )
    assert compare.last_log_line(finished[0] / "nothing") == {}
    diverged = {"images": 700, "seconds": 1.0, "losses": {}, "diverged": "D became nan"}
    monkeypatch.setattr(compare, "last_log_line", lambda log: diverged)
    now[0] = 220.0
    messages.update()
    assert texts[5] == "gan seed 1: 700 of 1.2k images"
    messages.timetable.active["gan", 1] = Work("evaluation", 200.0, 0.0)
    now[0] = 260.0
    messages.update()
    assert texts[7] == "gan seed 1: evaluating"


def test_an_error_while_reporting_starts_nothing_more() -> None:
    begun: list[int] = []

    def task(call: RunChild) -> None:
        if workers.is_stopping():
            raise Stopped
        begun.append(1)
        time.sleep(0.6)

    def report() -> None:
        raise RuntimeError("mine")

    workers = Workers([{}])
    with pytest.raises(RuntimeError, match="mine"):
        workers.run([task] * 20, report)
    assert len(begun) < 20

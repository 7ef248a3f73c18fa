"""The table of runs: which are being trained, finished or stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import filelock
import pytest

from bare_run import create
from leafwing import cli, files
from leafwing.commands.runs import list_runs
from leafwing.errors import LeafwingError
from leafwing.runs import Run


@pytest.mark.parametrize(
    ("schedule", "last", "state", "shown"),
    [
        ({}, None, "stopped", "stopped: 0%"),
        ({}, {"images": 414, "seconds": 3.0}, "stopped", "stopped: 41%"),
        ({}, {"images": 999, "seconds": 3.0}, "stopped", "stopped: 99%"),
        ({}, {"images": 1000, "seconds": 3.0}, "finished", "finished"),
        ({}, {"images": 1024, "seconds": 3.0}, "finished", "finished"),
        ({"time": 60.0}, {"images": 414, "seconds": 59.9}, "stopped", "stopped: 41%"),
        ({"time": 60.0}, {"images": 414, "seconds": 60.02}, "finished", "finished"),
        ({"time": 0.2390004}, {"images": 414, "seconds": 0.239}, "finished", "finished"),  # the log rounds
    ],
)
def test_a_run_is_finished_or_stopped(
    schedule: dict[str, Any],
    last: dict[str, Any] | None,
    state: str,
    shown: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = create(root=tmp_path, schedule={"images": 1000, "seed": 0, "time": None} | schedule)
    if last:
        run.log({"losses": {}, **last})
    assert [row["state"] for row in list_runs(tmp_path)] == [state]
    assert cli.run(["runs", "--root", str(tmp_path)]) == 0
    title, line, _ = capsys.readouterr().out.splitlines()
    assert line[title.index("state") : title.index("images")].strip() == shown
    assert cli.run(["runs", "--root", str(tmp_path), "--json"]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == [state]


def test_a_run_that_a_metric_ended_is_finished_until_it_is_trained_on(tmp_path: Path) -> None:
    run = create(root=tmp_path, schedule={"images": 1000, "seed": 0, "time": None})
    run.log({"losses": {}, "images": 414, "seconds": 3.0})
    run.update(no_improvement=414)
    assert [row["state"] for row in list_runs(tmp_path)] == ["finished"]
    run.log({"losses": {}, "images": 500, "seconds": 4.0})
    assert [row["state"] for row in list_runs(tmp_path)] == ["stopped"]


def test_a_run_that_is_being_trained_is_seen_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = create(root=tmp_path), create(root=tmp_path)
    acquire, seconds = filelock.FileLock.acquire, set[float | None]()

    def try_to_acquire(lock: filelock.FileLock, timeout: float | None = None, **options: Any) -> Any:
        seconds.add(timeout)
        return acquire(lock, timeout, **options)

    with Run(first.folder).lock():
        monkeypatch.setattr(filelock.FileLock, "acquire", try_to_acquire)
        assert [row["state"] for row in list_runs(tmp_path)] == ["training", "stopped"]
    assert seconds == {0}, "it tries once"
    assert [row["state"] for row in list_runs(tmp_path)] == ["stopped", "stopped"]


def test_looking_at_a_lock_creates_no_file_and_leaves_it_free(tmp_path: Path) -> None:
    assert not files.is_locked(tmp_path / ".lock")
    assert not [*tmp_path.iterdir()]
    with files.locked(tmp_path / ".lock", "busy"):
        assert files.is_locked(tmp_path / ".lock")
    assert not files.is_locked(tmp_path / ".lock")
    with files.locked(tmp_path / ".lock", "busy"):
        pass


def test_a_misspelt_last_is_recognised(tmp_path: Path) -> None:
    create(root=tmp_path)
    with pytest.raises(LeafwingError, match=r"no run 'lst' in .*; did you mean last\?; available: "):
        Run.open("lst", root=tmp_path)


def test_what_is_being_trained_without_weights_has_not_ended(tmp_path: Path) -> None:
    run = create(root=tmp_path, schedule={"images": 1000})
    run.log({"images": 30})
    with run.lock(), pytest.raises(LeafwingError, match=r"being trained and has no weights yet: .* it has shown 30$"):
        Run(run.folder).require_weights()
    with pytest.raises(LeafwingError, match="has no weights file"):
        run.require_weights()

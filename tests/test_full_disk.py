"""A disk that is full from the N-th write on, for every N: what was saved is intact, and the same command then ends as if nothing had
happened."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import leafwing
from fake_workers import Answer, FakeWorkers
from leafwing.commands.comparison import workers
from leafwing.commands.comparison.record import Record, load
from leafwing.errors import LeafwingError, StorageError
from leafwing.runs import Run

TINY: dict[str, Any] = {
    "recipe": "gan", "width": 4, "width_d": 4, "latent": 2, "batch": 8, "images": 48, "save_every": 16, "grid_every": 32,
    "log_every": 8, "threads": 1, "device": "cpu", "progress": False,
}  # fmt: skip
WRITING = ("w", "a", "x", "+")


class Disk:
    """Counts what needs space below a folder: files opened for writing, flushed, renamed, and new folders; fails from `full_at` on."""

    def __init__(self, folder: Path, full_at: int = 10**9) -> None:
        self.folder, self.full_at, self.count = str(folder), full_at, 0
        self.code = errno.ENOSPC

    def use(self, path: Any) -> None:
        if isinstance(path, int) or str(path).startswith(self.folder):
            self.count += 1
            if self.count >= self.full_at:
                raise OSError(self.code, os.strerror(self.code), None if isinstance(path, int) else str(path))

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            original = io.open

            def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
                if any(sign in mode for sign in WRITING):
                    self.use(file)
                return original(file, mode, *arguments, **options)

            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            open_number = os.open

            def number_opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
                if flags & (os.O_WRONLY | os.O_RDWR):
                    self.use(path)
                return open_number(path, flags, *arguments, **options)

            patch.setattr(os, "open", number_opened)
            for name in ("fsync", "replace", "rename", "mkdir"):
                patch.setattr(os, name, self._counting(getattr(os, name), last=name in ("replace", "rename")))
            yield

    def _counting(self, function: Callable[..., Any], last: bool) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.use(arguments[1] if last else arguments[0])
            return function(*arguments, **options)

        return counted


def check_folder(folder: Path) -> None:
    """Everything in a run folder can be read, and nothing is left of what could not be written."""
    run = Run(folder, trust=True)
    game = run.build_game()
    for images in run.weights():
        run.load_weights(game, images)
    state = run.resume_state()
    assert state is None or state["images"] in run.weights()
    assert all(record["images"] % 8 == 0 for record in run.records())
    assert all("value" in row for row in run.metrics())
    assert [*folder.rglob("*.part")] == []


def same_weights(a: Path, b: Path) -> bool:
    one, other = load_file(Run(a).require_weights()), load_file(Run(b).require_weights())
    return one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    leafwing.train("ring", out=folder, **TINY)
    return folder


@pytest.mark.slow
def test_a_training_on_a_full_disk_loses_nothing(tmp_path: Path, trained: Path) -> None:
    disk = Disk(tmp_path)
    with disk.installed():
        leafwing.train("ring", out=tmp_path / "counted", **TINY)
    assert disk.count > 40
    for number in range(1, disk.count + 1):
        folder = tmp_path / f"run{number}"
        with Disk(tmp_path, number).installed(), pytest.raises(StorageError, match=r"No space left|cannot"):
            leafwing.train("ring", out=folder, **TINY)
        if not folder.exists():
            continue
        check_folder(folder)
        if (state := Run(folder).resume_state()) is None or state["images"] < TINY["images"]:
            leafwing.resume(folder, progress=False, trust=True)
        assert same_weights(folder, trained), number
        shutil.rmtree(folder)
    assert [path.name for path in tmp_path.glob(".new-*")] == []


@pytest.mark.slow
def test_an_evaluation_on_a_full_disk_loses_nothing(tmp_path: Path, trained: Path) -> None:
    def evaluate(folder: Path, seed: int = 0) -> list[dict[str, Any]]:
        return leafwing.evaluate(folder, metrics="modes", n=64, seed=seed, progress=False)

    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    before = evaluate(folder)
    disk = Disk(tmp_path)
    with disk.installed():
        evaluate(folder, seed=1)
    for number in range(1, disk.count + 1):
        with Disk(tmp_path, number).installed(), pytest.raises(StorageError, match="No space left"):
            evaluate(folder, seed=1 + number)
        check_folder(folder)
        assert [row["value"] for row in Run(folder).metrics()[: len(before)]] == [row["value"] for row in before]
        assert evaluate(folder, seed=1 + number)


COMPARED: dict[str, Any] = {
    "recipes": "gan", "seeds": 2, "images": TINY["images"], "metrics": "modes", "n": 64, "jobs": 1, "threads": 1, "progress": False,
    "options": {name: TINY[name] for name in ("width", "width_d", "latent", "batch")},
}  # fmt: skip


@pytest.fixture
def children(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> FakeWorkers:
    """Child processes of a comparison that have finished: a training is a copy of the trained run, an evaluation has its numbers."""
    rows = leafwing.evaluate(shutil.copytree(trained, tmp_path / "evaluated"), metrics="modes", n=64, progress=False)

    def answer(request: Mapping[str, Any]) -> Answer | None:
        if request["call"] == "train":
            subprocess.run(
                ["cp", "-r", trained, request["arguments"]["out"]], check=True
            )  # not through the disk of this process
            return 0, "", ""
        return (0, json.dumps({"rows": rows}), "") if request["call"] == "evaluate" else None

    fake = FakeWorkers(tmp_path, answer)
    monkeypatch.setattr(workers, "start", fake)
    return fake


def check_comparison(folder: Path) -> None:
    """What a comparison has written can be read, and nothing is left of what could not be written."""
    if (folder / "compare.json").exists():
        load(folder / "compare.json")
    if (folder / "table.json").exists():
        json.loads((folder / "table.json").read_text())
    assert [*folder.rglob("*.part")] == []


def results(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of runs without times."""
    return [{key: value for key, value in run.items() if "seconds" not in key} for run in table["runs"]]


@pytest.mark.slow
def test_a_comparison_on_a_full_disk_loses_nothing(tmp_path: Path, children: FakeWorkers) -> None:
    disk = Disk(tmp_path)
    with disk.installed():
        undisturbed = leafwing.compare("ring", **COMPARED, out=tmp_path / "counted")
    assert disk.count > 40
    assert children.calls() == ["evaluate", "evaluate", "speed", "train", "train"]
    for number in range(1, disk.count + 1):
        folder = tmp_path / f"comparison{number}"
        with Disk(tmp_path, number).installed(), pytest.raises(StorageError, match="No space left"):
            leafwing.compare("ring", **COMPARED, out=folder)
        check_comparison(folder)
        finished = len([*folder.glob("runs/*/run.json")])
        children.requests.clear()
        assert results(leafwing.compare("ring", **COMPARED, out=folder)) == results(undisturbed), number
        assert children.calls().count("train") == 2 - finished
        shutil.rmtree(folder)


@pytest.mark.parametrize("damage", ["read-only", "taken away"])
def test_a_folder_that_is_lost_while_training_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder, log = tmp_path / "run", Run.log
    disk = Disk(tmp_path)
    disk.code = errno.EROFS

    def log_once(run: Run, record: Any) -> None:
        log(run, record)
        if damage == "taken away":
            folder.rename(tmp_path / "elsewhere")
        else:
            disk.full_at = 0

    monkeypatch.setattr(Run, "log", log_once)
    words = "its folder does not exist" if damage == "taken away" else "cannot write"
    with disk.installed(), pytest.raises(LeafwingError, match=words):
        leafwing.train("ring", out=folder, **TINY)
    monkeypatch.undo()
    check_folder(folder if damage == "read-only" else tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["log.jsonl", "run.json", "resume.pt", "weights-000000016.safetensors", "samples"])
def test_a_file_that_is_taken_away_while_training_is_no_loss(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A log is not begun anew in the middle; everything else is written again, or was of use for an earlier checkpoint only."""
    folder, log = tmp_path / "run", Run.log

    def log_once(run: Run, record: Any) -> None:
        log(run, record)
        if record["images"] == 24:
            (folder / name).rename(tmp_path / "elsewhere")

    monkeypatch.setattr(Run, "log", log_once)
    if name == "log.jsonl":
        with pytest.raises(StorageError, match=r"log\.jsonl was taken away while training: put it back, .*leafwing resume"):
            leafwing.train("ring", out=folder, **TINY)
        (tmp_path / "elsewhere").rename(folder / name)
        monkeypatch.undo()
        leafwing.resume(folder, progress=False)
        assert [record["images"] for record in Run(folder).records()] == [8, 16, 24, 32, 40, 48]
    else:
        leafwing.train("ring", out=folder, **TINY)
    check_folder(folder)
    assert same_weights(folder, trained)
    assert Run(folder).config["schedule"] == Run(trained).config["schedule"]
    assert [*Run(folder).sheets()] == ([32, 48] if name == "samples" else [0, 32, 48])


@pytest.mark.parametrize("damage", ["read-only", "taken away", "read-only from the start"])
def test_a_comparison_whose_folder_is_lost_ends_with_a_sentence(
    tmp_path: Path, children: FakeWorkers, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    folder, update_run = tmp_path / "comparison", Record.update_run
    disk = Disk(folder)
    disk.code = errno.EROFS

    def update_once(record: Record, name: str, seed: int, **changes: Any) -> None:
        update_run(record, name, seed, **changes)
        if changes.get("status") == "finished":
            if damage == "taken away":
                folder.rename(tmp_path / "elsewhere")
            else:
                disk.full_at = 0

    if damage == "read-only from the start":
        leafwing.compare("ring", **COMPARED, out=folder)
        disk.full_at = 0
    else:
        monkeypatch.setattr(Record, "update_run", update_once)
    # What notices first that the folder is gone, the next run or the other worker's record, is a matter of milliseconds.
    words = "has no run.json|compare.json: its folder does not exist" if damage == "taken away" else "cannot write"
    with disk.installed(), pytest.raises(LeafwingError if damage == "taken away" else StorageError, match=words):
        leafwing.compare("ring", **COMPARED, out=folder)
    assert folder.exists() == (damage != "taken away")
    monkeypatch.setattr(Record, "update_run", update_run)
    left = tmp_path / "elsewhere" if damage == "taken away" else folder
    check_comparison(left)
    children.requests.clear()
    leafwing.compare("ring", **COMPARED, out=left)
    assert children.calls().count("train") == (0 if damage == "read-only from the start" else 1)


def test_an_old_checkpoint_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **options: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match=r"weights-0+16.safetensors: Permission denied"):
        leafwing.train("ring", out=tmp_path / "run", **{**TINY, "keep_last": 1, "keep_every": 0})

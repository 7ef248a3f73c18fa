"""A finished comparison, and child processes that start at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_workers import FakeWorkers
from leafwing import commands
from leafwing.commands.comparison import workers
from small_comparison import RING, Finished


@pytest.fixture
def fake_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeWorkers:
    fake = FakeWorkers(tmp_path)
    monkeypatch.setattr(workers, "start", fake)
    return fake


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """An uninterrupted comparison of two recipes with two seeds on the ring. Tests must not change its folder."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "start", FakeWorkers(folder))
        yield folder / "out", commands.compare("ring", **RING, out=folder / "out")

"""Exact resume: real processes are killed at random moments, and the final weights equal those of an uninterrupted run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import kills as bench
from kills import kill_and_compare
from tiny import on_labelled_images

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")


RECIPES = [pytest.param(name, marks=pytest.mark.slow if i % 5 else ()) for i, name in enumerate(on_labelled_images())]
"""All of them in `make test-slow`, some in `make test`: that every recipe resumes exactly within a process is tested there."""


@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_and_resumed_a_run_ends_with_the_same_bits(recipe: str, tmp_path: Path) -> None:
    kills = 0
    for attempt in range(5):
        found = kill_and_compare(recipe, 3, tmp_path / str(attempt), seed=attempt)
        assert found["weights_equal"], found
        assert found["log_equal"], found
        kills += found["kills"]
        if kills >= 3:
            return
    pytest.fail(f"the trainings ended before they could be killed: {kills} kills")


def test_the_benchmark_kills_the_recipes_on_labelled_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[str] = []

    def kill(recipe: str, kills: int, folder: Path, seed: int) -> dict[str, object]:
        killed.append(recipe)
        return {"recipe": recipe, "kills": kills}

    monkeypatch.setattr(bench, "kill_and_compare", kill)
    total, results = str(5 * len(on_labelled_images())), str(tmp_path / "rows.jsonl")
    monkeypatch.setattr(sys, "argv", ["kills.py", "--kills", total, "--results", results])
    bench.main()
    assert killed == on_labelled_images()

"""A run folder that was written before settings had sections, by the first public layout: it still loads, samples and continues."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

import leafwing
from leafwing.runs import Run

OLD = Path(__file__).parent / "old_run"


def test_an_old_run_loads_samples_and_continues(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    (tmp_path / "run" / "samples").mkdir()
    run = Run(tmp_path / "run")
    assert run.recipe_is_installed(), "comments and docstrings of a recipe are not its code"
    assert (run.settings.schedule.images, run.settings.schedule.seed) == (64, 3)
    assert (run.settings.folder.save_every, run.settings.folder.grid_every, run.settings.folder.log_every) == (32, 64, 16)
    assert (run.settings.machine.device, run.settings.machine.threads) == ("cpu", 1)
    before = leafwing.Model.load(run).sample(4, seed=1)
    assert before.shape == (4, 2)
    resumed = leafwing.resume(run.folder, images="+32")
    assert list(resumed.weights()) == [64, 96]
    assert not torch.equal(leafwing.Model.load(resumed).sample(4, seed=1), before)
    assert "training" not in Run(run.folder).config, "it is written in sections now"

"""Options of recipes other than the defaults, which the contract tests: they train, and resume to the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import leafwing

OPTIONS: dict[str, dict[str, Any]] = {
    "improved_gan": {"history": 0.1, "reference": 4, "matching": True, "discrimination": False, "smooth": 1.0},
    "bigan": {"encoder": "stochastic"},
    "pacgan": {"packing": 3},
    "fgan": {"divergence": "squared_hellinger", "saturating": True},
    "infogan": {"codes": 0, "categories": 3},
    "ebgan": {"pull": 0.0},
    "vaegan": {"gate": 0.02},
    "bgan": {"discrete": True, "draws": 3},
}
TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 6, "size": 16, "threads": 1, "precision": "fp32"}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_with_other_options_resumes_exactly(name: str, tmp_path: Path) -> None:
    options = {**TINY, **OPTIONS[name], "log_every": 6, "save_every": 12, "health": "off"}
    uninterrupted = leafwing.train("digits", name, images=36, out=tmp_path / "whole", **options)
    interrupted = leafwing.train("digits", name, images=18, out=tmp_path / "part", **options)
    resumed = leafwing.resume(interrupted.folder, images=36)
    a, b = (run.weights()[36].read_bytes() for run in (uninterrupted, resumed))
    assert a == b
    assert torch.isfinite(leafwing.Model.load(resumed).sample(3)).all()

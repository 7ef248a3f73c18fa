"""All metrics of pictures: each is found by its name, measures what it says, and is explained in the guide."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures

from leafwing.metrics import METRICS, metric
from leafwing.metrics.intervals import within
from leafwing.parts.priors import Normal

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "metrics.md"
NAMES = {
    "fid": ["fid"],
    "kid": ["kid"],
    "prdc": ["precision", "recall", "density", "coverage"],
    "inception_score": ["inception_score"],
    "swd": ["swd_32", "swd_16", "swd"],
    "ms_ssim": ["ms_ssim", "ms_ssim_real"],
    "ppl": ["ppl", "ppl_ends"],
}


def generate(latents: torch.Tensor) -> torch.Tensor:
    """Latents (b, 4) -> pictures (b, 3, 32, 40)."""
    return torch.tanh(latents[:, :3, None, None] * torch.linspace(-1, 1, 40)).expand(-1, -1, 32, -1)


def evidence() -> FakeEvidence:
    probabilities = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(1).numpy()
    return FakeEvidence(
        pictures(0, 25, height=32, width=40),
        pictures(1, 30, height=32, width=40),
        probabilities=probabilities,
        generate=generate,
        prior=Normal(4),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_measures_what_it_names(name: str) -> None:
    found = metric(name)(evidence())
    assert [one.name for one in found] == NAMES[name]
    for one in found:
        assert type(one.value) is float
        assert np.isfinite(one.value)
        for bound in (one.low, one.high):
            assert bound is None or type(bound) is float


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_are_not_finite_give_no_number(name: str) -> None:
    made = evidence()
    made.fake[3], made.generate = torch.nan, lambda latents: generate(latents) * torch.nan
    assert made.probabilities is not None
    made.probabilities[3] = np.nan
    found = {one.name: one for one in metric(name)(made)}
    assert all(np.isnan(one.value) and one.low is None for one in found.values() if one.name != "ms_ssim_real"), found


@pytest.mark.parametrize("name", NAMES)
def test_asked_again_it_says_the_same(name: str) -> None:
    assert metric(name)(evidence()) == metric(name)(evidence())


@pytest.mark.parametrize("name", [*NAMES, "modes", "memorisation"])
def test_the_guide_explains_it(name: str) -> None:
    assert name in METRICS
    assert re.search(rf"^## .*`{name}`", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)


def test_an_interval_stays_in_its_bounds_and_needs_two_finite_numbers() -> None:
    found = within("share", 0.9, 0.1, "higher", least=0, most=1)
    assert (found.low, found.high) == (pytest.approx(0.9 - 0.196), 1)
    assert within("share", 0.1, 0.1, "higher", least=0, most=1).low == 0
    assert within("share", 0.9, 0.1, parts=10).high == pytest.approx(0.9 + 0.2262, abs=1e-4)  # Student's t
    assert within("share", float("nan"), 0.1).low is None
    assert within("share", 0.9, float("nan")).high is None

"""All image metrics: loaded by name, with finite and reproducible values, and documented in the guide."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures

from leafwing.commands.real_data import MIN_SAMPLES
from leafwing.errors import LeafwingError
from leafwing.metrics import METRICS, metric
from leafwing.metrics.clouds import LEAST
from leafwing.metrics.intervals import with_interval
from leafwing.metrics.scale import MIN_HALF
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
    "reconstruction": ["psnr", "psnr_y", "ssim", "l1", "edge_energy", "feature_distance"],
}


def generate(latents: torch.Tensor) -> torch.Tensor:
    """Latents (b, 4) -> images (b, 3, 32, 40)."""
    return torch.tanh(latents[:, :3, None, None] * torch.linspace(-1, 1, 40)).expand(-1, -1, 32, -1)


def evidence() -> FakeEvidence:
    probabilities = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(1).numpy()
    return FakeEvidence(
        pictures(0, 25, height=32, width=40),
        pictures(1, 30, height=32, width=40),
        probabilities=probabilities,
        generator=generate,
        prior=Normal(4),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_returns_finite_floats_by_name(name: str) -> None:
    measures = metric(name)(evidence())
    assert [measure.name for measure in measures] == NAMES[name]
    for measure in measures:
        assert type(measure.value) is float
        assert np.isfinite(measure.value)
        for bound in (measure.low, measure.high):
            assert bound is None or type(bound) is float


def test_metrics_of_sets_are_defined_from_their_least_number_on() -> None:
    for name, least in LEAST.items():
        real, fake = pictures(0, 8, height=32, width=40), pictures(1, 8, height=32, width=40)
        assert all(np.isfinite(measure.value) for measure in metric(name)(FakeEvidence(real[:least], fake[:least])))
        for few, many, advice in ((real[: least - 1], fake, "--hold-out"), (real, fake[: least - 1], "number of samples")):
            with pytest.raises(LeafwingError, match=f"{name} requires at least {least} .*{advice}"):
                metric(name)(FakeEvidence(few, many))
    assert max(LEAST.values()) == MIN_SAMPLES == MIN_HALF


@pytest.mark.parametrize("name", NAMES)
def test_non_finite_samples_give_nan(name: str) -> None:
    broken = evidence()
    broken.fake[3], broken.generator = torch.nan, lambda latents: generate(latents) * torch.nan
    assert broken.probabilities is not None
    broken.probabilities[3] = np.nan
    measures = {measure.name: measure for measure in metric(name)(broken)}
    assert all(
        np.isnan(measure.value) and measure.low is None for measure in measures.values() if measure.name != "ms_ssim_real"
    ), measures


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_deterministic(name: str) -> None:
    assert metric(name)(evidence()) == metric(name)(evidence())


@pytest.mark.parametrize("name", [*NAMES, "modes", "memorisation", "leaks"])
def test_the_guide_documents_every_metric(name: str) -> None:
    assert name in METRICS
    assert re.search(rf"^## .*`{name}`", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)


def test_intervals_are_clipped_and_need_finite_numbers() -> None:
    measure = with_interval("share", 0.9, 0.1, "higher", minimum=0, maximum=1)
    assert (measure.low, measure.high) == (pytest.approx(0.9 - 0.196), 1)
    assert with_interval("share", 0.1, 0.1, "higher", minimum=0, maximum=1).low == 0
    assert with_interval("share", 0.9, 0.1, observations=10).high == pytest.approx(0.9 + 0.2262, abs=1e-4)  # Student's t
    assert with_interval("share", float("nan"), 0.1).low is None
    assert with_interval("share", 0.9, float("nan")).high is None

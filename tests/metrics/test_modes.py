"""Covered modes, high quality and KL: simple cases, the conventions of the papers, and the digit reader."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from leafwing import weights_file
from leafwing.data import built_in, load
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.metrics import METRICS, metric, modes, reader

pytestmark = pytest.mark.machine

RING = built_in.modes("ring")


def points(counts: list[int], offset: float = 0.0) -> np.ndarray:
    """`counts` points at each mode of the ring, `offset` standard deviations away from it."""
    return np.repeat(RING, counts, axis=0) + np.array([offset * built_in.sigma("ring"), 0.0])


def of_ring(samples: np.ndarray) -> modes.Coverage:
    return modes.of_points(samples, RING, built_in.sigma("ring"))


def evidence(world: str, **members: Any) -> Any:
    defaults = {"options": load("stacked").options, "report_progress": lambda what, done, total: None}
    return SimpleNamespace(built_in=world, **{**defaults, **members})


# --- points ------------------------------------------------------------------------------------------------------------------


def test_one_good_sample_covers_a_mode() -> None:
    coverage = of_ring(points([1, 1, 1, 1, 1, 1, 1, 93]))
    assert (coverage.modes, coverage.total, coverage.high_quality) == (8, 8, 1.0)
    assert of_ring(points([0, 0, 0, 50, 50, 0, 0, 0])).modes == 2


def test_high_quality_points_are_within_three_standard_deviations() -> None:
    assert of_ring(points([10] * 8, offset=2.99)).high_quality == 1.0
    outside = of_ring(points([10] * 8, offset=3.01))
    assert (outside.high_quality, outside.modes) == (0.0, 0)
    assert outside.kl == pytest.approx(0.0)  # every sample counts for its nearest mode, of high quality or not


def test_non_finite_samples_are_not_high_quality() -> None:
    coverage = of_ring(np.concatenate([points([5] * 8), np.full((40, 2), np.nan), np.full((20, 2), np.inf)]))
    assert (coverage.modes, coverage.high_quality) == (8, 0.4)
    lost = of_ring(np.full((4, 2), np.nan))
    assert (lost.modes, lost.high_quality) == (0, 0.0)
    assert math.isnan(lost.kl)


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_real_points_have_the_coverage_of_gaussians(name: str) -> None:
    """An isotropic Gaussian has 1 - exp(-9/2) = 98.9% of its mass within three standard deviations."""
    coverage = modes.of_points(load(name).array, built_in.modes(name), built_in.sigma(name))
    assert coverage.modes == coverage.total == modes.total(name)
    assert coverage.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.001)
    assert coverage.kl == pytest.approx(0.0, abs=1e-9)


# --- the divergence ----------------------------------------------------------------------------------------------------------


def test_kl_ranges_from_0_to_the_logarithm_of_the_modes() -> None:
    assert modes.reverse_kl(np.full(1000, 26)) == pytest.approx(0.0, abs=1e-12)
    assert modes.reverse_kl(np.eye(1000)[7]) == pytest.approx(math.log(1000))
    half = modes.reverse_kl(np.repeat([3, 0], 500))
    assert half == pytest.approx(math.log(2))


def test_kl_of_two_modes() -> None:
    """Fractions 3/4 and 1/4 of two modes: 3/4 log(3/2) + 1/4 log(1/2). The other direction would give 1/2 log(4/3)."""
    assert modes.reverse_kl(np.array([3, 1])) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_kl_of_finite_samples_matches_the_docstring() -> None:
    random = np.random.default_rng(0)
    values = [modes.reverse_kl(np.bincount(random.integers(1000, size=26_000), minlength=1000)) for _ in range(20)]
    assert np.mean(values) == pytest.approx(999 / 52_000, rel=0.05)


# --- measures ----------------------------------------------------------------------------------------------------------------


def test_points_have_modes_quality_and_kl() -> None:
    assert "modes" in METRICS
    samples = np.concatenate([points([1] * 8), np.zeros((2, 2))])
    measures = {
        measure.name: measure for measure in metric("modes")(evidence("ring", fake_points=lambda: samples, n_fake=10))
    }
    assert list(measures) == ["modes", "high_quality", "kl"]
    assert (measures["modes"].value, measures["high_quality"].value) == (8, 0.8)
    # Wilson's interval for 8 of 10.
    assert (measures["high_quality"].low, measures["high_quality"].high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert [measure.better for measure in measures.values()] == ["higher", "higher", "lower"]


@pytest.mark.parametrize("world", ["", "digits", "cats"])
def test_data_without_known_modes_are_rejected(world: str) -> None:
    with pytest.raises(LeafwingError, match="known modes: ring, grid, stacked"):
        modes.measure(evidence(world))


def test_total_modes() -> None:
    assert [modes.total(world) for world in ("ring", "grid", "stacked", "stacked:mnist")] == [8, 25, 1000, 1000]


# --- stacked digits ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary cache and a short training, which gives readers with an accuracy of 96 to 98% (five seeds)."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAFWING_CACHE", str(folder))
        patch.setattr(reader, "STEPS", 250)
        yield folder


def test_digit_triples_are_modes() -> None:
    coverage = modes.of_digits(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 1], [9, 9, 9]]))
    assert (coverage.modes, coverage.total) == (3, 1000)
    assert math.isnan(coverage.high_quality)
    assert coverage.kl == pytest.approx(math.log(1000) - 1.5 * math.log(2))


def test_the_reader_classifies_each_plane(cache: Path) -> None:
    trained = reader.load_reader(load("digits"))
    assert trained.accuracy > 0.9
    world = load("stacked")
    indices = np.arange(0, 50_000, 97)
    assert world.labels is not None
    real = torch.from_numpy(world.pictures(indices)).permute(0, 3, 1, 2).float() / 127.5 - 1
    digits, confidence = trained.read(real)
    assert confidence.shape == digits.shape
    assert 0.1 <= confidence.min() <= confidence.max() <= 1
    expected = np.stack([world.labels[indices] // unit % 10 for unit in (100, 10, 1)], axis=1)
    assert ((digits == expected).mean(0) > 0.9).all()
    real_evidence = evidence(
        "stacked", spec=DataSpec.images(32, 32), n_fake=len(indices), fake_pictures=lambda: iter(real.split(200))
    )
    values = {measure.name: measure.value for measure in modes.measure(real_evidence)}
    assert values == {
        "modes": len({tuple(row) for row in digits.tolist()}),
        "kl": pytest.approx(modes.of_digits(digits).kl),
        "confident": pytest.approx((confidence >= 0.9).all(1).mean()),
        "reader_accuracy": trained.accuracy,
    }
    same = evidence(
        "stacked", spec=DataSpec.images(32, 32), n_fake=9, fake_pictures=lambda: iter([real[:1].repeat(9, 1, 1, 1)])
    )
    assert modes.measure(same)[0].value == 1
    lost = evidence("stacked", n_fake=5, fake_pictures=lambda: iter([torch.full((5, 3, 32, 32), torch.nan)]))
    lost_values = {measure.name: measure.value for measure in modes.measure(lost)}
    assert lost_values["modes"] == lost_values["confident"] == 0
    assert math.isnan(lost_values["kl"])
    noise = torch.rand(400, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise_evidence = evidence("stacked", n_fake=400, fake_pictures=lambda: iter([noise]))
    assert (
        {measure.name: measure.value for measure in modes.measure(noise_evidence)}["confident"]
        < 0.2
        < 0.5
        < values["confident"]
    )


def test_the_reader_is_trained_on_digits_loaded_like_the_stacked_ones(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[Any] = []
    monkeypatch.setattr(
        modes, "load_reader", lambda digits, **more: options.append(digits.options) or reader.load_reader(load("digits"))
    )
    padded = load("stacked", size="32x48", fit="pad", background="black", mirror=True).options
    modes.measure(evidence("stacked", options=padded, n_fake=1, fake_pictures=lambda: iter([torch.zeros(1, 3, 32, 48)])))
    assert options == [{**padded, "channels": 1, "mirror": False}]


def test_the_reader_is_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load("digits")
    trained = reader.load_reader(digits)
    (path,) = (cache / "readers").glob("*.safetensors")
    assert (weights_file.read_with_facts(path)[1] or {})["accuracy"] == trained.accuracy
    monkeypatch.setattr(reader, "train", lambda digits: pytest.fail("trained again"))
    loaded = reader.load_reader(digits)
    assert all(torch.equal(a, b) for a, b in zip(loaded.network.parameters(), trained.network.parameters(), strict=True))


@pytest.mark.parametrize("damage", ["cut", "a flipped bit"])
def test_a_damaged_reader_is_replaced_by_an_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(reader, "STEPS", 2)
    digits = load("digits")
    first = reader.load_reader(digits, cache=tmp_path)
    (path,) = (tmp_path / "readers").glob("*.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:100] if damage == "cut" else content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    second = reader.load_reader(digits, cache=tmp_path)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random state was changed"
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))

"""Modes covered, high quality and KL: cases worked out by hand, the papers' conventions, and a reader of digits that reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from leafwing.data import load, worlds
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.metrics import METRICS, metric, modes, reader

pytestmark = pytest.mark.machine

RING = worlds.modes("ring")


def points(counts: list[int], off: float = 0.0) -> np.ndarray:
    """So many points at each mode of the ring, `off` standard deviations away from it."""
    return np.repeat(RING, counts, axis=0) + np.array([off * worlds.sigma("ring"), 0.0])


def of_ring(samples: np.ndarray) -> modes.Coverage:
    return modes.of_points(samples, RING, worlds.sigma("ring"))


def evidence(world: str, **given: Any) -> Any:
    read_as = {"options": load("stacked").options, "report_progress": lambda what, done, total: None}
    return SimpleNamespace(world=world, **{**read_as, **given})


# --- points ------------------------------------------------------------------------------------------------------------------


def test_one_good_sample_covers_a_mode() -> None:
    found = of_ring(points([1, 1, 1, 1, 1, 1, 1, 93]))
    assert (found.modes, found.of, found.high_quality) == (8, 8, 1.0)
    assert of_ring(points([0, 0, 0, 50, 50, 0, 0, 0])).modes == 2


def test_three_standard_deviations_are_the_border_of_high_quality() -> None:
    assert of_ring(points([10] * 8, off=2.99)).high_quality == 1.0
    outside = of_ring(points([10] * 8, off=3.01))
    assert (outside.high_quality, outside.modes) == (0.0, 0)
    assert outside.kl == pytest.approx(0.0)  # every sample counts for its nearest mode, good or not


def test_samples_that_are_not_finite_are_bad_samples() -> None:
    found = of_ring(np.concatenate([points([5] * 8), np.full((40, 2), np.nan), np.full((20, 2), np.inf)]))
    assert (found.modes, found.high_quality) == (8, 0.4)
    lost = of_ring(np.full((4, 2), np.nan))
    assert (lost.modes, lost.high_quality) == (0, 0.0)
    assert math.isnan(lost.kl)


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_real_points_are_covered_as_gaussians_are(name: str) -> None:
    """Of a round Gaussian, 1 - exp(-9/2) = 98.9 % lie within three standard deviations."""
    found = modes.of_points(load(name).array, worlds.modes(name), worlds.sigma(name))
    assert found.modes == found.of == modes.total(name)
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.001)
    assert found.kl == pytest.approx(0.0, abs=1e-9)


# --- the divergence ----------------------------------------------------------------------------------------------------------


def test_kl_is_nought_for_equal_shares_and_grows_to_the_logarithm_of_the_modes() -> None:
    assert modes.reverse_kl(np.full(1000, 26)) == pytest.approx(0.0, abs=1e-12)
    assert modes.reverse_kl(np.eye(1000)[7]) == pytest.approx(math.log(1000))
    half = modes.reverse_kl(np.repeat([3, 0], 500))
    assert half == pytest.approx(math.log(2))


def test_kl_by_hand() -> None:
    """Shares 3/4 and 1/4 of two modes: 3/4 log(3/2) + 1/4 log(1/2). The other direction would give 1/2 log(4/3)."""
    assert modes.reverse_kl(np.array([3, 1])) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_kl_of_finite_samples_of_the_very_distribution_is_what_the_docstring_says() -> None:
    random = np.random.default_rng(0)
    found = [modes.reverse_kl(np.bincount(random.integers(1000, size=26_000), minlength=1000)) for _ in range(20)]
    assert np.mean(found) == pytest.approx(999 / 52_000, rel=0.05)


# --- measures ----------------------------------------------------------------------------------------------------------------


def test_measures_of_points_come_by_name_with_an_interval() -> None:
    assert "modes" in METRICS
    samples = np.concatenate([points([1] * 8), np.zeros((2, 2))])
    found = {one.name: one for one in metric("modes")(evidence("ring", fake_points=lambda: samples, n_fake=10))}
    assert list(found) == ["modes", "high_quality", "kl"]
    assert (found["modes"].value, found["high_quality"].value) == (8, 0.8)
    # Wilson's interval for 8 of 10.
    assert (found["high_quality"].low, found["high_quality"].high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert [one.better for one in found.values()] == ["higher", "higher", "lower"]


@pytest.mark.parametrize("world", ["", "digits", "cats"])
def test_other_data_are_refused(world: str) -> None:
    with pytest.raises(LeafwingError, match="known modes: ring, grid, stacked"):
        modes.measure(evidence(world))


def test_how_many_modes_there_are() -> None:
    assert [modes.total(world) for world in ("ring", "grid", "stacked", "stacked:mnist")] == [8, 25, 1000, 1000]


# --- stacked digits ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own and a short training: the reader is then right on 96 to 98 % of held-out digits (five seeds)."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAFWING_CACHE", str(folder))
        patch.setattr(reader, "STEPS", 250)
        yield folder


def test_digits_read_are_counted_by_triple() -> None:
    found = modes.of_digits(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 1], [9, 9, 9]]))
    assert (found.modes, found.of) == (3, 1000)
    assert math.isnan(found.high_quality)
    assert found.kl == pytest.approx(math.log(1000) - 1.5 * math.log(2))


def test_the_reader_reads_and_its_planes_are_kept_apart(cache: Path) -> None:
    known = reader.reader_of(load("digits"))
    assert known.accuracy > 0.9
    world = load("stacked")
    chosen = np.arange(0, 50_000, 97)
    assert world.labels is not None
    real = torch.from_numpy(world.pictures(chosen)).permute(0, 3, 1, 2).float() / 127.5 - 1
    read, sure = known.read(real)
    assert sure.shape == read.shape
    assert 0.1 <= sure.min() <= sure.max() <= 1
    expected = np.stack([world.labels[chosen] // unit % 10 for unit in (100, 10, 1)], axis=1)
    assert ((read == expected).mean(0) > 0.9).all()
    given = evidence("stacked", spec=DataSpec(32, 32, 3), n_fake=len(chosen), fake_pictures=lambda: iter(real.split(200)))
    found = {one.name: one.value for one in modes.measure(given)}
    assert found == {
        "modes": len({tuple(row) for row in read.tolist()}),
        "kl": pytest.approx(modes.of_digits(read).kl),
        "confident": pytest.approx((sure >= 0.9).all(1).mean()),
        "reader_accuracy": known.accuracy,
    }
    same = evidence("stacked", spec=DataSpec(32, 32, 3), n_fake=9, fake_pictures=lambda: iter([real[:1].repeat(9, 1, 1, 1)]))
    assert modes.measure(same)[0].value == 1
    lost = evidence("stacked", n_fake=5, fake_pictures=lambda: iter([torch.full((5, 3, 32, 32), torch.nan)]))
    nothing = {one.name: one.value for one in modes.measure(lost)}
    assert nothing["modes"] == nothing["confident"] == 0
    assert math.isnan(nothing["kl"])
    noise = torch.rand(400, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn = evidence("stacked", n_fake=400, fake_pictures=lambda: iter([noise]))
    assert {one.name: one.value for one in modes.measure(drawn)}["confident"] < 0.2 < 0.5 < found["confident"]


def test_the_reader_learns_from_digits_that_fit_as_the_stacked_ones_do(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[Any] = []
    monkeypatch.setattr(
        modes, "reader_of", lambda digits, **more: taught.append(digits.options) or reader.reader_of(load("digits"))
    )
    padded = load("stacked", size="32x48", fit="pad", background="black", mirror=True).options
    modes.measure(evidence("stacked", options=padded, n_fake=1, fake_pictures=lambda: iter([torch.zeros(1, 3, 32, 48)])))
    assert taught == [{**padded, "channels": 1, "mirror": False}]


def test_the_reader_is_trained_once_and_always_alike(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load("digits")
    known = reader.reader_of(digits)
    (path,) = (cache / "readers").iterdir()
    with safe_open(path, "pt") as file:
        assert float(file.metadata()["accuracy"]) == known.accuracy
    monkeypatch.setattr(reader, "train", lambda digits: pytest.fail("trained again"))
    again = reader.reader_of(digits)
    assert all(torch.equal(a, b) for a, b in zip(again.network.parameters(), known.network.parameters(), strict=True))


def test_a_damaged_reader_is_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "STEPS", 2)
    digits = load("digits")
    first = reader.reader_of(digits, cache=tmp_path)
    (path,) = (tmp_path / "readers").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    second = reader.reader_of(digits, cache=tmp_path)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers were touched"
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))

"""KID: equal to torchmetrics and to a closed form; unbiased with few samples; the accuracy of its interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, clouds
from torchmetrics.image.kid import KernelInceptionDistance

from leafwing.errors import LeafwingError
from leafwing.metrics import clouds as chunked
from leafwing.metrics import kid
from leafwing.metrics.kid import kernel_distance

pytestmark = pytest.mark.machine

Distance = Callable[..., tuple[float, float]]


@pytest.fixture
def oracle() -> Distance:
    """KID by torchmetrics, averaged over subsets."""

    def distance(real: np.ndarray, fake: np.ndarray, subsets: int, size: int) -> tuple[float, float]:
        with pytest.warns(UserWarning, match="save all extracted features"):
            metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=subsets, subset_size=size)
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(fake), real=False)
        mean, deviation = metric.compute()
        return mean.item(), deviation.item()

    return distance


@pytest.mark.parametrize(("n", "d"), [(50, 8), (30, 64), (200, 3)])
def test_it_equals_torchmetrics(oracle: Distance, n: int, d: int) -> None:
    real, fake = clouds(0, n, d)
    mean, _ = oracle(real, fake, subsets=1, size=n)
    assert kernel_distance(real, fake)[0] == pytest.approx(mean, rel=1e-9)


def test_it_equals_the_mean_over_subsets(oracle: Distance) -> None:
    real, fake = clouds(n=200)
    torch.manual_seed(0)
    mean, deviation = oracle(real, fake, subsets=400, size=50)
    assert kernel_distance(real, fake)[0] == pytest.approx(mean, abs=4 * deviation / 400**0.5)


def test_sides_of_different_sizes_follow_the_formula() -> None:
    real, fake = clouds(n=40)[0], clouds(seed=1, n=25)[1]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 8 + 1) ** 3

    def among(a: np.ndarray) -> float:
        return kernel(a, a)[~np.eye(len(a), dtype=bool)].mean()

    oracle = among(real) + among(fake) - 2 * kernel(real, fake).mean()
    value, _ = kernel_distance(real, fake)
    assert value == pytest.approx(oracle, rel=1e-9)
    assert kernel_distance(fake, real)[0] == pytest.approx(oracle, rel=1e-9)
    assert kernel_distance(real[::-1], np.roll(fake, 7, axis=0))[0] == pytest.approx(oracle, rel=1e-9)


def expected(a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray) -> float:
    """E (x . y / d + 1)^3 for independent x ~ N(a, diag s) and y ~ N(b, diag t)."""
    d = len(a)
    first = a @ b
    second = first**2 + a @ (t * a) + b @ (s * b) + s @ t
    # Given x, x.y is normal; its third moment is m^3 + 3 m v with m = x.b and v = x.(t x).
    third = first**3 + 3 * first * (b @ (s * b)) + 3 * (first * (s @ t + a @ (t * a)) + 2 * (b * s * t) @ a)
    return third / d**3 + 3 * second / d**2 + 3 * first / d + 1


def test_it_is_unbiased_on_gaussians_of_known_moments() -> None:
    """Clouds of 12 rows: the mean over 400 draws lies within 4 of its standard errors from the closed form."""
    a, b = np.array([0.5, -1, 0, 0.2]), np.array([0, -0.5, 1, 0.2])
    s, t = np.array([1.0, 0.5, 2, 1]), np.array([1.0, 1.5, 0.3, 1])
    true = expected(a, a, s, s) + expected(b, b, t, t) - 2 * expected(a, b, s, t)
    random = np.random.default_rng(0)
    draws = [
        kernel_distance(a + random.standard_normal((12, 4)) * s**0.5, b + random.standard_normal((12, 4)) * t**0.5)[0]
        for _ in range(400)
    ]
    assert np.mean(draws) == pytest.approx(true, abs=4 * np.std(draws) / 20)
    assert np.std(draws) / 20 < abs(true) / 4, "the draws vary too much for a conclusion"


def test_its_mean_is_0_for_equal_distributions() -> None:
    draws = [kernel_distance(*clouds(s, 20, 16, 0, 1))[0] for s in range(200)]
    assert np.mean(draws) == pytest.approx(0, abs=4 * np.std(draws) / 200**0.5)
    assert min(draws) < 0 < max(draws)


def test_the_error_matches_the_spread_over_draws() -> None:
    """Over 100 draws KID has a standard deviation of 0.11; the mean error is 0.90, 0.94 and 0.96 of that in three such trials."""
    draws = np.array([kernel_distance(*clouds(s)) for s in range(100)])
    assert 0.7 < draws[:, 1].mean() / draws[:, 0].std() < 1.4


def test_the_error_is_the_jackknife_error() -> None:
    real, fake = clouds(n=9)
    variance = 0.0
    for side in (0, 1):
        without = [
            kernel_distance(*(np.delete(c, i, axis=0) if s == side else c for s, c in enumerate((real, fake))))[0]
            for i in range(9)
        ]
        variance += 8 * np.var(without)
    assert kernel_distance(real, fake)[1] == pytest.approx(variance**0.5, rel=1e-9)


def test_it_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kernel_distance(*clouds(n=50))
    monkeypatch.setattr(chunked, "CHUNK", 8 * 50 * 7)
    assert len(list(chunked.blocks(50, 50))) == 8
    assert kernel_distance(*clouds(n=50)) == pytest.approx(whole, rel=1e-9)


def test_measure_gives_an_interval_around_the_value() -> None:
    (measure,) = kid.measure(FakeEvidence(*(torch.from_numpy(cloud) for cloud in clouds(n=100))))
    assert measure.low is not None
    assert measure.high is not None
    assert measure.low < measure.value < measure.high
    assert (measure.name, measure.better) == ("kid", "lower")


def test_two_samples_are_rejected_and_a_diverged_generator_gives_nan() -> None:
    real, fake = clouds(n=10)
    with pytest.raises(LeafwingError, match=r"kid .*at least 3 real samples, .*2"):
        kernel_distance(real[:2], fake)
    fake[3, 3] = np.inf
    assert np.isnan(kernel_distance(real, fake)).all()
    (measure,) = kid.measure(FakeEvidence(torch.from_numpy(real), torch.from_numpy(fake)))
    assert np.isnan(measure.value)
    assert measure.low is None

"""FID: equal to torchmetrics, to scipy and to closed forms; its bias with few samples; the accuracy of its interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, clouds
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from leafwing.errors import LeafwingError
from leafwing.metrics import fid
from leafwing.metrics.fid import frechet_distance, spread

pytestmark = pytest.mark.machine


class Itself(nn.Module):
    """A feature network that returns its input."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.num_features = d

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def with_moments(n: int, mean: np.ndarray, covariance: np.ndarray, seed: int) -> np.ndarray:
    """n rows with exactly this mean and covariance."""
    x = np.random.default_rng(seed).standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return whitened @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (100, 150, 64), (5000, 4500, 3)])
def test_it_equals_torchmetrics(n: int, m: int, d: int) -> None:
    real, fake = clouds(0, n, d)[0], clouds(1, m, d)[1]
    oracle = FrechetInceptionDistance(feature=Itself(d))
    oracle.update(torch.from_numpy(real), real=True)
    oracle.update(torch.from_numpy(fake), real=False)
    assert frechet_distance(real, fake) == pytest.approx(oracle.compute().item(), rel=1e-6)


def test_it_equals_the_formula_with_scipys_square_root() -> None:
    real, fake = clouds(n=200, d=20)
    a, b = np.cov(real.T), np.cov(fake.T)
    oracle = np.square(real.mean(0) - fake.mean(0)).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(real, fake) == pytest.approx(oracle, rel=1e-9)


def test_it_equals_the_closed_form_for_gaussians() -> None:
    """Covariances that commute: |m - m'|^2 + sum (s - s')^2 over the common axes."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))
    wide, narrow = np.array([3.0, 2, 1, 0.5, 0.1]), np.array([1.0, 2, 0.5, 0.5, 0.4])
    shift = np.array([1.0, 0, -2, 0, 0.5])
    real = with_moments(50, np.zeros(5), turn * wide**2 @ turn.T, seed=1)
    fake = with_moments(80, shift, turn * narrow**2 @ turn.T, seed=2)
    assert frechet_distance(real, fake) == pytest.approx((shift**2).sum() + ((wide - narrow) ** 2).sum(), rel=1e-9)


def test_it_is_exact_with_fewer_samples_than_features() -> None:
    """10 rows in a rotated 4-dimensional subspace of 100 dimensions have the same distance as in 4."""
    real, fake = clouds(n=10, d=4)
    inside, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((100, 4)))
    assert frechet_distance(real @ inside.T, fake @ inside.T) == pytest.approx(frechet_distance(real, fake), rel=1e-9)


def test_blocks_of_rows_are_combined_exactly() -> None:
    """In one dimension, with more rows than a block: (m - m')^2 + (s - s')^2."""
    real, fake = clouds(n=9_000, d=1)
    oracle = (real.mean() - fake.mean()) ** 2 + (real.std(ddof=1) - fake.std(ddof=1)) ** 2
    assert frechet_distance(real, fake) == pytest.approx(oracle, rel=1e-9)


def test_it_is_0_for_equal_sets_and_symmetric_and_independent_of_order() -> None:
    real, fake = clouds(n=60, d=100)
    value = frechet_distance(real, fake)
    for seed in range(10):  # without clipping, rounding would make some of them negative
        cloud, _ = clouds(seed, n=60, d=100)
        assert 0 <= frechet_distance(cloud, cloud[::-1]) < 1e-9
    assert frechet_distance(real[::-1], np.roll(fake, 7, axis=0)) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(fake, real) == pytest.approx(value, rel=1e-9)


def test_features_far_from_zero_keep_their_precision() -> None:
    """Sums of squares in float32 would lose all digits. In float64 the relative difference is at most 2e-5 in five seeds."""
    real, fake = (cloud.astype(np.float32) for cloud in clouds(n=500, d=8))
    far = frechet_distance(real + np.float32(4096), fake + np.float32(4096))
    assert far == pytest.approx(frechet_distance(real, fake), rel=1e-3)


def test_it_is_biased_upwards_with_few_samples() -> None:
    """The clouds are the same, so the truth is 0. Ten seeds: 2.9 to 4.1 with 50 rows, 0.30 to 0.41 with 500."""
    few = np.mean([frechet_distance(*clouds(s, 50, 16, 0, 1)) for s in range(10)])
    many = np.mean([frechet_distance(*clouds(s, 500, 16, 0, 1)) for s in range(10)])
    assert 6 < few / many < 14
    assert many > 0.1


def test_the_estimated_spread_matches_the_spread_over_draws() -> None:
    """Over 60 draws FID has a standard deviation of 0.19; the mean estimate is 1.02, 1.10 and 1.02 of that in three such trials."""
    true = np.std([frechet_distance(*clouds(s)) for s in range(60)])
    estimates = np.mean([spread(*clouds(s), seed=s) for s in range(6)])
    assert 0.7 < estimates / true < 1.4


def test_measure_gives_an_interval_around_the_value() -> None:
    real, fake = clouds(n=100)
    (measure,) = fid.measure(FakeEvidence(torch.from_numpy(real), torch.from_numpy(fake)))
    assert measure.value == pytest.approx(frechet_distance(real.astype(np.float32), fake.astype(np.float32)))
    assert measure.low is not None
    assert measure.high is not None
    assert 0 <= measure.low < measure.value < measure.high
    assert (measure.name, measure.better) == ("fid", "lower")


def test_many_features_have_no_interval() -> None:
    (measure,) = fid.measure(FakeEvidence(torch.randn(3, 300), torch.randn(3, 300)))
    assert measure.low is None
    assert measure.high is None


def test_a_single_sample_is_rejected_and_a_diverged_generator_gives_nan() -> None:
    real, fake = clouds(n=10)
    with pytest.raises(LeafwingError, match=r"fid .*at least 2 generated samples, .*1"):
        frechet_distance(real, fake[:1])
    with pytest.raises(LeafwingError, match=r"\(10, 8\) and \(10, 7\)"):
        frechet_distance(real, fake[:, :7])
    fake[3, 3] = np.nan
    assert np.isnan(frechet_distance(real, fake))

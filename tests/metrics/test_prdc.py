"""Precision, recall, density, coverage: equal to the formulas of the papers; which one detects which failure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, clouds
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsTransformer

from leafwing.errors import LeafwingError
from leafwing.metrics import clouds as chunked
from leafwing.metrics import prdc
from leafwing.metrics.prdc import NAMES, by_class, errors, precision_recall

pytestmark = pytest.mark.machine


def oracle(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """The formulas of both papers, with full distance matrices from scipy."""

    def reach(cloud: np.ndarray) -> np.ndarray:
        return np.sort(cdist(cloud, cloud), axis=1)[:, k]  # the first is the point itself

    between = cdist(real, fake)
    in_real = between <= reach(real)[:, None]
    return {
        "precision": in_real.any(axis=0).mean(),
        "recall": (between <= reach(fake)[None]).any(axis=1).mean(),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(axis=1).mean(),
    }


@pytest.mark.parametrize(("n", "m", "d", "k"), [(300, 200, 8, 5), (60, 90, 64, 3), (400, 400, 2, 5)])
def test_values_equal_the_formulas_of_the_papers(n: int, m: int, d: int, k: int) -> None:
    real, fake = clouds(0, n, d)[0], clouds(1, m, d, shift=0.5)[1]
    values = precision_recall(real, fake, k)
    assert values == pytest.approx(oracle(real, fake, k), rel=1e-9)
    assert 0 < values["precision"] < 1
    assert 0 < values["coverage"] < 1


def test_radii_equal_those_of_scikit_learns_graph() -> None:
    real, _ = clouds(n=80)
    graph = KNeighborsTransformer(mode="distance", n_neighbors=5).fit_transform(real)
    assert prdc._radii(real, 5) == pytest.approx(graph.max(axis=1).toarray()[:, 0])


def test_four_points_on_a_line() -> None:
    """On a line, with the second nearest: real balls around 0, 1, 3, 7 reach 3, 2, 3, 6; fake ones of 1, 2, 20 reach 19, 18, 19."""
    real, fake = np.array([[0.0], [1], [3], [7]]), np.array([[1.0], [2], [20]])
    values = precision_recall(real, fake, nearest=2)
    assert values == {"precision": 2 / 3, "recall": 1.0, "density": pytest.approx(8 / 6), "coverage": 1.0}


def test_swapping_the_sides_swaps_precision_and_recall() -> None:
    """They were swapped in widely used code for years."""
    real, narrow = clouds(shift=0, scale=0.5)
    values, swapped = precision_recall(real, narrow), precision_recall(narrow, real)
    assert values["precision"] == swapped["recall"] == pytest.approx(1, abs=0.01)
    assert values["recall"] == swapped["precision"] < 0.6


def test_equal_sets_have_perfect_values_and_order_does_not_matter() -> None:
    real, fake = clouds()
    same = precision_recall(real, real)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    assert 1 <= same["density"] <= 1.2  # each ball contains its own point and 5 others, the last one on its border
    assert precision_recall(real[::-1], np.roll(fake, 7, axis=0)) == pytest.approx(precision_recall(real, fake))


def test_a_collapsed_generator_loses_recall_and_coverage_and_keeps_precision() -> None:
    """Samples from one of four groups of real points.

    Five seeds: recall .20 to .23 and coverage .22 to .25; all other numbers are at least .90.
    """
    random = np.random.default_rng(0)
    centres = 10 * np.eye(4, 6)
    real, good = (centres[random.integers(0, 4, 400)] + random.standard_normal((400, 6)) for _ in range(2))
    collapsed = centres[0] + random.standard_normal((400, 6))
    healthy, values = precision_recall(real, good), precision_recall(real, collapsed)
    assert min(healthy.values()) > 0.85
    assert values["precision"] > 0.85
    assert values["recall"] < 0.35
    assert values["coverage"] < 0.35


def test_samples_that_are_noise_have_no_precision() -> None:
    real, _ = clouds(n=200)
    values = precision_recall(real, real + 50)
    assert values == dict.fromkeys(NAMES, 0)


def test_a_real_outlier_raises_precision_but_hardly_density() -> None:
    """The reason for density in the second paper: all samples around one outlier lie in its one large ball."""
    real, _ = clouds(n=200, d=2)
    real[0] = 100
    fake = np.array([90.0, 95]) + np.random.default_rng(1).standard_normal((100, 2))
    values = precision_recall(real, fake)
    assert values["precision"] == 1
    assert values["density"] == pytest.approx(1 / 5)
    assert values["coverage"] == pytest.approx(1 / 200)


def test_balls_of_radius_0_are_allowed() -> None:
    """All balls of the samples have radius 0."""
    real, fake = clouds(n=50)
    values = precision_recall(real, np.repeat(fake[:1], 50, axis=0))
    assert values["recall"] == 0


def test_values_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = clouds(n=50, scale=0.5)
    whole = precision_recall(*narrow)
    assert whole["recall"] < 1
    monkeypatch.setattr(chunked, "CHUNK", 8 * 50 * 7)
    assert precision_recall(*narrow) == whole


def test_errors_match_the_spread_over_draws() -> None:
    """In three trials of 60 draws, the mean error of each number is 0.70 to 1.09 of its standard deviation."""
    draws = [precision_recall(*clouds(s)) for s in range(60)]
    estimated = [errors(*clouds(s), seed=s) for s in range(10)]
    for name in NAMES:
        ratio = np.mean([values[name] for values in estimated]) / np.std([values[name] for values in draws])
        assert 0.5 < ratio < 1.5, name


def test_measure_gives_intervals_from_300_samples_on() -> None:
    real, fake = (torch.from_numpy(cloud) for cloud in clouds())
    for measure in prdc.measure(FakeEvidence(real, fake)):
        assert measure.low is not None
        assert measure.high is not None
        assert 0 <= measure.low <= measure.value <= measure.high
        assert measure.better == "higher"
    assert [measure.low for measure in prdc.measure(FakeEvidence(real, fake[:299]))] == [None] * 4


def test_too_few_samples_are_rejected_and_a_diverged_generator_gives_nan() -> None:
    real, fake = clouds(n=10)
    with pytest.raises(LeafwingError, match=r"prdc .*at least 6 generated samples, .*5"):
        precision_recall(real, fake[:5])
    fake[3, 3] = np.nan
    assert all(np.isnan(value) for value in precision_recall(real, fake).values())


def test_precision_by_class_is_that_of_the_samples_of_each_class() -> None:
    real, near = clouds(n=300)
    fake = np.concatenate([near[:100] + 50, near[100:200], near[:10]])
    classes = np.repeat([0, 1, 2], [100, 100, 10])
    shares = by_class(real, fake, classes, ("far", "near", "few"))
    assert list(shares) == ["near", "far"], "best first, and none of too few samples"
    assert shares["far"] == 0
    assert shares["near"] == precision_recall(real, fake[100:200])["precision"] > 0.5
    fake[0, 0] = np.nan
    assert by_class(real, fake, classes, ("far", "near", "few")) == {}

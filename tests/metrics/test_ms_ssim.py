"""MS-SSIM of pairs: equal to its formula; the choice of pairs; its value under mode collapse."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from evidence import FakeEvidence, pictures
from scipy.ndimage import correlate1d
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as of_torchmetrics

from leafwing.errors import LeafwingError
from leafwing.metrics import ms_ssim as metric
from leafwing.metrics.ms_ssim import MIN_SIDES, WEIGHTS, draw_pairs, ms_ssim, similarities

pytestmark = pytest.mark.machine


def values(evidence: FakeEvidence) -> dict[str, float]:
    return {measure.name: measure.value for measure in metric.measure(evidence)}


def formula(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """MS-SSIM of two images (channels, height, width) in [0, 1], in float64, with scipy: Wang et al. 2003, eq. 7.

    As in torchmetrics: mirrored at the border; contrast and structure are averaged where the window fits, the rest everywhere.
    """
    window = np.exp(-np.square(np.arange(11) - 5) / (2 * 1.5**2))

    def blur(a: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            a = correlate1d(a, window / window.sum(), axis=axis, mode="mirror")
        return a

    product = 1.0
    for scale, weight in enumerate(weights):
        mx, my = blur(x), blur(y)
        vx, vy, both = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        contrast = (2 * both + 0.03**2) / (vx + vy + 0.03**2)
        light = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
        last = scale == len(weights) - 1
        product *= max(0.0, (contrast * light).mean() if last else contrast[:, 5:-5, 5:-5].mean()) ** weight
        c, h, w = x.shape
        x, y = (a[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).mean((2, 4)) for a in (x, y))
    return product


def unit(images: Tensor) -> Tensor:
    return (images + 1) / 2


@pytest.mark.parametrize(("side", "scales"), [(11, 1), (16, 1), (32, 2), (64, 3), (98, 3), (99, 4), (175, 4), (176, 5)])
def test_it_equals_the_formula_at_every_size(side: int, scales: int) -> None:
    base = pictures(0, 3, height=side, width=side + 3)
    x, y = unit(base), unit(0.7 * base + 0.3 * pictures(1, 3, height=side, width=side + 3))
    weights = np.array(WEIGHTS[:scales]) * sum(WEIGHTS) / sum(WEIGHTS[:scales])
    oracle = [formula(a, b, weights) for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)]
    assert ms_ssim(x, y) == pytest.approx(oracle, rel=1e-4)
    assert 0.3 < min(oracle) < max(oracle) < 0.999
    assert sum(side >= smallest for smallest in MIN_SIDES) == scales


def test_from_176_pixels_it_equals_torchmetrics_defaults() -> None:
    x, y = unit(pictures(0, 2, height=180, width=176)), unit(pictures(1, 2, height=180, width=176))
    oracle = of_torchmetrics(x, y, data_range=1.0, reduction="none")
    assert ms_ssim(x, y) == pytest.approx(oracle.numpy(), rel=1e-4)


def test_equal_images_have_similarity_1() -> None:
    x = unit(pictures(n=4))
    assert ms_ssim(x, x) == pytest.approx(np.ones(4), rel=1e-5)


def test_pairs_are_disjoint_and_of_one_class() -> None:
    labels = np.array([0, 1, 2] * 7 + [3])
    pairs = draw_pairs(22, labels, seed=0)
    assert pairs.shape == (9, 2)  # three of each class of seven, none of the class of one
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
    assert len(set(pairs.flat)) == 18


def test_pairs_depend_on_the_seed_and_are_limited() -> None:
    assert draw_pairs(50, None, seed=0).shape == (25, 2)
    assert draw_pairs(50, None, seed=0, max_pairs=4).shape == (4, 2)
    assert np.array_equal(draw_pairs(50, None, seed=3), draw_pairs(50, None, seed=3))
    assert not np.array_equal(draw_pairs(50, None, seed=3), draw_pairs(50, None, seed=4))


def test_pairs_may_span_chunks() -> None:
    images = ((pictures(n=20) + 1) * 127.5).round() / 127.5 - 1  # exactly representable in 8 bits
    pairs = np.array([[0, 19], [7, 6], [13, 2]])
    oracle = ms_ssim(unit(images[pairs[:, 0]]), unit(images[pairs[:, 1]]))
    assert similarities(iter(images.split(7)), pairs) == pytest.approx(oracle, rel=1e-4)


def test_samples_of_a_collapsed_generator_are_more_similar_than_real_images() -> None:
    """Five seeds: real pairs .01 to .03, collapsed ones .99."""
    real = pictures(n=40)
    collapsed = pictures(1, n=1) + 0.05 * torch.randn(40, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    good, bad = values(FakeEvidence(real, pictures(2, n=40))), values(FakeEvidence(real, collapsed.clamp(-1, 1)))
    assert good["ms_ssim"] == pytest.approx(good["ms_ssim_real"], abs=0.05)
    assert bad["ms_ssim"] > bad["ms_ssim_real"] + 0.9


def test_collapse_within_classes_is_detected_with_labels() -> None:
    real, classes = pictures(n=40), np.arange(40) % 4
    fake = pictures(1, n=4)[torch.from_numpy(classes)]
    labelled = values(FakeEvidence(real, fake, real_classes=classes, fake_classes=classes))
    assert labelled["ms_ssim"] == pytest.approx(1, abs=1e-4)
    one_side = values(FakeEvidence(real, fake, fake_classes=classes))  # then pairs of both sides may mix classes
    assert one_side["ms_ssim"] < 0.6


def test_measures_have_intervals_and_no_direction() -> None:
    for measure in metric.measure(FakeEvidence(pictures(0), pictures(1))):
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low < measure.value < measure.high
        assert measure.better == ""
    assert [measure.low for measure in metric.measure(FakeEvidence(pictures(0, 2), pictures(1, 3)))] == [None, None]


def test_invalid_input_is_rejected_and_a_diverged_generator_gives_nan() -> None:
    with pytest.raises(LeafwingError, match="points"):
        values(FakeEvidence(torch.zeros(3, 2), torch.zeros(3, 2)))
    with pytest.raises(LeafwingError, match=r"11 pixels, .* 10"):
        values(FakeEvidence(pictures(height=10), pictures(height=10)))
    with pytest.raises(LeafwingError, match=r"two samples of the same class, .* 1"):
        values(FakeEvidence(pictures(n=9), pictures(n=1)))
    broken = pictures(n=4)
    broken[0] = torch.nan
    (found, _) = metric.measure(FakeEvidence(pictures(n=4), broken))
    assert np.isnan(found.value)
    assert found.low is None


def test_without_torchmetrics_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(LeafwingError, match=r"pip install 'leafwing\[evaluate\]'"):
        ms_ssim(unit(pictures(n=1)), unit(pictures(n=1)))


def test_pairs_of_each_side_follow_its_own_labels() -> None:
    """All images of a class are equal, and the two sides have their classes in another order and number."""
    classes, others = np.arange(40) % 4, np.arange(60) // 15
    looks = pictures(1, n=4)
    real, fake = looks[torch.from_numpy(others)], looks[torch.from_numpy(classes)]
    similar = values(FakeEvidence(real, fake, real_classes=others, fake_classes=classes))
    assert similar["ms_ssim"] == pytest.approx(1, abs=1e-4)
    assert similar["ms_ssim_real"] == pytest.approx(1, abs=1e-4)


def test_there_are_at_most_a_thousand_pairs() -> None:
    assert draw_pairs(1_998, None, seed=0).shape == (999, 2)
    assert draw_pairs(5_000, None, seed=0).shape == (1_000, 2)

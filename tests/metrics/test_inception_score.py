"""Inception score: equal to torchmetrics; its bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence import FakeEvidence
from torchmetrics.image.inception import InceptionScore

from leafwing.errors import LeafwingError
from leafwing.metrics import inception_score
from leafwing.metrics.inception_score import scores

pytestmark = pytest.mark.machine


def logits(n: int = 200, classes: int = 7, seed: int = 0) -> torch.Tensor:
    return 2 * torch.randn(n, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("splits", [2, 10])
def test_it_equals_torchmetrics(splits: int) -> None:
    predictions = logits()
    with pytest.warns(UserWarning, match="save all extracted features"):
        oracle = InceptionScore(feature=torch.nn.Identity(), splits=splits)
    oracle.update(predictions)
    torch.manual_seed(3)
    mean, deviation = oracle.compute()
    torch.manual_seed(3)  # torchmetrics shuffles: use the same order
    values = scores(predictions[torch.randperm(200)].softmax(1).numpy(), splits)
    assert values.mean() == pytest.approx(mean.item(), rel=1e-9)
    assert values.std(ddof=1) == pytest.approx(deviation.item(), rel=1e-9)


def test_confident_diverse_predictions_score_the_number_of_classes_and_others_1() -> None:
    confident = np.eye(5)[np.arange(100) % 5]
    assert scores(confident) == pytest.approx(np.full(10, 5.0))
    assert scores(np.full((100, 5), 0.2)) == pytest.approx(np.ones(10))
    assert scores(np.eye(5)[np.zeros(100, dtype=int)]) == pytest.approx(np.ones(10))  # confident, but always the same class


def test_the_score_of_one_part_does_not_depend_on_the_order() -> None:
    probabilities = logits().softmax(1).numpy()
    assert scores(probabilities[::-1], 1) == pytest.approx(scores(probabilities, 1))


def test_measure_gives_an_interval_around_the_mean_of_ten_parts() -> None:
    probabilities = logits(1_000).softmax(1).numpy()
    (measure,) = inception_score.measure(FakeEvidence(torch.zeros(2, 2), torch.zeros(1_000, 2), probabilities=probabilities))
    parts = scores(probabilities[np.random.default_rng(0).permutation(1_000)])
    assert len(parts) == 10
    assert measure.value == pytest.approx(parts.mean())
    assert measure.high == pytest.approx(parts.mean() + 2.262 * parts.std(ddof=1) / 10**0.5, rel=1e-3)  # Student's t
    assert (measure.name, measure.better) == ("inception_score", "higher")


def test_the_order_of_files_does_not_matter() -> None:
    """Files are often sorted by class, and splits of one class would score 1."""
    sorted_by_class = np.eye(10)[np.arange(1_000) // 100]
    blank = torch.zeros(2, 2), torch.zeros(1_000, 2)
    (measure,) = inception_score.measure(FakeEvidence(*blank, probabilities=sorted_by_class))
    assert measure.value > 8


@pytest.mark.parametrize(("n", "parts"), [(10, 1), (100, 1), (250, 2), (3_000, 10)])
def test_few_samples_have_few_parts(n: int, parts: int) -> None:
    """A perfect generator of ten classes scored 1, with an interval of width 0: in a part of one sample there is no more."""
    perfect = np.eye(10)[np.arange(n) % 10]
    (measure,) = inception_score.measure(FakeEvidence(torch.zeros(2, 2), torch.zeros(n, 2), probabilities=perfect))
    assert measure.value == pytest.approx(10, rel=0.1)
    assert (measure.low is None) == (parts == 1)
    assert len(scores(perfect, parts)) == parts


def test_fewer_samples_than_splits_are_a_split_each_and_no_samples_are_rejected() -> None:
    assert scores(logits(3).softmax(1).numpy()) == pytest.approx(np.ones(3))
    single = FakeEvidence(torch.zeros(1, 2), torch.zeros(1, 2), probabilities=logits(1).softmax(1).numpy())
    assert inception_score.measure(single)[0].low is None
    with pytest.raises(LeafwingError, match="at least one sample"):
        scores(np.empty((0, 7)))

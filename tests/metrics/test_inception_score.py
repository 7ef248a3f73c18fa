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
def test_it_is_that_of_torchmetrics(splits: int) -> None:
    given = logits()
    with pytest.warns(UserWarning, match="save all extracted features"):
        oracle = InceptionScore(feature=torch.nn.Identity(), splits=splits)
    oracle.update(given)
    torch.manual_seed(3)
    mean, deviation = oracle.compute()
    torch.manual_seed(3)  # it shuffles, so ours is given the same order
    found = scores(given[torch.randperm(200)].softmax(1).numpy(), splits)
    assert found.mean() == pytest.approx(mean.item(), rel=1e-9)
    assert found.std(ddof=1) == pytest.approx(deviation.item(), rel=1e-9)


def test_sure_and_varied_answers_score_the_number_of_classes_and_others_1() -> None:
    sure = np.eye(5)[np.arange(100) % 5]
    assert scores(sure) == pytest.approx(np.full(10, 5.0))
    assert scores(np.full((100, 5), 0.2)) == pytest.approx(np.ones(10))
    assert scores(np.eye(5)[np.zeros(100, dtype=int)]) == pytest.approx(np.ones(10))  # sure, and always of the same class


def test_the_score_of_one_part_does_not_depend_on_the_order() -> None:
    given = logits().softmax(1).numpy()
    assert scores(given[::-1], 1) == pytest.approx(scores(given, 1))


def test_measure_gives_an_interval_around_the_mean_of_ten_parts() -> None:
    given = logits().softmax(1).numpy()
    (found,) = inception_score.measure(FakeEvidence(torch.zeros(2, 2), torch.zeros(200, 2), probabilities=given))
    parts = scores(given)
    assert len(parts) == 10
    assert found.value == pytest.approx(parts.mean())
    assert found.high == pytest.approx(parts.mean() + 2.262 * parts.std(ddof=1) / 10**0.5, rel=1e-3)  # Student's t
    assert (found.name, found.better) == ("inception_score", "higher")


def test_fewer_samples_than_parts_are_a_part_each_and_none_is_refused() -> None:
    assert scores(logits(3).softmax(1).numpy()) == pytest.approx(np.ones(3))
    one = FakeEvidence(torch.zeros(1, 2), torch.zeros(1, 2), probabilities=logits(1).softmax(1).numpy())
    assert inception_score.measure(one)[0].low is None
    with pytest.raises(LeafwingError, match="at least one sample"):
        scores(np.empty((0, 7)))

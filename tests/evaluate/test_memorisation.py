"""Copies of training pictures are found, and new pictures are not taken for copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence import FakeEvidence
from torch import Tensor

from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.evaluate.copying import closeness, variety
from leafwing.evaluate.memorisation import Report, examine, report
from leafwing.evaluate.neighbours import sketches

TRAIN, HELD = 800, 500


def parts(seed: int) -> list[Tensor]:
    """Training, held-out and new digits, float32 (n, 1, 32, 32) in [-1, 1]."""
    data = load("digits")
    order = np.random.default_rng(seed).permutation(len(data))
    cut = (order[:TRAIN], order[TRAIN : TRAIN + HELD], order[TRAIN + HELD :])
    return [torch.from_numpy(data.pictures(part)).permute(0, 3, 1, 2).float() / 127.5 - 1 for part in cut]


def copies_of(training: Tensor, n: int, noise: float, seed: int) -> Tensor:
    """n copies of training pictures, half of them mirrored, moved by up to a pixel, with noise."""
    random = torch.Generator().manual_seed(seed)
    made = training[torch.randint(len(training), (n,), generator=random)].clone()
    flipped = torch.rand(n, generator=random) < 0.5
    made[flipped] = made[flipped].flip(3)
    for i, (down, right) in enumerate(torch.randint(-1, 2, (n, 2), generator=random).tolist()):
        made[i] = made[i].roll((down, right), (1, 2))
    return (made + noise * torch.randn(made.shape, generator=random)).clamp(-1, 1)


def judged(samples: Tensor, training: Tensor, held: Tensor) -> Report:
    seen = [sketches(iter(pictures.split(64))) for pictures in (samples, training, held)]
    return examine(seen[0], seen[1], training.split(64), seen[2])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "verdict"), [(0.0, "none"), (0.01, "suspicious"), (0.1, "copies"), (0.5, "copies")])
def test_a_planted_copier_is_seen_for_what_it_is(share: float, verdict: str, seed: int) -> None:
    training, held, new = parts(seed)
    planted = copies_of(training, round(share * len(new) / (1 - share)), 0.05, seed)
    found = judged(torch.cat([planted, new]), training, held)
    assert found.verdict == verdict
    assert found.copied <= share + 0.05, "not many more copies are claimed than there are"


def test_the_picture_that_is_copied_is_named() -> None:
    training, held, new = parts(0)
    found = judged(torch.cat([copies_of(training[:1], 60, 0.1, 0), new]), training, held)
    assert found.most_copied[0][0] == 0
    assert found.pairs[0].training[0] == 0
    assert found.pairs[0].sample < 60
    assert found.as_dict()["verdict"] == found.verdict


def test_copies_of_a_small_set_without_a_held_out_part_are_copies() -> None:
    training = parts(0)[0][:64]
    found = judged(copies_of(training, 500, 0.05, 0), training, training[:0])
    assert (found.verdict, found.held) == ("copies", 0)


def test_the_nearest_is_measured_by_those_that_come_next() -> None:
    assert closeness(np.array([[0.1, 0.4, 0.6], [0.5, 0.5, 0.5]])).tolist() == pytest.approx([0.2, 1.0])


def test_variety_counts_different_pictures() -> None:
    different = sketches(iter([parts(0)[0][:40]]))
    assert variety(different, 1e-3) == (40.0, 0.0)
    assert variety(different[:1].expand(40, -1), 1e-3) == (1.0, 1.0)


def test_points_and_too_few_pictures_are_refused() -> None:
    with pytest.raises(LeafwingError, match="modes"):
        report(FakeEvidence(torch.zeros(9, 2), torch.zeros(9, 2)))
    three = parts(0)[0][:3]
    with pytest.raises(LeafwingError, match="at least 4"):
        report(FakeEvidence(three, three))

"""What is built from the description of an optimiser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing.errors import LeafwingError
from leafwing.game import Clock
from leafwing.optimisers import Adam, RMSprop

CPU = torch.device("cpu")
pytestmark = pytest.mark.machine


@pytest.fixture
def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))]


def test_adam_is_fused_unless_that_is_turned_off(weights: list[nn.Parameter]) -> None:
    assert Adam(1e-3).build(weights, CPU).defaults["fused"]
    plain = Adam(1e-3).build(weights, CPU, fused=False).defaults
    assert not plain["fused"]
    assert plain["foreach"] is False
    assert RMSprop(1e-3).build(weights, CPU).defaults["foreach"]
    assert not RMSprop(1e-3).build(weights, CPU, fused=False).defaults["foreach"]


def test_weight_decay_is_that_of_adamw_and_l2_that_of_adam(weights: list[nn.Parameter]) -> None:
    decayed, penalised = Adam(1e-3, weight_decay=0.1).build(weights, CPU), Adam(1e-3, l2=0.1).build(weights, CPU)
    assert (type(decayed), decayed.defaults["weight_decay"]) == (torch.optim.AdamW, 0.1)
    assert (type(penalised), penalised.defaults["weight_decay"]) == (torch.optim.Adam, 0.1)
    assert Adam(1e-3).build(weights, CPU).defaults["weight_decay"] == 0


def test_the_two_forms_of_weight_decay_exclude_each_other() -> None:
    with pytest.raises(LeafwingError, match="choose one"):
        Adam(1e-3, weight_decay=0.1, l2=0.1)


def test_schedules_begin_at_their_first_value(weights: list[nn.Parameter]) -> None:
    falling = Adam(lambda clock: 1e-3 * (1 - clock.progress), (0.0, lambda clock: 0.9 + 0.09 * clock.progress))
    built = falling.build(weights, CPU).defaults
    assert (built["lr"], built["betas"]) == (1e-3, (0.0, 0.9))
    half = falling.scheduled(Clock(images=50, total=100))
    assert half["lr"] == pytest.approx(5e-4)
    assert half["betas"] == (0.0, pytest.approx(0.945))
    assert falling.on_host
    assert not Adam(1e-3).on_host
    assert Adam(1e-3).scheduled(Clock(total=1)) == {}

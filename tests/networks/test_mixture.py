"""Several generators sampled as one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from leafwing.networks.mixture import Component, mixture

pytestmark = pytest.mark.machine


class Says(nn.Module):
    """Its own number, and what it was told."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([torch.full((len(z), 1), self.number), z], dim=1)


def test_each_latent_gets_the_component_it_asks_for() -> None:
    components = [Component(Says(number)) for number in (0.0, 1.0, 2.0)]
    for component in components:
        component.begin()
    code, z = torch.eye(3)[[2, 0, 1, 2]], torch.randn(4, 5)
    made = mixture(components, torch.cat([code, z], dim=1))
    assert made[:, 0].tolist() == [2, 0, 1, 2]
    assert torch.equal(made[:, 1:], z)


def test_who_has_not_begun_is_stood_in_for() -> None:
    components = [Component(Says(number)) for number in (0.0, 1.0, 2.0)]
    latents = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1)
    assert mixture(components, latents)[:, 0].tolist() == [0, 0, 0], "of none that has begun the first is taken"
    components[0].begin()
    components[1].begin()
    assert mixture(components, latents)[:, 0].tolist() == [0, 1, 0]
    assert components[1].state_dict()["begun"] == 1

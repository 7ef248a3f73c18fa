"""Mixtures of generators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from leafwing.networks.mixture import Component, mixture

pytestmark = pytest.mark.machine


class Constant(nn.Module):
    """Generates its number and the latent."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([torch.full((len(z), 1), self.number), z], dim=1)


def test_each_latent_selects_its_component() -> None:
    components = [Component(Constant(number)) for number in (0.0, 1.0, 2.0)]
    for component in components:
        component.begin()
    code, z = torch.eye(3)[[2, 0, 1, 2]], torch.randn(4, 5)
    samples = mixture(components, torch.cat([code, z], dim=1))
    assert samples[:, 0].tolist() == [2, 0, 1, 2]
    assert torch.equal(samples[:, 1:], z)


def test_components_that_have_not_started_are_replaced() -> None:
    components = [Component(Constant(number)) for number in (0.0, 1.0, 2.0)]
    latents = torch.cat([torch.eye(3), torch.zeros(3, 1)], dim=1)
    assert mixture(components, latents)[:, 0].tolist() == [0, 0, 0], "the first component, if none has started"
    components[0].begin()
    components[1].begin()
    assert mixture(components, latents)[:, 0].tolist() == [0, 1, 0]
    assert components[1].state_dict()["begun"] == 1


def test_components_that_have_started_share_those_that_have_not() -> None:
    components = [Component(Constant(float(number))) for number in range(4)]
    for component in components[:3]:
        component.begin()
    torch.manual_seed(0)
    latents = torch.cat([torch.eye(4).repeat(3_000, 1), torch.randn(12_000, 5)], dim=1)
    shares = mixture(components, latents)[:, 0].long().bincount(minlength=4) / 12_000
    assert shares[3] == 0
    assert (shares[:3] - 1 / 3).abs().max() < 4 * (0.25 * 2 / 9 / 3_000) ** 0.5, (
        "those of the component that has not started vary"
    )

"""Mixtures of generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Component(nn.Module):
    """A generator with a flag that says whether its training has started; before that it is not part of the mixture.

    Args:
        net: the generator.
    """

    begun: Tensor  # the key in checkpoints

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("begun", torch.zeros((), dtype=torch.int64))

    def begin(self) -> None:
        """Adds it to the mixture; the flag is saved with the weights."""
        self.begun.fill_(1)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


def mixture(components: Sequence[Any], latents: Tensor) -> Tensor:
    """One sample per latent from the selected component. Components start in order; a component that has not started is replaced by
    one that has, all of them equally often, chosen by the digits of a latent.

    All components generate a sample, because the selection is only known on the device.

    Args:
        components: `Component`s, k of them.
        latents: (n, k + latent): one-hot component selector, and its latent.
    """
    k = len(components)
    samples = torch.stack([component(latents[:, k:]) for component in components])
    started = torch.stack([component.begun for component in components]).sum().clamp_min(1)
    chosen, other = latents[:, :k].argmax(1), (latents[:, k].abs() * 4096).long() % started
    return samples[torch.where(chosen < started, chosen, other), torch.arange(len(latents), device=latents.device)]

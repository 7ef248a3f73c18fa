"""Several generators that are sampled as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Component(nn.Module):
    """A generator, and whether it has begun to learn: before that it has no place in a mixture.

    Args:
        net: the generator.
    """

    begun: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("begun", torch.zeros((), dtype=torch.int64))

    def begin(self) -> None:
        """From now on it is part of the mixture, which is saved with the weights."""
        self.begun.fill_(1)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


def mixture(components: Sequence[Any], latents: Tensor) -> Tensor:
    """One sample of one component for each latent. Components begin in their order; whoever asks for one that has not begun is
    served by one that has.

    All of them make a sample, because which one is wanted is known on the device alone.

    Args:
        components: `Component`s, k of them.
        latents: (n, k + latent): which component, as a one among k numbers, and what it is told.
    """
    k = len(components)
    made = torch.stack([component(latents[:, k:]) for component in components])
    begun = torch.stack([component.begun for component in components]).sum().clamp_min(1)
    return made[latents[:, :k].argmax(1) % begun, torch.arange(len(latents), device=latents.device)]

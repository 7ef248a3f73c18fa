"""From pictures to latents, and critics of both together; shapes only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leafwing.game import DataSpec
from leafwing.networks.dcgan import Critic
from leafwing.networks.layers import dcgan_weights


class Encoder(nn.Module):
    """Pictures (n, channels, height, width) -> (n, numbers): DCGAN's critic with as many outputs.

    Args:
        data: what the pictures look like.
        numbers: how many come out.
        width: channels of the first layer; doubled at each halving.
        widest: the most channels that a layer may have.
    """

    def __init__(self, data: DataSpec, numbers: int, width: int = 64, *, widest: int = 512) -> None:
        super().__init__()
        trunk = Critic(data, width, widest=widest)
        height, across = trunk.out.kernel_size
        self.body = trunk.body
        self.out = nn.Conv2d(trunk.features_size, numbers, (height, across))
        self.out.apply(dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)).flatten(1)


class JointCritic(nn.Module):
    """Pictures (n, channels, height, width) and latents (n, latent) -> scores (n,).

    The picture passes DCGAN's critic, the latent a layer of its own, and two layers see both.

    Args:
        data: what the pictures look like.
        latent: numbers in a latent.
        width: channels of the first layer; doubled at each halving.
        widest: the most channels that a layer may have.
    """

    def __init__(self, data: DataSpec, latent: int, width: int = 64, *, widest: int = 512) -> None:
        super().__init__()
        self.picture = Encoder(data, 8 * width, width, widest=widest)
        self.latent = nn.Sequential(nn.Linear(latent, 8 * width), nn.LeakyReLU(0.2, inplace=True))
        self.both = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Linear(16 * width, 8 * width), nn.LeakyReLU(0.2, inplace=True), nn.Linear(8 * width, 1)
        )
        for part in (self.latent, self.both):
            part.apply(dcgan_weights)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.both(torch.cat([self.picture(x), self.latent(z)], dim=1)).squeeze(1)

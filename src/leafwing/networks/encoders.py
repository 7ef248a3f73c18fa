"""Encoders from images to latents, and discriminators of image-latent pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leafwing.game import DataSpec
from leafwing.networks.dcgan import Critic
from leafwing.networks.layers import dcgan_weights


class Encoder(nn.Module):
    """Images (n, channels, height, width) -> (n, outputs): DCGAN's discriminator with another output layer.

    Args:
        data: format of the images.
        outputs: output dimension.
        width: channels of the first layer; doubles at each downsampling.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, outputs: int, width: int = 64, *, max_width: int = 512) -> None:
        super().__init__()
        base = Critic(data, width, max_width=max_width)
        base_height, base_width = base.out.kernel_size
        self.body = base.body
        self.out = nn.Conv2d(base.features_size, outputs, (base_height, base_width))
        self.out.apply(dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)).flatten(1)


class JointCritic(nn.Module):
    """Images (n, channels, height, width) and latents (n, latent) -> scores (n,).

    The image passes through DCGAN's discriminator, the latent through one layer; two further layers process both.

    Args:
        data: format of the images.
        latent: dimension of the latent vector.
        width: channels of the first layer; doubles at each downsampling.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, latent: int, width: int = 64, *, max_width: int = 512) -> None:
        super().__init__()
        self.picture = Encoder(data, 8 * width, width, max_width=max_width)
        self.latent = nn.Sequential(nn.Linear(latent, 8 * width), nn.LeakyReLU(0.2, inplace=True))
        self.both = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Linear(16 * width, 8 * width), nn.LeakyReLU(0.2, inplace=True), nn.Linear(8 * width, 1)
        )
        for part in (self.latent, self.both):
            part.apply(dcgan_weights)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.both(torch.cat([self.picture(x), self.latent(z)], dim=1)).squeeze(1)

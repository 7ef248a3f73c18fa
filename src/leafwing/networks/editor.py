"""Networks that change attributes of images: one input with two outputs for each attribute, and a critic that reads attributes.

Zhang et al. 2018, arXiv:1805.07509, section 3, as in the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leafwing.game import DataSpec
from leafwing.networks import dcgan, residual
from leafwing.networks.layers import dcgan_weights


class Generator(nn.Module):
    """Images (n, channels, height, width) -> without and with each attribute, (n, attributes, 2, channels, height, width).

    The residual translator, whose last convolution also sees the images and makes all outputs.

    Args:
        data: format of the images, and their attributes.
        width: channels at full resolution; doubles at each halving.
        max_width: maximum number of channels in any layer.
        blocks: number of residual blocks; 0: as in `residual.Generator`.

    Raises:
        LeafwingError: a side is not divisible by 4, or below 8 pixels.
    """

    def __init__(self, data: DataSpec, width: int = 64, *, max_width: int = 256, blocks: int = 0) -> None:
        super().__init__()
        net = residual.Generator(data, data.channels, width, max_width=max_width, blocks=blocks)
        self.body = nn.Sequential(net.encoder, net.blocks, net.decoder[:-3])
        outputs = 2 * len(data.attributes) * data.channels
        self.out = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width + data.channels, outputs, 7), nn.Tanh())
        self.out.apply(dcgan_weights)
        self.shape = (len(data.attributes), 2, data.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([self.body(x), x], 1)).unflatten(1, self.shape)


class Critic(nn.Module):
    """Images -> scores (n,) and the logits of attributes (n, attributes): DCGAN's critic without normalisation, with two heads.

    Args:
        data: format of the images, and their attributes.
        width: channels of the first layer; doubles at each downsampling.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, width: int = 32, *, max_width: int = 512) -> None:
        super().__init__()
        self.net = dcgan.Critic(data, width, norm="none", max_width=max_width)
        self.attributes = nn.Conv2d(self.net.features_size, len(data.attributes), self.net.base)
        self.attributes.apply(dcgan_weights)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.features(x)
        return self.net.score(features), self.attributes(features).flatten(1)

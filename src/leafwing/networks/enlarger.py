"""SRResNet and its discriminator (Ledig et al. 2016, arXiv:1609.04802, figure 4): images at two, four or eight times the size.

Options are those of ESRGAN (Wang et al. 2018, arXiv:1809.00219, section 3.1 and supplement): no batch normalisation, but residuals
multiplied by 0.2 and smaller initial weights.
"""

from __future__ import annotations

from math import ceil, log2

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from leafwing.game import DataSpec
from leafwing.networks.layers import make_norm

RESIDUAL_SCALE, INITIAL_SCALE = 0.2, 0.1
"""Factors of residuals, and of the initial weights in residual blocks, without normalisation."""
LARGEST_MAP = 6
"""Side of the last feature maps of the paper's discriminator, for images of 96 pixels; larger maps are averaged to about this."""


class Block(nn.Module):
    """x + f(x), f = convolution, PReLU, convolution, with normalisation: (n, channels, height, width) in and out.

    Args:
        channels: number of channels.
        norm: `batch`, `instance` or `none`; with `none` x + 0.2 f(x), and weights of a tenth of He's initialisation.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.scale = RESIDUAL_SCALE if norm == "none" else 1.0
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), make_norm(norm, channels), nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), make_norm(norm, channels),
        )  # fmt: skip
        for layer in self.body if norm == "none" else ():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                layer.weight.data *= INITIAL_SCALE
                nn.init.constant_(layer.get_parameter("bias"), 0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) * self.scale


class Generator(nn.Module):
    """Images (n, inputs, height, width) -> (n, channels, scale height, scale width), about [-1, 1]: any size, fully convolutional.

    The last convolution has no activation, as in the paper's figure.

    Args:
        channels: number of channels of the enlarged images.
        inputs: number of channels of the inputs.
        scale: 2, 4 or 8.
        width: number of feature maps.
        blocks: number of residual blocks.
        norm: normalisation in the residual blocks and after them: see `Block`.
    """

    def __init__(
        self, channels: int, inputs: int, scale: int, width: int = 64, *, blocks: int = 16, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inputs, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(
            *(Block(width, norm) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1), make_norm(norm, width)
        )
        steps = [
            (nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()) for _ in range(round(log2(scale)))
        ]
        self.last = nn.Sequential(*(layer for step in steps for layer in step), nn.Conv2d(width, channels, 9, padding=4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.blocks(x))


class Critic(nn.Module):
    """Images (n, channels, height, width) -> scores (n,), raw.

    Eight convolutions, every second with stride 2, batch normalisation in all but the first, and two dense layers. The paper's last
    maps are 6x6, for images of 96 pixels; larger ones are averaged to about that size, so that the dense layer does not grow with
    the image.

    Args:
        data: format of the images; any size.
        width: channels of the first layer, an eighth of those of the last; the dense layer has sixteen times as many units.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, width: int = 64, *, max_width: int = 512) -> None:
        super().__init__()
        channels = [min(width * 2**i, max(max_width, width)) for i in range(4) for _ in range(2)]
        layers = []
        for i, (before, after) in enumerate(zip([data.channels, *channels], channels, strict=False)):
            norm = [make_norm("batch", after)] if i else []
            layers.append(nn.Sequential(nn.Conv2d(before, after, 3, 1 + i % 2, 1), *norm, nn.LeakyReLU(0.2)))
        self.layers = nn.ModuleList(layers)
        sides = [ceil(side / 16) for side in (data.height, data.width)]
        self.pool = tuple(max(1, round(side / LARGEST_MAP)) for side in sides)
        features = channels[-1] * ceil(sides[0] / self.pool[0]) * ceil(sides[1] / self.pool[1])
        self.head = nn.Sequential(nn.Linear(features, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.score_and_features(image)[0]

    def score_and_features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The scores (n,), and the outputs of the convolutions with stride 2, at a half to a sixteenth of the resolution."""
        x, maps = image, []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i % 2:
                maps.append(x)
        if self.pool != (1, 1):
            x = avg_pool2d(x, self.pool, ceil_mode=True, count_include_pad=False)
        return self.head(torch.flatten(x, 1)).squeeze(1), maps

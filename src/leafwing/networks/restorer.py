"""A residual network that corrects images, and enlarges them: what it adds to the bilinearly enlarged input is learnt.

Blocks without normalisation and sub-pixel convolutions: Lim et al. 2017, arXiv:1707.02921; Shi et al. 2016, arXiv:1609.05158.
"""

from __future__ import annotations

from math import log2

from torch import Tensor, nn
from torch.nn.functional import interpolate

from leafwing.networks.layers import dcgan_weights
from leafwing.networks.residual import Block


class Generator(nn.Module):
    """Images (n, inputs, height, width) -> (n, channels, scale height, scale width), about [-1, 1]; any size.

    Args:
        inputs: number of channels of the inputs.
        channels: number of channels of the outputs.
        scale: 1, or a power of two.
        width: channels of all layers.
        blocks: number of residual blocks.
    """

    def __init__(self, inputs: int, channels: int, scale: int = 1, width: int = 64, *, blocks: int = 8) -> None:
        super().__init__()
        steps = [
            (nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()) for _ in range(round(log2(scale)))
        ]
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width, "none") for _ in range(blocks)))
        self.last = nn.Sequential(*(layer for step in steps for layer in step), nn.Conv2d(width, channels, 3, padding=1))
        dcgan_weights(self.last[-1])
        self.skip, self.scale = nn.Conv2d(inputs, channels, 1), scale
        nn.init.constant_(self.skip.weight, 1 / inputs)
        if inputs == channels:
            nn.init.dirac_(self.skip.weight)
        assert self.skip.bias is not None
        nn.init.zeros_(self.skip.bias)

    def forward(self, x: Tensor) -> Tensor:
        features = self.first(x)
        added, base = self.last(features + self.blocks(features)), self.skip(x)
        return added + (base if self.scale == 1 else interpolate(base, scale_factor=self.scale, mode="bilinear"))

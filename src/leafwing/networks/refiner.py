"""Networks for images that keep their pixels in place: residual blocks at the resolution of the input, and a critic of small patches.

Shrivastava et al. 2016, arXiv:1612.07828, section 3.1. Both are fully convolutional and accept images of any size.
"""

from __future__ import annotations

from torch import Tensor, nn

from leafwing.game import DataSpec
from leafwing.networks.residual import Block


class Refiner(nn.Module):
    """Images (n, inputs, height, width) -> images (n, channels, height, width) in [-1, 1].

    A 3x3 convolution, residual blocks without normalisation, and a 1x1 convolution.

    Args:
        data: format of the generated images.
        inputs: number of channels of the input.
        width: channels of all hidden layers.
        blocks: number of residual blocks.
    """

    def __init__(self, data: DataSpec, inputs: int, width: int = 64, *, blocks: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(inputs, width, 3), nn.ReLU(),
            *(Block(width, "none") for _ in range(blocks)),
            nn.Conv2d(width, data.channels, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Critic(nn.Module):
    """Images (n, channels, height, width) -> scores (n, rows, columns), raw: one for each fourth pixel.

    Five convolutions with stride 2 for the first two, without normalisation; each score depends on a patch of 23x23 pixels.

    Args:
        data: format of the images.
        width: channels of the second layer; the first one has 3/2 of them, the third and fourth half of them.
    """

    def __init__(self, data: DataSpec, width: int = 64) -> None:
        super().__init__()
        first, last = 3 * width // 2, max(1, width // 2)
        self.body = nn.Sequential(
            nn.Conv2d(data.channels, first, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(first, width, 3, 2, 1), nn.ReLU(),
            nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(width, last, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(last, last, 1), nn.ReLU(),
            nn.Conv2d(last, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).squeeze(1)

"""The residual translator of CycleGAN (Zhu et al. 2017, arXiv:1703.10593, section 7.2, after Johnson et al. 2016, arXiv:1603.08155).

Two convolutions with stride 2, residual blocks at a quarter of the resolution, and two transposed convolutions back. Fully
convolutional: images of any size whose sides are divisible by 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks.layers import DropoutNoise, dcgan_weights, make_norm

MULTIPLE = 4
"""The sides of images must be divisible by this."""


def default_blocks(data: DataSpec) -> int:
    """The paper's number of residual blocks: 9 for images of 256 pixels and more, else 6."""
    return 9 if min(data.height, data.width) >= 256 else 6


class Block(nn.Module):
    """x + f(x), where f is two 3x3 convolutions with normalisation, with reflection padding: (n, channels, height, width) in and out.

    Args:
        channels: number of channels.
        norm: `instance`, `batch` or `none`.
        dropout: probability of dropout between the two convolutions, also when sampling.
    """

    def __init__(self, channels: int, norm: str = "instance", dropout: float = 0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=norm == "none"),
            make_norm(norm, channels),
            nn.ReLU(),
            *([DropoutNoise(dropout)] if dropout else []),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=norm == "none"),
            make_norm(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Generator(nn.Module):
    """Images (n, inputs, height, width) -> images (n, channels, height, width) in [-1, 1].

    Args:
        data: format of the generated images.
        inputs: number of channels of the input.
        width: channels at full resolution; doubles at each halving.
        max_width: maximum number of channels in any layer.
        blocks: number of residual blocks; 0: `default_blocks`.
        norm: `instance`, `batch` or `none`.
        dropout: probability of dropout in the residual blocks, also when sampling.

    Raises:
        LeafwingError: a side is not divisible by 4, or below 8 pixels.
    """

    def __init__(
        self,
        data: DataSpec,
        inputs: int,
        width: int = 64,
        *,
        max_width: int = 256,
        blocks: int = 0,
        norm: str = "instance",
        dropout: float = 0,
    ) -> None:
        super().__init__()
        check_sides(data)
        bias = norm == "none"  # a bias has no effect before normalisation
        at_half, at_quarter = (min(width * factor, max(max_width, width)) for factor in (2, 4))
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7, bias=bias), make_norm(norm, width), nn.ReLU(),
            nn.Conv2d(width, at_half, 3, 2, 1, bias=bias), make_norm(norm, at_half), nn.ReLU(),
            nn.Conv2d(at_half, at_quarter, 3, 2, 1, bias=bias), make_norm(norm, at_quarter), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.Sequential(*(Block(at_quarter, norm, dropout) for _ in range(blocks or default_blocks(data))))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(at_quarter, at_half, 3, 2, 1, 1, bias=bias), make_norm(norm, at_half), nn.ReLU(),
            nn.ConvTranspose2d(at_half, width, 3, 2, 1, 1, bias=bias), make_norm(norm, width), nn.ReLU(),
            nn.ReflectionPad2d(3), nn.Conv2d(width, data.channels, 7), nn.Tanh(),
        )  # fmt: skip
        self.apply(dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.blocks(self.encoder(x)))

    def features(self, x: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """The outputs of some layers, counted from 0 through the encoder and then the residual blocks; the rest is not computed.

        Args:
            x: images (n, inputs, height, width).
            layers: ascending numbers.
        """
        maps = []
        for number, layer in enumerate([*self.encoder, *self.blocks][: layers[-1] + 1]):
            x = layer(x)
            if number in layers:
                maps.append(x)
        return maps


def check_sides(data: DataSpec) -> None:
    """Raises LeafwingError if a side is not divisible by 4, or below 8 pixels; the message names the nearest valid sizes."""
    sides = (data.height, data.width)
    if any(side % MULTIPLE or side < 2 * MULTIPLE for side in sides):
        nearest = "x".join(str(max(2, round(side / MULTIPLE)) * MULTIPLE) for side in sides)
        raise LeafwingError(
            f"--size {data.height}x{data.width}: both sides must be divisible by {MULTIPLE} and at least {2 * MULTIPLE}. "
            f"Nearest: --size {nearest}"
        )

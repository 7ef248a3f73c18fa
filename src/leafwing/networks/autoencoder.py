"""The convolutional autoencoder of DCGAN's layers: an encoder as its discriminator, and a decoder that mirrors it."""

from __future__ import annotations

from torch import Tensor, nn

from leafwing.game import DataSpec
from leafwing.networks import dcgan, mlp
from leafwing.networks.layers import dcgan_weights, doublings


def multiple(data: DataSpec) -> int:
    """What the sides of images must be divisible by, for networks built for `data`; 0 for points."""
    return 0 if data.points else 2 ** doublings(data)


class Autoencoder(nn.Module):
    """Images (n, inputs, height, width) -> images (n, channels, height, width) in [-1, 1]. No layer is fully connected.

    Args:
        data: format of the generated images.
        inputs: number of channels of the input.
        width: channels of the layers next to the image; doubles at each halving, down to a short side of about 4.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, inputs: int, width: int = 64, *, max_width: int = 512) -> None:
        super().__init__()
        channels = dcgan.widths(data, width, max_width)
        self.encode = dcgan.Critic(data.with_channels(inputs), width, max_width=max_width).body
        layers: list[nn.Module] = []
        for before, after in zip(channels[::-1], channels[-2::-1], strict=False):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
        self.decode = nn.Sequential(*layers, nn.ConvTranspose2d(channels[0], data.channels, 4, 2, 1), nn.Tanh())
        self.decode.apply(dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def translator(to: DataSpec, of: DataSpec, width: int, *, max_width: int = 512) -> nn.Module:
    """From samples of one kind to those of another: an `Autoencoder`; for points an MLP with two hidden layers of 8 x width."""
    if to.points:
        return mlp.Generator(to, of.size, (8 * width,) * 2)
    return Autoencoder(to, of.channels, width, max_width=max_width)

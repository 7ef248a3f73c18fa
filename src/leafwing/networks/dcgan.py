"""The DCGAN pair (Radford, Metz & Chintala 2015, arXiv:1511.06434), for 16 to 256 px, rectangles, 1 to 4 channels.

Kernels are 4x4 with stride 2, as in the authors' Torch code; the paper's figure shows 5x5. Layers followed by batch
normalisation have no bias.
"""

from __future__ import annotations

from torch import Tensor, nn

from leafwing.game import DataSpec
from leafwing.networks.layers import SelfAttention, dcgan_weights, doublings, make_norm


def widths(data: DataSpec, width: int, max_width: int) -> list[int]:
    """Channels from full resolution downwards: width, doubled at each downsampling, at most `max_width`."""
    return [min(width * 2**i, max(max_width, width)) for i in range(doublings(data))]


def attention_index(data: DataSpec) -> int:
    """Index of the map with self-attention, from full resolution downwards: the largest of at most 32 px and half the image."""
    count = doublings(data)
    return next((i for i in range(count) if max(data.height, data.width) >> (i + 1) <= 32), count - 1)


class Generator(nn.Module):
    """Latents (n, latent) -> images (n, channels, height, width) in [-1, 1].

    Args:
        data: format of the images.
        latent: dimension of the latent vector.
        width: channels of the last hidden layer; doubles towards the latent.
        norm: `batch`, `none`, or `virtual 32`; see `layers.make_norm`.
        activation: `relu` or `selu` (SELU needs no normalisation).
        max_width: maximum number of channels in any layer.
        attention: whether to add self-attention at the map of `attention_index`.
    """

    def __init__(
        self,
        data: DataSpec,
        latent: int,
        width: int = 64,
        *,
        norm: str = "batch",
        activation: str = "relu",
        max_width: int = 512,
        attention: bool = False,
    ) -> None:
        super().__init__()
        channels = widths(data, width, max_width)[::-1]
        base = (data.height >> len(channels), data.width >> len(channels))
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, channels[0], base, bias=norm == "none")]
        for i, inputs in enumerate(channels):
            last = i == len(channels) - 1
            layers += [make_norm(norm, inputs), nn.SELU(inplace=True) if activation == "selu" else nn.ReLU(inplace=True)]
            if attention and i == len(channels) - 1 - attention_index(data):
                layers.append(SelfAttention(inputs))
            outputs = data.channels if last else channels[i + 1]
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=last or norm == "none"))
        self.body = nn.Sequential(*layers, nn.Tanh())
        self.apply(dcgan_weights)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z[:, :, None, None])


class Critic(nn.Module):
    """Images (n, channels, height, width) -> scores (n,), raw. D's first layer and its score have no normalisation.

    Args:
        data: format of the images.
        width: channels of the first layer; doubles at each downsampling.
        norm: `batch` or `none`.
        activation: `leaky_relu` (slope .2) or `selu`.
        max_width: maximum number of channels in any layer.
        extra: further input channels (a condition).
        attention: whether to add self-attention at the map of `attention_index`.
    """

    def __init__(
        self,
        data: DataSpec,
        width: int = 64,
        *,
        norm: str = "batch",
        activation: str = "leaky_relu",
        max_width: int = 512,
        extra: int = 0,
        attention: bool = False,
    ) -> None:
        super().__init__()
        channels = widths(data, width, max_width)
        layers: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip([data.channels + extra, *channels], channels, strict=False)):
            layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=i == 0 or norm == "none"))
            if i > 0:
                layers.append(make_norm(norm, outputs))
            layers.append(nn.SELU(inplace=True) if activation == "selu" else nn.LeakyReLU(0.2, inplace=True))
            if attention and i == attention_index(data):
                layers.append(SelfAttention(outputs))
        self.body = nn.Sequential(*layers)
        self.base = (data.height >> len(channels), data.width >> len(channels))
        self.out = nn.Conv2d(channels[-1], 1, self.base)
        self.features_size = channels[-1]
        self.apply(dcgan_weights)

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer: (n, features_size, base height, base width)."""
        return self.body(x)

    def score(self, features: Tensor) -> Tensor:
        return self.out(features).flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.features(x))

"""The U-Net of pix2pix (Isola et al. 2016, arXiv:1611.07004, section 6.1.1): an encoder, a decoder, and skip connections between them.

Its encoder halves the resolution as long as both sides are even, at most eight times: 256x256 is reduced to 1x1, 48x80 to 3x5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks.layers import DropoutNoise, dcgan_weights, make_norm

MOST_HALVINGS = 8
NOISY_LAYERS = 3
"""Number of decoder layers with dropout, counted from the bottleneck."""


def halvings(data: DataSpec) -> int:
    """Number of times that the encoder halves the resolution.

    Raises:
        LeafwingError: a side is not divisible by 16; the message names the nearest valid sizes.
    """
    sides = (data.height, data.width)
    if any(side % 16 or side < 16 for side in sides):
        below, above = ("x".join(str(max(16, rounded(side))) for side in sides) for rounded in (_floor, _ceil))
        raise LeafwingError(
            f"--size {data.height}x{data.width}: both sides must be divisible by 16. "
            f"Nearest: --size {below}{f' or {above}' * (below != above)}"
        )
    return max(k for k in range(1, MOST_HALVINGS + 1) if all(side % 2**k == 0 for side in sides))


def _floor(side: int) -> int:
    return side // 16 * 16


def _ceil(side: int) -> int:
    return -(-side // 16) * 16


class Generator(nn.Module):
    """Images (n, inputs, height, width) -> images (n, channels, height, width) in [-1, 1]; dropout makes them random.

    The layer next to the input and the bottleneck have no normalisation: in a 1x1 map it would make everything zero, as the paper's
    errata say.

    Args:
        data: format of the generated images.
        inputs: number of channels of the input.
        width: channels of the layers next to the image; doubles at each halving.
        max_width: maximum number of channels in any layer.
        norm: `instance` or `batch`.
        dropout: probability that an element of the decoder's first three layers is dropped.
    """

    def __init__(
        self,
        data: DataSpec,
        inputs: int,
        width: int = 64,
        *,
        max_width: int = 512,
        norm: str = "instance",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels = [min(width * 2**i, max(max_width, width)) for i in range(halvings(data))]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for i, (before, after) in enumerate(zip([inputs, *channels], channels, strict=False)):
            ends = i in (0, len(channels) - 1)
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if i else []
            layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=ends))
            self.encoder.append(nn.Sequential(*layers, *([] if ends else [make_norm(norm, after)])))
        for i in reversed(range(len(channels))):
            before = channels[i] if i == len(channels) - 1 else 2 * channels[i]  # from below, and from the encoder
            layers = [nn.ReLU(), nn.ConvTranspose2d(before, channels[i - 1] if i else data.channels, 4, 2, 1, bias=i == 0)]
            layers += [make_norm(norm, channels[i - 1])] if i else [nn.Tanh()]
            layers += [DropoutNoise(dropout)] if i and len(self.decoder) < NOISY_LAYERS else []
            self.decoder.append(nn.Sequential(*layers))
        self.apply(dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for layer in self.encoder:
            maps.append(x := layer(x))
        maps.pop()
        for i, layer in enumerate(self.decoder):
            x = layer(torch.cat([x, maps.pop()], 1) if i else x)
        return x

"""FastGAN's networks: Liu et al. 2021, arXiv:2101.04775. All convolutions are spectrally normalised, as in the authors' code.

Skip-layer excitation: in G a map weights the channels of one 16 times as large, in D those of one of an eighth of its side. D has
small decoders, which must reconstruct its input from its maps. For 16 to 256 px, rectangles, 1 to 4 channels.

Theirs have no biases, where here the excitations, the scores and the convolutions that end in pictures have them. Their D has half
as many channels at 64 px and above, and halves those of its last map before the scores; the blocks of its second view are one
convolution, where here they are those of the first view, with two and the averaged map beside them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from leafwing.game import DataSpec
from leafwing.networks.layers import doublings, spectral
from leafwing.pixels import pool

LEVELS = (16, 8, 4, 2, 2, 1, 0.5)
"""Channels over width at 4, 8, 16, 32, 64, 128 and 256 px."""
APART, APART_D = 4, 3
"""Levels between a map and the one that it excites: 16 times the side in G, an eighth of it in D."""


def widths(data: DataSpec, width: int, max_width: int) -> list[int]:
    """Channels from the base (about 4 px) to full resolution, at most `max_width`."""
    return [min(max_width, max(1, round(width * level))) for level in LEVELS[: doublings(data) + 1]]


class GLU(nn.Module):
    """Half of the channels, each weighted by the sigmoid of one of the others: (n, 2c, ...) -> (n, c, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        values, gates = x.chunk(2, 1)
        return values * gates.sigmoid()


class PixelNoise(nn.Module):
    """x + w N(0, 1), equal for all channels; w is learnt, and 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        return x + self.weight * torch.randn(n, 1, height, width, device=x.device, dtype=x.dtype)


class Excitation(nn.Module):
    """Weights for the channels of a map, from an earlier one: in G a smaller, in D a larger one. Section 3.1, eq. 2."""

    def __init__(self, earlier: int, later: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(earlier, later, 4), nn.SiLU(), nn.Conv2d(later, later, 1), nn.Sigmoid())

    def forward(self, earlier: Tensor, later: Tensor) -> Tensor:
        return later * self.body(pool(earlier, 4, 4))


def up(inputs: int, outputs: int, noisy: bool = False) -> nn.Sequential:
    """Twice the side: nearest neighbours, a convolution, batch normalisation, GLU; with a second convolution and noise if `noisy`."""
    layers: list[nn.Module] = [nn.Upsample(scale_factor=2)]
    for channels in (inputs, outputs) if noisy else (inputs,):
        layers += [nn.Conv2d(channels, 2 * outputs, 3, padding=1, bias=False)]
        layers += [PixelNoise()] if noisy else []
        layers += [nn.BatchNorm2d(2 * outputs), GLU()]
    return nn.Sequential(*layers)


def initialise(module: nn.Module) -> None:
    """Orthogonal convolutions, as in the authors' discriminator."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.orthogonal_(module.weight)


class Generator(nn.Module):
    """Latents (n, latent) -> images (n, channels, height, width) in [-1, 1].

    Args:
        data: format of the images.
        latent: dimension of the latent vector.
        width: channels at 128 px, twice as many at 64 px, and so on: `LEVELS`.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, latent: int, width: int, max_width: int = 1024) -> None:
        super().__init__()
        channels = widths(data, width, max_width)
        k = len(channels) - 1
        base = (data.height >> k, data.width >> k)
        first = nn.ConvTranspose2d(latent, 2 * channels[0], base, bias=False)
        self.start = nn.Sequential(first, nn.BatchNorm2d(2 * channels[0]), GLU())
        self.ups = nn.ModuleList(up(channels[i], channels[i + 1], noisy=i % 2 == 0) for i in range(k))
        self.excitations = nn.ModuleDict({str(i): Excitation(channels[i - APART], channels[i]) for i in range(APART, k + 1)})
        self.picture = nn.Sequential(nn.Conv2d(channels[-1], data.channels, 3, padding=1), nn.Tanh())
        self.apply(initialise)
        self.apply(spectral)

    def forward(self, z: Tensor) -> Tensor:
        maps = [self.start(z[:, :, None, None])]
        for i, layer in enumerate(self.ups, 1):
            x = layer(maps[-1])
            maps.append(self.excitations[str(i)](maps[i - APART], x) if str(i) in self.excitations else x)
        return self.picture(maps[-1])


class Down(nn.Module):
    """Half the side: the mean of two convolutions with stride 2 and of a 1x1 convolution of the averaged map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.direct = nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.main(x) + self.direct(x)) / 2


def decoder(inputs: int, channels: int, doublings: int) -> nn.Sequential:
    """A small decoder from a map to an image of 2^doublings times its side."""
    layers: list[nn.Module] = []
    for _ in range(doublings):
        outputs = max(8, inputs // 2)
        layers.append(up(inputs, outputs))
        inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(inputs, channels, 3, padding=1), nn.Tanh())


class Critic(nn.Module):
    """Images (n, channels, height, width) -> (scores (n, places), the maps that `rebuild` needs).

    Scores are those of two parts of the image at its full size, and of the whole at half the size. The body ends at about 8 px.

    Args:
        data: format of the images.
        width: channels at 128 px, twice as many at 64 px, and so on.
        max_width: maximum number of channels in any layer.
        apart: levels between a map and the smaller one that it excites. With `APART_D` one map is excited at 64 px, two at 128 px,
            three at 256 px as in the authors' code, and none below. The default is that of former versions of the recipe, which
            leave it out.
    """

    def __init__(self, data: DataSpec, width: int, max_width: int = 1024, *, apart: int = APART) -> None:
        super().__init__()
        channels = widths(data, width, max_width)[::-1]
        k = len(channels) - 1
        self.picture = nn.Sequential(nn.Conv2d(data.channels, channels[0], 3, padding=1, bias=False), nn.LeakyReLU(0.2))
        self.downs = nn.ModuleList(Down(channels[i], channels[i + 1]) for i in range(k - 1))
        self.excitations = nn.ModuleDict({str(i): Excitation(channels[i - apart], channels[i]) for i in range(apart, k)})
        self.apart = apart
        last = channels[k - 1]
        self.score = nn.Sequential(
            nn.Conv2d(last, last, 1, bias=False), nn.BatchNorm2d(last), nn.LeakyReLU(0.2), nn.Conv2d(last, 1, 4)
        )
        small = channels[1:k]
        self.small = nn.Sequential(
            nn.Conv2d(data.channels, small[0], 3, padding=1, bias=False), nn.LeakyReLU(0.2),
            *(Down(a, b) for a, b in pairwise(small)), nn.Conv2d(small[-1], 1, 4),
        )  # fmt: skip
        self.decode_whole = decoder(last, data.channels, k - 2)
        self.decode_quarter = decoder(channels[k - 2], data.channels, k - 2)
        self.apply(initialise)
        self.apply(spectral)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        maps = [self.picture(x)]
        for i, layer in enumerate(self.downs, 1):
            y = layer(maps[-1])
            maps.append(self.excitations[str(i)](maps[i - self.apart], y) if str(i) in self.excitations else y)
        half = interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        places = torch.cat([self.score(maps[-1]).flatten(1), self.small(half).flatten(1)], 1)
        return places, (x, maps[-2], maps[-1])

    def rebuild(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pairs of what the decoders rebuild and the target: the whole image at half the size, and one of its quarters."""
        x, large, small = maps
        quarter = torch.randint(0, 4, (len(x),), device=x.device)
        rows = torch.arange(len(x), device=x.device)

        def part(images: Tensor) -> Tensor:
            quarters = [piece for half in images.chunk(2, 2) for piece in half.chunk(2, 3)]
            return torch.stack(quarters)[quarter, rows]

        whole, piece = self.decode_whole(small), self.decode_quarter(part(large))
        return [(whole, match(x, whole)), (piece, match(part(x), piece))]


def match(images: Tensor, other: Tensor) -> Tensor:
    """Images resized to the size of others."""
    return pool(images, *other.shape[2:])

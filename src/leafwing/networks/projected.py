"""The critic of Sauer et al. 2021, Projected GANs Converge Faster, arXiv:2111.01007: small networks on the maps of a frozen one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from leafwing.networks import lite0
from leafwing.networks.layers import spectral

STAGES = (2, 3, 5, 7)
"""Stages of lite0 whose maps are used: 1/4, 1/8, 1/16 and 1/32 of the side (the authors' code)."""


class Projection(nn.Module):
    """Images -> four maps of random mixtures of lite0's, over channels and over scales. Section 3.2 of the paper.

    Nothing here is trained. The mixtures are saved with the weights; lite0 is not, because its weights are constant.

    Args:
        channels: channels of the largest map; twice as many in each smaller one.
        side: images are resized to this side.
        backbone: `lite0`, or `random`: the same network with constant random weights.
    """

    def __init__(self, channels: int, side: int, backbone: str) -> None:
        super().__init__()
        self.side, self.backbone = side, backbone
        self.widths = [channels * 2**i for i in range(len(STAGES))]
        depths = [lite0.STAGES[stage - 1][-1] for stage in STAGES]
        self.across_channels = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(depths, self.widths, strict=True))
        pairs = zip(self.widths[1:], self.widths, strict=False)
        self.across_scales = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)
        for layer in (*self.across_channels, *self.across_scales):
            nn.init.kaiming_normal_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        device = str(images.device)
        net = lite0.load(device) if self.backbone == "lite0" else lite0.untrained(device)
        x = interpolate(images, (self.side, self.side), mode="bilinear", align_corners=False)
        stages = lite0.matching(net, x)(x, last=STAGES[-1])
        maps = [mix(stages[stage - 1]) for mix, stage in zip(self.across_channels, STAGES, strict=True)]
        for i in reversed(range(len(maps) - 1)):
            below = interpolate(maps[i + 1], maps[i].shape[2:], mode="bilinear", align_corners=False)
            maps[i] = maps[i] + self.across_scales[i](below)
        return maps


def head(channels: int, side: int) -> nn.Sequential:
    """A small critic of one map: down to 4 px by spectrally normalised convolutions, then a score at each place."""
    layers: list[nn.Module] = []
    while side > 4:
        outputs = min(2 * channels, 512)
        layers += [nn.Conv2d(channels, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        channels, side = outputs, side // 2
    net = nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1))
    net.apply(spectral)
    return net


class Critic(nn.Module):
    """Images (n, channels, height, width) in [-1, 1] -> scores at all places of four maps: (n, places).

    Args:
        channels: channels of the largest map.
        side: images are resized to this side, a multiple of 32.
        backbone: see `Projection`.
    """

    def __init__(self, channels: int, side: int, backbone: str) -> None:
        super().__init__()
        self.projection = Projection(channels, side, backbone)
        self.heads = nn.ModuleList(head(c, side // 4 // 2**i) for i, c in enumerate(self.projection.widths))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.projection(x)
        return torch.cat([net(m).flatten(1) for net, m in zip(self.heads, maps, strict=True)], 1)

"""Residual networks without normalisation, with Fixup initialisation (Zhang et al. 2019, arXiv:1901.09321).

The shapes are config E of Huang et al. 2024, arXiv:2501.05441: two blocks at each resolution, resampling between them. Filter, gains
and biases are those of the authors' code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, leaky_relu, pad

from leafwing.game import DataSpec
from leafwing.networks.layers import doublings

DEPTH = 2  # residual blocks at each resolution
SLOPE = 0.2  # of the leaky ReLUs
GAIN = (2 / (1 + SLOPE**2)) ** 0.5  # keeps the scale of what passes a leaky ReLU (He et al. 2015, arXiv:1502.01852)


def initialise(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    """Weights N(0, gain^2 / fan-in), bias 0."""
    nn.init.normal_(layer.weight, 0.0, gain * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Block(nn.Module):
    """x + conv1x1(lrelu(conv3x3 in groups(lrelu(conv1x1 x)))), twice as wide inside."""

    def __init__(self, channels: int, blocks: int, group: int = 16) -> None:
        super().__init__()
        hidden = 2 * channels
        groups = next(n for n in range(max(1, hidden // group), 0, -1) if hidden % n == 0)
        self.first = nn.Conv2d(channels, hidden, 1)
        self.middle = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups)
        self.last = nn.Conv2d(hidden, channels, 1, bias=False)
        gain = GAIN * blocks**-0.25
        for layer, scale in ((self.first, gain), (self.middle, gain), (self.last, 0.0)):
            initialise(layer, scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(leaky_relu(self.middle(leaky_relu(self.first(x), SLOPE)), SLOPE))


class Resample(nn.Module):
    """Resampling by 2 or 1/2 with the filter [1, 3, 3, 1] in both directions, and a 1x1 convolution where the channels change.

    Upsampling is bilinear; downsampling is its transpose, divided by 4. Beyond the border everything is 0.
    """

    kernel: Tensor

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.mix = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)
        if isinstance(self.mix, nn.Conv2d):
            initialise(self.mix, 1.0)
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", line[:, None] * line, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.factor > 1:  # 1x1 convolution at the low resolution: four times cheaper and equivalent, as both are linear
            return Upsample.apply(self.mix(x), self.kernel)
        return self.mix(Downsample.apply(x, self.kernel))


class Downsample(torch.autograd.Function):
    """Images (n, channels, height, width) at half the size: a 4x4 kernel with stride 2.

    Torch differentiates the gradient of such a convolution channel by channel, and its gradient in bf16 is slow on CPUs.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, kernel: Tensor) -> Tensor:
        context.save_for_backward(kernel)
        channels = x.shape[1]
        return conv2d(x, kernel.to(x.dtype).expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return Upsample.apply(gradient, *context.saved_tensors) / 4, None


class Upsample(torch.autograd.Function):
    """Images (n, channels, height, width) at twice the size: bilinear interpolation of the images with a border of zeros."""

    @staticmethod
    def forward(context: Any, x: Tensor, kernel: Tensor) -> Tensor:
        context.save_for_backward(kernel)
        return interpolate(pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)[:, :, 2:-2, 2:-2]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return Downsample.apply(gradient, *context.saved_tensors) * 4, None


def stages(data: DataSpec, width: int, max_width: int, factor: float) -> tuple[list[int], list[nn.Module]]:
    """Channels in the order of execution (factor 2: upsampling; 1/2: downsampling), and the stages."""
    k = doublings(data)
    channels = [min(max_width, width * 2 ** (k - i)) for i in range(k + 1)]
    if factor < 1:
        channels = channels[::-1]
    layers: list[nn.Module] = []
    for i, c in enumerate(channels):
        layers += [Resample(channels[i - 1], c, factor)] if i else []
        layers += [Block(c, blocks=DEPTH * (k + 1)) for _ in range(DEPTH)]
    return channels, layers


class Generator(nn.Module):
    """Latents (n, latent) -> images (n, channels, height, width).

    There is no output activation: only the discriminator keeps the values in range.

    Args:
        data: format of the images.
        latent: dimension of the latent vector.
        width: channels at full resolution; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, latent: int, width: int, max_width: int) -> None:
        super().__init__()
        channels, layers = stages(data, width, max_width, factor=2)
        k = len(channels) - 1
        self.base = nn.Parameter(torch.randn(channels[0], data.height >> k, data.width >> k))
        self.style = nn.Linear(latent, channels[0], bias=False)
        self.body = nn.Sequential(*layers)
        self.picture = nn.Conv2d(channels[-1], data.channels, 1, bias=False)
        initialise(self.style, 1.0)
        initialise(self.picture, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        return self.picture(self.body(self.base * self.style(z)[:, :, None, None]))


class Critic(nn.Module):
    """Images (n, channels, height, width) -> scores (n,), raw.

    Args:
        data: format of the images.
        width: channels at full resolution; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
    """

    def __init__(self, data: DataSpec, width: int, max_width: int) -> None:
        super().__init__()
        channels, layers = stages(data, width, max_width, factor=0.5)
        k = len(channels) - 1
        self.picture = nn.Conv2d(data.channels, channels[0], 1, bias=False)
        self.body = nn.Sequential(*layers)
        base = (data.height >> k, data.width >> k)
        self.pool = nn.Conv2d(channels[-1], channels[-1], base, groups=channels[-1], bias=False)
        self.out = nn.Linear(channels[-1], 1, bias=False)
        for layer in (self.picture, self.pool, self.out):
            initialise(layer, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(self.body(self.picture(x))).flatten(1)).squeeze(1)

"""Layers and initialisations shared by several networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec, to_fp32


class Maxout(nn.Module):
    """max over k of (W_k x + b_k). Goodfellow et al. 2013, arXiv:1302.4389, eq. 1. (n, inputs) -> (n, outputs)."""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.linear, self.pieces = nn.Linear(inputs, outputs * pieces), pieces

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


class MinibatchDiscrimination(nn.Module):
    """Features (n, features) -> (n, features + kernels): similarity of each sample to the others of its batch, by several kernels.

    o_b(i) = sum over j != i of exp(-|M_ib - M_jb|_1), M = T f. Salimans et al. 2016, arXiv:1606.03498, section 3.2.

    Args:
        features: input dimension.
        kernels: number of kernels (B).
        dimensions: dimension of each kernel (C).

    It has no double backward, so it cannot be combined with a gradient penalty.
    """

    def __init__(self, features: int, kernels: int, dimensions: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, kernels * dimensions, bias=False)
        self.shape = (kernels, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        m = self.project(x).unflatten(1, self.shape).transpose(0, 1)
        similarity = (-torch.cdist(m, m, p=1.0)).exp()  # (kernels, n, n)
        return torch.cat([x, similarity.sum(2).T - 1], dim=1)  # each is at distance 0 from itself


class Noise(nn.Module):
    """x + N(0, sigma^2) in training, x in evaluation."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x) if self.training else x


class DropoutNoise(nn.Module):
    """Dropout as a source of noise: each element is 0 with probability p, else divided by 1 - p, in training and in evaluation.

    The random numbers are a tensor of their own, unlike torch's dropout, so that parts of a batch can share them.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.p:
            return x
        return x * ((torch.rand(x.shape, device=x.device) >= self.p) / (1 - self.p)).to(x.dtype)


class VirtualBatchNorm(nn.Module):
    """Virtual batch normalisation: statistics of a reference batch, the first part of every batch, and the sample itself.

    Salimans et al. 2016, arXiv:1606.03498, section 3.5. (reference + n, channels, height, width) in and out.

    Args:
        channels: number of channels.
        reference: number of reference samples at the start of the batch.
    """

    def __init__(self, channels: int, reference: int) -> None:
        super().__init__()
        self.reference = reference
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        before, x = x.dtype, to_fp32(x)  # the variance is a small difference of large numbers
        moments = x.mean((2, 3), keepdim=True), x.square().mean((2, 3), keepdim=True)
        share = 1 / (self.reference + 1)
        mean, square = (
            torch.cat(
                [
                    moment[: self.reference].mean(0, keepdim=True).expand(self.reference, -1, -1, -1),
                    (1 - share) * moment[: self.reference].mean(0, keepdim=True) + share * moment[self.reference :],
                ]
            )
            for moment in moments
        )
        scale = self.weight[:, None, None] * (square - mean.square()).clamp_min(0).add(1e-5).rsqrt()
        return ((x - mean) * scale + self.bias[:, None, None]).to(before)


class WithReferenceBatch(nn.Module):
    """A generator with `VirtualBatchNorm`: latents (n, latent) -> samples, processed together with the reference latents.

    Args:
        net: the generator.
        reference: latents (reference, latent), saved with the weights.
    """

    reference: Tensor

    def __init__(self, net: nn.Module, reference: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("reference", reference)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(torch.cat([self.reference.to(z.dtype), z]))[len(self.reference) :]


class SelfAttention(nn.Module):
    """y = gamma o + x, where o at each position is the mean of h(x) over all positions, weighted by softmax f(x)' g(x).

    Zhang et al. 2018, arXiv:1805.08318, eq. 1-3; gamma starts at 0. (n, channels, height, width) in and out.

    Args:
        channels: number of channels; f and g have an eighth of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(1, channels // 8)
        self.f, self.g = (nn.Conv2d(channels, reduced, 1, bias=False) for _ in range(2))
        self.h = nn.Conv2d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        f, g, h = (part(x).flatten(2) for part in (self.f, self.g, self.h))
        weights = (f.transpose(1, 2) @ g).softmax(1)  # (n, source, target)
        return x + self.gamma * (h @ weights).unflatten(2, x.shape[2:])


def score_with_activations(critic: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The scores (n,) of samples by a critic whose `body` is a sequence, and the outputs of its ReLU and leaky ReLU layers."""
    maps = []
    for layer in critic.body:
        x = layer(x)
        if isinstance(layer, nn.ReLU | nn.LeakyReLU):
            maps.append(x)
    return critic.score(x), maps


def dcgan_weights(module: nn.Module) -> None:
    """Convolutions and linear layers N(0, 0.02), biases 0 (arXiv:1511.06434, section 4), normalisation N(1, 0.02) as in its code."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.InstanceNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def spectral(module: nn.Module) -> None:
    """Divides the weight of a convolution or linear layer by its largest singular value, estimated by one power iteration per
    forward pass in training. Miyato et al. 2018, arXiv:1802.05957, algorithm 1."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        spectral_norm(module)


def batch_norm(channels: int) -> nn.Module:
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167)."""
    return nn.BatchNorm2d(channels)


def contiguous_gradients(module: nn.Module, gradients: Any) -> tuple[Tensor, ...]:
    """A hook that makes the gradients of a module's outputs contiguous."""
    return tuple(gradient.contiguous() for gradient in gradients)


def instance_norm(channels: int) -> nn.Module:
    """Instance normalisation with learnt scale and shift (Ulyanov et al. 2016, arXiv:1607.08022): each map of each sample.

    Up to torch 2.15, at least, its backward pass is wrong for a batch of 1 whose gradient is in channels_last layout.
    """
    layer = nn.InstanceNorm2d(channels, affine=True)
    layer.register_full_backward_pre_hook(contiguous_gradients)
    return layer


def no_norm(channels: int) -> nn.Module:
    """No normalisation."""
    return nn.Identity()


NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": batch_norm, "instance": instance_norm, "none": no_norm}


def make_norm(norm: str, channels: int) -> nn.Module:
    """A normalisation layer: a key of `NORMS`, or `virtual 32` with the size of the reference batch."""
    kind, _, reference = norm.partition(" ")
    return VirtualBatchNorm(channels, int(reference)) if kind == "virtual" else NORMS[norm](channels)


def doublings(data: DataSpec) -> int:
    """Number of times the resolution can be halved down to a base whose short side is about 4.

    64x64 gives 4 (base 4x4), 64x96 gives 4 (base 4x6), 16x16 gives 2.

    Raises:
        LeafwingError: the sides are not divisible by 16 or not 16 to 256 pixels; the message names the nearest valid sizes.
    """
    for side in (data.height, data.width):
        if side % 16 or not 16 <= side <= 256:
            rounded = "x".join(str(max(16, min(256, round(s / 16) * 16))) for s in (data.height, data.width))
            floor = "x".join(str(max(16, min(256, s // 16 * 16))) for s in (data.height, data.width))
            nearest = rounded if rounded == floor else f"{floor} or {rounded}"
            raise LeafwingError(
                f"--size {data.height}x{data.width}: both sides must be divisible by 16 and from 16 to 256 pixels. "
                f"Nearest: --size {nearest}"
            )
    short = min(data.height, data.width)
    k = 2
    while data.height % 2 ** (k + 1) == 0 and data.width % 2 ** (k + 1) == 0 and short / 2 ** (k + 1) >= 3:
        k += 1
    return k


def other_domain(data: DataSpec) -> DataSpec:
    """The data with the field `input` as `image`: for networks that generate or judge inputs.

    Raises:
        LeafwingError: inputs of another kind or size than the images; the number of channels may differ.
    """
    image, input = data.fields["image"], data.fields["input"]
    if type(image) is not type(input) or image.shape[1:] != input.shape[1:]:
        raise LeafwingError(
            f"input and image must have the same size: {input}, {image}. "
            "Choose another --input (blur instead of low4), or a recipe that enlarges images: see `leafwing recipes`"
        )
    return DataSpec({"image": input})

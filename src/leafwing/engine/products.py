"""Convolutions of small feature maps as matrix products, in bf16.

A CPU's matrix unit (AMX) processes 16 rows of 32 numbers at a time. The library's convolutions fill its rows with neighbours along a
line of a map, so on maps of width 4 three quarters of it idle, and more in weight gradients. A matrix product of patches laid out as
rows (im2col) fills it for maps of any size. `bench/levers.py` measures the gain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import pad

from leafwing.engine.convolutions import Convolutions, Geometry

SMALL_MAP = 4 * 4
"""Maximum positions of the smaller maps for which the convolution and all its gradients are matrix products."""
MEDIUM_MAP = 8 * 8
"""Maximum positions of the smaller maps for which the weight gradient is a matrix product."""
MIN_CHANNEL_PAIRS = 64 * 128
"""Minimum number of input times output channels for which this is faster."""

Shape = tuple[int, int, int]
"""Kernel size, stride, padding."""


def rows(maps: Tensor) -> Tensor:
    """(n, c, h, w) -> (n h w, c); a view in channels_last."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def matrix(weight: Tensor) -> Tensor:
    """(a, b, k, k) -> (a, k k b); a view in channels_last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def patches(x: Tensor, shape: Shape, height: int, width: int) -> Tensor:
    """(n, b, h, w) -> (n height width, k k b): the patch of x at each position of the smaller maps."""
    kernel, stride, padding = shape
    padded = pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding)).contiguous()
    n, _, _, channels = padded.shape
    by_sample, by_row, by_column, by_channel = padded.stride()
    strides = (by_sample, stride * by_row, stride * by_column, by_row, by_column, by_channel)
    return padded.as_strided((n, height, width, kernel, kernel, channels), strides).reshape(n * height * width, -1)


def gather(x: Tensor, weight: Tensor, shape: Shape, height: int, width: int) -> Tensor:
    """The convolution of x (n, b, h, w) with weight (a, b, k, k): (n, a, height, width)."""
    product = patches(x, shape, height, width) @ matrix(weight).t()
    return product.view(len(x), height, width, -1).permute(0, 3, 1, 2)


def scatter(g: Tensor, weight: Tensor, shape: Shape, height: int, width: int) -> Tensor:
    """The transposed convolution of g (n, a, h, w) with weight (a, b, k, k), (n, b, height, width): the input gradient of `gather`.

    Overlapping patches are summed in fp32.
    """
    kernel, stride, padding = shape
    n, _, h, w = g.shape
    blocks, channels = kernel // stride, weight.shape[1]
    parts = (rows(g) @ matrix(weight)).view(n, h, w, blocks, stride, blocks, stride, channels)
    out = torch.zeros((n, h + blocks - 1, stride, w + blocks - 1, stride, channels), dtype=torch.float32, device=g.device)
    for i in range(blocks):
        for j in range(blocks):
            out[:, i : i + h, :, j : j + w] += parts[:, :, :, i, :, j].permute(0, 1, 3, 2, 4, 5)
    padded = out.view(n, (h + blocks - 1) * stride, (w + blocks - 1) * stride, channels)
    inner = padded[:, padding : padding + height, padding : padding + width]
    return inner.to(g.dtype, memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


def weight_gradient(g: Tensor, x: Tensor, shape: Shape) -> Tensor:
    """The weight gradient of `gather`, (a, b, k, k), from the gradient of its result, g (n, a, height, width)."""
    kernel = shape[0]
    product = rows(g).t().contiguous() @ patches(x, shape, *g.shape[2:])
    return product.view(g.shape[1], kernel, kernel, -1).permute(0, 3, 1, 2)


class Product(Function):
    """x, weight, bias -> convolution or transposed convolution. The larger maps have the b channels of a weight (a, b, k, k)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, size: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.shape = geometry, (weight.shape[2], geometry.stride[0], geometry.padding[0])
        ctx.small = min(x.shape[2] * x.shape[3], size[0] * size[1]) <= SMALL_MAP
        if not ctx.small:
            return torch.ops.aten.convolution(x, weight, bias, *geometry)
        out = (scatter if geometry.transposed else gather)(x, weight, ctx.shape, *size)
        return out if bias is None else out + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        gx = gw = None
        if needs_x and ctx.small:
            gx = (gather if ctx.geometry.transposed else scatter)(g, weight, ctx.shape, *x.shape[2:])
        elif needs_x:
            gx = torch.ops.aten.convolution_backward(g, x, weight, None, *ctx.geometry, [True, False, False])[0]
        if needs_weight:
            gw = weight_gradient(x, g, ctx.shape) if ctx.geometry.transposed else weight_gradient(g, x, ctx.shape)
        return gx, gw, g.sum((0, 2, 3)) if needs_bias else None, None, None


class Products(Convolutions):
    """While active, computes two-dimensional convolutions under bf16 autocast as matrix products where that is faster."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
        shape = {(*numbers,) for numbers in zip(weight.shape[2:], geometry.stride, geometry.padding, strict=True)}
        if geometry.groups != 1 or geometry.dilation != [1, 1] or geometry.output_padding != [0, 0] or len(shape) > 1:
            return None
        kernel, stride, padding = shape.pop()
        if kernel % stride or kernel <= padding or weight.shape[0] * weight.shape[1] < MIN_CHANNEL_PAIRS or not autocasts(x):
            return None
        if geometry.transposed:
            height, width = ((side - 1) * stride + kernel - 2 * padding for side in x.shape[2:])
        else:
            if any(side + 2 * padding < kernel or (side + 2 * padding - kernel) % stride for side in x.shape[2:]):
                return None  # no patch, or a border that no patch covers
            height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
        if min(height, width) < 1 or min(x.shape[2] * x.shape[3], height * width) > MEDIUM_MAP:
            return None
        cast = [None if tensor is None else tensor.to(torch.bfloat16) for tensor in (x, weight, bias)]
        return Product.apply(*cast, geometry, (height, width))


def autocasts(x: Tensor) -> bool:
    """Whether autocast would now compute a convolution of x in bf16."""
    kind = x.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16 and x.is_floating_point()

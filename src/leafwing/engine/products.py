"""Convolutions of small maps as matrix products, in bf16.

A CPU's matrix unit (AMX) takes 16 rows of 32 numbers at a time. The library's convolutions fill its rows with neighbours along one
line of a map, so on maps four wide three quarters of it idle, and for gradients of weights more. As a matrix product, of patches
laid out in rows (im2col), the same convolution fills it whatever the maps are. `bench/levers.py` measures what that brings.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import pad

from leafwing.engine.convolutions import Convolutions, How

SMALL = 4 * 4
"""Maps with no more numbers than that on the side of fewer ones: all is a matrix product."""
MEDIUM = 8 * 8
"""The same for the gradient of the weight alone."""
WEIGHTS = 64 * 128
"""Pairs of channels from which on it pays."""

Shape = tuple[int, int, int]
"""Side of the kernel, stride, padding."""


def rows(maps: Tensor) -> Tensor:
    """(n, c, h, w) -> (n h w, c); in channels_last a view."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def matrix(weight: Tensor) -> Tensor:
    """(a, b, k, k) -> (a, k k b); in channels_last a view."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def patches(x: Tensor, shape: Shape, height: int, width: int) -> Tensor:
    """(n, b, h, w) -> (n height width, k k b): what each place of the smaller maps sees."""
    kernel, stride, padding = shape
    framed = pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding)).contiguous()
    n, _, _, channels = framed.shape
    sample, line, place, one = framed.stride()
    strides = (sample, stride * line, stride * place, line, place, one)
    return framed.as_strided((n, height, width, kernel, kernel, channels), strides).reshape(n * height * width, -1)


def gather(x: Tensor, weight: Tensor, shape: Shape, height: int, width: int) -> Tensor:
    """The convolution of x (n, b, h, w) with weight (a, b, k, k): (n, a, height, width)."""
    product = patches(x, shape, height, width) @ matrix(weight).t()
    return product.view(len(x), height, width, -1).permute(0, 3, 1, 2)


def scatter(g: Tensor, weight: Tensor, shape: Shape, height: int, width: int) -> Tensor:
    """The transposed convolution of g (n, a, h, w) with weight (a, b, k, k), (n, b, height, width): the gradient of `gather`.

    Where patches overlap they are added up in fp32.
    """
    kernel, stride, padding = shape
    n, _, h, w = g.shape
    each, channels = kernel // stride, weight.shape[1]
    parts = (rows(g) @ matrix(weight)).view(n, h, w, each, stride, each, stride, channels)
    out = torch.zeros((n, h + each - 1, stride, w + each - 1, stride, channels), dtype=torch.float32, device=g.device)
    for i in range(each):
        for j in range(each):
            out[:, i : i + h, :, j : j + w] += parts[:, :, :, i, :, j].permute(0, 1, 3, 2, 4, 5)
    framed = out.view(n, (h + each - 1) * stride, (w + each - 1) * stride, channels)
    inner = framed[:, padding : padding + height, padding : padding + width]
    return inner.to(g.dtype, memory_format=torch.contiguous_format).permute(0, 3, 1, 2)


def weight_gradient(g: Tensor, x: Tensor, shape: Shape) -> Tensor:
    """The gradient of `gather` by its weight, (a, b, k, k), from that of its result g (n, a, height, width)."""
    kernel = shape[0]
    product = rows(g).t().contiguous() @ patches(x, shape, *g.shape[2:])
    return product.view(g.shape[1], kernel, kernel, -1).permute(0, 3, 1, 2)


class Product(Function):
    """x, weight, bias -> convolution, or its transpose. One side has the larger maps: that of b in a weight (a, b, k, k)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: How, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.shape = how, (weight.shape[2], how.stride[0], how.padding[0])
        ctx.whole = min(x.shape[2] * x.shape[3], size[0] * size[1]) <= SMALL
        if not ctx.whole:
            return torch.ops.aten.convolution(x, weight, bias, *how)
        out = (scatter if how.transposed else gather)(x, weight, ctx.shape, *size)
        return out if bias is None else out + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        gx = gw = None
        if wants_x and ctx.whole:
            gx = (gather if ctx.how.transposed else scatter)(g, weight, ctx.shape, *x.shape[2:])
        elif wants_x:
            gx = torch.ops.aten.convolution_backward(g, x, weight, None, *ctx.how, [True, False, False])[0]
        if wants_weight:
            gw = weight_gradient(x, g, ctx.shape) if ctx.how.transposed else weight_gradient(g, x, ctx.shape)
        return gx, gw, g.sum((0, 2, 3)) if wants_bias else None, None, None


class Products(Convolutions):
    """While it is active, two-dimensional convolutions under bf16 autocast are computed as above where that is faster."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor | None:
        shape = {(*numbers,) for numbers in zip(weight.shape[2:], how.stride, how.padding, strict=True)}
        if how.groups != 1 or how.dilation != [1, 1] or how.output_padding != [0, 0] or len(shape) > 1:
            return None
        kernel, step, edge = shape.pop()
        if kernel % step or kernel <= edge or weight.shape[0] * weight.shape[1] < WEIGHTS or not autocasts(x):
            return None
        if how.transposed:
            height, width = ((side - 1) * step + kernel - 2 * edge for side in x.shape[2:])
        else:
            if any(side + 2 * edge < kernel or (side + 2 * edge - kernel) % step for side in x.shape[2:]):
                return None  # no patch, or a rest that no patch sees
            height, width = ((side + 2 * edge - kernel) // step + 1 for side in x.shape[2:])
        if min(height, width) < 1 or min(x.shape[2] * x.shape[3], height * width) > MEDIUM:
            return None
        cast = [None if tensor is None else tensor.to(torch.bfloat16) for tensor in (x, weight, bias)]
        return Product.apply(*cast, how, (height, width))


def autocasts(x: Tensor) -> bool:
    """Whether a convolution of x would now be one in bf16."""
    kind = x.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16 and x.is_floating_point()

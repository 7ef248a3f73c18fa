"""Replaces PyTorch's two-dimensional convolutions: what `double_backward` and `products` share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Geometry(NamedTuple):
    """The arguments of `torch.ops.aten.convolution` after input, weight and bias."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class Convolutions(TorchFunctionMode):
    """While active, every two-dimensional convolution of a batch calls `convolve`."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor | None:
        """The convolution, or None to use PyTorch's."""
        raise NotImplementedError

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv2d or function is torch.conv_transpose2d:
            x, weight, bias, geometry = (_conv2d if function is torch.conv2d else _conv_transpose2d)(*args, **kwargs)
            out = self.convolve(x, weight, bias, geometry) if geometry is not None and x.dim() == 4 else None
            if out is not None:
                return out
        return function(*args, **kwargs)


Call = tuple[Tensor, Tensor, Tensor | None, Geometry | None]


def _conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Call:  # fmt: skip
    if isinstance(padding, str):  # "same" or "valid"
        return input, weight, bias, None
    return input, weight, bias, Geometry(_pair(stride), _pair(padding), _pair(dilation), False, [0, 0], groups)


def _conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Call:  # fmt: skip
    geometry = Geometry(_pair(stride), _pair(padding), _pair(dilation), True, _pair(output_padding), groups)
    return input, weight, bias, geometry


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)

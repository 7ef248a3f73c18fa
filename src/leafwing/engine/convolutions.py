"""Where the engine computes two-dimensional convolutions otherwise than the library does: what the two ways have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class How(NamedTuple):
    """What `torch.ops.aten.convolution` is told after input, weight and bias."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class Convolutions(TorchFunctionMode):
    """While it is active, `convolve` is asked about every two-dimensional convolution of a batch."""

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor | None:
        """The convolution; None leaves it to the library."""
        raise NotImplementedError

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv2d or function is torch.conv_transpose2d:
            x, weight, bias, how = (_conv2d if function is torch.conv2d else _conv_transpose2d)(*args, **kwargs)
            out = self.convolve(x, weight, bias, how) if how is not None and x.dim() == 4 else None
            if out is not None:
                return out
        return function(*args, **kwargs)


Call = tuple[Tensor, Tensor, Tensor | None, How | None]


def _conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Call:  # fmt: skip
    named = isinstance(padding, str)
    how = None if named else How(_pair(stride), _pair(padding), _pair(dilation), False, [0, 0], groups)
    return input, weight, bias, how


def _conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0,
    groups: int = 1, dilation: Any = 1,
) -> Call:  # fmt: skip
    return input, weight, bias, How(_pair(stride), _pair(padding), _pair(dilation), True, _pair(output_padding), groups)


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)

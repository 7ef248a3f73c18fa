"""Convolutions that are cheap to differentiate twice.

A convolution is linear in its input and in its weight, so its gradients' gradients are convolutions, input gradients and weight
gradients again. PyTorch's own double backward knows only convolutions: a weight gradient becomes one whose kernel is as large as
the picture, and each group a call of its own. Here each of the three is computed by the library's function for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from leafwing.engine.convolutions import Convolutions, How


class Asking:
    """Which leaves somebody who differentiates wants gradients of: a Function is not told, and would compute them all."""

    def __init__(self) -> None:
        self.leaves: set[int] | None = None

    def wants(self, leaf: int | None) -> bool:
        """Whether what has this id is to have a gradient; None is no leaf, and may lead to one."""
        return leaf is None or self.leaves is None or leaf in self.leaves


def _gradients(g: Tensor, x: Tensor, weight: Tensor, how: How, wanted: list[bool]) -> Any:
    return torch.ops.aten.convolution_backward(g, x, weight, None, *how, wanted)


class Convolution(Function):
    """x, weight, bias -> convolution. `asking` knows which gradients are wanted when it is differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: How, asking: Asking) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.asking = how, asking
        ctx.leaves = [id(tensor) if tensor is not None and tensor.is_leaf else None for tensor in (x, weight, bias)]
        return torch.ops.aten.convolution(x, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = (
            needed and ctx.asking.wants(leaf) for needed, leaf in zip(ctx.needs_input_grad, ctx.leaves, strict=False)
        )
        if not torch.is_grad_enabled():  # the last time: all at once
            wanted, sizes = [wants_x, wants_weight, wants_bias], [g.shape[1]] if wants_bias else None
            return (*torch.ops.aten.convolution_backward(g, x, weight, sizes, *ctx.how, wanted), None, None)
        return (
            InputGradient.apply(g, x, weight, ctx.how, ctx.asking) if wants_x else None,
            WeightGradient.apply(g, x, weight, ctx.how, ctx.asking) if wants_weight else None,
            g.sum((0, 2, 3)) if wants_bias else None,
            None,
            None,
        )


class InputGradient(Function):
    """g (gradient of the output), weight -> gradient of the input; of the input itself only the shape matters."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, how: How, asking: Asking) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.how, ctx.asking = how, asking
        return _gradients(g, x, weight, how, [True, False, False])[0]

    @staticmethod
    def backward(ctx: Any, gx: Tensor) -> tuple[Tensor | None, ...]:
        g, weight = ctx.saved_tensors
        wants_g, _, wants_weight, _, _ = ctx.needs_input_grad
        return (
            Convolution.apply(gx, weight, None, ctx.how, ctx.asking) if wants_g else None,
            None,
            WeightGradient.apply(g, gx, weight, ctx.how, ctx.asking) if wants_weight else None,
            None,
            None,
        )


class WeightGradient(Function):
    """g (gradient of the output), x -> gradient of the weight; of the weight itself only the shape matters."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, how: How, asking: Asking) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.how, ctx.asking = how, asking
        return _gradients(g, x, weight, how, [False, True, False])[1]

    @staticmethod
    def backward(ctx: Any, gw: Tensor) -> tuple[Tensor | None, ...]:
        g, x = ctx.saved_tensors
        wants_g, wants_x, _, _, _ = ctx.needs_input_grad
        return (
            Convolution.apply(x, gw, None, ctx.how, ctx.asking) if wants_g else None,
            InputGradient.apply(g, x, gw, ctx.how, ctx.asking) if wants_x else None,
            None,
            None,
            None,
        )


class DoubleBackward(Convolutions):
    """While it is active, two-dimensional convolutions are those above: the same values, and gradients but for rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.asking = Asking()

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor:
        return Convolution.apply(x, weight, bias, how, self.asking)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.autograd.grad:
            return self._asked_for(args[1] if len(args) > 1 else kwargs["inputs"], function, args, kwargs)
        if function is Tensor.backward:
            return self._asked_for(kwargs.get("inputs"), function, args, kwargs)
        return super().__torch_function__(function, types, args, kwargs)

    def _asked_for(self, inputs: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        asked = [inputs] if isinstance(inputs, Tensor) else inputs
        if isinstance(asked, list | tuple) and all(isinstance(tensor, Tensor) for tensor in asked):  # not edges of the graph
            self.asking.leaves = {id(tensor) for tensor in asked}
        try:
            return function(*args, **kwargs)
        finally:
            self.asking.leaves = None

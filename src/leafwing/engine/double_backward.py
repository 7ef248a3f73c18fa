"""Convolutions with a cheap double backward pass.

A convolution is linear in its input and in its weight, so the gradients of its gradients are again convolutions, input gradients and
weight gradients. PyTorch's double backward uses only convolutions: a weight gradient becomes a convolution whose kernel is as large
as the image, and each group a separate call. Here each of the three calls the library's own function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from leafwing.engine.convolutions import Convolutions, Geometry


class RequestedLeaves:
    """The leaves whose gradients a call of autograd requests. A Function cannot see that, and would compute all gradients."""

    def __init__(self) -> None:
        self.leaves: set[int] | None = None

    def needs(self, leaf: int | None) -> bool:
        """Whether the gradient of the tensor with this id is needed; always for None, a tensor that depends on leaves."""
        return leaf is None or self.leaves is None or leaf in self.leaves


def _gradients(g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, mask: list[bool]) -> Any:
    return torch.ops.aten.convolution_backward(g, x, weight, None, *geometry, mask)


class Convolution(Function):
    """x, weight, bias -> convolution. `requested` says which gradients are needed in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, requested: RequestedLeaves
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.requested = geometry, requested
        ctx.leaves = [id(tensor) if tensor is not None and tensor.is_leaf else None for tensor in (x, weight, bias)]
        return torch.ops.aten.convolution(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = (
            needed and ctx.requested.needs(leaf) for needed, leaf in zip(ctx.needs_input_grad, ctx.leaves, strict=False)
        )
        if not torch.is_grad_enabled():  # not differentiated again: one call for all three
            mask, sizes = [needs_x, needs_weight, needs_bias], [g.shape[1]] if needs_bias else None
            return (*torch.ops.aten.convolution_backward(g, x, weight, sizes, *ctx.geometry, mask), None, None)
        return (
            InputGradient.apply(g, x, weight, ctx.geometry, ctx.requested) if needs_x else None,
            WeightGradient.apply(g, x, weight, ctx.geometry, ctx.requested) if needs_weight else None,
            g.sum((0, 2, 3)) if needs_bias else None,
            None,
            None,
        )


class InputGradient(Function):
    """g (gradient of the output), weight -> gradient of the input; only the shape of the input matters."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, requested: RequestedLeaves) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.geometry, ctx.requested = geometry, requested
        return _gradients(g, x, weight, geometry, [True, False, False])[0]

    @staticmethod
    def backward(ctx: Any, gx: Tensor) -> tuple[Tensor | None, ...]:
        g, weight = ctx.saved_tensors
        needs_g, _, needs_weight, _, _ = ctx.needs_input_grad
        return (
            Convolution.apply(gx, weight, None, ctx.geometry, ctx.requested) if needs_g else None,
            None,
            WeightGradient.apply(g, gx, weight, ctx.geometry, ctx.requested) if needs_weight else None,
            None,
            None,
        )


class WeightGradient(Function):
    """g (gradient of the output), x -> gradient of the weight; only the shape of the weight matters."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, requested: RequestedLeaves) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.geometry, ctx.requested = geometry, requested
        return _gradients(g, x, weight, geometry, [False, True, False])[1]

    @staticmethod
    def backward(ctx: Any, gw: Tensor) -> tuple[Tensor | None, ...]:
        g, x = ctx.saved_tensors
        needs_g, needs_x, _, _, _ = ctx.needs_input_grad
        return (
            Convolution.apply(x, gw, None, ctx.geometry, ctx.requested) if needs_g else None,
            InputGradient.apply(g, x, gw, ctx.geometry, ctx.requested) if needs_x else None,
            None,
            None,
            None,
        )


class DoubleBackward(Convolutions):
    """While active, replaces two-dimensional convolutions by `Convolution`: equal values, equal gradients up to rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.requested = RequestedLeaves()

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        return Convolution.apply(x, weight, bias, geometry, self.requested)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.autograd.grad:
            return self._differentiate(args[1] if len(args) > 1 else kwargs["inputs"], function, args, kwargs)
        if function is Tensor.backward:
            return self._differentiate(kwargs.get("inputs"), function, args, kwargs)
        return super().__torch_function__(function, types, args, kwargs)

    def _differentiate(self, inputs: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Calls a function of autograd while `requested` contains its inputs, unless they are edges of the graph."""
        leaves = [inputs] if isinstance(inputs, Tensor) else inputs
        if isinstance(leaves, list | tuple) and all(isinstance(tensor, Tensor) for tensor in leaves):
            self.requested.leaves = {id(tensor) for tensor in leaves}
        try:
            return function(*args, **kwargs)
        finally:
            self.requested.leaves = None

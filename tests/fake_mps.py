"""A stand-in for Apple's GPU: tensors whose device is `mps`, computed on the CPU, with some limits of the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

MPS = torch.device("mps")


class OnMps(Tensor):
    """A tensor of the device."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(function, args, kwargs or {})


class FakeMps(TorchFunctionMode):
    """While active, tensors can be created on the device and moved to it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(function, args, kwargs or {})


def compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of a call: on the device if one of its tensors is there, unless it names another device."""
    name = getattr(function, "__name__", "")
    is_here = any(isinstance(leaf, OnMps) for leaf in tree_leaves((args, kwargs)))
    if function == Tensor.device.__get__ and is_here:
        return MPS
    target = kwargs.get("device")
    if function is Tensor.to and args[1:] and not isinstance(args[1], torch.dtype):
        target = args[1]
    goes_here = is_here if target is None else isinstance(target, OnMps) or str(target).startswith("mps")
    if function is Tensor.cpu:
        goes_here = False
    if "adaptive_" in name and is_here:
        size = args[1] if isinstance(args[1], Sequence) else [args[1]] * 2
        if any(side % other for side, other in zip(args[0].shape[-2:], size, strict=True)):
            raise RuntimeError("Adaptive pool MPS: input sizes must be divisible by output sizes.")
    plain_args, plain_kwargs = tree_map(plain, (args, kwargs))
    result = function(*plain_args, **plain_kwargs)
    tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    if (is_here or goes_here) and any(tensor.dtype == torch.float64 for tensor in tensors):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
    if plain_args and result is plain_args[0] and goes_here == isinstance(args[0], OnMps):
        return args[0]  # changed in place
    return tree_map(on_mps, result) if goes_here and tensors else result


def on_mps(leaf: Any) -> Any:
    """A tensor among the results of a call, on the device."""
    return leaf.as_subclass(OnMps) if isinstance(leaf, Tensor) else leaf


def plain(leaf: Any) -> Any:
    """An argument of a call as one of the same call on the CPU."""
    if isinstance(leaf, OnMps):
        with torch._C.DisableTorchFunction():
            return leaf.as_subclass(Tensor)
    return "cpu" if isinstance(leaf, str | torch.device) and str(leaf).startswith("mps") else leaf

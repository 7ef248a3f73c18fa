"""What a function computes from its inputs, recorded as a graph of functions of PyTorch: for computing large pictures in strips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from leafwing.engine.share import FACTORIES, LIKE

INPUT, DRAW = "input", "random numbers"
OTHER_RANDOM = {
    "bernoulli", "normal", "multinomial", "poisson", "random", "uniform", "exponential", "randperm", "rrelu", "log_normal", "cauchy",
}  # fmt: skip
"""Random functions whose numbers are not those of a sample, or which cannot be repeated."""


class UnknownLayerError(Exception):
    """A function cannot be computed in strips; the message names what hinders it, for users."""


@dataclass(eq=False)
class Node:
    """One call of a function, or an input.

    Args:
        name: name of the function, without underscores.
        function: the function.
        args, kwargs: its arguments; nodes in place of tensors that depend on the inputs.
        shape: shape of its result.
        dtype: type of its result.
        in_place: whether it changes its first argument.
        users: the calls that take its result.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: torch.Size
    dtype: torch.dtype
    in_place: bool = False
    users: list[Node] = field(default_factory=list)

    @property
    def operands(self) -> list[Node]:
        """The nodes among the arguments."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Node)]

    @property
    def bytes(self) -> int:
        """Bytes of the result."""
        return prod(self.shape) * self.dtype.itemsize


def record(
    function: Callable[[dict[str, Tensor]], Tensor], shapes: Mapping[str, tuple[int, ...]], device: torch.device
) -> tuple[list[Node], Node]:
    """The calls in order that compute `function` from inputs of these shapes, and the one whose result it returns.

    No input is needed, and only what does not depend on them is computed. Control flow may depend on shapes.

    Raises:
        UnknownLayerError: control flow depends on values, or random numbers are of another kind than those of `share`.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        inputs = {name: torch.empty(shape, device=device) for name, shape in shapes.items()}
    recorder = _Recorder(fake)
    for name, tensor in inputs.items():
        recorder.add(tensor, Node(INPUT, torch.empty, (name,), {}, tensor.shape, tensor.dtype))
    try:
        with torch.no_grad(), recorder:
            result = function(inputs)
    except UnknownLayerError:
        raise
    except Exception as error:  # whatever a network does with tensors without values
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnknownLayerError(f"it cannot be traced: {reason[:160]}") from error
    output = recorder.of.get(id(result))
    if output is None:
        raise UnknownLayerError("what it generates does not depend on the picture")
    return recorder.reachable(output), output


class _Recorder(TorchFunctionMode):
    """Records the calls on tensors that depend on the inputs."""

    def __init__(self, fake: Any) -> None:
        super().__init__()
        self.fake, self.nodes = fake, list[Node]()
        self.of: dict[int, Node] = {}
        self.tensors: list[Tensor] = []  # alive, so that no other tensor gets the id of one of them

    def add(self, tensor: Tensor, node: Node) -> None:
        self.nodes.append(node)
        self.of[id(tensor)] = node
        self.tensors.append(tensor)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", str(function)).strip("_")
        if function in FACTORIES or function in LIKE:
            return self._draw(function, args, kwargs)
        if name in OTHER_RANDOM or ("dropout" in name and kwargs.get("training", len(args) > 2 and args[2])):
            raise UnknownLayerError(f"its random function {name}")
        depends = any(isinstance(leaf, Tensor) and id(leaf) in self.of for leaf in tree_leaves((args, kwargs)))
        if not depends:
            return function(*args, **kwargs)
        if name == "setitem":
            raise UnknownLayerError("an assignment to a part of a map")
        stored_args, stored_kwargs = tree_map(self._node, (args, kwargs))
        result = function(*args, **kwargs)
        if isinstance(result, Tensor):
            if args and result is args[0] and not _changes(function, args, kwargs):
                return result  # such as x.contiguous()
            in_place = bool(args) and result is args[0]
            self.add(result, Node(name, function, tuple(stored_args), stored_kwargs, result.shape, result.dtype, in_place))
        elif isinstance(result, tuple | list) and any(isinstance(item, Tensor) for item in result):
            for i, item in enumerate(result):
                item_of = _Item(function, i)
                self.add(item, Node(name, item_of, tuple(stored_args), stored_kwargs, item.shape, item.dtype))
        return result

    def _node(self, leaf: Any) -> Any:
        return self.of.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf

    def _draw(self, function: Any, args: Any, kwargs: Any) -> Tensor:
        with self.fake:
            result = function(*args, **kwargs)
        if function in LIKE:
            options = {"dtype": result.dtype, "device": result.device, **kwargs}
            function, args, kwargs = LIKE[function], (tuple(result.shape),), options
        self.add(result, Node(DRAW, function, tuple(args), dict(kwargs), result.shape, result.dtype))
        return result

    def reachable(self, output: Node) -> list[Node]:
        """The nodes that the output depends on, with their users, and all random numbers, in order."""
        needed = {output}
        for node in reversed(self.nodes):
            if node in needed:
                needed.update(node.operands)
        nodes = [node for node in self.nodes if node in needed or node.name == DRAW]
        for node in nodes:
            if node in needed:
                for operand in dict.fromkeys(node.operands):
                    operand.users.append(node)
        return nodes


@dataclass(frozen=True)
class _Item:
    """One of the results of a function that returns several."""

    function: Callable[..., Any]
    index: int

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)[self.index]


def _changes(function: Any, args: Any, kwargs: Any) -> bool:
    """Whether a function that returned its argument has changed it."""
    name = getattr(function, "__name__", "")
    augmented = name.startswith("__i") and name.endswith("__")
    return (
        augmented
        or (name.endswith("_") and not name.endswith("__"))
        or bool(kwargs.get("inplace"))
        or any(value is True for value in args[1:])
    )


def walk(node: Node, stop: Callable[[Node], bool]) -> Iterator[Node]:
    """The nodes from which a node is computed, itself first; those for which `stop` is true are included, but not what is before."""
    pending, visited = [node], {node}
    while pending:
        current = pending.pop()
        yield current
        if current is node or not stop(current):
            new = [operand for operand in dict.fromkeys(current.operands) if operand not in visited]
            visited.update(new)
            pending.extend(new)

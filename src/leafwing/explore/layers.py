"""What goes on inside networks: the maps of their convolutions, in the order in which they are passed, watched or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from leafwing.errors import LeafwingError
from leafwing.game import Nets

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def convolutions(nets: Nets, run: Callable[[], object]) -> list[nn.Module]:
    """The convolutions that a pass goes through, first to last, each once; of those with 1x1 maps or less only their own."""
    passed: list[nn.Module] = []

    def note(module: nn.Module, given: object, made: Tensor) -> None:
        if module not in passed:
            passed.append(module)

    with _hooked(nets, note), torch.no_grad():
        run()
    return passed


@contextmanager
def watched(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Inside, the last output of each layer, in their order, as soon as it was passed."""
    seen: list[Tensor] = [torch.empty(0)] * len(layers)

    def keep(i: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, given: object, made: Tensor) -> None:
            seen[i] = made

        return hook

    handles = [layer.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def changed(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, the output of a layer is what `change` makes of it."""
    handle = layer.register_forward_hook(lambda module, given, made: change(made))
    try:
        yield
    finally:
        handle.remove()


def need_convolutions(layers: Sequence[nn.Module], least: int, whose: str) -> None:
    """Raises LeafwingError when a network has too few convolutions for a tool."""
    if len(layers) < least:
        raise LeafwingError(
            f"the {whose} of this run has {len(layers)} convolutions, and this tool needs {least}: `leafwing recipes` says which are "
            "convolutional"
        )


@contextmanager
def _hooked(nets: Nets, hook: Callable[[nn.Module, object, Tensor], None]) -> Iterator[None]:
    handles: list[RemovableHandle] = []
    for net in vars(nets).values():
        handles += [part.register_forward_hook(hook) for part in net.modules() if isinstance(part, CONVOLUTIONS)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

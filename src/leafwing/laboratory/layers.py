"""The feature maps of convolutions inside networks, recorded in the order of execution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from leafwing.errors import LeafwingError
from leafwing.game import Nets

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def convolutions(nets: Nets, run: Callable[[], object]) -> list[nn.Module]:
    """The convolutions executed in a forward pass, in order, each once."""
    passed: dict[nn.Module, None] = {}

    def note(module: nn.Module, given: object, made: Tensor) -> None:
        passed[module] = None

    parts = [part for net in vars(nets).values() for part in net.modules() if isinstance(part, CONVOLUTIONS)]
    handles = [part.register_forward_hook(note) for part in parts]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return list(passed)


@contextmanager
def watched(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Records the latest output of each layer, in the order of `layers`."""
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


def need_convolutions(layers: Sequence[nn.Module], least: int, whose: str) -> None:
    """Raises LeafwingError when a network has too few convolutions for a tool."""
    if len(layers) < least:
        raise LeafwingError(
            f"the {whose} of this run has {len(layers)} convolutions, and this tool requires {least}: see `leafwing recipes` for "
            "convolutional recipes"
        )

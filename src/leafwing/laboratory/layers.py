"""The feature maps of convolutions inside networks, recorded in the order of execution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from leafwing.errors import LeafwingError
from leafwing.game import Nets

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def find_convolutions(nets: Nets, forward: Callable[[], object]) -> list[nn.Module]:
    """The convolutions executed in a forward pass, in order, each once."""
    executed: dict[nn.Module, None] = {}

    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        executed[module] = None

    layers = [layer for net in vars(nets).values() for layer in net.modules() if isinstance(layer, CONVOLUTIONS)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return list(executed)


@contextmanager
def record_outputs(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Records the latest output of each layer, in the order of `layers`."""
    outputs: list[Tensor] = [torch.empty(0)] * len(layers)

    def recorder(i: int) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            outputs[i] = output

        return hook

    handles = [layer.register_forward_hook(recorder(i)) for i, layer in enumerate(layers)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def require_convolutions(layers: Sequence[nn.Module], minimum: int, network: str) -> None:
    """Raises LeafwingError when a network has too few convolutions for a tool."""
    if len(layers) < minimum:
        raise LeafwingError(
            f"the {network} of this run has {len(layers)} convolutions, and this tool requires {minimum}: see `leafwing recipes` for "
            "convolutional recipes"
        )

"""Whether a training fits into memory: estimated before it begins, and what to try when memory runs out nevertheless."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from leafwing.errors import LeafwingError
from leafwing.machine import available_memory
from leafwing.quantities import show_bytes

if TYPE_CHECKING:
    from leafwing.engine.footprint import Footprint
    from leafwing.loop import Training

SMALL = 240
"""Bytes per pixel, image and channel of the widest layer that no recipe needs for its activations: what takes less than a quarter of
the free memory by this rule is not estimated."""
TIGHT = 0.7
"""An estimate above this share of the free memory is worth a warning: estimates are off by up to a third."""


def check_memory(
    training: Training, options: Mapping[str, Any], say: Callable[[str], None], *, recipe: str = "", resumed: bool = False
) -> None:
    """Refuses a training that cannot fit into memory, and warns about one that may not.

    On CUDA a batch that does not fit is divided while training, so that only one that does not fit image by image is refused.

    Args:
        training: before the first turn of this session; it is not changed.
        options: the hyper-parameters.
        say: receives the warning.
        recipe: its name, if it is one of several that are compared, which have no micro-batches.
        resumed: whether its networks cannot change any more.

    Raises:
        LeafwingError: it needs more than is free; the message has the estimate and the nearest size that fits.
    """
    from leafwing.engine.footprint import estimate_footprint, persistent_tensors, state_tensors, total_bytes

    engine = training.engine
    batch = max(training.batch, *(phase.batch for phase in training.phases if phase.images > training.clock.images), 1)
    free = free_memory(engine.setup.device)
    if free is None or engine.processes.world_size > 1:
        return
    free += total_bytes(persistent_tensors(engine))  # networks and what was restored are part of the estimate
    example = training.batches(0, 4)
    weights, what = total_bytes(state_tensors(engine)), f"training {recipe}".strip()
    if 4 * weights > TIGHT * free:  # they have gradients, and Adam's state of twice their size
        raise LeafwingError(
            f"{what} needs {show_bytes(4 * weights)} of memory for the weights, their gradients and the state of the optimisers "
            f"alone, and {show_bytes(free)} are free; try {smaller(options, resumed)}"
        )
    values = sum(value[0].numel() for value in example.values())
    roughly = 16 * weights + SMALL * batch * values * max(int(options.get("width", 64)), 64) / 3
    if roughly < free / 4:
        return
    footprint = estimate_footprint(engine, example, batch)
    needed = footprint.total - footprint.base
    if needed <= TIGHT * free:
        return
    fits = nearest(footprint, batch, TIGHT * free)
    estimate = (
        f"{what} needs about {show_bytes(needed)} of memory with batches of {batch:,}, and {show_bytes(free)} are free"
    )
    micro = "" if recipe else f", or --micro-batch {fits} for the same steps with less memory"
    advice = f"--batch {fits}{micro}" if fits else smaller(options, resumed)
    if needed > free and (not fits or engine.device.type != "cuda"):
        raise LeafwingError(f"{estimate}{'' if fits else ', even a single image does not fit'}; try {advice}")
    say(f"{estimate}: it may run out of memory; in that case try {advice}")


def smaller(options: Mapping[str, Any], resumed: bool = False) -> str:
    """What needs less memory than the smallest batch: the option that makes networks half as wide, if they can still change."""
    if resumed:
        return "a machine with more memory, because the networks of a run cannot change"
    return f"--width {options['width'] // 2}" if options.get("width", 0) > 1 else "smaller networks, or a smaller --size"


def free_memory(device: str) -> int | None:
    """Bytes that are free on a device; None if not known."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return available_memory()


def nearest(footprint: Footprint, batch: int, limit: float) -> int:
    """The largest batch up to this one whose estimate is within the limit; 0 if none is."""
    low, high = 0, batch
    while low < high:
        middle = (low + high + 1) // 2
        if footprint.at(middle).total - footprint.base <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that the device or the host ran out of memory; without torch, if that was not imported."""
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from leafwing.engine import turns

    return turns.is_out_of_memory(error)


@contextmanager
def out_of_memory(training: Training, options: Mapping[str, Any], *, resumed: bool = False) -> Iterator[None]:
    """Answers the error of a device that ran out of memory with what to try; see `check_memory`.

    Raises:
        LeafwingError: instead of that error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        batch, micro = training.batch, training.engine.micro_batch or training.batch
        tries = [f"--micro-batch {max(1, micro // 2)}"] if micro > 1 else []
        tries += [f"--batch {max(1, batch // 2)}"] if batch > 1 else []
        raise LeafwingError(
            f"out of memory on {training.engine.setup.device} with batches of {batch:,} images, {micro:,} at a time: try "
            f"{', or '.join([*tries, smaller(options, resumed)])}. Checkpoints are intact"
        ) from error

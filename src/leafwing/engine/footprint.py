"""Estimates the memory of training at any batch size from a few turns with a few images.

A copy of the game takes each of its turns with n images and with 2n. After every operation the bytes of all live tensors are
recorded: the part that differs between the two grows with the batch, the rest is constant. The peak at a batch size is the maximum
of these linear functions. The game itself is not changed.
"""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from leafwing.engine.setup import peak_memory
from leafwing.engine.turns import Engine
from leafwing.game import Batch, BatchSource, Clock

FRAGMENTATION = 1.6
"""Memory of a CPU process per byte that is allocated and freed within a turn: glibc cannot reuse many gaps between blocks.

Measured with bench/growth.py: 1.4 to 2.2 over recipes, sizes and batches, about 1.5 for large runs. The workspace of convolutions
adds at most a tenth to the bytes counted here, so most of this is gaps."""

FIRST_USE = 25 << 20
"""Bytes of code and tables that a CPU process loads when it first takes a turn, measured in the same way."""

END_OF_TRAINING = Clock(1, 1, 1)  # a growing network is largest at the end


@dataclass(frozen=True)
class Footprint:
    """The peak memory of training at one batch size, in bytes, without the data set.

    Args:
        batch: real images per update.
        weights: parameters and buffers of all networks, averaged copies and terms with state.
        gradients: gradients of all players' weights, which are stored until their next turn.
        optimiser: the optimisers' state.
        data: the batch on the device.
        activations: all other tensors at the peak: activations stored for the backward pass, and temporaries.
        fragmentation: memory that the allocator holds beyond these tensors.
        base: memory of the process without the game: Python, torch and its libraries. 0 on CUDA.
    """

    batch: int
    weights: int
    gradients: int
    optimiser: int
    data: int
    activations: int
    fragmentation: int
    base: int
    _model: _MemoryModel = field(repr=False, compare=False)

    @property
    def total(self) -> int:
        """The peak: of the device on CUDA, else of the process, as measured by `engine.peak_memory`."""
        persistent = self.weights + self.gradients + self.optimiser
        return persistent + self.data + self.activations + self.fragmentation + self.base

    def at(self, batch: int) -> Footprint:
        """The footprint of the same training with another batch size."""
        data, activations = self._model.at(batch)
        fragmentation = round(self._model.fragmentation * (data + activations))
        return replace(self, batch=batch, data=data, activations=activations, fragmentation=fragmentation)


@dataclass(frozen=True)
class _MemoryModel:
    """Live bytes as a function of the batch: the maximum of straight lines."""

    lines: Sequence[tuple[float, float]]  # (bytes per image, constant bytes), one for each peak
    image: float  # bytes of one image of the batch on the device
    persistent: int  # weights, gradients, optimisers
    micro_batch: int
    fragmentation: float

    def at(self, batch: int) -> tuple[int, int]:
        """Bytes of the batch, and of the activations at the peak."""
        part = min(batch, self.micro_batch or batch)
        peak = max(slope * part + constant for slope, constant in self.lines)
        return round(self.image * batch), round(peak - self.persistent - self.image * part)


class LiveBytes(TorchDispatchMode):
    """While active, records after every operation how many bytes of tensors are alive, in `history`.

    Args:
        existing: tensors that are alive at the start.
    """

    def __init__(self, existing: Iterable[Tensor]) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.bytes = 0
        self.history: list[int] = []
        for tensor in existing:
            self._add(tensor)

    def _add(self, tensor: Tensor) -> None:
        """Counts a tensor's storage once, until it is freed."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.bytes += self.sizes[key]
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.bytes -= self.sizes.pop(key)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        self.history.append(self.bytes)
        return result


def estimate_footprint(engine: Engine, example: Batch, batch: int) -> Footprint:
    """The memory of training with this batch size and, by `Footprint.at`, with any other.

    Call it before the first turn: afterwards the base of the process cannot be told apart from its other memory. It
    takes as long as three rounds of a few images.

    Args:
        engine: about to train; neither it nor the random state is changed.
        example: an even number of images from the data; four are enough.
        batch: real images per update.
    """
    cuda = engine.device.type == "cuda"
    base = 0 if cuda else resident_memory() - total_bytes(persistent_tensors(engine)) + FIRST_USE
    rng_state = engine.rng_state()
    try:
        copied_engine = copy_engine(engine)
        half, example = (
            Batch({name: value[:n].clone() for name, value in example.items()}) for n in (example.n // 2, example.n)
        )
        trace_live_bytes(copied_engine, half)  # creates gradients and optimiser state
        few, many = trace_live_bytes(copied_engine, half), trace_live_bytes(copied_engine, example)
        if len(few) != len(many):  # the operations depend on the batch size
            few, many = [max(few)], [max(many)]
        slopes = [(b - a) / (example.n - half.n) for a, b in zip(few, many, strict=True)]
        lines: list[tuple[float, float]] = []
        for slope, constant in sorted({(s, a - s * half.n) for s, a in zip(slopes, few, strict=True)}, reverse=True):
            if not lines or constant > lines[-1][1]:
                lines.append((slope, constant))
        weights = total_bytes(state_tensors(copied_engine))
        gradients = total_bytes(gradient_tensors(copied_engine))
        optimiser = total_bytes(optimiser_tensors(copied_engine))
        image = total_bytes(copied_engine.prepare(example).values()) / example.n
    finally:
        engine.set_rng_state(rng_state)
    persistent, micro_batch = weights + gradients + optimiser, engine.setup.micro_batch
    model = _MemoryModel(lines, image, persistent, micro_batch, 0.0 if cuda else FRAGMENTATION - 1)
    return Footprint(batch, weights, gradients, optimiser, 0, 0, 0, base, model).at(batch)


def copy_engine(engine: Engine) -> Engine:
    """A copy of the engine and its game that takes every batch at once."""
    copied = copy.deepcopy(engine.game)
    for name, player in engine.game.players.items():
        trainable = {id(weight) for weight in engine.weights[name]}
        # Between turns only the weights of the last movers require gradients, but the copy must train all players.
        for weight, other in zip(player.net.parameters(), copied.players[name].net.parameters(), strict=True):
            other.requires_grad_(id(weight) in trainable)
    setup = replace(engine.setup, device=str(engine.device), capture=False, compile=False, micro_batch=0)
    return Engine(copied, setup, augmentation=copy.deepcopy(engine.augmentation))


def check_parts(engine: Engine, batches: BatchSource, sizes: Iterable[int]) -> None:
    """If a batch of one of these sizes has a part of one image, takes every turn on one image, with a copy of the engine.

    Raises:
        LeafwingError: a network of this game cannot be trained on one image at a time.
    """
    if engine.processes.world_size > 1 or all(part.stop - part.start > 1 for n in sizes for part in engine.parts(n)):
        return
    rng_state = engine.rng_state()
    try:
        trace_live_bytes(copy_engine(engine), batches(0, 1))
    finally:
        engine.set_rng_state(rng_state)


def trace_live_bytes(engine: Engine, example: Batch) -> list[int]:
    """Takes every unit of turns once; returns the live bytes after each operation."""
    # The loop frees the last batch after the first turn. Copies, because a batch that is on the device is not copied again.
    previous, batch = (engine.prepare(Batch({name: value.clone() for name, value in example.items()})) for _ in range(2))
    units = [engine.game.unit(index) for index, turn in enumerate(engine.game.turns) if not turn.same_round]
    with LiveBytes([*persistent_tensors(engine), *previous.values(), *batch.values()]) as live:
        for unit in units:
            engine.take(unit, batch, END_OF_TRAINING)
            previous.clear()
    return live.history


def state_tensors(engine: Engine) -> list[Tensor]:
    """Parameters and buffers of all modules of the game."""
    modules = engine.game.modules().values()
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def gradient_tensors(engine: Engine) -> list[Tensor]:
    """The gradients that exist now."""
    return [tensor.grad for tensor in state_tensors(engine) if tensor.grad is not None]


def optimiser_tensors(engine: Engine) -> list[Tensor]:
    """The optimisers' state."""
    states = [state for optimiser in engine.optimisers.values() for state in optimiser.state.values()]
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def persistent_tensors(engine: Engine) -> list[Tensor]:
    """The tensors that exist between turns."""
    return state_tensors(engine) + gradient_tensors(engine) + optimiser_tensors(engine)


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors; shared storage is counted once."""
    storages = {id(storage): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


def resident_memory() -> int:
    """Bytes of memory that this process holds now; on systems without /proc the peak so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_memory("cpu")
    return pages * os.sysconf("SC_PAGE_SIZE")

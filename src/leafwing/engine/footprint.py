"""How much memory training takes at any batch size, worked out from a rehearsal with a handful of images.

A copy of the game takes each of its turns once with some images and once with twice as many. After every operation the bytes of
all tensors that live then are noted: what differs between both notes grows with the batch, the rest does not. The peak at a batch
is the largest of these sums. Nothing of the game that trains is touched.
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

from leafwing.engine.setup import memory
from leafwing.engine.turns import Engine
from leafwing.game import Batch, Clock, Turn

HOLES = 1.6
"""What a CPU's process holds for each byte that comes and goes in a turn: glibc finds no use for many of the holes between blocks.

Determined with bench/growth.py: 1.4 to 2.2 over recipes, sizes and batches, about 1.5 where it is much. With what convolutions
take on the way the blocks in use are no more than a tenth larger than counted here, so most of this is holes."""

FIRST_USE = 25 << 20
"""Bytes of code and tables that a CPU's process loads when it first takes a turn, determined in the same place."""

END = Clock(1, 1, 1)  # a network that grows is largest at the end


@dataclass(frozen=True)
class Footprint:
    """The peak memory of training at one batch size, in bytes. The data set itself is not part of it.

    Args:
        batch: real images in a turn.
        weights: parameters and buffers of all networks, averaged copies and terms with state.
        gradients: of everyone who ever moves: they stay until their next turn.
        optimiser: what the optimisers remember.
        data: the batch on the device.
        activations: whatever else lives at the peak: what a turn keeps for its way back, and what comes and goes on it.
        holes: what the allocator holds beyond that.
        base: what the process holds without the game: Python, torch and its libraries. 0 on CUDA.
    """

    batch: int
    weights: int
    gradients: int
    optimiser: int
    data: int
    activations: int
    holes: int
    base: int
    _moments: _Moments = field(repr=False, compare=False)

    @property
    def total(self) -> int:
        """The peak: of the device on CUDA, of the process elsewhere, as `engine.memory` measures it."""
        lasting = self.weights + self.gradients + self.optimiser
        return lasting + self.data + self.activations + self.holes + self.base

    def at(self, batch: int) -> Footprint:
        """The same training with another batch."""
        data, activations = self._moments.at(batch)
        holes = round(self._moments.holes * (data + activations))
        return replace(self, batch=batch, data=data, activations=activations, holes=holes)


@dataclass(frozen=True)
class _Moments:
    """What lives at each moment of a round that is the largest for some batch: (bytes for each image, bytes besides)."""

    lines: Sequence[tuple[float, float]]
    image: float  # bytes of one image of the batch on the device
    lasting: int  # weights, gradients, optimisers
    micro_batch: int
    holes: float

    def at(self, batch: int) -> tuple[int, int]:
        """Bytes of the batch, and of the activations at the peak."""
        passing = min(batch, self.micro_batch or batch)
        peak = max(slope * passing + besides for slope, besides in self.lines)
        return round(self.image * batch), round(peak - self.lasting - self.image * passing)


class Living(TorchDispatchMode):
    """While it is active, notes after every operation how many bytes of tensors live.

    Args:
        known: tensors that live already.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.bytes = 0
        self.notes: list[int] = []
        for tensor in known:
            self._see(tensor)

    def _see(self, tensor: Tensor) -> None:
        """Counts a tensor's storage once, for as long as it lives."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.bytes += self.sizes[key]
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.bytes -= self.sizes.pop(key)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        self.notes.append(self.bytes)
        return made


def footprint(engine: Engine, example: Batch, batch: int) -> Footprint:
    """The memory that training takes, for this batch and, by `Footprint.at`, for any other.

    To be called before the first turn is taken: later the process holds memory that cannot be told from its base. Takes as long
    as the turns of three rounds of a few images.

    Args:
        engine: about to train; it is not changed, and no random number is drawn from it.
        example: an even number of images as the data give them; four are enough.
        batch: real images in a turn.
    """
    game, cuda = engine.game, engine.device.type == "cuda"
    base = 0 if cuda else resident() - size(lasting(engine)) + FIRST_USE
    random = engine.random()
    try:
        copied = copy.deepcopy(game)
        for name, player in game.players.items():
            movable = {id(weight) for weight in engine.weights[name]}
            for own, other in zip(player.net.parameters(), copied.players[name].net.parameters(), strict=True):
                other.requires_grad_(id(own) in movable)  # right now, only those who moved last may be
        alone = replace(engine.setup, device=str(engine.device), capture=False, compile=False, micro_batch=0)
        rehearsal = Engine(copied, alone)
        half, example = (
            Batch({name: value[:n].clone() for name, value in example.items()}) for n in (example.n // 2, example.n)
        )
        rehearse(rehearsal, half)  # whatever is made at the first turn is made
        few, many = rehearse(rehearsal, half), rehearse(rehearsal, example)
        if len(few) != len(many):  # the recipe does other things with other batches
            few, many = [max(few)], [max(many)]
        slopes = [(b - a) / (example.n - half.n) for a, b in zip(few, many, strict=True)]
        lines: list[tuple[float, float]] = []
        for slope, besides in sorted({(s, a - s * half.n) for s, a in zip(slopes, few, strict=True)}, reverse=True):
            if not lines or besides > lines[-1][1]:
                lines.append((slope, besides))
        weights = size(held(rehearsal))
        gradients = size(gradients_of(rehearsal))
        optimiser = size(remembered(rehearsal))
        image = size(rehearsal.prepare(example).values()) / example.n
    finally:
        engine.set_random(random)
    moments = _Moments(lines, image, weights + gradients + optimiser, engine.setup.micro_batch, 0.0 if cuda else HOLES - 1)
    return Footprint(batch, weights, gradients, optimiser, 0, 0, 0, base, moments).at(batch)


def rehearse(engine: Engine, example: Batch) -> list[int]:
    """Takes every turn of the game once, with those that go on with its round; the bytes that live after each operation."""
    before, batch = engine.prepare(example), engine.prepare(example)  # the loop lets the last batch go after the first turn
    units: list[list[Turn]] = []
    for turn in engine.game.turns:
        if turn.same_round:
            units[-1].append(turn)
        else:
            units.append([turn])
    with Living([*lasting(engine), *before.values(), *batch.values()]) as living:
        for unit in units:
            engine.take(unit, batch, END)
            before.clear()
    return living.notes


def held(engine: Engine) -> list[Tensor]:
    """Parameters and buffers of everything that holds state."""
    modules = engine.game.modules().values()
    return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def gradients_of(engine: Engine) -> list[Tensor]:
    """The gradients that are there now."""
    return [tensor.grad for tensor in held(engine) if tensor.grad is not None]


def remembered(engine: Engine) -> list[Tensor]:
    """What the optimisers remember."""
    states = [state for one in engine.optimisers.values() for state in one.state.values()]
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]


def lasting(engine: Engine) -> list[Tensor]:
    """The tensors that stay from turn to turn."""
    return held(engine) + gradients_of(engine) + remembered(engine)


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors, memory that they share counted once."""
    storages = {id(storage): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


def resident() -> int:
    """Bytes of memory that this process holds now; where nothing tells, the most that it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return memory("cpu")
    return pages * os.sysconf("SC_PAGE_SIZE")

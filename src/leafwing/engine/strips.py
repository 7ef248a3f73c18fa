"""Large pictures through a network in strips of rows, layer by layer, with the same result as in one pass.

Each layer looks a little further, and some need statistics of the whole map. So every layer is computed completely before the next
one, a strip of rows at a time. A strip reads exactly the rows that it depends on, so nothing is computed twice, and padding is only at
the border of the picture. The results of layers are in memory while they are small, else in temporary files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from leafwing.engine.graph import DRAW, INPUT, Node, UnknownLayerError, record, walk
from leafwing.engine.rows import HALO, LAYERS, in_rows, is_mean, needs_moments
from leafwing.engine.share import NumberedDraws
from leafwing.engine.turns import is_out_of_memory
from leafwing.errors import StorageError

Source = Callable[[int, int], Tensor]
"""Rows from a first to a last (exclusive) of an input: (1, channels, rows, width), on any device."""
STRIP_BYTES = 48 << 20
"""Bytes of the maps that one strip reads and writes, if no size of tiles is chosen."""
WHOLE_BYTES = 64 << 20
"""Bytes of the operands and the result of a layer that is computed as a whole because its rows depend on all others."""
MAPS_BYTES = 384 << 20
"""Bytes of layers' results in memory; beyond it they are stored in files."""


class Strips:
    """The plan of computing a function of pictures in strips.

    Args:
        function: from inputs (1, channels, height, width) by name to (1, channels, height, width).
        shapes: the shapes of the inputs.
        device: where to compute.

    Raises:
        UnknownLayerError: it contains a layer that cannot be computed in strips; the message names it.
    """

    def __init__(
        self, function: Callable[[dict[str, Tensor]], Tensor], shapes: Mapping[str, tuple[int, ...]], device: torch.device
    ) -> None:
        self.device = device
        self.nodes, self.output = record(function, shapes, device)
        if len(self.output.shape) != 4:
            raise UnknownLayerError("what it generates is not a picture")
        self.whole = {node for node in self.nodes if node.name not in (INPUT, DRAW) and (is_mean(node) or not in_rows(node))}
        for node in (node for node in self.nodes if node in self.whole):
            size = node.bytes if is_mean(node) else node.bytes + sum(operand.bytes for operand in node.operands)
            if size > WHOLE_BYTES:
                raise UnknownLayerError(f"its layer {node.name} needs the whole map")
        self.stored: set[Node] = set()
        repeated: dict[Node, bool] = {}
        for node in reversed(self.nodes):
            layers = [user for user in node.users if user not in self.whole or is_mean(user)]
            # Whether rows of this node would be computed several times for neighbouring strips.
            repeated[node] = any(user.name in HALO or (user not in self.stored and repeated[user]) for user in layers)
            moments = any(needs_moments(user) for user in layers)
            costly = node.name in HALO or (node.name in LAYERS and len(node.operands) > 1)
            once = not (node.name in HALO and repeated[node]) and len(node.users) < 2
            if node not in self.whole and len(node.shape) == 4 and (moments or (costly and not once)):
                self.stored.add(node)
        self.steps = [node for node in self.nodes if node in self.whole or node in self.stored or node is self.output]

    def reads(self, node: Node) -> set[Node]:
        """The stored nodes that a step reads."""
        return {other for other in walk(node, self._is_step) if other is not node and self._is_step(other)}

    def _is_step(self, node: Node) -> bool:
        return node in self.stored or node in self.whole

    def strip(self, node: Node, tile: int | None) -> int:
        """Number of rows of a strip: of as many pixels as a square tile of this side; None: of `STRIP_BYTES`."""
        height, width = node.shape[2:]
        if tile:
            return max(1, min(height, tile * tile // width))
        nodes = [other for other in walk(node, self._is_step) if len(other.shape) == 4]
        bytes_per_row = sum(other.bytes for other in nodes) / height
        return max(1, min(height, int(STRIP_BYTES / bytes_per_row)))

    def work(self, node: Node) -> int:
        """A measure of the time that a step takes: multiplications."""
        return sum(
            other.shape.numel() * (other.args[1].shape[1:].numel() if other.name == "conv2d" and len(other.args) > 1 else 8)
            for other in walk(node, self._is_step)
            if other is node or not self._is_step(other)
        )

    @torch.no_grad()
    def compute(
        self,
        sources: Mapping[str, Source],
        draws: NumberedDraws,
        *,
        tile: int | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
        on_less: Callable[[], None] = lambda: None,
    ) -> Iterator[Tensor]:
        """The result from top to bottom, in strips (1, channels, rows, width).

        Args:
            sources: the inputs by name.
            draws: the source of random numbers, of one sample.
            tile: strips have as many pixels as a square of this side; None: chosen by memory.
            report: progress: what is done, and in total.
            on_less: called when a strip is halved, because there was not enough memory for it.

        Raises:
            StorageError: temporary files cannot be written.
        """
        with Storage() as storage:
            yield from Evaluation(self, sources, draws, storage, tile, report, on_less).run()


class Evaluation:
    """One computation of a plan; see `Strips.compute`. It is the `Reader` of the layers."""

    def __init__(
        self,
        plan: Strips,
        sources: Mapping[str, Source],
        draws: NumberedDraws,
        storage: Storage,
        tile: int | None,
        report: Callable[[int, int], None],
        on_less: Callable[[], None],
    ) -> None:
        self.plan, self.sources, self.draws, self.storage = plan, sources, draws, storage
        self.tile, self.report, self.on_less = tile, report, on_less
        self.maps: dict[Node, Map] = {}
        self.values: dict[Node, Tensor] = {}
        self.sums: dict[Node, tuple[Tensor, Tensor]] = {}
        self.positions: dict[Node, int] = {}
        self.share = 1.0  # of a strip, after memory was not enough
        self.total, self.done = sum(plan.work(step) for step in plan.steps), 0

    def run(self) -> Iterator[Tensor]:
        """The strips of the result."""
        plan = self.plan
        self._draw()
        reads = {step: plan.reads(step) for step in plan.steps}
        remaining = {node: sum(node in others for others in reads.values()) for node in plan.steps}
        for step in plan.steps:
            if step in plan.whole:
                self.values[step] = self._whole(step)
            else:
                stored = step in plan.stored
                if stored:
                    self.maps[step] = self.storage.new(step.shape, step.dtype)
                for strip in self._strips(step):
                    if stored:
                        self.maps[step].append(strip)
                    if step is plan.output:
                        yield strip
                if stored:
                    self.maps[step].close_writing()
            self.done += plan.work(step)
            self.report(self.done, self.total)
            for node in reads[step]:
                remaining[node] -= 1
                if not remaining[node]:
                    self.values.pop(node, None)
                    if node in self.maps:
                        self.maps.pop(node).free()
        if plan.output in self.values:
            yield self.values[plan.output]

    def _strips(self, step: Node) -> Iterator[Tensor]:
        """The rows of a step in strips; adds up its moments, if they are needed."""
        start, height, base = 0, step.shape[2], self.done
        moments = any(needs_moments(user) for user in step.users)
        sums = torch.zeros(2, step.shape[1], dtype=torch.float64) if moments else None
        work = self.plan.work(step)
        while start < height:
            count = max(1, round(self.share * self.plan.strip(step, self.tile)))
            try:
                strip = self._compute(step, start, min(start + count, height))
            except Exception as error:
                if not is_out_of_memory(error) or count == 1:
                    raise
                self.share /= 2
                if self.plan.device.type == "cuda":
                    torch.cuda.empty_cache()
                self.on_less()
                continue
            if sums is not None:
                for part in strip.split(max(1, (4 << 20) // (8 * strip.shape[1] * strip.shape[3])), 2):
                    values = in_double(part)
                    sums += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]).cpu()
            yield strip
            start += strip.shape[2]
            self.done = base + work * start // height
            self.report(self.done, self.total)
        self.done = base
        if sums is not None:
            mean, square = sums / (height * step.shape[3])
            self.sums[step] = mean, (square - mean.square()).clamp_min(0)

    def _draw(self) -> None:
        """Draws the random numbers in the order of the pass; large maps are drawn when their rows are needed."""
        for node in self.plan.nodes:
            if node.name == DRAW:
                if self.draws.is_large(tuple(node.shape)):
                    self.positions[node] = self.draws.skip()
                else:
                    with self.draws:
                        self.values[node] = node.function(*node.args, **node.kwargs)

    def _whole(self, node: Node) -> Tensor:
        if is_mean(node):
            mean = self.moments(node.operands[0])[0].to(self.plan.device, node.dtype)
            return mean.view(node.shape)
        args, kwargs = tree_map(lambda leaf: self.value(leaf) if isinstance(leaf, Node) else leaf, (node.args, node.kwargs))
        if node.in_place:
            args = (args[0].clone(), *args[1:])
        return node.function(*args, **kwargs)

    def value(self, node: Node) -> Tensor:
        """The whole result of a node."""
        return self.values[node] if node in self.values else self.rows(node, 0, node.shape[2])

    def moments(self, node: Node) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel of the whole result of a node, float64 (channels,), on the CPU."""
        if node not in self.sums:  # of a map that is computed as a whole
            values = in_double(self.value(node))
            self.sums[node] = values.mean((0, 2, 3)).cpu(), values.var((0, 2, 3), correction=0).cpu()
        return self.sums[node]

    def rows(self, node: Node, start: int, stop: int) -> Tensor:
        """Rows of the result of a node: (1, channels, stop - start, width)."""
        if node in self.values:
            return self.values[node][:, :, start:stop]
        if node in self.maps and self.maps[node].complete:
            return self.maps[node].read(start, stop).to(self.plan.device)
        return self._compute(node, start, stop)

    def _compute(self, node: Node, start: int, stop: int) -> Tensor:
        if node.name == INPUT:
            return self.sources[node.args[0]](start, stop).to(self.plan.device)
        if node in self.positions:
            return self.draws.rows_of(self.positions[node], node.function, node.args, node.kwargs, start, stop)
        return LAYERS[node.name](self, node, start, stop)


def in_double(values: Tensor) -> Tensor:
    """Values as float64; on the CPU if their device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


class Map:
    """The result of a layer, (1, channels, height, width), appended and read in rows."""

    complete = False

    def append(self, strip: Tensor) -> None:
        """Stores the next rows."""
        raise NotImplementedError

    def read(self, start: int, stop: int) -> Tensor:
        """Rows."""
        raise NotImplementedError

    def close_writing(self) -> None:
        """All rows are stored."""
        self.complete = True

    def free(self) -> None:
        """It is not read any more."""


class MemoryMap(Map):
    """A map in memory.

    Args:
        storage: whose memory it takes.
        shape, dtype: its format.
    """

    def __init__(self, storage: Storage, shape: torch.Size, dtype: torch.dtype) -> None:
        self.storage, self.row = storage, 0
        self.values = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)

    def append(self, strip: Tensor) -> None:
        self.values[:, :, self.row : self.row + strip.shape[2]] = strip
        self.row += strip.shape[2]

    def read(self, start: int, stop: int) -> Tensor:
        return self.values[:, :, start:stop]

    def free(self) -> None:
        self.storage.memory += self.values.nbytes


class FileMap(Map):
    """A map in a temporary file, which has no name and vanishes with the process: rows of pixels of channels, as in `channels_last`.

    Args:
        shape, dtype: its format.
    """

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        self.dtype = dtype
        _, self.channels, _, self.width = shape
        with storing():
            self.file: Any = tempfile.TemporaryFile(buffering=0)

    def append(self, strip: Tensor) -> None:
        rows = strip.permute(0, 2, 3, 1).contiguous().cpu().view(torch.uint8).numpy()
        content = memoryview(rows.reshape(-1).data)
        with storing():
            while len(content):
                content = content[self.file.write(content) :]

    def read(self, start: int, stop: int) -> Tensor:
        rows = torch.empty(1, stop - start, self.width, self.channels, dtype=self.dtype)
        content = memoryview(rows.view(torch.uint8).numpy().reshape(-1).data)
        with storing():
            self.file.seek(start * self.width * self.channels * self.dtype.itemsize)
            while len(content):
                count = self.file.readinto(content)
                if not count:
                    raise OSError("file is shorter than what was written")
                content = content[count:]
        return rows.permute(0, 3, 1, 2)

    def free(self) -> None:
        self.file.close()


class Storage:
    """Where maps are stored: in `MAPS_BYTES` of memory, then in temporary files."""

    def __init__(self) -> None:
        self.memory = MAPS_BYTES
        self.files: list[FileMap] = []

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files:
            file.free()

    def new(self, shape: torch.Size, dtype: torch.dtype) -> Map:
        """An empty map."""
        size = shape.numel() * dtype.itemsize
        if size <= self.memory:
            self.memory -= size
            return MemoryMap(self, shape, dtype)
        self.files.append(FileMap(shape, dtype))
        return self.files[-1]


@contextmanager
def storing() -> Iterator[None]:
    """Converts an OSError into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"temporary files in {tempfile.gettempdir()}: {error.strerror or error}. Large pictures need disk space there: free some, "
            f"or set the environment variable {'TEMP' if os.name == 'nt' else 'TMPDIR'} to a folder on another disk"
        ) from error

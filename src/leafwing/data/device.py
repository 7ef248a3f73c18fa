"""Transfer of batches to a device: gathered from resident samples, or prefetched and copied; on a CPU read on demand.

Every method yields the samples of `Dataset.batch`, bit for bit. The order of an epoch is always computed on the host, because
devices have different random generators. Nothing synchronises with the device, so that the host can run ahead of it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from leafwing.data.seeds import stream_seed
from leafwing.game import Batch, BatchSource

if TYPE_CHECKING:
    from leafwing.data.dataset import Dataset

MAX_SHARE = 0.25
"""Maximum share of a device's free memory for resident samples. The free memory is measured before networks, optimisers and
activations are allocated, and these usually need more memory than the samples."""

CHUNK_BYTES = 64 << 20
"""Bytes of samples per upload; this limits the host memory used."""


def batches(
    data: Dataset,
    seed: int,
    device: str | torch.device,
    resident: bool | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> BatchSource:
    """The stream of a seed on a device, in the format of networks; see `Dataset.batches`."""
    stored = stored_batches(data, seed, torch.device(device), resident, rank, world_size)
    return lambda images, n: data.to_network(stored(images, n))


def stored_batches(
    data: Dataset, seed: int, device: torch.device, resident: bool | None = None, rank: int = 0, world_size: int = 1
) -> BatchSource:
    """The same in the format in which data sets store samples, which needs a quarter of the memory and transfers."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank={rank}, world_size={world_size}: the rank must be from 0 to world_size - 1")
    if seed < 0:
        raise ValueError(f"seed={seed}: may not be negative")
    if resident is None:
        everything = (data, *(stream.data for stream in data.streams.values()))
        arrays = {id(column): column.nbytes for part in everything for column in part.stored_columns().values()}
        resident = device.type != "cpu" and sum(arrays.values()) <= MAX_SHARE * free_memory(device)
    pinned = device.type == "cuda" and not resident
    read = ResidentBatches(data, seed, device) if resident else partial(data.batch, seed, pinned=pinned)

    def read_share(images: int, n: int) -> Batch:
        first, end = rank * n // world_size, (rank + 1) * n // world_size
        return read(images + first, end - first)

    stream = read_share if world_size > 1 else read
    return stream if resident or device.type == "cpu" else BatchPrefetcher(stream, device)


def free_memory(device: torch.device) -> int:
    """Free bytes of a CUDA device; 0 for others, because Apple's GPUs share the memory of the host: resident samples gain nothing."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


class ResidentBatches:
    """All samples on a device, in their packed form; batches are gathered, cropped and mirrored there.

    Args:
        data: uploaded on construction, in chunks.
        seed: selects the stream.
        device: any; a CPU gets a copy.
        uploaded: tensors already on the device, by the id of their source array: streams of the same samples share them.
    """

    def __init__(self, data: Dataset, seed: int, device: torch.device, uploaded: dict[int, Tensor] | None = None) -> None:
        self.data, self.seed, self.device = data, seed, device
        uploaded = {} if uploaded is None else uploaded

        columns = data.stored_columns()
        for column in columns.values():
            if id(column) not in uploaded:
                uploaded[id(column)] = upload(column, device)
        self.columns = {name: uploaded[id(column)] for name, column in columns.items()}
        self.words = {name for name, column in columns.items() if column.dtype == np.uint16}
        self.streams = {
            name: ResidentBatches(stream.data, stream_seed(seed, name), device, uploaded)
            for name, stream in data.streams.items()
        }
        self.epochs: dict[int, tuple[Tensor, ...]] = {}

    def __call__(self, images: int, n: int) -> Batch:
        """The samples at positions `images` to `images + n - 1`; waits only for the order of a new epoch."""
        parts = [self._part(number, part) for number, part in self.data.epoch_slices(images, n)]
        order, flips, random, offsets = (concatenated(part) for part in zip(*parts, strict=True))
        window = self.data.window(offsets)
        batch = Batch()
        for name, column in self.columns.items():
            field, stored = self.data.spec.fields[name], column.index_select(0, order)
            if window is not None:
                stored = field.crop(stored, window)
            if self.data.mirror:
                # Indexing with a mask would synchronise with the device.
                mirrored = field.mirror(stored)
                stored = torch.where(flips.view(-1, *[1] * (stored.dim() - 1)), mirrored, stored)
            stored = field.choose(stored, random)
            batch[name] = stored.view(torch.uint16) if name in self.words else stored
        for name, other in self.streams.items():
            names = self.data.streams[name].names
            batch |= {names[key]: value for key, value in other(images, n).items()}
        return Batch(batch)

    def _part(self, number: int, part: slice) -> tuple[Tensor, ...]:
        """A slice of an epoch, on the device: its order, int64, which positions are flipped, bool, the random numbers, int64, and the
        offsets of windows, int64 (n, 2).

        The last two epochs are cached: a batch may cross the boundary, and a resumed run looks back once.
        """
        if number not in self.epochs:
            arrays = self.data.epoch_parts(self.seed, number)
            tensors = tuple(self._copy(np.empty(0, bool) if array is None else array) for array in arrays)
            self.epochs = {**dict(list(self.epochs.items())[-1:]), number: tensors}
        return tuple(tensor[part] for tensor in self.epochs[number])

    def _copy(self, values: np.ndarray) -> Tensor:
        tensor = torch.tensor(values)  # a copy: the cached original must not be changed
        return (tensor.pin_memory() if self.device.type == "cuda" else tensor).to(self.device, non_blocking=True)


class BatchPrefetcher:
    """A stream whose next batch is prefetched by a thread while the current one is in use.

    The next batch is expected to follow the current one and to have the same size. Any other batch is read on demand: slower, with
    the same result. On CUDA the samples must be pinned; they are copied on a separate CUDA stream. Errors in the thread are raised by
    the next call. The thread ends with this object, and with the process.

    Args:
        read: (images, n) -> a batch on the CPU; called from the thread.
        device: device of the batches.
    """

    def __init__(self, read: BatchSource, device: torch.device) -> None:
        self.read, self.device = read, device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.thread = ThreadPoolExecutor(1, "leafwing-batches")
        self.expected: tuple[int, int] | None = None
        self.pending: Future[tuple[Batch, torch.cuda.Event | None]] | None = None

    def __call__(self, images: int, n: int) -> Batch:
        """The samples at positions `images` to `images + n - 1`, on the device; waits until they are read, not for the device."""
        pending, self.pending = self.pending, None
        prefetched = pending.result() if pending else None
        batch, copied = prefetched if prefetched and self.expected == (images, n) else self._fetch(images, n)
        self.expected = (images + n, n)
        self.pending = self.thread.submit(self._fetch, *self.expected)
        if copied is None:
            return Batch({name: value.to(self.device) for name, value in batch.items()})
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        for value in batch.values():
            value.record_stream(current)  # otherwise the next copy could reuse the memory too early
        return batch

    def _fetch(self, images: int, n: int) -> tuple[Batch, torch.cuda.Event | None]:
        """A batch, and the CUDA event of its copy to the device; without CUDA the batch is on the CPU, and the event is None."""
        if self.stream is None:
            return self.read(images, n), None
        with torch.cuda.stream(self.stream):
            batch = self.read(images, n)
            copy = Batch({name: value.to(self.device, non_blocking=True) for name, value in batch.items()})
            return copy, self.stream.record_event()


def concatenated(parts: tuple[Tensor, ...]) -> Tensor:
    """Concatenates; a single part is returned unchanged."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """Copies an array to a device through one staging buffer on the host; uint16 as int16 with the same bits, which torch indexes."""
    array = array.view(np.int16) if array.dtype == np.uint16 else array
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    tensor = torch.empty(array.shape, dtype=dtype, device=device)
    step = max(1, CHUNK_BYTES * len(array) // max(1, array.nbytes))
    buffer = torch.empty((min(step, len(array)), *array.shape[1:]), dtype=dtype, pin_memory=device.type == "cuda")
    for start in range(0, len(array), step):
        rows = array[start : start + step]
        np.copyto(buffer.numpy()[: len(rows)], rows)
        tensor[start : start + len(rows)].copy_(buffer[: len(rows)])  # synchronises, so that the buffer can be reused
    return tensor

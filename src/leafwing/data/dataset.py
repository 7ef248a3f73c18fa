"""Batches: a data set as an infinite stream in which every sample is a function of the seed and its position.

A run that is stopped and resumed, or that uses other batch sizes, therefore sees the same images. `pack` and `built_in` provide the
images, `device` moves them to a device; torch is imported only by the first batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from leafwing.data.seeds import stream_seed
from leafwing.data.sources import RejectedFile
from leafwing.errors import LeafwingError
from leafwing.game import Batch, DataSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ORDER, _MIRROR = 0, 1


@dataclass(eq=False)
class Dataset:
    """Samples of one shape, in memory or mapped from a pack.

    Args:
        spec: shape and class names.
        array: (n, height, width, channels) uint8, or (n, 2) float32 for points; never written to.
        labels: (n,) int64 class indices, or None.
        fingerprint: a hash of the content and of the options that determine the pixels; mirroring is not part of it.
        source: a built-in name or an absolute path.
        options: plain JSON such that `load(source, **options)` returns the same data set.
        rejects: the rejected files, with reasons.
        notes: messages for the user about how the source was read.
        rows: int64 (m,), indices of the samples in `array` that belong to this data set, without repetition; None for all.
        attributes: (n, attributes) uint8, binary, or None.
        streams: additional data streams in every batch, by name; see `with_stream`.
    """

    spec: DataSpec
    array: np.ndarray
    labels: np.ndarray | None
    fingerprint: str
    source: str
    options: dict[str, Any]
    rejects: list[RejectedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: np.ndarray | None = None
    attributes: np.ndarray | None = None
    streams: Mapping[str, Dataset] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.array if self.rows is None else self.rows)

    def __repr__(self) -> str:
        return f"Dataset({self.source!r}, {len(self)} samples of {self.spec.shape}, {len(self.spec.labels)} classes)"

    def batch(self, seed: int, images: int, n: int, *, pinned: bool = False) -> Batch:
        """The samples at stream positions `images` to `images + n - 1`.

        A pure function of its arguments: batches of any size are slices of the same stream. Every epoch (`len(self)` positions)
        contains each sample once, in a new order. With mirroring, half of the positions are flipped left to right.

        Args:
            seed: selects the stream; 0 or more.
            images: the first position, i.e. the number of samples shown before.
            n: number of samples; may exceed the data set.
            pinned: use page-locked memory, from which CUDA copies asynchronously.

        Returns:
            `image`: uint8 (n, channels, height, width) in channels_last order, or float32 (n, 2) for points; `label`: int64
            (n,) if there are labels; `attributes`: float32 (n, attributes), binary, if there are any. Then the fields of
            the additional streams, n samples of each, named `name_image` and so on. On the CPU.

        Raises:
            ValueError: a negative seed, position or count.
        """
        import torch

        orders, flips = zip(*(self.epoch(seed, number, part) for number, part in self.epoch_slices(images, n)), strict=True)
        indices = np.concatenate(orders)
        dtype = torch.float32 if self.spec.points else torch.uint8
        image = torch.empty((n, *self.array.shape[1:]), dtype=dtype, pin_memory=pinned)
        array = image.numpy()
        np.take(self.array, indices, axis=0, out=array, mode="clip")  # any other mode copies through a buffer
        if self.mirror:
            mirrored = np.concatenate(flips)
            array[mirrored] = array[mirrored, :, ::-1]
        label = attributes = None
        if self.labels is not None:
            label = torch.from_numpy(np.take(self.labels, indices))
            label = label.pin_memory() if pinned else label
        if self.attributes is not None:
            attributes = torch.from_numpy(np.take(self.attributes, indices, axis=0)).float()
            attributes = attributes.pin_memory() if pinned else attributes
        streams = {
            name: other.batch(stream_seed(seed, name), images, n, pinned=pinned) for name, other in self.streams.items()
        }
        return self.assemble(image, label, attributes, streams)

    def assemble(
        self, image: Tensor, label: Tensor | None, attributes: Tensor | None, streams: Mapping[str, Batch]
    ) -> Batch:
        """The fields of a batch; see `batch`.

        Args:
            image: samples as stored in `array`: (n, height, width, channels), or (n, 2) for points.
            label: (n,), or None.
            attributes: (n, attributes), or None.
            streams: a batch of each additional stream, by name.
        """
        fields = {"image": image if self.spec.points else image.permute(0, 3, 1, 2)}
        if label is not None:
            fields["label"] = label
        if attributes is not None:
            fields["attributes"] = attributes
        for name, batch in streams.items():
            fields |= {f"{name}_{key}": value for key, value in batch.items()}
        return Batch(fields)

    def batches(
        self,
        seed: int,
        device: str | torch.device = "cpu",
        *,
        resident: bool | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Callable[[int, int], Batch]:
        """The stream of a seed as a function `(images, n) -> Batch` with batches on a device.

        The samples are those of `batch` on every device, with every transfer method and any number of processes.

        Args:
            seed: selects the stream; 0 or more.
            device: device of the batches.
            resident: keep all samples on the device and gather batches there. None: on CUDA, if they take at most
                `device.MAX_SHARE` of the free memory. Otherwise the next batch is prefetched while the current one is in use; on a
                CPU batches are read on demand.
            rank: index of this process. Of every batch of n it gets only positions `images + rank * n // world_size` up to
                `images + (rank + 1) * n // world_size`.
            world_size: number of processes.

        Returns:
            A pure function; all fields of `batch`, on the device. Call it from one thread only.

        Raises:
            ValueError: a negative seed, or a rank that is not from 0 to world_size - 1.
        """
        from leafwing.data import device as devices

        return devices.batches(self, seed, device, resident, rank, world_size)

    @property
    def mirror(self) -> bool:
        """Whether half of the positions are mirrored."""
        return bool(self.options.get("mirror"))

    def epoch_slices(self, images: int, n: int) -> Iterator[tuple[int, slice]]:
        """Splits stream positions `images` to `images + n - 1` at the ends of epochs.

        Yields:
            The number of each epoch, and a slice of its positions; for n = 0 a single empty slice.

        Raises:
            ValueError: a negative position or count.
        """
        if min(images, n) < 0:
            raise ValueError(f"images={images}, n={n}: neither may be negative")
        size, end = len(self), images + n
        while True:
            number, start = divmod(images, size)
            stop = min(size, start + end - images)
            yield number, slice(start, stop)
            images += stop - start
            if images >= end:
                return

    def epoch(self, seed: int, number: int, part: slice = slice(None)) -> tuple[np.ndarray, np.ndarray | None]:
        """A slice of an epoch: for each position its index in `array`, int64, and whether it is flipped (None without mirroring).

        Raises:
            ValueError: a negative seed.
        """
        if seed < 0:
            raise ValueError(f"seed={seed}: may not be negative")
        order = self.to_rows(_order(seed, number, len(self))[part])
        return order, _flips(seed, number, len(self))[part] if self.mirror else None

    def pictures(self, indices: Any) -> np.ndarray:
        """Copies samples, never mirrored.

        Args:
            indices: integers (n,), each below `len(self)`.

        Returns:
            uint8 (n, height, width, channels), or float32 (n, 2) for points.
        """
        return np.take(self.array, self.to_rows(np.asarray(indices, dtype=np.int64)), axis=0)

    def combinations(self, limit: int = 512) -> list[str]:
        """Attributes of the first samples of seed 0, `0110` each, or `3:0110` with the class index; empty without attributes."""
        if self.attributes is None:
            return []
        order, _ = self.epoch(0, 0, slice(0, limit))
        rows = ["".join(map(str, row)) for row in self.attributes[order].tolist()]
        return (
            rows if self.labels is None else [f"{label}:{row}" for label, row in zip(self.labels[order], rows, strict=True)]
        )

    def split(self, number: int) -> tuple[Dataset, Dataset]:
        """Splits off at least `number` held-out samples, the same in every run; see `data.split`.

        Returns:
            The training part and the held-out part. Both share this data set's arrays and fingerprint.

        Raises:
            LeafwingError: the training part would be empty.
        """
        from leafwing.data import split

        samples = self.array if self.rows is None else self.array[self.rows]
        held_out = split.held_out(samples, split.hold_out_count(number, len(self)))
        if held_out.all():
            raise LeafwingError(
                f"{self.source}: --hold-out {number} would hold out all images, because too many are identical"
            )
        training, evaluation = (replace(self, rows=self.to_rows(np.flatnonzero(mask))) for mask in (~held_out, held_out))
        return training if number else self, evaluation

    def with_labelled_stream(self, number: int, seed: int = 0) -> Dataset:
        """Adds a stream `labelled` of `number` of its samples, equally many of each class, for semi-supervised methods.

        Batches then also have `labelled_image`, `labelled_label` and so on. The samples are chosen by a hash of their content and
        the seed, so the choice is the same in every run.

        Raises:
            LeafwingError: there are no labels, the number is not divisible by the number of classes, or a class has too few samples.
        """
        from leafwing.data import split

        if self.labels is None:
            raise LeafwingError(
                f"--labelled {number}: {self.source} has no labels: put the images into one sub-folder per class or add a labels.csv"
            )
        rows = slice(None) if self.rows is None else self.rows
        indices = split.choose_per_class(self.array[rows], self.labels[rows], self.spec.labels, number, seed)
        return self.with_stream("labelled", replace(self, rows=self.to_rows(indices), streams={}))

    def with_stream(self, name: str, other: Dataset) -> Dataset:
        """Adds another data set as a stream: a batch of n has n samples of both, those of the other as `name_image` and so on.

        The samples are not paired: the other stream has its own epochs, order and flips.
        """
        fields = (*self.spec.fields, *(f"{name}_{field}" for field in other.spec.fields))
        return replace(self, spec=replace(self.spec, fields=fields), streams={**self.streams, name: other})

    def to_rows(self, indices: np.ndarray) -> np.ndarray:
        """Converts indices in this data set (0 to n - 1) to indices in `array`."""
        return indices if self.rows is None else self.rows[indices]


def _bits(seed: int, epoch: int, purpose: int, n: int) -> np.ndarray:
    """n random words of 64 bits. numpy guarantees the raw stream of Philox across versions, but not that of `permutation`."""
    words = np.random.Philox(np.random.SeedSequence((seed, epoch, purpose))).random_raw(n)
    return np.asarray(words, dtype=np.uint64)


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation of one epoch; the last few are cached."""
    return np.argsort(_bits(seed, epoch, _ORDER, n), kind="stable")


@lru_cache(maxsize=8)
def _flips(seed: int, epoch: int, n: int) -> np.ndarray:
    """Which positions of one epoch are mirrored."""
    return _bits(seed, epoch, _MIRROR, n) >= np.uint64(1 << 63)

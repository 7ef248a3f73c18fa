"""Batches: a data set as an infinite stream in which every sample is a function of the seed and its position.

A run that is stopped and resumed, or that uses other batch sizes, therefore sees the same images. `pack` and `worlds` provide the
images, `device` moves them to a device; torch is imported only by the first batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from leafwing.data.seeds import stream_seed
from leafwing.data.sources import Reject
from leafwing.errors import LeafwingError
from leafwing.game import Batch, DataSpec

if TYPE_CHECKING:
    import torch

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
        rejects: files that are not used, with reasons.
        notes: messages for the user about how the source was read.
        rows: int64 (m,), the subset of `array` that this data set contains, without repetition; None for all.
        attributes: (n, attributes) uint8, binary, or None.
        beside: further data streams in every batch, by name; see `with_stream`.
    """

    spec: DataSpec
    array: np.ndarray
    labels: np.ndarray | None
    fingerprint: str
    source: str
    options: dict[str, Any]
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: np.ndarray | None = None
    attributes: np.ndarray | None = None
    beside: Mapping[str, Dataset] = field(default_factory=dict)

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
            the further streams, n samples of each, named `name_image` and so on. On the CPU.

        Raises:
            ValueError: a negative seed, position or count.
        """
        import torch

        orders, flips = zip(*(self.epoch(seed, number, part) for number, part in self.parts(images, n)), strict=True)
        indices = np.concatenate(orders)
        kind = torch.float32 if self.spec.points else torch.uint8
        image = torch.empty((n, *self.array.shape[1:]), dtype=kind, pin_memory=pinned)
        rows = image.numpy()
        np.take(self.array, indices, axis=0, out=rows, mode="clip")  # any other mode copies through a buffer
        if self.mirror:
            mirrored = np.concatenate(flips)
            rows[mirrored] = rows[mirrored, :, ::-1]
        fields = {"image": image if self.spec.points else image.permute(0, 3, 1, 2)}
        if self.labels is not None:
            label = torch.from_numpy(np.take(self.labels, indices))
            fields["label"] = label.pin_memory() if pinned else label
        if self.attributes is not None:
            attributes = torch.from_numpy(np.take(self.attributes, indices, axis=0)).float()
            fields["attributes"] = attributes.pin_memory() if pinned else attributes
        for name, other in self.beside.items():
            held = other.batch(stream_seed(seed, name), images, n, pinned=pinned)
            fields |= {f"{name}_{key}": value for key, value in held.items()}
        return Batch(fields)

    def batches(
        self,
        seed: int,
        device: str | torch.device = "cpu",
        *,
        resident: bool | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> Callable[[int, int], Batch]:
        """The stream of a seed as a function `(images, n) -> Batch` with batches on a device.

        Every device, transfer method and number of processes yields the same samples: those of `batch`.

        Args:
            seed: selects the stream; 0 or more.
            device: device of the batches.
            resident: keep all samples on the device and gather batches there. None: on CUDA, if they take at most
                `device.SHARE` of the free memory. Otherwise the next batch is prefetched while the current one is in use; on a
                CPU batches are read on demand.
            share: (rank, processes). Of every batch of n, process `rank` gets only positions `images + rank * n // processes` up
                to `images + (rank + 1) * n // processes`.

        Returns:
            A pure function; all fields of `batch`, on the device. Call it from one thread only.

        Raises:
            ValueError: a negative seed, or a rank that is not among the processes.
        """
        from leafwing.data import device as ways

        return ways.batches(self, seed, device, resident, share)

    @property
    def mirror(self) -> bool:
        """Whether half of the positions are mirrored."""
        return bool(self.options.get("mirror"))

    def parts(self, images: int, n: int) -> Iterator[tuple[int, slice]]:
        """The epochs, and slices of them, that make up stream positions `images` to `images + n - 1`: at least one, empty for n = 0.

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
        order = self.places(_order(seed, number, len(self))[part])
        return order, _flips(seed, number, len(self))[part] if self.mirror else None

    def pictures(self, indices: Any) -> np.ndarray:
        """A copy of some samples, never mirrored.

        Args:
            indices: integers (n,).

        Returns:
            uint8 (n, height, width, channels), or float32 (n, 2) for points.
        """
        return np.take(self.array, self.places(np.asarray(indices, dtype=np.int64)), axis=0)

    def combinations(self, most: int = 512) -> list[str]:
        """Attribute combinations of real samples: `0110` each, or `3:0110` with the class; of the first samples of seed 0.

        Empty without attributes.
        """
        if self.attributes is None:
            return []
        order, _ = self.epoch(0, 0, slice(0, most))
        said = ["".join(map(str, own)) for own in self.attributes[order].tolist()]
        return (
            said if self.labels is None else [f"{label}:{own}" for label, own in zip(self.labels[order], said, strict=True)]
        )

    def split(self, number: int) -> tuple[Dataset, Dataset]:
        """The training part, and at least `number` held-out samples: the same in every run; see `split`.

        Both share this data set's samples and fingerprint.

        Raises:
            LeafwingError: the training part would be empty.
        """
        from leafwing.data import split

        out = split.held(self.array if self.rows is None else self.array[self.rows], split.asked(number, len(self)))
        if out.all():
            raise LeafwingError(
                f"{self.source}: holding out {number} samples leaves none to train on, because they are identical"
            )
        kept, away = (self.places(np.flatnonzero(part)) for part in (~out, out))
        return (replace(self, rows=kept) if number else self), replace(self, rows=away)

    def label_some(self, number: int, seed: int = 0) -> Dataset:
        """This data set with a second stream `labelled` of `number` of its samples, equally many of each class.

        Its batches also hold `labelled_image`, `labelled_label` and so on: for semi-supervised methods.
        The samples are chosen by the hash of their content and the seed, so the choice is the same in every run.

        Raises:
            LeafwingError: there are no labels, the number is not divisible by the number of classes, or a class has too few samples.
        """
        from leafwing.data import split

        if self.labels is None:
            raise LeafwingError(
                f"labelled {number}: {self.source} has no labels: put the images into one sub-folder per class or add a labels.csv"
            )
        own = slice(None) if self.rows is None else self.rows
        chosen = split.of_each_class(self.array[own], self.labels[own], self.spec.labels, number, seed)
        return self.with_stream("labelled", replace(self, rows=self.places(chosen), beside={}))

    def with_stream(self, name: str, other: Dataset) -> Dataset:
        """This data set with another as a second stream: a batch of n holds n samples of both, the other's as `name_image` and so on.

        Both start at the same position, but the other has its own epochs, order and flips: they are not paired.
        """
        fields = (*self.spec.fields, *(f"{name}_{one}" for one in other.spec.fields))
        return replace(self, spec=replace(self.spec, fields=fields), beside={**self.beside, name: other})

    def places(self, indices: np.ndarray) -> np.ndarray:
        """Indices in `array` of samples of this data set."""
        return indices if self.rows is None else self.rows[indices]


def _bits(seed: int, epoch: int, purpose: int, n: int) -> np.ndarray:
    """n random words of 64 bits. numpy guarantees the raw stream of Philox across versions, but not that of `permutation`."""
    found = np.random.Philox(np.random.SeedSequence((seed, epoch, purpose))).random_raw(n)
    return np.asarray(found, dtype=np.uint64)


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation of one epoch; the last few are cached."""
    return np.argsort(_bits(seed, epoch, _ORDER, n), kind="stable")


@lru_cache(maxsize=8)
def _flips(seed: int, epoch: int, n: int) -> np.ndarray:
    """Which positions of one epoch are mirrored."""
    return _bits(seed, epoch, _MIRROR, n) >= np.uint64(1 << 63)

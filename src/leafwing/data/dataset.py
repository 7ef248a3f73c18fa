"""Batches: a data set as an infinite stream in which every sample is a function of the seed and its position.

A run that is stopped and resumed, or that uses other batch sizes, therefore sees the same images. `pack` and `built_in` provide the
images, `device` moves them to a device; torch is imported only by the first batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from leafwing.data.seeds import stream_seed
from leafwing.data.sources import RejectedFile
from leafwing.data.windows import Windows, centre_column, find_windows, window_field
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.fields import Caption
from leafwing.game import Batch, DataSpec
from leafwing.pixels import Window, eight_bits

if TYPE_CHECKING:
    import torch

_ORDER, _MIRROR, _ALTERNATIVE, _WINDOW = 0, 1, 2, 3
_REMAINING: dict[str, np.ndarray] = {}
"""The indices of the samples that `distinct` leaves, by the fingerprint of whole data sets: a training asks several times."""
_HELD_OUT: dict[tuple[str, int, int, str | None], np.ndarray] = {}
"""The masks of held-out samples by fingerprint, the hash of `rows`, number, and the field of samples that belong together, for the
same reason."""
_HASHES: dict[tuple[str, int], np.ndarray] = {}
"""The hashes of the inputs, by fingerprint and the hash of `rows`, likewise."""


@dataclass(frozen=True)
class Stream:
    """A further stream of samples in every batch, with an order of its own.

    Args:
        data: its samples.
        names: the name in a batch of each of its fields, `{"image": "labelled_image"}`.
    """

    data: Dataset
    names: Mapping[str, str]


@dataclass(eq=False)
class Dataset:
    """Samples with the same fields, in memory or mapped from a pack.

    Args:
        spec: the fields of a batch, including those of the streams.
        columns: the stored samples of each field by name, (n, ...), in the format that `leafwing.fields` describes; never written to.
        fingerprint: a hash of the content and of the options that determine the pixels; mirroring is not part of it.
        source: a built-in name or an absolute path; of joined sources all of them, in words.
        options: plain JSON such that `load(source, **options)` returns the same data set.
        rejects: the rejected files, with reasons.
        notes: messages for the user about how the source was read.
        rows: int64 (m,), indices of the samples in `columns` that belong to this data set, without repetition; None for all.
        streams: additional data streams in every batch, by name; see `with_stream`.
        parts: the fingerprints of its two sources by field, if it has a second source; and `input_labels`, the option `labels` with
            which that was read, if any.
        windows: what batches see random windows of, with `--crop-from`; `columns` are then the centres. None: batches see `columns`.
        pictures_of: int64 (n,), the number of the picture that each of the stored samples is a tile of; None: each is a whole one.
        sources: the absolute paths of joined sources, by the names that they are read under; empty for one source.
    """

    spec: DataSpec
    columns: Mapping[str, np.ndarray]
    fingerprint: str
    source: str
    options: dict[str, Any]
    rejects: list[RejectedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: np.ndarray | None = None
    streams: Mapping[str, Stream] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    windows: Windows | None = None
    pictures_of: np.ndarray | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str | Mapping[str, str]:
        """Its source, as `load` takes it."""
        return self.sources or self.source

    @property
    def array(self) -> np.ndarray:
        """The stored images, uint8 (n, height, width, channels), or points, float32 (n, 2)."""
        return self.columns["image"]

    @property
    def labels(self) -> np.ndarray | None:
        """The class indices of all stored samples, int64 (n,); None without labels."""
        return self.columns.get("label")

    @property
    def attributes(self) -> np.ndarray | None:
        """The attributes of all stored samples, uint8 (n, attributes); None without attributes."""
        return self.columns.get("attributes")

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.array if self.rows is None else self.rows)

    def __repr__(self) -> str:
        return f"Dataset({self.source!r}, {len(self)} samples of {self.spec.shape}, {len(self.spec.labels)} classes)"

    def batch(self, seed: int, images: int, n: int, *, pinned: bool = False) -> Batch:
        """The samples at stream positions `images` to `images + n - 1`.

        A pure function of its arguments: batches of any size are slices of the same stream. Every epoch (`len(self)` positions)
        contains each sample once, in a new order. With `windows` each position sees a random one of them, and with mirroring half
        of the positions are flipped left to right.

        Args:
            seed: selects the stream; 0 or more.
            images: the first position, i.e. the number of samples shown before.
            n: number of samples; may exceed the data set.
            pinned: use page-locked memory, from which CUDA copies asynchronously.

        Returns:
            The stored samples of every field, then those of the additional streams, n of each. On the CPU; `batches` converts
            them to the format of networks.

        Raises:
            ValueError: a negative seed, position or count.
        """
        import torch

        orders, flips, random, offsets = zip(
            *(self.epoch_parts(seed, number, part) for number, part in self.epoch_slices(images, n)), strict=True
        )
        indices = np.concatenate(orders)
        flipped = np.flatnonzero(np.concatenate(flips)) if self.mirror else None
        window = self.window(torch.from_numpy(np.concatenate(offsets)))
        batch = Batch()
        for name, column in self.stored_columns().items():
            dtype = torch.from_numpy(np.empty(0, column.dtype)).dtype  # the column itself may be read-only
            stored = torch.empty((n, *column.shape[1:]), dtype=dtype, pin_memory=pinned and window is None)
            np.take(column, indices, axis=0, out=stored.numpy(), mode="clip")  # any other mode copies through a buffer
            field = self.spec.fields[name]
            if window is not None:
                stored = field.crop(stored, window)
                stored = stored.pin_memory() if pinned else stored
            if flipped is not None and len(flipped):
                stored.numpy()[flipped] = field.mirror(stored[flipped]).numpy()
            batch[name] = field.choose(stored, torch.from_numpy(np.concatenate(random)))
        for name, stream in self.streams.items():
            other = stream.data.batch(stream_seed(seed, name), images, n, pinned=pinned)
            batch |= {stream.names[key]: value for key, value in other.items()}
        return Batch(batch)

    def to_network(self, batch: Batch) -> Batch:
        """A batch of stored samples, on any device, in the format of networks."""
        return Batch({name: self.spec.fields[name].to_network(value) for name, value in batch.items()})

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
            A pure function; all fields in the format of networks, on the device. Call it from one thread only.

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
        """A slice of an epoch: for each position its index in `columns`, int64, and whether it is flipped (None without mirroring).

        Raises:
            ValueError: a negative seed.
        """
        if seed < 0:
            raise ValueError(f"seed={seed}: may not be negative")
        order = self.to_rows(_order(seed, number, len(self))[part])
        return order, _flips(seed, number, len(self))[part] if self.mirror else None

    def epoch_parts(
        self, seed: int, number: int, part: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
        """The same, and for each position a random number int64 that selects among alternatives, such as captions, and the first row
        and column of its window, int64 (n, 2)."""
        random = _alternatives(seed, number, len(self))[part] if self.has_alternatives else np.empty(0, np.int64)
        words = _window_words(seed, number, len(self))[part] if self.windows else None
        offsets = np.empty((0, 2), np.int64) if words is None or self.windows is None else self.windows.offsets(words)
        return *self.epoch(seed, number, part), random, offsets

    def window(self, offsets: torch.Tensor) -> Window | None:
        """The windows that begin at these rows and columns, int64 (n, 2); None without windows."""
        if self.windows is None:
            return None
        return Window(offsets[:, 0], offsets[:, 1], self.windows.height, self.windows.width, self.windows.image)

    def stored_columns(self) -> dict[str, np.ndarray]:
        """The `columns`, or what batches see windows of."""
        return {name: self.windows.columns[name] if self.windows else column for name, column in self.columns.items()}

    def with_windows(self, height: int, width: int) -> Dataset:
        """Samples of this height and width, of which batches see random windows, and everything else the centre."""
        windows = find_windows(self.spec.fields, self.columns, height, width)
        fields = {name: window_field(kind, windows) for name, kind in self.spec.fields.items()}
        columns = {name: centre_column(self.spec.fields[name], column, windows) for name, column in self.columns.items()}
        streams = {
            name: replace(stream, data=stream.data.with_windows(height, width)) for name, stream in self.streams.items()
        }
        return replace(self, spec=replace(self.spec, fields=fields), columns=columns, windows=windows, streams=streams)

    def centred(self) -> Dataset:
        """The same samples, of which batches see the centre too."""
        streams = {name: replace(stream, data=stream.data.centred()) for name, stream in self.streams.items()}
        return replace(self, windows=None, streams=streams)

    @property
    def has_alternatives(self) -> bool:
        """Whether some samples have alternatives, of which each epoch chooses one."""
        return any(column.ndim == 3 for name, column in self.columns.items() if isinstance(self.spec.fields[name], Caption))

    def pictures(self, indices: Any) -> np.ndarray:
        """Copies samples, never mirrored.

        Args:
            indices: integers (n,), each below `len(self)`.

        Returns:
            uint8 (n, height, width, channels), or float32 (n, 2) for points.
        """
        return self.stored("image", indices)

    def stored(self, name: str, indices: Any) -> np.ndarray:
        """Copies the stored samples of one of the `columns`, never mirrored; indices as for `pictures`."""
        return np.take(self.columns[name], self.to_rows(np.asarray(indices, dtype=np.int64)), axis=0)

    def examples(self, names: Sequence[str], limit: int = 512) -> dict[str, list[Any]]:
        """These fields of the first samples of seed 0, as plain JSON by name: sampling uses them for unspecified conditions."""
        order, _ = self.epoch(0, 0, slice(0, limit))
        return {name: self.spec.fields[name].to_plain(self.columns[name][order]) for name in names if name in self.columns}

    def distinct(self) -> Dataset:
        """The samples whose image does not repeat that of an earlier one: neither the same pixels nor nearly so (`duplicates.near`).

        Samples of other streams are not compared. The result has another fingerprint: what was measured with all samples does not
        apply to it. That of a whole data set is computed once.
        """
        if self.rows is not None:
            remaining = self._remaining()
        elif (known := _REMAINING.get(self.fingerprint)) is not None:
            remaining = known
        else:
            remaining = _REMAINING[self.fingerprint] = self._remaining()
        fingerprint = hashlib.sha256(f"distinct {self.fingerprint}".encode()).hexdigest()
        return replace(self, rows=self.to_rows(remaining), fingerprint=fingerprint)

    def _remaining(self) -> np.ndarray:
        """The indices of the samples that `distinct` leaves, int64."""
        from leafwing.data import duplicates

        rows = range(len(self.array)) if self.rows is None else self.rows.tolist()
        hashes = [hashlib.sha256(self.array[row].tobytes()).hexdigest() for row in rows]
        repeated = {index for group in duplicates.exact(hashes) for index in group[1:]}
        first = [index for index in range(len(hashes)) if index not in repeated]
        near = duplicates.near([duplicates.sketch(eight_bits(self.array[rows[index]])) for index in first])
        repeated = {first[index] for group in near for index in group[1:]}
        return np.array([index for index in first if index not in repeated], dtype=np.int64)

    def split(self, number: int, shared: str | None = None) -> tuple[Dataset, Dataset]:
        """Splits off at least `number` held-out samples, the same in every run, and the same share of a second source; see
        `data.split`. All tiles of a picture are on the same side.

        Args:
            number: of samples to hold out.
            shared: result of `shared_field`: the samples of which this field is equal are on the same side too.

        Returns:
            The training part and the held-out part, whose batches see the centres of images. Both share this data set's arrays and
            fingerprint.

        Raises:
            LeafwingError: the training part would be empty.
        """
        held_out = self._held_out(number, shared)
        if held_out.all():
            raise LeafwingError(
                f"{self.source}: --hold-out {number} would hold out all images, because too many are identical"
            )
        training, evaluation = (replace(self, rows=self.to_rows(np.flatnonzero(mask))) for mask in (~held_out, held_out))
        training = training if number else self
        for name, stream in self.streams.items() if number else ():
            if not {*stream.names.values()} <= {*self.spec.unpaired}:
                continue
            share = min(max(round(number * len(stream.data) / len(self)), min(number, 1)), len(stream.data) - 1)
            first, second = stream.data.split(share)
            training, evaluation = (
                replace(part, streams={**part.streams, name: replace(stream, data=data)})
                for part, data in ((training, first), (evaluation, second if share else stream.data))
            )
        return training, evaluation.centred()

    def split_anew(self, number: int) -> tuple[Dataset, Dataset]:
        """Splits off `number` samples as a new run does, with samples that share an input on the same side; see `split`."""
        return self.split(number, self.shared_field() if number else None)

    def shared_field(self) -> str | None:
        """`input` if several samples have the same input, and so belong on the same side of a split; None if not.

        Inputs that are derived from the images are not looked at, nor those of tiles, most of which may be empty.
        """
        from leafwing.data.derive import DERIVED

        if "input" not in self.columns or self.options.get("input") in DERIVED or self.pictures_of is not None:
            return None
        return "input" if len(np.unique(self._input_hashes())) < len(self) else None

    def _input_hashes(self) -> np.ndarray:
        """The hash of each sample's input, uint64 (n,), computed once."""
        from leafwing.data import split

        key = self.fingerprint, self._rows_hash()
        if key not in _HASHES:
            _HASHES[key] = split.hashes(self._stored_one_by_one("input"))
        return _HASHES[key]

    def _rows_hash(self) -> int:
        return hash(None if self.rows is None else self.rows.tobytes())

    def _held_out(self, number: int, shared: str | None = None) -> np.ndarray:
        """The mask of the held-out samples, bool (n,), computed once."""
        from leafwing.data import split

        number = split.hold_out_count(number, len(self))
        if not number:
            return np.zeros(len(self), bool)
        key = self.fingerprint, self._rows_hash(), number, shared
        if key not in _HELD_OUT:
            groups = None if self.pictures_of is None else self.pictures_of[slice(None) if self.rows is None else self.rows]
            equal = self._input_hashes() if shared else None
            _HELD_OUT[key] = split.held_out(self._stored_one_by_one("image"), number, groups, equal)
        return _HELD_OUT[key]

    def _stored_one_by_one(self, name: str) -> Iterator[np.ndarray]:
        """The stored samples of a field, one after another: together they may exceed the memory."""
        column = self.columns[name]
        return (column[row] for row in (range(len(column)) if self.rows is None else self.rows.tolist()))

    def with_labelled_stream(self, number: int, seed: int = 0) -> Dataset:
        """Adds a stream `labelled` of `number` of its samples, equally many of each class, for semi-supervised methods.

        Batches then also have `labelled_image`, `labelled_label`, `labelled_attributes` and so on. The samples are chosen by a hash of
        their content and the seed, so the choice is the same in every run. Samples with attributes may have no classes.

        Raises:
            LeafwingError: there are neither labels nor attributes, the number is not divisible by the number of classes, or a class
                has too few samples.
        """
        from leafwing.data import split

        if self.labels is None and "attributes" not in self.columns:
            raise InvalidOption(
                "labelled",
                number,
                f"{self.source} has no labels: put the images into one sub-folder per class or add a labels.csv",
            )
        rows = slice(None) if self.rows is None else self.rows
        labels = np.zeros(len(self), np.int64) if self.labels is None else self.labels[rows]
        names = ("",) if self.labels is None else self.spec.labels
        indices = split.choose_per_class(self._stored_one_by_one("image"), labels, names, number, seed)
        return self.with_stream("labelled", replace(self.without_streams(), rows=self.to_rows(indices)))

    def with_stream(self, name: str, other: Dataset, names: Mapping[str, str] | None = None) -> Dataset:
        """Adds another data set as a stream: a batch of n has n samples of both.

        The samples are not paired: the other stream has its own epochs, order and flips.

        Args:
            name: name of the stream.
            other: its samples; its own streams are left out.
            names: its fields and their names in a batch, which count as unpaired fields of this data set; None: all fields, with the
                name of the stream as prefix, `name_image` and so on.
        """
        plain = other.without_streams()
        renamed = names or {key: f"{name}_{key}" for key in plain.columns}
        plain = replace(plain, columns={key: plain.columns[key] for key in {**renamed}})
        fields = {**self.spec.fields, **{renamed[key]: plain.spec.fields[key] for key in renamed}}
        unpaired = (*self.spec.unpaired, *(names or {}).values())
        spec = replace(self.spec, fields=fields, unpaired=unpaired)
        return replace(self, spec=spec, streams={**self.streams, name: Stream(plain, renamed)})

    def without_streams(self) -> Dataset:
        """The samples of this data set alone."""
        fields = {name: self.spec.fields[name] for name in self.columns}
        return replace(self, spec=DataSpec(fields), streams={})

    def to_rows(self, indices: np.ndarray) -> np.ndarray:
        """Converts indices in this data set (0 to n - 1) to indices in `columns`."""
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
def _alternatives(seed: int, epoch: int, n: int) -> np.ndarray:
    """A random number for each position of one epoch, int64."""
    return (_bits(seed, epoch, _ALTERNATIVE, n) >> np.uint64(1)).astype(np.int64)


@lru_cache(maxsize=8)
def _window_words(seed: int, epoch: int, n: int) -> np.ndarray:
    """A random word for each position of one epoch, uint64."""
    return _bits(seed, epoch, _WINDOW, n)


@lru_cache(maxsize=8)
def _flips(seed: int, epoch: int, n: int) -> np.ndarray:
    """Which positions of one epoch are mirrored."""
    return _bits(seed, epoch, _MIRROR, n) >= np.uint64(1 << 63)

"""The cache of decoded images: written once, then shared by every process through a memory map.

A pack is a folder `<cache>/packs/<fingerprint>/` that is created atomically:

- `pictures.npy`: uint8 or uint16 (images, height, width, channels)
- `labels.npy`: int64 (images,), if there are labels
- `attributes.npy`: uint8 (images, attributes), binary, if there are attributes
- `tiles.npy`: int64 (images,), if the images are tiles: the number of the picture of each
- one file for each further field, such as `caption.npy`, in the format that `leafwing.fields` describes
- `index.json`: per image its name (of a tile `photo.jpg#3`), the sha256 of its file, its label, its original size [height, width] and
  the part used [left, top, right, bottom], in columns; of pairs of files also name and sha256 of the input
- `pack.json`: what is needed to open it
- `checksums.json`: the checksums of all of these, written last; a pack that was damaged since is made anew

`<cache>/listings/` remembers the pack of each source, so that an unchanged source is not read again. `<cache>/arrays/` has computed
fields of built-in data sets. `reading` reads the images; `dataset` makes batches.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from filelock import FileLock, Timeout

from leafwing.data import labels as labelling
from leafwing.data import reading, side_fields
from leafwing.data.options import Target
from leafwing.data.pairs import Input
from leafwing.data.reading import Decoded, DecodeProgress, EntryInfo
from leafwing.data.sources import RejectedFile, Source
from leafwing.errors import LeafwingError, StorageError
from leafwing.fields import Field, from_dict
from leafwing.files import are_intact, convert, read_checked, read_json, record_files, write_checked

VERSION = 1
"""Part of every fingerprint: increase it when the same source yields other pixels."""
READING = 8
"""Part of every listing: increase it when the same files are read differently. They are then read again, once."""


class About(msgspec.Struct, frozen=True):
    """The content of `pack.json`. Old packs have no attributes and no fields."""

    version: int
    fingerprint: str
    source: str
    options: dict[str, Any]
    shape: tuple[int, int, int, int]
    classes: list[str]
    rejects: list[RejectedFile]
    bytes: dict[str, int]
    attributes: list[str] = []
    fields: dict[str, dict[str, Any]] = {}
    notes: list[str] = []


class Index(msgspec.Struct, frozen=True):
    """The content of `index.json`, in columns; see above."""

    name: list[str]
    sha256: list[str]
    label: list[str | None]
    size: list[tuple[int, int]]
    box: list[tuple[int, int, int, int]]
    input: list[tuple[str, str]] = []


class Remembered(msgspec.Struct, frozen=True):
    """The pack of a source, with the rejects, notes and classes from before decoding."""

    fingerprint: str
    rejects: list[RejectedFile]
    notes: list[str]
    classes: list[str]


CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Pack:
    """An open pack: `pictures` (n, height, width, channels) uint8 or uint16, a read-only memory map; `labels` (n,) int64 or None;
    `attributes` (n, attributes) uint8 or None; `tiles` (n,) int64 or None, the picture of each tile; further fields by name, and their
    stored samples."""

    fingerprint: str
    pictures: np.ndarray
    labels: np.ndarray | None
    attributes: np.ndarray | None
    tiles: np.ndarray | None
    fields: dict[str, Field]
    columns: dict[str, np.ndarray]
    about: About


@dataclass(frozen=True, slots=True)
class AcceptedImage:
    """An image that is in the pack: its name, its original size (height, width), the part used (left, top, right, bottom), further
    fields."""

    info: EntryInfo
    name: str
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    values: dict[str, Any]


def cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    """The folder of packs: the argument, else LEAFWING_CACHE, else the user's cache folder.

    Raises:
        StorageError: this user has none.
    """
    if folder := cache or os.environ.get("LEAFWING_CACHE"):
        return Path(os.path.expanduser(folder))
    from platformdirs import user_cache_dir

    folder = Path(user_cache_dir("leafwing"))
    if not folder.is_absolute():  # ~ of a user without a home
        raise StorageError("this user has no folder for caches: set LEAFWING_CACHE to a folder that can be written")
    return folder


class Store:
    """A cache folder.

    Args:
        folder: created when the first pack is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exists(self, fingerprint: str) -> bool:
        """Whether there is a pack with this fingerprint, which may be damaged."""
        return (self.folder / "packs" / fingerprint / "pack.json").exists()

    def open(self, fingerprint: str) -> Pack | None:
        """The pack with this fingerprint; None if there is none, or it is incomplete or damaged.

        Its checksums are verified when this process opens it for the first time.
        """
        folder = self.folder / "packs" / fingerprint
        try:
            files = {file.name: file.stat() for file in os.scandir(folder)}
            if not _is_intact(folder, tuple((name, file.st_size, file.st_mtime_ns) for name, file in files.items())):
                return None
            about = convert(folder, read_json(folder / "pack.json"), About)
            if any(files[name].st_size != size for name, size in about.bytes.items()):
                return None
            fields = {name: from_dict(plain) for name, plain in about.fields.items()}
            present = {"pictures": True, "labels": bool(about.classes), "attributes": bool(about.attributes)}
            present |= {"tiles": about.options["fit"] == "tiles", **dict.fromkeys(fields, True)}
            columns = {
                name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
                for name, is_there in present.items()
                if is_there
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, LeafwingError):
            return None
        if not _fit(about, columns):
            return None
        labels, attributes, tiles = (columns.get(name) for name in ("labels", "attributes", "tiles"))
        further = {name: columns[name] for name in fields}
        return Pack(fingerprint, columns["pictures"], labels, attributes, tiles, fields, further, about)

    def index(self, fingerprint: str) -> Index | None:
        """The index of a pack; None if it is missing or damaged."""
        path = self.folder / "packs" / fingerprint / "index.json"
        try:
            index = convert(path, read_json(path), Index)
        except LeafwingError:
            return None
        columns = (index.name, index.sha256, index.label, index.size, index.box)
        return index if len({len(column) for column in columns}) == 1 else None

    def pack(
        self,
        fingerprint: str,
        source: Source,
        infos: list[EntryInfo],
        target: Target,
        progress: DecodeProgress | None,
        input: Input | None = None,
    ) -> Pack:
        """Decodes a source into a new pack, unless another process has just done so.

        Args:
            fingerprint: name of the pack.
            source: an open source.
            infos: the result of `reading.survey`.
            target: the target format of every image.
            progress: a callback (done, total), in images.
            input: where the input of each image comes from, with its target.

        Raises:
            LeafwingError: no image can be used, or more than half are unreadable.
            StorageError: the cache cannot be written.
        """
        with self._storage(), self._lock(fingerprint):
            if (pack := self.open(fingerprint)) is not None:
                return pack
            self._sweep(fingerprint)
            packs = self.folder / "packs"
            partial = packs / f"{fingerprint}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                _write(partial, fingerprint, source, infos, target, progress, input)
                record_files(partial, sorted(file.name for file in partial.iterdir()), partial / CHECKSUMS)
                shutil.rmtree(packs / fingerprint, ignore_errors=True)  # a damaged one
                partial.rename(packs / fingerprint)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            pack = self.open(fingerprint)
            if pack is None:
                raise OSError("the new pack cannot be read back")
            return pack

    def recall(self, signature: str) -> Remembered | None:
        """What `remember` stored; None if there is nothing, or it is damaged."""
        return read_checked(self.folder / "listings" / f"{signature}.json", Remembered)

    def remember(self, signature: str, listing: Remembered) -> None:
        """Stores which pack belongs to a source."""
        # Not an error: a read-only cache is still useful, and the next start is only slower.
        with suppress(OSError, StorageError):
            (self.folder / "listings").mkdir(parents=True, exist_ok=True)
            write_checked(self.folder / "listings" / f"{signature}.json", msgspec.to_builtins(listing))

    def array(self, key: str, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> np.ndarray:
        """An array that takes long to compute: a read-only memory map, computed and written if it is not in the cache.

        Args:
            key: name of the array, which determines its content.
            shape: its shape; its type is uint8.
            parts: consecutive parts of it; only iterated if it is missing.

        Raises:
            StorageError: the cache cannot be written.
        """
        path = self.folder / "arrays" / f"{key}.npy"
        if (array := _open_array(path, shape)) is not None:
            return array
        with self._storage(), self._lock(key):
            if (array := _open_array(path, shape)) is not None:
                return array
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            try:
                with partial.open("wb") as file:
                    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                    for part in parts:
                        file.write(np.ascontiguousarray(part).data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            if (array := _open_array(path, shape)) is None:
                raise OSError("the new array cannot be read back")
            return array

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Converts an OSError into a StorageError that says what to do."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self.folder}: the cache of decoded images cannot be written ({error.strerror or error}). "
                "Free some space, or choose another folder with LEAFWING_CACHE=/path/to/folder."
            ) from error

    def _lock(self, fingerprint: str) -> FileLock:
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / f"{fingerprint}.lock")

    def _sweep(self, fingerprint: str) -> None:
        """Removes incomplete packs of killed processes, i.e. those that are not locked, except the one with this fingerprint."""
        for partial in (self.folder / "packs").glob("*.partial"):
            if partial.stem == fingerprint:
                continue
            try:
                with self._lock(partial.stem).acquire(timeout=0):
                    shutil.rmtree(partial, ignore_errors=True)
            except Timeout:
                pass  # another process is writing it


def refusal_reason(
    source: Source, accepted: int, outcomes: list[EntryInfo | Decoded], rejected: list[RejectedFile]
) -> str | None:
    """Why a source cannot be used for training; None if it can be used for training.

    Args:
        source: the source.
        accepted: number of accepted images.
        outcomes: results of the survey and of decoding; only failures count.
        rejected: all rejected files.
    """
    reasons: dict[str, list[str]] = {}
    for reject in rejected:
        reasons.setdefault(reject.reason, []).append(reject.name)
    first = "; ".join(
        f"{names[0]}{f' and {len(names) - 1:,} more' * (len(names) > 1)}: {reason}"
        for reason, names in [*reasons.items()][:3]
    )
    first = " ".join([first, *side_fields.describe_misplaced(source, (outcome.failure for outcome in outcomes))])
    broken = reading.broken(outcomes)
    arrays = any(name.lower().endswith((".npy", ".npz", ".h5", ".hdf5")) for name in source.side_files)
    if not accepted and not rejected:
        return (
            f"{source.path}: no images. It should contain picture files (JPEG, PNG, WebP, ...; sub-folders are searched), IDX "
            "files, or .parquet or .tar files." + " Arrays (.npy, .npz, .h5) are given by their own path." * arrays
        )
    if not accepted:
        return f"{source.path}: none of its files can be used ({len(rejected)} rejected). {first}"
    if broken > (accepted + broken) / 2:
        return f"{source.path}: {broken} of {accepted + broken} images cannot be read, more than half. {first}"
    return None


class _Rows:
    """A file of rows (n, *shape) that is written one row at a time.

    Rows are appended in order, so that a full disk is an error and never a SIGBUS in a memory map.

    Args:
        path: the .npy file.
        limit: the largest possible number of rows.
        shape: of one row.
        dtype: uint8 or uint16.
    """

    def __init__(self, path: Path, limit: int, shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]) -> None:
        self.shape, self.dtype, self.count = shape, dtype, 0
        self.file = open(path, "wb", buffering=1 << 20)
        self.start = self._header(limit)

    def append(self, pixels: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(pixels, dtype=self.dtype).tobytes())
        self.count += 1

    def finish(self) -> None:
        """Writes the number of rows into the header, and everything to the disk."""
        self.file.seek(0)
        if self._header(self.count) != self.start:
            raise LeafwingError(f"{self.file.name}: internal error: the header of the pack changed its length.")
        self.file.flush()
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()

    def _header(self, count: int) -> int:
        """Writes the header; numpy pads it so that the first dimension may still change. Returns its length."""
        description = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": (count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, description)
        return self.file.tell()


def _write(
    folder: Path,
    fingerprint: str,
    source: Source,
    infos: list[EntryInfo],
    target: Target,
    progress: DecodeProgress | None,
    input: Input | None,
) -> None:
    """Fills a pack's folder."""
    accepted: list[AcceptedImage] = []
    failed: list[EntryInfo | Decoded] = []
    tones = reading.SeenTones()
    fields = input.fields(target) if input else {}
    formats: dict[str, tuple[tuple[int, ...], type[np.unsignedinteger[Any]]]] = {
        "pictures": (target.shape, pixel_type(target.bits))
    }
    formats |= {name: (pixel_shape(field), pixel_type(getattr(field, "bits", 8))) for name, field in fields.items()}
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(closing(_Rows(folder / f"{name}.npy", len(infos), shape, dtype)))
            for name, (shape, dtype) in formats.items()
        }
        outcomes = stack.enter_context(closing(reading.decode(source, infos, target, progress=progress, input=input)))
        for outcome in outcomes:
            if (image := outcome.image) is None:
                failed.append(outcome)
                continue
            tones.add(outcome)
            for name, pixels in {"pictures": image.pixels, **outcome.columns}.items():
                files[name].append(pixels)
            accepted.append(
                AcceptedImage(outcome.info, outcome.name, (image.height, image.width), image.box, outcome.values)
            )
        rejected = source.rejects + reading.rejects(infos) + reading.rejects(failed)
        pictures = len({id(item.info) for item in accepted})  # not the number of their tiles
        if message := refusal_reason(source, pictures, [*infos, *failed], rejected):
            raise LeafwingError(message)
        for rows in files.values():
            rows.finish()
    labels = [item.info.entry.label for item in accepted]
    classes = labelling.classes({label for label in labels if label is not None})
    if classes:
        index_of = {name: index for index, name in enumerate(classes)}
        indices = [index_of[label] for label in labels if label is not None]
        np.save(folder / "labels.npy", np.array(indices, dtype=np.int64))
    if source.attributes:
        np.save(folder / "attributes.npy", np.array([item.info.entry.attributes for item in accepted], dtype=np.uint8))
    if target.fit == "tiles":
        numbers = {id(info): number for number, info in enumerate(infos)}
        np.save(folder / "tiles.npy", np.array([numbers[id(item.info)] for item in accepted], dtype=np.int64))
    for name, field in source.fields.items():
        np.save(folder / f"{name}.npy", side_fields.stack(field, [item.values[name] for item in accepted]))
    index = {
        "name": [item.name for item in accepted],
        "sha256": [item.info.sha256 for item in accepted],
        "label": labels,
        "size": [item.size for item in accepted],
        "box": [item.box for item in accepted],
    }
    if inputs := [item.info.input for item in accepted if item.info.input]:
        index["input"] = [[info.entry.name, info.sha256] for info in inputs]
    (folder / "index.json").write_text(json.dumps(index))
    about = About(
        version=VERSION,
        fingerprint=fingerprint,
        source=" + ".join(
            str(part.path) if part.kind == "memory" else os.path.abspath(part.path) for part in source.parts or [source]
        ),
        options=target.as_dict() | (input.options() if input else {}),
        shape=(len(accepted), *target.shape),
        classes=list(classes),
        attributes=list(source.attributes),
        fields={name: field.as_dict() for name, field in (fields | source.fields).items()},
        rejects=reading.rejects(failed),
        notes=tones.notes() + side_fields.describe_misplaced(source, (outcome.failure for outcome in failed)),
        bytes={file.name: file.stat().st_size for file in folder.iterdir()},
    )
    (folder / "pack.json").write_text(json.dumps(msgspec.to_builtins(about)))


@lru_cache(maxsize=64)
def _is_intact(folder: Path, state: tuple[tuple[str, int, int], ...]) -> bool:
    """Whether the files of a pack are as they were written; they are read, unless their sizes and times are those of the last call."""
    record = folder / CHECKSUMS
    names = sorted(name for name, _, _ in state)
    if CHECKSUMS not in names and "pack.json" in names:  # a pack of an earlier version
        with suppress(OSError, StorageError):
            record_files(folder, names, record)
        return True
    return are_intact(folder, record)


def _fit(about: About, columns: dict[str, np.ndarray]) -> bool:
    """Whether the arrays of a pack have the shapes, types and values that `pack.json` says."""
    n = about.shape[0]
    expected = {
        "pictures": (about.shape, pixel_type(about.options.get("bits", 8)), None),
        "labels": ((n,), np.int64, len(about.classes)),
        "attributes": ((n, len(about.attributes)), np.uint8, 2),
        "tiles": ((n,), np.int64, None),
    }
    for name, column in columns.items():
        shape, dtype, end = expected.get(name, ((n, *column.shape[1:]), column.dtype, None))
        if (column.shape, column.dtype) != (shape, dtype):
            return False
        if end is not None and not 0 <= column.min() <= column.max() < end:
            return False
    return True


def pixel_shape(field: Field) -> tuple[int, ...]:
    """The shape of one stored sample of an image or a mask: (height, width, channels)."""
    channels, height, width = field.shape
    return (height, width, channels)


def pixel_type(bits: int) -> type[np.unsignedinteger[Any]]:
    """The type of stored pixels."""
    return np.uint16 if bits == 16 else np.uint8


def _open_array(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """A memory map of a uint8 array; None if the file is missing, truncated or of another shape."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return np.asarray(array) if (array.shape, array.dtype) == (shape, np.uint8) else None

"""Images in arrays: NumPy files (`.npy`, and `.npz` as `leafwing sample --npz` writes it), and whatever else has a shape and rows.

Values are converted a row at a time when they are read, so that a large array need not fit into memory.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from leafwing.data.label_lists import LABEL
from leafwing.data.levels import DARK, white_of
from leafwing.data.lists import first
from leafwing.data.sources import Column, Entry, Source
from leafwing.errors import LeafwingError
from leafwing.files import require_file
from leafwing.machine import available_memory

SUFFIXES = (".npy", ".npz")
IMAGES = ("samples", "images", "x", "X", "data", "x_train", "arr_0", "image")
"""Names of the images among several arrays, best first."""
LABELS = (("labels", *LABEL), ("y", "targets", "y_train"))
"""Names of labels, in lower case; those of the second row mean labels only without any of the first, because y may be a place."""
EXPECTED = (
    "images (n, height, width) or (n, height, width, channels), uint8 or floating-point numbers from 0 to 1 or -1 to 1"
)
OVERSHOOT = 0.1
"""How far resampling may take values below 0 and above 1."""
ONE_HOT = "one-hot rows become numbers by labels.argmax(1)"
SHOWN = 8
"""Number of arrays that a message names."""
BLOCK = 64 * 2**20
"""Bytes of the rows of which the smallest and the largest value are computed at once."""


class Rows(Protocol):
    """An array in memory, mapped from a file, or read on demand."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, rows: Any, /) -> Any: ...


class Images(NamedTuple):
    """Images in an array as bytes: the shape of one, (height, width) or (height, width, channels); what reads a row; how values were
    converted, or ""."""

    shape: tuple[int, ...]
    read: Callable[[int], bytes]
    note: str


def open_array(path: Path) -> Source:
    """A NumPy file.

    Raises:
        LeafwingError: it cannot be read, or contains no images.
    """
    named = load_arrays(path)
    name = choose_images(path, [name for name, array in named.items() if may_be_images(array)])
    if name is None:
        raise LeafwingError(f"{path}: expected {EXPECTED}; it contains {describe_shapes(named)}.")
    source = source_of("array", path, named[name], "images")
    source.notes = [f"Images come from {name} in {path.name}."] * bool(name) + source.notes
    count = len(named[name])
    attributes = _assign_attributes(source, named)
    further = {key: array for key, array in named.items() if key != name and key not in attributes}
    source.columns = {key: read for key, array in further.items() if (read := column(array, count)) is not None}
    labels = label_names(source.columns, name) or refuse_labels(source, further, label_names(further, name))
    source.label_columns = labels[:1]
    if unused := [key for key in further if key not in source.columns]:
        source.notes.append(f"Not used in {path.name}: {first(unused, SHOWN)}.")
    return source


def may_be_images(array: Rows) -> bool:
    """Whether an array has the shape and the type of images, with channels first or last."""
    shape = array.shape
    if shape is None or len(shape) not in (3, 4) or array.dtype.kind not in "biuf" or not all(shape):
        return False
    return len(shape) == 3 or bool({shape[1], shape[3]} & {1, 2, 3, 4})


def choose_images(path: Path, names: Sequence[str]) -> str | None:
    """The images among several arrays: those with a usual name, else the only ones, or the only ones for training; None without any.

    Args:
        path: of their file.
        names: theirs, such as `images`, `train_images` or `train/images`.

    Raises:
        LeafwingError: several may be the images.
    """

    def plain(name: str) -> str:
        return "_".join(word for word in _last(name).split("_") if word not in ("train", "training")) or name

    usual = [name for name in names if plain(name) in IMAGES]
    best = min(map(plain, usual), key=IMAGES.index, default="")
    names = [name for name in usual if plain(name) == best] or names
    if len(names) > 1:
        names = [name for name in names if "train" in name.lower()] or names
    if len(names) > 1:
        number = f" ({len(names):,})" * (len(names) > SHOWN)
        raise LeafwingError(
            f"{path}: several arrays may be the images: {first(names, SHOWN)}{number}. One is needed, with all images "
            "(n, height, width[, channels]): name it images, or save it in a file of its own."
        )
    return next(iter(names), None)


def label_names(names: Iterable[str], images: str = "") -> list[str]:
    """Those of some names that mean labels, best first; beside images called `train_images`, `train_labels` comes before others."""
    words = _last(images).split("_")
    paired = [
        "_".join([*words[:index], label, *words[index + 1 :]])
        for index, word in enumerate(words)
        if word in IMAGES and len(words) > 1
        for row in LABELS
        for label in row
    ]
    for row in (paired, *LABELS):
        if matching := [name for label in row for name in names if _last(name).lower() == label]:
            return matching
    return []


def _last(name: str) -> str:
    """The last part of a name in groups."""
    return name.rpartition("/")[2]


def describe_shapes(named: Mapping[str, Rows]) -> str:
    """The names, shapes and types of some arrays, in words."""
    shapes = [f"{name} {array.shape} {array.dtype}".strip() for name, array in named.items()]
    return first(shapes, SHOWN) or "nothing"


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a NumPy file by name: that of an .npy, which is mapped, as "", or all of an .npz.

    Raises:
        LeafwingError: not a NumPy file, a damaged one, or one whose arrays do not fit into memory; none is read then.
    """
    require_file(path)
    try:
        if zipfile.is_zipfile(path):
            _check_members(path)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                return dict(content)
        return {"": np.lib.format.open_memmap(path, mode="r")}
    except LeafwingError:
        raise
    except Exception as error:  # damaged files make numpy raise nearly any type
        raise LeafwingError(f"{path}: not a readable NumPy file ({str(error)[:120] or type(error).__name__}).") from None


def _check_members(path: Path) -> None:
    """Compares the headers of the arrays in an .npz with the sizes of these members, and their sum with the free memory."""
    needed = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                read_header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read_header(member)
                if dtype.hasobject:
                    raise LeafwingError(
                        f"{path}: {info.filename} contains Python objects, which are pickled and could execute code, and is not read: "
                        "save texts as array.astype(str), numbers as array.astype(int)"
                    )
                size = math.prod(shape) * dtype.itemsize
                if size != info.file_size - member.tell():
                    raise ValueError(
                        f"{info.filename} declares {shape} {dtype}, and has {info.file_size - member.tell()} bytes"
                    )
            needed += size
    if (free := available_memory()) is not None and needed > free / 2:
        raise LeafwingError(
            f"{path}: its arrays need {needed >> 20:,} MiB of memory, of which {free >> 20:,} MiB are free; save the images alone as "
            ".npy, which is read a part at a time"
        )


def source_of(kind: str, path: Path, array: Rows, prefix: str) -> Source:
    """The images of an array as a source without columns, each named by its row: `images/0000012`.

    Raises:
        LeafwingError: another shape, type or range.
    """
    images = convert(path, array)
    entries = row_entries(prefix, array.shape[0], int(np.prod(images.shape)))
    notes = [images.note] * bool(images.note)
    return Source(kind, path, entries, images.read, notes=notes, raw=images.shape, labelled=True)


def row_entries(prefix: str, count: int, size: int) -> list[Entry]:
    """Entries for rows: their names, rows as locations, and bytes of each."""
    return [Entry(f"{prefix}/{row:07d}", row, size) for row in range(count)]


def column(array: Rows, count: int) -> Column | None:
    """An array as a column of `count` values; None if it is none."""
    kinds = {"b": "boolean", "i": "number", "u": "number", "f": "number", "U": "text", "S": "text"}
    if array.shape not in ((count,), (count, 1)) or array.dtype.kind not in kinds:  # Keras has labels (n, 1)
        return None
    return Column(kinds[array.dtype.kind], lambda: [as_text(value) for value in array[:].reshape(count).tolist()])


def refuse_labels(source: Source, named: Mapping[str, Rows], keys: Iterable[str]) -> list[str]:
    """Adds columns for labels of several values an image, which raise an error when labels are read; the names of these.

    Args:
        source: the images.
        named: the arrays beside them by name.
        keys: the names of those that may be labels.
    """

    def refuse(key: str, array: Rows) -> Sequence[Any]:
        raise LeafwingError(
            f"{source.path}: {key} is {array.shape} {array.dtype}: give a whole number or a text as the label of each image; "
            f"{ONE_HOT}, binary attributes are called attributes, with their names in attribute_names, and --labels none uses none"
        )

    refused = [
        key for key in keys if key in named and len(named[key].shape) > 1 and named[key].shape[0] == len(source.entries)
    ]
    source.columns |= {key: Column("number", partial(refuse, key, named[key])) for key in refused}
    return refused


def as_text(value: Any) -> Any:
    """A value, decoded if it is bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def convert(where: Path | str, array: Rows) -> Images:
    """Finds out what the values of an array mean, and how to read each image as bytes.

    Args:
        where: what the array is, for messages.
        array: images, with channels last or first; floating-point values are read once, to find their range.

    Raises:
        LeafwingError: another shape, type or range.
    """
    shape, dtype = array.shape, array.dtype
    first = len(shape) == 4 and shape[-1] not in (1, 2, 3, 4) and shape[1] in (1, 2, 3, 4)
    one = (*shape[2:], shape[1]) if first else shape[1:]
    if (
        len(shape) not in (3, 4)
        or dtype.kind not in "biuf"
        or not all(shape)
        or (len(shape) == 4 and one[-1] not in (1, 2, 3, 4))
    ):
        raise LeafwingError(f"{where}: expected {EXPECTED}; it contains {shape} {dtype}.")
    values, note = _conversion(where, array)

    def read(row: int) -> bytes:
        image = np.asarray(array[row])
        return values(np.moveaxis(image, 0, -1) if first else image).tobytes()

    return Images(one[:2] if one[-1] == 1 and len(one) == 3 else one, read, note)


def _conversion(where: Path | str, array: Rows) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """What makes bytes of the values of an array, and a note about it."""
    if array.dtype == np.uint8:
        return lambda image: image, ""
    if array.dtype == bool:
        return lambda image: image.astype(np.uint8) * 255, "Values false and true became black and white."
    ranges = np.array([(block.min(), block.max()) for block in _blocks(array)], np.float64)
    low, high = float(ranges[:, 0].min()), float(ranges[:, 1].max())
    resampled = -OVERSHOOT <= low < 0 and 1 - OVERSHOOT <= high <= 1 + OVERSHOOT
    if array.dtype.kind == "f" and (resampled or -1 <= low <= high <= 1 or 0 <= low <= high <= DARK):
        black = -1.0 if low < 0 and not resampled else 0.0
        white = 1.0 if resampled else white_of(high)

        def scale(image: np.ndarray) -> np.ndarray:
            values = (np.asarray(image, np.float32) - black) * (255 / (white - black))
            return np.rint(values).clip(0, 255).astype(np.uint8)

        all_values = f"; they go from {low:g} to {high:g}, as resampling leaves values from 0 to 1" * resampled
        return scale, f"Values from {black:g} to {white:g} became 0 to 255{all_values}."
    if 0 <= low <= high <= 255:
        return lambda image: np.rint(image).astype(np.uint8), ""
    raise LeafwingError(f"{where}: expected {EXPECTED}; it has {array.dtype} values from {low:g} to {high:g}.")


def _blocks(array: Rows) -> Iterator[np.ndarray]:
    """The rows of an array, some at a time."""
    step = max(1, BLOCK // (int(np.prod(array.shape[1:])) * array.dtype.itemsize))
    for start in range(0, array.shape[0], step):
        yield np.asarray(array[start : start + step])


def _assign_attributes(source: Source, named: Mapping[str, np.ndarray]) -> Sequence[str]:
    """Assigns the attributes of a file as `leafwing sample --npz` writes them; the names of the arrays that have them."""
    values, names = named.get("attributes"), named.get("attribute_names")
    count = len(source.entries)
    if values is None or names is None or names.dtype.kind != "U" or values.shape != (count, *names.shape):
        return ()
    if values.dtype.kind not in "biu" or not {*np.unique(values).tolist()} <= {0, 1}:
        return ()
    source.attributes = tuple(names.tolist())
    for entry, row in zip(source.entries, values.astype(int).tolist(), strict=True):
        entry.attributes = tuple(row)
    source.notes.append(f"Attributes come from attributes in {source.path.name}.")
    return ("attributes", "attribute_names")

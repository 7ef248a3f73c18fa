"""Images in HDF5 files: an array of pixels, or the bytes of an encoded image in each row.

Only data that are in the file itself are read: links and data sets that refer to other files, and objects, are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from leafwing import optional
from leafwing.data.arrays import (
    EXPECTED,
    SHOWN,
    as_text,
    choose_images,
    column,
    describe_shapes,
    label_names,
    may_be_images,
    refuse_labels,
    row_entries,
    source_of,
)
from leafwing.data.lists import first, folder_of
from leafwing.data.matching import is_split
from leafwing.data.sources import Column, Source
from leafwing.errors import LeafwingError

SUFFIXES = (".h5", ".hdf5")
CACHE = 64 * 2**20
"""Bytes of the cache of decompressed chunks."""


def open_hdf5(path: Path) -> Source:
    """An HDF5 file. Its images are the data set with a usual name, or else the only one of their shape, or for training.

    Raises:
        LeafwingError: h5py is missing; the file is damaged, or does not contain one data set of images.
    """
    try:
        import h5py
    except ImportError:
        raise optional.not_installed("h5py", path) from None
    try:
        file = h5py.File(path, "r", rdcc_nbytes=CACHE)
    except OSError as error:
        raise LeafwingError(f"{path}: not a readable HDF5 file ({error}).") from None
    try:
        return _open(path, file)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError | RuntimeError | ValueError | KeyError):  # what a damaged file makes h5py raise
            raise LeafwingError(f"{path}: the HDF5 file is damaged ({error}).") from None
        raise


def _open(path: Path, file: Any) -> Source:
    import h5py

    named: dict[str, Any] = {}
    file.visititems(
        lambda name, item: named.update({name: item}) if isinstance(item, h5py.Dataset) else None
    )  # follows no links
    outside = [name for name, item in named.items() if item.external or item.is_virtual]
    name = choose_images(
        path, [key for key, item in named.items() if key not in outside and (_is_encoded(item) or may_be_images(item))]
    )
    if name is None:
        other = f"; in other files, which are not read: {first(outside, SHOWN)}" if outside else ""
        raise LeafwingError(
            f"{path}: expected {EXPECTED}, or the bytes of image files (n,); it contains {describe_shapes(named)}{other}."
        )
    source = _encoded(path, named[name]) if _is_encoded(named[name]) else source_of("hdf5", path, named[name], "images")
    source.notes.insert(0, f"Images come from {name} in {path.name}.")
    count = len(named[name])
    group = folder_of(name)
    elsewhere = [key for key in named if any(map(is_split, key.removeprefix(group).split("/")[:-1]))]  # of another split
    columns = {key: _column(item, count) for key, item in named.items() if key not in (name, *outside, *elsewhere)}
    source.columns = {key: values for key, values in columns.items() if values is not None}
    labels = label_names(source.columns, name) or refuse_labels(source, named, label_names(columns, name))
    source.label_columns = labels
    if unused := [key for key in named if key != name and key not in source.columns]:
        source.notes.append(f"Not used in {path.name}: {first(unused, SHOWN)}.")
    source.close = file.close
    return source


def _is_encoded(item: Any) -> bool:
    """Whether each row is a number of bytes."""
    import h5py

    return item.shape is not None and len(item.shape) == 1 and h5py.check_vlen_dtype(item.dtype) == np.dtype(np.uint8)


def _encoded(path: Path, item: Any) -> Source:
    """Rows with the bytes of image files; how many they are is unknown before they are read."""
    entries = row_entries("images", len(item), 0)
    return Source("hdf5", path, entries, lambda row: np.asarray(item[row], np.uint8).tobytes(), labelled=True)


def _column(item: Any, count: int) -> Column | None:
    """A data set as a column of `count` values; None if it is none."""
    import h5py

    if h5py.check_string_dtype(item.dtype) is not None and item.shape in ((count,), (count, 1)):
        return Column("text", lambda: [as_text(value) for value in item[:].reshape(count).tolist()])
    return None if item.shape is None else column(item, count)

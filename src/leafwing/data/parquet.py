"""Images in Parquet tables, as Hugging Face publishes data sets: a row for each image, with the bytes of its file.

The column of images is binary, or a struct of `bytes` and `path`. Names of classes come from Hugging Face's description of the columns
in the schema. Rows are read in order, a few megabytes at a time; what is larger is a page of the
file, which is at most a row group (Hugging Face writes 100 rows).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from leafwing import optional
from leafwing.data.arrays import IMAGES, label_names, row_entries
from leafwing.data.label_lists import class_name
from leafwing.data.pictures import LARGEST_FILE, UnreadableImageError, UnusableImageError
from leafwing.data.sources import DAMAGED, Column, Entry, Source
from leafwing.errors import LeafwingError
from leafwing.files import parse_json

SUFFIXES = (".parquet",)
NAMES = ("image", "img", "picture", "photo", "jpg", "png", *IMAGES)
"""Names of the column of images among several columns of bytes."""
BATCH, ROWS = 8 * 2**20, 64
"""Bytes and largest number of the rows that are read at once; images that repeat take less space in the file than their bytes."""
_BUFFER = 2**20


def open_parquet(path: Path, files: Sequence[Path]) -> Source:
    """Parquet files with the same columns, as one table.

    Args:
        path: the folder, or the only file.
        files: in order.

    Raises:
        LeafwingError: pyarrow is missing; a file is damaged, or has other columns than the first; no column of images, or several.
    """
    tables = _Tables(path, files)
    schema, described = tables.schema, _features(tables.schema)
    name = _image_column(path, schema, described)
    tables.column = name
    source = Source("parquet", path, tables.entries(), tables.read, sequential=True, labelled=True, close=tables.close)
    unused = []
    for field in schema:
        if field.name == name:
            continue
        if (kind := _kind(field.type)) is None:
            unused.append(field.name)
        else:
            classes = described.get(field.name, {}).get("names")
            if not _are_names(classes):
                source.notes.append(
                    f"The names of classes that the description of column {field.name} gives are no list of texts, and are not used."
                )
                classes = None
            source.columns[field.name] = Column(kind, partial(tables.values, field.name, classes))
    source.label_columns = label_names([key for key, column in source.columns.items() if column.kind != "boolean"])
    if len(files) > 1:
        source.notes.append(f"Read together: {len(files):,} Parquet files, from {files[0].name} to {files[-1].name}.")
    source.notes.append(f"Images come from column {name}.")
    if unused:
        source.notes.append(f"Columns of a kind that is not read: {', '.join(unused)}.")
    return source


class _Tables:
    """The rows of several files, numbered through; one file is open at a time.

    Args:
        path: for messages.
        files: in order.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        try:
            import pyarrow.parquet
        except ImportError:
            raise optional.not_installed("pyarrow", path) from None
        self._parquet: Any = pyarrow.parquet
        self.files = files
        self.column = ""
        """The column of images."""
        self.groups: list[tuple[int, int]] = []
        """The file and the number in it of every row group."""
        self.starts: list[int] = []
        """The first row of every row group."""
        self._metadata: list[Any] = []
        self._failures: dict[int, Exception] = {}
        self._opened: tuple[int, Any] | None = None
        self._batches: Iterator[Any] = iter(())
        self._group, self._first, self._rows = -1, 0, 0
        self._values: Any = None
        count = 0
        for number, file in enumerate(files):
            try:
                metadata = self._parquet.read_metadata(file)
                schema = metadata.schema.to_arrow_schema()
            except DAMAGED as error:
                raise LeafwingError(f"{file}: not a readable Parquet file ({error}); download it again.") from None
            if number == 0:
                self.schema = schema
            elif [(field.name, field.type) for field in schema] != [(field.name, field.type) for field in self.schema]:
                raise LeafwingError(f"{file}: its columns are not those of {files[0].name}; give the path of one file.")
            self._metadata.append(metadata)
            for group in range(metadata.num_row_groups):
                self.groups.append((number, group))
                self.starts.append(count)
                count += metadata.row_group(group).num_rows

    def entries(self) -> list[Entry]:
        """An entry for each row, named by its file and its row in it, with the average size of those of its row group."""
        entries: list[Entry] = []
        for file, metadata in zip(self.files, self._metadata, strict=True):
            rows = row_entries(file.stem, metadata.num_rows, 0)
            sizes = [self._size(metadata.row_group(group)) for group in range(metadata.num_row_groups)]
            ends = [*accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))]
            for row, entry in enumerate(rows):
                entry.size = min(sizes[bisect_right(ends, row)], LARGEST_FILE)
                entry.location = len(entries) + row
            entries += rows
        return entries

    def _size(self, group: Any) -> int:
        """The average number of bytes of an image in a row group."""
        columns = [group.column(index) for index in range(group.num_columns)]
        total = sum(
            column.total_uncompressed_size for column in columns if column.path_in_schema.split(".")[0] == self.column
        )
        return int(total) // max(1, group.num_rows)

    def read(self, row: int) -> bytes:
        """The bytes of the image in a row; fast in order."""
        group = bisect_right(self.starts, row) - 1
        if group in self._failures:
            raise self._failures[group]
        try:
            if group != self._group or row < self._first:
                self._open_group(group)
            while row >= self._first + self._rows:
                self._first += self._rows
                self._values = next(self._batches).column(0)
                self._rows = len(self._values)
        except (*DAMAGED, StopIteration) as error:
            self._group = -1
            self._failures[group] = UnreadableImageError(f"its part of the file is damaged: {error}")
            raise self._failures[group] from None
        value = self._values[row - self._first].as_py()
        path = value.get("path") if isinstance(value, Mapping) else None
        content = value.get("bytes") if isinstance(value, Mapping) else value
        if content is None:
            where = f"only a path, {path}, which is not read" if path else "no image"
            raise UnusableImageError(f"the row has {where}")
        if len(content) > LARGEST_FILE:
            raise UnusableImageError(f"larger than {LARGEST_FILE >> 20} MiB")
        return bytes(content)

    def _open_group(self, group: int) -> None:
        number, inside = self.groups[group]
        if self._opened is None or self._opened[0] != number:
            self.close()
            self._opened = number, self._parquet.ParquetFile(self.files[number], buffer_size=_BUFFER)
        step = max(1, min(ROWS, BATCH // max(1, self._size(self._metadata[number].row_group(inside)))))
        self._batches = self._opened[1].iter_batches(
            batch_size=step, row_groups=[inside], columns=[self.column], use_threads=False
        )
        self._group, self._first, self._rows = group, self.starts[group], 0

    def values(self, name: str, classes: Sequence[str] | None) -> list[Any]:
        """A column, with the names of the classes if it has numbers of them."""
        values: list[Any] = []
        for file in self.files:
            values += self._parquet.read_table(file, columns=[name], use_threads=False)[name].to_pylist()
        return [class_name(value, classes or ()) for value in values]

    def close(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Hugging Face's description of the columns; empty without one."""
    try:
        features = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _are_names(names: Any) -> bool:
    """Whether these are names of classes: a list of texts, or None, where there are none."""
    return names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))


def _image_column(path: Path, schema: Any, described: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the column of images.

    Raises:
        LeafwingError: there is none, or several.
    """
    binary = [field.name for field in schema if _has_bytes(field.type)]
    candidates = [name for name in binary if described.get(name, {}).get("_type") == "Image"] or binary
    usual = [name for name in NAMES if name in candidates]
    if len(candidates) == 1 or usual:
        return str(usual[0] if usual else candidates[0])
    if candidates:
        raise LeafwingError(
            f"{path}: several columns may be the images: {', '.join(candidates)}. Name one of them image (Table.rename_columns of "
            "pyarrow), or leave the others out (Table.drop_columns)."
        )
    columns = ", ".join(f"{field.name} {field.type}" for field in schema)
    raise LeafwingError(
        f"{path}: no column has the bytes of image files (binary, or a struct with bytes); its columns are: {columns[:300] or 'none'}."
    )


def _has_bytes(kind: Any) -> bool:
    """Whether the values of a column are bytes, or structs with bytes."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _has_bytes(field.type) for field in kind.fields)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _kind(kind: Any) -> str | None:
    """The kind of a column, see `Column`; None if it is not read."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return "text" if _kind(kind.value_type) == "text" else None
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_boolean(kind):
        return "boolean"
    return "number" if types.is_integer(kind) or types.is_floating(kind) else None

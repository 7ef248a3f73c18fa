"""Lists beside images: reads text, CSV and JSON safely, and finds the image that a list refers to.

`labels`, `captions` and `positions` interpret the content. Nothing here executes anything: XML with a DOCTYPE is refused.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from xml.etree import ElementTree

from leafwing.data.sources import DAMAGED, Entry, Source, clean, has_image_suffix
from leafwing.errors import LeafwingError

FILE = ("file", "file_name", "filename", "image", "image_name", "image_id", "path")
"""Names of the column or key that names the image."""
DELIMITERS = ",;\t|"


@dataclass
class Annotations:
    """What the files of one layout contain about the images of a source.

    Args:
        files: the files in words, for messages: "captions.csv".
        values: index of an entry -> its values.
        failures: index of an entry -> why it has no values, if that is known.
        missing: names of files that are listed but do not exist.
        notes: what was read differently from what users may expect, and what is not used.
        used: names of the side files.
    """

    files: str
    values: dict[int, list[Any]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)


Layout = tuple[str, Callable[[], Annotations | None]]
"""Files in words, and a function that reads them; None if they turn out to be something else."""


class Names:
    """Finds entries by their path, by the end of their path if that is unique, or by either without the extension.

    If nothing fits, case, composition of accents and the extension are disregarded; `assumptions` says so.

    Args:
        entries: the entries; `find` returns their indices.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        names = [entry.name for entry in entries]
        self._names = _Ends(names)
        self._stems = _Ends([stem(name) for name in names])
        self._loose = _Ends([_loosen(name) for name in names])
        self._assumed: dict[str, str] = {}
        self._shared: set[str] = set()
        self._paths = names
        self._indices: dict[tuple[str, str], int | None] = {}
        self.images = sum(entry.may_be_image for entry in entries) or len(names)
        """Number of entries with the extension of an image, or with none; of all entries, if there is no such one."""

    def find(self, name: str, folder: str = "") -> int | None:
        """The index of the entry that a list in this folder (ending in `/`, or empty) means by a name; None if none or several.

        Absolute paths, and paths from a folder above the source, end in the path of an entry.
        """
        key = (folder, name)
        if key not in self._indices:  # lists have several rows for an image
            path = clean(name.strip().replace("\\", "/").removeprefix("./"))
            index = self._names.find(path, folder)
            if index is None and not has_image_suffix(path):
                index = self._stems.find(path, folder)
                if index is not None:
                    self._assumed[name] = self._paths[index]
            if index is None:
                index = self._loose.find(_loosen(path), _loosen(folder) + "/" * bool(folder))
                if index is not None:
                    self._assumed[name] = self._paths[index]
                elif self._names.ends.get(path) == -1 or self._loose.ends.get(_loosen(path)) == -1:
                    self._shared.add(name)
            self._indices[key] = index
        return self._indices[key]

    def assumptions(self, files: str) -> list[str]:
        """What was assumed about the names in these files, in sentences."""
        if not self._assumed:
            return []
        name, path = next(iter(self._assumed.items()))
        return [
            f"Names in {files} that differ from the file in case, accents or extension: {len(self._assumed):,}, such as {clean(name)} "
            f"for {path}."
        ]

    def is_shared(self, name: str) -> bool:
        """Whether `find` found several entries that a name could mean."""
        return name in self._shared

    def owners(self, files: Sequence[str], folders: Sequence[str]) -> dict[str, int]:
        """The files that belong to one image each, and the indices of their entries; as for `beside`."""
        return {file: index for file in files if (index := self.beside(file, folders)) is not None}

    def beside(self, path: str, folders: Sequence[str]) -> int | None:
        """The index of the entry that a file of one image belongs to; None if none or several.

        Args:
            path: `x.jpg.txt` or `x.txt` in the folder of `x.jpg`, or at the same place in a parallel tree of folders.
            folders: names of the top folders of such trees, in lower case: for `text`, `text/a/x.txt` belongs to `images/a/x.jpg`.
        """
        name = stem(path)
        index = self._names.whole.get(name, self._stems.whole.get(name))
        parts = path.split("/")
        if (
            index is None
            and (top := next((i for i, part in enumerate(parts[:-1]) if part.lower() in folders), None)) is not None
        ):
            index = self._stems.find(stem("/".join(parts[top + 1 :])), "".join(f"{part}/" for part in parts[:top]))
        return None if index == -1 else index


class _Ends:
    """Indices of paths by their ends; -1 for what several paths share."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    @cached_property
    def whole(self) -> dict[str, int]:
        """Indices by the whole path."""
        return _indices(enumerate(self.paths))

    @cached_property
    def ends(self) -> dict[str, int]:
        """Indices by every end of a path that begins after a slash, and by the whole path."""
        return _indices((index, end) for index, path in enumerate(self.paths) for end in _ends(path))

    def find(self, name: str, folder: str) -> int | None:
        for index in (self.whole.get(folder + name), self.whole.get(name), self.ends.get(name)):
            if index is not None:
                return index if index >= 0 else None
        return next((index for end in _ends(name) if (index := self.whole.get(end, -1)) >= 0), None)


def _ends(path: str) -> Iterator[str]:
    """A path, and what follows each of its slashes."""
    while path:
        yield path
        path = path.partition("/")[2]


def _indices(names: Iterable[tuple[int, str]]) -> dict[str, int]:
    """Indices by name; -1 for a name that occurs twice."""
    result: dict[str, int] = {}
    for index, name in names:
        result[name] = -1 if name in result else index
    return result


def _loosen(path: str) -> str:
    """A path without the extension of an image, in one Unicode normal form and without case."""
    plain = unicodedata.normalize("NFC", stem(path) if has_image_suffix(path) else path)
    return plain.casefold().rstrip("/")


def stem(path: str) -> str:
    """A path without the extension of its file."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def folder_of(path: str) -> str:
    """The folder of a path, ending in `/`; empty at the top."""
    return "".join(path.rpartition("/")[:2])


def first(names: Sequence[str], limit: int = 3) -> str:
    """The first of some names, and dots if there are more."""
    return f"{', '.join(names[:limit])}{' ...' * (len(names) > limit)}"


def read_text(source: Source, name: str) -> str:
    """A side file as text: UTF-8, UTF-16, or else Windows-1252, which a note says.

    Raises:
        LeafwingError: it cannot be read, or is not text.
    """
    try:
        text, is_utf = _decode(source.read(source.side_files[name]))
    except UnicodeDecodeError:
        raise LeafwingError(f"{source.path}: {name} is not text; save it as UTF-8.") from None
    except Exception as error:  # an unreadable file, on the disk or in an archive
        raise LeafwingError(f"{source.path}: {name} cannot be read ({error}).") from None
    if not is_utf:
        source.other_encodings.add(name)
    return text


def _decode(content: bytes) -> tuple[str, bool]:
    """Bytes as text with `\n` between lines, and whether they are Unicode.

    Raises:
        UnicodeDecodeError: not text.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16"), True
    for encoding, zeros in (("utf-16-le", content[1:64:2]), ("utf-16-be", content[:64:2])):
        if zeros and not any(zeros):
            return content.decode(encoding), True
    try:
        text, is_utf = content.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        text, is_utf = content.decode("cp1252"), False
    if "\0" in text:
        raise UnicodeDecodeError("utf-8", content, 0, 1, "binary")
    return (text if "\n" in text else text.replace("\r", "\n")), is_utf


def read_column(source: Source, name: str) -> Sequence[Any] | Mapping[Any, Any]:
    """The values of a column by location.

    Raises:
        LeafwingError: it cannot be read.
    """
    source.used_files.add(name)
    try:
        return source.columns[name].read()
    except DAMAGED as error:
        raise LeafwingError(f"{source.path}: {name} cannot be read ({error}).") from None


def read_texts(source: Source, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Many small side files, in the order of an archive, as name, text and "", or as name, "" and why it cannot be read."""
    for name in source.in_archive_order(names):
        try:
            yield name, read_text(source, name), ""
        except LeafwingError as error:
            yield name, "", str(error).removeprefix(f"{source.path}: ").rstrip(".")


def read_json(where: str, text: str) -> Any:
    """JSON, or a LeafwingError that begins with `where`."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LeafwingError(f"{where}: not readable JSON ({error}).") from None


def read_xml(text: str) -> ElementTree.Element:
    """The root element of an XML document without a DOCTYPE, so that no entity can expand.

    Raises:
        ValueError: not XML, or with a DOCTYPE; the message is the reason.
    """
    if re.search(r"<!\s*(doctype|entity)", text, re.IGNORECASE):
        raise ValueError("has a DOCTYPE, which is not accepted")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"is not readable XML ({error})") from None


@dataclass(frozen=True)
class Table:
    """A CSV file: its columns by role, the titles of the other columns, and its rows as line number and cells."""

    where: str
    columns: Mapping[str, int]
    unused: list[str]
    rows: list[tuple[int, list[str]]]


def read_table(source: Source, name: str, layouts: Sequence[Mapping[str, Sequence[str]]], expected: str) -> Table:
    """Reads a list that is separated by commas, semicolons, tabs or bars.

    Args:
        source: the source.
        name: the list among its side files.
        layouts: the possible sets of columns: the role of each column and the titles that it may have, in lower case. The first
            layout of which every column exists is used; roles that end in `?` may be missing.
        expected: the columns in words, for the error message.

    Raises:
        LeafwingError: no layout fits, a row has too many cells, or is without a file; the message names the line.
    """
    where = f"{source.path}: {name}"
    text = read_text(source, name)
    header = text.partition("\n")[0].strip()
    for delimiter in sorted(DELIMITERS, key=lambda delimiter: -header.count(delimiter)):
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        try:
            titles = [clean(title.strip().lower()) for title in next(reader, [])]
        except csv.Error:
            continue
        for layout in layouts:
            columns = {
                role.rstrip("?"): titles.index(title)
                for role, names in layout.items()
                if (title := next((title for title in names if title in titles), None)) is not None
            }
            if all(role in columns or role.endswith("?") for role in layout):
                unused = [title for index, title in enumerate(titles) if title and index not in columns.values()]
                return Table(where, columns, unused, list(_rows(where, reader, titles, columns)))
    raise LeafwingError(
        f"{where}: the first line must name the columns {expected}; it is: {clean(header)[:80] or '(empty)'}"
    )


def _rows(where: str, reader: Any, titles: list[str], columns: Mapping[str, int]) -> Iterator[tuple[int, list[str]]]:
    """The rows of a list; a last column with unquoted commas is put together again."""
    number = len(titles)
    text_last = columns.get("caption") == number - 1
    separator = reader.dialect.delimiter
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            cells = [cell.strip() for cell in row] + [""] * (number - len(row))
            if len(cells) > number and text_last:
                cells = [*cells[: number - 1], f"{separator} ".join(cells[number - 1 :])]
            elif any(cells[number:]):
                raise LeafwingError(
                    f"{where}, line {reader.line_num}: {len(cells)} cells, but the first line names {number} columns; "
                    "put text that contains commas between double quotes."
                )
            if not cells[columns["file"]]:
                raise LeafwingError(f"{where}, line {reader.line_num}: a file is needed.")
            yield reader.line_num, cells
    except csv.Error as error:
        raise LeafwingError(f"{where}, line {reader.line_num}: not a readable csv file ({error}).") from None

"""Lists beside images: reads text, CSV and JSON safely, and finds the image that a list refers to.

`labels`, `captions` and `positions` interpret the content. Nothing here executes anything: XML with a DOCTYPE is refused.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

from leafwing.data.matching import Ends, Match, is_split, parts_after
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
    """Finds entries by their path, by the end of their path if that is unique, or, if they may be images, by either without the
    extension: `x.cr2` beside `x.jpg` is another file of the same photograph.

    If nothing fits, case, composition of accents and the extension are disregarded; `notes` says so.

    Args:
        entries: the entries; `find` and `in_list` return their indices.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        names = [entry.name.removeprefix("./") for entry in entries]  # of some tar files
        images = {index: names[index] for index, entry in enumerate(entries) if entry.may_be_image} or dict(enumerate(names))
        self._names = Ends(dict(enumerate(names)))
        self._stems = Ends({index: stem(name) for index, name in images.items()})
        self._loose = Ends({index: _loosen(name) for index, name in images.items()})
        self._assumed: dict[str, str] = {}
        self._shared: set[str] = set()
        self._paths = names
        self._matches: dict[tuple[str, str], Match | None] = {}
        self.images = len(images)
        """Number of entries with the extension of an image, or with none; of all entries, if there is no such one."""

    def find(self, name: str, folder: str = "") -> int | None:
        """The index of the entry that a list in this folder (ending in `/`, or empty) means by a name; None if none or several.

        Absolute paths, and paths from a folder above the source, end in the path of an entry. If the other names of the list are
        known, `in_list` is safer.
        """
        return self._take(name, self._match(name, folder))

    def in_list(self, listed: Iterable[str], source: Source, file: str) -> dict[str, int | None]:
        """The indices of the entries that the names in one list mean, by name; None for a name that means none or several.

        A list means the files of one place; files of the same name elsewhere are others. So if some of its names are below its folder,
        all are; if some are directly there, those with as many folders are in no split below it; and if some begin with the path of
        the source, or are relative to it, further folders in others are not ignored.

        Args:
            listed: the names.
            source: the source.
            file: the list, among its side files.

        Raises:
            LeafwingError: two names could mean the same entry, or names mean files in several splits; the message names them.
        """
        where, folder = f"{source.path}: {file}", folder_of(file)
        indices: dict[str, int | None] = dict.fromkeys(listed)
        matches = {name: match for name in indices if (match := self._match(name, folder)) is not None}
        matches = self._in_one_place(matches, folder.removeprefix("./"))
        self._drop_others(where, matches)
        indices |= {name: self._take(name, match) for name, match in matches.items()}
        shared = [name for name, match in matches.items() if match.index < 0]
        if len(shared) < len(matches) and (message := self.describe_splits(shared)):
            raise LeafwingError(f"{where} {message}")
        return indices

    def _match(self, name: str, folder: str) -> Match | None:
        key = (folder, name)
        if key not in self._matches:  # lists have several rows for an image
            self._matches[key] = max(
                self._candidates(_cleaned(name), folder.removeprefix("./")), key=lambda match: match.certainty, default=None
            )
        return self._matches[key]

    def _candidates(self, path: str, folder: str) -> Iterator[Match]:
        """What a path may mean, best first, up to the first that is as certain as possible."""
        best = (bool(folder and self._names.inside(folder)), True)
        if match := self._names.find(path, folder):
            yield match
            if match.certainty >= best:
                return
        if not has_image_suffix(path) and (match := self._stems.find(path, folder)):
            yield replace(match, exact=False)
            if match.certainty >= best:
                return
        if match := self._loose.find(_loosen(path), _loosen(folder) + "/" * bool(folder)):
            yield replace(match, exact=False)

    def _take(self, name: str, match: Match | None) -> int | None:
        """The index of a match, about which is remembered what is to be said."""
        if match is None:
            return None
        if match.index < 0:
            self._shared.add(name)
            return None
        if not match.exact:
            self._assumed[name] = self._paths[match.index]
        return match.index

    def _in_one_place(self, matches: Mapping[str, Match], folder: str) -> dict[str, Match]:
        """The matches of names in one list without those elsewhere; see `in_list`."""
        if any(match.inside for match in matches.values()):
            matches = {name: match for name, match in matches.items() if match.inside}
        depths = {_cleaned(name).count("/") for name, match in matches.items() if match.direct}
        removed = {match.removed for match in matches.values()}
        longer = {beginning for beginning in removed if any(above in removed for above in _beginnings(beginning))}

        def in_split(depth: int, match: Match) -> bool:
            folders = self._paths[match.index].removeprefix(folder).split("/")[: -1 - depth]
            return match.index < 0 or any(map(is_split, folders))

        return {
            name: match
            for name, match in matches.items()
            if match.removed not in longer
            and (
                match.direct
                or match.removed
                or (depth := _cleaned(name).count("/")) not in depths
                or not in_split(depth, match)
            )
        }

    def _drop_others(self, where: str, matches: dict[str, Match]) -> None:
        """Removes names that only resemble an entry which another name means.

        Raises:
            LeafwingError: several names resemble it.
        """
        by_index: dict[int, list[str]] = {}
        for name, match in matches.items():
            by_index.setdefault(match.index, []).append(name)
        for index, names in by_index.items():
            if index < 0 or len(names) == 1:
                continue
            plain = {name: _loosen(_cleaned(name), whole=True) for name in names}
            sure = {plain[name] for name in plain if matches[name].exact and not matches[name].removed}
            other = next((name for name in plain if plain[name] != plain[names[0]]), None)
            if other and not sure:
                raise LeafwingError(
                    f"{where}: {clean(names[0])} and {clean(other)} could both be {clean(self._paths[index])}; remove the lines of "
                    "the one that is not here, such as those of another split."
                )
            for name in plain:
                if sure and plain[name] not in sure:
                    del matches[name]

    def describe_splits(self, shared: Iterable[str]) -> str:
        """Which of some names that several entries share mean files of different splits, for an error; empty if none does."""
        meant = {end: name for name in shared for end in (_cleaned(name), _loosen(_cleaned(name)))}
        earlier: dict[str, tuple[str, set[str]]] = {}
        for path in self._paths if meant else ():
            splits = {part for part in path.split("/")[:-1] if is_split(part)}
            for name in {meant[end] for end in (*parts_after(path), *parts_after(_loosen(path))) if end in meant}:
                other, its_splits = earlier.setdefault(name, (path, splits))
                if its_splits != splits:
                    return (
                        f"lists {clean(name)}, which may be {clean(other)} or {clean(path)}: list paths such as {clean(path)}, give "
                        "each of these folders a list of its own, or use one of them as the source."
                    )
        return ""

    def notes(self, files: str, missing: Iterable[str]) -> list[str]:
        """What was assumed about the names in these files, and which of them mean no entry or several, in sentences."""
        notes = []
        if self._assumed:
            name, path = next(iter(self._assumed.items()))
            notes.append(
                f"Names in {files} that differ from the file in case, accents or extension: {len(self._assumed):,}, such as "
                f"{clean(name)} for {clean(path)}."
            )
        shared = [name for name in missing if name in self._shared]
        if shared:
            notes.append(f"Names in {files} that several images share: {len(shared)} ({first(shared)}); list their paths.")
        if absent := sorted({*missing} - {*shared}):
            notes.append(f"Files in {files} that do not exist: {len(absent)} ({first(absent)}).")
        return notes

    def nearest(self, name: str) -> str:
        """The entry whose path resembles a name most, for messages."""
        near = difflib.get_close_matches(name, self._paths[:10_000], n=1, cutoff=0.3) or self._paths[:1]
        return clean(near[0]) if near else "(none)"

    def is_shared(self, name: str) -> bool:
        """Whether `find` or `in_list` found several entries that a name could mean."""
        return name in self._shared

    def describe_shared(self, files: Iterable[str]) -> str:
        """Which of some files have the name of several images, and so belong to none, in a sentence; empty if none does."""
        shared = [file for file in files if self._stems.whole.get(stem(file.removeprefix("./"))) == -1]
        if not shared:
            return ""
        name = stem(shared[0].removeprefix("./"))
        images = sorted(clean(self._paths[index]) for index, image in self._stems.paths.items() if image == name)
        return (
            f"Of these, {len(shared):,} could belong to several images each, such as {clean(shared[0])} to {' or '.join(images[:2])}; "
            "one image of each name is needed."
        )

    def owners(self, files: Sequence[str], folders: Sequence[str]) -> dict[str, int]:
        """The files that belong to one image each, and the indices of their entries; as for `beside`.

        Files in a parallel tree belong to none if several could belong to one image, or if their names are those of images in several
        splits.
        """
        matches = {file: match for file in files if (match := self._beside(file, folders)) is not None}
        shared = [PurePosixPath(file).stem for file, match in matches.items() if match.index < 0]
        if self.describe_splits(shared):
            matches = {file: match for file, match in matches.items() if match.direct}
        counts = Counter(match.index for match in matches.values())
        return {
            file: match.index
            for file, match in matches.items()
            if match.index >= 0 and (counts[match.index] == 1 or not match.removed)
        }

    def beside(self, path: str, folders: Sequence[str]) -> int | None:
        """The index of the entry that a file of one image belongs to; None if none or several.

        Args:
            path: `x.jpg.txt` or `x.txt` in the folder of `x.jpg`, or at the same place in a parallel tree of folders.
            folders: names of the top folders of such trees, in lower case: for `text`, `text/a/x.txt` belongs to `images/a/x.jpg`.
        """
        match = self._beside(path, folders)
        return match.index if match and match.index >= 0 else None

    def _beside(self, path: str, folders: Sequence[str]) -> Match | None:
        path = path.removeprefix("./")
        name = stem(path)
        if (index := self._names.whole.get(name, self._stems.whole.get(name))) is not None:
            return Match(index, "", inside=True, direct=True)
        parts = path.split("/")
        if (top := next((i for i, part in enumerate(parts[:-1]) if part.lower() in folders), None)) is None:
            return None
        above = "".join(f"{part}/" for part in parts[:top])
        match = self._stems.find(stem("/".join(parts[top + 1 :])), above)
        return match if match and (match.inside or not self._stems.inside(above)) else None


def _beginnings(path: str) -> Iterator[str]:
    """What precedes each folder of a path that ends in `/`."""
    while path:
        path = folder_of(path.removesuffix("/"))
        yield path


def _cleaned(name: str) -> str:
    """A name in a list as a path."""
    return clean(name.strip().replace("\\", "/").removeprefix("./"))


def _loosen(path: str, *, whole: bool = False) -> str:
    """A path without the extension of an image (with it if `whole`), in one Unicode normal form and without case."""
    plain = unicodedata.normalize("NFC", stem(path) if has_image_suffix(path) and not whole else path)
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


@dataclass(frozen=True)
class Sheet:
    """A table as text.

    Args:
        text: without empty lines at its top and Excel's line `sep=;`.
        skipped: the number of these lines.
        delimiter: what separates its columns: as that line says, or the most frequent one in the first line.
    """

    text: str
    skipped: int
    delimiter: str

    @classmethod
    def of(cls, text: str) -> Sheet:
        """The sheet in the text of a file."""
        plain = text.lstrip("\r\n")
        skipped = text.count("\n", 0, len(text) - len(plain))
        header, _, rest = plain.partition("\n")
        if match := re.fullmatch(r"sep=(.)\s*", header):
            return cls(rest, skipped + 1, match[1])
        return cls(plain, skipped, max(DELIMITERS, key=header.count))

    @property
    def header(self) -> str:
        """Its first line."""
        return self.text.partition("\n")[0].strip()

    def rows(self, where: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """The number of the first line of each row that is not empty, and its cells without spaces around them.

        Raises:
            LeafwingError: a double quote is not closed; the message begins with `where` and names the line.
        """
        lines: list[str] = []

        read = partial(csv.reader, delimiter=delimiter, skipinitialspace=True)

        def recorded() -> Iterator[str]:
            for line in io.StringIO(self.text):
                lines.append(line)
                yield line

        number = self.skipped + 1
        try:
            for row in read(recorded()):
                if len(lines) > 1:
                    list(read(lines, strict=True))
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield number, cells
                number += len(lines)
                lines.clear()
        except csv.Error as error:
            raise LeafwingError(
                f"{where}, line {number}: not a readable csv file ({error}); is a double quote in this line not closed? Inside "
                'quotes, write "" for one.'
            ) from None


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
    sheet = Sheet.of(read_text(source, name))
    others = sorted(DELIMITERS, key=lambda delimiter: -sheet.header.count(delimiter))
    for delimiter in dict.fromkeys((sheet.delimiter, *others)):
        rows = sheet.rows(where, delimiter)
        try:
            titles = [clean(title.lower()) for title in next(rows, (0, []))[1]]
        except LeafwingError:  # with another delimiter
            continue
        for layout in layouts:
            columns = {
                role.rstrip("?"): titles.index(title)
                for role, names in layout.items()
                if (title := next((title for title in names if title in titles), None)) is not None
            }
            if all(role in columns or role.endswith("?") for role in layout):
                unused = [title for index, title in enumerate(titles) if title and index not in columns.values()]
                return Table(where, columns, unused, list(_complete(where, rows, titles, columns, delimiter)))
    raise LeafwingError(
        f"{where}: the first line must name the columns {expected}; it is: {clean(sheet.header)[:80] or '(empty)'}"
    )


def _complete(
    where: str, rows: Iterable[tuple[int, list[str]]], titles: list[str], columns: Mapping[str, int], delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Rows with a cell for each title; a last column with unquoted commas is put together again."""
    number = len(titles)
    text_last = columns.get("caption") == number - 1
    for line, row in rows:
        cells = row + [""] * (number - len(row))
        if len(cells) > number and text_last:
            cells = [*cells[: number - 1], f"{delimiter} ".join(cells[number - 1 :])]
        elif any(cells[number:]):
            raise LeafwingError(
                f"{where}, line {line}: {len(cells)} cells, but the first line names {number} columns; "
                "put text that contains commas between double quotes."
            )
        if not cells[columns["file"]]:
            raise LeafwingError(f"{where}, line {line}: a file is needed.")
        require_one_line(where, line, cells[columns["file"]])
        yield line, cells


def require_one_line(where: str, line: int, cell: str) -> None:
    """Raises LeafwingError if a name goes on in the next line: a double quote before it is not closed."""
    if "\n" in cell:
        raise LeafwingError(f"{where}, line {line}: {clean(cell)[:40]} ends in another line; is a double quote not closed?")

"""Reads lists of labels and attributes: `labels.csv` and its variants, `metadata.jsonl` and `metadata.csv`, CelebA's attributes,
StyleGAN's `dataset.json`. `labels` assigns them to images.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from leafwing.data.attributes import MAX_NUMBERS, is_number_or_boolean
from leafwing.data.lists import FILE, Names, Sheet, folder_of, read_json, read_text, require_one_line
from leafwing.data.sources import Source, clean, has_image_suffix
from leafwing.errors import LeafwingError

PLAIN_FILE = ("name", "id", "img", "filepath", "file_path", "image_path")
"""Further titles of the column that names the image, if there is none of `FILE`."""
LABEL = ("label", "class", "category", "class_name", "label_name", "target")
TAGS = ("tags", "labels")
"""Titles of a column with several words in a cell, each of which is a binary attribute."""
MISSING = frozenset({"nan", "na", "n/a", "null"})
"""Labels that may stand for a missing value, in lower case."""
COMPLETE = 0.95
"""Labels in metadata, which may be there for another purpose, are used if at least this share of the images has one."""
ATTRIBUTES = re.compile(r"list_attr.*\.(txt|csv)")


_NUMBER = re.compile(r"[-+]?[0-9]*[.,]?[0-9]+([eE][-+]?[0-9]+)?")


@dataclass
class LabelList:
    """The content of a list.

    Args:
        file: its name in the source.
        labels: file -> label; None if the list has none.
        columns: names of the attribute columns.
        rows: file -> its line number, and its cells in the order of `columns`.
        notes: what was assumed, and what is not used, in sentences.
    """

    file: str
    labels: dict[str, str] | None
    columns: list[str] = field(default_factory=list)
    rows: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> Sequence[str]:
        """The files that it lists."""
        return list(self.rows if self.labels is None else self.labels)


def is_list(name: str) -> bool:
    """Whether a side file is a list of labels or attributes by its name."""
    file = PurePosixPath(name).name.lower()
    return file in ("labels.csv", "labels.tsv", "dataset.json", "metadata.csv", "metadata.jsonl") or bool(
        ATTRIBUTES.fullmatch(file)
    )


def label_of(value: Any) -> str:
    """A value in JSON or in a column as a label: a text or a number, where 1.0 is 1; empty if it is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:  # NaN
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def class_name(value: Any, names: Sequence[Any]) -> Any:
    """The name of the class with this number, which may be stored as 1.0; another value as it is."""
    if isinstance(value, int | float) and 0 <= value < len(names) and value == int(value):
        return names[int(value)]
    return value


def find_fraction(labels: Iterable[str]) -> str:
    """One of the labels that is no whole number, if all are numbers and too many for classes: they are measurements; else empty."""
    different = {label for label in labels if label.lower() not in MISSING}
    if len(different) <= MAX_NUMBERS or not all(_NUMBER.fullmatch(label) for label in different):
        return ""
    return next((label for label in sorted(different) if not float(label.replace(",", ".")).is_integer()), "")


def read_list(source: Source, name: str, chosen: bool = False) -> LabelList | None:
    """Reads a list.

    Args:
        source: the source.
        name: one of its side files.
        chosen: whether the user chose it; otherwise metadata without labels are left to the captions.

    Returns:
        None if it contains neither labels nor attributes, and need not.

    Raises:
        LeafwingError: it is invalid; the message names the line.
    """
    file = PurePosixPath(name).name.lower()
    if file == "dataset.json" or (chosen and file.endswith(".json")):
        return _read_json(source, name, chosen)
    if file.endswith(".jsonl"):
        return _read_json_lines(source, name, chosen)
    if ATTRIBUTES.fullmatch(file) and file.endswith(".txt"):
        return _read_celeba(source, name)
    if file == "metadata.csv" and not chosen:
        return _read_metadata(source, name)
    return _read_table(source, name)


def _read_metadata(source: Source, name: str) -> LabelList | None:
    """The labels of metadata that may be captions: none if they are missing, incomplete or contradictory, which a note says."""
    try:
        sheet = Sheet.of(read_text(source, name))
        rows = [cells for _, cells in sheet.rows(f"{source.path}: {name}", sheet.delimiter)]
    except LeafwingError:  # the captions say why
        return None
    titles = [title.lower() for title in rows[0]] if rows else []
    return _labels_of(name, [dict(zip(titles, cells, strict=False)) for cells in rows[1:]], source)


def _labels_of(name: str, records: Sequence[Mapping[str, Any]], source: Source) -> LabelList | None:
    """The labels in records of metadata, each of which names its file."""
    labels: dict[str, str] = {}
    files: set[str] = set()
    unusable = ""
    for record in records:
        file = next((record[key] for key in FILE if isinstance(record.get(key), str)), None)
        label = next((record[key] for key in LABEL if key in record), None)
        if file is None:
            continue
        files.add(file)
        if not (text := label_of(label)):
            unusable = unusable or str(label or "")
            continue
        if labels.setdefault(file, text) != text:
            source.notes.append(
                f"The labels in {name} are not used, because {clean(file)} has several; --labels {name} requires them."
            )
            return None
    if fraction := find_fraction(labels.values()):
        source.notes.append(
            f"The labels in {name} are not used, because they are many numbers that are not whole, such as {fraction}; labels are "
            "whole numbers or texts."
        )
        return None
    if unusable and not labels:
        source.notes.append(
            f"The labels in {name} are not used, because they are neither texts nor numbers, such as {clean(unusable)[:40]}."
        )
    if labels and len(labels) < COMPLETE * len(files):
        source.notes.append(
            f"The labels in {name} are not used, because only {len(labels):,} of {len(files):,} images have one; --labels {name} "
            "uses these images alone."
        )
        return None
    return LabelList(name, labels) if labels else None


def _read_table(source: Source, name: str) -> LabelList:
    """Labels and attribute columns of a table."""
    where = f"{source.path}: {name}"
    table = _Table.parse(where, read_text(source, name), Names(source.entries), folder_of(name))
    titles, (file, label) = table.titles, table.roles()
    attributes = _attribute_columns(where, titles, {file, label})
    if file is None or (label is None and not attributes):
        raise LeafwingError(
            f"{where}: the first line must name the columns file,label or file and attributes; it is: "
            f"{clean(table.header)[:80] or '(empty)'}"
        )
    labels: dict[str, str] = {}
    result = LabelList(name, None if label is None else labels, [titles[index] for index in attributes])
    for line, row in table.rows:
        cells = row + [""] * (len(titles) - len(row))
        if any(cells[len(titles) :]):
            raise LeafwingError(
                f"{where}, line {line}: {len(cells)} cells, but the first line names {len(titles)} columns; put names that contain "
                "commas between double quotes."
            )
        if not cells[file] or (label is not None and not cells[label]):
            needed = "a file is" if label is None else "a file and a label are"
            raise LeafwingError(f"{where}, line {line}: {needed} needed.")
        for cell in (cells[index] for index in (file, label) if index is not None):
            require_one_line(where, line, cell)
        key = cells[file]
        if label is not None and labels.setdefault(key, cells[label]) != cells[label]:
            raise LeafwingError(f"{where}, line {line}: {clean(key)} has two labels, {labels[key]} and {cells[label]}.")
        values = [clean(cells[index]) for index in attributes]
        first_line, before = result.rows.setdefault(key, (line, values))
        if before != values:
            raise LeafwingError(
                f"{where}, line {line}: {clean(key)} is listed in line {first_line} with different attributes."
            )
    assumed = [
        f"with column {titles[index]} as the {role}"
        for index, role in ((file, "file"), (label, "label"))
        if index is not None and titles[index].lower() != role
    ]
    assumed += ["as files and labels, without a line of titles"] * table.headless
    if table.delimiter != "," and len(titles) > 1:
        assumed.append(f"with columns separated by {_SEPARATORS.get(table.delimiter, table.delimiter)}")
    if assumed:
        result.notes.append(f"{name} is read {' and '.join(assumed)}.")
    return _split_tags(result)


_SEPARATORS = {"\t": "tabs", " ": "spaces"}
_PROBE = 20
"""Rows in which names of images are looked for."""


@dataclass
class _Table:
    """The cells of a table, and what its columns may be.

    Args:
        header: its first line.
        delimiter: what separates its columns.
        titles: of its columns.
        rows: line numbers and cells.
        headless: whether it has no titles: two columns, and its first line names an image.
        names: finds the images of the source.
        folder: that of the table.
    """

    header: str
    delimiter: str
    titles: list[str]
    rows: list[tuple[int, list[str]]]
    headless: bool
    names: Names
    folder: str

    @classmethod
    def parse(cls, where: str, text: str, names: Names, folder: str, limit: int | None = None) -> _Table:
        """Reads a table, or its first rows; `where` is for error messages."""
        sheet = Sheet.of(text)
        delimiter, header = sheet.delimiter, sheet.header
        if delimiter not in header and len(header.split()) == 2:
            delimiter = " "
        rows = list(itertools.islice(sheet.rows(where, delimiter), limit))
        first = rows[0][1] if rows else []
        headless = len(first) == 2 and has_image_suffix(first[0]) and names.find(first[0], folder) is not None
        titles = ["file", "label"] if headless else [clean(title) for title in first]
        return cls(header, delimiter, titles, rows if headless else rows[1:], headless, names, folder)

    def roles(self) -> tuple[int | None, int | None]:
        """The columns of the file and of the label; None for one that does not exist.

        Titles say which they are. In a table of two columns, one with another title is recognised: that of the file by its content,
        and the label because there is nothing else, unless its values are numbers, yes and no, or several words each.
        """
        lowercase = [title.lower() for title in self.titles]
        file, label = _column(lowercase, FILE, PLAIN_FILE), _column(lowercase, LABEL)
        titled = [index for index, title in enumerate(self.titles) if title]
        rows = [row for _, row in self.rows if len(row) == len(self.titles)]
        if len(titled) != 2 or not rows:
            return file, label
        if file is None:
            named = [index for index in titled if index != label and self.names_images(index)]
            file = named[0] if len(named) == 1 else None
        if file is not None and label is None:
            (other,) = {*titled} - {file}
            values = {row[other] for row in rows if row[other]}
            several = lowercase[other] in TAGS and any(re.search(r"[\s;,|]", value) for value in values)
            label = None if several or not values or any(is_number_or_boolean(value) for value in values) else other
        titled_file = _column(lowercase, FILE, PLAIN_FILE)
        return (titled_file if label is None else file), label

    def names_images(self, column: int) -> bool:
        """Whether the first cells of a column are names of images."""
        cells = [row[column] for _, row in self.rows[:_PROBE] if len(row) > column]
        return bool(cells) and all(self.names.find(cell, self.folder) is not None for cell in cells)

    def is_measured(self, column: int) -> bool:
        """Whether the cells of a column are numbers, too many for classes."""
        cells = {row[column] for _, row in self.rows if len(row) > column}
        return len(cells) > MAX_NUMBERS and all(_NUMBER.fullmatch(cell) for cell in cells)


def lists_images(source: Source, name: str, names: Names) -> bool:
    """Whether a side file looks like a list that `--labels` can read: a table with the names of images, and not only measurements."""
    try:
        table = _Table.parse(name, read_text(source, name), names, folder_of(name), limit=_PROBE + 1)
    except LeafwingError:
        return False
    file, label = table.roles()
    if file is None or not replace(table, rows=table.rows[:2]).names_images(file):
        return False
    others = [index for index, title in enumerate(table.titles) if index != file and title.lower() != "input"]  # of pairs
    return any(index == label or not table.is_measured(index) for index in others)


def _column(titles: Sequence[str], *names: Sequence[str]) -> int | None:
    return next((titles.index(name) for group in names for name in group if name in titles), None)


def _attribute_columns(where: str, header: list[str], others: set[int | None]) -> list[int]:
    """Indices of the attribute columns: all with a name, except file and label.

    Raises:
        LeafwingError: two columns with the same name, or an ambiguous name.
    """
    columns: dict[str, int] = {}
    for index, title in enumerate(header):
        if index in others or not title:
            continue
        if title in columns:
            raise LeafwingError(f"{where}: columns {columns[title] + 1} and {index + 1} are both named {title}.")
        if "=" in title or "," in title:
            raise LeafwingError(f"{where}: column {index + 1} is named {title!r}; a name may contain neither = nor a comma.")
        columns[title] = index
    return list(columns.values())


def _split_tags(result: LabelList) -> LabelList:
    """Replaces a column of several words by a binary attribute for each word."""
    index = next((i for i, title in enumerate(result.columns) if title.lower() in TAGS), None)
    if index is None:
        return result
    words = {
        name: {word for word in re.split(r"[\s;,|]+", cells[index]) if word} for name, (_, cells) in result.rows.items()
    }
    tags = sorted(set().union(*words.values())) if words else []
    if not any(len(each) > 1 for each in words.values()) or any("=" in tag for tag in tags):
        return result
    result.notes.append(f"{result.file}: each word of column {result.columns[index]} is an attribute.")
    result.columns[index : index + 1] = tags
    for name, (line, cells) in result.rows.items():
        bits = [str(int(tag in words[name])) for tag in tags]
        result.rows[name] = (line, [*cells[:index], *bits, *cells[index + 1 :]])
    return result


def _read_json_lines(source: Source, name: str, chosen: bool) -> LabelList | None:
    """Labels from lines such as `{"file_name": "0001.png", "label": "cat"}`; None without any."""
    where = f"{source.path}: {name}"
    records = []
    for number, line in enumerate(read_text(source, name).split("\n"), 1):
        if line.strip():
            record = read_json(f"{where}, line {number}", line)
            if not isinstance(record, dict):
                return None
            records.append({str(key).lower(): value for key, value in record.items()})
    return _labels_of_all(where, name, records) if chosen else _labels_of(name, records, source)


def _labels_of_all(where: str, name: str, records: Iterable[Mapping[str, Any]]) -> LabelList | None:
    """The labels of the records that name a file and have one; None without any.

    Raises:
        LeafwingError: a file has two labels.
    """
    labels: dict[str, str] = {}
    for record in records:
        file = next((record[key] for key in FILE if isinstance(record.get(key), str)), None)
        label = next((record[key] for key in LABEL if key in record), None)
        if file is None or not (text := label_of(label)):
            continue
        if labels.setdefault(file, text) != text:
            raise LeafwingError(f"{where}: {clean(file)} has two labels, {labels[file]} and {text}.")
    return LabelList(name, labels) if labels else None


def _read_celeba(source: Source, name: str) -> LabelList:
    """Attributes as CelebA lists them: the number of images, the attributes' names, and lines with a file and 1 or -1 for each."""
    where = f"{source.path}: {name}"
    lines = read_text(source, name).splitlines()
    columns = lines[1].split() if len(lines) > 1 else []
    rows: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(lines[2:], 3):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != len(columns) + 1 or {*cells[1:]} - {"1", "-1", "0"}:
            raise LeafwingError(f"{where}, line {number}: expected a file and {len(columns)} values, each 1 or -1.")
        rows[cells[0]] = (number, cells[1:])
    if not rows:
        raise LeafwingError(f"{where}: expected the number of images, the names of attributes, and a line for each image.")
    return LabelList(name, None, columns, rows)


def _read_json(source: Source, name: str, chosen: bool) -> LabelList | None:
    """`{"labels": [["00000/img.png", 3], ...]}`, as of StyleGAN; None if it has no labels.

    If the user chose it, also `{"img.png": "cat", ...}`, and what `_records` reads.
    """
    where = f"{source.path}: {name}"
    content = read_json(where, read_text(source, name))
    if chosen and isinstance(content, dict) and content and all(isinstance(label, str) for label in content.values()):
        texts = {file: text for file, label in content.items() if (text := label.strip())}
        return LabelList(name, texts) if texts else None
    if chosen and (records := _records(content)):
        return _labels_of_all(where, name, records)
    pairs = content.get("labels") if isinstance(content, dict) else None
    if pairs is None:
        return None
    labels: dict[str, str] = {}
    for pair in pairs.items() if isinstance(pairs, Mapping) else pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise LeafwingError(f'{where}: "labels" must be a list of ["file", class index].')
        if not re.fullmatch(r"-?[0-9]+", label_of(pair[1])) or isinstance(pair[1], str):
            raise LeafwingError(
                f"{where}: the label of {clean(pair[0])} is not an integer; vectors are not supported as labels. "
                'Give class indices, or remove "labels" to train without.'
            )
        labels[pair[0]] = label_of(pair[1])
    return LabelList(name, labels)


def _records(content: Any) -> list[dict[str, Any]]:
    """The objects of `[{"file": "img.png", "label": "cat"}, ...]`, `{"images": [...]}` or `{"img.png": {"label": "cat"}, ...}`.

    Their keys are lower case; there are none in other content.
    """
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        content = content["images"]
    if isinstance(content, dict):
        content = [{FILE[0]: file, **value} if isinstance(value, dict) else value for file, value in content.items()]
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        return []
    return [{str(key).lower(): value for key, value in record.items()} for record in content]

"""The class and the attributes of each image: from `labels.csv`, StyleGAN's `dataset.json`, or the folder names.

The rule for folders: strip the folders that all images share, then a level that only says train, test or validation. If every
image is then exactly one folder deep and there are at least two of these folders, their names are the classes. Any other tree has
no labels. Further columns of `labels.csv` are attributes; without a label column, folders may still give labels. `sources`
reads the bytes, `attributes` encodes the columns.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field

from leafwing.data.attributes import encode
from leafwing.data.lists import read_json, read_text
from leafwing.data.sources import Entry, RejectedFile, Source, clean
from leafwing.errors import LeafwingError

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})


@dataclass
class LabelList:
    """The content of a list.

    Args:
        labels: file -> label; None if the list has no such column.
        columns: names of the attribute columns.
        rows: file -> its line number, and its cells in the order of `columns`.
    """

    labels: dict[str, str] | None
    columns: list[str] = field(default_factory=list)
    rows: dict[str, tuple[int, list[str]]] = field(default_factory=dict)


def assign(source: Source) -> None:
    """Assigns labels and attributes to the entries of a source; entries missing from a list are rejected.

    Raises:
        LeafwingError: a list of labels is invalid.
    """
    if source.labelled:
        return
    shared = _shared([entry.name for entry in _layout_entries(source.entries)])
    for folder in dict.fromkeys(("", shared)):
        if (name := f"{folder}labels.csv") in source.side_files:
            label_list = _read_csv(source, name)
            _assign_listed(source, folder, name, label_list)
            return _assign_by_folder(source, shared) if label_list.labels is None else None
        if (name := f"{folder}dataset.json") in source.side_files:
            labels = _read_stylegan(source, name)
            if labels is not None:
                return _assign_listed(source, folder, name, LabelList(labels))
            source.notes.append(f"{name} contains no labels.")
            return None
    return _assign_by_folder(source, shared)


def classes(labels: set[str]) -> tuple[str, ...]:
    """Class names in index order: numerical if all are numbers, otherwise alphabetical."""
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _layout_entries(entries: list[Entry]) -> list[Entry]:
    """The entries that determine the folder layout: images, unless no file has an image extension."""
    return [entry for entry in entries if entry.has_image_suffix] or entries


def _shared(names: list[str]) -> str:
    """The folders that all names share, as a prefix ending in `/`; may be empty."""
    if not names:
        return ""
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return "".join(f"{folder}/" for folder in first[:depth])


def _assign_by_folder(source: Source, shared: str) -> None:
    """Labels from folder names; see the rule above."""
    if not source.folders_are_classes:
        return
    images = _layout_entries(source.entries)
    folders = {entry.name: tuple(entry.name.removeprefix(shared).split("/")[:-1]) for entry in images}
    if all(path and path[0].lower() in SPLITS for path in folders.values()):
        splits = Counter(path[0] for path in folders.values())
        if len(splits) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in splits.items())
            source.notes.append(f"All splits are used together ({counts}); give the folder of one split to use only that.")
        folders = {name: path[1:] for name, path in folders.items()}
    if len(set(folders.values())) < 2 or any(len(path) != 1 for path in folders.values()):
        return
    for entry in images:
        entry.label = folders[entry.name][0]
    for entry in source.entries:  # an image with an unusual file name, in a class folder
        parent = entry.name.split("/")[-2:-1]
        if entry.label is None and (*parent,) in folders.values():
            entry.label = parent[0]
    source.rejects += [RejectedFile(e.name, "outside the class folders") for e in source.entries if e.label is None]
    source.entries = [entry for entry in source.entries if entry.label is not None]
    source.notes.append("The folder names are the labels.")


def _assign_listed(source: Source, folder: str, file: str, label_list: LabelList) -> None:
    """Assigns each entry the values listed for its path below `folder`, or for its bare name if that is unique."""
    names = label_list.rows if label_list.labels is None else label_list.labels
    rows = {clean(name.replace("\\", "/").removeprefix("./")): name for name in names}
    bare = Counter(entry.name.rsplit("/", 1)[-1] for entry in source.entries)
    matches: dict[str, str] = {}
    for entry in source.entries:
        path, name = entry.name.removeprefix(folder), entry.name.rsplit("/", 1)[-1]
        row = path if path in rows else name if name in rows and bare[name] == 1 else None
        if row is not None:
            matches[entry.name] = row
    what = "attributes" if label_list.labels is None else "label"
    source.rejects += [
        RejectedFile(entry.name, f"no {what} in {file}") for entry in source.entries if entry.name not in matches
    ]
    source.entries = [entry for entry in source.entries if entry.name in matches]
    if label_list.labels is not None:
        for entry in source.entries:
            entry.label = label_list.labels[rows[matches[entry.name]]]
        source.notes.append(f"Labels come from {file}.")
    if label_list.columns:
        listed = [label_list.rows[rows[matches[entry.name]]] for entry in source.entries]
        _assign_attributes(source, file, label_list.columns, listed)
    if extra := sorted(set(rows) - set(matches.values())):
        source.notes.append(
            f"Files in {file} that do not exist: {len(extra)} ({', '.join(extra[:3])}{' ...' * (len(extra) > 3)})."
        )


def _assign_attributes(source: Source, file: str, columns: list[str], rows: list[tuple[int, list[str]]]) -> None:
    """Assigns attributes to each entry; `rows` has the line number and the cells of each."""
    names: list[str] = []
    attributes: list[tuple[int, ...]] = [()] * len(rows)
    for index, name in enumerate(columns):
        column = encode(name, [(line, cells[index]) for line, cells in rows], f"{source.path}: {file}")
        if column.problem:
            source.notes.append(f"{file}: column {name} {column.problem}. The column is ignored.")
        names += column.names
        attributes = [
            before + column.codes.get(cells[index], ()) for before, (_, cells) in zip(attributes, rows, strict=True)
        ]
    if not names:
        return
    for entry, values in zip(source.entries, attributes, strict=True):
        entry.attributes = values
    source.attributes = tuple(names)
    source.notes.append(f"Attributes come from {file}: {', '.join(names[:12])}{' ...' * (len(names) > 12)}.")


def _read_csv(source: Source, name: str) -> LabelList:
    """Reads labels and attribute columns."""
    where = f"{source.path}: {name}"
    labels: dict[str, str] = {}
    try:
        rows = csv.reader(io.StringIO(read_text(source, name)))
        header = [clean(column.strip()) for column in next(rows, [])]
        lowercase = [column.lower() for column in header]
        attribute_columns = _attribute_columns(where, header)
        if "file" not in lowercase or ("label" not in lowercase and not attribute_columns):
            line = ",".join(lowercase)[:80] or "(empty)"
            raise LeafwingError(
                f"{where}: the first line must name the columns file,label or file and attributes; it is: {line}"
            )
        file, label = lowercase.index("file"), lowercase.index("label") if "label" in lowercase else None
        label_list = LabelList(None if label is None else labels, [header[index] for index in attribute_columns])
        for row in rows:
            if not any(row):
                continue
            cells = [cell.strip() for cell in row] + [""] * (len(lowercase) - len(row))
            if not cells[file] or (label is not None and not cells[label]):
                needed = "a file is" if label is None else "a file and a label are"
                raise LeafwingError(f"{where}, line {rows.line_num}: {needed} needed.")
            key = cells[file]
            if label is not None and labels.setdefault(key, cells[label]) != cells[label]:
                raise LeafwingError(
                    f"{where}, line {rows.line_num}: {clean(key)} has two labels, {labels[key]} and {cells[label]}."
                )
            values = [clean(cells[index]) for index in attribute_columns]
            first_line, before = label_list.rows.setdefault(key, (rows.line_num, values))
            if before != values:
                raise LeafwingError(
                    f"{where}, line {rows.line_num}: {clean(key)} is listed in line {first_line} with different attributes."
                )
    except csv.Error as error:
        raise LeafwingError(f"{where}: not a readable csv file ({error}).") from None
    return label_list


def _attribute_columns(where: str, header: list[str]) -> list[int]:
    """Indices of the attribute columns: all with a name, except file and label.

    Raises:
        LeafwingError: two columns with the same name, or an ambiguous name.
    """
    columns: dict[str, int] = {}
    for index, title in enumerate(header):
        if title.lower() in ("file", "label", ""):
            continue
        if title in columns:
            raise LeafwingError(f"{where}: columns {columns[title] + 1} and {index + 1} are both named {title}.")
        if "=" in title or "," in title:
            raise LeafwingError(f"{where}: column {index + 1} is named {title!r}; a name may contain neither = nor a comma.")
        columns[title] = index
    return list(columns.values())


def _read_stylegan(source: Source, name: str) -> dict[str, str] | None:
    """File name -> label from `{"labels": [["00000/img.png", 3], ...]}`; None if it contains no labels."""
    where = f"{source.path}: {name}"
    content = read_json(where, read_text(source, name))
    pairs = content.get("labels") if isinstance(content, dict) else None
    if pairs is None:
        return None
    labels: dict[str, str] = {}
    for pair in pairs.items() if isinstance(pairs, dict) else pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise LeafwingError(f'{where}: "labels" must be a list of ["file", class index].')
        if isinstance(pair[1], bool) or not isinstance(pair[1], int):
            raise LeafwingError(
                f"{where}: the label of {clean(pair[0])} is not an integer; vectors are not supported as labels. "
                'Give class indices, or remove "labels" to train without.'
            )
        labels[pair[0]] = str(pair[1])
    return labels

"""Which class a picture belongs to: `labels.csv`, StyleGAN's `dataset.json`, or the folder it lies in.

The rule for folders: take off the folders that all pictures share, then a level that only says train, test or validation.
If every picture then lies exactly one folder deep and there are at least two such folders, their names are the classes. Any
other tree has no labels. Reading bytes is the business of `sources`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping

from leafwing.data.sources import Entry, Reject, Source, clean
from leafwing.errors import LeafwingError

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})


def assign(source: Source) -> None:
    """Gives the entries of a source their labels; entries that a list of labels leaves out become rejects.

    Raises:
        LeafwingError: a list of labels cannot be understood.
    """
    if source.labelled:
        return
    shared = _shared([entry.name for entry in _pictures(source.entries)])
    for folder in dict.fromkeys(("", shared)):
        if (name := f"{folder}labels.csv") in source.sides:
            return _apply(source, folder, name, _read_csv(source, name))
        if (name := f"{folder}dataset.json") in source.sides:
            labels = _read_stylegan(source, name)
            if labels is not None:
                return _apply(source, folder, name, labels)
            source.notes.append(f"{name} gives no labels.")
            return None
    return _by_folder(source, shared)


def classes(labels: set[str]) -> tuple[str, ...]:
    """Class names in index order: by number when all are numbers, else by alphabet."""
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _pictures(entries: list[Entry]) -> list[Entry]:
    """The entries that decide the layout: a stray document must not."""
    return [entry for entry in entries if entry.promises] or entries


def _shared(names: list[str]) -> str:
    """The folders that all names share, as a prefix ending in `/`, or nothing."""
    if not names:
        return ""
    first, last = min(names).split("/")[:-1], max(names).split("/")[:-1]
    depth = 0
    while depth < min(len(first), len(last)) and first[depth] == last[depth]:
        depth += 1
    return "".join(f"{folder}/" for folder in first[:depth])


def _by_folder(source: Source, shared: str) -> None:
    """Labels from folder names; see the rule above."""
    deciding = _pictures(source.entries)
    folders = {entry.name: tuple(entry.name.removeprefix(shared).split("/")[:-1]) for entry in deciding}
    if all(path and path[0].lower() in SPLITS for path in folders.values()):
        splits = Counter(path[0] for path in folders.values())
        if len(splits) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in splits.items())
            source.notes.append(f"All parts are used together ({counts}); give the folder of one part to use only that.")
        folders = {name: path[1:] for name, path in folders.items()}
    if len(set(folders.values())) < 2 or any(len(path) != 1 for path in folders.values()):
        return
    for entry in deciding:
        entry.label = folders[entry.name][0]
    for entry in source.entries:  # a picture under a strange name, in a class folder
        parent = entry.name.split("/")[-2:-1]
        if entry.label is None and (*parent,) in folders.values():
            entry.label = parent[0]
    source.rejects += [Reject(e.name, "lies outside the class folders") for e in source.entries if e.label is None]
    source.entries = [entry for entry in source.entries if entry.label is not None]
    source.notes.append("The folder names are the labels.")


def _apply(source: Source, folder: str, file: str, labels: Mapping[str, str]) -> None:
    """Gives each entry the label listed for its path below `folder`, or for its bare name where that names one file only."""
    rows = {clean(name.replace("\\", "/").removeprefix("./")): label for name, label in labels.items()}
    bare = Counter(entry.name.rsplit("/", 1)[-1] for entry in source.entries)
    used = set()
    for entry in source.entries:
        path, name = entry.name.removeprefix(folder), entry.name.rsplit("/", 1)[-1]
        row = path if path in rows else name if name in rows and bare[name] == 1 else None
        if row is not None:
            used.add(row)
            entry.label = rows[row]
    missing = [entry for entry in source.entries if entry.label is None]
    source.rejects += [Reject(entry.name, f"no label in {file}") for entry in missing]
    source.entries = [entry for entry in source.entries if entry.label is not None]
    source.notes.append(f"Labels come from {file}.")
    if extra := sorted(set(rows) - used):
        source.notes.append(
            f"{file} lists {len(extra)} files that are not there: {', '.join(extra[:3])}{' ...' * (len(extra) > 3)}"
        )


def _text(source: Source, name: str) -> str:
    try:
        return source.read(source.sides[name]).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LeafwingError(f"{source.path}: {name} is not UTF-8 text; save it as UTF-8.") from None
    except Exception as error:  # an unreadable member of an archive, or of the disk
        raise LeafwingError(f"{source.path}: {name} cannot be read ({error}).") from None


def _read_csv(source: Source, name: str) -> dict[str, str]:
    """File name -> label."""
    where = f"{source.path}: {name}"
    labels: dict[str, str] = {}
    try:
        rows = csv.reader(io.StringIO(_text(source, name)))
        head = [column.strip().lower() for column in next(rows, [])]
        if "file" not in head or "label" not in head:
            found = clean(",".join(head))[:80]
            raise LeafwingError(f"{where}: the first line must name the columns file,label; it is: {found or '(empty)'}")
        file, label = head.index("file"), head.index("label")
        for row in rows:
            if not any(row):
                continue
            if len(row) <= max(file, label) or not row[file].strip() or not row[label].strip():
                raise LeafwingError(f"{where}, line {rows.line_num}: a file and a label are needed.")
            key, value = row[file].strip(), row[label].strip()
            if labels.setdefault(key, value) != value:
                raise LeafwingError(
                    f"{where}, line {rows.line_num}: {clean(key)} has two labels, {labels[key]} and {value}."
                )
    except csv.Error as error:
        raise LeafwingError(f"{where}: not a readable csv file ({error}).") from None
    return labels


def _read_stylegan(source: Source, name: str) -> dict[str, str] | None:
    """File name -> label from `{"labels": [["00000/img.png", 3], ...]}`; None when it holds no labels."""
    where = f"{source.path}: {name}"
    try:
        content = json.loads(_text(source, name))
    except (ValueError, RecursionError) as error:
        raise LeafwingError(f"{where}: not readable JSON ({error}).") from None
    pairs = content.get("labels") if isinstance(content, dict) else None
    if pairs is None:
        return None
    labels: dict[str, str] = {}
    for pair in pairs.items() if isinstance(pairs, dict) else pairs if isinstance(pairs, list) else [pairs]:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise LeafwingError(f'{where}: "labels" must be a list of ["file", class number].')
        if isinstance(pair[1], bool) or not isinstance(pair[1], int):
            raise LeafwingError(
                f"{where}: the label of {clean(pair[0])} is not a whole number; vectors are not supported as labels. "
                'Give class numbers, or remove "labels" to train without.'
            )
        labels[pair[0]] = str(pair[1])
    return labels

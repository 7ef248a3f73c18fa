"""Labels and captions of crops as lists beside them, and copies of the other lists of their pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from leafwing import files
from leafwing.commands.writing import safe_path
from leafwing.data import captions, labels, pairs, positions
from leafwing.data.label_lists import is_list
from leafwing.data.lists import Names, first
from leafwing.data.sources import DAMAGED, Source, clean
from leafwing.errors import LeafwingError

LABELS, CAPTIONS = "labels.csv", "captions.csv"
"""Files of the output folder."""

Crops = Mapping[str, Sequence[str]]
"""The names of pictures, and their crops as paths in the output folder."""


def write(source: Source, crops: Crops, folder: Path, used: Sequence[str]) -> list[str]:
    """Writes the labels and captions of crops as lists, and copies the other lists that name pictures, except those of positions.

    Args:
        source: the pictures.
        crops: their crops.
        folder: the output folder.
        used: lists by which the pictures were cropped.

    Returns:
        What was written, and what was not and why, in sentences.

    Raises:
        StorageError: a list cannot be written.
    """
    entries = [replace(entry) for entry in source.entries]
    scratch = replace(source, entries=entries, rejects=[], notes=[], used_files=set(), other_encodings=set())
    notes = [*_write_labels(scratch, crops, folder)]
    scratch.entries = source.entries  # also those without a label
    notes += _write_captions(scratch, crops, folder)
    mentioned = {
        name for name in scratch.used_files if any(note.startswith(f"{name} is not used") for note in scratch.notes)
    }
    read = scratch.used_files - mentioned
    others = sorted({*source.side_files} - read - {*used} - {*positions.find_lists(source)})
    lists = [name for name in others if is_list(name) or PurePosixPath(name).name == pairs.PAIRS_FILE]
    lists += labels.find_lists(source, [name for name in others if name not in lists])
    return notes + _copy(source, lists, crops, folder)


def _write_labels(source: Source, crops: Crops, folder: Path) -> list[str]:
    """Labels and attributes, unless the folders are the labels; returns notes. Assigns labels to the source."""
    try:
        table = labels.assign(source)
    except LeafwingError as error:
        source.used_files.clear()
        return [f"No labels are written, because train would refuse them: {_reason(error, source)}"]
    columns: dict[str, dict[str, str]] = {}
    if labels.ORIGINS[0] not in source.notes:
        columns["label"] = {entry.name: clean(entry.label) for entry in source.entries if entry.label is not None}
    for index, title in enumerate(table.columns if table else ()):
        columns[title] = {entry.name: cells[index] for entry, _, cells in (table.rows if table else ())}
    for index, title in enumerate(source.attributes):
        columns[title] = {entry.name: str(entry.attributes[index]) for entry in source.entries}
    columns = {title: cells for title, cells in columns.items() if cells}
    notes = [note for note in source.notes if note.startswith((labels.ORIGINS[1], "Labels in", "The labels in"))]
    if not columns:
        if source.labelled and len({PurePosixPath(name).parent for name in crops}) > 1:
            notes.append("The folders of the crops are files of the source, and no classes: train them with --labels none.")
        return notes
    listed = [name for name in crops if all(name in cells for cells in columns.values())]
    if not listed:
        return [*notes, "No labels are written, because no crop has any."]
    rows = [[crop, *(cells[name] for cells in columns.values())] for name in listed for crop in crops[name]]
    _write(folder / LABELS, ["file", *columns], rows)
    what = ["the labels"] * ("label" in columns) + ["the attributes"] * bool({*columns} - {"label"})
    return [*notes, _describe(f"{LABELS} has {' and '.join(what)}", listed, crops)]


def _write_captions(source: Source, crops: Crops, folder: Path) -> list[str]:
    """The captions of the first layout that covers at least half of the pictures; returns notes."""
    names, notes = Names(source.entries), []
    names.images = len(crops)
    for what, read in captions.layouts(source, names):
        try:
            result = read()
        except LeafwingError as error:
            notes.append(f"No captions are written, because train would refuse them: {_reason(error, source)}")
            continue
        values = {source.entries[index].name: texts for index, texts in result.values.items()} if result else {}
        listed = [name for name in crops if values.get(name)]
        if result and listed and 2 * len(listed) >= len(crops):
            rows = [[crop, " ".join(text.split())] for name in listed for crop in crops[name] for text in values[name]]
            _write(folder / CAPTIONS, ["file", "caption"], rows)
            source.used_files |= {*result.used}
            return [*notes, _describe(f"{CAPTIONS} has the captions", listed, crops, f", from {what}")]
    return notes


def _copy(source: Source, names: Sequence[str], crops: Crops, folder: Path) -> list[str]:
    """Copies lists that name pictures; returns notes."""
    if names and any(len(each) > 1 for each in crops.values()):
        return [f"Not copied: {first(names)}, because pictures have several crops, with other names."]
    notes, copied = [], []
    for name in names:
        target = folder / safe_path(name)
        if target.exists() or any(parent.is_file() for parent in target.parents):
            notes.append(f"Not copied: {name}, because of another file of that name.")
            continue
        try:
            content = source.read(source.side_files[name])
        except DAMAGED as error:
            notes.append(f"Not copied: {name}, which cannot be read ({error}).")
            continue
        with files.storage(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        copied.append(name)
    return [*notes, f"Copied unchanged: {first(copied)}."] if copied else notes


def _write(path: Path, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([titles, *rows])
    files.write(path, text.getvalue())


def _describe(what: str, listed: Sequence[str], crops: Crops, origin: str = "") -> str:
    number, total = sum(len(crops[name]) for name in listed), sum(map(len, crops.values()))
    return f"{what} of {number:,} crops{origin}{f'; {total - number:,} have none' if total > number else ''}."


def _reason(error: LeafwingError, source: Source) -> str:
    return f"{str(error).removeprefix(f'{source.path}: ').rstrip('.')}."

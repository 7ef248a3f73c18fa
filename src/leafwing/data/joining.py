"""Opens and labels a source, or several that are read as if they lay in one folder, each under its own name.

Each of several sources is labelled by itself: by its lists, its class folders, or its own labels. Classes of the same name are then
one class. Sources that all lack labels, and have their images in one folder each, are classes themselves, unless they are splits or
shards of one set. If only some have labels, none are used, no image is left out for want of one, and a note says so. Captions and
positions have one layout in all sources, see `side_fields`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from leafwing.data import labels as labelling
from leafwing.data import pairs, shards
from leafwing.data.labels import Table
from leafwing.data.lists import first
from leafwing.data.locating import plain_name
from leafwing.data.matching import is_split
from leafwing.data.opening import Listing, open_source
from leafwing.data.pairs import Input
from leafwing.data.sources import Column, Entry, RejectedFile, Source
from leafwing.errors import LeafwingError


def open_sources(listings: Sequence[Listing], labels: str | None, input: str | None) -> tuple[Source, Input | None]:
    """Opens a source, or several that are joined, with labels and attributes, and the files of inputs.

    Args:
        listings: as `locating.list_places` returns them.
        labels: as for `load`.
        input: an input that comes from the same source, as for `load`.

    Raises:
        LeafwingError: a source cannot be read, has no such input or labels, or no images that could be joined.
    """
    layout: Input | None = None
    with ExitStack() as stack:
        parts: dict[str, Source] = {}
        tables: dict[str, Table | None] = {}
        before: dict[str, _Before] = {}
        for listing in listings:
            part = open_source(listing.path, listing.files, listing.rejects)
            stack.callback(part.close)
            if listing.name and not part.entries:
                raise LeafwingError(f"{listing.path} has no images to join with the others; omit it")
            layout = None if input is None else pairs.find_input(part, input)
            if input is None and pairs.has_list(part):
                part.notes.append(
                    f"{pairs.PAIRS_FILE} is not used; --input {pairs.PAIRS_FILE} reads the pairs that it lists."
                )
                part.used_files.add(pairs.PAIRS_FILE)  # this note mentions it
            parts[listing.name] = part
            if listing.name:
                before[listing.name] = _Before.of(part)
            table = labelling.assign(part, labels, listing.name)
            tables[listing.name] = _take_attributes(part) if listing.name and part.attributes else table
        whole = {} if any(tables.values()) else before  # attributes are those of the images that are left
        notes = _join_labels(parts, whole) if len(parts) > 1 and labels not in labelling.CHOICES else []
        source = _join(parts, notes) if listings[0].name else part
        if table := _join_tables(source, tables) if source.parts else tables[listings[0].name]:
            labelling.assign_attributes(source, table)
        stack.pop_all()
    return source, layout


@dataclass(frozen=True)
class _Before:
    """What labelling changes in a source, as it was before."""

    entries: list[Entry]
    rejects: list[RejectedFile]
    notes: list[str]
    used_files: set[str]

    @classmethod
    def of(cls, part: Source) -> _Before:
        return cls([*part.entries], [*part.rejects], [*part.notes], {*part.used_files})

    def restore(self, part: Source) -> None:
        part.entries, part.rejects, part.notes, part.used_files = self.entries, self.rejects, self.notes, self.used_files


def _join(parts: Mapping[str, Source], notes: Sequence[str]) -> Source:
    """Several sources as one, with the names in front of their paths."""
    opened = tuple(parts.values())

    def close() -> None:
        for part in opened:
            part.close()

    source = Source(
        f"{len(parts)} sources: {', '.join(part.kind for part in opened)}",
        Path(" + ".join(str(part.path) for part in opened)),
        [],
        lambda location: opened[location[0]].read(location[1]),
        folders_are_classes=all(part.folders_are_classes for part in opened),
        close=close,
        parts=opened,
    )
    shared = [note for note in opened[0].notes if all(note in part.notes for part in opened)]
    for index, (name, part) in enumerate(parts.items()):
        partners = {id(entry.input): entry.input for entry in part.entries if entry.input}  # several images may share one
        entries = {id(entry): entry for entry in part.entries} | partners
        for entry in entries.values():
            entry.name, entry.location = f"{name}/{entry.name}", (index, entry.location)
        source.entries += part.entries
        source.side_files |= {f"{name}/{file}": (index, place) for file, place in part.side_files.items()}
        source.rejects += [replace(reject, name=f"{name}/{reject.name}") for reject in part.rejects]
        source.used_files |= {f"{name}/{file}" for file in part.used_files}
        source.other_encodings |= {f"{name}/{file}" for file in part.other_encodings}
        if name != plain_name(part.path):
            source.notes.append(f"{part.path} is read under the name {name}.")
        source.notes += [f"{name}: {note}" for note in part.notes if note not in shared]
    source.columns = _join_columns(opened)
    source.notes += [*shared, *notes]
    return source


def _join_columns(parts: Sequence[Source]) -> dict[str, Column]:
    """The columns that are neither labels nor attributes: those of the same name are one, which lacks the rows of other sources."""
    columns: dict[str, dict[int, Column]] = {}
    for index, part in enumerate(parts):
        for name, column in part.columns.items():
            if name not in part.used_files:
                columns.setdefault(name, {})[index] = column
    joined = {}
    for name, each in columns.items():
        kind = "text" if any(column.kind == "text" for column in each.values()) else next(iter(each.values())).kind
        same = {index: column for index, column in each.items() if column.kind == kind}
        joined[name] = Column(kind, partial(_read_columns, parts, same))
    return joined


def _read_columns(parts: Sequence[Source], columns: Mapping[int, Column]) -> dict[Any, Any]:
    """The values of columns by the location of each entry in joined sources."""
    values: dict[Any, Any] = defaultdict(lambda: None)
    for index, column in columns.items():
        rows = column.read()
        values |= {entry.location: rows[entry.location[1]] for entry in parts[index].entries}
    return values


def _take_attributes(part: Source) -> Table:
    """The attributes that a source has of its own, as those of a list: they are encoded again together with those of other sources."""
    rows = [(entry, entry.name, [str(value) for value in entry.attributes]) for entry in part.entries]
    table = Table(part.path.name, part.attributes, rows)
    part.attributes = ()
    part.notes = [note for note in part.notes if not note.startswith(labelling.ORIGINS[2])]
    for entry in part.entries:
        entry.attributes = ()
    return table


def _join_labels(parts: Mapping[str, Source], before: Mapping[str, _Before]) -> list[str]:
    """Decides on the labels of joined sources by the rule above, and returns notes.

    Args:
        parts: the sources by name.
        before: what they were before they were labelled, and are again if images were left out for labels that are not used; may
            be empty.
    """
    classes = {name: {entry.label for entry in part.entries if entry.label is not None} for name, part in parts.items()}
    without = [name for name in parts if not classes[name]]
    folders = {name: _only_folder(parts[name]) for name in without}
    paired = not all(part.folders_are_classes for part in parts.values())
    if without and not paired:
        single = {name: folder for name, folder in folders.items() if folder}
        if len(single) == len(without) and len(set().union(*classes.values(), single.values())) > 1:
            for name, folder in single.items():
                _label(parts[name].entries, folder)
                classes[name] = {folder}
        elif len(without) == len(parts) and None not in folders.values():
            if (splits := all(map(is_split, parts))) or _are_shards([*parts.values()]):
                what = "The splits " * splits + first([*parts])
                return [f"{what} are used together, without labels; --labels folders makes each of them a class."]
            for name, part in parts.items():
                _label(part.entries, name)
            origins = first([f"{name} from {part.path}" for name, part in parts.items()], 8)
            return [f"Each source is a class: {origins}; --labels none uses all images without labels."]
    if not any(classes.values()):
        return []
    if not all(classes.values()):
        for name, part in parts.items():
            if name in before and len(before[name].entries) > len(part.entries):
                before[name].restore(part)
            _label(part.entries, None)
            part.notes = [note for note in part.notes if not note.startswith(labelling.ORIGINS[:2])]
        labelled, unlabelled = [name for name in parts if classes[name]], [name for name in parts if not classes[name]]
        lost = any(item.reason.startswith(labelling.UNLABELLED) for part in parts.values() for item in part.rejects)
        way_out = ", --labels none uses all images" if lost else ""
        return [
            f"No labels are used, because {first(unlabelled)} {'have' if len(unlabelled) > 1 else 'has'} none, unlike "
            f"{first(labelled)}; --labels folders labels each image by the folder that it is in{way_out}."
        ]
    return _describe_classes(classes)


def _are_shards(parts: Sequence[Source]) -> bool:
    """Whether sources are files of one set that differ in their numbers, as a pattern such as `shard-*.tar` gives them."""
    sets = {shards.set_name(plain_name(part.path)) for part in parts}
    return len(sets) == 1 and sets != {""} and all(part.kind in ("parquet", "tar") and part.path.is_file() for part in parts)


def _describe_classes(classes: Mapping[str, set[str]]) -> list[str]:
    """Which classes the sources share, and which only one of them has."""
    common = {label for label in set().union(*classes.values()) if sum(label in each for each in classes.values()) > 1}
    notes = []
    if common:
        notes.append(f"Classes of the same name in several sources are one class: {first(labelling.classes(common), 8)}.")
    only = [f"{first(labelling.classes(each - common), 8)} from {name}" for name, each in classes.items() if each - common]
    return [*notes, f"Classes of one source: {'; '.join(only)}."] if only else notes


def _label(entries: Sequence[Entry], label: str | None) -> None:
    for entry in entries:
        entry.label = label


def _only_folder(part: Source) -> str | None:
    """The folder in which all images of a source lie; empty if they lie in none or only in folders of splits; None if in several."""
    if part.labelled or part.raw:  # the paths are no user's
        return ""
    folders = {next(iter(entry.folders[-1:]), "") for entry in labelling.layout_entries(part.entries)}
    if all(map(is_split, folders)):
        return ""
    return folders.pop() if len(folders) == 1 else None


def _join_tables(source: Source, tables: Mapping[str, Table | None]) -> Table | None:
    """The attributes of joined sources together; None, and a note, if not all have the same ones."""
    present = {name: table for name, table in tables.items() if table}
    if not present:
        return None
    columns = next(iter(present.values())).columns
    if len(present) < len(tables) or any({*table.columns} != {*columns} for table in present.values()):
        listed = first([f"{', '.join(table.columns)} of {name}" for name, table in present.items()])
        source.notes.append(f"Attributes are not used, because the sources do not all have the same ones: {listed}.")
        return None
    files = first([f"{name}/{table.files}" for name, table in present.items()])
    rows = [
        (entry, f"{line} of {name}/{table.files}", [cells[table.columns.index(column)] for column in columns])
        for name, table in present.items()
        for entry, line, cells in table.rows
    ]
    return Table(files, columns, rows)

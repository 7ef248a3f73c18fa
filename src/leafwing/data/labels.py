"""The class and the attributes of each image: from a list (`label_lists`), or from the folder names.

The rule for folders: strip the folders that all images share, then levels that only say train, test or validation, at the top or
below the classes, and a last level that is the same everywhere (`daisy/images`). If there are then at least two folders, and every
image is directly in one of them, their names are the classes. A few images elsewhere are rejected, a split without class folders is
left out, and classes that appear again in a deeper folder are recognised. Any other tree has no labels, and a note says why. `sources`
reads the bytes, `attributes` encodes the columns.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from leafwing.data import webdataset
from leafwing.data.attributes import encode
from leafwing.data.label_lists import MISSING, LabelList, find_fraction, is_list, label_of, lists_images, read_list
from leafwing.data.lists import Names, first, folder_of, read_column
from leafwing.data.matching import is_split
from leafwing.data.opening import Listing
from leafwing.data.sources import Entry, RejectedFile, Source, clean, has_image_suffix, is_hidden
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean

STRAYS = 0.05
"""Up to this share of the images may lie outside the class folders; they are rejected."""
MANY, MOST = 10, 0.9
"""Of at least so many classes this share with a single image is mentioned."""
TABLES = (".csv", ".tsv", ".txt")
"""Extensions of files that may be lists under any name."""
_SEARCHED = 20
"""Number of such files that are looked into."""
CHOICES = ("folders", "none")
"""Values of the option `labels` besides the name of a list."""
OUTSIDE = "outside the class folders"
UNLABELLED = ("no label in ", "no attributes in ", OUTSIDE)
"""How the reasons begin for which files are rejected that `labels=none` uses."""
ORIGINS = ("The folder names are the labels.", "Labels come from ", "Attributes come from ")
"""How the notes begin that say where labels and attributes come from."""


@dataclass(frozen=True)
class Table:
    """Attributes before they are encoded: the lists in words, their columns, and line and cells of each image that is listed."""

    files: str
    columns: tuple[str, ...]
    rows: list[tuple[Entry, str, list[str]]]


def assign(source: Source, chosen: str | None = None, name: str = "") -> Table | None:
    """Assigns labels to the entries of a source; entries missing from a list are rejected.

    Args:
        source: the source.
        chosen: `folders`, `none` or the name of a list; None: a list if there is one, else folders.
        name: its name among joined sources, which with `folders` is the label of images that lie in no folder of it.

    Returns:
        The attributes that its lists have, for `assign_attributes`; None without any.

    Raises:
        LeafwingError: a list of labels is invalid, names no image, or does not exist.
    """
    if source.labelled:
        _assign_own(source, chosen, name)
        if not source.attributes:
            _assign_booleans(source)
        return None
    shared = _shared([entry.name for entry in layout_entries(source.entries)])
    known_lists = [name for name in source.side_files if is_list(name)]
    if chosen in CHOICES:
        source.notes += [f"{name} is not used (--labels {chosen})." for name in known_lists]
        source.used_files |= {*known_lists}
        if chosen == "folders":
            _assign_all_folders(source, name or None)
        return None
    if chosen is not None and f"./{chosen}" in source.side_files:  # in a tar
        chosen = f"./{chosen}"
    if chosen is not None and chosen not in source.side_files:
        advice = _advise_name(source, chosen) or f"give folders, none or a list{did_you_mean(chosen, source.side_files)}"
        raise InvalidOption("labels", chosen, f"not a file of {f'the source {name}' if name else 'this source'}; {advice}")
    files = [chosen] if chosen else _choose_lists(source, shared, known_lists)
    lists = [item for file in files if (item := read_list(source, file, bool(chosen))) is not None]
    if not lists:
        if chosen:
            raise InvalidOption(
                "labels",
                chosen,
                "contains no labels: in JSON, objects must name a file and a label, class or category, as "
                '{"a.png": {"label": "cat"}}; or it is {"a.png": "cat"}',
            )
        if numbered := [file for file in files if file.lower().endswith("dataset.json")]:  # its folders are parts of a set
            source.notes.append(f"{numbered[0]} contains no labels.")
            source.used_files.add(numbered[0])
            return None
        if beside := webdataset.read_labels(source):
            return _assign_listed(source, [beside])
        _assign_by_folder(source, shared)
        return None
    table = _assign_listed(source, lists)
    if lists[0].labels is None:
        _assign_by_folder(source, shared)
    return table


def _advise_name(source: Source, chosen: str) -> str:
    """What to do with the path of a list that is no name in the source; empty if it is not the path of a file."""
    path = Path(chosen)
    if not path.is_file():
        return ""
    with suppress(ValueError):
        if (inside := path.resolve().relative_to(source.path.resolve()).as_posix()) in source.side_files:
            return f"give its name there: --labels {inside}"
    return f"copy it to the images ({source.path}), and give its name there: --labels {path.name}"


def _assign_own(source: Source, chosen: str | None, name: str) -> None:
    """Labels that the entries have already, or that are a column; rows without one are rejected. `name` as for `assign`.

    Raises:
        LeafwingError: there is no such column, or no label in it; several may be the labels; or one has fractions.
    """
    if chosen == "none":
        for entry in source.entries:
            entry.label = None
        return
    everywhere = chosen == "folders" and name
    chosen = None if everywhere else chosen
    if chosen is not None and chosen not in source.columns:
        columns = f", or one of its columns: {', '.join(source.columns)}" if source.columns else ""
        raise InvalidOption(
            "labels", chosen, f"{source.path.name} has its own labels, or none; omit it, or give none{columns}"
        )
    candidates = source.label_columns if chosen is None else [chosen]
    if len(candidates) > 1:
        raise LeafwingError(
            f"{source.path}: several columns may be the labels: {', '.join(candidates)}. --labels {candidates[0]} chooses one, "
            "--labels none uses none"
        )
    for column in candidates:
        rows = read_column(source, column)
        values = [rows[entry.location] for entry in source.entries]
        _require_classes(source, column, values)
        for entry, label in zip(source.entries, _labels_of(values), strict=True):
            entry.label = label
        if all(entry.label is None for entry in source.entries):
            if chosen:
                raise InvalidOption(
                    "labels", chosen, f"this column of {source.path.name} contains no labels; give none or another"
                )
            source.notes.append(f"{column} in {source.path.name} contains no labels.")
            break
        without = [(entry, value) for entry, value in zip(source.entries, values, strict=True) if entry.label is None]
        failures = {
            entry.name: f"cannot be read: {clean(str(value))}" for entry, value in without if isinstance(value, Exception)
        }
        if negative := [value for _, value in without if isinstance(value, int | float) and value < 0]:
            source.notes.append(
                f"Negative numbers in {column} mean no label: {len(negative):,}, such as {negative[0]}; if they are a class, number "
                "the classes from 0."
            )
        _reject_unlabelled(source, failures, f"no label in {column}")
        source.notes.append(f"{ORIGINS[1]}{column} in {source.path.name}.")
    if everywhere:
        for entry in source.entries:
            entry.label = entry.label or name


def _require_classes(source: Source, column: str, values: Sequence[Any]) -> None:
    """Checks that the numbers of a column may be classes, and are no measurements.

    Raises:
        LeafwingError: a number is not whole.
    """
    for value in values:
        if isinstance(value, float) and not value.is_integer() and value == value:  # NaN is no label
            raise LeafwingError(_describe_fractions(source, column, f"{value:g}"))


def _describe_fractions(source: Source, place: str, value: str) -> str:
    return (
        f"{source.path}: {place} has numbers that are not whole, such as {value}, which are no classes: labels are whole numbers or "
        "texts. Group them into a few classes, or --labels none uses none"
    )


def _labels_of(values: Sequence[Any]) -> list[str | None]:
    """The values of a column as labels; None where there is none, as a negative number means, unless the classes are -1 and 1."""
    numbers = {value for value in values if isinstance(value, int | float) and value == value}

    def label(value: Any) -> str | None:
        if isinstance(value, int | float) and value < 0 and numbers != {-1, 1}:
            return None
        return (str(value) if isinstance(value, bool) else label_of(value)) or None

    return [label(value) for value in values]


def _assign_booleans(source: Source) -> None:
    """Columns of false and true are attributes, if every row has a value."""
    names = [name for name, column in source.columns.items() if column.kind == "boolean" and name not in source.used_files]
    columns = {name: read_column(source, name) for name in names if not set("=,") & {*name}}
    rows = [entry.location for entry in source.entries]
    for name in [name for name, values in columns.items() if any(values[row] is None for row in rows)]:
        source.notes.append(f"Column {name} is not used, because some rows have no value in it.")
        del columns[name]
    if columns:
        source.attributes = tuple(columns)
        for entry in source.entries:
            entry.attributes = tuple(int(values[entry.location]) for values in columns.values())
        source.notes.append(f"{ORIGINS[2]}{source.path.name}: {first([*columns], 12)}.")


def class_notes(labels: Counter[str]) -> list[str]:
    """What is odd about classes, in sentences: names that differ only in how they are written, missing values, one image in each."""
    groups: dict[object, list[str]] = {}
    for label in sorted(labels):
        plain = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
        number = float(plain) if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", plain) else plain
        groups.setdefault(number, []).append(label)
    notes = []
    if alike := [
        " = ".join(f"{label} ({labels[label]:,})" for label in group) for group in groups.values() if len(group) > 1
    ]:
        notes.append(
            f"Classes that differ only in case, spaces, number format or how accents are encoded: {first(alike)}. They are separate "
            "classes; write them in the same way if they are one."
        )
    if missing := [f"{label} ({labels[label]:,} images)" for label in sorted(labels) if label.lower() in MISSING]:
        notes.append(f"A class may stand for a missing label: {first(missing)}. Remove these images if they have none.")
    single = [label for label in sorted(labels) if labels[label] == 1]
    if len(labels) >= MANY and len(single) >= MOST * len(labels):
        notes.append(
            f"Of {len(labels):,} classes {len(single):,} have a single image, such as {first(single)}: if these are no classes, "
            "--labels none uses none."
        )
    return notes


def classes(labels: set[str]) -> tuple[str, ...]:
    """Class names in index order: numerical if all are whole numbers, otherwise alphabetical."""
    if all(label.removeprefix("-").isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def describe_unused(listings: Sequence[Listing], classes: Iterable[str], used: Sequence[str]) -> list[str]:
    """A note about classes of which no image can be used, if there are any: all are rejected, or their folder is empty.

    Args:
        listings: the source, or those that are joined.
        classes: the classes of all images, also of those that are rejected.
        used: the classes of the images that are used.
    """
    unused = {*classes} | {name for listing in listings for name in _empty_folders(listing, used)}
    unused -= {*used}
    names = first(sorted(unused), 8)
    if unused and not used:
        return [f"Folders without files, beside the only one with images, which is therefore no class: {names}."]
    return [f"Classes of which no image can be used: {names}."] if unused else []


def _empty_folders(listing: Listing, used: Sequence[str]) -> Iterator[str]:
    """Names of folders without files beside the class folders, or beside the only folder with images."""
    if not isinstance(listing.path, Path) or not listing.path.is_dir():
        return
    files = [file.name for file in listing.files]
    folders = {folder_of(name) for name in files if has_image_suffix(name)}
    class_folders = {folder for folder in folders if PurePosixPath(folder).name in used}
    if not used and len(folders) == 1:
        class_folders = folders - {""}
    full = {parent for name in files for parent in map(str, PurePosixPath(name).parents)}
    for parent in {PurePosixPath(folder).parent for folder in class_folders}:
        with suppress(OSError), os.scandir(listing.path / parent) as items:
            yield from (
                clean(item.name)
                for item in items
                if item.is_dir() and not is_hidden(item.name) and str(parent / item.name) not in full
            )


def find_lists(source: Source, names: Sequence[str]) -> list[str]:
    """Those of some side files that are not used but look like lists that the option `labels` can read."""
    tables = [name for name in names if name.lower().endswith(TABLES)]
    images = Names(source.entries)
    return [
        name for name in sorted(tables, key=lambda name: name.count("/"))[:_SEARCHED] if lists_images(source, name, images)
    ]


def _choose_lists(source: Source, shared: str, known_lists: Sequence[str]) -> list[str]:
    """The lists that are read: the highest of their kind above all images, or one in each split. Notes about those that are not."""
    shared = shared.removeprefix("./")
    folders = {name: folder_of(name).removeprefix("./") for name in known_lists}  # in some tars
    top = sorted((name for name in known_lists if shared.startswith(folders[name])), key=lambda name: len(folders[name]))
    below = [name for name in known_lists if name not in top and is_split(folders[name].removeprefix(shared).strip("/"))]
    best = min((_rank(name) for name in top or below), default=0)
    same = [name for name in top or below if _rank(name) == best]
    chosen = same[:1] if top else same
    for name in known_lists:
        if name not in chosen and _rank(name) == 0:
            why = f"labels come from {first(chosen)}" if chosen else "images lie outside its folder"
            source.notes.append(f"{name} is not used, because {why}; --labels {name} reads it.")
            source.used_files.add(name)
    return chosen


def _rank(name: str) -> int:
    """The order of kinds of lists."""
    kinds = ("labels.", "dataset.json", "metadata.", "list_attr")
    return next(i for i, kind in enumerate(kinds) if name.rpartition("/")[2].lower().startswith(kind))


def layout_entries(entries: list[Entry]) -> list[Entry]:
    """The entries that determine the folder layout: images, unless no file has an image extension."""
    return [entry for entry in entries if entry.has_image_suffix] or entries


def _shared(names: list[str]) -> str:
    """The folders that all names share, as a prefix ending in `/`; may be empty."""
    if not names:
        return ""
    first_name, last_name = min(names).split("/")[:-1], max(names).split("/")[:-1]
    depth = 0
    while depth < min(len(first_name), len(last_name)) and first_name[depth] == last_name[depth]:
        depth += 1
    return "".join(f"{folder}/" for folder in first_name[:depth])


def _assign_by_folder(source: Source, shared: str) -> None:
    """Labels from folder names; see the rule above."""
    images = layout_entries(source.entries)
    if not source.folders_are_classes:
        if source.tops and any(len(entry.folders) > source.tops and not entry.input for entry in images):
            source.notes.append(
                "The folder names are not used as labels, because several tar files have images of the same name; --labels folders "
                "uses them."
            )
        return
    names = {entry.name: entry.name.split("/", source.tops)[-1] for entry in images}
    shared = _shared([*names.values()]) if source.tops else shared
    folders = {name: tuple(inner.removeprefix(shared).split("/")[:-1]) for name, inner in names.items()}
    reasons: dict[str, str] = {}
    if folders and all(len(path) > 1 and is_split(path[0]) and is_split(path[1]) for path in folders.values()):
        folders = {name: path[1:] for name, path in folders.items()}  # train/train/daisy
    folders = _without_last_level(folders)
    if folders and all(path and is_split(path[0]) for path in folders.values()):
        splits = Counter(path[0] for path in folders.values())
        unlabelled = [split for split in splits if all(len(path) == 1 for path in folders.values() if path[0] == split)]
        if len(unlabelled) < len(splits):
            for name, path in folders.items():
                if path[0] in unlabelled:
                    reasons[name] = f"{OUTSIDE}: {path[0]}/ has none, unlike the other splits"
            folders = {name: path for name, path in folders.items() if name not in reasons}
            if unlabelled:
                counts = ", ".join(f"{split}/ ({splits[split]:,} images)" for split in unlabelled)
                source.notes.append(
                    f"Not used: {counts}, without class folders, unlike the other splits; --labels none uses all images, without "
                    "labels."
                )
        used = {split: count for split, count in splits.items() if split not in unlabelled or len(unlabelled) == len(splits)}
        if len(used) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in used.items())
            source.notes.append(f"All splits are used together ({counts}); give the folder of one split to use only that.")
        folders = {name: path[1:] for name, path in folders.items()}
    labels = _folder_labels(source, folders)
    if labels is None:
        return
    for entry in images:
        entry.label = labels.get(entry.name)
    parents = {folder_of(entry.name): entry.label for entry in images if entry.label is not None}
    for entry in source.entries:  # an image with an unusual file name, in a class folder
        if entry.label is None and entry.name not in folders and entry.name not in reasons:
            entry.label = parents.get(folder_of(entry.name))
    _keep_labelled(source, reasons)


def _without_last_level(folders: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The folders of images without a last level that is the same everywhere, or that only says train or test below the classes."""
    last = {path[-1] if path else "" for path in folders.values()}
    deep = [path for path in folders.values() if len(path) > 1]
    below = len(deep) == len(folders) and all(map(is_split, last)) and not any(is_split(path[0]) for path in deep)
    if deep and "" not in last and (len(last) == 1 or below):
        return {name: path[:-1] for name, path in folders.items()}
    return folders


def _folder_labels(source: Source, folders: dict[str, tuple[str, ...]]) -> dict[str, str] | None:
    """The labels of images by the folders that they are in; None if these are no classes, which a note explains."""
    by_depth: dict[int, list[str]] = {}
    for name, path in folders.items():
        by_depth.setdefault(len(path), []).append(name)
    if not by_depth or max(by_depth) == 0:
        return None
    flat = {folders[name][0] for name in by_depth.get(1, [])}
    strays = by_depth.get(0, [])
    deeper = [name for depth, names in by_depth.items() if depth > 1 for name in names]
    again = [name for name in deeper if folders[name][-1] in flat]
    if len(flat) >= 2 and len(again) == len(deeper) and len(strays) <= STRAYS * len(folders):
        if again:
            source.notes.append(
                f"Classes also appear in deeper folders, which are added to them: {len(again):,} images, such as {again[0]}."
            )
        if strays:
            source.notes.append(
                f"Images beside the class folders are not used: {len(strays):,} ({first(strays)}); --labels none uses all "
                "images, without labels."
            )
        return {name: path[-1] for name, path in folders.items() if path}
    if len({path for path in folders.values() if path}) >= 2:
        if deeper:
            why = f"images lie at different depths, such as {by_depth[min(by_depth)][0]} and {by_depth[max(by_depth)][0]}"
            if len(by_depth) == 1:
                why = f"they are {len(folders[deeper[0]])} deep, such as {deeper[0]}"
        else:
            why = f"{len(strays):,} images are in none ({strays[0]})"
        source.notes.append(f"The folder names are not used as labels, because {why}; --labels folders uses them.")
    return None


def _assign_all_folders(source: Source, top: str | None) -> None:
    """Labels each image by the folder that it is in, and those that are in none with `top`."""
    for entry in source.entries:
        entry.label = next(iter(entry.folders[-1:]), top)
    _keep_labelled(source, {})


def _keep_labelled(source: Source, reasons: dict[str, str]) -> None:
    """Rejects the entries outside the class folders."""
    _reject_unlabelled(source, reasons, OUTSIDE)
    source.notes.append(ORIGINS[0])


def _reject_unlabelled(source: Source, reasons: dict[str, str], otherwise: str) -> None:
    """Rejects the entries without a label."""
    source.rejects += [
        RejectedFile(entry.name, reasons.get(entry.name, otherwise)) for entry in source.entries if entry.label is None
    ]
    source.entries = [entry for entry in source.entries if entry.label is not None]


def _assign_listed(source: Source, lists: Sequence[LabelList]) -> Table | None:
    """Assigns each entry the label that the lists have for it, and returns their attributes.

    Raises:
        LeafwingError: no image is listed.
    """
    names = Names(source.entries)
    files = first([item.file for item in lists])
    has_labels, columns = lists[0].labels is not None, lists[0].columns
    rows: dict[int, tuple[int, list[str]]] = {}
    labels: dict[int, str] = {}
    missing: list[str] = []
    for item in lists:
        if (item.labels is not None) != has_labels or item.columns != columns:
            raise LeafwingError(f"{source.path}: {files} have different columns; --labels FILE chooses one of them.")
        for name, index in names.in_list(item.names, source, item.file).items():
            if index is None:
                missing.append(name)
                continue
            if item.labels is not None and labels.setdefault(index, item.labels[name]) != item.labels[name]:
                raise LeafwingError(
                    f"{source.path}: {item.file}: {source.entries[index].name} has two labels, {labels[index]} and "
                    f"{item.labels[name]}."
                )
            if name in item.rows:
                rows.setdefault(index, item.rows[name])
        source.notes += item.notes
        source.used_files.add(item.file)
    listed = labels if has_labels else rows
    if not listed and missing:
        if message := names.describe_splits(filter(names.is_shared, missing)):
            raise LeafwingError(f"{source.path}: {files} {message}")
        raise LeafwingError(
            f"{source.path}: none of the {len(missing):,} files in {files} is here: it lists {missing[0]}, and the nearest image is "
            f"{names.nearest(missing[0])}. Correct the names, or ignore the list with --labels none"
        )
    if fraction := find_fraction(labels.values()):
        raise LeafwingError(_describe_fractions(source, files, fraction))
    what = "label" if has_labels else "attributes"
    source.rejects += [
        RejectedFile(entry.name, f"no {what} in {files}") for i, entry in enumerate(source.entries) if i not in listed
    ]
    labelled = [(i, entry) for i, entry in enumerate(source.entries) if i in listed]
    source.entries = [entry for _, entry in labelled]
    if has_labels:
        for i, entry in labelled:
            entry.label = labels[i]
        source.notes.append(f"{ORIGINS[1]}{files}.")
    source.notes += names.notes(files, missing)
    if not columns or any(i not in rows for i, _ in labelled):
        return None
    return Table(files, tuple(columns), [(entry, str(rows[i][0]), rows[i][1]) for i, entry in labelled])


def assign_attributes(source: Source, table: Table) -> None:
    """Encodes the attributes of a source, and assigns them to its entries."""
    names: list[str] = []
    attributes: list[tuple[int, ...]] = [()] * len(table.rows)
    for index, name in enumerate(table.columns):
        cells = [(line, values[index]) for _, line, values in table.rows]
        column = encode(name, cells, f"{source.path}: {table.files}")
        if column.problem:
            source.notes.append(f"{table.files}: column {name} {column.problem}. The column is ignored.")
        names += column.names
        attributes = [before + column.codes.get(cell, ()) for before, (_, cell) in zip(attributes, cells, strict=True)]
    if not names:
        return
    for (entry, _, _), codes in zip(table.rows, attributes, strict=True):
        entry.attributes = codes
    source.attributes = tuple(names)
    source.notes.append(f"{ORIGINS[2]}{table.files}: {', '.join(names[:12])}{' ...' * (len(names) > 12)}.")

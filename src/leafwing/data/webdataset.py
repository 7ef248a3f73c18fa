"""WebDataset: files of one sample share a name, `000000.jpg`, `000000.cls`, `000000.txt`, `000000.json`, in tars.

Labels come from `.cls`, or else from a key of `.json`; captions (`captions`) from `.txt`, or else from a key of `.json`. JSON beside
images in a folder usually has another purpose and is not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leafwing.data.label_lists import COMPLETE, LABEL, LabelList, find_fraction, label_of
from leafwing.data.lists import Names, read_texts
from leafwing.data.sources import Source

JSON = "JSON files beside the images"
KEYS = (*LABEL, "cls", "class_id", "label_id")
"""Keys of an object that hold the label, best first."""


def read_labels(source: Source) -> LabelList | None:
    """The labels of samples; None if there are none, or too few, which a note says."""
    names = Names(source.entries)
    classes = names.owners([name for name in source.side_files if name.lower().endswith(".cls")], ())
    source.used_files |= {*classes}
    values = {classes[name]: text.strip() for name, text, problem in read_texts(source, [*classes]) if not problem}
    if classes:
        return _labels(source, ".cls files", values, names.images)
    values, damaged = {}, []
    owners = json_owners(source, names)
    for file, content, problem in read_objects(source, [*owners]):
        if problem:
            damaged.append(problem)
            continue
        key = next((key for key in KEYS if key in content), None)
        if key is None and not values:  # the others have the same keys
            return None
        if key is not None and (text := label_of(content[key])):
            values[owners[file]] = text
    source.used_files |= {*owners} if values else set()
    if damaged:
        source.notes.append(
            f"No labels in {len(damaged):,} of {len(owners):,} {JSON}, which are damaged, such as: {damaged[0]}."
        )
    return _labels(source, JSON, values, names.images) if values else None


def json_owners(source: Source, names: Names) -> Mapping[str, int]:
    """The JSON files of a tar that belong to one image each, and the indices of their entries."""

    def in_tar(location: Any) -> bool:
        return (source.parts[location[0]] if source.parts else source).kind == "tar"

    files = [name for name, place in source.side_files.items() if name.lower().endswith(".json") and in_tar(place)]
    return names.owners(files, ()) if files else {}


def read_objects(source: Source, files: Sequence[str]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The objects in many small JSON files, as name, object and "", or as name, {} and why it cannot be read."""
    for file, text, problem in read_texts(source, files):
        try:
            content = {} if problem else json.loads(text)
        except (ValueError, RecursionError):
            content, problem = {}, f"{file} is not readable JSON"
        if not isinstance(content, dict):
            content, problem = {}, f"{file} is not a JSON object"
        yield file, content, problem


def _labels(source: Source, files: str, values: Mapping[int, str], images: int) -> LabelList | None:
    """A list of labels; None if too few images have one."""
    labels = {source.entries[index].name: label for index, label in values.items() if label}
    if len(labels) < COMPLETE * images:
        source.notes.append(f"Labels in {files} are not used, because only {len(labels):,} of {images:,} images have one.")
        return None
    if fraction := find_fraction(labels.values()):
        source.notes.append(
            f"Labels in {files} are not used, because they are many numbers that are not whole, such as {fraction}."
        )
        return None
    return LabelList(files, labels)

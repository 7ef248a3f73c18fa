"""Further fields of images from the files beside them: captions, boxes and key points. Nothing has to be typed.

`assign` finds the files, chooses a layout for each field, and says what is used and what is not. Images without an annotation are
rejected if at least half of the images have one; otherwise the annotations are not used. `place` converts positions once an image
is decoded, `stack` makes columns. `captions` and `positions` read the files, `labels` assigns labels and attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leafwing.data import captions, positions
from leafwing.data.lists import Annotations, Layout, Names, first
from leafwing.data.options import Target
from leafwing.data.pictures import MisplacedError, Picture, UnusableImageError
from leafwing.data.sources import RejectedFile, Source
from leafwing.fields import Caption, Field


@dataclass(frozen=True)
class _Kind:
    """How a field is read: its layouts, best first; the numbers of raw values; the values of a decoded image."""

    noun: str
    article: str
    layouts: Callable[[Source, Names], Iterator[Layout]]
    encode: Callable[[Mapping[int, list[Any]], list[str]], tuple[Field, Mapping[int, Any], dict[int, str]]]
    place: Callable[[Any, Picture, Target], Any]


KINDS = {
    "caption": _Kind("caption", "a ", captions.layouts, captions.encode, lambda value, picture, target: value),
    "box": _Kind("box", "a ", positions.box_layouts, positions.encode_boxes, positions.place_box),
    "keypoints": _Kind("key points", "", positions.point_layouts, positions.encode_points, positions.place_points),
}


def assign(source: Source) -> None:
    """Assigns further fields to a source and their values to its entries; entries without one are rejected.

    Raises:
        LeafwingError: a list is invalid; the message names the file and the line.
    """
    if not (source.side_files or source.columns) or not source.entries:
        return
    names = Names(source.entries)
    chosen = {name: result for name, kind in KINDS.items() if (result := _choose(source, names, kind)) is not None}
    reasons: dict[int, str] = {}
    for name, listed in chosen.items():
        for index in range(len(source.entries)):
            if index not in listed.values:
                reasons.setdefault(index, listed.failures.get(index, f"no {KINDS[name].noun} in {listed.files}"))
    for name, listed in chosen.items():
        values = {index: value for index, value in sorted(listed.values.items()) if index not in reasons}
        if not values:
            continue
        source.notes.append(f"{KINDS[name].noun.capitalize()}: {len(values):,} images, from {listed.files}.")
        source.notes += listed.notes
        source.field_files[name] = listed.files
        source.fields[name], codes, failures = KINDS[name].encode(values, source.notes)
        for index, value in codes.items():
            source.entries[index].values[name] = value
        reasons |= failures
    source.rejects += [RejectedFile(source.entries[index].name, reason) for index, reason in sorted(reasons.items())]
    source.entries = [entry for index, entry in enumerate(source.entries) if index not in reasons]


def place(source: Source, values: Mapping[str, Any], picture: Picture, target: Target) -> dict[str, Any]:
    """The values of one entry after its image is decoded: positions become fractions of the fitted image.

    Raises:
        MisplacedError: a box or all key points lie outside the part of the image that is used.
    """
    placed = {}
    for name in source.fields:
        try:
            placed[name] = KINDS[name].place(values[name], picture, target)
        except UnusableImageError as reason:
            raise MisplacedError(str(reason), name) from None
    return placed


def describe_misplaced(source: Source, failures: Iterable[Exception | None]) -> list[str]:
    """Notes on the images that are rejected only because of a field, which few recipes use."""
    counts = Counter(failure.field for failure in failures if isinstance(failure, MisplacedError))
    return [
        f"Rejected because of {source.field_files[name]}: {count:,}; they are used, without {KINDS[name].article}{KINDS[name].noun}, "
        f"if you move {source.field_files[name]} away."
        for name, count in counts.items()
    ]


def stack(field: Field, values: Sequence[Any]) -> np.ndarray:
    """The values of all images, from `place`, as one column in the stored format of the field."""
    return captions.stack(field, values) if isinstance(field, Caption) else np.stack(values)


def _choose(source: Source, names: Names, kind: _Kind) -> Annotations | None:
    """The annotations of the first layout that covers at least half of the images; what is not used becomes a note."""
    chosen: Annotations | None = None
    for files, read in kind.layouts(source, names):
        if chosen is not None:
            source.notes.append(f"Not used: {files}, because the {kind.noun} of each image comes from {chosen.files}.")
            continue
        annotations = read()
        if annotations is None:
            continue
        read_already = {*annotations.used} <= source.used_files  # for labels
        source.used_files |= {*annotations.used}
        covered, missing = len(annotations.values), _counted(annotations.missing)
        if covered and 2 * covered >= names.images:
            chosen = annotations
            continue
        source.notes += annotations.notes
        if covered or annotations.missing:
            source.notes.append(
                f"Not used: {annotations.files}, with {kind.article}{kind.noun} for {covered:,} of {names.images:,} images, "
                f"fewer than half{f'; entries without an image: {missing}' if missing else ''}."
            )
        elif not annotations.notes and not read_already:
            reason = next((f" ({reason})" for reason in annotations.failures.values()), "")
            source.notes.append(f"Not used: {annotations.files}, without any {kind.noun}{reason}.")
    if chosen is not None:
        if without := _counted([entry.name for index, entry in enumerate(source.entries) if index not in chosen.values]):
            chosen.notes.append(
                f"Images without {kind.article}{kind.noun} in {chosen.files}: {without}; they are not used, as they "
                f"would be without {chosen.files}."
            )
        if missing := _counted(chosen.missing):
            chosen.notes.append(f"Entries of {chosen.files} without an image: {missing}.")
    return chosen


def _counted(names: Sequence[str]) -> str:
    """The number of names and the first three; empty without any."""
    return f"{len(names):,} ({first(names)})" if names else ""

"""What a source lacks for a recipe, found out before any image is read: by the names of its files and its lists.

The caller of `load` says what it needs; here are the fields that it may expect, and what would provide one that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from leafwing.data import labels, layouts, reading, side_fields
from leafwing.data.derive import derived_fields
from leafwing.data.options import Options
from leafwing.data.pairs import Input
from leafwing.data.reading import EntryInfo
from leafwing.data.sources import Source
from leafwing.fields import Field, Image
from leafwing.game import DataSpec, MissingField

Accept = Callable[[DataSpec], None]
"""Raises `MissingField` for data without a field that is needed. The sizes of images are not known yet and mean nothing."""
SIDE = 64
"""Height and width of images whose size is not known yet."""
_HEADERS = 32
"""Number of images whose headers are read for advice."""


def check(source: Source, input: Input | None, options: Options, classes: Sequence[str], accept: Accept) -> None:
    """Lets the caller of `load` refuse a source by its fields.

    Args:
        source: an open source with labels, attributes and further fields assigned.
        input: where the inputs come from, if there are any.
        options: the requested options.
        classes: the names of its classes.
        accept: what the caller needs.

    Raises:
        MissingField: that of `accept`, with what there is in this source and what would provide the field.
    """
    try:
        accept(expected_spec(source, input, options, classes))
    except MissingField as error:
        raise MissingField(error.field, error.need, describe(source, error.field)) from None


def expected_spec(source: Source, input: Input | None, options: Options, classes: Sequence[str]) -> DataSpec:
    """The fields that the data set of a source will have, with placeholders for what its images decide; arguments as for `check`."""
    height, width = options.size or (SIDE, SIDE)
    image = Image(height, width, options.channels or 3)
    further: dict[str, Field] = {}
    if input is not None:
        further = derived_fields(input.derived, image) if input.derived else {"input": image}
    fields = {**source.fields, **further}
    return DataSpec.images(height, width, image.channels, labels=classes, attributes=source.attributes, **fields)


def describe(source: Source, field: str) -> str:
    """What there is in a source without this field, and what would provide it, in sentences."""
    has = {"label": any(entry.label is not None for entry in source.entries), "attributes": bool(source.attributes)}
    names = [name for name in (*has, *source.fields) if has.get(name, True)]
    number = len(labels.layout_entries(source.entries))
    further = f", with {', '.join(names)}" if names else " and no further fields"
    return " ".join([f"{source.path} has {number:,} images{further}.", *_hints(source, field)])


def _hints(source: Source, field: str) -> list[str]:
    if field == "input" and not source.parts:
        first, others = source.entries[:_HEADERS], source.entries[_HEADERS:]
        infos = reading.survey(replace(source, entries=first)) + [EntryInfo(entry, "", None) for entry in others]
        return [layout.text for layout in layouts.recognise(source, infos)]
    if field in side_fields.KINDS:
        return [note for note in source.notes if note.startswith("Not used: ")]
    if field not in ("label", "attributes"):
        return []
    lists = labels.find_lists(source, sorted({*source.side_files} - source.used_files))
    return [
        *(note for note in source.notes if "label" in note.lower()),
        *(f"{name} lists images: --labels {name} reads labels or attributes from it." for name in lists[:1]),
    ]

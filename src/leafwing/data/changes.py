"""How a source differs from the data set that was made of it earlier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leafwing.data import pictures, reading
from leafwing.data.loading import SurveyedSource, fingerprint_of, listing_signature, resolved_options
from leafwing.data.locating import Origin, is_source, list_places, locate
from leafwing.data.memory import PREFIX, InMemory
from leafwing.data.pack import Remembered, Store, cache_folder
from leafwing.data.reading import DecodeProgress, EntryInfo
from leafwing.data.sources import Source
from leafwing.errors import LeafwingError

EXAMPLES = 3
ARRAYS = f"{PREFIX}array"
"""The name of a source of arrays from Python."""


@dataclass(frozen=True)
class Changes:
    """What has changed in a source.

    Args:
        added, removed, changed: names of image files, sorted.
        relabelled: number of images with another label.
        problem: why the source cannot be read any more, if it cannot.
        annotations: whether attributes, captions or other annotations may have changed, which are not compared.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    relabelled: int = 0
    problem: str = ""
    annotations: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.relabelled or self.problem or self.annotations)

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        parts = []
        for what in ("added", "removed", "changed"):
            if names := getattr(self, what):
                shown = ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")
                parts.append(f"{_images(len(names))} {what} ({shown})")
        if self.relabelled:
            parts.append(f"{_images(self.relabelled)} with another label")
        if self.annotations and not parts:
            parts.append("attributes, captions or other annotations, or how this version of leafwing reads them")
        return ", ".join(parts) or "the files are the same, but this version of leafwing reads them differently"


def compare(
    source: Origin,
    options: Mapping[str, Any],
    fingerprint: str,
    *,
    cache: str | Path | None = None,
    progress: DecodeProgress | None = None,
) -> Changes | None:
    """How a source differs from a data set in the cache.

    Names, sizes and times of the files decide; only if these have changed, files are read.

    Args:
        source: as for `load`.
        options: the options of the data set, `Dataset.options`.
        fingerprint: fingerprint of the data set.
        cache: as for `load`.
        progress: a callback (done, total), in images, while files are read.

    Returns:
        None if nothing has changed, or if there is nothing to compare with: the source is not there, it is built in, or it is a data
        set from Python, whose items would all have to be made. Changes that are false, as conditions, if only this version of leafwing
        reads the same files differently. That only some of joined sources are there is a problem.
    """
    try:
        place = locate(source)
    except LeafwingError as error:
        joined = [str(path) for path in source.values()] if isinstance(source, Mapping) else []
        missing = [path for path in joined if not is_source(path)]
        if len(missing) == len(joined):
            return None
        lost = f"{' and '.join(missing)} cannot be found; if it has moved, --source says where it is"
        return Changes(problem=lost if missing else str(error))
    if isinstance(place, str) or (isinstance(place, InMemory) and str(place) != ARRAYS):
        return None
    store = Store(cache_folder(cache))
    chosen = resolved_options(options)
    input = options.get("input")
    try:
        listings = list_places(place)
        signature = "" if isinstance(place, InMemory) else listing_signature(listings, chosen, input)
        if signature and (listing := store.recall(signature)) and listing.fingerprint == fingerprint:
            return None
        with pictures.strict(), SurveyedSource.open(listings, chosen, progress, input) as surveyed:
            if fingerprint_of(surveyed) == fingerprint:
                rejected = surveyed.source.rejects + reading.rejects(surveyed.infos)
                if signature:
                    store.remember(
                        signature, Remembered(fingerprint, rejected, list(surveyed.source.notes), [*surveyed.classes])
                    )
                return None
            return _difference(store, fingerprint, surveyed.infos, surveyed.source)
    except LeafwingError as error:
        return Changes(problem=f"it cannot be read any more: {error}")


def _difference(store: Store, fingerprint: str, infos: list[EntryInfo], source: Source) -> Changes:
    pack, index = store.open(fingerprint), store.index(fingerprint)
    if pack is None or index is None:
        return Changes()
    whole = (lambda name: name.rpartition("#")[0]) if pack.tiles is not None else str
    before = {whole(name): sha256 for name, sha256 in zip(index.name, index.sha256, strict=True)}
    labels = {whole(name): label for name, label in zip(index.name, index.label, strict=True)}
    readable = [info for info in infos if info.header is not None]
    now = {info.entry.name: info.sha256 for info in readable}
    if index.input:
        before |= dict(index.input)
        now |= {info.input.entry.name: info.input.sha256 for info in readable if info.input}
    rejected = {reject.name for reject in pack.about.rejects}
    return Changes(
        tuple(sorted(now.keys() - before.keys() - rejected)),
        tuple(sorted(before.keys() - now.keys())),
        tuple(sorted(name for name in now.keys() & before.keys() if now[name] != before[name])),
        sum(info.entry.name in labels and labels[info.entry.name] != info.entry.label for info in readable),
        annotations=bool(source.attributes or source.fields or pack.attributes is not None),
    )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"

"""`load`: from a user's source argument to a `Dataset`, through the cache.

The steps, each in its own file: check the options, find the source, list its entries, label them, survey them, pack them.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from leafwing.data import labels as naming
from leafwing.data import pictures, reading, sources
from leafwing.data.dataset import Dataset
from leafwing.data.options import Size, Target, Wanted, check
from leafwing.data.pack import READING, VERSION, Pack, Store, cache_folder, enough
from leafwing.data.reading import Progress, Seen
from leafwing.data.sources import Reject, Source
from leafwing.data.stacked import digits_of, is_stacked, stacks
from leafwing.data.worlds import WORLDS, is_world, load_world
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec


def load(
    source: str | Path,
    *,
    size: Size | None = None,
    channels: int | None = None,
    fit: str = "crop",
    background: str = "white",
    mirror: bool = False,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Opens a source of images; the first time every image is decoded into the cache, later the cache is memory-mapped.

    Args:
        source: a folder of images (flat, nested, or one folder per class), a `.zip` or `.tar[.gz]` of the same (also in
            StyleGAN's layout with `dataset.json`), a folder with `labels.csv` (columns file,label and attributes), IDX files (the
            format of MNIST), or a built-in name (`WORLDS`). Write a folder with a built-in name as a path: `./digits`. `stacked:`
            followed by a source of digits stacks those.
        size: side in pixels, `"HEIGHTxWIDTH"` or (height, width). None: 64, or 32 if the median short side is below 64.
        channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. None: 1 if every image is greyscale, else 3. Alpha that is not kept
            is composited on the background.
        fit: `crop` the centre, `pad` with the background, or `stretch`.
        background: a colour: `white`, `#ff8800`.
        mirror: flip half of the samples left to right, chosen anew in each epoch.
        cache: folder for packs. None: the environment variable LEAFWING_CACHE, else the user's cache folder.
        progress: called with the number of images done and the total, while packing.

    Raises:
        LeafwingError: no such source, invalid options, no usable image, or more than half unreadable.
        StorageError: the cache cannot be written.
    """
    wanted = check(size, channels, fit, background)
    place = find(source)
    if isinstance(place, str):
        if not is_stacked(place):
            return load_world(place, wanted, mirror)
        side = wanted.size or (32, 32)
        digits = load(
            digits_of(place), size=side, channels=1, fit=fit, background=background, cache=cache, progress=progress
        )
        return stacks(digits, wanted, mirror)
    store = Store(cache_folder(cache))
    files, refused = sources.list_files(place)
    signature = sources.signature(place, files, (VERSION, READING, wanted.size, wanted.channels, wanted.fit, wanted.rgb))
    known = store.recall(signature)
    if known and (pack := store.open(known["fingerprint"])):
        return _dataset(pack, os.path.abspath(place), mirror, known["rejects"], known["notes"], wanted.background)
    with pictures.strict(), Surveyed.open(place, files, refused, wanted, progress) as found:
        fingerprint = reading.fingerprint(found.seen, found.target, VERSION, found.source.attributes)
        pack = store.open(fingerprint) or store.pack(fingerprint, found.source, found.seen, found.target, progress)
        rejects = found.source.rejects + reading.rejects(found.seen)
    store.remember(signature, fingerprint, rejects, found.source.notes)
    if progress:
        progress(len(found.seen), len(found.seen))
    early = [{"name": one.name, "reason": one.reason} for one in rejects]
    return _dataset(pack, os.path.abspath(place), mirror, early, found.source.notes, wanted.background)


def load_pack(fingerprint: str, *, mirror: bool = False, cache: str | Path | None = None) -> Dataset | None:
    """Opens an existing pack, without its source.

    Args:
        fingerprint: of the data set that `load` returned.
        mirror: as for `load`.
        cache: as for `load`.

    Returns:
        None if it is not in the cache. Its rejects are those found while reading pixels.
        Built-in data sets are never packed: `load` generates them again.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        return None
    pack = Store(cache_folder(cache)).open(fingerprint)
    if pack is None:
        return None
    return _dataset(pack, pack.about["source"], mirror, [], [], pack.about["options"]["background"])


def find(source: str | Path) -> str | Path:
    """A built-in name, or an existing path.

    Raises:
        LeafwingError: it is neither; the message lists similar names and what is possible.
    """
    text = os.fspath(source)
    if isinstance(source, str) and is_world(source):
        return source
    path = Path(text).expanduser()
    try:
        exists = bool(text) and path.exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        exists = False
    if exists:
        return path
    if text in WORLDS:
        return text
    try:
        nearby = sorted(item.name for item in path.parent.iterdir())[:10_000]
    except (OSError, ValueError):
        nearby = []
    close = difflib.get_close_matches(text, WORLDS, cutoff=0.5)
    close += [str(path.parent / name) for name in difflib.get_close_matches(path.name, nearby)]
    built_in = "\n".join(f"  {name:7} {about}" for name, about in WORLDS.items())
    raise LeafwingError(
        f"{sources.clean(text)!r}: no such file or folder, and no built-in data set."
        + (f" Did you mean {' or '.join(close)}?" if close else "")
        + "\nA source is a folder of images (sub-folders may be classes), a .zip or .tar[.gz] of one, IDX files, or built in:\n"
        + built_in
    )


@dataclass
class Surveyed:
    """An open source with its survey and its target format; `load` and the doctor both start here."""

    source: Source
    seen: list[Seen]
    target: Target

    @classmethod
    def open(
        cls, path: Path, files: list[sources.Found], refused: list[Reject], wanted: Wanted, progress: Progress | None
    ) -> Surveyed:
        """Opens, labels and surveys; the arguments are those of `sources.open_source`, plus the validated options."""
        source = sources.open_source(path, files, refused)
        try:
            naming.assign(source)
            seen = reading.survey(source, progress)
        except BaseException:
            source.close()
            raise
        target = wanted.target(reading.default_size(seen), reading.default_channels(seen))
        if frames := sum(1 for one in seen if one.header and one.header.frames):
            source.notes.append(f"{frames} files contain several frames or pages; the first of each is used.")
        modes = Counter(one.header.mode for one in seen if one.header)
        if deep := sum(count for mode, count in modes.items() if mode == "F" or mode.startswith("I")):
            source.notes.append(f"{deep} greyscale images with more than 8 bits are scaled to 8.")
        return cls(source, seen, target)

    def __enter__(self) -> Surveyed:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def trouble(self, accepted: int, outcomes: list[Seen | reading.Decoded], rejected: list[Reject]) -> str | None:
        """Why `load` would refuse this source; None if it would not."""
        return enough(self.source, accepted, outcomes, rejected)


def _dataset(
    pack: Pack, source: str, mirror: bool, early: list[dict[str, str]], notes: list[str], background: str
) -> Dataset:
    """A data set over a pack; `early` are the rejects found before reading pixels."""
    _, height, width, channels = pack.about["shape"]
    names, attributes = tuple(pack.about["classes"]), tuple(pack.about.get("attributes", ()))
    fields = ("image", *["label"] * bool(names), *["attributes"] * bool(attributes))
    spec = DataSpec(height, width, channels, labels=names, fields=fields, attributes=attributes)
    options = pack.about["options"] | {"background": background, "mirror": mirror}
    rejects = sorted([Reject(**one) for one in early] + pack.rejects, key=lambda one: one.name)
    told = (pack.pictures, pack.labels, pack.fingerprint, source, options, rejects, list(notes))
    return Dataset(spec, *told, attributes=pack.attributes)

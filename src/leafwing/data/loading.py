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

from leafwing.data import labels as labelling
from leafwing.data import pictures, reading, sources
from leafwing.data.built_in import BUILT_IN, is_built_in, load_built_in
from leafwing.data.dataset import Dataset
from leafwing.data.options import Options, Size, Target, check
from leafwing.data.pack import READING, VERSION, Pack, Store, cache_folder
from leafwing.data.reading import DecodeProgress, EntryInfo
from leafwing.data.sources import RejectedFile, Source
from leafwing.data.stacked import digits_of, is_stacked, stacks
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
    input: str | None = None,
    fields: str | None = None,
    cache: str | Path | None = None,
    progress: DecodeProgress | None = None,
) -> Dataset:
    """Opens a source of images; the first time every image is decoded into the cache, later the cache is memory-mapped.

    Args:
        source: a folder of images (flat, nested, or one folder per class), a `.zip` or `.tar[.gz]` of the same (also in
            StyleGAN's layout with `dataset.json`), a folder with `labels.csv` (columns file,label and attributes), IDX files (the
            format of MNIST), or a built-in name (`BUILT_IN`). Write a folder with a built-in name as a path: `./digits`. `stacked:`
            followed by a source of digits stacks those.
        size: side in pixels, `"HEIGHTxWIDTH"` or (height, width). None: 64, or 32 if the median short side is below 64.
        channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. None: 1 if every image is greyscale, else 3. Without an alpha
            channel, transparent images are composited on the background.
        fit: `crop` the centre, `pad` with the background, or `stretch`.
        background: a colour: `white`, `#ff8800`.
        mirror: flip half of the samples left to right, chosen again in every epoch.
        input: where the field `input` comes from; see `leafwing.settings`. None: no such field.
        fields: fields of the built-in sprites besides the image, separated by commas. None: label,attributes.
        cache: folder for packs. None: the environment variable LEAFWING_CACHE, else the user's cache folder.
        progress: a callback (done, total), in images, while packing.

    Raises:
        LeafwingError: no such source, invalid options, no usable image, or more than half unreadable.
        StorageError: the cache cannot be written.
    """
    options = check(size, channels, fit, background)
    path = find(source)
    check_fields(path, fields)
    if isinstance(path, str):
        if not is_stacked(path):
            return load_built_in(path, options, mirror, input=input, fields=fields, cache=cache, progress=progress)
        side = options.size or (32, 32)
        digits = load(digits_of(path), size=side, channels=1, fit=fit, background=background, cache=cache, progress=progress)
        return stacks(digits, options, mirror)
    store = Store(cache_folder(cache))
    files, rejects = sources.list_files(path)
    key = (VERSION, READING, options.size, options.channels, options.fit, options.rgb)
    signature = sources.signature(path, files, key)
    listing = store.recall(signature)
    if listing and (pack := store.open(listing["fingerprint"])):
        rejects = [RejectedFile(**reject) for reject in listing["rejects"]]
        return _dataset(pack, path, mirror, rejects, listing["notes"], options.background)
    with pictures.strict(), SurveyedSource.open(path, files, rejects, options, progress) as surveyed:
        infos, target = surveyed.infos, surveyed.target
        fingerprint = reading.fingerprint(infos, target, VERSION, surveyed.source.attributes)
        pack = store.open(fingerprint) or store.pack(fingerprint, surveyed.source, infos, target, progress)
        rejects = surveyed.source.rejects + reading.rejects(infos)
    store.remember(signature, fingerprint, rejects, surveyed.source.notes)
    if progress:
        progress(len(infos), len(infos))
    return _dataset(pack, path, mirror, rejects, surveyed.source.notes, options.background)


def check_fields(path: str | Path, fields: str | None) -> None:
    """Checks that fields are only chosen where there is a choice.

    Raises:
        LeafwingError: fields of other data than the built-in sprites.
    """
    if fields is not None and path != "sprites":
        raise LeafwingError(f"--fields {fields}: only the built-in sprites offer a choice of fields, not {path}; omit it")


def load_pack(fingerprint: str, *, mirror: bool = False, cache: str | Path | None = None) -> Dataset | None:
    """Opens an existing pack, without its source.

    Args:
        fingerprint: fingerprint of a data set that `load` returned.
        mirror: as for `load`.
        cache: as for `load`.

    Returns:
        None if it is not in the cache. Its `rejects` are only those found while decoding.
        Built-in data sets are never packed: `load` generates them again.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        return None
    pack = Store(cache_folder(cache)).open(fingerprint)
    if pack is None:
        return None
    return _dataset(pack, pack.about["source"], mirror, [], [], pack.about["options"]["background"])


def find(source: str | Path) -> str | Path:
    """Returns a built-in name (str) or an existing path (Path).

    Raises:
        LeafwingError: neither of these; the message lists similar names and all kinds of source.
    """
    text = os.fspath(source)
    if isinstance(source, str) and is_built_in(source):
        return source
    path = Path(text).expanduser()
    try:
        exists = bool(text) and path.exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        exists = False
    if exists:
        return path
    if text in BUILT_IN:
        return text
    try:
        siblings = sorted(item.name for item in path.parent.iterdir())[:10_000]
    except (OSError, ValueError):
        siblings = []
    similar = difflib.get_close_matches(text, BUILT_IN, cutoff=0.5)
    similar += [str(path.parent / name) for name in difflib.get_close_matches(path.name, siblings)]
    built_in = "\n".join(f"  {name:7} {about}" for name, about in BUILT_IN.items())
    raise LeafwingError(
        f"{sources.clean(text)!r}: no such file or folder, and not the name of a built-in data set."
        + (f" Did you mean {' or '.join(similar)}?" if similar else "")
        + "\nA source is a folder of images (sub-folders may be classes), a .zip or .tar[.gz] of one, IDX files, or built in:\n"
        + built_in
    )


@dataclass
class SurveyedSource:
    """An open source with its survey and its target format, as used by `load` and the doctor."""

    source: Source
    infos: list[EntryInfo]
    target: Target

    @classmethod
    def open(
        cls,
        path: Path,
        files: list[sources.File],
        rejects: list[RejectedFile],
        options: Options,
        progress: DecodeProgress | None,
    ) -> SurveyedSource:
        """Opens, labels and surveys a source; `path`, `files` and `rejects` as for `sources.open_source`."""
        source = sources.open_source(path, files, rejects)
        try:
            labelling.assign(source)
            infos = reading.survey(source, progress)
        except BaseException:
            source.close()
            raise
        target = options.target(reading.default_size(infos), reading.default_channels(infos))
        if frames := sum(1 for info in infos if info.header and info.header.frames):
            source.notes.append(f"Files with several frames or pages: {frames}; only the first is used.")
        modes = Counter(info.header.mode for info in infos if info.header)
        if deep := sum(count for mode, count in modes.items() if mode == "F" or mode.startswith("I")):
            source.notes.append(f"Greyscale images with more than 8 bits: {deep}; they are scaled to 8 bits.")
        return cls(source, infos, target)

    def __enter__(self) -> SurveyedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()


def _dataset(
    pack: Pack, source: str | Path, mirror: bool, rejects: list[RejectedFile], notes: list[str], background: str
) -> Dataset:
    """A data set over a pack; `rejects` are those found before decoding."""
    _, height, width, channels = pack.about["shape"]
    names, attributes = tuple(pack.about["classes"]), tuple(pack.about.get("attributes", ()))
    spec = DataSpec.images(height, width, channels, labels=names, attributes=attributes)
    columns = {"image": pack.pictures, "label": pack.labels, "attributes": pack.attributes}
    options = pack.about["options"] | {"background": background, "mirror": mirror}
    return Dataset(
        spec,
        {name: column for name, column in columns.items() if column is not None},
        pack.fingerprint,
        os.path.abspath(source),
        options,
        sorted(rejects + pack.rejects, key=lambda reject: reject.name),
        list(notes),
    )

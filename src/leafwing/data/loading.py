"""`load`: from a user's source argument to a `Dataset`, through the cache.

The steps, each in its own file: check the options, find the source, list its entries, label them, survey them, pack them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leafwing.data import derive, pairs, pictures, reading, side_fields, sources
from leafwing.data import labels as labelling
from leafwing.data.built_in import BUILT_IN, has_points, is_built_in, load_built_in, own_inputs
from leafwing.data.dataset import Dataset
from leafwing.data.options import Options, Size, Target, check
from leafwing.data.pack import READING, VERSION, Pack, Store, cache_folder
from leafwing.data.pairs import Input
from leafwing.data.reading import DecodeProgress, EntryInfo
from leafwing.data.sources import RejectedFile, Source
from leafwing.data.stacked import digits_of, is_stacked, stacks
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.fields import Image
from leafwing.game import DataSpec


def load(
    source: str | Path,
    *,
    size: Size | None = None,
    channels: int | None = None,
    fit: str = "crop",
    background: str = "white",
    mirror: bool = False,
    input: str | Path | None = None,
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
        input: where the field `input` comes from: `left`, `right`, `top` or `bottom`, a half of each image (`image` is the other
            one); `grey`, `edges`, `blur`, `low2`, `low4`, `low8` or `hole`, derived from it (`derive`); a CSV file of pairs, a folder
            or a suffix of file names in the source (`pairs`); or else a second source, whose images are unpaired. None: no such field.
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
    input = None if input is None else os.fspath(input)

    def join(other: str) -> Dataset:
        """The images of this source, and those of another one as unpaired inputs."""
        if points := [str(name) for name in (path, find(other)) if has_points(name)]:
            raise InvalidOption("input", other, f"both sources must be images, and {points[0]} has points")
        image = load(
            source, size=size, channels=channels, fit=fit, background=background, mirror=mirror, fields=fields,
            cache=cache, progress=progress,
        )  # fmt: skip
        side = (image.spec.height, image.spec.width)
        inputs = load(other, size=side, fit=fit, background=background, mirror=mirror, cache=cache, progress=progress)
        return join_sources(image, inputs)

    if isinstance(path, str):
        inputs = own_inputs(path)
        chosen = input if input in inputs else None
        if not is_stacked(path):
            data = load_built_in(path, options, mirror, input=chosen, fields=fields, cache=cache, progress=progress)
        else:
            side = options.size or (32, 32)
            digits = load(
                digits_of(path), size=side, channels=1, fit=fit, background=background, cache=cache, progress=progress
            )
            data = stacks(digits, options, mirror)
        if input is None or chosen:
            return data
        if input in derive.DERIVED:
            return derive_input(data, input)
        if not pairs.is_path(input) and not is_source(input):
            raise InvalidOption(
                "input",
                input,
                f"{path} is built in: its inputs are made or derived from the images, or those of a second source"
                + did_you_mean(input, {**inputs, **derive.DERIVED}),
            )
        return join(input)
    if input is not None and pairs.is_path(input) and is_source(input):
        return join(input)
    try:
        return _load_files(path, options, mirror, input, cache, progress)
    except pairs.NoInputError:
        if input is None or not is_source(input):
            raise
        return join(input)


def _load_files(
    path: Path,
    options: Options,
    mirror: bool,
    input: str | None,
    cache: str | Path | None,
    progress: DecodeProgress | None,
) -> Dataset:
    """`load` for a folder or a file, with inputs from the same source."""
    store = Store(cache_folder(cache))
    files, rejects = sources.list_files(path)
    key: tuple[Any, ...] = (VERSION, READING, options.size, options.channels, options.fit, options.rgb)
    signature = sources.signature(path, files, key if input is None else (*key, input, derive.VERSION))
    listing = store.recall(signature)
    if listing and (pack := store.open(listing["fingerprint"])):
        rejects = [RejectedFile(**reject) for reject in listing["rejects"]]
        return _dataset(pack, path, mirror, rejects, listing["notes"], options.background, input)
    with pictures.strict(), SurveyedSource.open(path, files, rejects, options, progress, input) as surveyed:
        source, infos, target = surveyed.source, surveyed.infos, surveyed.target
        fingerprint = reading.fingerprint(infos, target, VERSION, source.attributes, source.fields, surveyed.input)
        pack = store.open(fingerprint) or store.pack(fingerprint, source, infos, target, progress, surveyed.input)
        rejects = source.rejects + reading.rejects(infos)
    store.remember(signature, fingerprint, rejects, source.notes)
    if progress:
        progress(len(infos), len(infos))
    return _dataset(pack, path, mirror, rejects, source.notes, options.background, input)


def check_fields(path: str | Path, fields: str | None) -> None:
    """Checks that fields are only chosen where there is a choice.

    Raises:
        LeafwingError: fields of other data than the built-in sprites.
    """
    if fields is not None and path != "sprites":
        raise InvalidOption("fields", fields, f"only the built-in sprites offer a choice of fields, not {path}; omit it")


def load_pack(fingerprint: str, *, mirror: bool = False, cache: str | Path | None = None) -> Dataset | None:
    """Opens an existing pack, without its source.

    Args:
        fingerprint: fingerprint of a data set that `load` returned, or one of its `parts`.
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


def join_sources(data: Dataset, other: Dataset) -> Dataset:
    """Adds the images of a second source as the unpaired field `input`, with an order of its own."""
    plain = other.without_streams()
    joined = data.with_stream("input", plain, {"image": "input"})
    parts = {"image": data.fingerprint, "input": plain.fingerprint}
    return replace(
        joined,
        fingerprint=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        parts=parts,
        options=data.options | {"input": other.source},
        rejects=data.rejects + [RejectedFile(f"{other.source}: {item.name}", item.reason) for item in other.rejects],
        notes=[
            *data.notes,
            f"input: {len(other):,} images of {other.source}, unpaired",
            *(f"{other.source}: {note}" for note in other.notes),
        ],
    )


def derive_input(data: Dataset, name: str) -> Dataset:
    """Adds an input derived from the images of a data set in memory.

    Args:
        data: images.
        name: a key of `derive.DERIVED`.

    Raises:
        LeafwingError: the data set has points, or images that do not allow it.
    """
    image = data.spec.fields["image"]
    if not isinstance(image, Image):
        raise InvalidOption("input", name, f"it is derived from images, and {data.source} has points")
    fields = derive.derived_fields(name, image)
    content = json.dumps([data.fingerprint, "input", name, derive.VERSION])
    return replace(
        data,
        spec=replace(data.spec, fields={**data.spec.fields, **fields}),
        columns={**data.columns, **derive.DERIVED[name](data.array)},
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
        options=data.options | {"input": name},
        notes=[*data.notes, f"input: {name}, derived from each image"],
    )


def is_source(text: str) -> bool:
    """Whether this is a source for `load`."""
    try:
        find(text)
    except LeafwingError:
        return False
    return True


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
    input: Input | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        files: list[sources.File],
        rejects: list[RejectedFile],
        options: Options,
        progress: DecodeProgress | None,
        input: str | None = None,
    ) -> SurveyedSource:
        """Opens, labels and surveys a source; `path`, `files` and `rejects` as for `sources.open_source`.

        Raises:
            LeafwingError: the source has no such input, its images do not allow it, or it cannot be read.
        """
        source = sources.open_source(path, files, rejects)
        try:
            layout = None if input is None else pairs.find_input(source, input)
            if input is None and pairs.has_list(source):
                source.notes.append(
                    f"{pairs.PAIRS_FILE} is not used; --input {pairs.PAIRS_FILE} reads the pairs that it lists."
                )
            labelling.assign(source)
            side_fields.assign(source)
            infos = reading.survey(source, progress)
            if layout and layout.half:
                reading.halve(infos, layout.half, options)
            target = options.target(reading.default_size(infos), reading.default_channels(infos))
            if layout:
                inputs = [info.input for info in infos if info.input] or infos
                layout = pairs.set_target(layout, target, reading.default_channels(inputs))
        except BaseException:
            source.close()
            raise
        if frames := sum(1 for info in infos if info.header and info.header.frames):
            source.notes.append(f"Files with several frames or pages: {frames}; only the first is used.")
        modes = Counter(info.header.mode for info in infos if info.header)
        if deep := sum(count for mode, count in modes.items() if mode == "F" or mode.startswith("I")):
            source.notes.append(f"Greyscale images with more than 8 bits: {deep}; they are scaled to 8 bits.")
        lists = {"labels.csv", "dataset.json", pairs.PAIRS_FILE}
        if ignored := sum(Path(name).name.lower() not in lists for name in {*source.side_files} - source.used_files):
            source.notes.append(f"Ignored files that are not images (text, lists, annotations): {ignored}.")
        return cls(source, infos, target, layout)

    def __enter__(self) -> SurveyedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()


def _dataset(
    pack: Pack,
    source: str | Path,
    mirror: bool,
    rejects: list[RejectedFile],
    notes: list[str],
    background: str,
    input: str | None = None,
) -> Dataset:
    """A data set over a pack; `rejects` are those found before decoding."""
    _, height, width, channels = pack.about["shape"]
    names, attributes = tuple(pack.about["classes"]), tuple(pack.about.get("attributes", ()))
    spec = DataSpec.images(height, width, channels, labels=names, attributes=attributes, **pack.fields)
    columns = {"image": pack.pictures, "label": pack.labels, "attributes": pack.attributes, **pack.columns}
    options = pack.about["options"] | {"background": background, "mirror": mirror} | ({"input": input} if input else {})
    return Dataset(
        spec,
        {name: column for name, column in columns.items() if column is not None},
        pack.fingerprint,
        os.path.abspath(source),
        options,
        sorted(rejects + pack.rejects, key=lambda reject: reject.name),
        list(notes),
    )

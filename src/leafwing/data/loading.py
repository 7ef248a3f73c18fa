"""`load`: from a user's source argument to a `Dataset`, through the cache.

The steps, each in its own file: check the options, find the source, list its entries, label them, survey them, pack them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leafwing.data import derive, joining, lacking, layouts, pairs, pictures, reading, side_fields, sources
from leafwing.data import labels as labelling
from leafwing.data import levels as grey_levels
from leafwing.data.built_in import has_points, load_built_in, own_inputs
from leafwing.data.captions import describe_mirrored
from leafwing.data.dataset import Dataset
from leafwing.data.lacking import Accept
from leafwing.data.levels import Levels
from leafwing.data.lists import Names
from leafwing.data.locating import Origin, Place, describe, find, is_second, is_source, list_places, locate
from leafwing.data.memory import PREFIX, InMemory, check_options, require_same
from leafwing.data.opening import Listing
from leafwing.data.options import Options, Size, Target, check, check_input
from leafwing.data.pack import READING, VERSION, Pack, Remembered, Store, cache_folder
from leafwing.data.pairs import Input
from leafwing.data.pictures import Header
from leafwing.data.reading import DecodeProgress, EntryInfo
from leafwing.data.sources import RejectedFile, Source
from leafwing.data.stacked import digits_of, is_stacked, stacks
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.fields import Caption, Field, Image
from leafwing.game import DataSpec

_NAMED = 3
"""Up to as many files of one kind are named."""


def load(
    source: Any,
    *,
    size: Size | None = None,
    channels: int | None = None,
    fit: str = "crop",
    background: str = "white",
    mirror: bool = False,
    input: str | Path | None = None,
    fields: str | None = None,
    crop_from: Size | None = None,
    bits: int | str | None = None,
    levels: str | None = None,
    input_levels: str | None = None,
    labels: str | None = None,
    cache: str | Path | None = None,
    progress: DecodeProgress | None = None,
    accept: Accept | None = None,
) -> Dataset:
    """Opens a source of images; the first time every image is decoded into the cache, later the cache is memory-mapped.

    Args:
        source: a folder of images (flat, nested, or one folder per class), a `.zip` or `.tar[.gz]` of the same (also in
            StyleGAN's layout with `dataset.json`), a folder with `labels.csv` (columns file,label and attributes), IDX files (the
            format of MNIST), or a built-in name (`BUILT_IN`). Write a folder with a built-in name as a path: `./digits`. `stacked:`
            followed by a source of digits stacks those. Several sources, as a sequence or by name, are read as if they lay in one
            folder (`joining`). From Python also an array or tensor of images, a tuple of one and its labels, a data set with a length
            whose items are pictures or begin with one, or a `Dataset` that `load` returned.
        size: side in pixels, `"HEIGHTxWIDTH"` or (height, width). None: 64, or 32 if the median short side is below 64.
        channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. None: 1 if every image is greyscale, else 3. Without an alpha
            channel, transparent images are composited on the background.
        fit: `crop` the centre, `pad` with the background, `stretch`, or cut into `tiles` of this size without resizing.
        background: a colour: `white`, `#ff8800`.
        mirror: flip half of the samples left to right, chosen again in every epoch.
        input: where the field `input` comes from: `left`, `right`, `top` or `bottom`, a half of each image (`image` is the other
            one); `grey`, `edges`, `blur`, `low2`, `low4`, `low8` or `hole`, derived from it (`derive`); a CSV file of pairs, a folder
            or a suffix of file names in the source (`pairs`); or else a second source, whose images are unpaired. None: no such field.
        fields: fields of the built-in sprites besides the image, separated by commas. None: label,attributes.
        crop_from: store images in this size, given like `size` (one number is the shorter side): batches see random windows of
            `size`, and everything else the centre. None: in `size`.
        bits: 8 or 16, or `auto`: 16 if all images of a field are greyscale with 16 bits. None: `auto` with an input, else 8.
        levels: the values of greyscale images that become black and white: `0:4095`, or percentiles of all values, `1%:99%`. None or
            `auto`: chosen from the values of all images with more than 8 bits (`levels.choose`).
        input_levels: the same for inputs that are files of their own.
        labels: where labels come from: the name of a list in the source, `folders` or `none`. None: a list if there is one, else
            folders.
        cache: folder for packs. None: the environment variable LEAFWING_CACHE, else the user's cache folder.
        progress: a callback (done, total), in images, while packing.
        accept: called with the fields of files that are not in the cache, before any image is read; it raises `MissingField` to refuse
            them. Sizes in it are placeholders.

    Raises:
        LeafwingError: no such source, invalid options, no usable image, or more than half unreadable.
        StorageError: the cache cannot be written.
    """
    options = check(size, channels, fit, background, crop_from, bits, levels, input_levels, labels)
    place = locate(source)
    if isinstance(place, InMemory) and isinstance(place.value, Dataset):
        arguments: dict[str, Any] = {
            "size": size,
            "channels": channels,
            "fit": fit,
            "background": background,
            "mirror": mirror,
        }
        arguments |= {"input": input, "fields": fields, "crop_from": crop_from, "bits": bits, "labels": labels}
        check_options(place.value, arguments | {"levels": levels, "input_levels": input_levels})
        return require_same(place.value, _load_again(place.value, cache, progress))
    check_fields(place, fields)
    check_built_in(place, options)
    input = pairs.name_in(place, check_input(input))

    def join(other: str) -> Dataset:
        """The images of this source, and those of another one as unpaired inputs."""
        if points := [name for name in (place, find(other)) if isinstance(name, str) and has_points(name)]:
            raise InvalidOption("input", other, f"both sources must be images, and {points[0]} has points")

        def accept_unpaired(spec: DataSpec) -> None:
            if accept:
                fields = {**spec.fields, "input": spec.fields["image"]}
                accept(replace(spec, fields=fields, unpaired=("input",)))

        def load_one(one: Place, **further: Any) -> Dataset:
            depth = bits if bits is not None or isinstance(one, str) else "auto"
            return load(
                one, fit=fit, background=background, mirror=mirror, crop_from=crop_from, bits=depth, cache=cache, progress=progress,
                **{key: value for key, value in further.items() if value is not None},
            )  # fmt: skip

        options_of_image = {"size": size, "channels": channels, "fields": fields, "levels": levels, "labels": labels}
        image = load_one(place, **options_of_image, accept=accept_unpaired)
        second = find(other)
        unlabelled = "none" if isinstance(second, Path) else None  # labels of inputs are not used
        size_of_image = (image.spec.height, image.spec.width)
        return join_sources(image, load_one(second, size=size_of_image, levels=input_levels, labels=unlabelled))

    if isinstance(place, str):
        inputs = own_inputs(place)
        chosen = input if input in inputs else None
        if not is_stacked(place):
            data = load_built_in(place, options, mirror, input=chosen, fields=fields, cache=cache, progress=progress)
        else:
            whole = options.target((32, 32), 3)
            side = (whole.height, whole.width)
            digits = load(
                digits_of(place), size=side, channels=1, fit=fit, background=background, cache=cache, progress=progress
            )
            data = stacks(digits, options, mirror)
        if input in derive.DERIVED and not chosen:
            data = derive_input(data, input)
        if input is None or chosen or input in derive.DERIVED:
            return data.with_windows(*options.target((32, 32), 3).window or (0, 0)) if options.crop_from else data
        if not pairs.is_path(input) and not is_source(input):
            raise InvalidOption(
                "input",
                input,
                f"{place} is built in: its inputs are made or derived from the images, or those of a second source"
                + did_you_mean(input, {**inputs, **derive.DERIVED}),
            )
        return join(input)
    if input is not None and pairs.is_path(input) and is_source(input):
        return join(input)
    try:
        return _load_files(place, options, mirror, input, cache, progress, accept)
    except pairs.NoInputError:
        if input is None or not is_second(place, input):
            raise
        return join(input)


def _load_again(data: Dataset, cache: str | Path | None, progress: DecodeProgress | None) -> Dataset | None:
    """The source of a data set as a run would read it; None if it is not in the cache, and was given from Python."""
    if data.source.startswith(PREFIX):
        return data if data.parts else load_pack(data.fingerprint, mirror=data.mirror, cache=cache)
    return load(data.origin, **data.options, cache=cache, progress=progress)


def _load_files(
    place: Path | dict[str, Path] | InMemory,
    options: Options,
    mirror: bool,
    input: str | None,
    cache: str | Path | None,
    progress: DecodeProgress | None,
    accept: Accept | None,
) -> Dataset:
    """`load` for a folder or a file, or several, or images from Python, with inputs from the same source."""
    store = Store(cache_folder(cache))
    listings = list_places(place)
    signature = "" if isinstance(place, InMemory) else listing_signature(listings, options, input)
    listing = store.recall(signature) if signature else None
    pack = store.open(listing.fingerprint) if listing else None
    if listing is None or pack is None:
        with pictures.strict(), SurveyedSource.open(listings, options, progress, input, accept) as surveyed:
            source, infos, target = surveyed.source, surveyed.infos, surveyed.target
            fingerprint = fingerprint_of(surveyed)
            pack = store.open(fingerprint)
            is_damaged = pack is None and store.exists(fingerprint)
            pack = pack or store.pack(fingerprint, source, infos, target, progress, surveyed.input)
            rejects = source.rejects + reading.rejects(infos)
            listing = Remembered(fingerprint, rejects, list(source.notes), [*surveyed.classes])
        if signature:
            store.remember(signature, listing)
        if progress:
            progress(len(infos), len(infos))
    else:
        is_damaged = False
    data = _dataset(
        pack, place, mirror, listing.rejects, listing.notes, options.background, input, options.bits, options.labels
    )
    if is_damaged:
        data.notes.append(
            f"The decoded images in the cache ({store.folder}) were damaged, and were made anew from the source."
        )
    if signature:
        # Runs know the options that were chosen from the data, not those that were given.
        resolved = listing_signature(listings, resolved_options(data.options), input)
        if resolved != signature and store.recall(resolved) is None:
            store.remember(resolved, listing)
    if options.labels != "none":
        data.notes.extend(labelling.describe_unused(listings, listing.classes, data.spec.labels))
    return data


def listing_signature(listings: Sequence[Listing], options: Options, input: str | None) -> str:
    """A hash of the names, sizes and times of a source's files, and of how they are read: the key of `Store.recall`."""
    path = listings[0].path
    assert isinstance(path, Path)  # images from Python are known by their content
    if listings[0].name:
        joined = [[item.name, listing_signature([replace(item, name="")], options, input)] for item in listings]
        return hashlib.sha256(json.dumps(joined).encode()).hexdigest()
    key: tuple[Any, ...] = (VERSION, READING, options.size, options.channels, options.fit, options.rgb)
    key += (options.crop_from, options.bits) if options.crop_from or options.bits else ()
    key += (options.levels, options.input_levels) if options.levels or options.input_levels else ()
    key += (options.labels,) if options.labels else ()
    key += (special,) if (special := pictures.special_formats()) else ()
    return sources.signature(path, listings[0].files, key if input is None else (*key, input, derive.VERSION))


def resolved_options(options: Mapping[str, Any]) -> Options:
    """The options of a data set of files, `Dataset.options`, as `check` returns them."""
    names = ("size", "channels", "fit", "background", "crop_from", "bits", "levels", "input_levels", "labels")
    return check(*(options.get(name) for name in names))  # type: ignore[arg-type]  # what is missing is None


def fingerprint_of(surveyed: SurveyedSource) -> str:
    """The fingerprint of the pack of a source."""
    source = surveyed.source
    raw = [part.raw for part in source.parts or (source,)]
    return reading.fingerprint(
        surveyed.infos, surveyed.target, VERSION, source.attributes, source.fields, surveyed.input, raw
    )


def check_built_in(path: Place, options: Options) -> None:
    """Checks that the options of files are not used for a built-in data set.

    Raises:
        LeafwingError: tiles, bits, levels or labels; a crop of points.
    """
    if not isinstance(path, str):
        return
    if has_points(path) and options.crop_from:
        raise LeafwingError(f"--crop-from: {path} is a data set of points, and only images are cropped; omit it")
    for option, chosen in (
        ("--fit tiles", options.fit == "tiles"),
        (f"--bits {options.bits}", options.bits is not None),
        ("--levels", options.levels is not None),
        ("--input-levels", options.input_levels is not None),
        (f"--labels {options.labels}", options.labels is not None),
    ):
        if chosen:
            raise LeafwingError(f"{option} applies only to your own files; {path} is built in: omit this option")


def check_fields(path: Place, fields: str | None) -> None:
    """Checks that fields are only chosen where there is a choice.

    Raises:
        LeafwingError: fields of other data than the built-in sprites.
    """
    if fields is not None and path != "sprites":
        raise InvalidOption(
            "fields", fields, f"only the built-in sprites offer a choice of fields, not {describe(path)}; omit it"
        )


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
    return _dataset(pack, pack.about.source, mirror, [], [], pack.about.options["background"])


def join_sources(data: Dataset, other: Dataset) -> Dataset:
    """Adds the images of a second source as the unpaired field `input`, with an order of its own."""
    plain = other.without_streams()
    joined = data.with_stream("input", plain, {"image": "input"})
    parts = {"image": data.fingerprint, "input": plain.fingerprint}
    levels, labels = other.options.get("levels"), other.options.get("labels")
    return replace(
        joined,
        fingerprint=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        parts=parts | ({"input_labels": labels} if labels else {}),
        options=data.options | {"input": other.source} | ({"input_levels": levels} if levels else {}),
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


def headers(source: Origin) -> list[Header]:
    """The headers of the images of a source, such as their sizes before they are fitted; empty for built-in data."""
    place = locate(source)
    if isinstance(place, str):
        return []
    with pictures.strict():
        opened, _ = joining.open_sources(list_places(place), None, None)
        try:
            infos = reading.survey(opened)
        finally:
            opened.close()
    return [info.header for info in infos if info.header]


@dataclass
class SurveyedSource:
    """An open source with its survey and its target format, as used by `load` and the doctor."""

    source: Source
    infos: list[EntryInfo]
    target: Target
    input: Input | None = None
    classes: tuple[str, ...] = ()
    """The classes of its images, also of those that are rejected later."""

    @classmethod
    def open(
        cls,
        listings: Sequence[Listing],
        options: Options,
        progress: DecodeProgress | None,
        input: str | None = None,
        accept: Accept | None = None,
    ) -> SurveyedSource:
        """Opens, labels and surveys a source, or several that are joined; `listings` as for `joining.open_sources`.

        Raises:
            MissingField: `accept` refuses the source.
            LeafwingError: the source has no such input, its images do not allow it, or it cannot be read.
        """
        source, layout = joining.open_sources(listings, options.labels, input)
        classes = labelling.classes({entry.label for entry in source.entries if entry.label is not None})
        try:
            side_fields.assign(source)
            if accept:
                lacking.check(source, layout, options, classes, accept)
            infos = reading.survey(source, progress)
            if layout and layout.half:
                reading.halve(infos, layout.half, options)
            target = options.target(reading.default_size(infos), reading.default_channels(infos))
            target = replace(target, bits=choose_bits(infos, options, layout))
            target = replace(target, levels=choose_levels(source, infos, options.levels, target.bits, "levels"))
            if not layout and options.input_levels:
                raise LeafwingError("--input-levels: there are no inputs; it needs --input")
            if layout:
                inputs = [info.input for info in infos if info.input]
                if not inputs and options.input_levels:
                    raise LeafwingError(
                        "--input-levels: the inputs are parts of the images, or derived from them: use --levels"
                    )
                bits = 16 if options.bits != 8 and reading.are_deep(inputs or infos) else 8
                levels = target.levels
                if inputs:
                    levels = choose_levels(source, inputs, options.input_levels, bits, "input_levels")
                layout = pairs.set_target(layout, target, reading.default_channels(inputs or infos), bits, levels)
            if target.fit == "tiles":
                describe_tiles(source, infos, target)
        except BaseException:
            source.close()
            raise
        if frames := sum(1 for info in infos if info.header and info.header.frames):
            source.notes.append(f"Files with several frames or pages: {frames}; only the first is used.")
        if converted := sum(1 for info in infos if info.header and info.header.profile):
            source.notes.append(f"Images with a colour profile other than sRGB: {converted:,}; they are converted to sRGB.")
        transparent = sum(1 for info in infos if info.header and info.header.transparent)
        if transparent and options.channels is None:
            source.notes.append(
                f"Images with transparency: {transparent:,}; they are put on {options.background}, and --channels "
                f"{target.channels + 1} keeps it."
            )
        if masks := layouts.describe_masks([info.entry.name for info in infos]) if input is None else "":
            source.notes.append(masks)
        if encoded := sorted(source.other_encodings):
            source.notes.append(
                f"Not UTF-8, and read as Windows-1252: {describe_files(encoded)}. Save as UTF-8 if letters with accents are wrong."
            )
        if ignored := sorted({*source.side_files} - source.used_files):
            source.notes.append(f"Not used, because they are not images: {describe_files(ignored)}.")
            if shared := Names(source.entries).describe_shared(ignored):
                source.notes.append(shared)
            if lists := labelling.find_lists(source, ignored) if options.labels is None else []:
                source.notes.append(
                    f"{lists[0]} lists images: --labels {lists[0]} reads labels or attributes from it"
                    + (f"; so do {', '.join(lists[1:])}." if lists[1:] else ".")
                )
        if columns := [name for name in source.columns if name not in source.used_files]:
            source.notes.append(f"Columns that are not used: {', '.join(columns)}.")
        source.notes += labelling.class_notes(Counter(entry.label for entry in source.entries if entry.label is not None))
        return cls(source, infos, target, layout, classes)

    def fields(self) -> dict[str, Field]:
        """The fields of the inputs, as batches have them."""
        if self.input is None:
            return {}
        window, chosen = self.target.window, self.input
        if window is None:
            return chosen.fields(self.target)
        cut = replace(chosen.target, height=window[0], width=window[1]) if chosen.target else None
        return replace(chosen, target=cut).fields(replace(self.target, height=window[0], width=window[1]))

    def __enter__(self) -> SurveyedSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()


def choose_levels(
    source: Source, infos: Sequence[EntryInfo], option: Levels | None, bits: int, name: str
) -> grey_levels.Range | None:
    """The values that become black and white in greyscale images with more than 8 bits, and a note about them.

    Args:
        source: the source; gets the note.
        infos: its images, or their inputs.
        option: what the user chose.
        bits: 8, or 16 if the images keep them.
        name: name of the option.
    """
    deep = sum(grey_levels.has_depth(info.header.mode) for info in infos if info.header)
    percentiles = bool(option and option.percent)
    values = reading.survey_values(source, infos, percentiles) if deep or percentiles else []
    mapping = None if bits == 16 and option is None else grey_levels.choose(option, values)
    what, flag = ("Greyscale images", "--levels") if name == "levels" else ("Greyscale inputs", "--input-levels")
    if deep and values:
        low, high = min(value.low for value in values), max(value.high for value in values)
        note = f"{what} with more than 8 bits: {deep:,}, with values from {low:g} to {high:g}; "
        if bits == 16:
            note += "their 16 bits are kept" + (f", {grey_levels.describe(mapping)}" if mapping else "")
        else:
            default = (0.0, 1.0) if any(value.floating for value in values) else (0.0, 65535.0)
            keeps = ", --bits 16 keeps 16 bits" * (option is None and mapping is None and reading.are_deep(infos))
            note += f"{grey_levels.describe(mapping or default)} in all of them ({flag} changes that{keeps})"
        source.notes.append(f"{note}.")
    elif mapping and grey_levels.applies_to_bytes(mapping) and any(info.header.mode == "L" for info in infos if info.header):
        source.notes.append(f"{what}: {grey_levels.describe(mapping)} ({flag}).")
    elif option:
        chosen = f"{option.low:g}%:{option.high:g}%" if option.percent else grey_levels.show((option.low, option.high))
        raise InvalidOption(
            name,
            chosen,
            "no image has such values; levels are for greyscale images with more than 8 bits, or with 8 bits and "
            "whole numbers from 0 to 255; omit it",
        )
    return mapping


def choose_bits(infos: Sequence[EntryInfo], options: Options, layout: Input | None) -> int:
    """The bits of the images: 16 only if all of them have 16 and if that is wanted, which it is by default for pairs of files.

    Raises:
        LeafwingError: 16 bits are required, and some image has other ones, or inputs are derived, which have 8.
    """
    derived = bool(layout and layout.derived)
    keeps = options.bits in ("auto", 16) or (options.bits is None and layout is not None)
    if options.bits == 16:
        if derived:
            raise LeafwingError(
                "--bits 16: inputs that are derived from the images have 8 bits, and so must the images; omit it"
            )
        for info in infos:
            if info.header and not info.header.deep:
                raise LeafwingError(
                    f"--bits 16: every image must be greyscale with 16 bits, and {info.entry.name} is {info.header.format}, "
                    f"{info.header.mode}; omit it"
                )
    return 16 if keeps and not derived and options.channels in (None, 1) and reading.are_deep(infos) else 8


def describe_files(names: Sequence[str]) -> str:
    """Many files in few words: those of one folder with one extension together, such as `labels/*.txt (120 files)`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        folder, slash, file = name.rpartition("/")
        suffix = Path(file).suffix
        groups.setdefault(f"{folder}{slash}*{suffix}" if suffix else name, []).append(name)
    return ", ".join(
        ", ".join(files) if len(files) <= _NAMED else f"{pattern} ({len(files):,} files)"
        for pattern, files in groups.items()
    )


def describe_tiles(source: Source, infos: Sequence[EntryInfo], target: Target) -> None:
    """Notes how many tiles there are, and how much is left over."""
    sizes = [(info.header.height, info.header.width) for info in infos if info.header]
    counts = [rows * columns for rows, columns in (pictures.count_tiles(*size, target) for size in sizes)]
    used, cut = sum(counts), sum(count > 0 for count in counts)
    area = sum(height * width for (height, width), count in zip(sizes, counts, strict=True) if count)
    if used:
        left_over = 1 - used * target.height * target.width / area
        source.notes.append(
            f"Tiles: {used:,} of {target.height}x{target.width} pixels, from {cut:,} images; {left_over:.0%} of their area "
            "is left over at the edges."
        )


def _dataset(
    pack: Pack,
    place: Place,
    mirror: bool,
    rejects: list[RejectedFile],
    notes: list[str],
    background: str,
    input: str | None = None,
    bits: int | str | None = None,
    chosen_labels: str | None = None,
) -> Dataset:
    """A data set over a pack; `rejects` are those found before decoding."""
    about = pack.about
    _, height, width, channels = about.shape
    names, attributes = tuple(about.classes), tuple(about.attributes)
    depth = Image(height, width, channels, about.options.get("bits", 8))
    spec = DataSpec.images(height, width, channels, labels=names, attributes=attributes, **{"image": depth, **pack.fields})
    columns = {"image": pack.pictures, "label": pack.labels, "attributes": pack.attributes, **pack.columns}
    options = about.options | {"background": background, "mirror": mirror} | ({"input": input} if input else {})
    options |= {"bits": bits} if bits is not None else {}
    options |= {"labels": chosen_labels} if chosen_labels is not None else {}
    captions = pack.fields.get("caption")
    mirrored = describe_mirrored(captions) if mirror and isinstance(captions, Caption) else ""
    data = Dataset(
        spec,
        {name: column for name, column in columns.items() if column is not None},
        pack.fingerprint,
        describe(place),
        options,
        sorted(rejects + about.rejects, key=lambda reject: reject.name),
        [*notes, *about.notes, *filter(None, [mirrored])],
        pictures_of=pack.tiles,
        sources={name: os.path.abspath(path) for name, path in place.items()} if isinstance(place, dict) else {},
    )
    window = check(options["size"], None, "crop", "white").size
    return data.with_windows(*window) if window and "crop_from" in options else data

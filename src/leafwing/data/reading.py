"""Reads every image of a source on all CPU cores, in two passes: a survey of headers and hashes, then the pixels.

`pack` and `doctor` both use this file, so they accept and reject the same files for the same reasons. Callers enter
`pictures.strict()`: it affects the whole process, and an abandoned generator would never leave it. `pictures` decodes an
image, `sources` provides its bytes; nothing is stored here.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from leafwing.data import pictures, side_fields
from leafwing.data.formats import describe_name
from leafwing.data.levels import Tones, Values, has_depth
from leafwing.data.options import Options, Target
from leafwing.data.pairs import Input, decode_parts, input_failure, require_halves
from leafwing.data.pictures import Header, Picture, UnreadableImageError, UnsupportedImageError, UnusableImageError
from leafwing.data.sources import CHUNK, Entry, Load, RejectedFile, Source, Task
from leafwing.errors import LeafwingError
from leafwing.fields import Field
from leafwing.machine import cores
from leafwing.pixels import eight_bits

DecodeProgress = Callable[[int, int], None]
"""A callback (done, total), in images; called from the thread that reads."""

LARGE_FILE = 32 << 20
"""Bytes of a file above which it is read and decoded alone."""
_ONE_LARGE = Lock()
T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class EntryInfo:
    """What the survey finds out about an entry: the hash of its bytes ("" if unreadable), and its header or the failure."""

    entry: Entry
    sha256: str
    header: Header | None
    failure: UnusableImageError | None = None
    input: EntryInfo | None = None
    """The same of the file of its input, if it has one; the header is None if that of the input is."""


@dataclass(slots=True)
class Decoded:
    """An entry, or a tile of it, after decoding: its image, its further columns with pixels and the values of its other fields, or the
    failure; and what `measure` returned."""

    info: EntryInfo
    image: Picture | None
    failure: UnusableImageError | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    measurement: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    tile: int = 0
    """The number of the tile, from 1; 0 if it is not a tile."""

    @property
    def name(self) -> str:
        """The name of the entry, and the number of the tile: `photo.jpg#3`."""
        return f"{self.info.entry.name}#{self.tile}" if self.tile else self.info.entry.name


@dataclass(slots=True)
class SeenTones:
    """The tones of images, and of inputs that are files of their own."""

    images: Tones = field(default_factory=Tones)
    inputs: Tones = field(default_factory=lambda: Tones("inputs", "--input-levels"))

    def add(self, decoded: Decoded) -> None:
        """Counts a decoded entry."""
        if decoded.image is not None:
            self.images.add(decoded.image.pixels, decoded.info.header.mode if decoded.info.header else "")
        if decoded.info.input and "input" in decoded.columns:
            self.inputs.add(decoded.columns["input"], decoded.info.input.header.mode if decoded.info.input.header else "")

    def notes(self) -> list[str]:
        """What users should know, in sentences."""
        return self.images.notes() + self.inputs.notes()


def survey(source: Source, progress: DecodeProgress | None = None) -> list[EntryInfo]:
    """Reads the bytes and the header of every entry.

    Args:
        source: an open source; its entries keep their order.
        progress: called for the first half of the work.
    """

    def examine(chunk: list[Task]) -> list[EntryInfo]:
        infos = []
        for task in chunk:
            with _large_alone(task[0]):
                infos.append(_examine_pair(task, source.part_of(task[0]).raw))
        return infos

    infos: list[EntryInfo] = []
    total = len(source.entries)
    for chunk in in_parallel(examine, source.chunks(source.entries)):
        infos += chunk
        if progress:
            progress(len(infos) // 2, total)
    return infos


def decode(
    source: Source,
    infos: Sequence[EntryInfo],
    target: Target,
    measure: Callable[[np.ndarray], Any] | None = None,
    progress: DecodeProgress | None = None,
    input: Input | None = None,
) -> Generator[Decoded, None, None]:
    """Decodes every entry with a readable header, in order, with a few dozen in memory at a time; large pictures for tiles one by one.

    Args:
        source: the source that was surveyed.
        infos: the result of `survey`.
        target: size, channels, fit and background.
        measure: called in the reading threads with the pixels (height, width, channels), as uint8.
        progress: called for the second half of the work.
        input: where the input of each image comes from, with its target.

    Raises:
        LeafwingError: a file has changed since the survey.
    """
    readable = [info for info in infos if info.header is not None]
    by_entry = {id(info.entry): info for info in readable}

    def work(chunk: list[Task]) -> list[list[Decoded]]:
        decoded = []
        for task in chunk:
            with _large_alone(task[0]):
                decoded.append(_decode(by_entry[id(task[0])], task, source, target, measure, input))
        return decoded

    done, total = len(infos) - len(readable), len(infos)
    size = 1 if target.fit == "tiles" else CHUNK
    for chunk in in_parallel(work, source.chunks([info.entry for info in readable], size)):
        for outcomes in chunk:
            yield from outcomes
        done += len(chunk)
        if progress:
            progress(total // 2 + (done * (total - total // 2)) // total, total)


def rejects(outcomes: Iterable[EntryInfo | Decoded]) -> list[RejectedFile]:
    """The rejected entries with their reasons."""
    return [
        RejectedFile(outcome.name if isinstance(outcome, Decoded) else outcome.entry.name, str(outcome.failure))
        for outcome in outcomes
        if outcome.failure is not None
    ]


def broken(outcomes: Iterable[EntryInfo | Decoded]) -> int:
    """Number of unreadable files among those with the extension of an image or with none, and of pictures of other kinds."""
    count = 0
    for outcome in outcomes:
        entry = _entry(outcome)
        unread = isinstance(outcome.failure, UnsupportedImageError)
        count += unread or (isinstance(outcome.failure, UnreadableImageError) and entry.may_be_image)
    return count


def _entry(outcome: EntryInfo | Decoded) -> Entry:
    return outcome.entry if isinstance(outcome, EntryInfo) else outcome.info.entry


def halve(infos: Sequence[EntryInfo], half: str, options: Options) -> None:
    """Replaces the header of each image by that of a half of it.

    Raises:
        LeafwingError: the images do not look like two halves.
    """
    headers = [info.header for info in infos if info.header]
    require_halves([(header.height, header.width) for header in headers], half, options.size)
    for info in infos:
        info.header = info.header and pictures.half_header(info.header, half)


def default_size(infos: Sequence[EntryInfo]) -> tuple[int, int]:
    """64x64, or 32x32 if the median short side is below 64 pixels."""
    short = [min(info.header.height, info.header.width) for info in infos if info.header]
    return (32, 32) if short and float(np.median(short)) < 64 else (64, 64)


def default_channels(infos: Sequence[EntryInfo]) -> int:
    """1 if every image has a greyscale mode, else 3."""
    modes = {info.header.mode for info in infos if info.header}
    return 1 if modes and modes <= pictures.GREY_MODES else 3


def are_deep(infos: Sequence[EntryInfo]) -> bool:
    """Whether every image is greyscale with 16 bits."""
    headers = [info.header for info in infos if info.header]
    return bool(headers) and all(header.deep for header in headers)


def survey_values(source: Source, infos: Sequence[EntryInfo], percentiles: bool) -> list[Values]:
    """The values of all greyscale images with more than 8 bits; for percentiles, of all greyscale images. Reads these files again.

    Args:
        source: the source that was surveyed.
        infos: the result of `survey`, or of the inputs in it.
        percentiles: whether quantiles are needed.
    """
    chosen = [
        info.entry
        for info in infos
        if info.header and (info.header.mode in pictures.GREY_MODES if percentiles else has_depth(info.header.mode))
    ]

    def work(chunk: list[Task]) -> list[Values]:
        values: list[Values | None] = []
        for entry, load, _ in chunk:
            with suppress(UnusableImageError):  # rejected later, with its reason
                values.append(pictures.survey_values(load(), percentiles, source.part_of(entry).raw))
        return [value for value in values if value is not None]

    return [value for values in in_parallel(work, source.chunks(chosen)) for value in values]


def fingerprint(
    infos: Sequence[EntryInfo],
    target: Target,
    version: int,
    attributes: Sequence[str] = (),
    fields: Mapping[str, Field] | None = None,
    input: Input | None = None,
    raw: Sequence[tuple[int, ...] | None] = (),
) -> str:
    """A hash of everything that determines a pack: names, contents, labels, attributes, further fields, inputs, options, format
    version; `raw` is that of the source, or of each that it joins."""
    # Without attributes, further fields or an input the fingerprint is the same as in versions that had none, and so are those of
    # formats that every installation reads and of square arrays.
    names: list[Any] = [list(attributes)] if attributes else []
    names += [{name: kind.as_dict() for name, kind in fields.items()}] if fields else []
    names += [input.as_dict()] if input else []
    both = [header for info in infos for header in (info.header, info.input and info.input.header) if header]
    names += ["sRGB"] if any(header.profile for header in both) else []  # earlier versions did not convert
    names += ["white is zero"] if any(header.negative for header in both) else []  # nor invert
    names += [{"plugins": plugins}] if (plugins := sorted({header.format for header in both} & {*pictures.PLUGINS})) else []
    names += [pictures.WITHOUT_AVIF] if _lacks_avif(infos) else []
    if any(shape and shape[0] != shape[1] for shape in raw):
        names += [{"raw": raw}]  # equal bytes may be of other shapes
    digest = hashlib.sha256(json.dumps([version, target.as_dict() | {"background": target.rgb}, *names]).encode())
    for info in infos:
        values: list[Any] = [list(info.entry.attributes)] if attributes else []
        values += [info.entry.values] if fields else []
        values += [[info.input.entry.name, info.input.sha256]] if info.input else []
        digest.update(json.dumps([info.entry.name, info.sha256, info.entry.label, *values]).encode())
    return digest.hexdigest()


def _lacks_avif(infos: Sequence[EntryInfo]) -> bool:
    """Whether some files are not read because Pillow was built without AVIF."""
    if pictures.WITHOUT_AVIF not in pictures.special_formats():
        return False
    unread = [part.entry.name for info in infos for part in (info, info.input) if part and part.failure]
    return any(name.lower().endswith(".avif") for name in unread)


def _large_alone(entry: Entry) -> AbstractContextManager[Any]:
    """Large files are in memory one at a time, whatever the number of threads; other files are not affected."""
    size = max(entry.size, entry.input.size if entry.input else 0)
    return _ONE_LARGE if size > LARGE_FILE else nullcontext()


def _examine_pair(task: Task, raw: tuple[int, ...] | None) -> EntryInfo:
    entry, load, load_input = task
    info = _examine(entry, load, raw)
    if load_input is not None and entry.input is not None:
        info.input = _examine(entry.input, load_input, raw)
        if info.header and info.input.failure:
            info.header, info.failure = None, input_failure(entry.input, info.input.failure)
    return info


def _examine(entry: Entry, load: Load, raw: tuple[int, ...] | None) -> EntryInfo:
    sha256, data = "", b""
    try:
        data = load()
        sha256 = hashlib.sha256(data).hexdigest()
        return EntryInfo(entry, sha256, pictures.header(data, raw))
    except UnusableImageError as reason:
        if isinstance(reason, UnreadableImageError) and data and (what := describe_name(entry.name)):
            reason = UnsupportedImageError(what)
        return EntryInfo(entry, sha256, None, reason)


def _decode(
    info: EntryInfo,
    task: Task,
    source: Source,
    target: Target,
    measure: Callable[[np.ndarray], Any] | None,
    input: Input | None,
) -> list[Decoded]:
    """The image of an entry, or its tiles."""
    entry, load, load_input = task
    raw = source.part_of(entry).raw
    try:
        data = _load_surveyed(info, load, source)
        if input is None:
            images: list[tuple[Picture, dict[str, np.ndarray]]]
            images = [(image, {}) for image in decode_parts(data, target, raw)]
        else:
            partner = None
            if info.input and load_input:
                partner = (info.input.entry, _load_surveyed(info.input, load_input, source))
            images = input.decode(data, partner, target, raw)
    except UnusableImageError as reason:
        return [Decoded(info, None, reason)]
    decoded = []
    for number, (image, columns) in enumerate(images, 1):
        tile = number if target.fit == "tiles" else 0
        try:
            values = side_fields.place(source, info.entry.values, image, target)
        except UnusableImageError as reason:
            decoded.append(Decoded(info, None, reason, tile=tile))
        else:
            measured = measure(eight_bits(image.pixels)) if measure else None
            decoded.append(Decoded(info, image, None, columns, measured, values, tile))
    return decoded


def _load_surveyed(info: EntryInfo, load: Load, source: Source) -> bytes:
    """The bytes of an entry. The pack is named by the hashes of the survey: it must not contain other bytes."""
    data = load()
    if hashlib.sha256(data).hexdigest() != info.sha256:
        if source.kind == "memory":
            raise LeafwingError(
                f"{source.path}: {info.entry.name} differs each time it is read: give the data set without random transforms "
                "(mirror=True flips images, crop_from crops them)"
            )
        raise LeafwingError(f"{source.path}: {info.entry.name} changed while it was being read; start again.")
    return data


def in_parallel(work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """Results in order, a few tasks ahead of the caller; Pillow, zlib and sha256 release the GIL."""
    workers = cores()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="leafwing-read")
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

"""Reads every image of a source on all CPU cores, in two passes: a survey of headers and hashes, then the pixels.

`pack` and `doctor` both read through here, so they accept and reject the same files for the same reasons. Callers hold
`pictures.strict()` meanwhile: it affects the whole process, and an abandoned generator must not keep it. `pictures` decodes an
image, `sources` provides its bytes; nothing is stored here.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from leafwing.data import pictures
from leafwing.data.options import Target
from leafwing.data.pictures import Header, Picture, Unreadable, Unusable
from leafwing.data.sources import Entry, Reject, Source, Task
from leafwing.errors import LeafwingError
from leafwing.machine import cores

Progress = Callable[[int, int], None]
"""Called with the number of images done and the total, from the reading thread."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Seen:
    """One entry after the survey: the hash of its bytes ("" if unreadable), and its header or the failure."""

    entry: Entry
    sha256: str
    header: Header | None
    failure: Unusable | None = None


@dataclass(slots=True)
class Decoded:
    """One entry after decoding: its image or the failure; `measured` is the result of the caller's `measure`."""

    seen: Seen
    picture: Picture | None
    failure: Unusable | None = None
    measured: Any = None


def survey(source: Source, progress: Progress | None = None) -> list[Seen]:
    """Reads the bytes and the header of every entry.

    Args:
        source: an open source; its entries keep their order.
        progress: called for the first half of the work.
    """

    def look(chunk: list[Task]) -> list[Seen]:
        return [_look(entry, load, source.raw) for entry, load in chunk]

    seen: list[Seen] = []
    total = len(source.entries)
    for chunk in _in_parallel(look, source.chunks(source.entries)):
        seen += chunk
        if progress:
            progress(len(seen) // 2, total)
    return seen


def decode(
    source: Source,
    seen: Sequence[Seen],
    target: Target,
    measure: Callable[[np.ndarray], Any] | None = None,
    progress: Progress | None = None,
) -> Generator[Decoded, None, None]:
    """Decodes every entry with a readable header, in order, with a few dozen in memory at a time.

    Args:
        source: the source that was surveyed.
        seen: the survey.
        target: size, channels, fit and background.
        measure: called in the reading threads with the pixels (height, width, channels) uint8.
        progress: called for the second half of the work.

    Raises:
        LeafwingError: a file has changed since the survey.
    """
    good = [one for one in seen if one.header is not None]
    by_entry = {id(one.entry): one for one in good}

    def work(chunk: list[Task]) -> list[Decoded]:
        return [_decode(by_entry[id(entry)], load, source, target, measure) for entry, load in chunk]

    done, total = len(seen) - len(good), len(seen)
    for chunk in _in_parallel(work, source.chunks([one.entry for one in good])):
        yield from chunk
        done += len(chunk)
        if progress:
            progress(total // 2 + (done * (total - total // 2)) // total, total)


def rejects(outcomes: Iterable[Seen | Decoded]) -> list[Reject]:
    """The rejected entries with their reasons."""
    found = []
    for one in outcomes:
        if one.failure is not None:
            entry = one.entry if isinstance(one, Seen) else one.seen.entry
            found.append(Reject(entry.name, str(one.failure)))
    return found


def broken(outcomes: Iterable[Seen | Decoded]) -> int:
    """Number of files with an image's file extension that cannot be read as one."""
    count = 0
    for one in outcomes:
        entry = one.entry if isinstance(one, Seen) else one.seen.entry
        promises = entry.promises or "." not in entry.name.rsplit("/", 1)[-1]
        count += isinstance(one.failure, Unreadable) and promises
    return count


def default_size(seen: Sequence[Seen]) -> tuple[int, int]:
    """64x64, or 32x32 if the median short side is below 64 pixels."""
    short = [min(one.header.height, one.header.width) for one in seen if one.header]
    return (32, 32) if short and float(np.median(short)) < 64 else (64, 64)


def default_channels(seen: Sequence[Seen]) -> int:
    """1 if every image has a greyscale mode, else 3."""
    modes = {one.header.mode for one in seen if one.header}
    return 1 if modes and modes <= pictures.GREY_MODES else 3


def fingerprint(seen: Sequence[Seen], target: Target, version: int, attributes: Sequence[str] = ()) -> str:
    """A hash of everything that determines a pack: names, contents, labels, attributes and their names, options, format version."""
    named = [list(attributes)] if attributes else []  # without attributes, unchanged from before they existed
    digest = hashlib.sha256(json.dumps([version, target.as_dict() | {"background": target.rgb}, *named]).encode())
    for one in seen:
        own = [list(one.entry.attributes)] if attributes else []
        digest.update(json.dumps([one.entry.name, one.sha256, one.entry.label, *own]).encode())
    return digest.hexdigest()


def _look(entry: Entry, load: Callable[[], bytes], raw: tuple[int, int] | None) -> Seen:
    sha256 = ""
    try:
        data = load()
        sha256 = hashlib.sha256(data).hexdigest()
        return Seen(entry, sha256, pictures.header(data, raw))
    except Unusable as reason:
        return Seen(entry, sha256, None, reason)


def _decode(
    seen: Seen, load: Callable[[], bytes], source: Source, target: Target, measure: Callable[[np.ndarray], Any] | None
) -> Decoded:
    try:
        data = load()
        # The pack is stored under the hash from the survey: other bytes must never end up in it.
        if hashlib.sha256(data).hexdigest() != seen.sha256:
            raise LeafwingError(f"{source.path}: {seen.entry.name} changed while it was being read; start again.")
        picture = pictures.decode(data, target, source.raw)
    except Unusable as reason:
        return Decoded(seen, None, reason)
    return Decoded(seen, picture, None, measure(picture.pixels) if measure else None)


def _in_parallel(work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
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

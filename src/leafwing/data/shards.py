"""Data sets in several files: which of the files of a folder belong together, and tars that are read as one.

A name such as `train-00000-of-00002.parquet` or `shard-000003.tar` is a set and a number.
"""

from __future__ import annotations

import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from leafwing.data import sources
from leafwing.data.sources import Entry, File, Source
from leafwing.errors import LeafwingError

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_NUMBER = re.compile(r"[-_.]?(?P<number>\d+)(?:-of-(?P<total>\d+))?$")
_TRAINING = {"train", "training"}


class Member(NamedTuple):
    """A file in one of several tars: the number of the tar, and its place in it."""

    shard: int
    info: tarfile.TarInfo

    @property
    def offset(self) -> tuple[int, int]:
        """Files with smaller ones are read first."""
        return self.shard, self.info.offset


def set_name(stem: str) -> str:
    """The name of the set to which a file belongs: its name without extension and number."""
    match = _NUMBER.search(stem)
    return stem[: match.start()] if match else stem


def choose(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files that make up one data set, in order, and notes about the others and about numbers that are missing.

    Args:
        folder: for messages.
        names: paths below it; those of a training set are chosen if there are several sets.

    Raises:
        LeafwingError: several sets, and not exactly one of them is a training set; a file is there twice, packed differently.
    """
    sets: dict[str, list[str]] = defaultdict(list)
    totals: dict[str, int] = {}
    for name in sorted(names):
        head, slash, file = name.rpartition("/")
        stem = _stem(file)
        match = _NUMBER.search(stem)
        key = f"{head}{slash}{set_name(stem)}".rstrip("/")
        sets[key].append(name)
        if match and match["total"]:
            totals[key] = max(totals.get(key, 0), int(match["total"]))
    training = [key for key in sets if _TRAINING & {*re.split(r"[/\-_.]", key.lower())}]
    chosen = training if len(sets) > 1 else [*sets]
    if len(chosen) != 1:
        listed = ", ".join(sorted(files[0] for files in sets.values())[:6])
        raise LeafwingError(
            f"{folder}: several data sets ({listed}); give the path of one file, or a folder with the files of one set."
        )
    files = sets[chosen[0]]
    _require_different(folder, files)
    notes = [
        f"Not used: {', '.join(others[:3])}{' ...' * (len(others) > 3)}, of another set than {files[0]}; give the path of a file "
        "to read it instead."
        for key, others in sets.items()
        if key != chosen[0]
    ]
    if (total := totals.get(chosen[0], 0)) > len(files):
        notes.append(f"Only {len(files)} of the {total} files of this data set are here ({files[0]}, ...).")
    elif gaps := _gaps(files):
        notes.append(
            f"Numbers that are missing between {files[0]} and {files[-1]}: {', '.join(gaps[:6])}{' ...' * (len(gaps) > 6)}."
        )
    return files, notes


def _stem(file: str) -> str:
    """The name of a file without its extension, also without both of `.tar.gz`."""
    return re.sub(r"(\.tar)?\.\w+$", "", file)


def _require_different(folder: Path, files: Sequence[str]) -> None:
    """Checks that files differ by more than their extension."""
    stems: dict[str, str] = {}
    for file in files:
        if (other := stems.setdefault(_stem(file), file)) != file:
            raise LeafwingError(f"{folder}: {other} and {file} are the same part of a data set twice; remove one of them.")


def _gaps(files: Sequence[str]) -> list[str]:
    """The numbers that are missing between the first and the last one of some files, the first 100, with the zeros of their names."""
    numbers = [match["number"] for file in files if (match := _NUMBER.search(_stem(file)))]
    present = {int(number) for number in numbers}
    absent = (number for number in range(min(present), max(present)) if number not in present) if present else iter(())
    width = min(map(len, numbers), default=0)
    return [f"{number:0{width}d}" for number in islice(absent, 100)]


def note_others(files: Sequence[File], parts: Sequence[File]) -> list[str]:
    """A note about the files beside shards, apart from the usual READMEs."""
    names = {part.name for part in parts}
    others = [
        file.name for file in files if file.name not in names and Path(file.name).stem.lower() not in sources.SIDE_NAMES
    ]
    return [f"Not used: {', '.join(others[:6])}{' ...' * (len(others) > 6)}."] if others else []


def open_tars(path: Path, files: Sequence[Path]) -> Source:
    """Several tars as one: their files together, and with the name of the tar in front if it would otherwise be ambiguous.

    Raises:
        LeafwingError: one of them is damaged.
    """
    if len(files) == 1:
        return sources.open_tar(files[0])
    parts: list[Source] = []
    for file in files:
        with sources.open_tar(file) as part:
            parts.append(part)
    images = Counter(entry.name for part in parts for entry in part.entries)
    counts = images + Counter(name for part in parts for name in part.side_files)
    ambiguous = any(count > 1 for count in counts.values())
    archives = _Archives(files)
    source = Source("tar", path, [], archives.read, sequential=True, close=archives.close)
    source.read_in_any_order = archives.check_any_order
    for shard, (file, part) in enumerate(zip(files, parts, strict=True)):
        prefix = f"{file.name.split('.')[0]}/" if ambiguous else ""
        source.rejects += part.rejects
        source.notes += [f"{file.name}: {note}" for note in part.notes]
        for entry in part.entries:
            source.entries.append(Entry(prefix + entry.name, Member(shard, entry.location), entry.size))
        source.side_files |= {prefix + name: Member(shard, info) for name, info in part.side_files.items()}
    source.folders_are_classes = not any(count > 1 for count in images.values())
    source.tops = int(ambiguous)
    source.notes.append(f"Read together: {len(files):,} tar files, from {files[0].name} to {files[-1].name}.")
    return source


class _Archives:
    """Reads from several tars, one of which is open at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.opened: tuple[int, tarfile.TarFile] | None = None

    def read(self, member: Any) -> bytes:
        if self.opened is None or self.opened[0] != member.shard:
            self.close()
            self.opened = member.shard, tarfile.open(self.files[member.shard], "r:*")
        file = self.opened[1].extractfile(member.info)
        assert file is not None  # only regular members are listed
        return file.read()

    def check_any_order(self) -> None:
        if packed := next((file for file in self.files if file.suffix.lower() != ".tar"), None):
            raise LeafwingError(
                f"{packed}: several compressed tars can only be read in their own order, and pairs are not; uncompress them (gunzip)."
            )

    def close(self) -> None:
        if self.opened is not None:
            self.opened[1].close()
            self.opened = None

"""The content of a source: a folder, zip, tar or IDX file as a list of named entries, and how to read the bytes of each.

`opening` finds out which of these a path is, or which other kind; `pictures` opens the images and `labels` assigns the labels. Nothing
is ever unpacked to disk, so the paths in an archive are harmless.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

try:
    from lzma import LZMAError
except ImportError:  # Python was built without it
    LZMAError = zlib.error  # type: ignore[misc, assignment]

from leafwing.data import formats
from leafwing.data.pictures import LARGEST_FILE, SUFFIXES, UnreadableImageError, UnusableImageError
from leafwing.errors import LeafwingError, StorageError
from leafwing.fields import Field

SIDE_SUFFIXES = frozenset(
    {
        ".txt",
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".md",
        ".rst",
        ".xml",
        ".yaml",
        ".yml",
        ".html",
        ".cat",
        ".mat",
        ".pts",
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".parquet",
        ".cls",
        ".log",
        ".pdf",
        ".py",
    }
)
"""Extensions of files that usually accompany image collections; they are ignored."""
SIDE_NAMES = frozenset({"readme", "license", "licence", "notice", "copying", "sha256sums", "md5sums"})
SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "icon\\r",
        "@eadir",  # thumbnails of Synology's disks
        "#recycle",
        "$recycle.bin",
        "system volume information",
    }
)
CHUNK = 16
"""Number of entries per task of a thread."""
CHUNK_BYTES = 16 * 2**20
DAMAGED = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    LZMAError,
)
"""What damaged archives and compressed files make the standard library raise."""
IDX = re.compile(r"images[-.]idx3-ubyte(\.gz)?$")


@dataclass(frozen=True)
class RejectedFile:
    """A rejected file, and the reason, for the user."""

    name: str
    reason: str


@dataclass(slots=True)
class Entry:
    """One candidate image: its name in the source (with `/`), its location, its size in bytes, class, attributes, further fields, and
    the file of its input."""

    name: str
    location: Any
    size: int
    label: str | None = None
    attributes: tuple[int, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    input: Entry | None = None

    @property
    def folders(self) -> list[str]:
        """The folders that it lies in, from the top; without `.`, which some tars have in front."""
        return self.name.removeprefix("./").split("/")[:-1]

    @property
    def has_image_suffix(self) -> bool:
        """Whether its file extension is that of an image."""
        return has_image_suffix(self.name)

    @property
    def may_be_image(self) -> bool:
        """Whether its file extension is that of an image, or it has none, as the rows of arrays and tables."""
        return self.has_image_suffix or "." not in self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class File:
    """A regular file below a folder, as the file system describes it."""

    name: str
    path: str
    size: int
    changed: tuple[int, int]
    """Times of the last change of content and of metadata, in nanoseconds."""


Load = Callable[[], bytes]
Task = tuple[Entry, Load, Load | None]
"""An entry, and how to read its file and that of its input, if it has one."""


class Column(NamedTuple):
    """A column of arrays or tables beside the images: `kind` is text, number or boolean; `read` returns the value of every row, None
    where there is none, an exception where it cannot be read, and a text or a list of texts if it is text."""

    kind: str
    read: Callable[[], Sequence[Any] | Mapping[Any, Any]]


@dataclass
class Source:
    """An open source; close it, or use it in a `with` statement.

    Args:
        kind: folder, zip, tar, idx, array, hdf5, parquet or memory.
        path: of the folder or file.
        entries: the candidate images, by name.
        side_files: known side files by name (`labels.csv`), to be read with `read`.
        read: returns the bytes at an entry's `location`; thread-safe unless `sequential`.
        sequential: reading is only cheap in file order, by one thread (tar).
        raw: height and width of raw grey images (IDX), or height, width and channels (arrays).
    """

    kind: str
    path: Path
    entries: list[Entry]
    read: Callable[[Any], bytes]
    side_files: dict[str, Any] = field(default_factory=dict)
    rejects: list[RejectedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sequential: bool = False
    raw: tuple[int, ...] | None = None
    labelled: bool = False
    """Whether the entries already have labels, or have none, or `columns` has them (IDX, arrays, tables)."""
    columns: dict[str, Column] = field(default_factory=dict)
    """Columns by name; the `location` of an entry is then its row. Those of joined sources have a value for each location."""
    label_columns: Sequence[str] = ()
    """Names of the columns that may be the labels, unless the user chooses one."""
    attributes: tuple[str, ...] = ()
    """Names of the entries' `attributes`."""
    folders_are_classes: bool = True
    """Whether the names of folders may be labels."""
    tops: int = 0
    """The number of folders at the top of each name that are no folders of the user's: the name of a tar in front of its files."""
    read_in_any_order: Callable[[], None] = lambda: None
    """Makes reading in any order as cheap as in file order (tar)."""
    fields: dict[str, Field] = field(default_factory=dict)
    """Further fields by name; the entries' `values` have the same names."""
    field_files: dict[str, str] = field(default_factory=dict)
    """The files of these fields, in words."""
    used_files: set[str] = field(default_factory=set)
    """Names of the side files and columns that were read."""
    other_encodings: set[str] = field(default_factory=set)
    """Names of the side files that are not UTF-8 and were read as Windows-1252."""
    close: Callable[[], None] = lambda: None
    parts: tuple[Source, ...] = ()
    """The sources that it joins, if it does; locations are then the index of one of them and the location there."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def part_of(self, entry: Entry) -> Source:
        """The source that an entry comes from: this one, or one of those that it joins."""
        return self.parts[entry.location[0]] if self.parts else self

    def in_archive_order(self, side_files: Iterable[str]) -> list[str]:
        """Side files in the order in which they are fast to read: within a tar that in which it has them."""

        def place(name: str) -> tuple[int, Any]:
            number, part, location = 0, self, self.side_files[name]
            if self.parts:
                number, location = location
                part = self.parts[number]
            return number, location.offset if part.sequential else 0

        return sorted(side_files, key=place)

    def chunks(self, entries: Sequence[Entry], size: int = CHUNK) -> Iterator[list[Task]]:
        """Splits entries into tasks for threads, of at most `size`, in order. A tar is read here, everything else by the threads."""
        chunk: list[Task] = []
        weight = 0
        for entry in entries:
            load_input = None if entry.input is None else self._reader(entry.input)
            chunk.append((entry, self._reader(entry), load_input))
            weight += entry.size + (entry.input.size if entry.input else 0)
            if len(chunk) == size or weight > CHUNK_BYTES:
                yield chunk
                chunk, weight = [], 0
        if chunk:
            yield chunk

    def _reader(self, entry: Entry) -> Load:
        load: Load = partial(self._load, entry)
        return partial(_return_or_raise, *_attempt(load)) if self.part_of(entry).sequential else load

    def _load(self, entry: Entry) -> bytes:
        """The bytes of one entry; raises UnusableImageError with the reason."""
        if entry.size > LARGEST_FILE:
            raise UnusableImageError(f"larger than {LARGEST_FILE >> 20} MiB")
        try:
            return self.read(entry.location)
        except DAMAGED as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnreadableImageError(f"cannot be read: {clean(reason) or type(error).__name__}") from None


def _attempt(load: Load) -> tuple[bytes, UnusableImageError | None]:
    try:
        return load(), None
    except UnusableImageError as reason:
        return b"", reason


def _return_or_raise(data: bytes, reason: UnusableImageError | None) -> bytes:
    if reason is not None:
        raise reason
    return data


def has_image_suffix(name: str) -> bool:
    """Whether the extension of a file is that of an image."""
    return "." in name and f".{name.rpartition('.')[2].lower()}" in SUFFIXES


def clean(name: str) -> str:
    """A printable name: control characters and undecodable bytes are escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def is_hidden(name: str) -> bool:
    """Whether a path inside a source is a hidden or system file (`.DS_Store`, `__MACOSX/...`, `@eaDir/...`)."""
    parts = name.split("/")
    return any((p.startswith(".") and p not in (".", "..")) or p.lower() in SYSTEM_NAMES for p in parts)


def is_side(name: str) -> bool:
    """Whether a file is a known side file."""
    path = Path(name)
    return path.suffix.lower() in SIDE_SUFFIXES or path.name.lower() in SIDE_NAMES


RUN_FILES = ("run.json", "recipe.py")
"""Files of every run folder, whose sheets and samples are no images of a source: `cd photos; leafwing train .` creates one there."""


def walk(root: Path) -> tuple[list[File], list[RejectedFile]]:
    """All regular files below a folder that are not hidden, by name, and what cannot be read. Run folders are left out.

    Symbolic links to folders are followed, each folder once, so that cycles end; after all other folders, whose names come first.
    """
    files: list[File] = []
    rejects: list[RejectedFile] = []
    visited: set[tuple[int, int]] = set()
    waiting = [("", str(root))]
    while waiting:
        prefix, folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            items = sorted(os.scandir(folder), key=lambda item: item.name, reverse=True)
        except OSError as error:
            if not prefix:
                raise LeafwingError(f"{root}: the folder cannot be listed ({error.strerror}).") from None
            rejects.append(RejectedFile(clean(prefix), f"the folder cannot be listed: {error.strerror}"))
            continue
        if prefix and {item.name for item in items}.issuperset(RUN_FILES):
            continue
        for item in items:
            name = f"{prefix}{item.name}"
            if is_hidden(item.name):
                continue
            try:
                status = item.stat()
            except OSError as error:
                rejects.append(RejectedFile(clean(name), f"cannot be read: {error.strerror}"))
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.insert(0 if item.is_symlink() else len(waiting), (f"{name}/", item.path))
            elif stat.S_ISREG(status.st_mode):
                files.append(File(name, item.path, status.st_size, (status.st_mtime_ns, status.st_ctime_ns)))
            else:
                rejects.append(RejectedFile(clean(name), "not a regular file"))
    return sorted(files, key=lambda file: file.name), sorted(rejects, key=lambda reject: reject.name)


def list_files(path: Path) -> tuple[list[File], list[RejectedFile]]:
    """The files that make up a source, without opening any: those below a folder, or else the file itself and its neighbours.

    Neighbours matter for an IDX file: its labels are in a file next to it.
    """
    if path.is_dir():
        return walk(path)
    paths = [path]
    if IDX.search(path.name):
        paths += [other for other in _label_names(path) if other.is_file()]
    files = []
    for file in paths:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait forever
            raise LeafwingError(f"{file}: not a regular file; give a folder, an archive or an IDX file.")
        files.append(File(file.name, str(file), status.st_size, (status.st_mtime_ns, status.st_ctime_ns)))
    return files, []


def describe_file(path: Path) -> str:
    """What kind of file this is if it is not a source; empty if unknown."""
    try:
        with path.open("rb") as file:
            return formats.describe(file.read(4096))[0] or formats.describe_name(path.name)
    except OSError:
        return ""


def _sort_files(source: Source, items: Iterable[tuple[str, Any, int]]) -> Source:
    """Sorts (name, location, size) into candidates and side files; drops hidden files and run folders."""
    cleaned = [(clean(name), location, size) for name, location, size in items]
    runs = _run_folders([name for name, _, _ in cleaned])
    for name, location, size in cleaned:
        if is_hidden(name) or name.startswith(runs):
            continue
        if is_side(name):
            source.side_files[name] = location
        else:
            source.entries.append(Entry(name, location, size))
    source.entries.sort(key=lambda entry: entry.name)
    return source


def _run_folders(names: Sequence[str]) -> tuple[str, ...]:
    """The run folders in an archive, each with a `/` at its end; never all of it."""
    first, second = ({name.removesuffix(file) for name in names if name.endswith(f"/{file}")} for file in RUN_FILES)
    return tuple(folder for folder in first & second if not all(name.startswith(folder) for name in names))


def open_folder(path: Path, files: list[File], rejects: list[RejectedFile]) -> Source:
    """A folder; `files` and `rejects` are the result of `list_files`."""
    source = Source("folder", path, [], lambda location: Path(location).read_bytes(), rejects=list(rejects))
    return _sort_files(source, ((file.name, file.path, file.size) for file in files))


def open_zip(path: Path) -> Source:
    """A zip file.

    Raises:
        LeafwingError: it is damaged or encrypted.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as error:
        raise LeafwingError(f"{path}: not a readable zip file ({error}); download it again.") from None
    # Of two members with the same name the later one wins, as it would after unpacking.
    members = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
    if any(info.flag_bits & 1 for info in members.values()):
        archive.close()
        raise LeafwingError(f"{path}: the zip is encrypted; unpack it with its password and give the folder.")

    def read(info: zipfile.ZipInfo) -> bytes:
        with archive.open(info) as member:
            data = member.read(LARGEST_FILE + 1)  # the declared size may be wrong
        if len(data) > LARGEST_FILE:
            raise UnusableImageError(f"larger than {LARGEST_FILE >> 20} MiB")
        return data

    source = Source("zip", path, [], read, close=archive.close)
    _note_repeated(source, [info.filename for info in archive.infolist() if not info.is_dir()], len(members))
    return _sort_files(source, ((name, info, info.file_size) for name, info in members.items()))


def _note_repeated(source: Source, names: Sequence[str], number: int) -> None:
    """Notes that some names occur again in an archive that has a number of different ones."""
    if len(names) > number:
        name, _ = Counter(names).most_common(1)[0]
        source.notes.append(
            f"Files that the archive contains several times: {len(names) - number:,}, such as {clean(name)}; the last is used."
        )


def is_tar(path: Path) -> bool:
    """Whether the content is a tar's; `tarfile.is_tarfile` raises what the decompressors do (a gzip header alone: EOFError)."""
    try:
        return tarfile.is_tarfile(path)
    except DAMAGED:
        return False


def _read_blocks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The content of a compressed file.

    Raises:
        LeafwingError: it is damaged.
    """
    try:
        file.seek(0)
        while block := file.read(CHUNK_BYTES):
            yield block
    except DAMAGED as error:
        raise LeafwingError(f"{path}: the archive is damaged or truncated ({error}); download it again.") from None


def open_tar(path: Path) -> Source:
    """A tar file, compressed or not.

    Raises:
        LeafwingError: it is damaged.
    """
    try:
        archive = tarfile.open(path, "r:*")
    except DAMAGED as error:
        raise LeafwingError(f"{path}: not a readable tar file ({error}); download it again.") from None
    try:
        listed = list(archive)
    except DAMAGED as error:
        archive.close()
        raise LeafwingError(f"{path}: the archive is damaged or truncated ({error}); download it again.") from None

    members = {info.name: info for info in listed}

    def read(info: tarfile.TarInfo) -> bytes:
        member = archive.extractfile(info)
        assert member is not None  # only regular members are listed
        return member.read()

    def read_in_any_order() -> None:
        """A compressed tar can only be read forwards: it is uncompressed into a temporary file without a name."""
        if isinstance(archive.fileobj, io.BufferedReader) or archive.fileobj is None:
            return
        copy = None
        try:
            copy = tempfile.TemporaryFile()
            for block in _read_blocks(path, cast("BinaryIO", archive.fileobj)):
                copy.write(block)
            copy.flush()
        except BaseException as error:
            if copy is not None:
                copy.close()
            if not isinstance(error, OSError):
                raise
            raise StorageError(
                f"{path}: pairs of a compressed tar are read through a temporary file, which cannot be written ({error}); free "
                "some space, choose another folder with TMPDIR=/path/to/folder, or unpack the archive"
            ) from None
        archive.fileobj.close()
        archive.fileobj = copy

    source = Source("tar", path, [], read, sequential=True, read_in_any_order=read_in_any_order, close=archive.close)
    _note_repeated(source, [info.name for info in listed], len(members))
    for name, info in members.items():
        if not info.isreg() and not info.isdir():
            source.rejects.append(RejectedFile(clean(name), "a link or device inside an archive"))
    _sort_files(source, ((name, info, info.size) for name, info in members.items() if info.isreg()))
    source.entries.sort(key=lambda entry: int(entry.location.offset))  # a compressed tar can only be read forwards
    return source


def choose_idx(folder: Path, images: list[File]) -> Path:
    """The training images of a folder of IDX files."""
    candidates = [file for file in images if "train" in Path(file.name).name] or images
    names = {re.sub(r"\.gz$", "", file.name) for file in candidates}
    if len(names) > 1:
        raise LeafwingError(f"{folder}: several IDX files of images ({', '.join(sorted(names))}); give the path of one.")
    return Path(candidates[0].path)


def _label_names(images: Path) -> list[Path]:
    """Possible paths of the labels of an IDX file of images."""
    name = re.sub(r"\.gz$", "", images.name)
    stem = name.replace("images", "labels").replace("idx3", "idx1")
    return [images.with_name(stem + ending) for ending in ("", ".gz")]


def _read_idx(path: Path, dimensions: int) -> tuple[tuple[int, ...], bytes]:
    """The shape and the bytes of an IDX file of unsigned bytes."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except DAMAGED as error:
        raise LeafwingError(f"{path}: cannot be read ({error}); download it again.") from None
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes([0, 0, 8, dimensions]):
        raise LeafwingError(f"{path}: not an IDX file of {dimensions}-dimensional unsigned bytes.")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    expected = 1
    for side in shape:
        expected *= side
    if len(data) - start != expected or expected == 0:
        raise LeafwingError(
            f"{path}: declares {'x'.join(map(str, shape))} bytes but has {len(data) - start}; download it again."
        )
    return shape, data[start:]


def open_idx(path: Path) -> Source:
    """An IDX file of images, with the labels beside it.

    Raises:
        LeafwingError: it is damaged.
    """
    (count, height, width), pixels = _read_idx(path, 3)
    size = height * width

    def read(location: int) -> bytes:
        return pixels[location * size : (location + 1) * size]

    stem = path.name.split("-images")[0].split("-idx")[0]
    entries = [Entry(f"{stem}/{index:07d}", index, size) for index in range(count)]
    source = Source("idx", path, entries, read, raw=(height, width))
    labels = next((file for file in _label_names(path) if file.is_file()), None)
    if labels is None:
        source.notes.append(f"No labels next to {path.name}.")
        return source
    (number,), classes = _read_idx(labels, 1)
    if number != count:
        raise LeafwingError(f"{labels}: {number} labels for {count} images in {path.name}.")
    for entry, label in zip(entries, classes, strict=True):
        entry.label = str(label)
    source.labelled = True
    source.notes.append(f"Read {path.name}; give the path of another IDX file to read that instead.")
    return source


def signature(path: Path, files: list[File], options: Sequence[Any]) -> str:
    """A hash of names, sizes and times: while it is unchanged, no file needs to be read again."""
    digest = hashlib.sha256(repr((os.path.abspath(path), options)).encode())
    for file in files:
        digest.update(f"{file.name!r} {file.size} {file.changed}\n".encode())
    return digest.hexdigest()

"""Files as they are written and read: atomic writes, after which there is either the old file or the new one, never a partial one;
JSON that is checked against a type; checksums of what is in the cache."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import string
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from leafwing.errors import LeafwingError, StorageError, visible

BLOCK = 4 << 20
"""Bytes of a file that a checksum covers."""
RESTORE = "the file is incomplete or was edited: restore it from a copy"
ADVICE = {
    (errno.ENOSPC, errno.EDQUOT): "free some disk space",
    (errno.EACCES, errno.EPERM, errno.EROFS): "make the folder writable, or choose another one",
    (errno.EIO,): "the disk or its connection may be damaged",
}
"""What to do about errors of the system, by their numbers."""
PLAIN = {*string.ascii_letters, *string.digits, *"_.-"}
"""The ASCII characters of `file_name`."""
LONGEST = 180
"""Bytes of a name of `file_name`: file systems allow 255 with its number, its ending and the text around it."""
Typed = TypeVar("Typed")


@contextlib.contextmanager
def storage(what: str) -> Iterator[None]:
    """Converts an OSError into a StorageError that names the file and says what to do, if the system says why."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not Path(str(error.filename or what)).parent.is_dir():
            raise StorageError(
                f"cannot write {what}: its folder does not exist. If it was moved or renamed, go on with it where it is now"
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise LeafwingError(f"cannot write {visible(what, 60)}: longer than the names of files may be") from error
        advice = next((f": {advice}" for numbers, advice in ADVICE.items() if error.errno in numbers), "")
        raise StorageError(
            f"cannot write {what}: {error.strerror or str(error)}. Files saved earlier are intact{advice}"
        ) from error


def guide_page(name: str) -> str:
    """Where a page of the guide is: its path where leafwing runs from its repository, else its place there."""
    path = Path(__file__).parents[2] / "docs" / "guide" / name
    if not path.is_file():
        return f"docs/guide/{name} in leafwing's repository"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def write(path: Path, content: bytes | str | Callable[[Path], object]) -> None:
    """Writes a file atomically: to a temporary file beside it, flushed to disk, then renamed over the old one.

    Args:
        path: the file.
        content: bytes, text, or a function that writes to the path it is given.

    Raises:
        StorageError: the disk is full or the folder is not writable; the old file is intact.
    """
    name = path.name if len(os.fsencode(path.name)) <= 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".{name}.{os.getpid()}.part")  # file systems limit a name to 255 bytes
    with storage(str(path)):
        try:
            if callable(content):
                content(temporary)
            else:
                temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Holds a lock file.

    Args:
        path: the file, which is created if necessary.
        busy: the message if another process holds it.

    Raises:
        LeafwingError: another process holds it.
        StorageError: the folder is not writable.
    """
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0.2, poll_interval=0.02)  # `is_locked` may hold it for a moment
    except filelock.Timeout:
        raise LeafwingError(busy) from None
    except OSError as error:
        raise StorageError(f"cannot write {path.parent}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether another process holds a lock file, or another part of this one; does not wait, and creates no file."""
    import filelock

    if not path.is_file():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # of another user: unknown
        return False
    lock.release()
    return False


def require_file(path: Path) -> None:
    """Raises LeafwingError for a folder, a pipe or a device where a file is expected: reading one could wait forever."""
    with contextlib.suppress(OSError, ValueError):  # what is missing is reported by whoever opens it
        if not stat.S_ISREG(path.stat().st_mode):
            raise LeafwingError(f"{path} is {'a folder' if path.is_dir() else 'a pipe or a device'}, not a file")


def parse_json(text: str | bytes) -> Any:
    """A JSON document.

    Raises:
        ValueError: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path, advice: str = RESTORE) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        advice: what to do if it is damaged.

    Raises:
        LeafwingError: it cannot be read, or is not JSON.
    """
    require_file(path)
    try:
        return parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not valid JSON ({error})"
        raise LeafwingError(f"{path}: {reason}; {advice}") from None


def convert(
    path: Path,
    plain: Any,
    kind: type[Typed],
    section: str = "",
    advice: str = RESTORE,
    field: Callable[[type[Any], Any], Any] | None = None,
) -> Typed:
    """The plain content of a file, or of a section of it, as an object of this type.

    Args:
        path: the file.
        plain: its content, in the types of JSON.
        kind: what is expected: a type with annotated fields, or a type of the standard library.
        section: the keys that lead to `plain`, for the message.
        advice: what to do if it does not match.
        field: makes objects of types that msgspec does not know.

    Raises:
        LeafwingError: it does not match; the message names the file, the key and the expected type.
    """
    import msgspec

    try:
        return msgspec.convert(plain, kind, dec_hook=field)
    except (msgspec.ValidationError, RecursionError, UnicodeError) as error:
        reason, _, place = str(error).partition(" - at `$")
        key = (section + place.rstrip("`")).lstrip(".")
        fault = f"{key + ': ' if key else ''}{reason[:1].lower()}{reason[1:]}"
        raise LeafwingError(f"{path}: {fault}; {advice}") from None


def checksums(path: Path) -> list[int]:
    """The crc32 of each block of a file."""
    require_file(path)
    with path.open("rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]


def write_checked(path: Path, content: Any) -> None:
    """Writes a JSON document with its checksum, for `read_checked`."""
    text = json.dumps(content)
    write(path, f"{zlib.crc32(text.encode()):08x} {text}\n")


def read_checked(path: Path, kind: type[Typed]) -> Typed | None:
    """A document that `write_checked` wrote; None if it is missing, of another type, or has changed since."""
    try:
        require_file(path)
        checksum, _, text = path.read_bytes().rstrip(b"\n").partition(b" ")
        if checksum == b"%08x" % zlib.crc32(text):
            return convert(path, parse_json(text), kind)
    except (OSError, ValueError, LeafwingError):
        pass
    return None


def are_intact(folder: Path, record: Path) -> bool:
    """Whether the files of a folder are as they were when `record_files` wrote this record."""
    recorded = read_checked(record, dict[str, list[int]])
    try:
        return recorded is not None and all(checksums(folder / name) == blocks for name, blocks in recorded.items())
    except (OSError, LeafwingError):
        return False


def record_files(folder: Path, names: Sequence[str], record: Path) -> None:
    """Writes the checksums of files of a folder."""
    write_checked(record, {name: checksums(folder / name) for name in names})


def digest(path: Path) -> str:
    """The sha256 of a file's content, as 64 hexadecimal digits."""
    require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(*texts: object) -> str:
    """A file name without its ending, of texts such as class names, joined by `-`.

    Letters and digits of all scripts stay; spaces, and what file systems or shells treat in their own way, become `_`. A name of more
    than `LONGEST` bytes is cut off, and ends in a hash of the texts.
    """
    whole = "-".join(map(str, texts))
    characters = unicodedata.normalize("NFC", whole)
    name = re.sub(" +", "_", "".join(x if x in PLAIN or (x > "\x7f" and _is_visible(x)) else " " for x in characters))
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}-{digest}"


def _is_visible(character: str) -> bool:
    """Whether it is a letter, mark, digit or symbol, and not a space, a control character or part of an invalid encoding."""
    return unicodedata.category(character)[0] not in "CZ"


def numbered(folder: Path, before: str, after: str) -> dict[int, Path]:
    """The files in a folder whose names are a number, such as images shown, between two texts; by this number, in ascending order."""
    numbers = ((path.name.removeprefix(before).removesuffix(after), path) for path in folder.glob(f"{before}*{after}"))
    return dict(sorted((int(number), path) for number, path in numbers if number.isdecimal()))


def unused(folder: Path, name: str, ending: str = "") -> Path:
    """A path in a folder that does not exist: `name` with its ending, or numbered: `name-2`, `name-3`, ..."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(path for each in names if not (path := folder / f"{each}{ending}").exists())


class JsonLine(NamedTuple):
    """A line of a file with one JSON object per line.

    Args:
        number: of the line, from 1.
        text: the line as it is.
        row: the object; None if the line is none.
    """

    number: int
    text: str
    row: dict[str, Any] | None

    @property
    def is_cut(self) -> bool:
        """Whether it is the beginning of an object only, as a killed process or a full disk leaves it."""
        outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", self.text)  # of complete strings
        is_begun = self.text.startswith("{") and ('"' in outside or outside.count("{") > outside.count("}"))
        return self.row is None and is_begun


def json_lines(path: Path) -> list[JsonLine]:
    """The lines of a file with one JSON object per line. Empty lines are left out. A missing file has no lines."""
    require_file(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines: list[JsonLine] = []
    # Not splitlines, which also splits at characters that texts may contain.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError:
                row = None
            lines.append(JsonLine(number, line, row if isinstance(row, dict) else None))
    return lines

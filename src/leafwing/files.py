"""Atomic file writes: after a crash or a full disk there is either the old file or the new one, never a partial one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

from leafwing.errors import StorageError


@contextlib.contextmanager
def storage(what: str) -> Iterator[None]:
    """Converts an OSError into a StorageError that names the file and says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot write {what}: {reason}. Files saved earlier are intact: free some disk space or fix the folder's permissions"
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


def digest(path: Path) -> str:
    """The sha256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_name(text: object) -> str:
    """A text, such as a class name, as part of a file name: other characters are replaced by `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", str(text))


def unused(folder: Path, name: str, ending: str = "") -> Path:
    """A path in a folder that does not exist: `name` with its ending, or numbered: `name-2`, `name-3`, ..."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(path for each in names if not (path := folder / f"{each}{ending}").exists())


def json_lines(text: str, *, whole: bool = False) -> Iterator[dict[str, Any]]:
    """The objects in a text with one JSON object per line.

    Args:
        text: the lines; the last one may be incomplete, if the process was killed.
        whole: stop at the first unreadable line, as in a log that is only appended to, instead of skipping it.
    """
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            yield row
        elif whole:
            return

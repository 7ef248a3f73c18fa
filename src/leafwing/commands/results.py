"""Results as Python users get them: lists and dictionaries as the files have them, which notebooks show as tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from leafwing import notebook

if TYPE_CHECKING:
    from typing import Self

    AnyPath = Path
else:
    AnyPath = type(Path())  # of this system, which may be subclassed also before Python 3.12

SHOWN = 32 << 20
"""Bytes of a file that a notebook shows, and so stores; of a larger one it shows the path."""


class Written(AnyPath):
    """The path of what was written, which notebooks show if it is a picture or a film. What is derived from it are plain paths."""

    _absolute: Path | None = None

    def __new__(cls, *parts: str | Path) -> Self:
        path = super().__new__(cls, *parts)
        path._absolute = Path(*parts).absolute()  # the current folder may change
        return path

    def with_segments(self, *parts: str | Path) -> Path:
        return Path(*parts)

    def _repr_html_(self) -> str | None:
        file, suffix = self._absolute, self.suffix.lower()
        if file is None or suffix not in (".png", ".webp", ".gif", ".mp4") or not file.is_file():
            return None
        if file.stat().st_size > SHOWN:
            return None
        content = file.read_bytes()
        shown = notebook.video(content) if suffix == ".mp4" else notebook.picture(content, suffix[1:])
        return shown + notebook.lines([str(self)])


class Rows(list[dict[str, Any]]):
    """The rows of an evaluation; see `evaluate`."""

    def _repr_html_(self) -> str:
        from leafwing.commands.figures import cells, lead, remarks

        head, *lines = cells(self)
        return notebook.lines(lead(self)) + notebook.table(head, lines) + notebook.lines(remarks(self))


class _Sheet(NamedTuple):
    path: Path
    content: dict[str, Any]


class ContactSheet(_Sheet):
    """What `show` wrote.

    Args:
        path: the picture.
        content: the content of the source; see `show`.
    """

    _absolute: Path

    def __new__(cls, path: Path, content: dict[str, Any]) -> Self:
        sheet = super().__new__(cls, path, content)
        sheet._absolute = path.absolute()  # the current folder may change
        return sheet

    def _repr_png_(self) -> bytes | None:
        return self._absolute.read_bytes() if self._absolute.is_file() else None

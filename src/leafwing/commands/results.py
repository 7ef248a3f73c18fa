"""Results as Python users get them: lists and dictionaries as the files have them, which notebooks show as tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from leafwing import notebook

if TYPE_CHECKING:
    from typing import Self


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

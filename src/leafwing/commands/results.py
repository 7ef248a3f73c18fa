"""Results as Python users get them: lists and dictionaries as the files have them, which notebooks show as tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from leafwing import notebook


class Rows(list[dict[str, Any]]):
    """The rows of an evaluation; see `evaluate`."""

    def _repr_html_(self) -> str:
        from leafwing.commands.figures import cells, lead, remarks

        head, *lines = cells(self)
        return notebook.lines(lead(self)) + notebook.table(head, lines) + notebook.lines(remarks(self))


class ContactSheet(NamedTuple):
    """What `show` wrote.

    Args:
        path: the picture.
        content: the content of the source; see `show`.
    """

    path: Path
    content: dict[str, Any]

    def _repr_png_(self) -> bytes | None:
        return self.path.read_bytes() if self.path.is_file() else None

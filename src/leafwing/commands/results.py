"""Results as Python users get them: lists and dictionaries as the files have them, which notebooks show as tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from leafwing import notebook


class Rows(list[dict[str, Any]]):
    """The rows of an evaluation; see `evaluate`."""

    def _repr_html_(self) -> str:
        from leafwing.metrics.protocol import describe

        of_run = all("images" in row for row in self)
        heads = [*(["images"] if of_run else []), "metric", "value", "95% interval", "better"]
        lines = []
        for row in self:
            value = "unknown" if row["value"] is None else f"{row['value']:.4g}"
            interval = "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
            images = [f"{row['images']:,}"] if of_run else []
            lines.append([*images, row["metric"], value, interval, row["better"] or ""])
        words = dict.fromkeys(row["words"] for row in self if row.get("words"))
        protocols = dict.fromkeys(describe(row["protocol"]) for row in self)
        return notebook.table(heads, lines) + notebook.lines([*words, *protocols])


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

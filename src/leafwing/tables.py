"""Text tables with aligned columns."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence


def align_columns(rows: Iterable[Sequence[object]]) -> str:
    """Rows of cells -> text with left-aligned columns two spaces apart, as wide as their content; no trailing spaces."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(str(cell), no_wrap=True) for cell in row))
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None, legacy_windows=False, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

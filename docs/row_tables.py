"""Rows of benchmarks, and Markdown tables of them: what docs/figures.py and docs/guide_figures.py share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
sys.path.append(str(ROOT / "bench"))

from rows import CASE, newest  # noqa: E402

Row = Mapping[str, Any]
Column = str | Callable[[Row], Any]
"""A cell of each row: a format of its keys, or a function of it."""


def table(rows: Iterable[Row], columns: Mapping[str, Column]) -> str:
    """Rows as a Markdown table with these columns."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    for row in rows:
        cells = [column.format_map(row) if isinstance(column, str) else str(column(row)) for column in columns.values()]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def read(name: str, processors: str = "", keys: Iterable[str] = CASE) -> list[dict[str, Any]]:
    """The newest rows of a benchmark."""
    return newest(RESULTS / f"{name}.jsonl", processors, tuple(keys))


def spread(rows: list[dict[str, Any]], key: str, form: str = ".3g") -> str:
    """The mean of a key over rows, with the smallest and the largest value if there are several; empty without values."""
    values = [row[key] for row in rows if key in row]
    if not values:
        return ""
    extent = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{sum(values) / len(values):{form}}{extent}"


def grouped(rows: Iterable[dict[str, Any]], key: Callable[[Row], Any]) -> list[dict[str, Any]]:
    """The rows by the value of a function: `case` and `rows` of each group."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [{"case": case, "rows": group} for case, group in groups.items()]


def spreads(columns: Mapping[str, str], form: str = ".3g") -> dict[str, Column]:
    """Columns of groups: means over their rows of the keys in the mapping."""
    return {name: lambda group, key=key: spread(group["rows"], key, form) for name, key in columns.items()}

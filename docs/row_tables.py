"""Rows of benchmarks, and Markdown tables of them: what docs/figures.py and docs/guide_figures.py share."""

from __future__ import annotations

import atexit
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
sys.path.append(str(ROOT / "bench"))

from rows import CASE, newest  # noqa: E402

SOURCE: ContextVar[Path] = ContextVar("SOURCE", default=RESULTS)
"""The folder of rows of which tables are made."""
MARK = "†"
LEGEND = f"{MARK} Measured in a working tree with changes that were not committed."
LACKING = (LookupError, StopIteration, ValueError, TypeError, ZeroDivisionError)
"""What making a table raises if rows that it needs are missing."""

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
    return newest(SOURCE.get() / f"{name}.jsonl", processors, tuple(keys))


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


@cache
def committed_rows(results: Path) -> Path:
    """A temporary folder with the rows of these files that were measured with committed code."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for path in results.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        clean = (line for line in lines if not str(json.loads(line)["commit"]).endswith("+"))
        (folder / path.name).write_text("".join(clean), encoding="utf-8")
    return folder


def marked(make: Callable[[str], str], argument: str) -> str:
    """A table, with a mark in each row that would be another one, or missing, without rows measured with uncommitted changes."""
    text = make(argument).strip()
    token = SOURCE.set(committed_rows(SOURCE.get()))
    try:
        clean = {*make(argument).splitlines()}
    except LACKING:
        clean = set()
    finally:
        SOURCE.reset(token)
    lines = text.splitlines()
    heads = {number for number, below in enumerate(lines[1:]) if below.startswith("| ---")}
    changed = [
        number
        for number, line in enumerate(lines)
        if line.startswith("|") and not line.startswith("| ---") and number not in heads and line not in clean
    ]
    for number in changed:
        first, rest = lines[number].removeprefix("| ").split(" |", 1)
        lines[number] = f"| {first} {MARK} |{rest}"
    return "\n".join([*lines, *(["", LEGEND] if changed else [])])

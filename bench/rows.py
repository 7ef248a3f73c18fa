"""Storage of measurements: one JSON line per row.

    python bench/rows.py bench/results/step.jsonl

prints the newest row of each case as a table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

# Keys that identify a case, and keys that describe the software and the machine; all other values are results.
CASE = (
    "bench",
    "case",
    "recipe",
    "choice",
    "batch",
    "size",
    "width",
    "samples",
    "processes",
    "device",
    "precision",
    "threads",
)
ABOUT = ("leafwing", "commit", "python", "torch", "machine", "processor", "gpu")


def store(row: dict[str, Any], results: Path) -> None:
    """Print a row and append it to a file of results."""
    print(json.dumps(row), flush=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")


class Help(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if any(action.default is value for value in (None, False, argparse.SUPPRESS)) or action.default == []:
            return text
        if action.dest == "results":
            return text
        return f"{text} (default: %(default)s)"


def argument_parser(description: str | None, file: str) -> argparse.ArgumentParser:
    """A parser with the option --results, by default `results/NAME.jsonl` beside the benchmark `file`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=Help)
    results = Path(file).parent / "results" / f"{Path(file).stem}.jsonl"
    parser.add_argument(
        "--results", type=Path, default=results, help=f"file to append rows to (default: bench/results/{results.name})"
    )
    return parser


def newest(results: Path) -> list[dict[str, Any]]:
    """The last row of each case, in the order in which the cases first appeared."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in results.read_text().splitlines():
        row = json.loads(line)
        rows[tuple(str(row.get(key)) for key in CASE)] = row
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("results", nargs="+", type=Path, help="files of rows")
    parser.add_argument("--device", help="print only rows whose device starts with this")
    args = parser.parse_args()
    for path in args.results:
        if not path.exists():
            print(f"{path.stem}: not measured")
            continue
        for row in newest(path):
            if args.device and not str(row.get("device")).startswith(args.device):
                continue
            case = " ".join(str(row[key]) for key in CASE if row.get(key) is not None)
            values = "  ".join(f"{key} {value}" for key, value in row.items() if key not in (*CASE, *ABOUT))
            print(f"{case}: {values}")


if __name__ == "__main__":
    main()

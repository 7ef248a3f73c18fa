"""Storage of measurements: one JSON line per row.

    python bench/rows.py bench/results/step.jsonl
    python bench/rows.py bench/results/step.jsonl --processor EPYC

prints the newest row of each case on each processor, or on those processors whose name contains a word.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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
NOT_RECORDED = "AMD EPYC (not recorded)"
"""The processor of rows from before processors were recorded, by what was written down then."""
XEON_COMMITS = ("567b40f", "72ee209")
"""Commits whose rows name no processor, and whose comparisons (bench/results/compare) name the Xeon."""
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


def processor(row: dict[str, Any]) -> str:
    """The processor on which a row was measured."""
    unnamed = "Intel(R) Xeon(R) Processor" if str(row.get("commit")).startswith(XEON_COMMITS) else NOT_RECORDED
    return str(row.get("processor") or unnamed)


def newest(results: Path, processors: str = "", keys: Sequence[str] = CASE) -> list[dict[str, Any]]:
    """The last row of each case on each processor, in the order in which the cases first appeared.

    Args:
        results: file of rows.
        processors: only rows of processors whose name contains this.
        keys: keys that identify a case.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in map(json.loads, results.read_text(encoding="utf-8").splitlines()):
        if processors in processor(row):
            rows[processor(row), *(str(row.get(key)) for key in keys)] = row
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("results", nargs="+", type=Path, help="files of rows")
    parser.add_argument("--device", help="print only rows whose device starts with this")
    parser.add_argument("--processor", default="", help="print only rows of processors whose name contains this")
    args = parser.parse_args()
    for path in args.results:
        if not path.exists():
            print(f"{path.stem}: not measured")
            continue
        for row in newest(path, args.processor):
            if args.device and not str(row.get("device")).startswith(args.device):
                continue
            case = " ".join(str(row[key]) for key in CASE if row.get(key) is not None)
            values = "  ".join(f"{key} {value}" for key, value in row.items() if key not in (*CASE, *ABOUT))
            print(f"{processor(row)}: {case}: {values}")


if __name__ == "__main__":
    main()

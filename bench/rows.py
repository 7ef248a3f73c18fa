"""Where measurements are kept: JSON lines, one a measurement.

    python bench/rows.py bench/results/step.jsonl

prints the newest row of each case as a table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

# What names a case, and what is the same for all rows of a machine; all other values are results.
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


def keep(row: dict[str, Any], results: Path) -> None:
    """Prints a row and appends it to a file of results."""
    print(json.dumps(row), flush=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(row) + "\n")


def newest(results: Path) -> list[dict[str, Any]]:
    """The last row of each case, in the order in which the cases first appeared."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in results.read_text().splitlines():
        row = json.loads(line)
        found[tuple(str(row.get(key)) for key in CASE)] = row
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--device", help="only rows of this device")
    given = parser.parse_args()
    for path in given.results:
        if not path.exists():
            print(f"{path.stem}: not measured")
            continue
        for row in newest(path):
            if given.device and not str(row.get("device")).startswith(given.device):
                continue
            case = " ".join(str(row[key]) for key in CASE if row.get(key) is not None)
            values = "  ".join(f"{key} {value}" for key, value in row.items() if key not in (*CASE, *ABOUT))
            print(f"{case}: {values}")


if __name__ == "__main__":
    main()

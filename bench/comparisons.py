"""The tables of docs/results/comparisons.md, from the `table.json` files of `leafwing compare`.

    python bench/comparisons.py bench/results/compare/*.json

prints for each comparison its command, its three sentences and one row per recipe, as Markdown. The files in the repository are
complete `table.json` files of comparisons.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leafwing.metrics.conclusions import show
from leafwing.quantities import show_duration

COLUMNS = 4
"""Maximum number of measures in the table."""


def cell(statistics: Mapping[str, Any]) -> str:
    """Median (minimum to maximum), and the number of runs without a value."""
    missing = f", {statistics['missing']} without" if statistics["missing"] else ""
    return f"{show(statistics['median'])} ({show(statistics['low'])} to {show(statistics['high'])}{missing})"


def markdown(title: str, table: Mapping[str, Any]) -> str:
    """A comparison as Markdown: heading, command, sentences, table, conditions."""
    ranking = [name for name, better in table["measures"].items() if better][:COLUMNS]
    first = ranking[0]
    head = [
        "recipe", *(f"final {name}" for name in ranking), f"best {first}", "collapsed", "alarms", "images", "G steps", "training",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in table["summary"]:
        ended = row["runs"] - row["failed"]
        steps = "–" if row["generator_steps"] is None else f"{row['generator_steps']:,.0f}"
        cells = [
            f"`{row['recipe']}`",
            *(cell(row["final"][name]) for name in ranking),
            cell(row["best"][first]),
            f"{row['collapsed']} of {ended}",
            f"{row['alarmed']} of {ended}",
            f"{row['images']:,.0f}",
            steps,
            show_duration(row["seconds"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    protocols = "; ".join(f"`{fingerprint}`" for fingerprint in table["protocols"])
    versions = table["versions"]
    return "\n".join(
        [
            f"## {title}",
            "",
            f"```bash\n{table['command']}\n```",
            "",
            *(f"> {sentence}" for sentence in table["sentences"]),
            "",
            *lines,
            "",
            f"{table['hardware']}; torch {versions['torch']}, commit {versions['commit']}; protocol {protocols}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, help="table.json files; the file name becomes the heading")
    for path in parser.parse_args().tables:
        print(markdown(path.stem, json.loads(path.read_text())))


if __name__ == "__main__":
    main()

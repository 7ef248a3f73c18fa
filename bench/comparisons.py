"""The tables of docs/results/comparisons.md, from the `table.json` files that `leafwing compare` wrote.

    python bench/comparisons.py bench/results/compare/*.json

prints for each comparison the command that made it, its three sentences and a row a recipe, as Markdown. A file in the repository
is a comparison's `table.json` as it stands; nothing is left out of it.
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
"""Measures that stand in the table: the first ones, which rank."""


def cell(over: Mapping[str, Any]) -> str:
    """Median (least to most), and how many runs have no number."""
    missing = f", {over['missing']} without" if over["missing"] else ""
    return f"{show(over['median'])} ({show(over['low'])} to {show(over['high'])}{missing})"


def markdown(title: str, told: Mapping[str, Any]) -> str:
    """A comparison: heading, command, sentences, table, conditions."""
    ranking = [name for name, better in told["measures"].items() if better][:COLUMNS]
    first = ranking[0]
    head = [
        "recipe", *(f"final {name}" for name in ranking), f"best {first}", "collapsed", "alarms", "images", "G steps", "training",
    ]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for one in told["summary"]:
        ended = one["runs"] - one["failed"]
        steps = "–" if one["generator_steps"] is None else f"{one['generator_steps']:,.0f}"
        cells = [
            f"`{one['recipe']}`",
            *(cell(one["final"][name]) for name in ranking),
            cell(one["best"][first]),
            f"{one['collapsed']} of {ended}",
            f"{one['alarmed']} of {ended}",
            f"{one['images']:,.0f}",
            steps,
            show_duration(one["seconds"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    protocols = "; ".join(f"`{fingerprint}`" for fingerprint in told["protocols"])
    versions = told["versions"]
    return "\n".join(
        [
            f"## {title}",
            "",
            f"```bash\n{told['command']}\n```",
            "",
            *(f"> {sentence}" for sentence in told["sentences"]),
            "",
            *lines,
            "",
            f"{told['hardware']}; torch {versions['torch']}, commit {versions['commit']}; protocol {protocols}.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, help="table.json files, each called as its section is to be called")
    for path in parser.parse_args().tables:
        print(markdown(path.stem, json.loads(path.read_text())))


if __name__ == "__main__":
    main()

"""Results of the laboratory's tools on runs that are trained here; docs/results/laboratory.md has the tables.

    python bench/laboratory.py sprites digits encoded codes --runs FOLDER --seeds 2
    python bench/laboratory.py cifar10 cifar10_hinge cats --runs FOLDER --cifar10 CIFAR10 --cats CATS
    python bench/laboratory.py mnist --runs FOLDER --mnist MNIST
    python bench/laboratory.py --show

A run is trained in --runs (recipe, size and images below; one thread) unless it exists; then each tool is applied to it. One row per
call, with the tool's figures, options and seed. Worlds whose images are not available are skipped. `--show` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import leafwing
from leafwing.commands import explore
from leafwing.laboratory import TOOLS
from leafwing.laboratory.finding import plain
from leafwing.machine import versions
from leafwing.progress import ConsoleReporter
from rows import argument_parser, store

HOLD_OUT = {"hold_out": 1_000}
WORLDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sprites": ("sprites", "sngan", {"size": 32, "images": "400k", **HOLD_OUT}),
    "sprites_dcgan": ("sprites", "dcgan", {"size": 32, "images": "150k", **HOLD_OUT}),
    "digits": ("digits", "cgan", {"size": 16, "images": "150k", "width": 32, "hold_out": 360}),
    "encoded": ("digits", "vaegan", {"size": 16, "images": "150k", "width": 16, "hold_out": 360}),
    "codes": ("digits", "infogan", {"size": 16, "images": "60k", "width": 16}),
    "cifar10": ("CIFAR10/train", "dcgan", {"size": 32, "images": "400k"}),
    "cifar10_hinge": ("CIFAR10/train", "sngan", {"size": 32, "images": "400k"}),
    "cats": ("CATS", "sngan", {"size": 32, "images": "300k"}),
    "mnist": ("MNIST", "dcgan", {"size": 32, "images": "300k", "width": 32}),
}
"""By name: source, recipe, and options of the training."""
ToolCall = tuple[str, dict[str, Any]]
FEATURES: list[ToolCall] = [("features", {"shots": "10,100", "repeats": 5})]
TOOL_CALLS: dict[str, list[ToolCall]] = {
    "sprites": [
        ("interpolate", {"samples": "0:20"}),
        ("interpolate", {"samples": "0:20", "interpolation": "linear"}),
        ("arithmetic", {"average": 1}),
        ("arithmetic", {"average": 3}),
        ("arithmetic", {"average": 10}),
        ("filters", {}),
        ("dropout", {"layer": 2}),
        ("dropout", {"layer": 2, "fill": "median"}),
        ("dropout", {"layer": 3}),
        ("dropout", {"layer": 3, "fill": "median"}),
        ("invert", {"pictures": "0:16"}),
        ("complete", {"mask": "centre"}),
        ("complete", {"mask": "left"}),
        ("complete", {"mask": "random"}),
        ("complete", {"mask": "grid"}),
        ("edit", {"paint": "red,4,4,8,8", "sample": 3}),
        ("edit", {"paint": "blue,10,10,12,12", "sample": 3}),
        ("directions", {"by": "weights"}),
        ("directions", {"by": "activations"}),
        ("truncate", {}),
    ],
    "sprites_dcgan": [("truncate", {})],
    "digits": [
        ("interpolate", {"samples": "0:20"}),
        ("mix", {}),
        ("mix", {"features": "pixels"}),
        ("features", {"shots": "5,20", "repeats": 5, "test": 360}),
        ("invert", {"pictures": "0:16"}),
        ("complete", {"mask": "centre"}),
        ("truncate", {}),
        ("sift", {"shots": "5,20"}),
        ("sift", {"shots": "5,20", "by": "classifier"}),
    ],
    "encoded": [("invert", {"pictures": "0:16"})],
    "codes": [("mix", {"across": "category"}), ("mix", {"across": "code0"})],
    "cifar10": FEATURES,
    "cifar10_hinge": FEATURES,
    "cats": FEATURES,
    "mnist": FEATURES,
}
"""The tools applied to each world, with their options."""
OTHER = {"cats": "CIFAR10/train"}
"""Worlds whose tools need labelled images of another source."""
COLUMNS: dict[str, list[str]] = {
    "interpolate": ["interpolation", "largest_share", "jump", "stray"],
    "arithmetic": ["average", "right", "chance", "pixels", "moved", "kept", "sure"],
    "dropout": [
        "layer",
        "fill",
        "dropped",
        "maps",
        "vanished",
        "vanished_random",
        "contrast",
        "changed",
        "changed_over_random",
    ],
    "features": [
        "labels_each",
        "critic",
        "random",
        "pixels",
        "supervised",
        "over random",
        "over pixels",
        "critic_saw_labels",
    ],
    "sift": ["kept_of", "labels_each", "labels", "sifted", "as_many", "unsifted", "over labels", "over as_many"],
    "filters": ["trained", "untrained", "box"],
    "invert": ["error", "length"],
    "complete": ["error"],
    "edit": ["before", "after", "outside", "distance"],
    "mix": ["across", "rows_share", "columns_share", "rest"],
    "directions": ["by", "share", "change", "change_random", "properties"],
    "truncate": ["psi", "precision", "recall", "distance", "sure"],
}
"""Columns of the tables by tool: figures or options. Other tools: all figures except lists."""


LONG = ("reads", "errors", "concepts")
"""Figures of individual images, which are not stored."""


def locate(source: str, args: argparse.Namespace) -> str | None:
    """The path of a source: a name such as CIFAR10 is replaced by the folder of its option; None without that option."""
    name, slash, rest = source.partition("/")
    if name not in ("CIFAR10", "CATS", "MNIST"):
        return source
    folder = getattr(args, name.lower())
    return f"{folder}{slash}{rest}" if folder else None


def trained(world: str, seed: int, args: argparse.Namespace) -> leafwing.Run | None:
    """The run of a world: an existing one, or a new training; None if its images are not available."""
    source, recipe, options = WORLDS[world]
    source_path = locate(source, args)
    if source_path is None:
        print(f"{world}: skipped, because --{source.partition('/')[0].lower()} is missing")
        return None
    folder = args.runs / f"{world}-{seed}"
    if not folder.exists():
        return leafwing.train(source_path, recipe, seed=seed, threads=1, out=folder, progress=ConsoleReporter(), **options)
    run = leafwing.Run.open(folder)
    assert (run.config["recipe"], run.settings.schedule.seed) == (recipe, seed), f"{folder} is a different run"
    return run


def run_tools(world: str, seed: int, args: argparse.Namespace) -> None:
    """Apply the tools of a world to its run; one row per call."""
    run = trained(world, seed, args)
    if run is None:
        return
    for tool, options in TOOL_CALLS[world]:
        if args.only and tool not in args.only:
            continue
        other = locate(OTHER[world], args) if world in OTHER else None
        if world in OTHER and other is None:
            print(f"{world}: {tool} skipped, because the images of {OTHER[world]} are missing")
            continue
        started = time.perf_counter()
        result = explore(run.folder, tool, seed=seed, data=other, trust=True, progress=ConsoleReporter(), **options)
        row = {
            "bench": "laboratory",
            "world": world,
            "tool": tool,
            "source": WORLDS[world][0],
            "recipe": run.config["recipe"],
            "size": run.spec.height,
            "images": result.document["images"],
            "seed": seed,
            "options": options,
            "figures": rounded({name: value for name, value in result.document["figures"].items() if name not in LONG}),
            "seconds": round(time.perf_counter() - started, 1),
            **versions(),
        }
        store(row, args.results)


def rounded(figures: Any) -> Any:
    """Figures rounded to four digits."""
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return float(f"{figures:.4g}") if isinstance(figures, float) else plain(figures)


def show(results: Path) -> None:
    """The tables of docs/results/laboratory.md: the newest row of each case."""
    newest = {}
    for row in map(json.loads, results.read_text().splitlines()):
        newest[row["tool"], row["world"], json.dumps(row["options"]), row["seed"]] = row
    for tool in [tool for tool in TOOLS if any(key[0] == tool for key in newest)]:
        rows = [part for key, row in newest.items() if key[0] == tool for part in split_row(row)]
        names = COLUMNS.get(tool) or [name for name, value in rows[0]["figures"].items() if not isinstance(value, list)]
        print(f"\n### {tool}\n\n| world | recipe | options | seed | " + " | ".join(names) + " |")
        print("| --- " * (4 + len(names)) + "|")
        for row in rows:
            options_text = " ".join(f"{name}={value}" for name, value in row["options"].items())
            cells = [cell(row["figures"].get(name, row["options"].get(name))) for name in names]
            print("| " + " | ".join([row["world"], f"`{row['recipe']}`", options_text, str(row["seed"]), *cells]) + " |")


def split_row(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per number of labels where there are several; the sweep of psi as lists."""
    figures = row["figures"]
    if isinstance(figures.get("accuracy"), dict):
        numbers = list(next(iter(figures["accuracy"].values())))
        return [row | {"figures": figures | at_label_count(figures, number)} for number in numbers]
    if "sweep" in figures:
        names = figures["sweep"][0]
        return [row | {"figures": figures | {name: [step[name] for step in figures["sweep"]] for name in names}}]
    return [row]


def at_label_count(figures: dict[str, Any], number: str) -> dict[str, Any]:
    """The figures for one number of labels."""
    accuracy = {method: values[number] for method, values in figures["accuracy"].items()}
    kept_of = {"kept_of": f"{figures['kept']['all']} of {figures['generated']['all']}"} if "kept" in figures else {}
    gains = {f"over {method}": values[number] for method, values in figures["gains"].items()}
    return {"labels_each": number, **kept_of, **accuracy, **gains}


def cell(value: Any) -> str:
    """A figure in a table."""
    if isinstance(value, dict) and value.keys() == {"mean", "sd"}:
        return f"{value['mean']:.1%} ± {value['sd']:.1%}"
    if isinstance(value, dict) and "gain" in value:
        return f"{value['gain']:+.1%} ± {value['sd']:.1%}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "; ".join(map(cell, value))
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("worlds", nargs="*", choices=[[], *WORLDS], metavar="world", help=", ".join(WORLDS))
    parser.add_argument("--runs", type=Path, default=Path("runs") / "laboratory", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--only", nargs="+", metavar="TOOL", help="only these tools")
    parser.add_argument("--cifar10", type=Path, help="folder whose folder `train` holds a folder of images per class")
    parser.add_argument("--cats", type=Path, help="folder of images")
    parser.add_argument("--mnist", type=Path, help="folder of IDX files")
    parser.add_argument("--show", action="store_true", help="only print the tables of existing rows")
    args = parser.parse_args()
    if args.show:
        show(args.results)
        return
    for world in args.worlds:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            run_tools(world, seed, args)


if __name__ == "__main__":
    main()

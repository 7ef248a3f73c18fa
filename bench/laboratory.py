"""What the tools of the laboratory find in runs whose training is written here; docs/results/laboratory.md has the tables.

    python bench/laboratory.py sprites digits encoded codes --runs FOLDER --seeds 2
    python bench/laboratory.py cifar10 cifar10_hinge cats --runs FOLDER --cifar10 CIFAR10 --cats CATS
    python bench/laboratory.py mnist --runs FOLDER --mnist MNIST
    python bench/laboratory.py --show

A run is trained into --runs (recipe, size and images below; one thread) if it is not there yet; then each tool looks at it, and every
look is a JSON line in --results, with the tool's figures, options and seed. CIFAR10 is a folder with `train`, of class folders; CATS a
folder of pictures; MNIST one of IDX files. A world whose folder is not given is skipped. `--only` names tools; `--show` prints the
tables.
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
from leafwing.progress import Screen
from leafwing.runs import versions
from rows import keep

HELD = {"hold_out": 1_000}
WORLDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sprites": ("sprites", "sngan", {"size": 32, "images": "400k", **HELD}),
    "sprites_dcgan": ("sprites", "dcgan", {"size": 32, "images": "150k", **HELD}),
    "digits": ("digits", "cgan", {"size": 16, "images": "150k", "width": 32, "hold_out": 360}),
    "encoded": ("digits", "vaegan", {"size": 16, "images": "150k", "width": 16, "hold_out": 360}),
    "codes": ("digits", "infogan", {"size": 16, "images": "60k", "width": 16}),
    "cifar10": ("CIFAR10/train", "dcgan", {"size": 32, "images": "400k"}),
    "cifar10_hinge": ("CIFAR10/train", "sngan", {"size": 32, "images": "400k"}),
    "cats": ("CATS", "sngan", {"size": 32, "images": "300k"}),
    "mnist": ("MNIST", "dcgan", {"size": 32, "images": "300k", "width": 32}),
}
"""By name: source, recipe and training."""
Look = tuple[str, dict[str, Any]]
FEATURES: list[Look] = [("features", {"labels": "10,100", "draws": 5})]
LOOKS: dict[str, list[Look]] = {
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
        ("features", {"labels": "5,20", "draws": 5, "test": 360}),
        ("invert", {"pictures": "0:16"}),
        ("complete", {"mask": "centre"}),
        ("truncate", {}),
        ("sift", {"labels": "5,20"}),
        ("sift", {"labels": "5,20", "by": "classifier"}),
    ],
    "encoded": [("invert", {"pictures": "0:16"})],
    "codes": [("mix", {"across": "category"}), ("mix", {"across": "code0"})],
    "cifar10": FEATURES,
    "cifar10_hinge": FEATURES,
    "cats": FEATURES,
    "mnist": FEATURES,
}
"""What is looked at in each world."""
OTHER = {"cats": "CIFAR10/train"}
"""Labelled pictures for worlds that have none, or not these."""
COLUMNS: dict[str, list[str]] = {
    "interpolate": ["way", "largest_share", "jump", "stray"],
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
"""What the tables show, by tool: figures or options; all figures that are no lists where nothing is said."""


LONG = ("reads", "errors", "concepts")
"""Figures of single pictures, which no row needs."""


def place(source: str, given: argparse.Namespace) -> str | None:
    """A source with the folder that was given in place of its name; None where none was."""
    name, slash, rest = source.partition("/")
    if name not in ("CIFAR10", "CATS", "MNIST"):
        return source
    folder = getattr(given, name.lower())
    return f"{folder}{slash}{rest}" if folder else None


def trained(world: str, seed: int, given: argparse.Namespace) -> leafwing.Run | None:
    """The run of a world: the one that lies there, or a new one; None where its pictures were not given."""
    source, recipe, options = WORLDS[world]
    where = place(source, given)
    if where is None:
        print(f"{world}: skipped, because --{source.partition('/')[0].lower()} was not given")
        return None
    folder = given.runs / f"{world}-{seed}"
    if not folder.exists():
        return leafwing.train(where, recipe, seed=seed, threads=1, out=folder, progress=Screen(), **options)
    run = leafwing.Run.open(folder)
    assert (run.config["recipe"], run.settings.schedule.seed) == (recipe, seed), f"{folder} is another run"
    return run


def look(world: str, seed: int, given: argparse.Namespace) -> None:
    run = trained(world, seed, given)
    if run is None:
        return
    for tool, options in LOOKS[world]:
        if given.only and tool not in given.only:
            continue
        other = place(OTHER[world], given) if world in OTHER else None
        if world in OTHER and other is None:
            print(f"{world}: {tool} skipped, because the pictures of {OTHER[world]} were not given")
            continue
        started = time.perf_counter()
        found = explore(run.folder, tool, seed=seed, data=other, trust=True, progress=Screen(), **options)
        row = {
            "bench": "laboratory",
            "world": world,
            "tool": tool,
            "source": WORLDS[world][0],
            "recipe": run.config["recipe"],
            "size": run.spec.height,
            "images": found.document["images"],
            "seed": seed,
            "told": options,
            "figures": rounded({name: value for name, value in found.document["figures"].items() if name not in LONG}),
            "seconds": round(time.perf_counter() - started, 1),
            **versions(),
        }
        keep(row, given.results)


def rounded(figures: Any) -> Any:
    """Figures with four digits, which is more than they are known to."""
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return float(f"{figures:.4g}") if isinstance(figures, float) else plain(figures)


def show(results: Path) -> None:
    """The tables of docs/results/laboratory.md: the newest row of each case."""
    newest = {}
    for row in map(json.loads, results.read_text().splitlines()):
        newest[row["tool"], row["world"], json.dumps(row["told"]), row["seed"]] = row
    for tool in [tool for tool in TOOLS if any(key[0] == tool for key in newest)]:
        rows = [by for key, row in newest.items() if key[0] == tool for by in spread_out(row)]
        names = COLUMNS.get(tool) or [name for name, value in rows[0]["figures"].items() if not isinstance(value, list)]
        print(f"\n### {tool}\n\n| world | recipe | options | seed | " + " | ".join(names) + " |")
        print("| --- " * (4 + len(names)) + "|")
        for row in rows:
            told = " ".join(f"{name}={value}" for name, value in row["told"].items())
            cells = [cell(row["figures"].get(name, row["told"].get(name))) for name in names]
            print("| " + " | ".join([row["world"], f"`{row['recipe']}`", told, str(row["seed"]), *cells]) + " |")


def spread_out(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each number of labels, where there are several; the sweep of psi as lists."""
    figures = row["figures"]
    if isinstance(figures.get("accuracy"), dict):
        numbers = list(next(iter(figures["accuracy"].values())))
        return [row | {"figures": figures | taught(figures, number)} for number in numbers]
    if "sweep" in figures:
        names = figures["sweep"][0]
        return [row | {"figures": figures | {name: [one[name] for one in figures["sweep"]] for name in names}}]
    return [row]


def taught(figures: dict[str, Any], number: str) -> dict[str, Any]:
    """What was found with one number of labels."""
    right = {way: by[number] for way, by in figures["accuracy"].items()}
    kept = {"kept_of": f"{figures['kept']['all']} of {figures['made']['all']}"} if "kept" in figures else {}
    return {"labels_each": number, **kept, **right, **{f"over {way}": by[number] for way, by in figures["gains"].items()}}


def cell(value: Any) -> str:
    """A figure in a table."""
    if isinstance(value, dict) and value.keys() == {"mean", "sd"}:
        return f"{value['mean']:.1%} ± {value['sd']:.1%}"
    if isinstance(value, dict) and "gain" in value:
        return f"{value['gain']:+.1%} ± {value['sd']:.1%}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "; ".join(map(cell, value))
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", choices=[[], *WORLDS])
    parser.add_argument("--runs", type=Path, default=Path("runs") / "laboratory")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="tools")
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--cats", type=Path)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "laboratory.jsonl")
    parser.add_argument("--show", action="store_true", help="only print what was measured")
    given = parser.parse_args()
    if given.show:
        show(given.results)
        return
    for world in given.worlds:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            look(world, seed, given)


if __name__ == "__main__":
    main()

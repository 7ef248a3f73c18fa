"""Modes found on the built-in worlds of points, by recipe and seed, with the recipes' defaults for points.

    python bench/points.py ring --recipes gan lsgan wgan_gp r3gan --seeds 10 --images 3M --jobs 2
    python bench/points.py --show

A sample is good when it lies within three standard deviations of the nearest mode; a mode is found when one of 2,500 samples is good
there; the divergence is that of the samples' shares of the modes from equal ones (`leafwing.metrics.modes`). Each training has one
thread, in fp32; `--jobs` of them run side by side. One JSON line a run goes to --results; `cpu` is the seconds of processor time that
the training took, which other programs on the machine disturb less than the seconds that passed. `--show` prints a table of the
newest rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import median
from typing import Any

import leafwing
from leafwing import recipes
from leafwing.data import worlds
from leafwing.metrics import modes
from rows import keep

RESULTS = Path(__file__).parent / "results" / "points.jsonl"
RECIPES = ("gan", "lsgan", "wgan_gp", "r3gan")


def coverage(model: leafwing.Model, world: str) -> dict[str, Any]:
    """Modes found, the share of good samples, and the divergence, of as many samples as the papers draw."""
    samples = model.sample(modes.SAMPLES[world], seed=1).double().numpy()
    found = modes.of_points(samples, worlds.modes(world), worlds.sigma(world))
    return {"modes": found.modes, "of": found.of, "good": round(found.high_quality, 4), "kl": round(found.kl, 4)}


def measured(world: str, recipe: str, seed: int, images: str, given: dict[str, str]) -> dict[str, Any]:
    """One training, and what it found."""
    options = recipes.describe(recipe).resolve(given, points=True)
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        run = leafwing.train(
            world, recipe, images=images, seed=seed, out=Path(folder, "run"), threads=1, precision="fp32", **options
        )
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        if run.done != "images":
            raise SystemExit("stopped: no result is written for a training that was cut short")
        return {
            "bench": "points",
            "world": world,
            "recipe": recipe,
            "options": options,
            "seed": seed,
            "images": run.records()[-1]["images"],
            "rounds": run.records()[-1]["round"],
            "seconds": round(seconds, 1),
            "cpu": round(cpu, 1),
            **coverage(leafwing.Model.load(run), world),
            **run.config["versions"],
        }


def show(results: Path) -> None:
    """A table of the newest row of each world, recipe, length and seed that has a divergence (older rows have other settings)."""
    newest: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = {}
    for row in map(json.loads, results.read_text().splitlines()):
        if "kl" in row:
            newest.setdefault((row["world"], row["recipe"], row["images"]), {})[row["seed"]] = row
    for (world, recipe, images), seeds in sorted(newest.items()):
        rows = [seeds[seed] for seed in sorted(seeds)]
        print(f"{world} {recipe}: {len(rows)} seeds, {images:,} images, {spread(rows, 'cpu', '.0f')} s of processor time")
        print(f"  modes of {rows[0]['of']}: {', '.join(str(row['modes']) for row in rows)}")
        print(f"  good: {spread(rows, 'good', '.1%')}; kl: {spread(rows, 'kl', '.3f')}")


def spread(rows: Sequence[dict[str, Any]], key: str, form: str) -> str:
    """Median (least to most)."""
    values = [row[key] for row in rows]
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=["ring", "grid"], nargs="?", default="ring")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", default="1M")
    parser.add_argument("--option", action="append", default=[], help="a recipe's option: name=value")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="only print what was measured")
    given = parser.parse_args()
    if given.show:
        show(given.results)
        return
    options = dict(option.split("=") for option in given.option)
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        begun = [
            pool.submit(measured, given.world, recipe, seed, given.images, options)
            for recipe in given.recipes
            for seed in range(given.first_seed, given.first_seed + given.seeds)
        ]
        for one in as_completed(begun):
            keep(one.result(), given.results)


if __name__ == "__main__":
    main()

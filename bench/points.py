"""Modes found on the built-in data sets of points, by recipe and seed, with the recipes' defaults for points.

    python bench/points.py ring --recipes gan lsgan wgan_gp r3gan --seeds 10 --images 3M --jobs 2
    python bench/points.py --show

A sample is good within three standard deviations of the nearest mode; a mode is found if one of 2,500 samples is good there; the
divergence is between the distribution of the samples over the modes and the uniform one (`leafwing.metrics.modes`). Each training
uses one thread, in fp32; `--jobs` of them run in parallel. One row per run; `cpu` is the processor time of the training in seconds,
which other programs disturb less than wall-clock time. `--show` prints the newest rows.
"""

from __future__ import annotations

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
from leafwing.data import built_in
from leafwing.metrics import modes
from rows import argument_parser, store

RECIPES = ("gan", "lsgan", "wgan_gp", "r3gan")


def coverage(model: leafwing.Model, world: str) -> dict[str, Any]:
    """Modes found, share of good samples, and divergence, with the number of samples of the papers."""
    samples = model.sample(modes.SAMPLES[world], seed=1).double().numpy()
    result = modes.of_points(samples, built_in.modes(world), built_in.sigma(world))
    return {
        "modes": result.modes,
        "of": result.total,
        "good": round(result.high_quality, 4),
        "kl": round(result.kl, 4),
    }


def measure(world: str, recipe: str, seed: int, images: str, options: dict[str, Any]) -> dict[str, Any]:
    """Train once; the row of the run."""
    options = dict[str, Any](recipes.describe(recipe).resolve(options, points=True))
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        run = leafwing.train(
            world, recipe, images=images, seed=seed, out=Path(folder, "run"), threads=1, precision="fp32", **options
        )
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        if run.stop_reason != "images":
            raise SystemExit("interrupted: no row is written for an incomplete training")
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
    """Print the newest row of each world, recipe, length and seed; rows without a divergence are older and have other settings."""
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
    """Median (minimum to maximum)."""
    values = [row[key] for row in rows]
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("world", choices=["ring", "grid"], nargs="?", default="ring", help="built-in data set")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="recipes to train")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--images", default="1M", help="training length in images, such as 50k")
    parser.add_argument("--option", action="append", default=[], help="option of the recipe, name=value; repeatable")
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings")
    parser.add_argument("--show", action="store_true", help="only print existing rows")
    args = parser.parse_args()
    if args.show:
        show(args.results)
        return
    options = dict(option.split("=") for option in args.option)
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(measure, args.world, recipe, seed, args.images, options)
            for recipe in args.recipes
            for seed in range(args.first_seed, args.first_seed + args.seeds)
        ]
        for future in as_completed(futures):
            store(future.result(), args.results)


if __name__ == "__main__":
    main()

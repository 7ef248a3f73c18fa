"""Exact resume: training processes are killed with SIGKILL at random moments and resumed until they finish.

    python bench/kills.py --kills 200

For every recipe that trains on labelled images one run is undisturbed; another with the same seed is killed repeatedly, at moments
drawn over the whole life of the process: while it starts, reads, trains, writes. At the end both must have bit-identical weights and
the same losses in their logs. One row per recipe and round over all recipes, until `--kills` are done.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from leafwing import recipes
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.machine import versions
from leafwing.runs import Run
from rows import argument_parser, store

SMALL = {
    "width": 8,
    "width_d": 8,
    "max_width": 16,
    "latent": 8,
    "batch": 8,
    "burst": 4,
    "burst_first": 2,
    "burst_every": 9,
    "resolution": 32,
    "backbone": "random",
}
IMAGES, EVERY = 600, 20


def pictures(folder: Path) -> Path:
    """60 small images in two classes."""
    random_state = np.random.default_rng(0)
    for i in range(60):
        path = folder / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_state.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


def small_options(recipe: str) -> dict[str, Any]:
    """The options of `SMALL` that a recipe has."""
    available = {option.name for option in recipes.describe(recipe).options}
    return {name: value for name, value in SMALL.items() if name in available}


def on_labelled_images() -> list[str]:
    """The recipes to which labelled images are enough."""
    return [name for name in recipes.names() if not inputs(name)]


def inputs(recipe: str) -> dict[str, str]:
    """The settings of data for a recipe to which labelled images are not enough: grey images as inputs."""
    try:
        card = recipes.describe(recipe)
        labelled = DataSpec.images(16, 16, labels=("a", "b"))
        recipes.build(recipe, recipes.find(recipe), labelled, card.resolve(small_options(recipe)))
    except LeafwingError:
        return {"input": "grey"}
    return {}


def work(source: str, recipe: str, out: str, cache: str) -> None:
    """The work of a child process: train, or resume if there is a run folder."""
    os.environ["LEAFWING_CACHE"] = cache
    import leafwing

    if Path(out, "run.json").exists():
        state = Run(out).resume_state()
        if not state or state["images"] < IMAGES:  # otherwise it was killed after its last checkpoint
            leafwing.resume(out)
        return
    settings: dict[str, Any] = {
        **inputs(recipe),
        "images": IMAGES,
        "save_every": EVERY,
        "log_every": EVERY,
        "grid_every": IMAGES,
        "threads": 1,
    }
    leafwing.train(
        source, recipe, size=16, out=out, seed=7, precision="fp32", device="cpu", **settings, **small_options(recipe)
    )


def children() -> Any:
    """A context whose processes are forked from one that has imported torch but never used it, so that they start fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["leafwing.commands", "leafwing.model", "leafwing.pictures", "leafwing.data", "torch._dynamo"]
    )
    return context


def outcome(out: Path) -> tuple[bytes, list[Any]]:
    """The last weights and the logged losses of a finished run."""
    run = Run(out)
    images, path = list(run.weights().items())[-1]
    assert images >= IMAGES, f"{out} is not finished"
    return path.read_bytes(), [(record["images"], record["losses"]) for record in run.records()]


def kill_and_compare(recipe: str, kills: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Train a recipe with and without kills.

    Returns:
        The number of kills that hit a running process, the number of them after its run folder existed, and whether weights and
        log are equal.
    """
    context, random_moments = children(), random.Random(f"{recipe} {seed}")
    source, cache = str(pictures(folder / "pictures")), str(folder / "cache")
    undisturbed, killed = folder / "calm", folder / "killed"
    warm = context.Process(target=time.sleep, args=(0,))  # imports torch once
    warm.start()
    warm.join()
    started = time.perf_counter()
    child = context.Process(target=work, args=(source, recipe, str(undisturbed), cache))
    child.start()
    child.join()
    assert child.exitcode == 0, f"the undisturbed run failed with exit code {child.exitcode}"
    duration = time.perf_counter() - started
    hits = after_start = 0
    while True:
        child = context.Process(target=work, args=(source, recipe, str(killed), cache))
        child.start()
        # So short that all kills fall into one training.
        child.join(timeout=random_moments.uniform(0, 0.9 * duration / kills) if hits < kills else None)
        if child.exitcode is None:
            after_start += (killed / "run.json").exists()
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            hits += 1
            continue
        assert child.exitcode == 0, f"the resumed run failed with exit code {child.exitcode}"
        break
    a, b = outcome(undisturbed), outcome(killed)
    return {
        "recipe": recipe,
        "images": IMAGES,
        "kills": hits,
        "after_start": after_start,
        "weights_equal": a[0] == b[0],
        "log_equal": a[1] == b[1],
    }


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("--kills", type=int, default=200, help="total number, distributed over the recipes")
    args = parser.parse_args()
    names, environment = on_labelled_images(), versions()
    remaining, attempt = args.kills, 0
    while remaining > 0:
        for recipe in names:
            if remaining <= 0:
                break
            with tempfile.TemporaryDirectory() as folder:
                row = kill_and_compare(recipe, min(remaining, 5), Path(folder), seed=attempt)
            remaining -= row["kills"]
            row = {"bench": "kills", "seed": attempt, **row, **environment}
            store(row, args.results)
        attempt += 1


if __name__ == "__main__":
    main()

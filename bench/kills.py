"""Exact resume, the hard way: training processes are killed with SIGKILL at random moments and resumed until they are done.

    python bench/kills.py --kills 200

For every recipe one run goes through undisturbed; another of the same seed is killed again and again, at moments drawn over the
whole life of the process: while it starts, packs, trains, writes. At the end both must have the same weights, bit for bit, and the
same costs in their logs. One JSON line a recipe goes to --results.
"""

from __future__ import annotations

import argparse
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
from leafwing.runs import Run, versions
from rows import keep

SMALL = {"width": 8, "width_d": 8, "max_width": 16, "latent": 8, "batch": 8, "burst": 4, "burst_first": 2, "burst_every": 9}
IMAGES, EVERY = 1200, 40


def pictures(folder: Path) -> Path:
    """60 small pictures in two classes."""
    random_state = np.random.default_rng(0)
    for i in range(60):
        path = folder / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_state.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


def work(source: str, recipe: str, out: str, cache: str) -> None:
    """What a child does: train, or go on if there is a run folder."""
    os.environ["LEAFWING_CACHE"] = cache
    import leafwing

    if Path(out, "run.json").exists():
        state = Run(out).resume_state()
        if not state or state["images"] < IMAGES:  # else it was killed after its last checkpoint
            leafwing.resume(out)
        return
    known = {option.name for option in recipes.describe(recipe).options}
    options: dict[str, Any] = {name: value for name, value in SMALL.items() if name in known}
    settings: dict[str, Any] = {
        "images": IMAGES,
        "save_every": EVERY,
        "log_every": EVERY,
        "grid_every": IMAGES,
        "threads": 1,
    }
    leafwing.train(source, recipe, size=16, out=out, seed=7, precision="fp32", device="cpu", **settings, **options)


def children() -> Any:
    """A context whose processes are forked from one that has torch loaded but has never computed: they start at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["leafwing.commands", "leafwing.model", "leafwing.pictures", "leafwing.data", "torch._dynamo"]
    )
    return context


def outcome(out: Path) -> tuple[bytes, list[Any]]:
    """The last weights and the logged costs of a finished run."""
    run = Run(out)
    images, path = list(run.weights().items())[-1]
    assert images >= IMAGES, f"{out} is not finished"
    return path.read_bytes(), [(record["images"], record["costs"]) for record in run.records()]


def kill_and_compare(recipe: str, kills: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Train a recipe with and without kills.

    Returns:
        How many kills hit a living process, how many of them after its run folder had appeared, and whether weights and log agree.
    """
    context, chance = children(), random.Random(f"{recipe} {seed}")
    source, cache = str(pictures(folder / "pictures")), str(folder / "cache")
    calm, killed = folder / "calm", folder / "killed"
    warm = context.Process(target=time.sleep, args=(0,))  # the first child waits for torch
    warm.start()
    warm.join()
    started = time.perf_counter()
    child = context.Process(target=work, args=(source, recipe, str(calm), cache))
    child.start()
    child.join()
    assert child.exitcode == 0, f"the undisturbed run failed with exit code {child.exitcode}"
    life = time.perf_counter() - started
    hits = late = 0
    while True:
        child = context.Process(target=work, args=(source, recipe, str(killed), cache))
        child.start()
        # Lives so short that all kills fall into one training.
        child.join(timeout=chance.uniform(0, 0.9 * life / kills) if hits < kills else None)
        if child.exitcode is None:
            late += (killed / "run.json").exists()
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            hits += 1
            continue
        assert child.exitcode == 0, f"the resumed run failed with exit code {child.exitcode}"
        break
    a, b = outcome(calm), outcome(killed)
    return {"recipe": recipe, "kills": hits, "after_start": late, "weights_equal": a[0] == b[0], "log_equal": a[1] == b[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="in all, shared among the recipes")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "kills.jsonl")
    given = parser.parse_args()
    names, made_with = recipes.names(), versions()
    left, attempt = given.kills, 0
    while left > 0:
        for recipe in names:
            if left <= 0:
                break
            with tempfile.TemporaryDirectory() as folder:
                row = kill_and_compare(recipe, min(left, 5), Path(folder), seed=attempt)
            left -= row["kills"]
            row = {"bench": "kills", "seed": attempt, **row, **made_with}
            keep(row, given.results)
        attempt += 1


if __name__ == "__main__":
    main()

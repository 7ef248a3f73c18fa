"""Modes found on the built-in worlds of points, by recipe and seed.

    python bench/points.py ring --seeds 3 --images 1M

A sample is good when it lies within three standard deviations of the nearest mode; a mode is found when one of 2,500 samples is good
there (the convention of VEEGAN and PacGAN). The networks are small and the same for all recipes: three ReLU layers of 128, but for
`gan`, which has two of 128 in G and two maxout layers of 128 in D, and Adam without dropout. One JSON line a run goes to --results.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import leafwing
from leafwing.data import worlds
from leafwing.progress import Screen
from rows import keep

SETTINGS: dict[str, dict[str, Any]] = {
    "gan": {"optimiser": "adam", "dropout": 0.0, "width": 128, "width_d": 128, "pieces": 2, "lr_g": 1e-3, "lr_d": 1e-3},
    "lsgan": {"width": 16, "lr_g": 1e-3, "lr_d": 1e-3},
    "wgan": {"width": 16, "burst": 5, "lr_g": 5e-4, "lr_d": 5e-4, "clip": 0.1},
    "wgan_gp": {"width": 16, "penalty": 0.1, "beta1": 0.5},
}
SHARED = {"latent": 2, "prior": "normal", "batch": 256}


def coverage(model: leafwing.Model, world: str, n: int = 2_500) -> dict[str, Any]:
    """Modes found and the share of good samples."""
    samples = model.sample(n, seed=1).numpy()
    distances = np.linalg.norm(samples[:, None] - worlds.modes(world)[None], axis=2)
    good = distances.min(1) < 3 * worlds.sigma(world)
    return {
        "modes": len(set(distances.argmin(1)[good])),
        "of": len(worlds.modes(world)),
        "good": round(float(good.mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=["ring", "grid"])
    parser.add_argument("--recipes", nargs="+", default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", default="1M")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "points.jsonl")
    given = parser.parse_args()
    for recipe in given.recipes:
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                options = {**SHARED, **SETTINGS[recipe]}
                run = leafwing.train(
                    given.world,
                    recipe,
                    images=given.images,
                    seed=seed,
                    out=Path(folder, "run"),
                    threads=1,
                    precision="fp32",
                    progress=Screen(),
                    **options,
                )
                if run.done != "images":
                    raise SystemExit("stopped: no result is written for a training that was cut short")
                row = {
                    "bench": "points",
                    "world": given.world,
                    "recipe": recipe,
                    "options": options,
                    "seed": seed,
                    "images": run.records()[-1]["images"],
                    "seconds": round(time.perf_counter() - started, 1),
                    **coverage(leafwing.Model.load(run), given.world),
                    **run.config["versions"],
                }
            keep(row, given.results)


if __name__ == "__main__":
    main()

"""The effect of each remedy of Improved GAN, and of packing, at equal cost.

    python bench/remedies.py ring grid digits --seeds 5 --seconds 20 --jobs 2
    python bench/remedies.py --show

`improved_gan` with everything switched off is a DCGAN (on points a pair of MLPs); each other variant switches one remedy on. Cost is
processor time of one thread: the cost per image of a variant is measured first, from a short training and one three times as long,
and its trainings get as many images as fit into --seconds; rows hold the actual total. On points: modes found, the share of good
samples, and the divergence from the uniform distribution over modes (`leafwing.metrics.modes`). On digits: the share of 1,000 samples
that a classifier of real digits is confident of (`bench/digits.py`), the divergence of the predicted classes from the uniform
distribution, and KID on pixels averaged to 8x8. Virtual batch normalisation does not apply to points, whose networks have no
normalisation to replace.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

import leafwing
from digits import CONFIDENT, Reader, features
from leafwing.data import load
from leafwing.metrics import kid, modes
from leafwing.pixels import to_floats
from leafwing.recipes import describe
from points import coverage, spread
from rows import argument_parser, store

RESULTS = Path(__file__).parent / "results" / "remedies.jsonl"
OFF = {"discrimination": False, "smooth": 1.0, "matching": False, "history": 0.0, "reference": 0}
REMEDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("improved_gan", OFF),
    "feature matching": ("improved_gan", {**OFF, "matching": True}),
    "minibatch discrimination": ("improved_gan", {**OFF, "discrimination": True}),
    "historical averaging": ("improved_gan", {**OFF, "history": 0.01}),
    "label smoothing": ("improved_gan", {**OFF, "smooth": 0.9}),
    "virtual batch norm": ("improved_gan", {**OFF, "reference": 32}),
    "packing": ("pacgan", {}),
}
COMMON: dict[str, dict[str, Any]] = {
    "digits": {"width": 16, "latent": 100, "prior": "normal", "lr_g": 2e-4, "lr_d": 2e-4, "batch": 64},
    "ring": {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128},
    "grid": {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128},
}
"""Options of all variants, by source."""
TRIAL = {"digits": 1_280, "ring": 12_800, "grid": 12_800}


def trained(source: str, remedy: str, seed: int, images: int, folder: str) -> tuple[leafwing.Run, float]:
    """A training, and its processor time in seconds."""
    recipe, options = REMEDIES[remedy]
    resolved: dict[str, Any] = {**describe(recipe).resolve({**COMMON[source], **options}, points=source != "digits")}
    started = time.process_time()
    run = leafwing.train(
        source, recipe, images=images, seed=seed, out=Path(folder, "run"), threads=1, precision="fp32", **resolved
    )
    if run.stop_reason != "images":
        raise SystemExit("interrupted: no row is written for an incomplete training")
    return run, time.process_time() - started


def score_digits(model: leafwing.Model) -> dict[str, Any]:
    """Results of a classifier of real digits on 1,000 samples."""
    samples, data = model.sample(1_000, seed=1), load("digits")
    real = to_floats(torch.from_numpy(data.pictures(range(len(data)))).permute(0, 3, 1, 2))
    digits_read, confidences = Reader().read(samples)
    distance, _ = kid.kernel_distance(features(real), features(samples))
    return {
        "confident": round(float((confidences >= CONFIDENT).mean()), 4),
        "classes": len(np.unique(digits_read)),
        "kl": round(modes.reverse_kl(np.bincount(digits_read, minlength=10)), 4),
        "kid": round(float(distance), 4),
    }


def affordable(source: str, remedy: str, seconds: float) -> int:
    """The number of images that a variant trains on in this processor time."""
    costs = []
    for images in (64, TRIAL[source], 3 * TRIAL[source]):  # the first training also imports modules
        with tempfile.TemporaryDirectory() as folder:
            costs.append(trained(source, remedy, 0, images, folder)[1])
    return int(seconds / (costs[2] - costs[1]) * 2 * TRIAL[source])


def measure(source: str, remedy: str, seed: int, images: int) -> dict[str, Any]:
    """Train once; the row of the run."""
    with tempfile.TemporaryDirectory() as folder:
        run, cost = trained(source, remedy, seed, images, folder)
        model = leafwing.Model.load(run)
        scores = score_digits(model) if source == "digits" else coverage(model, source)
        last = run.records()[-1]
        return {
            "bench": "remedies",
            "source": source,
            "remedy": remedy,
            "seed": seed,
            "images": last["images"],
            "rounds": last["round"],
            "cpu": round(cost, 1),
            **scores,
            "threads": 1,
            "precision": "fp32",
            **run.config["versions"],
        }


def show(results: Path) -> None:
    """Print a Markdown table for each source."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    for source in COMMON:
        source_rows = [row for row in rows if row["source"] == source]
        if not source_rows:
            continue
        columns = ["confident", "kl", "kid"] if source == "digits" else ["modes", "good", "kl"]
        print(f"\n| {source} | seeds | images | processor seconds | " + " | ".join(columns) + " |")
        print("| --- " * (4 + len(columns)) + "|")
        for remedy in REMEDIES:
            newest = list({row["seed"]: row for row in source_rows if row["remedy"] == remedy}.values())
            if newest:
                forms = {"confident": ".1%", "good": ".1%", "modes": "g", "kl": ".3f", "kid": ".3g"}
                cells = [spread(newest, "images", ",.0f"), spread(newest, "cpu", ".0f")]
                cells += [spread(newest, name, forms[name]) for name in columns]
                print(f"| {remedy} | {len(newest)} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("sources", nargs="*", metavar="source", help="ring, grid, digits")
    parser.add_argument("--remedies", nargs="+", default=list(REMEDIES), metavar="remedy", help="remedies to train")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--seconds", type=float, default=20, help="processor time per training")
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings")
    parser.add_argument("--show", action="store_true", help="only print existing rows")
    args = parser.parse_args()
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        cases = [
            (source, remedy)
            for source in args.sources
            for remedy in args.remedies
            if not (remedy == "virtual batch norm" and source != "digits")
        ]
        budgets = [pool.submit(affordable, *case, args.seconds) for case in cases]
        futures = [
            pool.submit(measure, *case, seed, budget.result())
            for case, budget in zip(cases, budgets, strict=True)
            for seed in range(args.seeds)
        ]
        for future in as_completed(futures):
            store(future.result(), args.results)
    show(args.results)


if __name__ == "__main__":
    main()

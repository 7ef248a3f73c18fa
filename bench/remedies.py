"""What does each remedy of Improved GAN, and packing, bring at equal cost?

    python bench/remedies.py ring grid digits --seeds 5 --seconds 20 --jobs 2
    python bench/remedies.py --show

`improved_gan` with everything switched off is a DCGAN (on points a pair of MLPs); each other line switches one remedy on. Cost is
processor time of one thread: what an image costs a variant is measured first, by a short training and one three times as long,
and its trainings are shown as many as fit into --seconds; what they took in all stands in the rows. On points: modes found, the
share of good samples and the divergence from equal shares (`leafwing.metrics.modes`). On digits: the share of 1,000 samples that
a classifier of real digits is confident of (`bench/digits.py`), the divergence of the classes it reads from equal shares, and KID
in the pixels averaged to 8x8. There is no virtual batch normalisation on points, whose networks have none to replace.
"""

from __future__ import annotations

import argparse
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
from leafwing.recipes import describe
from points import coverage, spread
from rows import keep

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
SAME = {
    "digits": {"width": 16, "latent": 100, "prior": "normal", "lr_g": 2e-4, "lr_d": 2e-4, "batch": 64},
    "ring": {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128},
    "grid": {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128},
}
"""What all variants share, by source."""
TRIAL = {"digits": 1_280, "ring": 12_800, "grid": 12_800}


def trained(source: str, remedy: str, seed: int, images: int, folder: str) -> tuple[leafwing.Run, float]:
    """A training and the seconds of processor time that it took."""
    recipe, options = REMEDIES[remedy]
    worked = time.process_time()
    run = leafwing.train(
        source, recipe, images=images, seed=seed, out=Path(folder, "run"), threads=1, precision="fp32",
        **describe(recipe).resolve({**SAME[source], **options}, points=source != "digits"),
    )  # fmt: skip
    if run.done != "images":
        raise SystemExit("stopped: no result is written for a training that was cut short")
    return run, time.process_time() - worked


def of_digits(model: leafwing.Model) -> dict[str, Any]:
    """What a reader of real digits makes of 1,000 samples."""
    samples, data = model.sample(1_000, seed=1), load("digits")
    real = torch.from_numpy(data.pictures(range(len(data)))).permute(0, 3, 1, 2).float() / 127.5 - 1
    read, sure = Reader().read(samples)
    distance, _ = kid.kernel_distance(features(real), features(samples))
    return {
        "confident": round(float((sure >= CONFIDENT).mean()), 4),
        "classes": len(np.unique(read)),
        "kl": round(modes.reverse_kl(np.bincount(read, minlength=10)), 4),
        "kid": round(float(distance), 4),
    }


def affordable(source: str, remedy: str, seconds: float) -> int:
    """How many images fit into seconds of processor time."""
    costs = []
    for images in (64, TRIAL[source], 3 * TRIAL[source]):  # the first one pays for what is imported once
        with tempfile.TemporaryDirectory() as folder:
            costs.append(trained(source, remedy, 0, images, folder)[1])
    return int(seconds / (costs[2] - costs[1]) * 2 * TRIAL[source])


def measured(source: str, remedy: str, seed: int, images: int) -> dict[str, Any]:
    """One training, and what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        run, cost = trained(source, remedy, seed, images, folder)
        model = leafwing.Model.load(run)
        found = of_digits(model) if source == "digits" else coverage(model, source)
        last = run.records()[-1]
        return {
            "bench": "remedies",
            "source": source,
            "remedy": remedy,
            "seed": seed,
            "images": last["images"],
            "rounds": last["round"],
            "cpu": round(cost, 1),
            **found,
            "threads": 1,
            "precision": "fp32",
            **run.config["versions"],
        }


def show(results: Path) -> None:
    """A table for each source, as Markdown."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    for source in SAME:
        mine = [row for row in rows if row["source"] == source]
        if not mine:
            continue
        names = ["confident", "kl", "kid"] if source == "digits" else ["modes", "good", "kl"]
        print(f"\n| {source} | seeds | images | processor seconds | " + " | ".join(names) + " |")
        print("| --- " * (4 + len(names)) + "|")
        for remedy in REMEDIES:
            each = list({row["seed"]: row for row in mine if row["remedy"] == remedy}.values())
            if each:
                forms = {"confident": ".1%", "good": ".1%", "modes": "g", "kl": ".3f", "kid": ".3g"}
                cells = [spread(each, "images", ",.0f"), spread(each, "cpu", ".0f")]
                cells += [spread(each, name, forms[name]) for name in names]
                print(f"| {remedy} | {len(each)} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", metavar="source", help="ring, grid, digits")
    parser.add_argument("--remedies", nargs="+", default=list(REMEDIES), metavar="remedy")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="processor time of a training")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="only print what was measured")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
        cases = [
            (source, remedy)
            for source in given.sources
            for remedy in given.remedies
            if not (remedy == "virtual batch norm" and source != "digits")
        ]
        images = [pool.submit(affordable, *case, given.seconds) for case in cases]
        begun = [
            pool.submit(measured, *case, seed, many.result())
            for case, many in zip(cases, images, strict=True)
            for seed in range(given.seeds)
        ]
        for one in as_completed(begun):
            keep(one.result(), given.results)
    show(given.results)


if __name__ == "__main__":
    main()

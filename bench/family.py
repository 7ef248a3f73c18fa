"""Does each recipe do what its paper says? One part a claim, over seeds; docs/results/family.md has the table.

    python bench/family.py labels cgan acgan --source sprites
    python bench/family.py codes --source digits
    python bench/family.py encoders bigan vaegan alpha_gan --source digits
    python bench/family.py energy

`labels`: the share of samples that show the class that was asked for, read by the oracle of `sprites`, or for digits by a support
vector machine on real ones; the worst class stands beside it. `codes`: InfoGAN's bound of the mutual information between the
categorical code and the samples, in nats, on fresh latents; and the error of the code as a classifier of real pictures that it was
not matched on (each category is called by the class that it sees most often in the other half), with the information switched off
too. `encoders`: accuracy of the nearest neighbour among 1,000 labelled pictures in the encoder's space, beside pixels, and the
share of reconstructions whose class the reader reads as before. `energy`: EBGAN's energies of real and fake pictures beside the
margin, and the variety of its samples, with and without pull-away. One JSON line a run goes to --results.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor
from torch.nn.functional import cross_entropy

import leafwing
from leafwing import sprites
from leafwing.data import Dataset, load
from leafwing.engine.probe import between, coarse
from leafwing.progress import Screen
from rows import keep

Read = Callable[[Tensor], np.ndarray]
FEW = 1_000
"""Labelled pictures that neighbours are looked for among, and samples that are read."""


def floats(data: Dataset, rows: np.ndarray) -> Tensor:
    """Pictures as float32 (n, channels, height, width) in [-1, 1]."""
    return torch.from_numpy(data.pictures(rows)).permute(0, 3, 1, 2).float() / 127.5 - 1


def pixels(samples: Tensor) -> np.ndarray:
    """Pictures averaged down to 16x16, as vectors."""
    return torch.nn.functional.adaptive_avg_pool2d(samples, 16).flatten(1).numpy()


def reader(data: Dataset) -> Read:
    """What says which class a picture shows: the oracle for sprites, else a support vector machine; -1 for a sprite that is none."""
    if data.source == "sprites":

        def read(samples: Tensor) -> np.ndarray:
            found = sprites.read(samples.permute(0, 2, 3, 1).numpy())
            return np.where(found.sure, found.scenes.shape, -1)

        return read
    order = np.random.default_rng(0).permutation(len(data))[:10_000]
    machine = SVC(C=10.0).fit(pixels(floats(data, order)), data.labels[order])
    return lambda samples: machine.predict(pixels(samples))


def trained(
    given: argparse.Namespace, recipe: str, seed: int, **options: Any
) -> Iterator[tuple[leafwing.Model, dict[str, Any]]]:
    """A training of a recipe and what a row says of it; gone when the row is written."""
    chosen = {**dict(option.split("=") for option in given.option), **options}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = leafwing.train(
            given.source, recipe, images=given.images, seed=seed, threads=given.threads, size=given.size, out=Path(folder, "run"),
            progress=Screen(), **chosen,
        )  # fmt: skip
        if run.done != "images":
            raise SystemExit("stopped: no result is written for a training that was cut short")
        settings = run.config["training"]
        yield (
            leafwing.Model.load(run),
            {
                "bench": "family",
                "part": given.part,
                "source": given.source,
                "size": given.size,
                "recipe": recipe,
                "options": chosen,
                "seed": seed,
                "images": run.records()[-1]["images"],
                "seconds": round(time.perf_counter() - started, 1),
                "precision": settings["precision"],
                "threads": settings["threads"],
                **run.config["versions"],
            },
        )


def seeds(given: argparse.Namespace) -> range:
    return range(given.first_seed, given.first_seed + given.seeds)


def labels(given: argparse.Namespace) -> None:
    data = load(given.source, size=given.size)
    read = reader(data)
    classes = len(data.spec.labels)
    for recipe in given.recipes or ["cgan", "acgan"]:
        for seed in seeds(given):
            for model, row in trained(given, recipe, seed):
                asked = np.arange(FEW // classes * classes) % classes
                right = read(model.sample(len(asked), seed=1, label=asked.tolist())) == asked
                each = [round(float(right[asked == one].mean()), 4) for one in range(classes)]
                found = {"read_as_asked": round(float(right.mean()), 4), "worst_class": min(each), "each_class": each}
                keep({**row, **found}, given.results)


def codes(given: argparse.Namespace) -> None:
    data = load(given.source, size=given.size)
    order = np.random.default_rng(0).permutation(len(data))[:10_000]
    real, classes = floats(data, order), data.labels[order]
    for information in (1.0, 0.0):
        for seed in seeds(given):
            for model, row in trained(given, "infogan", seed, information=information):
                n = model.codes["category"]
                latents = model.latents(2_000, seed=1)
                parts = model.game.abilities.prior.parts(latents)
                d = model.game.shown.D
                with torch.no_grad():
                    said = torch.cat([d(part)[1][:, :n] for part in model.generate(latents).split(200)])
                    seen = torch.cat([d(part)[1][:, :n].argmax(1) for part in real.split(200)]).numpy()
                bound = log(n) - cross_entropy(said, parts["category"]).item()
                half = len(seen) // 2
                called = [np.bincount(classes[:half][seen[:half] == one], minlength=n).argmax() for one in range(n)]
                error = float((np.array(called)[seen[half:]] != classes[half:]).mean())
                found = {"bound_nats": round(bound, 3), "of": round(log(n), 3), "error": round(error, 4)}
                keep({**row, **found, "classes_named": len(set(map(int, called)))}, given.results)


def encoders(given: argparse.Namespace) -> None:
    data = load(given.source, size=given.size)
    read = reader(data)
    order = np.random.default_rng(0).permutation(len(data))[: 2 * FEW]
    pictures, classes = floats(data, order), data.labels[order]

    def neighbours(space: np.ndarray) -> float:
        known = KNeighborsClassifier(1).fit(space[:FEW], classes[:FEW])
        return round(float((known.predict(space[FEW:]) == classes[FEW:]).mean()), 4)

    for recipe in given.recipes or ["bigan", "vaegan", "alpha_gan"]:
        for seed in seeds(given):
            for model, row in trained(given, recipe, seed):
                latents = model.encode(pictures)
                again = model.generate(latents)
                found = {
                    "neighbour": neighbours(latents.numpy()),
                    "neighbour_pixels": neighbours(pictures.flatten(1).numpy()),
                    "class_kept": round(float((read(again[:FEW]) == read(pictures[:FEW])).mean()), 4),
                    "error_pixels": round(float((again - pictures).abs().mean()), 4),
                }
                keep({**row, **found}, given.results)


def energy(given: argparse.Namespace) -> None:
    data = load(given.source, size=given.size)
    real = floats(data, np.arange(256))
    for pull in (0.1, 0.0):
        for seed in seeds(given):
            for model, row in trained(given, "ebgan", seed, pull=pull):
                samples, d = model.sample(256, seed=1), model.game.shown.D
                with torch.no_grad():
                    energies = [-d(side).mean().item() for side in (real, samples)]
                found = {
                    "energy_real": round(energies[0], 4),
                    "energy_fake": round(energies[1], 4),
                    "variety": round(float(between(coarse(samples)) / between(coarse(real))), 4),
                }
                keep({**row, **found}, given.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["labels", "codes", "encoders", "energy"])
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--source", default="digits")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", default="50k")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--option", action="append", default=[], help="a recipe's option: name=value")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "family.jsonl")
    given = parser.parse_args()
    {"labels": labels, "codes": codes, "encoders": encoders, "energy": energy}[given.part](given)


if __name__ == "__main__":
    main()

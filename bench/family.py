"""Does each recipe do what its paper says? One part a claim, over seeds; docs/results/family.md has the table.

    python bench/family.py labels cgan acgan --source sprites
    python bench/family.py codes --source digits
    python bench/family.py encoders bigan vaegan alpha_gan --source digits
    python bench/family.py energy
    python bench/family.py labelled --source MNIST
    python bench/family.py vectors --source sprites
    python bench/family.py boosting --source grid
    python bench/family.py samples dcgan sngan sagan bgan gogan
    python bench/family.py --show

`labels`: the share of samples that show the class that was asked for, read by the oracle of `sprites`, or for digits by a support
vector machine on real ones; the worst class stands beside it, and `style`, how much latents mean the same in all classes.
`codes`: InfoGAN's bound of the mutual information between the categorical code and the samples, in nats, on fresh latents; and
the error of the code as a classifier of real pictures that it was not matched on (each category is called by the class that it
sees most often in the other half), with the information switched off too. `encoders`: accuracy of the nearest neighbour among
1,000 labelled pictures in the encoder's space, beside pixels, and the share of reconstructions whose class the reader reads as
before. `energy`: EBGAN's energies of real and fake pictures beside the margin, and the variety of its samples, with and without
pull-away. `labelled`: the error of a classifier of real pictures that it never saw, taught --labels of them and, beside, all the
others without their labels; and the same network taught the labelled ones alone; another choice of them for each seed. `vectors`:
VAE/GAN's attribute vectors on sprites: the difference of the mean code with and without an attribute is added to codes of
pictures without it; the oracle says in which share of what is made the attribute is there, beside the share in plain
reconstructions, and in which share all other words stayed. `boosting`: modes covered by the first t components of AdaGAN, of
bagging, and by the best single one. `samples`: of recipes that claim no more than good samples of digits, the share that a
classifier of real ones is confident of, the divergence of the classes it reads from equal shares, and KID. One JSON line a run
goes to --results; `--show` prints the tables of all, and those of `bench/remedies.py` and `bench/divergences.py`.
"""

from __future__ import annotations

import argparse
import json
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

import divergences
import leafwing
import remedies
from leafwing import sprites
from leafwing.data import Dataset, load, worlds
from leafwing.engine.probe import downsample, mean_distance
from leafwing.metrics import modes
from leafwing.progress import Screen
from rows import keep

Read = Callable[[Tensor], np.ndarray]
COMPONENTS = 5
PARTS = {"shape": (0, 6), "colour": (6, 12), "how_large": (12, 14), "background": (19, 23)}
"""Columns of the attributes of sprites, by what they are about."""
COLUMNS = {
    "labels": ["read_as_asked", "worst_class", "style", "sure"],
    "codes": ["bound_nats", "error", "classes_named"],
    "encoders": ["neighbour", "neighbour_pixels", "class_kept", "error_pixels"],
    "energy": ["energy_real", "energy_fake", "variety"],
    "labelled": ["error"],
    "vectors": list(PARTS),
    "boosting": ["modes_of_first", "good_of_first", "modes_alone"],
    "samples": ["confident", "kl", "kid"],
}
"""What the tables show, by part."""
HIDDEN = ("labelled_seed", "hold_out")
FEW = 1_000
"""Labelled pictures that neighbours are looked for among, and samples that are read."""


def floats(data: Dataset, rows: np.ndarray) -> Tensor:
    """Pictures as float32 (n, channels, height, width) in [-1, 1]."""
    return torch.from_numpy(data.pictures(rows)).permute(0, 3, 1, 2).float() / 127.5 - 1


def pixels(samples: Tensor) -> np.ndarray:
    """Pictures averaged down to 16x16, as vectors."""
    return torch.nn.functional.adaptive_avg_pool2d(samples, 16).flatten(1).numpy()


def reader(data: Dataset) -> Read:
    """What says which class a picture shows: the oracle for sprites, however sure it is, else a support vector machine."""
    if data.source == "sprites":

        def read(samples: Tensor) -> np.ndarray:
            return sprites.read(samples.permute(0, 2, 3, 1).numpy()).scenes.shape

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
            given.source, recipe, images=given.images, seed=seed, threads=given.threads, size=sized(given), out=Path(folder, "run"),
            progress=Screen(), **chosen,
        )  # fmt: skip
        if run.done != "images":
            raise SystemExit("stopped: no result is written for a training that was cut short")
        machine = run.settings.machine
        yield (
            leafwing.Model.load(run),
            {
                "bench": "family",
                "part": given.part,
                "source": Path(given.source).name,
                "size": given.size,
                "recipe": recipe,
                "options": chosen,
                "seed": seed,
                "images": run.records()[-1]["images"],
                "seconds": round(time.perf_counter() - started, 1),
                "precision": machine.precision,
                "threads": machine.threads,
                **run.config["versions"],
            },
        )


def sized(given: argparse.Namespace) -> int | None:
    """The size of pictures; points have none."""
    return None if given.source in ("ring", "grid") else given.size


def seeds(given: argparse.Namespace) -> range:
    return range(given.first_seed, given.first_seed + given.seeds)


def style(model: leafwing.Model, n: int = 200) -> float:
    """How much of the brightness that varies within classes is the latent's, alike in all of them: a share, by chance 1 / classes."""
    latents, classes = model.latents(n, seed=2), len(model.labels)
    ink = torch.stack([model.generate(latents, label=one).mean((1, 2, 3)) for one in range(classes)])  # (classes, n)
    within = ink - ink.mean(1, keepdim=True)
    return float(within.mean(0).square().mean() / within.square().mean())


def labels(given: argparse.Namespace) -> None:
    data = load(given.source, size=given.size)
    read = reader(data)
    classes = len(data.spec.labels)
    for recipe in given.recipes or ["cgan", "acgan"]:
        for seed in seeds(given):
            for model, row in trained(given, recipe, seed):
                asked = np.arange(FEW // classes * classes) % classes
                samples = model.sample(len(asked), seed=1, label=asked.tolist())
                right = read(samples) == asked
                each = [round(float(right[asked == one].mean()), 4) for one in range(classes)]
                found = {"read_as_asked": round(float(right.mean()), 4), "worst_class": min(each), "each_class": each}
                found["style"] = round(style(model), 4)
                if data.source == "sprites":
                    found["sure"] = round(float(attributes(samples)[1].mean()), 4)
                keep({**row, **found}, given.results)


def information_of_category(model: leafwing.Model, samples: int = 2_000) -> float:
    """InfoGAN's lower bound of the mutual information between the category and the samples, in nats, on fresh latents."""
    latents, prior, n = model.latents(samples, seed=1), model.game.abilities.prior, model.codes["category"]
    with torch.no_grad():
        said = torch.cat([model.game.shown.D(part)[1][:, :n] for part in model.generate(latents).split(200)])
    return log(n) - cross_entropy(said, prior.parts(latents)["category"]).item()


def codes(given: argparse.Namespace) -> None:
    data = load(given.source, size=given.size)
    order = np.random.default_rng(0).permutation(len(data))[:10_000]
    real, classes = floats(data, order), data.labels[order]
    for information in (1.0, 0.0):
        for seed in seeds(given):
            for model, row in trained(given, "infogan", seed, information=information):
                bound, n = information_of_category(model), model.codes["category"]
                d = model.game.shown.D
                with torch.no_grad():
                    seen = torch.cat([d(part)[1][:, :n].argmax(1) for part in real.split(200)]).numpy()
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
                samples = model.sample(256, seed=1)
                d = model.game.shown.D.train()  # as in training: by statistics of the batch
                with torch.no_grad():
                    energies = [-d(side).mean().item() for side in (real, samples)]
                found = {
                    "energy_real": round(energies[0], 4),
                    "energy_fake": round(energies[1], 4),
                    "variety": round(float(mean_distance(downsample(samples)) / mean_distance(downsample(real))), 4),
                }
                keep({**row, **found}, given.results)


def labelled(given: argparse.Namespace) -> None:
    _, away = load(given.source, size=given.size).split(given.held_out)
    pictures, classes = floats(away, np.arange(len(away))), away.labels[away.to_rows(np.arange(len(away)))]
    for weight in (0.5, 0.0):
        for seed in seeds(given):
            few = {"hold_out": given.held_out, "labelled": given.labels, "labelled_seed": seed}
            for model, row in trained(given, "improved_gan_semi", seed, unlabelled=weight, **few):
                wrong = model.classify(pictures).argmax(1).numpy() != classes
                keep({**row, "error": round(float(wrong.mean()), 4), "of": len(wrong)}, given.results)


def vectors(given: argparse.Namespace) -> None:
    data = load(given.source, size=given.size)
    pictures = floats(data, np.random.default_rng(0).permutation(len(data))[: 2 * FEW])
    known = attributes(pictures)[0]
    for seed in seeds(given):
        for model, row in trained(given, "vaegan", seed):
            latents, found = model.encode(pictures), {}
            again = attributes(model.generate(latents))[0]
            for part, (first, end) in PARTS.items():
                before, after, rest = [], [], []
                for column in range(first, end):
                    there = torch.from_numpy(known[:, column] == 1)
                    rows = (~there).nonzero().flatten()[:50]
                    made, sure = attributes(model.generate(latents[rows] + latents[there].mean(0) - latents[~there].mean(0)))
                    other = [c for c in range(known.shape[1]) if not first <= c < end]
                    before.append(again[rows, column].mean())
                    after.append((made[:, column] * sure).mean())
                    rest.append((made[:, other] == again[rows][:, other]).mean())
                told = {"before": before, "after": after, "other_words_kept": rest}
                found[part] = {name: round(float(np.mean(each)), 3) for name, each in told.items()}
            keep({**row, **found}, given.results)


def attributes(samples: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What the oracle reads in sprites: uint8 (n, 23), and where it is sure, bool (n,)."""
    read = sprites.read(samples.permute(0, 2, 3, 1).numpy())
    return read.scenes.attributes, read.sure


def boosting(given: argparse.Namespace) -> None:
    centres, sigma = worlds.modes(given.source), worlds.sigma(given.source)
    for weights in ("boost", "bagging"):
        for seed in seeds(given):
            for model, row in trained(given, "adagan", seed, weights=weights, components=COMPONENTS):

                def modes_of(components: list[int], model: leafwing.Model = model) -> modes.Coverage:
                    latents = model.latents(modes.SAMPLES[given.source], seed=1)
                    turn = torch.arange(len(latents)) % len(components)
                    latents[:, :COMPONENTS] = torch.eye(COMPONENTS)[torch.tensor(components)[turn]]
                    return modes.of_points(model.generate(latents).double().numpy(), centres, sigma)

                first = [modes_of(list(range(t + 1))) for t in range(COMPONENTS)]
                alone = [modes_of([t]) for t in range(COMPONENTS)]
                found = {
                    "modes_of_first": [one.modes for one in first],
                    "good_of_first": [round(one.high_quality, 3) for one in first],
                    "modes_alone": [one.modes for one in alone],
                    "of": len(centres),
                }
                keep({**row, **found}, given.results)


def samples(given: argparse.Namespace) -> None:
    for recipe in given.recipes:
        for seed in seeds(given):
            for model, row in trained(given, recipe, seed):
                keep({**row, **remedies.of_digits(model)}, given.results)


def cell(value: Any) -> str:
    """A number, numbers, or how a share changed and what stayed."""
    if isinstance(value, dict):
        return f"{value['before']:.0%} to {value['after']:.0%}, others kept {value['other_words_kept']:.0%}"
    return str(value)


def show(results: Path) -> None:
    """The tables of docs/results/family.md: the newest row of each case and seed."""
    newest = {}
    for row in map(json.loads, results.read_text().splitlines()):
        row["told"] = " ".join(f"{name}={value}" for name, value in row["options"].items() if name not in HIDDEN)
        newest[row["part"], row["source"], row["size"], row["recipe"], row["told"], row["images"], row["seed"]] = row
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for key, row in newest.items():
        groups.setdefault(key[:-1], []).append(row)
    for part in dict.fromkeys(key[0] for key in groups):
        names = COLUMNS[part]
        print(f"\n### {part}\n\n| data | size | recipe | options | images | seeds | " + " | ".join(names) + " |")
        print("| --- " * (6 + len(names)) + "|")
        for (group, source, size, recipe, told, images), rows in groups.items():
            if group == part:
                cells = [", ".join(cell(row[name]) for row in rows if name in row) for name in names]
                shown = "" if source in ("ring", "grid") else str(size)
                about = [source, shown, f"`{recipe}`", told, f"{images:,}", ", ".join(str(row["seed"]) for row in rows)]
                print("| " + " | ".join([*about, *cells]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(COLUMNS), nargs="?")
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--source", default="digits")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", default="50k")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--option", action="append", default=[], help="a recipe's option: name=value")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "family.jsonl")
    parser.add_argument("--labels", type=int, default=100, help="labelled pictures, for `labelled`")
    parser.add_argument(
        "--held-out", type=int, default=10_000, help="pictures that a classifier is tried on, for `labelled`"
    )
    parser.add_argument("--show", action="store_true", help="only print what was measured")
    given = parser.parse_args()
    if given.show:
        show(given.results)
        print("\n### remedies")
        remedies.show(remedies.RESULTS)
        print("\n### divergences\n")
        divergences.table(divergences.RESULTS)
        return
    parts = {"labels": labels, "codes": codes, "encoders": encoders, "energy": energy}
    (parts | {"labelled": labelled, "vectors": vectors, "boosting": boosting, "samples": samples})[given.part](given)


if __name__ == "__main__":
    main()

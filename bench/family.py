"""Does each recipe do what its paper claims? One part per claim, over seeds; docs/results/family.md has the tables.

    python bench/family.py labels cgan acgan --source sprites
    python bench/family.py codes --source digits
    python bench/family.py encoders bigan vaegan alpha_gan --source digits
    python bench/family.py energy
    python bench/family.py labelled --source MNIST
    python bench/family.py vectors --source sprites
    python bench/family.py boosting --source grid
    python bench/family.py samples dcgan sngan sagan bgan gogan
    python bench/family.py --show

`labels`: the share of samples that show the requested class, read by the oracle of `sprites`, or for digits by a support vector
machine trained on real ones; the share in the worst class; and `style`, how consistent the meaning of latents is across
classes. `codes`: InfoGAN's lower bound of the mutual information between the categorical code and the samples, in nats, on
fresh latents; and the error of the code as a classifier of real images (each category is named after its most frequent class in
one half and tested on the other), with and without the information term. `encoders`, on training images: accuracy of the
nearest neighbour among 1,000 labelled ones in the encoder's space, compared with pixels, and the share of reconstructions that
are read as the same class. `energy`: EBGAN's energies of real and fake images, and the variety of its samples, with and without
pull-away. `labelled`: the test error of a classifier trained on --labels labelled images, with and without all other images
unlabelled; each seed chooses other images. `vectors`: VAE/GAN's attribute vectors on sprites: the difference of the mean codes
with and without an attribute is added to codes of images without it; rows hold the share of results in which the oracle is sure
to see the attribute, compared with plain reconstructions, and the share of the other attributes that are unchanged; one row
says what other real pictures would reach. `boosting`: modes covered by the first t components of AdaGAN, of bagging, and by the
best single component. `samples`: for recipes that claim only good samples of digits, the share that a classifier of real ones
is confident of, the divergence of the predicted classes from the uniform distribution, and KID. One row per run; `--show`
prints the tables of all parts, and those of `bench/remedies.py` and `bench/divergences.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from math import log
from pathlib import Path
from typing import Any, cast

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
from leafwing.data import Dataset, built_in, load
from leafwing.engine.probe import downsample, mean_distance
from leafwing.machine import versions
from leafwing.metrics import modes
from leafwing.pixels import to_floats
from leafwing.progress import ConsoleReporter
from rows import argument_parser, store

Classifier = Callable[[Tensor], np.ndarray]
COMPONENTS = 5
PARTS = {"shape": (0, 6), "colour": (6, 12), "how_large": (12, 14), "background": (19, 23)}
"""Columns of the attributes of sprites, by kind."""
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
"""Columns of the tables, by part."""
HIDDEN = ("labelled_seed", "hold_out")
SAMPLES = 1_000
"""Number of labelled images for the nearest neighbours, and of samples that are read."""


def floats(data: Dataset, rows: np.ndarray) -> Tensor:
    """Images as float32 (n, channels, height, width) in [-1, 1]."""
    return to_floats(torch.from_numpy(data.pictures(rows)).permute(0, 3, 1, 2))


def pixels(samples: Tensor) -> np.ndarray:
    """Images averaged to 16x16, as vectors."""
    return torch.nn.functional.adaptive_avg_pool2d(samples, 16).flatten(1).numpy()


def reader(data: Dataset) -> Classifier:
    """A classifier of images: the oracle for sprites, at any confidence, otherwise a support vector machine."""
    if data.source == "sprites":

        def read(samples: Tensor) -> np.ndarray:
            return sprites.read(samples.permute(0, 2, 3, 1).numpy()).scenes.shape

        return read
    order = np.random.default_rng(0).permutation(len(data))[:10_000]
    machine = SVC(C=10.0).fit(pixels(floats(data, order)), data.columns["label"][order])
    return lambda samples: machine.predict(pixels(samples))


def trained(
    args: argparse.Namespace, recipe: str, seed: int, **options: Any
) -> Iterator[tuple[leafwing.Model, dict[str, Any]]]:
    """Train a recipe; yields the model, whose folder is temporary, and the row of the run."""
    all_options = {**dict(option.split("=") for option in args.option), **options}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = leafwing.train(
            args.source, recipe, images=args.images, seed=seed, threads=args.threads, size=image_size(args), out=Path(folder, "run"),
            progress=ConsoleReporter(), **all_options,
        )  # fmt: skip
        if run.stop_reason != "images":
            raise SystemExit("interrupted: no row is written for an incomplete training")
        machine = run.settings.machine
        yield (
            leafwing.Model.load(run),
            {
                "bench": "family",
                "part": args.part,
                "source": Path(args.source).name,
                "size": args.size,
                "recipe": recipe,
                "options": all_options,
                "seed": seed,
                "images": run.records()[-1]["images"],
                "seconds": round(time.perf_counter() - started, 1),
                "precision": machine.precision,
                "threads": machine.threads,
                **run.config["versions"],
            },
        )


def image_size(args: argparse.Namespace) -> int | None:
    """The image size; None for points."""
    return None if args.source in ("ring", "grid") else args.size


def seeds(args: argparse.Namespace) -> range:
    """The random seeds."""
    return range(args.first_seed, args.first_seed + args.seeds)


def style(model: leafwing.Model, n: int = 200) -> float:
    """The share of the variance of brightness within classes that latents explain equally in all classes; 1 / classes by chance."""
    latents, classes = model.latents(n, seed=2), len(model.labels)
    ink = torch.stack([model.generate(latents, label=label).mean((1, 2, 3)) for label in range(classes)])  # (classes, n)
    within = ink - ink.mean(1, keepdim=True)
    return float(within.mean(0).square().mean() / within.square().mean())


def labels(args: argparse.Namespace) -> None:
    """The part `labels`."""
    data = load(args.source, size=args.size)
    read = reader(data)
    classes = len(data.spec.labels)
    for recipe in args.recipes or ["cgan", "acgan"]:
        for seed in seeds(args):
            for model, row in trained(args, recipe, seed):
                requested = np.arange(SAMPLES // classes * classes) % classes
                samples = model.sample(len(requested), seed=1, label=requested.tolist())
                correct = read(samples) == requested
                each = [round(float(correct[requested == label].mean()), 4) for label in range(classes)]
                scores = {"read_as_asked": round(float(correct.mean()), 4), "worst_class": min(each), "each_class": each}
                scores["style"] = round(style(model), 4)
                if data.source == "sprites":
                    scores["sure"] = round(float(attributes(samples)[1].mean()), 4)
                store({**row, **scores}, args.results)


def information_of_category(model: leafwing.Model, samples: int = 2_000) -> float:
    """InfoGAN's lower bound of the mutual information between the category and the samples, in nats, on fresh latents."""
    latents, prior, n = model.latents(samples, seed=1), cast(Any, model.output.prior), model.codes["category"]
    with torch.no_grad():
        logits = torch.cat([model.game.sampling_nets.D(batch)[1][:, :n] for batch in model.generate(latents).split(200)])
    return log(n) - cross_entropy(logits, prior.parts(latents)["category"]).item()


def codes(args: argparse.Namespace) -> None:
    """The part `codes`."""
    data = load(args.source, size=args.size)
    order = np.random.default_rng(0).permutation(len(data))[:10_000]
    real, classes = floats(data, order), data.columns["label"][order]
    for information in (1.0, 0.0):
        for seed in seeds(args):
            for model, row in trained(args, "infogan", seed, information=information):
                bound, n = information_of_category(model), model.codes["category"]
                d = model.game.sampling_nets.D
                with torch.no_grad():
                    predicted = torch.cat([d(batch)[1][:, :n].argmax(1) for batch in real.split(200)]).numpy()
                half = len(predicted) // 2
                names = [np.bincount(classes[:half][predicted[:half] == code], minlength=n).argmax() for code in range(n)]
                error = float((np.array(names)[predicted[half:]] != classes[half:]).mean())
                scores = {"bound_nats": round(bound, 3), "of": round(log(n), 3), "error": round(error, 4)}
                store({**row, **scores, "classes_named": len(set(map(int, names)))}, args.results)


def encoders(args: argparse.Namespace) -> None:
    """The part `encoders`."""
    data = load(args.source, size=args.size)
    read = reader(data)
    order = np.random.default_rng(0).permutation(len(data))[: 2 * SAMPLES]
    pictures, classes = floats(data, order), data.columns["label"][order]

    def neighbours(space: np.ndarray) -> float:
        classifier = KNeighborsClassifier(1).fit(space[:SAMPLES], classes[:SAMPLES])
        return round(float((classifier.predict(space[SAMPLES:]) == classes[SAMPLES:]).mean()), 4)

    for recipe in args.recipes or ["bigan", "vaegan", "alpha_gan"]:
        for seed in seeds(args):
            for model, row in trained(args, recipe, seed):
                latents = model.encode(pictures)
                reconstructions = model.generate(latents)
                scores = {
                    "neighbour": neighbours(latents.numpy()),
                    "neighbour_pixels": neighbours(pictures.flatten(1).numpy()),
                    "class_kept": round(float((read(reconstructions[:SAMPLES]) == read(pictures[:SAMPLES])).mean()), 4),
                    "error_pixels": round(float((reconstructions - pictures).abs().mean()), 4),
                }
                store({**row, **scores}, args.results)


def energy(args: argparse.Namespace) -> None:
    """The part `energy`."""
    data = load(args.source, size=args.size)
    real = floats(data, np.arange(256))
    for pull in (0.1, 0.0):
        for seed in seeds(args):
            for model, row in trained(args, "ebgan", seed, pull=pull):
                samples = model.sample(256, seed=1)
                d = model.game.sampling_nets.D.train()  # uses the statistics of the batch, as in training
                with torch.no_grad():
                    energies = [-d(images).mean().item() for images in (real, samples)]
                scores = {
                    "energy_real": round(energies[0], 4),
                    "energy_fake": round(energies[1], 4),
                    "variety": round(float(mean_distance(downsample(samples)) / mean_distance(downsample(real))), 4),
                }
                store({**row, **scores}, args.results)


def labelled(args: argparse.Namespace) -> None:
    """The part `labelled`."""
    _, held_out = load(args.source, size=args.size).split(args.held_out)
    pictures, classes = (
        floats(held_out, np.arange(len(held_out))),
        held_out.columns["label"][held_out.to_rows(np.arange(len(held_out)))],
    )
    for weight in (0.5, 0.0):
        for seed in seeds(args):
            split = {"hold_out": args.held_out, "labelled": args.labels, "labelled_seed": seed}
            for model, row in trained(args, "improved_gan_semi", seed, unlabelled=weight, **split):
                wrong = model.classify(pictures).argmax(1).numpy() != classes
                store({**row, "error": round(float(wrong.mean()), 4), "of": len(wrong)}, args.results)


def vectors(args: argparse.Namespace) -> None:
    """The part `vectors`."""
    data = load(args.source, size=args.size)
    pictures = floats(data, np.random.default_rng(0).permutation(len(data))[: 2 * SAMPLES])
    present = attributes(pictures)[0]
    store_chance(args, present)
    for seed in seeds(args):
        for model, row in trained(args, "vaegan", seed):
            latents, scores = model.encode(pictures), {}
            reconstructed, sure_before = attributes(model.generate(latents))
            for part, (first, end) in PARTS.items():
                before, after, rest = [], [], []
                for column in range(first, end):
                    has_attribute = torch.from_numpy(present[:, column] == 1)
                    rows = (~has_attribute).nonzero().flatten()[:50]
                    changed, sure = attributes(
                        model.generate(latents[rows] + latents[has_attribute].mean(0) - latents[~has_attribute].mean(0))
                    )
                    other = [c for c in range(present.shape[1]) if not first <= c < end]
                    before.append((reconstructed[rows, column] * sure_before[rows]).mean())
                    after.append((changed[:, column] * sure).mean())
                    rest.append((changed[:, other] == reconstructed[rows][:, other]).mean())
                values = {"before": before, "after": after, "other_words_kept": rest}
                scores[part] = {name: round(float(np.mean(each)), 3) for name, each in values.items()}
            store({**row, **scores}, args.results)


def store_chance(args: argparse.Namespace, present: np.ndarray) -> None:
    """What an edit would reach that replaces every picture by another real one, as a row beside those of the part `vectors`."""
    other_pictures = np.random.default_rng(1).permutation(present)
    scores = {}
    for part, (first, end) in PARTS.items():
        others = np.delete(np.arange(present.shape[1]), np.arange(first, end))
        kept, share = (present[:, others] == other_pictures[:, others]).mean(), present[:, first:end].mean()
        scores[part] = {"before": round(share, 3), "after": round(share, 3), "other_words_kept": round(kept, 3)}
    about = {"bench": "family", "part": "vectors", "source": args.source, "size": args.size, "recipe": "other real pictures"}
    store({**about, "options": {}, "seed": 1, "images": 0, **scores, **versions()}, args.results)


def attributes(samples: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The attributes that the oracle reads, uint8 (n, 23), and whether it is confident, bool (n,)."""
    read = sprites.read(samples.permute(0, 2, 3, 1).numpy())
    return read.scenes.attributes, read.sure


def boosting(args: argparse.Namespace) -> None:
    """The part `boosting`."""
    centres, sigma = built_in.modes(args.source), built_in.sigma(args.source)
    for weights in ("boost", "bagging"):
        for seed in seeds(args):
            for model, row in trained(args, "adagan", seed, weights=weights, components=COMPONENTS):

                def modes_of(components: list[int], model: leafwing.Model = model) -> modes.Coverage:
                    latents = model.latents(modes.SAMPLES[args.source], seed=1)
                    turns = torch.arange(len(latents)) % len(components)
                    latents[:, :COMPONENTS] = torch.eye(COMPONENTS)[torch.tensor(components)[turns]]
                    return modes.of_points(model.generate(latents).double().numpy(), centres, sigma)

                first = [modes_of(list(range(t + 1))) for t in range(COMPONENTS)]
                alone = [modes_of([t]) for t in range(COMPONENTS)]
                scores = {
                    "modes_of_first": [coverage.modes for coverage in first],
                    "good_of_first": [round(coverage.high_quality, 3) for coverage in first],
                    "modes_alone": [coverage.modes for coverage in alone],
                    "of": len(centres),
                }
                store({**row, **scores}, args.results)


def samples(args: argparse.Namespace) -> None:
    """The part `samples`."""
    for recipe in args.recipes:
        for seed in seeds(args):
            for model, row in trained(args, recipe, seed):
                store({**row, **remedies.score_digits(model)}, args.results)


def cell(value: Any) -> str:
    """A cell of a table: a number, a list, or the effect of an attribute vector."""
    if isinstance(value, dict):
        return f"{value['before']:.0%} to {value['after']:.0%}, others kept {value['other_words_kept']:.0%}"
    return str(value)


def show(results: Path) -> None:
    """Print the tables of docs/results/family.md: the newest row of each case and seed."""
    newest = {}
    for row in map(json.loads, results.read_text().splitlines()):
        row["shown_options"] = " ".join(f"{name}={value}" for name, value in row["options"].items() if name not in HIDDEN)
        newest[row["part"], row["source"], row["size"], row["recipe"], row["shown_options"], row["images"], row["seed"]] = (
            row
        )
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for key, row in newest.items():
        groups.setdefault(key[:-1], []).append(row)
    for part in dict.fromkeys(key[0] for key in groups):
        names = COLUMNS[part]
        print(f"\n### {part}\n\n| data | size | recipe | options | images | seeds | " + " | ".join(names) + " |")
        print("| --- " * (6 + len(names)) + "|")
        for (group, source, size, recipe, options, images), rows in groups.items():
            if group == part:
                cells = [", ".join(cell(row[name]) for row in rows if name in row) for name in names]
                size_text = "" if source in ("ring", "grid") else str(size)
                about = [
                    source,
                    size_text,
                    f"`{recipe}`",
                    options,
                    f"{images:,}",
                    ", ".join(str(row["seed"]) for row in rows),
                ]
                print("| " + " | ".join([*about, *cells]) + " |")


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("part", choices=list(COLUMNS), nargs="?", help="see above")
    parser.add_argument("recipes", nargs="*", help="recipes to train; by default those of the part")
    parser.add_argument("--source", default="digits", help="built-in data set or folder")
    parser.add_argument("--size", type=int, default=32, help="image size in pixels")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--images", default="50k", help="training length in images, such as 50k")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--option", action="append", default=[], help="option of the recipe, name=value; repeatable")
    parser.add_argument("--labels", type=int, default=100, help="labelled images, for `labelled`")
    parser.add_argument("--held-out", type=int, default=10_000, help="test images, for `labelled`")
    parser.add_argument("--show", action="store_true", help="only print the tables of existing rows")
    args = parser.parse_args()
    if args.show:
        show(args.results)
        print("\n### remedies")
        remedies.show(remedies.RESULTS)
        print("\n### divergences\n")
        divergences.table(divergences.RESULTS)
        return
    parts = {"labels": labels, "codes": codes, "encoders": encoders, "energy": energy}
    (parts | {"labelled": labelled, "vectors": vectors, "boosting": boosting, "samples": samples})[args.part](args)


if __name__ == "__main__":
    main()

"""Methods of translation, measured on sprites, beside the same training without what is special about them.

    python bench/zoo.py pairs --seeds 3
    python bench/zoo.py edges --seeds 3
    python bench/zoo.py attributes --seeds 3
    python bench/zoo.py stack --seeds 3
    python bench/zoo.py steerable --seeds 3

pairs       `pix2pix`: outlines in the sprite's colour, on its background, become filled sprites, learnt from pairs; the share of
            shapes, colours, sizes and places that the oracle reads as in the original, with the adversarial loss and with the L1
            distance alone. Every combination of words that is held out is new.
edges       `sggan_gradient`: outlines become filled sprites, and back; how well the edges of held-out sprites are kept at the shapes'
            border, with the gradient-sensitive loss and without.
attributes  `sggan_sparse`: attributes that the oracle reads after they were set, and those that stayed; with few labels and with all.
stack       `sgan_ct`: noisy sprites of a quarter of the size are denoised and enlarged; PSNR beside bicubic enlargement, and of
            the denoised images beside the noisy ones.
steerable   `sgan_mra`: outlines from two noisy contrasts; PSNR, and agreement of edges, with the steerable-filter term and without.

Each row is one training, by default with one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from leafwing import recipes
from leafwing.data import load
from leafwing.data.dataset import Dataset
from leafwing.engine import Engine, choose
from leafwing.fields import Attributes, Image
from leafwing.game import Batch, DataSpec
from leafwing.loop import Training
from leafwing.machine import versions
from leafwing.model import Model
from leafwing.parts.steerable import changes, gradient
from leafwing.quantities import count
from leafwing.sprites import ATTRIBUTE_NAMES, Reading, agreement, read, scenes
from leafwing.sprites.draw import LINE, draw
from leafwing.sprites.scene import COMBINATIONS, Scenes
from rows import argument_parser, store

HELD_OUT = 600
EDITED = ("colour", "background")


def train(recipe: str, data: Dataset, images: int, seed: int, threads: int, options: Mapping[str, Any]) -> Model:
    """A model trained in memory."""
    torch.manual_seed(seed)
    game = recipes.build(recipe, recipes.find(recipe), data.spec, recipes.describe(recipe).resolve(dict(options)))
    engine = Engine(game, choose("cpu", "fp32", threads))
    training = Training(game, data.batches(seed), engine, images=images, batch=game.batch)
    for tick in training.ticks(max(1, images // 10)):
        print(tick.clock.images, {name: round(loss, 3) for name, loss in tick.losses.items()}, flush=True)
    return Model(game, data.spec, clock=training.clock)


def held_out(data: Dataset, n: int = HELD_OUT) -> Batch:
    """The first n samples of a data set, as networks see them."""
    return data.to_network(data.batch(0, 0, n))


def edited_data(size: int) -> Dataset:
    """Sprites with the attributes of `EDITED` only."""
    data = load("sprites", size=size, fields="label,attributes")
    columns = [i for i, name in enumerate(ATTRIBUTE_NAMES) if name.partition("=")[0] in EDITED]
    kind = Attributes(tuple(ATTRIBUTE_NAMES[i] for i in columns))
    attributes = np.ascontiguousarray(data.columns["attributes"][:, columns])
    spec = replace(data.spec, fields={**data.spec.fields, "attributes": kind})
    return replace(data, spec=spec, columns={**data.columns, "attributes": attributes})


def measure_attributes(images: int, seed: int, threads: int, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """Random other values are set; the share that the oracle reads, and the shares of the parts that stay."""
    labelled = int(options.pop("labelled", 0))
    training, rest = edited_data(size).split(HELD_OUT)
    training = training.with_labelled_stream(labelled) if labelled else training
    model = train("sggan_sparse", training, images, seed, threads, options)
    batch, row = held_out(rest), {}
    before, generator = read(batch.image), torch.Generator().manual_seed(0)
    for part in EDITED:
        words = [name.partition("=")[2] for name in training.spec.attributes if name.startswith(f"{part}=")]
        now = torch.from_numpy(getattr(before.scenes, part))
        other = (now + torch.randint(1, len(words), now.shape, generator=generator)) % len(words)
        changed = torch.empty_like(batch.image)
        for index, word in enumerate(words):
            rows = other == index
            changed[rows] = model.translate(batch.image[rows], attributes={part: word})
        after = read(changed)
        row[f"{part}_set"] = share(after, getattr(after.scenes, part) == other.numpy())
        for other_part in ("shape", "colour", "size", "place", "background"):
            if other_part != part:
                row[f"{part}_keeps_{other_part}"] = share(
                    after, getattr(after.scenes, other_part) == getattr(before.scenes, other_part)
                )
    return row


def share(reading: Reading, right: np.ndarray) -> float:
    """The share of images that the oracle reads with confidence, and as they should be."""
    return round(float((right & reading.sure).mean()), 4)


def measure_pairs(images: int, seed: int, threads: int, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """Shares of parts that the oracle reads as in the originals, of combinations that were held out; the L1 distance to these."""
    sample = scenes(4 * COMBINATIONS)
    new = np.isin(sample.combination, np.random.default_rng(0).permutation(COMBINATIONS)[:HELD_OUT])
    unseen = sample.rows(np.flatnonzero(new)[:HELD_OUT])
    model = train("pix2pix", outlined(sample.rows(~new), size), images, seed, threads, options)
    batch = held_out(outlined(unseen, size))
    generated = model.translate(batch.input)
    shares = agreement(read(generated), read(batch.image).scenes)
    row = {{"size": "how_large"}.get(part, part): round(share, 4) for part, share in shares.items()}
    return {**row, "l1": round(float((batch.image - generated).abs().mean()), 4)}


def outlined(sample: Scenes, size: int) -> Dataset:
    """Filled sprites as images, and their outlines, in the same colours, as inputs."""
    columns = {"image": draw(sample, size), "input": draw(sample, size, line=LINE)}
    spec = DataSpec({name: Image(size, size, 3) for name in columns})
    return Dataset(spec, columns, "outlined", "outlined", {"mirror": False})


def measure_edges(images: int, seed: int, threads: int, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """Agreement of edges of originals and translations in both directions; the share of outlines whose shape is kept."""
    training, rest = load("sprites", size=size, input="unpaired", fields="segmentation").split(HELD_OUT)
    model = train("sggan_gradient", training, images, seed, threads, options)
    batch = held_out(rest)
    filled, outlines = model.translate(batch.input, output="image"), model.translate(batch.image, output="input")
    shape = batch.input_segmentation.flatten(2).sum(2)[:, 1:].argmax(1).numpy()
    after = read(filled)
    return {
        "edges_of_filled": edge_agreement(batch.input, filled, batch.input_segmentation),
        "edges_of_outlines": edge_agreement(batch.image, outlines, batch.segmentation),
        "shape_kept": share(after, after.scenes.shape == shape),
    }


def edge_agreement(x: Tensor, y: Tensor, maps: Tensor | None = None) -> float:
    """Mean correlation of the gradients' magnitudes of two sets of images; with classes, that of y with their border."""
    target = strength(x) if maps is None else changes(maps)[:, 0]
    first, second = ((part - part.mean((1, 2), keepdim=True)).flatten(1) for part in (target, strength(y)))
    return round(float(torch.nn.functional.cosine_similarity(first, second).mean()), 4)


def strength(x: Tensor) -> Tensor:
    """The magnitude of the gradient, averaged over channels: (n, height, width)."""
    return gradient(x).square().sum(2).sqrt().mean(1)


def measure_stack(images: int, seed: int, threads: int, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """PSNR of held-out sprites from noisy ones of a quarter of the size, and of the noisy and the denoised small ones."""
    training, rest = load("sprites", size=size, input="low", fields="label").split(HELD_OUT)
    model = train("sgan_ct", training, images, seed, threads, options)
    batch = held_out(rest)
    noise = float(recipes.describe("sgan_ct").resolve(options)["noise"])
    generator = torch.Generator().manual_seed(0)
    noisy = (batch.input + noise * torch.randn(batch.input.shape, generator=generator)).clamp(-1, 1)
    bicubic = interpolate(noisy, batch.image.shape[2:], mode="bicubic").clamp(-1, 1)
    return {
        "psnr_bicubic": psnr(batch.image, bicubic),
        "psnr_bicubic_without_noise": psnr(batch.image, interpolate(batch.input, batch.image.shape[2:], mode="bicubic")),
        "psnr": psnr(batch.image, model.translate(noisy)),
        "psnr_small_noisy": psnr(batch.input, noisy),
        "psnr_small": psnr(batch.input, model.translate(noisy, output="denoised")),
    }


def psnr(x: Tensor, y: Tensor) -> float:
    """10 log10(4 / mean squared error) of each image with pixels from -1 to 1, averaged: dB."""
    return round(float((4 / (x - y.clamp(-1, 1)).square().flatten(1).mean(1)).log10().mean() * 10), 3)


def contrasts(size: int, n: int = 4_000) -> Dataset:
    """Outlines as images, and two contrasts of the same sprites: colours, and the shape's map, both noisy and blurred."""
    data = load("sprites", size=size, fields="segmentation,edges")
    random = np.random.default_rng(0)
    colours = data.columns["image"][:n].astype(np.float32)
    shape = 255 * (data.columns["segmentation"][:n, :, :, None] > 0).astype(np.float32)
    columns = {"image": data.columns["edges"][:n]}
    for name, pixels in {"input": colours, "second": shape}.items():
        blurred = (pixels + np.roll(pixels, 1, 1) + np.roll(pixels, 1, 2) + np.roll(pixels, (1, 1), (1, 2))) / 4
        columns[name] = (blurred + random.normal(0, 60, pixels.shape)).clip(0, 255).astype(np.uint8)
    fields = {name: Image(size, size, column.shape[3]) for name, column in columns.items()}
    return Dataset(DataSpec(fields), columns, "contrasts", "contrasts", {"mirror": False})


def measure_steerable(images: int, seed: int, threads: int, size: int, options: dict[str, Any]) -> dict[str, Any]:
    """PSNR, L1 and agreement of edges of held-out outlines and those made of their contrasts."""
    training, rest = contrasts(size).split(HELD_OUT)
    model = train("sgan_mra", training, images, seed, threads, {"further": "second", **options})
    batch = held_out(rest)
    generated = model.translate(batch.input, second=batch.second)
    return {
        "psnr": psnr(batch.image, generated),
        "l1": round(float((batch.image - generated).abs().mean()), 4),
        "edges": edge_agreement(batch.image, generated),
    }


Measurement = Callable[[int, int, int, int, dict[str, Any]], dict[str, Any]]
CASES: dict[str, tuple[Measurement, str, list[dict[str, Any]]]] = {
    "pairs": (measure_pairs, "20k", [{}, {"adversarial": 0.0}]),
    "edges": (measure_edges, "20k", [{"edges": 5.0}, {"edges": 0.0}]),
    "attributes": (measure_attributes, "100k", [{"labelled": 1038}, {"labelled": 0}]),
    "stack": (measure_stack, "40k", [{}]),
    "steerable": (measure_steerable, "20k", [{"steerable": 100.0}, {"steerable": 0.0}]),
}
"""The measurement, its length and the options that it compares."""
SMALL = {"width": 16, "max_width": 64}


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("cases", nargs="+", choices=CASES, help="what to measure")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--images", help="training length in images; by default that of the case")
    parser.add_argument("--size", type=int, default=32, help="size of the images in pixels")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--option", action="append", default=[], help="option of the recipe, name=value; repeatable")
    args = parser.parse_args()
    chosen = dict(option.split("=", 1) for option in args.option)
    for case in args.cases:
        measure, length, choices = CASES[case]
        images = count(args.images or length, "--images")
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for choice in choices:
                started, cpu = time.perf_counter(), time.process_time()
                options = {**SMALL, **chosen, **choice}
                result = measure(images, seed, args.threads, args.size, dict(options))
                row = {"bench": "zoo", "case": case, "options": options, "seed": seed, "images": images, "size": args.size}
                row |= {
                    "seconds": round(time.perf_counter() - started, 1),
                    "cpu_seconds": round(time.process_time() - cpu, 1),
                }
                store({**row, **result, "threads": args.threads, **versions()}, args.results)


if __name__ == "__main__":
    main()

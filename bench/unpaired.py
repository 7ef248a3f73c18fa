"""Translators without pairs, on data where what should be kept is known.

    python bench/unpaired.py toy --seeds 5
    python bench/unpaired.py sprites --recipes cut cyclegan discogan --seeds 3 --images 20k
    python bench/unpaired.py cost --sizes 64 128

`toy` is the experiment of DiscoGAN's section 4.1: five Gaussians in the plane are translated to ten, by a GAN alone, with one-way
reconstruction and with both. A translated point is good within three standard deviations of the nearest mode of the ten. `covered` is
the number of modes that are hit, `collapsed` the number of the five that share the mode of most of their points with another one;
`back` is the root of the mean squared error of points translated there and back (only with a second translator).

`sprites` translates between outlines on white and filled sprites. An outline determines shape, colour, size and place of the sprite;
only the background is free. The oracle reads 1,000 translated outlines: rows hold the shares with the right shape, colour, size
(`how_large`) and place, and of those that can be read at all (`sure`). `back` is the mean absolute error of outlines translated there
and back, of a range of 2; recipes with one direction have none. `grey` is the error that their mean colour would have.

`cost` trains the recipes in turn in one process, with the same width and batch: medians of seconds per image, their ratios to the
first recipe, and the memory of a training by estimate. One row per run or recipe.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import leafwing
from leafwing import recipes, sprites
from leafwing.data import load
from leafwing.data import sprites as sprite_data
from leafwing.engine import Engine, choose, synchronise
from leafwing.engine.footprint import estimate_footprint
from leafwing.fields import Vector
from leafwing.game import Batch, Clock, DataSpec
from leafwing.loop import Training
from leafwing.machine import versions
from leafwing.model import Model
from leafwing.sprites import draw
from rows import argument_parser, store

RECIPES = ("cut", "cyclegan", "discogan")
VARIANTS = ("none", "one_way", "both")
TOY = DataSpec({"image": Vector(2), "input": Vector(2)}, unpaired=("input",))
SIGMA = 0.05
NEAR = 3.0


# --- five Gaussians to ten --------------------------------------------------------------------------------------------------


def centres(count: int) -> Tensor:
    """Centres of modes on a circle around the origin: of radius 0.5 for five, 1 for ten; (count, 2)."""
    turns = torch.arange(count) * (2 * torch.pi / count)
    return count / 10 * torch.stack([turns.cos(), turns.sin()], 1)


def toy_batches(seed: int) -> Any:
    """A source of batches: `input` from five modes, `image` from ten."""

    def at(images: int, n: int) -> Batch:
        generator = torch.Generator().manual_seed((seed << 32) + images)
        fields = {}
        for name, count in (("image", 10), ("input", 5)):
            modes = torch.randint(count, (n,), generator=generator)
            fields[name] = centres(count)[modes] + SIGMA * torch.randn(n, 2, generator=generator)
        return Batch(fields)

    return at


def train_toy(variant: str, seed: int, images: int, **options: Any) -> Model:
    """A translator of points; see the recipe `discogan` for the variants."""
    resolved = recipes.describe("discogan").resolve({"consistency": variant, **options}, points=True)
    torch.manual_seed(seed)
    game = recipes.build("discogan", recipes.find("discogan"), TOY, resolved)
    training = Training(game, toy_batches(seed), Engine(game, choose("cpu", "fp32", 1)), images=images, batch=game.batch)
    list(training.ticks(images))
    return Model(game, TOY, clock=training.clock)


def judge_toy(model: Model, n: int = 2_000) -> dict[str, Any]:
    """Modes that are covered and collapsed by translated points; see the description of this file."""
    target = centres(10)
    modes = torch.arange(n) % 5
    points = centres(5)[modes] + SIGMA * torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    translated = model.sample(n, input=points)
    distance, nearest = torch.cdist(translated, target).min(1)
    good = distance <= NEAR * SIGMA
    main = [torch.bincount(nearest[modes == mode], minlength=10).argmax().item() for mode in range(5)]
    row: dict[str, Any] = {
        "covered": len(nearest[good].unique()),
        "collapsed": sum(main.count(mode) > 1 for mode in main),
        "good": round(good.float().mean().item(), 4),
    }
    if "input" in (output.field for output in model.game.abilities.outputs):
        back = model.sample(n, output="input", image=translated)
        row["back"] = round((back - points).square().sum(1).mean().sqrt().item(), 4)
    return row


# --- outlines and filled sprites --------------------------------------------------------------------------------------------


def judge_sprites(model: Model, n: int = 1_000, examples: Path | None = None) -> dict[str, Any]:
    """What translated outlines have kept, according to the oracle; see the description of this file."""
    size = model.spec.height
    (outlines, truth), _ = draw.domains(sprite_data.UNPAIRED_COUNT, size, sprite_data._SEED)
    rows = np.random.default_rng(0).permutation(len(outlines))[:n]
    x = model.spec.fields["input"].to_network(torch.from_numpy(outlines[rows]))
    there = model.translate(x)
    shares = sprites.agreement(sprites.read(there), truth.rows(rows))
    row: dict[str, Any] = {part: round(shares[part], 4) for part in ("shape", "colour", "place", "sure")}
    row["how_large"] = round(shares["size"], 4)
    shown = [x, there]
    if len(model.game.abilities.outputs) > 1:
        shown.append(model.translate(there, output="input"))
        row["back"] = round((shown[-1] - x).abs().mean().item(), 4)
        row["grey"] = round((x - x.mean((0, 2, 3), keepdim=True)).abs().mean().item(), 4)
    if examples:
        strips = torch.cat([torch.cat([*part[:16]], 2) for part in shown], 1)
        from PIL import Image

        Image.fromarray(strips.add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()).save(examples)
    return row


def train_sprites(recipe: str, seed: int, args: Any) -> dict[str, Any]:
    """Trains on sprites; the row of the run."""
    available = {option.name for option in recipes.describe(recipe).options}
    options = {"width": args.width, "batch": args.batch} | dict(option.split("=") for option in args.option)
    options = {name: value for name, value in options.items() if value is not None and name in available}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = leafwing.train(
            "sprites", recipe, input="unpaired", size=args.size, images=args.images, seed=seed, threads=args.threads,
            precision=args.precision, health="off", out=Path(folder, "run"), **options,
        )  # fmt: skip
        if run.stop_reason != "images":
            raise SystemExit("interrupted: no row is written for an incomplete training")
        seconds = time.perf_counter() - started
        sheet = args.sheets / f"{recipe}-{seed}.png" if args.sheets else None
        return {
            "recipe": recipe, "options": options, "seed": seed, "size": args.size, "images": run.records()[-1]["images"],
            "precision": run.settings.machine.precision, "seconds": round(seconds, 1),
            **judge_sprites(Model.load(run), examples=sheet), **run.config["versions"],
        }  # fmt: skip


# --- cost -------------------------------------------------------------------------------------------------------------------


def compare_cost(names: list[str], size: int, args: Any) -> list[dict[str, Any]]:
    """Seconds and memory of an image for each recipe, trained in turn in this process."""
    data = load("sprites", size=size, input="unpaired")
    source, setup = data.batches(0), choose(args.device, threads=args.threads)
    trainings, memory = {}, {}
    for name in names:
        torch.manual_seed(0)
        options = recipes.describe(name).resolve({"width": args.width, "batch": args.batch or 4})
        game = recipes.build(name, recipes.find(name), data.spec, options)
        engine = Engine(game, setup)
        memory[name] = estimate_footprint(engine, source(0, 4), game.batch)
        trainings[name] = Training(game, source, engine, images=10**9, batch=game.batch)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(1 + args.repetitions):
        for name, training in trainings.items():
            rounds, before = 3, training.clock.images  # three rounds are a period of discogan
            training.clock = Clock(before, before + rounds * training.batch, training.clock.round)
            synchronise(setup.device)
            started = time.perf_counter()
            list(training.ticks(10**9))
            if repetition:
                seconds[name].append((time.perf_counter() - started) / (training.clock.images - before))
    return [
        {
            "recipe": name, "size": size, "width": args.width, "batch": trainings[name].batch, "device": setup.device,
            "threads": setup.threads, "precision": setup.precision,
            "ms": round(1000 * statistics.median(seconds[name]), 2),
            "time_ratio": round(
                statistics.median(a / b for a, b in zip(seconds[name], seconds[names[0]], strict=True)), 3
            ),
            "mib": round((memory[name].total - memory[name].base) / 2**20),
            "mib_per_image": round((memory[name].at(2 * args_batch(args)).total - memory[name].at(args_batch(args)).total)
                / args_batch(args) / 2**20, 1),
            **versions(),
        }
        for name in names
    ]  # fmt: skip


def args_batch(args: Any) -> int:
    """The batch size of `cost`."""
    return args.batch or 4


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("what", choices=("toy", "sprites", "cost"), help="what to measure")
    parser.add_argument(
        "--recipes", nargs="+", default=list(RECIPES), help="recipes to train; the toy is for discogan alone"
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--images", default="20k", help="training length in images, such as 50k; the toy has --points")
    parser.add_argument("--points", type=int, default=1_000_000, help="training length of the toy in points")
    parser.add_argument("--size", type=int, default=32, help="image size of sprites, in pixels")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="image sizes whose cost is measured")
    parser.add_argument("--width", type=int, default=16, help="width of the networks")
    parser.add_argument("--batch", type=int, help="batch size; by default that of the recipe, and 4 for the cost")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--precision", default="fp32", help="precision of sprites: fp32, or bf16 where it is faster")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps, for the cost")
    parser.add_argument("--repetitions", type=int, default=5, help="measurements of the cost")
    parser.add_argument(
        "--option", action="append", default=[], help="option of the recipes that have it, name=value; repeatable"
    )
    parser.add_argument("--sheets", type=Path, help="folder for images of sprites: outlines, translated, and back")
    args = parser.parse_args()
    if args.what == "toy":
        options = dict(option.split("=") for option in args.option)
        for variant in VARIANTS:
            for seed in range(args.seeds):
                started = time.perf_counter()
                model = train_toy(variant, seed, args.points, **options)
                row = {"seconds": round(time.perf_counter() - started, 1), **judge_toy(model)}
                about = {"recipe": "discogan", "choice": variant, "options": options, "seed": seed, "images": args.points}
                store({"bench": "unpaired", "case": "toy", **about, **row, **versions()}, args.results)
    elif args.what == "sprites":
        for seed in range(args.seeds):
            for recipe in args.recipes:
                store({"bench": "unpaired", "case": "sprites", **train_sprites(recipe, seed, args)}, args.results)
    else:
        for size in args.sizes:
            for row in compare_cost(args.recipes, size, args):
                store({"bench": "unpaired", "case": "cost", **row}, args.results)


if __name__ == "__main__":
    main()

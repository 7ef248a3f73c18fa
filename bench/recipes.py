"""The cost of each recipe relative to plain `dcgan`, compared with the cost of its arithmetic.

    python bench/recipes.py

Every installed recipe trains in turn with `dcgan` in one process, with the same batch size and, where its networks are
convolutional, the same width; medians of the paired ratios of seconds per real image. Also the ratio of floating-point operations
per real image: `excess` is the first ratio divided by the second, `excess_fp32` the same with both sides in fp32. Whole rounds are
counted, without bursts. Peak memory is read before `dcgan` is created. Then switches, each compared with the same training without
it: the moving average, R1 and R2, the gradient penalty in one turn of the critic, and the engine's convolutions for double
differentiation instead of PyTorch's. One row per comparison; the last line of output holds the excesses.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from leafwing import recipes
from leafwing.engine import Engine, Setup, choose, peak_memory, synchronise
from leafwing.engine.losses import differentiates_twice
from leafwing.engine.turns import WARM_UPS
from leafwing.errors import LeafwingError
from leafwing.game import Batch, Clock, DataSpec
from leafwing.loop import Training
from leafwing.machine import versions
from rows import argument_parser, store

CLASSES = tuple("0123456789")
ENDLESS = 10**12
BOUND = 1.5  # a higher excess is explained


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Args:
        recipe: an installed recipe.
        options: its hyper-parameters.
        penalties: whether the turns have losses besides their first.
        critic_alone: whether D's turn is the only one.
        double_backward: whether the engine's convolutions for double differentiation are used.
    """

    recipe: str
    options: dict[str, Any] = field(default_factory=dict)
    penalties: bool = True
    critic_alone: bool = False
    double_backward: bool = True


# --- trainings --------------------------------------------------------------------------------------------------------------


def pictures(size: int, channels: int) -> DataSpec:
    """Images of ten classes, like those of `digits`."""
    return DataSpec.images(size, size, channels, labels=CLASSES)


def trains_on(recipe: str, spec: DataSpec) -> bool:
    """Whether a recipe trains on labelled images; translators need further fields."""
    try:
        recipes.build(recipe, recipes.find(recipe), spec, recipes.describe(recipe).resolve({}))
    except LeafwingError:
        return False
    return True


def batches(spec: DataSpec) -> Callable[[int, int], Batch]:
    """Constant noise, stored and converted like images of a data set."""
    stored_by_size: dict[int, Batch] = {}

    def at(images: int, n: int) -> Batch:
        if n not in stored_by_size:
            generator = torch.Generator().manual_seed(n)
            pixels = torch.randint(0, 256, (n, *spec.shape[1:], spec.channels), dtype=torch.uint8, generator=generator)
            label = torch.randint(0, len(spec.labels), (n,), generator=generator)
            stored_by_size[n] = Batch(image=pixels, label=label)
        return Batch({name: spec.fields[name].to_network(stored) for name, stored in stored_by_size[n].items()})

    return at


def training_of(side: Side, spec: DataSpec, setup: Setup) -> Training:
    """A training of a recipe with those of the options that it has, without bursts of the critic.

    `width` is set only for recipes that also have `max_width`, where it counts channels.
    """
    card = recipes.describe(side.recipe)
    available = {option.name for option in card.options}
    hyper_parameters = {"burst_first": 0, "burst_every": 10**9, "burst": 5, **side.options}  # round 0 is always a burst
    if "max_width" not in available:
        hyper_parameters.pop("width", None)
    torch.manual_seed(0)
    options = card.resolve({name: value for name, value in hyper_parameters.items() if name in available})
    game = recipes.build(side.recipe, recipes.find(side.recipe), spec, options)
    if not side.penalties:
        game = replace(game, turns=[replace(turn, losses=turn.losses[:1]) for turn in game.turns])
    if side.critic_alone:
        game = replace(game, turns=game.turns[:1])
    engine = Engine(game, setup)
    engine.has_convolutions = engine.has_convolutions and side.double_backward
    return Training(game, batches(spec), engine, images=ENDLESS, batch=game.batch)


def rounds(training: Training, count: int) -> float:
    """Train `count` rounds; returns seconds per real image."""
    images = count * training.batch * max(1, training.game.turns[0].times(training.clock))
    training.clock = replace(training.clock, total=training.clock.images + images)
    synchronise(training.engine.setup.device)
    started = time.perf_counter()
    list(training.ticks(ENDLESS))
    return (time.perf_counter() - started) / images


# --- counting ---------------------------------------------------------------------------------------------------------------


class Arithmetic(TorchDispatchMode):
    """Counts the floating-point operations of convolutions and matrix products, and on a CPU their seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)  # by operation; convolutions and products are "counted"

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        started = time.perf_counter()
        out = function(*args, **kwargs)
        elapsed = time.perf_counter() - started
        operation = function.overloadpacket
        if operation is torch.ops.aten.convolution_backward:
            self.flops += backward_of_convolution(*args)
        elif operation in flop_registry:
            self.flops += flop_registry[operation](*args, **kwargs, out_val=out)
        else:
            self.seconds[str(operation).removeprefix("aten.")] += elapsed
            return out
        self.seconds["counted"] += elapsed
        return out


def backward_of_convolution(out: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """The operations of a forward pass for each of the two gradients that is requested.

    torch's own count of the weights' gradient ignores groups, and so is too large by their number.
    """
    transposed, mask = rest[4], rest[7]
    return 2 * (x if transposed else out)[:, 0].numel() * weight.numel() * (mask[0] + mask[1])


def arithmetic(training: Training, count: int = 1) -> tuple[float, dict[str, float]]:
    """Train `count` rounds: floating-point operations per real image, and how a CPU spends the rest of its time.

    The shares of the time are `all`, outside the counted operations, and the three most expensive of those operations.
    """
    engine, before, started = training.engine, training.clock.images, time.perf_counter()
    capture_backend, engine.capture_backend = engine.capture_backend, None  # replayed operations cannot be counted
    with Arithmetic() as counter:
        rounds(training, count)
    engine.capture_backend = capture_backend
    elapsed = time.perf_counter() - started
    shares = {"all": 1 - counter.seconds.pop("counted") / elapsed}
    slowest = sorted(counter.seconds, key=lambda operation: -counter.seconds[operation])[:3]
    shares |= {operation: counter.seconds[operation] / elapsed for operation in slowest}
    return counter.flops / (training.clock.images - before), {name: round(share, 3) for name, share in shares.items()}


# --- comparing --------------------------------------------------------------------------------------------------------------


def compare(
    this: Side, other: Side, spec: DataSpec, setup_options: dict[str, Any], repetitions: int, seconds: float
) -> dict[str, Any]:
    """Measure two sides in turn, in this process, which must be new."""
    setup = choose(**setup_options)
    device, warm = setup.device, 2 + WARM_UPS * setup.capture
    training = training_of(this, spec, setup)
    rounds(training, warm)
    peak = peak_memory(device)
    reference = training_of(other, spec, setup)
    rounds(reference, warm)
    sides = {"this": training, "other": reference}
    counts = {}
    for side, side_training in sides.items():
        before = side_training.clock.images
        elapsed = rounds(side_training, 1) * (side_training.clock.images - before)
        counts[side] = max(1, round(seconds / elapsed))
    flops = {side: arithmetic(side_training, counts[side]) for side, side_training in sides.items()}
    seconds_per_image: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repetitions):
        for side, side_training in sides.items():
            seconds_per_image[side].append(rounds(side_training, counts[side]))
    pairs = [a / b for a, b in zip(seconds_per_image["this"], seconds_per_image["other"], strict=True)]
    time_ratio, flop_ratio = statistics.median(pairs), flops["this"][0] / flops["other"][0]
    return {
        "images_per_second": round(1 / statistics.median(seconds_per_image["this"]), 1),
        "other_images_per_second": round(1 / statistics.median(seconds_per_image["other"]), 1),
        "peak_mib": round(peak / 2**20),
        "mflop_per_image": round(flops["this"][0] / 1e6, 2),
        "time_ratio": round(time_ratio, 3),
        "time_ratio_low": round(min(pairs), 3),
        "time_ratio_high": round(max(pairs), 3),
        "flop_ratio": round(flop_ratio, 3),
        "excess": round(time_ratio / flop_ratio, 3),
        "watched": any(map(differentiates_twice, training.game.turns)),
        "precision": setup.precision,
        "threads": setup.threads,
        "turn_ms": {turn.moves: round(1000 * seconds_of_turn(training, i), 2) for i, turn in enumerate(training.game.turns)},
        "other_turn_ms": {
            turn.moves: round(1000 * seconds_of_turn(reference, i), 2) for i, turn in enumerate(reference.game.turns)
        },
        "outside_arithmetic": {side: shares for side, (_, shares) in flops.items() if device == "cpu"},
    }


def seconds_of_turn(training: Training, number: int, times: int = 3) -> float:
    """The median time of one turn, including its round."""
    engine, seconds = training.engine, []
    batch = engine.prepare(training.batches(0, training.batch))
    warm = 1 + WARM_UPS if engine.capture_backend else 0
    for _ in range(warm + times):
        synchronise(engine.setup.device)
        started = time.perf_counter()
        engine.take([training.game.turns[number]], batch, Clock(0, ENDLESS, 0))
        synchronise(engine.setup.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[warm:])


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, because peak memory and allocator settings belong to a process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def reason(row: dict[str, Any]) -> str:
    """An explanation of an excess above the bound, from the measurements."""
    reasons = []
    if "excess_fp32" in row:
        prefix = "its turns with double differentiation run in fp32; " if row["watched"] else ""
        reasons.append(f"{prefix}with both sides in fp32 the excess is {row['excess_fp32']}")
    if row["outside_arithmetic"]:
        this, other = row["outside_arithmetic"].values()
        if this["all"] > other["all"]:
            operations = ", ".join(f"{name} {share:.0%}" for name, share in this.items() if name != "all")
            reasons.append(
                f"{this['all']:.0%} of its time is outside convolutions and matrix products ({operations}), "
                f"{other['all']:.0%} of the other's"
            )
    return "; ".join(reasons) or "not determined"


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("names", nargs="*", help="recipes and switches; by default all")
    parser.add_argument("--size", type=int, default=32, help="image size in pixels")
    parser.add_argument("--channels", type=int, default=1, help="image channels")
    parser.add_argument("--width", type=int, default=32, help="width of the networks")
    parser.add_argument("--batch", type=int, default=32, help="batch size")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--repetitions", type=int, default=5, help="number of repetitions")
    parser.add_argument("--seconds", type=float, default=0.3, help="seconds per side and repetition")
    args = parser.parse_args()
    setup = choose(args.device, threads=args.threads or torch.get_num_threads())
    spec = pictures(args.size, args.channels)
    common = {"width": args.width, "batch": args.batch}
    plain = Side("dcgan", common)
    cases = {name: (Side(name, common), plain) for name in recipes.names() if trains_on(name, spec)}
    cases["switch: ema"] = Side("dcgan", {**common, "ema": 10_000}), plain
    cases["switch: r1 and r2"] = Side("r3gan", common), Side("r3gan", common, penalties=False)
    cases["switch: gradient penalty"] = (
        Side("wgan_gp", common, critic_alone=True),
        Side("wgan_gp", common, penalties=False, critic_alone=True),
    )
    for name in ("r3gan", "wgan_gp"):
        cases[f"switch: double backward, {name}"] = Side(name, common), Side(name, common, double_backward=False)
    if unknown := set(args.names) - set(cases):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(cases)}")
    cases = {name: case for name, case in cases.items() if name in (args.names or cases)}
    about = {"size": args.size, "channels": args.channels, **common, "device": setup.device, **versions()}
    summary: dict[str, float] = {}
    for name, (this, other) in cases.items():
        setup_options = {"device": setup.device, "precision": setup.precision, "threads": setup.threads}
        arguments = (args.repetitions, args.seconds)
        row = alone(compare, this, other, spec, setup_options, *arguments)
        if setup.precision != "fp32" and (row["watched"] or row["excess"] > BOUND):
            exact = alone(compare, this, other, spec, {**setup_options, "precision": "fp32"}, *arguments)
            row |= {f"{key}_fp32": exact[key] for key in ("time_ratio", "excess")}
        if row["excess"] > BOUND:
            row["reason"] = reason(row)
        beside = "the same without" if name.startswith("switch") else other.recipe
        store({"bench": "recipes", "case": name, "recipe": this.recipe, "beside": beside, **row, **about}, args.results)
        if "reason" in row:
            print(f"{name}: excess {row['excess']}: {row['reason']}", flush=True)
        summary[name] = row["excess"]
    print(json.dumps(summary))


if __name__ == "__main__":
    main()

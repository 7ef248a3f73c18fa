"""What does each recipe cost beside plain `dcgan`, and is that what its arithmetic asks for?

    python bench/recipes.py

Every installed recipe trains in turn with `dcgan` in one process, at the same batch and, where its networks are convolutional, the
same width; medians of the pairs' ratios of seconds for a real image. Beside them the ratio of floating-point operations for a real
image: `excess` is the one divided by the other, `excess_fp32` the same with both sides in fp32. Whole rounds are counted, bursts
left out. Peak memory is read before `dcgan` joins. Then switches, each on beside off: the averaged copy, R1 and R2, the gradient
penalty of one turn of the critic, and convolutions made for second derivatives beside PyTorch's own. One JSON line a comparison
goes to --results; the last line holds the excesses alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from leafwing import recipes
from leafwing.engine import Engine, Setup, choose, peak_memory, synchronise
from leafwing.engine.turns import WARM_UPS, differentiates_twice
from leafwing.game import Batch, Clock, DataSpec
from leafwing.loop import Training
from leafwing.runs import versions
from rows import keep

CLASSES = tuple("0123456789")
ENDLESS = 10**12
BOUND = 1.5  # an excess above this wants a reason


@dataclass(frozen=True)
class Side:
    """What one side of a comparison trains.

    Args:
        recipe: an installed recipe.
        options: its hyper-parameters.
        penalties: whether the turns pay anything beside their first cost.
        critic_alone: whether the turn of D is the only one.
        double_backward: whether what is differentiated twice has convolutions made for it.
    """

    recipe: str
    options: dict[str, Any] = field(default_factory=dict)
    penalties: bool = True
    critic_alone: bool = False
    double_backward: bool = True


# --- what is trained ---------------------------------------------------------------------------------------------------------


def pictures(size: int, channels: int) -> DataSpec:
    """Pictures of ten classes, as `digits` has them."""
    return DataSpec(size, size, channels, labels=CLASSES, fields=("image", "label"))


def batches(spec: DataSpec) -> Callable[[int, int], Batch]:
    """The same noise every time, in the order that a pack has."""
    kept: dict[int, Batch] = {}

    def at(images: int, n: int) -> Batch:
        if n not in kept:
            generator = torch.Generator().manual_seed(n)
            pixels = torch.randint(0, 256, (n, *spec.shape[1:], spec.channels), dtype=torch.uint8, generator=generator)
            label = torch.randint(0, len(spec.labels), (n,), generator=generator)
            kept[n] = Batch(image=pixels.permute(0, 3, 1, 2), label=label)
        return kept[n]

    return at


def training_of(side: Side, spec: DataSpec, setup: Setup) -> Training:
    """A training of a recipe with those of the wanted options that it has; without bursts of the critic.

    `width` is channels where a recipe has `max_width` too, and is left at its default elsewhere.
    """
    card = recipes.describe(side.recipe)
    known = {option.name for option in card.options}
    wanted = {"burst_first": 0, "burst_every": 10**9, "burst": 5, **side.options}  # round 0 always is a burst
    if "max_width" not in known:
        wanted.pop("width", None)
    torch.manual_seed(0)
    options = card.resolve({name: value for name, value in wanted.items() if name in known})
    game = recipes.build(side.recipe, recipes.find(side.recipe), spec, options)
    if not side.penalties:
        game = replace(game, turns=[replace(turn, losses=turn.losses[:1]) for turn in game.turns])
    if side.critic_alone:
        game = replace(game, turns=game.turns[:1])
    engine = Engine(game, setup)
    engine.has_convolutions = engine.has_convolutions and side.double_backward
    return Training(game, batches(spec), engine, images=ENDLESS, batch=game.batch)


def rounds(training: Training, count: int) -> float:
    """Trains so many rounds; seconds for each real image."""
    images = count * training.batch * max(1, training.game.turns[0].times(training.clock))
    training.clock = replace(training.clock, total=training.clock.images + images)
    synchronise(training.engine.setup.device)
    started = time.perf_counter()
    list(training.ticks(ENDLESS))
    return (time.perf_counter() - started) / images


# --- counting ----------------------------------------------------------------------------------------------------------------


class Arithmetic(TorchDispatchMode):
    """Counts the floating-point operations of convolutions and matrix products, and on a CPU the seconds that they take."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.seconds: Counter[str] = Counter()  # by operation, those that are not counted alone

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        started = time.perf_counter()
        out = function(*args, **kwargs)
        took = time.perf_counter() - started
        operation = function.overloadpacket
        if operation is torch.ops.aten.convolution_backward:
            self.flops += backward_of_convolution(*args)
        elif operation in flop_registry:
            self.flops += flop_registry[operation](*args, **kwargs, out_val=out)
        else:
            self.seconds[str(operation).removeprefix("aten.")] += took
            return out
        self.seconds["counted"] += took
        return out


def backward_of_convolution(out: Tensor, x: Tensor, weight: Tensor, *about: Any) -> int:
    """As many operations as forwards for each of the two gradients that is asked for.

    torch's own count of the weights' gradient leaves the groups out, and so is too large by their number.
    """
    transposed, mask = about[4], about[7]
    return 2 * (x if transposed else out)[:, 0].numel() * weight.numel() * (mask[0] + mask[1])


def arithmetic(training: Training, count: int = 1) -> tuple[float, dict[str, float]]:
    """Trains so many rounds: floating-point operations for each real image, and where a CPU's time goes that is not theirs.

    Shares of the time: `all` that is not counted, and the three operations of it that take most.
    """
    engine, before, started = training.engine, training.clock.images, time.perf_counter()
    recorder, engine.recorder = engine.recorder, None  # what is replayed cannot be counted
    with Arithmetic() as counted:
        rounds(training, count)
    engine.recorder = recorder
    took = time.perf_counter() - started
    shares = {"all": 1 - counted.seconds.pop("counted") / took}
    shares |= {operation: seconds / took for operation, seconds in counted.seconds.most_common(3)}
    return counted.flops / (training.clock.images - before), {name: round(share, 3) for name, share in shares.items()}


# --- comparing ---------------------------------------------------------------------------------------------------------------


def compare(
    this: Side, other: Side, spec: DataSpec, how: dict[str, Any], repetitions: int, seconds: float
) -> dict[str, Any]:
    """One side in turn with the other, in this process, which has done nothing else."""
    setup = choose(**how)
    device, warm = setup.device, 2 + WARM_UPS * setup.capture
    training = training_of(this, spec, setup)
    rounds(training, warm)
    peak = peak_memory(device)
    reference = training_of(other, spec, setup)
    rounds(reference, warm)
    sides = {"this": training, "other": reference}
    counts = {}
    for side, one in sides.items():
        before = one.clock.images
        took = rounds(one, 1) * (one.clock.images - before)
        counts[side] = max(1, round(seconds / took))
    counted = {side: arithmetic(one, counts[side]) for side, one in sides.items()}
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repetitions):
        for side, one in sides.items():
            found[side].append(rounds(one, counts[side]))
    pairs = [a / b for a, b in zip(found["this"], found["other"], strict=True)]
    time_ratio, flop_ratio = statistics.median(pairs), counted["this"][0] / counted["other"][0]
    return {
        "images_per_second": round(1 / statistics.median(found["this"]), 1),
        "other_images_per_second": round(1 / statistics.median(found["other"]), 1),
        "peak_mib": round(peak / 2**20),
        "mflop_per_image": round(counted["this"][0] / 1e6, 2),
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
        "outside_arithmetic": {side: shares for side, (_, shares) in counted.items() if device == "cpu"},
    }


def seconds_of_turn(training: Training, number: int, times: int = 3) -> float:
    """The median time of one turn that plays a round of its own."""
    engine, took = training.engine, []
    batch = engine.prepare(training.batches(0, training.batch))
    warm = 1 + WARM_UPS if engine.recorder else 0
    for _ in range(warm + times):
        synchronise(engine.setup.device)
        started = time.perf_counter()
        engine.take([training.game.turns[number]], batch, Clock(0, ENDLESS, 0))
        synchronise(engine.setup.device)
        took.append(time.perf_counter() - started)
    return statistics.median(took[warm:])


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Does some work in a fresh process: peak memory and the allocator's settings are a whole process's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def reason(row: dict[str, Any]) -> str:
    """What the measurements say about an excess above the bound."""
    said = []
    if "excess_fp32" in row:
        runs = "its watched turns run in fp32; " if row["watched"] else ""
        said.append(f"{runs}with both sides in fp32 the excess is {row['excess_fp32']}")
    if row["outside_arithmetic"]:
        this, other = row["outside_arithmetic"].values()
        if this["all"] > other["all"]:
            most = ", ".join(f"{name} {share:.0%}" for name, share in this.items() if name != "all")
            said.append(
                f"{this['all']:.0%} of its time is outside convolutions and matrix products ({most}), "
                f"{other['all']:.0%} of the other's"
            )
    return "; ".join(said) or "not determined"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="recipes and switches; none: all")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each side in each repetition")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "recipes.jsonl")
    given = parser.parse_args()
    setup = choose(given.device, threads=given.threads or torch.get_num_threads())
    spec = pictures(given.size, given.channels)
    common = {"width": given.width, "batch": given.batch}
    plain = Side("dcgan", common)
    cases = {name: (Side(name, common), plain) for name in recipes.names()}
    cases["switch: ema"] = Side("dcgan", {**common, "ema": 10_000}), plain
    cases["switch: r1 and r2"] = Side("r3gan", common), Side("r3gan", common, penalties=False)
    cases["switch: gradient penalty"] = (
        Side("wgan_gp", common, critic_alone=True),
        Side("wgan_gp", common, penalties=False, critic_alone=True),
    )
    for name in ("r3gan", "wgan_gp"):
        cases[f"switch: double backward, {name}"] = Side(name, common), Side(name, common, double_backward=False)
    if unknown := set(given.names) - set(cases):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(cases)}")
    cases = {name: case for name, case in cases.items() if name in (given.names or cases)}
    about = {"size": given.size, "channels": given.channels, **common, "device": setup.device, **versions()}
    summary: dict[str, float] = {}
    for name, (this, other) in cases.items():
        how = {"device": setup.device, "precision": setup.precision, "threads": setup.threads}
        arguments = (given.repetitions, given.seconds)
        row = alone(compare, this, other, spec, how, *arguments)
        if setup.precision != "fp32" and (row["watched"] or row["excess"] > BOUND):
            exact = alone(compare, this, other, spec, {**how, "precision": "fp32"}, *arguments)
            row |= {f"{key}_fp32": exact[key] for key in ("time_ratio", "excess")}
        if row["excess"] > BOUND:
            row["reason"] = reason(row)
        beside = "the same without" if name.startswith("switch") else other.recipe
        keep({"bench": "recipes", "case": name, "recipe": this.recipe, "beside": beside, **row, **about}, given.results)
        if "reason" in row:
            print(f"{name}: excess {row['excess']}: {row['reason']}", flush=True)
        summary[name] = row["excess"]
    print(json.dumps(summary))


if __name__ == "__main__":
    main()

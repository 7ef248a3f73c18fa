"""The health monitor: its signals in healthy and faulty trainings, the alarms it raises, and its cost.

    python bench/health.py train --seeds 5 --logs FOLDER
    python bench/health.py judge --logs FOLDER
    python bench/health.py runs COMPARISON/runs/*
    python bench/health.py cost

`train` runs small trainings, healthy ones and others with a planted fault, and writes the monitor's records of each to FOLDER;
existing files are kept. `judge` prints the alarms for each file; it takes a second, so thresholds can be tried out. `runs` prints
the alarms that the current thresholds raise on the logs of run folders, such as those of a comparison. `cost` measures training
with and without the monitor, in turn. `--case` and `--fault` select trainings, `--pictures` is a folder for the cases that need
one. `judge`, `runs` and `cost` append one row per case to --results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from leafwing import health, recipes
from leafwing.commands.plan import build_augmentation
from leafwing.data import load
from leafwing.data.dataset import Dataset
from leafwing.engine import Engine, choose
from leafwing.engine.probe import Probe
from leafwing.errors import Diverged
from leafwing.game import BatchSource, Clock, Game
from leafwing.loop import Training
from leafwing.machine import versions
from leafwing.runs import Run
from rows import argument_parser, store

BEGINS = 0.4
"""Progress at which a late fault starts."""


@dataclass(frozen=True)
class Case:
    """A small training.

    Args:
        recipe: name of the recipe.
        data: name of a built-in data set, or "pictures" for the folder of --pictures.
        images: training length.
        options: options of the recipe.
        size: image size in pixels.
        first: number of training images, chosen by the seed, with others held out; 0 for all images.
        augment: random changes of what critics see; "": those of the recipe.
    """

    recipe: str
    data: str
    images: int
    options: dict[str, Any] = field(default_factory=dict)
    size: int | None = 16
    first: int = 0
    augment: str = ""


SMALL = {"width": 16, "batch": 64}
CIRCLES = {"width": 64, "batch": 256, "latent": 100, "lr_g": 1e-4, "lr_d": 1e-4}
CASES = {
    "dcgan": Case("dcgan", "digits", 40_000, SMALL),
    "dcgan_selu": Case("dcgan_selu", "digits", 40_000, SMALL),
    "lsgan": Case("lsgan", "digits", 40_000, SMALL | {"lr_g": 2e-4, "lr_d": 2e-4}),
    "cgan": Case("cgan", "digits", 40_000, SMALL),
    "wgan": Case("wgan", "digits", 100_000, SMALL | {"burst_first": 2, "lr_g": 2e-4, "lr_d": 2e-4}),
    "wgan_gp": Case("wgan_gp", "digits", 60_000, SMALL | {"lr_g": 3e-4, "lr_d": 3e-4}),
    "r3gan": Case("r3gan", "digits", 30_000, {"width": 8}),
    # With the recipes' default learning rates a short training hardly progresses, which is not a fault.
    "lsgan, slow": Case("lsgan", "digits", 40_000, SMALL, size=32),
    "wgan, slow": Case("wgan", "digits", 40_000, SMALL),
    "wgan_gp, slow": Case("wgan_gp", "digits", 40_000, SMALL),
    "dcgan, slow": Case("dcgan", "digits", 40_000, SMALL | {"lr_g": 2e-5, "lr_d": 2e-5}),
    "gan": Case("gan", "digits", 40_000, size=None),
    "gan on the ring": Case("gan", "ring", 150_000, size=None),
    "lsgan on the ring": Case("lsgan", "ring", 150_000, size=None),
    "wgan_gp on the ring": Case("wgan_gp", "ring", 300_000, size=None),
    "r3gan on the ring": Case("r3gan", "ring", 150_000, size=None),
    "dcgan on half": Case("dcgan", "digits", 80_000, SMALL, first=900),
    "dcgan on pictures": Case("dcgan", "pictures", 40_000, {"width": 24, "batch": 64}, size=32),
    "lsgan on pictures": Case("lsgan", "pictures", 40_000, SMALL, size=32),
    "wgan_gp on pictures": Case("wgan_gp", "pictures", 40_000, SMALL, size=32),
    "r3gan on pictures": Case("r3gan", "pictures", 20_000, {"width": 8}, size=32),
    "dcgan, diff": Case("dcgan", "digits", 40_000, SMALL, augment="diff"),
    "dcgan, ada": Case("dcgan", "digits", 40_000, SMALL, augment="ada"),
    "cgan, diff": Case("cgan", "digits", 40_000, SMALL, augment="diff"),
    "dcgan, diff, on pictures": Case("dcgan", "pictures", 40_000, {"width": 24, "batch": 64}, size=32, augment="diff"),
    "fastgan": Case("fastgan", "digits", 10_000, {"width": 8, "batch": 16, "distance": "pixels"}, size=32),
    "fastgan on pictures": Case("fastgan", "pictures", 10_000, {"width": 8, "batch": 16}, size=32),
    "projected on pictures": Case(
        "projected", "pictures", 10_000, {"width": 8, "mixed": 16, "batch": 32, "resolution": 32}, size=32
    ),
    # These fail without a planted fault.
    "dcgan on 16": Case("dcgan", "digits", 80_000, SMALL, first=16),
    "dcgan on 64": Case("dcgan", "digits", 80_000, SMALL, first=64),
    "dcgan, D far ahead": Case("dcgan", "digits", 40_000, SMALL | {"lr_g": 2e-5, "lr_d": 2e-3}),
    "dcgan on sprites, D far ahead": Case("dcgan", "sprites", 40_000, {"width": 8, "batch": 64, "lr_g": 2e-5, "lr_d": 2e-3}),
    "lsgan in circles": Case("lsgan", "ring", 100_000, CIRCLES, size=None),
    "gan swings": Case(
        "gan", "digits", 60_000, {"width": 256, "width_d": 64, "optimiser": "adam", "lr_g": 2e-4, "lr_d": 2e-4}
    ),
    "gan at the paper's rate": Case("gan", "digits", 40_000, {"lr_g": 0.1, "lr_d": 0.1}, size=None),
}
ILL = {
    "dcgan on 16": ("overfit",),
    "dcgan on 64": ("overfit",),
    "dcgan, D far ahead": ("critic",),
    "dcgan on sprites, D far ahead": ("critic",),
    "lsgan in circles": ("oscillation",),
    "gan swings": ("oscillation",),
    "gan at the paper's rate": ("nan", "explosion"),
}
"""Cases that fail by themselves, and the correct alarms."""


@dataclass(frozen=True)
class Fault:
    """A fault planted in a training.

    Args:
        plant: modifies the training.
        late: whether the fault starts only at the progress BEGINS.
        kinds: the correct alarms.
        cases: the cases in which the fault is harmful.
    """

    plant: Callable[[Training], None]
    late: bool
    kinds: tuple[str, ...]
    cases: tuple[str, ...]


def faster(players: str, times: float) -> Callable[[Training], None]:
    """A fault: the learning rates of these players are multiplied by `times`."""

    def plant(training: Training) -> None:
        for name in players:
            player = training.game.players[name]
            spec = player.optimiser
            assert spec is not None
            old = spec.lr

            def scheduled(clock: Clock, old: Any = old) -> float:
                return old(clock) * times

            player.optimiser = replace(cast(Any, spec), lr=scheduled if callable(old) else old * times)
        training.engine.scale_learning_rates(1.0)  # makes the optimisers use the new rates

    return plant


def deaf(training: Training) -> None:
    """A fault: the latents of G are all zero."""
    training.game.players["G"].net.register_forward_pre_hook(lambda net, args: (torch.zeros_like(args[0]), *args[1:]))


def not_a_number(training: Training) -> None:
    """A fault: one weight of G becomes nan."""
    with torch.no_grad():
        next(training.game.players["G"].net.parameters())[0] = float("nan")


MAIN = ("dcgan", "wgan_gp", "gan on the ring")
FAULTS = {
    "D learns 300 times as fast": Fault(
        faster("D", 300), False, ("critic", "oscillation", "explosion"), ("dcgan", "gan on the ring")
    ),
    "G does not learn": Fault(faster("G", 0), False, ("stagnation",), (*MAIN, "cgan")),
    "D does not learn": Fault(faster("D", 0), False, ("stagnation",), (*MAIN, "cgan")),
    "G is deaf": Fault(deaf, False, ("collapse",), (*MAIN, "cgan")),
    "G goes deaf": Fault(deaf, True, ("collapse",), (*MAIN, "cgan")),
    "G becomes 100 times as fast": Fault(faster("G", 100), True, ("collapse", "explosion"), ("dcgan", "gan on the ring")),
    "both become 100 times as fast": Fault(faster("GD", 100), True, ("collapse", "explosion", "oscillation"), MAIN),
    "both become 3000 times as fast": Fault(faster("GD", 3000), True, ("collapse", "explosion", "oscillation", "nan"), MAIN),
    "both are 300 times as fast": Fault(faster("GD", 300), False, ("oscillation", "explosion", "collapse"), MAIN),
    "a weight is lost": Fault(not_a_number, True, ("nan",), MAIN),
}


def dataset(case: Case, seed: int, pictures: str | None) -> tuple[Dataset, BatchSource | None]:
    """The training data of a case, and its held-out batches."""
    source = case.data if case.data != "pictures" else pictures
    assert source, "this case needs --pictures FOLDER"
    data = load(source, size=case.size)
    if not case.first:
        return data, None
    order = np.random.default_rng(seed).permutation(len(data))

    def part(rows: np.ndarray) -> Dataset:
        return replace(data, rows=rows)

    return part(order[: case.first]), part(order[case.first : case.first + 800]).batches(1)


def begin(case: Case, seed: int, pictures: str | None = None) -> tuple[Training, BatchSource | None]:
    """A new training of a case, on one thread."""
    data, held_out = dataset(case, seed, pictures)
    torch.manual_seed(seed)
    options = recipes.describe(case.recipe).resolve(case.options, points=data.spec.points)
    game: Game = recipes.build(case.recipe, recipes.find(case.recipe), data.spec, options)
    augmentation = build_augmentation(case.augment or game.augment, data.spec, case.images)
    engine = Engine(game, choose("cpu", "fp32", 1), augmentation=augmentation)
    return Training(game, data.batches(seed), engine, images=case.images, batch=game.batch), held_out


def watch(case: Case, fault: Fault | None, seed: int, pictures: str | None) -> list[dict[str, Any]]:
    """Train a case; returns the records of its log."""
    training, held_out = begin(case, seed, pictures)
    probe = Probe(training.engine, training.batches, held_out=held_out)
    every, last, records = health.interval(training.batch, case.images), 0, []
    if fault and not fault.late:
        fault.plant(training)
    planted = not (fault and fault.late)
    try:
        for tick in training.ticks(every):
            images = tick.clock.images
            record: dict[str, Any] = {"images": images, "round": tick.clock.round, "losses": dict(tick.losses)}
            if images // every != last // every:
                last, record["health"] = images, probe.measure(tick.clock)
            records.append(record)
            if not planted and tick.clock.progress >= BEGINS:
                planted = True
                fault.plant(training)  # type: ignore[union-attr]
    except Diverged as error:
        records.append({"images": training.clock.images, "losses": {}, "diverged": str(error)})
    return records


def trainings(args: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Case, fault and seed of every training; the fault of a healthy training is empty."""
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for name, case in CASES.items():
            if case.data == "pictures" and not args.pictures:
                continue
            for fault in ("", *FAULTS):
                if fault and name not in FAULTS[fault].cases:
                    continue
                if args.case in (None, name) and args.fault in (None, fault):
                    yield name, fault, seed


def file_of(logs: Path, case: str, fault: str, seed: int) -> Path:
    return logs / f"{case} - {fault or 'healthy'} - {seed}.json".replace(",", "")


def train(args: argparse.Namespace) -> None:
    """Train every case that has no file yet."""
    args.logs.mkdir(parents=True, exist_ok=True)
    for case, fault, seed in trainings(args):
        path = file_of(args.logs, case, fault, seed)
        if path.exists():
            continue
        started = time.perf_counter()
        records = watch(CASES[case], FAULTS.get(fault), seed, args.pictures)
        path.write_text(json.dumps({"case": case, "fault": fault, "seed": seed, "records": records}))
        print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)


# --- alarms -----------------------------------------------------------------------------------------------------------------


def margins(records: list[dict[str, Any]]) -> dict[str, float]:
    """For each rule the highest sustained value relative to its threshold; an alarm is raised at 1."""
    records_with_health = [record for record in records if "health" in record]
    if not records_with_health:
        return {}
    signals, ratios = health.Signals(records_with_health), {}
    for rule in health.rules(signals.players()):
        values = np.nan_to_num(rule.value(signals), nan=-np.inf)
        if len(values) >= rule.duration and np.isfinite(reached := sliding_window_view(values, rule.duration).min(1).max()):
            ratios[rule.symptom] = round(float(reached) / rule.threshold, 4)
    return ratios


def judge(args: argparse.Namespace) -> None:
    """One row per training: its alarms, its margins to others, and the quality of its last samples."""
    environment, rows = versions(), []
    for path in sorted(args.logs.glob("*.json")):
        case_info = json.loads(path.read_text())
        records = case_info.pop("records")
        looks = [record["health"] for record in records if "health" in record]
        start = BEGINS * CASES[case_info["case"]].images if case_info["fault"] and FAULTS[case_info["fault"]].late else 0
        alarms = [alarm for alarm in health.alarms(records) if alarm.raised >= start]
        row = {
            "bench": "health",
            **case_info,
            "looks": len(looks),
            "alarms": {alarm.symptom if alarm.kind != "nan" else "nan": alarm.raised for alarm in reversed(alarms)},
            "kinds": sorted({alarm.kind for alarm in alarms}),
            "margins": margins(records),
            "distance": round(float(np.median([look.get("distance", np.nan) for look in looks[-3:]])), 3),
            "variety": round(float(np.median([look.get("variety", np.nan) for look in looks[-3:]])), 3),
            **environment,
        }
        rows.append(row)
        store(row, args.results)
    print(rates(rows))


def runs(args: argparse.Namespace) -> None:
    """One row per run folder: its alarms, each with the number of images at which it was first raised."""
    rows = []
    for folder in args.folders:
        run = Run(folder)
        alarms = health.alarms(run.records())
        row = {
            "bench": "health",
            "case": f"{run.config['recipe']} on {Path(run.config['data']['source']).name}",
            "run": "/".join(Path(folder).parts[-3::2]),
            "seed": run.settings.schedule.seed,
            "images": run.records()[-1]["images"],
            "looks": sum("health" in record for record in run.records()),
            "alarms": {alarm.symptom if alarm.kind != "nan" else "nan": alarm.raised for alarm in reversed(alarms)},
            "kinds": sorted({alarm.kind for alarm in alarms}),
            **versions(),
        }
        rows.append(row)
        store(row, args.results)
    print(f"{sum(bool(row['kinds']) for row in rows)} of {len(rows)} raised an alarm")


def rates(rows: list[dict[str, Any]]) -> str:
    """Error rates: false alarms in healthy trainings, and detected faults."""
    healthy = [row for row in rows if not row["fault"] and row["case"] not in ILL]
    lines = [f"healthy: {sum(bool(row['kinds']) for row in healthy)} of {len(healthy)} raised an alarm"]
    correct_alarms = {fault: about.kinds for fault, about in FAULTS.items()} | ILL
    for name, kinds in correct_alarms.items():
        faulty = [row for row in rows if name in (row["fault"], row["case"])]
        lines.append(f"{name}: {sum(bool({*row['kinds']} & {*kinds}) for row in faulty)} of {len(faulty)} detected")
    return "\n".join(lines)


# --- cost -------------------------------------------------------------------------------------------------------------------

COSTS = {
    "dcgan, 64 px, width 64": Case("dcgan", "digits", 10**9, {"batch": 64}, size=64),
    "dcgan, 32 px, width 16": Case("dcgan", "digits", 10**9, SMALL, size=32),
    "wgan_gp, 32 px, width 16": Case("wgan_gp", "digits", 10**9, SMALL, size=32),
    "cgan, 32 px, width 16": Case("cgan", "digits", 10**9, SMALL, size=32),
    "r3gan, 32 px, width 8": Case("r3gan", "digits", 10**9, {"width": 8}, size=32),
    "gan, 32 px": Case("gan", "digits", 10**9, {}, size=32),
    "gan on the ring": Case("gan", "ring", 10**9, size=None),
}


def timed(work: Callable[[], object]) -> float:
    """Seconds of a function call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cost(args: argparse.Namespace) -> None:
    """Seconds from one health check ("look") to the next, with and without the check, in turn; alarms are computed from 500."""
    for name, case in COSTS.items():
        if args.case not in (None, name):
            continue
        training, _ = begin(case, 0)
        probe, records = Probe(training.engine, training.batches), []
        ticks = training.ticks(health.interval(training.batch, 0))

        def look() -> None:
            tick = next(ticks)  # noqa: B023
            signals = probe.measure(tick.clock)  # noqa: B023
            line = {"images": tick.clock.images, "round": tick.clock.round, "losses": dict(tick.losses), "health": signals}
            records.append(line)  # noqa: B023
            health.alarms((records * 500)[:500])  # noqa: B023

        look()
        without, looking = [], []
        for _ in range(args.times):
            without.append(timed(lambda: next(ticks)))  # noqa: B023
            looking.append(timed(look))
        ratios = [b / a - 1 for a, b in zip(without, looking, strict=True)]
        only = timed(lambda: [probe.measure(training.clock) for _ in range(10)]) / 10  # noqa: B023
        judging = timed(lambda: health.alarms((records * 500)[:500]))  # noqa: B023
        row = {
            "case": f"cost: {name}",
            "between_looks_s": round(float(np.median(without)), 3),
            "look_ms": round(1000 * only, 2),
            "judgement_ms": round(1000 * judging, 2),
            "share": round((only + judging) / float(np.median(without)), 4),
            "difference": round(float(np.median(ratios)), 4),
            "pairs": args.times,
        }
        store({"bench": "health", **row, "device": "cpu", "precision": "fp32", "threads": 1, **versions()}, args.results)


def main() -> None:
    parser = argument_parser(__doc__, __file__)
    parser.add_argument("part", choices=["train", "judge", "runs", "cost"], help="see above")
    parser.add_argument("folders", nargs="*", help="run folders, for `runs`")
    parser.add_argument("--logs", type=Path, default=Path("health-logs"), help="folder of records")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--case", help="only this case")
    parser.add_argument("--fault", help="only this fault; empty: only healthy trainings")
    parser.add_argument("--pictures", help="folder of images for the cases that need one")
    parser.add_argument("--times", type=int, default=20, help="timed pairs")
    args = parser.parse_args()
    {"train": train, "judge": judge, "runs": runs, "cost": cost}[args.part](args)


if __name__ == "__main__":
    main()

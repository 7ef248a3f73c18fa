"""The health monitor: what its signals look like in healthy and in ill trainings, which alarms they raise, and what looking costs.

    python bench/health.py train --seeds 5 --logs FOLDER
    python bench/health.py judge --logs FOLDER
    python bench/health.py runs COMPARISON/runs/*
    python bench/health.py cost

`train` trains small games, healthy ones and such in which a fault is planted, and leaves in FOLDER what the monitor saw of each;
a training whose file is there is not repeated. `judge` says for each file which alarms it raises; that takes a second, so
thresholds can be tried out. `runs` says of any run folders, such as those of a comparison, which alarms their logs raise by the
thresholds of now. `cost` measures seconds of training with and without the monitor, in turn. `--case` and `--fault` choose some
of the trainings, `--pictures` a folder for the cases that need pictures of one's own. `judge`, `runs` and `cost` append one JSON
line a case to --results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from leafwing import health, recipes
from leafwing.data import load
from leafwing.data.dataset import Dataset
from leafwing.engine import Engine, choose
from leafwing.engine.probe import Probe
from leafwing.errors import Diverged
from leafwing.game import Batches, Clock, Game
from leafwing.loop import Training
from leafwing.runs import Run, versions
from rows import keep

BEGINS = 0.4
"""Progress at which a late fault begins."""


@dataclass(frozen=True)
class Case:
    """A small training.

    Args:
        recipe: which.
        data: a built-in name, or "pictures" for the folder given.
        images: how many are shown.
        options: of the recipe.
        size: of the pictures.
        first: train on the first so many pictures of a seed alone, and keep others out; 0 for all.
    """

    recipe: str
    data: str
    images: int
    options: dict[str, Any] = field(default_factory=dict)
    size: int | None = 16
    first: int = 0


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
    # At the recipes' own rates a short training has hardly begun when it ends; it is not ill for that.
    "lsgan, slow": Case("lsgan", "digits", 40_000, SMALL, size=32),
    "wgan, slow": Case("wgan", "digits", 40_000, SMALL),
    "wgan_gp, slow": Case("wgan_gp", "digits", 40_000, SMALL),
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
    # These fall ill of themselves.
    "dcgan on 16": Case("dcgan", "digits", 80_000, SMALL, first=16),
    "dcgan on 64": Case("dcgan", "digits", 80_000, SMALL, first=64),
    "lsgan in circles": Case("lsgan", "ring", 100_000, CIRCLES, size=None),
    "gan swings": Case(
        "gan", "digits", 60_000, {"width": 256, "width_d": 64, "optimiser": "adam", "lr_g": 2e-4, "lr_d": 2e-4}
    ),
    "gan at the paper's rate": Case("gan", "digits", 40_000, {"lr_g": 0.1, "lr_d": 0.1}, size=None),
}
ILL = {
    "dcgan on 16": ("overfit",),
    "dcgan on 64": ("overfit",),
    "lsgan in circles": ("oscillation",),
    "gan swings": ("oscillation",),
    "gan at the paper's rate": ("nan", "explosion"),
}
"""Which alarms are right about them."""


@dataclass(frozen=True)
class Fault:
    """Something that is planted in a training.

    Args:
        plant: does it.
        late: only when a part of the training has passed.
        kinds: the alarms that are right about it.
        cases: where it does harm.
    """

    plant: Callable[[Training], None]
    late: bool
    kinds: tuple[str, ...]
    cases: tuple[str, ...]


def faster(players: str, times: float) -> Callable[[Training], None]:
    """All learning rates of these players times this."""

    def plant(training: Training) -> None:
        for name in players:
            player = training.game.players[name]
            spec = player.optimiser
            assert spec is not None
            old = spec.lr

            def scheduled(clock: Clock, old: Any = old) -> float:
                return old(clock) * times

            player.optimiser = replace(spec, lr=scheduled if callable(old) else old * times)
        training.engine.scale_learning_rates(1.0)  # the optimisers take over the new rates

    return plant


def deaf(training: Training) -> None:
    """G gets the same latent whatever was drawn."""
    training.game.players["G"].net.register_forward_pre_hook(lambda net, given: (torch.zeros_like(given[0]), *given[1:]))


def not_a_number(training: Training) -> None:
    """One weight of G is lost."""
    with torch.no_grad():
        next(training.game.players["G"].net.parameters())[0] = float("nan")


MAIN = ("dcgan", "wgan_gp", "gan on the ring")
FAULTS = {
    "D learns 300 times as fast": Fault(
        faster("D", 300), False, ("critic", "oscillation", "explosion"), ("dcgan", "gan on the ring")
    ),
    "G does not learn": Fault(faster("G", 0), False, ("still",), (*MAIN, "cgan")),
    "D does not learn": Fault(faster("D", 0), False, ("still",), (*MAIN, "cgan")),
    "G is deaf": Fault(deaf, False, ("collapse",), (*MAIN, "cgan")),
    "G goes deaf": Fault(deaf, True, ("collapse",), (*MAIN, "cgan")),
    "G becomes 100 times as fast": Fault(faster("G", 100), True, ("collapse", "explosion"), ("dcgan", "gan on the ring")),
    "both become 100 times as fast": Fault(faster("GD", 100), True, ("collapse", "explosion", "oscillation"), MAIN),
    "both become 3000 times as fast": Fault(faster("GD", 3000), True, ("collapse", "explosion", "oscillation", "nan"), MAIN),
    "both are 300 times as fast": Fault(faster("GD", 300), False, ("oscillation", "explosion", "collapse"), MAIN),
    "a weight is lost": Fault(not_a_number, True, ("nan",), MAIN),
}


def dataset(case: Case, seed: int, pictures: str | None) -> tuple[Dataset, Batches | None]:
    """What a case trains on, and what is kept out of it."""
    source = case.data if case.data != "pictures" else pictures
    assert source, "this case needs --pictures FOLDER"
    data = load(source, **({} if case.size is None else {"size": case.size}))
    if not case.first:
        return data, None
    order = np.random.default_rng(seed).permutation(len(data))

    def part(rows: np.ndarray) -> Dataset:
        labels = None if data.labels is None else data.labels[rows]
        return Dataset(data.spec, data.array[rows], labels, data.fingerprint, data.source, data.options)

    return part(order[: case.first]), part(order[case.first : case.first + 800]).batches(1)


def begin(case: Case, seed: int, pictures: str | None = None) -> tuple[Training, Batches | None]:
    """A training of a case, at its beginning, on one thread."""
    data, held = dataset(case, seed, pictures)
    torch.manual_seed(seed)
    options = recipes.describe(case.recipe).resolve(case.options, points=data.spec.points)
    game: Game = recipes.build(case.recipe, recipes.find(case.recipe), data.spec, options)
    engine = Engine(game, choose("cpu", "fp32", 1))
    return Training(game, data.batches(seed), engine, images=case.images, batch=game.batch), held


def watch(case: Case, fault: Fault | None, seed: int, pictures: str | None) -> list[dict[str, Any]]:
    """The records of a training, as its log would have them."""
    training, held = begin(case, seed, pictures)
    probe = Probe(training.engine, training.batches, held_out=held)
    every, last, records = health.interval(training.batch, case.images), 0, []
    if fault and not fault.late:
        fault.plant(training)
    planted = not (fault and fault.late)
    try:
        for tick in training.ticks(every):
            images = tick.clock.images
            record: dict[str, Any] = {"images": images, "round": tick.clock.round, "costs": dict(tick.losses)}
            if images // every != last // every:
                last, record["health"] = images, probe.measure(tick.clock)
            records.append(record)
            if not planted and tick.clock.progress >= BEGINS:
                planted = True
                fault.plant(training)  # type: ignore[union-attr]
    except Diverged as error:
        records.append({"images": training.clock.images, "costs": {}, "diverged": str(error)})
    return records


def wanted(given: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """Case, fault and seed of every training; the fault of a healthy one is empty."""
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for name, case in CASES.items():
            if case.data == "pictures" and not given.pictures:
                continue
            for fault in ("", *FAULTS):
                if fault and name not in FAULTS[fault].cases:
                    continue
                if given.case in (None, name) and given.fault in (None, fault):
                    yield name, fault, seed


def file_of(logs: Path, case: str, fault: str, seed: int) -> Path:
    return logs / f"{case} - {fault or 'healthy'} - {seed}.json".replace(",", "")


def train(given: argparse.Namespace) -> None:
    """Trains what is not there yet."""
    given.logs.mkdir(parents=True, exist_ok=True)
    for case, fault, seed in wanted(given):
        path = file_of(given.logs, case, fault, seed)
        if path.exists():
            continue
        started = time.perf_counter()
        records = watch(CASES[case], FAULTS.get(fault), seed, given.pictures)
        path.write_text(json.dumps({"case": case, "fault": fault, "seed": seed, "records": records}))
        print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)


# --- which alarms are raised --------------------------------------------------------------------------------------------------


def margins(records: list[dict[str, Any]]) -> dict[str, float]:
    """For each rule the number that was reached for as long as an alarm takes, over its threshold; 1 raises an alarm."""
    looked = [record for record in records if "health" in record]
    if not looked:
        return {}
    looks, found = health.Signals(looked), {}
    for rule in health.rules(looks.players()):
        values = np.nan_to_num(rule.value(looks), nan=-np.inf)
        if len(values) >= rule.lasting and np.isfinite(most := sliding_window_view(values, rule.lasting).min(1).max()):
            found[rule.about] = round(float(most) / rule.threshold, 4)
    return found


def judge(given: argparse.Namespace) -> None:
    """One row a training: its alarms, how near it came to others, and how its samples were at the end."""
    made_with, rows = versions(), []
    for path in sorted(given.logs.glob("*.json")):
        told = json.loads(path.read_text())
        records = told.pop("records")
        looks = [record["health"] for record in records if "health" in record]
        begins = BEGINS * CASES[told["case"]].images if told["fault"] and FAULTS[told["fault"]].late else 0
        found = [alarm for alarm in health.alarms(records) if alarm.raised >= begins]
        row = {
            "bench": "health",
            **told,
            "looks": len(looks),
            "alarms": {alarm.about if alarm.kind != "nan" else "nan": alarm.raised for alarm in reversed(found)},
            "kinds": sorted({alarm.kind for alarm in found}),
            "margins": margins(records),
            "distance": round(float(np.median([look.get("distance", np.nan) for look in looks[-3:]])), 3),
            "variety": round(float(np.median([look.get("variety", np.nan) for look in looks[-3:]])), 3),
            **made_with,
        }
        rows.append(row)
        keep(row, given.results)
    print(rates(rows))


def runs(given: argparse.Namespace) -> None:
    """One row a run folder: its alarms, each with the images at which it was first raised."""
    rows = []
    for folder in given.folders:
        run = Run(folder)
        found = health.alarms(run.records())
        row = {
            "bench": "health",
            "case": f"{run.config['recipe']} on {Path(run.config['data']['source']).name}",
            "run": "/".join(Path(folder).parts[-3::2]),
            "seed": run.settings.schedule.seed,
            "images": run.records()[-1]["images"],
            "looks": sum("health" in record for record in run.records()),
            "alarms": {alarm.about if alarm.kind != "nan" else "nan": alarm.raised for alarm in reversed(found)},
            "kinds": sorted({alarm.kind for alarm in found}),
            **versions(),
        }
        rows.append(row)
        keep(row, given.results)
    print(f"{sum(bool(row['kinds']) for row in rows)} of {len(rows)} raised an alarm")


def rates(rows: list[dict[str, Any]]) -> str:
    """Healthy trainings with and without an alarm, and how many ill ones were noticed."""
    well = [row for row in rows if not row["fault"] and row["case"] not in ILL]
    lines = [f"healthy: {sum(bool(row['kinds']) for row in well)} of {len(well)} raised an alarm"]
    told = {fault: about.kinds for fault, about in FAULTS.items()} | ILL
    for what, kinds in told.items():
        ill = [row for row in rows if what in (row["fault"], row["case"])]
        lines.append(f"{what}: {sum(bool({*row['kinds']} & {*kinds}) for row in ill)} of {len(ill)} noticed")
    return "\n".join(lines)


# --- what it costs ------------------------------------------------------------------------------------------------------------

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
    """Seconds that some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cost(given: argparse.Namespace) -> None:
    """Seconds of training from one look to the next without the look, and with it, in turn; the judgement is of 500 looks."""
    for name, case in COSTS.items():
        if given.case not in (None, name):
            continue
        training, _ = begin(case, 0)
        probe, records = Probe(training.engine, training.batches), []
        ticks = training.ticks(health.interval(training.batch, 0))

        def look() -> None:
            tick = next(ticks)  # noqa: B023
            signals = probe.measure(tick.clock)  # noqa: B023
            line = {"images": tick.clock.images, "round": tick.clock.round, "costs": dict(tick.losses), "health": signals}
            records.append(line)  # noqa: B023
            health.alarms((records * 500)[:500])  # noqa: B023

        look()
        without, looking = [], []
        for _ in range(given.times):
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
            "pairs": given.times,
        }
        keep({"bench": "health", **row, "device": "cpu", "precision": "fp32", "threads": 1, **versions()}, given.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["train", "judge", "runs", "cost"])
    parser.add_argument("folders", nargs="*", help="run folders, for `runs`")
    parser.add_argument("--logs", type=Path, default=Path("health-logs"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--case")
    parser.add_argument("--fault", help="empty for healthy trainings alone")
    parser.add_argument("--pictures", help="a folder of pictures")
    parser.add_argument("--times", type=int, default=20, help="pairs that are timed")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "health.jsonl")
    given = parser.parse_args()
    {"train": train, "judge": judge, "runs": runs, "cost": cost}[given.part](given)


if __name__ == "__main__":
    main()

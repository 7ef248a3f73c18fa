"""Compare recipes: each is trained with several seeds side by side, evaluated the same way, and told of in one report.

Every training and every evaluation is a process of its own, so that one that fails takes nothing with it. What is asked for and what
was done stands in `compare.json`; the same call goes on where the last one was interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from typing import Any

from leafwing.commands.comparison.plan import Plan, resolve, slots
from leafwing.commands.comparison.record import Record, open_record
from leafwing.commands.comparison.report import tell
from leafwing.commands.comparison.speed import measurement_arguments, planned
from leafwing.commands.comparison.workers import Call, Ended, SideBySide, Stopped
from leafwing.errors import LeafwingError, StorageError
from leafwing.progress import Silent
from leafwing.quantities import show_count, show_duration
from leafwing.recipes import Value
from leafwing.runs import Run
from leafwing.settings import Folder

CHECKPOINTS, KEPT_EVERY = 40, 5
"""A training writes so many checkpoints, to go on from; the first, every fifth and the last stay and are evaluated."""
GRIDS = 20
LATEST, LATEST_SHARED = 2, 4
"""With minutes alone, a training is cut short only after so many times the minutes by the wall clock: one that other programs delay
is to show as many images as its fellows, and to come to the end of its schedules. On a CPU, where the minutes are processor time, it
is given longer."""
OFTEN = 30.0  # seconds between two words about progress
BAD_INPUT, DIVERGED, CANNOT_WRITE = 2, 3, 4
ENDED = ("finished", "diverged")


def compare(
    source: str | Path,
    recipes: str | Sequence[str],
    *,
    seeds: int | str | Sequence[int] = 3,
    images: int | str | None = None,
    minutes: float | None = None,
    size: int | str | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: str | None = None,
    background: str | None = None,
    mirror: bool | None = None,
    hold_out: int | str = "auto",
    options: Sequence[str] | Mapping[str, Value] = (),
    metrics: str | Sequence[str] | None = None,
    features: str | None = None,
    weights: str | Path | None = None,
    n: int | str | None = None,
    jobs: int | None = None,
    device: str = "auto",
    out: str | Path = "comparison",
    progress: Silent | None = None,
) -> dict[str, Any]:
    """Train recipes with several seeds, evaluate them under one protocol, and write `report.html`, `table.json` and `table.csv`.

    Called again with the same folder it goes on: finished runs are used as they are, the others are resumed. Recipes and seeds may
    be added then; none may be left out, and nothing else about the trainings may change.

    Args:
        source: a folder, an archive or a built-in name; see `leafwing.data.load`.
        recipes: names, or paths of recipe files, as a list or separated by commas.
        seeds: how many, from 0; or which ones, as a list or separated by commas.
        images: how many real images each training shows. None: 200,000, or with `minutes` as many as fit into those, which is
            measured first.
        minutes: without `images`, how long each training takes, on a CPU in processor time; with them, how long it may take by the
            wall clock.
        size, channels, fit, background, mirror: how pictures are read; see `leafwing.data.load`.
        hold_out: how many pictures are kept out of training for evaluation, or `auto`.
        options: hyper-parameters, as `name=value` for every recipe that has the option or `recipe.name=value` for one; or the
            same as a mapping.
        metrics, features, weights, n: see `leafwing.commands.evaluate`; None for what is usual there.
        jobs: how many trainings run at a time. None: one a core of the CPU as far as memory allows, one a GPU.
        device: auto, cpu, cuda or mps.
        out: the folder of everything.
        progress: who is told; None for nobody.

    Returns:
        The content of `table.json`: `sentences`, `runs` (a row each), `summary` (a row a recipe), `measures`, `report` (its path)
        and what it was made with.

    Raises:
        LeafwingError: bad input, the folder holds another comparison, or no run left a number.
        StorageError: the disk is full or the folder cannot be written.
    """
    given = dict(locals())
    heard = progress or Silent()
    plan = resolve(given, heard)
    folder = Path(out)
    with open_record(folder) as record:
        record.begin(plan)
        heard.say(
            f"{len(plan.entrants)} recipes, {len(plan.seeds)} seeds each: {plan.jobs} at a time on {plan.device}, "
            f"{plan.threads} thread{'s' if plan.threads > 1 else ''} each"
        )
        crew = SideBySide(slots(plan))
        try:
            if unplanned := [name for name in plan.entrants if name not in plan.images]:
                heard.say(f"measuring the speed of {', '.join(unplanned)}")
                batches = {name: one.batch for name, one in plan.entrants.items()}
                plan.images |= planned(measured(plan, unplanned, crew, folder), 60 * (minutes or 0.0), batches)
                of = " of processor time" if plan.device == "cpu" else ""
                for name in unplanned:
                    heard.say(f"{name}: {show_count(plan.images[name])} images fit into {minutes:g} minutes{of}")
                record.set_images(plan.images)
            watch = Watch(plan, record, heard)
            crew.work([task(plan, record, name, seed, watch) for name, seed in plan.runs], watch)
        except KeyboardInterrupt:
            heard.say(f"{folder}: stopped; the same command goes on from here")
            raise
        return tell(plan, record, heard)


def task(plan: Plan, record: Record, name: str, seed: int, watch: Watch) -> Callable[[Call], None]:
    """One run from its beginning, or from where it is, to its numbers."""

    def do(call: Call) -> None:
        log = record.log_file(name, seed)
        fresh = not record.run_folder(name, seed).exists()
        watch.begins(name, seed)
        if not over(plan, record, name, seed):
            record.update_run(name, seed, **trained(plan, record, name, seed, call, log), evaluation=None, variety=None)
            watch.trained(name, seed)
        state = record.run_state(name, seed)
        if state.status in ENDED and state.evaluation != plan.evaluation:
            record.update_run(name, seed, **evaluated(plan, record, name, seed, call, log))
        watch.ended(name, seed, fresh)

    return do


def over(plan: Plan, record: Record, name: str, seed: int) -> bool:
    """Whether a training needs nothing more: it diverged, or is complete under the limit of time that is given now."""
    status = record.run_state(name, seed).status
    return status == "diverged" or (status == "finished" and complete(Run(record.run_folder(name, seed)), plan))


def trained(plan: Plan, record: Record, name: str, seed: int, call: Call, log: Path) -> dict[str, Any]:
    """Train or resume a run; how it ended, for the record."""
    folder = record.run_folder(name, seed)
    if (folder / "run.json").exists():
        run = Run(folder)
        await_others(run)
        if complete(run, plan):
            return {"status": "finished", "message": ""}
        arguments = {"run": str(folder), "time": time_limit(plan), "trust": plan.entrants[name].own}
        ended = timed(record, name, seed, lambda: call("resume", arguments, log))
    else:
        arguments = {**training_arguments(plan, name, seed), "out": str(folder)}
        ended = timed(record, name, seed, lambda: call("train", arguments, log))
    if ended.code == CANNOT_WRITE:
        raise StorageError(ended.said)
    status = {0: "finished", DIVERGED: "diverged"}.get(ended.code, "failed")
    return {"status": status, "message": "" if status == "finished" else ended.said.partition(". ")[0]}


def timed(record: Record, name: str, seed: int, session: Callable[[], Ended]) -> Ended:
    """A session of a training whose processor time is added to that of the earlier ones.

    It is unknown, and stays so, when this process was killed in a session, or the system does not say.
    """
    fresh = not (record.run_folder(name, seed) / "run.json").exists()
    before = 0.0 if fresh else record.run_state(name, seed).processor
    record.update_run(name, seed, processor=None)

    def add(used: float | None) -> None:
        record.update_run(name, seed, processor=None if before is None or used is None else round(before + used, 3))

    try:
        ended = session()
    except Stopped as stopped:
        add(stopped.processor)
        raise
    add(ended.processor)
    return ended


def training_arguments(plan: Plan, name: str, seed: int) -> dict[str, Any]:
    """The arguments of `leafwing.train` without the run folder, in plain JSON."""
    images, entrant, common = plan.images.get(name, 10**9), plan.entrants[name], plan.settings(seed)
    settings = replace(
        common,
        schedule=replace(common.schedule, images=images, time=time_limit(plan)),
        folder=Folder(
            save_every=ceil(images / CHECKPOINTS), keep_last=1, keep_every=KEPT_EVERY, grid_every=ceil(images / GRIDS)
        ),
    )
    return {"source": plan.conditions.source, "recipe": entrant.reference, "settings": asdict(settings), **entrant.options}


def time_limit(plan: Plan) -> float | None:
    """The time limit of a training in seconds of wall-clock time; None without one."""
    minutes = plan.conditions.minutes
    if minutes is None:
        return None
    latest = LATEST_SHARED if plan.device == "cpu" else LATEST
    return float(60 * minutes * (latest if plan.conditions.images is None else 1))


def await_others(run: Run, pause: float = 2.0) -> None:
    """Wait while another process trains this run: a training whose `leafwing compare` was killed goes on alone."""
    while True:
        try:
            with run.lock():
                return
        except StorageError:
            raise
        except LeafwingError:
            time.sleep(pause)


def complete(run: Run, plan: Plan) -> bool:
    """Whether a run has shown its images or used its time, and kept its last checkpoint."""
    kept, records = list(run.weights()), run.records()
    if not kept or not records:
        return False
    last, limit = records[-1], time_limit(plan)
    return kept[-1] >= run.settings.schedule.images or bool(
        limit and last["seconds"] >= limit and kept[-1] == last["images"]
    )


def evaluated(plan: Plan, record: Record, name: str, seed: int, call: Call, log: Path) -> dict[str, Any]:
    """Evaluate all checkpoints of a run that stayed; its numbers, for the record."""
    folder = record.run_folder(name, seed)
    if not Run(folder).weights():
        return {"evaluation": plan.evaluation, "numbers": []}
    arguments = {
        "run": str(folder),
        "checkpoint": "all",
        "device": plan.device,
        "trust": plan.entrants[name].own,
        **plan.evaluation,
    }
    ended = call("evaluate", arguments, log)
    if ended.code == CANNOT_WRITE:
        raise StorageError(ended.said)
    if ended.code == BAD_INPUT:  # what cannot be evaluated so here can be so nowhere
        raise LeafwingError(f"{folder} cannot be evaluated: {ended.said}. More is in {log}")
    if ended.code:
        return {"evaluation": None, "numbers": [], "unevaluated": f"its evaluation {ended.said}"}
    return {"evaluation": plan.evaluation, "numbers": json.loads(ended.output)["rows"]}


def measured(plan: Plan, names: Sequence[str], crew: SideBySide, folder: Path) -> dict[str, list[float]]:
    """Images per second of recipes, slice by slice, with every slot busy as it will be later."""
    speeds: dict[str, list[float]] = {name: [] for name in names}

    def try_out(slot: int) -> Callable[[Call], None]:
        def do(call: Call) -> None:
            log = folder / "logs" / f"speed{slot}.txt"
            ended = call("speed", measurement_arguments(plan, names, slot), log)
            if ended.code:
                raise LeafwingError(f"{ended.said}. More is in {log}")
            for name, found in json.loads(ended.output).items():
                speeds[name] += found

        return do

    crew.work([try_out(slot) for slot in range(plan.jobs)])
    return speeds


class Watch:
    """Says now and then how far the trainings are and how long the rest will take.

    Args:
        plan: what is trained.
        record: where.
        progress: who is told.
    """

    def __init__(self, plan: Plan, record: Record, progress: Silent) -> None:
        self.plan, self.record, self.progress = plan, record, progress
        self.started: dict[tuple[str, int], float] = {}
        self.took: dict[tuple[str, int], float] = {}
        self.done: set[tuple[str, int]] = set()
        self.spoke = time.monotonic()

    def begins(self, name: str, seed: int) -> None:
        """A run begins, or goes on."""
        self.started[name, seed] = time.monotonic()

    def trained(self, name: str, seed: int) -> None:
        """Its training has ended."""
        state, seconds = self.record.run_state(name, seed), time.monotonic() - self.started[name, seed]
        message = f": {state.message}" if state.message else f" in {show_duration(seconds)}"
        self.progress.say(f"{name} seed {seed} {state.status}{message}")

    def ended(self, name: str, seed: int, fresh: bool) -> None:
        """It has its numbers; what it took is a measure for others if it was fresh."""
        seconds = time.monotonic() - self.started.pop((name, seed))
        self.done.add((name, seed))
        if fresh:
            self.took[name, seed] = seconds

    def __call__(self) -> None:
        if time.monotonic() - self.spoke < OFTEN:
            return
        self.spoke = time.monotonic()
        shares = {}
        for name, seed in list(self.started):
            last, of = last_record(self.record.run_folder(name, seed) / "log.jsonl"), self.plan.images[name]
            shares[name, seed] = share = min(1.0, last.get("images", 0) / of)
            speed = f", {last['images_per_second']:,.0f} images/s" if "images_per_second" in last else ""
            shown = f"{show_count(share * of)} of {show_count(of)} images{speed}" if share < 1 else "evaluating"
            self.progress.say(f"{name} seed {seed}: {shown}")
        left = self.left(shares)
        more = f", about {show_duration(left)} left" if left and left >= 1 else ""
        self.progress.say(f"{len(self.done)} of {len(self.plan.runs)} runs done{more}")

    def left(self, shares: Mapping[tuple[str, int], float]) -> float | None:
        """Seconds until all runs have their numbers, from what others of their recipe seem to take; None at the beginning."""
        now = time.monotonic()
        guesses = dict(self.took)
        guesses |= {
            run: (now - self.started[run]) / share for run, share in shares.items() if share > 0.02 and run in self.started
        }
        if not guesses:
            return None
        total = 0.0
        for name, seed in self.plan.runs:
            if (name, seed) in self.done:
                continue
            alike = [seconds for (other, _), seconds in guesses.items() if other == name] or list(guesses.values())
            begun = now - self.started[name, seed] if (name, seed) in self.started else 0.0
            total += max(0.0, sum(alike) / len(alike) - begun)
        return total / self.plan.jobs


def last_record(log: Path) -> dict[str, Any]:
    """The last whole line of a run's log; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
        return dict(json.loads(lines[-1])) if lines else {}
    except (OSError, ValueError):
        return {}

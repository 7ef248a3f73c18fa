"""Comparing recipes: train each with several seeds in parallel, evaluate all runs the same way, write one report.

Every training and every evaluation is a separate process, so that a failure does not affect the others. The state is kept in
`compare.json`; the same call continues an interrupted comparison.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from leafwing import files, notebook
from leafwing.commands.comparison.forecast import Stage, Timetable, choose_checkpoints, describe, evaluated_checkpoints
from leafwing.commands.comparison.plan import ComparedRecipe, ComparisonPlan, Cost, resolve_comparison, slots
from leafwing.commands.comparison.record import Record, open_record
from leafwing.commands.comparison.report import as_text, end_of, short_trainings, write_report
from leafwing.commands.comparison.speed import SliceCounter, images_in_time, measurement_arguments, number_of_slices
from leafwing.commands.comparison.workers import Outcome, RunChild, Stopped, Workers
from leafwing.commands.results import Written
from leafwing.config import LogRecord
from leafwing.errors import Diverged, LeafwingError, StorageError
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import plural, show_count, show_duration
from leafwing.recipes import Value, digest
from leafwing.runs import Run
from leafwing.settings import OutputSettings

CHECKPOINTS, KEEP_EVERY = 40, 5
"""Number of checkpoints of a run, to resume from; the first, every fifth and the last are kept."""
GRIDS = 20
"""Number of sample grids of a run."""
LATENESS, LATENESS_CPU = 2, 4
"""With `minutes` alone, a run is cut short only after this multiple of them by the wall clock, so that a run delayed by other
programs shows as many images as the others and completes its schedules. On a CPU, where minutes are CPU time, it is higher."""
MESSAGE_INTERVAL = 30.0  # seconds between two progress messages


class Comparison(dict[str, Any]):
    """The content of `table.json`; see `compare`. Notebooks show it as text, and samples of each recipe.

    Args:
        content: of `table.json`.
        sheets: progress sheets by the names of their recipes.
    """

    def __init__(self, content: Mapping[str, Any], sheets: Mapping[str, Path] | None = None) -> None:
        super().__init__(content)
        self._sheets = {name: Written(path) for name, path in (sheets or {}).items()}

    def _repr_html_(self) -> str:
        sheets = (notebook.lines([name]) + (sheet._repr_html_() or "") for name, sheet in self._sheets.items())
        return notebook.preformatted(as_text(self)) + "".join(sheets)


def compare(
    source: str | Path,
    recipes: str | Sequence[str],
    *,
    seeds: int | str | Sequence[int] = 3,
    images: int | str | None = None,
    minutes: float | None = None,
    options: Sequence[str] | Mapping[str, Value] = (),
    metrics: str | Sequence[str] | None = None,
    features: str | None = None,
    weights: str | Path | None = None,
    n: int | str | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    out: str | Path = "comparison",
    progress: Progress = None,
    **settings: Any,
) -> Comparison:
    """Trains recipes with several seeds, evaluates them under one protocol, and writes `report.html`, `table.json` and `table.csv`.

    Called again with the same folder it continues: finished runs are reused, others are resumed. Recipes and seeds may be added;
    nothing else that affects training may change.

    Args:
        source: a folder, an archive or a built-in name; see `leafwing.data.load`.
        recipes: names, or paths of recipe files, as a list or separated by commas.
        seeds: number of seeds, counted from 0, or a list of seeds, possibly separated by commas.
        images: number of real images shown in each run. None: 200,000, or with `minutes` as many as fit into that time
            according to a speed measurement.
        minutes: without `images`, the training time of each run, on a CPU in CPU time; with `images`, the limit of its
            wall-clock time.
        options: hyper-parameters: `name=value` for every recipe that has the option, or `recipe.name=value` for one; or the
            same as a mapping.
        metrics, features, weights, n: see `leafwing.evaluate`; None: its defaults.
        jobs: number of runs trained at a time. None: one per CPU core as memory allows, or one per GPU.
        threads: CPU threads of each run. None: the cores, divided by the number of runs at a time.
        out: the folder of the comparison.
        progress: True or None: messages are shown; False: not; or a `leafwing.Reporter`, which receives them.
        **settings: `settings.READING_OPTIONS`, hold_out and device; see `leafwing.settings`. `hold_out` is auto by default. And
            options that all of the recipes have, such as width, as for `train`.

    Returns:
        The content of `table.json`: `sentences`, `runs` (one row per run), `summary` (one row per recipe), `measures`, `report`
        (its path), and the conditions.

    Raises:
        LeafwingError: invalid arguments, recipes that do not generate the same from the same kind of conditions, the folder contains a
            different comparison, or no run was evaluated.
        StorageError: the disk is full or the folder is not writable.
    """
    arguments = dict(locals())
    progress = reporter_of(progress)
    plan = resolve_comparison(arguments, progress)
    folder = Path(out)
    with open_record(folder) as record:
        record.begin(plan)
        if plan.choice:
            progress.say(str(plan.choice))
        progress.say(
            f"{plural(len(plan.recipes), 'recipe')}, {plural(len(plan.seeds), 'seed')} each: {plan.jobs} at a time on {plan.device}, "
            f"{plural(plan.threads, 'thread')} each"
        )
        workers = Workers(slots(plan))
        try:
            settle_budget(plan, record, workers, progress)
            remaining = {run: stages for run in plan.runs if (stages := remaining_stages(plan, record, *run))}
            if remaining:
                for text in short_trainings(plan):
                    progress.warn(text)
                progress.say(describe(plan, remaining))
                if (folder / "report.html").exists():
                    progress.say(f"{folder / 'report.html'} shows the comparison as it was before, until this one ends")
            reporter = ProgressReporter(plan, record, progress, remaining)
            wait = partial(wait_for_lock, should_stop=workers.is_stopping, say=progress.say)
            workers.run([make_task(plan, record, name, seed, reporter, wait) for name, seed in plan.runs], reporter.update)
        except KeyboardInterrupt:
            progress.say(f"stopped; the same command continues the comparison in {folder}")
            raise
        table = write_report(plan, record)
        folders = {name: record.run_folder(name, plan.seeds[0]) / "samples" for name in plan.recipes}
        grids = {name: [*files.numbered(folder, "", ".png").values()] for name, folder in folders.items()}
        return Comparison(table, {name: paths[-1] for name, paths in grids.items() if paths})


def settle_budget(plan: ComparisonPlan, record: Record, workers: Workers, progress: Reporter) -> None:
    """Measures what recipes cost where that is unknown, if any of their runs remain; from that follow, where they are open, how many
    images fit into the time, and how many checkpoints are evaluated."""
    names = [
        name
        for name in plan.recipes
        if name not in plan.images
        or (name not in plan.costs and any(remaining_stages(plan, record, name, seed) for seed in plan.seeds))
    ]
    if names:
        if plan.evaluation.get("features") == "own":
            train_features(plan, progress)
        progress.say(f"measuring the speed of {', '.join(names)}")
        speeds = measure_costs(plan, names, workers, record.folder, progress)
        if open_names := [name for name in names if name not in plan.images]:
            batches = {name: recipe.batch for name, recipe in plan.recipes.items()}
            minutes = plan.conditions.minutes or 0.0
            plan.images |= images_in_time({name: speeds[name] for name in open_names}, 60 * minutes, batches)
            budget = plural(minutes, "minute") + (" of CPU time" if plan.device == "cpu" else "")
            for name in open_names:
                progress.say(f"{name}: {show_count(plan.images[name])} images fit into {budget}")
    plan.checkpoints = plan.checkpoints or choose_checkpoints(plan)
    plan.evaluation["checkpoints"] = plan.checkpoints
    record.set_budget(plan)


def remaining_stages(plan: ComparisonPlan, record: Record, name: str, seed: int) -> list[Stage]:
    """What remains to be done with a run."""
    if needs_training(plan, record, name, seed):
        return ["training", "evaluation"]
    require_end(plan, record, name, seed)
    return ["evaluation"] if record.run_state(name, seed).evaluation != plan.evaluation else []


def make_task(
    plan: ComparisonPlan, record: Record, name: str, seed: int, reporter: ProgressReporter, wait: Callable[[Run], None]
) -> Callable[[RunChild], None]:
    """The task of training and evaluating one run, from its beginning or from its current state."""

    def execute(run_child: RunChild) -> None:
        if needs_training(plan, record, name, seed):
            reporter.begin(name, seed, "training")
            record.reset_run(name, seed)
            record.update_run(name, seed, **train_run(plan, record, name, seed, run_child, wait))
            reporter.end_training(name, seed)
        state = record.run_state(name, seed)
        if state.status in ("finished", "diverged") and state.evaluation != plan.evaluation:
            reporter.begin(name, seed, "evaluation")
            record.update_run(name, seed, **evaluate_run(plan, record, name, seed, run_child))
            reporter.end_evaluation(name, seed)
        reporter.end(name, seed)

    return execute


def needs_training(plan: ComparisonPlan, record: Record, name: str, seed: int) -> bool:
    """Whether a run has neither diverged nor completed its training under the current time limit, or its folder was removed."""
    run, status = existing_run(plan, record, name, seed), record.run_state(name, seed).status
    return run is None or not (status == "diverged" or (status == "finished" and is_complete(run, plan, name)))


def require_end(plan: ComparisonPlan, record: Record, name: str, seed: int) -> None:
    """Raises LeafwingError for a run that was resumed by itself and has lost the checkpoint at which its training ended before."""
    run, end = Run(record.run_folder(name, seed)), end_of(plan, record, name, seed)
    checkpoints = list(run.weights())
    if checkpoints and checkpoints[-1] > end and end not in checkpoints:
        raise LeafwingError(
            f"{run.folder} was trained on by itself, to {checkpoints[-1]:,} images, and its checkpoint at {end:,} images, "
            "which is the one to compare, is no longer there. Move this folder elsewhere, and the same command trains the run again"
        )


def existing_run(plan: ComparisonPlan, record: Record, name: str, seed: int) -> Run | None:
    """A run in its folder; None if it has not begun or its folder was removed.

    Raises:
        LeafwingError: it was trained on other data, on another part of them, or with another version of its recipe.
    """
    folder = record.run_folder(name, seed)
    if not (folder / "run.json").exists():
        return None
    run = Run(folder)
    if run.data.fingerprint != plan.conditions.fingerprint:
        raise LeafwingError(
            f"{folder} was trained on other data than the rest of the comparison: {run.data.samples:,} samples of "
            f"{run.data.source}, which has {len(plan.data):,} in this comparison. Remove this folder, and the same command trains "
            "the run again"
        )
    recipe = plan.recipes[name]
    if not (run.recipe_is_installed() if not recipe.digest else digest(folder / "recipe.py") == recipe.digest):
        raise LeafwingError(
            f"{folder} was trained with another version of the recipe {recipe.reference} than the rest of the comparison. Remove this "
            "folder, and the same command trains the run again"
        )
    shared = plan.data.shared_field() if run.data.held_out else None
    if run.data.held_out_by != shared:
        raise LeafwingError(
            f"{folder} was trained by an earlier version, which did not hold out samples with the same {shared} together: it held out "
            "other samples. Remove this folder, and the same command trains the run again; or choose another --out"
        )
    return run


def require_unchanged(plan: ComparisonPlan, recipe: ComparedRecipe) -> None:
    """Checks that a training that begins now would get the data and the recipe of the comparison.

    Raises:
        LeafwingError: images, labels or the recipe's file have changed since the comparison began.
    """
    from leafwing import data
    from leafwing.data.locating import locate

    file = Path(recipe.reference)
    if recipe.digest and not (file.is_file() and digest(file) == recipe.digest):
        raise LeafwingError(
            f"{file} has changed since the comparison began. Restore it as it was, and the same command continues; or begin a new "
            "comparison with another --out"
        )
    try:
        if isinstance(locate(plan.data.origin), str):  # built in
            return
        now = data.load(plan.data.origin, **plan.conditions.data)
    except LeafwingError:  # the training itself says so
        return
    if now.fingerprint != plan.conditions.fingerprint:
        counts = f": {len(now):,} samples instead of {len(plan.data):,}" if len(now) != len(plan.data) else ""
        raise LeafwingError(
            f"{plan.data.source} has changed since the comparison began{counts}. Restore the images and labels as they were, and the "
            "same command continues; or begin a new comparison with another --out"
        )


def train_run(
    plan: ComparisonPlan, record: Record, name: str, seed: int, run_child: RunChild, wait: Callable[[Run], None]
) -> dict[str, Any]:
    """Trains or resumes a run, after waiting for another process that trains it; returns its status and message for the record."""
    folder, log = record.run_folder(name, seed), record.log_file(name, seed)
    if run := existing_run(plan, record, name, seed):
        wait(run)
        if is_complete(run, plan, name):
            return {"status": "finished", "message": "", "images": end_of(plan, record, name, seed)}
        arguments = {"run": str(folder), "time": time_limit(plan), "trust": plan.recipes[name].is_file}
        outcome = add_cpu_time(record, name, seed, lambda: run_child("resume", arguments, log))
    else:
        require_unchanged(plan, plan.recipes[name])
        arguments = {**training_arguments(plan, name, seed), "out": str(folder)}
        outcome = add_cpu_time(record, name, seed, lambda: run_child("train", arguments, log))
        existing_run(plan, record, name, seed)  # raises: the data or the recipe changed while the training read them
    if outcome.code == StorageError.exit_code:
        raise StorageError(outcome.message)
    status = {0: "finished", Diverged.exit_code: "diverged"}.get(outcome.code, "failed")
    message = "" if status == "finished" else outcome.message.partition(". ")[0]
    return {"status": status, "message": message, "images": end_of(plan, record, name, seed)}


def add_cpu_time(record: Record, name: str, seed: int, session: Callable[[], Outcome]) -> Outcome:
    """Runs a training session and adds its CPU time to that of earlier sessions in the record.

    The total becomes unknown, and stays so, if this process is killed during a session or the system does not report the time.
    """
    is_new = not (record.run_folder(name, seed) / "run.json").exists()
    before = 0.0 if is_new else record.run_state(name, seed).processor
    record.update_run(name, seed, processor=None)

    def add(seconds: float | None) -> None:
        total = None if before is None or seconds is None else round(before + seconds, 3)
        record.update_run(name, seed, processor=total)

    try:
        outcome = session()
    except Stopped as stopped:
        add(stopped.processor)
        raise
    add(outcome.processor)
    return outcome


def training_arguments(plan: ComparisonPlan, name: str, seed: int) -> dict[str, Any]:
    """The arguments of `leafwing.train` without the run folder, in plain JSON."""
    images, recipe, common = plan.images.get(name, 10**9), plan.recipes[name], plan.settings(seed)
    settings = replace(
        common,
        schedule=replace(common.schedule, images=images, time=time_limit(plan)),
        folder=OutputSettings(
            save_every=ceil(images / CHECKPOINTS), keep_last=1, keep_every=KEEP_EVERY, grid_every=ceil(images / GRIDS)
        ),
    )
    return {"source": plan.conditions.source, "recipe": recipe.reference, "settings": asdict(settings), **recipe.options}


def time_limit(plan: ComparisonPlan) -> float | None:
    """The time limit of a run in seconds of wall-clock time; None without one."""
    minutes = plan.conditions.minutes
    if minutes is None:
        return None
    lateness = LATENESS_CPU if plan.device == "cpu" else LATENESS
    return float(60 * minutes * (lateness if plan.conditions.images is None else 1))


def wait_for_lock(
    run: Run,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
    pause: float = 2.0,
) -> None:
    """Waits while another process trains this run: it continues if its `leafwing compare` was killed.

    Args:
        run: the run.
        should_stop: whether all work is to stop.
        say: receives what is waited for, once.
        pause: seconds between two attempts.

    Raises:
        Stopped: all work is to stop.
    """
    is_known = False
    while True:
        if should_stop():
            raise Stopped
        try:
            with run.lock():
                return
        except StorageError:
            raise
        except LeafwingError:
            if not is_known:
                say(
                    f"{run.folder} is being trained by another process, perhaps of an earlier comparison: waiting for its end"
                )
            is_known = True
            time.sleep(pause)


def is_complete(run: Run, plan: ComparisonPlan, name: str) -> bool:
    """Whether a run of a recipe has shown its images or used its time, and has its last checkpoint."""
    checkpoints, lines = list(run.weights()), run.records()
    if not checkpoints or not lines:
        return False
    last, limit = lines[-1], time_limit(plan)
    # The log rounds to milliseconds, so the limit must be rounded as well.
    timed_out = limit is not None and last.get("seconds", 0.0) >= round(limit, 3) and checkpoints[-1] == last["images"]
    return checkpoints[-1] >= min(run.settings.schedule.images, plan.images[name]) or timed_out


def evaluate_run(plan: ComparisonPlan, record: Record, name: str, seed: int, run_child: RunChild) -> dict[str, Any]:
    """Evaluates the checkpoints of a run until its training ended; returns the results for the record."""
    folder, log = record.run_folder(name, seed), record.log_file(name, seed)
    recipe = plan.recipes[name]
    require_end(plan, record, name, seed)
    end = end_of(plan, record, name, seed)
    if not (existing := [images for images in Run(folder).weights() if images <= end]):
        return {"evaluation": plan.evaluation, "rows": [], "evaluation_error": ""}
    checkpoints = evaluated_checkpoints(existing, plan.checkpoints)
    arguments = {
        "run": str(folder),
        "device": plan.device,
        "trust": recipe.is_file,
        **plan.evaluation,
        "checkpoints": checkpoints,
    }
    outcome = run_child("evaluate", arguments, log)
    if outcome.code == StorageError.exit_code:
        raise StorageError(outcome.message)
    if outcome.code == LeafwingError.exit_code:  # the other runs could not be evaluated either
        raise LeafwingError(f"{folder} cannot be evaluated: {outcome.message}. See {log}")
    if outcome.code:
        return {"evaluation": None, "rows": [], "evaluation_error": f"its evaluation {outcome.message}"}
    return {"evaluation": plan.evaluation, "rows": json.loads(outcome.output)["rows"], "evaluation_error": ""}


def train_features(plan: ComparisonPlan, progress: Reporter) -> None:
    """Trains the feature network `own` if it is not in the cache: here, where its progress is shown, before speeds are measured."""
    from leafwing.metrics.features import load_features
    from leafwing.metrics.targets import frames, target

    training, _ = plan.data.split_anew(plan.conditions.held_out)
    field = next(iter(plan.recipes.values())).output.field
    load_features("own", frames(target(training, field)), report_progress=progress.report_progress)


def measure_costs(
    plan: ComparisonPlan, names: Sequence[str], workers: Workers, folder: Path, progress: Reporter
) -> dict[str, list[float]]:
    """Measures recipes with all slots busy as later, and sets their costs in the plan.

    Returns:
        Images per second of each slice of training, by recipe.
    """
    speeds: dict[str, list[float]] = {name: [] for name in names}
    evaluations: dict[str, list[float]] = {name: [] for name in names}
    starts: list[float] = []
    loads: list[float] = []
    logs = [folder / "logs" / f"speed{slot}.txt" for slot in range(plan.jobs)]

    def measurement(slot: int) -> Callable[[RunChild], None]:
        def execute(run_child: RunChild) -> None:
            log, start = logs[slot], time.monotonic()
            outcome = run_child("speed", measurement_arguments(plan, names, slot), log)
            if outcome.code == StorageError.exit_code:
                raise StorageError(outcome.message)
            if outcome.code:
                raise LeafwingError(f"{outcome.message}. See {log}")
            result = json.loads(outcome.output)
            loads.append(result["load"])
            starts.append(max(0.0, time.monotonic() - start - result["seconds"]))
            for name in names:
                speeds[name] += result["training"][name]
                evaluations[name].append(result["evaluation"][name])

        return execute

    counter = SliceCounter(logs, plan.jobs * len(names) * number_of_slices(plan), progress.report_progress)
    workers.run([measurement(slot) for slot in range(plan.jobs)], counter.update)
    for name in names:
        load = median(loads)
        plan.costs[name] = Cost(load / median(speeds[name]), load * median(evaluations[name]), median(starts))
    return speeds


class ProgressReporter:
    """Reports the progress of all runs and the remaining time.

    Args:
        plan: of the comparison.
        record: of the comparison.
        progress: receives the messages.
        remaining: what remains to be done with each run.
    """

    def __init__(
        self, plan: ComparisonPlan, record: Record, progress: Reporter, remaining: Mapping[tuple[str, int], list[Stage]]
    ) -> None:
        self.plan, self.record, self.progress = plan, record, progress
        self.timetable = Timetable(plan, {run: list(stages) for run, stages in remaining.items()})
        self.done: set[tuple[str, int]] = set()
        self.last_update = time.monotonic()

    def begin(self, name: str, seed: int, stage: Stage) -> None:
        """Notes that the training or the evaluation of a run begins or continues."""
        self.timetable.begin((name, seed), stage, self.fraction(name, seed) if stage == "training" else 0.0)

    def end_training(self, name: str, seed: int) -> None:
        """Reports that the training of a run has ended."""
        state, seconds = self.record.run_state(name, seed), self.timetable.end((name, seed))
        details = f": {state.message}" if state.message else f" in {show_duration(seconds)}"
        self.progress.say(f"{name} seed {seed} {state.status}{details}")

    def end_evaluation(self, name: str, seed: int) -> None:
        """Reports that a run was evaluated."""
        seconds = self.timetable.end((name, seed))
        if error := self.record.run_state(name, seed).evaluation_error:
            self.progress.warn(f"{name} seed {seed}: {error}")
        else:
            self.progress.say(f"{name} seed {seed} evaluated in {show_duration(seconds)}")

    def end(self, name: str, seed: int) -> None:
        """Notes that nothing remains to be done with a run, and reports the remaining time."""
        was_remaining = self.timetable.remaining.pop((name, seed), None) is not None
        self.done.add((name, seed))
        if was_remaining and self.timetable.remaining:
            self._report_total()

    def update(self) -> None:
        """Reports the progress if at least `MESSAGE_INTERVAL` seconds have passed since the last report."""
        if time.monotonic() - self.last_update < MESSAGE_INTERVAL:
            return
        for (name, seed), work in list(self.timetable.active.items()):
            last, total = last_log_line(self.record.run_folder(name, seed) / "log.jsonl"), self.plan.images[name]
            speed = f", {last['images_per_second']:,.0f} images/s" if "images_per_second" in last else ""
            shown = min(last.get("images", 0), total)
            is_training = work.stage == "training" and shown < total
            stage = f"{show_count(shown)} of {show_count(total)} images{speed}" if is_training else "evaluating"
            self.progress.say(f"{name} seed {seed}: {stage}")
        self._report_total()

    def fraction(self, name: str, seed: int) -> float:
        """The completed fraction of the training of a run."""
        last = last_log_line(self.record.run_folder(name, seed) / "log.jsonl")
        return float(min(1.0, last.get("images", 0) / self.plan.images[name]))

    def _report_total(self) -> None:
        self.last_update = time.monotonic()
        training = [run for run, work in list(self.timetable.active.items()) if work.stage == "training"]
        seconds = self.timetable.left({run: self.fraction(*run) for run in training})
        estimate = f", about {show_duration(seconds)} left" if seconds >= 1 else ""
        self.progress.say(f"{len(self.done)} of {len(self.plan.runs)} runs done{estimate}")


def last_log_line(log: Path) -> dict[str, Any]:
    """The last complete line of a run's log; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
        line = files.parse_json(lines[-1]) if lines else {}
        files.convert(log, line, LogRecord)
    except (OSError, ValueError, LeafwingError):
        return {}
    return dict(line)

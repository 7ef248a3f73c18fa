"""The results of a comparison, from its run folders: `table.json`, `table.csv` and `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from leafwing import files, health
from leafwing.commands.comparison.plan import ComparedRecipe, ComparisonPlan
from leafwing.commands.comparison.record import Record
from leafwing.commands.comparison.speed import MARGIN
from leafwing.errors import LeafwingError
from leafwing.machine import cores, processor, versions
from leafwing.quantities import plural, show_count, show_duration
from leafwing.runs import Run

if TYPE_CHECKING:
    from leafwing.commands.comparison.page import About, Figure
    from leafwing.data import Dataset
    from leafwing.metrics.conclusions import Budget
    from leafwing.metrics.table import RunResult, Table

VARIETY_SAMPLES = 256
"""Maximum number of samples, and of real images, whose variety is compared."""


def write_report(plan: ComparisonPlan, record: Record) -> dict[str, Any]:
    """Writes the report and the tables of a comparison whose runs have ended.

    Returns:
        The content of `table.json`.

    Raises:
        LeafwingError: no run was evaluated, or runs were evaluated under different conditions.
        StorageError: a file cannot be written.
    """
    from leafwing.commands.comparison.galleries import galleries, opening
    from leafwing.commands.comparison.page import render
    from leafwing.metrics.table import as_csv, as_json, tabulate

    results = [run_result(plan, record, name, seed) for name in plan.recipes for seed in plan.seeds]
    if not any(result.rows for result in results):
        reason = next((result.reason for result in results if result.reason), "no training reached its first checkpoint")
        raise LeafwingError(f"{record.folder}: no run was evaluated ({reason}). See {record.folder / 'logs'}")
    try:
        table = tabulate(results, budget(plan, results))
    except LeafwingError as error:  # leafwing, or the feature network, has changed since the first evaluations
        for result in results:
            record.update_run(result.recipe, result.seed, evaluation=None)
        raise LeafwingError(f"{error}. Run the same command again to repeat the evaluation of all runs") from None
    path = record.folder / "report.html"
    table = replace(table, about=provenance(plan, results) | {"report": str(path)})
    context = report_context(plan, record, results)
    page = render(table, results, opening(plan, record, table), key_figures(table), galleries(plan, record, table), context)
    files.write(record.folder / "table.json", as_json(table))
    files.write(record.folder / "table.csv", as_csv(table))
    files.write(path, page)
    return table.as_dict()


# --- results of a run -------------------------------------------------------------------------------------------------------


def end_of(plan: ComparisonPlan, record: Record, name: str, seed: int) -> int:
    """The images that a run had shown when its training ended in the comparison: it may have been resumed by itself since.

    If that is not recorded, it is the first number in its log that reaches the planned one, or else the last.
    """
    if (images := record.run_state(name, seed).images) is not None:
        return images
    folder = record.run_folder(name, seed)
    shown = [int(line["images"]) for line in Run(folder).records()] if (folder / "run.json").exists() else []
    return next((images for images in shown if images >= plan.images[name]), shown[-1] if shown else 0)


def run_result(plan: ComparisonPlan, record: Record, name: str, seed: int) -> RunResult:
    """The result of one run. The variety of its final samples is measured once and kept in the record."""
    from leafwing.metrics.conclusions import number
    from leafwing.metrics.table import RunResult

    state, folder, recipe = record.run_state(name, seed), record.run_folder(name, seed), plan.recipes[name]
    status = state.status or "failed"
    if not (folder / "run.json").exists():
        return RunResult(name, seed, status, state.message)
    run = Run(folder, trust=recipe.is_file)
    end = end_of(plan, record, name, seed)
    lines = [line for line in run.records() if line["images"] <= end]
    last = lines[-1] if lines else {}
    is_finished = status == "finished"
    is_unevaluated = is_finished and state.evaluation is None
    state.variety = number(state.variety)  # earlier versions recorded infinity for equal real images
    if is_finished and not run.spec.points and state.variety is None:
        state.variety = relative_variety(run, plan.data, end)
        record.update_run(name, seed, variety=state.variety)
    return RunResult(
        name,
        seed,
        "failed" if is_unevaluated else status,
        state.evaluation_error if is_unevaluated else state.message,
        images=int(last.get("images", 0)),
        seconds=float(last.get("seconds", 0.0)),
        processor=None if state.processor is None else state.processor / plan.threads,
        steps=generator_steps(recipe, plan.images[name], int(last.get("images", 0))),
        rows=state.rows,
        variety=state.variety,
        modes=number_of_modes(plan.data.source),
        total=plan.images[name],
        alarms=[(alarm.symptom, alarm.raised) for alarm in health.alarms(lines)],
    )


def budget(plan: ComparisonPlan, results: Sequence[RunResult]) -> Budget:
    """The budget of all training runs. On a CPU, costs are CPU time if it is known for all finished runs; else wall-clock time."""
    from leafwing.metrics.conclusions import Budget

    minutes = plan.conditions.minutes
    seconds = None if minutes is None else 60.0 * minutes
    by: Literal["images", "time"] = "images" if plan.conditions.images is not None else "time"
    is_known = all(result.processor is not None for result in results if result.status == "finished")
    if plan.device == "cpu" and is_known:
        return Budget(by, seconds, "processor_seconds", "CPU time")
    return Budget(by, seconds, "seconds", "wall-clock time" if plan.device == "cpu" else f"wall-clock time on {plan.device}")


def relative_variety(run: Run, data: Dataset, checkpoint: int) -> float | None:
    """The variety of the samples of a run at a checkpoint, divided by that of real images.

    Variety is the mean pairwise distance of images averaged down to 8x8, as in the health monitor but with more images. The samples
    have the conditions of the real images: classes as often as in the data.

    Returns:
        None if the real images have none: one image, or equal ones. 0 for samples that are not finite.
    """
    from leafwing.conditions import edits, pixel_conditions
    from leafwing.engine.probe import downsample, mean_distance
    from leafwing.metrics.targets import conditions_as_real, target
    from leafwing.model import Model

    model, data, n = Model.load(run, checkpoint=checkpoint), data.centred(), min(VARIETY_SAMPLES, len(data))
    output, names = model.output, pixel_conditions(model.output, run.spec)
    chosen = names if edits(output) else output.conditions
    conditions: dict[str, Any] = conditions_as_real(data, chosen, n if names else VARIETY_SAMPLES)
    if names:
        samples = model.translate(conditions.pop(names[0]), output=output.field, **conditions)
    else:
        samples = model.sample(VARIETY_SAMPLES, seed=0, **conditions)
    compared = target(data, output.field)
    real = compared.to_network(compared.batch(0, 0, n)).image
    variety, real_variety = (float(mean_distance(downsample(images))) for images in (samples, real))
    if not (isfinite(real_variety) and real_variety):
        return None
    return round(variety / real_variety, 4) if isfinite(variety) else 0.0


def generator_steps(recipe: ComparedRecipe, total: int, images: int, player: str = "G") -> int | None:
    """The number of steps of a player until a number of images was shown, from its turns and schedules.

    Args:
        recipe: the recipe.
        total: number of images of the whole training, on which schedules depend.
        images: number of images shown.
        player: name of the player.

    Returns:
        None if there is no such player.
    """
    from leafwing.game import Clock

    if not any(player in turn.movers for turn in recipe.turns):
        return None
    clock, steps = Clock(0, total, 0), 0
    while clock.images < images:
        turns = [(turn, times) for turn in recipe.turns if (times := turn.times(clock))]
        steps += sum(times for turn, times in turns if player in turn.movers)
        clock = Clock(clock.images + recipe.batch * turns[0][1], total, clock.round + 1)
    return steps


def short_trainings(plan: ComparisonPlan) -> list[str]:
    """A warning for each recipe whose planned training has too few generator steps to be judged, with the images that it needs."""
    from leafwing.metrics.conclusions import MIN_STEPS

    texts = []
    for name, recipe in plan.recipes.items():
        images = plan.images[name]
        steps = generator_steps(recipe, images, images)
        if steps is None or steps >= MIN_STEPS:
            continue
        needed = (factor * images for factor in range(2, 1000) if enough(recipe, factor * images))
        enough_images = next(needed, None)
        advice = f": it needs about {show_count(enough_images)} images" if enough_images else ""
        texts.append(
            f"{name} takes {plural(steps, 'generator step')} in {show_count(images)} images, and a run with fewer than {MIN_STEPS} is "
            f"too short to judge{advice}"
        )
    return texts


def enough(recipe: ComparedRecipe, images: int) -> bool:
    """Whether a training on this number of images is long enough to be judged."""
    from leafwing.metrics.conclusions import MIN_STEPS

    return (generator_steps(recipe, images, images) or 0) >= MIN_STEPS


def number_of_modes(source: str) -> int:
    """The number of modes of the data; 0 if unknown."""
    from leafwing.metrics.modes import total

    try:
        return total(source)
    except LeafwingError:
        return 0


# --- the report -------------------------------------------------------------------------------------------------------------


def provenance(plan: ComparisonPlan, results: Sequence[RunResult]) -> dict[str, Any]:
    """The conditions of the comparison, as recorded in `table.json`."""
    protocols = {row["fingerprint"]: row["protocol"] for result in results for row in result.rows}
    return {
        "command": plan.command,
        "data": msgspec.structs.asdict(plan.conditions),
        "recipes": {name: recipe.resolved for name, recipe in plan.recipes.items()},
        "images": plan.images,
        "protocols": protocols,
        "versions": versions(),
        "hardware": hardware(plan),
    }


def hardware(plan: ComparisonPlan) -> str:
    """The hardware and its use, in words."""
    if plan.device == "cuda":
        import torch

        gpu = torch.cuda.get_device_name()
        return f"{torch.cuda.device_count()} x {gpu}, {plural(plan.jobs, 'run')} at a time"
    runs, threads = plural(plan.jobs, "run"), plural(plan.threads, "thread")
    return f"{processor()}, {plural(cores(), 'core')}, {runs} at a time with {threads} each"


def report_context(plan: ComparisonPlan, record: Record, results: Sequence[RunResult]) -> About:
    """The introduction of the report, its facts, protocols, and training times."""
    from leafwing.commands.comparison.page import About
    from leafwing.metrics.protocol import describe

    spec, data, conditions = plan.data.spec, plan.data, plan.conditions
    source = ("stacked:" if data.source.startswith("stacked:") else "") + Path(data.source).name
    shape = "points" if spec.points else f"{spec.height}x{spec.width}"
    n = len(plan.recipes)
    samples = f"{len(data):,} " + ("points" if spec.points else f"images at {shape} pixels")
    if conditions.held_out:
        samples += f", {conditions.held_out:,} of them held out of training for evaluation"
    totals = sorted({*plan.images.values()})
    images = f"{totals[0]:,}" if len(totals) == 1 else f"{totals[0]:,} to {totals[-1]:,}"
    lead = (
        f"{plural(n, 'recipe')} for generative adversarial networks {'were' if n > 1 else 'was'} trained on {source} "
        f"({samples}), each with {plural(len(plan.seeds), 'seed')}. Each run was trained on {images} images{describe_limit(plan)}. "
        f"{describe_evaluation(plan)}" + (describe_few_seeds(len(plan.seeds)) if n > 1 else "")
    )
    protocols: dict[str, list[str]] = {}
    for row in (row for result in results for row in result.rows):
        metrics = protocols.setdefault(describe(row["protocol"]), [])
        if row["metric"] not in metrics:
            metrics.append(row["metric"])
    version = versions()
    facts = [
        ("data", f"{source}, fingerprint {data.fingerprint[:16]}"),
        ("hardware", hardware(plan)),
        ("leafwing", f"{version['leafwing']}" + (f", commit {version['commit']}" if version["commit"] else "")),
        ("versions", f"Python {version['python']}, torch {version['torch']}, {version['machine']}"),
    ]
    seconds = {
        (result.recipe, result.seed): {
            int(entry["images"]): float(entry["seconds"]) for entry in log_lines(record, result) if "seconds" in entry
        }
        for result in results
    }
    names = list(plan.recipes)
    title = f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} on {source}" + (
        "" if spec.points else f" at {shape}"
    )
    return About(title, lead, plan.command, facts, list(protocols.items()), seconds)


def key_figures(table: Table) -> list[Figure]:
    """Three numbers that the verdict rests on: both final values and the spread over seeds, or why there are none."""
    from leafwing.commands.comparison.page import Figure
    from leafwing.metrics.caveats import MARK
    from leafwing.metrics.conclusions import (
        MIN_STEPS,
        count_runs,
        describe_seeds,
        final_median,
        is_too_short,
        needed_lead,
        show,
    )

    measures = [name for name, better in table.measures.items() if better]
    judged = [row for row in table.summary if not is_too_short(row) or len(table.summary) == 1]
    rows = [row for row in judged if measures and final_median(row, measures[0]) is not None]
    if not rows:
        if not any(is_too_short(row) for row in table.summary):
            return []
        steps = [row["generator_steps"] for row in table.summary if row["generator_steps"] is not None]
        images = [row["images"] for row in table.summary if row["images"] is not None]
        return [
            Figure(f"{max(steps, default=0):,.0f}", "generator steps", "of the recipe that took most"),
            Figure(f"{MIN_STEPS}", "generator steps", "that a run needs to be judged"),
            Figure(f"{max(images, default=0):,.0f}", "images shown", "in the median run of the recipe that saw most"),
        ]
    first, second = rows[0], (rows[1] if len(rows) > 1 else None)
    name = measures[0]
    if second:
        name = next((measure for measure in measures if final_median(first, measure) != final_median(second, measure)), name)
    values = [
        Figure(
            show(row["final"][name]["median"]),
            f"final {name}{MARK * (name in table.marked)} of {row['recipe']}",
            f"{show(row['final'][name]['low'])} to {show(row['final'][name]['high'])} over {describe_seeds(row, name)}",
        )
        for row in rows[:2]
    ]
    if second is None:
        return [
            *values,
            Figure(f"{first['collapsed']} of {count_runs(first)}", "runs collapsed"),
            Figure(show(first["seconds_per_1000_images"]), "seconds per 1,000 images"),
        ]
    medians = [row["final"][name]["median"] for row in (first, second)]
    known = None not in medians
    spread = needed_lead(first, second, name) if known else None
    return [
        *values,
        Figure(
            show(abs(medians[0] - medians[1])) if known else "–",
            "difference between the two",
            "spread over seeds unknown"
            if spread is None
            else f"a winner needs more than {show(spread)}, the spread over seeds",
        ),
    ]


def describe_evaluation(plan: ComparisonPlan) -> str:
    """Which checkpoints were evaluated, as a sentence."""
    checkpoints = plan.evaluation.get("checkpoints", 1)
    if checkpoints == 1:
        return "The last checkpoint of each run was evaluated, all in the same way."
    return f"{checkpoints} checkpoints of each run were evaluated, all in the same way."


def describe_few_seeds(seeds: int) -> str:
    """What few seeds mean for the verdict, as a further sentence; empty for three or more."""
    if seeds > 2:
        return ""
    return (
        " Two seeds say little: only large differences count."
        if seeds == 2
        else " One seed cannot decide: there is no winner."
    )


def describe_limit(plan: ComparisonPlan) -> str:
    """The time limit of each run as the end of a sentence about their images; empty without one."""
    minutes = plan.conditions.minutes
    if minutes is None:
        return ""
    time = plural(minutes, "minute")
    if plan.conditions.images:
        return f", or for {time} at most"
    unit = " of CPU time" if plan.device == "cpu" else ""
    return f", {MARGIN:.0%} of what fits into {time}{unit} at the speed that was measured first"


def log_lines(record: Record, result: RunResult) -> list[dict[str, Any]]:
    """The lines of a run's log until its training ended in the comparison; empty if there is none."""
    folder = record.run_folder(result.recipe, result.seed)
    lines = Run(folder).records() if (folder / "run.json").exists() else []
    return [line for line in lines if line["images"] <= result.images]


def shown_measures(names: Sequence[str]) -> list[str]:
    """Four measures for a short table: of runs that generate images from images, two of realism and two of what they keep."""
    from leafwing.metrics.conclusions import KEEPING

    keeping = [name for name in KEEPING if name in names]
    realism = [name for name in names if name not in KEEPING][: 4 - min(2, len(keeping))]
    return [*realism, *keeping[: 4 - len(realism)]]


def as_text(table: Mapping[str, Any]) -> str:
    """The content of `table.json` for a terminal: the sentences, one row per recipe, and the path of the report."""
    from leafwing.metrics.caveats import MARK
    from leafwing.metrics.conclusions import describe_outcome, show
    from leafwing.tables import align_columns

    names = shown_measures([name for name, better in table["measures"].items() if better] or list(table["measures"]))
    rows = [
        (
            "recipe",
            *(f"final {name}{MARK * (name in table['marked'])}" for name in names),
            "collapsed",
            "CPU time",
            "s per 1,000 images",
        )
    ]
    for recipe in table["summary"]:
        finals = [recipe["final"][name] for name in names]
        values = (f"{show(final['median'])} ({show(final['low'])} to {show(final['high'])})" for final in finals)
        cost = "–" if recipe["processor_seconds"] is None else show_duration(recipe["processor_seconds"])
        rows.append((recipe["recipe"], *values, describe_outcome(recipe), cost, show(recipe["seconds_per_1000_images"])))
    sentences = [" ".join(table["sentences"]), *(table[key] for key in ("keeping", "equal") if table[key])]
    return "\n".join([*sentences, "", align_columns(rows), *table["caveats"], "", f"report  {table['report']}"])

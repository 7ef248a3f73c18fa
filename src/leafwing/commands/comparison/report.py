"""The results of a comparison, from its run folders: `table.json`, `table.csv` and `report.html`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from leafwing import files, health
from leafwing.commands.comparison.plan import ComparedRecipe, ComparisonPlan
from leafwing.commands.comparison.record import Record
from leafwing.errors import LeafwingError
from leafwing.machine import cores, processor, versions
from leafwing.progress import Reporter
from leafwing.quantities import plural, show_count, show_duration
from leafwing.runs import Run

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.metrics.conclusions import Budget
    from leafwing.metrics.report import About, Gallery, Picture
    from leafwing.metrics.table import RunResult, Table

GALLERY_FRACTIONS = (0.05, 0.2, 0.4, 0.7, 1.0)
"""Fractions of training at which the samples of a recipe are shown."""
MAX_DISTANCE = 0.05
"""Maximum distance of a sample grid from such a fraction, as a fraction of training."""
MAX_WIDTH, MAX_PAGE_WIDTH = 520, 1100
"""Maximum width of images in the report, and of pages of closest pairs, in pixels."""
VARIETY_SAMPLES = 256
"""Maximum number of samples, and of real images, whose variety is compared."""


def write_report(plan: ComparisonPlan, record: Record, progress: Reporter) -> dict[str, Any]:
    """Writes the report and the tables of a comparison whose runs have ended.

    Returns:
        The content of `table.json`.

    Raises:
        LeafwingError: no run was evaluated, or runs were evaluated under different conditions.
        StorageError: a file cannot be written.
    """
    from leafwing.metrics.report import page
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
    files.write(record.folder / "table.json", as_json(table))
    files.write(record.folder / "table.csv", as_csv(table))
    files.write(path, page(table, results, galleries(plan, record, table), report_context(plan, record, results)))
    progress.say(f"report: {path}")
    return table.as_dict()


# --- results of a run -------------------------------------------------------------------------------------------------------


def run_result(plan: ComparisonPlan, record: Record, name: str, seed: int) -> RunResult:
    """The result of one run. The variety of its final samples is measured once and kept in the record."""
    from leafwing.metrics.table import RunResult

    state, folder, recipe = record.run_state(name, seed), record.run_folder(name, seed), plan.recipes[name]
    status = state.status or "failed"
    if not (folder / "run.json").exists():
        return RunResult(name, seed, status, state.message)
    run = Run(folder, trust=recipe.is_file)
    lines = run.records()
    last = lines[-1] if lines else {}
    is_finished = status == "finished"
    is_unevaluated = is_finished and state.evaluation is None
    if is_finished and not run.spec.points and state.variety is None:
        state.variety = relative_variety(run, plan.data)
        record.update_run(name, seed, variety=state.variety)
    return RunResult(
        name,
        seed,
        "failed" if is_unevaluated else status,
        state.evaluation_error if is_unevaluated else state.message,
        images=int(last.get("images", 0)),
        seconds=float(last.get("seconds", 0.0)),
        processor=None if state.processor is None else state.processor / plan.threads,
        steps=generator_steps(recipe, run.settings.schedule.images, int(last.get("images", 0))),
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


def relative_variety(run: Run, data: Dataset) -> float:
    """The variety of the final samples of a run, divided by that of real images.

    Variety is the mean pairwise distance of images averaged down to 8x8, as in the health monitor but with more images.
    """
    from leafwing.conditions import pixel_conditions
    from leafwing.engine.probe import downsample, mean_distance
    from leafwing.metrics.targets import target
    from leafwing.model import Model

    model, data, n = Model.load(run), data.centred(), min(VARIETY_SAMPLES, len(data))
    if names := pixel_conditions(model.output, run.spec):
        inputs = data.to_network(data.batch(0, 0, n))
        further: dict[str, Any] = {name: inputs[name] for name in names[1:]}
        samples = model.translate(inputs[names[0]], output=model.output.field, **further)
    else:
        samples = model.sample(VARIETY_SAMPLES, seed=0)
    compared = target(data, model.output.field)
    real = compared.to_network(compared.batch(0, 0, n)).image
    return round(float(mean_distance(downsample(samples)) / mean_distance(downsample(real))), 4)


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
    from leafwing.metrics.protocol import describe
    from leafwing.metrics.report import About

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
        "All checkpoints were evaluated in the same way."
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
    title = f"{plural(n, 'recipe')} on {source}" + ("" if spec.points else f" at {shape}")
    return About(title, lead, plan.command, facts, list(protocols.items()), seconds)


def describe_limit(plan: ComparisonPlan) -> str:
    """The time limit of each run as the end of a sentence about their images; empty without one."""
    minutes = plan.conditions.minutes
    if minutes is None:
        return ""
    time = plural(minutes, "minute")
    if plan.conditions.images:
        return f" or takes {time}"
    unit = " of CPU time" if plan.device == "cpu" else ""
    return f", which is {time}{unit} at the speed that was measured first"


def log_lines(record: Record, result: RunResult) -> list[dict[str, Any]]:
    """The lines of a run's log; empty if there is none."""
    folder = record.run_folder(result.recipe, result.seed)
    return Run(folder).records() if (folder / "run.json").exists() else []


def galleries(plan: ComparisonPlan, record: Record, table: Table) -> list[Gallery]:
    """Samples over training, final samples of every seed, and pages of closest pairs."""
    from leafwing.metrics.report import Gallery

    seeds = {row["recipe"]: median_run(row["recipe"], table) for row in table.summary}
    is_equal = len({*plan.images.values()}) == 1
    sources = "inputs" if translates(plan) else "latents"
    over_training = Gallery(
        "Samples over training",
        f"At equal {'numbers of images shown' if is_equal else 'fractions of each run'}, always from the same {sources}. For each "
        "recipe, the run with the median final value is shown.",
        [
            (
                f"{name}, seed {seed}",
                [grid for fraction in GALLERY_FRACTIONS if (grid := grid_at(plan, record, name, seed, fraction))],
            )
            for name, seed in seeds.items()
        ],
    )
    final = Gallery(
        "Final samples of every seed",
        "The last samples of every run, good and bad.",
        [(name, [grid for seed in plan.seeds if (grid := last_grid(record, name, seed))]) for name in seeds],
    )
    pages = [(f"{name}, seed {seed}", closest_pairs(record, name, seed)) for name, seed in seeds.items()]
    pairs = Gallery(
        "Closest pairs",
        "Samples next to the training images that are closest to them: a generator that copies is visible here.",
        [(label, images) for label, images in pages if images],
        wide=True,
    )
    side_by_side = [translations(plan, record, seeds)] if translates(plan) else []
    return [*side_by_side, over_training, *([final] if len(plan.seeds) > 1 else []), *([pairs] if pairs.rows else [])]


def translates(plan: ComparisonPlan) -> bool:
    """Whether the compared recipes generate images from images."""
    from leafwing.conditions import pixel_conditions

    return any(pixel_conditions(recipe.output, plan.data.spec) for recipe in plan.recipes.values())


def translations(plan: ComparisonPlan, record: Record, seeds: Mapping[str, int]) -> Gallery:
    """The same held-out inputs, and beside each what every recipe generates from it, and the real image if they are paired.

    Args:
        plan: of the comparison.
        record: of the comparison.
        seeds: the run that is shown of each recipe.
    """
    from leafwing.commands.session import sheet_rows
    from leafwing.conditions import pixel_conditions
    from leafwing.metrics.report import Gallery, Picture
    from leafwing.metrics.targets import is_paired
    from leafwing.model import Model
    from leafwing.pictures import comparison_sheet, png

    samples, rows, models = {}, None, []
    for name, seed in seeds.items():
        run = Run(record.run_folder(name, seed), trust=plan.recipes[name].is_file)
        if not (run.folder / "run.json").exists() or not run.weights():
            continue
        model = Model.load(run)
        rows = sheet_rows(run, plan.data, model.game) if rows is None else rows
        if rows is None:
            continue
        conditions: dict[str, Any] = {key: rows[key] for key in model.output.conditions if key in rows}
        source = conditions.pop(pixel_conditions(model.output, run.spec)[0])
        samples[f"{name}, seed {seed}"] = model.translate(source, output=model.output.field, **conditions)
        models.append(model)
    title, part = "Translations", "held-out" if plan.conditions.held_out else "training"
    if not models or rows is None:
        return Gallery(title, "No run has a checkpoint.", [])
    paired = is_paired(models[0].output, plan.data.spec)
    sheet = comparison_sheet(models[0], rows, samples, with_real=paired).image()
    real = (
        ", and the real image on the right"
        if paired
        else "; inputs and images are not paired, so there is no real counterpart"
    )
    text = (
        f"The same {part} inputs, and what each recipe makes of them at the end{real}. For each recipe, the run with the median final "
        "value is shown."
    )
    return Gallery(title, text, [(f"{part} inputs", [Picture(png(sheet), "image/png", "")])], wide=True)


def median_run(name: str, table: Table) -> int:
    """The seed of the run of a recipe with the median final value, or the worse one of two; without final values, the best value."""
    from leafwing.metrics.table import sort_key

    runs = [run for run in table.runs if run["recipe"] == name]
    ordered = sorted(runs, key=lambda run: (sort_key(run["final"], table.measures), sort_key(run["best"], table.measures)))
    finished = [run for run in ordered if run["status"] == "finished"] or ordered
    return int(finished[(len(finished) - 1) // 2]["seed"])


def sample_grids(record: Record, name: str, seed: int) -> dict[int, Path]:
    """The sample grids of a run, by images shown."""
    paths = (path for path in (record.run_folder(name, seed) / "samples").glob("*.png") if path.stem.isdigit())
    return {int(path.stem): path for path in sorted(paths)}


def grid_at(plan: ComparisonPlan, record: Record, name: str, seed: int, fraction: float) -> Picture | None:
    """The sample grid at a fraction of the training; None if training did not get there."""
    grids, total = sample_grids(record, name, seed), plan.images[name]
    nearest = min(grids, key=lambda images: abs(images - fraction * total), default=None)
    if nearest is None or abs(nearest - fraction * total) > MAX_DISTANCE * total:
        return None
    return shrink(grids[nearest], f"{show_count(nearest)} images")


def last_grid(record: Record, name: str, seed: int) -> Picture | None:
    """The last sample grid of a run."""
    grids = sample_grids(record, name, seed)
    return shrink(grids[max(grids)], f"seed {seed}, {show_count(max(grids))} images") if grids else None


def closest_pairs(record: Record, name: str, seed: int) -> list[Picture]:
    """The last page of closest pairs that the evaluation of a run wrote, with its conclusion; empty if there is none."""
    paths = sorted(record.run_folder(name, seed).glob("memorisation-*.png"))
    conclusions = [row["words"] for row in record.run_state(name, seed).rows if row.get("words")]
    if not paths:
        return []
    return [shrink(paths[-1], conclusions[-1] if conclusions else paths[-1].stem, MAX_PAGE_WIDTH)]


def shrink(path: Path, caption: str, width: int = MAX_WIDTH) -> Picture:
    """An image file, reduced to a maximum width in pixels."""
    from PIL import Image

    from leafwing.metrics.report import Picture

    content = io.BytesIO()
    with Image.open(path) as image:
        is_plot = image.mode == "L"  # of points: few colours, sharp edges
        small = image.convert("RGB")
        small.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
        small.save(content, "WEBP", quality=80, lossless=is_plot, method=4)
    return Picture(content.getvalue(), "image/webp", caption)


def shown_measures(names: Sequence[str]) -> list[str]:
    """Four measures for a short table: of runs that generate images from images, two of realism and two of what they keep."""
    from leafwing.metrics.conclusions import KEEPING

    keeping = [name for name in KEEPING if name in names]
    realism = [name for name in names if name not in KEEPING][: 4 - min(2, len(keeping))]
    return [*realism, *keeping[: 4 - len(realism)]]


def as_text(table: Mapping[str, Any]) -> str:
    """The content of `table.json` for a terminal: the sentences, one row per recipe, and the path of the report."""
    from leafwing.metrics.conclusions import describe_outcome, show
    from leafwing.tables import align_columns

    names = shown_measures([name for name, better in table["measures"].items() if better] or list(table["measures"]))
    rows = [("recipe", *(f"final {name}" for name in names), "collapsed", "CPU time", "s per 1,000 images")]
    for recipe in table["summary"]:
        finals = [recipe["final"][name] for name in names]
        values = (f"{show(final['median'])} ({show(final['low'])} to {show(final['high'])})" for final in finals)
        cost = "–" if recipe["processor_seconds"] is None else show_duration(recipe["processor_seconds"])
        rows.append((recipe["recipe"], *values, describe_outcome(recipe), cost, show(recipe["seconds_per_1000_images"])))
    sentences = [" ".join(table["sentences"]), *(table[key] for key in ("keeping", "equal") if table[key])]
    return "\n".join([*sentences, "", align_columns(rows), "", f"report  {table['report']}"])

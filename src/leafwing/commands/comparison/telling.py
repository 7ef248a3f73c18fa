"""What a comparison found, told: `table.json`, `table.csv` and `report.html` from its run folders."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from leafwing import files, health
from leafwing.commands.comparison.book import Book
from leafwing.commands.comparison.entering import Entrant, Plan
from leafwing.errors import LeafwingError
from leafwing.machine import cores
from leafwing.progress import Silent
from leafwing.quantities import show_count, show_duration
from leafwing.runs import Run, processor, versions

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.metrics.conclusions import Budget
    from leafwing.metrics.report import About, Gallery, Picture
    from leafwing.metrics.table import RunResult, Table

MOMENTS = (0.05, 0.2, 0.4, 0.7, 1.0)
"""At these parts of the images the samples of a recipe are shown."""
APART = 0.05
"""A progress picture stands for a moment when it is no further from it than this part of all images."""
WIDEST, WIDEST_PAGE = 520, 1100  # pixels
SAMPLED = 256
"""How many samples, and real pictures, are compared for their variety."""


def tell(plan: Plan, book: Book, progress: Silent) -> dict[str, Any]:
    """Write the report and the tables of a comparison whose trainings have ended.

    Returns:
        The content of `table.json`.

    Raises:
        LeafwingError: no run left a number, or numbers were made under different conditions.
        StorageError: a file cannot be written.
    """
    from leafwing.metrics.report import page
    from leafwing.metrics.table import as_csv, as_json, tabulate

    found = [gathered(plan, book, name, seed) for name in plan.entrants for seed in plan.seeds]
    if not any(one.rows for one in found):
        said = next((one.reason for one in found if one.reason), "no training reached its first checkpoint")
        raise LeafwingError(f"{book.folder}: no run left a number ({said}). What they said is in {book.folder / 'logs'}")
    try:
        table = tabulate(found, budget(plan, found))
    except LeafwingError as error:  # leafwing or the data's feature network has changed since the first runs were evaluated
        for one in found:
            book.done(one.recipe, one.seed, evaluation=None)
        raise LeafwingError(f"{error}. The same command will now evaluate all runs again") from None
    report = book.folder / "report.html"
    table = replace(table, about=made_with(plan, found) | {"report": str(report)})
    files.write(book.folder / "table.json", as_json(table))
    files.write(book.folder / "table.csv", as_csv(table))
    files.write(report, page(table, found, galleries(plan, book, table), about(plan, book, found)))
    progress.say(f"report: {report}")
    return table.as_dict()


# --- what is known of a run -------------------------------------------------------------------------------------------------


def gathered(plan: Plan, book: Book, name: str, seed: int) -> RunResult:
    """What is known of one run; how varied its final samples are is worked out once and kept in the book."""
    from leafwing.metrics.table import RunResult

    known, folder, entrant = book.of(name, seed), book.run(name, seed), plan.entrants[name]
    if not (folder / "run.json").exists():
        return RunResult(name, seed, known["status"], known["said"])
    run = Run(folder, trust=entrant.own)
    records = run.records()
    last = (records or [{}])[-1]
    finished = known["status"] == "finished"
    unevaluated = finished and known.get("evaluation") is None
    if finished and not run.spec.points and known.get("variety") is None:
        known["variety"] = variety(run, plan.data)
        book.done(name, seed, variety=known["variety"])
    return RunResult(
        name,
        seed,
        "failed" if unevaluated else known["status"],
        known["unevaluated"] if unevaluated else known["said"],
        images=int(last.get("images", 0)),
        seconds=float(last.get("seconds", 0.0)),
        processor=None if known.get("processor") is None else known["processor"] / plan.threads,
        steps=generator_steps(entrant, run.settings.schedule.images, int(last.get("images", 0))),
        rows=known.get("numbers", []),
        variety=known.get("variety"),
        modes=known_modes(plan.data.source),
        total=plan.images[name],
        alarms=[(alarm.about, alarm.raised) for alarm in health.alarms(records)],
    )


def budget(plan: Plan, found: Sequence[RunResult]) -> Budget:
    """What was equal for all, and in which seconds costs are counted: of processor time where that is known of all that finished."""
    from leafwing.metrics.conclusions import Budget

    minutes = plan.asked["minutes"]
    seconds = None if minutes is None else 60.0 * minutes
    by: Literal["images", "time"] = "images" if plan.asked["images"] is not None else "time"
    known = all(one.processor is not None for one in found if one.status == "finished")
    if plan.device == "cpu" and known:
        return Budget(by, seconds, "processor_seconds", "processor time")
    return Budget(by, seconds, "seconds", "wall-clock time" if plan.device == "cpu" else f"wall-clock time on {plan.device}")


def variety(run: Run, data: Dataset) -> float:
    """How much the final samples of a run differ from each other, as a share of how much real pictures do.

    It is the mean distance of pairs of pictures averaged down to 8x8, as the health monitor measures it, of many more pictures.
    """
    from leafwing.engine.probe import downsample, mean_distance
    from leafwing.model import Model

    samples = Model.load(run).sample(SAMPLED, seed=0)
    real = data.batch(0, 0, min(SAMPLED, len(data)))["image"].float() / 127.5 - 1
    return round(float(mean_distance(downsample(samples)) / mean_distance(downsample(real))), 4)


def generator_steps(entrant: Entrant, total: int, images: int, player: str = "G") -> int | None:
    """How often a player had moved when so many images had been shown: the rounds are counted out as the loop plays them.

    Args:
        entrant: whose turns.
        total: images of the whole training, which its schedules depend on.
        images: how many have been shown.
        player: who moves.

    Returns:
        None when nobody is called so.
    """
    from leafwing.game import Clock

    if not any(player in turn.movers for turn in entrant.turns):
        return None
    clock, steps = Clock(0, total, 0), 0
    while clock.images < images:
        taken = [(turn, times) for turn in entrant.turns if (times := turn.times(clock))]
        steps += sum(times for turn, times in taken if player in turn.movers)
        clock = Clock(clock.images + entrant.batch * taken[0][1], total, clock.round + 1)
    return steps


def known_modes(source: str) -> int:
    """How many modes the data have; 0 where that is not known."""
    from leafwing.metrics.modes import total

    try:
        return total(source)
    except LeafwingError:
        return 0


# --- the report -------------------------------------------------------------------------------------------------------------


def made_with(plan: Plan, found: Sequence[RunResult]) -> dict[str, Any]:
    """What `table.json` holds beside the rows."""
    protocols = {made["fingerprint"]: made["protocol"] for one in found for made in one.rows}
    return {
        "command": plan.command,
        "data": plan.asked,
        "recipes": {name: one.resolved for name, one in plan.entrants.items()},
        "images": plan.images,
        "protocols": protocols,
        "versions": versions(),
        "hardware": hardware(plan),
    }


def hardware(plan: Plan) -> str:
    """What it ran on, in words."""
    if plan.device == "cuda":
        import torch

        gpu = torch.cuda.get_device_name()
        return f"{torch.cuda.device_count()} x {gpu}, {plan.jobs} trainings at a time"
    return f"{processor()}, {cores()} cores, {plan.jobs} trainings at a time with {plan.threads} threads each"


def about(plan: Plan, book: Book, found: Sequence[RunResult]) -> About:
    """What a reader who was not here must know."""
    from leafwing.metrics.protocol import describe
    from leafwing.metrics.report import About

    spec, data = plan.data.spec, plan.data
    source = ("stacked:" if data.source.startswith("stacked:") else "") + Path(data.source).name
    shape = "points" if spec.points else f"{spec.height}x{spec.width}"
    n, k = len(plan.entrants), len(plan.seeds)
    held = plan.asked["held_out"]
    kept = f", {held:,} of them kept out of training and used for the numbers" if held else ""
    each = sorted({*plan.images.values()})
    shown = f"{each[0]:,}" if len(each) == 1 else f"{each[0]:,} to {each[-1]:,}"
    minutes = plan.asked["minutes"]
    limit = (
        ""
        if minutes is None
        else f"{' or' if plan.asked['images'] else ', which is'} {minutes:g} minute{'' if minutes == 1 else 's'}"
    )
    of = "of processor time at" if plan.device == "cpu" else "at"
    limit += f" {of} the speed that was measured first" if minutes and not plan.asked["images"] else ""
    lead = (
        f"{n} recipe{'s' if n > 1 else ''} for generative adversarial networks {'were' if n > 1 else 'was'} trained on {source} "
        f"({len(data):,} {'points' if spec.points else f'pictures at {shape} pixels'}{kept}), each with {k} "
        f"seed{'s' if k > 1 else ''}. A training shows {shown} images{limit}; its checkpoints were evaluated alike."
    )
    protocols: dict[str, list[str]] = {}
    for made in (made for one in found for made in one.rows):
        names = protocols.setdefault(describe(made["protocol"]), [])
        if made["metric"] not in names:
            names.append(made["metric"])
    told = versions()
    facts = [
        ("data", f"{source}, fingerprint {data.fingerprint[:16]}"),
        ("hardware", hardware(plan)),
        ("leafwing", f"{told['leafwing']}" + (f", commit {told['commit']}" if told["commit"] else "")),
        ("versions", f"Python {told['python']}, torch {told['torch']}, {told['machine']}"),
    ]
    seconds = {
        (one.recipe, one.seed): {
            int(record["images"]): float(record["seconds"]) for record in records(book, one) if "seconds" in record
        }
        for one in found
    }
    title = f"{n} recipe{'s' if n > 1 else ''} on {source}" + ("" if spec.points else f" at {shape}")
    return About(title, lead, plan.command, facts, list(protocols.items()), seconds)


def records(book: Book, one: RunResult) -> list[dict[str, Any]]:
    """The log of a run; empty where it has none."""
    folder = book.run(one.recipe, one.seed)
    return Run(folder).records() if (folder / "run.json").exists() else []


def galleries(plan: Plan, book: Book, table: Table) -> list[Gallery]:
    """Samples over training, samples of every seed, and pages of closest pairs."""
    from leafwing.metrics.report import Gallery

    chosen = {one["recipe"]: middle_run(one["recipe"], table) for one in table.summary}
    equal = len({*plan.images.values()}) == 1
    over = Gallery(
        "Samples over training",
        f"At equal {'numbers of images shown' if equal else 'parts of each training'}, always of the same latents. Of each recipe the "
        "run is shown whose final number lies in the middle.",
        [
            (f"{name}, seed {seed}", [one for part in MOMENTS if (one := grid_at(plan, book, name, seed, part))])
            for name, seed in chosen.items()
        ],
    )
    last = Gallery(
        "Every seed at its end",
        "The last samples of every run, good and bad.",
        [(name, [one for seed in plan.seeds if (one := last_grid(book, name, seed))]) for name in chosen],
    )
    pages = [(f"{name}, seed {seed}", closest(book, name, seed)) for name, seed in chosen.items()]
    pairs = Gallery(
        "Closest pairs",
        "Samples beside the training pictures that they are closest to: a generator that copies is seen here.",
        [(name, shown) for name, shown in pages if shown],
        wide=True,
    )
    return [over, *([last] if len(plan.seeds) > 1 else []), *([pairs] if pairs.rows else [])]


def middle_run(name: str, table: Table) -> int:
    """The seed of the recipe's run whose final number is the median, or the worse one of two; of its best if there is none."""
    from leafwing.metrics.table import goodness

    runs = [run for run in table.runs if run["recipe"] == name]
    ordered = sorted(runs, key=lambda run: (goodness(run["final"], table.measures), goodness(run["best"], table.measures)))
    ended = [run for run in ordered if run["status"] == "finished"] or ordered
    return int(ended[(len(ended) - 1) // 2]["seed"])


def grids(book: Book, name: str, seed: int) -> dict[int, Path]:
    """The progress pictures of a run by images shown."""
    found = (path for path in (book.run(name, seed) / "samples").glob("*.png") if path.stem.isdigit())
    return {int(path.stem): path for path in sorted(found)}


def grid_at(plan: Plan, book: Book, name: str, seed: int, part: float) -> Picture | None:
    """The progress picture at a part of the images; None where training did not come so far."""
    found, total = grids(book, name, seed), plan.images[name]
    nearest = min(found, key=lambda images: abs(images - part * total), default=None)
    if nearest is None or abs(nearest - part * total) > APART * total:
        return None
    return shrunk(found[nearest], f"{show_count(nearest)} images")


def last_grid(book: Book, name: str, seed: int) -> Picture | None:
    """The last progress picture of a run."""
    found = grids(book, name, seed)
    return shrunk(found[max(found)], f"seed {seed}, {show_count(max(found))} images") if found else None


def closest(book: Book, name: str, seed: int) -> list[Picture]:
    """The last page of closest pairs that the evaluation of a run wrote, with what it said."""
    found = sorted(book.run(name, seed).glob("memorisation-*.png"))
    numbers = book.of(name, seed).get("numbers", [])
    said = [made["words"] for made in numbers if made.get("words")]
    return [shrunk(found[-1], said[-1] if said else found[-1].stem, WIDEST_PAGE)] if found else []


def shrunk(path: Path, caption: str, widest: int = WIDEST) -> Picture:
    """A picture file small enough for the page."""
    from PIL import Image

    from leafwing.metrics.report import Picture

    held = io.BytesIO()
    with Image.open(path) as image:
        grey = image.mode == "L"  # a plot of points: few colours, sharp edges
        shown = image.convert("RGB")
        shown.thumbnail((widest, 10 * widest), Image.Resampling.LANCZOS)
        shown.save(held, "WEBP", quality=80, lossless=grey, method=4)
    return Picture(held.getvalue(), "image/webp", caption)


def as_text(told: Mapping[str, Any]) -> str:
    """What was found, for a terminal: the three sentences, a row a recipe, and where the report is."""
    from leafwing.metrics.conclusions import describe_outcome, show
    from leafwing.tables import aligned

    names = list(told["measures"])[:4]
    lines = [("recipe", *(f"final {name}" for name in names), "collapsed", "processor time", "s per 1,000 images")]
    for one in told["summary"]:
        numbers = (
            f"{show(over['median'])} ({show(over['low'])} to {show(over['high'])})"
            for over in (one["final"][name] for name in names)
        )
        worked = "–" if one["processor_seconds"] is None else show_duration(one["processor_seconds"])
        lines.append((one["recipe"], *numbers, describe_outcome(one), worked, show(one["seconds_per_1000_images"])))
    return "\n".join(
        [
            " ".join(told["sentences"]),
            *([told["equal"]] if told["equal"] else []),
            "",
            aligned(lines),
            "",
            f"report  {told['report']}",
        ]
    )

"""The results of a comparison: one row per run, one row per recipe, and three sentences. Pure functions of the measurements.

Every value belongs to a checkpoint. `final` is a run's last checkpoint; `best` is the one with the best first measure, so that all
values of a row come from the same checkpoint. Over seeds, values are summarised by their median and their spread, the
interquartile range, which for three seeds is the full range.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median, quantiles
from typing import Any, Literal

from leafwing.metrics import caveats, protocol
from leafwing.metrics.conclusions import (
    MIN_STEPS,
    Better,
    Budget,
    describe_budget,
    describe_imbalance,
    describe_keeping,
    is_too_short,
    number,
    says_nothing,
    sentences,
    show,
)
from leafwing.quantities import show_count

MIN_VARIETY = 0.25
"""Minimum diversity of the final samples, as a fraction of that of real images; less counts as mode collapse."""
HUGE = 1e300
"""Stands for infinity where quartiles are interpolated."""
FAR_WORSE = 2.0
"""A final value this many times worse than the run's best one, with disjoint intervals, means that training collapsed."""


@dataclass(frozen=True)
class RunResult:
    """The results of one run.

    Args:
        recipe: its name.
        seed: random seed of the training.
        status: finished; diverged: a loss or weight became NaN or infinite; failed: aborted for another reason.
        reason: why it did not finish.
        images: real images shown.
        seconds: wall-clock training time.
        steps: number of generator steps; None if no player is called G.
        rows: the rows of `commands.evaluate` for all checkpoints.
        variety: diversity of the final samples relative to real images; None for points or without a model.
        modes: number of modes of the data; 0 if unknown.
        alarms: descriptions of the health alarms, each with the images at which it was raised.
        total: planned number of images; 0 if unknown.
        processor: CPU time of its processes over their lifetime, in seconds per thread; None if unknown.
    """

    recipe: str
    seed: int
    status: Literal["finished", "diverged", "failed"]
    reason: str = ""
    images: int = 0
    seconds: float = 0.0
    steps: int | None = None
    rows: Sequence[dict[str, Any]] = ()
    variety: float | None = None
    modes: int = 0
    alarms: Sequence[tuple[str, int]] = ()
    total: int = 0
    processor: float | None = None

    @property
    def too_short(self) -> bool:
        """Whether its generator took too few steps to be judged; a diverged run is judged anyway."""
        return self.status == "finished" and self.steps is not None and self.steps < MIN_STEPS

    @property
    def cut_short(self) -> bool:
        """Whether it hit the time limit before its images were shown."""
        return self.status == "finished" and self.images < self.total

    @property
    def name(self) -> str:
        """The display name of the run."""
        return f"{self.recipe} seed {self.seed}"

    def at(self, images: int) -> dict[str, float | None]:
        """The values of a checkpoint by measure; None if not finite, and for a precision of copies of one picture."""
        return {str(row["metric"]): value_of(row) for row in self.rows if row["images"] == images}

    def curve(self, measure: str) -> list[tuple[int, float]]:
        """Images shown and value of a measure for each checkpoint."""
        points = ((int(row["images"]), value_of(row)) for row in self.rows if row["metric"] == measure)
        return sorted((images, value) for images, value in points if value is not None)


@dataclass(frozen=True)
class Table:
    """A whole comparison.

    Args:
        runs: one row per run.
        summary: one row per recipe, the best final median first.
        measures: their names, the ranking one first, and which direction is better.
        sentences: which recipe won, by how much relative to the spread, what failed.
        budget_text: the budget of the training runs and the cost of each recipe.
        imbalance: why there can be no winner because the training runs were unequal; empty if they were equal.
        keeping: which recipe keeps most of the images that samples are generated from; empty if that was not measured.
        caveats: what the values do not say; see `caveats`.
        marked: the measures to which the mark in one of them refers.
        about: further entries of `table.json`.
    """

    runs: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    measures: dict[str, Better]
    sentences: tuple[str, str, str]
    budget_text: str = ""
    imbalance: str = ""
    keeping: str = ""
    caveats: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: the content of `table.json`."""
        return {
            "sentences": list(self.sentences),
            "equal": self.budget_text,
            "unequal": self.imbalance,
            "keeping": self.keeping,
            "caveats": list(self.caveats),
            "marked": list(self.marked),
            "runs": self.runs,
            "summary": self.summary,
            "measures": self.measures,
            **self.about,
        }


def value_of(row: Mapping[str, Any]) -> float | None:
    """The value in a row of `evaluate` that may be ranked."""
    return None if says_nothing(row) else number(row["value"])


def tabulate(results: Sequence[RunResult], budget: Budget | None = None) -> Table:
    """The table of a comparison.

    Args:
        results: its runs.
        budget: the budget of each run; None: not checked.

    Raises:
        LeafwingError: values of one measure come from different protocols and cannot be ranked.
    """
    measures = collect_measures(results)
    runs = [run_row(result, measures) for result in results]
    recipes = dict.fromkeys(result.recipe for result in results)
    summary = rank_recipes(
        [recipe_row(recipe, [run for run in runs if run["recipe"] == recipe], measures) for recipe in recipes], measures
    )
    imbalance = describe_imbalance(runs, summary, budget) if budget else ""
    budget_text = describe_budget(runs, summary, budget) if budget else ""
    keeping = describe_keeping(summary, measures, imbalance)
    rows = [row for result in results for row in result.rows]
    return Table(
        runs,
        summary,
        measures,
        sentences(runs, summary, measures, imbalance),
        budget_text,
        imbalance,
        keeping,
        tuple(caveats.of_rows(rows)),
        tuple(name for name in measures if any(row["metric"] == name and caveats.is_flattered(row) for row in rows)),
    )


def collect_measures(results: Iterable[RunResult]) -> dict[str, Better]:
    """The measures, in order of first appearance, with which direction is better; those that can be ranked by come first.

    Raises:
        LeafwingError: two values of one measure come from different protocols; the message names the differences.
    """
    rows = [row | {"run": result.name} for result in results for row in result.rows]
    protocol.require_same_protocol(rows)
    directions: dict[str, Better] = {row["metric"]: row["better"] for row in reversed(rows)}
    names = dict.fromkeys(row["metric"] for row in rows)
    return {name: directions[name] for ranks in (True, False) for name in names if bool(directions[name]) == ranks}


def run_row(result: RunResult, measures: Mapping[str, Better]) -> dict[str, Any]:
    """The row of one run."""
    checkpoints = sorted({int(row["images"]) for row in result.rows})
    best = max(checkpoints, key=lambda images: (sort_key(result.at(images), measures), images), default=None)
    final = checkpoints[-1] if checkpoints and result.status == "finished" else None
    no_values: dict[str, float | None] = dict.fromkeys(measures)
    collapse = "" if result.too_short else collapse_reason(result, measures, best, final)
    late = f"hit the time limit at {100 * result.images // result.total}% of its images" if result.cut_short else ""
    short = f"too short to judge: {result.steps} generator steps, fewer than {MIN_STEPS}" if result.too_short else ""
    return {
        "recipe": result.recipe,
        "seed": result.seed,
        "status": result.status,
        "collapsed": bool(collapse),
        "why": collapse or result.reason or "; ".join(filter(None, (short, late))),
        "cut_short": result.cut_short,
        "too_short": result.too_short,
        "images": result.images,
        "planned_images": result.total,
        "generator_steps": result.steps,
        "seconds": round(result.seconds, 3),
        "processor_seconds": None if result.processor is None else round(result.processor, 3),
        "seconds_per_1000_images": round(1000 * result.seconds / result.images, 4) if result.images else None,
        "variety": result.variety,
        "alarms": dict(reversed(result.alarms)),
        "best_images": best,
        "best": no_values | (result.at(best) if best is not None else {}),
        "final": no_values | (result.at(final) if final is not None else {}),
    }


def collapse_reason(result: RunResult, measures: Mapping[str, Better], best: int | None, final: int | None) -> str:
    """Why a run counts as collapsed; empty if it does not. A run aborted for another reason does not count against its recipe.

    A run has collapsed if it diverged; if its final samples lack diversity (`MIN_VARIETY`); if the data's modes are known and fewer
    than half are covered at the end; or if the first measure is `FAR_WORSE` at the end than at its best.

    Args:
        result: the run.
        measures: names, and which direction is better.
        best, final: its best and final checkpoint, by images.
    """
    if result.status != "finished":
        return result.reason if result.status == "diverged" else ""
    if result.variety is not None and result.variety < MIN_VARIETY:
        return f"mode collapse: {result.variety:.0%} of the diversity of real images"
    if best is None or final is None:
        return ""
    modes = result.at(final).get("modes")
    if result.modes and modes is not None and modes < result.modes / 2:
        return f"only {modes:.0f} of {result.modes} modes covered at the end"
    name = next(iter(measures))
    if is_far_worse(interval(result, name, best), interval(result, name, final), measures[name]):
        before, after = (show(result.at(images).get(name)) for images in (best, final))
        return f"{name} went from {before} at {show_count(best)} images to {after} at the end"
    return ""


def is_far_worse(best: tuple[float, float], final: tuple[float, float], better: Better) -> bool:
    """Whether the final value is `FAR_WORSE` than the best, with disjoint intervals (low, high)."""
    if better == "lower":
        return best[1] > 0 and final[0] > FAR_WORSE * best[1]
    return better == "higher" and best[0] > 0 and final[1] < best[0] / FAR_WORSE


def interval(result: RunResult, measure: str, images: int) -> tuple[float, float]:
    """The interval of a value, or the value as both ends if it has none; (nan, nan) if there is no value."""
    row = next((row for row in result.rows if row["metric"] == measure and row["images"] == images), {})
    value = number(row.get("value"))
    low, high = (number(row.get(end)) for end in ("low", "high"))
    centre = float("nan") if value is None else value
    return (centre if low is None else low, centre if high is None else high)


def recipe_row(recipe: str, runs: Sequence[Mapping[str, Any]], measures: Mapping[str, Better]) -> dict[str, Any]:
    """The row of a recipe. Failed runs are counted but otherwise ignored.

    So are runs too short to judge, unless they are the majority: then none is judged, the recipe is not ranked, and its row
    summarises all of them.
    """
    complete = [run for run in runs if run["status"] != "failed"]
    long_enough = [run for run in complete if not run["too_short"]]
    judged = long_enough if 2 * len(long_enough) >= len(complete) else []
    summarised = judged or complete
    collapsed = sum(run["collapsed"] for run in complete)
    return {
        "recipe": recipe,
        "runs": len(runs),
        "failed": len(runs) - len(complete),
        "too_short": len(complete) - len(long_enough),
        "judged": len(judged),
        "collapsed": collapsed,
        "collapse_rate": collapsed / len(judged) if judged else None,
        "alarmed": sum(bool(run["alarms"]) for run in complete),
        **{
            key: median_of_known([run[key] for run in summarised])
            for key in ("images", "generator_steps", "seconds", "processor_seconds", "seconds_per_1000_images")
        },
        **{
            moment: {
                name: summarise_seeds([run[moment][name] for run in summarised], better) for name, better in measures.items()
            }
            for moment in ("best", "final")
        },
    }


def median_of_known(values: Sequence[float | None]) -> float | None:
    """The median of the values that are not None."""
    known = [value for value in values if value is not None]
    return median(known) if known else None


def summarise_seeds(values: Sequence[float | None], better: Better) -> dict[str, float | int | None]:
    """Median, extremes and spread over seeds.

    A run without a value counts as worse than any value in the median and the spread, so both may be None.

    Returns:
        median; low and high of the existing values; spread: interquartile range; known_spread: that of the existing values; missing:
        number of runs without a value.
    """
    known = sorted(value for value in values if value is not None)
    missing = len(values) - len(known)
    worst = -inf if better == "higher" else inf
    ordered = sorted([*known, *[worst] * missing])
    return {
        "median": number(median(ordered)) if ordered else None,
        "low": known[0] if known else None,
        "high": known[-1] if known else None,
        "spread": spread(ordered),
        "known_spread": spread(known),
        "missing": missing,
    }


def spread(values: Sequence[float]) -> float | None:
    """The interquartile range (quartiles at (n + 1) / 4 and 3 (n + 1) / 4); None for fewer than two values or an infinite range."""
    if len(values) < 2:
        return None
    low, _, high = quantiles([min(max(value, -HUGE), HUGE) for value in values], n=4)  # 0 times infinity is no number
    return number(high - low) if max(abs(low), abs(high)) < HUGE / 8 else None


def sort_key(values: Mapping[str, float | None], measures: Mapping[str, Better]) -> tuple[float, ...]:
    """Sort key: one entry per measure, larger is better, a missing value is worst."""
    signs = {"higher": 1.0, "lower": -1.0}
    return tuple(
        -inf if (value := values.get(name)) is None else signs[better] * value for name, better in measures.items() if better
    )


def rank_recipes(summary: list[dict[str, Any]], measures: Mapping[str, Better]) -> list[dict[str, Any]]:
    """The rows of recipes sorted by their final medians, best first; ties are broken by the next measure.

    Recipes whose runs are too short to judge come last.
    """

    def key(row: Mapping[str, Any]) -> tuple[bool, tuple[float, ...]]:
        medians = {name: values["median"] for name, values in row["final"].items()}
        return not is_too_short(row), sort_key(medians, measures)

    return sorted(summary, key=key, reverse=True)


def as_csv(table: Table) -> str:
    """CSV with one row per run; best and final values in columns such as `final_fid`."""
    buffer = io.StringIO()
    plain = [name for name in table.runs[0] if name not in ("best", "final")]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*plain, *(f"{moment}_{name}" for moment in ("best", "final") for name in table.measures)])
    for run in table.runs:
        cells = run | {"alarms": "; ".join(run["alarms"])}
        values = [run[moment][name] for moment in ("best", "final") for name in table.measures]
        writer.writerow(["" if value is None else value for value in [*(cells[name] for name in plain), *values]])
    return buffer.getvalue()


def as_json(table: Table) -> str:
    """The content of `table.json`."""
    return json.dumps(table.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

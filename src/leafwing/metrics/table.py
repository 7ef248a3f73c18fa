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

from leafwing.metrics import protocol
from leafwing.metrics.verdict import LEAST_STEPS, Better, Budget, brief, equal, number, sentences, show, unequal
from leafwing.quantities import show_count

LEAST_VARIETY = 0.25
"""Minimum diversity of the final samples, as a fraction of that of real pictures; less counts as mode collapse."""
FAR_WORSE = 2.0
"""A final value this many times worse than the run's best one, with disjoint intervals, means that training collapsed."""


@dataclass(frozen=True)
class Found:
    """The results of one run.

    Args:
        recipe: its name.
        seed: of the training.
        status: finished; diverged: a loss or weight became NaN or infinite; failed: aborted for another reason.
        said: why it did not finish.
        images: real images shown.
        total: planned number of images; 0 if unknown.
        seconds: wall-clock training time.
        processor: processor time of its processes over their lifetime, in seconds per thread; None if unknown.
        steps: number of generator steps; None if no player is called G.
        numbers: the rows of `commands.evaluate` for all checkpoints.
        variety: diversity of the final samples relative to real pictures; None for points or without a model.
        modes: number of modes of the data; 0 if unknown.
        alarms: descriptions of the health alarms, each with the images at which it was raised.
    """

    recipe: str
    seed: int
    status: Literal["finished", "diverged", "failed"]
    said: str = ""
    images: int = 0
    seconds: float = 0.0
    steps: int | None = None
    numbers: Sequence[dict[str, Any]] = ()
    variety: float | None = None
    modes: int = 0
    alarms: Sequence[tuple[str, int]] = ()
    total: int = 0
    processor: float | None = None

    @property
    def too_short(self) -> bool:
        """Whether its generator took too few steps to be judged; a diverged run is judged anyway."""
        return self.status == "finished" and self.steps is not None and self.steps < LEAST_STEPS

    @property
    def cut_short(self) -> bool:
        """Whether it hit the time limit before its images were shown."""
        return self.status == "finished" and self.images < self.total

    @property
    def name(self) -> str:
        """The display name of the run."""
        return f"{self.recipe} seed {self.seed}"

    def at(self, images: int) -> dict[str, float | None]:
        """The values of a checkpoint by measure; None if not finite."""
        return {str(one["metric"]): number(one["value"]) for one in self.numbers if one["images"] == images}

    def curve(self, measure: str) -> list[tuple[int, float]]:
        """Images shown and value of a measure for each checkpoint."""
        found = ((int(one["images"]), number(one["value"])) for one in self.numbers if one["metric"] == measure)
        return sorted((images, value) for images, value in found if value is not None)


@dataclass(frozen=True)
class Table:
    """A whole comparison.

    Args:
        runs: one row per run.
        summary: one row per recipe, the best final median first.
        measures: their names, the ranking one first, and which direction is better.
        sentences: which recipe won, by how much relative to the spread, what failed.
        equal: the budget of the trainings and the cost of each recipe.
        unequal: why there can be no winner because trainings were unequal; empty if they were equal.
    """

    runs: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    measures: dict[str, Better]
    sentences: tuple[str, str, str]
    equal: str = ""
    unequal: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: the content of `table.json`."""
        return {
            "sentences": list(self.sentences),
            "equal": self.equal,
            "unequal": self.unequal,
            "runs": self.runs,
            "summary": self.summary,
            "measures": self.measures,
            **self.about,
        }


def tabulate(found: Sequence[Found], budget: Budget | None = None) -> Table:
    """The table of a comparison.

    Args:
        found: its runs.
        budget: the budget of each training; None: not checked.

    Raises:
        LeafwingError: values of one measure come from different protocols and cannot be ranked.
    """
    measures = comparable(found)
    runs = [row(one, measures) for one in found]
    recipes = dict.fromkeys(one.recipe for one in found)
    summary = ranked([summed(name, [one for one in runs if one["recipe"] == name], measures) for name in recipes], measures)
    why = unequal(runs, summary, budget) if budget else ""
    same = equal(runs, summary, budget) if budget else ""
    return Table(runs, summary, measures, sentences(runs, summary, measures, why), same, why)


def comparable(found: Iterable[Found]) -> dict[str, Better]:
    """The measures, in order of first appearance, with which direction is better; those that can be ranked by come first.

    Raises:
        LeafwingError: two values of one measure come from different protocols; the message names the differences.
    """
    rows = [made | {"run": one.name} for one in found for made in one.numbers]
    protocol.comparable(rows)
    directions: dict[str, Better] = {made["metric"]: made["better"] for made in reversed(rows)}
    names = dict.fromkeys(made["metric"] for made in rows)
    return {name: directions[name] for ranks in (True, False) for name in names if bool(directions[name]) == ranks}


def row(one: Found, measures: Mapping[str, Better]) -> dict[str, Any]:
    """The row of one run."""
    shown = sorted({int(made["images"]) for made in one.numbers})
    best = max(shown, key=lambda images: (goodness(one.at(images), measures), images), default=None)
    ended = shown[-1] if shown and one.status == "finished" else None
    nothing: dict[str, float | None] = dict.fromkeys(measures)
    why = "" if one.too_short else collapse(one, measures, best, ended)
    late = f"hit the time limit at {one.images / one.total:.0%} of its images" if one.cut_short else ""
    short = f"too short to judge: {one.steps} generator steps, fewer than {LEAST_STEPS}" if one.too_short else ""
    return {
        "recipe": one.recipe,
        "seed": one.seed,
        "status": one.status,
        "collapsed": bool(why),
        "why": why or one.said or "; ".join(filter(None, (short, late))),
        "cut_short": one.cut_short,
        "too_short": one.too_short,
        "images": one.images,
        "planned_images": one.total,
        "generator_steps": one.steps,
        "seconds": round(one.seconds, 3),
        "processor_seconds": None if one.processor is None else round(one.processor, 3),
        "seconds_per_1000_images": round(1000 * one.seconds / one.images, 4) if one.images else None,
        "variety": one.variety,
        "alarms": dict(reversed(one.alarms)),
        "best_images": best,
        "best": nothing | (one.at(best) if best is not None else {}),
        "final": nothing | (one.at(ended) if ended is not None else {}),
    }


def collapse(one: Found, measures: Mapping[str, Better], best: int | None, ended: int | None) -> str:
    """Why a run counts as collapsed; empty if it does not. A run aborted for another reason is not held against its recipe.

    A run has collapsed if it diverged; if its final samples lack diversity (`LEAST_VARIETY`); if the data's modes are known and fewer
    than half are covered at the end; or if the first measure is `FAR_WORSE` at the end than at its best.
    """
    if one.status != "finished":
        return one.said if one.status == "diverged" else ""
    if one.variety is not None and one.variety < LEAST_VARIETY:
        return f"mode collapse: {one.variety:.0%} of the diversity of real pictures"
    if best is None or ended is None:
        return ""
    left = one.at(ended).get("modes")
    if one.modes and left is not None and left < one.modes / 2:
        return f"only {left:.0f} of {one.modes} modes covered at the end"
    name = next(iter(measures))
    if fell(interval(one, name, best), interval(one, name, ended), measures[name]):
        was, now = (show(one.at(images).get(name)) for images in (best, ended))
        return f"{name} went from {was} at {show_count(best)} images to {now} at the end"
    return ""


def fell(best: tuple[float, float], ended: tuple[float, float], better: Better) -> bool:
    """Whether the end is `FAR_WORSE` than the best, with disjoint intervals (low, high)."""
    if better == "lower":
        return best[1] > 0 and ended[0] > FAR_WORSE * best[1]
    return better == "higher" and best[0] > 0 and ended[1] < best[0] / FAR_WORSE


def interval(one: Found, measure: str, images: int) -> tuple[float, float]:
    """The interval of a value, or the value as both ends if it has none; (nan, nan) if there is no value."""
    made = next((made for made in one.numbers if made["metric"] == measure and made["images"] == images), {})
    value = number(made.get("value"))
    low, high = (number(made.get(end)) for end in ("low", "high"))
    centre = float("nan") if value is None else value
    return (centre if low is None else low, centre if high is None else high)


def summed(recipe: str, runs: Sequence[Mapping[str, Any]], measures: Mapping[str, Better]) -> dict[str, Any]:
    """The row of a recipe. Failed runs are counted but otherwise ignored.

    So are runs too short to judge, unless they are the majority: then none is judged, the recipe is not ranked, and its row
    summarises all of them.
    """
    ended = [run for run in runs if run["status"] != "failed"]
    long_enough = [run for run in ended if not run["too_short"]]
    judged = long_enough if 2 * len(long_enough) >= len(ended) else []
    shown = judged or ended
    collapsed = sum(run["collapsed"] for run in ended)
    return {
        "recipe": recipe,
        "runs": len(runs),
        "failed": len(runs) - len(ended),
        "too_short": len(ended) - len(long_enough),
        "judged": len(judged),
        "collapsed": collapsed,
        "collapse_rate": collapsed / len(judged) if judged else None,
        "alarmed": sum(bool(run["alarms"]) for run in ended),
        **{
            key: middle([run[key] for run in shown])
            for key in ("images", "generator_steps", "seconds", "processor_seconds", "seconds_per_1000_images")
        },
        **{
            moment: {name: over_seeds([run[moment][name] for run in shown], better) for name, better in measures.items()}
            for moment in ("best", "final")
        },
    }


def middle(values: Sequence[float | None]) -> float | None:
    """The median of the values that are not None."""
    there = [value for value in values if value is not None]
    return median(there) if there else None


def over_seeds(values: Sequence[float | None], better: Better) -> dict[str, float | int | None]:
    """Median, extremes and spread over seeds.

    A run without a value counts as worse than any value in the median and the spread, so both may be None.

    Returns:
        median; low and high of the existing values; spread: interquartile range; missing: number of runs without a value.
    """
    there = sorted(value for value in values if value is not None)
    worst = -inf if better == "higher" else inf
    counted = sorted([*there, *[worst] * (len(values) - len(there))])
    return {
        "median": number(median(counted)) if counted else None,
        "low": there[0] if there else None,
        "high": there[-1] if there else None,
        "spread": spread(counted),
        "missing": len(values) - len(there),
    }


def spread(values: Sequence[float]) -> float | None:
    """The interquartile range (quartiles at (n + 1) / 4 and 3 (n + 1) / 4); None for fewer than two values or an infinite range."""
    if len(values) < 2:
        return None
    try:
        low, _, high = quantiles(values, n=4)
    except ValueError:  # inf - inf
        return None
    return number(high - low)


def goodness(values: Mapping[str, float | None], measures: Mapping[str, Better]) -> tuple[float, ...]:
    """Sort key: one entry per measure, larger is better, a missing value is worst."""
    signs = {"higher": 1.0, "lower": -1.0}
    return tuple(
        -inf if (value := values.get(name)) is None else signs[better] * value for name, better in measures.items() if better
    )


def ranked(summary: list[dict[str, Any]], measures: Mapping[str, Better]) -> list[dict[str, Any]]:
    """The rows of recipes sorted by their final medians, best first; ties are broken by the next measure.

    Recipes whose runs are too short to judge come last.
    """
    return sorted(summary, key=lambda one: (not brief(one), goodness(medians(one), measures)), reverse=True)


def medians(one: Mapping[str, Any]) -> dict[str, float | None]:
    """The final medians of a recipe by measure."""
    return {name: over["median"] for name, over in one["final"].items()}


def as_csv(table: Table) -> str:
    """CSV with one row per run; best and final values in columns such as `final_fid`."""
    buffer = io.StringIO()
    plain = [name for name in table.runs[0] if name not in ("best", "final")]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*plain, *(f"{moment}_{name}" for moment in ("best", "final") for name in table.measures)])
    for run in table.runs:
        told = run | {"alarms": "; ".join(run["alarms"])}
        numbers = [run[moment][name] for moment in ("best", "final") for name in table.measures]
        writer.writerow(["" if value is None else value for value in [*(told[name] for name in plain), *numbers]])
    return buffer.getvalue()


def as_json(table: Table) -> str:
    """The content of `table.json`."""
    return json.dumps(table.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

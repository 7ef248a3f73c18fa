"""What a comparison found, in rows: one a run, one a recipe, and three sentences. Pure functions of what was measured.

A number belongs to a checkpoint. `final` is a run's last checkpoint; `best` is the one where the first measure is best, so that all
numbers of a row are of one moment. Over seeds, numbers are summed up by their median and their spread: the distance between the
quartiles, which for three seeds is that between the largest and the smallest.
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
"""Final samples that differ from each other less than this share of what real pictures do have lost their variety."""
FAR_WORSE = 2.0
"""A final number so many times as bad as the run's own best one, their intervals apart, says that training fell to pieces."""


@dataclass(frozen=True)
class Found:
    """What is known of one run.

    Args:
        recipe: its name.
        seed: of the training.
        status: finished; diverged: a cost or weight was no finite number; failed: ended by something else.
        said: why it did not finish, in words.
        images: real images shown.
        total: how many were to be shown; 0 where that is unknown.
        seconds: of training, by the wall clock.
        processor: seconds of processor time of its processes from their start to their end, per thread; None where that is unknown.
        steps: how often the generator moved; None where nobody is called G.
        numbers: the rows of `commands.evaluate`, of all checkpoints.
        variety: of the final samples beside real pictures, 1 for the same; None for points, or where there is no model.
        modes: how many modes the data are known to have; 0 where that is unknown.
        alarms: of the health monitor, in words, each with the images at which it was raised.
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
        """Whether its generator took too few steps for a verdict. One that diverged has had it."""
        return self.status == "finished" and self.steps is not None and self.steps < LEAST_STEPS

    @property
    def cut_short(self) -> bool:
        """Whether the limit of time ended it before it had shown its images."""
        return self.status == "finished" and self.images < self.total

    @property
    def name(self) -> str:
        """How the run is called in words."""
        return f"{self.recipe} seed {self.seed}"

    def at(self, images: int) -> dict[str, float | None]:
        """The numbers of a checkpoint by measure; None where there is none."""
        return {str(one["metric"]): number(one["value"]) for one in self.numbers if one["images"] == images}

    def curve(self, measure: str) -> list[tuple[int, float]]:
        """Images shown and value of a measure, checkpoint by checkpoint."""
        found = ((int(one["images"]), number(one["value"])) for one in self.numbers if one["metric"] == measure)
        return sorted((images, value) for images, value in found if value is not None)


@dataclass(frozen=True)
class Table:
    """A whole comparison.

    Args:
        runs: a row a run.
        summary: a row a recipe, the best final median first.
        measures: their names, the one that ranks first, and which way is better.
        sentences: who won, by how much against the spread, what failed.
        equal: what was equal for all trainings, and what each recipe's cost.
        unequal: why nobody can win for want of equal trainings; empty where they were equal.
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
        budget: what was equal for all; None: that is not looked at.

    Raises:
        LeafwingError: numbers of one measure were not made by the same protocol, so that nobody can be ranked.
    """
    measures = comparable(found)
    runs = [row(one, measures) for one in found]
    recipes = dict.fromkeys(one.recipe for one in found)
    summary = ranked([summed(name, [one for one in runs if one["recipe"] == name], measures) for name in recipes], measures)
    why = unequal(runs, summary, budget) if budget else ""
    same = equal(runs, summary, budget) if budget else ""
    return Table(runs, summary, measures, sentences(runs, summary, measures, why), same, why)


def comparable(found: Iterable[Found]) -> dict[str, Better]:
    """The measures that were made, in the order of their making, with which way is better; those that can rank come first.

    Raises:
        LeafwingError: two numbers of one measure were made under different conditions; the message says in what they differ.
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
    late = f"cut short by the limit of time at {one.images / one.total:.0%} of its images" if one.cut_short else ""
    short = f"too short to judge: {one.steps} steps of the generator, fewer than {LEAST_STEPS}" if one.too_short else ""
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
    """Why a run counts as collapsed; empty when it does not. A run that failed for another reason says nothing about its recipe.

    It is collapsed when it diverged; when its final samples hardly differ from each other (`LEAST_VARIETY`); when the data's
    modes are known and fewer than half are left at the end; or when the first measure is `FAR_WORSE` at the end than at its best.
    """
    if one.status != "finished":
        return one.said if one.status == "diverged" else ""
    if one.variety is not None and one.variety < LEAST_VARIETY:
        return f"its samples hardly differ: {one.variety:.0%} of the variety of real pictures"
    if best is None or ended is None:
        return ""
    left = one.at(ended).get("modes")
    if one.modes and left is not None and left < one.modes / 2:
        return f"{left:.0f} of {one.modes} modes at the end"
    name = next(iter(measures))
    if fell(interval(one, name, best), interval(one, name, ended), measures[name]):
        was, now = (show(one.at(images).get(name)) for images in (best, ended))
        return f"its {name} was {was} at {show_count(best)} images and {now} at the end"
    return ""


def fell(best: tuple[float, float], ended: tuple[float, float], better: Better) -> bool:
    """Whether the end is `FAR_WORSE` than the best, intervals (low, high) apart."""
    if better == "lower":
        return best[1] > 0 and ended[0] > FAR_WORSE * best[1]
    return better == "higher" and best[0] > 0 and ended[1] < best[0] / FAR_WORSE


def interval(one: Found, measure: str, images: int) -> tuple[float, float]:
    """A number's interval, or the number as both ends where it has none; (nan, nan) where there is no number."""
    made = next((made for made in one.numbers if made["metric"] == measure and made["images"] == images), {})
    value = number(made.get("value"))
    low, high = (number(made.get(end)) for end in ("low", "high"))
    centre = float("nan") if value is None else value
    return (centre if low is None else low, centre if high is None else high)


def summed(recipe: str, runs: Sequence[Mapping[str, Any]], measures: Mapping[str, Better]) -> dict[str, Any]:
    """The row of a recipe. Runs that failed are counted and left out of everything else.

    So are those that are too short to judge, unless they are the most: then none is judged, the recipe is not ranked, and its row
    shows what all of them came to.
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
    """The median of the numbers that there are."""
    there = [value for value in values if value is not None]
    return median(there) if there else None


def over_seeds(values: Sequence[float | None], better: Better) -> dict[str, float | int | None]:
    """Median, extremes and spread over seeds.

    A run that left no number counts as worse than any number in the median and in the spread, so both may be missing.

    Returns:
        median; low and high, of the numbers there are; spread: between the quartiles; missing: runs without a number.
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
    """The distance between the quartiles (at (n + 1) / 4 and 3 (n + 1) / 4); None for fewer than two values or an endless one."""
    if len(values) < 2:
        return None
    try:
        low, _, high = quantiles(values, n=4)
    except ValueError:  # an endless value less itself
        return None
    return number(high - low)


def goodness(values: Mapping[str, float | None], measures: Mapping[str, Better]) -> tuple[float, ...]:
    """What to sort by: measure after measure, larger is better, no number is worst."""
    signs = {"higher": 1.0, "lower": -1.0}
    return tuple(
        -inf if (value := values.get(name)) is None else signs[better] * value for name, better in measures.items() if better
    )


def ranked(summary: list[dict[str, Any]], measures: Mapping[str, Better]) -> list[dict[str, Any]]:
    """The rows of recipes by the median of their final numbers, the best first; the second measure decides among equals.

    Recipes whose runs are too short to judge come last.
    """
    return sorted(summary, key=lambda one: (not brief(one), goodness(medians(one), measures)), reverse=True)


def medians(one: Mapping[str, Any]) -> dict[str, float | None]:
    """The final medians of a recipe by measure."""
    return {name: over["median"] for name, over in one["final"].items()}


def as_csv(table: Table) -> str:
    """A row a run; best and final numbers in columns such as `final_fid`."""
    held = io.StringIO()
    plain = [name for name in table.runs[0] if name not in ("best", "final")]
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow([*plain, *(f"{moment}_{name}" for moment in ("best", "final") for name in table.measures)])
    for run in table.runs:
        told = run | {"alarms": "; ".join(run["alarms"])}
        numbers = [run[moment][name] for moment in ("best", "final") for name in table.measures]
        writer.writerow(["" if value is None else value for value in [*(told[name] for name in plain), *numbers]])
    return held.getvalue()


def as_json(table: Table) -> str:
    """The content of `table.json`."""
    return json.dumps(table.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

"""A comparison in three sentences: which recipe won, by how much relative to the spread over seeds, what failed. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median as middle
from typing import Any, Literal

from leafwing.quantities import show_duration

Better = Literal["lower", "higher", ""]
Rows = Sequence[Mapping[str, Any]]
NAMED = 3
"""Maximum number of failed runs that are named individually."""
LEAST_STEPS = 300
"""Minimum number of generator steps for a run to be judged; before that, samples are shapeless with any recipe."""
MOST_APART = 0.25
"""Maximum difference between the costs of trainings that count as equal, as a fraction of the planned budget."""


@dataclass(frozen=True)
class Budget:
    """The budget of each training, and how its cost is measured.

    Args:
        by: images: equal numbers of images; time: equal training time.
        seconds: time per training; with images its time limit, None without one.
        key: key of a row's cost: processor_seconds or seconds.
        unit: name of that kind of time, such as "processor time".
    """

    by: Literal["images", "time"]
    seconds: float | None
    key: Literal["processor_seconds", "seconds"]
    unit: str


def sentences(runs: Rows, summary: Rows, measures: Mapping[str, Better], unequal: str = "") -> tuple[str, str, str]:
    """Which recipe won, by how much relative to the spread over seeds, what failed.

    The top-ranked recipe wins if its final median is ahead of the second's by more than the spread over seeds of either, and at most
    half of its runs collapsed. Where the medians of the first measure are equal, the next one decides. There is no winner if the
    trainings were unequal.

    Args:
        runs: rows of `table.row`.
        summary: rows of `table.summed`, ranked.
        measures: names, and which direction is better; the first one determines the ranking.
        unequal: why trainings cannot be compared; see `unequal`.
    """
    return (*won(summary, [name for name, better in measures.items() if better], unequal), failed(runs))


def equal(runs: Rows, summary: Rows, budget: Budget) -> str:
    """The budget of the trainings and the cost of each recipe, in one sentence."""
    spent = costs(runs, summary, budget)
    if budget.by == "images":
        shown = sorted({run["planned_images"] for run in runs if run["planned_images"]})
        what = f"{' or '.join(f'{images:,}' for images in shown)} images per training"
        what += f" within {show_duration(budget.seconds)}" if budget.seconds else ""
        said = f"Equal numbers of images: {what}"
    else:
        said = f"Equal {budget.unit}: {show_duration(budget.seconds or 0)} per training"
    if not spent:
        return f"{said}."
    least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
    own = "" if len(spent) > 1 else "it "
    took = f"{own}took {show_duration(spent[least])}" + (
        f" ({least}) to {show_duration(spent[most])} ({most})" if len(spent) > 1 else ""
    )
    of = f" of {budget.unit}" if budget.by == "images" else ""
    start = ", including process start-up" if budget.key == "processor_seconds" else ""
    return f"{said}; {'a median run ' if len(spent) > 1 else ''}{took}{of}{start}."


def unequal(runs: Rows, summary: Rows, budget: Budget) -> str:
    """Why trainings with equal budgets cannot be compared; empty if they can.

    Ignores recipes whose runs are too short to judge, and runs that diverged, which end early by themselves.
    """
    judged = {one["recipe"] for one in summary if one["judged"]}
    if len(judged) < 2:
        return ""
    spent = {name: cost for name, cost in costs(runs, summary, budget).items() if name in judged}
    if budget.by == "time" and budget.seconds and spent:
        least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
        if spent[most] - spent[least] > MOST_APART * budget.seconds:
            return (
                f"the trainings had unequal costs: a median run of {least} took {show_duration(spent[least])} of {budget.unit} and "
                f"one of {most} {show_duration(spent[most])}, a difference of more than {MOST_APART:.0%} of the planned "
                f"{show_duration(budget.seconds)}"
            )
    shares = {
        f"{run['recipe']} seed {run['seed']}": run["images"] / run["planned_images"]
        for run in runs
        if run["cut_short"] and run["recipe"] in judged and not run["too_short"]
    }
    if shares and min(shares.values()) < 1 - MOST_APART:
        name = min(shares, key=shares.__getitem__)
        return f"{name} hit the time limit at {shares[name]:.0%} of its images"
    return ""


def costs(runs: Rows, summary: Rows, budget: Budget) -> dict[str, float]:
    """The cost of each recipe in the budget's unit of time: the median over its finished runs, where known."""
    found = {}
    for one in summary:
        ended = [run for run in runs if run["recipe"] == one["recipe"] and run["status"] == "finished"]
        if known := [run[budget.key] for run in ended if run[budget.key] is not None]:
            found[str(one["recipe"])] = float(middle(known))
    return found


def won(summary: Rows, ranking: Sequence[str], unequal: str = "") -> tuple[str, str]:
    """The first two sentences."""
    judged = [one for one in summary if not brief(one) or len(summary) == 1]
    have = [one for one in judged if ranking and one["final"][ranking[0]]["median"] is not None]
    if not have:
        if any(brief(one) for one in summary):
            return (
                f"No winner: no recipe was trained long enough to be judged (at least {LEAST_STEPS} generator steps).",
                "There is no difference to report: allow more images or more time.",
            )
        return (
            "No winner: no recipe finished most of its runs with a value to rank by.",
            "There is no difference to report.",
        )
    if len(have) == 1:
        return alone(have[0], ranking[0], len(summary), len(judged) < len(summary))
    first, second = have[:2]
    name = next((name for name in ranking if median(first, name) != median(second, name)), None)
    if name is None or median(first, name) is None or median(second, name) is None:
        return f"No winner: {first['recipe']} and {second['recipe']} have the same final values.", "The difference is 0."
    one, other = first["final"][name], second["final"][name]
    difference = show(abs(one["median"] - other["median"]))
    same = "" if name == ranking[0] else f", at an equal {ranking[0]} of {show(median(first, ranking[0]))}"
    ahead = (
        f"final {name} {show(one['median'])} for {first['recipe']} against {show(other['median'])} for {second['recipe']}, the "
        f"runner-up{same} (medians of {seeds(first)})"
    )
    if unequal:
        return (
            f"No winner, because {unequal}: {ahead}.",
            f"The difference, {difference}, is between unequal trainings.",
        )
    if one["spread"] is None or other["spread"] is None:
        few = min(count(first), count(second)) < 2
        why = "there is only one seed" if few else "too many runs have no value"
        return (
            f"Inconclusive: {ahead}, but the spread over seeds is unknown.",
            f"The difference is {difference}, with no spread over seeds to compare it with, because {why}.",
        )
    widest = max(one["spread"], other["spread"])
    spread = f"the spread over seeds {show(widest)} (the larger interquartile range of the two)"
    if first["collapsed"] > count(first) / 2:
        fell = f"{first['collapsed']} of {count(first)} runs of {first['recipe']} collapsed"
        return f"No winner: {ahead}, but {fell}.", f"The difference is {difference}, {spread}."
    if abs(one["median"] - other["median"]) <= widest:
        return f"No winner: {ahead}, but seeds differ by as much.", f"The difference is {difference}, {spread}."
    lost = f", although {first['collapsed']} of its {count(first)} runs collapsed" if first["collapsed"] else ""
    times = f"{abs(one['median'] - other['median']) / widest:.1f} times " if widest else "and "
    return f"{first['recipe']} won{lost}: {ahead}.", f"The difference is {difference}, {times}{spread}."


def alone(one: Mapping[str, Any], name: str, recipes: int, short: bool = False) -> tuple[str, str]:
    """The first two sentences where one recipe has numbers; `short`: others are too short to judge."""
    why = "is the only recipe" if recipes == 1 else "is the only recipe that finished most of its runs with a value"
    why = "is the only recipe trained long enough to be judged" if short and recipes > 1 else why
    over = one["final"][name]
    return (
        f"{one['recipe']} {why}, so there is no winner: its final {name} is {show(over['median'])} (median of {seeds(one)}).",
        f"Over seeds it ranges from {show(over['low'])} to {show(over['high'])}.",
    )


def failed(runs: Rows) -> str:
    """The third sentence."""
    bad = [run for run in runs if run["collapsed"] or run["status"] == "failed"]
    late, brief = (sum(run[key] for run in runs) for key in ("cut_short", "too_short"))
    remarks = [
        *([f"{late} of {len(runs)} runs hit the time limit"] if late else []),
        *([f"{brief} of {len(runs)} runs are too short to judge ({briefest(runs)})"] if brief else []),
    ]
    if not bad and not remarks:
        return f"No failures: all {len(runs)} runs finished and none collapsed."
    if not bad:
        return f"No failures, but {' and '.join(remarks)}."
    told = [f"{run['recipe']} seed {run['seed']} ({tidy(run['why'])})" for run in bad]
    if len(bad) > NAMED:
        names = dict.fromkeys(run["recipe"] for run in bad)
        told = [
            f"{sum(run['recipe'] == name for run in bad)} of {sum(run['recipe'] == name for run in runs)} of {name}"
            for name in names
        ]
    broke = sum(run["status"] == "failed" for run in bad)
    fates = [f"{n} of {len(runs)} runs {fate}" for n, fate in ((len(bad) - broke, "collapsed"), (broke, "aborted")) if n]
    return "; ".join([" and ".join(fates) + ": " + ", ".join(told), *remarks]) + "."


def briefest(runs: Rows) -> str:
    """Recipes with runs too short to judge, with their generator steps."""
    steps: dict[str, list[int]] = {}
    for run in runs:
        if run["too_short"]:
            steps.setdefault(run["recipe"], []).append(run["generator_steps"])
    told = (f"{name} {' to '.join(f'{n:,}' for n in sorted({min(of), max(of)}))}" for name, of in steps.items())
    return f"fewer than {LEAST_STEPS} generator steps: {', '.join(told)}"


def fate(one: Mapping[str, Any]) -> str:
    """How the runs of a recipe ended: the cell in the column "collapsed"."""
    told = [f"{one['collapsed']} of {one['judged']}"] if one["judged"] or not one["too_short"] else []
    if one["too_short"]:
        told.append("too short to judge" if brief(one) else f"{one['too_short']} too short to judge")
    if one["collapsed"] and not one["judged"]:
        told.append(f"{one['collapsed']} collapsed")
    return ", ".join([*told, *([f"{one['failed']} aborted"] if one["failed"] else [])])


def median(one: Mapping[str, Any], name: str) -> float | None:
    """The final median of a recipe."""
    found: float | None = one["final"][name]["median"]
    return found


def count(one: Mapping[str, Any]) -> int:
    """How many runs of a recipe count: those long enough to judge, or if there are none, all that were not aborted."""
    return int(one["judged"] or one["runs"] - one["failed"])


def brief(one: Mapping[str, Any]) -> bool:
    """Whether a recipe is unranked because most of its runs are too short to judge."""
    return bool(one["too_short"]) and not one["judged"]


def seeds(one: Mapping[str, Any]) -> str:
    """`count` in words."""
    return "one seed" if count(one) == 1 else f"{count(one)} seeds"


def tidy(text: str) -> str:
    """An error message shortened to fit into a sentence."""
    return " ".join(text.split()).rstrip(".").replace(". ", "; ")[:200] or "for an unknown reason"


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and isfinite(value) else None


def show(value: float | None) -> str:
    """A number for a sentence or table, with three significant digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

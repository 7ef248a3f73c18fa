"""A comparison in three sentences: who won, by how much against the spread over seeds, what failed. Pure functions of its table."""

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
"""So many runs that failed are named one by one."""
LEAST_STEPS = 300
"""A run whose generator took fewer steps is too short to judge: it is still grey or a blot, whatever its recipe."""
MOST_APART = 0.25
"""Trainings that were to be equal are not when they differ by more than this share of what was planned."""


@dataclass(frozen=True)
class Budget:
    """What was equal for all trainings, and in which seconds their costs are counted.

    Args:
        by: images: each was to show equally many; time: each was to take equally long.
        seconds: that each was to take, or with images was to take at the most; None without a limit.
        key: of a row with its cost: processor_seconds or seconds.
        unit: of these seconds in words, such as "processor time".
    """

    by: Literal["images", "time"]
    seconds: float | None
    key: Literal["processor_seconds", "seconds"]
    unit: str


def sentences(runs: Rows, summary: Rows, measures: Mapping[str, Better], unequal: str = "") -> tuple[str, str, str]:
    """Who won, by how much against the spread over seeds, what failed.

    The first of the ranking won if its final median is ahead of the second's by more than the spread over seeds of either, and no
    more than half of its runs collapsed. Where the medians of the first measure are equal, the next one decides. Nobody wins where
    trainings were unequal.

    Args:
        runs: rows of `table.row`.
        summary: rows of `table.summed`, ranked.
        measures: by name, with which way is better; the first one ranks.
        unequal: why trainings cannot be compared; see `unequal`.
    """
    return (*won(summary, [name for name, better in measures.items() if better], unequal), failed(runs))


def equal(runs: Rows, summary: Rows, budget: Budget) -> str:
    """What was equal for all trainings, and what those of each recipe cost, in a plain sentence."""
    spent = costs(runs, summary, budget)
    if budget.by == "images":
        shown = sorted({run["planned_images"] for run in runs if run["planned_images"]})
        what = f"each training was to show {' or '.join(f'{images:,}' for images in shown)} images"
        what += f" within {show_duration(budget.seconds)}" if budget.seconds else ""
        said = f"The comparison is at equal numbers of images: {what}"
    else:
        said = f"The comparison is at equal {budget.unit}: each training was to take {show_duration(budget.seconds or 0)}"
    if not spent:
        return f"{said}."
    least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
    own = "" if len(spent) > 1 else "it "
    took = f"{own}took {show_duration(spent[least])}" + (
        f" ({least}) to {show_duration(spent[most])} ({most})" if len(spent) > 1 else ""
    )
    of = f" of {budget.unit}" if budget.by == "images" else ""
    start = ", the start of its process included" if budget.key == "processor_seconds" else ""
    return f"{said}; {'a median run ' if len(spent) > 1 else ''}{took}{of}{start}."


def unequal(runs: Rows, summary: Rows, budget: Budget) -> str:
    """Why trainings that were to be equal cannot be compared; empty where they can.

    Recipes whose runs are too short to judge, and runs that diverged, which end early by themselves, are not looked at.
    """
    judged = {one["recipe"] for one in summary if one["judged"]}
    if len(judged) < 2:
        return ""
    spent = {name: cost for name, cost in costs(runs, summary, budget).items() if name in judged}
    if budget.by == "time" and budget.seconds and spent:
        least, most = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
        if spent[most] - spent[least] > MOST_APART * budget.seconds:
            return (
                f"trainings did not cost the same: a median run of {least} took {show_duration(spent[least])} of {budget.unit} and "
                f"one of {most} {show_duration(spent[most])}, which differ by more than {MOST_APART:.0%} of the "
                f"{show_duration(budget.seconds)} that each was to take"
            )
    shares = {
        f"{run['recipe']} seed {run['seed']}": run["images"] / run["planned_images"]
        for run in runs
        if run["cut_short"] and run["recipe"] in judged and not run["too_short"]
    }
    if shares and min(shares.values()) < 1 - MOST_APART:
        name = min(shares, key=shares.__getitem__)
        return f"{name} was cut short by the limit of time at {shares[name]:.0%} of its images"
    return ""


def costs(runs: Rows, summary: Rows, budget: Budget) -> dict[str, float]:
    """The cost of each recipe in the budget's seconds: the median of its runs that finished, where it is known."""
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
                f"Nobody won, because no recipe was trained long enough to be judged: a generator needs at least {LEAST_STEPS} steps.",
                "So there is no difference to speak of: give more images or minutes.",
            )
        return (
            "Nobody won, because no recipe ended most of its runs with a number to rank by.",
            "So there is no difference to speak of.",
        )
    if len(have) == 1:
        return alone(have[0], ranking[0], len(summary), len(judged) < len(summary))
    first, second = have[:2]
    name = next((name for name in ranking if median(first, name) != median(second, name)), None)
    if name is None or median(first, name) is None or median(second, name) is None:
        return f"Nobody won: {first['recipe']} and {second['recipe']} ended with the same numbers.", "The difference is 0."
    one, other = first["final"][name], second["final"][name]
    difference = show(abs(one["median"] - other["median"]))
    same = "" if name == ranking[0] else f"with the same {ranking[0]}, {show(median(first, ranking[0]))}, "
    ahead = (
        f"{first['recipe']} ends with {name} {show(one['median'])} and {second['recipe']}, which comes next, {same}with "
        f"{show(other['median'])} (medians of {seeds(first)})"
    )
    if unequal:
        return (
            f"No winner is named, because {unequal}: {ahead}.",
            f"The difference, {difference}, is one between unequal trainings.",
        )
    if one["spread"] is None or other["spread"] is None:
        few = min(count(first), count(second)) < 2
        why = "one seed shows none" if few else "too many runs left no number"
        return (
            f"Nobody can be said to have won: {ahead}, but how much seeds differ is not known.",
            f"The difference is {difference}, and there is no spread over seeds to hold it against, because {why}.",
        )
    widest = max(one["spread"], other["spread"])
    spread = f"the spread over seeds {show(widest)} (the larger of both, between quartiles)"
    if first["collapsed"] > count(first) / 2:
        fell = f"{first['collapsed']} of {count(first)} runs of {first['recipe']} collapsed"
        return f"Nobody won: {ahead}, but {fell}.", f"The difference is {difference}, {spread}."
    if abs(one["median"] - other["median"]) <= widest:
        return f"Nobody won: {ahead}, but seeds differ by as much.", f"The difference is {difference}, {spread}."
    lost = f", although {first['collapsed']} of its {count(first)} runs collapsed" if first["collapsed"] else ""
    times = f"{abs(one['median'] - other['median']) / widest:.1f} times " if widest else "and "
    return f"{first['recipe']} won{lost}: {ahead}.", f"The difference is {difference}, {times}{spread}."


def alone(one: Mapping[str, Any], name: str, recipes: int, short: bool = False) -> tuple[str, str]:
    """The first two sentences where one recipe has numbers; `short`: others are too short to judge."""
    why = "was trained alone" if recipes == 1 else "alone ended most of its runs with a number"
    why = "alone was trained long enough to be judged" if short and recipes > 1 else why
    over = one["final"][name]
    return (
        f"{one['recipe']} {why}, so nobody won: it ends with {name} {show(over['median'])} (median of {seeds(one)}).",
        f"Over seeds it lies between {show(over['low'])} and {show(over['high'])}.",
    )


def failed(runs: Rows) -> str:
    """The third sentence."""
    bad = [run for run in runs if run["collapsed"] or run["status"] == "failed"]
    late, brief = (sum(run[key] for run in runs) for key in ("cut_short", "too_short"))
    remarks = [
        *([f"{late} of {len(runs)} runs were cut short by the limit of time"] if late else []),
        *([f"{brief} of {len(runs)} runs are too short to judge ({briefest(runs)})"] if brief else []),
    ]
    if not bad and not remarks:
        return f"Nothing failed: all {len(runs)} runs came to their end and none collapsed."
    if not bad:
        return f"Nothing failed, but {' and '.join(remarks)}."
    told = [f"{run['recipe']} seed {run['seed']} ({tidy(run['why'])})" for run in bad]
    if len(bad) > NAMED:
        names = dict.fromkeys(run["recipe"] for run in bad)
        told = [
            f"{sum(run['recipe'] == name for run in bad)} of {sum(run['recipe'] == name for run in runs)} of {name}"
            for name in names
        ]
    broke = sum(run["status"] == "failed" for run in bad)
    fates = [f"{n} of {len(runs)} runs {fate}" for n, fate in ((len(bad) - broke, "collapsed"), (broke, "broke off")) if n]
    return "; ".join([" and ".join(fates) + ": " + ", ".join(told), *remarks]) + "."


def briefest(runs: Rows) -> str:
    """Recipes with runs too short to judge, each with the steps of the generator that they took."""
    steps: dict[str, list[int]] = {}
    for run in runs:
        if run["too_short"]:
            steps.setdefault(run["recipe"], []).append(run["generator_steps"])
    told = (f"{name} {' to '.join(f'{n:,}' for n in sorted({min(of), max(of)}))}" for name, of in steps.items())
    return f"fewer than {LEAST_STEPS} steps of the generator: {', '.join(told)}"


def fate(one: Mapping[str, Any]) -> str:
    """How the runs of a recipe ended, in a cell under "collapsed"."""
    told = [f"{one['collapsed']} of {one['judged']}"] if one["judged"] or not one["too_short"] else []
    if one["too_short"]:
        told.append("too short to judge" if brief(one) else f"{one['too_short']} too short to judge")
    if one["collapsed"] and not one["judged"]:
        told.append(f"{one['collapsed']} collapsed")
    return ", ".join([*told, *([f"{one['failed']} broke off"] if one["failed"] else [])])


def median(one: Mapping[str, Any], name: str) -> float | None:
    """The final median of a recipe."""
    found: float | None = one["final"][name]["median"]
    return found


def count(one: Mapping[str, Any]) -> int:
    """How many runs of a recipe count: those that did not break off, and where some are long enough to judge, these."""
    return int(one["judged"] or one["runs"] - one["failed"])


def brief(one: Mapping[str, Any]) -> bool:
    """Whether most runs of a recipe are too short to judge, so that it is not ranked."""
    return bool(one["too_short"]) and not one["judged"]


def seeds(one: Mapping[str, Any]) -> str:
    """The same in words."""
    return "one seed" if count(one) == 1 else f"{count(one)} seeds"


def tidy(text: str) -> str:
    """A reason as part of a sentence."""
    return " ".join(text.split()).rstrip(".").replace(". ", "; ")[:200] or "for an unknown reason"


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and isfinite(value) else None


def show(value: float | None) -> str:
    """A number in a sentence or a table: three digits that matter."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

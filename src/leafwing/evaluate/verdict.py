"""A comparison in three sentences: who won, by how much against the spread over seeds, what failed. Pure functions of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal

Better = Literal["lower", "higher", ""]
Rows = Sequence[Mapping[str, Any]]
NAMED = 3
"""So many runs that failed are named one by one."""


def sentences(runs: Rows, summary: Rows, measures: Mapping[str, Better]) -> tuple[str, str, str]:
    """Who won, by how much against the spread over seeds, what failed.

    The first of the ranking won if its final median is ahead of the second's by more than the spread over seeds of either, and no
    more than half of its runs collapsed. Where the medians of the first measure are equal, the next one decides.

    Args:
        runs: rows of `table.row`.
        summary: rows of `table.summed`, ranked.
        measures: by name, with which way is better; the first one ranks.
    """
    return (*won(summary, [name for name, better in measures.items() if better]), failed(runs))


def won(summary: Rows, ranking: Sequence[str]) -> tuple[str, str]:
    """The first two sentences."""
    have = [one for one in summary if ranking and one["final"][ranking[0]]["median"] is not None]
    if not have:
        return (
            "Nobody won, because no recipe ended most of its runs with a number to rank by.",
            "So there is no difference to speak of.",
        )
    if len(have) == 1:
        return alone(have[0], ranking[0], len(summary))
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


def alone(one: Mapping[str, Any], name: str, recipes: int) -> tuple[str, str]:
    """The first two sentences where one recipe has numbers."""
    why = "was trained alone" if recipes == 1 else "alone ended most of its runs with a number"
    over = one["final"][name]
    return (
        f"{one['recipe']} {why}, so nobody won: it ends with {name} {show(over['median'])} (median of {seeds(one)}).",
        f"Over seeds it lies between {show(over['low'])} and {show(over['high'])}.",
    )


def failed(runs: Rows) -> str:
    """The third sentence."""
    bad = [run for run in runs if run["collapsed"] or run["status"] == "failed"]
    late = sum(run["cut_short"] for run in runs)
    if not bad and not late:
        return f"Nothing failed: all {len(runs)} runs came to their end and none collapsed."
    short = f"{late} of {len(runs)} runs were cut short by the limit of time"
    if not bad:
        return f"Nothing failed, but {short}."
    told = [f"{run['recipe']} seed {run['seed']} ({tidy(run['why'])})" for run in bad]
    if len(bad) > NAMED:
        names = dict.fromkeys(run["recipe"] for run in bad)
        told = [
            f"{sum(run['recipe'] == name for run in bad)} of {sum(run['recipe'] == name for run in runs)} of {name}"
            for name in names
        ]
    broke = sum(run["status"] == "failed" for run in bad)
    fates = [f"{n} of {len(runs)} runs {fate}" for n, fate in ((len(bad) - broke, "collapsed"), (broke, "broke off")) if n]
    return (
        f"{' and '.join(fates)}: {', '.join(told)}." if not late else f"{' and '.join(fates)}: {', '.join(told)}; {short}."
    )


def median(one: Mapping[str, Any], name: str) -> float | None:
    """The final median of a recipe."""
    found: float | None = one["final"][name]["median"]
    return found


def count(one: Mapping[str, Any]) -> int:
    """How many runs of a recipe count: those that did not break off."""
    return int(one["runs"] - one["failed"])


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

"""A comparison in three sentences: which recipe won, by how much relative to the spread over seeds, what failed. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any, Literal

from leafwing.quantities import show_duration

Better = Literal["lower", "higher", ""]
Rows = Sequence[Mapping[str, Any]]
KEEPING = ("l1", "ssim", "psnr", "feature_distance", "structure_distance", "cycle_l1", "cycle_psnr", "class_iou")
"""The measures of what samples keep of the images that they are generated from, the most telling first."""
NEED_VARIETY, MIN_VARIETY = ("precision", "density"), 0.1
"""The measures that say nothing about copies of one picture, because all of them lie in the same balls or in none; and the spread of
their features, relative to real images, below which samples count as such."""
MAX_LISTED = 3
"""Maximum number of failed runs that are listed individually."""
MIN_STEPS = 300
"""Minimum number of generator steps for a run to be judged; before that, samples are shapeless with any recipe."""
MAX_COST_DIFFERENCE = 0.25
"""Maximum difference between the costs of recipes that count as equal, as a fraction of the planned budget."""


@dataclass(frozen=True)
class Budget:
    """The budget of each run, and how its cost is measured.

    Args:
        by: images: equal numbers of images; time: equal training time.
        seconds: training time per run; with images its time limit, None without one.
        key: key of a row's cost: processor_seconds or seconds.
        unit: name of that kind of time, such as "CPU time".
    """

    by: Literal["images", "time"]
    seconds: float | None
    key: Literal["processor_seconds", "seconds"]
    unit: str


def sentences(runs: Rows, summary: Rows, measures: Mapping[str, Better], imbalance: str = "") -> tuple[str, str, str]:
    """Which recipe won, by how much relative to the spread over seeds, what failed.

    The top-ranked recipe wins if its final median is ahead of the second's by more than the spread over seeds of either, and at most
    half of its runs collapsed. Where the medians of the first measure are equal, the next one decides. There is no winner if the
    runs were unequal.

    Args:
        runs: rows of `table.run_row`.
        summary: rows of `table.recipe_row`, ranked.
        measures: names, and which direction is better; the first one determines the ranking.
        imbalance: why the runs cannot be compared; see `describe_imbalance`.
    """
    ranking = [name for name, better in measures.items() if better]
    return (*describe_winner(summary, ranking, imbalance), describe_failures(runs, ranking[0] if ranking else ""))


def describe_keeping(summary: Rows, measures: Mapping[str, Better], imbalance: str = "") -> str:
    """Which recipe keeps most of the images that samples are generated from, in one sentence; empty if that was not measured.

    It is open for the same reasons for which there is no winner. FID, KID and the like only say whether samples look real: a recipe
    that ignores its input may have the best of them.
    """
    judged = [row for row in summary if not is_too_short(row)]
    shared = (name for name in KEEPING if measures.get(name) and all(final_median(row, name) is not None for row in judged))
    name = next(shared, "")
    if len(judged) < 2 or not name:
        return ""
    sign = 1 if measures[name] == "lower" else -1
    first, second = sorted(judged, key=lambda row: sign * row["final"][name]["median"])[:2]
    what = (
        f"final {name} {show(final_median(first, name))} for {first['recipe']} against {show(final_median(second, name))} for "
        f"{second['recipe']}"
    )
    if imbalance:
        return f"Which recipe keeps most of what it is given is open, because {imbalance}: {what}."
    if doubt := doubt_of_lead(first, second, name):
        return f"Which recipe keeps most of what it is given is open: {what}, but {doubt}."
    return f"{first['recipe']} keeps most of what it is given{describe_concession(first)}: {what}."


def describe_budget(runs: Rows, summary: Rows, budget: Budget) -> str:
    """The budget of the runs and the cost of each recipe, in one sentence."""
    costs = recipe_costs(runs, summary, budget)
    if budget.by == "images":
        planned = sorted({run["planned_images"] for run in runs if run["planned_images"]})
        budget_text = f"Equal numbers of images: {' or '.join(f'{images:,}' for images in planned)} images per run"
        budget_text += f" within {show_duration(budget.seconds)}" if budget.seconds else ""
    else:
        budget_text = f"Equal {budget.unit}: {show_duration(budget.seconds or 0)} per run"
    if not costs:
        return f"{budget_text}."
    cheapest, costliest = min(costs, key=costs.__getitem__), max(costs, key=costs.__getitem__)
    if len(costs) > 1:
        shortest, longest = (show_duration(costs[recipe]) for recipe in (cheapest, costliest))
        times = shortest if shortest == longest else f"{shortest} ({cheapest}) to {longest} ({costliest})"
        cost_text = f"the median run took {times}"
    else:
        cost_text = f"it took {show_duration(costs[cheapest])}"
    unit = f" of {budget.unit}" if budget.by == "images" else ""
    start_up = ", including process start-up" if budget.key == "processor_seconds" else ""
    return f"{budget_text}; {cost_text}{unit}{start_up}."


def describe_imbalance(runs: Rows, summary: Rows, budget: Budget) -> str:
    """Why runs with equal budgets cannot be compared; empty if they can.

    Ignores recipes whose runs are too short to judge, and runs that diverged, which end early by themselves.
    """
    judged = {row["recipe"] for row in summary if row["judged"]}
    if len(judged) < 2:
        return ""
    costs = {recipe: cost for recipe, cost in recipe_costs(runs, summary, budget).items() if recipe in judged}
    if budget.by == "time" and budget.seconds and costs:
        cheapest, costliest = min(costs, key=costs.__getitem__), max(costs, key=costs.__getitem__)
        if costs[costliest] - costs[cheapest] > MAX_COST_DIFFERENCE * budget.seconds:
            return (
                f"the recipes had unequal costs: the median run of {cheapest} took {show_duration(costs[cheapest])} of "
                f"{budget.unit} and that of {costliest} {show_duration(costs[costliest])}, a difference of more than "
                f"{MAX_COST_DIFFERENCE:.0%} of the planned {show_duration(budget.seconds)}"
            )
    fractions = {
        f"{run['recipe']} seed {run['seed']}": run["images"] / run["planned_images"]
        for run in runs
        if run["cut_short"] and run["recipe"] in judged and not run["too_short"]
    }
    if fractions and min(fractions.values()) < 1 - MAX_COST_DIFFERENCE:
        name = min(fractions, key=fractions.__getitem__)
        return f"{name} hit the time limit at {fractions[name]:.0%} of its images"
    return ""


def recipe_costs(runs: Rows, summary: Rows, budget: Budget) -> dict[str, float]:
    """The cost of each recipe in the budget's unit of time: the median over its finished runs, where known."""
    costs = {}
    for row in summary:
        finished = [run for run in runs if run["recipe"] == row["recipe"] and run["status"] == "finished"]
        if values := [run[budget.key] for run in finished if run[budget.key] is not None]:
            costs[str(row["recipe"])] = float(median(values))
    return costs


def describe_winner(summary: Rows, ranking: Sequence[str], imbalance: str = "") -> tuple[str, str]:
    """The first two sentences."""
    judged = [row for row in summary if not is_too_short(row) or len(summary) == 1]
    candidates = [row for row in judged if ranking and final_median(row, ranking[0]) is not None]
    if not candidates:
        if any(is_too_short(row) for row in summary):
            return (
                f"No winner: no recipe was trained long enough to be judged (at least {MIN_STEPS} generator steps).",
                "There is no difference to report: allow more images or more time.",
            )
        return (
            "No winner: no recipe finished most of its runs with a value to rank by.",
            "There is no difference to report.",
        )
    if len(candidates) == 1:
        return describe_only_candidate(candidates[0], ranking[0], len(summary), len(judged) < len(summary))
    first, second = candidates[:2]
    name = next((name for name in ranking if final_median(first, name) != final_median(second, name)), None)
    if name is None:
        return f"No winner: {first['recipe']} and {second['recipe']} have the same final values.", "The difference is 0."
    if final_median(second, name) is None:
        equal = [measure for measure in ranking[: ranking.index(name)] if final_median(first, measure) is not None]
        return (
            f"No winner: {first['recipe']} and {second['recipe']} have the same final {' and '.join(equal)}, and {second['recipe']} "
            f"has no final {name} in most of its runs.",
            "There is no other difference to report.",
        )
    best, other = first["final"][name], second["final"][name]
    difference = abs(best["median"] - other["median"])
    tie = "" if name == ranking[0] else f", with equal {ranking[0]} ({show(final_median(first, ranking[0]))})"
    counts = dict.fromkeys(map(describe_seeds, (first, second)))
    seeds = " and of ".join(counts)
    result = (
        f"final {name} {show(best['median'])} for {first['recipe']} against {show(other['median'])} for {second['recipe']}, the "
        f"runner-up{tie} (medians of {seeds})"
    )
    if imbalance:
        return (
            f"No winner, because {imbalance}: {result}.",
            f"The difference, {show(difference)}, is between runs with unequal budgets.",
        )
    doubt, spread = doubt_of_lead(first, second, name), needed_lead(first, second, name)
    if spread is None:
        single = next((row for row in (first, second) if count_runs(row) < 2), None)
        missing = f"{best['missing']} of {count_runs(first)} runs of {first['recipe']} ended without a final {name}"
        return (
            f"Inconclusive: {result}, but {doubt}.",
            f"The difference is {show(difference)}, with no spread over seeds to compare it with, because "
            f"{missing if single is None else describe_single(single)}.",
        )
    partial = f"; of {second['recipe']} over {describe_seeds(second, name)}" if other["spread"] is None else ""
    spread_text = f"the spread over seeds {show(spread)} (the larger interquartile range of the two{partial})"
    if doubt:
        return f"No winner: {result}, but {doubt}.", f"The difference is {show(difference)}, {spread_text}."
    ratio = f"{difference / spread:.1f} times " if spread else "and "
    return (
        f"{first['recipe']} won{describe_concession(first)}: {result}.",
        f"The difference is {show(difference)}, {ratio}{spread_text}.",
    )


def describe_single(row: Mapping[str, Any]) -> str:
    """That the spread of a recipe is unknown because one run counts."""
    return "there is only one seed" if row["runs"] == 1 else f"only one run of {row['recipe']} counts"


def doubt_of_lead(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> str:
    """Why the first of two recipes is not ahead by a measure although its final median is better; empty if it is."""
    spread, lead = needed_lead(first, second, name), abs(first["final"][name]["median"] - second["final"][name]["median"])
    if spread is None:
        return "the spread over seeds is unknown"
    if first["collapsed"] > count_runs(first) / 2:
        return f"{first['collapsed']} of {count_runs(first)} runs of {first['recipe']} collapsed"
    return "runs with different seeds differ by as much" if lead <= spread else ""


def needed_lead(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> float | None:
    """The spread over seeds that the lead of the first of two recipes has to exceed, the larger one of both; None if unknown.

    Runs of the second one without a value count as worse than any. Where they make its spread infinite, that of the others is taken:
    they cast no doubt on the lead.
    """
    ahead, behind = first["final"][name]["spread"], second["final"][name]["spread"]
    if behind is None:
        behind = second["final"][name]["known_spread"]
    return None if ahead is None or behind is None else max(ahead, behind)


def describe_concession(row: Mapping[str, Any]) -> str:
    """What is to be said of a recipe in the same breath as its lead: that some of its runs collapsed."""
    return f", although {row['collapsed']} of its {count_runs(row)} runs collapsed" if row["collapsed"] else ""


def describe_only_candidate(
    row: Mapping[str, Any], name: str, recipes: int, others_too_short: bool = False
) -> tuple[str, str]:
    """The first two sentences where one recipe has values to rank by.

    Args:
        row: its row of the summary.
        name: the measure.
        recipes: number of recipes in the comparison.
        others_too_short: whether others are too short to judge.
    """
    if recipes == 1:
        reason = "is the only recipe"
    elif others_too_short:
        reason = "is the only recipe trained long enough to be judged"
    else:
        reason = f"is the only recipe with a final {name} in most of its runs"
    values, seeds = row["final"][name], describe_seeds(row, name)
    extent = f"Over {seeds} it ranges from {show(values['low'])} to {show(values['high'])}."
    return (
        f"{row['recipe']} {reason}, so there is no winner: its final {name} is {show(values['median'])} (median of "
        f"{describe_seeds(row)}).",
        extent if count_runs(row) > 1 else "How much it varies over seeds is unknown.",
    )


def describe_failures(runs: Rows, name: str) -> str:
    """The third sentence.

    Args:
        runs: rows of `table.run_row`.
        name: the measure that determines the ranking; empty without one.
    """
    failures = [run for run in runs if run["collapsed"] or run["status"] == "failed"]
    cut_short, too_short = (sum(run[key] for run in runs) for key in ("cut_short", "too_short"))
    lacking = sum(run["status"] == "finished" and not run["collapsed"] and run["final"].get(name, 0) is None for run in runs)
    remarks = [
        *([f"{lacking} of {len(runs)} runs ended without a final {name}"] if lacking else []),
        *([f"{cut_short} of {len(runs)} runs hit the time limit"] if cut_short else []),
        *(
            [
                f"{too_short} of {len(runs)} runs {'is' if too_short == 1 else 'are'} too short to judge ({describe_short_runs(runs)})"
            ]
            if too_short
            else []
        ),
    ]
    if not failures and not remarks:
        every = (
            "the only run finished and did not collapse"
            if len(runs) == 1
            else f"all {len(runs)} runs finished and none collapsed"
        )
        return f"No failures: {every}."
    if not failures:
        return f"No failures, but {' and '.join(remarks)}."
    if len(failures) <= MAX_LISTED:
        details = [f"{run['recipe']} seed {run['seed']} ({in_sentence(run['why'])})" for run in failures]
    else:
        recipes = dict.fromkeys(run["recipe"] for run in failures)
        details = [
            f"{sum(run['recipe'] == recipe for run in failures)} of {sum(run['recipe'] == recipe for run in runs)} of {recipe}"
            for recipe in recipes
        ]
    aborted = sum(run["status"] == "failed" for run in failures)
    counts = ((len(failures) - aborted, "collapsed"), (aborted, "aborted"))
    outcomes = " and ".join(f"{n} of {len(runs)} runs {outcome}" for n, outcome in counts if n)
    return "; ".join([f"{outcomes}: {', '.join(details)}", *remarks]) + "."


def describe_short_runs(runs: Rows) -> str:
    """Recipes with runs too short to judge, with their generator steps."""
    steps: dict[str, list[int]] = {}
    for run in runs:
        if run["too_short"]:
            steps.setdefault(run["recipe"], []).append(run["generator_steps"])
    ranges = (
        f"{recipe} {' to '.join(f'{n:,}' for n in sorted({min(counts), max(counts)}))}" for recipe, counts in steps.items()
    )
    return f"fewer than {MIN_STEPS} generator steps: {', '.join(ranges)}"


def describe_outcome(row: Mapping[str, Any]) -> str:
    """How the runs of a recipe ended: the cell in the column "collapsed"."""
    parts = [f"{row['collapsed']} of {row['judged']}"] if row["judged"] or not row["too_short"] else []
    if row["too_short"]:
        parts.append("too short to judge" if is_too_short(row) else f"{row['too_short']} too short to judge")
    if row["collapsed"] and not row["judged"]:
        parts.append(f"{row['collapsed']} collapsed")
    if row["failed"]:
        parts.append(f"{row['failed']} aborted")
    return ", ".join(parts)


def final_median(row: Mapping[str, Any], name: str) -> float | None:
    """The final median of a recipe."""
    value: float | None = row["final"][name]["median"]
    return value


def count_runs(row: Mapping[str, Any]) -> int:
    """How many runs of a recipe count: those long enough to judge, or if there are none, all that were not aborted."""
    return int(row["judged"] or row["runs"] - row["failed"])


def is_too_short(row: Mapping[str, Any]) -> bool:
    """Whether a recipe is unranked because most of its runs are too short to judge."""
    return bool(row["too_short"]) and not row["judged"]


def describe_seeds(row: Mapping[str, Any], name: str = "") -> str:
    """`count_runs` in words; of a measure, how many of them have a final value: "3 of 5 seeds"."""
    runs, missing = count_runs(row), row["final"][name]["missing"] if name else 0
    seeds = "one seed" if runs == 1 else f"{runs} seeds"
    return f"{runs - missing} of {seeds}" if missing else seeds


def in_sentence(text: str) -> str:
    """An error message shortened to fit into a sentence."""
    return " ".join(text.split()).rstrip(".").replace(". ", "; ")[:200] or "for an unknown reason"


def says_nothing(row: Mapping[str, Any]) -> bool:
    """Whether the value in a row of `evaluate` is no merit of its samples, because they are copies of one picture."""
    return row["metric"] in NEED_VARIETY and row.get("variety", 1.0) < MIN_VARIETY


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if value is not None and isfinite(value) else None


def show(value: float | None) -> str:
    """A number for a sentence or table, with three significant digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"

"""A comparison in rows and sentences: the winner follows from the values, and rarely from chance."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from leafwing.errors import LeafwingError
from leafwing.metrics.conclusions import MIN_STEPS, Budget, describe_outcome, show
from leafwing.metrics.table import RunResult, as_csv, as_json, collapse_reason, run_row, spread, tabulate

PROTOCOL = {"n_fake": 100, "seed": 0}
DIRECTIONS = {"fid": "lower", "recall": "higher", "l1": "lower", "modes": "higher", "high_quality": "higher", "size": ""}


def evaluation_rows(
    curve: dict[int, dict[str, float | None]], half_width: float = 0.0, **protocol: Any
) -> list[dict[str, Any]]:
    """Rows as returned by `commands.evaluate`; without intervals if `half_width` is 0."""
    conditions = {**PROTOCOL, **protocol}
    return [
        {
            "metric": name,
            "value": value,
            "low": None if value is None or not half_width else value - half_width,
            "high": None if value is None or not half_width else value + half_width,
            "better": DIRECTIONS[name],
            "images": images,
            "protocol": conditions,
            "fingerprint": str(conditions),
        }
        for images, values in curve.items()
        for name, value in values.items()
    ]


def finished_run(recipe: str, seed: int, fid: float, **changes: Any) -> RunResult:
    """A finished run with this final FID, and a slightly better one before."""
    return RunResult(
        recipe,
        seed,
        "finished",
        images=200,
        seconds=4.0,
        rows=evaluation_rows({100: {"fid": 0.9 * fid}, 200: {"fid": fid}}),
        **changes,
    )


def runs_of(recipe: str, *values: float) -> list[RunResult]:
    return [finished_run(recipe, seed, value) for seed, value in enumerate(values)]


def test_a_lead_larger_than_the_spread_wins() -> None:
    table = tabulate([*runs_of("b", 30, 31, 33), *runs_of("a", 20, 21, 22)])
    won, by, failed = table.sentences
    assert won == "a won: final fid 21 for a against 31 for b, the runner-up (medians of 3 seeds)."
    assert by == "The difference is 10, 3.3 times the spread over seeds 3 (the larger interquartile range of the two)."
    assert failed == "No failures: all 6 runs finished and none collapsed."
    assert [row["recipe"] for row in table.summary] == ["a", "b"]


def test_a_lead_within_the_spread_does_not_win() -> None:
    won, by, _ = tabulate([*runs_of("a", 20, 24, 28), *runs_of("b", 26, 29, 30)]).sentences
    assert won.startswith("No winner: final fid 24 for a against 29 for b")
    assert by == "The difference is 5, the spread over seeds 8 (the larger interquartile range of the two)."
    exactly = tabulate([*runs_of("a", 20, 24, 28), *runs_of("b", 31, 32, 33)])
    assert exactly.sentences[0].startswith("No winner"), "a difference equal to the spread is not larger"


def test_one_seed_is_inconclusive() -> None:
    won, by, _ = tabulate([*runs_of("a", 20), *runs_of("b", 90)]).sentences
    assert won.startswith("Inconclusive: final fid 20 for a")
    assert "only one seed" in by


def test_a_single_recipe_does_not_win() -> None:
    won, by, _ = tabulate(runs_of("a", 20, 21, 25)).sentences
    assert won == "a is the only recipe, so there is no winner: its final fid is 21 (median of 3 seeds)."
    assert by == "Over 3 seeds it ranges from 20 to 25."
    diverged = tabulate([*runs_of("a", 20, 21, 25), RunResult("a", 3, "diverged", "nan")])
    assert diverged.sentences[1] == "Over 3 of 4 seeds it ranges from 20 to 25."
    assert tabulate(runs_of("a", 20)).sentences[1] == "How much it varies over seeds is unknown."


def test_recipes_of_which_different_numbers_of_runs_count_are_said_so() -> None:
    table = tabulate([*runs_of("a", 20, 21, 22), *runs_of("b", 30, 31), RunResult("b", 2, "failed", "no memory")])
    assert "(medians of 3 seeds and of 2 seeds)" in table.sentences[0]


def test_equal_medians_are_decided_by_the_next_measure() -> None:
    def run(recipe: str, seed: int, modes: float, quality: float) -> RunResult:
        return RunResult(
            recipe, seed, "finished", rows=evaluation_rows({9: {"modes": modes, "high_quality": quality}}), modes=8
        )

    runs = [run("a", seed, 8, 0.5 + 0.01 * seed) for seed in range(3)] + [run("b", s, 8, 0.8 + 0.01 * s) for s in range(3)]
    won = tabulate(runs).sentences[0]
    assert won.startswith("b won: final high_quality 0.81 for b against 0.51 for a, the runner-up, with equal modes (8)")
    tie = tabulate([run(recipe, 0, 8, 0.5) for recipe in "ab"])
    assert tie.sentences[0] == "No winner: a and b have the same final values."
    lacking = tabulate([run("a", 0, 8, float("nan")), run("b", 0, 8, 0.5)])
    assert lacking.sentences[:2] == (
        "No winner: b and a have the same final modes, and a has no final high_quality in most of its runs.",
        "There is no other difference to report.",
    )


def test_a_run_without_a_value_counts_as_worst() -> None:
    runs = [*runs_of("a", 20, 21), RunResult("a", 2, "diverged", "cost became nan"), *runs_of("b", 30, 31, 33)]
    table = tabulate(runs)
    final = table.summary[0]["final"]["fid"]
    assert final == {"median": 21, "low": 20, "high": 21, "spread": None, "known_spread": 1.5, "missing": 1}
    assert table.sentences[0].startswith("Inconclusive: final fid 21 for a")
    assert table.sentences[1].endswith("because 1 of 3 runs of a ended without a final fid.")
    assert table.sentences[2] == "1 of 6 runs collapsed: a seed 2 (cost became nan)."
    worse = tabulate([finished_run("a", 0, 20), *(RunResult("a", s, "diverged") for s in (1, 2)), *runs_of("b", 30, 31, 33)])
    assert worse.summary[0]["recipe"] == "b"
    assert worse.sentences[0].startswith("b is the only recipe with a final fid in most of its runs")


def test_a_diverged_run_of_the_runner_up_casts_no_doubt_on_the_winner() -> None:
    diverged = RunResult("b", 3, "diverged", "nan")
    won, by, _ = tabulate([*runs_of("a", 20, 21, 22, 23), *runs_of("b", 30, 31, 33), diverged]).sentences
    assert won == "a won: final fid 21.5 for a against 32 for b, the runner-up (medians of 4 seeds)."
    assert by == (
        "The difference is 10.5, 3.5 times the spread over seeds 3 (the larger interquartile range of the two; of b over 3 of 4 "
        "seeds)."
    )
    close = tabulate([*runs_of("a", 20, 21, 22, 23), *runs_of("b", 20, 24, 34), diverged]).sentences
    assert close[0].startswith("No winner: "), "its other runs differ by as much"


def test_finished_runs_without_a_final_value_are_counted() -> None:
    def without(seed: int) -> RunResult:
        return RunResult("a", seed, "finished", rows=evaluation_rows({200: {"fid": float("nan")}}))

    table = tabulate([finished_run("a", 0, 20), without(1), without(2), *runs_of("b", 30, 31, 33)])
    assert table.sentences[2] == "No failures, but 2 of 6 runs ended without a final fid."


def test_aborted_runs_do_not_count_against_their_recipe() -> None:
    runs = [*runs_of("a", 20, 21, 22), RunResult("b", 0, "failed", "was ended by SIGKILL"), *runs_of("b", 30, 31, 33)[1:]]
    table = tabulate(runs)
    assert table.sentences[2] == "1 of 6 runs aborted: b seed 0 (was ended by SIGKILL)."
    assert table.summary[1] | {"final": 0, "best": 0} == {
        "recipe": "b", "runs": 3, "failed": 1, "collapsed": 0, "collapse_rate": 0.0, "images": 200, "generator_steps": None,
        "too_short": 0, "judged": 2, "alarmed": 0, "seconds": 4.0, "processor_seconds": None, "seconds_per_1000_images": 20.0,
        "final": 0, "best": 0,
    }  # fmt: skip
    assert table.summary[1]["final"]["fid"]["missing"] == 0


def test_a_recipe_with_mostly_collapsed_runs_cannot_win() -> None:
    runs = [finished_run("a", seed, 20 + seed, variety=0.1 if seed else 0.9) for seed in range(3)]
    won = tabulate([*runs, *runs_of("b", 50, 51, 52)]).sentences[0]
    assert won.startswith("No winner: final fid 21 for a")
    assert won.endswith("but 2 of 3 runs of a collapsed.")
    minority = tabulate([*runs_of("a", 20, 21), finished_run("a", 2, 22, variety=0.1), *runs_of("b", 50, 51, 52)]).sentences[
        0
    ]
    assert minority.startswith("a won, although 1 of its 3 runs collapsed: final fid")


def test_failures_are_listed_or_counted() -> None:
    runs = [*runs_of("a", 20, 21, 22), *(RunResult("b", seed, "diverged", "nan. More") for seed in range(3))]
    assert (
        tabulate(runs).sentences[2]
        == "3 of 6 runs collapsed: b seed 0 (nan; More), b seed 1 (nan; More), b seed 2 (nan; More)."
    )
    runs += [RunResult("b", 3, "failed", "killed"), *runs_of("c", 30, 31)]
    assert tabulate(runs).sentences[2] == "3 of 9 runs collapsed and 1 of 9 runs aborted: 4 of 4 of b."


def test_no_values_no_winner() -> None:
    table = tabulate([RunResult("a", 0, "failed", "out of memory"), RunResult("b", 0, "diverged", "nan")])
    assert table.sentences[0].startswith("No winner: no recipe finished")
    assert table.summary[0]["collapse_rate"] is None
    json.loads(as_json(table))


@pytest.mark.parametrize(
    ("n", "lost", "most"), [(2, 0, 0.165), (3, 0, 0.09), (5, 0, 0.045), (10, 0, 0.016), (3, 0.1, 0.095), (4, 0.1, 0.05)]
)
def test_equal_recipes_rarely_win(n: int, lost: float, most: float) -> None:
    """Two recipes whose values come from one normal distribution. In 8 trials of 1,000 comparisons, one won in 9.7 to 13.5% with two
    seeds, 5.0 to 7.2% with three, 1.8 to 3.5% with five, 0.2 to 1.0% with ten; if a tenth of the runs diverge, in 3,000 comparisons,
    in 6.3% with three and 2.8% with four. The bounds are means plus four deviations.
    """
    random = np.random.default_rng(n)
    wins = 0
    for _ in range(1_000):
        runs = [
            RunResult(name, seed, "diverged") if random.random() < lost else finished_run(name, seed, value)
            for name in "ab"
            for seed, value in enumerate(100 + random.standard_normal(n))
        ]
        wins += " won: " in tabulate(runs).sentences[0]
    assert wins / 1_000 < most
    assert wins > 0


def test_values_of_different_protocols_are_never_ranked() -> None:
    other = RunResult("b", 0, "finished", rows=evaluation_rows({200: {"fid": 3.0}}, n_fake=50))
    with pytest.raises(LeafwingError, match=r"n_fake: 100 and 50") as caught:
        tabulate([finished_run("a", 0, 20), other])
    assert "a seed 0" in str(caught.value)
    assert "b seed 0" in str(caught.value)


def test_best_is_one_checkpoint_and_final_the_last() -> None:
    curve: dict[int, dict[str, float | None]] = {
        100: {"fid": 30.0, "recall": 0.9}, 200: {"fid": 10.0, "recall": 0.3}, 300: {"fid": 12.0, "recall": 0.5}
    }  # fmt: skip
    row = run_row(RunResult("a", 0, "finished", rows=evaluation_rows(curve)), {"fid": "lower", "recall": "higher"})
    assert (row["best_images"], row["best"], row["final"]) == (200, curve[200], curve[300])


def test_the_last_of_equal_checkpoints_is_best_and_one_without_a_value_never() -> None:
    row = run_row(
        RunResult("a", 0, "finished", rows=evaluation_rows({1: {"fid": 3.0}, 2: {"fid": 3.0}, 3: {"fid": None}})),
        {"fid": "lower"},
    )
    assert (row["best_images"], row["final"]["fid"]) == (2, None)


def test_a_diverged_run_has_a_best_but_no_final_value() -> None:
    result = RunResult("a", 0, "diverged", "cost became nan", 150, 3.0, rows=evaluation_rows({100: {"fid": 30.0}}))
    row = run_row(result, {"fid": "lower"})
    assert (row["collapsed"], row["why"], row["best"], row["final"]) == (
        True,
        "cost became nan",
        {"fid": 30.0},
        {"fid": None},
    )


def collapse_of(result: RunResult) -> str:
    checkpoints = sorted({row["images"] for row in result.rows})
    measures = {row["metric"]: row["better"] for row in result.rows}
    return collapse_reason(result, measures, checkpoints[0], checkpoints[-1])


def test_what_counts_as_collapsed() -> None:
    def curve(
        first: dict[str, float | None], last: dict[str, float | None], half_width: float = 0.0, **changes: Any
    ) -> RunResult:
        return RunResult("a", 0, "finished", rows=evaluation_rows({1: first, 2: last}, half_width), **changes)

    assert collapse_of(curve({"fid": 1}, {"fid": 1}, variety=0.24)) == "mode collapse: 24% of the diversity of real images"
    assert not collapse_of(curve({"fid": 1}, {"fid": 1}, variety=0.26))
    assert collapse_of(curve({"modes": 8}, {"modes": 3}, modes=8)) == "only 3 of 8 modes covered at the end"
    assert not collapse_of(curve({"modes": 5}, {"modes": 4}, modes=8))
    assert collapse_of(curve({"fid": 10}, {"fid": 21})) == "fid went from 10 at 1 images to 21 at the end"
    assert not collapse_of(curve({"fid": 10}, {"fid": 20}))
    assert not collapse_of(curve({"fid": 10}, {"fid": 24}, half_width=2.0)), "22 is not twice 12"
    assert not collapse_of(curve({"fid": -0.1}, {"fid": 5})), "a ratio to a negative value is meaningless"
    assert collapse_of(curve({"recall": 0.8}, {"recall": 0.3}))
    assert not collapse_of(curve({"recall": 0.8}, {"recall": 0.5}))
    assert not collapse_of(curve({"size": 1}, {"size": 90})), "the measure has no direction"


def test_the_spread_is_the_interquartile_range() -> None:
    assert spread([1.0, 2.0, 9.0]) == 8.0, "the range of three"
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 90.0]) == 4.0, "the middle half of seven"
    assert spread([1.0]) is None
    assert spread([1.0, 2.0, float("inf")]) is None
    assert spread([*map(float, range(10)), float("inf")]) == 6.0, "one missing value of eleven"
    assert spread([*map(float, range(1, 7)), float("inf")]) == 4.0, "the upper quartile is the last finite value"
    assert spread([-float("inf"), *map(float, range(1, 7))]) == 4.0
    assert spread([*map(float, range(1, 6)), float("inf"), float("inf")]) is None


def test_one_run_that_counts_is_not_called_one_seed() -> None:
    failed = [replace(run, status="failed", rows=[]) for run in runs_of("b", 30, 31)]
    _, by, _ = tabulate([*runs_of("a", 20, 21, 22), *failed, finished_run("b", 2, 33)]).sentences
    assert by.endswith("because only one run of b counts."), by


def test_a_single_run_is_no_plural() -> None:
    assert tabulate(runs_of("a", 20)).sentences[2] == "No failures: the only run finished and did not collapse."


def test_values_are_shown_with_three_digits() -> None:
    assert [show(value) for value in (None, 0.0, 8.0, 0.81234, 23.06, 1234.5, 1.2e-5, 999.4, 999.6, -999.6)] == [
        "–", "0", "8", "0.812", "23.1", "1,234", "1.2e-05", "999", "1,000", "-1,000",
    ]  # fmt: skip


def test_runs_that_hit_the_time_limit_are_reported() -> None:
    runs = [*runs_of("a", 20, 21), *runs_of("b", 30, 31)]
    late = tabulate([replace(runs[0], total=400), replace(runs[1], total=200), *runs[2:]])
    assert [run["cut_short"] for run in late.runs] == [True, False, False, False]
    assert late.runs[0]["why"] == "hit the time limit at 50% of its images"
    assert not late.runs[0]["collapsed"]
    assert late.sentences[2] == "No failures, but 1 of 4 runs hit the time limit."
    both = tabulate([replace(runs[0], total=400), RunResult("a", 1, "diverged", "nan", total=400), *runs[2:]])
    assert both.sentences[2] == "1 of 4 runs collapsed: a seed 1 (nan); 1 of 4 runs hit the time limit."


def test_health_alarms_are_stored_and_counted() -> None:
    with_alarms = finished_run(
        "a", 1, 21, alarms=[("samples are all alike", 300), ("D does not learn", 100), ("D does not learn", 180)]
    )
    table = tabulate([finished_run("a", 0, 20), with_alarms, finished_run("b", 0, 30)])
    assert table.runs[1]["alarms"] == {"samples are all alike": 300, "D does not learn": 100}, "the first of each kind"
    assert [row["alarmed"] for row in table.summary] == [1, 0]
    assert not table.runs[1]["collapsed"], "an alarm is not a collapse"
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert [set(line["alarms"].split("; ")) for line in lines] == [{""}, {"samples are all alike", "D does not learn"}, {""}]


def test_json_and_csv_agree() -> None:
    table = tabulate([*runs_of("a", 20, 21), RunResult("a", 2, "diverged", 'a "quoted", reason'), *runs_of("b", 30, 31, 33)])
    content = json.loads(as_json(table))
    assert {"recipe", "seed", "collapsed", "images", "seconds", "best", "final"} <= content["runs"][0].keys()
    assert {"recipe", "collapse_rate", "images", "generator_steps", "seconds", "seconds_per_1000_images"} <= content[
        "summary"
    ][0].keys()
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert len(lines) == len(content["runs"]) == 6
    for line, run in zip(lines, content["runs"], strict=True):
        assert (line["recipe"], line["seed"], line["why"]) == (run["recipe"], str(run["seed"]), run["why"])
        assert line["final_fid"] == ("" if run["final"]["fid"] is None else str(run["final"]["fid"]))


TIME = Budget("time", 120.0, "processor_seconds", "CPU time")


def runs_with_cost(recipe: str, seconds: float, *values: float, **changes: Any) -> list[RunResult]:
    """Runs with this CPU time."""
    return [replace(result, processor=seconds, steps=1000, total=200, **changes) for result in runs_of(recipe, *values)]


def test_nobody_wins_if_costs_are_unequal() -> None:
    unequal = [*runs_with_cost("a", 13, 20, 21, 22), *runs_with_cost("b", 102, 30, 31, 33)]
    table = tabulate(unequal, TIME)
    assert table.sentences[0] == (
        "No winner, because the recipes had unequal costs: the median run of a took 13s of CPU time and that of b 1m 42s, a "
        "difference of more than 25% of the planned 2m 00s: final fid 21 for a against 31 for b, the runner-up (medians of 3 seeds)."
    )
    assert table.sentences[1] == "The difference, 10, is between runs with unequal budgets."
    assert table.budget_text == (
        "Equal CPU time: 2m 00s per run; the median run took 13s (a) to 1m 42s (b), including process start-up."
    )
    assert json.loads(as_json(table))["unequal"] == table.imbalance != ""
    equal = [*runs_with_cost("a", 95, 20, 21, 22), *runs_with_cost("b", 124, 30, 31, 33)]
    assert tabulate(equal, TIME).sentences[0].startswith("a won: ")
    assert tabulate(equal, TIME).imbalance == ""
    assert tabulate([*equal, *runs_with_cost("c", 126, 90, 91)], TIME).imbalance, "all ranked recipes count"


def test_equal_costs_are_said_once() -> None:
    table = tabulate([*runs_with_cost("a", 13, 20, 21, 22), *runs_with_cost("b", 13.2, 30, 31, 33)], TIME)
    assert table.budget_text.endswith("; the median run took 13s, including process start-up.")


def test_costs_may_differ_at_equal_images_and_are_reported() -> None:
    table = tabulate(
        [*runs_with_cost("a", 13, 20, 21, 22), *runs_with_cost("b", 102, 30, 31, 33)],
        replace(TIME, by="images", seconds=None),
    )
    assert table.sentences[0].startswith("a won: ")
    assert table.budget_text == (
        "Equal numbers of images: 200 images per run; the median run took 13s (a) to 1m 42s (b) of CPU time, "
        "including process start-up."
    )


def test_wall_clock_time_counts_if_processor_time_is_unknown() -> None:
    wall = Budget("time", 4.0, "seconds", "wall-clock time")
    table = tabulate(
        [*runs_of("a", 20, 21, 22), *(replace(result, seconds=6.0) for result in runs_of("b", 30, 31, 33))], wall
    )
    assert "the median run of a took 4s of wall-clock time and that of b 6s" in table.imbalance
    assert "start-up" not in table.budget_text


@pytest.mark.parametrize("by", ["time", "images"])
def test_nobody_wins_if_a_run_was_cut_far_too_short(by: Any) -> None:
    runs = [*runs_with_cost("a", 100, 20, 21, 22), *runs_with_cost("b", 100, 30, 31, 33)]
    for total, reason in ((260, ""), (400, "a seed 0 hit the time limit at 50% of its images")):
        table = tabulate([replace(runs[0], total=total), *runs[1:]], replace(TIME, by=by))
        assert table.imbalance == reason
        assert table.sentences[0].startswith(f"No winner, because {reason}" if reason else "a won")


def test_a_diverged_run_may_end_early() -> None:
    early = RunResult("c", 0, "diverged", "nan", images=10, processor=2.0, total=200, steps=5)
    table = tabulate([*runs_with_cost("a", 100, 20, 21, 22), *runs_with_cost("b", 110, 30, 31, 33), early], TIME)
    assert table.sentences[0].startswith("a won")
    assert table.runs[-1]["collapsed"], "divergence counts despite few steps"


def test_a_run_of_few_steps_is_too_short_to_judge() -> None:
    def short(recipe: str, steps: int, *values: float) -> list[RunResult]:
        return [replace(result, steps=steps, variety=0.0) for result in runs_of(recipe, *values)]

    runs = [*short("a", MIN_STEPS - 1, 5, 6, 7), *runs_of("b", 20, 21, 22), *runs_of("c", 30, 31, 33)]
    table = tabulate(runs)
    assert table.sentences[0].startswith("b won: final fid 21 for b against ")
    assert table.sentences[2] == (
        "No failures, but 3 of 9 runs are too short to judge (fewer than 300 generator steps: a 299)."
    )
    assert table.runs[0]["why"] == "too short to judge: 299 generator steps, fewer than 300"
    assert not table.runs[0]["collapsed"]
    row = table.summary[-1]
    assert (row["recipe"], row["judged"], row["too_short"], row["collapse_rate"]) == ("a", 0, 3, None)
    assert row["final"]["fid"]["median"] == 6, "its values are in the row anyway"
    assert describe_outcome(row) == "too short to judge"
    long_enough = tabulate([*short("a", MIN_STEPS, 5, 6, 7), *runs[3:]])
    assert describe_outcome(long_enough.summary[0]) == "3 of 3"
    sentences = tabulate([*short("a", 25, 5, 6, 7), *runs[3:6]]).sentences
    assert sentences[0].startswith(
        "b is the only recipe trained long enough to be judged, so there is no winner: its final fid is 21"
    )
    no_winner = tabulate([*short("a", 25, 5, 6, 7), *short("b", 102, 5, 6, 7)]).sentences
    assert no_winner[0] == ("No winner: no recipe was trained long enough to be judged (at least 300 generator steps).")


def test_a_few_short_runs_are_excluded_from_the_recipes_values() -> None:
    runs = [*runs_of("a", 20, 21, 22), replace(finished_run("a", 3, 1), steps=25), *runs_of("b", 30, 31, 33)]
    table = tabulate(runs)
    assert table.sentences[0].startswith("a won: final fid 21 for a")
    assert table.summary[0]["final"]["fid"]["low"] == 20
    assert describe_outcome(table.summary[0]) == "0 of 3, 1 too short to judge"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "a keeps most of what it is given: final l1 0.11 for a against 0.31 for b."),
        (
            {"total": 400},
            "Which recipe keeps most of what it is given is open, because a seed 0 hit the time limit at 50% of its images",
        ),
        ({"variety": 0.1}, "is open: final l1 0.11 for a against 0.31 for b, but 3 of 3 runs of a collapsed."),
    ],
)
def test_who_keeps_most_is_open_where_there_would_be_no_winner(changes: dict[str, Any], expected: str) -> None:
    def run(recipe: str, seed: int, l1: float, **changes: Any) -> RunResult:
        rows = evaluation_rows({200: {"fid": 20.0 + seed, "l1": l1 + 0.01 * seed}})
        return RunResult(recipe, seed, "finished", images=200, rows=rows, **{"total": 200} | changes)

    runs = [run("a", seed, 0.1, **changes) for seed in range(3)] + [run("b", seed, 0.3) for seed in range(3)]
    assert expected in tabulate(runs, Budget("images", 60.0, "seconds", "wall-clock time")).keeping

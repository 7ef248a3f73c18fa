"""A comparison in rows and sentences: who won follows from the numbers, and nobody wins by chance."""

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
WAY = {"fid": "lower", "recall": "higher", "modes": "higher", "high_quality": "higher", "size": ""}


def numbers(curve: dict[int, dict[str, float | None]], wide: float = 0.0, **protocol: Any) -> list[dict[str, Any]]:
    """Rows as `commands.evaluate` gives them, with intervals of a width."""
    held = {**PROTOCOL, **protocol}
    return [
        {
            "metric": name,
            "value": value,
            "low": None if value is None or not wide else value - wide,
            "high": None if value is None or not wide else value + wide,
            "better": WAY[name],
            "images": images,
            "protocol": held,
            "fingerprint": str(held),
        }
        for images, values in curve.items()
        for name, value in values.items()
    ]


def ended(recipe: str, seed: int, fid: float, **more: Any) -> RunResult:
    """A run that finished with an FID, and had a somewhat better one before."""
    return RunResult(
        recipe,
        seed,
        "finished",
        images=200,
        seconds=4.0,
        rows=numbers({100: {"fid": 0.9 * fid}, 200: {"fid": fid}}),
        **more,
    )


def seeds(recipe: str, *values: float) -> list[RunResult]:
    return [ended(recipe, seed, value) for seed, value in enumerate(values)]


def test_who_is_ahead_by_more_than_the_spread_won() -> None:
    found = tabulate([*seeds("b", 30, 31, 33), *seeds("a", 20, 21, 22)])
    won, by, failed = found.sentences
    assert won == "a won: final fid 21 for a against 31 for b, the runner-up (medians of 3 seeds)."
    assert by == "The difference is 10, 3.3 times the spread over seeds 3 (the larger interquartile range of the two)."
    assert failed == "No failures: all 6 runs finished and none collapsed."
    assert [one["recipe"] for one in found.summary] == ["a", "b"]


def test_nobody_won_when_seeds_differ_by_as_much() -> None:
    won, by, _ = tabulate([*seeds("a", 20, 24, 28), *seeds("b", 26, 29, 30)]).sentences
    assert won.startswith("No winner: final fid 24 for a against 29 for b")
    assert by == "The difference is 5, the spread over seeds 8 (the larger interquartile range of the two)."
    exactly = tabulate([*seeds("a", 20, 24, 28), *seeds("b", 31, 32, 33)])
    assert exactly.sentences[0].startswith("No winner"), "a difference equal to the spread is not larger"


def test_one_seed_shows_no_spread_so_nobody_can_be_said_to_have_won() -> None:
    won, by, _ = tabulate([*seeds("a", 20), *seeds("b", 90)]).sentences
    assert won.startswith("Inconclusive: final fid 20 for a")
    assert "only one seed" in by


def test_one_recipe_wins_nothing() -> None:
    won, by, _ = tabulate(seeds("a", 20, 21, 25)).sentences
    assert won == "a is the only recipe, so there is no winner: its final fid is 21 (median of 3 seeds)."
    assert by == "Over seeds it ranges from 20 to 25."


def test_equal_medians_are_decided_by_the_next_measure() -> None:
    def run(recipe: str, seed: int, modes: float, good: float) -> RunResult:
        return RunResult(recipe, seed, "finished", rows=numbers({9: {"modes": modes, "high_quality": good}}), modes=8)

    runs = [run("a", seed, 8, 0.5 + 0.01 * seed) for seed in range(3)] + [run("b", s, 8, 0.8 + 0.01 * s) for s in range(3)]
    won = tabulate(runs).sentences[0]
    assert won.startswith("b won: final high_quality 0.81 for b against 0.51 for a, the runner-up, at an equal modes of 8")
    same = tabulate([run(recipe, 0, 8, 0.5) for recipe in "ab"])
    assert same.sentences[0] == "No winner: a and b have the same final values."


def test_a_run_without_a_number_counts_as_worse_than_any() -> None:
    runs = [*seeds("a", 20, 21), RunResult("a", 2, "diverged", "cost became nan"), *seeds("b", 30, 31, 33)]
    found = tabulate(runs)
    final = found.summary[0]["final"]["fid"]
    assert final == {"median": 21, "low": 20, "high": 21, "spread": None, "missing": 1}
    assert found.sentences[0].startswith("Inconclusive: final fid 21 for a")
    assert found.sentences[2] == "1 of 6 runs collapsed: a seed 2 (cost became nan)."
    worse = tabulate([ended("a", 0, 20), *(RunResult("a", s, "diverged") for s in (1, 2)), *seeds("b", 30, 31, 33)])
    assert worse.summary[0]["recipe"] == "b"
    assert worse.sentences[0].startswith("b is the only recipe that finished")


def test_a_run_that_broke_off_says_nothing_about_its_recipe() -> None:
    runs = [*seeds("a", 20, 21, 22), RunResult("b", 0, "failed", "was ended by SIGKILL"), *seeds("b", 30, 31, 33)[1:]]
    found = tabulate(runs)
    assert found.sentences[2] == "1 of 6 runs aborted: b seed 0 (was ended by SIGKILL)."
    assert found.summary[1] | {"final": 0, "best": 0} == {
        "recipe": "b", "runs": 3, "failed": 1, "collapsed": 0, "collapse_rate": 0.0, "images": 200, "generator_steps": None,
        "too_short": 0, "judged": 2, "alarmed": 0, "seconds": 4.0, "processor_seconds": None, "seconds_per_1000_images": 20.0,
        "final": 0, "best": 0,
    }  # fmt: skip
    assert found.summary[1]["final"]["fid"]["missing"] == 0


def test_a_recipe_most_of_whose_runs_collapsed_cannot_win() -> None:
    runs = [ended("a", seed, 20 + seed, variety=0.1 if seed else 0.9) for seed in range(3)]
    won = tabulate([*runs, *seeds("b", 50, 51, 52)]).sentences[0]
    assert won.startswith("No winner: final fid 21 for a")
    assert won.endswith("but 2 of 3 runs of a collapsed.")
    one = tabulate([*seeds("a", 20, 21), ended("a", 2, 22, variety=0.1), *seeds("b", 50, 51, 52)]).sentences[0]
    assert one.startswith("a won, although 1 of its 3 runs collapsed: final fid")


def test_failures_are_named_or_counted() -> None:
    runs = [*seeds("a", 20, 21, 22), *(RunResult("b", seed, "diverged", "nan. More") for seed in range(3))]
    assert (
        tabulate(runs).sentences[2]
        == "3 of 6 runs collapsed: b seed 0 (nan; More), b seed 1 (nan; More), b seed 2 (nan; More)."
    )
    runs += [RunResult("b", 3, "failed", "killed"), *seeds("c", 30, 31)]
    assert tabulate(runs).sentences[2] == "3 of 9 runs collapsed and 1 of 9 runs aborted: 4 of 4 of b."


def test_no_numbers_no_winner() -> None:
    found = tabulate([RunResult("a", 0, "failed", "out of memory"), RunResult("b", 0, "diverged", "nan")])
    assert found.sentences[0].startswith("No winner: no recipe finished")
    assert found.summary[0]["collapse_rate"] is None
    json.loads(as_json(found))


@pytest.mark.parametrize(("n", "most"), [(2, 0.165), (3, 0.09), (5, 0.045), (10, 0.016)])
def test_equal_recipes_seldom_win(n: int, most: float) -> None:
    """Two recipes whose seeds come from one normal distribution. Over 8 times 1,000 of them one won in 9.7 to 13.5 % with two
    seeds, 5.0 to 7.2 % with three, 1.8 to 3.5 % with five, 0.2 to 1.0 % with ten; the bounds are their means and four deviations.
    """
    random = np.random.default_rng(n)
    wins = 0
    for _ in range(1_000):
        runs = [ended(name, seed, value) for name in "ab" for seed, value in enumerate(100 + random.standard_normal(n))]
        wins += " won: " in tabulate(runs).sentences[0]
    assert wins / 1_000 < most
    assert wins > 0


def test_numbers_of_different_protocols_are_never_ranked() -> None:
    other = RunResult("b", 0, "finished", rows=numbers({200: {"fid": 3.0}}, n_fake=50))
    with pytest.raises(LeafwingError, match=r"n_fake: 100 and 50") as caught:
        tabulate([ended("a", 0, 20), other])
    assert "a seed 0" in str(caught.value)
    assert "b seed 0" in str(caught.value)


def test_best_is_one_moment_and_final_the_last() -> None:
    curve: dict[int, dict[str, float | None]] = {
        100: {"fid": 30.0, "recall": 0.9}, 200: {"fid": 10.0, "recall": 0.3}, 300: {"fid": 12.0, "recall": 0.5}
    }  # fmt: skip
    one = run_row(RunResult("a", 0, "finished", rows=numbers(curve)), {"fid": "lower", "recall": "higher"})
    assert (one["best_images"], one["best"], one["final"]) == (200, curve[200], curve[300])


def test_of_equal_checkpoints_the_last_is_the_best_and_one_without_a_number_never() -> None:
    one = run_row(
        RunResult("a", 0, "finished", rows=numbers({1: {"fid": 3.0}, 2: {"fid": 3.0}, 3: {"fid": None}})), {"fid": "lower"}
    )
    assert (one["best_images"], one["final"]["fid"]) == (2, None)


def test_a_diverged_run_has_a_best_but_no_end() -> None:
    found = RunResult("a", 0, "diverged", "cost became nan", 150, 3.0, rows=numbers({100: {"fid": 30.0}}))
    one = run_row(found, {"fid": "lower"})
    assert (one["collapsed"], one["why"], one["best"], one["final"]) == (
        True,
        "cost became nan",
        {"fid": 30.0},
        {"fid": None},
    )


def why(one: RunResult) -> str:
    shown = sorted({made["images"] for made in one.rows})
    measures = {made["metric"]: made["better"] for made in one.rows}
    return collapse_reason(one, measures, shown[0], shown[-1])


def test_what_counts_as_collapsed() -> None:
    def curve(first: dict[str, float | None], last: dict[str, float | None], wide: float = 0.0, **more: Any) -> RunResult:
        return RunResult("a", 0, "finished", rows=numbers({1: first, 2: last}, wide), **more)

    assert why(curve({"fid": 1}, {"fid": 1}, variety=0.24)) == "mode collapse: 24% of the diversity of real images"
    assert not why(curve({"fid": 1}, {"fid": 1}, variety=0.26))
    assert why(curve({"modes": 8}, {"modes": 3}, modes=8)) == "only 3 of 8 modes covered at the end"
    assert not why(curve({"modes": 5}, {"modes": 4}, modes=8))
    assert why(curve({"fid": 10}, {"fid": 21})) == "fid went from 10 at 1 images to 21 at the end"
    assert not why(curve({"fid": 10}, {"fid": 20}))
    assert not why(curve({"fid": 10}, {"fid": 24}, wide=2.0)), "22 is not twice 12"
    assert not why(curve({"fid": -0.1}, {"fid": 5})), "twice a number below 0 says nothing"
    assert why(curve({"recall": 0.8}, {"recall": 0.3}))
    assert not why(curve({"recall": 0.8}, {"recall": 0.5}))
    assert not why(curve({"size": 1}, {"size": 90})), "nobody knows which way is better"


def test_the_spread_lies_between_quartiles() -> None:
    assert spread([1.0, 2.0, 9.0]) == 8.0, "of three all of it"
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 90.0]) == 4.0, "of seven the middle"
    assert spread([1.0]) is None
    assert spread([1.0, 2.0, float("inf")]) is None
    assert spread([*map(float, range(10)), float("inf")]) == 6.0, "one without a number among eleven"


def test_numbers_are_shown_with_three_digits() -> None:
    assert [show(value) for value in (None, 0.0, 8.0, 0.81234, 23.06, 1234.5, 1.2e-5)] == [
        "–", "0", "8", "0.812", "23.1", "1,234", "1.2e-05",
    ]  # fmt: skip


def test_runs_that_the_limit_of_time_cut_short_are_named() -> None:
    runs = [*seeds("a", 20, 21), *seeds("b", 30, 31)]
    late = tabulate([replace(runs[0], total=400), replace(runs[1], total=200), *runs[2:]])
    assert [run["cut_short"] for run in late.runs] == [True, False, False, False]
    assert late.runs[0]["why"] == "hit the time limit at 50% of its images"
    assert not late.runs[0]["collapsed"]
    assert late.sentences[2] == "No failures, but 1 of 4 runs hit the time limit."
    both = tabulate([replace(runs[0], total=400), RunResult("a", 1, "diverged", "nan", total=400), *runs[2:]])
    assert both.sentences[2] == "1 of 4 runs collapsed: a seed 1 (nan); 1 of 4 runs hit the time limit."


def test_what_the_health_monitor_said_is_kept_and_counted() -> None:
    ill = ended("a", 1, 21, alarms=[("samples are all alike", 300), ("D does not learn", 100), ("D does not learn", 180)])
    found = tabulate([ended("a", 0, 20), ill, ended("b", 0, 30)])
    assert found.runs[1]["alarms"] == {"samples are all alike": 300, "D does not learn": 100}, "the first of each kind"
    assert [one["alarmed"] for one in found.summary] == [1, 0]
    assert not found.runs[1]["collapsed"], "an alarm is no collapse"
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [set(line["alarms"].split("; ")) for line in lines] == [{""}, {"samples are all alike", "D does not learn"}, {""}]


def test_json_and_csv_hold_the_same() -> None:
    found = tabulate([*seeds("a", 20, 21), RunResult("a", 2, "diverged", 'said "no", twice'), *seeds("b", 30, 31, 33)])
    held = json.loads(as_json(found))
    assert {"recipe", "seed", "collapsed", "images", "seconds", "best", "final"} <= held["runs"][0].keys()
    assert {"recipe", "collapse_rate", "images", "generator_steps", "seconds", "seconds_per_1000_images"} <= held["summary"][
        0
    ].keys()
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(lines) == len(held["runs"]) == 6
    for line, one in zip(lines, held["runs"], strict=True):
        assert (line["recipe"], line["seed"], line["why"]) == (one["recipe"], str(one["seed"]), one["why"])
        assert line["final_fid"] == ("" if one["final"]["fid"] is None else str(one["final"]["fid"]))


TIME = Budget("time", 120.0, "processor_seconds", "processor time")


def cost(recipe: str, seconds: float, *values: float, **more: Any) -> list[RunResult]:
    """Runs that took so much processor time."""
    return [replace(one, processor=seconds, steps=1000, total=200, **more) for one in seeds(recipe, *values)]


def test_nobody_wins_where_equal_time_was_not_equal() -> None:
    unlike = [*cost("a", 13, 20, 21, 22), *cost("b", 102, 30, 31, 33)]
    found = tabulate(unlike, TIME)
    assert found.sentences[0] == (
        "No winner, because the trainings had unequal costs: a median run of a took 13s of processor time and one of b 1m 42s, a "
        "difference of more than 25% of the planned 2m 00s: final fid 21 for a against 31 for b, the runner-up (medians of 3 seeds)."
    )
    assert found.sentences[1] == "The difference, 10, is between unequal trainings."
    assert found.equal == (
        "Equal processor time: 2m 00s per training; a median run took 13s (a) to 1m 42s (b), including process start-up."
    )
    assert json.loads(as_json(found))["unequal"] == found.unequal != ""
    alike = [*cost("a", 95, 20, 21, 22), *cost("b", 124, 30, 31, 33)]
    assert tabulate(alike, TIME).sentences[0].startswith("a won: ")
    assert tabulate(alike, TIME).unequal == ""
    assert tabulate([*alike, *cost("c", 126, 90, 91)], TIME).unequal, "whoever is ranked counts"


def test_costs_of_equal_images_may_differ_and_are_said() -> None:
    found = tabulate([*cost("a", 13, 20, 21, 22), *cost("b", 102, 30, 31, 33)], replace(TIME, by="images", seconds=None))
    assert found.sentences[0].startswith("a won: ")
    assert found.equal == (
        "Equal numbers of images: 200 images per training; a median run took 13s (a) to 1m 42s (b) of processor time, "
        "including process start-up."
    )


def test_where_processor_time_is_unknown_the_wall_clock_counts() -> None:
    wall = Budget("time", 4.0, "seconds", "wall-clock time")
    found = tabulate([*seeds("a", 20, 21, 22), *(replace(one, seconds=6.0) for one in seeds("b", 30, 31, 33))], wall)
    assert "a median run of a took 4s of wall-clock time and one of b 6s" in found.unequal
    assert "start-up" not in found.equal


@pytest.mark.parametrize("by", ["time", "images"])
def test_nobody_wins_where_a_run_was_cut_far_too_short(by: Any) -> None:
    runs = [*cost("a", 100, 20, 21, 22), *cost("b", 100, 30, 31, 33)]
    for total, said in ((260, ""), (400, "a seed 0 hit the time limit at 50% of its images")):
        found = tabulate([replace(runs[0], total=total), *runs[1:]], replace(TIME, by=by))
        assert found.unequal == said
        assert found.sentences[0].startswith(f"No winner, because {said}" if said else "a won")


def test_a_diverged_run_may_end_early() -> None:
    early = RunResult("c", 0, "diverged", "nan", images=10, processor=2.0, total=200, steps=5)
    found = tabulate([*cost("a", 100, 20, 21, 22), *cost("b", 110, 30, 31, 33), early], TIME)
    assert found.sentences[0].startswith("a won")
    assert found.runs[-1]["collapsed"], "it needed no more steps for that"


def test_a_run_of_few_steps_is_too_short_to_judge() -> None:
    def short(recipe: str, steps: int, *values: float) -> list[RunResult]:
        return [replace(one, steps=steps, variety=0.0) for one in seeds(recipe, *values)]

    runs = [*short("a", MIN_STEPS - 1, 5, 6, 7), *seeds("b", 20, 21, 22), *seeds("c", 30, 31, 33)]
    found = tabulate(runs)
    assert found.sentences[0].startswith("b won: final fid 21 for b against ")
    assert found.sentences[2] == (
        "No failures, but 3 of 9 runs are too short to judge (fewer than 300 generator steps: a 299)."
    )
    assert found.runs[0]["why"] == "too short to judge: 299 generator steps, fewer than 300"
    assert not found.runs[0]["collapsed"]
    last = found.summary[-1]
    assert (last["recipe"], last["judged"], last["too_short"], last["collapse_rate"]) == ("a", 0, 3, None)
    assert last["final"]["fid"]["median"] == 6, "it is shown"
    assert describe_outcome(last) == "too short to judge"
    long_enough = tabulate([*short("a", MIN_STEPS, 5, 6, 7), *runs[3:]])
    assert describe_outcome(long_enough.summary[0]) == "3 of 3"
    two = tabulate([*short("a", 25, 5, 6, 7), *runs[3:6]]).sentences
    assert two[0].startswith(
        "b is the only recipe trained long enough to be judged, so there is no winner: its final fid is 21"
    )
    none = tabulate([*short("a", 25, 5, 6, 7), *short("b", 102, 5, 6, 7)]).sentences
    assert none[0] == ("No winner: no recipe was trained long enough to be judged (at least 300 generator steps).")


def test_a_few_short_runs_of_a_recipe_are_left_out_of_its_numbers() -> None:
    runs = [*seeds("a", 20, 21, 22), replace(ended("a", 3, 1), steps=25), *seeds("b", 30, 31, 33)]
    found = tabulate(runs)
    assert found.sentences[0].startswith("a won: final fid 21 for a")
    assert found.summary[0]["final"]["fid"]["low"] == 20
    assert describe_outcome(found.summary[0]) == "0 of 3, 1 too short to judge"

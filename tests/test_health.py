"""Alarms from the lines of a log: every fault is detected in time, and there are no false alarms."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from math import nan
from random import Random
from statistics import median
from typing import Any

import pytest

from leafwing import health

WELL = {"variety": 0.9, "distance": 0.05, "moved": 0.1, "separation": 0.9, "margin": 3.0, "held_out_separation": 0.5}


def line(check: int, **signals: float) -> dict[str, Any]:
    """A line of a log, 100 images and 40 rounds after the previous one; healthy except for the given signals."""
    weights = {f"{player}/weights": 10 + 0.01 * check for player in "GD"}
    gradients = {f"{player}/gradient": 1.0 + 0.1 * (check % 3) for player in "GD"}
    losses = {"D/adversarial": 1.0, "G/adversarial": 1.0}
    return {
        "images": 100 * check,
        "round": 40 * check,
        "losses": losses,
        "health": {**WELL, **weights, **gradients, **signals},
    }


def log(*states: dict[str, float], **more: float) -> list[dict[str, Any]]:
    """Consecutive lines with these signals, starting at 100 images."""
    return [line(check, **{**more, **state}) for check, state in enumerate(states, 1)]


FAULTS: dict[str, tuple[str, str, int, dict[str, float]]] = {
    # Faults from the 31st check on: kind, part of the description, and number of checks until the alarm is raised.
    "one picture": ("collapse", "nearly identical", 3, {"variety": 0.001}),
    "one picture a class": ("collapse", "nearly identical", 3, {"conditional_variety": 0.001}),
    "few pictures": ("collapse", "diversity has dropped", 4, {"variety": 0.1}),
    "other pictures": ("collapse", "away from the data", 4, {"distance": 0.4}),
    "D is beaten": ("critic", "fakes above real", 8, {"separation": 0.02}),
    "jumping": ("oscillation", "oscillate", 8, {"moved": 4.0}),
    "D knows its pictures": ("overfit", "overfitting", 6, {"held_out_separation": 0.99}),
    "a large gradient": ("explosion", "gradient norm of G", 2, {"G/gradient": 1e5}),
    "no gradient": ("stagnation", "gradient of D has vanished", 3, {"D/gradient": 0.0, "D/weights": 10.3}),
    "large weights": ("explosion", "weights of G are growing", 2, {"G/weights": 1e4}),
    "resting weights": ("stagnation", "weights of D", 5, {"D/weights": 10.3}),
}


def test_a_healthy_log_raises_no_alarm() -> None:
    assert health.alarms(log(*[{}] * 60)) == []
    assert health.alarms([]) == []
    assert health.alarms([{"images": 5, "losses": {}}]) == []
    assert health.alarms(log({})) == []


def numbers(alarms: list[health.Alarm], words: str) -> list[tuple[int, int]]:
    return [(alarm.since, alarm.raised) for alarm in alarms if words in alarm.symptom]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_detected_in_time_and_its_end_too(fault: str) -> None:
    kind, words, checks, signals = FAULTS[fault]
    ill = log(*[{}] * 30, *[signals] * 12, *[{}] * 20)
    (alarm,) = (one for one in health.alarms(ill) if words in one.symptom)
    assert alarm.kind == kind
    assert alarm.value > alarm.threshold
    assert 3000 < alarm.since < alarm.raised
    assert alarm.raised <= 3000 + 100 * checks + 300
    assert alarm.until is not None
    assert alarm.raised < alarm.until <= 5200
    assert str(alarm).endswith(health.STRONGER_D if fault == "D is beaten" else health.ADVICE[kind])
    # Evaluated line by line, as during training, the alarm appears at the same check and not before.
    for seen in range(1, len(ill) + 1):
        expected = [(alarm.since, alarm.raised)] if 100 * seen >= alarm.raised else []
        assert numbers(health.alarms(ill[:seen]), words) == expected


def test_a_winning_critic_is_an_alarm_only_if_the_samples_stall() -> None:
    far = {"separation": 1.0}
    stuck = log(*[far | {"distance": 0.7 - 0.001 * check} for check in range(40)])
    assert [alarm.kind for alarm in health.alarms(stuck)] == ["critic"]
    assert health.alarms(stuck[:15]) == []  # not yet
    nearer = log(*[far | {"distance": 0.7 * 0.98**check} for check in range(60)])
    assert health.alarms(nearer) == []
    arrived = log(*[far | {"distance": 0.1} for _ in range(60)])
    assert health.alarms(arrived) == []
    fooled = log(*[{"separation": 0.9, "distance": 0.7} for _ in range(60)])
    assert health.alarms(fooled) == []


Signals = dict[str, float]
TRANSLATES = {"tone": 0.6, "mirrored": -0.2, "change": 0.6, "gap": 0.3}
COPIED = {**TRANSLATES, "separation": 0.99}
BOUNDS: list[tuple[str, Signals, int, Signals, Signals]] = [
    # Words of the symptom, healthy signals of 30 checks, number of checks until the alarm, signals that raise it, those that do not.
    ("diversity has dropped", {"variety": 1.0}, 4, {"variety": 0.199}, {"variety": 0.201}),
    ("nearly identical", {}, 3, {"variety": 0.00499}, {"variety": 0.00501}),
    ("nearly identical", {}, 3, {"conditional_variety": 0.00499}, {"conditional_variety": 0.00501}),
    ("away from the data", {"distance": 0.1}, 4, {"distance": 0.351}, {"distance": 0.349}),
    ("fakes above real", {}, 8, {"separation": 0.099}, {"separation": 0.101}),
    ("oscillate", {"variety": 1.0}, 8, {"moved": 3.01}, {"moved": 2.99}),
    ("oscillate", {"variety": 0.09}, 8, {"moved": 0.301}, {"moved": 0.299}),
    ("overfitting", {}, 6, {"held_out_separation": 0.901}, {"held_out_separation": 0.899}),
    ("weights of G are growing", {"G/weights": 10.0}, 2, {"G/weights": 20.1}, {"G/weights": 19.9}),
    ("gradient norm of G", {"G/gradient": 1.0}, 2, {"G/gradient": 1001.0}, {"G/gradient": 999.0}),
    ("gradient of D has vanished", {"D/gradient": 1.0}, 3, {"D/gradient": 0.99e-4}, {"D/gradient": 1.01e-4}),
    ("light and dark", TRANSLATES, 12, {"tone": -0.301}, {"tone": -0.299}),
    ("light and dark", TRANSLATES | {"tone": -0.5, "mirrored": 0.2}, 12, {"mirrored": -0.01}, {"mirrored": 0.01}),
    ("copies of their inputs", COPIED, 12, {"change": 0.099}, {"change": 0.101}),
    ("copies of their inputs", COPIED | {"change": 0.0, "gap": 0.0}, 12, {"gap": 0.051}, {"gap": 0.049}),
    (
        "copies of their inputs",
        COPIED | {"change": 0.0, "separation": 0.5},
        12,
        {"separation": 0.951},
        {"separation": 0.949},
    ),
]


@pytest.mark.parametrize(("words", "healthy", "checks", "ill", "well"), BOUNDS)
def test_both_sides_of_every_threshold(words: str, healthy: Signals, checks: int, ill: Signals, well: Signals) -> None:
    """In value and in time: an alarm comes at a value just above the threshold, after exactly this number of checks."""
    before = [healthy] * 30
    raised = 3000 + 100 * checks
    assert [at for _, at in numbers(health.alarms(log(*before, *[healthy | ill] * 30)), words)] == [raised]
    assert numbers(health.alarms(log(*before, *[healthy | ill] * checks)), words)
    assert not numbers(health.alarms(log(*before, *[healthy | ill] * (checks - 1))), words)
    assert not numbers(health.alarms(log(*before, *[healthy | well] * 30)), words)


@pytest.mark.parametrize(("change", "raised"), [(0.99e-7, [3400]), (1.01e-7, [])])
def test_weights_that_change_by_less_than_seven_digits_have_stopped_changing(change: float, raised: list[int]) -> None:
    lines = log(*[{"D/weights": 10 * 1.01**check} for check in range(30)])
    last = lines[-1]["health"]["D/weights"]
    lines += [line(31 + check, **{"D/weights": last * (1 + change) ** (check + 1)}) for check in range(8)]
    assert [at for _, at in numbers(health.alarms(lines), "weights of D have stopped")] == raised


@pytest.mark.parametrize(("rate", "raised"), [(0.0101, True), (0.0099, False)])
def test_a_rate_below_a_hundredth_of_its_maximum_has_decayed(rate: float, raised: bool) -> None:
    lines = log(*[{"D/rate": 1.0}] * 30, *[{"D/rate": rate, "D/weights": 10.3}] * 10)
    assert bool(numbers(health.alarms(lines), "weights of D have stopped")) is raised


PAUSED = {"D/gradient": 0.0, "D/weights": 10.3}
"""A player that its game lets pause: its losses are multiplied by 0."""


def test_a_player_that_pauses_is_no_fault() -> None:
    """Neither for long nor when a check falls into a pause, nor when it goes on."""
    lines = log(*[{}] * 30, *[PAUSED] * 12, *[{"D/gradient": 50.0}] * 20)
    assert {alarm.symptom for alarm in health.alarms(lines)} == {
        "the gradient of D has vanished",
        "the gradient norm of D has exploded",
        "the weights of D have stopped changing",
    }
    for line in lines[30:42]:
        line["losses"] = {"D/adversarial": 0.0, "G/adversarial": 1.0}
    assert health.alarms(lines) == []
    assert health.alarms(log(*[{}] * 30, *[{"D/gradient": 0.0}] * 12, *[{"D/gradient": 50.0}] * 20)) == []


def last(values: list[float], n: int, before: int = 0) -> float:
    """The median of n values that end this many before the last; NaN if there are too few."""
    part = values[: len(values) - before][-n:]
    return median(part) if len(part) == n else nan


PLAIN: dict[str, Callable[[dict[str, list[float]]], float]] = {
    "variety_loss": lambda s: max(last(s["variety"][:i], 3) for i in range(3, len(s["variety"]))) / last(s["variety"], 3),
    "distance_increase": lambda s: (
        last(s["distance"], 3) - min(last(s["distance"][:i], 3) for i in range(3, len(s["distance"])))
    ),
    "overfitting": lambda s: last(s["held_out_separation"], 5),
    "inversion": lambda s: nan if last(s["mirrored"], 8) > 0 else -last(s["tone"], 8),
    "copying": lambda s: 1 - last(s["change"], 8) if last(s["gap"], 8) > 0.05 and last(s["separation"], 8) > 0.95 else nan,
    "weight_growth": lambda s: s["G/weights"][-1] / s["G/weights"][-5],
    "gradient_burst": lambda s: s["G/gradient"][-1] / last(s["G/gradient"], 8, before=1),
    "gradient_loss": lambda s: last(s["G/gradient"], 8, before=4) / s["G/gradient"][-1],
    "oscillation": lambda s: (
        0.0
        if last(s["distance"], 3) < 0.95 * min(last(s["distance"][: i + 1], 3) for i in range(2, len(s["distance"]) - 9))
        else last(
            [moved / variety if moved > 0.3 else 0 for moved, variety in zip(s["moved"], s["variety"], strict=True)], 8
        )
    ),
}
"""The value of each rule at the last check, in plain words: signals by name -> value."""


@pytest.mark.parametrize("rule", PLAIN)
def test_values_of_rules_at_every_check(rule: str) -> None:
    """Against a plain computation on random signals, which shows the length of every window and how far each looks back."""
    random = Random(rule)
    names = {
        "separation": (0.93, 0.97),
        "gap": (0.04, 0.06),
        "mirrored": (-0.1, 0.1),
        "moved": (0.1, 1.0),
        "distance": (0.4, 0.6),
    }
    columns = {
        name: [random.uniform(*names.get(name, (0.1, 1.0))) for _ in range(60)]
        for name in (*names, "variety", "held_out_separation", "tone", "change", "G/weights", "G/gradient")
    }
    lines = log(*[{name: column[check] for name, column in columns.items()} for check in range(60)])
    function = getattr(health, rule)
    player = {"player": "G"} if "player" in signature(function).parameters else {}
    values = function(health.Signals(lines), **player)
    expected = [PLAIN[rule]({name: column[: check + 1] for name, column in columns.items()}) for check in range(12, 60)]
    assert values[12:].tolist() == pytest.approx(expected, nan_ok=True)


ENDED = {"phase": 0.0, "variety": 0.9, "distance": 0.1}
BEGINS = {"phase": 1.0, "variety": 0.05, "distance": 0.6}
"""The end of a phase, and the beginning of the next, whose generator is untrained."""


def test_samples_are_compared_with_those_of_the_same_phase() -> None:
    """An untrained generator that begins later has not collapsed, but one that collapses then has."""
    assert health.alarms(log(*[ENDED] * 20, *[BEGINS] * 6, *[ENDED | {"phase": 1.0}] * 20)) == []
    again = log(*[ENDED] * 20, *[ENDED | {"phase": 1.0}] * 20, *[BEGINS] * 10)
    assert {alarm.kind for alarm in health.alarms(again)} == {"collapse"}
    one = {"phase": 0.0}
    fallen = log(*[ENDED] * 20, *[BEGINS | one] * 10)
    expected = [alarm.as_dict() for alarm in health.alarms(fallen)]
    assert {alarm["kind"] for alarm in expected} == {"collapse"}
    for line in fallen[:5]:  # an earlier version logged no phases, and a check may measure nothing
        del line["health"]["phase"]
    del fallen[22]["health"]["phase"]
    assert [alarm.as_dict() for alarm in health.alarms(fallen)] == expected


@pytest.mark.parametrize("rule", ["variety_loss", "distance_increase", "critic_wins", "critic_done", "oscillation"])
def test_rules_that_look_back_begin_anew_in_each_phase(rule: str) -> None:
    random = Random(rule)
    names = ("variety", "distance", "separation", "moved", "D/gradient")
    parts = [[{"phase": phase, **{name: random.uniform(0, 1) for name in names}} for _ in range(30)] for phase in (0.0, 1.0)]
    whole, value = log(*parts[0], *parts[1]), getattr(health, rule)
    separate = [value(health.Signals(part)).tolist() for part in (whole[:30], whole[30:])]
    assert value(health.Signals(whole)).tolist() == pytest.approx(separate[0] + separate[1], nan_ok=True)


def test_rounds_are_counted_since_the_last_contested_check() -> None:
    """A round between checks: above 128 in three of them, since the first median of three; above 400 in eight, since that of eight."""
    lines = [{**line, "round": check} for check, line in enumerate(lost(430, moved=0.001))]
    assert [alarm.raised for alarm in early(lines)] == [13400]
    assert [at for _, at in numbers(health.alarms(lines), "does not improve")] == [41500]


def test_the_best_of_all_earlier_checks_counts_not_the_last() -> None:
    slowly = log(*[{"variety": 0.98**check} for check in range(100)])
    assert [at for _, at in numbers(health.alarms(slowly), "diversity has dropped")] == [8500]
    away = log(*[{"distance": 0.1 + 0.01 * check} for check in range(40)])
    assert [at for _, at in numbers(health.alarms(away), "away from the data")] == [3100]


WON = {"separation": 0.96, "distance": 0.5}


@pytest.mark.parametrize(
    ("signals", "raised"),
    [
        ({"separation": 0.951}, True),
        ({"separation": 0.949}, False),
        ({"distance": 0.151}, True),
        ({"distance": 0.149}, False),
    ],
)
def test_thresholds_of_a_winning_critic(signals: Signals, raised: bool) -> None:
    alarms = numbers(health.alarms(log(*[WON | signals] * 40)), "does not improve")
    # Medians of 8 checks, of 40 rounds each: of the first 8, then more than 400 rounds, in eight checks. The symptom is as old as the
    # first of these rounds.
    assert alarms == ([(800, 2500)] if raised else [])


@pytest.mark.parametrize(("share", "raised"), [(0.9955, True), (0.9945, False)])
def test_samples_that_come_a_twentieth_nearer_within_400_rounds_improve(share: float, raised: bool) -> None:
    lines = log(*[WON | {"distance": 0.9 * share**check} for check in range(80)])
    assert bool(numbers(health.alarms(lines), "does not improve")) is raised


@pytest.mark.parametrize(("share", "raised"), [(0.995, True), (0.9935, False)])
def test_samples_that_come_a_twentieth_nearer_within_nine_checks_do_not_oscillate(share: float, raised: bool) -> None:
    lines = log(*[{"moved": 4.0 if check > 10 else 0.1, "distance": 0.5 * share**check} for check in range(40)])
    assert bool(numbers(health.alarms(lines), "oscillate")) is raised


@pytest.mark.parametrize(
    ("distances", "raised"),
    [
        ([0.7] * 12, [1100]),
        ([0.7 * 0.97**check for check in range(30)], []),  # ever nearer
        ([0.7 * 0.97 ** min(check, 10) for check in range(30)], [2300]),  # no more since the eleventh check
        ([0.7 - 0.001 * check for check in range(14)], []),
        ([0.7 - 0.001 * check for check in range(15)], [1500]),  # hardly nearer: not a twentieth in nine checks
        ([0.7] * 3 + [0.6] * 3 + [0.59] * 5, []),  # at check 8, the last four medians of three are 0.6, those before 0.7
        ([0.7] * 3 + [0.6, 0.7] * 4, [1100]),
        ([0.7] * 4 + [0.6] * 3 + [0.7] * 4, [1100]),
    ],
)
def test_samples_that_come_nearer_in_the_first_checks_do_not_oscillate(distances: list[float], raised: list[int]) -> None:
    lines = log(*[{"moved": 4.0, "variety": 1.0, "distance": distance} for distance in distances])
    assert [at for _, at in numbers(health.alarms(lines), "oscillate")] == raised


LOST = {"separation": 1.0, "distance": 0.7, "moved": 0.05, "D/gradient": 0.05}
"""Checks are 40 rounds apart, so samples change by 0.00125 per round; the first check of `lost` has a gradient of 1."""


def lost(n: int = 40, **signals: float) -> list[dict[str, Any]]:
    """A game that D has won at once, for n checks, except for the given signals."""
    return log(LOST | {"D/gradient": 1.0}, *[LOST | signals] * (n - 1))


def early(lines: list[dict[str, Any]]) -> list[health.Alarm]:
    """The alarms of the rule about games that are lost from the beginning."""
    return [alarm for alarm in health.alarms(lines) if "neither D nor G" in alarm.symptom]


def test_a_lost_game_is_an_alarm_long_before_a_stalled_one() -> None:
    (alarm,) = early(lost())
    stalled = next(other for other in health.alarms(lost()) if "does not improve" in other.symptom)
    assert (alarm.kind, alarm.raised, alarm.until) == ("critic", 900, None)
    assert stalled.raised == 2500
    assert early(lost(8)) == [], "in three checks, after more than 128 rounds"
    assert len(early(lost(9))) == 1


@pytest.mark.parametrize(
    ("signals", "raised"),
    [
        ({"moved": 0.059}, True),
        ({"moved": 0.061}, False),  # samples change as in a slow start
        ({"D/gradient": 0.199}, True),
        ({"D/gradient": 0.201}, False),  # D still learns
        ({"separation": 0.96}, True),
        ({"separation": 0.94}, False),
        ({"distance": 0.16}, True),
        ({"distance": 0.14}, False),
    ],
)
def test_thresholds_of_a_lost_game(signals: dict[str, float], raised: bool) -> None:
    assert bool(early(lost(**signals))) is raised


@pytest.mark.parametrize(
    ("rounds", "moved", "raised"),
    [(10, 0.0149, True), (10, 0.0151, False), (100, 0.059, True), (100, 0.061, False)],
)
def test_samples_of_a_lost_game_hardly_change_per_round_and_per_check(rounds: int, moved: float, raised: bool) -> None:
    lines = [{**line, "round": rounds * check} for check, line in enumerate(lost(60, moved=moved))]
    assert bool(early(lines)) is raised


@pytest.mark.parametrize("rounds", [256, 800])
def test_samples_that_are_replaced_between_rare_checks_are_no_lost_game(rounds: int) -> None:
    def rare(moved: float) -> list[health.Alarm]:
        return early([{**line, "round": rounds * check} for check, line in enumerate(lost(40, moved=moved))])

    assert rare(1.0) == []
    assert rare(0.3) == [], "nor those that change much"
    assert len(rare(0.01)) == 1


def test_a_slow_game_is_not_lost() -> None:
    first = LOST | {"D/gradient": 1.0}
    assert early(log(first, *[LOST | {"distance": 0.7 * 0.98**check} for check in range(40)])) == [], "samples come nearer"
    assert early(log(first, *[LOST | {"distance": 0.7 * 0.995**check} for check in range(40)])), "but hardly"
    surprised = [LOST | {"D/gradient": 0.05 if check % 5 else 0.5} for check in range(40)]
    assert early(log(first, *surprised)) == [], "D is surprised from time to time"
    slower = [{**line, "round": 10 * check} for check, line in enumerate(lost(40))]
    assert early(slower) == [], "per round, not per check, because games differ in the rounds between checks"
    bare = lost()
    for line in bare[1:]:
        del line["health"]["D/gradient"]
    assert early(bare) == [], "no D"


def test_a_player_that_does_not_move_may_keep_its_weights() -> None:
    resting = log(*[{"D/weights": 10.0}] * 20)
    assert [alarm.symptom for alarm in health.alarms(resting)] == ["the weights of D have stopped changing"]
    for one in resting:
        del one["losses"]["D/adversarial"]
    assert health.alarms(resting) == []


def test_a_player_with_a_decayed_learning_rate_may_keep_its_weights() -> None:
    fading = log(*[{"D/rate": 1e-3 * 0.8**check, "D/weights": 10 + 0.8**check} for check in range(80)])
    assert health.alarms(fading) == []
    early = log(*[{"D/rate": 1e-3, "D/weights": 10 + 0.8**check} for check in range(80)])
    assert [alarm.symptom for alarm in health.alarms(early)] == ["the weights of D have stopped changing"]
    never = log(*[{"D/rate": 0.0, "D/weights": 10.0} for _ in range(20)])
    assert [alarm.symptom for alarm in health.alarms(never)] == ["the weights of D have stopped changing"]


def test_the_players_are_those_of_the_last_check() -> None:
    lines = log(*[{"H/weights": 10.0}] * 20)
    lines[0]["health"].pop("H/weights")
    assert health.Signals(lines).players() == ["D", "G", "H"]


def test_missing_signals_raise_no_alarm() -> None:
    bare = [{"images": one, "round": one, "losses": {}, "health": {}} for one in range(100, 4000, 100)]
    assert health.alarms(bare) == []


@pytest.mark.parametrize(
    ("signals", "kind"),
    [
        ({"tone": -0.35}, "inverted"),
        ({"tone": -0.25}, ""),
        ({"tone": -0.9, "mirrored": 0.05}, ""),  # light and dark are swapped in the data
        ({"change": 0.05, "separation": 0.99}, "copy"),
        ({"change": 0.15, "separation": 0.99}, ""),
        ({"change": 0.05, "separation": 0.9}, ""),  # D takes them for real
        ({"change": 0.05, "separation": 0.99, "gap": 0.02}, ""),  # the two kinds of images look alike at this size
    ],
)
def test_faults_of_translators(signals: dict[str, float], kind: str) -> None:
    lines = log(*[signals] * 40, **TRANSLATES)
    found = [alarm for alarm in health.alarms(lines) if alarm.kind in ("inverted", "copy")]
    assert [alarm.kind for alarm in found] == ([kind] if kind else [])
    assert all(800 <= alarm.raised <= 1600 for alarm in found), "not at once, and within 16 checks"
    short = log(*[{}] * 10, *[signals] * 6, *[{}] * 20, **TRANSLATES)
    assert not [alarm for alarm in health.alarms(short) if alarm.kind in ("inverted", "copy")], "a short episode"


def test_an_inversion_may_be_wanted_and_the_alarm_says_so() -> None:
    (alarm,) = health.alarms(log(*[{"tone": -0.8}] * 40, **TRANSLATES))
    for part in ("negatives to positives", "what is wanted", "--seed", "identity", "learning rate"):
        assert part in str(alarm)


def test_no_alarm_about_translations_without_their_signals() -> None:
    """Games with paired data have none of them."""
    assert health.alarms(log(*[{"separation": 0.99, "distance": 0.05}] * 40)) == []


def test_translators_get_advice_of_their_own() -> None:
    fault = log(*[{}] * 30, *[{"variety": 0.001}] * 12)
    plain = next(iter(health.alarms(fault))).advice
    lines = [{**one, "translates": True} for one in fault]
    advice = next(iter(health.alarms(lines))).advice
    assert "pacgan" in plain
    assert not any(recipe in text for text in health.TRANSLATOR_ADVICE.values() for recipe in ("wgan", "r3gan", "pacgan"))
    assert "identity" in advice
    assert health.TRANSLATOR_ADVICE.keys() == health.ADVICE.keys()


def test_divergence_is_an_alarm() -> None:
    (alarm,) = health.alarms(
        [*log({}, {}), {"images": 230, "losses": {}, "diverged": "weight 'w' of player G is not a number"}]
    )
    assert (alarm.kind, alarm.since, alarm.until) == ("nan", 230, None)
    assert "nan" not in str(alarm)


def test_every_kind_has_advice_and_every_alarm_is_valid_json() -> None:
    kinds = {rule.kind for rule in health.rules(["G"])} | {"nan"}
    assert kinds == health.ADVICE.keys()
    assert set(health.SLOWER_HELPS) <= kinds
    for _, _, _, signals in FAULTS.values():
        for alarm in health.alarms(log(*[{}] * 30, *[dict.fromkeys(signals, 0.0) | signals] * 12)):
            assert json.loads(json.dumps(alarm.__dict__, allow_nan=False)) == alarm.__dict__


@pytest.mark.parametrize(
    ("signals", "share"),
    [
        ({"separation": 0.981, "distance": 0.4}, 0.981),
        ({"separation": 0.979, "distance": 0.4}, None),
        ({"separation": 1.0, "distance": 0.151}, 1.0),
        ({"separation": 1.0, "distance": 0.149}, None),
    ],
)
def test_thresholds_of_what_the_end_mentions(signals: Signals, share: float | None) -> None:
    assert health.separated(log(*[{}] * 9, signals, signals)) == share, "two of the last three checks"
    assert health.separated(log(*[{}] * 9, signals, signals, {})) == share
    assert health.separated(log(*[signals] * 9, {}, {})) is None


@pytest.mark.parametrize(
    ("batch", "images", "recorded", "expected"),
    [
        (10, 1000, False, 320),
        (10, 1000, True, 2560),
        (10, 642_000, False, 321),
        (10, 5_122_000, True, 2561),
        (10, 638_000, False, 320),
    ],
)
def test_checks_come_every_32_batches_and_at_most_2000_times(batch: int, images: int, recorded: bool, expected: int) -> None:
    assert health.interval(batch, images, recorded=recorded) == expected


def test_the_last_checks_say_whether_d_separates_samples_that_are_far_from_the_data() -> None:
    assert health.separated([]) is None
    assert health.separated(log({}, {})) is None
    dead = {"separation": 1.0, "variety": 0.01, "distance": 0.4}
    assert health.separated(log(*(dead for _ in range(3)))) == 1.0
    for fine in (dead | {"separation": 0.9}, dead | {"distance": 0.1}):
        assert health.separated(log(*(fine for _ in range(3)))) is None
    assert health.separated(log(dead, *({} for _ in range(3)))) is None, "it is long ago"

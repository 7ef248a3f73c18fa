"""Alarms from the lines of a log: every fault is detected in time, and there are no false alarms."""

from __future__ import annotations

import json
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
    "no gradient": ("stagnation", "gradient of D has vanished", 3, {"D/gradient": 0.0}),
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


def test_missing_signals_raise_no_alarm() -> None:
    bare = [{"images": one, "round": one, "losses": {}, "health": {}} for one in range(100, 4000, 100)]
    assert health.alarms(bare) == []


TRANSLATES = {"tone": 0.6, "mirrored": -0.2, "change": 0.6, "gap": 0.3}


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


def test_the_last_checks_say_whether_d_separates_samples_that_are_far_from_the_data() -> None:
    assert health.separated([]) is None
    assert health.separated(log({}, {})) is None
    dead = {"separation": 1.0, "variety": 0.01, "distance": 0.4}
    assert health.separated(log(*(dead for _ in range(3)))) == 1.0
    for fine in (dead | {"separation": 0.9}, dead | {"distance": 0.1}):
        assert health.separated(log(*(fine for _ in range(3)))) is None
    assert health.separated(log(dead, *({} for _ in range(3)))) is None, "it is long ago"

"""Health monitoring: alarms as a pure function of the lines of a training log.

The signals are measured by `engine.probe`; `commands.watching` acts on the alarms. A rule computes one value per health check (a
"look"); an alarm is raised when the value exceeds the rule's threshold for a number of consecutive looks. The same log lines give
the same alarms, whether or not training was interrupted. docs/guide/health.md documents the thresholds and their error rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from leafwing.quantities import show_count

Numbers = NDArray[np.float64]
TINY, LARGEST = 1e-6, 1e30
"""Lower bound of divisors, and upper bound of reported values, because JSON has no infinity."""

BATCHES, RECORDED, MOST = 32, 8, 2000
"""Batches between two looks; the factor by which this grows with captured turns, because a look is not captured and takes as long as
a few captured rounds; and the maximum number of looks per training, because each one evaluates the whole history."""
REACH = 16
"""Checkpoints older than this many looks are not needed for a rollback."""

ADVICE = {
    "collapse": "Lower learning rates (lr_g, lr_d) or a gradient penalty (recipes wgan_gp, r3gan) often help",
    "critic": "Lower D's learning rate (lr_d), or use a recipe in which D cannot saturate: wgan_gp, r3gan",
    "oscillation": "Lower learning rates (lr_g, lr_d) or a gradient penalty often help",
    "explosion": "The learning rates (lr_g, lr_d) are too high",
    "still": "Its learning rate is too low or its gradients have vanished: check the losses, lr_g and lr_d",
    "overfit": "D has memorised the training images: more images, --mirror or a smaller D help; more training does not",
    "nan": "A lower learning rate (lr_g, lr_d) or --precision fp32 often helps",
}
"""Suggested remedies, by kind of alarm."""
SLOWER_HELPS = ("collapse", "critic", "oscillation", "explosion", "nan")
"""Alarms that lower learning rates may resolve, so that a rollback makes sense."""


@dataclass(frozen=True)
class Alarm:
    """A detected problem.

    Args:
        kind: a key of `ADVICE`.
        about: description of the symptom.
        since: images shown when the symptom first appeared.
        raised: images shown when the alarm was raised.
        until: images shown when the symptom was gone; None while it persists.
        value: the rule's value when the alarm was raised; 0 if it has none.
        threshold: the rule's threshold; 0 if it has none.
        advice: suggested remedy.
    """

    kind: str
    about: str
    since: int
    raised: int
    until: int | None
    value: float
    threshold: float
    advice: str

    def __str__(self) -> str:
        numbers = f" ({self.value:.3g} > {self.threshold:.3g})" if self.threshold else ""
        return f"{self.about}, since {self.since:,} images{numbers}. {self.advice}"


class Looks:
    """The log lines with health signals, as columns: `looks("variety")` is (looks,), NaN where the signal is missing.

    Args:
        records: those lines.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.records = records
        self.rounds = np.array([record["round"] for record in records], np.float64)
        self._columns: dict[str, Numbers] = {}

    def __call__(self, name: str) -> Numbers:
        if name not in self._columns:
            self._columns[name] = np.array([record["health"].get(name, np.nan) for record in self.records], np.float64)
        return self._columns[name]

    @cached_property
    def _costs(self) -> set[str]:
        return set().union(*(record["costs"] for record in self.records))

    def players(self) -> list[str]:
        """The players that are trained."""
        return sorted(name.removesuffix("/weights") for name in self.records[-1]["health"] if name.endswith("/weights"))

    def paid(self, player: str) -> NDArray[np.bool_]:
        """Whether this player has moved since the previous line, i.e. whether the line has losses of it."""
        own = {name for name in self._costs if player in name.partition("/")[0].split("+")}
        return np.array([not own.isdisjoint(record["costs"]) for record in self.records])


@dataclass(frozen=True)
class Rule:
    """A health rule.

    Args:
        kind: kind of its alarms, a key of `ADVICE`.
        about: description of the symptom.
        value: looks -> one value per look, (looks,); NaN where undefined.
        threshold: values above it are unhealthy.
        lasting: number of consecutive unhealthy looks that raises an alarm.
    """

    kind: str
    about: str
    value: Callable[[Looks], Numbers]
    threshold: float
    lasting: int


# --- helpers of the rules: (looks,) -> (looks,), each value computed from its own and earlier looks -----------------------------


def middle(numbers: Numbers, looks: int) -> Numbers:
    """The running median over the last `looks` values, NaN until there are that many."""
    if len(numbers) < looks:
        return np.full(len(numbers), np.nan)
    return np.concatenate([np.full(looks - 1, np.nan), np.median(sliding_window_view(numbers, looks), axis=1)])


def before(numbers: Numbers, looks: int) -> Numbers:
    """The value `looks` looks earlier, NaN if there is none."""
    return np.concatenate([np.full(min(looks, len(numbers)), np.nan), numbers[: max(0, len(numbers) - looks)]])


def best(numbers: Numbers) -> Numbers:
    """The running minimum up to the previous look."""
    return before(np.fmin.accumulate(numbers), 1) if len(numbers) else numbers


# --- the rules ----------------------------------------------------------------------------------------------------------------


def variety(looks: Looks) -> Numbers:
    """Diversity of the samples relative to real images; within one condition for conditional games."""
    return np.fmin(looks("variety"), looks("echo"))


def lost_variety(looks: Looks) -> Numbers:
    """Ratio of the best diversity so far to the current one."""
    now = middle(variety(looks), 3)
    return -best(-now) / np.maximum(now, TINY)


def sameness(looks: Looks) -> Numbers:
    """Ratio of the diversity of real images to that of the samples."""
    return 1 / np.maximum(variety(looks), TINY)


def astray(looks: Looks) -> Numbers:
    """Increase of the distance between samples and data over its minimum so far."""
    now = middle(looks("distance"), 3)
    return now - best(now)


def losing(looks: Looks) -> Numbers:
    """The probability that D scores a fake above a real image."""
    return 1 - looks("separation")


def winning(looks: Looks) -> Numbers:
    """Rounds for which D has separated nearly all fakes while these came no nearer to the data, from which they are still far."""
    nearest = np.minimum.accumulate(np.nan_to_num(middle(looks("distance"), 3), nan=np.inf))
    arrived = np.searchsorted(-nearest, -nearest / 0.95)  # the look since which they have come at most 5 % nearer
    fooled = ~((nearest > 0.15) & (middle(looks("separation"), 8) > 0.95))
    last = np.maximum.accumulate(np.where(fooled, np.arange(len(fooled)), 0))
    return looks.rounds - looks.rounds[np.maximum(arrived, last)]


def jumping(looks: Looks) -> Numbers:
    """How far the samples of fixed latents move between two looks, relative to their diversity, while coming no nearer to the data."""
    moved, distance = looks("moved"), middle(looks("distance"), 3)
    far = np.where(moved > 0.3, moved / np.maximum(looks("variety"), TINY), 0.0)
    nearer = distance < 0.95 * before(best(distance), 8)
    return np.where(nearer, 0.0, middle(far, 8))


def overfit(looks: Looks) -> Numbers:
    """The probability that D scores a training image above a held-out one."""
    return middle(looks("held"), 5)


def growth(looks: Looks, player: str) -> Numbers:
    """Ratio of the norm of a player's weights to that four looks earlier."""
    weights = looks(f"{player}/weights")
    return weights / np.maximum(before(weights, 4), TINY)


def burst(looks: Looks, player: str) -> Numbers:
    """Ratio of a player's gradient norm to its running median."""
    gradient = looks(f"{player}/gradient")
    return gradient / np.maximum(before(middle(gradient, 8), 1), TINY)


def vanished(looks: Looks, player: str) -> Numbers:
    """Ratio of the running median of a player's gradient norm to its current value."""
    gradient = looks(f"{player}/gradient")
    return before(middle(gradient, 8), 4) / np.maximum(gradient, TINY)


def rest(looks: Looks, player: str) -> Numbers:
    """Number of decimal digits of a player's weight norm unchanged since the last look, unless its learning rate has decayed to 0."""
    weights, rate = looks(f"{player}/weights"), looks(f"{player}/rate")
    change = np.abs(weights / np.maximum(before(weights, 1), TINY) - 1)
    over = rate < 0.01 * np.fmax.accumulate(rate)
    return np.where(looks.paid(player) & ~over, -np.log10(np.maximum(change, 1e-12)), np.nan)


RULES = (
    Rule("collapse", "sample diversity has dropped sharply (mode collapse)", lost_variety, 5.0, 3),
    Rule("collapse", "samples are nearly identical (mode collapse)", sameness, 200.0, 3),
    Rule("collapse", "samples have moved away from the data", astray, 0.25, 3),
    Rule("critic", "D scores fakes above real images", losing, 0.9, 8),
    Rule("critic", "D separates all fakes from real images and G does not improve", winning, 400.0, 8),
    Rule("oscillation", "samples oscillate without approaching the data", jumping, 3.0, 4),
    Rule("overfit", "D is overfitting: it scores training images above held-out ones", overfit, 0.9, 4),
)
"""Rules for every game."""

PLAYERS = (
    ("explosion", "the weights of {} are growing rapidly", growth, 2.0, 2),
    ("explosion", "the gradient norm of {} has exploded", burst, 1000.0, 2),
    ("still", "the gradient of {} has vanished", vanished, 1e4, 3),
    ("still", "the weights of {} have stopped changing", rest, 7.0, 4),
)
"""Rules for each player: kind, description, value, threshold, consecutive looks."""


def rules(players: Iterable[str]) -> list[Rule]:
    """All rules for a game with these players."""
    own = [
        Rule(kind, about.format(player), partial(value, player=player), threshold, lasting)
        for player in players
        for kind, about, value, threshold, lasting in PLAYERS
    ]
    return [*RULES, *own]


# --- evaluation ---------------------------------------------------------------------------------------------------------------


def alarms(records: Iterable[Mapping[str, Any]]) -> list[Alarm]:
    """The alarms of a training log, in the order in which they were raised.

    Args:
        records: the lines of `log.jsonl` (`Run.records`); only those with `health` or `diverged` are used.
    """
    lines = list(records)
    found = [
        Alarm("nan", line["diverged"], line["images"], line["images"], None, 0.0, 0.0, ADVICE["nan"])
        for line in lines
        if "diverged" in line
    ]
    looked = [line for line in lines if "health" in line]
    if looked:
        looks = Looks(looked)
        images = [int(line["images"]) for line in looked]
        for rule in rules(looks.players()):
            found += _raised(rule, rule.value(looks), images)
    return sorted(found, key=lambda alarm: (alarm.raised, alarm.since))


def _raised(rule: Rule, values: Numbers, images: Sequence[int]) -> Iterator[Alarm]:
    """The alarms of a rule: one per sufficiently long violation."""
    ill, look = values > rule.threshold, 0
    if not ill.any():
        return
    for broken, group in groupby(ill):
        first, look = look, look + len(list(group))
        if broken and look - first >= rule.lasting:
            raised = first + rule.lasting - 1
            until = images[look] if look < len(images) else None
            value = float(min(values[raised], LARGEST))
            yield Alarm(
                rule.kind, rule.about, images[first], images[raised], until, value, rule.threshold, ADVICE[rule.kind]
            )


def summary(records: Iterable[Mapping[str, Any]]) -> str:
    """One-line summary: healthy, or the alarms."""
    lines = list(records)
    looked, found = sum("health" in line for line in lines), alarms(lines)
    parts = [
        f"rolled back from {show_count(back['from'])} to {show_count(back['to'])} images ({back['why']})"
        for back in (line["rolled_back"] for line in lines if "rolled_back" in line)
    ]
    parts += [
        f"{alarm.about} ({show_count(alarm.since)} to {'the end' if alarm.until is None else show_count(alarm.until)})"
        for alarm in found
    ]
    if not found:
        parts.append(f"no alarm in {looked} looks" if looked else "not monitored")
    return "; ".join(parts)


def every(batch: int, images: int, *, recorded: bool = False) -> int:
    """Images between two looks.

    Args:
        batch: images per turn.
        images: length of the training in images.
        recorded: whether turns are captured and replayed.
    """
    return max(batch * BATCHES * (RECORDED if recorded else 1), images // MOST)

"""Whether a training is healthy: a pure judgement of the lines of its log.

What is measured is `engine.probe`'s, what is done about it `commands.watching`'s. A rule works out one number a look; an alarm is
raised when that was above the rule's threshold so many looks in a row. The same lines give the same alarms, whether training was
interrupted or not. Where the thresholds come from, and how often they are wrong, is in docs/guide/health.md.
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
"""Nothing is divided by less than the first, and no number is told that is larger than the second: JSON has no infinity."""

BATCHES, RECORDED, MOST = 32, 8, 2000
"""Batches between two looks; so many times more where turns are replayed from recordings, because a look is not recorded, and takes as
long as a few such rounds; and no more looks than this in a training, because each judges all before it."""
REACH = 16
"""Checkpoints older than so many looks are not needed to go back to."""

ADVICE = {
    "collapse": "Smaller rates (lr_g, lr_d) or a critic with a gradient penalty (wgan_gp, r3gan) often help",
    "critic": "Let D learn more slowly (lr_d), or choose a recipe whose critic cannot win: wgan_gp, r3gan",
    "oscillation": "Smaller rates (lr_g, lr_d), or a gradient penalty, often help",
    "explosion": "The rates (lr_g, lr_d) are too high",
    "still": "Its rate is too low, or its gradients have vanished: look at the costs, and at lr_g and lr_d",
    "overfit": "D knows its pictures by heart: more pictures help, --mirror, or a smaller D; more training does not",
    "nan": "A smaller learning rate (lr_g, lr_d) or --precision fp32 often helps",
}
"""What may be done, by kind of alarm."""
SLOWER_HELPS = ("collapse", "critic", "oscillation", "explosion", "nan")
"""Alarms about which smaller learning rates may do something, so that it makes sense to go back."""


@dataclass(frozen=True)
class Alarm:
    """Something that is wrong.

    Args:
        kind: a key of `ADVICE`.
        about: what was seen, in words.
        since: images shown when it was first seen.
        raised: images shown when it had been seen often enough.
        until: images shown when it was no longer seen; None while it is.
        value: the rule's number when the alarm was raised; 0 where there is no number.
        threshold: what that was compared with; 0 likewise.
        advice: what may be done.
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
    """The lines of a log that have signals, as columns: `looks("variety")` is (looks,), nan where there is none.

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
        """Who learns."""
        return sorted(name.removesuffix("/weights") for name in self.records[-1]["health"] if name.endswith("/weights"))

    def paid(self, player: str) -> NDArray[np.bool_]:
        """Whether this player has moved since the line before: only who moves pays."""
        own = {name for name in self._costs if player in name.partition("/")[0].split("+")}
        return np.array([not own.isdisjoint(record["costs"]) for record in self.records])


@dataclass(frozen=True)
class Rule:
    """What is ill.

    Args:
        kind: of its alarms, a key of `ADVICE`.
        about: what is seen, in words.
        value: looks -> one number each, (looks,); nan where nothing can be said.
        threshold: above it is ill.
        lasting: so many looks in a row.
    """

    kind: str
    about: str
    value: Callable[[Looks], Numbers]
    threshold: float
    lasting: int


# --- tools of the rules: (looks,) -> (looks,), each number from its own and earlier looks -------------------------------------


def middle(numbers: Numbers, looks: int) -> Numbers:
    """The median of the last so many numbers, nan before there are as many."""
    if len(numbers) < looks:
        return np.full(len(numbers), np.nan)
    return np.concatenate([np.full(looks - 1, np.nan), np.median(sliding_window_view(numbers, looks), axis=1)])


def before(numbers: Numbers, looks: int) -> Numbers:
    """The number so many looks earlier, nan where there is none."""
    return np.concatenate([np.full(min(looks, len(numbers)), np.nan), numbers[: max(0, len(numbers) - looks)]])


def best(numbers: Numbers) -> Numbers:
    """The smallest number up to the look before."""
    return before(np.fmin.accumulate(numbers), 1) if len(numbers) else numbers


# --- the rules ----------------------------------------------------------------------------------------------------------------


def variety(looks: Looks) -> Numbers:
    """How much samples vary beside real ones: of one condition, where there are conditions."""
    return np.fmin(looks("variety"), looks("echo"))


def lost_variety(looks: Looks) -> Numbers:
    """How many times as much samples varied at their best than now."""
    now = middle(variety(looks), 3)
    return -best(-now) / np.maximum(now, TINY)


def sameness(looks: Looks) -> Numbers:
    """How many times as much real samples vary than fakes."""
    return 1 / np.maximum(variety(looks), TINY)


def astray(looks: Looks) -> Numbers:
    """How much further from the data samples are than they were at their nearest."""
    now = middle(looks("distance"), 3)
    return now - best(now)


def losing(looks: Looks) -> Numbers:
    """The chance that D puts a fake above a real sample."""
    return 1 - looks("separation")


def winning(looks: Looks) -> Numbers:
    """Rounds in which D told nearly all fakes apart while they came no nearer to the data, which are still far."""
    nearest = np.minimum.accumulate(np.nan_to_num(middle(looks("distance"), 3), nan=np.inf))
    arrived = np.searchsorted(-nearest, -nearest / 0.95)  # the look since which they came no more than 5 % nearer
    fooled = ~((nearest > 0.15) & (middle(looks("separation"), 8) > 0.95))
    last = np.maximum.accumulate(np.where(fooled, np.arange(len(fooled)), 0))
    return looks.rounds - looks.rounds[np.maximum(arrived, last)]


def jumping(looks: Looks) -> Numbers:
    """How far samples of the same latents go between two looks, over how far they are apart, while they come no nearer to the data."""
    moved, distance = looks("moved"), middle(looks("distance"), 3)
    far = np.where(moved > 0.3, moved / np.maximum(looks("variety"), TINY), 0.0)
    nearer = distance < 0.95 * before(best(distance), 8)
    return np.where(nearer, 0.0, middle(far, 8))


def overfit(looks: Looks) -> Numbers:
    """The chance that D puts a training sample above one that it has not seen."""
    return middle(looks("held"), 5)


def growth(looks: Looks, player: str) -> Numbers:
    """How many times as large the weights of a player are than four looks ago."""
    weights = looks(f"{player}/weights")
    return weights / np.maximum(before(weights, 4), TINY)


def burst(looks: Looks, player: str) -> Numbers:
    """How many times as large the gradient of a player is than it usually was."""
    gradient = looks(f"{player}/gradient")
    return gradient / np.maximum(before(middle(gradient, 8), 1), TINY)


def vanished(looks: Looks, player: str) -> Numbers:
    """How many times as large the gradient of a player usually was than it is now."""
    gradient = looks(f"{player}/gradient")
    return before(middle(gradient, 8), 4) / np.maximum(gradient, TINY)


def rest(looks: Looks, player: str) -> Numbers:
    """How many decimal places the norm of a player's weights has kept since the last look, unless its schedule has come to an end."""
    weights, rate = looks(f"{player}/weights"), looks(f"{player}/rate")
    change = np.abs(weights / np.maximum(before(weights, 1), TINY) - 1)
    over = rate < 0.01 * np.fmax.accumulate(rate)
    return np.where(looks.paid(player) & ~over, -np.log10(np.maximum(change, 1e-12)), np.nan)


RULES = (
    Rule("collapse", "samples vary much less than they did", lost_variety, 5.0, 3),
    Rule("collapse", "samples are all alike", sameness, 200.0, 3),
    Rule("collapse", "samples are much further from the data than they were", astray, 0.25, 3),
    Rule("critic", "D takes fakes for real and real samples for fakes", losing, 0.9, 8),
    Rule("critic", "D tells all fakes apart and G learns nothing from it", winning, 400.0, 8),
    Rule("oscillation", "samples jump to and fro and come no nearer to the data", jumping, 3.0, 4),
    Rule("overfit", "D knows the pictures that it is trained with from others", overfit, 0.9, 4),
)
"""What is looked for in every game."""

PLAYERS = (
    ("explosion", "the weights of {} grow fast", growth, 2.0, 2),
    ("explosion", "the gradient of {} is much larger than it was", burst, 1000.0, 2),
    ("still", "the gradient of {} has vanished", vanished, 1e4, 3),
    ("still", "{} does not learn", rest, 7.0, 4),
)
"""The same for each player: kind, words, value, threshold, looks in a row."""


def rules(players: Iterable[str]) -> list[Rule]:
    """Every rule, for a game of these players."""
    own = [
        Rule(kind, about.format(player), partial(value, player=player), threshold, lasting)
        for player in players
        for kind, about, value, threshold, lasting in PLAYERS
    ]
    return [*RULES, *own]


# --- the judgement ------------------------------------------------------------------------------------------------------------


def alarms(records: Iterable[Mapping[str, Any]]) -> list[Alarm]:
    """What has been wrong in a training, by its log, in the order in which it was noticed.

    Args:
        records: the lines of `log.jsonl` (`Run.records`); those without `health` say nothing, but `diverged` does.
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
    """The alarms of a rule: one for each time that it was broken for long enough."""
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
    """One line for people: healthy, or which alarms."""
    lines = list(records)
    looked, found = sum("health" in line for line in lines), alarms(lines)
    told = [
        f"went back from {show_count(back['from'])} to {show_count(back['to'])} images ({back['why']})"
        for back in (line["rolled_back"] for line in lines if "rolled_back" in line)
    ]
    told += [
        f"{alarm.about} ({show_count(alarm.since)} to {'the end' if alarm.until is None else show_count(alarm.until)})"
        for alarm in found
    ]
    if not found:
        told.append(f"no alarm in {looked} looks" if looked else "not looked at")
    return "; ".join(told)


def every(batch: int, images: int, *, recorded: bool = False) -> int:
    """Images between two looks.

    Args:
        batch: images in a turn.
        images: how many are shown in all.
        recorded: turns are replayed from recordings.
    """
    return max(batch * BATCHES * (RECORDED if recorded else 1), images // MOST)

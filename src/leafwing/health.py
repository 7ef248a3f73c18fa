"""Health monitoring: alarms as a pure function of the lines of a training log.

`engine.probe` measures the signals, and `commands.watching` acts on the alarms. A rule computes one value per health check; an alarm
is raised when the value exceeds the rule's threshold in a number of consecutive checks. The same log lines give the same alarms,
whether or not training was interrupted. docs/guide/health.md documents the thresholds and their error rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial, wraps
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
TINY, LARGEST = 1e-6, 1e30
"""Lower bound of divisors, and upper bound of reported values, because JSON has no infinity."""

CHECK_INTERVAL, CAPTURE_FACTOR, MAX_CHECKS = 32, 8, 2000
"""Batches between two checks; the factor by which this grows with captured turns, because a check is not captured and takes as long
as a few captured rounds; and the maximum number of checks per run, because each one evaluates the whole history."""
LAST_CHECKS, SEPARATED, FAR, VARIED = 3, 0.98, 0.15, 0.2
"""The end of a training mentions, by the median of the last checks, that D separates samples from more than this share of the real
images although they are farther from the data than this; and that samples vary less than this, relative to real images. Alarms need a
longer history."""
PACE, STILL, IDLE = 0.0015, 0.06, 0.2
"""D has won if samples change by less than the first per round and less than the second from check to check, relative to the
distance between real images, and its gradient is less than the third of its highest. Samples that are replaced entirely are no
farther from the old ones after 800 rounds than after 30, so that after long intervals a change per round means nothing. In slow
starts either the samples changed faster (`lsgan`: 0.0017 and more) or D still learned (`dcgan` with learning rates of 2e-5: a share
of 0.56 and more); in lost games samples changed by 0.0014 at most, in intervals of 32 rounds, and the share fell below 0.2 by the
fourth check."""
REACH = 24
"""Checkpoints older than this many checks are not needed for a rollback: a lost game has lasted for 400 rounds, of which there are 32
from check to check at least, and eight checks when its alarm is raised."""

ADVICE = {
    "collapse": "Lower learning rates (lr_g, lr_d) or packing (recipe pacgan) may help",
    "critic": "Lower D's learning rate (lr_d) or raise G's (lr_g)",
    "oscillation": "Lower learning rates (lr_g, lr_d) may help",
    "explosion": "The learning rates (lr_g, lr_d) are too high",
    "stagnation": "Its learning rate is too low or its gradients have vanished: check the losses, lr_g and lr_d",
    "overfit": "D has memorised the training images: --augment diff:color,translation, more images or a smaller D help; more training "
    "does not",
    "inverted": "If light and dark should be swapped (negatives to positives), this is what is wanted. If not, it rarely corrects "
    "itself: another --seed, a larger weight of the loss that keeps colours (identity) or a lower learning rate (lr_g) helps",
    "copy": "Lower the weights of the losses that keep the input (identity, cycle), try another --seed, or a lower learning rate of D "
    "(lr_d)",
    "nan": "Lower learning rates (lr_g, lr_d) often help",
}
"""Suggested remedies, by kind of alarm."""
TRANSLATOR_ADVICE = ADVICE | {
    "collapse": "Lower learning rates (lr_g, lr_d), or larger weights of the losses that tie the output to its input (L1, cycle, "
    "identity), often help",
    "critic": "Lower D's learning rate (lr_d), or a smaller D (width, patch) or more images (--mirror), often helps",
    "oscillation": "Lower learning rates (lr_g, lr_d), or larger weights of the losses that tie the output to its input, often help",
}
"""The same for games that generate images from images."""
LOSING = "D scores fakes above real images"
"""The symptom of the alarm `critic` that means that D is too weak."""
STRONGER_D = (
    "D is too weak for this G: raise D's learning rate (lr_d), lower that of G (lr_g), or update D more often (n_critic, where the "
    "recipe has it)"
)
"""The remedy for it, in all games."""
SLOWER_HELPS = ("collapse", "critic", "oscillation", "explosion", "nan")
"""Alarms that lower learning rates may resolve, so that a rollback makes sense."""


@dataclass(frozen=True)
class Alarm:
    """A detected problem.

    Args:
        kind: a key of `ADVICE`.
        symptom: description of the symptom.
        since: images shown when the symptom first appeared.
        raised: images shown when the alarm was raised.
        until: images shown when the symptom was gone; None while it persists.
        value: the rule's value when the alarm was raised; 0 if it has none.
        threshold: the rule's threshold; 0 if it has none.
        advice: suggested remedy.
    """

    kind: str
    symptom: str
    since: int
    raised: int
    until: int | None
    value: float
    threshold: float
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """The alarm as plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        numbers = f" ({self.value:.3g} > {self.threshold:.3g})" if self.threshold else ""
        return f"{self.symptom}, since {self.since:,} images{numbers}. {self.advice}"


class Signals:
    """The health signals of a log as columns: `signals("variety")` is (checks,), NaN where the signal is missing.

    Args:
        records: the log lines with `health`.
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
    def _losses(self) -> set[str]:
        return set().union(*(record["losses"] for record in self.records))

    @cached_property
    def phases(self) -> list[Signals]:
        """The signals of each phase of training, in which other players move than before; of logs without `phase` all are one."""
        column = self("phase")
        last = np.maximum.accumulate(np.where(np.isnan(column), 0, np.arange(len(column))))
        starts = [0, *(np.flatnonzero(np.diff(column[last]) > 0) + 1), len(column)]
        return [Signals(self.records[start:stop]) for start, stop in pairwise(starts)]

    def players(self) -> list[str]:
        """The players that are trained."""
        return sorted(name.removesuffix("/weights") for name in self.records[-1]["health"] if name.endswith("/weights"))

    def moved(self, player: str) -> NDArray[np.bool_]:
        """Whether a player has moved since the previous line: whether the line has losses of it that are not 0, as those of a player
        that its game lets pause: (checks,)."""
        names = {name for name in self._losses if player in name.partition("/")[0].split("+")}
        return np.array([any(record["losses"].get(name) for name in names) for record in self.records])

    def gradient(self, player: str) -> Numbers:
        """The norm of a player's gradient; NaN where it is 0 because the player pauses: its losses are 0, or its weights have changed
        all the same: (checks,)."""
        gradient, weights = self(f"{player}/gradient"), self(f"{player}/weights")
        return np.where((gradient == 0) & (~self.moved(player) | (weights != earlier(weights, 1))), np.nan, gradient)


@dataclass(frozen=True)
class Rule:
    """A health rule.

    Args:
        kind: kind of its alarms, a key of `ADVICE`.
        symptom: description of the symptom.
        value: signals -> one value per check, (checks,); NaN where undefined.
        threshold: values above it are unhealthy.
        duration: number of consecutive unhealthy checks that raises an alarm.
        advice: suggested remedy; empty: that of the kind.
        counts_rounds: whether values are numbers of rounds for which something has lasted, so that the symptom is as much older.
    """

    kind: str
    symptom: str
    value: Callable[[Signals], Numbers]
    threshold: float
    duration: int
    advice: str = ""
    counts_rounds: bool = False


# --- helpers of the rules: (checks,) -> (checks,); each value depends only on its own and earlier checks -------------------------


def median(numbers: Numbers, n: int) -> Numbers:
    """The running median of the last n values; NaN until there are n."""
    return running(np.median, numbers, n)


def running(function: Callable[..., Any], numbers: Numbers, n: int) -> Numbers:
    """A function of the last n values, such as their median or maximum; NaN until there are n."""
    if len(numbers) < n:
        return np.full(len(numbers), np.nan)
    return np.concatenate([np.full(n - 1, np.nan), function(sliding_window_view(numbers, n), axis=1)])


def earlier(numbers: Numbers, n: int) -> Numbers:
    """The value n checks earlier; NaN if there is none."""
    return np.concatenate([np.full(min(n, len(numbers)), np.nan), numbers[: max(0, len(numbers) - n)]])


def minimum_before(numbers: Numbers) -> Numbers:
    """The minimum of all earlier values."""
    return earlier(np.fmin.accumulate(numbers), 1) if len(numbers) else numbers


def in_each_phase(value: Callable[[Signals], Numbers]) -> Callable[[Signals], Numbers]:
    """A rule that compares samples with earlier ones, but only of the same phase: those of a player that begins later start anew."""

    @wraps(value)
    def values(signals: Signals) -> Numbers:
        return np.concatenate([value(phase) for phase in signals.phases])

    return values


# --- the rules ----------------------------------------------------------------------------------------------------------------


def variety(signals: Signals) -> Numbers:
    """Diversity of the samples relative to real images; for conditional games also within one condition, if that is lower."""
    return np.fmin(signals("variety"), signals("conditional_variety"))


@in_each_phase
def variety_loss(signals: Signals) -> Numbers:
    """Ratio of the best diversity so far to the current one."""
    current = median(variety(signals), 3)
    return -minimum_before(-current) / np.maximum(current, TINY)


def sameness(signals: Signals) -> Numbers:
    """Ratio of the diversity of real images to that of the samples."""
    return 1 / np.maximum(variety(signals), TINY)


@in_each_phase
def distance_increase(signals: Signals) -> Numbers:
    """Increase of the distance between samples and data over its minimum so far."""
    current = median(signals("distance"), 3)
    return current - minimum_before(current)


def critic_loses(signals: Signals) -> Numbers:
    """The probability that D scores a fake above a real image."""
    return 1 - signals("separation")


@in_each_phase
def critic_wins(signals: Signals) -> Numbers:
    """Rounds for which D has separated nearly all fakes while these, still far from the data, came no nearer."""
    return rounds_lost(signals, median(signals("separation"), 8) > 0.95)


@in_each_phase
def critic_done(signals: Signals) -> Numbers:
    """The same for rounds in which, moreover, samples hardly changed and D, always right, hardly learned: unlike in a slow start."""
    moved = signals("moved")
    pace = moved / np.maximum(signals.rounds - earlier(signals.rounds, 1), 1)
    gradient = signals("D/gradient")
    idle = (pace < PACE) & (moved < STILL) & (gradient < IDLE * np.fmax.accumulate(gradient))
    return rounds_lost(signals, (signals("separation") > 0.95) & idle)


def rounds_lost(signals: Signals, won: NDArray[np.bool_]) -> Numbers:
    """Rounds since the last check that D had not `won`, or whose samples were near the data or have come nearer since."""
    nearest = np.minimum.accumulate(np.nan_to_num(median(signals("distance"), 3), nan=np.inf))
    stalled = np.searchsorted(-nearest, -nearest / 0.95)  # the check since which they have come at most 5% nearer
    contested = ~((nearest > FAR) & won)
    last_contested = np.maximum.accumulate(np.where(contested, np.arange(len(contested)), 0))
    return signals.rounds - signals.rounds[np.maximum(stalled, last_contested)]


@in_each_phase
def oscillation(signals: Signals) -> Numbers:
    """Movement of the samples of fixed latents between two checks, relative to their diversity; 0 while they approach the data.

    They do if they are a twentieth nearer than nine checks earlier; in the first checks, if the last four are all nearer than all
    before.
    """
    moved, distance = signals("moved"), median(signals("distance"), 3)
    relative = np.where(moved > 0.3, moved / np.maximum(signals("variety"), TINY), 0.0)
    before = earlier(minimum_before(distance), 8)
    first = np.isnan(before) & (running(np.max, distance, 4) < earlier(minimum_before(distance), 3))
    return np.where(first | (distance < 0.95 * before), 0.0, median(relative, 8))


def overfitting(signals: Signals) -> Numbers:
    """The probability that D scores a training image above a held-out one."""
    return median(signals("held_out_separation"), 5)


def weight_growth(signals: Signals, player: str) -> Numbers:
    """Ratio of the norm of a player's weights to that four checks earlier."""
    weights = signals(f"{player}/weights")
    return weights / np.maximum(earlier(weights, 4), TINY)


def gradient_burst(signals: Signals, player: str) -> Numbers:
    """Ratio of a player's gradient norm to its running median."""
    gradient = signals.gradient(player)
    return gradient / np.maximum(earlier(median(gradient, 8), 1), TINY)


def gradient_loss(signals: Signals, player: str) -> Numbers:
    """Ratio of the running median of a player's gradient norm to its current value."""
    gradient = signals.gradient(player)
    return earlier(median(gradient, 8), 4) / np.maximum(gradient, TINY)


def unchanged_digits(signals: Signals, player: str) -> Numbers:
    """Number of decimal digits of a player's weight norm unchanged since the last check; NaN if its learning rate decayed to 0."""
    weights, rate = signals(f"{player}/weights"), signals(f"{player}/rate")
    change = np.abs(weights / np.maximum(earlier(weights, 1), TINY) - 1)
    decayed = rate < 0.01 * np.fmax.accumulate(rate)
    return np.where(signals.moved(player) & ~decayed, -np.log10(np.maximum(change, 1e-12)), np.nan)


def inversion(signals: Signals) -> Numbers:
    """Negative correlation of the brightness of images and their translations, unless the data differ by swapping light and dark."""
    return np.where(median(signals("mirrored"), 8) > 0, np.nan, -median(signals("tone"), 8))


def copying(signals: Signals) -> Numbers:
    """How little translations differ from their inputs, while D tells them apart from targets that differ from the inputs.

    1 - `change`: 1 for a copy; NaN if sources and targets look the same at this size, or if D does not separate them.
    """
    differs = (median(signals("gap"), 8) > 0.05) & (median(signals("separation"), 8) > 0.95)
    return np.where(differs, 1 - median(signals("change"), 8), np.nan)


RULES = (
    Rule("collapse", "sample diversity has dropped sharply (mode collapse)", variety_loss, 5.0, 3),
    Rule("collapse", "samples are nearly identical (mode collapse)", sameness, 200.0, 3),
    Rule("collapse", "samples have moved away from the data", distance_increase, 0.25, 3),
    Rule("critic", LOSING, critic_loses, 0.9, 8, STRONGER_D),
    Rule(
        "critic", "D separates all fakes from real images and G does not improve", critic_wins, 400.0, 8, counts_rounds=True
    ),
    Rule(
        "critic",
        "D separates all fakes from real images, and neither D nor G changes much any more",
        critic_done,
        128.0,
        3,
        counts_rounds=True,
    ),
    Rule("oscillation", "samples oscillate without approaching the data", oscillation, 3.0, 4),
    Rule("inverted", "translations swap light and dark", inversion, 0.3, 8),
    Rule("copy", "translations are copies of their inputs, and D tells them apart from real images", copying, 0.9, 8),
    Rule("overfit", "D is overfitting: it scores training images above held-out ones", overfitting, 0.9, 4),
)
"""Rules for every game."""

PLAYER_RULES = (
    ("explosion", "the weights of {} are growing rapidly", weight_growth, 2.0, 2),
    ("explosion", "the gradient norm of {} has exploded", gradient_burst, 1000.0, 2),
    ("stagnation", "the gradient of {} has vanished", gradient_loss, 1e4, 3),
    ("stagnation", "the weights of {} have stopped changing", unchanged_digits, 7.0, 4),
)
"""Rules for each player: kind, description, value, threshold, consecutive checks."""


def rules(players: Iterable[str]) -> list[Rule]:
    """All rules for a game with these players."""
    per_player = [
        Rule(kind, symptom.format(player), partial(value, player=player), threshold, duration)
        for player in players
        for kind, symptom, value, threshold, duration in PLAYER_RULES
    ]
    return [*RULES, *per_player]


# --- evaluation ---------------------------------------------------------------------------------------------------------------


def alarms(records: Iterable[Mapping[str, Any]]) -> list[Alarm]:
    """The alarms of a training log, in the order in which they were raised.

    Args:
        records: the lines of `log.jsonl` (`Run.records`); only those with `health` or `diverged` are used. `translates` in one of them
            says that images are generated from images, which changes the advice.
    """
    lines = list(records)
    advice = TRANSLATOR_ADVICE if any(line.get("translates") for line in lines) else ADVICE
    result = [
        Alarm("nan", line["diverged"], line["images"], line["images"], None, 0.0, 0.0, advice["nan"])
        for line in lines
        if "diverged" in line
    ]
    checks = [line for line in lines if "health" in line]
    if checks:
        signals = Signals(checks)
        images = [int(line["images"]) for line in checks]
        rounds = [int(line.get("round", 0)) for line in checks]
        for rule in rules(signals.players()):
            result += _violations(rule, rule.value(signals), images, rounds, rule.advice or advice[rule.kind])
    return sorted(result, key=lambda alarm: (alarm.raised, alarm.since))


def _violations(rule: Rule, values: Numbers, images: Sequence[int], rounds: Sequence[int], advice: str) -> Iterator[Alarm]:
    """The alarms of a rule: one per sufficiently long violation."""
    unhealthy, end = values > rule.threshold, 0
    if not unhealthy.any():
        return
    for violated, group in groupby(unhealthy):
        start, end = end, end + len(list(group))
        if violated and end - start >= rule.duration:
            raised = start + rule.duration - 1
            until = images[end] if end < len(images) else None
            value = float(min(values[raised], LARGEST))
            first = start
            if rule.counts_rounds:
                first = next(index for index in range(start + 1) if rounds[index] > rounds[start] - values[start])
            yield Alarm(rule.kind, rule.symptom, images[first], images[raised], until, value, rule.threshold, advice)


def separated(records: Iterable[Mapping[str, Any]]) -> float | None:
    """The share of real images above samples in D's scores in the last checks, if it is nearly all and samples are far from the data.

    Args:
        records: the lines of `log.jsonl`.
    """
    checks = [line["health"] for line in records if "health" in line][-LAST_CHECKS:]

    def last(name: str) -> float:
        values = [check[name] for check in checks if check.get(name) is not None]
        return float(np.median(values)) if values else np.nan

    share = last("separation")
    return share if share > SEPARATED and last("distance") > FAR else None


def interval(batch: int, images: int, *, recorded: bool = False) -> int:
    """Images between two checks.

    Args:
        batch: images per turn.
        images: length of training in images.
        recorded: whether turns are captured and replayed.
    """
    return max(batch * CHECK_INTERVAL * (CAPTURE_FACTOR if recorded else 1), images // MAX_CHECKS)

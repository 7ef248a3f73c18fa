"""How long a comparison takes: an estimate from measured speeds, corrected by the runs so far; how many checkpoints are evaluated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from statistics import mean
from typing import Literal

from leafwing.commands.comparison.plan import ComparisonPlan
from leafwing.commands.real_data import MIN_SAMPLES, default_samples
from leafwing.commands.selection import world_of
from leafwing.quantities import show_duration

EVALUATED = (8, 4, 2, 1)
"""Possible numbers of evaluated checkpoints of each run, in equal steps up to the end."""
EVALUATION_SHARE = 0.5
"""Maximum time of evaluation, as a fraction of that of training; the last checkpoint is evaluated in any case."""
BESIDES_TURNS, BESIDES_FEATURES = 1.2, 1.2
"""Time of a training relative to that of its turns, because it also writes checkpoints and samples; and of the evaluation of a
checkpoint relative to that of generating samples and computing their features."""
PER_CHECKPOINT = 0.15
"""Time to load a checkpoint, relative to that of starting a process."""
LEAST_PROGRESS = 0.1
"""Fraction of a training from which on its own speed is better known than by the measurement."""
Stage = Literal["training", "evaluation"]
Run = tuple[str, int]


def samples_per_checkpoint(plan: ComparisonPlan) -> int:
    """How many samples are evaluated at each checkpoint; see `commands.evaluate`."""
    from leafwing.metrics.modes import SAMPLES
    from leafwing.metrics.targets import frames_per_sample, most_samples

    if n := plan.evaluation.get("n"):
        return int(n)
    output = next(iter(plan.recipes.values())).output
    frames = frames_per_sample(output.kind or plan.data.spec.fields[output.field])
    most = default_samples(plan.evaluation.get("features") or "")
    share = plan.conditions.held_out / len(plan.data) or 1
    sources = most_samples(output, plan.data.spec, plan.data)
    most = min(max(1, most // frames), round(share * len(plan.data)))
    most = most if sources is None else min(most, max(round(share * sources), MIN_SAMPLES))
    return SAMPLES.get(world_of(plan.data.source)) or most


def expected_seconds(plan: ComparisonPlan, name: str, stage: Stage, checkpoints: int | None = None) -> float:
    """The estimated time of one training or evaluation of a recipe; 0 if its cost is unknown.

    Args:
        plan: of the comparison.
        name: the recipe.
        stage: training or evaluation.
        checkpoints: number of evaluated checkpoints; None: the plan's.
    """
    cost = plan.costs.get(name)
    if cost is None:
        return 0.0
    if stage == "training":
        minutes = plan.conditions.minutes if plan.conditions.images is not None else None
        return cost.start + BESIDES_TURNS * min(plan.images[name] * cost.training, 60 * minutes if minutes else inf)
    each = PER_CHECKPOINT * cost.start + BESIDES_FEATURES * samples_per_checkpoint(plan) * cost.evaluation
    return cost.start + (checkpoints or plan.checkpoints) * each


def choose_checkpoints(plan: ComparisonPlan) -> int:
    """The largest number of evaluated checkpoints with which evaluation takes at most `EVALUATION_SHARE` of the time of training."""
    training = sum(expected_seconds(plan, name, "training") for name, _ in plan.runs)
    for checkpoints in EVALUATED:
        evaluation = sum(expected_seconds(plan, name, "evaluation", checkpoints) for name, _ in plan.runs)
        if evaluation <= EVALUATION_SHARE * training:
            return checkpoints
    return EVALUATED[-1]


def evaluated_checkpoints(existing: list[int], number: int) -> list[int]:
    """Some of the checkpoints of a run: the last one, and others in equal steps before it.

    >>> evaluated_checkpoints([25, 125, 250, 375, 500, 625, 750, 875, 1000], 4)
    [250, 500, 750, 1000]
    >>> evaluated_checkpoints([25, 125], 4)
    [25, 125]
    """
    last = len(existing) - 1
    positions = {round(last * (i + 1) / number) for i in range(number)}
    return [existing[i] for i in sorted(positions)]


@dataclass(frozen=True)
class Work:
    """What is being done with a run.

    Args:
        stage: training or evaluation.
        start: when it began, of the monotonic clock.
        done: the completed fraction of the training at that time.
    """

    stage: Stage
    start: float
    done: float


class Timetable:
    """The estimated time of what remains, corrected by what was observed. All times are in seconds.

    Args:
        plan: of the comparison.
        remaining: what remains to be done with each run.
    """

    def __init__(self, plan: ComparisonPlan, remaining: dict[Run, list[Stage]]) -> None:
        self.plan = plan
        self.remaining = remaining
        self.active: dict[Run, Work] = {}
        self.observed: dict[tuple[str, Stage], list[float]] = {}

    def begin(self, run: Run, stage: Stage, done: float = 0.0) -> None:
        """Notes that a training, of which a fraction may be done already, or an evaluation begins."""
        self.active[run] = Work(stage, time.monotonic(), done)

    def end(self, run: Run) -> float:
        """Notes that the current work on a run has ended; returns how long it took."""
        work = self.active.pop(run)
        seconds = time.monotonic() - work.start
        if work.stage in self.remaining.get(run, ()):
            self.remaining[run].remove(work.stage)
        if not work.done:
            self.observed.setdefault((run[0], work.stage), []).append(seconds)
        return seconds

    def estimate(self, name: str, stage: Stage, fractions: dict[Run, float] | None = None) -> float:
        """The time of a whole training or evaluation: as observed with this recipe, else as expected, corrected as others need it."""
        observed = {key: list(values) for key, values in list(self.observed.items())}
        for run, seconds in self._extrapolations(fractions or {}):
            observed.setdefault((run[0], "training"), []).append(seconds)
        if same := observed.get((name, stage)):
            return mean(same)
        expected = {key: expected_seconds(self.plan, *key) * len(values) for key, values in observed.items()}
        same_stage = [key for key in observed if key[1] == stage and expected[key]] or [
            key for key in observed if expected[key]
        ]
        total = sum(expected[key] for key in same_stage)
        factor = sum(sum(observed[key]) for key in same_stage) / total if total else 1.0
        return factor * expected_seconds(self.plan, name, stage)

    def left(self, fractions: dict[Run, float]) -> float:
        """The estimated time until everything is done.

        Args:
            fractions: completed fraction of each training that is running.
        """
        extrapolated, total, runs = dict(self._extrapolations(fractions)), 0.0, 0
        for run, stages in list(self.remaining.items()):
            work, seconds = self.active.get(run), 0.0
            for stage in stages:
                if work is None or work.stage != stage:
                    seconds += self.estimate(run[0], stage, fractions)
                elif run in extrapolated:
                    seconds += (1 - fractions[run]) * extrapolated[run]
                else:
                    whole = (1 - work.done) * self.estimate(run[0], stage, fractions)
                    seconds += max(0.0, whole - (time.monotonic() - work.start))
            total += seconds
            runs += bool(stages)
        return total / max(1, min(self.plan.jobs, runs))

    def _extrapolations(self, fractions: dict[Run, float]) -> Iterator[tuple[Run, float]]:
        """The time of each running training as a whole, by its progress; those that have just begun are left out."""
        for run, fraction in fractions.items():
            work = self.active.get(run)
            if work and work.stage == "training" and fraction - work.done > LEAST_PROGRESS:
                yield run, (time.monotonic() - work.start) / (fraction - work.done)


def describe(plan: ComparisonPlan, remaining: dict[Run, list[Stage]]) -> str:
    """How long the remaining training and evaluation will take, and what is evaluated, in one sentence."""
    seconds = {
        stage: sum(expected_seconds(plan, name, stage) for (name, _), stages in remaining.items() if stage in stages)
        for stage in ("training", "evaluation")
    }
    parallel = max(1, min(plan.jobs, sum(bool(stages) for stages in remaining.values())))
    training, evaluation = (show_duration(seconds[stage] / parallel) for stage in ("training", "evaluation"))
    what = f"{plan.checkpoints} checkpoints of each run" if plan.checkpoints > 1 else "the last checkpoint of each run only"
    return (
        f"this will take about {training} of training and {evaluation} of evaluation by a rough measurement "
        f"({samples_per_checkpoint(plan):,} samples of {what})"
    )

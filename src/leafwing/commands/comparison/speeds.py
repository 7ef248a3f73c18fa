"""How fast recipes train here, in short slices of each, one recipe after the other and round again; and how many images that makes.

On a CPU a slice is timed in processor seconds, which hardly change when another program takes the core; elsewhere by the wall clock.
`python -m leafwing.commands.comparison` is the child of a comparison that measures in one slot of the machine.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from leafwing.errors import Diverged, LeafwingError

if TYPE_CHECKING:
    from leafwing.commands.comparison.entering import Plan
    from leafwing.game import Clock

SLICES = 3
"""So often each recipe's speed is measured in each slot."""
WARM_UP, SLICE, LONGEST = 0.5, 1.0, 10.0
"""Seconds: the first turns are slower and are left out; a slice ends at the end of a round, but the warm-up and the slice end after
any turn when they have taken so long."""
MARGIN = 0.9
"""So much of the images that would fit into the budget at the measured speed are shown, to leave room for the rest of a training."""


def planned(speeds: Mapping[str, Sequence[float]], seconds: float, batches: Mapping[str, int]) -> dict[str, int]:
    """How many images each recipe shows in equal time: at the median of its speeds, and a batch at the least.

    Args:
        speeds: images per second by recipe, one of each slice.
        seconds: that each training is to take.
        batches: images in a turn by recipe.
    """
    return {name: max(batches[name], int(MARGIN * seconds * median(found))) for name, found in speeds.items()}


def child_words(plan: Plan, names: Sequence[str], slot: int) -> list[str]:
    """The words of a child that measures in a slot; each slot begins with another recipe, so that unlike ones run side by side."""
    first = slot % len(names)
    reading = {} if plan.data.spec.points else plan.asked["data"]
    asked = {
        **{key: value for key, value in reading.items() if value is not None},
        "source": plan.asked["source"],
        "hold_out": plan.asked["held_out"],
        "device": plan.device,
        "threads": plan.threads,
        "seed": slot,
    }
    recipes = {name: [plan.entrants[name].reference, plan.entrants[name].options] for name in names}
    order = [*names[first:], *names[:first]]
    return [
        "-m",
        "leafwing.commands.comparison",
        json.dumps({"asked": asked, "recipes": {name: recipes[name] for name in order}}),
    ]


def measured(asked: Mapping[str, Any], recipes: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Images per second of each recipe, slice by slice, by `clock_of` the device.

    Args:
        asked: what all trainings are told: source, device, threads, seed, how pictures are read.
        recipes: name -> (reference, options).

    Raises:
        LeafwingError: a recipe cannot be trained so; the message names it.
    """
    speeds: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(SLICES):
        for name, (reference, options) in recipes.items():
            try:
                speeds[name].append(speed({**asked, "recipe": reference}, options))
            except LeafwingError as error:
                raise LeafwingError(f"{name} cannot be tried out: {error}") from error
            gc.collect()  # one training at a time is in memory
    return speeds


def speed(asked: Mapping[str, Any], options: Mapping[str, Any]) -> float:
    """Images per second of one slice of a new training."""
    from leafwing.commands.plan import prepare, resolve
    from leafwing.engine import synchronise
    from leafwing.progress import Silent
    from leafwing.settings import separated

    given, _ = separated(asked)
    begun = prepare(resolve(asked["source"], asked["recipe"], given, options, Silent()), images=10**12)
    device = begun.engine.setup.device
    stopwatch = Stopwatch(clock_of(device, begun.engine.setup.threads), lambda: synchronise(device))
    try:
        list(begun.ticks(10**12, should_stop=stopwatch))
    except Diverged:  # what was measured holds, and its training will say it
        if not stopwatch.speed:
            raise
    return stopwatch.speed


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """Seconds: on a CPU the processor time of this process, per thread; elsewhere the wall clock's."""
    if device == "cpu":
        return lambda: time.process_time() / threads
    return time.perf_counter


class Stopwatch:
    """Asked after every unit of turns, it says when a slice is over, and then knows its speed.

    Args:
        now: seconds of a clock.
        settle: waits until the device has done what it was asked.
    """

    def __init__(self, now: Callable[[], float], settle: Callable[[], None] = lambda: None) -> None:
        self.now, self.settle = now, settle
        self.round = 0
        self.since = now()
        self.began: int | None = None
        self.speed = 0.0

    def __call__(self, clock: Clock) -> bool:
        passed, ended = self.now() - self.since, clock.round != self.round
        self.round = clock.round
        least = WARM_UP if self.began is None else SLICE
        if passed < least or not (ended or passed >= LONGEST):
            return False
        self.settle()
        now = self.now()
        if self.began is None:
            self.began, self.since = clock.images, now
            return False
        self.speed = (clock.images - self.began) / (now - self.since)
        return self.speed > 0  # a turn that draws no batch shows nothing


def main(words: Sequence[str]) -> int:
    """Measure what the first word asks for, in JSON, and print the speeds."""
    try:
        print(json.dumps(measured(**json.loads(words[0]))))
    except LeafwingError as error:
        print(f"leafwing: {error}", file=sys.stderr)
        return 2
    return 0

"""Training speeds, measured in short slices of each recipe in turn, and the number of images that fit into a given time.

On a CPU a slice is timed in CPU seconds, which other programs hardly affect; on other devices by the wall clock.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any

from leafwing.errors import Diverged, LeafwingError

if TYPE_CHECKING:
    from leafwing.commands.comparison.plan import ComparisonPlan
    from leafwing.game import Clock
    from leafwing.settings import Settings

SLICES = 3
"""Number of measurements of each recipe in each slot."""
WARM_UP, SLICE, MAX_SLICE = 0.5, 1.0, 10.0
"""Seconds. The first turns are slower and are not counted. The warm-up and a slice end at the end of a round, or after `MAX_SLICE` at
any turn."""
MARGIN = 0.9
"""Fraction of the images that would fit at the measured speed; the rest is left for checkpoints and start-up."""


def images_in_time(speeds: Mapping[str, Sequence[float]], seconds: float, batches: Mapping[str, int]) -> dict[str, int]:
    """The number of images that each recipe shows in equal time at its median speed; at least one batch.

    Args:
        speeds: images per second of each slice, by recipe.
        seconds: training time of each run.
        batches: images per turn, by recipe.
    """
    return {name: max(batches[name], int(MARGIN * seconds * median(slices))) for name, slices in speeds.items()}


def measurement_arguments(plan: ComparisonPlan, names: Sequence[str], slot: int) -> dict[str, Any]:
    """The arguments of `measure` in a slot, in plain JSON.

    Each slot starts with a different recipe, so that different recipes run at the same time.
    """
    first = slot % len(names)
    return {
        "source": plan.conditions.source,
        "settings": asdict(plan.settings(slot)),
        "recipes": {
            name: [plan.recipes[name].reference, plan.recipes[name].options] for name in [*names[first:], *names[:first]]
        },
    }


def measure(source: str, settings: Settings, recipes: Mapping[str, tuple[str, Mapping[str, Any]]]) -> dict[str, list[float]]:
    """Measures the training speed of each recipe, slice by slice, with the clock of the device (see `clock_of`).

    Args:
        source: the data.
        settings: of all runs.
        recipes: name -> (reference, options).

    Returns:
        Images per second of each slice, by recipe.

    Raises:
        LeafwingError: a recipe cannot be trained with these settings; the message names it.
    """
    speeds: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(SLICES):
        for name, (reference, options) in recipes.items():
            try:
                speeds[name].append(measure_slice(source, reference, settings, options))
            except LeafwingError as error:
                raise LeafwingError(f"the speed of {name} cannot be measured: {error}") from error
            gc.collect()  # keeps only one training in memory
    return speeds


def measure_slice(source: str, reference: str, settings: Settings, options: Mapping[str, Any]) -> float:
    """Images per second of one slice of a new training."""
    from leafwing.commands.plan import build_training, resolve_training
    from leafwing.engine import synchronise
    from leafwing.progress import Reporter
    from leafwing.settings import non_defaults

    plan = resolve_training(source, reference, non_defaults(settings), options, Reporter())
    training = build_training(plan, images=10**12)
    device = training.engine.setup.device
    stopwatch = Stopwatch(clock_of(device, training.engine.setup.threads), lambda: synchronise(device))
    try:
        list(training.ticks(10**12, should_stop=stopwatch))
    except Diverged:  # the measurement is valid; the training itself will report the divergence
        if not stopwatch.speed:
            raise
    return stopwatch.speed


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """A clock in seconds: on a CPU the CPU time of this process per thread, on other devices the wall clock."""
    if device == "cpu":
        return lambda: time.process_time() / threads
    return time.perf_counter


class Stopwatch:
    """Measures the speed of one slice. Called after every unit of turns; returns True when the slice is over and `speed` is known.

    Args:
        now: a clock in seconds.
        synchronise: waits until the device has finished its work.
    """

    def __init__(self, now: Callable[[], float], synchronise: Callable[[], None] = lambda: None) -> None:
        self.now, self.synchronise = now, synchronise
        self.round = 0
        self.start_time = now()
        self.start_images: int | None = None  # None during the warm-up
        self.speed = 0.0

    def __call__(self, clock: Clock) -> bool:
        passed, round_ended = self.now() - self.start_time, clock.round != self.round
        self.round = clock.round
        least = WARM_UP if self.start_images is None else SLICE
        if passed < least or not (round_ended or passed >= MAX_SLICE):
            return False
        self.synchronise()
        now = self.now()
        if self.start_images is None:
            self.start_images, self.start_time = clock.images, now
            return False
        self.speed = (clock.images - self.start_images) / (now - self.start_time)
        return self.speed > 0  # a turn without a batch shows no images

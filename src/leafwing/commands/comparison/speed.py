"""Speeds of training and evaluation: training in short slices of each recipe in turn; the number of images that fit into a time.

On a CPU they are timed in CPU seconds, which other programs hardly affect; on other devices by the wall clock.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from leafwing.errors import Diverged, LeafwingError

if TYPE_CHECKING:
    from leafwing.commands.comparison.plan import ComparisonPlan
    from leafwing.commands.plan import TrainingPlan
    from leafwing.game import Clock
    from leafwing.loop import Training
    from leafwing.metrics.features import Features
    from leafwing.progress import ProgressCallback
    from leafwing.settings import Settings

SLICES, ROUGH_SLICES = 3, 1
"""Number of measurements of each recipe in each slot: where images must fit into a time, and for an estimate."""
SAMPLES = 64
"""Number of samples whose evaluation is timed."""
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


def number_of_slices(plan: ComparisonPlan) -> int:
    """How often the speed of each recipe is measured in each slot."""
    return SLICES if plan.conditions.images is None else ROUGH_SLICES


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
        "slices": number_of_slices(plan),
        "features": plan.evaluation.get("features", ""),
        "weights": plan.evaluation.get("weights"),
    }


def measure(
    source: str,
    settings: Settings,
    recipes: Mapping[str, tuple[str, Mapping[str, Any]]],
    slices: int = SLICES,
    features: str = "",
    weights: str | None = None,
    report: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Measures the speed of each recipe, slice by slice, with the clock of the device (see `clock_of`).

    Args:
        source: the data.
        settings: of all runs.
        recipes: name -> (reference, options).
        slices: number of measurements of each recipe.
        features: the feature network of the evaluation; empty: none.
        weights: its weights file, if the user named one.
        report: called with the recipe after each slice.

    Returns:
        training: images per second of each slice, by recipe; evaluation: seconds to generate a sample and compute its features, by
        recipe; seconds: wall-clock time of the measurement; load: that time divided by the clock's, 1 if no other program was running.

    Raises:
        LeafwingError: a recipe cannot be trained with these settings; the message names it.
    """
    import torch

    now = clock_of(settings.machine.device or "cpu", torch.get_num_threads())
    start, started = now(), time.perf_counter()
    training: dict[str, list[float]] = {name: [] for name in recipes}
    evaluation: dict[str, float] = {}
    for i in range(slices):
        for name, (reference, options) in recipes.items():
            try:
                training[name].append(measure_slice(source, reference, settings, options))
                if i == 0:
                    evaluation[name] = measure_evaluation(source, reference, settings, options, features, weights)
            except LeafwingError as error:
                raise LeafwingError(f"the speed of {name} cannot be measured: {error}") from error
            gc.collect()  # keeps only one training in memory
            report(name)
    seconds = time.perf_counter() - started
    load = max(1.0, seconds / max(now() - start, 1e-9))
    return {"training": training, "evaluation": evaluation, "seconds": round(seconds, 3), "load": round(load, 3)}


def measure_slice(source: str, reference: str, settings: Settings, options: Mapping[str, Any]) -> float:
    """Images per second of one slice of a new training, or of a slice of each of its parts."""
    from leafwing.commands.speed import in_parts, mean_speed
    from leafwing.engine import synchronise

    _, training = new_training(source, reference, settings, options)
    device = training.engine.setup.device

    def measure(share: float) -> float:
        stopwatch = Stopwatch(clock_of(device, training.engine.setup.threads), lambda: synchronise(device))
        try:
            list(training.ticks(10**12, should_stop=stopwatch))
        except Diverged:  # the measurement is valid; the training itself will report the divergence
            if not stopwatch.speed:
                raise
        return stopwatch.speed

    return mean_speed(in_parts(training, measure))


def measure_evaluation(
    source: str, reference: str, settings: Settings, options: Mapping[str, Any], features: str, weights: str | None
) -> float:
    """Seconds to generate a sample and to compute its features, with untrained networks."""
    from leafwing.conditions import Examples, pixel_conditions
    from leafwing.engine import synchronise
    from leafwing.metrics.targets import to_images
    from leafwing.model import Model

    plan, training = new_training(source, reference, settings, options)
    setup = training.engine.setup
    spec = plan.data_config.spec
    conditions = dict.fromkeys(name for output in training.game.abilities.outputs for name in output.conditions)
    examples = plan.data.examples([name for name in conditions if not spec.fields[name].has_pixels])
    model = Model(training.game, spec, setup.device, examples=Examples.from_plain(spec, examples))
    network = feature_network(plan, model.output.field, features, weights, setup.device) if features else None
    inputs = training.batches(0, SAMPLES)
    now = clock_of(setup.device, setup.threads)

    def evaluate(n: int) -> None:
        if names := pixel_conditions(model.output, spec):
            further: dict[str, Any] = {name: inputs[name][:n] for name in names[1:]}
            samples = model.translate(inputs[names[0]][:n], output=model.output.field, **further)
        else:
            samples = model.sample(n)
        if network:
            network(to_images(samples).cpu())
        synchronise(setup.device)

    evaluate(2)  # the first pass is slower
    start = now()
    evaluate(SAMPLES)
    return (now() - start) / SAMPLES


def feature_network(plan: TrainingPlan, field: str, features: str, weights: str | None, device: str) -> Features:
    """The feature network with which runs of a plan are evaluated."""
    from leafwing.commands.feeding import split_data
    from leafwing.metrics.features import load_features
    from leafwing.metrics.targets import frames, target

    training_part, _ = split_data(plan.data_config, plan.data)
    return load_features(features, frames(target(training_part, field)), weights=weights, device=device)


def new_training(
    source: str, reference: str, settings: Settings, options: Mapping[str, Any]
) -> tuple[TrainingPlan, Training]:
    """A new training, which does not end by itself, and its plan."""
    from leafwing.commands.plan import build_training, resolve_training
    from leafwing.progress import Reporter
    from leafwing.settings import non_defaults

    plan = resolve_training(source, reference, non_defaults(settings), options, Reporter())
    return plan, build_training(plan, images=10**12)


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """A clock in seconds: on a CPU the CPU time of this process per thread, on other devices the wall clock."""
    if device == "cpu":
        return lambda: time.process_time() / threads
    return time.perf_counter


class SliceCounter:
    """Reports how many slices have been measured in all slots, from the lines that their processes add to their logs.

    Args:
        logs: of the slots.
        total: number of slices in all of them.
        report_progress: receives the progress.
    """

    LINE = "measured "

    def __init__(self, logs: Sequence[Path], total: int, report_progress: ProgressCallback) -> None:
        self.before = {log: log.stat().st_size if log.exists() else 0 for log in logs}
        self.total, self.report_progress = total, report_progress

    def update(self) -> None:
        """Reports the present state."""
        done = 0
        for log, size in self.before.items():
            with suppress(OSError), log.open("rb") as file:
                file.seek(size)
                done += sum(line.startswith(self.LINE.encode()) for line in file)
        self.report_progress("measurements of speed", done, self.total)


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

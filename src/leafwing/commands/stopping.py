"""Early stopping: evaluates a metric at every checkpoint. The best checkpoint is kept and recorded in `run.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from leafwing.commands.evaluate import evaluate, stored_rows
from leafwing.commands.figures import show
from leafwing.commands.real_data import too_few
from leafwing.commands.selection import WITHOUT_NETWORK, check_metrics, check_output, require_classifier
from leafwing.config import BestCheckpoint
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.progress import Reporter
from leafwing.quantities import show_count
from leafwing.runs import Run

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.game import DataSpec, Game
    from leafwing.loop import Training
    from leafwing.metrics.choice import FeatureChoice

SAMPLES = 1_000
"""Samples per evaluation: enough to detect a generator that gets worse, and fast compared with the training between checkpoints."""

STOP_MEASURES = {
    "fid": ("fid",),
    "kid": ("kid",),
    "prdc": ("precision", "recall", "density", "coverage"),
    "inception_score": ("inception_score",),
    "swd": ("swd",),
    "ppl": ("ppl", "ppl_ends"),
    "reconstruction": ("psnr", "psnr_y", "ssim", "l1", "feature_distance"),
    "structure": ("structure_distance",),
    "cycle": ("cycle_l1", "cycle_psnr"),
    "segmenter": ("class_iou", "class_accuracy", "pixel_accuracy"),
    "modes": ("modes", "high_quality", "kl"),
    "memorisation": ("copied", "copied_near", "duplicates"),
}
"""The measures of each metric that can decide, because either higher or lower is better; the first one is the default."""

BEST_UNTRAINED = ("ppl", "ppl_ends", "copied_near", "duplicates")
"""Those that are lowest before anything is learned. They decide in runs of earlier versions only."""
LATEST = ("copied", "copied_near", "duplicates")
"""Those of which the latest of equal values is the best: they are 0 until samples are copies."""


def parse_stop_on(stop_on: str) -> tuple[str, str]:
    """The metric and the measure that decide, from `kid`, `prdc.recall` or `recall` alone.

    Raises:
        LeafwingError: no such metric or measure, or one that cannot decide.
    """
    from leafwing.metrics import METRICS

    metric, _, measure = stop_on.partition(".")
    if metric not in METRICS and not measure:
        owner = next((name for name, measures in STOP_MEASURES.items() if metric in measures), metric)
        metric, measure = owner, metric
    if metric not in METRICS:
        raise InvalidOption("stop_on", stop_on, f"no metric {metric!r}{did_you_mean(metric, list(METRICS))}")
    if metric not in STOP_MEASURES:
        others = ", ".join(name for name, measures in STOP_MEASURES.items() if measures[0] not in BEST_UNTRAINED)
        raise InvalidOption(
            "stop_on", stop_on, f"{metric} cannot decide, because neither higher nor lower is better; choose from {others}"
        )
    measures = STOP_MEASURES[metric]
    if measure and measure not in measures:
        raise InvalidOption("stop_on", stop_on, f"no measure {measure!r} of {metric}; choose from {', '.join(measures)}")
    return metric, measure or measures[0]


def require_decisive(stop_on: str) -> None:
    """Raises LeafwingError for a metric that cannot decide in new trainings."""
    metric, measure = parse_stop_on(stop_on)
    if measure in BEST_UNTRAINED:
        raise InvalidOption(
            "stop_on",
            stop_on,
            f"{measure} is lowest before anything is learned, so that the first checkpoint would be the best: choose "
            + ("copied, which is 0 until samples are copies" if metric == "memorisation" else "another, such as kid"),
        )


def check_stop_on(stop_on: str, data: Dataset) -> None:
    """Raises LeafwingError for a metric that cannot be computed for models of this data."""
    from leafwing.metrics.segmenter import describe_maps

    metric, _ = parse_stop_on(stop_on)
    check_metrics([metric], data.spec.points, data.source)
    if metric == "inception_score":
        require_classifier("own", data.spec)
    if metric == "segmenter" and "input" in data.columns:
        describe_maps(data, "input")


def check_stop_output(stop_on: str, game: Game, spec: DataSpec) -> None:
    """Raises LeafwingError for a metric that cannot be computed for the main output of a game."""
    outputs = game.abilities.outputs
    check_output([parse_stop_on(stop_on)[0]], outputs, outputs[0], spec)


def check_stop_data(stop_on: str, game: Game, training: Dataset, held_out: Dataset) -> None:
    """Raises LeafwingError for a metric that is not defined for so few held-out images, or training images if none are held out."""
    from leafwing.metrics.clouds import LEAST

    metric, real = parse_stop_on(stop_on)[0], held_out if len(held_out) else training
    if problem := too_few([metric], real, game.abilities.outputs[0].field)[1]:
        more = f"hold out more (--hold-out {LEAST[metric]}), or " if len(training) > LEAST[metric] else ""
        raise InvalidOption("stop_on", stop_on, f"{problem}: {more}choose another metric")


def choose_stop_features(run: Run, game: Game, metric: str) -> FeatureChoice | None:
    """The feature network of early stopping, the same one from the first checkpoint to the last; None if the metric needs none.

    Runs of earlier versions, which did not record it, used `own`.

    Raises:
        LeafwingError: the recorded network is not installed here.
    """
    from leafwing.metrics.choice import FeatureChoice, choose_features, require_available

    if metric in WITHOUT_NETWORK:
        return None
    if recorded := run.history.stop_features or ("own" if run.history.best else None):
        try:
            require_available(recorded)
        except LeafwingError as error:
            raise LeafwingError(f"{run.folder} stops by {metric} of the features {recorded}. {error}") from None
        return FeatureChoice(recorded)
    output = game.abilities.outputs[0]
    kind = output.kind or run.spec.fields[output.field]
    return choose_features(kind, {run.name: game.pretrained}, metrics=[metric])


class Interrupted(Exception):
    """The training should stop, and a measurement was given up for that."""


class Watchful(Reporter):
    """Shows nothing of a measurement, and gives it up where the training should stop.

    Several processes, which share its work, complete it, because all of them would have to give up at the same place.

    Args:
        should_stop: whether a signal asks for the end of the training.
        processes: number of processes.
    """

    def __init__(self, should_stop: Callable[[], bool], processes: int) -> None:
        self.should_stop, self.processes = should_stop, processes

    def report_progress(self, what: str, done: int, total: int) -> None:
        if self.processes == 1 and self.should_stop():
            raise Interrupted


class EarlyStopping:
    """Evaluates the checkpoints of a run in training. Used in every process; the processes share the work.

    Where other networks begin to be trained (`engine.probe.phase_changes`), the best is chosen anew, and only after the last of these
    moments is training ended.

    Args:
        run: the run; its schedule has the metric (`stop_on`) and the patience.
        training: its random state and weights are not changed.
        progress: receives messages.
    """

    def __init__(self, run: Run, training: Training, progress: Reporter) -> None:
        from leafwing.engine.probe import phase_changes

        self.run, self.training, self.progress = run, training, progress
        self.metric, self.measure = parse_stop_on(run.settings.schedule.stop_on or "")
        self.patience = run.settings.schedule.patience
        choice, processes = choose_stop_features(run, training.game, self.metric), training.engine.processes
        self.features: str | None = processes.broadcast(choice and choice.name)
        self.choice_message = str(choice or "")
        if choice and processes.first:
            run.update(stop_features=choice.name)
        self.planned = run.history.planned or run.settings.schedule.images
        reached = run.settings.schedule.images / self.planned
        self.changes = [moment for moment in phase_changes(training.game.turns) if moment < reached]
        if self.changes and training.clock.planned_progress < self.changes[-1]:
            last = f"{round(self.changes[-1] * self.planned):,} images"
            progress.say(f"--stop-on ends training after {last} at the earliest, when the last networks begin to be trained")

    def phase(self, images: int) -> int:
        """How often other networks had begun to be trained, before the last round of so many images; as in `engine.probe`."""
        return sum((images - self.training.batch) / self.planned >= moment for moment in self.changes)

    def check(self, images: int, should_stop: Callable[[], bool] = lambda: False) -> str:
        """Evaluates the checkpoint that was just written, and the best one too if its value is of other conditions.

        Args:
            images: the checkpoint.
            should_stop: whether a signal asks for the end of the training.

        Returns:
            Why training should stop: `no_improvement`, or `interrupted` during this measurement, which is given up; empty to continue.

        Raises:
            LeafwingError: the metric cannot be computed for this run.
        """
        from leafwing.metrics.conclusions import says_nothing
        from leafwing.metrics.table import value_of

        engine = self.training.engine
        engine.processes.barrier()  # the checkpoint is written
        rng_state = engine.rng_state()
        if not self.run.metrics():
            trains = "; this may train a feature network" if self.features == "own" else ""
            self.progress.say(f"{images:,} images: computing {self.metric} for the first time{trains}")
            if self.choice_message:
                self.progress.say(self.choice_message)
        try:
            current = self._measure(images, should_stop)
            before = self._best_without_value(current) if engine.processes.first else None
            if (before := engine.processes.broadcast(before)) is not None:
                self._measure(before, should_stop)
        except Interrupted:
            later = "" if images >= self.run.settings.schedule.images else "; `leafwing resume` computes it first"
            self.progress.say(f"{images:,} images: stopped before {self.metric} was computed{later}")
            return "interrupted"
        finally:
            engine.set_rng_state(rng_state)
        if not engine.processes.first:
            return str(engine.processes.broadcast(None))
        values = {
            row["images"]: value_of(row)
            for row in [*stored_rows(self.run), current]
            if is_comparable(row, current) and row["images"] <= images and self.phase(row["images"]) == self.phase(images)
        }
        weights, interval = self.run.weights(), self.run.settings.folder.save_every
        existing = {shown: value for shown, value in values.items() if shown in weights}
        best = best_checkpoint(existing, current["better"], latest=self.measure in LATEST)
        self.run.update(best=BestCheckpoint(best, self.measure, values[best]))
        self.progress.say(
            f"{images:,} images: {self.measure} {show(current['value'])}"
            + (", which does not count: the samples are copies of one picture" if says_nothing(current) else "")
            + ("" if best == images else f"; the best was {show(values[best])} at {show_count(best)} images")
        )
        # An interrupted training has extra checkpoints between the regular ones; each counts together with the one before it.
        since = max(best, self.run.history.no_improvement)
        later_intervals = {shown // interval for shown in values if shown > since} - {since // interval}
        is_last = self.phase(images) == len(self.changes)
        reason = "no_improvement" if is_last and len(later_intervals) >= self.patience else ""
        if reason:
            self.run.update(no_improvement=images)
        return str(engine.processes.broadcast(reason))

    def _measure(self, images: int, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """The row of the measure that decides, of one checkpoint."""
        processes = self.training.engine.processes
        rows = evaluate(
            self.run.folder,
            metrics=[self.metric],
            checkpoint=images,
            n=SAMPLES,
            features=self.features,
            device=str(self.training.engine.device),
            trust=True,
            progress=Watchful(should_stop, processes.world_size),
            processes=processes,
            with_scale=False,
        )
        return next(row for row in rows if row["metric"] == self.measure)

    def _best_without_value(self, current: Mapping[str, Any]) -> int | None:
        """The images of the best checkpoint so far if its value cannot be compared with this row, which is then said.

        On another type of processor, `own` is another network; and images may have changed.
        """
        best = self.run.history.best
        if best is None or best.images not in self.run.weights() or best.images >= current["images"]:
            return None
        rows = [row for row in stored_rows(self.run) if (row["metric"], row["images"]) == (self.measure, best.images)]
        if any(is_comparable(row, current) for row in rows):
            return None
        networks = {row.get("protocol", {}).get("network") for row in [*rows, current]}
        why = f"{self.features} is another network here" if len(networks) > 1 else "it has no value under these conditions"
        self.progress.say(f"{best.images:,} images: computing {self.metric} of the best checkpoint again, because {why}")
        return best.images


def is_comparable(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rows are values of the same measure under the same protocol."""
    return all(row[key] == other[key] for key in ("metric", "by", "fingerprint"))


def best_checkpoint(values: Mapping[int, float | None], better: str, latest: bool = False) -> int:
    """The images of the best value, the earliest or the latest of equal ones; None is worse than any number.

    Args:
        values: the values by images shown; at least one.
        better: lower or higher.
        latest: of equal values take the latest.
    """
    sign = 1 if better == "lower" else -1
    return min(sorted(values, reverse=latest), key=lambda images: inf if (value := values[images]) is None else sign * value)

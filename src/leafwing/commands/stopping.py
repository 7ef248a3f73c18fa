"""When to stop: a metric at every checkpoint, and patience with it. The best checkpoint stays, and is named in `run.json`."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from leafwing.commands.evaluate import classifies, evaluate, suitable
from leafwing.errors import LeafwingError, did_you_mean
from leafwing.progress import Silent
from leafwing.quantities import show_count
from leafwing.runs import Best, Run

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.loop import Training

SAMPLES = 1_000
"""Of each evaluation: enough to tell a generator that falls behind, and a small part of the time between two checkpoints."""
PATIENCE = 5
"""Checkpoints without a better one after which training ends, when nobody says how many."""


DECIDING = {
    "fid": ("fid",),
    "kid": ("kid",),
    "prdc": ("precision", "recall", "density", "coverage"),
    "inception_score": ("inception_score",),
    "swd": ("swd",),
    "ppl": ("ppl", "ppl_ends"),
    "modes": ("modes", "high_quality", "kl"),
    "memorisation": ("copied", "copied_near", "duplicates"),
}
"""Measures by metric that can decide, because more of them is better, or less; the first is meant where none is named."""


def deciding(stop_on: str) -> tuple[str, str]:
    """The metric to be worked out, and its measure that decides: `kid`, or `prdc.recall`; of `kid` alone the first one.

    Raises:
        LeafwingError: there is no such metric or measure, or it cannot decide.
    """
    from leafwing.metrics import METRICS

    metric, _, measure = stop_on.partition(".")
    if metric not in METRICS:
        raise LeafwingError(f"stop-on {stop_on!r}: no metric {metric!r}{did_you_mean(metric, list(METRICS))}")
    if metric not in DECIDING:
        raise LeafwingError(
            f"stop-on {stop_on!r}: of {metric} neither more nor less is better, so it cannot decide; these can: "
            f"{', '.join(DECIDING)}"
        )
    if measure and measure not in DECIDING[metric]:
        raise LeafwingError(f"stop-on {stop_on!r}: {metric} can decide by {', '.join(DECIDING[metric])}, not by {measure!r}")
    return metric, measure or DECIDING[metric][0]


def suits(stop_on: str, data: Dataset) -> None:
    """Raises LeafwingError for a metric that cannot be worked out for what is trained on these data."""
    metric = deciding(stop_on)[0]
    suitable([metric], data.spec.points, data.source)
    if metric == "inception_score":
        classifies("own", data.spec)


class Stopping:
    """Looks at a run's checkpoints while it is trained; in every process, which share the work.

    Args:
        run: whose schedule names the metric (`stop_on`) and the patience.
        training: whose random state and weights are not touched.
        progress: who is told.
    """

    def __init__(self, run: Run, training: Training, progress: Silent) -> None:
        self.run, self.training, self.progress = run, training, progress
        self.metric, self.measure = deciding(run.settings.schedule.stop_on or "")
        self.patience = run.settings.schedule.patience

    def look(self, images: int) -> bool:
        """Evaluates the checkpoint of so many images that was just written; True when it is time to stop.

        Raises:
            LeafwingError: the metric does not suit this run.
        """
        engine = self.training.engine
        engine.processes.barrier()  # the checkpoint is there
        random = engine.random()
        if not self.run.numbers():
            self.progress.say(
                f"{images:,} images: the first look at {self.metric}, for which a feature network may be trained"
            )
        how: dict[str, Any] = {"device": str(engine.device), "trust": True, "processes": engine.processes}
        rows = evaluate(self.run.folder, metrics=[self.metric], checkpoint=images, n=SAMPLES, **how)
        engine.set_random(random)
        now = next(row for row in rows if row["metric"] == self.measure)
        if not engine.processes.first:
            return bool(engine.processes.broadcast(None))
        series = {
            row["images"]: row["value"] for row in [*self.run.numbers(), now] if same(row, now) and row["images"] <= images
        }
        there, every = self.run.weights(), self.run.settings.folder.save_every
        best = best_of({shown: value for shown, value in series.items() if shown in there}, now["better"])
        self.run.update(best=Best(best, self.measure, series[best]))
        told = "unknown" if now["value"] is None else f"{now['value']:.4g}"
        self.progress.say(
            f"{images:,} images: {self.measure} {told}"
            + ("" if best == images else f"; the best was {series[best]:.4g} at {show_count(best)} images")
        )
        # A training that was interrupted has checkpoints between those that it would have had, which count once with the one before.
        since = {shown // every for shown in series if shown > best} - {best // every}
        return bool(engine.processes.broadcast(len(since) >= self.patience))


def same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two numbers are of one measure under one protocol."""
    return all(row[key] == other[key] for key in ("metric", "by", "fingerprint"))


def best_of(series: Mapping[int, float | None], better: str) -> int:
    """The images of the best number, the first of equal ones; None is worse than any number.

    Args:
        series: numbers by images shown; at least one.
        better: lower or higher.
    """
    sign = 1 if better == "lower" else -1
    return min(sorted(series), key=lambda images: inf if (value := series[images]) is None else sign * value)

"""How long an evaluation will take, and its steps as one line of progress."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from leafwing.machine import is_busy, load
from leafwing.progress import ProgressCallback
from leafwing.quantities import show_duration

if TYPE_CHECKING:
    from leafwing.metrics.protocol import Protocol
    from leafwing.metrics.samples import Samples

WHAT = "evaluating, in percent"
"""What the one line of progress says."""
ONCE = ("features of real images", "features of other real images", "features of noise")
"""Steps whose results are cached."""


class Steps:
    """A progress callback that shows all steps of an evaluation as one number: the share of its time.

    Args:
        seconds: the expected time of each step, by the name under which it reports; others are not shown.
        repeats: how often each step is taken, for as many checkpoints.
        report: receives the progress.
    """

    def __init__(self, seconds: Mapping[str, float], repeats: int, report: ProgressCallback) -> None:
        self.seconds, self.repeats, self.report = seconds, repeats, report
        self.parts: dict[str, float] = {}
        self.finished: dict[str, int] = {}
        self.shown = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.seconds or not total:
            return
        if done / total < self.parts.get(what, 0.0):
            self.finished[what] = self.finished.get(what, 0) + 1
        self.parts[what] = done / total
        all_seconds = sum(self.seconds[name] * (1 if name in ONCE else self.repeats) for name in self.seconds)
        passed = sum(self.seconds[name] * (part + self.finished.get(name, 0)) for name, part in self.parts.items())
        percent = min(99, int(100 * passed / all_seconds)) if all_seconds else 99
        if percent > self.shown:
            self.shown = percent
            self.report(WHAT, percent, 100)

    def finish(self) -> None:
        """Reports the end, if anything was reported."""
        if self.shown:
            self.report(WHAT, 100, 100)


def expected_seconds(
    samples: Samples, protocols: Mapping[str, Protocol], with_network: Collection[str], with_scale: bool
) -> dict[str, float]:
    """The expected seconds of each step, by the names under which they report progress.

    Args:
        samples: the evidence of the first checkpoint.
        protocols: the metrics to compute, and the protocol of each.
        with_network: those of them that need the feature network.
        with_scale: whether the scale is computed too.
    """
    from leafwing.metrics.memorisation import MAX_IMAGES
    from leafwing.metrics.neighbours import seconds_per_pair

    steps = {}
    if with_network:
        pace = samples.seconds_per_image()
        steps = {name: n * pace for name, n in samples.work(with_scale=with_scale).items()}
    steps["sampling"] = samples.protocol.n_fake * samples.seconds_per_sample()
    if protocol := protocols.get("memorisation"):
        training = protocol.n_real * samples.frames
        compared = min(MAX_IMAGES, protocol.n_fake * samples.frames) + min(MAX_IMAGES, training)
        steps["comparing with training images"] = compared * training * seconds_per_pair()
    return {name: seconds for name, seconds in steps.items() if seconds > 0}


def describe(seconds: Mapping[str, float], protocol: Protocol, checkpoints: int, processes: int = 1) -> str:
    """One line about what will be computed, how long it will take, and how much of that only once for these data.

    The speeds are measured for moments only, in which other programs may have used the machine less.
    """
    once = sum(time for name, time in seconds.items() if name in ONCE) / processes
    total = checkpoints * (sum(seconds.values()) / processes - once) + once
    what = f"{protocol.n_fake:,} samples against {protocol.n_real:,} real images"
    several = f" for each of {checkpoints} checkpoints" if checkpoints > 1 else ""
    first = f", {show_duration(once)} of it once for these data" if once > 1 else ""
    fewer = f"; fewer samples: -n {protocol.n_fake // 2}" if protocol.n_fake >= 500 and total > 60 else ""
    longer = ", or several times as long while the machine is as busy as now" if is_busy(load()) else ""
    return f"evaluating {what}{several}: about {show_duration(max(1, total))}{longer}{first}{fewer}"

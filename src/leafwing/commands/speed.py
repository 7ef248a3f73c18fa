"""The speed of a training, measured in each of its parts: in another stage, an image may take ten times as long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from leafwing.game import Clock

if TYPE_CHECKING:
    from leafwing.game import Game
    from leafwing.loop import Training

Parts = Sequence[tuple[float, float]]
"""The parts of a training in order: of each its share of the images, and its images per second."""
WARM_UP, MEASURED = 1.0, 3.0
"""Seconds of training before the speed of a part is measured, because the first turns are slower, and seconds of the measurements of
all parts."""
MEASURING = "measuring the speed of this machine: up to half a minute, longer while other programs use it"
"""What is said before `measured_parts`, once for all that are measured."""
STEPS = 100
"""Number of moments of a training at which its parts are looked for."""


def measured_speed(training: Training) -> float:
    """Real images per second of a whole training, from some seconds of it. The state of the training changes."""
    return mean_speed(measured_parts(training))


def measured_parts(training: Training) -> Parts:
    """The same of each of its parts."""

    def measure(share: float) -> float:
        list(training.ticks(10**12, seconds=training.seconds + WARM_UP))
        images, seconds = training.clock.images, training.seconds
        while training.clock.images == images:  # longer if even one turn, which may be the generator's, takes as long
            list(training.ticks(10**12, seconds=training.seconds + share * MEASURED))
        return (training.clock.images - images) / (training.seconds - seconds)

    return in_parts(training, measure)


def in_parts(training: Training, measure: Callable[[float], float]) -> Parts:
    """The speeds of the parts of a training; of many, the first, the middle and the last are measured, and each stands for its like.

    Args:
        training: moved to the middle of each part that is measured.
        measure: the images per second from there on; gets the share of the time for measuring that it may take.
    """
    shares = parts_of(training.game)
    measured, speeds = sorted({0, len(shares) // 2, len(shares) - 1}), {}
    for i in measured:
        training.move_to(sum(shares[:i]) + shares[i] / 2)
        speeds[i] = measure(1 / len(measured))
    return [(share, speeds[min(measured, key=lambda j: abs(j - i))]) for i, share in enumerate(shares)]


def parts_of(game: Game) -> list[float]:
    """The parts of a training in which the same turns are taken, in the same stage, in order: the share of each in its images."""
    clocks = [Clock(2 * step + 1, 2 * STEPS) for step in range(STEPS)]
    kinds = [
        (game.stage(clock), [turn.during[0] <= clock.planned_progress < turn.during[1] for turn in game.turns])
        for clock in clocks
    ]
    return [len([*part]) / STEPS for _, part in groupby(kinds)]


def mean_speed(parts: Parts) -> float:
    """Images per second of all parts together."""
    return 1 / sum(share / speed for share, speed in parts)


def images_within(parts: Parts, images: int, seconds: float) -> float:
    """How many of the planned images are shown within a time."""
    shown = 0.0
    for share, speed in parts:
        part = min(share * images, seconds * speed)
        shown, seconds = shown + part, seconds - part / speed
    return shown


def left_out(game: Game, shown: float, planned: int) -> int | None:
    """The number of images after which other networks begin to be trained, if a training ends before that; the last such number."""
    from leafwing.engine.probe import phase_changes

    return next((round(moment * planned) for moment in phase_changes(game.turns)[::-1] if shown < moment * planned), None)

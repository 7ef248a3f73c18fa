"""The progress of training, and numbers that depend on it. Part of the vocabulary of `game`."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Training progress: real images shown so far, their planned total, and completed rounds.

    Every schedule is a function of the clock.

    Args:
        images: real images shown so far.
        total: number of images at which training ends.
        round: completed rounds.
        planned: the total planned when training began, if it has been extended since; 0 if not.
        stage: the stage of training that `Game.stage` computes. Plays may read it on the host and branch on it.
    """

    images: int = 0
    total: int = 0
    round: int = 0
    planned: int = 0
    stage: Hashable = None

    @property
    def progress(self) -> float:
        """Images shown as a fraction of the total, 0 to 1."""
        return min(1.0, self.images / self.total) if self.total else 0.0

    @property
    def planned_progress(self) -> float:
        """The same for the total planned when training began. It does not go back when training is extended: stages depend on it."""
        planned = self.planned or self.total
        return min(1.0, self.images / planned) if planned else 0.0

    def read(self, schedule: Callable[[Clock], float]) -> float:
        """The current value of a schedule. In captured turns it is a tensor that is updated before each replay."""
        return schedule(self)


Scheduled = float | Callable[[Clock], float]
"""A constant, or a function of the clock."""


def at(value: Scheduled, clock: Clock) -> float:
    """The current value of a scheduled number. Plays and terms must read the clock only through this function."""
    return clock.read(value) if callable(value) else value

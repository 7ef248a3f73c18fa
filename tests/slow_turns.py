"""A training whose turns take a second each, by a clock that only they move."""

from __future__ import annotations

import pytest

from leafwing.progress import Reporter


class SlowTurns(Reporter):
    """Replaces the clock of trainings until the end of a test; give it as `progress`.

    Args:
        monkeypatch: of the test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("leafwing.loop.time.perf_counter", self.clock)

    def clock(self) -> float:
        """Seconds; a little more at each call, because speeds are divided by differences."""
        self.now += 1e-6
        return self.now

    def after_turn(self, images: int) -> None:
        self.now += 1.0

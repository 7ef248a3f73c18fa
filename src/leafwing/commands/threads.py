"""How many CPU threads a training uses while other programs come and go: noticed, said, and with `--threads auto` changed.

The number of threads decides the last bits of every sum, so it never changes unseen: changes happen at ticks and stand in `run.json`,
from where `resume` goes on with them and a replay makes them at the same images, whatever its own machine does.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from leafwing.engine.setup import measure_thread_speeds
from leafwing.machine import cores
from leafwing.progress import Silent
from leafwing.runs import Change, Run

if TYPE_CHECKING:
    from leafwing.loop import Tick, Training

FALLEN = 0.7
"""Training has slowed down when it makes less than so much of the best speed that it had with as many threads ..."""
PATIENCE = 10.0
"""... for so many seconds, in each of the last ticks."""
BETTER = 1.25
"""Another number of threads is worth a change when it is so many times as fast in small matrix products."""
LONGEST_PAUSE = 300.0
"""Seconds between two measurements, at most; the pause doubles while they change nothing."""


class Threads:
    """Watches the speed of a training on a CPU.

    Args:
        run: its settings say whether threads may change (`auto`), its history when they did, or in a replay will (`thread_changes`).
        training: at its beginning, or restored.
        progress: who is told.
    """

    def __init__(self, run: Run, training: Training, progress: Silent) -> None:
        self.run, self.progress = run, progress
        self.changes = list(run.history.thread_changes)
        begun = training.clock.images
        self.coming = deque(change for change in self.changes if change.images > begun)
        for change in self.changes:
            if change.images <= begun:
                torch.set_num_threads(change.threads)
        self.adapts = run.settings.machine.threads == "auto" and training.engine.processes.world == 1
        self.input_gradient = training.engine.device.type == "cpu" and training.engine.processes.world == 1
        self.most = max(cores(), torch.get_num_threads())
        self.best: dict[int, float] = {}
        self.slow_since: float | None = None
        self.measured, self.pause = time.monotonic(), PATIENCE
        self.said = False

    def look(self, tick: Tick) -> dict[str, Any]:
        """What the tick's line in the log says of threads; with `--threads auto` their number may have changed."""
        if self.coming:
            changed = False
            while self.coming and self.coming[0].images <= tick.clock.images:
                torch.set_num_threads(self.coming.popleft().threads)
                changed = True
            return {"threads": torch.get_num_threads()} if changed else {}
        if not self.input_gradient:
            return {}
        now = torch.get_num_threads()
        better = self._better(now) if self._is_time(tick, now) else now
        if better == now:
            return {}
        if not self.adapts:
            self._advise(tick, now, better)
            return {}
        self._change(tick, now, better)
        return {"threads": better}

    def _is_time(self, tick: Tick, now: int) -> bool:
        """Whether threads should be compared: training is slow for a while, or makes do with fewer threads than there are cores."""
        self.best[now] = max(self.best.get(now, 0.0), tick.images_per_second)
        if tick.images_per_second >= FALLEN * self.best[now]:
            self.slow_since = None
        elif self.slow_since is None:
            self.slow_since = tick.seconds
        slow = self.slow_since is not None and tick.seconds - self.slow_since >= PATIENCE
        wanted = (slow and now > 1) if not self.adapts else (slow and now > 1) or now < self.most
        return wanted and not self.said and time.monotonic() - self.measured >= self.pause

    def _better(self, now: int) -> int:
        """The number of threads that is worth changing to just now; the present one where none is. Measured twice."""
        counts = sorted({1, *(max(1, self.most >> halvings) for halvings in range(self.most.bit_length())), now})
        votes = []
        for _ in range(2):
            speed = measure_thread_speeds(*counts)
            fastest = max(speed, key=lambda number: speed[number])
            votes.append(fastest if speed[fastest] >= BETTER * speed[now] else now)
        self.measured = time.monotonic()
        if votes[0] == votes[1] != now:
            self.pause = PATIENCE
            return votes[0]
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return now

    def _advise(self, tick: Tick, now: int, better: int) -> None:
        speed = measure_thread_speeds(now, better)
        self.said = True
        self.progress.warn(
            f"training has slowed down from {self.best[now]:,.0f} to {tick.images_per_second:,.0f} images/s: other programs use the "
            f"CPU, and {now} threads wait for each other. {better} would be about {speed[better] / speed[now]:.1f} times as fast now: "
            f"stop with Ctrl-C and go on with `leafwing resume {self.run.folder} --threads {better}`, or with --threads auto, which "
            f"changes by itself. The weights are then those of an undisturbed run up to rounding, no longer bit for bit"
        )

    def _change(self, tick: Tick, now: int, better: int) -> None:
        torch.set_num_threads(better)
        self.slow_since = None
        self.changes.append(Change(tick.clock.images, better))
        self.run.update(thread_changes=tuple(self.changes))
        self.progress.say(f"{tick.clock.images:,} images: {better} CPU threads from here on, {now} before")

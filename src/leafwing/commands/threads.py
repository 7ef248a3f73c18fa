"""CPU threads during training while other programs use the CPU: detects slowdowns and warns, or adapts with `--threads auto`.

The number of threads affects how sums are rounded. Changes therefore happen only at ticks and are recorded in `run.json`: `resume`
continues with them, and a replay repeats them at the same images on any machine.
"""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from leafwing.config import ThreadChange
from leafwing.engine.setup import measure_thread_speeds
from leafwing.machine import cores
from leafwing.progress import Reporter
from leafwing.runs import Run

if TYPE_CHECKING:
    from leafwing.loop import Tick, Training
    from leafwing.settings import HardwareSettings

SLOWDOWN, PATIENCE = 0.7, 10.0
"""Training has slowed down if it is below this fraction of its best speed with as many threads for this many seconds."""
SPEEDUP = 1.25
"""Another number of threads must be this much faster in small matrix products."""
SLICES, SLICE = 5, 0.03
"""Number of times that each number of threads is measured, and the seconds of each."""
LONGEST_PAUSE = 300.0
"""Maximum number of seconds between two measurements; the pause doubles after each one that leads to no change."""


class ThreadMonitor:
    """Monitors the speed of training on a CPU.

    Args:
        run: its settings allow changes (`--threads auto`); its history has the changes made, or to be repeated by a replay.
        training: before its first turn, or restored.
        progress: receives messages.
    """

    def __init__(self, run: Run, training: Training, progress: Reporter) -> None:
        self.run, self.progress = run, progress
        self.changes = list(run.history.thread_changes)
        start = training.clock.images
        single = training.engine.processes.world_size == 1  # several share the cores, and what one of them had is too much
        self.scheduled = deque(change for change in self.changes if single and change.images > start)
        for change in self.changes:
            if single and change.images <= start:
                torch.set_num_threads(change.threads)
        self.adaptive = run.settings.machine.threads == "auto" and single
        self.monitored = training.engine.device.type == "cpu" and single
        self.max_threads = max(cores(), torch.get_num_threads())
        self.best: dict[int, float] = {}
        self.slow_since: float | None = None
        self.last_measured, self.pause = time.monotonic(), PATIENCE
        self.warned = False
        if self.adaptive and self.monitored and not self.scheduled:
            # A tick may be minutes away if threads wait for each other.
            threads = torch.get_num_threads()
            if (better := fastest_threads(threads, self.max_threads)) != threads:
                self._change(start, threads, better)

    def check(self, tick: Tick) -> dict[str, Any]:
        """Measures and acts at a tick: changes the number of threads, or warns once. Returns the changes, for the log."""
        if self.scheduled:
            changed = False
            while self.scheduled and self.scheduled[0].images <= tick.clock.images:
                torch.set_num_threads(self.scheduled.popleft().threads)
                changed = True
            return {"threads": torch.get_num_threads()} if changed else {}
        if not self.monitored:
            return {}
        threads = torch.get_num_threads()
        better = self._fastest(threads) if self._should_measure(tick, threads) else threads
        if better == threads:
            return {}
        if not self.adaptive:
            self._warn(tick, threads, better)
            return {}
        self._change(tick.clock.images, threads, better)
        return {"threads": better}

    def _should_measure(self, tick: Tick, threads: int) -> bool:
        """Whether to compare numbers of threads: training has been slow for a while, or the number may change. Then also without a
        slowdown, because the machine may have been busy from the start, and may be free again."""
        self.best[threads] = max(self.best.get(threads, 0.0), tick.images_per_second)
        if tick.images_per_second >= SLOWDOWN * self.best[threads]:
            self.slow_since = None
        elif self.slow_since is None:
            self.slow_since = tick.seconds
        slow = threads > 1 and self.slow_since is not None and tick.seconds - self.slow_since >= PATIENCE
        useful = slow or (self.adaptive and self.max_threads > 1)
        return useful and not self.warned and time.monotonic() - self.last_measured >= self.pause

    def _fastest(self, threads: int) -> int:
        """See `fastest_threads`; sets the pause until the next measurement."""
        better = fastest_threads(threads, self.max_threads)
        self.last_measured = time.monotonic()
        self.pause = PATIENCE if better != threads else min(2 * self.pause, LONGEST_PAUSE)
        return better

    def _warn(self, tick: Tick, threads: int, better: int) -> None:
        speed = measure_thread_speeds(threads, better)
        if speed[better] < SPEEDUP * speed[threads]:
            return  # no longer
        self.warned = True
        self.progress.warn(
            f"training has slowed down from {self.best[threads]:,.0f} to {tick.images_per_second:,.0f} images/s: other programs use "
            f"the CPU, and {threads} threads wait for each other. {better} would be about {speed[better] / speed[threads]:.1f} times "
            f"as fast now: stop with Ctrl-C and continue with `leafwing resume {self.run.folder} --threads {better}`, or with "
            f"--threads auto, which adapts by itself. The weights then match an undisturbed run up to rounding, no longer bit for bit"
        )

    def _change(self, images: int, threads: int, better: int) -> None:
        torch.set_num_threads(better)
        self.slow_since = None
        self.changes.append(ThreadChange(images, better))
        self.run.update(thread_changes=tuple(self.changes))
        why = "faster while other programs use the cores" if better < threads else "cores are free"
        moment = f"from {images:,} images on" if images else "training begins with"
        self.progress.say(
            f"{moment} {better} CPU {'thread' if better == 1 else 'threads'} instead of {threads}: {why} (--threads auto)"
        )


def settle_threads(training: Training, machine: HardwareSettings) -> None:
    """Sets the number of threads with which a training of these settings begins on a CPU, before its speed is measured."""
    if machine.threads == "auto" and training.engine.device.type == "cpu":
        threads = torch.get_num_threads()
        torch.set_num_threads(fastest_threads(threads, max(cores(), threads)))


def fastest_threads(threads: int, most: int) -> int:
    """The number of threads, up to `most`, that is clearly faster than `threads` at present; else `threads`.

    By medians, because another program takes a core for some hundredths of a second at a time.
    """
    counts = sorted({1, *(max(1, most >> i) for i in range(most.bit_length())), threads})
    speeds = [measure_thread_speeds(*counts, seconds=SLICE) for _ in range(SLICES)]
    speed = {count: median(slice[count] for slice in speeds) for count in counts}
    fastest = max(counts, key=lambda count: speed[count])
    return fastest if speed[fastest] >= SPEEDUP * speed[threads] else threads

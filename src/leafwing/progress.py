"""What a person sees while something runs: a bar on a terminal, plain lines elsewhere, nothing when not wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leafwing.quantities import show_count, show_duration

Progress = Callable[[str, int, int], None]
"""A callback for long operations: what is being done, the amount done, and the total."""

OFTEN = 10.0
"""Seconds between two lines about a training, at first."""


def no_progress(what: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """One line for the user."""

    def warn(self, text: str) -> None:
        """One line that the user should not miss."""

    def packing(self, done: int, total: int) -> None:
        """So many pictures are read, out of so many."""
        self.report_progress("reading pictures", done, total)

    def report_progress(self, what: str, done: int, total: int) -> None:
        """So much of something is done, out of so much."""

    @contextmanager
    def training(self, start: int, total: int, seconds: float | None) -> Iterator[None]:
        """Around a training that begins at `start` images and ends at `total`, or after so many more seconds."""
        yield

    def shown(self, images: int) -> None:
        """After every turn."""

    def tick(self, record: Mapping[str, Any]) -> None:
        """A line of the log was written."""


class Screen(Silent):
    """Writes to standard error, so that standard output stays free for results."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.bar: Any = None
        self.task: Any = None
        self.meter = Meter(0, 0, None)
        self.losses: Mapping[str, float] = {}
        self.drawn = 0.0
        self.counted, self.told = ("", 0, 0), False

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", markup=False, emoji=False, style="yellow")

    def report_progress(self, what: str, done: int, total: int) -> None:
        if (what, done, total) == self.counted:
            return
        if what != self.counted[0]:
            self.told = False
        self.counted = (what, done, total)
        now = time.monotonic()
        if done < total and now - self.drawn < (0.1 if self.console.is_terminal else 5):
            return
        if done >= total and not self.told:
            return  # it was over before there was anything to show
        self.drawn, self.told = now, done < total
        if self.console.is_terminal:
            print(f"\r{what}: {done:,} of {total:,}", end="\n" if done >= total else "", file=sys.stderr, flush=True)
        else:
            self.say(f"{what}: {done:,} of {total:,}")

    @contextmanager
    def training(self, start: int, total: int, seconds: float | None) -> Iterator[None]:
        self.meter = Meter(start, total, seconds)
        self.losses = {}
        if not self.console.is_terminal:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        # Short enough for 80 columns; the log has each cost by name.
        text = "{task.completed:,.0f}/{task.total:,.0f}  {task.fields[told]}"
        with Progress(BarColumn(bar_width=16), TextColumn(text), console=self.console) as self.bar:
            self.task = self.bar.add_task("", total=total, completed=start, told="")
            yield
        self.bar = None

    def shown(self, images: int) -> None:
        # By the clock, not by images: a slow recipe may show none for minutes between two lines of the log.
        now = time.monotonic()
        wait = 1.0 if self.bar is not None else max(OFTEN, (now - self.meter.began) / 20)  # lines become rarer
        if now - self.meter.last < wait:
            return
        self.meter.read(images)
        if self.bar is None:
            self._line()
        else:
            self._bar()

    def tick(self, record: Mapping[str, Any]) -> None:
        self.losses = record["costs"]
        if self.bar is not None:
            self.meter.read(record["images"])
            self._bar()
        elif record["images"] >= self.meter.total:
            if record["images"] > self.meter.images or self.meter.speed == 0:
                self.meter.read(record["images"])
            self._line()

    def _line(self) -> None:
        meter = self.meter
        losses = "".join(f"  {name} {value:.3g}" for name, value in self.losses.items())
        self.say(f"{show_count(meter.images)}/{show_count(meter.total)} images  {meter.told()}{losses}")

    def _bar(self) -> None:
        players: dict[str, float] = {}
        for name, value in self.losses.items():
            player = name.partition("/")[0]
            players[player] = players.get(player, 0.0) + value
        losses = "".join(f"  {player} {value:.3g}" for player, value in players.items())
        self.bar.update(self.task, completed=self.meter.images, told=f"{self.meter.told()}{losses}")


class Meter:
    """How far a training is, how fast it goes, and how long it will still take: by images, or by its limit of time.

    Args:
        start: images shown before.
        total: images after which it ends.
        seconds: seconds after which it ends; None without a limit.
    """

    def __init__(self, start: int, total: int, seconds: float | None) -> None:
        self.images, self.total, self.seconds = start, total, seconds
        self.began = self.last = time.monotonic()
        self.speed = 0.0

    def read(self, images: int) -> None:
        """So many images are shown now."""
        now = time.monotonic()
        if images > self.images and now > self.last:
            self.speed = (images - self.images) / (now - self.last)
        self.images, self.last = images, now

    def left(self) -> float | None:
        """Seconds until the first of both limits; None while nothing is known."""
        by_images = (self.total - self.images) / self.speed if self.speed else None
        by_time = None if self.seconds is None else max(0.0, self.seconds - (time.monotonic() - self.began))
        known = [seconds for seconds in (by_images, by_time) if seconds is not None]
        return min(known) if known else None

    def told(self) -> str:
        """Speed and time left, in words."""
        left = self.left()
        speed = f"{self.speed:,.0f}" if self.speed >= 10 else f"{self.speed:.2g}"
        return f"{speed} images/s" + ("" if left is None else f"  {show_duration(left)} left")

"""Progress display: a bar on a terminal and in a notebook, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from leafwing import notebook
from leafwing.errors import InvalidOption, visible
from leafwing.quantities import show_count, show_duration

Item = TypeVar("Item")
ProgressCallback = Callable[[str, int, int], None]
"""A callback for long operations: what is being done, the amount done, and the total."""

LINE_INTERVAL = 10.0
"""Seconds between two lines of progress, at first; later a twentieth of the time so far."""
LEAST_SECONDS = 2.0
"""Of an operation, before the time left is estimated."""


def no_progress(what: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


def counted(
    items: Iterable[Item], what: str, total: int, report: ProgressCallback, size: Callable[[Item], int] = lambda item: 1
) -> Iterator[Item]:
    """Items one after the other; reports progress after each is done with, and at the end that all are.

    Args:
        items: the items.
        what: what is being done with them.
        total: the sum of their sizes.
        report: receives the progress.
        size: how much of the total an item is.
    """
    done = 0
    for item in items:
        yield item
        done += size(item)
        report(what, done, total)
    if done < total:
        report(what, total, total)


def by_player(losses: Mapping[str, float]) -> dict[str, float]:
    """The sum of the losses of each player, from losses by name: `D/adversarial`, `D/gradient_penalty`."""
    players: dict[str, float] = {}
    for name, value in losses.items():
        player = name.partition("/")[0]
        players[player] = players.get(player, 0.0) + value
    return players


class Reporter:
    """Receives messages and progress, and shows nothing."""

    def say(self, text: str) -> None:
        """A message of one line."""

    def warn(self, text: str) -> None:
        """A warning of one line."""

    def report_reading(self, done: int, total: int) -> None:
        """Progress of reading images: `done` of `total`."""
        self.report_progress("reading images", done, total)

    def report_progress(self, what: str, done: int, total: int) -> None:
        """Progress of a long operation: `done` of `total`."""

    @contextmanager
    def training(self, start: int, total: int, seconds: float | None) -> Iterator[None]:
        """A context for training from `start` to `total` images, or for at most this many seconds."""
        yield

    def after_turn(self, images: int) -> None:
        """Called after every turn with the number of images shown."""

    def tick(self, record: Mapping[str, Any]) -> None:
        """Called for every line of the log; with a time limit it also has `time_left`, in seconds of training."""


class OnceReporter(Reporter):
    """Passes each message on once, where several plans have the same ones about the data.

    Args:
        reporter: receives the messages and all progress.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.shown = reporter, set[str]()

    def say(self, text: str) -> None:
        if text not in self.shown:
            self.shown.add(text)
            self.reporter.say(text)

    def warn(self, text: str) -> None:
        if text not in self.shown:
            self.shown.add(text)
            self.reporter.warn(text)

    def report_progress(self, what: str, done: int, total: int) -> None:
        self.reporter.report_progress(what, done, total)


@dataclass
class Operation:
    """A long operation whose progress is shown.

    Args:
        what: its description.
        first: the amount that was done at its first report.
        began: the time of that report.
    """

    what: str
    first: int
    began: float

    def describe_rest(self, done: int, total: int, passed: float) -> str:
        """The time left at the speed so far, `passed` seconds after the first report; empty while that is unknown."""
        if passed < LEAST_SECONDS or not self.first < done < total:
            return ""
        return f", about {show_duration(max(1.0, passed * (total - done) / (done - self.first)))} left"


class ConsoleReporter(Reporter):
    """Shows messages and progress on standard error; standard output stays free for results."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        # What is redrawn needs a terminal that can, and is none in a file, even where colours are forced.
        self.is_live = (
            self.console.is_terminal and not self.console.is_dumb_terminal and getattr(sys.stderr, "isatty", bool)()
        )
        self.bar: Any = None
        self.task: Any = None
        self.meter = Meter(0, 0, None)
        self.losses: Mapping[str, float] = {}
        self.last_shown, self.interval = -inf, 0.1 if self.is_live else LINE_INTERVAL
        self.operation = Operation("", 0, 0.0)
        self.unfinished = set[str]()  # operations whose progress was shown, but not their end; one may be a part of another
        self.open_line = 0  # length of a line of progress that the next one replaces

    def say(self, text: str) -> None:
        self._end_line()
        self.console.print(visible(text), markup=False, emoji=False)

    def warn(self, text: str) -> None:
        self._end_line()
        self.console.print(visible(f"warning: {text}"), markup=False, emoji=False, style="yellow")

    def report_progress(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what != self.operation.what or done < self.operation.first:
            self._end_line()
            self.operation = Operation(what, done, now)
        passed = now - self.operation.began
        wait = self.interval if self.is_live else max(self.interval, passed / 20)
        if done < total and now - self.last_shown < wait:
            return
        if done >= total and what not in self.unfinished:
            return  # it finished before anything was shown, or its end was shown
        self.last_shown = now
        (self.unfinished.add if done < total else self.unfinished.discard)(what)
        self._show_progress(f"{what}: {done:,} of {total:,}{self.operation.describe_rest(done, total, passed)}", done, total)

    def _show_progress(self, text: str, done: int, total: int) -> None:
        if self.is_live:
            print(f"\r{text.ljust(self.open_line)}", end="" if done < total else "\n", file=sys.stderr, flush=True)
            self.open_line = len(text) if done < total else 0
        else:
            self.say(text)

    def _end_line(self) -> None:
        """Ends a line of progress on a terminal, so that what follows is not glued to it."""
        if self.open_line:
            self.open_line = 0
            print(file=sys.stderr, flush=True)

    @contextmanager
    def training(self, start: int, total: int, seconds: float | None) -> Iterator[None]:
        self._end_line()
        self.meter = Meter(start, total, seconds)
        self.losses = {}
        if not self.is_live:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        # Short enough for 80 columns; the log has each loss by name.
        text = "{task.completed:,.0f}/{task.total:,.0f}  {task.fields[status]}"
        with Progress(BarColumn(bar_width=16), TextColumn(text), console=self.console) as self.bar:
            self.task = self.bar.add_task("", total=total, completed=start, status="")
            yield
        self.bar = None

    def after_turn(self, images: int) -> None:
        # Independent of the log, whose lines may be minutes apart for a slow recipe.
        now = time.monotonic()
        wait = 1.0 if self.bar is not None else max(LINE_INTERVAL, (now - self.meter.began) / 20)  # lines become rarer
        if now - self.meter.last < wait:
            return
        self.meter.read(images)
        if self.bar is None:
            self._print_line()
        else:
            self._update_bar()

    def tick(self, record: Mapping[str, Any]) -> None:
        self.losses = record["losses"]
        if "time_left" in record:
            self.meter.read_limit(record["time_left"])
        if self.bar is not None:
            self.meter.read(record["images"])
            self._update_bar()
        elif record["images"] >= self.meter.total:
            if record["images"] > self.meter.images or self.meter.speed == 0:
                self.meter.read(record["images"])
            self._print_line()

    def _print_line(self) -> None:
        meter = self.meter
        total = max(meter.total, meter.images)  # training ends with a whole round, so it may show more than requested
        self.say(f"{show_count(meter.images)}/{show_count(total)} images  {self._status()}")

    def _update_bar(self) -> None:
        total = max(self.meter.total, self.meter.images)
        self.bar.update(self.task, completed=self.meter.images, total=total, status=self._status())

    def _status(self) -> str:
        """Speed, time left, and the sum of each player's losses."""
        losses = "".join(f"  {player} {value:.3g}" for player, value in by_player(self.losses).items())
        return self.meter.describe() + losses


class NotebookReporter(ConsoleReporter):
    """Shows messages and progress below the cell of a notebook: bars that are updated in place, which need no widgets."""

    def __init__(self) -> None:
        super().__init__()
        self.interval = 0.5
        self.progress_bar: notebook.Bar | None = None

    def say(self, text: str) -> None:
        print(visible(text), flush=True)

    def warn(self, text: str) -> None:
        print(visible(f"warning: {text}"), file=sys.stderr, flush=True)

    def _show_progress(self, text: str, done: int, total: int) -> None:
        if self.progress_bar is None:
            self.progress_bar = notebook.Bar()
        self.progress_bar.update(done, total, text)
        if done >= total:
            self.progress_bar = None

    @contextmanager
    def training(self, start: int, total: int, seconds: float | None) -> Iterator[None]:
        self.meter, self.losses, self.bar = Meter(start, total, seconds), {}, notebook.Bar()
        self.bar.update(start, total, f"{start:,}/{total:,} images")
        try:
            yield
        finally:
            self.bar = None

    def _update_bar(self) -> None:
        images, total = self.meter.images, max(self.meter.total, self.meter.images)
        self.bar.update(images, total, f"{images:,}/{total:,} images  {self._status()}")


Progress = Reporter | bool | None
"""What functions with progress take: a reporter; None or True: shown on the terminal, in the notebook or as lines; False: nothing."""


def reporter_of(progress: Progress) -> Reporter:
    """The reporter of a function's argument `progress`, see `Progress`.

    Raises:
        LeafwingError: something else.
    """
    if isinstance(progress, Reporter):
        return progress
    if progress is not None and not isinstance(progress, bool):
        raise InvalidOption("progress", progress, "give True, False or a leafwing.Reporter")
    if progress is False:
        return Reporter()
    return NotebookReporter() if notebook.is_running() else ConsoleReporter()


class Meter:
    """The speed of training and the time left.

    Args:
        start: images shown before.
        total: images at the end.
        seconds: time limit; None: no limit.
    """

    def __init__(self, start: int, total: int, seconds: float | None) -> None:
        self.images, self.total = start, total
        self.began = self.last = self.limit_read = time.monotonic()
        self.speed, self.limit = 0.0, seconds

    def read(self, images: int) -> None:
        """Updates the speed from the number of images shown by now."""
        now = time.monotonic()
        if images > self.images and now > self.last:
            self.speed = (images - self.images) / (now - self.last)
        self.images, self.last = images, now

    def read_limit(self, left: float) -> None:
        """Updates what is left of the time limit."""
        self.limit, self.limit_read = left, time.monotonic()

    def seconds_left(self) -> float | None:
        """Seconds until all images are shown or the time limit is reached; None if unknown."""
        by_images = max(0, self.total - self.images) / self.speed if self.speed else None
        by_time = None if self.limit is None else max(0.0, self.limit - (time.monotonic() - self.limit_read))
        return min((seconds for seconds in (by_images, by_time) if seconds is not None), default=None)

    def describe(self) -> str:
        """Speed and time left as text."""
        seconds = self.seconds_left()
        speed = f"{self.speed:,.0f}" if self.speed >= 10 else f"{self.speed:.2g}"
        return f"{speed} images/s" + ("" if seconds is None else f"  {show_duration(seconds)} left")

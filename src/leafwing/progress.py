"""What a person sees while something runs: a bar on a terminal, plain lines elsewhere, nothing when not wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leafwing.quantities import show_count, show_duration


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """One line for the user."""

    def warn(self, text: str) -> None:
        """One line that the user should not miss."""

    def packing(self, done: int, total: int) -> None:
        """So many pictures are read, out of so many."""
        self.counting("reading pictures", done, total)

    def counting(self, what: str, done: int, total: int) -> None:
        """So much of something is done, out of so much."""

    @contextmanager
    def training(self, start: int, total: int, seconds: float | None) -> Iterator[None]:
        """Around a training that begins at `start` images and ends at `total`, or after so many seconds."""
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
        self.total = 0
        self.drawn = 0.0
        self.counted, self.told = ("", 0, 0), False

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", markup=False, emoji=False, style="yellow")

    def counting(self, what: str, done: int, total: int) -> None:
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
        self.total = total
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
        if self.bar is not None:
            self.bar.update(self.task, completed=images)

    def tick(self, record: Mapping[str, Any]) -> None:
        speed = f"{record['images_per_second']:,.0f} images/s"
        left = show_duration(max(0, self.total - record["images"]) / max(record["images_per_second"], 1e-9))
        if self.bar is not None:
            players: dict[str, float] = {}
            for name, value in record["costs"].items():
                player = name.partition("/")[0]
                players[player] = players.get(player, 0.0) + value
            paid = "  ".join(f"{player} {value:.3g}" for player, value in players.items())
            self.bar.update(self.task, completed=record["images"], told=f"{speed}  {left} left  {paid}")
            return
        costs = "  ".join(f"{name} {value:.3g}" for name, value in record["costs"].items())
        now = time.monotonic()
        if now - self.drawn >= 10 or record["images"] >= self.total:
            self.drawn = now
            shown = f"{show_count(record['images'])}/{show_count(self.total)} images"
            self.say(f"{shown}  {speed}  {left} left  {costs}")

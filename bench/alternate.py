"""Several ways of training, each in a process of its own, taking turns: one trains while the others wait.

Settings of the allocator and of threads hold for a whole process, so ways that differ in them cannot share one; and the speed of
a machine drifts, so they must not run one after the other.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from leafwing.engine import peak_memory, synchronise

Steps = Callable[[int], None]
"""Trains so many steps."""


@dataclass
class Timed:
    """Seconds of each repetition, and the peak memory of the process (of the device on CUDA) in bytes."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def in_turn(
    sides: Mapping[str, tuple[Callable[..., Steps], tuple[Any, ...]]], device: str, repetitions: int, steps: int
) -> dict[str, Timed]:
    """Each side `repetitions` times `steps` steps, in turn, after three steps to warm up.

    Args:
        sides: by name, what makes the steps and its arguments; both must be importable by a new process.
        device: what to wait for before a clock is read.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    workers = []
    for side, (make, arguments) in sides.items():
        pipes[side], theirs = context.Pipe()
        # Not a daemon: those may have no children, and a DataLoader's workers are children. A closed pipe ends it.
        process = context.Process(target=worker, args=(make, arguments, theirs, device))
        process.start()
        theirs.close()
        workers.append(process)
    found = {side: Timed() for side in sides}
    for repetition in range(repetitions + 1):
        for side, pipe in pipes.items():
            pipe.send(steps if repetition else 3)
            seconds, found[side].peak = pipe.recv()
            if repetition:
                found[side].seconds.append(seconds)
    for pipe in pipes.values():
        pipe.send(None)
    for process in workers:
        process.join()
    return found


def worker(make: Callable[..., Steps], arguments: tuple[Any, ...], pipe: Connection, device: str) -> None:
    """Trains so many steps whenever it is told to, and answers with the seconds and the peak memory."""
    train = make(*arguments)
    while (count := heard(pipe)) is not None:
        synchronise(device)
        started = time.perf_counter()
        train(count)
        synchronise(device)
        pipe.send((time.perf_counter() - started, peak_memory(device)))


def heard(pipe: Connection) -> int | None:
    """What the other end says; None when it is gone."""
    try:
        return pipe.recv()
    except EOFError:
        return None

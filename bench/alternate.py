"""Variants of a training, each in its own process, timed in turn: one trains while the others wait.

Settings of the allocator and of threads apply to a whole process, so variants that differ in them need separate processes. The
speed of a machine drifts, so they must not be measured one after the other.
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
"""Runs a number of training steps."""


@dataclass
class Timing:
    """The seconds of each repetition, and the peak memory in bytes: of the process, or of the device on CUDA."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def interleave(
    variants: Mapping[str, tuple[Callable[..., Steps], tuple[Any, ...]]], device: str, repetitions: int, steps: int
) -> dict[str, Timing]:
    """Time all variants in turn, each in its own process, after three steps of warm-up.

    Args:
        variants: by name, a factory of the training function and its arguments; a new process must be able to import both.
        device: synchronised before the time is read.
        repetitions: measurements per variant.
        steps: training steps per measurement.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    workers = []
    for variant, (make, arguments) in variants.items():
        pipes[variant], child_end = context.Pipe()
        # Not a daemon, which could not start the workers of a DataLoader. A closed pipe ends the process.
        process = context.Process(target=worker, args=(make, arguments, child_end, device))
        process.start()
        child_end.close()
        workers.append(process)
    timings = {variant: Timing() for variant in variants}
    for repetition in range(repetitions + 1):
        for variant, pipe in pipes.items():
            pipe.send(steps if repetition else 3)
            seconds, timings[variant].peak = pipe.recv()
            if repetition:
                timings[variant].seconds.append(seconds)
    for pipe in pipes.values():
        pipe.send(None)
    for process in workers:
        process.join()
    return timings


def worker(make: Callable[..., Steps], arguments: tuple[Any, ...], pipe: Connection, device: str) -> None:
    """Train as many steps as each message says, and reply with the seconds and the peak memory."""
    train = make(*arguments)
    while (count := receive(pipe)) is not None:
        synchronise(device)
        started = time.perf_counter()
        train(count)
        synchronise(device)
        pipe.send((time.perf_counter() - started, peak_memory(device)))


def receive(pipe: Connection) -> int | None:
    """The next message; None when the other end is closed."""
    try:
        return pipe.recv()
    except EOFError:
        return None

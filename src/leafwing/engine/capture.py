"""Turns recorded once and replayed: on CUDA a few hundred launches become one.

What differs from round to round must lie in tensors that stay where they are: the batch is copied into the same tensors,
what the clock decides is filled in before each replay, random numbers come from the device's own generator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from leafwing.game import Batch, Clock

Work = Callable[[], None]


class Recorder(Protocol):
    """What a device can do about recording.

    Args:
        fixed: whether what a recording makes is at the same place after every replay.
    """

    fixed: bool

    def warm(self, work: Work) -> None:
        """Does the work for real, so that whatever is set up at first use is set up."""

    def record(self, work: Work) -> Work:
        """Records the work without doing it; the answer does it."""


class Graphs:
    """CUDA graphs, all in one pool of memory, because they are replayed in the order in which they were recorded."""

    fixed = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.aside = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm(self, work: Work) -> None:
        self.aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.aside):
            work()
        torch.cuda.current_stream(self.device).wait_stream(self.aside)

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.aside, capture_error_mode="thread_local"):
            work()
        return graph.replay


class Rehearsal:
    """Recording where a device has none: nothing is done while recording, and a replay does the work anew. For tests."""

    fixed = False

    def warm(self, work: Work) -> None:
        work()

    def record(self, work: Work) -> Work:
        return work


class HeldClock(Clock):
    """A clock inside a recording: schedules are answered with tensors, which `set` fills before each replay.

    Raises:
        RuntimeError: while recording, images, rounds or progress are read directly: the number would be recorded for good.
    """

    def __init__(self, device: torch.device) -> None:
        self.__dict__.update(device=device, now=Clock(), held={}, recording=False)

    def read(self, schedule: Callable[[Clock], float]) -> float:
        own = self.__dict__
        if schedule not in own["held"]:
            if own["recording"]:
                raise RuntimeError("a schedule is first read while its turn is recorded")
            own["held"][schedule] = torch.full((), schedule(own["now"]), device=own["device"])
        return own["held"][schedule]

    def set(self, clock: Clock, *, recording: bool = False) -> None:
        """What the schedules say at this clock, written where the recording reads it."""
        self.__dict__.update(now=clock, recording=recording)
        for schedule, tensor in self.__dict__["held"].items():
            tensor.fill_(schedule(clock))

    def __getattribute__(self, name: str) -> Any:
        own = super().__getattribute__("__dict__")
        if name not in ("images", "total", "round", "progress"):
            return super().__getattribute__(name)
        if own["recording"]:
            raise RuntimeError(f"a play or term reads clock.{name} itself; put it into a function and read that with at()")
        return getattr(own["now"], name)


class HeldBatches:
    """The batch inside a recording: the same tensors every time."""

    def __init__(self) -> None:
        self._held: dict[tuple[Any, ...], Batch] = {}

    def put(self, batch: Batch) -> Batch:
        """Copies a batch to where recordings of its shape read it."""
        key = tuple((name, value.shape, value.dtype) for name, value in batch.items())
        held = self._held.get(key)
        if held is None:
            self._held[key] = held = Batch({name: value.clone() for name, value in batch.items()})
        else:
            for name, value in batch.items():
                if held[name] is not value:
                    held[name].copy_(value, non_blocking=True)
        return held

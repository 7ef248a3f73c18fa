"""Captured turns: with CUDA graphs, one launch replaces several hundred.

Everything that differs from round to round must be in tensors with fixed addresses: the batch is copied into static tensors,
scheduled values are written before each replay, random numbers come from the device's generator.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch

from leafwing.game import Batch, Clock

Work = Callable[[], None]


class CaptureBackend(Protocol):
    """Captures and replays work on a device.

    Args:
        static_outputs: whether each replay writes its results to the same addresses.
    """

    static_outputs: bool

    def warm_up(self, work: Work) -> None:
        """Executes the work as preparation, so that everything created at first use exists."""

    def capture(self, work: Work) -> Work:
        """Captures the work without executing it; the result replays it."""


class CudaGraphs:
    """Captures CUDA graphs, all in one memory pool, because they are replayed in the order of capture."""

    static_outputs = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()
        # An empty graph, which stays: a pool whose graphs are all gone must not be used again while tensors, such as gradients, are
        # in it.
        self._first = torch.cuda.CUDAGraph()
        with warnings.catch_warnings(action="ignore"):
            self._into_pool(self._first, lambda: None)

    def warm_up(self, work: Work) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            work()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def capture(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        self._into_pool(graph, work)
        return graph.replay

    def _into_pool(self, graph: torch.cuda.CUDAGraph, work: Work) -> None:
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            work()


class Rehearsal:
    """Stands in for capture on devices without it: capturing does nothing, a replay executes the work again. For tests."""

    static_outputs = False

    def warm_up(self, work: Work) -> None:
        work()

    def capture(self, work: Work) -> Work:
        return work


class CapturedClock(Clock):
    """A clock for captured turns: `read` returns tensors, which `set` updates before each replay.

    The stage may be read directly, because turns are captured anew in each stage.

    Raises:
        RuntimeError: images, rounds or progress are read directly during capture, which would make their values constant.
    """

    def __init__(self, device: torch.device) -> None:
        self.__dict__.update(device=device, now=Clock(), values={}, capturing=False)

    def read(self, schedule: Callable[[Clock], float]) -> float:
        state = self.__dict__
        if schedule not in state["values"]:
            if state["capturing"]:
                raise RuntimeError("a schedule is read for the first time while its turn is captured")
            state["values"][schedule] = torch.full((), schedule(state["now"]), device=state["device"])
        return state["values"][schedule]

    def set(self, clock: Clock, *, capturing: bool = False) -> None:
        """Updates the values of all schedules to those at this clock."""
        self.__dict__.update(now=clock, capturing=capturing)
        for schedule, tensor in self.__dict__["values"].items():
            tensor.fill_(schedule(clock))

    def __getattribute__(self, name: str) -> Any:
        state = super().__getattribute__("__dict__")
        if name not in ("images", "total", "round", "planned", "progress", "planned_progress", "stage"):
            return super().__getattribute__(name)
        if state["capturing"] and name != "stage":
            raise RuntimeError(f"a play or term reads clock.{name} directly; use at() with a function of the clock instead")
        return getattr(state["now"], name)


class StaticBatches:
    """The batches of captured turns: batches of equal shapes share the same tensors."""

    def __init__(self) -> None:
        self._batches: dict[tuple[Any, ...], Batch] = {}

    def put(self, batch: Batch) -> Batch:
        """Copies a batch to the tensors that captured turns of its shapes read."""
        key = tuple((name, value.shape, value.dtype) for name, value in batch.items())
        static = self._batches.get(key)
        if static is None:
            self._batches[key] = static = Batch({name: value.clone() for name, value in batch.items()})
        else:
            for name, value in batch.items():
                if static[name] is not value:
                    static[name].copy_(value, non_blocking=True)
        return static

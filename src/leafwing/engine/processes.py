"""Training in several processes: ranks, communication, and errors when a process is lost.

Every process holds the whole game and computes its part of each batch; gradients are averaged before the step, so all
weights stay equal. Communication uses torch.distributed: gloo between CPUs, NCCL between CUDA devices. Every process must
make the same calls in the same order. A single process does not communicate.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from leafwing.errors import LeafwingError, ProcessLost

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that torchrun or another launcher sets for each process."""

LAUNCHER = "LEAFWING_LAUNCHER"
"""Environment variable with the process id of `leafwing --devices`, for the processes that it starts."""

BUCKET = 1 << 20
"""Number of values (4 MiB) per exchange."""

DAY = 86_400.0  # seconds
JOINS = count()  # numbers the calls of `join`


class Processes:
    """The processes of one training run, as seen from one of them.

    Args:
        rank: index of this process, from 0; process 0 writes and prints.
        world: number of processes.
        local: index of this process on its machine, and of its CUDA device.
        timeout: seconds after which a process that does not answer counts as lost.

    `local_world_size` is the number of processes on this machine, 1 if the launcher does not say it.
    """

    def __init__(self, rank: int = 0, world: int = 1, local: int = 0, timeout: float = 600.0) -> None:
        self.rank, self.world_size, self.local, self.timeout = rank, world, local, timeout
        count = os.environ.get("LOCAL_WORLD_SIZE", "") if world > 1 else ""
        self.local_world_size = int(count) if count.isdecimal() else 1
        self._launcher = int(os.environ.get(LAUNCHER, 0)) if world > 1 else 0
        self._control: dist.ProcessGroup | None = (
            None  # separate group for `agree`, which thus never waits for other exchanges
        )
        self._pending: tuple[dist.Work, Tensor] | None = None  # the last call of `agree`

    @classmethod
    def join(cls, timeout: float = 600.0) -> Processes:
        """Connects to the other processes that torchrun or `leafwing --devices` started; a single process if there are none.

        Args:
            timeout: seconds to wait for the other processes now, and for any answer later. The end of a process is noticed at once;
                this is for a machine that lost its power or its network.

        Raises:
            LeafwingError: environment variables are missing or invalid, or the other processes did not connect.
        """
        variables = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
        if not variables.keys() & {"RANK", "WORLD_SIZE", "LOCAL_RANK"}:
            return cls(timeout=timeout)
        if missing := [name for name in VARIABLES if name not in variables]:
            raise LeafwingError(
                f"{' and '.join(variables)} say that there are several processes, but {' and '.join(missing)} is not set: "
                "start them with torchrun, which sets all of them, or unset all of them"
            )
        try:
            rank, world, local, port = (int(variables[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
        except ValueError as error:
            raise LeafwingError(f"RANK, WORLD_SIZE, LOCAL_RANK and MASTER_PORT must be whole numbers: {error}") from None
        if not (0 <= rank < world and 0 <= local <= rank):
            raise LeafwingError(f"RANK={rank} WORLD_SIZE={world} LOCAL_RANK={local}: ranks must be from 0 to WORLD_SIZE - 1")
        processes = cls(rank, world, local, timeout)
        if world == 1:
            return processes
        if not dist.is_available():
            raise LeafwingError("this build of torch has no torch.distributed: train with one process")
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        limit = timedelta(seconds=timeout)
        try:
            with default_interrupt():
                store, _, _ = next(rendezvous("env://", timeout=limit))
                # A prefix for each call: torchrun's store still holds the addresses of the previous one.
                store = PrefixStore(f"leafwing-{next(JOINS)}", store)
                backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
                dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
                processes._control = dist.new_group(backend="gloo", timeout=limit)
        except (RuntimeError, ValueError, OSError) as error:
            processes.leave(failed=True)
            address = f"{variables['MASTER_ADDR']}, port {port}"
            raise LeafwingError(
                f"process {rank} of {world} could not connect to the others at {address}: {first_line(error)}"
            ) from error
        return processes

    def leave(self, failed: bool = False) -> None:
        """Disconnects: in order, or immediately after a failure, which the other processes then notice."""
        pending, self._pending, self._control = self._pending, None, None
        if self.world_size == 1 or not dist.is_initialized():
            return
        try:
            if pending and not failed:
                pending[0].wait()
        except RuntimeError:  # another process is lost, but all work is done
            failed = True
        if failed:
            # Otherwise torch often ends a process that lost another one with SIGABRT.
            dist.distributed_c10d._abort_process_group()
        else:
            dist.destroy_process_group()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave(failed=kind is not None)

    # --- roles -----------------------------------------------------------------------------------------------------------

    @property
    def first(self) -> bool:
        """Whether this is process 0, the only one that writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process: `cuda` becomes `cuda:1` in the second process of a machine, and torch's current device.

        Raises:
            LeafwingError: the machine has fewer CUDA devices than processes, or the device does not support communication.
        """
        if self.world_size == 1 or name == "cpu":
            return name
        if name.partition(":")[0] != "cuda":
            raise LeafwingError(f"several processes train on cpu or cuda, not on {name}")
        if self.local >= (available := torch.cuda.device_count()):
            raise LeafwingError(
                f"process {self.rank} has no CUDA device: this machine has {available}; start at most {available} processes on it"
            )
        torch.cuda.set_device(self.local)
        return f"cuda:{self.local}"

    def check_divisible(self, n: int) -> None:
        """Checks that a batch of n can be divided equally among the processes.

        Raises:
            LeafwingError: n is not divisible by the number of processes.
        """
        check_divisible(n, self.world_size)

    @contextmanager
    def first_on_machine(self) -> Iterator[None]:
        """One process of each machine runs the body first, then the others, which can use its cache."""
        if self.local:
            self.barrier(DAY)
        yield
        if not self.local:
            self.barrier(DAY)

    # --- communication ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def all_reduce_mean(self, tensors: Iterable[Tensor | None]) -> None:
        """Replaces each tensor by its mean over all processes, summed in fp32 or better.

        Args:
            tensors: any shapes; None is skipped. Shapes, layouts, order and Nones must be the same in every process.
        """
        if self.world_size == 1:
            return
        exchanges = []
        for bucket in buckets([in_memory_order(tensor) for tensor in tensors if tensor is not None]):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
            exchanges.append((dist.all_reduce(flat, async_op=True), flat, bucket))
        for work, flat, bucket in exchanges:
            work.wait()
            parts = flat.div_(self.world_size).split([tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])

    def agree(self, number: int) -> int:
        """The maximum over all processes of the numbers passed at the previous call, 0 at the first; alone, the number itself.

        Every process gets the same result at the same call, and hardly waits: the exchange runs while the next round is computed.
        """
        if self._launcher and os.getppid() != self._launcher:
            self._launcher = 0
            signal.raise_signal(signal.SIGTERM)  # the launcher, which forwards Ctrl-C, is gone
        if self.world_size == 1:
            return int(number)
        pending, maximum = self._pending, torch.tensor([int(number)], dtype=torch.int32)
        if pending:
            pending[0].wait()
        work = dist.all_reduce(maximum, dist.ReduceOp.MAX, group=self._control, async_op=True)
        self._pending = (work, maximum)
        return int(pending[1]) if pending else 0

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes concatenated by rank along the first dimension, whose sizes may differ."""
        if self.world_size == 1:
            return tensor
        lengths = [torch.zeros((), dtype=torch.int64, device=tensor.device) for _ in range(self.world_size)]
        dist.all_gather(lengths, torch.tensor(len(tensor), device=tensor.device))
        longest = int(max(lengths))
        padded = tensor.new_zeros(longest, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])

    def broadcast(self, value: Any) -> Any:
        """The value that process 0 passes, in every process: anything that JSON can represent. Other processes' values are ignored."""
        if self.world_size == 1:
            return value
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        dist.broadcast(length, 0)
        if not self.first:
            data = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return json.loads(data.numpy().tobytes())

    def barrier(self, timeout: float | None = None) -> None:
        """Waits until all processes have called this; `timeout` in seconds, None for that of the processes."""
        if self._control is not None:
            options = dist.BarrierOptions()
            options.timeout = timedelta(seconds=self.timeout if timeout is None else timeout)
            self._control.barrier(options).wait()

    @contextmanager
    def detect_lost(self, advice: str = "") -> Iterator[None]:
        """Converts errors of torch that are due to another process into ProcessLost, whose message ends with the advice.

        Raises:
            ProcessLost: another process ended, or did not answer in time.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or not is_remote(error):
                raise
            other = (
                f"process {1 - self.rank} of 2"
                if self.world_size == 2
                else f"one of the {self.world_size - 1} other processes"
            )
            state = "does not answer" if "timed out" in str(error).lower() else "(or its machine) is gone"
            raise ProcessLost(f"{other} {state}; this training stops here{advice and '. '}{advice}") from error


def check_divisible(n: int, processes: int) -> None:
    """Checks that a batch of n can be divided equally among processes.

    Raises:
        LeafwingError: n is not divisible by their number.
    """
    if n % processes:
        nearest = max(1, round(n / processes)) * processes
        raise LeafwingError(f"a batch of {n} cannot be shared by {processes} processes: choose --batch {nearest}")


@contextmanager
def default_interrupt() -> Iterator[None]:
    """Ctrl-C, and what ends a program like it, end the process immediately: Python's handler would not run while torch waits for
    other processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    like_it = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.default_int_handler}
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in like_it | {signal.SIGINT}}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def is_remote(error: RuntimeError) -> bool:
    """Whether torch raised this error because another process ended or does not answer."""
    text = str(error)
    from_gloo = re.search(r"[/\\]gloo[/\\]", text) is not None and "enforce fail" not in text
    return from_gloo or isinstance(error, dist.DistError)


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def in_memory_order(tensor: Tensor) -> Tensor:
    """A view with its dimensions in the order of memory, which is four times faster to copy."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 and not tensor.is_contiguous() else tensor


def buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, in groups of about BUCKET values."""
    group: list[Tensor] = []
    for tensor in tensors:
        if group and sum(member.numel() for member in group) + tensor.numel() > BUCKET:
            yield group
            group = []
        group.append(tensor)
    if group:
        yield group

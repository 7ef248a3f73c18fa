"""Training in several processes: who they are, what they exchange, and what is said when one of them is gone.

Every process holds the whole game and takes its share of each batch; gradients are averaged before the step, so all weights stay
equal. The exchange is torch.distributed's: gloo between CPUs, NCCL between CUDA devices. Every process must ask for the same
exchanges in the same order. A process alone exchanges nothing and starts nothing. How a turn is taken is `turns`'.
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
"""What torchrun, or whoever starts the processes, says to each: its number, how many, its number on this machine, where to meet."""

LAUNCHER = "LEAFWING_LAUNCHER"
"""The variable with the process id of `leafwing --devices`, for the processes that it starts."""

BUCKET = 1 << 20
"""So many numbers (4 MiB) are exchanged at a time."""

DAY = 86_400.0  # seconds
MEETINGS = count()


class Processes:
    """The processes of one training, seen from one of them.

    Args:
        rank: the number of this process, from 0; process 0 writes and prints.
        world: how many there are.
        local: the number of this process on its machine, which is that of its CUDA device.
        timeout: seconds after which a process that does not answer is given up.
    """

    def __init__(self, rank: int = 0, world: int = 1, local: int = 0, timeout: float = 600.0) -> None:
        self.rank, self.world, self.local, self.timeout = rank, world, local, timeout
        self._launcher = int(os.environ.get(LAUNCHER, 0)) if world > 1 else 0
        self._beside: dist.ProcessGroup | None = None  # agreements travel apart, so that they wait for nothing else
        self._asked: tuple[dist.Work, Tensor] | None = None

    @classmethod
    def join(cls, timeout: float = 600.0) -> Processes:
        """Meet the other processes that torchrun, or `leafwing --devices`, started; alone if nobody said that there are any.

        Args:
            timeout: seconds to wait for them here, and for any answer later. A process that ends is noticed at once; this is for
                a machine that lost its power or its network.

        Raises:
            LeafwingError: some of the variables are missing or wrong, or the others did not come.
        """
        given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
        if not given.keys() & {"RANK", "WORLD_SIZE", "LOCAL_RANK"}:
            return cls(timeout=timeout)
        if missing := [name for name in VARIABLES if name not in given]:
            raise LeafwingError(
                f"{' and '.join(given)} say that there are several processes, but {' and '.join(missing)} is not set: "
                "start them with torchrun, which sets all of them, or unset all of them"
            )
        try:
            rank, world, local, port = (int(given[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
        except ValueError as error:
            raise LeafwingError(f"RANK, WORLD_SIZE, LOCAL_RANK and MASTER_PORT must be whole numbers: {error}") from None
        if not (0 <= rank < world and 0 <= local <= rank):
            raise LeafwingError(
                f"RANK={rank} WORLD_SIZE={world} LOCAL_RANK={local}: processes count from 0 to WORLD_SIZE - 1"
            )
        joined = cls(rank, world, local, timeout)
        if world == 1:
            return joined
        if not dist.is_available():
            raise LeafwingError("this build of torch has no torch.distributed: train with one process")
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        limit = timedelta(seconds=timeout)
        try:
            with ending_at_once():
                store, _, _ = next(rendezvous("env://", timeout=limit))
                # A name for each meeting: torchrun's store still holds the addresses of the last one.
                store = PrefixStore(f"leafwing-{next(MEETINGS)}", store)
                backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
                dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
                joined._beside = dist.new_group(backend="gloo", timeout=limit)
        except (RuntimeError, ValueError, OSError) as error:
            joined.leave(failed=True)
            where = f"{given['MASTER_ADDR']}, port {port}"
            raise LeafwingError(
                f"process {rank} of {world} could not meet the others at {where}: {first_line(error)}"
            ) from error
        return joined

    def leave(self, failed: bool = False) -> None:
        """Part from the others: in order, or at once after a failure, which they then notice."""
        asked, self._asked, self._beside = self._asked, None, None
        if self.world == 1 or not dist.is_initialized():
            return
        try:
            if asked and not failed:
                asked[0].wait()
        except RuntimeError:  # another one is gone, but all that was to be done is done
            failed = True
        if failed:
            # Left to itself, torch often ends a process that lost another one with SIGABRT.
            dist.distributed_c10d._abort_process_group()
        else:
            dist.destroy_process_group()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave(failed=kind is not None)

    # --- who does what -------------------------------------------------------------------------------------------------

    @property
    def first(self) -> bool:
        """Whether this is process 0, which alone writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process: `cuda` becomes `cuda:1` in the second process of a machine, and torch's current one.

        Raises:
            LeafwingError: the machine has fewer CUDA devices than processes, or the device cannot exchange.
        """
        if self.world == 1 or name == "cpu":
            return name
        if name.partition(":")[0] != "cuda":
            raise LeafwingError(f"several processes train on cpu or cuda, not on {name}")
        if self.local >= torch.cuda.device_count():
            has = torch.cuda.device_count()
            raise LeafwingError(
                f"process {self.rank} has no CUDA device: this machine has {has}, start as many processes on it"
            )
        torch.cuda.set_device(self.local)
        return f"cuda:{self.local}"

    def share(self, n: int) -> slice:
        """This process's rows of a batch of n.

        Raises:
            LeafwingError: n cannot be divided by the number of processes.
        """
        if n % self.world:
            near = max(1, round(n / self.world)) * self.world
            raise LeafwingError(f"a batch of {n} cannot be shared by {self.world} processes: choose --batch {near}")
        own = n // self.world
        return slice(self.rank * own, (self.rank + 1) * own)

    @contextmanager
    def first_on_machine(self) -> Iterator[None]:
        """What is done inside is done by one process of each machine first, then by the others, which find a filled cache."""
        if self.local:
            self.barrier(DAY)
        yield
        if not self.local:
            self.barrier(DAY)

    # --- exchanges -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor | None]) -> None:
        """Put in each tensor's place its mean over all processes, summed in fp32 at least.

        Args:
            tensors: of any shapes; None is passed over. Shapes, layouts, order and Nones are the same in every process.
        """
        if self.world == 1:
            return
        sent = []
        for bucket in buckets([lying(tensor) for tensor in tensors if tensor is not None]):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
            sent.append((dist.all_reduce(flat, async_op=True), flat, bucket))
        for work, flat, bucket in sent:
            work.wait()
            parts = flat.div_(self.world).split([tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])

    def agree(self, number: int) -> int:
        """The largest number that any process gave at the last call, 0 at the first; alone, the number itself.

        Every process gets the same answer at the same call, and hardly waits: the numbers travel while the next round is played.
        """
        if self._launcher and os.getppid() != self._launcher:
            self._launcher = 0
            signal.raise_signal(signal.SIGTERM)  # who would have passed on Ctrl-C is gone
        if self.world == 1:
            return int(number)
        asked, answer = self._asked, torch.tensor([int(number)], dtype=torch.int32)
        if asked:
            asked[0].wait()
        work = dist.all_reduce(answer, dist.ReduceOp.MAX, group=self._beside, async_op=True)
        self._asked = (work, answer)
        return int(asked[1]) if asked else 0

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes joined along the first dimension, in which they may differ, in the processes' order."""
        if self.world == 1:
            return tensor
        lengths = [torch.zeros((), dtype=torch.int64, device=tensor.device) for _ in range(self.world)]
        dist.all_gather(lengths, torch.tensor(len(tensor), device=tensor.device))
        longest = int(max(lengths))
        padded = tensor.new_zeros(longest, *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        found = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(found, padded)
        return torch.cat([part[: int(length)] for part, length in zip(found, lengths, strict=True)])

    def tell(self, plain: Any) -> Any:
        """What process 0 gives, in every process: anything that JSON can hold; what the others give is not looked at."""
        if self.world == 1:
            return plain
        words = torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8)
        length = torch.tensor([len(words)])
        dist.broadcast(length, 0)
        if not self.first:
            words = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(words, 0)
        return json.loads(words.numpy().tobytes())

    def barrier(self, timeout: float | None = None) -> None:
        """Wait until every process is here; for so many seconds, if another limit than the usual one is wanted."""
        if self._beside is not None:
            options = dist.BarrierOptions()
            options.timeout = timedelta(seconds=self.timeout if timeout is None else timeout)
            self._beside.barrier(options).wait()

    @contextmanager
    def others_alive(self, advice: str = "") -> Iterator[None]:
        """Turns torch's errors about another process inside into ProcessLost, whose message ends with the advice.

        Raises:
            ProcessLost: another process ended, or did not answer in time.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not tells_of_others(error):
                raise
            who = f"process {1 - self.rank} of 2" if self.world == 2 else f"one of the {self.world - 1} other processes"
            what = "does not answer" if "timed out" in str(error).lower() else "(or its machine) is gone"
            raise ProcessLost(f"{who} {what}; this training stops here{advice and '. '}{advice}") from error


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Ctrl-C ends the process inside without a word: torch, waiting for others who may never come, would not hear of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def tells_of_others(error: RuntimeError) -> bool:
    """Whether torch raised this because another process ended or does not answer, and not because of a fault here."""
    text = str(error)
    from_gloo = re.search(r"[/\\]gloo[/\\]", text) is not None and "enforce fail" not in text
    return from_gloo or isinstance(error, dist.DistError)


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def lying(tensor: Tensor) -> Tensor:
    """The tensor with its dimensions in the order of memory: to copy it as it lies costs a quarter."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 and not tensor.is_contiguous() else tensor


def buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, in groups of about BUCKET numbers."""
    group: list[Tensor] = []
    for tensor in tensors:
        if group and sum(one.numel() for one in group) + tensor.numel() > BUCKET:
            yield group
            group = []
        group.append(tensor)
    if group:
        yield group

"""Several processes on this machine, started, watched and ended together. Nothing here imports torch.

torchrun does this too, for several machines as well; but it answers everything with exit code 1 and a page of traceback.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from leafwing.errors import LeafwingError
from leafwing.machine import cores

if TYPE_CHECKING:
    from leafwing.engine.processes import Processes

LAUNCHER = "LEAFWING_LAUNCHER"  # also in engine.processes
LOST, INTERRUPTED = 5, 130
GRACE = 30.0  # seconds: after one process failed, the others find out by themselves and end
HURRY = 5.0  # the same after a second Ctrl-C
LEAFWING = (sys.executable, "-m", "leafwing")


def launch(words: Sequence[str], devices: int, command: Sequence[str] = LEAFWING) -> int:
    """Run a command line in several processes of this machine, each with its share of the work, and wait for all.

    Process 0 reads and prints as if it were alone. What the others print is kept, and shown if one of them is the first to fail.
    Ctrl-C, SIGTERM and SIGHUP are passed on, once each. When a process fails, the others have 30 seconds to end.

    Args:
        words: the command line; its `--devices` is left out.
        devices: how many processes.
        command: what is run.

    Returns:
        0 if all went well, else the exit code of the process that failed first of itself: 5 if it was killed.

    Raises:
        LeafwingError: fewer than one process.
    """
    if devices < 1:
        raise LeafwingError(f"--devices {devices}: at least 1 is needed")
    common = environment(devices)
    with ExitStack() as stack:
        outputs: list[IO[bytes] | None] = [None, *(stack.enter_context(TemporaryFile()) for _ in range(devices - 1))]
        children: list[subprocess.Popen[bytes]] = []
        stack.callback(end, children)
        passing = stack.enter_context(Passing(children))
        for rank, output in enumerate(outputs):
            child = subprocess.Popen(
                [*command, *without_devices(words)],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=None if output is None else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
            )
            children.append(child)
        codes = wait(children, passing)
        return judge(codes, outputs)


def environment(devices: int) -> dict[str, str]:
    """What every process is told: as torchrun tells it; to talk over the loopback device alone; its part of the CPU's cores."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {
        **os.environ,
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        LAUNCHER: str(os.getpid()),
    }
    told.setdefault("OMP_NUM_THREADS", str(max(1, cores() // devices)))
    for _, name in socket.if_nameindex() if hasattr(socket, "if_nameindex") else ():
        if name in ("lo", "lo0"):
            told.setdefault("GLOO_SOCKET_IFNAME", name)
    return told


def without_devices(words: Sequence[str]) -> list[str]:
    """The words of a command line but for `--devices N` and `--devices=N`."""
    kept, skip = [], False
    for word in words:
        if not skip and word != "--devices" and not word.startswith("--devices="):
            kept.append(word)
        skip = word == "--devices" and not skip
    return kept


class Passing:
    """While it is entered, what asks this process to stop is passed on to its children.

    Args:
        children: to whom; more may be added.
    """

    NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self, children: list[subprocess.Popen[bytes]]) -> None:
        self.children, self.passed = children, 0

    def __enter__(self) -> Passing:
        self.before = {number: signal.signal(number, self._pass_on) for number in self.NUMBERS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, frame: types.FrameType | None) -> None:
        self.passed += 1
        for child in self.children:
            child.send_signal(number)


def wait(children: Sequence[subprocess.Popen[bytes]], passing: Passing) -> dict[int, int]:
    """Wait until all have ended. Those that stay after another failed, or after a second Ctrl-C, are killed.

    Returns:
        Exit codes by number of the process, in the order in which they ended. An unexpected signal is negative.
    """
    codes: dict[int, int] = {}
    failed = hurried = 0.0
    while len(codes) < len(children):
        time.sleep(0.05)
        now = time.monotonic()
        for rank, child in enumerate(children):
            if rank not in codes and (code := child.poll()) is not None:
                codes[rank] = INTERRUPTED if passing.passed and -code in passing.NUMBERS else code
        if any(code not in (0, INTERRUPTED) for code in codes.values()):
            failed = failed or now
        if passing.passed > 1:
            hurried = hurried or now
        if (failed and now > failed + GRACE) or (hurried and now > hurried + HURRY):
            end(children)
            return codes | {rank: INTERRUPTED if hurried else LOST for rank in range(len(children)) if rank not in codes}
    return codes


def end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill those that still run."""
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()


def judge(codes: dict[int, int], outputs: Sequence[IO[bytes] | None]) -> int:
    """The exit code of all together, and a word about the process that failed first, unless process 0 has said it."""
    failed = [rank for rank, code in codes.items() if code not in (0, LOST, INTERRUPTED)]
    if not failed:
        return next((code for code in (LOST, INTERRUPTED) if code in codes.values()), 0)
    culprit = 0 if codes.get(0) == codes[failed[0]] else failed[0]
    code, name = codes[culprit], f"process {culprit} of {len(outputs)}"
    if output := outputs[culprit]:
        output.seek(0)
        said = output.read().decode(errors="replace").strip().splitlines()[-40:]
        print(*said, sep="\n", file=sys.stderr)
    if code > 0:
        if culprit:
            print(f"leafwing: {name} ended with exit code {code}", file=sys.stderr)
        return code
    why = ", as it is when memory runs out" if -code == getattr(signal, "SIGKILL", 0) else ""
    print(f"leafwing: {name} was ended by {signal.Signals(-code).name}{why}", file=sys.stderr)
    return LOST


@contextmanager
def together(advice: str) -> Iterator[Processes]:
    """The processes of this training: those that torchrun or `--devices` started, or this one alone.

    Raises:
        ProcessLost: another one ended.
    """
    import torch

    from leafwing.engine.processes import Processes

    threads = torch.get_num_threads()
    try:
        with Processes.join() as processes, processes.detect_lost(advice):
            yield processes
    finally:
        torch.set_num_threads(threads)  # a training's number of threads is not that of whatever comes after it

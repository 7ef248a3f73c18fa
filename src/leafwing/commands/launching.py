"""Starts several processes on this machine, waits for them and reports failures. Imports torch only inside the processes.

torchrun does the same, also for several machines, but turns every error into exit code 1 and a page of traceback.
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

from leafwing.commands import stop_signals
from leafwing.errors import INTERRUPTED, LOST, InvalidOption, death_signal
from leafwing.machine import cores

if TYPE_CHECKING:
    from leafwing.engine.processes import Processes

LAUNCHER = "LEAFWING_LAUNCHER"  # also in engine.processes
GRACE = 30.0  # seconds in which the other processes notice a failure and exit by themselves
SHORT_GRACE = 5.0  # the same after a second Ctrl-C
PYTHON = (sys.executable, "-P", "-m")
"""Runs a module without the Python files in the current folder, which `-m` alone would take for modules of the same names."""
LEAFWING = (*PYTHON, "leafwing")


def launch(words: Sequence[str], devices: int, command: Sequence[str] = LEAFWING) -> int:
    """Runs a command line in several processes on this machine that share the work, and waits for all of them.

    Process 0 uses the terminal as a single process would. The output of the others is captured, and printed only for the first one to
    fail. Signals that stop a training are forwarded to all. When a process fails, the others have 30 seconds to exit.

    Args:
        words: the command line; its `--devices` is removed.
        devices: number of processes.
        command: the program.

    Returns:
        0 on success, else the exit code of the process that failed first; 5 if it was killed.

    Raises:
        LeafwingError: fewer than one process.
    """
    if devices < 1:
        raise InvalidOption("devices", devices, "must be at least 1")
    common = environment(devices)
    with ExitStack() as stack:
        outputs: list[IO[bytes] | None] = [None, *(stack.enter_context(TemporaryFile()) for _ in range(devices - 1))]
        children: list[subprocess.Popen[bytes]] = []
        stack.callback(kill_all, children)
        signals = stack.enter_context(ForwardSignals(children))
        for rank, output in enumerate(outputs):
            child = subprocess.Popen(
                [*command, *without_devices(words)],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=None if output is None else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only this process, which forwards it
            )
            children.append(child)
        return exit_code(wait(children, signals), outputs)


def environment(devices: int) -> dict[str, str]:
    """The environment of every process: torchrun's variables, the loopback network only, and its share of the CPU cores."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        **os.environ,
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if os.name != "nt":  # there, the parent of a process in a virtual environment is another one
        variables[LAUNCHER] = str(os.getpid())
    variables.setdefault("OMP_NUM_THREADS", str(max(1, cores() // devices)))
    for _, name in socket.if_nameindex() if hasattr(socket, "if_nameindex") else ():
        if name in ("lo", "lo0"):
            variables.setdefault("GLOO_SOCKET_IFNAME", name)
    return variables


def without_devices(words: Sequence[str]) -> list[str]:
    """A command line without `--devices N` or `--devices=N`."""
    others, skip = [], False
    for word in words:
        if not skip and word != "--devices" and not word.startswith("--devices="):
            others.append(word)
        skip = word == "--devices" and not skip
    return others


class ForwardSignals:
    """A context in which signals that would stop this process are forwarded to its children instead.

    Args:
        children: the child processes; more may be added later.
    """

    def __init__(self, children: list[subprocess.Popen[bytes]]) -> None:
        self.children, self.count = children, 0

    def __enter__(self) -> ForwardSignals:
        self.previous = {number: signal.signal(number, self._forward) for number in stop_signals.numbers()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _forward(self, number: int, frame: types.FrameType | None) -> None:
        if self.count and number not in stop_signals.URGENT:
            return
        self.count += 1
        for child in [*self.children]:  # other threads may remove those that have ended
            stop_signals.send(child, number)


def wait(children: Sequence[subprocess.Popen[bytes]], signals: ForwardSignals) -> dict[int, int]:
    """Waits until all processes have exited; kills those that do not exit after a failure or a second Ctrl-C.

    Returns:
        Exit codes by rank, in the order in which the processes exited; negative for an unexpected signal.
    """
    codes: dict[int, int] = {}
    failed = interrupted_twice = 0.0
    while len(codes) < len(children):
        time.sleep(0.05)
        now = time.monotonic()
        for rank, child in enumerate(children):
            if rank not in codes and (code := child.poll()) is not None:
                codes[rank] = INTERRUPTED if signals.count and -code in signals.previous else code
        if any(code not in (0, INTERRUPTED) for code in codes.values()):
            failed = failed or now
        if signals.count > 1:
            interrupted_twice = interrupted_twice or now
        if (failed and now > failed + GRACE) or (interrupted_twice and now > interrupted_twice + SHORT_GRACE):
            kill_all(children)
            code = INTERRUPTED if interrupted_twice else LOST
            return codes | {rank: code for rank in range(len(children)) if rank not in codes}
    return codes


def kill_all(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kills the processes that are still running."""
    for child in [*children]:
        if child.poll() is None:
            child.kill()
            child.wait()


def exit_code(codes: dict[int, int], outputs: Sequence[IO[bytes] | None]) -> int:
    """The exit code of the whole command; prints a message about the process that failed first, unless process 0 has done so."""
    failures = [rank for rank, code in codes.items() if code not in (0, LOST, INTERRUPTED)]
    if not failures:
        return next((code for code in (LOST, INTERRUPTED) if code in codes.values()), 0)
    rank = 0 if codes.get(0) == codes[failures[0]] else failures[0]
    code, name = codes[rank], f"process {rank} of {len(outputs)}"
    if output := outputs[rank]:
        output.seek(0)
        print(*output.read().decode(errors="replace").strip().splitlines()[-40:], sep="\n", file=sys.stderr)
    if code > 0:
        if rank:
            print(f"leafwing: {name} exited with code {code}", file=sys.stderr)
        return code
    print(f"leafwing: {name} was killed by {death_signal(code)}", file=sys.stderr)
    return LOST


@contextmanager
def join_processes(advice: str) -> Iterator[Processes]:
    """Joins the processes that torchrun or `--devices` started; a single process is alone.

    Args:
        advice: what the user can do when another process is lost; part of the error message.

    Raises:
        ProcessLost: another process exited or does not respond.
    """
    from leafwing.engine import isolated
    from leafwing.engine.processes import Processes

    with isolated(), Processes.join() as processes, processes.detect_lost(advice):
        yield processes

"""Child processes for `leafwing compare` that start at once: forked from a process with torch loaded, or none at all."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing import connection
from pathlib import Path
from typing import IO, Any

from kills import children
from leafwing.commands.comparison import child
from leafwing.runs import Run

Answer = tuple[int, str, str]
"""Exit code, standard output and standard error of a child process."""


def wait_at_checkpoints() -> None:
    """Lets trainings of this process go on after a checkpoint only when a signal has arrived, or after some minutes."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    save = Run.save_checkpoint

    def save_and_wait(*values: Any, **named: Any) -> None:
        save(*values, **named)
        select.select([reader], [], [], 200)

    Run.save_checkpoint = save_and_wait  # type: ignore[method-assign]


def run_child(request: str, environment: dict[str, str], output: str, log: str, waits: bool) -> None:
    """The child program, in a process that was forked with torch loaded."""
    import torch

    os.environ |= environment
    torch.set_num_threads(1)
    for number, path in ((1, output), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if waits:
        wait_at_checkpoints()
    code = child.main(request)
    sys.stdout.flush()
    os._exit(code)


class Forked:
    """A forked child process, with the methods of `workers.Child`."""

    lock = threading.Lock()
    """One for all: of two threads that poll a process at the same time, one would get 255, and starting a process polls all others."""

    def __init__(
        self,
        request: Mapping[str, Any],
        slot: Mapping[str, str],
        output: IO[bytes],
        log: IO[bytes],
        path: Path,
        waits: bool,
    ) -> None:
        self.files = {output: path.with_suffix(".out"), log: path.with_suffix(".err")}
        arguments = (json.dumps(request), {**os.environ, **slot}, *map(str, self.files.values()), waits)
        self.process = children().Process(target=run_child, args=arguments)
        with self.lock:
            self.process.start()

    def wait(self) -> int:
        connection.wait([self.process.sentinel])
        code = self.poll()
        for file, path in self.files.items():
            file.write(path.read_bytes() if path.exists() else b"")
        assert code is not None
        return code

    def poll(self) -> int | None:
        with self.lock:
            return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.process.pid or 0, number)

    def kill(self) -> None:
        self.process.kill()


class Ended:
    """A child process that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def wait(self) -> int:
        return self.code

    poll = wait

    def send_signal(self, number: int) -> None: ...


def measured(speeds: Mapping[str, float], evaluation: float = 1e-6) -> Answer:
    """The answer of a measurement: images per second by recipe, and seconds per sample."""
    training = {name: [value] for name, value in speeds.items()}
    result = {"training": training, "evaluation": dict.fromkeys(speeds, evaluation), "seconds": 0.0, "load": 1.0}
    return 0, json.dumps(result), ""


class FakeWorkers:
    """Replaces `workers.start`: records each request, and starts a forked process or answers without one.

    Speeds are not measured, which takes seconds; see `measured`.

    Args:
        folder: for the output of the processes.
        answer: request -> answer; None: start a process.

    While `waits` is set, trainings wait for a signal at each checkpoint; see `wait_at_checkpoints`.
    """

    waits = False

    def __init__(self, folder: Path, answer: Callable[[Mapping[str, Any]], Answer | None] = lambda request: None) -> None:
        self.folder, self.answer, self.requests = folder, answer, list[Mapping[str, Any]]()

    def __call__(self, request: Mapping[str, Any], slot: Mapping[str, str], output: IO[bytes], log: IO[bytes]) -> Any:
        self.requests.append(request)
        answer = self.answer(request)
        if answer is None and request["call"] == "speed":
            answer = measured(dict.fromkeys(request["arguments"]["recipes"], 1_000.0))
        if answer is None:
            return Forked(request, slot, output, log, self.folder / f"child{len(self.requests)}", self.waits)
        code, result, messages = answer
        output.write(result.encode())
        log.write(messages.encode())
        return Ended(code)

    def arguments(self, call: str) -> list[Mapping[str, Any]]:
        """The arguments of all requests of a call."""
        return [request["arguments"] for request in self.requests if request["call"] == call]

    def calls(self) -> list[str]:
        """The names of all calls, sorted."""
        return sorted(request["call"] for request in self.requests)

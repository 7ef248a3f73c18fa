"""Children for `leafwing compare` that start at once, because they are forked from a process that has torch loaded, or need none."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing import connection
from pathlib import Path
from typing import IO, Any

from kills import children
from leafwing.commands.comparison import child


def play(request: str, environment: dict[str, str], output: str, log: str) -> None:
    """The call of a request, in a process that was forked with torch loaded."""
    import torch

    os.environ |= environment
    torch.set_num_threads(1)
    for number, path in ((1, output), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = child.main(request)
    sys.stdout.flush()
    os._exit(code)


class Forked:
    """What `workers.start` gives, for a process that starts at once because torch is loaded in its parent."""

    def __init__(
        self, request: Mapping[str, Any], slot: Mapping[str, str], output: IO[bytes], log: IO[bytes], place: Path
    ) -> None:
        self.files = {output: place.with_suffix(".out"), log: place.with_suffix(".err")}
        given = (json.dumps(request), {**os.environ, **slot}, *map(str, self.files.values()))
        self.process = children().Process(target=play, args=given)
        self.process.start()
        self.asking = threading.Lock()  # of two threads that ask at once for the exit code, one is told 255

    def wait(self) -> int:
        connection.wait([self.process.sentinel])
        code = self.poll()
        for file, path in self.files.items():
            file.write(path.read_bytes() if path.exists() else b"")
        assert code is not None
        return code

    def poll(self) -> int | None:
        with self.asking:
            return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.process.pid or 0, number)

    def kill(self) -> None:
        self.process.kill()


class Crew:
    """Starts children: each request is recorded, and may be answered without a process.

    Args:
        folder: for their output.
        answers: request -> exit code, output and log of a child that is not started; None to start it.
    """

    def __init__(self, folder: Path, answers: Callable[[Mapping[str, Any]], tuple[int, str, str] | None]) -> None:
        self.folder, self.answers, self.calls = folder, answers, list[Mapping[str, Any]]()

    def __call__(self, request: Mapping[str, Any], slot: Mapping[str, str], output: IO[bytes], log: IO[bytes]) -> Any:
        self.calls.append(request)
        if (answer := self.answers(request)) is None:
            return Forked(request, slot, output, log, self.folder / f"child{len(self.calls)}")
        code, result, messages = answer
        output.write(result.encode())
        log.write(messages.encode())
        return Ready(code)

    def verbs(self) -> list[str]:
        return sorted(request["call"] for request in self.calls)


class Ready:
    """A child that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def wait(self) -> int:
        return self.code

    poll = wait

    def send_signal(self, number: int) -> None: ...

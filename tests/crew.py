"""Children for `leafwing compare` that start at once, because they are forked from a process that has torch loaded, or need none."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import IO, Any

from kills import children
from leafwing import cli


def play(words: list[str], environment: dict[str, str], output: str, log: str) -> None:
    """`leafwing` with these words, in a process that was forked with torch loaded."""
    import torch

    os.environ |= environment
    torch.set_num_threads(1)
    for number, path in ((1, output), (2, log)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    code = cli.run(words)
    sys.stdout.flush()
    os._exit(code)


class Forked:
    """What `side_by_side.start` gives, for a process that starts at once because torch is loaded in its parent."""

    def __init__(
        self, words: Sequence[str], slot: Mapping[str, str], output: IO[bytes], log: IO[bytes], place: Path
    ) -> None:
        self.files = {output: place.with_suffix(".out"), log: place.with_suffix(".err")}
        given = (list(words), {**os.environ, **slot}, *map(str, self.files.values()))
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
    """Starts children: each call is written down, and may be answered without a process.

    Args:
        folder: for what they say.
        answers: (words) -> exit code, output and log of a child that is not started; None to start it.
    """

    def __init__(self, folder: Path, answers: Callable[[Sequence[str]], tuple[int, str, str] | None]) -> None:
        self.folder, self.answers, self.calls = folder, answers, list[list[str]]()

    def __call__(self, words: Sequence[str], slot: Mapping[str, str], output: IO[bytes], log: IO[bytes]) -> Any:
        self.calls.append(list(words))
        if (answer := self.answers(words)) is None:
            return Forked(words, slot, output, log, self.folder / f"child{len(self.calls)}")
        code, said, told = answer
        output.write(said.encode())
        log.write(told.encode())
        return Ready(code)

    def verbs(self) -> list[str]:
        return sorted(words[0] for words in self.calls)


class Ready:
    """A child that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def wait(self) -> int:
        return self.code

    poll = wait

    def send_signal(self, number: int) -> None: ...

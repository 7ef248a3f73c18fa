"""Child processes side by side, one in each slot of the machine, watched and stopped together. Nothing here imports torch."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile
from typing import IO, Any

from leafwing import files
from leafwing.commands.launching import HURRY, Passing, end


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Args:
        code: its exit code.
        output: its standard output.
        said: the last thing it said on standard error.
        processor: seconds of processor time that it used from its start to its end; None where the system does not say.
    """

    code: int
    output: str
    said: str
    processor: float | None = None


class Stopped(Exception):
    """Nobody is to begin anything any more.

    Args:
        processor: seconds that a child used which was stopped; None where that is unknown, 0 where none had begun.
    """

    def __init__(self, processor: float | None = 0.0) -> None:
        super().__init__(processor)
        self.processor = processor


class Child(subprocess.Popen[bytes]):
    """A child process that leaves behind how much processor time it used: `processor`, in seconds, None before its end.

    `os.wait4` tells that of one child, however many run side by side. Whoever asks first for the exit code is told it, so all ask
    here, one at a time. Where there is no `wait4` (Windows) it stays None.
    """

    PAUSE = 0.02  # seconds between two looks

    def __init__(self, words: Sequence[str], **how: Any) -> None:
        self.processor: float | None = None
        self.asking = threading.RLock()  # a signal's handler asks in the middle of a question
        super().__init__(words, **how)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if not hasattr(os, "wait4"):
            return super().poll()
        with self.asking:
            if self.returncode is None:
                try:
                    pid, status, usage = os.wait4(self.pid, os.WNOHANG)
                except ChildProcessError:  # the question that was interrupted has the answer
                    return None
                if pid:
                    self.processor = usage.ru_utime + usage.ru_stime
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended."""
        if not hasattr(os, "wait4"):
            return super().wait(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(self.PAUSE)
        return code


Call = Callable[[str, Mapping[str, Any], Path], Ended]
"""Makes a call in a child process and waits for its end: the name of a call in `child.CALLS`, its arguments, the log file."""
CHILD = (sys.executable, "-m", "leafwing.commands.comparison.child")


def start(request: Mapping[str, Any], environment: Mapping[str, str], output: IO[bytes], log: IO[bytes]) -> Child:
    """A child process that makes a call.

    Args:
        request: `call` and `arguments`; see `child`.
        environment: variables in addition to those of this process.
        output: standard output of the child.
        log: standard error of the child.
    """
    with TemporaryFile() as document:
        document.write(json.dumps(request).encode())
        document.seek(0)
        return Child(
            CHILD,
            env={**os.environ, **environment},
            stdin=document,
            stdout=output,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches only this process, which passes it on
        )


class SideBySide:
    """Works through a list with a child process in each slot.

    The first Ctrl-C, SIGTERM or SIGHUP is passed on, so that trainings end with a checkpoint; nothing new begins. A second one ends
    everything at once.

    Args:
        slots: what each slot adds to its children's environment.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]]) -> None:
        self.slots = slots
        self.children: list[subprocess.Popen[bytes]] = []
        self.passing = Passing(self.children)
        self.broken = False
        self.free: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for slot in slots:
            self.free.put(slot)

    def stopping(self) -> bool:
        """Whether nothing new may begin."""
        return self.broken or self.passing.passed > 0

    def work(self, tasks: Sequence[Callable[[Call], None]], watch: Callable[[], None] = lambda: None) -> None:
        """Do every task, as many at a time as there are slots.

        Args:
            tasks: each is given `Call`, which raises `Stopped` when it is time to stop.
            watch: called about every half second.

        Raises:
            KeyboardInterrupt: somebody asked to stop.
            Exception: what a task raised; the others are stopped first.
        """
        main = threading.current_thread() is threading.main_thread()
        error: BaseException | None = None
        hurried = 0.0
        with self.passing if main else nullcontext(), ThreadPoolExecutor(len(self.slots)) as threads:
            waiting: set[Future[None]] = {threads.submit(self._do, task) for task in tasks}
            while waiting:
                done, waiting = wait(waiting, 0.5, FIRST_EXCEPTION)
                for problem in (one.exception() for one in done):
                    if problem and not isinstance(problem, Stopped) and error is None:
                        error = problem
                if self.passing.passed > 1:
                    hurried = hurried or time.monotonic()
                if hurried and time.monotonic() > hurried + HURRY:
                    end(self.children)
                watch()
        if error:
            raise error
        if self.passing.passed:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Nothing new begins, and what runs is asked to end."""
        self.broken = True
        for child in self.children:
            child.send_signal(signal.SIGINT)

    def _do(self, task: Callable[[Call], None]) -> None:
        slot = self.free.get()
        try:
            task(lambda name, arguments, log: self._call(name, arguments, log, slot))
        except Stopped:
            raise
        except BaseException:
            self.stop()  # at once, before this thread takes the next task
            raise
        finally:
            self.free.put(slot)

    def _call(self, name: str, arguments: Mapping[str, Any], log: Path, slot: Mapping[str, str]) -> Ended:
        if self.stopping():
            raise Stopped
        request = {"call": name, "arguments": arguments}
        with TemporaryFile() as output, files.storage(str(log)), log.open("a+b") as messages:
            before = messages.tell()
            command = f"$ echo {shlex.quote(json.dumps(request))} | {shlex.join(['python', *CHILD[1:]])}\n"
            messages.write(command.encode())
            messages.flush()
            child = start(request, slot, output, messages)
            self.children.append(child)
            if self.stopping():  # requested between the check above and now
                child.send_signal(signal.SIGINT)
            code = child.wait()
            self.children.remove(child)
            output.seek(0)
            messages.seek(before)
            text = messages.read().decode(errors="replace")
            used: float | None = getattr(child, "processor", None)
            if self.stopping() and code != 0:
                raise Stopped(used)
            return Ended(code, output.read().decode(errors="replace"), last_words(text, code), used)


def last_words(said: str, code: int) -> str:
    """What a process that failed said in the end, in one line."""
    if code < 0:
        why = ", as it is when memory runs out" if -code == getattr(signal, "SIGKILL", 0) else ""
        return f"was ended by {signal.Signals(-code).name}{why}"
    lines = [line.strip() for line in said.splitlines()[1:] if line.strip()]
    own = [line.removeprefix("leafwing: ") for line in lines if line.startswith("leafwing: ")]
    return (own or lines or [f"ended with exit code {code}"])[-1]


def available_memory() -> int | None:
    """Bytes that programs can still have on this machine, or in its control group; None where nothing tells."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        there = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return None
    try:
        most = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        parts = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines())
        return there if most == "max" else min(there, max(0, int(most) - int(parts["anon"])))
    except (OSError, ValueError, KeyError):
        return there

"""Parallel child processes, one in each slot of the machine. Nothing here imports torch."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
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
from leafwing.commands import stop_signals
from leafwing.commands.launching import PYTHON, SHORT_GRACE, ForwardSignals, kill_all
from leafwing.errors import death_signal


@dataclass(frozen=True)
class Outcome:
    """How a child process ended.

    Args:
        code: its exit code; negative: the signal that ended it.
        output: its standard output.
        message: the last message on its standard error.
        processor: CPU time from its start to its end, in seconds; None if unknown.
    """

    code: int
    output: str
    message: str
    processor: float | None = None


class Stopped(Exception):
    """Raised in a task instead of starting a child process, or after one was interrupted, when all work is to stop.

    Args:
        processor: CPU time of the interrupted child in seconds; None if unknown, 0 without one.
    """

    def __init__(self, processor: float | None = 0.0) -> None:
        super().__init__(processor)
        self.processor = processor


class Child(subprocess.Popen[bytes]):
    """A child process with its CPU time: `processor`, in seconds; None before its end, and where unsupported (Windows).

    `os.wait4` reports the time of a single child, but only to the first caller. So all calls go through `poll`, one at a time.
    """

    PAUSE = 0.02  # seconds between two polls

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        self.processor: float | None = None
        self.lock = threading.RLock()  # reentrant, because a signal handler may poll during a poll
        super().__init__(words, **options)

    def poll(self) -> int | None:
        """The exit code; None while it is running."""
        if not hasattr(os, "wait4"):
            return super().poll()
        with self.lock:
            if self.returncode is None:
                try:
                    pid, status, usage = os.wait4(self.pid, os.WNOHANG)
                except ChildProcessError:  # the interrupted poll has the result
                    return None
                if pid:
                    self.processor = usage.ru_utime + usage.ru_stime
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end and returns the exit code."""
        if not hasattr(os, "wait4"):
            return super().wait(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(self.PAUSE)
        return code


RunChild = Callable[[str, Mapping[str, Any], Path], Outcome]
"""Makes a call in a child process and waits for its end: the name of a call in `child.CALLS`, its arguments, the log file."""
CHILD = (*PYTHON, "leafwing.commands.comparison.child")


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


class Workers:
    """Runs tasks in parallel, one in each slot of the machine; tasks make calls in child processes.

    The first Ctrl-C, or another signal that stops trainings, is passed on to the child processes, so that runs end with a
    checkpoint, and nothing new starts. A second one kills them.

    Args:
        slots: the environment variables that each slot adds to those of this process.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]]) -> None:
        self.slots = slots
        self.children: list[subprocess.Popen[bytes]] = []
        self.signals = ForwardSignals(self.children)
        self.has_failed = False
        self.free_slots: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for slot in slots:
            self.free_slots.put(slot)

    def is_stopping(self) -> bool:
        """Whether nothing new may start."""
        return self.has_failed or self.signals.count > 0

    def run(self, tasks: Sequence[Callable[[RunChild], None]], update: Callable[[], None] = lambda: None) -> None:
        """Runs all tasks, as many at a time as there are slots.

        Args:
            tasks: each takes a `RunChild`, which raises `Stopped` when all work is to stop.
            update: called about every half second.

        Raises:
            KeyboardInterrupt: after a signal.
            Exception: the first exception of a task, after the other tasks were stopped.
        """
        is_main = threading.current_thread() is threading.main_thread()
        error: BaseException | None = None
        hurried_at = 0.0
        with self.signals if is_main else nullcontext(), ThreadPoolExecutor(len(self.slots)) as threads:
            pending: set[Future[None]] = {threads.submit(self._run_task, task) for task in tasks}
            while pending:
                done, pending = wait(pending, 0.5, FIRST_EXCEPTION)
                for problem in (future.exception() for future in done):
                    if problem and not isinstance(problem, Stopped) and error is None:
                        error = problem
                if self.signals.count > 1:
                    hurried_at = hurried_at or time.monotonic()
                if hurried_at and time.monotonic() > hurried_at + SHORT_GRACE:
                    kill_all(self.children)
                try:
                    update()
                except BaseException:
                    self.stop()  # or the pool would run all tasks first
                    raise
        if error:
            raise error
        if self.signals.count:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Starts nothing new, and asks the running child processes to end."""
        self.has_failed = True
        for child in [*self.children]:  # other threads remove those that have ended
            stop_signals.send(child, signal.SIGINT)

    def _run_task(self, task: Callable[[RunChild], None]) -> None:
        slot = self.free_slots.get()
        try:
            task(lambda name, arguments, log: self._call(name, arguments, log, slot))
        except Stopped:
            raise
        except BaseException:
            self.stop()  # at once, before this thread takes the next task
            raise
        finally:
            self.free_slots.put(slot)

    def _call(self, name: str, arguments: Mapping[str, Any], log: Path, slot: Mapping[str, str]) -> Outcome:
        if self.is_stopping():
            raise Stopped
        request = {"call": name, "arguments": arguments}
        with TemporaryFile() as output, files.storage(str(log)), log.open("a+b") as messages:
            before = messages.tell()
            command = f"$ printf %s {shlex.quote(json.dumps(request))} | {shlex.join(['python', *CHILD[1:]])}\n"
            messages.write(command.encode())
            messages.flush()
            child = start(request, slot, output, messages)
            self.children.append(child)
            if self.is_stopping():  # requested between the check above and now
                stop_signals.send(child, signal.SIGINT)
            code = child.wait()
            self.children.remove(child)
            output.seek(0)
            messages.seek(before)
            text = messages.read().decode(errors="replace")
            processor: float | None = getattr(child, "processor", None)
            if self.is_stopping() and code != 0:
                raise Stopped(processor)
            return Outcome(code, output.read().decode(errors="replace"), last_message(text, code), processor)


def last_message(text: str, code: int) -> str:
    """The last message in the log of a process that failed, in one line; `text` starts with the line of its command."""
    if code < 0:
        return f"was ended by {death_signal(code)}"
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    messages = [line.removeprefix("leafwing: ") for line in lines if line.startswith("leafwing: ")]
    return (messages or lines or [f"ended with exit code {code}"])[-1]

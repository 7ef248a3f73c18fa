"""Processes that a test starts end with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Process = TypeVar("Process", bound=subprocess.Popen[Any])


@contextmanager
def ending(process: Process) -> Iterator[Process]:
    """A process that is killed at the end of the block, also of one that fails, unless it has ended before."""
    with process:  # closes its pipes, and waits for its end
        try:
            yield process
        finally:
            process.kill()

"""Errors that are shown to the user.

Every message names the cause (file, option or value) and says what to do. The command line prints the message without a traceback
and exits with `exit_code`; any other exception is a bug and keeps its traceback.
"""

import difflib
import signal
from collections.abc import Iterable

INTERRUPTED, UNHEALTHY, LOST = 130, 3, 5
"""Exit codes: stopped by Ctrl-C, training diverged or was stopped as unhealthy, another process was lost."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The suffix of an error message: `; did you mean x? Available: x, y, z`."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return (f"; did you mean {near[0]}? A" if near else "; a") + f"vailable: {', '.join(names)}"


def death_signal(code: int) -> str:
    """The signal that ended a process with this negative exit code, with its usual reason if there is one."""
    hint = ", as happens when memory runs out" if -code == getattr(signal, "SIGKILL", 0) else ""
    return f"{signal.Signals(-code).name}{hint}"


class LeafwingError(Exception):
    """Invalid input; nothing was written or lost."""

    exit_code = 2


class Diverged(LeafwingError):
    """A loss or weight became NaN or infinite; the last good checkpoint is kept."""

    exit_code = UNHEALTHY


class StorageError(LeafwingError):
    """The disk is full or a folder is not writable; existing files are intact."""

    exit_code = 4


class ProcessLost(LeafwingError):
    """Another process of this training run exited or does not respond; the last checkpoint is kept."""

    exit_code = LOST

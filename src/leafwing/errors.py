"""Errors that are shown to the user.

Every message names the cause (file, option or value) and says what to do. The command line prints the message without a traceback
and exits with `exit_code`; any other exception is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The suffix of an error message: `; did you mean x? there are: x, y, z`."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return (f"; did you mean {near[0]}?" if near else ";") + f" there are: {', '.join(names)}"


class LeafwingError(Exception):
    """Invalid input; nothing was written or lost."""

    exit_code = 2


class Diverged(LeafwingError):
    """A loss or weight became NaN or infinite; the last good checkpoint is kept."""

    exit_code = 3


class StorageError(LeafwingError):
    """The disk is full or a folder is not writable; existing files are intact."""

    exit_code = 4


class ProcessLost(LeafwingError):
    """Another process of this training exited or does not respond; the last checkpoint is kept."""

    exit_code = 5

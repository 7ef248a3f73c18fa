"""The errors that a user is meant to read.

Every message names the culprit (file, option or value) and says what to do. The command line prints the message without a
traceback and leaves with `exit_code`; anything else that escapes is a bug and keeps its traceback.
"""


class LeafwingError(Exception):
    """Bad input: nothing was written, nothing is lost."""

    exit_code = 2


class Diverged(LeafwingError):
    """Training met a cost or a weight that is not a finite number; the last good checkpoint is kept."""

    exit_code = 3


class StorageError(LeafwingError):
    """The disk is full or a folder cannot be written; what was there before is intact."""

    exit_code = 4


class ProcessLost(LeafwingError):
    """Another process of this training ended, or does not answer; the last checkpoint is kept."""

    exit_code = 5

"""Standard streams that outlive their readers."""

from __future__ import annotations

import errno
import os
from typing import Any, TextIO

from leafwing.errors import StorageError, visible

GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EINVAL)
"""What a closed pipe and a lost terminal answer; on Windows the last one."""


class Steady:
    """A text stream that goes nowhere once nobody reads it, because a pipe was closed (`| head`) or the terminal is gone.

    So a long training goes on without output instead of ending with an error in the middle of a round.

    Args:
        stream: the stream.
        escapes: whether control characters are escaped, because the text may come from files.

    Raises:
        StorageError: on writing to a file, if the disk is full.
    """

    def __init__(self, stream: TextIO, *, escapes: bool = False) -> None:
        self.stream, self.escapes = stream, escapes

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        try:
            self.stream.write(visible(text) if self.escapes else text)
        except OSError as error:
            self._discard(error)
        return len(text)

    def flush(self) -> None:
        """Flushes what was written."""
        try:
            self.stream.flush()
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        """Lets what is still buffered, and all that follows, go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        if error.errno not in GONE:
            raise StorageError(f"the output could not be written: {error.strerror}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

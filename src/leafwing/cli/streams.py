"""Standard streams that outlive their readers."""

from __future__ import annotations

import os
from typing import Any, TextIO


class Steady:
    """A text stream that goes nowhere once nobody reads it, because a pipe was closed (`| head`) or the terminal is gone.

    So a long training goes on without output instead of ending with an error in the middle of a round.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        try:
            return self.stream.write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Flushes what was written."""
        try:
            self.stream.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        """Lets what is still buffered, and all that follows, go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

"""Errors that are shown to the user.

Every message names the cause (file, option or value) and says what to do. The command line prints the message without a traceback
and exits with `exit_code`; any other exception is a bug and keeps its traceback.
"""

import difflib
import json
import os
import re
import signal
import unicodedata
from collections.abc import Iterable
from typing import Any

INTERRUPTED, UNHEALTHY, LOST, TIME_IS_UP = 130, 3, 5, 6
"""Exit codes: stopped by Ctrl-C, training diverged or was stopped as unhealthy, another process was lost; and with --or-resume, the
time limit ended training before its last image."""


LONGEST = 100
"""Characters of an array or a list that a message shows."""
PLAIN = (bool, int, float, str, type(None))
"""Types of the attributes of errors that other processes see as they are; others as text."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The suffix of an error message: `; did you mean x? Available: x, y, z`; empty if nothing is known."""
    names = list(known)
    if not names:
        return ""
    near = nearest(word, names)
    return (f"; did you mean {near}? A" if near else "; a") + f"vailable: {', '.join(names)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The name that was probably meant; empty if none is near. The dashes of options do not count, since all have them."""
    names = {name.lstrip("-"): name for name in known}
    return next((names[near] for near in difflib.get_close_matches(word.lstrip("-"), names, n=1, cutoff=0.65)), "")


def death_signal(code: int) -> str:
    """The signal that ended a process with this negative exit code, with its usual reason if there is one."""
    hint = ", as happens when memory runs out" if -code == getattr(signal, "SIGKILL", 0) else ""
    return f"{signal.Signals(-code).name}{hint}"


def visible(text: str, longest: int = 1_000) -> str:
    """Text for a terminal: control characters, also those that change its direction, are escaped as in JSON, except line breaks and
    tabs; words of more characters than `longest`, which few names have, are cut."""
    if len(text) > longest:
        text = re.sub(rf"\S{{{longest + 1},}}", lambda word: f"{word[0][:60]}[{len(word[0]) - 60:,} more characters]", text)
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs" else json.dumps(char)[1:-1]
        for char in text
    )


class LeafwingError(Exception):
    """Invalid input; nothing was written or lost."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(visible(message))

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors go from process to process, as in a pool of workers, although subclasses take other arguments than a message."""
        plain = {name: value if isinstance(value, PLAIN) else visible(str(value)) for name, value in vars(self).items()}
        return _again, (type(self), self.args, plain)

    def for_command_line(self) -> str:
        """The message for a user of the command line; `str` is that for a caller from Python."""
        return str(self)


def _again(kind: type[LeafwingError], args: tuple[Any, ...], attributes: dict[str, Any]) -> LeafwingError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


class InvalidOption(LeafwingError):
    """An invalid value of an option. The message shows both as the user writes them: `--lr-g -1`, or `lr_g=-1` from Python.

    Args:
        name: name of the option in Python.
        value: its value.
        reason: what is wrong, and what to do.
        owner: what has the option, such as `recipe dcgan`; empty: the command itself.
        flag: name of the flag, if it is not that of the option.
    """

    def __init__(self, name: str, value: object, reason: str, *, owner: str = "", flag: str = "") -> None:
        self.name, self.value, self.reason, self.owner, self.flag = name, value, reason, owner, flag or name
        self.shown = visible(str(value), 300)
        if not isinstance(value, str | os.PathLike):
            text = " ".join(self.shown.split())
            self.shown = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        is_plain = isinstance(value, bool | int | float | tuple | list | None)
        super().__init__(f"{self._prefix()}{name}={self.shown if is_plain else repr(self.shown)}: {reason}")

    def _prefix(self) -> str:
        return f"{self.owner}: " if self.owner else ""

    def for_command_line(self) -> str:
        value = self.value if isinstance(self.value, bool) else self.shown
        return visible(f"{self._prefix()}{as_flag(self.flag, value)}: {self.reason}")


def as_flag(name: str, value: object) -> str:
    """An option as it is typed: `--lr-g 1e-4`; one that is on or off as `--mirror` or `--no-mirror`."""
    option = "-n" if name == "n" else f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
    return option if isinstance(value, bool) else f"{option} {value}"


class Diverged(LeafwingError):
    """A loss or weight became NaN or infinite; the last good checkpoint is kept."""

    exit_code = UNHEALTHY


class StorageError(LeafwingError):
    """The disk is full or a folder is not writable; existing files are intact."""

    exit_code = 4


class ProcessLost(LeafwingError):
    """Another process of this training run exited or does not respond; the last checkpoint is kept."""

    exit_code = LOST


def stop_like_ctrl_c() -> None:
    """From now on, SIGTERM, SIGHUP and SIGUSR1 raise KeyboardInterrupt as Ctrl-C does, so that partial files are removed; not where
    something else was arranged, as by `nohup`. For programs: call it in the main thread."""
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)

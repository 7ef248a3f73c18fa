"""The signals that end a training with a checkpoint."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress

URGENT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))
"""Ctrl-C and SIGTERM. If one of them follows an earlier request, the training stops at once. The others may come twice by themselves:
the shell and the kernel both report a closed terminal."""


def numbers() -> list[int]:
    """The numbers of the signals: Ctrl-C, SIGTERM, and where nothing else was arranged, as by `nohup`, SIGHUP (the terminal is gone)
    and SIGUSR1 (which clusters send before the time is up)."""
    others = [getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name)]
    usual = (signal.SIG_DFL, signal.default_int_handler)  # see errors.stop_like_ctrl_c
    return [*URGENT, *(number for number in others if signal.getsignal(number) in usual)]


def send(child: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to a child process. Windows has no Ctrl-C for a single process: there the console passes it to all by itself."""
    with suppress(ValueError):  # "Unsupported signal"
        child.send_signal(number)

"""What ends a training, and what does not: signals, and output that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leafwing.cli.streams import Steady
from leafwing.commands.launching import ForwardSignals
from leafwing.commands.session import stop_signals
from leafwing.runs import Run


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_ask_a_training_to_stop(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stop_signals() as requested:
        os.kill(os.getpid(), number)
        assert requested.wait(5)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_a_closed_terminal_is_ignored_where_the_user_said_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_signals() as requested, ForwardSignals([]) as forwarded:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not requested.wait(0.1)
            assert not forwarded.count
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stream_without_a_reader_goes_nowhere() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        steady = Steady(pipe)
        steady.write("one\n")
        steady.flush()
        assert os.read(reader, 100) == b"one\n"
        os.close(reader)
        for _ in range(2):
            assert steady.write("two\n") == 4
            steady.flush()
    assert steady.closed


def test_a_training_whose_output_nobody_reads_goes_on(tmp_path: Path) -> None:
    words = ["train", "digits", "--recipe", "dcgan", "--size", "16", "--width", "8", "--images", "64", "--threads", "1"]
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run(
        [sys.executable, "-m", "leafwing", *words, "--precision", "fp32", "--out", str(tmp_path / "run")],
        stdout=writer,
        stderr=writer,
        timeout=200,
    )
    os.close(writer)
    assert child.returncode == 0
    assert max(Run(tmp_path / "run").weights()) >= 64

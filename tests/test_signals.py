"""What ends a training, and what does not: signals, and output that nobody reads."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leafwing import cli
from leafwing.cli.streams import Steady
from leafwing.commands import stop_signals
from leafwing.commands.comparison.workers import Workers
from leafwing.commands.launching import ForwardSignals
from leafwing.commands.session import stop_requests
from leafwing.engine.processes import default_interrupt
from leafwing.errors import StorageError, stop_like_ctrl_c
from leafwing.runs import Run


class WindowsChild:
    """A child process as on Windows, where `Popen.send_signal` knows SIGTERM and signals of the console only."""

    def send_signal(self, number: int) -> None:
        raise ValueError(f"Unsupported signal: {number}")


def test_a_signal_that_children_cannot_get_does_not_end_their_parent() -> None:
    signals = ForwardSignals([WindowsChild()])  # type: ignore[list-item]
    signals._forward(signal.SIGINT, None)
    assert signals.count == 1
    workers = Workers([{}])
    workers.children.append(WindowsChild())  # type: ignore[arg-type]
    workers.stop()
    assert workers.is_stopping()


@pytest.fixture(params=["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal with its default reaction, whatever started the tests."""
    if not hasattr(signal, request.param):
        pytest.skip("this system has no such signal")
    wanted: int = getattr(signal, request.param)
    before = {other: signal.getsignal(other) for other in stop_signals.numbers()} | {wanted: signal.getsignal(wanted)}
    signal.signal(wanted, signal.default_int_handler if wanted == signal.SIGINT else signal.SIG_DFL)
    yield wanted
    for other, handler in before.items():
        signal.signal(other, handler)


def test_signals_ask_a_training_to_stop(number: int) -> None:
    before = signal.getsignal(number)
    with stop_requests() as requested:
        os.kill(os.getpid(), number)
        assert requested.wait(5)
        if number in stop_signals.URGENT:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        else:
            os.kill(os.getpid(), number)  # the shell and the kernel both say that the terminal is gone
    assert signal.getsignal(number) is before


def test_a_second_signal_is_urgent_only_from_the_user(number: int) -> None:
    with ForwardSignals([]) as forwarded:
        for _ in range(2):
            os.kill(os.getpid(), number)
        assert forwarded.count == (2 if number in stop_signals.URGENT else 1)


def test_what_others_arranged_for_stays(number: int) -> None:
    if number in stop_signals.URGENT:
        pytest.skip("these always stop a training")
    for arranged in (signal.SIG_IGN, lambda number, frame: None):  # as nohup does; as a program around this one
        signal.signal(number, arranged)
        with stop_requests() as requested, ForwardSignals([]) as forwarded:
            os.kill(os.getpid(), number)
            assert not requested.wait(0.05)
            assert not forwarded.count


def test_other_signals_end_a_command_like_ctrl_c(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before training begins, and in commands that do not train: the exception removes partial files, see test_interrupted.py."""

    def run(words: list[str]) -> int:
        assert number in stop_signals.numbers()  # training still catches it
        with default_interrupt():
            assert signal.getsignal(number) is signal.SIG_DFL  # no handler of Python's runs while torch waits
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        return 7

    monkeypatch.setattr(cli, "run", run)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    with pytest.raises(SystemExit, match="7"):
        cli.main([])


@pytest.mark.parametrize(("word", "policy"), [("walk", "passive"), ("evaluate", "passive"), ("train", "active")])
def test_threads_of_commands_that_do_not_train_do_not_spin(word: str, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where other programs use the cores, they slow each other down."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that it is restored
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(cli, "run", lambda words: os.environ.get("OMP_WAIT_POLICY", "active") != policy)
    monkeypatch.setattr(cli, "stop_like_ctrl_c", lambda: None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    with pytest.raises(SystemExit) as code:
        cli.main([word])
    assert not code.value.code


def test_a_command_under_nohup_outlives_its_terminal(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    stop_like_ctrl_c()
    os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_results_that_cannot_be_written_are_an_error() -> None:
    with open("/dev/full", "w") as full:
        steady = Steady(full)
        with pytest.raises(StorageError, match="No space left"):
            steady.write("x" * 100_000)
        steady.write("nothing more is said")
        steady.flush()
    with open("/dev/full", "w") as full:
        child = subprocess.run([sys.executable, "-m", "leafwing", "recipes"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert child.returncode == StorageError.exit_code
    assert child.stderr.splitlines() == ["leafwing: the output could not be written: No space left on device"]


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
def test_a_command_without_standard_output_ends(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "leafwing", "runs", "--root", str(tmp_path)]
    assert subprocess.run(["sh", "-c", f"{shlex.join(words)} >&-"], timeout=60).returncode == 0


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

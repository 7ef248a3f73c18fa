"""Python and notebooks: progress is shown without being asked for, and results show themselves; without IPython nothing breaks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import leafwing
from leafwing.errors import LeafwingError
from leafwing.progress import ConsoleReporter, NotebookReporter, Reporter, reporter_of

TINY: dict[str, Any] = {"size": 16, "width": 4, "batch": 8, "images": 16, "threads": 1}


class Screen:
    """What a notebook shows below a cell: the content of every display, as last updated."""

    def __init__(self) -> None:
        self.contents: list[dict[str, str]] = []

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        number = len(self.contents)
        self.contents.append(content)

        def update(content: dict[str, str], *, raw: bool) -> None:
            assert raw
            self.contents[number] = content

        return SimpleNamespace(update=update)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A running notebook, whose IPython has only what leafwing uses."""
    screen, ipython, display = Screen(), ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    display.display = screen.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return screen


@pytest.fixture
def no_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock of the display, as a list of one number."""
    now = [1000.0]
    monkeypatch.setattr("leafwing.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now  # type: ignore[return-value]


# --- which display --------------------------------------------------------------------------------------------------------


def test_progress_is_shown_unless_it_is_false(no_ipython: None) -> None:
    assert type(reporter_of(None)) is type(reporter_of(True)) is ConsoleReporter
    assert type(reporter_of(False)) is Reporter
    own = Reporter()
    assert reporter_of(own) is own
    with pytest.raises(LeafwingError, match=r"progress='yes': give True, False or a leafwing\.Reporter"):
        reporter_of("yes")  # type: ignore[arg-type]


def test_a_notebook_is_recognised_and_an_ipython_in_a_terminal_is_none(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(reporter_of(None)) is NotebookReporter
    for shell in (None, SimpleNamespace()):
        monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda shell=shell: shell)
        assert type(reporter_of(None)) is ConsoleReporter


def test_training_and_evaluation_show_their_progress_and_nothing_if_silent(
    no_ipython: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = leafwing.train("digits", "dcgan", out=tmp_path / "run", **TINY)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"run folder: {tmp_path / 'run'}\n")
    assert "16/16 images" in err
    leafwing.evaluate(run.folder, metrics="swd", n=8)
    assert "comparing with the training data" in capfd.readouterr().err
    leafwing.resume(run.folder, images="+8", progress=False)
    leafwing.evaluate(run.folder, metrics="swd", n=8, progress=False)
    assert capfd.readouterr() == ("", "")


# --- bars in notebooks ----------------------------------------------------------------------------------------------------


def test_training_in_a_notebook_is_one_bar_that_is_updated(
    screen: Screen, seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = reporter_of(None)
    with reporter.training(0, 3000, None):
        assert screen.contents[0]["text/plain"] == "0/3,000 images"
        for images in (1000, 2000):
            seconds[0] += 2
            reporter.after_turn(images)
        assert screen.contents[0]["text/plain"] == "2,000/3,000 images  500 images/s  2s left"
        reporter.tick({"images": 3000, "losses": {"D/adversarial": 1.0, "D/penalty": 0.5, "G/adversarial": 0.25}})
    (content,) = screen.contents
    assert content["text/plain"].endswith("D 1.5  G 0.25")
    assert '<progress value="3000" max="3000"' in content["text/html"]
    assert capsys.readouterr() == ("", "")


def test_every_long_operation_in_a_notebook_has_a_bar_with_escaped_text(screen: Screen, seconds: list[float]) -> None:
    reporter = reporter_of(None)
    for what in ("reading <b>", "features"):
        for done in (1, 2):
            seconds[0] += 1
            reporter.report_progress(what, done, 2)
    reporter.report_progress("too short to be seen", 5, 5)
    assert [content["text/plain"] for content in screen.contents] == ["reading <b>: 2 of 2", "features: 2 of 2"]
    assert "reading &lt;b&gt;: 2 of 2" in screen.contents[0]["text/html"]


def test_messages_in_a_notebook_are_plain_output_and_warnings_are_not(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    """Notebooks have a red background for standard error."""
    reporter = reporter_of(None)
    reporter.say("run folder: [bold]a[/bold]")
    reporter.warn("slow")
    assert capsys.readouterr() == ("run folder: [bold]a[/bold]\n", "warning: slow\n")


def test_tables_in_a_notebook_are_text_and_not_displayed(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    from leafwing.tables import align_columns

    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert align_columns([("a", 1), ("long", 2)]) == "a     1\nlong  2"
    assert screen.contents == []

"""What a person sees: plain lines on standard error away from a terminal, nothing on standard output, nothing when silent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from leafwing.progress import Screen, Silent

RECORD = {"images": 1500, "images_per_second": 1234.4, "costs": {"D/adversarial": 1.38629, "G/adversarial": 0.693}}


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafwing.progress.time", SimpleNamespace(monotonic=lambda: 1000.0))  # everything takes no time
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)


class Seconds:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    seconds = Seconds()
    monkeypatch.setattr("leafwing.progress.time", seconds)
    return seconds


def go(shown: Silent, images: int = 1500, total: int = 3000) -> None:
    with shown.training(0, total, None):
        shown.after_turn(images)
        shown.tick({**RECORD, "images": images})


def test_silent_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    shown = Silent()
    shown.say("a line")
    shown.packing(1, 2)
    shown.packing(2, 2)
    go(shown)
    assert capfd.readouterr() == ("", "")


def test_a_line_goes_to_standard_error_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    text = "runs/0001 [bold]not markup[/bold] " + "word " * 60 + "12345 'quoted'"
    Screen().say(text)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == text + "\n"


def test_a_path_with_colons_is_shown_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    Screen().say("run folder: pictures:cat:2")
    assert capfd.readouterr().err == "run folder: pictures:cat:2\n"


def test_training_off_a_terminal_is_told_in_plain_lines(capfd: pytest.CaptureFixture[str], clock: Seconds) -> None:
    shown = Screen()
    with shown.training(0, 3000, None):
        clock.now += 5
        shown.tick({**RECORD, "images": 1000})
        clock.now += 5
        shown.after_turn(1500)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "1.5k/3k images  150 images/s  10s left  D/adversarial 1.39  G/adversarial 0.693\n"
    assert "\x1b" not in err


def test_lines_come_by_the_clock_and_the_last_is_always_told(capfd: pytest.CaptureFixture[str], clock: Seconds) -> None:
    """Every ten seconds at first, whether the log has a line or not; later at longer intervals."""
    shown = Screen()
    with shown.training(0, 10_000, None):
        for images in range(1, 3601):
            clock.now += 1
            shown.after_turn(images)
        shown.tick({**RECORD, "images": 10_000})
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["10/10k", "20/10k", "30/10k"]
    assert 40 < len(lines) < 120
    assert lines[-1].startswith("10k/10k")
    assert "0s left" in lines[-1]


def test_the_time_left_knows_both_limits(capfd: pytest.CaptureFixture[str], clock: Seconds) -> None:
    shown = Screen()
    with shown.training(0, 1_000_000, 120.0):
        clock.now += 10
        shown.after_turn(1_000)
    assert "1m 50s left" in capfd.readouterr().err, "the limit of time comes first"
    shown = Screen()
    with shown.training(500, 1_500, 3600.0):
        clock.now += 10
        shown.after_turn(1_000)
    assert "10s left" in capfd.readouterr().err, "the images are shown first"


def test_reading_pictures_is_told_off_a_terminal_in_whole_lines(capfd: pytest.CaptureFixture[str]) -> None:
    shown = Screen()
    for done in range(1, 6001):
        shown.packing(done, 6000)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["reading images: 1 of 6,000", "reading images: 6,000 of 6,000"]


def test_what_is_over_at_once_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    Screen().packing(10, 10)
    assert capfd.readouterr() == ("", "")


def test_what_is_counted_is_told_by_name_and_not_when_it_is_over_at_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("leafwing.progress.time", SimpleNamespace(monotonic=lambda: clock[0]))
    shown = Screen()
    for what, seconds in (("sampling", 4), ("features", 1)):
        for done in range(1, 6):
            clock[0] += seconds
            shown.report_progress(what, done, 5)
            shown.report_progress(what, done, 5)
    assert capfd.readouterr().err.splitlines() == ["sampling: 2 of 5", "sampling: 4 of 5", "sampling: 5 of 5"]


def test_a_training_that_makes_no_speed_yet_is_no_division_by_zero(
    capfd: pytest.CaptureFixture[str], clock: Seconds
) -> None:
    shown = Screen()
    with shown.training(0, 10, None):
        clock.now += 20
        shown.after_turn(0)
    assert capfd.readouterr().err == "0/10 images  0 images/s\n"


def test_an_error_in_the_training_passes_through() -> None:
    for shown in (Silent(), Screen()):
        with pytest.raises(RuntimeError, match="mine"), shown.training(0, 10, None):
            raise RuntimeError("mine")

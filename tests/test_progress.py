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


def go(shown: Silent, images: int = 1500, total: int = 3000) -> None:
    with shown.training(0, total, None):
        shown.shown(images)
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


def test_training_off_a_terminal_is_told_in_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    go(Screen())
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "1.5k/3k images  1,234 images/s  1s left  D/adversarial 1.39  G/adversarial 0.693\n"
    assert "\x1b" not in err


def test_lines_off_a_terminal_are_few_but_the_last_is_always_told(capfd: pytest.CaptureFixture[str]) -> None:
    shown = Screen()
    with shown.training(0, 3000, None):
        for images in range(100, 3001, 100):
            shown.tick({**RECORD, "images": images})
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["100/3k", "3k/3k"]
    assert "0s left" in lines[-1]


def test_reading_pictures_is_told_off_a_terminal_in_whole_lines(capfd: pytest.CaptureFixture[str]) -> None:
    shown = Screen()
    for done in range(1, 6001):
        shown.packing(done, 6000)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["reading pictures: 1 of 6,000", "reading pictures: 6,000 of 6,000"]


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
            shown.counting(what, done, 5)
            shown.counting(what, done, 5)
    assert capfd.readouterr().err.splitlines() == ["sampling: 2 of 5", "sampling: 4 of 5", "sampling: 5 of 5"]


def test_a_training_that_makes_no_speed_yet_is_no_division_by_zero(capfd: pytest.CaptureFixture[str]) -> None:
    shown = Screen()
    with shown.training(0, 10, None):
        shown.tick({**RECORD, "images": 1, "images_per_second": 0.0})
    assert "left" in capfd.readouterr().err


def test_an_error_in_the_training_passes_through() -> None:
    for shown in (Silent(), Screen()):
        with pytest.raises(RuntimeError, match="mine"), shown.training(0, 10, None):
            raise RuntimeError("mine")

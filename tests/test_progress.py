"""The progress display: plain lines on standard error without a terminal, nothing on standard output, nothing if silent."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from leafwing.progress import ConsoleReporter, Meter, Reporter, counted

RECORD = {"images": 1500, "images_per_second": 1234.4, "losses": {"D/adversarial": 1.38629, "G/adversarial": 0.693}}


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafwing.progress.time", SimpleNamespace(monotonic=lambda: 1000.0))  # the clock stands still
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)


class Seconds:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    seconds = Seconds()
    monkeypatch.setattr("leafwing.progress.time", seconds)
    return seconds


def go(screen: Reporter, images: int = 1500, total: int = 3000) -> None:
    with screen.training(0, total, None):
        screen.after_turn(images)
        screen.tick({**RECORD, "images": images})


def test_silent_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    screen = Reporter()
    screen.say("a line")
    screen.report_reading(1, 2)
    screen.report_reading(2, 2)
    go(screen)
    assert capfd.readouterr() == ("", "")


def test_a_message_is_printed_unchanged_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    text = "runs/0001 [bold]not markup[/bold] " + "word " * 60 + "12345 'quoted'"
    ConsoleReporter().say(text)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == text + "\n"


def test_a_path_with_colons_is_printed_unchanged(capfd: pytest.CaptureFixture[str]) -> None:
    ConsoleReporter().say("run folder: pictures:cat:2")
    ConsoleReporter().warn("run folder: pictures:cat:2")
    assert capfd.readouterr().err == "run folder: pictures:cat:2\nwarning: run folder: pictures:cat:2\n"


def test_without_a_terminal_training_prints_plain_lines(capfd: pytest.CaptureFixture[str], clock: Seconds) -> None:
    screen = ConsoleReporter()
    with screen.training(0, 3000, None):
        clock.now += 5
        screen.tick({**RECORD, "images": 1000})
        clock.now += 5
        screen.after_turn(1500)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "1.5k/3k images  150 images/s  10s left  D 1.39  G 0.693\n"
    assert "\x1b" not in err


def test_lines_are_printed_at_intervals_and_at_the_end(capfd: pytest.CaptureFixture[str], clock: Seconds) -> None:
    """Every ten seconds at first, independent of the log; later at longer intervals."""
    screen = ConsoleReporter()
    with screen.training(0, 10_000, None):
        for images in range(1, 3601):
            clock.now += 1
            screen.after_turn(images)
        screen.tick({**RECORD, "images": 10_000})
    lines = capfd.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["10/10k", "20/10k", "30/10k"]
    assert 40 < len(lines) < 120
    assert lines[-1].startswith("10k/10k")
    assert "0s left" in lines[-1]


def test_the_time_left_considers_both_limits(capfd: pytest.CaptureFixture[str], clock: Seconds) -> None:
    screen = ConsoleReporter()
    with screen.training(0, 1_000_000, 120.0):
        clock.now += 10
        screen.after_turn(1_000)
    assert "1m 50s left" in capfd.readouterr().err, "the time limit is reached first"
    screen = ConsoleReporter()
    with screen.training(500, 1_500, 3600.0):
        clock.now += 10
        screen.after_turn(1_000)
    assert "10s left" in capfd.readouterr().err, "all images are screen first"


def test_the_time_left_is_that_of_the_limit_at_the_last_tick(clock: Seconds, capfd: pytest.CaptureFixture[str]) -> None:
    screen = ConsoleReporter()
    with screen.training(0, 1_000_000, 60.0):
        clock.now += 40
        screen.tick({**RECORD, "images": 1_000, "time_left": 36.0})
        clock.now += 6
        screen.after_turn(1_000)
    assert "30s left" in capfd.readouterr().err


def test_without_a_terminal_reading_images_prints_whole_lines(capfd: pytest.CaptureFixture[str]) -> None:
    screen = ConsoleReporter()
    for done in range(1, 6001):
        screen.report_reading(done, 6000)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["reading images: 1 of 6,000", "reading images: 6,000 of 6,000"]


def test_short_operations_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    ConsoleReporter().report_reading(10, 10)
    assert capfd.readouterr() == ("", "")


def test_progress_has_a_name_and_short_operations_print_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("leafwing.progress.time", SimpleNamespace(monotonic=lambda: clock[0]))
    screen = ConsoleReporter()
    for what, seconds in (("sampling", 4), ("features", 1)):
        for done in range(1, 6):
            clock[0] += seconds
            screen.report_progress(what, done, 5)
            screen.report_progress(what, done, 5)
    assert capfd.readouterr().err.splitlines() == ["sampling: 1 of 5", "sampling: 4 of 5, about 4s left", "sampling: 5 of 5"]


def test_an_operation_has_a_line_every_ten_seconds_with_the_time_left(
    capfd: pytest.CaptureFixture[str], clock: Seconds
) -> None:
    """Also if nothing was done in between; of the next operation, the time left is that of its own speed."""
    screen = ConsoleReporter()
    for second in range(41):
        clock.now = 1000.0 + second
        screen.report_progress("measuring", second // 15, 10)
    for second in range(41, 63):
        clock.now = 1000.0 + second
        screen.report_progress("sampling", second - 41, 30)
    assert capfd.readouterr().err.splitlines() == [
        "measuring: 0 of 10",
        "measuring: 0 of 10",
        "measuring: 1 of 10, about 3m 00s left",
        "measuring: 2 of 10, about 2m 00s left",
        "measuring: 2 of 10, about 2m 40s left",
        "sampling: 9 of 30, about 21s left",
        "sampling: 19 of 30, about 11s left",
    ]


@pytest.mark.parametrize(
    ("parts", "total", "reports"),
    [
        ([1, 1, 1], 3, [1, 2, 3]),
        ([64, 64, 2], 130, [64, 128, 130]),
        ([2], 5, [2, 5]),  # less than was announced
        ([], 0, []),
    ],
)
def test_what_is_counted_ends_at_its_total(parts: list[int], total: int, reports: list[int]) -> None:
    seen: list[tuple[str, int, int]] = []
    for number, part in enumerate(counted(parts, "work", total, lambda *report: seen.append(report), lambda part: part)):
        assert part == parts[number]
        assert len(seen) == number, "an item is done when the next one is asked for"
    assert seen == [("work", done, total) for done in reports]


def test_the_end_of_an_operation_is_shown_although_a_part_of_it_was(
    capfd: pytest.CaptureFixture[str], clock: Seconds
) -> None:
    screen = ConsoleReporter()
    for number in (1, 2):
        for percent in (50, 100):
            clock.now += 20
            screen.report_progress(f"{number}.png, percent", percent, 100)
        screen.report_progress("translating pictures", number, 2)
        clock.now += 20
        screen.report_progress("translating pictures", number, 2)
    assert capfd.readouterr().err.splitlines() == [
        "1.png, percent: 50 of 100", "1.png, percent: 100 of 100", "translating pictures: 1 of 2",
        "2.png, percent: 50 of 100", "2.png, percent: 100 of 100", "translating pictures: 2 of 2",
    ]  # fmt: skip


def test_a_message_ends_the_line_of_progress_on_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Seconds
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    screen = ConsoleReporter()
    assert screen.is_live
    screen.report_progress("evaluating", 1, 100)
    screen.say("The samples")
    screen.report_progress("sampling", 1, 100)
    clock.now += 1
    screen.report_progress("features", 1, 100)
    clock.now += 1
    screen.report_progress("features", 100, 100)
    screen.say("done")
    assert capfd.readouterr().err == (
        "\revaluating: 1 of 100\nThe samples\n\rfeatures: 1 of 100\rfeatures: 100 of 100\ndone\n"
    )


def test_zero_speed_is_not_a_division_by_zero(capfd: pytest.CaptureFixture[str], clock: Seconds) -> None:
    screen = ConsoleReporter()
    with screen.training(0, 10, None):
        clock.now += 20
        screen.after_turn(0)
    assert capfd.readouterr().err == "0/10 images  0 images/s\n"


def test_an_error_in_the_training_passes_through() -> None:
    for screen in (Reporter(), ConsoleReporter()):
        with pytest.raises(RuntimeError, match="mine"), screen.training(0, 10, None):
            raise RuntimeError("mine")


def test_a_time_limit_that_has_passed_leaves_no_negative_time(clock: Seconds) -> None:
    meter = Meter(0, 100, 5.0)
    clock.now += 3
    assert meter.seconds_left() == 2
    clock.now += 3
    assert meter.seconds_left() == 0


def test_more_images_than_requested_leave_no_negative_time(clock: Seconds, capfd: pytest.CaptureFixture[str]) -> None:
    screen = ConsoleReporter()
    with screen.training(0, 100, None):
        clock.now += 1
        screen.tick({**RECORD, "images": 128})
    assert capfd.readouterr().err.startswith("128/128 images  128 images/s  0s left")


@pytest.mark.parametrize("case", ["a file with forced colours", "a terminal that cannot redraw"])
def test_progress_is_lines_where_nothing_can_be_redrawn(
    case: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Seconds
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    if case == "a terminal that cannot redraw":
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "dumb")
    screen = ConsoleReporter()
    with screen.training(0, 10, None):
        clock.now += 20
        screen.after_turn(5)
    assert capfd.readouterr().err == "5/10 images  0.25 images/s  20s left\n"

"""Learning curves are drawn where their values are, and have round ticks."""

from __future__ import annotations

import pytest

from leafwing.metrics import curves


def test_curves_are_placed_by_their_values() -> None:
    plot = curves.plot([curves.Line("a & b", 9, [(0, 0.0), (100, 1.0)]), curves.Line("none", 0, [])], "title", "images")
    (line,) = plot.lines
    assert (line.label, line.colour) == ("a & b", 9)
    (left, bottom), (right, top) = line.points
    assert (left, right) == (curves.LEFT, curves.WIDTH - curves.RIGHT)
    assert (bottom, top) == (curves.HEIGHT - curves.BOTTOM, curves.TOP)
    assert curves.plot([], "nothing", "images").lines == []
    flat = curves.plot([curves.Line("flat", 0, [(1, 3.0), (2, 3.0)])], "flat", "images")
    assert flat.lines[0].points[0][1] == flat.y_ticks[0].at


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [
        (0.13, 0.92, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 8, [0, 2, 4, 6, 8]),
        (-3, 12, [-5, 0, 5, 10, 15]),
        (3, 3, [3, 3.5]),
        (0, 0, [0, 0.2]),
    ],
)
def test_ticks_are_round_and_cover_all_values(low: float, high: float, marks: list[float]) -> None:
    assert curves.steps(low, high) == marks


def test_ticks_of_a_narrow_range_of_large_values_differ() -> None:
    plot = curves.plot([curves.Line("a", 0, [(0, 123_456.0), (1, 123_458.0)])], "title", "images")
    assert [tick.label for tick in plot.y_ticks] == ["123456", "123456.5", "123457", "123457.5", "123458"]
    assert curves.labels([0.2, 100_000.0]) == ["0.2", "1e+05"]


def test_ticks_of_a_wide_range_are_logarithmic() -> None:
    assert curves.decades(3, 150) == [2, 5, 10, 20, 50, 100, 200]
    assert curves.decades(3, 150_000) == [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]
    assert curves.decades(1, 1) == [1, 2]

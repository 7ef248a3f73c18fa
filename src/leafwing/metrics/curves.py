"""Geometry of learning curves: axes, ticks and lines in the units of an SVG, which the template of the report draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from leafwing.quantities import show_count

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40
"""Margins of the plot area."""
COLOURS = 8
"""Number of CSS classes `c0`, `c1`, ...; further lines reuse them and are dashed."""
LOG_RATIO = 30.0
"""Values that span at least this factor are plotted on a logarithmic scale."""


@dataclass(frozen=True)
class Line:
    """One line.

    Args:
        label: label, shown as a tooltip.
        colour: index of its colour.
        points: (x, y), by x.
    """

    label: str
    colour: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Plot:
    """Lines over a common x axis; all positions are in SVG units.

    Args:
        title: description for screen readers.
        x_label: label of the x axis.
        x_ticks, y_ticks: ticks of both axes.
        lines: the lines, none of them empty.
    """

    title: str
    x_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]


def plot(lines: Sequence[Line], title: str, x_label: str) -> Plot:
    """Places lines in data units on axes with round ticks; the x axis starts at 0, and empty lines are skipped."""
    lines = [line for line in lines if line.points]
    xs = [x for line in lines for x, _ in line.points] or [1.0]
    ys = [y for line in lines for _, y in line.points] or [0.0, 1.0]
    logarithmic = min(ys) > 0 and max(ys) / min(ys) >= LOG_RATIO
    right = max(xs) or 1.0
    marks = decades(min(ys), max(ys)) if logarithmic else steps(min(ys), max(ys))
    low, high = scale(marks[0], logarithmic), scale(marks[-1], logarithmic)

    def x_at(x: float) -> float:
        return round(LEFT + x / right * (WIDTH - LEFT - RIGHT), 1)

    def y_at(y: float) -> float:
        return round(HEIGHT - BOTTOM - (scale(y, logarithmic) - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    return Plot(
        title,
        x_label,
        [Tick(x_at(mark), show_count(mark)) for mark in steps(0, right) if mark <= right],
        [Tick(y_at(mark), label) for mark, label in zip(marks, labels(marks), strict=True)],
        [Line(line.label, line.colour, [(x_at(x), y_at(y)) for x, y in line.points]) for line in lines],
    )


def labels(marks: Sequence[float]) -> list[str]:
    """The marks with five significant digits, or with as many as tell them apart.

    >>> labels([123_456.0, 123_457.0])
    ['123456', '123457']
    """
    texts = ([f"{mark:.{digits}g}" for mark in marks] for digits in range(5, 18))
    return next((text for text in texts if len({*text}) == len(marks)), [f"{mark:g}" for mark in marks])


def scale(value: float, logarithmic: bool) -> float:
    """A value, or its logarithm."""
    return log10(value) if logarithmic else value


def steps(low: float, high: float, max_steps: int = 6) -> list[float]:
    """Round numbers in equal steps, about `max_steps` of them at most, that cover `low` to `high`.

    >>> steps(0.13, 0.92)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** floor(log10(span / max_steps))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= max_steps)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    digits = max(0, -floor(log10(step)))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def decades(low: float, high: float, max_marks: int = 8) -> list[float]:
    """1, 2 and 5 times powers of ten, or only the powers if those are too many, from at or below `low` to at or above `high`.

    >>> decades(3, 150)
    [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
    >>> decades(3, 150_000)
    [1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0]
    """
    for factors in ((1, 2, 5), (1,)):
        powers = range(floor(log10(low)), ceil(log10(high)) + 2)
        marks = [n * 10.0**power for power in powers for n in factors]
        first = max(i for i, mark in enumerate(marks) if mark <= low * (1 + 1e-9))
        last = min(i for i, mark in enumerate(marks) if mark >= high * (1 - 1e-9))
        marks = marks[first : max(last, first + 1) + 1]
        if len(marks) <= max_marks:
            break
    return marks

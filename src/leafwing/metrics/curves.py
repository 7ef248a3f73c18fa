"""Learning curves as SVG: line plots whose colours are set by the page's CSS, so that they suit light mode, dark mode and print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from leafwing.quantities import show_count

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40
"""Margins of the plot area, in SVG units."""
COLOURS = 8
"""Number of CSS classes `c0`, `c1`, ...; further lines reuse them and are dashed."""
WIDE = 30.0
"""Values that span at least this factor are drawn on a logarithmic scale."""


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


def plot(lines: Sequence[Line], title: str, across: str) -> str:
    """Lines over a common x axis that starts at 0, as an `<svg>`.

    Args:
        lines: the lines; empty ones are skipped.
        title: description for screen readers.
        across: label of the x axis.
    """
    lines = [line for line in lines if line.points]
    xs = [x for line in lines for x, _ in line.points] or [1.0]
    ys = [y for line in lines for _, y in line.points] or [0.0, 1.0]
    wide = min(ys) > 0 and max(ys) / min(ys) >= WIDE
    right = max(xs) or 1.0
    marks = decades(min(ys), max(ys)) if wide else steps(min(ys), max(ys))
    low, high = scaled(marks[0], wide), scaled(marks[-1], wide)

    def across_at(x: float) -> float:
        return LEFT + x / right * (WIDTH - LEFT - RIGHT)

    def down_at(y: float) -> float:
        return HEIGHT - BOTTOM - (scaled(y, wide) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="plot"><title>{escape(title)}</title>']
    for mark in marks:
        y = down_at(mark)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{mark:.5g}</text>')
    for mark in steps(0, right):
        if mark > right:
            continue
        x = across_at(mark)
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{show_count(mark)}</text>')
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{escape(across)}</text>')
    for line in lines:
        places = [(across_at(x), down_at(y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashed = ' stroke-dasharray="5 3"' if line.colour >= COLOURS else ""
        kind = f"c{line.colour % COLOURS}"
        drawn.append(f'<g class="{kind}"><title>{escape(line.label)}</title><polyline points="{path}"{dashed}/>')
        drawn.append("".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in places) + "</g>")
    return "\n".join([*drawn, "</svg>"])


def scaled(value: float, wide: bool) -> float:
    """A value, or its logarithm."""
    return log10(value) if wide else value


def steps(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in equal steps from at or below `low` to at or above `high`.

    >>> steps(0.13, 0.92)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    reach = (high - low) or abs(high) or 1.0
    size = 10.0 ** floor(log10(reach / most))
    step = next(size * times for times in (1, 2, 5, 10) if reach / (size * times) <= most)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    digits = max(0, -floor(log10(step)))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def decades(low: float, high: float, most: int = 8) -> list[float]:
    """1, 2 and 5 times powers of ten, or only the powers if those are too many, from at or below `low` to at or above `high`.

    >>> decades(3, 150)
    [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
    >>> decades(3, 150_000)
    [1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0]
    """
    for times in ((1, 2, 5), (1,)):
        powers = range(floor(log10(low)), ceil(log10(high)) + 2)
        marks = [n * 10.0**power for power in powers for n in times]
        first = max(i for i, mark in enumerate(marks) if mark <= low * (1 + 1e-9))
        last = min(i for i, mark in enumerate(marks) if mark >= high * (1 - 1e-9))
        marks = marks[first : max(last, first + 1) + 1]
        if len(marks) <= most:
            break
    return marks

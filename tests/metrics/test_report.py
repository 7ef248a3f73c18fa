"""The page of a comparison: text is escaped, and learning curves are drawn where their values are."""

from __future__ import annotations

from typing import Any

import pytest

from leafwing.metrics import curves
from leafwing.metrics.report import About, Gallery, Picture, page
from leafwing.metrics.table import RunResult, tabulate
from page import Page


def measured(metric: str, images: int, value: float) -> dict[str, Any]:
    """A row of `commands.evaluate`."""
    return {"metric": metric, "value": value, "low": None, "high": None, "better": "lower", "images": images, "protocol": {}}


def test_names_and_messages_are_escaped() -> None:
    evil = "<script>alert('x')</script>&"
    rows = [measured(evil, 5, 1.0)]
    results = [RunResult(evil, 0, "finished", rows=rows), RunResult(evil, 1, "failed", evil)]
    gallery = Gallery(evil, evil, [(evil, [Picture(b"", "image/webp", evil)])])
    parsed = Page()
    parsed.feed(
        page(
            tabulate(results),
            results,
            [gallery],
            About(evil, evil, evil, [(evil, evil)], [(evil, [evil])], {(evil, 0): {5: 1.0}}),
        )
    )
    assert "script" not in parsed.seen
    assert "".join(parsed.text).count("alert") > 10


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


def test_curves_are_on_the_page_and_lines_beyond_the_colours_are_dashed() -> None:
    results = [
        RunResult(f"r{i}", 0, "finished", rows=[measured("fid", 100, i), measured("fid", 200, i)])
        for i in range(curves.COLOURS + 1)
    ]
    html = page(tabulate(results), results, [], About("title", "", "", [], []))
    assert html.count("<polyline") == len(results)
    assert html.count("stroke-dasharray") == 1
    points = [line.points for line in curves.plot([curves.Line("", 0, results[0].curve("fid"))], "", "").lines]
    assert f'points="{points[0][0][0]},' in html


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


def test_ticks_of_a_wide_range_are_logarithmic() -> None:
    assert curves.decades(3, 150) == [2, 5, 10, 20, 50, 100, 200]
    assert curves.decades(3, 150_000) == [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]
    assert curves.decades(1, 1) == [1, 2]

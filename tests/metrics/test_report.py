"""The page of a comparison: what stands in names is no HTML, and curves are drawn where the numbers say."""

from __future__ import annotations

import re

import pytest

from leafwing.metrics import curves
from leafwing.metrics.report import About, Gallery, Picture, page
from leafwing.metrics.table import Found, tabulate
from page import Page


def test_what_stands_in_names_and_messages_is_no_html() -> None:
    evil = "<script>alert('x')</script>&"
    numbers = [
        {
            "metric": evil,
            "value": 1.0,
            "low": None,
            "high": None,
            "better": "lower",
            "images": 5,
            "protocol": {},
            "fingerprint": "",
        }
    ]
    found = [Found(evil, 0, "finished", numbers=numbers), Found(evil, 1, "failed", evil)]
    shown = Gallery(evil, evil, [(evil, [Picture(b"", "image/webp", evil)])])
    held = Page()
    held.feed(
        page(
            tabulate(found), found, [shown], About(evil, evil, evil, [(evil, evil)], [(evil, [evil])], {(evil, 0): {5: 1.0}})
        )
    )
    assert "script" not in held.seen
    assert "".join(held.text).count("alert") > 10


def test_curves_are_drawn_where_the_numbers_say() -> None:
    drawn = curves.plot([curves.Line("a & b", 9, [(0, 0.0), (100, 1.0)]), curves.Line("none", 0, [])], "title", "images")
    assert "a &amp; b" in drawn
    assert "stroke-dasharray" in drawn
    assert drawn.count("<polyline") == 1
    points = re.search(r'points="([\d.]+),([\d.]+) ([\d.]+),([\d.]+)"', drawn)
    assert points is not None
    left, bottom, right, top = map(float, points.groups())
    assert (left, right) == (curves.LEFT, curves.WIDTH - curves.RIGHT)
    assert (bottom, top) == (curves.HEIGHT - curves.BOTTOM, curves.TOP)
    assert curves.plot([], "nothing", "images").endswith("</svg>")
    assert curves.plot([curves.Line("flat", 0, [(1, 3.0), (2, 3.0)])], "flat", "images")


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
def test_marks_are_round_and_hold_all(low: float, high: float, marks: list[float]) -> None:
    assert curves.steps(low, high) == marks


def test_marks_of_a_wide_range_are_powers() -> None:
    assert curves.decades(3, 150) == [2, 5, 10, 20, 50, 100, 200]
    assert curves.decades(3, 150_000) == [1, 10, 100, 1000, 10_000, 100_000, 1_000_000]
    assert curves.decades(1, 1) == [1, 2]

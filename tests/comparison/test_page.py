"""The page of a comparison: pictures come first, text is escaped, legends stand beside curves; the numbers of the verdict."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from leafwing.commands.comparison import galleries, report
from leafwing.commands.comparison.page import About, Figure, Gallery, Picture, Row, render
from leafwing.commands.comparison.record import open_record
from leafwing.errors import LeafwingError
from leafwing.fields import Clip, Vector
from leafwing.fields import Image as ImageField
from leafwing.metrics import curves
from leafwing.metrics.table import RunResult, tabulate
from page import Page


def measured(metric: str, images: int, value: float) -> dict[str, Any]:
    """A row of `commands.evaluate`."""
    return {"metric": metric, "value": value, "low": None, "high": None, "better": "lower", "images": images, "protocol": {}}


def results(**finals: Sequence[float]) -> list[RunResult]:
    """Runs of recipes with their values of fid at two checkpoints, the final one as given, for each seed."""
    return [
        RunResult(
            name, seed, "finished", images=100, steps=1000, rows=[measured("fid", 50, 99.0), measured("fid", 100, value)]
        )
        for name, values in finals.items()
        for seed, value in enumerate(values)
    ]


PIXEL = Picture(b"x", "image/webp", (32, 16), "real images, 1", factors=(4, 2))
OPENING = Gallery("", "Real images first.", [Row("real images", "", [PIXEL]), Row("a", "seed 0", [PIXEL], "a")])
ABOUT = About("title", "lead", "command", [], [])


def page_of(runs: Sequence[RunResult], opening: Gallery = OPENING, figures: Sequence[Figure] = ()) -> str:
    """A page, which is well-formed."""
    html = render(tabulate(runs), runs, opening, figures, [], ABOUT)
    parsed = Page()
    parsed.feed(html)
    parsed.close()
    assert parsed.open == []
    return html


def test_names_and_messages_are_escaped() -> None:
    evil = "<script>alert('x')</script>&\""
    runs = [RunResult(evil, 0, "finished", rows=[measured(evil, 5, 1.0)]), RunResult(evil, 1, "failed", evil)]
    picture = Picture(b"", "image/webp", (8, 8), evil, evil, (2, 1))
    gallery = Gallery(evil, evil, [Row(evil, evil, [picture], evil)])
    about = About(evil, evil, evil, [(evil, evil)], [(evil, [evil])], {(evil, 0): {5: 1.0}})
    parsed = Page()
    parsed.feed(render(tabulate(runs), runs, gallery, [Figure(evil, evil, evil)], [gallery], about))
    assert "script" not in parsed.seen
    assert "".join(parsed.text).count("alert") > 10


def test_pictures_come_first_then_the_verdict_then_tables_and_curves() -> None:
    runs = results(a=[1.0, 1.1, 1.2], b=[5.0, 5.1, 5.2])
    html = page_of(runs, figures=report.key_figures(tabulate(runs)))
    parts = [html.index(part) for part in ("<h1>", "<img", 'class="verdict"', 'class="figures"', "<table", "<polyline")]
    assert parts == sorted(parts)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html
    assert html.count("<table") == html.count('<div class="scroll"'), "wide tables scroll inside"
    assert 'style="--side: 32px; --wide: 4; --narrow: 2"' in html
    assert "image-rendering: pixelated" in html
    assert len(re.findall(r'<img alt="[^"]+"', html)) == html.count("<img") == 2


def test_every_plot_has_its_legend_beside_it() -> None:
    html = page_of(results(**{f"r{i}": [float(i + 1)] for i in range(curves.COLOURS + 1)}))
    plots = re.findall(r'<div class="plotted">.*?</div>', html, re.DOTALL)
    assert len(plots) == html.count("<svg") == 1
    assert plots[0].index("</svg>") < plots[0].index('<ul class="keys">')
    assert plots[0].count("<li>") == curves.COLOURS + 1
    assert plots[0].count('class="key c0 again"') == 1, "the ninth has the colour of the first"
    assert html.count("stroke-dasharray") == 1, "lines beyond the colours are dashed"


def test_the_first_measure_is_drawn_over_training_time_too() -> None:
    runs = results(a=[1.0])
    runs[0].rows.extend([measured("kid", 50, 2.0), measured("kid", 100, 1.0)])
    about = replace(ABOUT, seconds={("a", 0): {50: 1.0, 100: 2.5}})
    html = render(tabulate(runs), runs, OPENING, (), [], about)
    titles = re.findall(r"<title>(fid|kid)( over [a-z ]*)</title>", html)
    assert titles == [("fid", " over images shown"), ("fid", " over training time"), ("kid", " over images shown")]


def test_there_are_no_curves_of_a_single_checkpoint() -> None:
    runs = [RunResult("a", 0, "finished", steps=1000, rows=[measured("fid", 100, 1.0), measured("kid", 100, 1.0)])]
    html = page_of(runs)
    assert "<svg" not in html
    assert "Only the last checkpoint of each run was evaluated" in html
    assert "best fid" not in html


def test_the_verdict_rests_on_three_numbers() -> None:
    won = report.key_figures(tabulate(results(good=[1.0, 1.25, 1.5], bad=[5.0, 5.25, 6.0])))
    assert [(figure.value, figure.label) for figure in won] == [
        ("1.25", "final fid of good"),
        ("5.25", "final fid of bad"),
        ("4", "difference between the two"),
    ]
    assert won[0].note == "1 to 1.5 over 3 seeds"
    assert won[2].note == "a winner needs more than 1, the spread over seeds"
    short = [RunResult("a", 0, "finished", images=600, steps=12, rows=[measured("fid", 600, 1.0)])]
    short += [RunResult("b", 0, "finished", images=500, steps=20, rows=[measured("fid", 500, 1.0)])]
    assert [figure.value for figure in report.key_figures(tabulate(short))] == ["20", "300", "600"]
    (single, *_) = report.key_figures(tabulate(results(only=[3.0])))
    assert (single.value, single.note) == ("3", "3 to 3 over one seed")
    one_seed = report.key_figures(tabulate(results(a=[1.0], b=[2.0])))
    assert one_seed[2].note == "spread over seeds unknown"
    failed = [RunResult(name, 0, "failed", "no memory", rows=[measured("fid", 5, 1.0)]) for name in "ab"]
    assert report.key_figures(tabulate(failed)) == []


@pytest.mark.parametrize(
    ("height", "width", "size", "factors", "number"),
    [
        (8, 8, (8, 8), (16, 9), 8),
        (28, 28, (28, 28), (4, 2), 8),
        (32, 64, (64, 32), (2, 1), 8),
        (128, 128, (128, 128), (1, 1), 8),
        (256, 256, (256, 256), (1, 1), 4),
        (512, 256, (128, 256), (1, 1), 8),
    ],
)
def test_small_pictures_are_enlarged_by_a_whole_factor(
    height: int, width: int, size: tuple[int, int], factors: tuple[int, int], number: int
) -> None:
    pictures = galleries.draw(ImageField(height, width, 3), torch.zeros(8, 3, height, width), "real images")
    assert len(pictures) == number, "a row fits into the page"
    assert {(picture.size, picture.factors) for picture in pictures} == {(size, factors)}
    assert {picture.is_smooth for picture in pictures} == {min(height, width) >= 32}, "as on grids"
    assert number * (size[0] * factors[0] + galleries.GAP) <= galleries.WIDEST_ROW + galleries.GAP
    assert pictures[1].alt == "real images, 2"
    with Image.open(io.BytesIO(pictures[0].content)) as image:
        assert image.size == size
        assert np.asarray(image).tolist()[0][0] == [128, 128, 128], "without loss"
    assert base64.b64decode(pictures[0].data_uri.partition(",")[2]) == pictures[0].content


def test_points_are_a_plot_and_clips_are_strips() -> None:
    (plot,) = galleries.draw(Vector(2), torch.randn(50, 2), "real points")
    assert plot.alt == "real points: 50 points"
    strips = galleries.draw(Clip(3, 16, 16, 3), torch.zeros(8, 3, 3, 16, 16), "clips")
    assert strips[0].size[0] >= 3 * 16
    assert len(strips) * strips[0].size[0] * strips[0].factors[0] <= galleries.WIDEST_ROW


def test_a_run_without_a_checkpoint_has_a_row_that_says_why(tmp_path: Path) -> None:
    runs = [RunResult("a", 0, "failed", "out of memory. Try less"), *results(b=[2.0])]
    table = tabulate(runs)
    plan: Any = SimpleNamespace(data=SimpleNamespace(spec=SimpleNamespace(points=False)))
    record: Any = SimpleNamespace(run_folder=lambda name, seed: tmp_path / "nothing")
    opening = galleries.opening(plan, record, table)
    assert {row.label: row.note for row in opening.rows}["a"] == "no samples: out of memory; Try less"
    assert opening.text == "No run reached its first checkpoint."


def test_caveats_stand_below_the_verdict_and_marks_in_the_tables() -> None:
    protocol = {"features": "own", "shape": "64x64x3", "n_real": 50, "n_fake": 50}
    rows = [measured(name, images, 0.5) | {"protocol": protocol} for name in ("fid", "precision") for images in (50, 100)]
    html = page_of([RunResult("a", 0, "finished", images=100, steps=1000, rows=rows)])
    verdict = html[html.index("<h2>Verdict") : html.index("<h2>Recipes")]
    assert "<p>With only 50 samples, FID is biased" in verdict
    assert "<p>* own judges texture more than shape" in verdict
    assert '<th scope="col">precision * ' in html
    assert '<th scope="col">final fid ↓</th>' in html
    assert "<figcaption>precision * " in html
    assert "see the verdict" in html
    assert "judges texture" not in page_of(results(a=[1.0], b=[2.0]))


def diverged(name: str, *seeds: int) -> list[RunResult]:
    """Runs that ended early, without values."""
    return [RunResult(name, seed, "diverged", images=50, steps=500) for seed in seeds]


@pytest.mark.parametrize(
    ("runs", "seed"),
    [
        ([*results(a=[0.1, 0.12, 0.14]), *diverged("a", 3, 4)], 2),
        ([*results(a=[0.1, 0.14]), *diverged("a", 2, 3, 4)], 1),
        (results(a=[0.3, 0.1, 0.2]), 2),
        (results(a=[0.1, 0.2]), 1),
        ([*results(a=[0.1, 0.2]), RunResult("a", 2, "failed", "no memory")], 1),
        (diverged("a", 0, 1), 0),
    ],
)
def test_the_run_that_is_shown_has_the_median_of_the_table(runs: list[RunResult], seed: int) -> None:
    """Diverged runs count as the worst; of those that did not finish, the next one that did is shown."""
    assert galleries.median_run("a", tabulate(runs)) == seed


def test_a_range_is_that_of_the_runs_with_a_value() -> None:
    table = tabulate([*results(a=[0.1, 0.12, 0.14]), *diverged("a", 3, 4), *results(b=[0.5, 0.5, 0.5, 0.5, 0.5])])
    a, b, _ = report.key_figures(table)
    assert (a.value, a.note) == ("0.14", "0.1 to 0.14 over 3 of 5 seeds")
    assert b.note == "0.5 to 0.5 over 5 seeds"


def test_few_seeds_say_little() -> None:
    assert [bool(report.describe_few_seeds(seeds)) for seeds in (1, 2, 3)] == [True, True, False]
    shown = [galleries.which_run(tabulate(results(a=[0.1, 0.2, 0.3][:seeds]))) for seeds in (1, 2, 3)]
    assert shown == ["its only run", "the worse of its two runs", "the run with the median final value"]


def test_runs_that_did_not_finish_are_mentioned_where_there_are_any() -> None:
    some = galleries.which_run(tabulate([*results(a=[0.1, 0.2]), *diverged("a", 2)]))
    assert some == "the run with the median final value (if that did not finish, the next better one)"


def test_the_grid_at_a_part_of_a_training_is_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for images in (100, 480, 530, 900):
        Image.new("RGB", (8, 8)).save(tmp_path / "samples" / f"{images:09d}.png")
    plan: Any = SimpleNamespace(images={"a": 1_000})
    record: Any = SimpleNamespace(run_folder=lambda name, seed: tmp_path)
    grids = [galleries.grid_at(plan, record, "a", 0, fraction) for fraction in (0.1, 0.5, 0.9, 0.3)]
    assert [grid and grid.caption for grid in grids] == ["100 images", "480 images", "900 images", None]


def test_a_damaged_grid_is_named_and_the_report_needs_none(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    path = tmp_path / "samples" / "000000100.png"
    path.write_bytes(b"x")
    plan: Any = SimpleNamespace(images={"a": 100})
    record: Any = SimpleNamespace(run_folder=lambda name, seed: tmp_path)
    with pytest.raises(LeafwingError, match=r"000000100\.png: .*; delete it, or restore it from a copy"):
        galleries.grid_at(plan, record, "a", 0, 1.0)
    path.unlink()
    assert galleries.grid_at(plan, record, "a", 0, 1.0) is None


def test_the_folder_of_a_comparison_may_lie_in_folders_that_do_not_exist(tmp_path: Path) -> None:
    with open_record(tmp_path / "a" / "b") as record:
        assert record.folder.is_dir()

"""Figures in documents: tables are those of the rows, and figures in prose have a source."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import figures
import guide_figures
import health as bench_health
import roofline
import row_tables
import rows
import small_data
import translation

pages = pytest.mark.parametrize("page", figures.PAGES, ids=lambda page: page.stem)


@pages
def test_tables_are_those_of_the_rows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(figures.BLOCK.findall(text)) == text.count("<!-- rows: ") == text.count("<!-- end -->") > 0
    assert figures.update_figures(text) == text, "the rows have changed: run `make docs`"


@pages
def test_figures_in_prose_are_in_a_table_or_have_a_source(page: Path) -> None:
    assert figures.without_source(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("processors", ["EPYC", "Xeon(R) Processor, 2 cores", "16 cores"])
def test_the_readme_has_the_speeds_of_the_rows(processors: str) -> None:
    (row,) = (row for row in figures.read("step", processors) if row["case"] == "step_ratio_128")
    (text,) = re.findall(r"It needs no GPU.*?\n- ", (figures.ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for name in ("baseline", "leafwing"):
        assert f"{row[f'{name}_images_per_second']:,.0f}" in re.findall(r"[\d,]*\d", text)


def test_a_figure_without_a_source_is_found() -> None:
    page = """12.5% and 0.25 are below, 0.37 is not; `0.9` is code.

<!-- rows: reading -->

| 0.1249 | 0.2499 |

<!-- end -->

<!-- other figures
digits.jsonl: 99.2% 12.3456%
health.py: 98% 0.987
the paper: 7.5
-->

7.5 of the paper, 99.17 of nobody."""
    assert figures.without_source(page) == ["0.37", "99.17", "12.3456% in digits.jsonl", "0.987 in health.py"]


def test_every_row_has_a_commit_versions_and_a_processor() -> None:
    """Processors are recorded since commit 397ffa5; the rows before cannot be measured again on the same machine."""
    before = {
        "76a22a1", "efa0007", "42509de", "eb2a57e", "e3cef11", "567b40f", "72ee209", "7555256", "d24caa8", "374b051", "21e2cf4",
        "22fcce3", "2754aa3",
    }  # fmt: skip
    for path in figures.RESULTS.glob("*.jsonl"):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            assert {"bench", "commit", "python", "torch", "machine"} <= row.keys(), path.name
            assert "processor" in row or row["commit"][:7] in before, path.name


def test_rows_of_uncommitted_code_are_marked(tmp_path: Path) -> None:
    def write(**commits: str) -> None:
        stored = [{"case": case, "value": len(case), "commit": commit} for case, commit in commits.items()]
        (tmp_path / "some.jsonl").write_text("\n".join(map(json.dumps, stored)), encoding="utf-8")
        row_tables.committed_rows.cache_clear()

    def make(_: str) -> str:
        found = {row["case"]: row for row in row_tables.read("some", keys=("case",))}
        return row_tables.table(
            [found["a"], *found.values()] if "a" in found else [found["b"]], {"case": "{case}", "n": "{value}"}
        )

    token = row_tables.SOURCE.set(tmp_path)
    try:
        write(a="76a22a1", bb="76a22a1")
        assert row_tables.marked(make, "") == "| case | n |\n| --- | --- |\n| a | 1 |\n| a | 1 |\n| bb | 2 |"
        write(a="76a22a1", bb="76a22a1+")
        assert row_tables.marked(make, "").splitlines()[2:] == [
            "| a | 1 |",
            "| a | 1 |",
            "| bb † | 2 |",
            "",
            row_tables.LEGEND,
        ]
        write(a="76a22a1+", bb="76a22a1")
        assert row_tables.marked(make, "").splitlines()[2:5] == ["| a † | 1 |", "| a † | 1 |", "| bb † | 2 |"], (
            "none can be made"
        )
    finally:
        row_tables.SOURCE.reset(token)
        row_tables.committed_rows.cache_clear()


def test_the_newest_rows_are_those_of_each_processor(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    stored = [
        {"case": "a", "processor": "X 1", "value": 1},
        {"case": "a", "commit": "76a22a1", "value": 2},
        {"case": "a", "commit": "567b40f", "value": 3},
        {"case": "a", "processor": "X 1", "value": 4},
    ]
    path.write_text("\n".join(map(json.dumps, stored)), encoding="utf-8")
    assert [row["value"] for row in rows.newest(path)] == [4, 2, 3]
    assert [row["value"] for row in rows.newest(path, "EPYC")] == [2]
    assert [row["value"] for row in rows.newest(path, "X 1")] == [4]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"recipe": "lsgan"}, "recipe lsgan instead of dcgan"),
        ({"augment": "diff:color,translation"}, "augment diff:color,translation instead of diff"),
        ({"augment": None}, "augment None instead of diff"),
        ({"width": 32}, "width 32 instead of 64"),
        ({"lr_g": 1e-3}, "lr_g 0.001 instead of 0.0002"),
    ],
)
def test_a_run_of_other_options_gives_no_row(changes: dict[str, Any], said: str) -> None:
    options = small_data.describe("dcgan").resolve({"width": 64, "batch": 64, "ema": 10_000})
    recipe, augment = changes.pop("recipe", "dcgan"), changes.pop("augment", "diff")
    critic = SimpleNamespace(augment=augment)
    run = SimpleNamespace(
        folder="runs/a", recipe=recipe, options={**options, **changes}, settings=SimpleNamespace(critic=critic)
    )
    if not said:
        small_data.check(run, "dcgan 64+diff")
        return
    with pytest.raises(SystemExit, match=re.escape(f"runs/a is not 'dcgan 64+diff': {said}; remove it")):
        small_data.check(run, "dcgan 64+diff")


def test_the_table_of_alarms_knows_those_that_rows_will_name() -> None:
    right = {name: {*kinds.split()} for names, kinds in guide_figures.ILL.values() for name in names.split(", ")}
    for name, fault in bench_health.FAULTS.items():
        assert {*fault.kinds} <= right[name], name


@pytest.mark.parametrize("change", [{"size": 64}, {"width": 32}, {"batch": 4}, {"images": 6_000}, {"option": ["lr_g=1e-3"]}])
def test_translators_of_other_settings_are_other_runs(change: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"runs": "runs", "size": 128, "width": 16, "batch": 1, "images": 3_000, "option": []}
    folder = translation.folder_of(SimpleNamespace(**settings), "cgan", 0)
    assert folder != translation.folder_of(SimpleNamespace(**{**settings, **change}), "cgan", 0)


def test_a_roofline_names_processor_and_commit() -> None:
    row = rows.newest(figures.RESULTS / "roofline.jsonl", "Xeon(R) Processor, 2 cores")[-1]
    for part in ("Intel(R) Xeon(R) Processor, 2 cores", "bf16", "commit ce69a16, with changes that were not committed"):
        assert part in roofline.title(row)

"""What is read from the files of a run: a damaged line or number is named before anything is written, and no line is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import leafwing
from bare_run import config, create
from leafwing import cli, health
from leafwing.commands.training import describe_rest
from leafwing.errors import LeafwingError, StorageError
from leafwing.progress import Reporter
from leafwing.runs import Run

TINY: dict[str, Any] = {
    "recipe": "gan", "width": 4, "width_d": 4, "latent": 2, "batch": 8, "images": 48, "save_every": 16, "grid_every": 32,
    "log_every": 8, "threads": 1, "device": "cpu", "progress": False,
}  # fmt: skip
LINE: dict[str, Any] = {
    "images": 8, "seconds": 1.0, "images_per_second": 5.0, "losses": {"D/adversarial": 1.0}, "round": 1,
    "health": {"variety": 1.0, "D/weights": 2.0},
}  # fmt: skip
ROW: dict[str, Any] = {
    "metric": "fid", "by": "fid", "run": "run", "images": 8, "n": 64, "value": 3.0, "low": None, "high": None, "better": "lower",
    "protocol": {"seed": 0}, "fingerprint": "f",
}  # fmt: skip
SCALE = {"real": 1.0, "noise": 9.0, "others": "halves", "n_real": 6, "n_others": 6, "n_noise": 64}
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create(tmp_path / "run")


def without(line: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != key}


def write(path: Path, *lines: Mapping[str, Any] | str) -> None:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


DAMAGED_LINES = [
    (LINE | {"health": {"variety": "x"}}, "health"),
    (LINE | {"health": {"variety": [1]}}, "health"),
    (LINE | {"health": {"variety": {}}}, "health"),
    (LINE | {"health": {"variety": INFINITY}}, "health"),
    (LINE | {"health": None}, "health"),
    (without(LINE, "round"), "round"),
    (without(LINE, "losses"), "losses"),
    (LINE | {"losses": {"D/adversarial": NAN}}, "losses"),
    (LINE | {"seconds": NAN}, "seconds"),
    (LINE | {"seconds": -1.0}, "seconds"),
    (LINE | {"images_per_second": NAN}, "images_per_second"),
    (LINE | {"images": -8}, "images"),
    (LINE | {"images": 10**400}, "images"),
    (LINE | {"diverged": [1]}, "diverged"),
    (LINE | {"costs": {"D": 1.0}, "alarms": [5]}, "alarms"),
    (LINE | {"costs": {"D": "x"}}, "losses"),
]


@pytest.mark.parametrize(("line", "key"), DAMAGED_LINES)
def test_a_damaged_line_of_a_log_is_named(run: Run, line: dict[str, Any], key: str) -> None:
    write(run.folder / "log.jsonl", LINE, line)
    with pytest.raises(
        LeafwingError, match=rf"log\.jsonl: line 2.*{key}.*; restore the file from a copy, or delete the line"
    ):
        run.records()
    write(run.folder / "log.jsonl", LINE, without(LINE, "health"), {"images": 24, "losses": {}})
    assert [line["images"] for line in run.records()] == [8, 8, 24]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with health checks in its log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "CHECK_INTERVAL", 2)
        return Path(leafwing.train("ring", out=tmp_path_factory.mktemp("trained") / "run", **TINY))


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "copied")


@pytest.mark.parametrize(
    "change", [{"health": {"variety": "x"}}, {"round": "x"}, {"seconds": NAN}, {"images_per_second": NAN}]
)
def test_a_damaged_log_is_refused_before_a_training_goes_on(copied: Path, change: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in (copied / "log.jsonl").read_text().splitlines()]
    checks = [line for line in lines if "health" in line]
    checks[-1] |= change
    write(copied / "log.jsonl", *lines)
    before = contents(copied)
    with pytest.raises(LeafwingError, match=r"log\.jsonl: line "):
        leafwing.resume(copied, images="+16", progress=False)
    assert contents(copied) == before


@pytest.mark.parametrize("interval", ["save_every", "grid_every", "log_every"])
def test_a_run_whose_intervals_are_not_chosen_is_not_trained_on(copied: Path, interval: str) -> None:
    plain = json.loads((copied / "run.json").read_text())
    plain["folder"][interval] = 0
    (copied / "run.json").write_text(json.dumps(plain))
    before = contents(copied)
    with pytest.raises(LeafwingError, match=rf"run\.json: folder\.{interval}: 0 is not an interval; .*copy"):
        leafwing.resume(copied, images="+16", progress=False)
    assert contents(copied) == before


def test_one_damaged_log_does_not_hide_the_other_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = create(root=tmp_path), create(root=tmp_path)
    for run, seconds in ((first, NAN), (second, 1.0)):
        write(run.folder / "log.jsonl", LINE | {"seconds": seconds})
    assert cli.run(["runs", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "(damaged)" in shown
    assert f"{first.folder / 'log.jsonl'}: line 1.seconds: " in shown
    assert second.name in shown


@pytest.mark.parametrize(
    ("speed", "words"), [(5.0, "about 3m 18s at its latest speed"), (1e-320, "992 to go"), (0.0, "992 to go")]
)
def test_a_speed_below_the_last_digit_of_the_log_says_nothing(run: Run, speed: float, words: str) -> None:
    write(run.folder / "log.jsonl", LINE | {"images_per_second": speed})
    assert describe_rest(run, 8, 1.0, None).endswith(words)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("folder", "save_every", -1),
        ("folder", "keep_last", 0),
        ("schedule", "images", 0),
        ("schedule", "images", 10**16),
        ("schedule", "time", NAN),
        ("schedule", "seed", -1),
        ("watching", "max_rollbacks", -1),
        ("machine", "micro_batch", -8),
        ("history", "processes", 0),
        ("data", "held_out", -1),
    ],
)
def test_numbers_that_no_option_may_have_are_named(run: Run, section: str, name: str, value: object) -> None:
    plain = config()
    plain[section] = {**plain.get(section, {}), name: value}
    (run.folder / "run.json").write_text(json.dumps(plain))
    with pytest.raises(LeafwingError, match=rf"run\.json: {section}\.{name}: .*copy"):
        Run(run.folder)


DAMAGED_ROWS = [
    *((without(ROW, key), key) for key in ROW),
    (ROW | {"value": NAN}, "value"),
    (ROW | {"low": "x"}, "low"),
    (ROW | {"better": None}, "better"),
    (ROW | {"scale": 5}, "scale"),
    (ROW | {"scale": without(SCALE, "n_real")}, "n_real"),
    (ROW | {"scale": SCALE | {"others": "x"}}, "others"),
    (ROW | {"scale": SCALE | {"noise": "x"}}, "noise"),
    (ROW | {"variety": "x"}, "variety"),
    (ROW | {"words": 5}, "words"),
    (ROW | {"page": 5}, "page"),
]


@pytest.mark.parametrize(("row", "key"), DAMAGED_ROWS)
def test_a_damaged_row_of_metrics_is_named(run: Run, row: dict[str, Any], key: str) -> None:
    write(run.folder / "metrics.jsonl", ROW, row)
    with pytest.raises(
        LeafwingError, match=rf"metrics\.jsonl: line 2.*{key}.*; restore the file from a copy, or delete the line"
    ):
        run.metrics()
    write(run.folder / "metrics.jsonl", ROW, ROW | {"scale": SCALE | {"real": None}}, ROW | {"scale": None})
    assert len(run.metrics()) == 3


TEXT = json.dumps(ROW | {"words": 'a "}" and a \\', "scale": SCALE})


def test_rows_that_a_kill_cut_off_are_skipped_wherever_they_are(run: Run) -> None:
    write(run.folder / "metrics.jsonl", ROW, *(TEXT[:end] for end in range(1, len(TEXT))), ROW)
    assert run.metrics() == [ROW, ROW]


@pytest.mark.parametrize("line", ["x" + TEXT, TEXT + "}", TEXT.replace(":", ";", 1), "5", "[1]", "\0\0"])
def test_other_lines_that_cannot_be_read_are_named_unless_they_are_the_last(run: Run, line: str) -> None:
    write(run.folder / "metrics.jsonl", ROW, line, ROW)
    with pytest.raises(LeafwingError, match=r"metrics\.jsonl, line 2: not a JSON object"):
        run.metrics()
    write(run.folder / "metrics.jsonl", ROW, line)
    assert run.metrics() == [ROW]


def test_a_rollback_removes_later_rows_only(run: Run) -> None:
    lines = [json.dumps(ROW | {"images": images}) for images in (8, 16, 24)]
    write(run.folder / "metrics.jsonl", lines[0], TEXT[:40], *lines[1:], TEXT[:50])
    run.rewind(16)
    assert (run.folder / "metrics.jsonl").read_text().splitlines() == [lines[0], TEXT[:40], lines[1], TEXT[:50]]


def test_a_log_that_is_missing_is_not_begun_anew_in_the_middle(run: Run) -> None:
    run.log(LINE)
    (run.folder / "log.jsonl").unlink()
    for write_again in (lambda: run.log(LINE), lambda: run.rewind(8)):
        with pytest.raises(StorageError, match=r"log\.jsonl was taken away while training: put it back"):
            write_again()
        assert not (run.folder / "log.jsonl").exists()


def test_a_training_that_goes_on_without_its_log_says_so(copied: Path) -> None:
    class Warnings(Reporter):
        def warn(self, text: str) -> None:
            said.append(text)

    said: list[str] = []
    (copied / "log.jsonl").unlink()
    resumed = leafwing.resume(copied, images="+16", progress=Warnings())
    assert [text for text in said if "log.jsonl was missing: it begins at 48 images now" in text]
    assert [record["images"] for record in resumed.records()] == [56, 64]

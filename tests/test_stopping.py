"""Early stopping on a metric, and the best checkpoint."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import leafwing
from leafwing import cli, data
from leafwing.commands import stopping, train_or_resume
from leafwing.errors import LeafwingError
from leafwing.metrics import METRICS, metric
from leafwing.metrics.choice import FeatureChoice
from leafwing.progress import Reporter
from leafwing.runs import Run
from paired import paired_data, write_recipe

TINY: dict[str, Any] = {
    "recipe": "gan",
    "width": 8,
    "batch": 8,
    "threads": 1,
    "log_every": 8,
    "save_every": 8,
    "keep_every": 0,
    "keep_last": 1,
}
WATCHED = {**TINY, "stop_on": "modes.high_quality"}


@pytest.mark.parametrize(
    ("series", "better", "best"),
    [
        ({8: 3.0}, "lower", 8),
        ({8: 3.0, 16: 2.0, 24: 2.5, 32: 2.0}, "lower", 16),
        ({24: 1.0, 8: 3.0, 16: 2.0}, "higher", 8),
        ({8: None, 16: 2.0}, "lower", 16),
        ({8: None, 16: None}, "higher", 8),
    ],
)
def test_the_earliest_of_equal_values_is_the_best(series: dict[int, float | None], better: str, best: int) -> None:
    assert stopping.best_checkpoint(series, better) == best


def test_copies_stop_a_training_and_the_latest_checkpoint_without_any_is_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that has learned nothing copies nothing: the first checkpoint was the best one, and training ended."""
    scripted(monkeypatch, [0, 0, 0, 0, 0.1, 0, 0.2, 0.3, 0.3, 0.3], default=True)
    monkeypatch.setattr(stopping, "check_metrics", lambda *given: None)  # points have no copies, and train fast
    run = leafwing.train("ring", out=tmp_path / "run", images=80, stop_on="memorisation", patience=3, **TINY)
    assert (run.stop_reason, list(run.weights())) == ("no_improvement", [48, 72])
    assert (run.history.best.images, run.history.best.metric) == (48, "copied")


def scripted(
    monkeypatch: pytest.MonkeyPatch,
    numbers: Sequence[float | None],
    better: str = "lower",
    variety: Sequence[float] = (),
    default: bool = False,
    network: str = "x",
) -> None:
    """Replaces `evaluate`: the checkpoints of 8, 16, ... images get these values, and samples of this variety."""

    def evaluate(folder: Path, *, metrics: list[str], checkpoint: int, **how: Any) -> list[dict[str, Any]]:
        number = numbers[checkpoint // 8 - 1]
        measures = stopping.STOP_MEASURES[metrics[0]]
        name = measures[0 if variety or default else -1]
        row = {"metric": name, "by": metrics[0], "images": checkpoint, "value": number, "better": better}
        row |= {"run": "run", "n": 8, "low": None, "high": None}
        row |= {"fingerprint": network, "protocol": {"network": network}}
        row |= {"variety": variety[checkpoint // 8 - 1]} if variety else {}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        return [row]

    monkeypatch.setattr(stopping, "evaluate", evaluate)


def test_training_stops_without_improvement_and_keeps_the_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [5, 3, 4, 2, 2.5, 2.2, 9, 0, 0, 0])
    run = leafwing.train("ring", out=tmp_path / "run", images=80, stop_on="modes.kl", patience=3, **TINY)
    assert (run.stop_reason, run.records()[-1]["images"]) == ("no_improvement", 56)
    assert list(run.weights()) == [32, 56], "best and final"
    assert json.loads((run.folder / "run.json").read_text())["history"]["best"] == {
        "images": 32,
        "metric": "kl",
        "value": 2,
    }
    assert leafwing.Model.load(run, checkpoint=Run(run.folder).resolve_checkpoint("best")).images == 32


def test_no_phase_before_the_last_is_ended_and_each_has_its_own_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks of the second phase begin at 40 images; the checkpoint there has them untrained."""
    scripted(monkeypatch, [5, 1, 3, 3, 0, 4, 2, 2.5, 2.5, 9])
    how: dict[str, Any] = {**TINY, "recipe": "adagan", "components": 2, "images": 80, "grid_every": 80, "health": "off"}
    run = leafwing.train("ring", out=tmp_path / "run", stop_on="modes.kl", patience=2, **how)
    assert (run.stop_reason, run.records()[-1]["images"]) == ("no_improvement", 72)
    assert list(run.weights()) == [56, 72], "best and final"


def test_a_resumed_run_stops_where_an_uninterrupted_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [5, 3, 4, 2, 2.5, 2.2, 9, 0, 0, 0])
    part = leafwing.train("ring", out=tmp_path / "run", images=40, stop_on="modes.kl", patience=3, **TINY)
    assert part.stop_reason == "images"
    resumed = leafwing.resume(part.folder, images=80)
    assert (resumed.stop_reason, list(resumed.weights())) == ("no_improvement", [32, 56])


def test_after_a_stop_patience_counts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [5, 3, 4, 2, 2.5, 2.2, 9, 9, 9, 9, 9])
    options: dict[str, Any] = {"images": 88, "stop_on": "modes.kl", "patience": 3, **TINY}
    run = leafwing.train("ring", out=tmp_path / "run", **options)
    assert (run.stop_reason, run.records()[-1]["images"]) == ("no_improvement", 56)
    again = train_or_resume("ring", out=run.folder, **options)
    assert (again.stop_reason, again.records()[-1]["images"]) == ("no_improvement", 56), "one that has ended is finished"
    resumed = leafwing.resume(run.folder)
    assert (resumed.stop_reason, list(resumed.weights())) == ("no_improvement", [32, 80])


def test_extra_checkpoints_of_interruptions_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [5, 3, 4, 2, 2.5, 2.2, 9, 0, 0, 0])
    tiny = {**TINY, "batch": 4, "log_every": 4}
    part = leafwing.train("ring", out=tmp_path / "run", images=44, stop_on="modes.kl", patience=3, **tiny)
    assert list(part.weights()) == [32, 44]
    resumed = leafwing.resume(part.folder, images=80)
    assert (resumed.stop_reason, list(resumed.weights())) == ("no_improvement", [32, 56])


def test_a_checkpoint_that_a_kill_left_unevaluated_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [5, 3, 4, 0.5, 2.5, 2.2, 9, 0, 0, 0])
    part = leafwing.train("ring", out=tmp_path / "run", images=32, stop_on="modes.kl", patience=3, **TINY)
    rows = (part.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (part.folder / "metrics.jsonl").write_text("".join(rows[:-1]))
    resumed = leafwing.resume(part.folder, images=80)
    assert resumed.history.best.images == 32


@pytest.mark.parametrize("at", [8, 24, 56])
def test_a_signal_ends_a_measurement_at_once_and_the_resumed_run_is_the_uninterrupted_one(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also at 56 images, where the measurement ends the training."""
    scripted(monkeypatch, [5, 3, 4, 2, 2.5, 2.2, 9, 0, 0, 0])
    options: dict[str, Any] = {"images": 80, "stop_on": "modes.kl", "patience": 3, **TINY}
    whole, evaluate = leafwing.train("ring", out=tmp_path / "whole", **options), stopping.evaluate

    def interrupted(folder: Path, *, checkpoint: int, progress: Reporter, **how: Any) -> Any:
        torch.rand(checkpoint)  # what a measurement draws does not matter
        if checkpoint == at:
            os.kill(os.getpid(), signal.SIGINT)
            assert capsys.readouterr().err.endswith("stopping: giving up the measurement of this checkpoint\n"), "at once"
        progress.report_progress("measuring", 1, 2)
        return evaluate(folder, checkpoint=checkpoint, **how)

    monkeypatch.setattr(stopping, "evaluate", interrupted)
    part = leafwing.train("ring", out=tmp_path / "part", **options)
    assert (part.stop_reason, max(part.weights()), len(part.metrics())) == ("interrupted", at, at // 8 - 1)
    assert f"{at} images: stopped before modes was computed; `leafwing resume` computes it first" in capsys.readouterr().err
    again = leafwing.resume(part.folder)  # the first measurement of a resumed run can be given up, too
    assert (again.stop_reason, max(again.weights()), len(again.metrics())) == ("interrupted", at, at // 8 - 1)
    monkeypatch.setattr(stopping, "evaluate", evaluate)
    resumed = leafwing.resume(part.folder)
    assert (resumed.stop_reason, list(resumed.weights())) == ("no_improvement", [32, 56])
    assert resumed.history.best == whole.history.best
    assert resumed.weights()[56].read_bytes() == whole.weights()[56].read_bytes()


def test_after_a_signal_no_measurement_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [5, 3, 4, 2, 2.5, 2.2, 9, 0, 0, 0])

    class Impatient(Reporter):
        def after_turn(self, images: int) -> None:
            if images == 44:
                os.kill(os.getpid(), signal.SIGINT)

    tiny = {**TINY, "batch": 4, "log_every": 4}
    part = leafwing.train(
        "ring", out=tmp_path / "run", images=80, stop_on="modes.kl", patience=3, progress=Impatient(), **tiny
    )
    assert (part.stop_reason, max(part.weights())) == ("interrupted", 44)
    assert max(row["images"] for row in part.metrics()) == 40
    resumed = leafwing.resume(part.folder)
    assert (resumed.stop_reason, list(resumed.weights())) == ("no_improvement", [32, 56])


@pytest.mark.parametrize(("processes", "should_stop"), [(1, False), (2, False), (2, True)])
def test_a_measurement_is_only_given_up_by_one_process(processes: int, should_stop: bool) -> None:
    stopping.Watchful(lambda: should_stop, processes).report_progress("measuring", 1, 2)
    with pytest.raises(stopping.Interrupted):
        stopping.Watchful(lambda: True, 1).report_progress("measuring", 1, 2)


def test_the_best_checkpoint_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1, 3, 2, 4, 5, 6, 9, 9, 9, 9])
    part = leafwing.train("ring", out=tmp_path / "run", images=24, stop_on="modes.kl", patience=9, **TINY)
    part.weights()[8].unlink()
    assert leafwing.resume(part.folder, images=40).history.best.images == 24


@pytest.mark.parametrize(("again", "best"), [(3.5, 16), (9, 24)])
def test_a_resumed_run_with_another_network_measures_its_best_checkpoint_again(
    again: float, best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `own` is on another type of processor: no value is comparable, and the best checkpoint was replaced and deleted."""
    monkeypatch.setattr(stopping, "choose_stop_features", lambda *given: FeatureChoice("own"))
    scripted(monkeypatch, [5, 3, 4])
    part = leafwing.train("ring", out=tmp_path / "run", images=24, stop_on="modes.kl", patience=9, **TINY)
    scripted(monkeypatch, [0, again, 8, 8.5], network="y")
    resumed = leafwing.resume(part.folder, images=32)
    assert (resumed.history.best.images, resumed.history.best.value) == (best, min(again, 8))
    assert list(resumed.weights()) == [best, 32]
    text = "16 images: computing modes of the best checkpoint again, because own is another network here"
    assert capsys.readouterr().err.count(text) == 1


def test_an_undefined_value_is_not_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [None, 3, None, None, None, 9])
    run = leafwing.train("ring", out=tmp_path / "run", images=48, stop_on="modes.kl", patience=2, **TINY)
    assert (run.stop_reason, run.records()[-1]["images"], run.history.best.images) == ("no_improvement", 32, 16)


def test_a_precision_of_copies_of_one_picture_is_not_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in comparisons: all of them lie in the same balls of real images."""
    scripted(monkeypatch, [0.4, 0.3, 1.0, 1.0], "higher", [0.8, 0.7, 0.02, 0.01])
    options = {**TINY, "recipe": "dcgan", "images": 32, "stop_on": "precision", "patience": 2, "size": 16, "max_width": 8}
    run = leafwing.train("digits", out=tmp_path / "run", **options)
    best = run.history.best
    assert (run.stop_reason, run.records()[-1]["images"]) == ("no_improvement", 24)
    assert (best.images, best.metric, best.value) == (8, "precision", 0.4)
    assert "24 images: precision 1, which does not count: the samples are copies of one picture; the best was 0.4 at 8" in (
        capsys.readouterr().err
    )


def test_values_that_are_all_undefined_are_shown_as_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, [None, None])
    words = [f"--{name.replace('_', '-')}={value}" for name, value in {**TINY, "images": 16, "stop_on": "modes.kl"}.items()]
    assert cli.run(["train", "ring", f"--out={tmp_path / 'run'}", *words]) == 0
    streams = capsys.readouterr()
    assert "16 images: kl unknown; the best was unknown at 8 images" in streams.err
    assert "best     kl unknown at 8 images" in streams.out


def test_patience_without_a_metric_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match="patience=3: needs --stop-on"):
        leafwing.train("ring", out=tmp_path / "run", images=16, patience=3, **TINY)


def test_evaluations_do_not_change_training(tmp_path: Path) -> None:
    plain = leafwing.train("ring", out=tmp_path / "plain", images=32, **TINY)
    watched = leafwing.train("ring", out=tmp_path / "watched", images=32, patience=9, **WATCHED)
    a, b = (run.weights()[32].read_bytes() for run in (plain, watched))
    assert a == b
    assert watched.history.best.metric == "high_quality"
    assert plain.history.best is None


def test_images_are_held_out_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [1.0] * 9)
    how: dict[str, Any] = {"stop_on": "kid", "images": 8, "max_width": 8, "size": 16, **TINY, "recipe": "dcgan"}
    assert leafwing.train("digits", out=tmp_path / "a", **how).config["data"]["held_out"] == 449
    assert leafwing.train("digits", out=tmp_path / "b", hold_out=0, **how).config["data"]["held_out"] == 0


@pytest.mark.parametrize(
    ("stop_on", "message"),
    [
        ("kidd", "no metric 'kidd'.*kid"),
        ("fid", "fid needs images"),
        ("prdc.wrong", "'wrong' of prdc; choose from precision, recall"),
        ("ms_ssim", "cannot decide.* choose from fid, kid.* swd, reconstruction, .* memorisation$"),
        ("ppl", "ppl is lowest before anything is learned, .* choose another, such as kid"),
        ("memorisation.duplicates", "duplicates is lowest before .* choose copied, which"),
    ],
)
def test_an_unsuitable_metric_is_named(stop_on: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=message):
        leafwing.train("ring", out=tmp_path / "run", images=16, stop_on=stop_on, **TINY)


def test_a_metric_that_does_not_suit_the_output_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe generates from what is known only when it is built."""
    pairs, source = paired_data(), tmp_path / "pairs"
    source.mkdir()
    monkeypatch.setattr(data, "load", lambda source, **options: pairs)
    for recipe, stop_on, message in (
        (str(write_recipe(tmp_path)), "cycle", "metric cycle needs a run that also translates its images back"),
        ("dcgan", "reconstruction.ssim", "metric reconstruction .* image is generated from latents"),
    ):
        with pytest.raises(LeafwingError, match=message):
            leafwing.train(source, recipe, out=tmp_path / "run", images=16, stop_on=stop_on, threads=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pairs", "hold_out", "stop_on", "message"),
    [
        (
            40,
            None,
            "recall",
            r"4 real images are too few for prdc \(at least 6\): hold out more \(--hold-out 6\), or choose another",
        ),
        (25, None, "kid", r"2 real images are too few for kid \(at least 3\): hold out more \(--hold-out 3\)"),
        (40, 1, "fid", r"1 real image is too few for fid \(at least 2\): hold out more"),
        (5, 0, "prdc", r"5 real images are too few for prdc \(at least 6\): choose another metric"),
        (40, 6, "coverage", None),
        (25, None, "feature_distance", None),
    ],
)
def test_too_few_real_images_are_noticed_before_training(
    pairs: int, hold_out: int | None, stop_on: str, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default a tenth of the pairs is held out."""
    scripted(monkeypatch, [1.0])
    images = replace(paired_data(pairs), fingerprint=f"{pairs:064}")
    monkeypatch.setattr(data, "load", lambda source, **options: images)
    (tmp_path / "pairs").mkdir()
    how: dict[str, Any] = {"images": 8, "save_every": 8, "threads": 1, "stop_on": stop_on}
    how |= {} if hold_out is None else {"hold_out": hold_out}
    with pytest.raises(LeafwingError, match=message) if message else nullcontext():
        leafwing.train(tmp_path / "pairs", str(write_recipe(tmp_path)), out=tmp_path / "run", **how)
    assert (tmp_path / "run").exists() == (message is None)


def test_a_number_is_named_with_or_without_its_metric() -> None:
    for name, measures in stopping.STOP_MEASURES.items():
        assert stopping.parse_stop_on(name) == (name, measures[0])
        for measure in measures:
            assert stopping.parse_stop_on(f"{name}.{measure}") == (name, measure)
            assert stopping.parse_stop_on(measure) == (name, measure), "two metrics have a number of this name"


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_with_a_direction_can_decide(name: str) -> None:
    source = Path(inspect.getfile(metric(name))).read_text(encoding="utf-8")
    assert (name in stopping.STOP_MEASURES) == bool(re.search(r'"(lower|higher)"', source))
    assert all(re.search(rf"['\"]{measure}['\"]", source) for measure in stopping.STOP_MEASURES.get(name, ()))


def test_best_without_early_stopping_is_an_error(tmp_path: Path) -> None:
    run = leafwing.train("ring", out=tmp_path / "run", images=8, **TINY)
    with pytest.raises(LeafwingError, match="--stop-on"):
        run.resolve_checkpoint("best")

"""The scale of an evaluation, what its figures are said to mean, and its progress."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leafwing
from leafwing.commands.evaluate import evaluate
from leafwing.commands.figures import as_text, cells, lead
from leafwing.commands.real_data import default_samples, report_caveats
from leafwing.commands.steps import Steps, describe
from leafwing.game import DataSpec
from leafwing.metrics import scale as scales
from leafwing.metrics.conclusions import says_nothing
from leafwing.metrics.prdc import variety
from leafwing.metrics.protocol import Protocol
from leafwing.metrics.table import RunResult
from leafwing.model import Model
from leafwing.progress import Reporter
from leafwing.runs import Run

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 16, "size": 16, "threads": 1, "precision": "fp32"}
PROTOCOL = Protocol(
    "d" * 64, "train", 0, 1_000, 1_000, "64x64x3", "crop", "white", False, "defaults", "lite0", "a" * 64, 0, "fp32"
)


def row(metric: str, value: float, real: float, noise: float, **changes: Any) -> dict[str, Any]:
    """A row of `evaluate` with its scale."""
    scale = {"real": real, "noise": noise, "others": "other real images", "n_real": 1_000, "n_others": 1_000, "n_noise": 256}
    better = "lower" if metric in ("fid", "kid") else "higher"
    fields = {"metric": metric, "value": value, "low": None, "high": None, "better": better, "images": 64, "n": 1_000}
    return {**fields, "protocol": PROTOCOL.as_dict(), "scale": scale, **changes}


def test_a_scale_with_an_unknown_end_says_nothing() -> None:
    for end in ("real", "noise"):
        of_fid = row("fid", 5.0, 1.0, 9.0)
        assert lead([of_fid])
        of_fid["scale"][end] = None
        assert lead([of_fid]) == []


# --- what the figures mean ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            1_700,
            "The samples are farther from the real images than random noise: FID 1700; other real images have 8, ",
        ),
        (1_300, "The samples are almost as far from the real images as random noise: "),
        (
            80,
            "The distance of the samples from the real images is 10.0 times that of other real images, and 5% of that of random "
            "noise: FID 80;",
        ),
        (
            1_270,
            "The distance of the samples from the real images is 158.8 times that of other real images, and 79% of that of random "
            "noise: ",
        ),
        (7, "By this measure the samples are as near to the real images as other real images are: "),
    ],
)
def test_the_first_sentence_says_where_on_the_scale_a_run_is(value: float, text: str) -> None:
    (sentence,) = lead([row("precision", 0.5, 0.9, 0), row("kid", 1, 0, 900), row("fid", value, 8, 1_600)])
    assert sentence.startswith(text)


def test_precision_is_told_as_samples_that_could_be_real_images() -> None:
    fid, precision = row("fid", 80, 8, 1_600), row("precision", 0.431, 0.86, 0)
    text = "To the feature network, 43 of 100 samples could be real images; of 100 other real images, 86 could."
    assert lead([fid, precision])[0].endswith(f" {text}")
    flattering = precision | {"protocol": {**PROTOCOL.as_dict(), "features": "own"}}
    for said_elsewhere in (
        flattering,
        precision | {"variety": 0.01},
        precision | {"value": None},
        precision | {"scale": None},
    ):
        assert text not in " ".join(lead([fid, said_elsewhere]))


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ({"hat": 0.904, "skirt": 0.1}, " Of 100 samples of each class: hat (90), skirt (10)."),
        (
            {f"c{i}": 1 - i / 20 for i in range(12)},
            " class: c0 (100), c1 (95), c2 (90), c3 (85), c4 (80), 2 classes between, c7 (65), c8 (60), c9 (55), c10 (50), c11 (45).",
        ),
    ],
)
def test_the_precision_of_classes_is_told_best_first(shares: dict[str, float], text: str) -> None:
    rows = [row("fid", 80, 8, 1_600), row("precision", 0.431, 0.86, 0) | {"by_class": shares}]
    assert lead(rows)[0].endswith(text)
    assert "each class" not in lead([rows[0], rows[1] | {"by_class": {"hat": 0.5}}])[0]


def test_many_samples_that_are_alike_are_named() -> None:
    def said(duplicates: float | None) -> str:
        return " ".join(lead([row("fid", 80, 8, 1_600), row("duplicates", 0, 0, 0) | {"value": duplicates, "scale": None}]))

    assert said(0.16).endswith(" 16 of 100 samples are nearly identical to another one.")
    assert "5 of 100" in said(0.05)
    for few in (0.04, 0, None):
        assert "identical" not in said(few)


def test_an_interval_that_reaches_real_images_is_near_enough() -> None:
    assert "as near" in lead([row("kid", 0.3, 0.01, 900, low=-0.1, high=0.7)])[0]
    assert "0.033% of that of random noise" in lead([row("kid", 0.3, 0.01, 900, low=0.1, high=0.5)])[0]


def test_fid_of_other_numbers_of_images_is_not_put_on_the_scale() -> None:
    """It is higher for fewer images, so that a scale from halves would flatter every run."""
    halves = row("fid", 20, 30, 1_600)
    halves["scale"] |= {"others": "halves", "n_real": 500, "n_others": 500}
    assert lead([halves]) == []
    assert lead([halves, row("kid", 2, 0.01, 900)])[0].startswith(
        "The distance of the samples from the real images is 0.22% of that of random noise: KID 2;"
    )
    assert lead([row("fid", 20, 30, 1_600, n=5_000)]) == []


def test_copies_of_one_picture_have_neither_precision_nor_density() -> None:
    rows = [row("fid", 900, 8, 1_600), *(row(name, 1, 0.9, 0, variety=0.01) for name in ("precision", "recall", "density"))]
    assert [says_nothing(one) for one in rows] == [False, True, False, True]
    text = as_text(rows)
    assert "The samples are nearly the same picture: they vary 1% as much as real images in these features." in text
    assert text.count("no variety: not comparable") == 2
    result = RunResult("dcgan", 0, "finished", rows=rows)
    assert result.at(64) == {"fid": 900, "precision": None, "recall": 1, "density": None}
    assert result.curve("density") == []


def test_precision_of_pictures_in_colour_is_marked_where_the_features_flatter() -> None:
    own = {**PROTOCOL.as_dict(), "features": "own"}
    rows = [row(name, 0.93, 0.98, 0, protocol=own) for name in ("precision", "recall")]
    assert [line[1] for line in cells(rows)[1:]] == ["precision *", "recall"]
    assert "\n* own judges texture more than shape" in as_text(rows)
    for protocol in (PROTOCOL.as_dict(), {**own, "shape": "16x16x1"}):
        assert "*" not in as_text([row("precision", 0.93, 0.98, 0, protocol=protocol)])


@pytest.mark.parametrize(
    ("n_real", "hold_out"), [(1_000, "auto"), (200, "auto, or a tenth of the images if there are fewer than 500")]
)
def test_the_advice_to_hold_out_works_with_so_many_images(n_real: int, hold_out: str) -> None:
    listener = Listener()
    report_caveats(replace(PROTOCOL, n_real=n_real), ["kid"], listener)
    assert f"Trained with --hold-out {hold_out}, " in listener.texts[0]


def test_without_a_scale_the_table_comes_first() -> None:
    bare = row("fid", 80, 8, 1_600)
    del bare["scale"]
    assert as_text([bare]).startswith("images  metric")
    assert "noise" not in as_text([bare])


def test_variety_is_relative_to_real_images() -> None:
    real = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    assert variety(real, real / 2) == pytest.approx(0.5)
    assert variety(real, real[:1].repeat(10, axis=0)) == pytest.approx(0, abs=1e-6)
    assert np.isnan(variety(real[:1], real))


# --- the scale ----------------------------------------------------------------------------------------------------------------


def test_real_images_are_near_and_noise_is_far() -> None:
    random = np.random.default_rng(0)
    real, others, noise = random.normal(size=(200, 4)), random.normal(size=(200, 4)), random.normal(9, 0.1, size=(50, 4))
    scale = scales.compute(real, others, noise, "other real images")
    assert scale.real["fid"] < 1 < scale.noise["fid"]
    assert scale.real["precision"] > 0.8
    assert scale.noise["precision"] == 0
    assert (scale.n_real, scale.n_others, scale.n_noise) == (200, 200, 50)
    halves = scales.compute(real, None, noise, "other real images")
    assert (halves.others, halves.n_real, halves.n_others) == ("halves", 100, 100)


def test_noise_depends_on_its_number_only() -> None:
    spec = DataSpec.images(8, 8, 3)
    parts = [scales.noise_images(spec, 0, 3), scales.noise_images(spec, 3, 5)]
    assert [part.shape for part in parts] == [(3, 3, 8, 8), (2, 3, 8, 8)]
    assert (np.concatenate(parts) == scales.noise_images(spec, 0, 5).numpy()).all()
    assert -1 <= parts[0].min() < parts[0].max() <= 1


def test_a_scale_is_stored_and_damage_is_noticed(tmp_path: Path) -> None:
    scale = scales.Scale({"fid": 1.0}, {"fid": 9.0}, "halves", 10, 10, 4)
    scales.write(tmp_path / "new" / "scale.json", scale)
    assert scales.read(tmp_path / "new" / "scale.json") == scale
    content = (tmp_path / "new" / "scale.json").read_bytes()
    (tmp_path / "changed.json").write_bytes(content.replace(b"1", b"2"))
    assert scales.read(tmp_path / "changed.json") is None
    assert scales.read(tmp_path / "missing.json") is None
    (tmp_path / "damaged.json").write_text('{"real": 1')
    assert scales.read(tmp_path / "damaged.json") is None
    scales.write(tmp_path / "new" / "scale.json" / "below", scale)  # a cache that cannot be written is no error


class Listener(Reporter):
    """Collects messages and progress."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.progress: list[tuple[str, int, int]] = []

    def say(self, text: str) -> None:
        self.texts.append(text)

    def report_progress(self, what: str, done: int, total: int) -> None:
        self.progress.append((what, done, total))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Digits, with two checkpoints."""
    out = tmp_path_factory.mktemp("scale") / "run"
    return leafwing.train("digits", "dcgan", images=64, save_every=32, out=out, device="cpu", **TINY)


def refuse_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, a checkpoint that is loaded fails the test."""

    def fail(*given: object, **named: object) -> None:
        pytest.fail("the checkpoint is loaded, although nothing is to be computed")

    monkeypatch.setattr(Model, "load", fail)


def test_the_scale_is_computed_once_for_all_checkpoints(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    compute = scales.compute
    monkeypatch.setattr(scales, "compute", lambda *parts: calls.append(1) or compute(*parts))
    listener = Listener()
    rows = evaluate(run.folder, metrics="fid,swd", n=150, features="pixels", checkpoint="all", progress=listener)
    assert calls == [1]
    of_fid = [one["scale"] for one in rows if one["metric"] == "fid"]
    assert len(of_fid) == 2
    assert of_fid[0] == of_fid[1]
    assert of_fid[0]["others"] == "other real images"
    assert of_fid[0]["real"] < of_fid[0]["noise"]
    assert all("scale" not in one for one in rows if one["by"] == "swd")
    (forecast,) = (text for text in listener.texts if text.startswith("evaluating"))
    assert forecast.startswith("evaluating 150 samples against 150 real images for each of 2 checkpoints: about ")
    assert {what for what, *_ in listener.progress} <= {"evaluating, in percent"}


def test_figures_stored_without_a_scale_get_it_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of early stopping."""
    how: dict[str, Any] = {"metrics": "fid", "n": 140, "features": "pixels"}
    (bare,) = evaluate(run.folder, with_scale=False, **how)
    assert "scale" not in bare
    before = run.metrics()
    (scaled,) = evaluate(run.folder, **how)
    assert run.metrics() == [*before, scaled]
    refuse_loading(monkeypatch)
    assert evaluate(run.folder, **how) == [scaled]
    assert {name: value for name, value in scaled.items() if name != "scale"} == bare
    assert scaled["scale"]["real"] > 0


def test_too_few_images_for_a_scale_are_noticed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"metrics": "kid", "n": 11, "features": "pixels"}
    evaluate(run.folder, with_scale=False, **how)
    (row,) = evaluate(run.folder, **how)
    assert row["scale"] is None
    assert "noise" not in as_text([row])
    refuse_loading(monkeypatch)
    assert evaluate(run.folder, **how) == [row]


def test_held_out_images_are_compared_with_training_images(tmp_path: Path) -> None:
    run = leafwing.train("digits", "dcgan", images=16, hold_out=120, out=tmp_path / "run", device="cpu", **TINY)
    (one,) = evaluate(run.folder, metrics="kid", features="pixels")
    assert one["scale"]["others"] == "training images"
    assert (one["scale"]["n_real"], one["scale"]["n_others"]) == (120, 120)
    assert "a generator of copies would have these" in as_text([one])


# --- numbers of samples and progress --------------------------------------------------------------------------------------------


def test_slow_networks_judge_fewer_samples_by_default() -> None:
    assert [default_samples(name) for name in ("lite0", "inception", "own", "pixels", "")] == [
        1_000,
        1_000,
        5_000,
        5_000,
        5_000,
    ]


def test_all_steps_are_one_line_of_progress() -> None:
    reports: list[tuple[str, int, int]] = []
    steps = Steps({"sampling": 1.0, "features of noise": 2.0}, 2, lambda *report: reports.append(report))
    steps("training the segmenter", 1, 2)
    assert reports == [], "not a step of this forecast"
    for _ in range(2):
        for done in range(1, 101):
            steps("sampling", done, 100)
    steps("features of noise", 256, 256)
    steps.finish()
    assert [done for _, done, _ in reports] == [*range(1, 51), 99, 100]
    assert {(what, total) for what, _, total in reports} == {("evaluating, in percent", 100)}


def test_the_forecast_says_what_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leafwing.commands.steps.load", lambda: None)
    text = describe({"sampling": 10.0, "features of real images": 30.0, "features of noise": 30.0}, PROTOCOL, 3)
    assert text == (
        "evaluating 1,000 samples against 1,000 real images for each of 3 checkpoints: about 1m 30s, 1m 00s of it once for these "
        "data; fewer samples: -n 500"
    )
    assert describe({"sampling": 0.1}, PROTOCOL, 1) == "evaluating 1,000 samples against 1,000 real images: about 1s"
    for programs, longer in ((2.0, False), (2.1, True)):
        monkeypatch.setattr("leafwing.commands.steps.load", lambda programs=programs: (programs, 2))
        assert ("several times as long" in describe({"sampling": 0.1}, PROTOCOL, 1)) == longer

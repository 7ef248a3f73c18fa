"""The recommended training: the rule on both sides of its numbers, and how `train`, `--dry-run` and `doctor` apply it."""

from __future__ import annotations

import importlib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leafwing
from bare_run import create, untrained
from leafwing import cli, commands, data, recipes
from leafwing.cli.train import describe_plan
from leafwing.commands import recommend
from leafwing.commands.doctor import facts_of_report, recommendation
from leafwing.commands.speed import MEASURING, images_within, in_parts, mean_speed, measured_parts
from leafwing.data.doctor import SourceReport
from leafwing.data.doctor import doctor as examine
from leafwing.engine import setup
from leafwing.errors import LeafwingError
from leafwing.game import Clock, DataSpec, Game
from leafwing.progress import Reporter
from leafwing.quantities import count
from leafwing.recipes import _recommended as rule
from leafwing.recipes._recommended import Choice, Facts, choose
from leafwing.settings import CriticSettings
from tiny import PICTURES, build, first_data, start

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}
WIDEST, *_, NARROWEST = rule.ENOUGH
DRY_RUN = importlib.import_module("leafwing.commands.forecast")


class Listener(Reporter):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say


def write(root: Path, counts: dict[str, int]) -> Path:
    """Random images, in folders of these names."""
    noise = np.random.default_rng(0)
    for name, number in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


def constant(images_per_second: float) -> Any:
    return lambda choice: images_per_second


def never(choice: Choice) -> float:
    raise AssertionError("the speed was measured")


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (rule.RECOGNISABLE - 5_000, rule.EXPECTATION),
        (rule.RECOGNISABLE, "expect things that can be recognised in some samples only: in many after 200k"),
        (rule.MANY_RECOGNISABLE - 10_000, "in some samples only"),
        (rule.MANY_RECOGNISABLE, ""),
    ],
)
def test_the_reasons_say_what_to_expect(images: int, expected: str) -> None:
    choice = choose(Facts("images", 5_000), constant((images + 1) / rule.HOUR / rule.MARGIN))
    assert choice.settings["images"] == images
    assert expected in choice.reasons[-1]
    assert ("expect" in choice.reasons[-1]) == bool(expected)
    started = choose(Facts("images", 5_000, before=rule.MANY_RECOGNISABLE), constant(10))
    assert "expect" not in started.reasons[-1]


def test_every_recipe_of_the_rule_exists_and_has_the_options() -> None:
    assert {*rule.RECIPES} <= {*recipes.names()}
    for facts in (Facts("images", 5_000), Facts("images", 50), Facts("images", 5_000, smallest=500), Facts("points", 1_000)):
        choice = choose(facts, constant(100))
        assert choice.recipe in rule.RECIPES
        recipes.describe(choice.recipe).resolve(choice.options)


@pytest.mark.parametrize("kind", ["pairs", "enlarging", "unpaired"])
def test_data_with_inputs_get_a_translator(kind: rule.Kind) -> None:
    choice = choose(Facts(kind, 500), constant(10))
    assert "input" in recipes.describe(choice.recipe).needs
    assert choice.settings["images"] == 34_000


def test_labels_are_used_where_each_class_has_enough_images() -> None:
    few, enough = (choose(Facts("images", 9_000, smallest=n), constant(100)) for n in (rule.OF_A_CLASS - 1, rule.OF_A_CLASS))
    assert "label" not in recipes.describe(few.recipe).needs
    assert enough.recipe != few.recipe
    assert "ask for a class" in " ".join(enough.reasons)
    advice = few.reasons[0].partition("labels are not used (--")[2].removesuffix(" would)")
    advised = {name.replace("-", "_"): value for name, value in (item.split(" ") for item in advice.split(" --"))}
    expected = {"recipe": enough.recipe, **enough.options, "augment": rule.AUGMENT}
    assert {name: parse(value) for name, value in advised.items()} == expected


def test_holding_out_is_proposed_where_it_would_do_something() -> None:
    (line,) = recommend.describe_hold_out(Facts("images", 1_800), {})
    assert "--hold-out auto (here 450)" in line
    for facts, values in (
        (Facts("images", 499), {}),
        (Facts("points", 1_800), {}),
        (Facts("images", 1_800), {"hold_out": 0}),
    ):
        assert recommend.describe_hold_out(facts, values) == []


def parse(value: str) -> str | float:
    return count(value) if value[0].isdecimal() else value


def test_critics_see_changed_images_where_there_are_few() -> None:
    few, many = (choose(Facts("images", n), constant(100)) for n in (rule.FEW - 1, rule.FEW))
    assert few.settings["augment"] == rule.AUGMENT
    assert "augment" not in many.settings


def test_a_training_that_starts_from_a_run_with_plain_images_changes_them_where_there_are_few(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    few = recommend.started(run, Facts("images", rule.FEW - 1))
    assert few.settings["augment"] == rule.AUGMENT
    assert rule.AUGMENTED in few.reasons
    for facts in (
        Facts("images", rule.FEW),
        Facts("images", 20, chosen={"augment"}),
        Facts("pairs", 20),
    ):
        assert "augment" not in recommend.started(run, facts).settings
    run.update(replace(run.settings, critic=CriticSettings("none")))
    assert recommend.started(run, Facts("images", 20)).settings["augment"] == "none"
    own = untrained(tmp_path / "own", "r3gan", {"width": 4, "max_width": 8}, DataSpec.images(16, 16))
    assert "augment" not in recommend.started(own, Facts("images", 20)).settings, "it has one by default"


def test_a_training_without_labels_starts_from_a_run_with_labels(tmp_path: Path) -> None:
    """Its recipe is that without labels, with the options that both have."""
    options = {"width": 4, "max_width": 8, "latent": 6, "condition_scale": rule.CONDITION_SCALE}
    run = untrained(tmp_path / "run", "cgan", options, DataSpec.images(16, 16, labels=("a", "b")))
    assert recommend.started(run, Facts("images", 20, labelled=True)).recipe == "cgan"
    choice = recommend.started(run, Facts("images", 20))
    assert choice.recipe == "dcgan"
    assert (choice.options["width"], choice.options["latent"], choice.settings["size"]) == (4, 6, "16x16")
    recipes.describe("dcgan").resolve(choice.options)
    assert "no labels here, which cgan needs" in choice.reasons[0]


def test_no_reason_is_said_for_what_the_user_has_set() -> None:
    facts = Facts("images", 5_000, smallest=500)
    for name in ("ema", "condition-scale", "augment", "mirror"):
        reasons = choose(replace(facts, chosen={name.replace("-", "_")}), constant(100)).reasons
        assert not any(name in reason for reason in reasons)
        assert sum(name in reason for reason in choose(facts, constant(100)).reasons) == 1
    few = choose(Facts("images", 5_000, smallest=5, chosen={"ema"}), constant(100))
    assert "--ema" not in few.reasons[0], "nor advised"


def test_so_few_images_as_were_never_tried_are_named() -> None:
    for pictures, few in ((rule.FEWEST - 1, True), (rule.FEWEST, False)):
        assert ("expect copies" in choose(Facts("images", pictures), constant(100)).reasons[0]) == few


def test_a_translator_that_would_hardly_see_its_pictures_is_warned_of() -> None:
    for speed, few in ((0.5, True), (5.0, False)):
        reasons = choose(Facts("enlarging", 2_000, seconds=480.0), constant(speed)).reasons
        assert any("expect nothing useful" in reason for reason in reasons) == few


def test_the_networks_are_as_wide_as_the_time_allows() -> None:
    enough = rule.ENOUGH[WIDEST] / rule.HOUR / rule.MARGIN
    assert choose(Facts("images", 5_000), constant(enough * 1.01)).options["width"] == WIDEST
    assert choose(Facts("images", 5_000), constant(enough * 0.99)).options["width"] == NARROWEST
    assert choose(Facts("images", 5_000, images=rule.ENOUGH[WIDEST]), never).options["width"] == WIDEST


def test_a_slow_machine_or_a_short_time_gets_small_images() -> None:
    slow = rule.LEAST / 600 / rule.MARGIN * 0.99
    facts = Facts("images", 5_000, seconds=600.0, may_shrink=True)
    choice = choose(facts, constant(slow))
    assert choice.settings["size"] == rule.SMALL
    assert "size" not in choose(facts, constant(slow * 1.1)).settings
    assert "size" not in choose(Facts("images", 5_000, seconds=600.0), constant(slow)).settings  # set by the user
    assert "size" not in choose(Facts("images", 5_000, side=32, seconds=600.0, may_shrink=True), constant(slow)).settings


def test_thresholds_hold_for_what_is_planned_and_not_for_the_whole_time() -> None:
    """A twentieth of the time is left for checkpoints and samples, so images that would fill it do not count."""
    facts = Facts("images", 5_000, may_shrink=True)
    for least in (rule.LEAST, rule.ENOUGH[WIDEST]):
        for speed in (least / rule.HOUR * 1.01, least / rule.HOUR / rule.MARGIN * 1.01):
            choice = choose(facts, constant(speed))
            assert "size" in choice.settings or choice.settings["images"] >= rule.LEAST
            assert choice.options["width"] != WIDEST or choice.settings["images"] >= rule.ENOUGH[WIDEST]


@pytest.mark.parametrize(("images", "words"), [(20_000, "4.0"), (500_000, "100"), (4_000, "0.8"), (100, "0.02")])
def test_how_often_each_picture_is_shown(images: int, words: str) -> None:
    assert rule.repetitions(images, 5_000) == f"each picture about {words} times"


def test_the_guide_has_the_numbers_of_the_rule() -> None:
    page = (Path(__file__).parents[1] / "docs" / "guide" / "commands.md").read_text(encoding="utf-8")
    section = " ".join(page.partition("### The recommended training")[2].partition("\n## ")[0].split())
    assert f"{rule.OF_A_CLASS} images of the smallest class" in section
    assert f"Batches of {rule.BATCH}" in section
    assert f"{WIDEST}, or {NARROWEST} where fewer than {rule.ENOUGH[WIDEST]:,} images of that width" in section
    assert f"{rule.SMALL} px if at 64 px fewer than {rule.LEAST:,} images" in section
    assert f"fewer than {rule.FEW:,} images" in section
    assert f"at most {rule.MOST // 10**6} million images or {rule.MANY_POINTS // 10**6} million points" in section


def test_a_dry_run_of_a_short_training_says_what_keeps_it_from_choosing_size_and_networks(tmp_path: Path) -> None:
    for i in range(8):
        Image.effect_noise((64, 64), 50 + i).convert("RGB").save(tmp_path / f"{i}.png")
    small: dict[str, Any] = {"width": 4, "max_width": 8, "batch": 4, "threads": 1, "precision": "fp32"}

    def hint(recipe: str | None, **values: Any) -> str:
        expected = commands.forecast(tmp_path, recipe, **small, **values)["expect"]
        assert expected.startswith(rule.EXPECTATION)
        return expected.removeprefix(rule.EXPECTATION).removesuffix(", size and networks are chosen for the time")

    assert hint("dcgan", size=32, time=1) == "; without --recipe"
    assert hint("dcgan", size=64, images=8) == "; without --recipe, --size and --images"
    assert hint(None, size=64, images=8) == "; without --size and --images"
    assert hint(None, size=32, time=1) == "", "all that can be chosen is"


def test_windows_and_tiles_are_no_smaller_than_by_default(tmp_path: Path) -> None:
    """They would show less of the pictures, and there would be more tiles."""
    source = tmp_path / "photos"
    source.mkdir()
    for i in range(3):
        Image.effect_noise((160, 160), 50 + i).convert("RGB").save(source / f"{i}.png")
    for values, may in (({}, True), ({"fit": "pad"}, True), ({"fit": "tiles"}, False), ({"crop_from": "160"}, False)):
        assert recommend.may_shrink(values) == may
    assert recommend.facts_of(source, {}, {}, Reporter()).may_shrink
    assert not recommend.facts_of(source, {"crop_from": "80"}, {}, Reporter()).may_shrink
    assert not recommend.facts_of(data.load(source), {}, {}, Reporter()).may_shrink, "it has been read already"
    assert ["or 32x32" in commands.doctor(source, **values).text() for values in ({}, {"crop_from": "80"})] == [True, False]


def test_the_length_follows_from_speed_and_time() -> None:
    choice = choose(Facts("images", 5_000, seconds=600.0), constant(123.4))
    assert choice.settings["images"] == 70_000  # 123.4 x 600 x 0.95, rounded down to two digits
    assert choice.settings["time"] == 600.0
    most = choose(Facts("images", 5_000), constant(1e6))
    assert most.settings["images"] == rule.MOST
    assert (
        most.reasons[-1]
        == "3M images, the most that are recommended: about 3s on this machine, each picture about 600 times"
    )
    assert choose(Facts("images", 5_000), constant(1e-9)).settings["images"] == 1
    assert not {"images", "time"} & choose(Facts("images", 5_000, images=1_000), never).settings.keys()


def test_training_without_a_recipe_says_what_was_chosen_and_why(tmp_path: Path) -> None:
    source, listener = write(tmp_path / "photos", {"": 24}), Listener()
    run = leafwing.train(source, images=16, out=tmp_path / "run", progress=listener, **TINY)
    at = next(i for i, line in enumerate(listener.lines) if "recommended:" in line)
    assert run.recipe in listener.lines[at]
    assert "24 images" in listener.lines[at + 1]
    assert run.options["width"] == 8  # the user's
    assert run.options["ema"] == choose(Facts("images", 24, images=16), never).options["ema"]
    assert run.settings.critic.augment == rule.AUGMENT
    named = leafwing.train(source, run.recipe, images=16, out=tmp_path / "named", progress=listener, **TINY)
    assert named.settings.critic.augment is None


def test_the_speed_is_measured_if_the_length_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, speeds = write(tmp_path / "photos", {"": 24}), iter([1.0, 50.0])
    monkeypatch.setattr(recommend, "measured_speed", lambda training: next(speeds))
    options = {name: value for name, value in TINY.items() if name != "width"}
    plan = commands.forecast(source, time="10s", **options)
    assert plan["options"]["width"] == NARROWEST
    assert plan["schedule"] | {"images": 470, "time": 10.0} == plan["schedule"]


@pytest.mark.parametrize(
    ("how", "is_measured"),
    [({"time": "10s"}, True), ({"images": 100}, True), ({"images": 100, "recipe": "dcgan"}, True), ({"images": 16}, False)],
)
def test_measuring_is_announced_once_before_it_begins(
    how: dict[str, Any], is_measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run measures once more, and a training only if its length is free."""
    source, listener, before = write(tmp_path / "photos", {"": 24}), Listener(), []

    def speed(training: Any) -> float:
        before.append(listener.lines.count(MEASURING))
        return 50.0

    monkeypatch.setattr(recommend, "measured_speed", speed)
    monkeypatch.setattr(DRY_RUN, "measured_parts", lambda training: [(1.0, speed(training))])
    if is_measured:
        commands.forecast(source, progress=listener, **TINY, **how)
    else:
        leafwing.train(source, progress=listener, out=tmp_path / "run", **TINY, **how)
    assert (bool(before), {*before} <= {1}, listener.lines.count(MEASURING)) == (is_measured, True, is_measured)


class Staged:
    """A training whose images take ten times as long in the second half."""

    def __init__(self, game: Game, log: list[float]) -> None:
        self.game, self.log, self.seconds, self.clock = game, log, 0.0, Clock(0, 10**12)

    def move_to(self, progress: float) -> None:
        self.clock = Clock(int(progress * self.clock.total), self.clock.total)
        self.log.append(progress)

    def ticks(self, every: int, seconds: float) -> list[None]:
        images = max(1, round((seconds - self.seconds) * (1_000 if self.clock.progress < 0.5 else 100)))
        self.clock, self.seconds = replace(self.clock, images=self.clock.images + images), seconds
        return []


def test_the_speed_is_that_of_all_stages() -> None:
    """That of the first would promise images that the others cannot show in the time."""
    moments: list[float] = []
    game = build("adagan", PICTURES, components=2)
    parts = measured_parts(Staged(game, moments))  # type: ignore[arg-type]
    assert moments == [0.25, 0.75]
    assert [share for share, _ in parts] == [0.5, 0.5]
    assert mean_speed(parts) == pytest.approx(2 / (1 / 1_000 + 1 / 100), rel=0.1)
    assert images_within([(0.5, 100.0), (0.5, 10.0)], 2_000, 11.0) == 1_010


def test_of_many_stages_three_are_measured() -> None:
    moments: list[float] = []
    game = build("adagan", PICTURES, components=10)
    parts = in_parts(Staged(game, moments), lambda share: 60 * share * (1 + moments[-1]))  # type: ignore[arg-type]
    assert moments == pytest.approx([0.05, 0.55, 0.95])
    assert [speed for _, speed in parts] == pytest.approx([21.0] * 3 + [31.0] * 5 + [39.0] * 2)


def test_a_measurement_can_move_to_any_part_of_a_training() -> None:
    training = start("srgan", first_data("srgan"), 24)
    training.move_to(0.75)
    (tick,) = training.ticks(6)
    assert {name.partition("/")[0] for name in tick.losses} == {"D", "G"}


def test_a_dry_run_says_that_the_time_ends_before_the_last_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    monkeypatch.setattr(DRY_RUN, "measured_parts", lambda training: [(0.5, 300.0), (0.5, 30.0)])
    how: dict[str, Any] = {"width": 4, "components": 2, "threads": 1}
    plan = commands.forecast("ring", "adagan", time=5, progress=listener, **how)
    assert (plan["shown"], plan["seconds"], plan["images_per_second"]) == (1_500, 5, 300.0)
    (warning,) = (line for line in listener.lines if "before its last stage, which begins at 100k" in line)
    assert "about 273 fit" in warning
    assert "time limit  ends training before its 200,000 images" in describe_plan(plan).splitlines()
    listener.lines.clear()
    plan = commands.forecast("ring", "adagan", time=5, images=270, progress=listener, **how)
    assert not any("last stage" in line for line in listener.lines)
    assert "time limit" not in describe_plan(plan)


@pytest.mark.parametrize(("load", "is_said"), [((3.2, 2), True), ((1.9, 2), False), (None, False)])
def test_a_busy_machine_is_named_where_the_speed_decides(
    load: tuple[float, int] | None, is_said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, listener = write(tmp_path / "photos", {"": 24}), Listener()
    monkeypatch.setattr(recommend, "measured_speed", lambda training: 50.0)
    monkeypatch.setattr(recommend, "load", lambda: load)
    commands.forecast(source, time="10s", progress=listener, **TINY)
    assert any(line.endswith("threads auto") or ", threads auto," in line for line in listener.lines) != ("threads" in TINY)
    text = "measured while the machine is busy (load 3.2 on 2 cores)"
    assert any(text in line for line in listener.lines) == is_said
    listener.lines.clear()
    commands.forecast(source, images=100, progress=listener, **TINY)
    assert not any(text in line for line in listener.lines)


def test_the_smallest_class_is_that_of_the_images_to_train_on(tmp_path: Path) -> None:
    source = write(tmp_path / "photos", {"a": 30, "b": 50})
    whole = recommend.facts_of(source, {"size": 16}, {}, Reporter())
    assert (whole.pictures, whole.smallest) == (80, 30)
    part = recommend.facts_of(source, {"size": 16, "hold_out": 40}, {}, Reporter())
    assert part.pictures == 40
    assert part.smallest is not None
    assert 5 <= part.smallest <= 20


@pytest.mark.parametrize(("chosen", "threads", "images"), [({}, 1, 470), ({"threads": 2}, 2, 95)])
def test_the_speed_is_that_with_the_threads_with_which_training_begins(
    chosen: dict[str, int], threads: int, images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine one may be faster than two, which wait for each other."""
    source, counts = write(tmp_path / "photos", {"": 24}), []

    def speed(training: Any) -> float:
        counts.append(torch.get_num_threads())
        return 50.0 if torch.get_num_threads() == 1 else 10.0

    monkeypatch.setattr(recommend, "measured_speed", speed)
    monkeypatch.setattr(
        "leafwing.commands.threads.measure_thread_speeds", lambda *numbers, **how: {n: 100.0 / n for n in numbers}
    )
    monkeypatch.setattr("leafwing.commands.threads.cores", lambda: 2)
    monkeypatch.setattr(setup, "cores", lambda: 2)
    torch.set_num_threads(2)
    options = {name: value for name, value in TINY.items() if name != "threads"} | chosen
    plan = commands.forecast(source, time="10s", **options)
    assert counts == [threads, threads]  # of either width
    assert plan["schedule"]["images"] == images
    assert plan["images_per_second"] == (50.0 if threads == 1 else 10.0), "measured once, for the length and the dry run"
    assert torch.get_num_threads() == 2
    assert plan["machine"]["threads"] == chosen.get("threads", "auto")


def test_options_that_the_recommended_recipe_lacks_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "photos", {"": 24})
    with pytest.raises(LeafwingError, match=r"widht.*did you mean"):
        leafwing.train(source, images=16, out=tmp_path / "run", widht=8)
    with pytest.raises(LeafwingError, match="recommended for this source, has no option 'patch'"):
        leafwing.train(source, images=16, out=tmp_path / "run", size=16, patch=16)
    assert not (tmp_path / "run").exists()


def test_the_doctor_recommends_what_training_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "photos", {"a": rule.OF_A_CLASS, "b": rule.OF_A_CLASS})
    said = Listener()
    plan = commands.forecast(source, images=16, size=16, threads=1, width=8, progress=said)
    advice = next(line for line in commands.doctor(source, size=16).advice if line.startswith("Next"))
    assert plan["recipe"] in advice
    reasons = [line.strip() for line in said.lines if line.startswith("  ")]
    assert rule.MIRROR in reasons
    assert "size 16x16" in advice
    assert {*reasons} <= {line.strip() for line in advice.splitlines()}, "what training says, the doctor says too"
    assert f"leafwing train {shlex.quote(str(source))} --size 16\n" in advice
    assert cli.run(["doctor", str(source), "--size", "16"]) == 0
    assert "Next: leafwing train" in capsys.readouterr().out


def test_images_without_labels_are_read_where_labels_are_not_used(tmp_path: Path) -> None:
    """Else a list that names six of thirty images would leave out the others."""
    source, said = write(tmp_path / "photos", {"": 30}), Listener()
    (source / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(6)))
    facts = recommend.facts_of(source, {"size": 16}, {}, Reporter())
    assert (facts.pictures, facts.smallest, facts.unlabelled, facts.labelled) == (30, 3, 24, False)
    named = recommend.facts_of(source, {"size": 16, "labels": "labels.csv"}, {}, Reporter())
    assert (named.pictures, named.unlabelled) == (6, 0)
    options = {name: value for name, value in TINY.items() if name != "batch"}
    run = leafwing.train(source, images=16, out=tmp_path / "run", progress=said, **options)
    assert (run.data.samples, run.data.options["labels"]) == (30, "none")
    advice = next(line for line in commands.doctor(source, size=16).advice if line.startswith("Next"))
    reasons = [line.strip() for line in said.lines if line.startswith("  ")]
    assert any("so that the 24 images without one are read too" in reason for reason in reasons)
    assert {*reasons} <= {line.strip() for line in advice.splitlines()}
    plain = create(tmp_path / "plain")
    assert recommend.started(plain, facts).settings["labels"] == "none"
    assert recommend.facts_of(source, {"size": 16}, {}, Reporter(), start=plain).pictures == 30
    cgan = untrained(tmp_path / "cgan", "cgan", {"width": 4, "max_width": 8}, DataSpec.images(16, 16, labels=("a", "b")))
    assert recommend.facts_of(source, {"size": 16}, {}, Reporter(), start=cgan).pictures == 6


@pytest.mark.parametrize("listed", ["file,label\n0.png,a\n", "file,smiling\n0.png,1\n", ""])
def test_images_are_left_out_for_want_of_labels_or_attributes_or_outside_class_folders(listed: str, tmp_path: Path) -> None:
    source = write(tmp_path / "photos", {"a": 20, "b": 20, "": 1} if not listed else {"": 30})
    if listed:
        (source / "labels.csv").write_text(listed)
    facts = recommend.facts_of(source, {"size": 16}, {}, Reporter())
    assert (facts.pictures, facts.unlabelled) == ((30, 29) if listed else (41, 1))


def test_the_doctor_recommends_no_size_that_cannot_be_trained(tmp_path: Path) -> None:
    source = write(tmp_path / "photos", {"": 24})
    *_, last = commands.doctor(source, size=24).advice
    assert "Nearest: --size 16x16 or 32x32" in last
    assert not any(line.startswith("Next") for line in commands.doctor(source, size=24).advice)


def test_the_doctor_names_both_sizes_that_training_may_choose() -> None:
    report = SourceReport("photos", "folder", 200, 200, options={"size": "64x64", "channels": 3})
    both = f"size 64x64, or {rule.SMALL}x{rule.SMALL} where"
    assert both in recommendation(report, "leafwing train photos", facts_of_report(report, {}))
    assert both not in recommendation(report, "leafwing train photos --size 64", facts_of_report(report, {"size": "64"}))
    assert "mirror" not in " ".join(choose(Facts("images", 200, chosen={"mirror"}), constant(100)).reasons)


def test_points_are_trained_on_for_a_number_of_them_that_takes_minutes() -> None:
    assert choose(Facts("points", 100_000), constant(1e6)).settings["images"] == rule.MANY_POINTS
    assert choose(Facts("points", 100_000, seconds=60.0), constant(1_000)).settings["images"] == 57_000
    assert not choose(Facts("points", 100_000, images=1_000), never).settings


def test_points_and_pairs(tmp_path: Path) -> None:
    assert commands.forecast("ring", images=64, width=4)["recipe"] == "r3gan"
    source = write(tmp_path / "photos", {"": 24})
    for input, recipe in (("grey", "pix2pix"), ("low4", "srgan")):
        plan = commands.forecast(source, images=8, size=32, input=input, width=4, batch=4, threads=1)
        advice = next(line for line in commands.doctor(source, size=32, input=input).advice if line.startswith("Next"))
        assert plan["recipe"] == recipe
        assert f"chooses {recipe}" in advice


@pytest.mark.parametrize("word", ["low", "lowlight"])
def test_the_doctor_takes_a_folder_of_inputs_for_inputs_of_the_same_size(word: str, tmp_path: Path) -> None:
    """Only inputs that are derived at a low resolution are smaller; files are read at the size of the images, whatever their name."""
    source = write(tmp_path / "photos", {word: 4, "high": 4})
    reading: dict[str, Any] = {"size": 16, "input": word}
    facts = recommend.facts_of(source, reading, {}, Reporter())
    assert facts.kind == facts_of_report(examine(source, **reading), reading).kind == "pairs"


def test_the_doctor_counts_the_tiles_of_a_class_as_training_does(tmp_path: Path) -> None:
    source = write(tmp_path / "photos", {"many": 3, "few": 2})
    reading: dict[str, Any] = {"size": 4, "fit": "tiles"}
    report = examine(source, **reading)
    assert (report.classes, report.tiles_by_class) == ({"few": 2, "many": 3}, {"few": 32, "many": 48})
    assert recommend.facts_of(source, reading, {}, Reporter()).smallest == facts_of_report(report, reading).smallest == 32
    assert not examine(source, size=4, labels="none", fit="tiles").tiles_by_class
    assert not examine(source, size=16).tiles_by_class


@pytest.mark.parametrize("first", [True, False])
def test_the_first_process_chooses_for_all(first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    choice, calls = Choice("dcgan", {"width": 32, "ema": 1.0}, {"time": 60.0, "augment": "diff"}), []

    class Two:
        world_size = 2

        def barrier(self, timeout: float) -> None:
            assert timeout > 3_600

        def broadcast(self, value: Any) -> Any:
            assert (value is not None) == self.first
            return {"recipe": "dcgan", "options": dict(choice.options), "settings": dict(choice.settings), "speed": 3.0}

    Two.first = first  # type: ignore[attr-defined]
    monkeypatch.setattr(recommend, "recommend", lambda *arguments: calls.append(arguments[-1]) or choice)
    filled = recommend.fill_in("photos", None, {"time": 5.0}, {"width": 8}, Reporter(), None, Two())  # type: ignore[arg-type]
    assert filled == ("dcgan", {"time": 5.0, "augment": "diff"}, {"width": 8, "ema": 1.0}, 3.0)
    assert calls == [2] * first

"""What the end of a training says: each sentence from inputs made by hand, and the measurement from pictures whose answer is known."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

import leafwing
from leafwing import cli, health, recipes
from leafwing.cli.resume import finish
from leafwing.commands import closing, feeding
from leafwing.commands.closing import Ending, describe, describe_plan, expectation, next_step
from leafwing.commands.comparison import child
from leafwing.commands.feeding import reload_data
from leafwing.commands.retuning import scaled_rates
from leafwing.conditions import Examples
from leafwing.game import Abilities, Batch, Clock, DataSpec, Game, Nets, Output
from leafwing.health import Alarm
from leafwing.metrics.glance import Glance, effect_of_labels, fine_detail, glance
from leafwing.model import Model
from leafwing.parts.priors import Normal
from leafwing.progress import Reporter
from leafwing.recipes._recommended import AUGMENT, RECOGNISABLE
from leafwing.runs import Run


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


GOOD = Glance(128, 256, variety=0.93, distance=0.02, grey_distance=0.29, detail=0.06, real_detail=0.07, label_effect=0.8)
END = Ending(images=6_016, planned=6_000, rounds=1_000, glance=GOOD)
LOSING = Alarm("critic", health.LOSING, 2_048, 4_096, None, 0.95, 0.9, health.STRONGER_D)
COLLAPSE = Alarm("collapse", "samples are nearly identical (mode collapse)", 2_048, 4_096, None, 300.0, 200.0, "Try less")
LOST = replace(COLLAPSE, symptom="neither D nor G changes")
OVERFIT, STILL = (
    Alarm(kind, kind, 2_048, 4_096, None, 0.95, 0.9, health.ADVICE[kind]) for kind in ("overfit", "stagnation")
)

FASTER_D = "train --from runs/1 --lr-d 0.0008"
SLOWER = "train --from runs/1 --lr-g 0.0001 --lr-d 0.0002"
AUGMENTED = f"train --from runs/1 --augment {AUGMENT}"


def trained(folder: str = "runs/1", size: int = 16, channels: int = 3, **config: Any) -> Any:
    """A stand-in for a run."""
    rates = {"lr_g": 2e-4, "lr_d": 4e-4, "width": 8}
    return SimpleNamespace(
        folder=Path(folder),
        config={"options": rates, "conditions": [], **config},
        spec=DataSpec.images(size, size, channels),
        history=SimpleNamespace(before=0, rolled_back=()),
        settings=SimpleNamespace(critic=SimpleNamespace(augment=None)),
        build_game=lambda: SimpleNamespace(augment="none"),
        recipe_is_installed=lambda: True,
    )


def seeing(**changes: Any) -> Ending:
    return replace(END, glance=replace(GOOD, **changes))


def test_good_samples_are_not_praised_beyond_what_was_measured() -> None:
    (line,) = describe(END)
    assert line.startswith("The samples differ from each other 93% as much as the real data in layout and colours.")
    assert "How good they are was not measured" in line
    (points,) = describe(seeing(detail=None, real_detail=None))
    assert "noise" not in points


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (
            seeing(detail=0.76),
            "are noise rather than images so far: 76% of their contrast is between neighbouring pixels, 7% in",
        ),
        (seeing(detail=0.3), "are noisier than real images: 30%"),
        (seeing(detail=0.01), "are blurred: 1% of their contrast"),
        (seeing(variety=0.02), "hardly differ from each other: 2% as much as the real data do (mode collapse)."),
        (seeing(distance=0.28), "hardly nearer to it than its average is"),
        (seeing(label_effect=0.01), "The class label has no visible effect yet: it changes a sample 1% as much"),
        (replace(END, rounds=94), "94 rounds are too few to judge: before about 300"),
        (replace(END, alarms=[COLLAPSE]), "Samples are nearly identical (mode collapse), since 2.05k images. Try less."),
        (replace(END, alarms=[LOST]), "Neither D nor G changes, since 2.05k images."),
        (replace(END, separated=0.99), "The discriminator still scores a real image higher than a sample in 99% of pairs."),
        (replace(END, passed=2, rolled_back=1), "Of the health alarms, 2 passed and 1 led to a rollback"),
    ],
)
def test_each_finding_has_its_sentence(end: Ending, text: str) -> None:
    assert sum(text in line for line in describe(end)) == 1
    assert not any(text in line for line in describe(END))


BOUNDS: list[tuple[str, str, dict[str, float], dict[str, float]]] = [
    # What is said, and whether by the first of two measurements or by the second: on both sides of one threshold.
    ("are noise rather than", "NOISE", {"detail": 0.401}, {"detail": 0.399}),
    ("are noisier than", "NOISY", {"detail": 0.176}, {"detail": 0.174}),
    ("are blurred", "SMOOTH", {"detail": 0.0174}, {"detail": 0.0176}),
    ("hardly differ from each other", "VARIED", {"variety": 0.199}, {"variety": 0.201}),
    ("hardly nearer to it than its average", "GREY", {"distance": 0.233}, {"distance": 0.231}),
    ("they are pale or alike", "PALE", {"variety": 0.499}, {"variety": 0.501}),
    ("label has no visible effect", "NO_EFFECT", {"label_effect": 0.099}, {"label_effect": 0.101}),
]


@pytest.mark.parametrize(("text", "threshold", "said", "unsaid"), BOUNDS, ids=[bound[1] for bound in BOUNDS])
def test_both_sides_of_every_threshold(text: str, threshold: str, said: dict[str, float], unsaid: dict[str, float]) -> None:
    for values, expected in ((said, True), (unsaid, False)):
        assert any(text in line for line in describe(seeing(**values))) == expected, f"{threshold}: {values}"


@pytest.mark.parametrize(
    ("beyond", "within", "command"),
    [
        (seeing(detail=0.176), seeing(detail=0.174), "resume runs/1 --images +6k"),
        (seeing(detail=0.0174), seeing(detail=0.0176), "resume runs/1 --images +6k"),
        (seeing(distance=0.233), seeing(distance=0.231), "resume runs/1 --images +6k"),
        (seeing(label_effect=0.099), seeing(label_effect=0.101), "resume runs/1 --images +6k"),
        (seeing(variety=0.199), seeing(variety=0.201), SLOWER),
        (replace(END, rounds=299), replace(END, rounds=300), "resume runs/1 --images +6k"),
    ],
)
def test_the_next_command_is_another_beyond_a_threshold(beyond: Ending, within: Ending, command: str) -> None:
    assert next_step(trained(), beyond)[1] == command
    assert next_step(trained(), within)[1] == "sample runs/1 -n 64 --seed 3"


def test_at_most_five_lines_and_the_samples_come_first() -> None:
    worst = replace(
        seeing(detail=0.7, variety=0.01, label_effect=0.0), rounds=3, alarms=[COLLAPSE] * 3, passed=1, rolled_back=1
    )
    lines = describe(worst)
    assert len(lines) == 5
    assert lines[0].startswith("The samples are noise")
    assert "collapse" not in lines[1], "three steps are no collapse"
    assert describe(replace(END, glance=None)) == []


def test_the_plan() -> None:
    assert describe_plan(END) == describe_plan(replace(END, seconds=600.0, used=541.0)) == "all of the plan"
    assert describe_plan(replace(END, seconds=600.0, used=539.0)) == "all of the plan, with 1m 01s of its time to spare"
    stopped = replace(END, images=2_400, stop_reason="interrupted")
    assert describe_plan(stopped) == "40% of the plan of 6k (stopped by you)"
    assert describe_plan(replace(stopped, stop_reason="")) == "40% of the plan of 6k"
    assert not stopped.is_as_planned
    assert describe_plan(replace(stopped, images=5_999)).startswith("99% of the plan"), "not all of it"


def test_the_end_of_the_time_is_the_plan_of_who_asked_for_it() -> None:
    end = replace(END, images=2_400, stop_reason="time_limit", seconds=600.0)
    assert end.is_as_planned
    assert not end.is_complete
    assert describe_plan(end) == "all of the planned 10m 00s, and 40% of the 6k images that were planned at most"


@pytest.mark.parametrize(
    ("end", "command"),
    [
        (END, "sample runs/1 -n 64 --seed 3"),
        (replace(END, images=100), "resume runs/1"),
        (replace(END, images=100, stop_reason="no_improvement"), "sample runs/1 -n 64 --seed 3 --checkpoint best"),
        (seeing(detail=0.7), "resume runs/1 --images +6k"),
        (seeing(label_effect=0.0), "resume runs/1 --images +6k"),
        (replace(END, rounds=9), "resume runs/1 --images +6k"),
        (replace(END, alarms=[LOSING]), FASTER_D),
        (replace(END, alarms=[COLLAPSE]), SLOWER),
        (replace(END, images=100, alarms=[COLLAPSE], stop_reason="unhealthy"), SLOWER),
        (seeing(variety=0.02), SLOWER),
        (replace(seeing(variety=0.02), images=100), SLOWER),
        (replace(seeing(variety=0.02), rounds=9), "resume runs/1 --images +6k"),
        (replace(seeing(variety=0.02), images=100, rounds=9), "resume runs/1"),
        (replace(seeing(detail=0.7), alarms=[OVERFIT]), AUGMENTED),
        (replace(END, images=100, alarms=[OVERFIT], stop_reason="unhealthy"), AUGMENTED),
        (replace(seeing(detail=0.7), alarms=[STILL]), "sample runs/1 -n 64 --seed 3"),
        (replace(END, images=100, alarms=[STILL]), "sample runs/1 -n 64 --seed 3"),
    ],
)
def test_one_command_comes_next(end: Ending, command: str) -> None:
    run = trained()
    assert next_step(run, end)[1] == command
    run.recipe_is_installed = lambda: False
    with_recipe = command.replace("--from runs/1", "--from runs/1 --recipe runs/1/recipe.py")
    assert next_step(run, end)[1] == (with_recipe if command.startswith("train") else f"{command} --trust")


@pytest.mark.parametrize(
    ("size", "channels", "images", "is_short"),
    [(32, 3, 99_999, True), (32, 3, 100_000, False), (16, 3, 40_000, False), (32, 1, 40_000, False)],
)
def test_short_trainings_on_photographs_go_on(size: int, channels: int, images: int, is_short: bool) -> None:
    end = replace(END, images=images, planned=images)
    why, command = next_step(trained(size=size, channels=channels), end)
    assert (command == "resume runs/1 --images 100k") == is_short
    assert ("seldom be recognised before 100k images" in why) == is_short


def test_after_a_short_time_limit_a_photographic_training_goes_on_until_things_can_be_recognised() -> None:
    end = replace(END, images=6_400, planned=7_100, stop_reason="time_limit", rounds=99)
    assert next_step(trained(size=32), end)[1] == "resume runs/1 --images 100k"
    assert next_step(trained(size=32), replace(end, stop_reason="interrupted"))[1] == "resume runs/1"
    assert next_step(trained(size=32), replace(end, planned=200_000))[1] == "resume runs/1"


def test_more_training_is_no_answer_to_a_collapse_without_learning_rates_to_halve() -> None:
    run = trained(options={"width": 8})
    assert next_step(run, seeing(variety=0.02))[1] == "sample runs/1 -n 64 --seed 3"


@pytest.mark.parametrize(
    ("factor", "rounds", "command"),
    [
        (1.0, 9_999, "train --from runs/1 --condition-scale 4"),
        (4.0, 9_999, "resume runs/1 --images +6k"),
        (1.0, 9, "resume runs/1 --images +6k"),
    ],
)
def test_labels_without_effect_get_a_larger_factor_where_the_recipe_has_one(
    factor: float, rounds: int, command: str
) -> None:
    run = trained(options={"condition_scale": factor})
    assert next_step(run, replace(seeing(label_effect=0.0), rounds=rounds))[1] == command
    assert next_step(run, END)[1] == "sample runs/1 -n 64 --seed 3"


def test_the_next_command_can_be_pasted() -> None:
    run = trained("my runs/it's 1", conditions=[])
    assert shlex.split(next_step(run, replace(END, images=100))[1]) == ["resume", "my runs/it's 1"]
    assert shlex.split(next_step(run, END)[1])[:2] == ["sample", "my runs/it's 1"]
    run.recipe_is_installed = lambda: False
    words = shlex.split(next_step(run, seeing(variety=0.0))[1])
    assert words[:5] == ["train", "--from", "my runs/it's 1", "--recipe", "my runs/it's 1/recipe.py"]


def test_a_run_of_a_recipe_file_starts_again_from_its_folder_alone(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.py"
    recipe.write_text((recipes.FOLDER / "gan.py").read_text(encoding="utf-8").replace("def gan(", "def mine("), "utf-8")
    tiny: dict[str, Any] = {"width": 8, "batch": 8, "threads": 1}
    old = leafwing.train("ring", str(recipe), out=tmp_path / "old", images=16, device="cpu", **tiny)
    recipe.unlink()
    end = replace(END, images=8, alarms=[COLLAPSE])
    words = shlex.split(next_step(old, end)[1])
    assert cli.run([*words, "--out", str(tmp_path / "new")]) == 0
    new = Run(tmp_path / "new")
    assert (new.recipe, new.options) == (
        "mine",
        {**old.options, "lr_g": old.options["lr_g"] / 2, "lr_d": old.options["lr_d"] / 2},
    )


@pytest.mark.parametrize("end", [END, replace(END, images=100), seeing(detail=0.7), replace(END, alarms=[COLLAPSE])])
def test_a_folder_with_a_space_is_quoted(end: Ending) -> None:
    assert "'my runs/1'" in next_step(trained("my runs/1"), end)[1]


def test_rates_of_other_kinds_are_left_alone() -> None:
    assert scaled_rates({"lr_g": "auto", "width": 3}, 0.5, 0.5) == ""


def test_after_rollbacks_no_rates_are_proposed_that_have_failed() -> None:
    run = trained()
    run.history.rolled_back = ({"rate": 0.5}, {"rate": 0.25})
    slower = replace(END, alarms=[COLLAPSE], stop_reason="unhealthy")
    assert next_step(run, slower) == (
        "to start again, with learning rates half as high as after the last rollback",
        "train --from runs/1 --lr-g 2.5e-05 --lr-d 5e-05",
    )
    assert next_step(run, replace(END, alarms=[LOSING]))[1] == "train --from runs/1 --lr-g 5e-05 --lr-d 0.0002"


def test_a_run_with_augmentation_gets_no_other_one() -> None:
    """Neither one that chose it nor one whose recipe has it."""
    end, run = replace(END, alarms=[OVERFIT]), trained()
    run.build_game = lambda: SimpleNamespace(augment="diff")
    assert next_step(run, end)[1] == "sample runs/1 -n 64 --seed 3"
    for option, expected in (("ada", "sample runs/1 -n 64 --seed 3"), ("none", AUGMENTED)):
        run.settings.critic.augment = option
        assert next_step(run, end)[1] == expected


# --- the measurement ------------------------------------------------------------------------------------------------------------


def pictures(n: int, seed: int) -> torch.Tensor:
    """Smooth pictures (n, 3, 32, 32) in [-1, 1], with a little noise as photographs have."""
    random = torch.Generator().manual_seed(seed)
    layout = interpolate(2 * torch.rand(n, 3, 6, 6, generator=random) - 1, (32, 32), mode="bilinear")
    return (layout + 0.08 * torch.randn(n, 3, 32, 32, generator=random)).clamp(-1, 1)


def seen(samples: torch.Tensor) -> list[str]:
    return describe(replace(END, glance=glance(samples, pictures(128, 1))))


def test_real_pictures_noise_copies_and_blurs_are_told_apart() -> None:
    real = pictures(64, 2)
    assert seen(real)[0].startswith("The samples differ from each other")
    assert seen(2 * torch.rand(64, 3, 32, 32) - 1)[0].startswith("The samples are noise")
    assert "hardly differ from each other: 0%" in seen(real[:1].expand(64, -1, -1, -1))[0]
    assert "blurred" in seen(interpolate(interpolate(real, (4, 4), mode="area"), (32, 32), mode="bilinear"))[0]
    other_colours = 0.4 * real + 0.6
    assert "hardly nearer to it than its average" in seen(other_colours)[0]


def test_a_sample_that_is_no_picture_is_left_out_and_counted() -> None:
    real = pictures(64, 2)
    broken = real.clone()
    broken[3, 0, 5, 5] = torch.nan
    first, undefined = seen(broken)
    assert first == seen(torch.cat([real[:3], real[4:]]))[0]
    assert undefined == "1 of 64 samples has values that are not numbers."
    assert effect_of_labels(broken, real.flip(0), real.roll(1, 0)) == pytest.approx(1, abs=0.2)
    assert effect_of_labels(real * torch.nan, real, real) is None


def test_fine_detail_of_white_noise_and_of_a_surface() -> None:
    assert fine_detail(torch.randn(16, 3, 32, 32)) == pytest.approx(0.75, abs=0.02)
    assert fine_detail(torch.linspace(-1, 1, 32).expand(2, 1, 32, 32)) < 0.01
    assert fine_detail(torch.zeros(2, 1, 15, 15)) == 0


def test_small_images_and_points_have_no_detail() -> None:
    assert glance(torch.randn(8, 1, 8, 8), torch.randn(8, 1, 8, 8)).detail is None
    points = glance(torch.randn(64, 2), torch.randn(64, 2))
    assert points.detail is None
    assert points.variety == pytest.approx(1, abs=0.3)
    assert points.distance < 0.1 < points.grey_distance


def test_the_effect_of_labels_is_relative_to_that_of_latents() -> None:
    a, b = pictures(32, 3), pictures(32, 4)
    assert effect_of_labels(a, a, b) == 0
    assert effect_of_labels(a, pictures(32, 5), b) == pytest.approx(1, abs=0.15)
    assert effect_of_labels(a, b, a) is None, "latents change nothing, so that there is no scale"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of `cgan` with two classes, of two rounds."""
    root, noise = tmp_path_factory.mktemp("closing"), np.random.default_rng(0)
    for i in range(8):
        path = root / "pictures" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    options: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1}
    return leafwing.train(root / "pictures", "cgan", out=root / "run", images=16, device="cpu", **options)


@pytest.mark.parametrize(
    ("spec", "images", "is_short"),
    [
        (DataSpec.images(32, 32), 99_999, True),
        (DataSpec.images(32, 32), 100_000, False),
        (DataSpec.images(32, 32, 1), 10, False),
        (DataSpec.images(16, 16), 10, False),
    ],
)
def test_short_trainings_on_photographs_are_named_before_they_begin(spec: DataSpec, images: int, is_short: bool) -> None:
    assert bool(expectation(spec, images, 0)) == is_short
    assert not expectation(spec, images, RECOGNISABLE), "the weights from which it starts have seen as many"


@pytest.mark.parametrize(
    ("recipe", "length", "expected"),
    [
        (None, {"images": 8}, "8 images, each picture about 2.0 times; expect blurs"),
        ("dcgan", {"images": 8}, "8 images, each picture about 2.0 times; expect blurs"),
        ("dcgan", {"time": 1.0}, "at most 200k images in 1s: --dry-run says how many fit"),
    ],
)
def test_training_begins_with_what_its_length_means(
    recipe: str | None, length: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.effect_noise((32, 32), 40 + i).convert("RGB").save(tmp_path / "photos" / f"{i}.png")
    lines = Listener()
    small: dict[str, Any] = {"size": 32, "width": 4, "max_width": 8, "latent": 4, "batch": 4, "threads": 1, "device": "cpu"}
    leafwing.train(tmp_path / "photos", recipe, out=tmp_path / "run", progress=lines, **small, **length)
    assert sum(line.startswith(expected) for line in lines.lines) == 1


def test_a_run_is_looked_at(run: Run) -> None:
    found, problem = closing.try_to_look(run)
    assert problem == ""
    assert found is not None
    assert (found.samples, found.real) == (128, 8)
    assert found.label_effect is not None
    assert found == closing.look(run), "the same samples every time"


def test_the_samples_are_of_each_class_as_often_as_the_data(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """All classes in turn would look unlike data in which some are rare."""
    labels: list[Tensor] = []
    monkeypatch.setattr(
        Model, "sample", lambda self, n, **inputs: labels.append(inputs["label"]) or torch.randn(n, 3, 16, 16)
    )
    pictures = reload_data(run, Reporter())
    rare = replace(pictures, rows=np.flatnonzero((pictures.labels == 0) | (np.arange(8) == 7)))
    monkeypatch.setattr(feeding, "reload_data", lambda *given: rare)
    closing.look(run)
    assert labels[0].bincount()[1] in (25, 26), "of the rare one one in five of 128"


@pytest.mark.parametrize(("used", "has_effect"), [("attributes", False), ("label", True)])
def test_the_effect_of_labels_is_not_that_of_attributes_which_follow_them(used: str, has_effect: bool) -> None:
    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        values = inputs[used].float().reshape(inputs.n, -1).sum(1)
        return ((inputs.latent[:, 0] + values) / 10)[:, None, None, None].expand(-1, 1, 8, 8)

    spec = DataSpec.images(8, 8, 1, labels=("a", "b", "c"), attributes=("x", "y", "z"))
    game = Game({}, [], Abilities([Output("image", make, ("label", "attributes"), Normal(1))]))
    examples = Examples({"label": np.arange(3), "attributes": np.tri(3, dtype=np.uint8)})
    found = closing.label_effect(Model(game, spec, examples=examples), 30, lambda samples: samples)
    assert found is not None
    assert (found > 0) == has_effect


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("out of memory\nand more"), "out of memory"),
        (KeyError("label"), "KeyError: 'label'"),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_a_look_that_fails_does_not_end_the_training(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def fail(run: object) -> None:
        raise error

    monkeypatch.setattr(closing, "look", fail)
    assert closing.try_to_look(run) == (None, f"The samples were not measured: {text}")


def test_a_damaged_grid_does_not_end_the_training(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Run(shutil.copytree(run.folder, tmp_path / "copy"))
    (copy.samples / "000000000.png").write_bytes(b"damaged")
    (copy.folder / "reel.webp").unlink(missing_ok=True)
    assert finish(copy, False) == 0
    out = capsys.readouterr().out
    assert "The reel was not made: " in out
    assert "  reel " not in out
    assert finish(copy, True) == 0
    assert json.loads(capsys.readouterr().out)["reel"] is None
    assert child.finish(copy)[1] == {"run": str(copy.folder), "stop_reason": ""}
    assert "The reel was not made" in capsys.readouterr().err


def test_the_command_line_ends_with_the_sentences_and_one_command(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert finish(run, False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trained on 16 images in ")
    assert lines[0].endswith(": all of the plan")
    assert "2 rounds are too few to judge" in lines[-3]
    assert lines[-2] == "next, to train twice as long:"
    assert lines[-1].endswith(f"resume {shlex.quote(str(run.folder))} --images +16")
    finish(run, True)
    document = json.loads(capsys.readouterr().out)
    assert document["words"][-1] == lines[-3]
    assert document["next"] == lines[-1].strip()
    assert document["glance"]["samples"] == 128

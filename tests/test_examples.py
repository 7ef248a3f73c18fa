"""The recipes in examples/, each one file outside the package, from the command line: train, resume, grids, sample or translate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from leafwing import cli, data
from leafwing.game import Batch, Clock
from leafwing.model import Model
from leafwing.runs import Run

EXAMPLES = Path(__file__).parents[1] / "examples"
DATA = {
    "distance_gan": ["--input", "unpaired"],
    "text_gan": ["--fields", "caption"],
    "video_gan": ["--fields", "clip"],
}
"""The fields of sprites that each example needs."""
TINY = ["--size", "16", "--width", "8", "--threads", "1", "--precision", "fp32", "--batch", "8"]


def train(name: str, out: Path, images: int) -> Run:
    """A run of an example."""
    recipe = ["--recipe", str(EXAMPLES / f"{name}.py"), *DATA[name]]
    assert cli.run(["train", "sprites", *recipe, "--images", str(images), "--out", str(out), *TINY]) == 0
    return Run(out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each example, first trained on half of the images, then resumed."""
    root = tmp_path_factory.mktemp("runs")
    runs = {name: train(name, root / name, 64) for name in DATA}
    for run in runs.values():
        assert cli.run(["resume", str(run.folder), "--images", "128", "--trust"]) == 0
    return runs


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*DATA}


@pytest.mark.parametrize("name", DATA)
def test_an_example_trains_resumes_and_draws_grids(name: str, runs: dict[str, Run]) -> None:
    run = runs[name]
    assert list(run.weights())[-1] == 128
    assert run.records()[-1]["images"] == 128
    sheets = sorted(run.samples.glob("*.png"))
    assert sheets
    with Image.open(sheets[-1]) as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 2, "an empty grid"


@pytest.mark.slow  # trains each three times
@pytest.mark.parametrize("name", DATA)
def test_resumed_after_a_checkpoint_an_example_ends_with_the_same_bits(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run is interrupted by its time limit; the total, of which stages are shares, is the same."""
    whole = train(name, tmp_path / "whole", 96)
    recipe = ["--recipe", str(EXAMPLES / f"{name}.py"), *DATA[name], "--images", "96", "--time", "0.001s"]
    assert cli.run(["train", "sprites", *recipe, "--out", str(tmp_path / "parts"), *TINY]) == 0
    parts = Run(tmp_path / "parts")
    assert max(parts.weights()) < 96
    assert cli.run(["resume", str(parts.folder), "--trust"]) == 0
    assert whole.weights()[96].read_bytes() == parts.weights()[96].read_bytes()


def test_a_sentence_becomes_an_image(runs: dict[str, Run], tmp_path: Path) -> None:
    folder = runs["text_gan"].folder
    sample = ["sample", str(folder), "--trust", "-n", "4", "--out", str(tmp_path / "stars.png")]
    assert cli.run([*sample, "--set", "caption=a small red star"]) == 0
    assert (tmp_path / "stars.png").is_file()
    model = Model.load(folder, trust=True)
    stars = model.sample(4, seed=1, caption="a small red star")
    assert torch.equal(model.sample(4, seed=1, caption=["a small red star"] * 4), stars)
    assert not torch.equal(model.sample(4, seed=1, caption="a large blue circle"), stars)
    assert not torch.equal(model.sample(4, seed=1), stars), "captions of real images"


def test_the_critic_of_texts_sees_no_image_as_it_is_if_critics_see_changed_ones(
    runs: dict[str, Run],
) -> None:
    """Real images with wrong captions were the only unchanged ones, so that D learnt that unchanged images are fakes."""
    game = Run(runs["text_gan"].folder, trust=True).build_game()
    batch = data.load("sprites", size=16, fields=["caption"]).batches(0)(0, 4)
    critic, looks = game.players["D"].net, list[torch.Tensor]()
    critic.register_forward_pre_hook(lambda net, inputs: looks.append(inputs[0]))
    for turn in game.turns[1:]:
        r = turn.play(game.nets, Batch(**batch, wrong_caption=batch.caption.roll(1, 0)), Clock())
        r.augment = torch.zeros_like
        r.score_wrong(), r.score_between()
    assert len(looks) == 4
    assert not any(images.any() for images in looks)


def test_an_unknown_sentence_is_refused_with_the_known_words(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sample", str(runs["text_gan"].folder), "--trust", "--set", "caption=zebra"]) == 2
    assert "red" in capsys.readouterr().err


def test_clips_are_sampled(runs: dict[str, Run], tmp_path: Path) -> None:
    folder = runs["video_gan"].folder
    assert cli.run(["sample", str(folder), "--trust", "-n", "4", "--out", str(tmp_path / "clips.png")]) == 0
    assert (tmp_path / "clips.png").is_file()
    clips = Model.load(folder, trust=True).sample(4, seed=1)
    assert clips.shape == (4, 3, 8, 16, 16)
    assert clips.abs().max() <= 1


def test_images_are_translated(runs: dict[str, Run], tmp_path: Path) -> None:
    folder = runs["distance_gan"].folder
    sprites = data.load("sprites", size=16, input="unpaired")
    batch = sprites.batches(0)(0, 5)
    outline = sprites.spec.fields["input"].to_stored(batch.input[:1])[0].numpy()
    Image.fromarray(outline).resize((20, 30)).save(tmp_path / "sprite.png")
    assert cli.run(["translate", str(folder), str(tmp_path / "sprite.png"), "--trust", "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "sprite.png") as image:
        assert image.size == (20, 30)
    model = Model.load(folder, trust=True)
    assert model.translate(batch.input).shape == batch.image.shape
    assert torch.equal(model.translate(batch.input), model.translate(batch.input, output="image"))

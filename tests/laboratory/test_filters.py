"""Filters: guided gradients computed by hand, the untrained critic, and the sheet."""

from __future__ import annotations

import json
from pathlib import Path

import handmade
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
from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.laboratory.critics import critic_of, untrained
from leafwing.laboratory.filters import filters, guided_gradient

pytestmark = pytest.mark.machine

GREY = DataSpec.images(2, 2, 1)


class ByHand(nn.Module):
    """Maps x and x + 0.1, then max(0, 10 + 2 (first) - 3 (second)). The rectifier is a module or a function."""

    def __init__(self, rectifier: str) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.first.bias = nn.Parameter(torch.tensor([0.0, 0.1]))
            self.second.weight.copy_(torch.tensor([2.0, -3.0]).view(1, 2, 1, 1))
            self.second.bias = nn.Parameter(torch.tensor([10.0]))
        self.module = {"relu": nn.ReLU(inplace=True), "leaky": nn.LeakyReLU(0.2, inplace=True)}.get(rectifier)

    def rectify(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2) if self.module is None else self.module(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.rectify(self.second(self.rectify(self.first(x)))).mean((1, 2, 3))


@pytest.mark.parametrize("rectifier", ["relu", "leaky", "function"])
def test_rectifiers_pass_positive_gradients_at_positive_inputs(rectifier: str) -> None:
    model = planted.model(ByHand(rectifier), GREY)
    pictures = torch.tensor([[0.4, 0.3], [0.1, 0.2]]).view(1, 1, 2, 2)
    before, scores = planted.weights(model.game.nets.D), model.judge(pictures)
    gradient = guided_gradient(critic_of(model), pictures, 0)
    # The response 9.7 - x is largest where x is 0.1. Its gradient is 2 - 3, and the negative part is blocked.
    assert np.allclose(gradient, np.array([[0, 0], [2, 0]]).reshape(1, 1, 2, 2))
    # No gradient at negative inputs, not even through the negative slope of a leaky rectifier.
    assert not guided_gradient(critic_of(model), torch.full((1, 1, 2, 2), -0.5), 0).any()
    assert planted.same(before, planted.weights(model.game.nets.D))
    assert torch.equal(scores, model.judge(pictures)), "later passes are unaffected"


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


def normed_model() -> tuple[leafwing.Model, Dataset]:
    torch.manual_seed(0)
    net = Normed().train()
    for _ in range(20):
        net(torch.randn(16, 3, 16, 16))
    noise = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), dtype=np.uint8)
    return planted.model(net, DataSpec.images(16, 16)), planted.data(noise)


def test_the_untrained_critic_has_new_normalised_weights_and_the_critic_is_unchanged() -> None:
    model, _ = normed_model()
    net = model.game.nets.D
    net.body[2].weight.mul_(7)
    before, state = planted.weights(net), torch.get_rng_state()
    critic = critic_of(model)
    assert critic.layers == [net.body[0], net.body[2]], "a layer with a 1x1 output is left out"
    assert critic.taps == [net.body[1], net.body[4]]
    pictures = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    first, again, other = (untrained(critic, pictures, seed) for seed in (3, 3, 4))
    assert planted.same(before, planted.weights(net))
    assert torch.equal(state, torch.get_rng_state())
    fresh = first.nets.D
    assert planted.same(planted.weights(fresh), planted.weights(again.nets.D))
    assert not planted.same(planted.weights(fresh), planted.weights(other.nets.D))
    assert not torch.allclose(fresh.body[0].weight, net.body[0].weight, atol=0.01)
    assert torch.linalg.matrix_norm(fresh.body[0].weight.flatten(1), 2) == pytest.approx(1, abs=0.02)
    assert fresh.body[2].weight.abs().max() < 0.1, "not derived from the critic's weights, which are multiplied by 7"
    with torch.no_grad():
        normed = fresh.body[3](fresh.body[2](fresh.body[1](fresh.body[0](pictures))))
    assert normed.mean((0, 2, 3)).abs().max() < 1e-4
    assert torch.allclose(normed.std((0, 2, 3)), torch.ones(16), atol=0.01)
    assert not fresh.training


def test_transposed_convolutions_of_the_critic_are_left_out() -> None:
    down, up = nn.Conv2d(3, 4, 4, 2, 1), nn.ConvTranspose2d(4, 3, 4, 2, 1)
    net = nn.Sequential(down, nn.ReLU(), up, nn.Flatten(), nn.Linear(768, 1), nn.Flatten(0))
    assert critic_of(planted.model(net, DataSpec.images(16, 16))).layers == [down]


def test_figures_and_sheet_are_reproducible() -> None:
    model, pictures = normed_model()
    finding, again = filters(model, held_out=pictures, maps=5), filters(model, held_out=pictures, maps=5)
    assert finding.figures == again.figures
    assert finding.sheets["filters"].tobytes() == again.sheets["filters"].tobytes()
    assert len(set(finding.figures["maps"])) == 5
    assert finding.figures["field"] == pytest.approx((10 / 16) ** 2)
    assert finding.figures["trained"]["inside"] is None
    assert 0.1 < finding.figures["trained"]["tenth"] <= 1
    assert finding.figures["trained"] != finding.figures["untrained"]
    assert filters(model, held_out=pictures, maps=5, seed=1).figures != finding.figures


class Bright(nn.Module):
    """Its only map is the red channel minus 0.5, rectified."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.look.weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
            self.look.bias = nn.Parameter(torch.tensor([-0.5]))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.look(x)).mean((1, 2, 3))


def test_a_critic_that_responds_only_to_the_object_has_its_gradient_in_the_box() -> None:
    from leafwing import sprites

    pictures, scenes = sprites.pictures(400, 32)
    red = pictures[(scenes.colour == 0) & (scenes.background == 0)]  # on black
    finding = filters(planted.model(Bright(), DataSpec.images(32, 32)), held_out=planted.data(red, source="sprites"))
    assert finding.figures["trained"] == {"inside": 1.0, "tenth": 1.0, "silent": 0}
    assert 0 < finding.figures["box"] < 0.5
    assert finding.figures["field"] == 1 / 32**2
    assert "box covers" in finding.words[0]


def test_bad_input_is_refused(tmp_path: Path) -> None:
    model, pictures = normed_model()
    with pytest.raises(LeafwingError, match="maps=0"):
        filters(model, held_out=pictures, maps=0)
    with pytest.raises(LeafwingError, match=r"seed='?-1"):
        filters(model, held_out=pictures, seed=-1)
    with pytest.raises(LeafwingError, match="points"):
        filters(planted.model(nn.Linear(2, 1), DataSpec.vectors(2)), held_out=pictures)
    with pytest.raises(LeafwingError, match="filters needs a critic that scores single samples, and this run has none"):
        filters(planted.model(Normed(), DataSpec.images(16, 16), judges=False), held_out=pictures)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(768, 1), nn.Flatten(0))
    with pytest.raises(LeafwingError, match="0 convolutions"):
        filters(planted.model(flat, DataSpec.images(16, 16)), held_out=pictures)


def test_the_command_writes_the_sheet_and_leaves_the_random_state_of_other_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    noise = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    run = leafwing.train(tmp_path / "pictures", "sngan", out=tmp_path / "run", images=16, **handmade.TINY_RUN)
    out, state = tmp_path / "out", [5]
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.mps.get_rng_state", lambda: state[-1])
    for name in ("set_rng_state", "manual_seed"):
        monkeypatch.setattr(f"torch.mps.{name}", state.append)
    assert cli.run(["explore", str(run.folder), "filters", "--maps", "3", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "filters.png"]
    assert state[-1] == 5
    assert len(json.loads((out / "figures.json").read_text())["figures"]["maps"]) == 3

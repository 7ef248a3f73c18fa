"""AdaGAN: who moves when, what a sample weighs, and how the mixture is sampled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.game import Clock, Game, Nets
from leafwing.loop import Training
from leafwing.model import Model
from leafwing.recipes.adagan import Excess
from tiny import POINTS, batches

pytestmark = pytest.mark.machine


def made(**options: Any) -> Game:
    small = {"components": 3, "latent": 2, "width": 2, "batch": 8}
    torch.manual_seed(0)
    return recipes.build("adagan", recipes.find("adagan"), POINTS, recipes.describe("adagan").resolve(small | options))


def movers(game: Game, progress: float) -> list[str]:
    return [turn.moves for turn in game.turns if turn.times(Clock(int(progress * 1000), 1000, 0))]


def test_components_learn_one_after_another() -> None:
    game = made()
    assert movers(game, 0) == movers(game, 0.333) == ["D", "G"]
    assert movers(game, 0.334) == movers(game, 0.666) == ["D2", "G2", "C", "L"]
    assert movers(game, 0.667) == movers(game, 1) == ["D3", "G3", "C", "L"]
    assert movers(made(weights="bagging"), 0.5) == ["D2", "G2"]
    assert set(made(weights="bagging").players) == {"G", "D", "G2", "D2", "G3", "D3"}
    assert set(made(components=1).players) == {"G", "D"}


def test_whoever_is_done_or_has_not_begun_stands_still() -> None:
    game = made()
    training = Training(game, batches(POINTS), Engine(game, choose("cpu", "fp32", 1)), images=240, batch=8)
    before = {name: [p.clone() for p in player.net.parameters()] for name, player in game.players.items()}
    phases = []
    for tick in training.ticks(80):
        now = {name: [p.clone() for p in player.net.parameters()] for name, player in game.players.items()}
        moved = {name for name in now if any(not torch.equal(a, b) for a, b in zip(before[name], now[name], strict=True))}
        before, phases = now, [*phases, moved]
        assert [game.nets.G.begun, game.nets.G2.begun, game.nets.G3.begun] == [
            1,
            tick.clock.images > 80,
            tick.clock.images > 160,
        ]
    assert phases == [{"D", "G"}, {"D2", "G2", "C", "L"}, {"D3", "G3", "C", "L"}]


def test_c_is_shown_the_components_before_alone() -> None:
    game = made()
    asked: list[str] = []
    for name in ("G", "G2", "G3"):
        getattr(game.nets, name).register_forward_hook(lambda module, args, out, name=name: asked.append(name))
    batch = batches(POINTS)(0, 8)
    for turn, expected in zip([turn for turn in game.turns if turn.moves == "C"], [["G"], ["G", "G2"]], strict=True):
        asked.clear()
        turn.play(game.nets, batch, Clock(0, 100, 0))
        assert asked == expected


def by_sorting(r: Tensor, beta: float) -> Tensor:
    """N times the paper's weights of N samples: lambda is the least of those that the first k samples would need."""
    covered = ((1 - beta) * r).sort().values
    level = ((len(r) * beta + covered.cumsum(0)) / torch.arange(1, len(r) + 1)).min()
    return (level - (1 - beta) * r).clamp_min(0) / beta


def test_by_hand() -> None:
    """Two samples that the mixture does not have, two that it has twice: at beta 1/2, lambda is 1 and those two weigh nothing."""
    assert by_sorting(torch.tensor([0.0, 2.0, 0.0, 2.0]), 0.5).tolist() == [2, 0, 2, 0]
    assert by_sorting(torch.ones(5), 0.25).tolist() == pytest.approx([1] * 5)


@pytest.mark.parametrize("beta", [1 / 2, 1 / 3, 1 / 5])
def test_the_level_that_is_learnt_is_the_one_that_sorting_finds(beta: float) -> None:
    r = torch.randn(500, generator=torch.Generator().manual_seed(1)).mul(2).exp()
    excess = Excess()
    step = torch.optim.SGD(excess.parameters(), 0.1)
    for _ in range(3000):
        step.zero_grad()
        (excess((1 - beta) * r).square().mean() / 2 - beta * excess.level).backward()
        step.step()
    assert torch.allclose(excess((1 - beta) * r) / beta, by_sorting(r, beta), atol=1e-3)


def test_what_the_mixture_lacks_weighs_more_and_a_sure_critic_leaves_all_alike() -> None:
    game = made()
    turn = next(turn for turn in game.turns if turn.moves == "D2")

    class Fixed(torch.nn.Module):
        def __init__(self, says: Any) -> None:
            super().__init__()
            self.says = says

        def forward(self, x: Tensor) -> Tensor:
            return self.says(x)

    real = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    nets = game.nets
    judged = Nets(**{**vars(nets), "D2": Fixed(lambda x: x[:, 0]), "C": Fixed(lambda x: 100.0 * x[:, 0])})
    r = turn.play(judged, batches(POINTS)(0, 2), Clock(0, 100, 0))
    cost = turn.losses[0].loss(r.again(real, torch.zeros(2, 2)))
    softplus = torch.nn.functional.softplus
    # r is 0 and e^100: with lambda still 1 they weigh 2 and 0.
    assert cost.item() == pytest.approx((2 * softplus(torch.tensor(-1.0)) / 2 + softplus(torch.tensor(0.0))).item())
    sure = Nets(**{**vars(judged), "C": Fixed(lambda x: torch.full((len(x),), 100.0))})
    sure.L.level.data.fill_(0.5)  # where it settles
    cost = turn.losses[0].loss(turn.play(sure, batches(POINTS)(0, 2), Clock(0, 100, 0)).again(real, torch.zeros(2, 2)))
    alike = softplus(-real[:, 0]).mean() + softplus(torch.tensor(0.0))
    assert cost.item() == pytest.approx(alike.item())


def test_a_model_samples_every_component_and_can_be_asked_for_one() -> None:
    game = made()
    for net in (game.nets.G, game.nets.G2, game.nets.G3):
        net.begin()
    model = Model(game, POINTS)
    assert model.codes == {"component": 3, "noise": 2}
    latents = model.latents(40)
    which, z = latents[:, :3].argmax(1), latents[:, 3:]
    assert set(which.tolist()) == {0, 1, 2}
    each = torch.stack([net(z) for net in (game.nets.G, game.nets.G2, game.nets.G3)])
    assert torch.allclose(model.generate(latents), each[which, torch.arange(40)].detach(), atol=1e-6)
    swept = model.sweep(latents[:1], "component")
    assert torch.allclose(model.generate(swept), each[:, 0].detach(), atol=1e-6)

"""AdaGAN: which players move when, the weights of samples, and sampling of the mixture."""

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


def build(**options: Any) -> Game:
    small = {"components": 3, "latent": 2, "width": 2, "batch": 8}
    torch.manual_seed(0)
    return recipes.build("adagan", recipes.find("adagan"), POINTS, recipes.describe("adagan").resolve(small | options))


def movers(game: Game, progress: float) -> list[str]:
    return [turn.moves for turn in game.turns if turn.times(Clock(int(progress * 1000), 1000, 0))]


def test_components_learn_one_after_another() -> None:
    game = build()
    assert movers(game, 0) == movers(game, 0.333) == ["D", "G"]
    assert movers(game, 0.334) == movers(game, 0.666) == ["D2", "G2", "C", "L"]
    assert movers(game, 0.667) == movers(game, 1) == ["D3", "G3", "C", "L"]
    assert movers(build(weights="bagging"), 0.5) == ["D2", "G2"]
    assert set(build(weights="bagging").players) == {"G", "D", "G2", "D2", "G3", "D3"}
    assert set(build(components=1).players) == {"G", "D"}


def test_finished_and_future_components_stand_still() -> None:
    game = build()
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


def test_c_sees_only_earlier_components() -> None:
    game = build()
    sampled: list[str] = []
    for name in ("G", "G2", "G3"):
        getattr(game.nets, name).register_forward_hook(lambda module, args, out, name=name: sampled.append(name))
    batch = batches(POINTS)(0, 8)
    for turn, expected in zip([turn for turn in game.turns if turn.moves == "C"], [["G"], ["G", "G2"]], strict=True):
        sampled.clear()
        turn.play(game.nets, batch, Clock(0, 100, 0))
        assert sampled == expected


def by_sorting(r: Tensor, beta: float) -> Tensor:
    """N times the paper's weights of N samples: lambda is the minimum over k of the value for the first k samples."""
    covered = ((1 - beta) * r).sort().values
    level = ((len(r) * beta + covered.cumsum(0)) / torch.arange(1, len(r) + 1)).min()
    return (level - (1 - beta) * r).clamp_min(0) / beta


def test_sorting_by_hand() -> None:
    """Two samples that the mixture lacks, two that it has twice: at beta 1/2, lambda is 1 and the latter weigh nothing."""
    assert by_sorting(torch.tensor([0.0, 2.0, 0.0, 2.0]), 0.5).tolist() == [2, 0, 2, 0]
    assert by_sorting(torch.ones(5), 0.25).tolist() == pytest.approx([1] * 5)


@pytest.mark.parametrize("beta", [1 / 2, 1 / 3, 1 / 5])
def test_the_learned_level_equals_the_sorted_one(beta: float) -> None:
    r = torch.randn(500, generator=torch.Generator().manual_seed(1)).mul(2).exp()
    excess = Excess()
    step = torch.optim.SGD(excess.parameters(), 0.1)
    for _ in range(3000):
        step.zero_grad()
        (excess((1 - beta) * r).square().mean() / 2 - beta * excess.level).backward()
        step.step()
    assert torch.allclose(excess((1 - beta) * r) / beta, by_sorting(r, beta), atol=1e-3)


def test_what_the_mixture_lacks_weighs_more_and_a_confident_critic_weighs_all_equally() -> None:
    game = build()
    turn = next(turn for turn in game.turns if turn.moves == "D2")

    class Fixed(torch.nn.Module):
        def __init__(self, function: Any) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(x)

    real = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    nets = game.nets
    fixed = Nets(**{**vars(nets), "D2": Fixed(lambda x: x[:, 0]), "C": Fixed(lambda x: 100.0 * x[:, 0])})
    r = turn.play(fixed, batches(POINTS)(0, 2), Clock(0, 100, 0))
    loss = turn.losses[0].loss(r.with_samples(real, torch.zeros(2, 2)))
    softplus = torch.nn.functional.softplus
    # r is 0 and e^100: with the initial lambda of 1 they weigh 2 and 0.
    assert loss.item() == pytest.approx((2 * softplus(torch.tensor(-1.0)) / 2 + softplus(torch.tensor(0.0))).item())
    confident = Nets(**{**vars(fixed), "C": Fixed(lambda x: torch.full((len(x),), 100.0))})
    confident.L.level.data.fill_(0.5)  # its equilibrium
    loss = turn.losses[0].loss(
        turn.play(confident, batches(POINTS)(0, 2), Clock(0, 100, 0)).with_samples(real, torch.zeros(2, 2))
    )
    equal = softplus(-real[:, 0]).mean() + softplus(torch.tensor(0.0))
    assert loss.item() == pytest.approx(equal.item())


def test_a_model_samples_every_component_or_one() -> None:
    game = build()
    for net in (game.nets.G, game.nets.G2, game.nets.G3):
        net.begin()
    model = Model(game, POINTS)
    assert model.codes == {"component": 3, "noise": 2}
    latents = model.latents(40)
    components, z = latents[:, :3].argmax(1), latents[:, 3:]
    assert set(components.tolist()) == {0, 1, 2}
    outputs = torch.stack([net(z) for net in (game.nets.G, game.nets.G2, game.nets.G3)])
    assert torch.allclose(model.generate(latents), outputs[components, torch.arange(40)].detach(), atol=1e-6)
    swept = model.sweep(latents[:1], "component")
    assert torch.allclose(model.generate(swept), outputs[:, 0].detach(), atol=1e-6)

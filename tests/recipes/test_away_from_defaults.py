"""What options do away from their defaults, where the contract and the golden logs, which train the defaults, do not look."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, relu, softplus

from leafwing.game import SGD, Batch, Clock, Game, Turn, at, eval_mode, scores
from leafwing.networks.layers import VirtualBatchNorm
from tiny import PICTURES, batches, build

pytestmark = pytest.mark.machine


def losses(game: Game, turn: Turn) -> tuple[Any, dict[str, float]]:
    """A round of the turn on random data, and its losses."""
    torch.manual_seed(3)
    r = turn.play(game.nets, batches(PICTURES, game)(0, game.batch), Clock(0, 100))
    return r, {term.name: term.loss(r).item() for term in turn.losses}


def test_the_classifier_of_fakes_is_trained_if_it_is_asked_for() -> None:
    game = build("acgan", PICTURES, class_fakes=True, class_weight=3.0)
    for turn in game.turns:
        r, values = losses(game, turn)
        expected = {"class_fake": 3 * cross_entropy(r.fake_heads, r.label).item()}
        if turn.movers == ("D",):
            expected["class_real"] = 3 * cross_entropy(r.real_heads, r.label).item()
        assert {name: value for name, value in values.items() if name in expected} == pytest.approx(expected)
        assert values.keys() == {"adversarial", *expected}
    assert [term.name for term in build("acgan", PICTURES).turns[0].losses] == ["adversarial", "class_real"]


def test_information_weighs_only_what_g_learns_of_the_code() -> None:
    plain, heavy = (
        [losses(game, turn)[1] for turn in game.turns]
        for game in (build("infogan", PICTURES), build("infogan", PICTURES, information=4.0))
    )
    assert heavy[0] == plain[0]
    for name in ("category", "codes"):
        assert heavy[1][name] == pytest.approx(4 * plain[1][name])
    assert heavy[1]["adversarial"] == plain[1]["adversarial"]


def test_gogan_asks_for_its_margin_within_a_stage_and_for_twice_that_between_stages() -> None:
    game = build("gogan", PICTURES, margin=3.0, ranking=0.25)
    previous: Any = game.modules()["term.ranking_2"]
    previous.prior = lambda n, device: torch.ones(n, 8)
    r, values = losses(game, game.turns[2])
    assert values["adversarial"] == pytest.approx(relu(r.fake_score + 3 - r.real_score).mean().item())
    earlier = previous.D(previous.G(torch.ones(6, 8)))
    assert values["ranking_2"] == pytest.approx(0.25 * relu(earlier + 6 - r.real_score).mean().item(), rel=1e-4)


def test_the_divergence_has_its_weight_and_reconstructions_theirs() -> None:
    plain, other = (
        [losses(game, turn)[1] for turn in game.turns]
        for game in (build("vaegan", PICTURES), build("vaegan", PICTURES, divergence_weight=5.0, gamma=0.04))
    )
    assert other[1]["divergence"] == pytest.approx(5 * plain[1]["divergence"])
    assert other[1]["reconstruction"] == pytest.approx(plain[1]["reconstruction"])
    assert other[2]["reconstruction"] == pytest.approx(4 * plain[2]["reconstruction"]), "gamma is 0.01 by default"


def test_latents_of_an_image_are_the_mean_of_its_distribution() -> None:
    game = build("vaegan", PICTURES)
    r, _ = losses(game, game.turns[1])
    assert game.abilities.encode is not None
    assert torch.equal(game.abilities.encode(game.nets, r.real), r.mean)
    assert not torch.allclose(r.mean, r.log_variance)


def test_a_stochastic_encoder_is_judged_and_read_by_its_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    game = build("bigan", PICTURES, encoder="stochastic")
    encode, judge = game.abilities.encode, game.abilities.judge
    assert encode is not None
    assert judge is not None
    with eval_mode(game.nets):
        r, _ = losses(game, game.turns[0])
        assert torch.equal(scores(game.nets.D(r.real, encode(game.nets, r.real))), r.real_score)
        assert torch.equal(judge(game.nets, r.real, Batch()), r.real_score)


def test_both_players_are_held_to_their_history() -> None:
    game = build("improved_gan", PICTURES, history=2.0)
    for turn, player in zip(game.turns, ("D", "G"), strict=True):
        net, mean = getattr(game.nets, player), game.modules()[f"term.history_{player}"]
        start = torch.cat([weight.detach().flatten() for weight in net.parameters()])
        with torch.no_grad():
            for weight in net.parameters():
                weight += 0.5
        _, values = losses(game, turn)
        assert values[f"history_{player}"] == pytest.approx(2 * 0.25 * len(start), rel=1e-3)
        for update in turn.after:
            update(game.nets)
        assert torch.allclose(mean.mean, start + 0.25, atol=1e-5), "after its step, it belongs to the mean"


def test_a_reference_batch_normalises_instead_of_the_batch() -> None:
    game = build("improved_gan", PICTURES, reference=4)
    assert any(isinstance(module, VirtualBatchNorm) for module in game.nets.G.modules())
    z = torch.randn(3, 8)
    assert torch.allclose(game.nets.G(z)[:1], game.nets.G(z[:1]), atol=1e-5), "a sample does not depend on the others"
    assert not any(isinstance(module, VirtualBatchNorm) for module in build("improved_gan", PICTURES).nets.G.modules())


@pytest.mark.parametrize("saturating", [False, True])
def test_a_saturating_generator_minimises_what_d_maximises(saturating: bool) -> None:
    game = build("gan", PICTURES, saturating=saturating)
    r, values = losses(game, game.turns[-1])
    expected = -softplus(r.fake_score).mean() if saturating else softplus(-r.fake_score).mean()
    assert values["adversarial"] == pytest.approx(expected.item())


def test_momentum_rises_to_its_final_value() -> None:
    optimiser = build("gan", PICTURES, momentum=0.9).players["G"].optimiser
    assert isinstance(optimiser, SGD)
    assert [
        at(optimiser.momentum, Clock(images, 10**9)) for images in (0, 125 * 60_000, 250 * 60_000, 10**8)
    ] == pytest.approx([0.5, 0.7, 0.9, 0.9])


def test_r3gan_ends_with_a_smaller_rate_and_penalty_and_a_longer_memory() -> None:
    game = build("r3gan", PICTURES, gamma=2.0, gamma_end=0.5, lr_g=1e-3, lr_d=2e-3, lr_end=0.1)
    for images, share in ((0, 1.0), (50, 0.5), (100, 0.0)):
        clock = Clock(images, 100)
        for player, rate in (("G", 1e-3), ("D", 2e-3)):
            scheduled = game.players[player].optimiser.scheduled(clock)
            assert scheduled["lr"] == pytest.approx(rate * (0.1 + 0.9 * share))
            assert scheduled["betas"] == pytest.approx((0.0, 0.99 - 0.09 * share))
        assert penalties(game, clock) == pytest.approx(
            [value * (0.25 + 0.75 * share) for value in penalties(game, Clock(0, 100))]
        )


def penalties(game: Game, clock: Clock) -> list[float]:
    """R1 and R2 of one batch."""
    torch.manual_seed(3)
    turn = game.turns[0]
    r = turn.play(game.nets, batches(PICTURES, game)(0, game.batch), clock)
    r.real.requires_grad_()
    r.fake.detach_().requires_grad_()
    return [term.loss(r).item() for term in turn.losses if term.second_order]

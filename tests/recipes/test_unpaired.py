"""Translators without pairs: their losses against independent computations, their rhythm, their options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, hinge_embedding_loss, l1_loss, mse_loss

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.errors import LeafwingError
from leafwing.fields import Image, Vector
from leafwing.game import Batch, Clock, DataSpec, Game
from leafwing.networks.residual import Block
from leafwing.parts.contrast import contrast
from tiny import batches

SAME = DataSpec({"image": Image(16, 16, 3), "input": Image(16, 16, 3)}, unpaired=("input",))
GREY = DataSpec({"image": Image(16, 16, 3), "input": Image(16, 16, 1)}, unpaired=("input",))
POINTS = DataSpec({"image": Vector(2), "input": Vector(3)}, unpaired=("input",))
START = Clock(0, 1_000)


def build(name: str, data: DataSpec = SAME, **options: Any) -> Game:
    small = {"width": 4, "max_width": 8, "batch": 4} | ({"blocks": 1} if name == "cyclegan" else {})
    torch.manual_seed(0)
    resolved = recipes.describe(name).resolve(small | options, points=data.points)
    return recipes.build(name, recipes.find(name), data, resolved)


def losses(game: Game, number: int, batch: Batch, clock: Clock = START) -> dict[str, Tensor]:
    """The losses of one turn, by term."""
    turn = game.turns[number]
    r = turn.play(game.nets, batch, clock)
    return {term.name: term.loss(r) for term in turn.losses}


def close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return actual.keys() == expected.keys() and all(torch.allclose(actual[k], expected[k], rtol=1e-4) for k in actual)


def ones(scores: Tensor) -> Tensor:
    return torch.ones_like(scores)


# --- CycleGAN ---------------------------------------------------------------------------------------------------------------


def test_cyclegan_s_losses_are_those_of_the_paper() -> None:
    game, batch = build("cyclegan", pool=0, cycle=7.0, identity=0.25), batches(SAME)(0, 4)
    nets, x, y = game.nets, batch.input, batch.image
    there, back = nets.G(x), nets.F(y)
    scores = nets.D_image(there), nets.D_input(back)
    assert close(
        losses(game, 0, batch),
        {
            "adversarial": sum(mse_loss(s, ones(s)) for s in scores),
            "cycle": 7 * (l1_loss(nets.F(there), x) + l1_loss(nets.G(back), y)),
            "identity": 7 * 0.25 * (l1_loss(nets.G(y), y) + l1_loss(nets.F(x), x)),
        },
    )
    for number, critic, real, fake in ((1, nets.D_image, y, there), (2, nets.D_input, x, back)):
        expected = (mse_loss(critic(real), ones(critic(real))) + critic(fake).square().mean()) / 2
        assert close(losses(game, number, batch), {"adversarial": expected})


def test_cyclegan_has_no_identity_loss_between_grey_and_colour() -> None:
    assert [term.name for term in build("cyclegan", GREY).turns[0].losses] == ["adversarial", "cycle"]
    assert [term.name for term in build("cyclegan", identity=0).turns[0].losses] == ["adversarial", "cycle"]


def test_cyclegan_s_critics_see_earlier_fakes() -> None:
    game, source = build("cyclegan", pool=8), batches(SAME)
    for images in (0, 4):  # fill both histories
        for turn in game.turns[1:]:
            turn.play(game.nets, source(images, 4), START)
    torch.manual_seed(0)
    batch = source(8, 4)
    shown = game.turns[1].play(game.nets, batch, START).fake
    new = game.nets.G(batch.input)
    earlier = torch.cat([game.nets.G(source(images, 4).input) for images in (0, 4)])
    kinds = [torch.isclose(fakes[:, None], shown[None], atol=1e-6).flatten(2).all(2).any(0) for fakes in (new, earlier)]
    assert (kinds[0] ^ kinds[1]).all()
    assert kinds[1].any()


@pytest.mark.parametrize("name", ["cyclegan", "cut"])
def test_learning_rates_fall_to_zero_in_the_second_half(name: str) -> None:
    for player in build(name).players.values():
        if player.optimiser:
            assert callable(player.optimiser.lr)
            assert [player.optimiser.lr(Clock(images, 100)) for images in (0, 50, 75)] == pytest.approx([2e-4, 2e-4, 1e-4])
            assert player.optimiser.lr(Clock(100, 100)) == 0


# --- CUT --------------------------------------------------------------------------------------------------------------------


def test_cut_compares_the_layers_of_the_authors_code() -> None:
    import importlib

    layers = importlib.import_module("leafwing.recipes.cut").LAYERS
    g = build("cut").players["G"].net
    assert isinstance(g.encoder, nn.Sequential)
    pad, first, second, *blocks = ([*g.encoder, *g.blocks][number] for number in layers)  # type: ignore[misc]
    assert isinstance(pad, nn.ReflectionPad2d)
    assert first.stride == second.stride == (2, 2)
    assert blocks == [g.blocks[0], g.blocks[4]]  # type: ignore[index]
    assert all(isinstance(block, Block) for block in blocks)


@pytest.mark.parametrize("data", [SAME, GREY], ids=["colour", "grey to colour"])
def test_cut_s_losses_are_those_of_the_paper(data: DataSpec) -> None:
    """With all patches, so that none is chosen at random; their order has no effect."""
    game, batch = build("cut", data, contrast=3.0, identity=0.5, patches=10_000), batches(data)(0, 4)
    nets, x, y = game.nets, batch.input, batch.image

    def as_input(image: Tensor) -> Tensor:
        return image if data is SAME else image.mean(1, keepdim=True)

    def between(a: Tensor, b: Tensor) -> Tensor:
        values = []
        for head, *maps in zip(nets.H.heads, *(nets.G.features(v, (0, 4, 7, 10, 14)) for v in (a, b)), strict=True):
            q, k = (head(part.flatten(2).mT) for part in maps)
            values.append(contrast(q / q.norm(dim=2, keepdim=True), k / k.norm(dim=2, keepdim=True), 0.07))
        return sum(values) / 5

    fake, source = nets.G(x), as_input(y)
    expected = (mse_loss(nets.D(y), ones(nets.D(y))) + nets.D(fake).square().mean()) / 2
    assert close(losses(game, 0, batch), {"adversarial": expected})
    expected_g = {
        "adversarial": mse_loss(nets.D(fake), ones(nets.D(fake))),
        "contrast": 3 * between(as_input(fake), x),
        "identity": 0.5 * between(as_input(nets.G(source)), source),
    }
    assert close(losses(game, 1, batch), expected_g)


def test_fastcut_is_an_option() -> None:
    game = build("cut", contrast=10, identity=0)
    assert [term.name for term in game.turns[1].losses] == ["adversarial", "contrast"]
    assert game.turns[1].same_round


def test_fewer_patches_and_another_temperature_change_the_contrast() -> None:
    values = []
    for options in ({}, {"patches": 4}, {"temperature": 0.5}):
        game = build("cut", **options)
        torch.manual_seed(1)
        values.append(losses(game, 1, batches(SAME)(0, 4))["contrast"].item())
    assert values[1] < values[0], "fewer negatives"
    assert values[2] != values[0]


# --- DiscoGAN ---------------------------------------------------------------------------------------------------------------


def hidden(critic: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs of a critic's activations but the first."""
    maps: list[Tensor] = []
    handles = [
        m.register_forward_hook(lambda m, args, out: maps.append(out))
        for m in critic.modules()
        if isinstance(m, nn.LeakyReLU | nn.ReLU)
    ]
    critic(x)
    for handle in handles:
        handle.remove()
    return maps[1:]


@pytest.mark.parametrize(("images", "r"), [(0, 0.01), (499, 0.01), (500, 0.3)])
def test_discogan_s_losses_are_those_of_the_authors_code(images: int, r: float) -> None:
    game, batch, clock = build("discogan", rate=0.3), batches(SAME)(0, 4), Clock(images, 1_000)
    nets, x, y = game.nets, batch.input, batch.image
    there, back = nets.G(x), nets.F(y)
    sides = ((nets.D_image, y, there), (nets.D_input, x, back))

    def bce(scores: Tensor, target: float) -> Tensor:
        return binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))

    critics = sum((bce(d(real), 1) + bce(d(fake), 0)) / 2 for d, real, fake in sides)
    matching = torch.zeros(())
    for d, real, fake in sides:
        for a, b in zip(hidden(d, real), hidden(d, fake), strict=True):
            squares = (a.mean(0) - b.mean(0)).square()
            matching = matching + hinge_embedding_loss(squares, torch.ones_like(squares))
    assert close(losses(game, 0, batch, clock), {"adversarial": critics})
    expected = {
        "adversarial": (1 - r) * 0.1 * sum(bce(d(fake), 1) for d, _, fake in sides),
        "features": (1 - r) * 0.9 * matching,
        "reconstruction": r * (mse_loss(nets.F(there), x) + mse_loss(nets.G(back), y)),
    }
    assert close(losses(game, 1, batch, clock), expected)


def test_discogan_s_r_rises_after_the_warm_up_if_training_is_long() -> None:
    game, batch = build("discogan", warm_up=100), batches(SAME)(0, 4)
    before, after = (losses(game, 1, batch, Clock(images, 10_000))["reconstruction"].item() for images in (99, 100))
    assert after / before == pytest.approx(50)


def test_discogan_s_r_does_not_fall_when_training_is_extended() -> None:
    game, batch = build("discogan"), batches(SAME)(0, 4)
    clocks = [Clock(100, 100), Clock(100, 400, planned=100), Clock(20, 100)]
    at_end, extended, early = (losses(game, 1, batch, clock)["reconstruction"].item() for clock in clocks)
    assert extended == at_end == pytest.approx(50 * early)


def test_discogan_s_critics_move_in_every_third_round() -> None:
    d, g = build("discogan").turns
    assert [(d.times(clock), g.times(clock)) for clock in (replace(START, round=i) for i in range(6))] == 2 * [
        (1, 0), (0, 1), (0, 1),
    ]  # fmt: skip
    d, g = build("discogan", n_generator=1).turns
    assert [d.times(replace(START, round=i)) for i in range(4)] == [1, 0, 1, 0]


def test_discogan_s_variants_have_the_players_and_losses_of_the_paper_s_baselines() -> None:
    batch = batches(SAME)(0, 4)
    one_way, none = build("discogan", consistency="one_way"), build("discogan", consistency="none")
    assert one_way.players.keys() == {"G", "F", "D_image"}
    assert none.players.keys() == {"G", "D_image"}
    nets, x = one_way.nets, batch.input
    there = nets.G(x)
    end = Clock(900, 1_000)
    assert torch.allclose(losses(one_way, 1, batch, end)["reconstruction"], 0.5 * mse_loss(nets.F(there), x))
    scores = none.nets.D_image(none.nets.G(x))
    expected = 0.1 * binary_cross_entropy_with_logits(scores, ones(scores))
    assert torch.allclose(losses(none, 1, batch, end)["adversarial"], expected)
    assert losses(none, 1, batch, end).keys() == {"adversarial", "features"}


def test_discogan_trains_on_points() -> None:
    game = build("discogan", POINTS)
    engine = Engine(game, choose("cpu", "fp32", 1))
    batch = engine.prepare(batches(POINTS)(0, 8))
    before = [weight.detach().clone() for weight in game.nets.G.parameters()]
    for number in range(2):
        assert engine.take([game.turns[number]], batch, replace(START, round=number)).isfinite().all()
    assert game.nets.G(batch.input).shape == (8, 2)
    assert all(not torch.equal(a, b) for a, b in zip(before, game.nets.G.parameters(), strict=True))


@pytest.mark.parametrize("name", ["cyclegan", "cut", "discogan"])
def test_inputs_of_another_size_are_refused(name: str) -> None:
    data = DataSpec({"image": Image(32, 32, 3), "input": Image(16, 16, 3)})
    with pytest.raises(LeafwingError, match="input and image must have the same size: image 16x16x3, image 32x32x3"):
        build(name, data)
    with pytest.raises(LeafwingError, match=f"recipe {name} needs the field input"):
        build(name, DataSpec.images(16, 16))

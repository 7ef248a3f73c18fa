"""simgan, sigan and seuda: their losses against independent computations, their rhythm, and what their options do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from leafwing.engine import Engine, choose
from leafwing.errors import LeafwingError
from leafwing.fields import Image, Label, Mask, Segmentation
from leafwing.game import Batch, Clock, DataSpec, Game
from leafwing.model import Model
from tiny import batches, build

PAIRS = DataSpec({"image": Image(16, 16), "input": Image(16, 16)}, unpaired=("input",))
SMALL_INPUTS = DataSpec({"image": Image(16, 16), "input": Image(4, 4), "label": Label(("a", "b", "c"))})
SHAPES = Segmentation(16, 16, ("ground", "star", "ring"))
MASKS = DataSpec({"image": Image(16, 16), "segmentation": SHAPES, "input": Image(16, 16, 1)}, unpaired=("input",))
START, LATER = Clock(0, 1000), Clock(500, 1000)


def losses(game: Game, spec: DataSpec, number: int, n: int = 6) -> dict[str, float]:
    """The losses of a turn on random data, by term."""
    torch.manual_seed(0)
    turn = game.turns[number]
    r = turn.play(game.nets, batches(spec, game)(0, n), LATER)
    return {term.name: term.loss(r).item() for term in turn.losses}


def bce(scores: Tensor, real: bool) -> Tensor:
    """The cross entropy of each score against a class."""
    probability = torch.sigmoid(scores.double())
    return -torch.log(probability if real else 1 - probability)


def movers(game: Game, spec: DataSpec) -> list[set[str]]:
    """The players whose weights each turn changes."""
    engine = Engine(game, choose("cpu", "fp32", 1))
    batch = engine.prepare(batches(spec, game)(0, 6))
    changed = []
    for turn in game.turns:
        before = {name: [p.detach().clone() for p in player.net.parameters()] for name, player in game.players.items()}
        engine.take([turn], batch, LATER)
        after = {name: player.net.parameters() for name, player in game.players.items()}
        pairs = {name: zip(before[name], after[name], strict=True) for name in game.players}
        changed.append({name for name, values in pairs.items() if any(not torch.equal(a, b) for a, b in values)})
    return changed


# --- simgan -------------------------------------------------------------------------------------------------------------------


def test_simgan_sums_cross_entropies_over_the_map_and_distances_over_pixels() -> None:
    game = build("simgan", PAIRS, l1=0.25, pool=0)
    batch, nets = batches(PAIRS, game)(0, 6), game.nets
    refined = nets.G(batch.input)
    distance = 0.25 * (refined - batch.input).double().abs().sum((1, 2, 3)).mean() / 3
    realism = bce(nets.D(refined), True).sum((1, 2)).mean()
    assert losses(game, PAIRS, 1) == pytest.approx(
        {"adversarial": realism.item(), "self_regularisation": distance.item()}, rel=1e-5
    )
    critic = bce(nets.D(batch.image), True).sum((1, 2)).mean() + bce(nets.D(refined), False).sum((1, 2)).mean()
    assert losses(game, PAIRS, 2) == pytest.approx({"adversarial": critic.item()}, rel=1e-5)


def test_simgan_may_keep_the_brightness_only() -> None:
    game = build("simgan", PAIRS, l1=1.0, keep="brightness")
    batch = batches(PAIRS, game)(0, 6)
    difference = (game.nets.G(batch.input) - batch.input).mean(1)
    assert losses(game, PAIRS, 0)["self_regularisation"] == pytest.approx(
        difference.abs().sum((1, 2)).mean().item(), rel=1e-5
    )


def test_simgan_begins_with_the_refiner_and_then_the_critic_alone() -> None:
    game = build("simgan", PAIRS, g_alone=0.25, d_alone=0.25, turns_of_g=3)
    times = {share: [turn.times(Clock(share, 100)) for turn in game.turns] for share in (0, 24, 25, 49, 50, 99)}
    assert times == {0: [1, 0, 0], 24: [1, 0, 0], 25: [0, 0, 1], 49: [0, 0, 1], 50: [0, 3, 1], 99: [0, 3, 1]}


def test_simgan_shows_the_critic_earlier_refined_images() -> None:
    game = build("simgan", PAIRS, pool=6)
    nets, batch, turn = game.nets, batches(PAIRS, game)(0, 6), game.turns[2]
    with torch.no_grad():
        first = turn.play(nets, batch, LATER).fake
        for weight in nets.G.parameters():
            weight.mul_(2)
        torch.manual_seed(3)
        second = turn.play(nets, batch, LATER).fake
        new = nets.G(batch.input)
    earlier = [any(torch.equal(image, other) for other in first) for image in second]
    current = [torch.equal(image, other) for image, other in zip(second, new, strict=True)]
    assert all(a != b for a, b in zip(earlier, current, strict=True))
    assert any(earlier)
    assert any(current)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (replace(PAIRS, fields={**PAIRS.fields, "input": Image(16, 16, 1)}), {}, "same format.*16x16x1.*16x16x3"),
        (PAIRS, {"g_alone": 0.9, "d_alone": 0.1}, "sum must be below 1"),
    ],
    ids=["channels", "shares"],
)
def test_simgan_refuses_other_data_and_endless_beginnings(spec: DataSpec, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        build("simgan", spec, **options)


# --- sigan --------------------------------------------------------------------------------------------------------------------


def contrastive(a: Tensor, b: Tensor, labels: Tensor, others: Tensor, margin: float) -> float:
    """Half the mean over pairs of one identity and half that over pairs of different ones, pair by pair."""
    same, different = [0.0], [0.0]
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b))]
    for i, j in pairs:
        distance = (a[i].double() - b[j].double()).norm().item()
        if labels[i] == others[j]:
            same.append(distance**2)
        else:
            different.append(max(0.0, margin - distance) ** 2)
    return sum(sum(values) / max(1, len(values) - 1) for values in (same, different)) / 2


def test_sigan_adds_up_both_of_a_pair() -> None:
    game = build("sigan", SMALL_INPUTS, contrast=2.0, margin=1.5, l1=7.0, adversarial=0.5)
    game.nets.D.eval()  # batch statistics stay as they are
    batch, nets = batches(SMALL_INPUTS, game)(0, 6), game.nets
    fakes = [nets.G(batch.input), nets.G(batch.partner_input)]
    reals = [batch.image, batch.partner_image]
    scores, codes = zip(*(nets.D(x) for x in fakes), strict=True)
    real_scores, real_codes = zip(*(nets.D(x) for x in reals), strict=True)
    labels = batch.label, batch.partner_label
    expected = {
        "adversarial": 0.5 * sum(bce(s, True).mean().item() for s in scores) / 2,
        "l1": 7.0 * sum((x - y).abs().mean().item() for x, y in zip(fakes, reals, strict=True)) / 2,
        "contrastive": 2.0 * contrastive(*codes, *labels, 1.5),
    }
    assert losses(game, SMALL_INPUTS, 1) == pytest.approx(expected, rel=1e-4)
    critic = sum((bce(s, True).mean() + bce(t, False).mean()).item() for s, t in zip(real_scores, scores, strict=True)) / 2
    expected = {"adversarial": critic, "contrastive": 2.0 * contrastive(*real_codes, *labels, 1.5)}
    assert losses(game, SMALL_INPUTS, 0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("same", [True, False])
def test_a_batch_without_pairs_of_one_kind_has_a_finite_contrastive_loss(same: bool) -> None:
    game = build("sigan", SMALL_INPUTS)
    batch = Batch(batches(SMALL_INPUTS, game)(0, 6))
    batch["label"], batch["partner_label"] = torch.zeros(6).long(), torch.full((6,), int(not same))
    batch["partner_image"] = batch["image"]
    turn = game.turns[0]
    loss = {term.name: term.loss for term in turn.losses}["contrastive"](turn.play(game.nets, batch, LATER))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in game.nets.D.parameters() if p.grad is not None)


def test_without_contrast_sigan_needs_no_identities_in_its_losses() -> None:
    game = build("sigan", SMALL_INPUTS, contrast=0.0)
    assert [[term.name for term in turn.losses] for turn in game.turns] == [["adversarial"], ["adversarial", "l1"]]


@pytest.mark.parametrize("size", [(5, 5), (4, 8)])
def test_sigan_refuses_inputs_that_are_no_power_of_two_smaller(size: tuple[int, int]) -> None:
    with pytest.raises(LeafwingError, match=r"enlarges inputs 1, 2, 4.*low4"):
        build("sigan", DataSpec({**SMALL_INPUTS.fields, "input": Image(*size)}))


def test_sigan_enlarges_images_of_any_size() -> None:
    game = build("sigan", SMALL_INPUTS)
    assert game.nets.G(torch.rand(1, 3, 5, 9)).shape == (1, 3, 20, 36)


# --- seuda --------------------------------------------------------------------------------------------------------------------


def test_seuda_trains_the_segmenter_first_and_freezes_it() -> None:
    game = build("seuda", MASKS, segmenter_share=0.4)
    times = {share: [turn.times(Clock(share, 100)) for turn in game.turns] for share in (0, 39, 40, 99)}
    assert times == {0: [1, 0, 0], 39: [1, 0, 0], 40: [0, 1, 1], 99: [0, 1, 1]}
    assert movers(game, MASKS) == [{"S"}, {"D_image", "D_input", "D_mask"}, {"G", "F"}]


def test_the_masks_of_seuda_teach_the_translator_through_the_frozen_segmenter() -> None:
    game = build("seuda", MASKS, blocks=1)
    batch, turn = batches(MASKS, game)(0, 6), game.turns[2]
    term = {term.name: term.loss for term in turn.losses}["semantic"]
    weights = list(game.nets.G.parameters())
    slopes = torch.autograd.grad(term(turn.play(game.nets, batch, LATER)), weights)
    assert any(slope.abs().sum() > 0 for slope in slopes)


def test_the_losses_of_seuda() -> None:
    game = build("seuda", MASKS, cycle=3.0, semantic=0.5, pool=0, blocks=1)
    batch, nets = batches(MASKS, game)(0, 6), game.nets
    image, input = batch.image, batch.input
    x, y = nets.G(input), nets.F(image)
    mask = nets.S(image).log_softmax(1)
    assert losses(game, MASKS, 0) == pytest.approx(
        {"segmentation": -(mask * batch.segmentation).sum(1).mean().item()}, rel=1e-5
    )

    def critic(net: Any, real: Tensor, fake: Tensor) -> float:
        return (0.5 * (net(real) - 1).square().mean() + 0.5 * net(fake).square().mean()).item()

    def generator(net: Any, fake: Tensor) -> float:
        return (0.5 * (net(fake) - 1).square().mean()).item()

    masks = [nets.S(images).softmax(1) for images in (image, x)]
    expected = {
        "adversarial": critic(nets.D_image, image, x) + critic(nets.D_input, input, y),
        "semantic": critic(nets.D_mask, *masks),
    }
    assert losses(game, MASKS, 1) == pytest.approx(expected, rel=1e-4)
    back = (nets.F(x) - input).abs().mean() + (nets.G(y) - image).abs().mean()
    expected = {
        "adversarial": generator(nets.D_image, x) + generator(nets.D_input, y),
        "cycle": 3.0 * back.item(),
        "semantic": 0.5 * generator(nets.D_mask, masks[1]),
    }
    assert losses(game, MASKS, 2) == pytest.approx(expected, rel=1e-4)


def test_seuda_segments_what_it_translates() -> None:
    game = build("seuda", MASKS)
    model, x = Model(game, MASKS), batches(MASKS)(0, 3).input
    image, masks = model.translate(x, output="image"), model.translate(x)
    assert image.shape == (3, 3, 16, 16)
    assert torch.allclose(masks, game.nets.S(image).softmax(1), atol=1e-5)
    assert torch.allclose(masks.sum(1), torch.ones(3, 16, 16))


def test_seuda_accepts_binary_masks() -> None:
    spec = DataSpec({**MASKS.fields, "segmentation": Mask(16, 16)}, unpaired=("input",))
    game = build("seuda", spec)
    batch, nets = batches(spec, game)(0, 6), game.nets
    probability = torch.sigmoid(nets.S(batch.image))
    expected = -torch.where(batch.segmentation > 0, probability.log(), (1 - probability).log()).mean()
    assert losses(game, spec, 0) == pytest.approx({"segmentation": expected.item()}, rel=1e-5)
    assert movers(game, spec)[2] == {"G", "F"}


def test_seuda_refuses_fields_of_several_sizes() -> None:
    with pytest.raises(LeafwingError, match="of one size"):
        build("seuda", DataSpec({**MASKS.fields, "input": Image(32, 32)}, unpaired=("input",)))

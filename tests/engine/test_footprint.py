"""How much memory training takes: counted by hand on two linear layers, and against what lives while recipes train."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.engine.footprint import Footprint, Living, footprint, lasting, rehearse
from leafwing.game import SGD, Abilities, Adam, Batch, Game, Optimiser, Player, RMSprop, Round, Term, Turn
from leafwing.parts.plays import Packed
from tiny import PICTURES, POINTS, batches, build, same, serves, start, tensors

CASES = [(name, spec) for name in recipes.names() for spec in (PICTURES, POINTS) if serves(name, spec)]
every_case = pytest.mark.parametrize(
    ("name", "spec"), CASES, ids=[f"{name}-{'points' if spec.points else 'pictures'}" for name, spec in CASES]
)
CPU = choose("cpu", "fp32", 1)


def linear(optimiser: Optimiser, **options: Any) -> Game:
    """G makes three numbers of two, D one of three."""

    def play(nets: Any, batch: Batch, clock: Any) -> Round:
        return Round(nets, batch.image, nets.G(torch.randn(batch.n, 2)), lambda x: nets.D(x)[:, 0])

    players = {"G": Player(nn.Linear(2, 3), optimiser, **options), "D": Player(nn.Linear(3, 1), optimiser)}
    turns = [
        Turn("D", play, [Term("up", lambda r: r.fake_score.mean())]),
        Turn("G", play, [Term("down", lambda r: -r.fake_score.mean())]),
    ]
    return Game(players, turns, Abilities(), batch=4)


def points(n: int) -> Batch:
    return Batch(image=torch.randn(n, 3, generator=torch.Generator().manual_seed(n)))


def of(game: Game, batch: int = 100, **how: Any) -> Footprint:
    return footprint(Engine(game, replace(CPU, **how)), points(4), batch)


def living(found: Footprint) -> int:
    """The bytes of all tensors at the peak."""
    return found.weights + found.gradients + found.optimiser + found.data + found.activations


# --- by hand -----------------------------------------------------------------------------------------------------------------

NUMBERS = (2 * 3 + 3) + (3 * 1 + 1)  # weights and biases of G and D


@pytest.mark.parametrize(
    ("optimiser", "remembered"),
    [
        (SGD(0.1), 0),
        (SGD(0.1, momentum=0.9), 4 * NUMBERS),
        (RMSprop(0.1), 4 * NUMBERS + 4 * 4),  # and for each of four tensors how many steps there were
        (Adam(0.1), 2 * 4 * NUMBERS + 4 * 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stays_is_counted(optimiser: Optimiser, remembered: int) -> None:
    found = of(linear(optimiser))
    assert found.weights == 4 * NUMBERS
    assert found.gradients == 4 * NUMBERS
    assert found.optimiser == remembered


def test_averaged_copies_are_weights() -> None:
    assert of(linear(Adam(0.1), ema=10.0)).weights == 4 * (NUMBERS + 2 * 3 + 3)


def test_what_comes_and_goes_is_counted() -> None:
    """G's turn is the larger one: latents, fakes, scores, the scores' gradient and the fakes' live at the same time."""
    found = of(linear(Adam(0.1)))
    assert found.at(1001).data - found.at(1000).data == 4 * 3
    assert found.at(1001).activations - found.at(1000).activations == 4 * (2 + 3 + 1 + 1 + 3)


def test_the_total_is_the_sum() -> None:
    found = of(linear(Adam(0.1)))
    assert found.total == living(found) + found.holes + found.base
    assert found.base > 50 * 2**20  # Python and torch


# --- any batch ---------------------------------------------------------------------------------------------------------------


def test_large_batches_grow_in_a_straight_line() -> None:
    found = of(linear(Adam(0.1)))
    first, second, third = (found.at(batch) for batch in (1000, 2000, 3000))
    assert third.total - second.total == pytest.approx(second.total - first.total, abs=2)
    assert found.at(100) == found
    assert first.weights == third.weights


def test_in_micro_batches_only_the_batch_itself_grows() -> None:
    whole, parts = of(linear(Adam(0.1)), 1000), of(linear(Adam(0.1)), 1000, micro_batch=10)
    assert parts.activations == whole.at(10).activations
    assert parts.data == whole.data
    assert parts.total < whole.total


def test_a_recipe_that_does_other_things_with_other_batches_is_measured_at_its_peaks() -> None:
    game = linear(Adam(0.1))

    def cost(r: Round) -> Tensor:
        return sum((r.fake_score.mean() for _ in range(len(r.fake))), torch.zeros(()))

    found = of(replace(game, turns=[replace(game.turns[0], losses=[Term("many", cost)]), game.turns[1]]))
    assert found.at(1000).activations > found.activations > 0


@every_case
def test_every_recipe_grows_with_the_batch(name: str, spec: Any) -> None:
    training = start(name, spec, 10**6)
    found = footprint(training.engine, training.batches(0, 4), 6)
    assert min(found.weights, found.gradients, found.data, found.activations, found.holes, found.base) > 0
    sizes = [found.at(batch).total for batch in (6, 64, 512)]
    assert sizes == sorted(set(sizes))


@every_case
def test_what_is_foreseen_is_what_lives_at_another_batch(name: str, spec: Any) -> None:
    training = start(name, spec, 10**6)
    found = footprint(training.engine, training.batches(0, 4), 10)
    rehearse(training.engine, training.batches(0, 10))  # optimisers remember, gradients are there
    kinds = {type(module) for module in training.game.players["D"].net.modules()}
    # Packs of an odd number of samples are filled up, so small batches mislead.
    near = {"rel": 0.2} if Packed in kinds else {"abs": 2}
    assert living(found) == pytest.approx(max(rehearse(training.engine, training.batches(0, 10))), **near)


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_what_is_foreseen_is_what_lives_in_the_loop(name: str) -> None:
    training = start(name, PICTURES, 120)
    found = footprint(training.engine, training.batches(0, 4), training.batch)
    ticks = training.ticks(60)
    next(ticks)
    with Living(lasting(training.engine)) as noted:
        next(ticks)
    assert living(found) == pytest.approx(max(noted.notes), rel=0.02)


# --- nothing is disturbed ----------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("begun", [False, True])
def test_training_goes_on_as_if_nothing_had_been_asked(name: str, spec: Any, begun: bool) -> None:
    asked, plain = start(name, spec, 36), start(name, spec, 36)
    for training in (asked, plain):
        torch.manual_seed(5)
        if begun:
            list(training.ticks(10**9, watch=lambda clock: clock.images >= 6))
        random, state = torch.get_rng_state(), copy.deepcopy(training.engine.state())
        before = {player: [p.grad for p in one.net.parameters()] for player, one in training.game.players.items()}
        if training is asked:
            found = footprint(training.engine, training.batches(0, 4), 6)
            assert torch.equal(torch.get_rng_state(), random)
            assert str(training.engine.state()) == str(state)
            for player, one in training.game.players.items():
                assert all(p.grad is grad for p, grad in zip(one.net.parameters(), before[player], strict=True))
        list(training.ticks(10**9))
    assert same(tensors(asked.game), tensors(plain.game))
    fresh = Engine(build(name, spec), CPU)
    assert living(found) == living(footprint(fresh, batches(spec)(0, 4), 6)), "whoever was frozen for a turn moves too"

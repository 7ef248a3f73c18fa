"""Memory estimates: by hand for two linear layers, and against the live tensors of recipes in training."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leafwing.commands.plan import build_augmentation
from leafwing.engine import Engine, choose
from leafwing.engine.footprint import Footprint, LiveBytes, estimate_footprint, persistent_tensors, trace_live_bytes
from leafwing.game import SGD, Abilities, Adam, Batch, DataSpec, Game, Optimiser, Player, RMSprop, Round, Term, Turn
from leafwing.parts.plays import Packed
from tiny import PICTURES, batches, build, cases, same, start, tensors

every_case = cases()
CPU = choose("cpu", "fp32", 1)


def linear(optimiser: Optimiser, **options: Any) -> Game:
    """G maps two numbers to three, D three to one."""

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


def estimate(game: Game, batch: int = 100, **changes: Any) -> Footprint:
    return estimate_footprint(Engine(game, replace(CPU, **changes)), points(4), batch)


def live_bytes(footprint: Footprint) -> int:
    """The bytes of all tensors at the peak."""
    return footprint.weights + footprint.gradients + footprint.optimiser + footprint.data + footprint.activations


# --- by hand -----------------------------------------------------------------------------------------------------------------

NUMBERS = (2 * 3 + 3) + (3 * 1 + 1)  # weights and biases of G and D


@pytest.mark.parametrize(
    ("optimiser", "state"),
    [
        (SGD(0.1), 0),
        (SGD(0.1, momentum=0.9), 4 * NUMBERS),
        (RMSprop(0.1), 4 * NUMBERS + 4 * 4),  # and a step counter for each of four tensors
        (Adam(0.1), 2 * 4 * NUMBERS + 4 * 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_persistent_tensors_are_counted(optimiser: Optimiser, state: int) -> None:
    footprint = estimate(linear(optimiser))
    assert footprint.weights == 4 * NUMBERS
    assert footprint.gradients == 4 * NUMBERS
    assert footprint.optimiser == state


def test_averaged_copies_are_weights() -> None:
    assert estimate(linear(Adam(0.1), ema=10.0)).weights == 4 * (NUMBERS + 2 * 3 + 3)


def test_temporary_tensors_are_counted() -> None:
    """The peak is in G's turn: latents, fakes, scores, and the gradients of scores and fakes are alive at the same time."""
    footprint = estimate(linear(Adam(0.1)))
    assert footprint.at(1001).data - footprint.at(1000).data == 4 * 3
    assert footprint.at(1001).activations - footprint.at(1000).activations == 4 * (2 + 3 + 1 + 1 + 3)


def test_the_total_is_the_sum() -> None:
    footprint = estimate(linear(Adam(0.1)))
    assert footprint.total == live_bytes(footprint) + footprint.fragmentation + footprint.base
    assert footprint.base > 50 * 2**20  # Python and torch


# --- any batch ---------------------------------------------------------------------------------------------------------------


def test_memory_is_linear_for_large_batches() -> None:
    footprint = estimate(linear(Adam(0.1)))
    first, second, third = (footprint.at(batch) for batch in (1000, 2000, 3000))
    assert third.total - second.total == pytest.approx(second.total - first.total, abs=2)
    assert footprint.at(100) == footprint
    assert first.weights == third.weights


def test_with_micro_batches_only_the_data_grow() -> None:
    whole, parts = estimate(linear(Adam(0.1)), 1000), estimate(linear(Adam(0.1)), 1000, micro_batch=10)
    assert parts.activations == whole.at(10).activations
    assert parts.data == whole.data
    assert parts.total < whole.total


def test_augmented_images_are_counted() -> None:
    """The changed images are needed for the gradient of the generated ones."""
    spec = DataSpec.images(32, 32)
    totals = []
    for text in ("none", "ada"):
        training = start("dcgan", spec, 10**6)
        training.engine.augmentation = build_augmentation(text, spec, 10**6)
        before = None if training.engine.augmentation is None else training.engine.augmentation.p.clone()
        totals.append(estimate_footprint(training.engine, training.batches(0, 4), 64).activations)
        if training.engine.augmentation is not None:
            assert before is not None
            assert torch.equal(training.engine.augmentation.p, before)
    images = 64 * 3 * 32 * 32 * 4
    assert totals[1] >= totals[0] + images


def test_a_recipe_whose_operations_depend_on_the_batch_size_is_measured_at_its_peaks() -> None:
    game = linear(Adam(0.1))

    def loss(r: Round) -> Tensor:
        return sum((r.fake_score.mean() for _ in range(len(r.fake))), torch.zeros(()))

    footprint = estimate(replace(game, turns=[replace(game.turns[0], losses=[Term("many", loss)]), game.turns[1]]))
    assert footprint.at(1000).activations > footprint.activations > 0


@every_case
def test_the_memory_of_every_recipe_grows_with_the_batch(name: str, spec: Any) -> None:
    training = start(name, spec, 10**6)
    footprint = estimate_footprint(training.engine, training.batches(0, 4), 6)
    parts = (footprint.weights, footprint.gradients, footprint.data, footprint.activations, footprint.fragmentation)
    assert min(*parts, footprint.base) > 0
    sizes = [footprint.at(batch).total for batch in (6, 64, 512)]
    assert sizes == sorted(set(sizes))


@every_case
def test_the_estimate_holds_at_another_batch_size(name: str, spec: Any) -> None:
    training = start(name, spec, 10**6)
    footprint = estimate_footprint(training.engine, training.batches(0, 4), 10)
    trace_live_bytes(training.engine, training.batches(0, 10))  # creates optimiser state and gradients
    kinds = {type(module) for player in training.game.players.values() for module in player.net.modules()}
    # Incomplete packs of samples are filled up, so small batches are not representative. Losses over pairs of samples grow with
    # the square of the batch.
    tolerance = {"rel": 0.2} if Packed in kinds else {"rel": 1e-3}
    assert live_bytes(footprint) == pytest.approx(
        max(trace_live_bytes(training.engine, training.batches(0, 10))), **tolerance
    )


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_the_estimate_holds_in_the_loop(name: str) -> None:
    training = start(name, PICTURES, 120)
    footprint = estimate_footprint(training.engine, training.batches(0, 4), training.batch)
    ticks = training.ticks(60)
    next(ticks)
    with LiveBytes(persistent_tensors(training.engine)) as live:
        next(ticks)
    assert live_bytes(footprint) == pytest.approx(max(live.history), rel=0.02)


# --- no side effects --------------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("started", [pytest.param(False, marks=pytest.mark.slow), True])
def test_estimating_does_not_change_the_training(name: str, spec: Any, started: bool) -> None:
    estimated, plain = start(name, spec, 36), start(name, spec, 36)
    for training in (estimated, plain):
        torch.manual_seed(5)
        if started:
            list(training.ticks(10**9, should_stop=lambda clock: clock.images >= 6))
        random, state = torch.get_rng_state(), copy.deepcopy(training.engine.state())
        gradients = {key: [p.grad for p in player.net.parameters()] for key, player in training.game.players.items()}
        if training is estimated:
            footprint = estimate_footprint(training.engine, training.batches(0, 4), 6)
            assert torch.equal(torch.get_rng_state(), random)
            assert str(training.engine.state()) == str(state)
            for key, player in training.game.players.items():
                assert all(p.grad is grad for p, grad in zip(player.net.parameters(), gradients[key], strict=True))
        list(training.ticks(10**9))
    assert same(tensors(estimated.game), tensors(plain.game))
    fresh = Engine(build(name, spec), CPU)
    expected = estimate_footprint(fresh, batches(spec, fresh.game)(0, 4), 6)
    assert live_bytes(footprint) == live_bytes(expected), "players that are frozen at present are included"

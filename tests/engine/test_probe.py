"""Looking at a game in training: nothing is changed by it, and what is seen is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.engine.capture import Rehearsal
from leafwing.engine.probe import Probe, above, between, coarse
from leafwing.game import SGD, Abilities, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term, Turn
from leafwing.loop import Training
from tiny import PICTURES, POINTS, batches, build, same, serves, start, tensors

CASES = [(name, spec) for name in recipes.names() for spec in (PICTURES, POINTS) if serves(name, spec)]
every_case = pytest.mark.parametrize(
    ("name", "spec"), CASES, ids=[f"{n}-{'points' if s.points else 'pictures'}" for n, s in CASES]
)
SCORED = {"variety", "distance", "separation", "margin", "real", "fake"}
SEEN = SCORED | {"G/weights", "D/weights", "G/gradient", "D/gradient"}


def looked_at(training: Training, n: int = 6) -> list[dict[str, float]]:
    """Trains to the end, with a look at every tick."""
    probe = Probe(training.engine, training.batches, n=n)
    return [probe.look(tick.clock) for tick in training.ticks(training.batch)]


@every_case
def test_looking_changes_nothing(name: str, spec: DataSpec) -> None:
    """Weights, buffers, averaged copies, optimisers and random state, bit for bit; and every recipe has all signals."""
    alone, watched = start(name, spec, 48), start(name, spec, 48)
    torch.manual_seed(5)
    list(alone.ticks(alone.batch))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    signals = looked_at(watched)
    assert torch.equal(torch.rand(3), drawn)
    assert same(tensors(alone.game), tensors(watched.game))
    assert str(alone.state()["optimisers"]) == str(watched.state()["optimisers"])
    assert len(signals) >= 2
    game = build(name, spec)
    asked = {"echo"} if game.abilities.conditions else set()
    asked |= {f"{name}/weights" for name in game.players}
    asked |= {f"{name}/rate" for name, player in game.players.items() if player.optimiser and callable(player.optimiser.lr)}
    first = {f"{name}/gradient" for turn in game.turns if turn.times(Clock(0, 48, 0)) for name in turn.movers}
    assert signals[0].keys() == SCORED | asked | first, "who moved has a gradient"
    assert signals[-1].keys() == SCORED | asked | {f"{name}/gradient" for name in game.players} | {"moved"}


def test_a_look_keeps_gradients_and_modes() -> None:
    training = start("dcgan", PICTURES, 60)
    probe = Probe(training.engine, training.batches, n=6)
    list(training.ticks(10**9))
    weights = [weight for player in training.game.players.values() for weight in player.net.parameters()]
    gradients = [(weight.grad, weight.grad.clone()) for weight in weights if weight.grad is not None]
    assert gradients
    training.game.players["D"].net.eval()
    probe.look(training.clock)
    assert all(weight.grad is kept for weight, (kept, _) in zip(weights, gradients, strict=True))
    assert all(torch.equal(kept, copied) for kept, copied in gradients)
    assert training.game.players["G"].net.training
    assert not training.game.players["D"].net.training


def test_recorded_turns_keep_their_own_batch() -> None:
    """They read it where the first one lay, and the look's batch has the same shape."""

    def trained(look: bool) -> Training:
        game = build("dcgan", PICTURES)
        engine = Engine(game, choose("cpu", "fp32", 1), recorder=Rehearsal())
        training = Training(game, batches(PICTURES), engine, images=60, batch=game.batch)
        looked_at(training, n=game.batch) if look else list(training.ticks(training.batch))
        return training

    assert same(tensors(trained(look=True).game), tensors(trained(look=False).game))


def test_the_same_is_seen_after_going_on_from_a_checkpoint() -> None:
    whole = looked_at(start("cgan", PICTURES, 36))
    first = start("cgan", PICTURES, 18)
    probe = Probe(first.engine, first.batches, n=6)
    seen, state = [probe.look(tick.clock) for tick in first.ticks(6)], first.state()
    second = start("cgan", PICTURES, 36)
    for name, module in second.game.modules().items():
        module.load_state_dict(first.game.modules()[name].state_dict())
    second.restore(state)
    going_on = Probe(second.engine, second.batches, n=6)
    going_on.restore(probe.state())
    seen += [going_on.look(tick.clock) for tick in second.ticks(6)]
    assert seen == whole


def test_bf16_is_looked_at_too() -> None:
    assert looked_at(start("r3gan", PICTURES, 12, precision="bf16"))[-1].keys() == SEEN | {"moved", "G/rate", "D/rate"}


def simple(
    fake: Callable[[Nets, Batch], torch.Tensor], judge: Any = lambda nets: lambda x: nets.D(x).squeeze(1)
) -> Training:
    """A game of points whose fakes are made by a function."""

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=fake(nets, batch), judge=judge(nets))

    players = {"G": Player(nn.Linear(2, 2), SGD(0.1)), "D": Player(nn.Linear(2, 1), SGD(0.1))}
    turn = Turn("D", play, [Term("gap", lambda r: r.fake_score.mean() - r.real_score.mean())])
    game = Game(players, [turn], Abilities(), batch=4)
    return Training(game, batches(POINTS), Engine(game, choose("cpu", "fp32", 1)), images=8, batch=4)


def look_once(training: Training, **more: Any) -> dict[str, float]:
    return Probe(training.engine, training.batches, n=8, **more).look(Clock(0, 8, 0))


def test_what_is_seen_of_perfect_and_of_collapsed_fakes() -> None:
    perfect = look_once(simple(lambda nets, batch: batch.image.clone()))
    assert perfect["variety"] == pytest.approx(1)
    assert perfect["distance"] == pytest.approx(0, abs=1e-6)
    assert perfect["separation"] == pytest.approx(0.5)
    assert perfect["margin"] == pytest.approx(0, abs=1e-6)
    alike = look_once(simple(lambda nets, batch: torch.full_like(batch.image, 9.0)))
    assert alike["variety"] == 0
    assert alike["distance"] > 0.8
    assert alike["separation"] in (0, 1)


def test_a_game_without_scores_lacks_those_signals() -> None:
    seen = look_once(simple(lambda nets, batch: nets.G(batch.image), judge=lambda nets: None))
    assert seen.keys() == {"variety", "distance", "G/weights", "D/weights"}
    several = look_once(simple(lambda nets, batch: nets.G(batch.image), judge=lambda nets: lambda x: x[:, :, None]))
    assert {"separation", "margin"} <= several.keys()


def test_what_is_no_number_is_left_out_and_what_is_too_large_is_cut() -> None:
    seen = look_once(simple(lambda nets, batch: batch.image * float("inf")))
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen
    assert "variety" not in seen
    with torch.no_grad():
        huge = simple(lambda nets, batch: nets.G(batch.image))
        huge.game.players["D"].net.weight.fill_(3e38)
    assert look_once(huge)["D/weights"] == pytest.approx(1e30)


def test_held_out_samples_are_judged_as_well() -> None:
    """By a critic that likes samples far to the right: 100 to the left are all below."""

    def far(images: int, n: int) -> Batch:
        return Batch(image=batches(POINTS)(images, n).image - 100)

    def judge(nets: Nets) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: x.sum(1)

    assert look_once(simple(lambda nets, batch: nets.G(batch.image), judge), held=far)["held"] == 1
    assert look_once(simple(lambda nets, batch: nets.G(batch.image), judge), held=batches(POINTS))["held"] == 0.5


def test_tools_of_looking() -> None:
    assert above(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0])).item() == (1 + 0 + 1 + 0.5) / 4
    assert between(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).item() == 5
    assert coarse(torch.ones(2, 3, 32, 16, dtype=torch.bfloat16)).shape == (2, 3 * 8 * 8)
    assert coarse(torch.ones(2, 2)).shape == (2, 2)

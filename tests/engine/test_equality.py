"""Whatever the engine does to be fast, the numbers are those of plain training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import plain
import pytest
import torch
from lockstep import EPS, lockstep, within
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.engine.capture import Rehearsal
from leafwing.engine.turns import Unit
from leafwing.game import Batch, Clock, DataSpec, Game, Turn
from leafwing.loop import Training
from leafwing.networks.layers import MinibatchDiscrimination
from leafwing.parts.plays import Packed
from tiny import PICTURES, POINTS, THREADS, batches, build, serves, tensors

CASES = [(name, spec) for name in recipes.names() for spec in (PICTURES, POINTS) if serves(name, spec)]
every_case = pytest.mark.parametrize(
    ("name", "spec"), CASES, ids=[f"{name}-{'points' if spec.points else 'pictures'}" for name, spec in CASES]
)
ROUNDS = 50
pytestmark = pytest.mark.machine
TURNS = {"fp32": 5, "bf16": 4}
"""So many rounds are taken in lockstep with plain training, by precision."""


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def by_the_engine(
    game: Game, spec: DataSpec, images: int, *, rehearse: bool = False, say: Callable[[str], None] = print, **how: object
) -> list[float]:
    """Trains a game with the engine; the costs of all turns in order."""
    setup = replace(choose("cpu", "fp32", THREADS), **how)
    engine = Engine(game, setup, say=say, recorder=Rehearsal() if rehearse else None)
    costs: list[float] = []
    take = engine.take

    def taken(turns: object, batch: Batch, clock: object) -> Tensor:
        found = take(turns, batch, clock)  # type: ignore[arg-type]
        costs.extend(found.tolist())
        return found

    engine.take = taken  # type: ignore[method-assign, assignment]
    torch.manual_seed(5)
    list(Training(game, batches(spec), engine, images=images, batch=game.batch).ticks(10**9))
    return costs


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference of any tensor, relative to its size."""
    assert a.keys() == b.keys()
    return max(((a[k].double() - b[k].double()).norm() / (b[k].double().norm() + 1e-9)).item() for k in a)


@every_case
def test_fifty_rounds_are_those_of_plain_training(name: str, spec: DataSpec, double: None) -> None:
    slow, fast = build(name, spec), build(name, spec)
    images = ROUNDS * slow.batch * 2
    torch.manual_seed(5)
    expected = plain.train(slow, batches(spec), images)
    found = by_the_engine(fast, spec, images)
    assert len(found) >= ROUNDS * 2
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert distance(tensors(fast), tensors(slow)) < 1e-9


@every_case
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_turn_is_that_of_plain_training_but_for_rounding(name: str, spec: DataSpec, precision: str) -> None:
    """From the same state every time: costs, gradients, buffers and steps. Bounds are measured, see `lockstep`.

    Whole trainings in fp32 cannot be compared: a game makes much of a last bit within thirty rounds, on every machine otherwise.
    """
    assert within(lockstep(name, spec, TURNS[precision], precision)) == []


def test_lockstep_sees_what_is_no_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn whose gradients are wrong by one in ten thousand, a step that is, and bf16 that passes for fp32."""
    pay, step = Unit.pay, Engine._step

    def biased(unit: Unit, number: int) -> Tensor:
        costs = pay(unit, number)
        for moved in unit.turns[number].movers:
            for weight in unit.engine.weights[moved]:
                weight.grad.mul_(1.0001)
        return costs

    def hasty(engine: Engine, turn: Turn, clock: Clock) -> None:
        for moved in turn.movers:
            for group in engine.optimisers[moved].param_groups:
                group["lr"] *= 1.0001
        step(engine, turn, clock)

    for of, method, wrong in ((Unit, "pay", biased), (Engine, "_step", hasty)):
        with monkeypatch.context() as patched:
            patched.setattr(of, method, wrong)
            assert within(lockstep("dcgan", PICTURES, 3)) != [], method
    assert within(lockstep("dcgan", PICTURES, 3, "bf16", unit=EPS)) != []
    assert within(lockstep("dcgan", PICTURES, 3)) == []


@every_case
def test_a_rehearsed_recording_changes_nothing(name: str, spec: DataSpec) -> None:
    """Static batches, held clocks and replays, all but the device's own recording."""
    slow, fast = build(name, spec), build(name, spec)
    images = 12 * slow.batch
    said: list[str] = []
    expected = by_the_engine(slow, spec, images)
    found = by_the_engine(fast, spec, images, rehearse=True, say=said.append)
    assert said == []
    assert found == expected
    assert distance(tensors(fast), tensors(slow)) == 0


def batch_wide(game: Game) -> bool:
    """Whether a sample's verdict depends on the others in its batch, or a network draws random numbers or changes at each pass."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.Dropout, _SpectralNorm, Packed, MinibatchDiscrimination)
    return any(isinstance(module, kinds) for net in vars(game.nets).values() for module in net.modules())


@every_case
@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_give_the_step_of_the_whole_batch(name: str, spec: DataSpec, size: int, double: None) -> None:
    """A batch of 6 in parts of 1, and of 4 and 2: the same random numbers, the same costs, the same weights."""
    whole, parts = build(name, spec), build(name, spec)
    if batch_wide(whole):
        pytest.skip("a network of this recipe looks at the whole batch, draws numbers of its own, or changes at each pass")
    images = 8 * whole.batch
    expected = by_the_engine(whole, spec, images)
    assert by_the_engine(parts, spec, images, micro_batch=size) == pytest.approx(expected, rel=1e-9)
    assert distance(tensors(parts), tensors(whole)) < 1e-9


def test_micro_batches_also_serve_networks_that_look_at_the_batch() -> None:
    """Their statistics are those of the parts, so the numbers differ; the random numbers are the same."""
    whole, parts = build("dcgan", PICTURES), build("dcgan", PICTURES)
    expected = by_the_engine(whole, PICTURES, 6)
    found = by_the_engine(parts, PICTURES, 6, micro_batch=3)
    assert found != pytest.approx(expected, rel=1e-6)
    assert found == pytest.approx(expected, rel=0.5)


def test_some_recipe_was_cut_into_micro_batches() -> None:
    assert sum(not batch_wide(build(name, spec)) for name, spec in CASES) >= 5

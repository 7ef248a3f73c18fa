"""The engine's optimisations do not change the numbers of plain training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import plain
import pytest
import torch
from lockstep import EPS, lockstep, violations
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from leafwing.engine import Engine, choose
from leafwing.engine.capture import Rehearsal
from leafwing.engine.turns import Unit
from leafwing.game import Batch, Clock, DataSpec, Game, Turn
from leafwing.loop import Training
from leafwing.networks.layers import MinibatchDiscrimination
from leafwing.parts.history import History
from leafwing.parts.plays import Packed
from tiny import PICTURES, THREADS, batches, build, cases, tensors

every_case = cases()
ROUNDS = 24
pytestmark = pytest.mark.machine
TURNS = {"fp32": 5, "bf16": 4}
"""Rounds in lockstep with plain training, by precision."""


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def train_with_engine(
    game: Game,
    spec: DataSpec,
    images: int,
    *,
    rehearse: bool = False,
    notify: Callable[[str], None] = print,
    **changes: object,
) -> list[float]:
    """Trains a game with the engine; the losses of all turns in order."""
    setup = replace(choose("cpu", "fp32", THREADS), **changes)
    engine = Engine(game, setup, notify=notify, capture_backend=Rehearsal() if rehearse else None)
    losses: list[float] = []
    take = engine.take

    def take_and_log(turns: object, batch: Batch, clock: object) -> Tensor:
        values = take(turns, batch, clock)  # type: ignore[arg-type]
        losses.extend(values.tolist())
        return values

    engine.take = take_and_log  # type: ignore[method-assign, assignment]
    torch.manual_seed(5)
    list(Training(game, batches(spec, game), engine, images=images, batch=game.batch).ticks(10**9))
    return losses


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The maximum over tensors of the norm of their difference, relative to their norm."""
    assert a.keys() == b.keys()
    return max(((a[k].double() - b[k].double()).norm() / (b[k].double().norm() + 1e-9)).item() for k in a)


@cases(only_first=True)
def test_many_rounds_equal_plain_training(name: str, spec: DataSpec, double: None) -> None:
    slow, fast = build(name, spec), build(name, spec)
    images = ROUNDS * slow.batch
    torch.manual_seed(5)
    expected = plain.train(slow, batches(spec, slow), images)
    losses = train_with_engine(fast, spec, images)
    assert len(losses) >= ROUNDS
    assert losses == pytest.approx(expected, rel=1e-9, abs=1e-12)
    # The gradient of a weight without influence, such as a bias before batch normalisation, is rounding, which Adam divides by 1e-8.
    assert distance(tensors(fast), tensors(slow)) < 1e-7


@every_case
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_turn_equals_plain_training_up_to_rounding(name: str, spec: DataSpec, precision: str) -> None:
    """From the same state each time: losses, gradients, buffers and steps. Bounds are measured, see `lockstep`.

    Whole training runs in fp32 cannot be compared: within thirty rounds a game amplifies the last bit, which depends on the machine.
    """
    assert violations(lockstep(name, spec, TURNS[precision], precision)) == []


def test_lockstep_detects_more_than_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients that are wrong by one in ten thousand, such a step, and bf16 with the bounds of fp32."""
    backward, step = Unit.backward, Engine._step

    def biased(unit: Unit, number: int) -> Tensor:
        losses = backward(unit, number)
        for mover in unit.turns[number].movers:
            for weight in unit.engine.weights[mover]:
                weight.grad.mul_(1.0001)
        return losses

    def oversized(engine: Engine, turn: Turn, clock: Clock) -> None:
        for mover in turn.movers:
            for group in engine.optimisers[mover].param_groups:
                group["lr"] *= 1.0001
        step(engine, turn, clock)

    for owner, method, wrong in ((Unit, "backward", biased), (Engine, "_step", oversized)):
        with monkeypatch.context() as patched:
            patched.setattr(owner, method, wrong)
            assert violations(lockstep("dcgan", PICTURES, 3)) != [], method
    assert violations(lockstep("dcgan", PICTURES, 3, "bf16", unit=EPS)) != []
    assert violations(lockstep("dcgan", PICTURES, 3)) == []


@every_case
def test_a_rehearsed_capture_changes_nothing(name: str, spec: DataSpec) -> None:
    """Static batches, captured clocks and replays: everything but the device's capture."""
    slow, fast = build(name, spec), build(name, spec)
    images = 12 * slow.batch
    notices: list[str] = []
    expected = train_with_engine(slow, spec, images)
    losses = train_with_engine(fast, spec, images, rehearse=True, notify=notices.append)
    assert notices == []
    assert losses == expected
    assert distance(tensors(fast), tensors(slow)) == 0


def depends_on_batch(game: Game) -> bool:
    """Whether a sample's score depends on the others of its batch, or a network draws random numbers or changes at each pass."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.Dropout, _SpectralNorm, Packed, MinibatchDiscrimination, History)
    return any(isinstance(module, kinds) for net in vars(game.nets).values() for module in net.modules())


@every_case
@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_give_the_step_of_the_whole_batch(name: str, spec: DataSpec, size: int, double: None) -> None:
    """A batch of 6 in parts of 1, or of 4 and 2: the same random numbers, losses and weights."""
    whole, parts = build(name, spec), build(name, spec)
    if depends_on_batch(whole):
        pytest.skip("a network of this recipe depends on the whole batch, draws random numbers, or changes at each pass")
    images = 8 * whole.batch
    expected = train_with_engine(whole, spec, images)
    assert train_with_engine(parts, spec, images, micro_batch=size) == pytest.approx(expected, rel=1e-9)
    assert distance(tensors(parts), tensors(whole)) < 1e-9


def test_micro_batches_work_with_batch_normalisation() -> None:
    """The statistics are those of the parts, so the numbers differ; the random numbers are the same."""
    whole, parts = build("dcgan", PICTURES), build("dcgan", PICTURES)
    expected = train_with_engine(whole, PICTURES, 6)
    losses = train_with_engine(parts, PICTURES, 6, micro_batch=3)
    assert losses != pytest.approx(expected, rel=1e-6)
    assert losses == pytest.approx(expected, rel=0.5)


def test_several_recipes_support_exact_micro_batches() -> None:
    assert len(cases(lambda game: not depends_on_batch(game)).args[1]) >= 5

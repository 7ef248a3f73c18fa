"""The engine under special conditions: capture, compilation, out of memory, synchronisation, schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from leafwing.engine import Engine, choose
from leafwing.engine.batch_norm import SharedBatchNorm
from leafwing.engine.capture import CapturedClock, Rehearsal
from leafwing.engine.processes import Processes
from leafwing.engine.share import RepeatedDraws, SharedDraws
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Player, Round, Term, Turn, at
from leafwing.loop import Training
from leafwing.networks.layers import spectral
from leafwing.parts.history import ForAll
from tiny import PICTURES, POINTS, batches, build, cases, same, start, tensors

pytestmark = pytest.mark.machine

every_case = cases()
CPU = choose("cpu", "fp32", 1)


def make_game(loss: Callable[[Round], Tensor] = lambda r: r.fake_score.mean(), **options: Any) -> Game:
    """Two linear players; D minimises a loss, G its negative."""
    torch.manual_seed(0)

    def play(nets: Any, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.G(torch.randn(batch.n, 2)), lambda x: nets.D(x)[:, 0], clock=clock)

    players = {"G": Player(nn.Linear(2, 2), Adam(1e-2)), "D": Player(nn.Linear(2, 1), Adam(1e-2))}
    turns = [Turn("D", play, [Term("up", loss)]), Turn("G", play, [Term("down", lambda r: -r.fake_score.mean())])]
    return Game(players, turns, Abilities(), batch=4, **options)


def points(images: int, n: int) -> Batch:
    return Batch(image=torch.randn(n, 2, generator=torch.Generator().manual_seed(images)))


def train(game: Game, images: int = 40, capture_backend: Any = None, **changes: Any) -> tuple[list[str], Engine]:
    """Trains for some rounds; the engine's notices, and the engine."""
    notices: list[str] = []
    engine = Engine(game, replace(CPU, **changes), notify=notices.append, capture_backend=capture_backend)
    torch.manual_seed(1)
    list(Training(game, points, engine, images=images, batch=4).ticks(10**9))
    return notices, engine


def weights(game: Game) -> Tensor:
    return torch.cat([p.detach().flatten() for player in game.players.values() for p in player.net.parameters()])


# --- capture -----------------------------------------------------------------------------------------------------------------


class CountingBackend(Rehearsal):
    def __init__(self) -> None:
        self.warmed_up, self.captured = 0, 0

    def warm_up(self, work: Callable[[], None]) -> None:
        self.warmed_up += 1
        work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        return work


def test_a_unit_is_executed_three_times_and_then_captured() -> None:
    backend = CountingBackend()
    train(make_game(), capture_backend=backend)
    assert backend.warmed_up == 2 * 2 * 3  # two units of a backward pass and a step, three times
    assert backend.captured == 2 * 2


def test_a_unit_is_captured_again_when_the_shapes_of_the_game_change() -> None:
    backend = CountingBackend()
    train(make_game(stage=lambda clock: clock.images >= 20), capture_backend=backend)
    assert backend.captured == 2 * 2 * 2


def test_captured_turns_follow_schedules() -> None:
    scheduled = make_game(lambda r: at(lambda_, r.clock) * r.fake_score.mean())
    plain = make_game(lambda r: at(lambda_, r.clock) * r.fake_score.mean())
    train(scheduled, capture_backend=Rehearsal())
    train(plain)
    assert torch.equal(weights(scheduled), weights(plain))
    constant = make_game(lambda r: 1.0 * r.fake_score.mean())
    train(constant)
    assert not torch.equal(weights(constant), weights(plain))


def lambda_(clock: Clock) -> float:
    return 1.0 + clock.images / 10


class ExecutingBackend(Rehearsal):
    """Executes the work while it captures, as a device does with its Python code."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        return work


def test_a_term_that_reads_the_clock_directly_is_not_captured() -> None:
    """Otherwise the value at the time of capture would be used ever after."""
    direct = make_game(lambda r: (1.0 + r.clock.images / 10) * r.fake_score.mean())  # type: ignore[attr-defined]
    plain = make_game(lambda r: at(lambda_, r.clock) * r.fake_score.mean())  # type: ignore[attr-defined]
    notices, engine = train(direct, capture_backend=ExecutingBackend())
    train(plain)
    assert len(notices) == 1
    assert "clock.images" in notices[0]
    assert engine.capture_backend is None
    assert torch.equal(weights(direct), weights(plain))


class FailingBackend(Rehearsal):
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        torch.rand(3)  # changes the random state, which must be restored
        raise RuntimeError("operation not permitted when stream is capturing\nand a long explanation")


def test_training_continues_with_the_same_numbers_if_capture_fails() -> None:
    failing, plain = make_game(), make_game()
    notices, _ = train(failing, capture_backend=FailingBackend())
    train(plain)
    (notice,) = notices
    assert notice.startswith("turns cannot be captured")
    assert notice.endswith(": operation not permitted when stream is capturing")
    assert torch.equal(weights(failing), weights(plain))


def test_a_schedule_that_is_first_read_while_recording_is_an_error() -> None:
    clock = CapturedClock(torch.device("cpu"))
    clock.set(Clock(10, 100, 1), capturing=True)
    with pytest.raises(RuntimeError, match="a schedule is read for the first time"):
        at(lambda_, clock)
    clock.set(Clock(10, 100, 1))
    value = at(lambda_, clock)
    assert float(value) == 2.0
    clock.set(Clock(20, 100, 2), capturing=True)
    assert float(value) == 3.0


# --- compilation -------------------------------------------------------------------------------------------------------------


def test_training_continues_with_the_same_numbers_if_compilation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            torch.rand(5)
            raise RuntimeError("InvalidCxxCompiler: no C++ compiler found")

    monkeypatch.setattr(torch, "compile", Broken)
    failing, plain = make_game(), make_game()
    notices, engine = train(failing, compile=True)
    train(plain)
    (notice,) = notices
    assert notice.startswith("the networks cannot be compiled")
    assert notice.endswith(": InvalidCxxCompiler: no C++ compiler found")
    assert engine.compiled is None
    assert torch.equal(weights(failing), weights(plain))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # read by the compiler while tracing
@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_compiled_networks_give_the_same_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated by the compiler without code generation, so that no C++ compiler is needed."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, traced = start(name, PICTURES, 36), start(name, PICTURES, 36)
    notices: list[str] = []
    traced.engine = Engine(traced.game, replace(CPU, compile=True), notify=notices.append)
    for training in (plain, traced):
        torch.manual_seed(3)
        list(training.ticks(10**9))
    assert notices == []
    assert traced.engine.compiled is not None
    left, right = tensors(plain.game), tensors(traced.game)
    assert all(torch.allclose(left[key], right[key], rtol=1e-4, atol=1e-5) for key in left)


def test_turns_that_differentiate_twice_use_uncompiled_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Marked(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, *args: Tensor) -> Tensor:
            calls.append("compiled")
            return self.net(*args)

    monkeypatch.setattr(torch, "compile", Marked)
    training = start("wgan_gp", POINTS, 10**6)
    engine = Engine(training.game, replace(CPU, compile=True))
    batch = engine.prepare(training.batches(0, 6))
    d_turn, g_turn = training.game.turns
    engine.take([d_turn], batch, Clock(0, 100, 0))
    assert calls == []
    engine.take([g_turn], batch, Clock(0, 100, 0))
    assert calls == ["compiled", "compiled"]


def test_errors_of_the_game_are_raised() -> None:
    def wrong(r: Round) -> Tensor:
        raise ValueError("shapes do not match")

    with pytest.raises(ValueError, match="shapes do not match"):
        train(make_game(wrong))


# --- memory ------------------------------------------------------------------------------------------------------------------


class Limited(nn.Module):
    """A network that raises an error for more than `limit` samples."""

    def __init__(self, net: nn.Module, limit: int, error: Exception) -> None:
        super().__init__()
        self.net, self.limit, self.error = net, limit, error

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3)
        if len(x) > self.limit:
            raise self.error
        return self.net(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB, other allocations: 1 GB, max allowed: 9.07 GB)."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other call"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("player", ["G", "D"])
def test_out_of_memory_leads_to_smaller_micro_batches(player: str, error: Exception) -> None:
    limited, plain = make_game(), make_game()
    train(plain)
    limited.players[player].net = Limited(limited.players[player].net, 1, error)
    notices, engine = train(limited)
    assert [line.split(":")[0] for line in notices] == ["out of memory", "out of memory"]  # 4 to 2, 2 to 1
    assert "micro-batches of 1 images" in notices[-1]
    assert "batch size is still 4" in notices[-1]
    assert engine.micro_batch == 1
    assert weights(limited).shape == weights(plain).shape


def test_a_unit_has_the_turns_of_its_round_that_are_taken_then() -> None:
    game = make_game()
    first, second = game.turns
    game.turns = [first, replace(second, same_round=True, every=2), replace(second, same_round=True), first]
    assert game.unit(0) == game.turns[:3]
    assert game.unit(0, Clock(0, 100, 4)) == game.turns[:3]
    assert game.unit(0, Clock(0, 100, 3)) == game.turns[:1], "after one that is not taken, the round is not there any more"
    assert game.unit(3) == game.unit(3, Clock(0, 100, 3)) == [first]


def test_out_of_memory_in_the_second_turn_of_a_unit_does_not_repeat_the_first() -> None:
    def make_shared() -> Game:
        game = make_game()
        game.turns = [game.turns[0], replace(game.turns[1], same_round=True)]
        return game

    limited, plain = make_shared(), make_shared()
    train(plain, images=20)
    calls = 0
    critic = limited.players["D"].net

    def forward(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first call is D's turn, the second G's
            raise torch.OutOfMemoryError("CUDA out of memory")

    critic.register_forward_pre_hook(forward)
    notices, _ = train(limited, images=20)
    assert len(notices) == 1
    assert torch.allclose(weights(limited), weights(plain), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("batch", "micro", "parts"),
    [
        (5, 0, [5]), (5, 4, [3, 2]), (9, 4, [4, 3, 2]), (8, 4, [4, 4]), (6, 4, [4, 2]), (4, 3, [2, 2]), (3, 2, [2, 1]), (2, 1, [1, 1]),
        (1, 0, [1]), (1, 4, [1]),
    ],
)  # fmt: skip
def test_no_part_is_a_single_image_if_it_can_be_avoided(batch: int, micro: int, parts: list[int]) -> None:
    slices = Engine(make_game(), replace(CPU, micro_batch=micro)).parts(batch)
    assert [part.stop - part.start for part in slices] == parts
    assert [part.start for part in slices] == [sum(parts[:number]) for number in range(len(parts))]


def test_out_of_memory_with_a_single_sample_is_an_error() -> None:
    limited = make_game()
    limited.players["D"].net = Limited(limited.players["D"].net, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        train(limited)


# --- synchronisation ---------------------------------------------------------------------------------------------------------


class Synchronisations(TorchDispatchMode):
    """Records operations that would synchronise with a device: reading a value, shapes that depend on values, copies to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "bincount"):
            self.operations.append(name)
        if name == "index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            self.operations.append("index by a mask")
        return function(*args, **(kwargs or {}))


@every_case
def test_no_turn_synchronises_with_the_device(name: str, spec: Any) -> None:
    training = start(name, spec, 10**6)
    batch = training.engine.prepare(training.batches(0, training.batch))
    clock = Clock(0, 10**6, 0)
    for turn in training.game.turns:
        training.engine.take([turn], batch, clock)
    with Synchronisations() as detected:
        for turn in training.game.turns:
            training.engine.take([turn], training.engine.prepare(training.batches(6, training.batch)), clock)
        training.engine.update_ema(6, 6)
    assert detected.operations == []


def test_an_average_has_the_singular_vectors_of_its_own_weights_and_averages_only_statistics() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    spectral(net[0])
    net.register_buffer("angle", torch.zeros(1))
    game = make_game()
    game.players["G"] = player = Player(net, Adam(1e-2), ema=40)
    engine = Engine(game, CPU)
    net.angle.fill_(2.0)
    net[1].running_mean.fill_(2.0)
    rotated = torch.linalg.qr(torch.randn(8, 8))[0]
    with torch.no_grad():
        net[0].parametrizations.weight.original.copy_(rotated * torch.tensor([4.0, *[1.0] * 7]))
        for _ in range(20):
            net.train()[0](torch.zeros(1, 8))  # the network finds its singular vectors
    average, engine.first_moves = player.ema_net, {"G": 0}
    assert average is not None
    for shown in range(40, 400, 4):
        engine.update_ema(4, shown)
    vectors = []
    for _ in range(2):
        engine.complete_averages()
        vectors.append(average[0].parametrizations.weight[0]._u.clone())
    assert torch.linalg.matrix_norm(average[0].weight, 2).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(*vectors), "they do not depend on how often the averages are completed"
    assert average.angle.item() == 2
    assert 1 < average[1].running_mean.mean().item() < 2
    assert not any(module.training for module in average.modules())


def test_synchronisations_are_detected() -> None:
    with Synchronisations() as detected:
        float(torch.ones(()))
        torch.arange(4)[torch.tensor([True, False, True, False])]
    assert detected.operations == ["_local_scalar_dense", "index by a mask"]


# --- random numbers of micro-batches -----------------------------------------------------------------------------------------


DRAWS: dict[str, Callable[[int], Tensor]] = {
    "randn": lambda n: torch.randn(n, 3),
    "randn of a size": lambda n: torch.randn((n, 3)),
    "size by name": lambda n: torch.rand(size=(n, 3)),
    "rand": lambda n: torch.rand(n, 1, 1, dtype=torch.float64),
    "randint": lambda n: torch.randint(0, 10, (n,)),
    "randint below": lambda n: torch.randint(10, (n, 2)),
    "rand_like": lambda n: torch.rand_like(torch.ones(n, 2)),
    "randn_like": lambda n: torch.randn_like(torch.ones(n, 2, 3, 3)),
    "uniform_": lambda n: torch.empty(n, 2).uniform_(-1, 1),
    "normal_": lambda n: torch.ones(n, 2).normal_(std=3),
    "two draws": lambda n: torch.randn(n, 3) + torch.rand(n, 3),
    "several rows a sample": lambda n: (
        torch.rand(3 * n, 2).view(n, 6) + torch.randint(9, (2 * n,)).view(n, 2).sum(1, keepdim=True)
    ),
    "one tensor for all": lambda n: torch.rand(ForAll(4)).sum() * torch.randn(n, 2),
    "one number for all": lambda n: torch.rand(1) * torch.randn(n, 2),
}


@pytest.mark.parametrize("name", DRAWS)
def test_parts_draw_the_numbers_of_the_whole_batch(name: str) -> None:
    draw = DRAWS[name]
    torch.manual_seed(3)
    whole, after = draw(6), torch.rand(1)
    torch.manual_seed(3)
    draws = SharedDraws(6, slice(0, 2))
    parts = []
    for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):
        draws.rewind(rows)
        with draws:
            parts.append(draw(2))
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(torch.rand(1), after), "the generator is in the state after the whole draw"


def test_a_tensor_that_belongs_to_no_sample_must_say_so() -> None:
    draws = SharedDraws(6, slice(0, 4))
    with draws:
        assert len(torch.rand(8)) == 8
    draws.rewind(slice(4, 6))
    with draws, pytest.raises(ValueError, match=r"ForAll\(8\)"):
        torch.rand(8)


def test_draws_with_a_generator_of_their_own_belong_to_no_sample() -> None:
    def weights() -> Tensor:
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    draws = SharedDraws(6, slice(0, 2))
    with draws:
        inside, first = weights(), torch.rand(2)
    draws.rewind(slice(0, 2))
    with draws:
        assert torch.equal(torch.rand(2), first), "also if only the first part draws them"
    assert torch.equal(inside, weights())


def test_several_samples_in_a_row_may_share_their_numbers() -> None:
    """Also in parts of a batch, each of which has the rows of its samples."""
    torch.manual_seed(3)
    whole = torch.rand(6, 2)
    torch.manual_seed(3)
    draws, parts = SharedDraws(6, slice(0, 4)), []
    for rows in (slice(0, 4), slice(4, 6)):
        draws.rewind(rows)
        n = 3 * (rows.stop - rows.start)
        with draws, RepeatedDraws(n, 3):
            parts.append(torch.rand(n, 2))
    assert torch.equal(torch.cat(parts), whole.repeat_interleave(3, 0))


def test_other_functions_are_not_changed() -> None:
    with SharedDraws(6, slice(2, 4)):
        assert torch.equal(torch.arange(3) + torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))


# --- the setup ---------------------------------------------------------------------------------------------------------------


def test_every_choice_has_a_reason() -> None:
    setup = choose("cpu", "fp32")
    assert setup.why.keys() >= {
        "device",
        "precision",
        "threads",
        "layout",
        "fused",
        "keep_freed",
        "products",
        "capture",
        "compile",
        "micro_batch",
        "resident",
    }
    setup = choose(
        "cpu",
        "fp32",
        1,
        layout="contiguous",
        fused=False,
        keep_freed=True,
        products=False,
        compile=True,
        micro_batch=8,
        resident=True,
    )
    assert set(setup.why.values()) - {"cpu has no graphs"} == {"as requested"}
    assert (setup.layout, setup.fused, setup.compile, setup.micro_batch) == ("contiguous", False, True, 8)


@pytest.mark.parametrize(
    ("precision", "compiled", "why"),
    [("fp32", False, "only in bf16"), ("bf16", True, "not with --compile"), ("bf16", False, "")],
)
def test_requested_products_are_in_the_plan_only_if_they_are_computed(precision: str, compiled: bool, why: str) -> None:
    setup = choose("cpu", precision, 1, products=True, compile=compiled)
    assert setup.products == (not why)
    assert setup.why["products"] == (why or "as requested")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "sideways"}, "no layout 'sideways'"),
        ({"micro_batch": -1}, "micro-batch -1"),
        ({"capture": True}, "only CUDA captures"),
    ],
)
def test_invalid_choices_are_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        choose("cpu", "fp32", 1, **changes)


def test_the_state_can_be_restored_with_another_setup() -> None:
    """For example without fused optimisers, or on another device."""
    fused = start("dcgan", PICTURES, 24)
    list(fused.ticks(10**9))
    plain = Engine(build("dcgan", PICTURES), replace(CPU, fused=False, layout="contiguous"))
    plain.restore(fused.engine.state())
    assert plain.optimisers["G"].param_groups[0]["fused"] is not True
    training = Training(plain.game, batches(PICTURES), plain, images=12, batch=6)
    list(training.ticks(10**9))
    assert all(tensor.isfinite().all() for tensor in tensors(plain.game).values())


@every_case
def test_learning_rates_are_scaled_and_the_factor_is_restored(name: str, spec: DataSpec) -> None:
    """Constant and scheduled rates."""
    training, plain = start(name, spec, 240), start(name, spec, 240)
    training.engine.scale_learning_rates(0.25)
    rates: dict[str, list[float]] = {}
    for label, run in (("scaled", training), ("plain", plain)):
        for tick in run.ticks(6):
            if tick.clock.images >= 24:
                break
        optimisers = run.engine.optimisers.values()
        rates[label] = [group["lr"] for optimiser in optimisers if optimiser.state for group in optimiser.param_groups]
    assert rates["scaled"] == pytest.approx([0.25 * rate for rate in rates["plain"]], rel=1e-12)
    plain.engine.restore(training.engine.state())
    assert plain.engine.lr_scale == 0.25
    optimisers = plain.engine.optimisers.values()
    restored = [group["lr"] for optimiser in optimisers if optimiser.state for group in optimiser.param_groups]
    assert restored == rates["scaled"]


def test_turns_are_captured_again_when_learning_rates_are_scaled() -> None:
    """Captured turns contain the rates."""

    def train(backend: Rehearsal | None) -> dict[str, Tensor]:
        game = build("dcgan", PICTURES)
        training = Training(
            game, batches(PICTURES), Engine(game, CPU, capture_backend=backend), images=120, batch=game.batch
        )
        for tick in training.ticks(6):
            if tick.clock.images == 60:
                training.engine.scale_learning_rates(0.1)
                assert not training.engine._captured
        return tensors(game)

    assert same(train(Rehearsal()), train(None))


def test_batch_normalisation_of_frozen_copies_is_synchronised_too() -> None:
    """The previous stage's networks of gogan are modules of a term, not players."""
    game = build("gogan", PICTURES)
    Engine(game, CPU, processes=Processes(0, 2))
    norms = [m for net in game.modules().values() for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    copies = [m for name, net in game.modules().items() if name not in game.players for m in net.modules() if m in norms]
    assert copies
    assert all(isinstance(module, SharedBatchNorm) for module in norms)

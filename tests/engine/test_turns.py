"""How a turn is taken when the machine does not play along: recordings, compilation, memory, waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.engine.capture import HeldClock, Rehearsal
from leafwing.engine.rows import Share
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Player, Round, Term, Turn, at
from leafwing.loop import Training
from tiny import PICTURES, POINTS, batches, build, same, serves, start, tensors

pytestmark = pytest.mark.machine

CASES = [(name, spec) for name in recipes.names() for spec in (PICTURES, POINTS) if serves(name, spec)]
every_case = pytest.mark.parametrize(
    ("name", "spec"), CASES, ids=[f"{name}-{'points' if spec.points else 'pictures'}" for name, spec in CASES]
)
CPU = choose("cpu", "fp32", 1)


def game(cost: Callable[[Round], Tensor] = lambda r: r.fake_score.mean(), **options: Any) -> Game:
    """Two linear players; D pays a cost, G its opposite."""
    torch.manual_seed(0)

    def play(nets: Any, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.G(torch.randn(batch.n, 2)), lambda x: nets.D(x)[:, 0], clock=clock)

    players = {"G": Player(nn.Linear(2, 2), Adam(1e-2)), "D": Player(nn.Linear(2, 1), Adam(1e-2))}
    turns = [Turn("D", play, [Term("up", cost)]), Turn("G", play, [Term("down", lambda r: -r.fake_score.mean())])]
    return Game(players, turns, Abilities(), batch=4, **options)


def points(images: int, n: int) -> Batch:
    return Batch(image=torch.randn(n, 2, generator=torch.Generator().manual_seed(images)))


def trained(played: Game, images: int = 40, recorder: Any = None, **how: Any) -> tuple[list[str], Engine]:
    """Trains for a while; what the engine said, and the engine."""
    said: list[str] = []
    engine = Engine(played, replace(CPU, **how), say=said.append, recorder=recorder)
    torch.manual_seed(1)
    list(Training(played, points, engine, images=images, batch=4).ticks(10**9))
    return said, engine


def weights(played: Game) -> Tensor:
    return torch.cat([p.detach().flatten() for player in played.players.values() for p in player.net.parameters()])


# --- recordings --------------------------------------------------------------------------------------------------------------


class Counting(Rehearsal):
    def __init__(self) -> None:
        self.warmed, self.recorded = 0, 0

    def warm(self, work: Callable[[], None]) -> None:
        self.warmed += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        return work


def test_a_unit_is_taken_for_real_three_times_and_recorded_once() -> None:
    recorder = Counting()
    trained(game(), recorder=recorder)
    assert recorder.warmed == 2 * 2 * 3  # two units, each of costs and a step, three times
    assert recorder.recorded == 2 * 2


def test_recorded_anew_when_the_recipe_says_that_shapes_change() -> None:
    recorder = Counting()
    trained(game(shape=lambda clock: clock.images >= 20), recorder=recorder)
    assert recorder.recorded == 2 * 2 * 2


def test_what_the_clock_decides_reaches_a_recording() -> None:
    scheduled = game(lambda r: at(lambda_, r.clock) * r.fake_score.mean())
    plain = game(lambda r: at(lambda_, r.clock) * r.fake_score.mean())
    trained(scheduled, recorder=Rehearsal())
    trained(plain)
    assert torch.equal(weights(scheduled), weights(plain))
    constant = game(lambda r: 1.0 * r.fake_score.mean())
    trained(constant)
    assert not torch.equal(weights(constant), weights(plain))


def lambda_(clock: Clock) -> float:
    return 1.0 + clock.images / 10


class Doing(Rehearsal):
    """A device runs the Python of the work while it records."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        work()
        return work


def test_a_clock_that_is_read_directly_is_not_recorded_and_training_goes_on() -> None:
    """Else the number of that moment would be recorded for good."""
    direct = game(lambda r: (1.0 + r.clock.images / 10) * r.fake_score.mean())  # type: ignore[attr-defined]
    plain = game(lambda r: at(lambda_, r.clock) * r.fake_score.mean())  # type: ignore[attr-defined]
    said, engine = trained(direct, recorder=Doing())
    trained(plain)
    assert len(said) == 1
    assert "clock.images" in said[0]
    assert engine.recorder is None
    assert torch.equal(weights(direct), weights(plain))


class Failing(Rehearsal):
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        torch.rand(3)  # whatever was drawn on the way must not count
        raise RuntimeError("operation not permitted when stream is capturing\nand a long explanation")


def test_where_recording_fails_training_goes_on_with_the_same_numbers() -> None:
    failing, plain = game(), game()
    said, _ = trained(failing, recorder=Failing())
    trained(plain)
    assert said == ["turns cannot be captured, training continues without: operation not permitted when stream is capturing"]
    assert torch.equal(weights(failing), weights(plain))


def test_a_schedule_that_first_appears_in_a_recording_is_refused() -> None:
    clock = HeldClock(torch.device("cpu"))
    clock.set(Clock(10, 100, 1), recording=True)
    with pytest.raises(RuntimeError, match="first read while"):
        at(lambda_, clock)
    clock.set(Clock(10, 100, 1))
    value = at(lambda_, clock)
    assert float(value) == 2.0
    clock.set(Clock(20, 100, 2), recording=True)
    assert float(value) == 3.0


# --- compilation -------------------------------------------------------------------------------------------------------------


def test_where_compiling_fails_training_goes_on_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            torch.rand(5)
            raise RuntimeError("InvalidCxxCompiler: no C++ compiler found")

    monkeypatch.setattr(torch, "compile", Broken)
    failing, plain = game(), game()
    said, engine = trained(failing, compile=True)
    trained(plain)
    assert said == ["the networks cannot be compiled, training continues without: InvalidCxxCompiler: no C++ compiler found"]
    assert engine.compiled is None
    assert torch.equal(weights(failing), weights(plain))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler looks at what it traces
@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_compiled_networks_train_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated by the compiler, but not translated, so that no C++ compiler is needed."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, traced = start(name, PICTURES, 36), start(name, PICTURES, 36)
    said: list[str] = []
    traced.engine = Engine(traced.game, replace(CPU, compile=True), say=said.append)
    for training in (plain, traced):
        torch.manual_seed(3)
        list(training.ticks(10**9))
    assert said == []
    assert traced.engine.compiled is not None
    left, right = tensors(plain.game), tensors(traced.game)
    assert all(torch.allclose(left[key], right[key], rtol=1e-4, atol=1e-5) for key in left)


def test_turns_that_differentiate_twice_see_the_networks_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Marked(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, *args: Tensor) -> Tensor:
            seen.append("compiled")
            return self.net(*args)

    monkeypatch.setattr(torch, "compile", Marked)
    training = start("wgan_gp", POINTS, 10**6)
    engine = Engine(training.game, replace(CPU, compile=True))
    batch = engine.prepare(training.batches(0, 6))
    d_turn, g_turn = training.game.turns
    engine.take([d_turn], batch, Clock(0, 100, 0))
    assert seen == []
    engine.take([g_turn], batch, Clock(0, 100, 0))
    assert seen == ["compiled", "compiled"]


def test_an_error_of_the_game_itself_is_not_hidden() -> None:
    def wrong(r: Round) -> Tensor:
        raise ValueError("shapes do not match")

    with pytest.raises(ValueError, match="shapes do not match"):
        trained(game(wrong))


# --- memory ------------------------------------------------------------------------------------------------------------------


class Tight(nn.Module):
    """A network for which there is memory for so many samples."""

    def __init__(self, net: nn.Module, room: int, error: Exception) -> None:
        super().__init__()
        self.net, self.room, self.error = net, room, error

    def forward(self, x: Tensor) -> Tensor:
        torch.rand(3)
        if len(x) > self.room:
            raise self.error
        return self.net(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("player", ["G", "D"])
def test_out_of_memory_takes_smaller_parts_and_keeps_the_step(player: str, error: Exception) -> None:
    tight, roomy = game(), game()
    trained(roomy)
    tight.players[player].net = Tight(tight.players[player].net, 1, error)
    roomy_said, engine = trained(tight)
    assert [line.split(":")[0] for line in roomy_said] == ["out of memory", "out of memory"]  # 4 to 2, 2 to 1
    assert "micro-batches of 1 images" in roomy_said[-1]
    assert "batch size is still 4" in roomy_said[-1]
    assert engine.micro_batch == 1
    assert weights(tight).shape == weights(roomy).shape


def test_out_of_memory_in_the_second_turn_of_a_unit_does_not_take_the_first_twice() -> None:
    def shared() -> Game:
        played = game()
        played.turns = [played.turns[0], replace(played.turns[1], same_round=True)]
        return played

    tight, roomy = shared(), shared()
    trained(roomy, images=20)
    calls = 0
    critic = tight.players["D"].net

    def forward(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # D's turn judges the fakes; then G's turn does, and there is no room
            raise torch.OutOfMemoryError("CUDA out of memory")

    critic.register_forward_pre_hook(forward)
    said, _ = trained(tight, images=20)
    assert len(said) == 1
    assert torch.allclose(weights(tight), weights(roomy), rtol=1e-5, atol=1e-7)


def test_no_memory_for_a_single_sample_is_an_error() -> None:
    tight = game()
    tight.players["D"].net = Tight(tight.players["D"].net, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        trained(tight)


# --- waiting -----------------------------------------------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Notes every operation that would wait for a device: reading a number, shapes that depend on values, copies to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "bincount"):
            self.found.append(name)
        if name == "index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            self.found.append("index by a mask")
        return function(*args, **(kwargs or {}))


@every_case
def test_no_turn_waits_for_the_device(name: str, spec: Any) -> None:
    training = start(name, spec, 10**6)
    batch = training.engine.prepare(training.batches(0, training.batch))
    clock = Clock(0, 10**6, 0)
    for turn in training.game.turns:
        training.engine.take([turn], batch, clock)
    with Waits() as waits:
        for turn in training.game.turns:
            training.engine.take([turn], training.engine.prepare(training.batches(6, training.batch)), clock)
        training.engine.average(6)
    assert waits.found == []


def test_waiting_would_be_noticed() -> None:
    with Waits() as waits:
        float(torch.ones(()))
        torch.arange(4)[torch.tensor([True, False, True, False])]
    assert waits.found == ["_local_scalar_dense", "index by a mask"]


# --- sharing random numbers --------------------------------------------------------------------------------------------------


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
    "one number for all": lambda n: torch.rand(1) * torch.randn(n, 2),
}


@pytest.mark.parametrize("name", DRAWS)
def test_parts_draw_what_the_whole_draws(name: str) -> None:
    draw = DRAWS[name]
    torch.manual_seed(3)
    whole, after = draw(6), torch.rand(1)
    torch.manual_seed(3)
    share = Share(6, slice(0, 2))
    parts = []
    for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):
        share.rewind(rows)
        with share:
            parts.append(draw(2))
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(torch.rand(1), after), "the generator is where the whole draw leaves it"


def test_what_draws_nothing_is_left_alone() -> None:
    with Share(6, slice(2, 4)):
        assert torch.equal(torch.arange(3) + torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))


# --- the choice --------------------------------------------------------------------------------------------------------------


def test_every_choice_says_why() -> None:
    chosen = choose("cpu", "fp32")
    assert chosen.why.keys() >= {
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
    asked = choose(
        "cpu",
        "fp32",
        1,
        layout="contiguous",
        fused=False,
        keep_freed=True,
        products=True,
        compile=True,
        micro_batch=8,
        resident=True,
    )
    assert set(asked.why.values()) - {"cpu has no graphs"} == {"as asked"}
    assert (asked.layout, asked.fused, asked.compile, asked.micro_batch) == ("contiguous", False, True, 8)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"layout": "sideways"}, "no layout 'sideways'"),
        ({"micro_batch": -1}, "micro-batch -1"),
        ({"capture": True}, "only CUDA captures"),
    ],
)
def test_bad_choices_are_named(how: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        choose("cpu", "fp32", 1, **how)


def test_the_state_of_one_way_of_working_serves_another() -> None:
    """A run that was fused, or on another device, goes on plainly."""
    fused = start("dcgan", PICTURES, 24)
    list(fused.ticks(10**9))
    plain = Engine(build("dcgan", PICTURES), replace(CPU, fused=False, layout="contiguous"))
    plain.restore(fused.engine.state())
    assert plain.optimisers["G"].param_groups[0]["fused"] is not True
    training = Training(plain.game, batches(PICTURES), plain, images=12, batch=6)
    list(training.ticks(10**9))
    assert all(tensor.isfinite().all() for tensor in tensors(plain.game).values())


@every_case
def test_slowed_down_every_rate_is_smaller_and_stays_so(name: str, spec: DataSpec) -> None:
    """Constant rates and schedules; and an optimiser whose state is restored."""
    training, plain = start(name, spec, 600), start(name, spec, 600)
    training.engine.slow_down(0.25)
    seen: dict[str, list[float]] = {}
    for label, one in (("slow", training), ("plain", plain)):
        for tick in one.ticks(6):
            if tick.clock.images >= 60:
                break
        seen[label] = [group["lr"] for own in one.engine.optimisers.values() for group in own.param_groups]
    assert seen["slow"] == pytest.approx([0.25 * rate for rate in seen["plain"]], rel=1e-12)
    plain.engine.restore(training.engine.state())
    assert plain.engine.rate == 0.25
    assert [group["lr"] for own in plain.engine.optimisers.values() for group in own.param_groups] == seen["slow"]


def test_a_recording_learns_that_training_is_slowed_down() -> None:
    """Rates are part of what was recorded: the turns are recorded anew."""

    def trained(recorder: Rehearsal | None) -> dict[str, Tensor]:
        game = build("dcgan", PICTURES)
        training = Training(game, batches(PICTURES), Engine(game, CPU, recorder=recorder), images=120, batch=game.batch)
        for tick in training.ticks(6):
            if tick.clock.images == 60:
                training.engine.slow_down(0.1)
                assert not training.engine._seen
        return tensors(game)

    assert same(trained(Rehearsal()), trained(None))

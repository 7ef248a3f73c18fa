"""Games beyond one generator and one discriminator: stages, frozen players, turns without fakes, clips, deterministic outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leafwing import health
from leafwing.commands.plan import new_training
from leafwing.data import Dataset
from leafwing.engine import Engine, choose
from leafwing.engine.capture import CaptureBackend, CapturedClock, Rehearsal
from leafwing.engine.probe import Probe, downsample
from leafwing.game import (
    SGD,
    Abilities,
    Adam,
    Batch,
    Clock,
    DataSpec,
    Game,
    Nets,
    Optimiser,
    Output,
    Play,
    Player,
    RMSprop,
    Round,
    Term,
    Turn,
    at,
)  # fmt: skip
from leafwing.loop import Training
from leafwing.model import Model
from leafwing.parts.penalties import r1
from leafwing.parts.priors import Normal
from leafwing.settings import HardwareSettings, Schedule, Settings
from tiny import load, same, tensors

pytestmark = pytest.mark.machine
CPU = choose("cpu", "fp32", 1)


def points(images: int, n: int) -> Batch:
    return Batch(image=torch.randn(n, 2, generator=torch.Generator().manual_seed(images)))


def clips(images: int, n: int) -> Batch:
    return Batch(image=torch.rand(n, 2, 3, 4, 4, generator=torch.Generator().manual_seed(images)) * 2 - 1)


def train(
    game: Game,
    images: int = 64,
    source: Callable[[int, int], Batch] = points,
    backend: CaptureBackend | None = None,
    **setup: Any,
) -> Training:
    """Trains to the end; captured turns must never fail."""
    notices: list[str] = []
    engine = Engine(game, replace(CPU, **setup), notify=notices.append, capture_backend=backend)
    torch.manual_seed(1)
    training = Training(game, source, engine, images=images, batch=4)
    list(training.ticks(10**9))
    assert notices == []
    return training


def d_loss(r: Round) -> Tensor:
    return r.fake_score.mean() - r.real_score.mean()


def g_loss(r: Round) -> Tensor:
    return -r.fake_score.mean()


# --- stages -------------------------------------------------------------------------------------------------------------------


class Growing(nn.Module):
    """Layers of which the first `stage` + 1 are used."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.out = nn.Linear(2, outputs)

    def forward(self, x: Tensor, stage: int) -> Tensor:
        for layer in self.layers[: stage + 1]:
            x = layer(x).tanh()
        return self.out(x)


def grow(clock: Clock) -> int:
    return min(2, int(clock.planned_progress * 3))


def progress(clock: Clock) -> float:
    return clock.progress


def growing(resets: bool = False) -> Game:
    torch.manual_seed(0)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        stage, blend = clock.stage, at(progress, clock)
        assert isinstance(stage, int)
        fake = nets.G(torch.randn(batch.n, 2), stage)
        return Round(nets, batch.image, fake, lambda x: nets.D(x, stage)[:, 0] * (1 + blend), clock=clock)

    players = {name: Player(Growing(size), Adam(1e-2), resets=resets) for name, size in (("G", 2), ("D", 1))}
    turns = [Turn("D", play, [Term("gap", d_loss)]), Turn("G", play, [Term("gap", g_loss)])]
    return Game(players, turns, Abilities(), batch=4, stage=grow)


class Executing(Rehearsal):
    """Runs the Python code of a phase when it is captured, as a device does, without its effects on the networks."""

    def __init__(self, game: Game) -> None:
        self.game, self.captured = game, 0

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        state, random = tensors(self.game), torch.get_rng_state()
        if self.captured % 2:  # a backward pass; the optimiser's state must not change
            work()
        load(self.game, state)
        torch.set_rng_state(random)
        return work


@pytest.mark.parametrize("resets", [False, True])
def test_a_captured_turn_reads_the_stage_on_the_host_and_is_captured_again_when_it_changes(resets: bool) -> None:
    eager, captured = growing(resets), growing(resets)
    backend = Executing(captured)
    train(eager, 120)
    train(captured, 120, backend=backend)
    assert backend.captured == 3 * 2 * 2, "a backward pass and a step of two turns in each of three stages"
    pairs = zip(tensors(eager).values(), tensors(captured).values(), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in pairs), (
        "a scheduled number has seven digits in a tensor"
    )


def test_the_rest_of_a_captured_clock_cannot_be_read_on_the_host() -> None:
    clock = CapturedClock(torch.device("cpu"))
    clock.set(Clock(30, 100, 2, planned=50, stage="two"), capturing=True)
    assert clock.stage == "two"
    for name in ("images", "total", "round", "planned", "progress", "planned_progress"):
        with pytest.raises(RuntimeError, match=f"reads clock.{name} directly"):
            getattr(clock, name)
    clock.set(Clock(30, 100, 2, planned=50, stage="two"))
    assert (clock.planned_progress, clock.progress) == (0.6, 0.3)


def test_weights_that_a_stage_does_not_use_get_no_gradient_and_stay() -> None:
    game = growing()
    before = tensors(game)
    training = Training(game, points, Engine(game, CPU), images=120, batch=4)
    ticks = training.ticks(4)
    next(ticks)
    assert torch.equal(game.nets.G.layers[1].weight, before["G:layers.1.weight"])
    assert game.nets.G.layers[1].weight.grad is None
    assert game.nets.G.layers[0].weight.grad is not None
    list(ticks)
    assert all(layer.weight.grad is not None for layer in game.nets.G.layers)


@pytest.mark.parametrize("resets", [False, True])
def test_players_that_reset_forget_their_moments_when_the_stage_changes(resets: bool) -> None:
    game = growing(resets)
    engine = Engine(game, CPU)
    batch = engine.prepare(points(0, 4))
    steps = []
    for images in (0, 10, 20, 40, 50):  # the second stage starts at 34
        engine.take([game.turns[0]], batch, Clock(images, 100))
        steps.append(int(engine.optimisers["D"].state[game.nets.D.out.weight]["step"]))
    assert steps == ([1, 2, 3, 1, 2] if resets else [1, 2, 3, 4, 5])


@pytest.mark.parametrize("stop_at", [36, 40, 44])
def test_a_stage_that_begins_after_resuming_resets_too(stop_at: int) -> None:
    """The second of three stages of 120 images begins at 40."""
    whole = growing(resets=True)
    train(whole, 120)
    first = growing(resets=True)
    training = Training(first, points, Engine(first, CPU), images=120, batch=4)
    torch.manual_seed(1)
    list(training.ticks(10**9, should_stop=lambda clock: clock.images >= stop_at))
    state = training.state()
    second = growing(resets=True)
    resumed = Training(second, points, Engine(second, CPU), images=120, batch=4)
    load(second, tensors(first))
    resumed.restore(state)
    list(resumed.ticks(10**9))
    assert same(tensors(second), tensors(whole))


def test_an_extended_training_does_not_return_to_an_earlier_stage() -> None:
    """Stages and `during` are shares of the total that was planned when training began."""
    game = growing()
    game.turns = [*game.turns, Turn("D", game.turns[0].play, [Term("early", d_loss)], during=(0, 0.5))]
    training = Training(game, points, Engine(game, CPU), images=160, batch=4, planned=80)
    names = [(tick.clock.stage, game.at_stage(tick.clock).stage, "D/early" in tick.losses) for tick in training.ticks(4)]
    assert [early for _, _, early in names] == [True] * 10 + [False] * 30
    assert [stage for _, stage, _ in names] == [0] * 6 + [1] * 7 + [2] * 27


# --- frozen players ------------------------------------------------------------------------------------------------------------


def test_a_player_without_optimiser_stays_in_evaluation_mode() -> None:
    """Its statistics must not change, nor may it drop units."""
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5))

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.G(torch.randn(batch.n, 2)), lambda x: nets.D(nets.V(x))[:, 0])

    players = {"G": Player(nn.Linear(2, 2), SGD(0.1)), "D": Player(nn.Linear(2, 1), SGD(0.1)), "V": Player(frozen)}
    game = Game(players, [Turn("D", play, [Term("gap", d_loss)]), Turn("G", play, [Term("gap", g_loss)])], Abilities())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    training = train(game)
    Probe(training.engine, points, n=4).measure(training.clock)
    assert not any(module.training for module in frozen.modules())
    assert players["G"].net.training
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


# --- turns without fakes --------------------------------------------------------------------------------------------------------


def with_lazy_turn(play: Play, terms: Sequence[Term], first: bool) -> Game:
    """A duel with another turn of D, first or last, whose rounds have no fakes."""
    torch.manual_seed(0)

    def duel(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.G(torch.randn(batch.n, 2)), lambda x: nets.D(x)[:, 0])

    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    players = {"G": Player(nn.Linear(2, 2), SGD(0.1)), "D": Player(critic, SGD(0.1))}
    turns = [Turn("D", duel, [Term("gap", d_loss)]), Turn("G", duel, [Term("gap", g_loss)])]
    lazy = Turn("D", play, terms)
    return Game(players, [lazy, *turns] if first else [*turns, lazy], Abilities(), batch=4)


def only_real(nets: Nets, batch: Batch, clock: Clock) -> Round:
    return Round(nets, real=batch.image, judge=lambda x: nets.D(x)[:, 0], clock=clock)


def nothing(nets: Nets, batch: Batch, clock: Clock) -> Round:
    return Round(nets, embedded=nets.D(batch.image))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("play", "term"),
    [
        (only_real, r1(1.0)),
        (only_real, Term("score", lambda r: r.real_score.mean())),
        (nothing, Term("size", lambda r: r.embedded.square().mean())),
        (nothing, Term("second", lambda r: r.embedded.square().mean(), second_order=True)),
    ],
    ids=["real twice", "real", "neither", "neither twice"],
)
def test_a_turn_without_fakes_trains_and_is_measured(play: Any, term: Term, first: bool) -> None:
    game, parts, captured = (with_lazy_turn(play, [term], first) for _ in range(3))
    training = train(game)
    train(parts, micro_batch=2)
    train(captured, backend=Rehearsal())
    assert same(tensors(game), tensors(captured))
    pairs = zip(tensors(game).values(), tensors(parts).values(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    signals = Probe(training.engine, points, n=8).measure(training.clock)
    assert {"variety", "distance", "separation", "margin"} <= signals.keys()


def test_two_turns_may_share_a_round_without_fakes() -> None:
    game, separate = (with_lazy_turn(only_real, [r1(1.0)], first=False) for _ in range(2))
    *turns, lazy = game.turns
    game.turns = [*turns, lazy, replace(lazy, losses=[Term("score", lambda r: r.real_score.mean())], same_round=True)]
    separate.turns = [*separate.turns, replace(separate.turns[-1], losses=[Term("score", lambda r: r.real_score.mean())])]
    train(game)
    train(separate)
    assert same(tensors(game), tensors(separate)), "its rounds draw nothing"


def test_where_nothing_is_generated_there_is_nothing_to_compare() -> None:
    game = with_lazy_turn(nothing, [Term("size", lambda r: r.embedded.square().mean())], first=True)
    game.turns = game.turns[:1]
    training = train(game)
    assert Probe(training.engine, points, n=8).measure(training.clock).keys() == {"G/weights", "D/weights", "D/gradient"}


# --- clips -----------------------------------------------------------------------------------------------------------------------


def of_clips() -> Game:
    torch.manual_seed(0)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frames, self.frame = nn.Conv3d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.frames(x) + self.frame(x[:, :, 0]).mean(1)[:, None, None]

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(
            nets, batch.image, nets.G(torch.randn_like(batch.image)), lambda x: nets.D(x).flatten(1).mean(1), clock=clock
        )

    players = {"G": Player(Both(), Adam(1e-3), ema=8), "D": Player(Both(), Adam(1e-3))}
    turns = [Turn("D", play, [Term("gap", d_loss), r1(0.1)]), Turn("G", play, [Term("gap", g_loss)])]
    return Game(players, turns, Abilities(), batch=4)


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_convolutions_of_clips_train_in_either_layout(layout: str) -> None:
    game, captured = of_clips(), of_clips()
    training = train(game, source=clips, layout=layout)
    train(captured, source=clips, layout=layout, backend=Rehearsal())
    assert same(tensors(game), tensors(captured))
    frame = game.nets.G.frame.weight
    assert frame.is_contiguous(memory_format=torch.channels_last) == (layout == "channels_last")
    assert Probe(training.engine, clips, n=4).measure(training.clock).keys() >= {"variety", "distance", "separation"}


def test_samples_of_any_shape_are_compared() -> None:
    for shape, size in (((2, 3, 32, 16), 192), ((2, 3, 5, 16, 32), 960), ((2, 7), 7), ((2, 5, 3), 15)):
        assert downsample(torch.ones(shape)).shape == (2, size)


# --- deterministic outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [None, Normal(2)])
def test_a_deterministic_translator_does_not_look_collapsed(prior: Normal | None) -> None:
    """Its fakes are determined by their conditions, so two for one condition are equal; a game with latents must not do that."""
    torch.manual_seed(0)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.G(batch.image), lambda x: nets.D(x)[:, 0])

    outputs = [Output("image", lambda nets, inputs, clock: nets.G(inputs.image), ("image",), prior)]
    players = {"G": Player(nn.Linear(2, 2), SGD(0.01)), "D": Player(nn.Linear(2, 1), SGD(0.01))}
    turns = [Turn("D", play, [Term("gap", d_loss)]), Turn("G", play, [Term("gap", g_loss)])]
    game = Game(players, turns, Abilities(outputs), batch=4)
    training = Training(game, points, Engine(game, CPU), images=4000, batch=4)
    probe = Probe(training.engine, points, n=16)
    records = [
        {"images": t.clock.images, "round": t.clock.round, "losses": dict(t.losses), "health": probe.measure(t.clock)}
        for t in islice(training.ticks(400), 8)
    ]
    kinds = {alarm.kind for alarm in health.alarms(records)}
    assert {("conditional_variety" in probe.measure(training.clock))} == {prior is not None}
    assert ("collapse" in kinds) == (prior is not None)


# --- two domains ----------------------------------------------------------------------------------------------------------------


def test_a_translator_of_two_unpaired_domains_trains_and_translates_both_ways() -> None:
    """Each domain is a source of its own; both are outputs."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    here, there = (
        Dataset(DataSpec.images(8, 8, c), {"image": random.integers(0, 256, (n, 8, 8, c), np.uint8)}, name, name, {})
        for name, n, c in (("here", 10, 1), ("there", 13, 3))
    )

    def both(nets: Nets, batch: Batch, clock: Clock) -> Round:
        fake_image, fake_input = nets.G(batch.input), nets.F(batch.image)
        loop = (nets.G(fake_input) - batch.image).abs().mean() + (nets.F(fake_image) - batch.input).abs().mean()
        return Round(nets, batch.image, fake_image, lambda x: nets.D(x).flatten(1), loop=loop)

    def build() -> Game:
        players = {
            "G": Player(nn.Conv2d(3, 1, 3, padding=1), Adam(1e-3)),
            "F": Player(nn.Conv2d(1, 3, 3, padding=1), Adam(1e-3)),
            "D": Player(nn.Conv2d(1, 1, 3), Adam(1e-3)),
        }
        turns = [
            Turn("D", both, [Term("gap", d_loss)]),
            Turn("G F", both, [Term("gap", g_loss), Term("loop", lambda r: r.loop)]),
        ]
        outputs = [
            Output("image", lambda nets, inputs, clock: nets.G(inputs.input).tanh(), ("input",)),
            Output("input", lambda nets, inputs, clock: nets.F(inputs.image).tanh(), ("image",)),
        ]
        return Game(players, turns, Abilities(outputs), batch=4)

    data = here.with_stream("second", there, {"image": "input"})
    machine = HardwareSettings(device="cpu", precision="fp32", threads=1)
    training = new_training(build, data, Settings(machine=machine, schedule=Schedule(images=40)))
    (tick,) = training.ticks(10**9)
    assert tick.losses.keys() == {"D/gap", "G+F/gap", "G+F/loop"}
    signals = Probe(training.engine, training.batches, n=8).measure(training.clock)
    assert "conditional_variety" not in signals
    model, batch = Model(training.game, data.spec), training.batches(0, 5)
    assert model.translate(batch.input).shape == (5, 1, 8, 8)
    assert model.translate(batch.image, output="input").shape == (5, 3, 8, 8)


# --- further streams and optimisers --------------------------------------------------------------------------------------------------


def test_the_engine_takes_fields_of_any_kind_as_they_are() -> None:
    batch = Batch(
        image=torch.rand(3, 1, 2, 2), hole=torch.tensor([0.0, 1, 1]).view(3, 1, 1, 1), caption=torch.tensor([[1, 0]] * 3)
    )
    prepared = Engine(of_clips(), CPU).prepare(batch)
    assert all(torch.equal(prepared[name], value) and prepared[name].dtype == value.dtype for name, value in batch.items())


@pytest.mark.parametrize(
    ("optimiser", "kind", "scheduled"),
    [
        (Adam(0.1), torch.optim.Adam, {}),
        (Adam(0.1, weight_decay=0.2), torch.optim.AdamW, {}),
        (Adam(lambda clock: clock.progress, (0.0, lambda clock: 0.9)), torch.optim.Adam, {"lr": 0.5, "betas": (0.0, 0.9)}),
        (RMSprop(0.1), torch.optim.RMSprop, {}),
        (RMSprop(lambda clock: clock.progress), torch.optim.RMSprop, {"lr": 0.5}),
        (SGD(0.1), torch.optim.SGD, {}),
        (SGD(0.1, lambda clock: clock.progress), torch.optim.SGD, {"momentum": 0.5}),
    ],
    ids=["Adam", "AdamW", "scheduled-Adam", "RMSprop", "scheduled-RMSprop", "SGD", "scheduled-SGD"],
)
@pytest.mark.parametrize("fused", [False, True])
def test_optimisers_build_themselves(optimiser: Optimiser, kind: type, scheduled: dict[str, Any], fused: bool) -> None:
    weight = nn.Parameter(torch.ones(3))
    built = optimiser.build([weight], torch.device("cpu"), fused=fused)
    assert type(built) is kind
    assert optimiser.scheduled(Clock(50, 100)) == scheduled
    assert set(scheduled) <= built.param_groups[0].keys()
    weight.grad = torch.ones(3)
    built.step()


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    """A weight without a slope shrinks by lr * decay."""
    weight = nn.Parameter(torch.full((2,), 4.0))
    optimiser = Adam(0.1, weight_decay=0.5).build([weight], torch.device("cpu"))
    weight.grad = torch.zeros(2)
    optimiser.step()
    assert weight.tolist() == pytest.approx([4 * (1 - 0.1 * 0.5)] * 2)


def test_the_older_weight_decay_is_part_of_the_gradient() -> None:
    """Its size does not matter to Adam's first step, only its sign."""
    weight = nn.Parameter(torch.tensor([4.0, -4.0]))
    optimiser = Adam(0.1, l2=1e-3).build([weight], torch.device("cpu"))
    weight.grad = torch.zeros(2)
    optimiser.step()
    assert weight.tolist() == pytest.approx([3.9, -3.9], abs=1e-4)


def test_what_is_generated_may_depend_on_the_stage() -> None:
    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return nets.G(inputs.latent, clock.stage)

    game = growing()
    game.abilities = Abilities([Output("image", make, prior=Normal(2))])
    early, late = (Model(game, DataSpec.vectors(2), clock=clock) for clock in (Clock(10, 120), Clock(110, 120)))
    assert not torch.equal(early.sample(3), late.sample(3))
    expected = game.nets.G(early.latents(3), 0)
    assert torch.allclose(early.sample(3), expected, atol=1e-6)

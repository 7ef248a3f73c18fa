"""Measurements of a game in training: they have no side effects, and the signals are right."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fake_mps import MPS, FakeMps
from leafwing.engine import Engine, choose
from leafwing.engine.capture import Rehearsal
from leafwing.engine.probe import (
    Probe,
    brightness,
    compare_translation,
    downsample,
    find_translation,
    mean_distance,
    phase_changes,
    probability_above,
)  # fmt: skip
from leafwing.fields import Image, Mask
from leafwing.game import SGD, Abilities, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn
from leafwing.loop import Training
from leafwing.pixels import pool
from tiny import PICTURES, POINTS, batches, build, cases, first_data, same, start, tensors

every_case = cases()
SCORED = {"variety", "distance", "separation", "margin", "real", "fake"}
SIGNALS = SCORED | {"G/weights", "D/weights", "G/gradient", "D/gradient"}


def measure_ticks(training: Training, n: int = 6) -> list[dict[str, float]]:
    """Trains to the end; the signals at every tick."""
    probe = Probe(training.engine, training.batches, n=n)
    return [probe.measure(tick.clock) for tick in training.ticks(training.batch)]


@every_case
def test_measuring_has_no_side_effects(name: str, spec: DataSpec) -> None:
    """Weights, buffers, averaged copies, optimisers and random state, bit for bit; and every recipe has all signals."""
    plain, measured = start(name, spec, 48), start(name, spec, 48)
    torch.manual_seed(5)
    list(plain.ticks(plain.batch))
    numbers = torch.rand(3)
    torch.manual_seed(5)
    signals = measure_ticks(measured)
    assert torch.equal(torch.rand(3), numbers)
    assert same(tensors(plain.game), tensors(measured.game))
    assert str(plain.state()["optimisers"]) == str(measured.state()["optimisers"])
    assert len(signals) >= 2
    game = build(name, spec)
    players = {name: player.optimiser for name, player in game.players.items() if player.optimiser}
    norms = {f"{name}/weights" for name in players}
    norms |= {f"{name}/rate" for name, optimiser in players.items() if callable(optimiser.lr)}
    compared = SCORED | (
        {"conditional_variety"} if any(output.prior and output.conditions for output in game.abilities.outputs) else set()
    )
    start_clock, batch = game.at_stage(Clock(0, 48, 0)), batches(spec, game)(0, 6)
    active = [turn for turn in game.turns if turn.times(start_clock)]
    rounds = [turn.play(game.nets, batch, start_clock) for turn in active]
    generating = [r for r in rounds if r.fake is not None]
    first_signals = compared if generating else set()
    if not any(r.judge for r in generating[:1]):
        first_signals = first_signals - {"separation", "margin", "real", "fake"}
    first = {f"{name}/gradient" for turn in active for name in turn.movers}
    if len({turn.during for turn in game.turns}) > 1 and len({turn.moves for turn in game.turns}) > len(active):
        norms |= {"phase"}
    assert signals[0].keys() == first_signals | norms | first, "gradients of the players that moved"
    assert signals[-1].keys() == compared | norms | {f"{name}/gradient" for name in players} | {"moved"}


def test_measuring_keeps_gradients_and_modes() -> None:
    training = start("dcgan", PICTURES, 60)
    probe = Probe(training.engine, training.batches, n=6)
    list(training.ticks(10**9))
    weights = [weight for player in training.game.players.values() for weight in player.net.parameters()]
    gradients = [(weight.grad, weight.grad.clone()) for weight in weights if weight.grad is not None]
    assert gradients
    training.game.players["D"].net.eval()
    probe.measure(training.clock)
    assert all(weight.grad is gradient for weight, (gradient, _) in zip(weights, gradients, strict=True))
    assert all(torch.equal(gradient, copy) for gradient, copy in gradients)
    assert training.game.players["G"].net.training
    assert not training.game.players["D"].net.training


def test_recorded_turns_keep_their_batch() -> None:
    """They read static tensors, and the probe's batch has the same shapes."""

    def train(measure: bool) -> Training:
        game = build("dcgan", PICTURES)
        engine = Engine(game, choose("cpu", "fp32", 1), capture_backend=Rehearsal())
        training = Training(game, batches(PICTURES), engine, images=60, batch=game.batch)
        measure_ticks(training, n=game.batch) if measure else list(training.ticks(training.batch))
        return training

    assert same(tensors(train(measure=True).game), tensors(train(measure=False).game))


def test_signals_are_the_same_after_resuming() -> None:
    whole = measure_ticks(start("cgan", PICTURES, 36))
    first = start("cgan", PICTURES, 18)
    probe = Probe(first.engine, first.batches, n=6)
    signals, state = [probe.measure(tick.clock) for tick in first.ticks(6)], first.state()
    second = start("cgan", PICTURES, 36)
    for name, module in second.game.modules().items():
        module.load_state_dict(first.game.modules()[name].state_dict())
    second.restore(state)
    resumed = Probe(second.engine, second.batches, n=6)
    resumed.restore(probe.state())
    signals += [resumed.measure(tick.clock) for tick in second.ticks(6)]
    assert signals == whole


def test_players_that_begin_later_begin_a_phase_of_their_own() -> None:
    """Their samples are not compared with those of others; also when training was resumed just before."""
    training = start("adagan", PICTURES, 48, components=2, batch=6)
    probe, signals = Probe(training.engine, training.batches, n=6), []
    for tick in training.ticks(6):
        before, probe = probe, Probe(training.engine, training.batches, n=6)
        probe.restore(before.state())
        signals.append(probe.measure(tick.clock))
    assert [line["phase"] for line in signals] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert ["moved" in line for line in signals] == [False, True, True, False, True, True, True, True]
    probe.restore({"before": probe.previous})  # as saved by an earlier version
    assert "moved" in probe.measure(training.clock)


@pytest.mark.parametrize(("recipe", "moments"), [("sgan_ct", [0.5]), ("srgan", [0.5]), ("gogan", []), ("discogan", [])])
def test_phases_begin_where_others_move_than_before(recipe: str, moments: list[float]) -> None:
    """Not where the same go on with other losses, nor where players take turns."""
    assert phase_changes(build(recipe, first_data(recipe)).turns) == moments


def test_bf16_is_measured_too() -> None:
    assert measure_ticks(start("r3gan", PICTURES, 12, precision="bf16"))[-1].keys() == SIGNALS | {
        "moved",
        "G/rate",
        "D/rate",
    }


def simple(
    fake: Callable[[Nets, Batch], torch.Tensor], judge: Any = lambda nets: lambda x: nets.D(x).squeeze(1)
) -> Training:
    """A game on points whose fakes are computed by a function."""

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=fake(nets, batch), judge=judge(nets))

    players = {"G": Player(nn.Linear(2, 2), SGD(0.1)), "D": Player(nn.Linear(2, 1), SGD(0.1))}
    turn = Turn("D", play, [Term("gap", lambda r: r.fake_score.mean() - r.real_score.mean())])
    game = Game(players, [turn], Abilities(), batch=4)
    return Training(game, batches(POINTS), Engine(game, choose("cpu", "fp32", 1)), images=8, batch=4)


def measure_once(training: Training, **options: Any) -> dict[str, float]:
    return Probe(training.engine, training.batches, n=8, **options).measure(Clock(0, 8, 0))


def test_signals_of_perfect_and_of_collapsed_fakes() -> None:
    perfect = measure_once(simple(lambda nets, batch: batch.image.clone()))
    assert perfect["variety"] == pytest.approx(1)
    assert perfect["distance"] == pytest.approx(0, abs=1e-6)
    assert perfect["separation"] == pytest.approx(0.5)
    assert perfect["margin"] == pytest.approx(0, abs=1e-6)
    collapsed = measure_once(simple(lambda nets, batch: torch.full_like(batch.image, 9.0)))
    assert collapsed["variety"] == 0
    assert collapsed["distance"] > 0.8
    assert collapsed["separation"] in (0, 1)


def test_a_game_without_scores_lacks_those_signals() -> None:
    signals = measure_once(simple(lambda nets, batch: nets.G(batch.image), judge=lambda nets: None))
    assert signals.keys() == {"variety", "distance", "G/weights", "D/weights"}
    several = measure_once(simple(lambda nets, batch: nets.G(batch.image), judge=lambda nets: lambda x: x[:, :, None]))
    assert {"separation", "margin"} <= several.keys()


def test_a_play_may_differentiate() -> None:
    """As in LOGAN, whose latents follow the gradient of their scores. An ordinary play stores no activations for that."""
    fakes: list[torch.Tensor] = []

    def follow(nets: Nets, batch: Batch) -> torch.Tensor:
        latents = batch.image.clone().requires_grad_()
        (slope,) = torch.autograd.grad(nets.D(nets.G(latents)).sum(), latents)
        return nets.G(latents + slope)

    def ordinary(nets: Nets, batch: Batch) -> torch.Tensor:
        fakes.append(nets.G(batch.image))
        return fakes[-1]

    signals = measure_ticks(simple(follow))
    assert {"moved", *SIGNALS} - {"G/gradient"} == signals[-1].keys()
    measure_once(simple(ordinary))
    assert not fakes[-1].requires_grad


def test_nan_is_omitted_and_large_values_are_clipped() -> None:
    signals = measure_once(simple(lambda nets, batch: batch.image * float("inf")))
    assert json.loads(json.dumps(signals, allow_nan=False)) == signals
    assert "variety" not in signals
    with torch.no_grad():
        huge = simple(lambda nets, batch: nets.G(batch.image))
        huge.game.players["D"].net.weight.fill_(3e38)
    assert measure_once(huge)["D/weights"] == pytest.approx(1e30)


def test_held_out_samples_are_scored() -> None:
    """By a critic whose score increases to the right: samples 100 to the left all score less."""

    def far(images: int, n: int) -> Batch:
        return Batch(image=batches(POINTS)(images, n).image - 100)

    def judge(nets: Nets) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: x.sum(1)

    assert measure_once(simple(lambda nets, batch: nets.G(batch.image), judge), held_out=far)["held_out_separation"] == 1
    assert (
        measure_once(simple(lambda nets, batch: nets.G(batch.image), judge), held_out=batches(POINTS))["held_out_separation"]
        == 0.5
    )


def test_the_learning_rate_in_the_log_is_the_one_in_use_after_a_rollback() -> None:
    training = start("r3gan", PICTURES, 60)
    probe = Probe(training.engine, training.batches, n=6)
    before = probe.measure(Clock(6, 60))
    training.engine.scale_learning_rates(0.5)
    after = probe.measure(Clock(6, 60))
    rates = [name for name in before if name.endswith("/rate")]
    assert rates
    assert [after[name] for name in rates] == pytest.approx([before[name] / 2 for name in rates])


def test_helpers() -> None:
    assert probability_above(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0])).item() == (1 + 0 + 1 + 0.5) / 4
    assert mean_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).item() == 5
    assert downsample(torch.ones(2, 3, 32, 16, dtype=torch.bfloat16)).shape == (2, 3 * 8 * 8)
    assert downsample(torch.ones(2, 2)).shape == (2, 2)


# --- translations -------------------------------------------------------------------------------------------------------------

UNPAIRED = DataSpec({"image": Image(16, 16), "input": Image(16, 16, 1)}, unpaired=("input",))
TRANSLATION = {"tone", "mirrored", "change", "gap"}


def bright_spots(n: int = 12, seed: int = 0, channels: int = 1) -> torch.Tensor:
    """A bright square on black somewhere in each image."""
    images = -torch.ones(n, channels, 32, 32)
    for image, (y, x) in zip(
        images, torch.randint(0, 20, (n, 2), generator=torch.Generator().manual_seed(seed)), strict=True
    ):
        image[:, y : y + 12, x : x + 12] = 0.8
    return images


def test_translations_are_compared_with_their_inputs() -> None:
    """A copy, light and dark swapped, weaker colours, and the next image."""
    source, target = bright_spots(), bright_spots(seed=1, channels=3)
    tones, changes = [], []
    for images in (source, -source, source * 0.7, source.roll(1, 0)):
        signals = {
            name: value.item() for name, value in compare_translation(source, images.expand(-1, 3, -1, -1), target).items()
        }
        assert signals.keys() == TRANSLATION
        assert signals["mirrored"] < 0, "both kinds of images are mostly dark"
        assert abs(signals["gap"]) < 0.1
        tones.append(signals["tone"])
        changes.append(signals["change"])
    copied, inverted, weaker, another = changes
    assert tones[:3] == pytest.approx([1, -1, 1], abs=1e-5)
    assert copied == 0
    assert inverted > 2
    assert weaker == pytest.approx(0.15 * inverted, rel=1e-5), "0.3 of the way to grey, and inverting is twice that way"
    assert abs(tones[3]) < 0.25
    assert another == pytest.approx(1, abs=0.3), "as far as an image of the other kind"


def test_data_that_differ_by_swapping_light_and_dark_are_known() -> None:
    source, target = -bright_spots(), bright_spots(seed=1)
    signals = compare_translation(source, -source, target)
    assert signals["mirrored"] > 0.5
    assert signals["gap"] > 0.5
    assert signals["tone"] == pytest.approx(-1)


def translator(spec: DataSpec, source: str = "input") -> Game:
    """Its generator swaps light and dark."""

    class Negative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -self.weight * x[:, :1].expand(-1, 3, -1, -1)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=nets.G(batch[source]))

    turns = [Turn("G", play, [Term("nothing", lambda r: 0 * r.fake.mean())])]
    output = Output("image", lambda nets, inputs, clock: nets.G(inputs[source]), (source,))
    return Game({"G": Player(Negative(), SGD(0.1))}, turns, Abilities([output]), 4)


def test_only_unpaired_images_have_these_signals() -> None:
    """So a legitimate inversion of paired images can never be an alarm."""
    paired = DataSpec(UNPAIRED.fields)
    mask = DataSpec({"image": Image(16, 16), "mask": Mask(16, 16)}, unpaired=("mask",))
    for spec, source, expected in ((UNPAIRED, "input", TRANSLATION), (paired, "input", set()), (mask, "mask", set())):
        training = Training(
            game := translator(spec, source), batches(spec), Engine(game, choose("cpu", "fp32", 1)), images=8, batch=4
        )
        for known in (spec, None):
            signals = Probe(training.engine, training.batches, n=6, spec=known).measure(Clock(0, 8, 0))
            assert signals.keys() & TRANSLATION == (expected if known else set())
        if expected:
            signals = Probe(training.engine, training.batches, n=6, spec=spec).measure(Clock(0, 8, 0))
            assert signals["tone"] == pytest.approx(-1)
    assert find_translation([], UNPAIRED) is None


@pytest.mark.parametrize("function", [downsample, brightness, lambda images: pool(images, 12, 7, maximum=True)])
@pytest.mark.parametrize("side", [28, 32])
def test_images_of_any_size_are_compared_on_apple_gpus(function: Callable[..., torch.Tensor], side: int) -> None:
    """These pool maps only to sides of which theirs are multiples."""
    images = torch.rand(4, 3, side, side)
    with FakeMps():
        values = function(images.to("mps"))
        assert values.device == MPS
        assert torch.equal(values.cpu(), function(images))


def test_comparing_translations_has_no_side_effects() -> None:
    """Also for a generator with batch normalisation and dropout."""
    games = [translator(UNPAIRED) for _ in range(2)]
    for game in games:
        torch.manual_seed(0)
        game.players["G"] = Player(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout()), SGD(0.1))
    plain, measured = (
        Training(game, batches(UNPAIRED), Engine(game, choose("cpu", "fp32", 1)), images=16, batch=4) for game in games
    )
    torch.manual_seed(5)
    list(plain.ticks(4))
    torch.manual_seed(5)
    probe = Probe(measured.engine, measured.batches, n=6, spec=UNPAIRED)
    signals = [probe.measure(tick.clock) for tick in measured.ticks(4)]
    assert all(one.keys() >= TRANSLATION for one in signals)
    assert same(tensors(plain.game), tensors(measured.game))


def test_signals_are_of_what_is_generated_now_not_of_a_history() -> None:
    game = build("simgan", PAIRS := DataSpec({"image": Image(16, 16, 1), "input": Image(16, 16, 1)}, ("input",)))
    engine = Engine(game, choose("cpu", "fp32", 1))
    history = game.players["past"].net
    probe = Probe(engine, batches(PAIRS), n=8)
    clock = Clock(500, 1_000)
    for _ in range(2):
        history.count.fill_(len(history.fakes))
        history.fakes.copy_(torch.rand(history.fakes.shape) * 2 - 1)
        fakes = history.fakes.clone()
        signals = probe.measure(clock)
        assert torch.equal(history.fakes, fakes)
        assert int(history.count) == len(fakes)
    assert signals["moved"] == 0, "only the history has changed"

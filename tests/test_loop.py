"""The loop: the order of turns, when ticks come, why it stops, and that non-finite numbers stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from leafwing.engine import Engine, choose
from leafwing.errors import Diverged, LeafwingError
from leafwing.game import SGD, Abilities, Adam, Batch, Clock, Game, Nets, Player, Round, Term, Turn
from leafwing.loop import Training


def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
    return Round(
        nets, real=batch.image, fake=nets.G(torch.randn(batch.n, 2)), judge=lambda x: nets.D(x).squeeze(1), clock=clock
    )


def gap(r: Round) -> torch.Tensor:
    return r.fake_score.mean() - r.real_score.mean()


def make_game(turns: list[Turn], **players: Player) -> Game:
    torch.manual_seed(0)
    standard = {"G": Player(nn.Linear(2, 2), SGD(0.01)), "D": Player(nn.Linear(2, 1), SGD(0.01))}
    return Game({**standard, **players}, turns, Abilities(), batch=4)


def make_training(game: Game, images: int, starts: list[int] | None = None) -> Training:
    def batches(start: int, n: int) -> Batch:
        if starts is not None:
            starts.append(start)
        return Batch(image=torch.randn(n, 2, generator=torch.Generator().manual_seed(start)))

    return Training(game, batches, Engine(game, choose("cpu", "fp32", 1)), images=images, batch=4)


D_TURN = Turn("D", play, [Term("gap", gap)])
G_TURN = Turn("G", play, [Term("gap", lambda r: -r.fake_score.mean())])


def movers_taken(game: Game, rounds: int) -> list[str]:
    """The movers of the turns in the order in which they were taken."""
    moved: list[str] = []
    training = make_training(game, 10**6)
    take = training.engine.take
    training.engine.take = lambda turns, batch, clock: moved.extend(t.moves for t in turns) or take(turns, batch, clock)  # type: ignore[method-assign]
    list(training.ticks(10**9, should_stop=lambda clock: training.clock.round >= rounds))
    return moved


def test_turns_are_taken_in_order_and_repeated() -> None:
    turns = [Turn("D", play, [Term("gap", gap)], repeat=3), G_TURN]
    assert movers_taken(make_game(turns), 2)[:8] == ["D", "D", "D", "G"] * 2


def test_repeat_may_follow_the_clock() -> None:
    turns = [Turn("D", play, [Term("gap", gap)], repeat=lambda clock: 4 if clock.round < 1 else 2), G_TURN]
    assert movers_taken(make_game(turns), 2)[:8] == ["D"] * 4 + ["G"] + ["D"] * 2 + ["G"]


def test_every_skips_rounds() -> None:
    lazy = Turn("D", play, [Term("lazy", gap)], every=3)
    moved = movers_taken(make_game([D_TURN, lazy, G_TURN]), 4)
    assert moved[:10] == ["D", "D", "G", "D", "G", "D", "G", "D", "D", "G"]


def test_during_starts_and_ends_with_the_clock() -> None:
    early, late = (
        Turn("D", play, [Term("early", gap)], during=(0, 0.5)),
        Turn("D", play, [Term("late", gap)], during=(0.5, 2)),
    )
    training = make_training(make_game([early, late, G_TURN]), 40)
    by_tick = [set(tick.losses) for tick in training.ticks(4)]
    assert by_tick[:5] == [{"D/early", "G/gap"}] * 5
    assert by_tick[5:] == [{"D/late", "G/gap"}] * 5


def test_each_repeat_of_the_first_turn_draws_a_batch_and_later_turns_reuse_the_last() -> None:
    starts: list[int] = []
    training = make_training(make_game([Turn("D", play, [Term("gap", gap)], repeat=2), G_TURN]), 16, starts)
    list(training.ticks(10**9))
    assert starts == [0, 4, 8, 12]
    assert training.clock == Clock(16, 16, 2)


def test_images_end_at_the_end_of_a_round() -> None:
    training = make_training(make_game([Turn("D", play, [Term("gap", gap)], repeat=3), G_TURN]), 13)
    (tick,) = training.ticks(10**9)
    assert (tick.clock.images, tick.clock.round, tick.stop_reason) == (24, 2, "images")


def test_ticks_come_about_every_n_images_and_once_at_the_end() -> None:
    ticks = list(make_training(make_game([D_TURN, G_TURN]), 22).ticks(8))
    assert [tick.clock.images for tick in ticks] == [8, 16, 24]
    assert [tick.stop_reason for tick in ticks] == ["", "", "images"]
    seconds = [tick.seconds for tick in ticks]
    assert seconds == sorted(seconds)
    assert all(tick.images_per_second > 0 for tick in ticks)


def test_the_time_limit_stops_training_and_a_finished_run_does_nothing() -> None:
    training = make_training(make_game([D_TURN, G_TURN]), 10**9)
    (tick,) = training.ticks(10**9, seconds=0.05)
    assert tick.stop_reason == "time_limit"
    assert tick.seconds >= 0.05
    finished = make_training(make_game([D_TURN, G_TURN]), 8)
    list(finished.ticks(8))
    assert list(finished.ticks(8)) == []


def test_the_time_between_ticks_counts_in_the_limit_and_not_in_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("leafwing.loop.time.perf_counter", lambda: now[0])

    def slow_training(images: int) -> Training:
        training = make_training(make_game([D_TURN, G_TURN]), images)
        take = training.engine.take

        def slow(turns: Sequence[Turn], batch: Batch, clock: Clock) -> torch.Tensor:
            now[0] += 1.0
            return take(turns, batch, clock)

        training.engine.take = slow  # type: ignore[method-assign]
        return training

    training = slow_training(12)
    for tick in training.ticks(4):
        assert tick.images_per_second == 2.0, "4 images in 2 seconds"
        now[0] += 1000.0
    assert training.seconds == 3006.0
    reasons = []
    for tick in slow_training(10**6).ticks(4, seconds=2500.0):
        reasons.append(tick.stop_reason)
        now[0] += 1000.0
    assert reasons == ["", "", "", "time_limit"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training_and_is_named(value: float) -> None:
    def broken(r: Round) -> torch.Tensor:
        return gap(r) * (value if r.clock.images == 8 else 1.0)

    training = make_training(make_game([Turn("D", play, [Term("gap", gap), Term("broken", broken)]), G_TURN]), 40)
    with pytest.raises(Diverged, match=r"loss 'broken' of player D became (nan|inf) at 8 images") as raised:
        list(training.ticks(16))
    assert raised.value.exit_code == 3


def test_a_weight_that_is_not_finite_stops_training_and_is_named() -> None:
    def poison(nets: Nets) -> None:
        nets.G.bias.fill_(float("inf"))

    turns = [D_TURN, Turn("G", play, [Term("gap", lambda r: -r.fake_score.mean())], after=[poison])]
    with pytest.raises(Diverged, match=r"weight 'bias' of player G .* at 4 images"):
        list(make_training(make_game(turns), 4).ticks(4))


def test_a_round_without_active_turns_is_an_error() -> None:
    with pytest.raises(LeafwingError, match="round 0"):
        list(make_training(make_game([Turn("D", play, [Term("gap", gap)], during=(2, 3))]), 8).ticks(4))


def test_schedules_reach_the_optimiser() -> None:
    fast = Player(
        nn.Linear(2, 1), Adam(lambda clock: 1.0 - clock.progress, betas=(0.0, lambda clock: 0.9 + clock.progress / 20))
    )
    training = make_training(make_game([D_TURN, G_TURN], D=fast), 16)
    rates = []
    for tick in training.ticks(4):
        group = training.engine.optimisers["D"].param_groups[0]
        rates.append((round(float(group["lr"]), 6), round(group["betas"][1], 6)))
        assert tick.clock.images % 4 == 0
    assert rates == [(1.0, 0.9), (0.75, 0.9125), (0.5, 0.925), (0.25, 0.9375)]


def test_weights_frozen_by_the_recipe_stay_frozen() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    training = make_training(make_game([D_TURN, G_TURN], D=Player(net, SGD(1.0))), 16)
    list(training.ticks(16))
    assert torch.equal(net[0].weight, before)
    assert not net[0].weight.requires_grad


def test_the_moving_average_soon_forgets_the_initial_weights_and_then_has_its_half_life() -> None:
    frozen = Player(nn.Linear(2, 2), SGD(0.0), ema=40)
    assert frozen.ema_net is not None
    training = make_training(make_game([D_TURN, G_TURN], G=frozen), images=4_000)
    average, weight = frozen.ema_net.weight, frozen.net.weight

    def shift_after(images: int) -> float:
        """How much of a change of the average remains after these images."""
        end = training.clock.images + images
        with torch.no_grad():
            average.copy_(weight + 1)
        list(training.ticks(images, should_stop=lambda clock: clock.images >= end))
        return float((average - weight).mean())

    assert shift_after(40) < 0.001, "the initial weights are part of the average"
    while training.clock.images < 400:
        shift_after(4)
    assert shift_after(40) == pytest.approx(0.5, abs=0.01)


def late_average(images: int, state: Any = None, weights: Any = None) -> tuple[Training, list[float]]:
    """A training whose G begins after half of 4,000 images, with rounds of 12, and the average of its bias after each round.

    Its bias is -100 until the end of the first round in which it moves, then 0.1, and rises.
    """
    generator = Player(nn.Linear(2, 2), SGD(0.1), ema=400)
    late = Turn("G", play, [Term("constant", lambda r: -r.nets.G.bias.sum())], during=(0.5, 2))  # type: ignore[attr-defined]
    training = make_training(make_game([Turn("D", play, [Term("gap", gap)], repeat=3), late], G=generator), images)
    training.clock = replace(training.clock, planned=4_000)
    assert generator.ema_net is not None
    if state is not None:
        training.game.nets.G.load_state_dict(weights[0])
        generator.ema_net.load_state_dict(weights[1])
        training.restore(state)
    else:
        nn.init.constant_(generator.net.bias, -100.0)
    values: list[float] = []
    for tick in training.ticks(12):
        values.append(generator.ema_net.bias[0].item())
        if tick.clock.images == 2016:  # after the first round in which it moved
            nn.init.constant_(generator.net.bias, 0.1)
    return training, values


def test_the_average_of_a_player_that_begins_late_soon_forgets_its_initial_weights() -> None:
    """Before, it is a copy; then the share is that of images since the round in which it moved first. Also when resumed."""
    training, values = late_average(4_000)
    assert training.engine.first_moves == {"D": 0, "G": 2004}
    assert set(values[:167]) == {-100.0}
    assert values[-1] > 0, "none of the initial weights is left"
    first, before = late_average(2_100)
    net, average = first.game.players["G"].net, first.game.players["G"].ema_net
    assert average is not None
    _, after = late_average(4_000, first.state(), (net.state_dict(), average.state_dict()))
    assert before + after == values
    old = {name: value for name, value in first.state().items() if name != "first_moves"}
    resumed, slower = late_average(4_000, old, (net.state_dict(), average.state_dict()))
    assert resumed.engine.first_moves == {"D": 0, "G": 0}, "as earlier versions went on"
    assert slower[-1] < values[-1]


def test_a_tick_has_the_mean_of_each_loss_since_the_last_one() -> None:
    shown = Term("shown", lambda r: r.nets.D.bias.sum() * 0 + r.clock.images)  # type: ignore[attr-defined]
    training = make_training(make_game([Turn("D", play, [shown], repeat=2)]), 48)
    assert [tick.losses["D/shown"] for tick in training.ticks(16)] == [(0 + 4 + 8 + 12) / 4, (16 + 28) / 2, (32 + 44) / 2]


def test_the_moving_average_hears_of_all_images_of_a_round() -> None:
    """Those of each repeat of the first turn, and of no other."""
    training = make_training(make_game([Turn("D", play, [Term("gap", gap)], repeat=3), replace(G_TURN, repeat=2)]), 24)
    rounds: list[tuple[int, int]] = []
    training.engine.update_ema = lambda images, shown: rounds.append((images, shown))  # type: ignore[method-assign]
    list(training.ticks(24))
    assert rounds == [(12, 12), (12, 24)]


def test_buffers_are_averaged_like_weights_and_counts_are_copied() -> None:
    normed = Player(nn.BatchNorm1d(2), SGD(0.0), ema=40)
    training = make_training(make_game([D_TURN, G_TURN], G=normed), 4)
    net, average = normed.net, normed.ema_net
    assert isinstance(net, nn.BatchNorm1d)
    assert isinstance(average, nn.BatchNorm1d)
    for module, value in ((net, 3.0), (average, 1.0)):
        for tensor in (module.weight.data, module.running_mean, module.running_var, module.num_batches_tracked):
            assert tensor is not None
            tensor.fill_(value)
    training.engine.first_moves = {"G": 0}
    training.engine.update_ema(20, 10_000)
    remaining = 0.5 ** (20 / 40)
    for tensor in (average.weight, average.running_mean, average.running_var):
        assert tensor is not None
        assert tensor.tolist() == pytest.approx([3 - 2 * remaining] * 2)
    assert average.num_batches_tracked == 3

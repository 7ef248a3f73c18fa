"""The contract that every recipe fulfils. A new recipe needs no other test to be trusted.

The data is 16x16 images (and points where the recipe supports them) generated on the spot; the networks are as narrow as possible.
"""

from __future__ import annotations

import copy
import re

import pytest
import torch

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.errors import LeafwingError
from leafwing.game import Clock, DataSpec
from leafwing.loop import Training
from leafwing.model import Model
from tiny import ATTRIBUTES, PICTURES, POINTS, SMALL, THREADS, batches, build, same, start, supports, tensors

pytestmark = pytest.mark.machine
CASES = [(name, spec) for name in recipes.names() for spec in (PICTURES, POINTS, ATTRIBUTES) if supports(name, spec)]
IDS = [f"{name}-{'points' if spec.points else 'attributes' if spec.attributes else 'pictures'}" for name, spec in CASES]
every_case = pytest.mark.parametrize(("name", "spec"), CASES, ids=IDS)
every_recipe = pytest.mark.parametrize("name", recipes.names())


def test_every_recipe_serves_pictures() -> None:
    assert {name for name, spec in CASES if spec is PICTURES} == set(recipes.names())


@every_case
def test_exactly_the_movers_move_and_no_other_gets_a_gradient(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 10**6)
    game, engine = training.game, training.engine
    batch = engine.prepare(training.batches(0, training.batch))
    for turn in game.turns:
        for player in game.players.values():
            player.net.zero_grad(set_to_none=True)
        before = {n: [p.detach().clone() for p in player.net.parameters()] for n, player in game.players.items()}
        losses = engine.take([turn], batch, Clock(0, 10**6, 0))
        assert losses.isfinite().all()
        assert len(losses) == len(turn.losses)
        for player_name, player in game.players.items():
            now = list(player.net.parameters())
            moved = [not torch.equal(a, b) for a, b in zip(before[player_name], now, strict=True)]
            if player_name in turn.movers:
                assert any(moved), f"{player_name} should move"
                assert all(p.grad is not None for p in now), f"part of {player_name} gets no gradient"
            else:
                assert not any(moved), f"{player_name} moved out of turn"
                assert all(p.grad is None for p in now), f"{player_name} got a gradient out of turn"


@every_case
def test_no_graph_is_built_through_players_that_do_not_move(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 10**6)
    game = training.game
    batch = training.engine.prepare(training.batches(0, training.batch))
    calls: list[tuple[str, bool]] = []
    for name, player in game.players.items():
        weights = list(player.net.parameters())
        player.net.register_forward_hook(
            lambda module, args, out, name=name, weights=weights: calls.append((name, any(p.requires_grad for p in weights)))
        )
    all_called: set[str] = set()
    for turn in game.turns:
        calls.clear()
        training.engine.take([turn], batch, Clock(0, 10**6, 0))
        called = {player for player, _ in calls}
        all_called |= called
        assert called >= {*turn.movers}
        assert any(player.startswith("G") for player in called), "no generator makes fakes"
        assert all(live == (player in turn.movers) for player, live in calls), f"{turn.moves}: {calls}"
    assert all_called == {*game.players}


@every_case
def test_losses_stay_finite_and_are_named_by_player(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 60)
    names: set[str] = set()
    for tick in training.ticks(12):
        names |= set(tick.losses)
    assert training.clock.images >= 60
    expected = {f"{'+'.join(turn.movers)}/{term.name}" for turn in training.game.turns for term in turn.losses}
    assert names == expected


@every_case
def test_stopped_after_any_turn_and_resumed_the_weights_are_bit_identical(name: str, spec: DataSpec) -> None:
    uninterrupted = start(name, spec, 36)
    list(uninterrupted.ticks(10**9))
    for stop_after in (1, 2, 5):
        first = start(name, spec, 36)
        turns = iter(range(stop_after - 1))
        list(first.ticks(10**9, should_stop=lambda clock, turns=turns: next(turns, None) is None))
        saved, state = tensors(first.game), copy.deepcopy(first.state())
        torch.manual_seed(12345)  # a new process has another random state
        second = start(name, spec, 36)
        for module_name, module in second.game.modules().items():
            weights = {k.split(":", 1)[1]: v for k, v in saved.items() if k.split(":", 1)[0] == module_name}
            module.load_state_dict(weights)
        second.restore(state)
        list(second.ticks(10**9))
        assert second.clock == uninterrupted.clock
        assert same(tensors(second.game), tensors(uninterrupted.game)), f"stopped after turn {stop_after}"


@every_case
def test_the_same_seed_gives_the_same_training_and_another_does_not(name: str, spec: DataSpec) -> None:
    runs = []
    for _ in range(2):
        training = start(name, spec, 18)
        list(training.ticks(10**9))
        runs.append(tensors(training.game))
    assert same(*runs)
    other = start(name, spec, 18)
    torch.manual_seed(99)
    list(other.ticks(10**9))
    assert not same(runs[0], tensors(other.game))


@every_case
def test_samples_have_the_shape_and_range_of_the_data(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 12)
    list(training.ticks(10**9))
    model = Model(training.game, spec)
    samples = model.sample(5, seed=3)
    assert samples.shape == (5, *spec.shape)
    assert samples.dtype == torch.float32
    assert samples.isfinite().all()
    if not spec.points:
        assert samples.min() >= -1
        assert samples.max() <= 1
    assert samples.std(0).max() > 0, "all samples are the same"
    assert torch.equal(model.sample(5, seed=3), samples)
    assert (model.sample(1, seed=3)[0] - samples[0]).abs().max() < 1 / 127.5
    assert not torch.equal(model.sample(5, seed=4), samples)


@every_case
def test_real_and_fake_pass_the_critic_as_separate_batches(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 10**6)
    batch = training.engine.prepare(training.batches(0, training.batch))
    sizes: list[int] = []
    training.game.players["D"].net.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    for turn in training.game.turns:
        training.engine.take([turn], batch, Clock(0, 10**6, 0))
    assert set(sizes) == {training.batch}, "a batch of another size reached D: real and fake were mixed"


@every_recipe
def test_bf16_trains_too(name: str) -> None:
    training = start(name, PICTURES, 12, precision="bf16")
    list(training.ticks(10**9))
    for tensor in tensors(training.game).values():
        assert tensor.dtype in (torch.float32, torch.int64)
        assert tensor.isfinite().all()


@every_recipe
def test_averaged_copies_are_what_users_see(name: str) -> None:
    card = recipes.describe(name)
    options = card.resolve({key: v for key, v in {**SMALL, "ema": 10}.items() if key in {o.name for o in card.options}})
    game = recipes.build(name, recipes.find(name), PICTURES, options)
    engine = Engine(game, choose("cpu", "fp32", THREADS))
    list(Training(game, batches(PICTURES), engine, images=24, batch=game.batch).ticks(10**9))
    average = game.players["G"].ema_net
    assert average is not None
    assert game.sampling_nets.G is average
    live = list(game.players["G"].net.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(average.parameters(), live, strict=True))
    assert not any(p.requires_grad for p in average.parameters())


@every_recipe
def test_the_text_cites_its_paper_and_explains_every_option(name: str) -> None:
    card = recipes.describe(name)
    assert card.year >= 2014
    assert re.search(r"arXiv:\d{4}\.\d{4,5}$", card.paper)
    assert card.line.endswith(".")
    assert len(card.line) <= 130
    for option in card.options:
        assert option.help, f"{name}: option {option.name} is not explained"


@every_recipe
def test_one_hyper_parameter_has_one_name(name: str) -> None:
    names = {option.name for option in recipes.describe(name).options}
    assert names >= {"latent", "width", "lr_g", "lr_d", "n_critic", "ema", "batch"}
    unknown = names - recipes.BOUNDS.keys()
    kinds = {option.name: option.type for option in recipes.describe(name).options}
    assert all(kinds[n] in (str, bool) or n in ("a", "b", "c") for n in unknown), f"no bounds for {unknown}"


@every_recipe
def test_labels_are_required_only_where_they_are_used(name: str) -> None:
    game = build(name, PICTURES)
    unlabelled = DataSpec.images(16, 16)
    if any("label" in o.conditions for o in game.abilities.outputs) or game.abilities.classify:
        with pytest.raises(LeafwingError, match="needs labels"):
            build(name, unlabelled)
    else:
        assert all(o.conditions == () for o in build(name, unlabelled).abilities.outputs)


@every_case
def test_a_critic_scores_each_sample_and_is_differentiable(name: str, spec: DataSpec) -> None:
    model = Model(build(name, spec), spec)
    if not model.can("judge"):
        assert name in ("adagan", "pacgan"), "a critic of single samples is an ability: declare it as `judge`"
        return
    samples = model.sample(5, seed=0)
    scores = model.judge(samples)
    assert scores.shape == (5,)
    assert scores.isfinite().all()
    images = samples.clone().requires_grad_()
    judge = model.game.abilities.judge
    assert judge is not None
    (slope,) = torch.autograd.grad(judge(model.game.sampling_nets, images, model.conditions(5)).sum(), images)
    assert slope.isfinite().all()


@every_case
def test_render_is_a_differentiable_generate(name: str, spec: DataSpec) -> None:
    model = Model(build(name, spec), spec)
    latents = model.latents(3, seed=0).requires_grad_()
    rendered = model.render(latents)
    clamped = rendered.detach() if spec.points else rendered.detach().clamp(-1, 1)
    assert torch.allclose(clamped, model.generate(latents.detach()), atol=1e-5)
    if name == "bgan":
        return  # its pixels have two values
    (slope,) = torch.autograd.grad(rendered.square().sum(), latents)
    assert slope.isfinite().all()
    assert name == "r3gan" or slope.abs().sum() > 0  # r3gan starts with layers of zeros

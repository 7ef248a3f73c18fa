"""The contract that every recipe fulfils, by what its game can do. A new recipe needs no other test to be trusted.

The data is generated on the spot, from the fields that a recipe needs or can use (`tiny.cases`); the networks are as narrow as
possible.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis.strategies import integers, lists, sampled_from
from torch import Tensor, nn

from leafwing import recipes
from leafwing.commands.outputs import check_abilities, check_outputs
from leafwing.commands.plan import build_augmentation
from leafwing.commands.rules import check_game
from leafwing.commands.transfer import freeze_layers
from leafwing.engine import Engine, choose
from leafwing.engine.footprint import check_parts
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec, Game, Output, Round, eval_mode
from leafwing.loop import Training
from leafwing.model import Model
from tiny import THREADS, batches, build, cases, fields_used, first_data, load, needed, phases, same, start, tensors

pytestmark = pytest.mark.machine
every_case = cases()
every_recipe = pytest.mark.parametrize("name", recipes.names())


@every_recipe
def test_what_a_recipe_needs_it_uses_and_refuses_to_be_without(name: str) -> None:
    """Data with the needed fields and no others: labels, for example, are not required where they are not used."""
    spec = needed(name)
    game = build(name, spec)
    assert {*spec.fields} <= fields_used(game, spec)
    for field in spec.fields.keys() - {"image"}:
        without = DataSpec({other: kind for other, kind in spec.fields.items() if other != field})
        with pytest.raises(LeafwingError, match="needs"):
            build(name, without)


# --- turns -------------------------------------------------------------------------------------------------------------------


@contextmanager
def calls_of(game: Game, parts: bool = True) -> Iterator[list[tuple[str, bool, int]]]:
    """Records the calls of networks, and of their parts: the player, whether its weights require gradients, and the batch size."""
    calls: list[tuple[str, bool, int]] = []
    hooks = []

    def record(name: str, player: nn.Module, module: nn.Module, args: tuple[object, ...]) -> None:
        n = next((len(value) for value in args if isinstance(value, Tensor) and value.dim()), 0)
        calls.append((name, any(weight.requires_grad for weight in player.parameters()), n))

    for name, player in game.players.items():
        for module in player.net.modules() if parts else [player.net]:
            hooks.append(module.register_forward_pre_hook(partial(record, name, player.net)))
    yield calls
    for hook in hooks:
        hook.remove()


@every_case
def test_exactly_the_movers_move_and_no_other_gets_a_gradient(name: str, spec: DataSpec) -> None:
    """In every phase of training. A growing network may not use all of its weights yet; in the end it has used them all."""
    training = start(name, spec, 10**6)
    game, engine = training.game, training.engine
    batch = engine.prepare(training.batches(0, training.batch))
    trained = {
        id(p) for player in game.players.values() if player.optimiser for p in player.net.parameters() if p.requires_grad
    }
    reached: set[int] = set()
    for clock in phases(game):
        for turn in game.turns:
            if not turn.times(clock):
                continue
            for player in game.players.values():
                player.net.zero_grad(set_to_none=True)
            before = {n: [p.detach().clone() for p in player.net.parameters()] for n, player in game.players.items()}
            losses = engine.take([turn], batch, clock)
            assert losses.isfinite().all()
            assert len(losses) == len(turn.losses)
            for player_name, player in game.players.items():
                weights = list(player.net.parameters())
                moved = [not torch.equal(a, b) for a, b in zip(before[player_name], weights, strict=True)]
                if player_name in turn.movers:
                    assert any(moved), f"{player_name} should move"
                    reached |= {id(p) for p in weights if p.grad is not None}
                else:
                    assert not any(moved), f"{player_name} moved out of turn"
                    assert all(p.grad is None for p in weights), f"{player_name} got a gradient out of turn"
    assert reached == trained, "part of a player never gets a gradient"


@every_case
def test_no_graph_is_built_through_players_that_do_not_move(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 10**6)
    game, called = training.game, set()
    batch = training.engine.prepare(training.batches(0, training.batch))
    for clock in phases(game):
        for turn in game.turns:
            if turn.times(clock):
                with calls_of(game) as calls:
                    training.engine.take([turn], batch, clock)
                called |= {player for player, _, _ in calls}
                wrong = [player for player, live, _ in calls if live != (player in turn.movers)]
                assert not wrong, f"{turn.moves}: {wrong}"
    assert called == {*game.players}, "a player takes part in no turn"


@every_case
def test_real_and_fake_pass_the_critic_as_separate_batches(name: str, spec: DataSpec) -> None:
    """So that batch statistics do not mix them: what scores samples never gets a batch of another size."""
    training = start(name, spec, 10**6)
    game, critics, sizes = training.game, set(), set()
    batch = training.engine.prepare(training.batches(0, training.batch))
    for clock in phases(game):
        for turn in game.turns:
            if turn.times(clock):
                r = turn.play(game.nets, batch, clock)
                if r.real is not None and r.judge is not None:
                    with calls_of(game) as calls:
                        _ = r.real_output
                    critics |= {player for player, _, _ in calls}
                with calls_of(game, parts=False) as calls:
                    training.engine.take([turn], batch, clock)
                sizes |= {(player, size) for player, _, size in calls}
    assert {size for player, size in sizes if player in critics} <= {training.batch}


@every_case
def test_losses_stay_finite_and_are_named_by_player(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 60)
    names: set[str] = set()
    for tick in training.ticks(12):
        names |= set(tick.losses)
    assert training.clock.images >= 60
    expected = {f"{'+'.join(turn.movers)}/{term.name}" for turn in training.game.turns for term in turn.losses}
    assert names == expected


def stopped(name: str, spec: DataSpec, images: int, sessions: list[int], every: int = 10**9) -> Training:
    """A training that is stopped after so many units of turns in each session, and goes on in what is like a new process.

    Args:
        name, spec, images: see `tiny.start`.
        sessions: units of turns played in each session but the last, which plays the rest.
        every: images between ticks.
    """
    training = start(name, spec, images)
    for units in sessions:
        played = iter(range(units - 1))
        list(training.ticks(every, should_stop=lambda clock: next(played, None) is None))  # noqa: B023
        saved, file = tensors(training.game), io.BytesIO()
        torch.save(training.state(), file)
        file.seek(0)
        torch.manual_seed(12345)  # a new process has another random state
        training = start(name, spec, images)
        load(training.game, saved)
        training.restore(torch.load(file, weights_only=True))
    list(training.ticks(every))
    return training


@every_case
def test_stopped_after_any_turn_and_resumed_the_weights_are_bit_identical(name: str, spec: DataSpec) -> None:
    uninterrupted = stopped(name, spec, 36, [])
    for stop_after in (1, 2, 5):
        resumed = stopped(name, spec, 36, [stop_after])
        assert resumed.clock == uninterrupted.clock
        assert same(tensors(resumed.game), tensors(uninterrupted.game)), f"stopped after turn {stop_after}"


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    name=sampled_from(recipes.names()),
    images=integers(1, 60),
    sessions=lists(integers(1, 20), min_size=1, max_size=3),
    every=integers(1, 50),
)
def test_stopped_as_often_as_it_may_be_and_in_any_round_a_training_ends_with_the_same_bits(
    name: str, images: int, sessions: list[int], every: int
) -> None:
    """Whatever its length, and whenever ticks come; a session may also be one that follows the end."""
    spec = first_data(name)
    uninterrupted, resumed = stopped(name, spec, images, []), stopped(name, spec, images, sessions, every)
    assert resumed.clock == uninterrupted.clock
    assert same(tensors(resumed.game), tensors(uninterrupted.game))


@every_case
def test_the_same_seed_gives_the_same_training_and_another_does_not(name: str, spec: DataSpec) -> None:
    """Unless training draws no random numbers, as that of a deterministic translator. Histories are short, to be full soon."""
    runs, draws = [], False
    for _ in range(2):
        training, random = start(name, spec, 36, pool=2), torch.get_rng_state()
        list(training.ticks(10**9))
        runs.append(tensors(training.game))
        draws = not torch.equal(torch.get_rng_state(), random)
    assert same(*runs)
    assert draws or not any(output.prior for output in training.game.abilities.outputs)
    other = start(name, spec, 36, pool=2)
    torch.manual_seed(99)
    list(other.ticks(10**9))
    assert same(runs[0], tensors(other.game)) != draws


@cases(only_first=True)
def test_micro_batches_may_leave_a_rest(name: str, spec: DataSpec) -> None:
    """Of one image, or of fewer than a history holds, which is full soon; with augmentation where there are images."""
    game = build(name, spec, batch=5, pool=4, discrete=True, draws=3)
    augmentation = None if spec.points else build_augmentation("diff", spec, 1000)
    engine = Engine(game, replace(choose("cpu", "fp32", THREADS), micro_batch=4), augmentation=augmentation)
    training = Training(game, batches(spec, game), engine, images=30, batch=5)
    assert all(isfinite(loss) for tick in training.ticks(5) for loss in tick.losses.values())


@cases(only_first=True)
def test_single_images_are_trained_on_or_refused_before_training(name: str, spec: DataSpec) -> None:
    """Batches of 3 in parts of 2 leave a rest that no other part can lend an image. What the check lets pass can be trained."""
    for batch, micro in ((1, 0), (3, 2), (3, 1)):
        game = build(name, spec, batch=batch)
        engine = Engine(game, replace(choose("cpu", "fp32", THREADS), micro_batch=micro))
        before, random = tensors(game), torch.get_rng_state()
        try:
            check_parts(engine, batches(spec, game), [batch])
            refused = False
        except LeafwingError as error:
            refused = "at least 2 images at a time" in str(error)
        assert same(tensors(game), before)
        assert torch.equal(torch.get_rng_state(), random)
        assert refused == (name in {"infogan", "improved_gan_semi", "srgan"})
        training = Training(game, batches(spec, game), engine, images=2 * batch, batch=batch)
        with pytest.raises(LeafwingError, match="at least 2 images at a time") if refused else nullcontext():
            list(training.ticks(10**9))


@cases(only_first=True)
def test_frozen_layers_stay_as_they_are(name: str, spec: DataSpec) -> None:
    game = build(name, spec)
    for player in game.players.values():
        freeze_layers(player.net, 1 if player.optimiser and len(freeze_layers(player.net, 0)) > 1 else 0)
    frozen = [
        p for player in game.players.values() if player.optimiser for p in player.net.parameters() if not p.requires_grad
    ]
    before = [weight.clone().fill_(3) for weight in frozen]  # as large as those of a run that was not clipped may be
    torch._foreach_copy_(frozen, before)
    training = Training(game, batches(spec, game), Engine(game, choose("cpu", "fp32", THREADS)), images=48, batch=game.batch)
    list(training.ticks(10**9))
    assert all(torch.equal(weight, value) for weight, value in zip(frozen, before, strict=True))


@cases(only_first=True)
def test_bf16_trains_too(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 12, precision="bf16")
    list(training.ticks(10**9))
    for tensor in tensors(training.game).values():
        assert tensor.dtype == torch.float32 or not tensor.is_floating_point()
        assert tensor.isfinite().all()


@cases(only_first=True)
def test_averaged_copies_are_what_users_see(name: str, spec: DataSpec) -> None:
    training = start(name, spec, 24, ema=10)
    game = training.game
    list(training.ticks(10**9))
    averaged = {player_name: player for player_name, player in game.players.items() if player.ema_net}
    if any(option.name == "ema" for option in recipes.describe(name).options):
        assert averaged
    for player_name, player in averaged.items():
        average = player.ema_net
        assert average is not None
        assert getattr(game.sampling_nets, player_name) is average
        live = list(player.net.parameters())
        assert any(not torch.equal(a, b) for a, b in zip(average.parameters(), live, strict=True))
        assert not any(p.requires_grad for p in average.parameters())


# --- outputs and abilities ----------------------------------------------------------------------------------------------------


def trained(name: str, spec: DataSpec) -> Model:
    """A model after a few turns; the networks of some recipes start as zeros."""
    training = start(name, spec, 12)
    list(training.ticks(10**9))
    return Model(training.game, spec, clock=training.clock)


def conditions_of(spec: DataSpec, output: Output, n: int) -> dict[str, Any]:
    """The conditions of n samples that users have to specify: not labels and attributes."""
    batch = batches(spec)(0, n)
    return {name: batch[name] for name in output.conditions if name not in ("label", "attributes")}


def generate(model: Model, output: Output, n: int, seed: int, **conditions: Any) -> Tensor:
    """Samples of an output: from latents, or translated."""
    if output.prior is not None:
        return model.sample(n, seed, output=output.field, **conditions)
    _, source = model.translation(output.field)
    images = conditions.pop(source)
    return model.translate(images, output=output.field, seed=seed, **conditions)


@every_case
def test_outputs_have_the_shape_and_range_of_their_field_and_depend_only_on_the_seed(name: str, spec: DataSpec) -> None:
    model = trained(name, spec)
    assert model.game.abilities.outputs
    check_game(build(name, spec), name)
    check_outputs(model, batches(spec)(0, 2))
    check_abilities(model, batches(spec)(0, 2))
    for output in model.game.abilities.outputs:
        kind, conditions = model.kind(output), conditions_of(spec, output, 5)
        samples = generate(model, output, 5, 3, **conditions)
        assert samples.shape == (5, *kind.shape)
        assert samples.dtype == torch.float32
        assert samples.isfinite().all()
        assert torch.equal(kind.clamp(samples), samples)
        assert samples.std(0).max() > 0, "all samples are the same"
        assert torch.equal(generate(model, output, 5, 3, **conditions), samples)
        one = generate(model, output, 1, 3, **{field: value[:1] for field, value in conditions.items()})
        assert (one[0] - samples[0]).abs().max() < 1 / 127.5
        if output.prior is not None:
            assert not torch.equal(generate(model, output, 5, 4, **conditions), samples)


@cases(lambda game: any(output.conditions for output in game.abilities.outputs))
def test_an_output_follows_each_of_its_conditions(name: str, spec: DataSpec) -> None:
    model = trained(name, spec)
    for output in model.game.abilities.outputs:
        conditions = {field: batches(spec)(0, 5)[field] for field in output.conditions}
        others = batches(spec)(1, 5)
        samples = generate(model, output, 5, 3, **conditions)
        for field in output.conditions:
            changed = generate(model, output, 5, 3, **{**conditions, field: others[field]})
            assert not torch.equal(changed, samples), f"{output.field} does not depend on {field}"


@cases(lambda game: any(output.prior for output in game.abilities.outputs))
def test_render_is_a_differentiable_generate(name: str, spec: DataSpec) -> None:
    model = trained(name, spec)
    for output in model.game.abilities.outputs:
        if output.prior is None:
            continue
        conditions = conditions_of(spec, output, 3)
        latents = model.latents(3, seed=0, output=output.field).requires_grad_()
        rendered = model.render(latents, output=output.field, **conditions)
        generated = next(model.stream(latents.detach(), output=output.field, same_noise=True, **conditions))
        assert torch.allclose(model.kind(output).clamp(rendered.detach()), generated, atol=1e-5)
        if not rendered.requires_grad:
            assert len(rendered.unique()) < 10, "only samples of a few values may have no gradient"
            continue
        (slope,) = torch.autograd.grad(rendered.square().sum(), latents)
        assert slope.isfinite().all()
        assert slope.abs().sum() > 0


@cases(lambda game: game.abilities.judge is not None)
def test_a_critic_scores_each_sample_and_is_differentiable(name: str, spec: DataSpec) -> None:
    model = Model(build(name, spec), spec)
    samples, conditions = batches(spec)(2, 5)[model.output.field], conditions_of(spec, model.output, 5)
    scores = model.judge(samples, **conditions)
    assert scores.shape == (5,)
    assert scores.isfinite().all()
    alone = model.judge(samples[:1], **{field: values[:1] for field, values in conditions.items()})
    assert torch.allclose(alone, scores[:1], atol=1e-5), "a score depends on the other samples"
    images, judge = samples.clone().requires_grad_(), model.game.abilities.judge
    assert judge is not None
    inputs = model.conditions(5, **conditions)
    (slope,) = torch.autograd.grad(judge(model.game.sampling_nets, images, inputs).sum(), images)
    assert slope.isfinite().all()


@cases(lambda game: game.abilities.encode is not None)
def test_an_encoder_gives_latents(name: str, spec: DataSpec) -> None:
    model = Model(build(name, spec), spec)
    codes = model.encode(batches(spec)(2, 5)[model.output.field])
    assert codes.shape == model.latents(5).shape
    assert codes.isfinite().all()


@cases(lambda game: game.abilities.judge is not None)
def test_a_critic_scores_as_in_training(name: str, spec: DataSpec) -> None:
    """Without what is random there: some round scores real samples as the model does, up to the mean over patches."""
    game = build(name, spec)
    judge, batch, differences = game.abilities.judge, batches(spec, game)(0, 6), []
    assert judge is not None
    with eval_mode(game.nets), torch.no_grad(), quiet_normals():
        for clock in phases(game):
            for turn in game.turns:
                r = turn.play(game.nets, batch, clock) if turn.times(clock) else Round(game.nets)
                if r.real is not None and r.judge is not None and r.real.shape == batch.image.shape:
                    scored = r.real_score.flatten(1).mean(1) if r.real_score.ndim > 1 else r.real_score
                    differences.append((judge(game.nets, batch.image, batch) - scored).abs().max().item())
    assert min(differences) < 1e-5


@contextmanager
def quiet_normals() -> Iterator[None]:
    """Normal numbers of a given tensor's shape are 0: encoders give their means, and noise is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", torch.zeros_like)
        yield


@cases(lambda game: game.abilities.classify is not None)
def test_a_classifier_gives_probabilities(name: str, spec: DataSpec) -> None:
    model = Model(build(name, spec), spec)
    probabilities = model.classify(batches(spec)(2, 5)[model.output.field])
    assert probabilities.shape == (5, len(spec.labels))
    assert torch.allclose(probabilities.sum(1), torch.ones(5))


# --- the text -----------------------------------------------------------------------------------------------------------------


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
    """What most games have is called the same everywhere."""
    names = {option.name for option in recipes.describe(name).options}
    game = build(name, needed(name))
    assert "batch" in names
    assert "latent" in names or not any(output.prior for output in game.abilities.outputs)
    assert {f"lr_{player.lower()}" for player in game.players.keys() & {"G", "D"}} <= names

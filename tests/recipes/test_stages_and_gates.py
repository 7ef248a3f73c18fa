"""GoGAN's stages, the gates of VAE-GAN and BGAN's discrete form, which the contract does not cover, as it trains defaults."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

import leafwing
from leafwing import recipes
from leafwing.augment_option import parse
from leafwing.engine import Engine, choose
from leafwing.engine.augmentation import Augmentation
from leafwing.game import Batch, Clock, DataSpec, Game, Nets, Round
from leafwing.loop import Training
from leafwing.model import Model
from leafwing.progress import Reporter
from tiny import PICTURES, POINTS, batches, same, tensors

pytestmark = pytest.mark.machine


def build(name: str, spec: DataSpec = PICTURES, **options: Any) -> Game:
    small = {"latent": 4, "width": 4, "max_width": 8, "batch": 6}
    torch.manual_seed(0)
    return recipes.build(name, recipes.find(name), spec, recipes.describe(name).resolve(small | options))


def training(game: Game, spec: DataSpec, images: int) -> Training:
    torch.manual_seed(1)
    return Training(game, batches(spec), Engine(game, choose("cpu", "fp32", 1)), images=images, batch=game.batch)


def weights(net: torch.nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in net.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("name", "options"), [("adagan", {"components": 3}), ("gogan", {"stages": 3, "n_critic": 1})])
@pytest.mark.parametrize("stop_after", [7, 12, 14, 16])
def test_stopped_in_any_phase_and_resumed_the_weights_are_bit_identical(
    name: str, options: dict[str, Any], stop_after: int
) -> None:
    """The contract test interrupts training only in its first phase."""
    uninterrupted = training(build(name, **options), PICTURES, 54)
    list(uninterrupted.ticks(10**9))
    first = training(build(name, **options), PICTURES, 54)
    turns = iter(range(stop_after - 1))
    list(first.ticks(10**9, should_stop=lambda clock: next(turns, None) is None))
    assert first.clock.images < 54
    saved, state = tensors(first.game), copy.deepcopy(first.state())
    second = training(build(name, **options), PICTURES, 54)
    for module_name, module in second.game.modules().items():
        module.load_state_dict({k.split(":", 1)[1]: v for k, v in saved.items() if k.split(":", 1)[0] == module_name})
    second.restore(state)
    list(second.ticks(10**9))
    assert same(tensors(second.game), tensors(uninterrupted.game))


def test_an_extended_run_does_not_return_to_an_earlier_stage(tmp_path: Path) -> None:
    """Also if it is extended twice, and when it is loaded."""
    small: dict[str, Any] = {
        "latent": 2,
        "width": 4,
        "batch": 8,
        "n_critic": 1,
        "stages": 2,
        "threads": 1,
        "precision": "fp32",
    }
    out, stage = tmp_path / "run", re.compile(r"D/(adversarial|ranking)")
    run = leafwing.train("ring", "gogan", images=64, out=out, log_every=8, health="off", **small)
    stages = ["D/ranking_2" in record["losses"] for record in run.records() if any(map(stage.match, record["losses"]))]
    assert stages == [False] * 4 + [True] * 4
    assert run.history.planned == 0
    run = leafwing.resume(out, images="+64")
    assert run.history.planned == 64
    assert (run.clock(64).planned_progress, run.clock(64).progress) == (1, 0.5)
    run = leafwing.resume(out, images="+32")
    assert (run.history.planned, run.settings.schedule.images) == (64, 160)
    assert all("D/ranking_2" in record["losses"] for record in run.records()[4:])
    assert [record["images"] for record in run.records()] == list(range(8, 161, 8))
    assert leafwing.Model.load(run).clock.planned_progress == 1
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["history"]["planned"] == 64


def test_a_time_limit_that_cuts_off_a_stage_is_named(tmp_path: Path) -> None:
    lines: list[str] = []

    class Listening(Reporter):
        def say(self, text: str) -> None:
            lines.append(text)

        warn = say

    options: dict[str, Any] = {"components": 2, "width": 4, "threads": 1, "health": "off", "progress": Listening()}
    run = leafwing.train("ring", "adagan", time=0.05, out=tmp_path / "run", **options)
    shown = run.records()[-1]["images"]
    assert any(
        "the stages of adagan follow --images, not --time: other networks begin to be trained after 100k" in line
        for line in lines
    )
    (warning,) = (
        line for line in lines if "the time ended before the last stage of this training, which begins at 100,000" in line
    )
    assert f"--images {shown}`" in warning
    lines.clear()
    leafwing.train("ring", "adagan", images=200, batch=100, out=tmp_path / "whole", **options)
    assert not any("stage" in line for line in lines)


STREAMS = '''"""A game that asks for the labels of other images."""

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player, Round, Term, Turn
from leafwing.parts import priors
from leafwing.parts.plays import generating


def mismatched(data: DataSpec, *, batch: int = 8) -> Game:
    """Logs how many labels are those of the image.

    Args:
        batch: batch size.
    """
    z = priors.Normal(2)

    def play(nets, batch, clock):
        share = (batch.label == batch.wrong_label).float().mean()
        return Round(nets, batch.image, nets.G(z(batch.n)), nets.D, share=share)

    turns = [
        Turn("D", play, [Term("score", lambda r: r.fake_score.mean() - r.real_score.mean()), Term("share", lambda r: r.share)]),
        Turn("G", play, [Term("score", lambda r: -r.fake_score.mean())]),
    ]
    players = {
        "G": Player(networks.generator(data, 2, 4, max_width=8), Adam(1e-3)),
        "D": Player(networks.critic(data, 4, norm="none", max_width=8), Adam(1e-3)),
    }
    return Game(players, turns, generating(z), batch, streams=("wrong",))
'''


def test_a_game_gets_the_further_streams_that_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "mismatched.py").write_text(STREAMS, encoding="utf-8")
    recipe = str(tmp_path / "mismatched.py")
    more: dict[str, Any] = {"size": 16, "threads": 1, "precision": "fp32", "health": "off"}
    whole = leafwing.train("digits", recipe, images=256, log_every=8, save_every=128, out=tmp_path / "whole", **more)
    shares = [record["losses"]["D/share"] for record in whole.records()]
    assert 0.02 < sum(shares) / len(shares) < 0.3, "one in ten by chance"
    leafwing.train("digits", recipe, images=128, log_every=8, save_every=128, out=tmp_path / "part", **more)
    resumed = leafwing.resume(tmp_path / "part", images=256, trust=True)
    assert [record["losses"] for record in resumed.records()] == [record["losses"] for record in whole.records()]
    assert leafwing.Model.load(resumed, trust=True).sample(2).shape == (2, 1, 16, 16)


# --- GoGAN -------------------------------------------------------------------------------------------------------------------


def test_a_stage_is_compared_with_the_end_of_the_previous_one() -> None:
    game = build("gogan", POINTS, stages=3, n_critic=1, batch=6)
    rankings = [game.modules()[f"term.ranking_{stage}"] for stage in (2, 3)]
    ends: list[dict[str, list[Tensor]]] = []
    for tick in training(game, POINTS, 180).ticks(60):
        ends.append({name: weights(getattr(game.nets, name)) for name in ("G", "D")})
        for number, pair in enumerate(rankings, 1):
            if tick.clock.images >= 60 * number:
                assert all(equal(weights(getattr(pair, name)), ends[number - 1][name]) for name in ("G", "D"))
        assert ("D/ranking_2" in tick.losses) == (tick.clock.images == 120)
        assert ("D/ranking_3" in tick.losses) == (tick.clock.images == 180)
    assert not equal(ends[0]["G"], ends[1]["G"])


def test_a_single_stage_has_no_ranking_loss() -> None:
    assert set(build("gogan", stages=1).modules()) == {"G", "D"}


# --- VAE-GAN -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "fake", "d_moves", "g_moves"),
    [
        (0.0, 0.0, True, True),  # both losses are log 2
        (3.0, -3.0, False, True),  # D is far ahead
        (3.0, 0.0, False, True),  # ahead on real samples alone
        (-3.0, 3.0, True, False),  # far behind
        (0.0, 3.0, True, False),
        (3.0, 3.0, True, True),  # ahead on one side and behind on the other: both would rest
    ],
)
def test_a_player_that_is_too_far_ahead_rests(real: float, fake: float, d_moves: bool, g_moves: bool) -> None:
    gated, free = build("vaegan", gate=0.35), build("vaegan")
    batch = batches(PICTURES)(0, 6)

    def losses(game: Game) -> list[list[float]]:
        torch.manual_seed(2)
        r = game.turns[0].play(game.nets, batch, Clock())
        r.__dict__.update(real_score=torch.full((6,), real), fake_score=torch.full((6,), fake))
        return [[term.loss(r).item() for term in turn.losses] for turn in game.turns]

    (d, e, g), (free_d, free_e, free_g) = losses(gated), losses(free)
    on_real = softplus(torch.tensor(-real)).item()
    balanced = [on_real + (free_d[0] - on_real) / 2, free_d[1] / 2]
    assert d == (pytest.approx(balanced, rel=1e-4) if d_moves else [0, 0])
    assert g == (pytest.approx(free_g, rel=1e-4) if g_moves else [0, 0, 0])
    assert e == pytest.approx(free_e, rel=1e-4), "E never rests"


@pytest.mark.parametrize(("gate", "equilibrium"), [(0.35, 0.0), (0.0, -math.log(2))])
def test_both_losses_of_an_undecided_d_are_equal_if_it_is_gated(gate: float, equilibrium: float) -> None:
    """The score that is best for a D that cannot tell: 0 where it pays both sides alike, else fakes are twice as likely as reals."""
    game, batch = build("vaegan", gate=gate), batches(PICTURES)(0, 6)
    score = torch.tensor(equilibrium, requires_grad=True)
    nets = Nets(G=game.nets.G, E=game.nets.E, D=lambda x: score.expand(len(x)))
    r = game.turns[0].play(nets, batch, Clock())
    sum(term.loss(r) for term in game.turns[0].losses).backward()
    assert score.grad is not None
    assert score.grad.item() == pytest.approx(0, abs=1e-6)


def test_a_resting_player_stands_still() -> None:
    game = build("vaegan", gate=0.005)
    game.nets.D.out.weight.data.zero_()  # every loss of D is log 2, which is .013 above the balance
    engine = Engine(game, choose("cpu", "fp32", 1))
    batch = engine.prepare(batches(PICTURES)(0, 6))
    before = weights(game.nets.G)
    assert engine.take([game.turns[2]], batch, Clock()).tolist() == [0, 0, 0]
    assert equal(weights(game.nets.G), before)
    assert engine.take([game.turns[0]], batch, Clock()).all()


# --- BGAN --------------------------------------------------------------------------------------------------------------------


def test_the_discrete_form_samples_from_g_and_weighs_by_the_critic() -> None:
    game = build("bgan", discrete=True, draws=500)
    nets, batch = game.nets, batches(PICTURES)(0, 3)
    mean = torch.full((3, *PICTURES.shape), 0.2)
    stub = Nets(G=lambda z: mean, D=lambda x: x.flatten(1).mean(1) * 10)
    play, generator = game.turns[1].play, game.turns[1].losses[0].loss
    r: Any = play(stub, batch, Clock())
    assert set(r.real.unique().tolist()) == set(r.samples.unique().tolist()) == {-1, 1}
    assert torch.equal(r.real > 0, batch.image > 0)
    assert r.samples.shape == (3, 500, *PICTURES.shape)
    assert r.fake.shape == r.real.shape
    assert r.samples.mean().item() == pytest.approx(0.2, abs=0.01), "0.6 are light, 0.4 dark"
    score = r.samples.flatten(2).mean(2) * 10
    importance = score.exp() / score.exp().sum(1, keepdim=True)
    likely = torch.where(r.samples > 0, 0.6, 0.4).log().flatten(2).sum(2)
    assert generator(r).item() == pytest.approx(-(importance * likely).sum(1).mean().item(), rel=1e-4)
    live: Any = play(nets, batch, Clock())
    assert not live.samples.requires_grad
    generator(live).backward()
    assert all(weight.grad is not None for weight in nets.G.parameters())


def test_a_discrete_model_generates_pixels_of_two_values() -> None:
    game = build("bgan", discrete=True, draws=4)
    list(training(game, PICTURES, 24).ticks(24))
    assert set(Model(game, PICTURES).sample(3).unique().tolist()) == {-1, 1}


@pytest.mark.parametrize("text", ["diff", "p=1"])
def test_augmentation_does_not_weigh_the_draws_of_a_latent(text: str) -> None:
    """Their weights compare them, so they get the same changes: two equal draws have equal weights."""
    game, option = build("bgan", discrete=True, draws=4), parse(text)
    assert option is not None
    r: Any = Augmentation(option, [3], 1000).wrap(game.turns[1].play(game.nets, batches(PICTURES)(0, 8), Clock()))
    r.samples = r.samples[:, :1].expand_as(r.samples)
    judged: list[Tensor] = []
    r.nets = Nets(D=lambda x: (judged.append(x), game.nets.D(x))[1])
    game.turns[1].losses[0].loss(r)
    (shown,) = judged
    shown = shown.unflatten(0, (8, 4))
    assert torch.equal(shown, shown[:, :1].expand_as(shown))
    assert not any(torch.equal(shown[latent], r.samples[latent]) for latent in range(8))
    blank = Round(game.nets).augment(torch.ones(8), alike=4)
    assert torch.equal(blank, torch.ones(8)), "without augmentation"


def test_d_has_the_same_loss_in_the_discrete_form() -> None:
    game = build("bgan", discrete=True, draws=4)
    r = Round(game.nets, torch.ones(2), torch.zeros(2), lambda x: 2 * x)
    expected = softplus(torch.tensor(-2.0)) + softplus(torch.tensor(0.0))
    assert game.turns[0].losses[0].loss(r).item() == pytest.approx(expected.item())


def test_binary_samples_can_be_searched_and_scored_in_the_discrete_form() -> None:
    game = build("bgan", discrete=True, draws=4)
    latents = game.abilities.outputs[0].prior(3).requires_grad_()  # type: ignore[misc]
    shown = game.abilities.outputs[0].make(game.nets, Batch({"latent": latents}), Clock(total=1))
    assert {*shown.unique().tolist()} <= {-1.0, 1.0}
    assert torch.equal(shown, 2 * (game.nets.G(latents) > 0).float() - 1)
    assert torch.autograd.grad(shown.sum(), latents)[0].abs().sum() > 0
    assert game.abilities.judge is not None
    grey = torch.linspace(-0.9, 0.8, shown[0].numel()).view_as(shown[:1])
    scored = game.abilities.judge(game.nets, grey, Batch({}))
    assert torch.equal(scored, game.abilities.judge(game.nets, 2 * (grey > 0).float() - 1, Batch({})))

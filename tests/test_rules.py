"""Mistakes in a recipe's game are refused before training begins."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import leafwing
from leafwing import recipes
from leafwing.commands.rules import check_game, check_own, check_turns
from leafwing.engine import Engine, choose
from leafwing.errors import LeafwingError
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn
from leafwing.loop import Training
from leafwing.parts import priors

OWN = recipes.Card("mine", Path("mine.py"), "", "", 0, "", "", ())


def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
    return Round(nets, real=batch.image, fake=nets.G(torch.randn_like(batch.image)), judge=nets.D, clock=clock)


def score(r: Round) -> Tensor:
    return r.fake_score.mean()


class Memory(nn.Module):
    """A loss with state, in which each step puts another tensor."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, r: Round) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * r.real.mean()
        return r.fake_score.mean() - self.mean


D_TURN, G_TURN = Turn("D", play, [Term("a", score)]), Turn("G", play, [Term("a", score)])


NO_LIST: Any = abs
NO_TENSOR: Any = 0.0


def make_game(turns: list[Any], **players: Any) -> Game:
    networks = {"G": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "D": nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))}
    return Game({name: Player(net, Adam(0.1)) for name, net in networks.items()} | players, turns, Abilities())


def make_training(game: Game) -> Training:
    def batches(images: int, n: int) -> Batch:
        return Batch(image=torch.randn(n, 2, generator=torch.Generator().manual_seed(images)))

    return Training(game, batches, Engine(game, choose("cpu", "fp32", 1)), images=100, batch=4)


TRUNK = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("turns", "players", "message"),
    [
        ([], {}, "the game has no turns"),
        ([D_TURN], {}, "no turn moves the player G: add a turn, or leave out its optimiser"),
        ([D_TURN, replace(G_TURN, moves="")], {}, "a turn moves no player"),
        ([D_TURN, replace(G_TURN, losses=[])], {}, "the turn 'G' has no losses"),
        ([replace(D_TURN, after=NO_LIST), G_TURN], {}, "`after` of the turn 'D' must be a list"),
        ([D_TURN, replace(G_TURN, losses=[Term("a", score), Term("a", score)])], {}, "two losses of 'G' have the name 'a'"),
        (
            [Turn("D", play, [Term("m", Memory())]), Turn("G", play, [Term("m", Memory())])],
            {},
            "two losses with state have the name 'm', in the turns 'D' and 'G'",
        ),
        ([replace(turn, during=(0, 0.5)) for turn in (D_TURN, G_TURN)], {}, "from 50% of training on"),
        ([replace(turn, every=2) for turn in (D_TURN, G_TURN)], {}, "from 0% of training on"),
        ([D_TURN, G_TURN], {"D": Player(nn.Linear(2, 1))}, "a turn moves the player D, which has no optimiser"),
        ([D_TURN, G_TURN], {"D": nn.Linear(2, 1)}, "player D is a Linear: make it a Player"),
        (
            [D_TURN, G_TURN],
            {"D": Player(nn.Linear(2, 1), Adam(-1))},
            "the player D cannot have this optimiser.*Invalid learning rate",
        ),
        (
            [D_TURN, G_TURN],
            {"D": Player(nn.Flatten(0), Adam(1))},
            "the player D cannot have this optimiser.*empty parameter list",
        ),
        (
            [D_TURN, replace(G_TURN, moves="G Q")],
            {
                "D": Player(nn.Sequential(TRUNK, nn.Linear(2, 1)), Adam(0.1)),
                "Q": Player(nn.Sequential(TRUNK, nn.Tanh()), Adam(0.1)),
            },
            r"the players D and Q share the weight '0\.weight': put what they share into a player of its own",
        ),
    ],
)
def test_a_game_that_cannot_be_trained_as_it_says_is_refused(
    turns: list[Turn], players: dict[str, Any], message: str
) -> None:
    with pytest.raises(LeafwingError, match=f"recipe mine: {message}"):
        check_game(make_game(turns, **players), "mine")


def test_what_is_alike_for_a_reason_is_accepted() -> None:
    memory, frozen = Memory(), nn.Linear(2, 2).requires_grad_(False)
    early = Turn("D", play, [Term("a", score), Term("m", memory)], during=(0, 0.5))
    late = replace(early, during=(0.5, inf))
    check_game(make_game([early, late, G_TURN], F=Player(frozen), H=Player(nn.Sequential(frozen))), "mine")


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (Turn("G", play, [Term("a", lambda r: r.fake_score)]), r"the loss 'a' of the turn 'G' is a tensor of shape \(4,\)"),
        (Turn("G", play, [Term("a", lambda r: NO_TENSOR)]), "the loss 'a' of the turn 'G' is of type float"),
        (Turn("G", play, [Term("a", lambda r: r.real.mean())]), r"no loss of the turn 'G' \(a\) depends on the weights"),
        (Turn("G D", play, [Term("a", lambda r: r.fake.mean())]), "the turn 'G D' does not move D"),
        (Turn("G", play, [Term("a", lambda r: r.fake_heads.mean())]), "the judge returns scores only"),
        (
            Turn("G", lambda nets, batch, clock: batch["lable"], [Term("a", score)]),
            "the turn 'G' fails: KeyError: this batch has no field",
        ),
        (
            Turn("G", lambda nets, batch, clock: Round(nets, real_score=1), [Term("a", score)]),
            "a round has a real_score of its own",
        ),
        (
            Turn("G", play, [Term("a", lambda r: 1 / (1 - at_half(r)) + score(r))], during=(0.5, inf)),
            "'G' fails: ZeroDivisionError",
        ),
    ],
)
def test_a_turn_that_fails_is_refused_by_name(turn: Turn, message: str) -> None:
    with pytest.raises(LeafwingError, match=f"^recipe mine: .*{message}"):
        check_turns(make_training(make_game([D_TURN, turn])), OWN)


@pytest.mark.parametrize(
    ("ability", "function", "message"),
    [
        (
            "judge",
            lambda nets, samples, inputs: nets.D(samples)[:, None],
            r"scores \(n,\), and for n=2 it returns \(2, 1\): take",
        ),
        ("judge", lambda nets, samples, inputs: (nets.D(samples), samples), r"returns a tuple: take .*scores\(output\)"),
        ("encode", lambda nets, samples: samples[:, :1], r"latents \(n, prior\.size\), and for n=2 it returns \(2, 1\)$"),
        ("encode", lambda nets, samples: samples, None),
        ("classify", lambda nets, samples: nets.D(samples), r"class logits \(n, classes\), and for n=2 it returns \(2,\)$"),
    ],
)
def test_what_abilities_return_is_checked(ability: str, function: Any, message: str | None) -> None:
    game = make_game([D_TURN, G_TURN])
    make = Output("image", lambda nets, inputs, clock: nets.G(inputs.latent), prior=priors.Normal(2))
    game.abilities = Abilities([make], **{ability: function})
    with pytest.raises(LeafwingError, match=message) if message else nullcontext():
        check_own(make_training(game), OWN, DataSpec.vectors(2))


def at_half(r: Any) -> int:
    return int(r.clock.planned_progress >= 0.5)


def test_a_rehearsal_changes_nothing() -> None:
    game = make_game([D_TURN, replace(G_TURN, losses=[Term("m", Memory())])])
    training = make_training(game)
    modules = game.modules()
    before = {name: {key: value.clone() for key, value in module.state_dict().items()} for name, module in modules.items()}
    rng_state = torch.get_rng_state()
    check_turns(training, OWN)
    assert torch.equal(torch.get_rng_state(), rng_state)
    for name, module in modules.items():
        assert all(weight.grad is None for weight in module.parameters())
        assert all(torch.equal(value, before[name][key]) for key, value in module.state_dict().items())


def test_no_run_is_left_and_the_line_is_named(tmp_path: Path) -> None:
    text = recipes.locate("gan").read_text().replace("def gan(", "def mine(")
    assert "sampling(z)" in text
    path = tmp_path / "mine.py"
    path.write_text(text.replace("sampling(z)", "lambda nets, batch, clock: batch.lable"))
    with pytest.raises(
        LeafwingError, match=r"the turn 'D' fails: AttributeError: this batch has .* \(mine\.py, line \d+\)$"
    ):
        leafwing.train("ring", str(path), images=64, threads=1, progress=False, root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()

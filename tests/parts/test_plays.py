"""How rounds are played: fresh latents, separate batches, one condition for both; and the order of a duel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from leafwing.game import Batch, Clock, Nets
from leafwing.parts.objectives import Objective
from leafwing.parts.plays import Packed, duel, generating, sampling
from leafwing.parts.priors import Normal

pytestmark = pytest.mark.machine

BATCH = Batch(image=torch.ones(4, 2), label=torch.tensor([0, 1, 1, 2]))


class Listener(nn.Module):
    """A network that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        self.given.append((x, *condition))
        return x * 2


class Judge(Listener):
    """One that answers with scores."""

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        return super().forward(x, *condition).sum(1)


def nets() -> Nets:
    return Nets(G=Listener(), D=Judge())


def test_each_round_has_fresh_latents_of_the_batchs_number() -> None:
    played, play = nets(), sampling(Normal(2))
    torch.manual_seed(0)
    play(played, BATCH, Clock())
    play(played, BATCH, Clock())
    (first,), (second,) = played.G.given
    assert first.shape == second.shape == (4, 2)
    assert not torch.equal(first, second)


def test_a_round_holds_the_reals_what_g_made_and_the_clock() -> None:
    played, clock = nets(), Clock(12, 100, 3)
    r = sampling(Normal(2))(played, BATCH, clock)
    assert r.real is BATCH.image
    assert torch.equal(r.fake, played.G.given[0][0] * 2)
    assert r.clock is clock
    assert r.nets is played


def test_nobody_is_judged_until_a_score_is_asked_for() -> None:
    played = nets()
    r = sampling(Normal(2))(played, BATCH, Clock())
    assert played.D.given == []
    assert r.fake_score.shape == (4,)
    assert len(played.D.given) == 1


def test_real_and_fake_are_judged_as_separate_batches() -> None:
    played = nets()
    r = sampling(Normal(2))(played, BATCH, Clock())
    _ = r.real_score, r.fake_score
    assert [len(x) for (x,) in played.D.given] == [4, 4]
    assert torch.equal(played.D.given[0][0], r.real)
    assert torch.equal(played.D.given[1][0], r.fake)


def test_batch_statistics_of_the_fakes_do_not_touch_the_reals_scores() -> None:
    judge = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1), nn.Flatten(0))
    batch = Batch(image=torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    far = Nets(G=lambda z: z * 100 + 50, D=judge)
    near = Nets(G=lambda z: z, D=judge)
    play = sampling(Normal(2))
    assert torch.equal(play(far, batch, Clock()).real_score, play(near, batch, Clock()).real_score)


def test_a_condition_is_told_to_both() -> None:
    played = nets()
    r = sampling(Normal(2), "label")(played, BATCH, Clock())
    _ = r.real_score, r.fake_score
    assert torch.equal(played.G.given[0][1], BATCH.label)
    assert [torch.equal(condition, BATCH.label) for _, condition in played.D.given] == [True, True]


def test_without_a_condition_labels_are_told_to_nobody() -> None:
    played = nets()
    r = sampling(Normal(2))(played, BATCH, Clock())
    _ = r.real_score
    assert len(played.G.given[0]) == len(played.D.given[0]) == 1


def play(nets: Nets, batch: Batch, clock: Clock) -> None:
    raise AssertionError("a duel does not play by itself")


OBJECTIVE = Objective(critic=lambda s: torch.tensor(1.0), generator=lambda s: torch.tensor(2.0))


def test_in_a_duel_the_critic_moves_first_and_the_generator_once() -> None:
    d, g = duel(play, OBJECTIVE, n_critic=5)  # type: ignore[arg-type]
    assert (d.movers, d.times(Clock())) == (("D",), 5)
    assert (g.movers, g.times(Clock())) == (("G",), 1)


def test_each_side_pays_its_own_half_of_the_objective_and_only_the_critic_the_rest() -> None:
    from leafwing.game import Term

    extra = Term("extra", lambda r: torch.tensor(3.0), input_gradient=True)
    d, g = duel(play, OBJECTIVE, critic=[extra])  # type: ignore[arg-type]
    assert [(term.name, term.loss(None).item()) for term in d.losses] == [("adversarial", 1.0), ("extra", 3.0)]
    assert [(term.name, term.loss(None).item()) for term in g.losses] == [("adversarial", 2.0)]


def test_how_often_the_critic_moves_may_follow_the_clock() -> None:
    d, g = duel(play, OBJECTIVE, n_critic=lambda clock: 7 if clock.round == 0 else 2)  # type: ignore[arg-type]
    assert [d.times(Clock(round=i)) for i in range(3)] == [7, 2, 2]
    assert [g.times(Clock(round=i)) for i in range(3)] == [1, 1, 1]


def test_what_is_done_after_a_step_is_done_after_the_critics_steps_alone() -> None:
    after = [lambda nets: None]
    d, g = duel(play, OBJECTIVE, after=after)  # type: ignore[arg-type]
    assert list(d.after) == after
    assert list(g.after) == []


def test_the_ability_that_goes_with_sampling_hands_latents_and_condition_to_g() -> None:
    played, z, label = nets(), torch.ones(3, 2), torch.tensor([2, 0, 1])
    plain, told = generating(Normal(2)), generating(Normal(2), "label")
    assert plain.generate is not None
    assert told.generate is not None
    assert torch.equal(plain.generate(played, z, None), z * 2)
    told.generate(played, z, label)
    assert len(played.G.given[0]) == 1
    assert torch.equal(played.G.given[1][1], label)
    assert (plain.conditions, told.conditions) == ((), ("label",))
    assert plain.prior == Normal(2)


def test_a_condition_that_the_batch_does_not_hold_is_an_error() -> None:
    with pytest.raises(KeyError, match="caption"):
        sampling(Normal(2), "caption")(nets(), BATCH, Clock())


def test_a_packed_critic_sees_neighbours_side_by_side() -> None:
    seen: list[Tensor] = []

    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.flatten(1).sum(1)

    x = torch.arange(24.0).view(6, 1, 2, 2)
    assert Packed(Wide(), 3)(x).tolist() == [x[:3].sum(), x[3:].sum()]
    assert torch.equal(seen[0][1], x[3:, 0])
    assert Packed(Wide(), 4)(x).tolist() == [x[:4].sum(), x[4:].sum() + x[:2].sum()], "the first are shown once more"
    assert Packed(Wide(), 2)(torch.ones(1, 5)).tolist() == [10]

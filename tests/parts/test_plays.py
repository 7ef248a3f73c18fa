"""Plays: fresh latents, separate batches, one condition for both networks; and the order of turns in a duel."""

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


class Recorder(nn.Module):
    """A network that stores its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        self.inputs.append((x, *condition))
        return x * 2


class Judge(Recorder):
    """A critic that stores its inputs."""

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        return super().forward(x, *condition).sum(1)


def nets() -> Nets:
    return Nets(G=Recorder(), D=Judge())


def test_each_round_has_fresh_latents_of_the_batch_size() -> None:
    networks, play = nets(), sampling(Normal(2))
    torch.manual_seed(0)
    play(networks, BATCH, Clock())
    play(networks, BATCH, Clock())
    (first,), (second,) = networks.G.inputs
    assert first.shape == second.shape == (4, 2)
    assert not torch.equal(first, second)


def test_a_round_holds_real_and_fake_samples_and_the_clock() -> None:
    networks, clock = nets(), Clock(12, 100, 3)
    r = sampling(Normal(2))(networks, BATCH, clock)
    assert r.real is BATCH.image
    assert torch.equal(r.fake, networks.G.inputs[0][0] * 2)
    assert r.clock is clock
    assert r.nets is networks


def test_the_critic_runs_only_when_a_score_is_accessed() -> None:
    networks = nets()
    r = sampling(Normal(2))(networks, BATCH, Clock())
    assert networks.D.inputs == []
    assert r.fake_score.shape == (4,)
    assert len(networks.D.inputs) == 1


def test_real_and_fake_are_judged_as_separate_batches() -> None:
    networks = nets()
    r = sampling(Normal(2))(networks, BATCH, Clock())
    _ = r.real_score, r.fake_score
    assert [len(x) for (x,) in networks.D.inputs] == [4, 4]
    assert torch.equal(networks.D.inputs[0][0], r.real)
    assert torch.equal(networks.D.inputs[1][0], r.fake)


def test_batch_statistics_of_the_fakes_do_not_touch_the_reals_scores() -> None:
    judge = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1), nn.Flatten(0))
    batch = Batch(image=torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    far = Nets(G=lambda z: z * 100 + 50, D=judge)
    near = Nets(G=lambda z: z, D=judge)
    play = sampling(Normal(2))
    assert torch.equal(play(far, batch, Clock()).real_score, play(near, batch, Clock()).real_score)


def test_a_condition_is_passed_to_both_networks() -> None:
    networks = nets()
    r = sampling(Normal(2), "label")(networks, BATCH, Clock())
    _ = r.real_score, r.fake_score
    assert torch.equal(networks.G.inputs[0][1], BATCH.label)
    assert [torch.equal(condition, BATCH.label) for _, condition in networks.D.inputs] == [True, True]


def test_without_a_condition_no_labels_are_passed() -> None:
    networks = nets()
    r = sampling(Normal(2))(networks, BATCH, Clock())
    _ = r.real_score
    assert len(networks.G.inputs[0]) == len(networks.D.inputs[0]) == 1


def play(nets: Nets, batch: Batch, clock: Clock) -> None:
    raise AssertionError("duel() must not call the play")


OBJECTIVE = Objective(critic=lambda s: torch.tensor(1.0), generator=lambda s: torch.tensor(2.0))


def test_in_a_duel_the_critic_moves_first_and_the_generator_once() -> None:
    d, g = duel(play, OBJECTIVE, n_critic=5)  # type: ignore[arg-type]
    assert (d.movers, d.times(Clock())) == (("D",), 5)
    assert (g.movers, g.times(Clock())) == (("G",), 1)


def test_each_side_minimises_its_half_of_the_objective_and_the_critic_the_extra_terms() -> None:
    from leafwing.game import Term

    extra = Term("extra", lambda r: torch.tensor(3.0), second_order=True)
    d, g = duel(play, OBJECTIVE, critic=[extra])  # type: ignore[arg-type]
    assert [(term.name, term.loss(None).item()) for term in d.losses] == [("adversarial", 1.0), ("extra", 3.0)]
    assert [(term.name, term.loss(None).item()) for term in g.losses] == [("adversarial", 2.0)]


def test_how_often_the_critic_moves_may_follow_the_clock() -> None:
    d, g = duel(play, OBJECTIVE, n_critic=lambda clock: 7 if clock.round == 0 else 2)  # type: ignore[arg-type]
    assert [d.times(Clock(round=i)) for i in range(3)] == [7, 2, 2]
    assert [g.times(Clock(round=i)) for i in range(3)] == [1, 1, 1]


def test_after_applies_to_the_critic_only() -> None:
    after = [lambda nets: None]
    d, g = duel(play, OBJECTIVE, after=after)  # type: ignore[arg-type]
    assert list(d.after) == after
    assert list(g.after) == []


def test_generating_passes_latents_and_condition_to_g() -> None:
    networks, z, label = nets(), torch.ones(3, 2), torch.tensor([2, 0, 1])
    (plain,), (conditional,) = generating(Normal(2)).outputs, generating(Normal(2), "label").outputs
    assert torch.equal(plain.make(networks, Batch(latent=z), Clock()), z * 2)
    conditional.make(networks, Batch(latent=z, label=label), Clock())
    assert len(networks.G.inputs[0]) == 1
    assert torch.equal(networks.G.inputs[1][1], label)
    assert (plain.conditions, conditional.conditions) == ((), ("label",))
    assert (plain.field, plain.prior) == ("image", Normal(2))


def test_the_judge_of_generating_scores_samples_with_their_conditions() -> None:
    networks, judge = nets(), generating(Normal(2), "label").judge
    assert judge is not None
    assert judge(networks, torch.ones(4, 2), BATCH).tolist() == [4] * 4
    assert torch.equal(networks.D.inputs[0][1], BATCH.label)


def test_players_may_have_other_names() -> None:
    """Several generators and discriminators in one game, and players that move together."""
    networks = Nets(G1=Recorder(), D1=Judge())
    r = sampling(Normal(2), "label", g="G1", d="D1")(networks, BATCH, Clock())
    _ = r.real_score
    assert [len(net.inputs) for net in vars(networks).values()] == [1, 1]
    assert torch.equal(networks.D1.inputs[0][1], BATCH.label)
    d, g = duel(play, OBJECTIVE, g="G1 C1", d="D1")  # type: ignore[arg-type]
    assert (d.movers, g.movers) == (("D1",), ("G1", "C1"))
    abilities = generating(Normal(2), g="G1", d="D1")
    assert torch.equal(abilities.outputs[0].make(networks, Batch(latent=torch.ones(3, 2)), Clock()), torch.full((3, 2), 2.0))
    assert abilities.judge is not None
    assert abilities.judge(networks, torch.ones(1, 2), Batch()).tolist() == [4]


def test_several_conditions_are_passed_in_order() -> None:
    networks, batch = nets(), Batch(**BATCH, box=torch.rand(4, 4))
    _ = sampling(Normal(2), "box", "label")(networks, batch, Clock()).fake_score
    for net in (networks.G, networks.D):
        assert [condition.shape for condition in net.inputs[0][1:]] == [(4, 4), (4,)]


def test_a_condition_that_the_batch_does_not_hold_is_an_error() -> None:
    with pytest.raises(KeyError, match="caption"):
        sampling(Normal(2), "caption")(nets(), BATCH, Clock())


def test_a_packed_critic_sees_neighbours_side_by_side() -> None:
    inputs: list[Tensor] = []

    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            inputs.append(x)
            return x.flatten(1).sum(1)

    x = torch.arange(24.0).view(6, 1, 2, 2)
    assert Packed(Wide(), 3)(x).tolist() == [x[:3].sum(), x[3:].sum()]
    assert torch.equal(inputs[0][1], x[3:, 0])
    assert Packed(Wide(), 4)(x).tolist() == [x[:4].sum(), x[4:].sum() + x[:2].sum()], "the first samples are repeated"
    assert Packed(Wide(), 2)(torch.ones(1, 5)).tolist() == [10]

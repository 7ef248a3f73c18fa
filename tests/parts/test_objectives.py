"""Each objective, compared with numbers computed by hand from its formula (sp(t) = ln(1 + e^t))."""

from __future__ import annotations

from math import exp, log
from types import SimpleNamespace

import pytest
import torch

from leafwing.parts.objectives import (
    DIVERGENCES,
    boundary_seeking,
    energy,
    hinge,
    joint,
    least_squares,
    minimax,
    non_saturating,
    ranking,
    relativistic,
    smoothed,
    variational,
    wasserstein,
)

pytestmark = pytest.mark.machine

REAL, FAKE = (2.0, -1.0), (0.5, 3.0)


def scores(real: tuple[float, ...] = REAL, fake: tuple[float, ...] = FAKE) -> SimpleNamespace:
    return SimpleNamespace(real_score=torch.tensor(real), fake_score=torch.tensor(fake, requires_grad=True))


def sp(t: float) -> float:
    return log(1 + exp(t))


CRITIC_LOGISTIC = (sp(-2.0) + sp(1.0)) / 2 + (sp(0.5) + sp(3.0)) / 2
TABLE = {
    "ranking": (ranking(1.5), ((0.5 + 1.5 - 2.0) * 0 + (3.0 + 1.5 + 1.0)) / 2, -(0.5 + 3.0) / 2),
    "minimax": (minimax, CRITIC_LOGISTIC, -(sp(0.5) + sp(3.0)) / 2),
    "non_saturating": (non_saturating, CRITIC_LOGISTIC, (sp(-0.5) + sp(-3.0)) / 2),
    "wasserstein": (wasserstein, 1.75 - 0.5, -1.75),
    # pairs (2, 0.5) and (-1, 3): differences real - fake are 1.5 and -4
    "relativistic": (relativistic, (sp(-1.5) + sp(4.0)) / 2, (sp(1.5) + sp(-4.0)) / 2),
    # reals 2, -1; fakes 0.5, 3
    "ls(0,1,1)": (least_squares(0, 1, 1), 0.25 * (1 + 4) + 0.25 * (0.25 + 9), 0.25 * (0.25 + 4)),
    "ls(0,1,.5)": (least_squares(0, 1, 0.5), 0.25 * (1 + 4) + 0.25 * (0.25 + 9), 0.25 * (0 + 6.25)),
    # margins of 1: reals 2, -1 miss by 0 and 2; fakes 0.5, 3 by 1.5 and 4
    "hinge": (hinge, (0 + 2) / 2 + (1.5 + 4) / 2, -1.75),
    "boundary_seeking": (boundary_seeking, CRITIC_LOGISTIC, (0.25 + 9) / 4),
    # energies are minus the scores: reals -2, 1; fakes -0.5, -3, below a margin of 2 by 2.5 and 5
    "energy": (energy(2), -0.5 + (2.5 + 5) / 2, -1.75),
    "smoothed": (
        smoothed(0.75),
        0.75 * (sp(-2.0) + sp(1.0)) / 2 + 0.25 * (sp(2.0) + sp(-1.0)) / 2 + (sp(0.5) + sp(3.0)) / 2,
        (sp(-0.5) + sp(-3.0)) / 2,
    ),
    "joint": (joint, CRITIC_LOGISTIC, (sp(2.0) + sp(-1.0)) / 2 + (sp(-0.5) + sp(-3.0)) / 2),
    "ls(-1,1,0)": (least_squares(-1, 1, 0), 0.25 * (1 + 4) + 0.25 * (2.25 + 16), 0.25 * (0.25 + 9)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_critics_loss_equals_the_formula(name: str) -> None:
    objective, critic, _ = TABLE[name]
    assert objective.critic(scores()).item() == pytest.approx(critic, rel=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_the_generators_loss_equals_the_formula(name: str) -> None:
    objective, _, generator = TABLE[name]
    assert objective.generator(scores()).item() == pytest.approx(generator, rel=1e-6)


def test_least_squares_defaults_to_the_papers_code() -> None:
    assert least_squares().critic(scores()).item() == TABLE["ls(0,1,1)"][0].critic(scores()).item()
    assert least_squares().generator(scores()).item() == TABLE["ls(0,1,1)"][0].generator(scores()).item()


def test_the_logistic_objectives_equal_binary_cross_entropy_on_raw_scores() -> None:
    bce, s = torch.nn.functional.binary_cross_entropy_with_logits, scores()
    critic = bce(s.real_score, torch.ones(2)) + bce(s.fake_score, torch.zeros(2))
    assert non_saturating.critic(s).item() == pytest.approx(critic.item(), rel=1e-6)
    assert non_saturating.generator(s).item() == pytest.approx(bce(s.fake_score, torch.ones(2)).item(), rel=1e-6)
    assert minimax.generator(s).item() == pytest.approx(-bce(s.fake_score, torch.zeros(2)).item(), rel=1e-6)


def gradient(objective: object, fake: float) -> float:
    s = scores(fake=(fake,), real=(5.0,))
    (slope,) = torch.autograd.grad(objective.generator(s), s.fake_score)  # type: ignore[attr-defined]
    return slope.item()


def test_when_the_critic_wins_minimax_gives_no_gradient_and_non_saturating_a_full_one() -> None:
    assert abs(gradient(minimax, -20.0)) < 1e-6
    assert gradient(non_saturating, -20.0) == pytest.approx(-1.0, abs=1e-6)


def test_every_generator_loss_falls_with_its_scores() -> None:
    for objective in (minimax, non_saturating, wasserstein, relativistic, least_squares()):
        assert gradient(objective, 0.0) < 0


def test_minus_the_wasserstein_critics_loss_is_the_gap_between_the_means() -> None:
    assert -wasserstein.critic(scores((4.0, 6.0), (1.0, 2.0))).item() == pytest.approx(3.5)


def test_the_relativistic_objective_depends_only_on_differences() -> None:
    shifted = scores(tuple(r + 7 for r in REAL), tuple(f + 7 for f in FAKE))
    assert relativistic.critic(shifted).item() == pytest.approx(relativistic.critic(scores()).item(), rel=1e-6)
    assert relativistic.generator(shifted).item() == pytest.approx(relativistic.generator(scores()).item(), rel=1e-6)


def test_the_relativistic_objective_compares_pairs_not_means() -> None:
    equal, crossed = scores((3.0, -3.0), (3.0, -3.0)), scores((3.0, -3.0), (-3.0, 3.0))
    assert relativistic.critic(equal).item() == pytest.approx(log(2), rel=1e-6)
    assert relativistic.critic(crossed).item() == pytest.approx((sp(-6) + sp(6)) / 2, rel=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_extreme_scores_give_finite_losses_and_gradients(name: str) -> None:
    objective = TABLE[name][0]
    s = scores((1e4, -1e4), (-1e4, 1e4))
    s.real_score.requires_grad_()
    for loss in (objective.critic(s), objective.generator(s)):
        assert torch.isfinite(loss)
        slopes = torch.autograd.grad(loss, [s.real_score, s.fake_score], allow_unused=True)
        assert all(torch.isfinite(slope).all() for slope in slopes if slope is not None)


# f, the first derivative at a ratio of densities (the output of the optimal critic), f* and g_f, as in the paper's tables 2 and 6
CONJUGATES = {
    "total_variation": lambda t: t,
    "kl": lambda t: exp(t - 1),
    "reverse_kl": lambda t: -1 - log(-t),
    "pearson": lambda t: t * t / 4 + t,
    "squared_hellinger": lambda t: t / (1 - t),
    "jensen_shannon": lambda t: -log(2 - exp(t)),
}
F = {
    "total_variation": lambda u: abs(u - 1) / 2,
    "kl": lambda u: u * log(u),
    "reverse_kl": lambda u: -log(u),
    "pearson": lambda u: (u - 1) ** 2,
    "squared_hellinger": lambda u: (u**0.5 - 1) ** 2,
    "jensen_shannon": lambda u: -(u + 1) * log((1 + u) / 2) + u * log(u),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_conjugate_belongs_to_the_activation(name: str) -> None:
    for v in (-1.5, -0.2, 0.0, 0.7, 2.0):
        output = DIVERGENCES[name].activation(torch.tensor(v, dtype=torch.float64)).item()
        value = DIVERGENCES[name].conjugate(torch.tensor(v, dtype=torch.float64)).item()
        assert value == pytest.approx(CONJUGATES[name](output), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_best_critic_of_two_coins_measures_their_divergence(name: str) -> None:
    """Real samples show heads in 7 of 10, fakes in 4: the supremum over the two scores is sum of q f(p / q)."""
    p, q = torch.tensor([0.7, 0.3], dtype=torch.float64), torch.tensor([0.4, 0.6], dtype=torch.float64)
    f, v = DIVERGENCES[name], torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([v], max_iter=200, line_search_fn="strong_wolfe")

    def bound() -> torch.Tensor:
        optimiser.zero_grad()
        loss = -((p * f.activation(v)).sum() - (q * f.conjugate(v)).sum())
        loss.backward()
        return loss

    optimiser.step(bound)
    expected = sum(b * F[name](a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert -bound().item() == pytest.approx(expected, rel=1e-3)
    assert v[0] > v[1], "outcomes that are more frequent in real samples have the higher score"


@pytest.mark.parametrize("name", DIVERGENCES)
def test_both_generator_losses_fall_when_fakes_score_higher(name: str) -> None:
    for saturating in (False, True):
        objective, s = variational(name, saturating=saturating), scores()
        objective.generator(s).backward()
        assert (s.fake_score.grad < 0).all()


def test_jensen_shannon_is_the_gans_loss_minus_a_constant() -> None:
    assert variational("jensen_shannon").critic(scores()).item() == pytest.approx(CRITIC_LOGISTIC - 2 * log(2), rel=1e-6)

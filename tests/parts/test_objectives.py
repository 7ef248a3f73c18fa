"""Each objective against numbers worked out by hand from its formula (sp(t) = ln(1 + e^t))."""

from __future__ import annotations

from math import exp, log
from types import SimpleNamespace

import pytest
import torch

from leafwing.parts.objectives import least_squares, minimax, non_saturating, relativistic, wasserstein

REAL, FAKE = (2.0, -1.0), (0.5, 3.0)


def scores(real: tuple[float, ...] = REAL, fake: tuple[float, ...] = FAKE) -> SimpleNamespace:
    return SimpleNamespace(real_score=torch.tensor(real), fake_score=torch.tensor(fake, requires_grad=True))


def sp(t: float) -> float:
    return log(1 + exp(t))


CRITIC_LOGISTIC = (sp(-2.0) + sp(1.0)) / 2 + (sp(0.5) + sp(3.0)) / 2
TABLE = {
    "minimax": (minimax, CRITIC_LOGISTIC, -(sp(0.5) + sp(3.0)) / 2),
    "non_saturating": (non_saturating, CRITIC_LOGISTIC, (sp(-0.5) + sp(-3.0)) / 2),
    "wasserstein": (wasserstein, 1.75 - 0.5, -1.75),
    # pairs (2, 0.5) and (-1, 3): differences real - fake are 1.5 and -4
    "relativistic": (relativistic, (sp(-1.5) + sp(4.0)) / 2, (sp(1.5) + sp(-4.0)) / 2),
    # reals 2, -1; fakes 0.5, 3
    "ls(0,1,1)": (least_squares(0, 1, 1), 0.25 * (1 + 4) + 0.25 * (0.25 + 9), 0.25 * (0.25 + 4)),
    "ls(0,1,.5)": (least_squares(0, 1, 0.5), 0.25 * (1 + 4) + 0.25 * (0.25 + 9), 0.25 * (0 + 6.25)),
    "ls(-1,1,0)": (least_squares(-1, 1, 0), 0.25 * (1 + 4) + 0.25 * (2.25 + 16), 0.25 * (0.25 + 9)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_critic_pays_what_the_formula_says(name: str) -> None:
    objective, critic, _ = TABLE[name]
    assert objective.critic(scores()).item() == pytest.approx(critic, rel=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_the_generator_pays_what_the_formula_says(name: str) -> None:
    objective, _, generator = TABLE[name]
    assert objective.generator(scores()).item() == pytest.approx(generator, rel=1e-6)


def test_least_squares_is_the_papers_code_unless_said_otherwise() -> None:
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


def test_every_generator_wants_its_scores_higher() -> None:
    for objective in (minimax, non_saturating, wasserstein, relativistic, least_squares()):
        assert gradient(objective, 0.0) < 0


def test_minus_the_wasserstein_critics_cost_is_the_gap_between_the_means() -> None:
    assert -wasserstein.critic(scores((4.0, 6.0), (1.0, 2.0))).item() == pytest.approx(3.5)


def test_the_relativistic_objective_looks_at_differences_alone() -> None:
    moved = scores(tuple(r + 7 for r in REAL), tuple(f + 7 for f in FAKE))
    assert relativistic.critic(moved).item() == pytest.approx(relativistic.critic(scores()).item(), rel=1e-6)
    assert relativistic.generator(moved).item() == pytest.approx(relativistic.generator(scores()).item(), rel=1e-6)


def test_the_relativistic_objective_judges_in_pairs_not_against_the_mean() -> None:
    one, other = scores((3.0, -3.0), (3.0, -3.0)), scores((3.0, -3.0), (-3.0, 3.0))
    assert relativistic.critic(one).item() == pytest.approx(log(2), rel=1e-6)
    assert relativistic.critic(other).item() == pytest.approx((sp(-6) + sp(6)) / 2, rel=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_extreme_scores_give_finite_costs_and_gradients(name: str) -> None:
    objective = TABLE[name][0]
    s = scores((1e4, -1e4), (-1e4, 1e4))
    s.real_score.requires_grad_()
    for cost in (objective.critic(s), objective.generator(s)):
        assert torch.isfinite(cost)
        slopes = torch.autograd.grad(cost, [s.real_score, s.fake_score], allow_unused=True)
        assert all(torch.isfinite(slope).all() for slope in slopes if slope is not None)

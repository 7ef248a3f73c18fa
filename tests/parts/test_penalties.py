"""Penalties against closed forms: a linear critic s(x) = w.x has the slope w everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from leafwing.game import Clock, Nets, Round
from leafwing.parts import priors
from leafwing.parts.penalties import (
    FormerPair,
    HistoricalAverage,
    clip_weights,
    feature_matching,
    gradient_penalty,
    pull_away,
    r1,
    r2,
    slope,
)

pytestmark = pytest.mark.machine

SHAPE = (3, 4, 4)


def linear(norm: float) -> Tensor:
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return w * norm / w.norm()


def meet(judge: Callable[[Tensor], Tensor], n: int = 5, **facts: object) -> Round:
    """A round as the engine prepares it for terms that watch."""
    generator = torch.Generator().manual_seed(2)
    real, fake = (torch.randn(n, *SHAPE, generator=generator).requires_grad_() for _ in range(2))
    return Round(Nets(), real=real, fake=fake, judge=judge, **{"clock": Clock(), **facts})


def by(w: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: (x * w).sum((1, 2, 3))


@pytest.mark.parametrize(("norm", "weight"), [(0.25, 10.0), (1.0, 10.0), (2.0, 10.0), (3.0, 0.1)])
def test_a_linear_critic_pays_the_squared_distance_of_its_slope_from_one(norm: float, weight: float) -> None:
    paid = gradient_penalty(weight).loss(meet(by(linear(norm)))).item()
    assert paid == pytest.approx(weight * (norm - 1) ** 2, rel=1e-4, abs=1e-10)


def test_the_slope_is_measured_for_each_sample_then_averaged() -> None:
    """Slopes 2 and 4: the mean of 1 and 9 is 5, the square of the mean's distance would be 4."""
    w = linear(1.0)
    factors = torch.tensor([2.0, 4.0])
    paid = gradient_penalty(1.0).loss(meet(lambda x: by(w)(x) * factors, n=2)).item()
    assert paid == pytest.approx((1 + 9) / 2, rel=1e-4)


@pytest.mark.parametrize(("term", "which"), [(r1, "real"), (r2, "fake")])
def test_r1_and_r2_of_a_linear_critic_are_half_gamma_times_the_squared_slope(
    term: Callable[..., object], which: str
) -> None:
    paid = term(0.8).loss(meet(by(linear(3.0)))).item()  # type: ignore[attr-defined]
    assert paid == pytest.approx(0.4 * 9, rel=1e-5)


def test_r1_looks_at_the_reals_and_r2_at_the_fakes() -> None:
    """For s(x) = |x|^2 / 2 the slope is x itself."""
    r = meet(lambda x: x.square().sum((1, 2, 3)) / 2)
    assert r1(2.0).loss(r).item() == pytest.approx(r.real.square().sum((1, 2, 3)).mean().item(), rel=1e-5)
    assert r2(2.0).loss(r).item() == pytest.approx(r.fake.square().sum((1, 2, 3)).mean().item(), rel=1e-5)


@pytest.mark.parametrize("term", [r1, r2])
def test_gamma_may_follow_the_clock(term: Callable[..., object]) -> None:
    cost = term(lambda clock: clock.images / 10).loss  # type: ignore[attr-defined]
    assert cost(meet(by(linear(1.0)), clock=Clock(5, 100))).item() == pytest.approx(0.25, rel=1e-5)
    assert cost(meet(by(linear(1.0)), clock=Clock(20, 100))).item() == pytest.approx(1.0, rel=1e-5)


def test_slope_is_each_scores_own_gradient_flattened() -> None:
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = slope(x.square().sum((1, 2, 3)), x)
    assert found.shape == (4, 48)
    assert torch.allclose(found, 2 * x.flatten(1))


@pytest.mark.parametrize("term", [gradient_penalty(10.0), r1(1.0), r2(1.0)], ids=lambda term: term.name)
def test_the_critic_learns_from_the_penalty(term: object) -> None:
    """The gradient in the critic's weights equals the finite difference: the slope is differentiated a second time."""
    inside = torch.randn(48, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) / 4
    outside = torch.ones(6, dtype=torch.float64)

    def paid(weight: Tensor) -> Tensor:
        torch.manual_seed(0)
        r = meet(lambda x: torch.tanh(x.double().flatten(1) @ weight) @ outside)
        r.__dict__["real_score"], r.__dict__["fake_score"] = r.judge(r.real), r.judge(r.fake)  # without rounding to fp32
        return term.loss(r).double()  # type: ignore[attr-defined,no-any-return]

    leaf = inside.clone().requires_grad_()
    (exact,) = torch.autograd.grad(paid(leaf), leaf)
    step = torch.randn(48, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    step = step / step.norm()
    h = 1e-2
    with torch.enable_grad():
        measured = (paid(inside + h * step) - paid(inside - h * step)).item() / (2 * h)
    assert measured == pytest.approx((exact * step).sum().item(), rel=2e-2)
    assert exact.abs().max() > 1e-3


def test_every_term_that_differentiates_by_the_samples_says_so() -> None:
    assert gradient_penalty().input_gradient
    assert r1().input_gradient
    assert r2().input_gradient


class Recorder:
    """A judge that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.shown.append(x.detach())
        return x.flatten(1).sum(1)


def test_the_penalty_looks_between_real_and_fake_at_one_place_for_each_pair() -> None:
    judge = Recorder()
    r = Round(Nets(), real=torch.ones(64, *SHAPE), fake=torch.zeros(64, *SHAPE), judge=judge)
    torch.manual_seed(0)
    gradient_penalty().loss(r)
    (between,) = judge.shown
    flat = between.flatten(1)
    assert torch.allclose(flat, flat[:, :1].expand_as(flat)), "the coefficient differs within a sample"
    u = flat[:, 0]
    assert len(u.unique()) == 64, "samples share a coefficient"
    assert 0 <= u.min() < 0.2
    assert 0.8 < u.max() <= 1
    assert u.mean().item() == pytest.approx(0.5, abs=0.15)


def test_the_penalty_works_for_points() -> None:
    w = torch.tensor([3.0, 4.0])
    r = Round(Nets(), real=torch.randn(6, 2), fake=torch.randn(6, 2), judge=lambda x: x @ w)
    assert gradient_penalty(1.0).loss(r).item() == pytest.approx(16.0, rel=1e-4)


def test_a_fresh_place_is_looked_at_each_time() -> None:
    judge = Recorder()
    r = Round(Nets(), real=torch.ones(4, *SHAPE), fake=torch.zeros(4, *SHAPE), judge=judge)
    gradient_penalty().loss(r)
    gradient_penalty().loss(r)
    assert not torch.equal(*judge.shown)


def test_the_penalty_gives_the_generator_no_gradient() -> None:
    g, d = nn.Linear(4, 48), nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1))
    fake = g(torch.randn(5, 4)).unflatten(1, SHAPE)
    r = Round(Nets(G=g, D=d), real=torch.randn(5, *SHAPE), fake=fake, judge=lambda x: d(x).squeeze(1))
    gradient_penalty().loss(r).backward()
    assert all(weight.grad is None for weight in g.parameters())
    assert d[1].weight.grad is not None
    assert d[1].weight.grad.abs().sum() > 0


def test_a_flat_critic_pays_the_whole_weight_and_gets_a_finite_gradient() -> None:
    w = torch.zeros(SHAPE, requires_grad=True)
    paid = gradient_penalty(10.0).loss(meet(lambda x: (x * w).sum((1, 2, 3))))
    paid.backward()
    assert paid.item() == pytest.approx(10.0)
    assert w.grad is not None
    assert torch.isfinite(w.grad).all()


def test_clipping_bounds_every_weight_and_leaves_those_inside_and_everybody_else_alone() -> None:
    nets = Nets(D=nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), G=nn.Linear(3, 3))
    with torch.no_grad():
        nets.D[0].weight.copy_(torch.tensor([[-5.0, -0.01, 0.004], [0.0, 0.009, 0.01], [0.011, 5.0, -0.004]]))
        nets.G.weight.fill_(7)
        clip_weights("D", 0.01)(nets)
    expected = torch.tensor([[-0.01, -0.01, 0.004], [0.0, 0.009, 0.01], [0.01, 0.01, -0.004]])
    assert torch.equal(nets.D[0].weight, expected)
    assert all(weight.abs().max() <= 0.01 for weight in nets.D.parameters())
    assert torch.equal(nets.G.weight, torch.full((3, 3), 7.0))


def test_matched_features_pay_the_squared_distance_of_their_means() -> None:
    r = meet(by(linear(1.0)))
    term = feature_matching(lambda r, x: x[:, 0])
    expected = (r.real[:, 0].mean(0) - r.fake[:, 0].mean(0)).square().mean().item()
    assert term.loss(r).item() == pytest.approx(expected, rel=1e-5)
    assert term.loss(r.again(r.real, r.real.flip(0))).item() == pytest.approx(0, abs=1e-12), "an order is no difference"


def test_codes_that_point_one_way_pay_for_it() -> None:
    r = meet(by(linear(1.0)), n=4)
    for code, paid in (
        (torch.eye(4), 0.0),
        (torch.ones(4, 3), 1.0),
        (torch.tensor([[1.0, 0], [-2, 0], [0, 3], [0, 1]]), 1 / 3),
    ):
        assert pull_away(lambda r, code=code: code, 0.5).loss(r).item() == pytest.approx(0.5 * paid, abs=1e-6)
    assert pull_away(lambda r: torch.ones(1, 3)).loss(r).item() == pytest.approx(0, abs=1e-6)


def test_the_historical_average_is_that_of_all_weights_so_far() -> None:
    net = nn.Linear(2, 1, bias=False)
    nets, past = Nets(G=net), []
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0]]))
    term = HistoricalAverage(net, "G", 0.5)
    past.append(net.weight.detach().clone())
    for step in ([3.0, 0.0], [-1.0, 4.0]):
        with torch.no_grad():
            net.weight.copy_(torch.tensor([step]))
        expected = 0.5 * (net.weight - torch.stack(past).mean(0)).square().sum().item()
        r = Round(nets, torch.zeros(1), torch.zeros(1), lambda x: x)
        assert term(r).item() == pytest.approx(expected)
        term(r).backward()
        term.update(nets)
        past.append(net.weight.detach().clone())
    assert term.mean.tolist() == pytest.approx(torch.stack(past).mean(0).flatten().tolist())
    assert net.weight.grad is not None
    assert set(term.state_dict()) == {"count", "mean"}


def test_a_former_pair_is_to_be_ranked_below_real_samples_and_stands_still_until_told() -> None:
    g, d = nn.Linear(3, 2, bias=False), nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))
    nets, real = Nets(G=g, D=d), torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    term = FormerPair(g, d, priors.Normal(3), 2.0, 0.5)
    old = [weight.detach().clone() for weight in (g.weight, d[0].weight)]

    def expected(weights: list[Tensor]) -> float:
        torch.manual_seed(4)
        former = torch.randn(2, 3) @ weights[0].T @ weights[1].T
        return 0.5 * (former[:, 0] + 2.0 - real @ d[0].weight[0]).clamp_min(0).mean().item()

    def found() -> Tensor:
        torch.manual_seed(4)
        return term(Round(nets, real, torch.zeros(2, 2), d))

    with torch.no_grad():
        g.weight.add_(1)
        d[0].weight.mul_(0.25)
    assert found().item() == pytest.approx(expected(old))
    found().backward()
    assert d[0].weight.grad is not None
    assert g.weight.grad is None
    assert all(weight.grad is None and not weight.requires_grad for weight in term.parameters())
    term.follow_g(nets)
    assert found().item() == pytest.approx(expected([g.weight.detach(), old[1]]))
    term.follow_d(nets)
    assert found().item() == pytest.approx(expected([g.weight.detach(), d[0].weight.detach()]))
    assert len(term.state_dict()) == 2

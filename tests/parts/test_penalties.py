"""Penalties, compared with closed forms: a linear critic s(x) = w.x has the slope w everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from leafwing.game import Clock, Nets, Round
from leafwing.parts import priors
from leafwing.parts.penalties import (
    HistoricalAverage,
    PreviousStageRanking,
    clip_weights,
    feature_matching,
    gradient_penalty,
    input_gradient,
    pull_away,
    r1,
    r2,
)

pytestmark = pytest.mark.machine

SHAPE = (3, 4, 4)


def linear(norm: float) -> Tensor:
    """The weights of a linear critic whose slope has this norm."""
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    return w * norm / w.norm()


def round_of(judge: Callable[[Tensor], Tensor], n: int = 5, **facts: object) -> Round:
    """A round of n samples that require gradients, as the engine prepares it for penalties."""
    generator = torch.Generator().manual_seed(2)
    real, fake = (torch.randn(n, *SHAPE, generator=generator).requires_grad_() for _ in range(2))
    return Round(Nets(), real=real, fake=fake, judge=judge, **{"clock": Clock(), **facts})


def critic_of(w: Tensor) -> Callable[[Tensor], Tensor]:
    """The linear critic with weights w."""
    return lambda x: (x * w).sum((1, 2, 3))


@pytest.mark.parametrize(("norm", "weight"), [(0.25, 10.0), (1.0, 10.0), (2.0, 10.0), (3.0, 0.1)])
def test_the_penalty_of_a_linear_critic_is_the_squared_distance_of_its_slope_from_one(norm: float, weight: float) -> None:
    loss = gradient_penalty(weight).loss(round_of(critic_of(linear(norm)))).item()
    assert loss == pytest.approx(weight * (norm - 1) ** 2, rel=1e-4, abs=1e-10)


def test_the_penalty_is_averaged_over_samples() -> None:
    """Slopes 2 and 4: the mean of 1 and 9 is 5, the square of the mean's distance would be 4."""
    w = linear(1.0)
    factors = torch.tensor([2.0, 4.0])
    loss = gradient_penalty(1.0).loss(round_of(lambda x: critic_of(w)(x) * factors, n=2)).item()
    assert loss == pytest.approx((1 + 9) / 2, rel=1e-4)


@pytest.mark.parametrize(("term", "which"), [(r1, "real"), (r2, "fake")])
def test_r1_and_r2_of_a_linear_critic_are_half_gamma_times_the_squared_slope(
    term: Callable[..., object], which: str
) -> None:
    loss = term(0.8).loss(round_of(critic_of(linear(3.0)))).item()  # type: ignore[attr-defined]
    assert loss == pytest.approx(0.4 * 9, rel=1e-5)


def test_r1_uses_real_samples_and_r2_fake_ones() -> None:
    """For s(x) = |x|^2 / 2 the slope is x itself."""
    r = round_of(lambda x: x.square().sum((1, 2, 3)) / 2)
    assert r1(2.0).loss(r).item() == pytest.approx(r.real.square().sum((1, 2, 3)).mean().item(), rel=1e-5)
    assert r2(2.0).loss(r).item() == pytest.approx(r.fake.square().sum((1, 2, 3)).mean().item(), rel=1e-5)


@pytest.mark.parametrize("term", [r1, r2])
def test_gamma_may_follow_the_clock(term: Callable[..., object]) -> None:
    loss = term(lambda clock: clock.images / 10).loss  # type: ignore[attr-defined]
    assert loss(round_of(critic_of(linear(1.0)), clock=Clock(5, 100))).item() == pytest.approx(0.25, rel=1e-5)
    assert loss(round_of(critic_of(linear(1.0)), clock=Clock(20, 100))).item() == pytest.approx(1.0, rel=1e-5)


def test_the_input_gradient_is_the_flattened_gradient_of_each_score() -> None:
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradients = input_gradient(x.square().sum((1, 2, 3)), x)
    assert gradients.shape == (4, 48)
    assert torch.allclose(gradients, 2 * x.flatten(1))


@pytest.mark.parametrize("term", [gradient_penalty(10.0), r1(1.0), r2(1.0)], ids=lambda term: term.name)
def test_the_critic_learns_from_the_penalty(term: object) -> None:
    """The gradient in the critic's weights equals the finite difference: the slope is differentiated a second time."""
    weights = torch.randn(48, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) / 4
    output = torch.ones(6, dtype=torch.float64)

    def loss_of(weight: Tensor) -> Tensor:
        torch.manual_seed(0)
        r = round_of(lambda x: torch.tanh(x.double().flatten(1) @ weight) @ output)
        r.__dict__["real_score"], r.__dict__["fake_score"] = r.judge(r.real), r.judge(r.fake)  # without rounding to fp32
        return term.loss(r).double()  # type: ignore[attr-defined,no-any-return]

    leaf = weights.clone().requires_grad_()
    (exact,) = torch.autograd.grad(loss_of(leaf), leaf)
    step = torch.randn(48, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    step = step / step.norm()
    h = 1e-2
    with torch.enable_grad():
        difference = (loss_of(weights + h * step) - loss_of(weights - h * step)).item() / (2 * h)
    assert difference == pytest.approx((exact * step).sum().item(), rel=2e-2)
    assert exact.abs().max() > 1e-3


def test_terms_that_differentiate_by_the_samples_declare_it() -> None:
    assert gradient_penalty().second_order
    assert r1().second_order
    assert r2().second_order


class Recorder:
    """A critic that stores its inputs."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach())
        return x.flatten(1).sum(1)


def test_the_penalty_interpolates_each_pair_with_one_coefficient() -> None:
    judge = Recorder()
    r = Round(Nets(), real=torch.ones(64, *SHAPE), fake=torch.zeros(64, *SHAPE), judge=judge)
    torch.manual_seed(0)
    gradient_penalty().loss(r)
    (between,) = judge.inputs
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


def test_the_coefficients_are_fresh_each_time() -> None:
    judge = Recorder()
    r = Round(Nets(), real=torch.ones(4, *SHAPE), fake=torch.zeros(4, *SHAPE), judge=judge)
    gradient_penalty().loss(r)
    gradient_penalty().loss(r)
    assert not torch.equal(*judge.inputs)


def test_the_penalty_gives_the_generator_no_gradient() -> None:
    g, d = nn.Linear(4, 48), nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1))
    fake = g(torch.randn(5, 4)).unflatten(1, SHAPE)
    r = Round(Nets(G=g, D=d), real=torch.randn(5, *SHAPE), fake=fake, judge=lambda x: d(x).squeeze(1))
    gradient_penalty().loss(r).backward()
    assert all(weight.grad is None for weight in g.parameters())
    assert d[1].weight.grad is not None
    assert d[1].weight.grad.abs().sum() > 0


def test_a_constant_critic_has_the_full_penalty_and_a_finite_gradient() -> None:
    w = torch.zeros(SHAPE, requires_grad=True)
    loss = gradient_penalty(10.0).loss(round_of(lambda x: (x * w).sum((1, 2, 3))))
    loss.backward()
    assert loss.item() == pytest.approx(10.0)
    assert w.grad is not None
    assert torch.isfinite(w.grad).all()


def test_clipping_bounds_the_weights_of_one_player() -> None:
    nets = Nets(D=nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), G=nn.Linear(3, 3))
    with torch.no_grad():
        nets.D[0].weight.copy_(torch.tensor([[-5.0, -0.01, 0.004], [0.0, 0.009, 0.01], [0.011, 5.0, -0.004]]))
        nets.G.weight.fill_(7)
        clip_weights("D", 0.01)(nets)
    expected = torch.tensor([[-0.01, -0.01, 0.004], [0.0, 0.009, 0.01], [0.01, 0.01, -0.004]])
    assert torch.equal(nets.D[0].weight, expected)
    assert all(weight.abs().max() <= 0.01 for weight in nets.D.parameters())
    assert torch.equal(nets.G.weight, torch.full((3, 3), 7.0))


def test_frozen_weights_are_not_clipped() -> None:
    nets = Nets(D=nn.Linear(2, 2))
    nets.D.weight.requires_grad_(False).fill_(7)
    with torch.no_grad():
        nets.D.bias.fill_(7)
        clip_weights("D", 0.01)(nets)
    assert nets.D.weight.unique().tolist() == [7]
    assert nets.D.bias.tolist() == pytest.approx([0.01] * 2)
    nets.D.requires_grad_(False)
    with pytest.raises(ValueError, match="in which D moves"):
        clip_weights("D", 0.01)(nets)


def test_feature_matching_is_the_squared_distance_of_the_means() -> None:
    r = round_of(critic_of(linear(1.0)))
    term = feature_matching(lambda r, x: x[:, 0])
    expected = (r.real[:, 0].mean(0) - r.fake[:, 0].mean(0)).square().mean().item()
    assert term.loss(r).item() == pytest.approx(expected, rel=1e-5)
    assert term.loss(r.with_samples(r.real, r.real.flip(0))).item() == pytest.approx(0, abs=1e-12), (
        "the order of samples must not matter"
    )


def test_pull_away_is_the_mean_squared_cosine_of_the_codes() -> None:
    r = round_of(critic_of(linear(1.0)), n=4)
    for code, expected in (
        (torch.eye(4), 0.0),
        (torch.ones(4, 3), 1.0),
        (torch.tensor([[1.0, 0], [-2, 0], [0, 3], [0, 1]]), 1 / 3),
    ):
        assert pull_away(lambda r, code=code: code, 0.5).loss(r).item() == pytest.approx(0.5 * expected, abs=1e-6)
    assert pull_away(lambda r: torch.ones(1, 3)).loss(r).item() == pytest.approx(0, abs=1e-6)


def test_the_historical_average_covers_all_previous_weights() -> None:
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
    term.restart(nets)
    assert term(r).item() == 0
    assert term.count == 1


def test_a_former_pair_is_ranked_below_real_samples_and_changes_only_on_update() -> None:
    g, d = nn.Linear(3, 2, bias=False), nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))
    nets, real = Nets(G=g, D=d), torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    term = PreviousStageRanking(g, d, priors.Normal(3), 2.0, 0.5)
    initial = [weight.detach().clone() for weight in (g.weight, d[0].weight)]

    def expected(weights: list[Tensor]) -> float:
        torch.manual_seed(4)
        former = torch.randn(2, 3) @ weights[0].T @ weights[1].T
        return 0.5 * (former[:, 0] + 2.0 - real @ d[0].weight[0]).clamp_min(0).mean().item()

    def loss() -> Tensor:
        torch.manual_seed(4)
        return term(Round(nets, real, torch.zeros(2, 2), d))

    with torch.no_grad():
        g.weight.add_(1)
        d[0].weight.mul_(0.25)
    assert loss().item() == pytest.approx(expected(initial))
    loss().backward()
    assert d[0].weight.grad is not None
    assert g.weight.grad is None
    assert all(weight.grad is None and not weight.requires_grad for weight in term.parameters())
    term.snapshot_g(nets)
    assert loss().item() == pytest.approx(expected([g.weight.detach(), initial[1]]))
    term.snapshot_d(nets)
    assert loss().item() == pytest.approx(expected([g.weight.detach(), d[0].weight.detach()]))
    r = Round(nets, real, torch.zeros(2, 2), d)
    r.augment = lambda samples: samples * 0  # critics see changed samples, also those of the former pair
    assert term(r).item() == pytest.approx(0.5 * (2.0 - real @ d[0].weight[0]).clamp_min(0).mean().item())
    assert len(term.state_dict()) == 2

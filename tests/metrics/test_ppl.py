"""Perceptual path length: paths, the length of a path through a linear generator, trimming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evidence import FakeEvidence
from scipy.stats import trim_mean
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.game import Prior
from leafwing.latents import lerp, slerp
from leafwing.metrics import ppl
from leafwing.metrics.ppl import EPSILON, exceeds_uniform, squared_rates, trimmed_mean
from leafwing.parts.priors import Normal, Uniform

pytestmark = pytest.mark.machine

WEIGHT = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))


def linear(latents: Tensor) -> Tensor:
    """Latents (b, 6) -> images (b, 1, 4, 4)."""
    return (latents @ WEIGHT).view(-1, 1, 4, 4)


def linear_evidence(prior: Prior, n: int = 200, scale: float = 1) -> FakeEvidence:
    blank = torch.zeros(n, 1, 4, 4)
    return FakeEvidence(blank, blank, generator=lambda latents: scale * linear(latents), prior=prior)


def ends(prior: Prior, n: int = 200) -> tuple[Tensor, Tensor]:
    both = prior(2 * n, generator=torch.Generator().manual_seed(0))
    return both[:n], both[n:]


def test_a_linear_generator_has_constant_speed_on_straight_lines() -> None:
    """|W (b - a)|^2 at every time. In float32 a step of 1e-4 is accurate to about one part in 500."""
    a, b = ends(Uniform(6))
    rates = squared_rates(linear_evidence(Uniform(6)), lerp, a, b, torch.linspace(0, 1, 200, dtype=torch.float64))
    oracle = ((b - a) @ WEIGHT).square().sum(1).numpy()
    assert rates == pytest.approx(oracle, rel=0.02)


def test_on_a_great_circle_the_step_is_its_tangent() -> None:
    """d/dt slerp = angle / sin(angle) * (cos(t angle) b - cos((1 - t) angle) a)."""
    a, b = ends(Normal(6))
    t = torch.linspace(0, 1, 200, dtype=torch.float64)
    rates = squared_rates(linear_evidence(Normal(6)), slerp, a, b, t)
    angle = torch.nn.functional.cosine_similarity(a, b).acos()[:, None].double()
    tangent = angle / angle.sin() * ((t[:, None] * angle).cos() * b - ((1 - t[:, None]) * angle).cos() * a)
    oracle = (tangent @ WEIGHT.double()).square().sum(1).numpy()
    assert rates == pytest.approx(oracle, rel=0.02)


def test_measure_is_the_trimmed_mean_along_paths_and_at_their_ends() -> None:
    along, at_ends = ppl.measure(linear_evidence(Uniform(6)))
    a, b = ends(Uniform(6))
    values = ((b - a) @ WEIGHT).square().sum(1).numpy()
    assert (along.name, at_ends.name) == ("ppl", "ppl_ends")
    for measure in (along, at_ends):
        assert measure.value == pytest.approx(trim_mean(values, 0.01), rel=0.02)
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low < measure.value < measure.high
        assert measure.better == "lower"


def test_path_ends_are_at_position_0() -> None:
    a, b = ends(Normal(6))
    t = torch.zeros(200, dtype=torch.float64)
    _, measure = ppl.measure(linear_evidence(Normal(6)))
    assert measure.value == pytest.approx(
        trimmed_mean("", squared_rates(linear_evidence(Normal(6)), slerp, a, b, t)).value, rel=1e-6
    )


def test_the_path_length_is_quadratic_in_the_features() -> None:
    (once, _), (twice, _) = ppl.measure(linear_evidence(Normal(6))), ppl.measure(linear_evidence(Normal(6), scale=2))
    assert twice.value == pytest.approx(4 * once.value, rel=0.02)


def test_a_generator_that_jumps_has_a_longer_path() -> None:
    """It jumps where the first two numbers are equal. Five seeds: 5 to 14 times as long as without the jump."""

    def jumpy(latents: Tensor) -> Tensor:
        return linear(latents) + 3 * torch.tanh(10 * (latents[:, :1] - latents[:, 1:2]))[:, :, None, None]

    blank = torch.zeros(300, 1, 4, 4)
    rough, _ = ppl.measure(FakeEvidence(blank, blank, generator=jumpy, prior=Normal(6)))
    smooth, _ = ppl.measure(linear_evidence(Normal(6), 300))
    assert rough.value > 3 * smooth.value


def test_slerp_goes_from_a_to_b_at_constant_angular_speed() -> None:
    a, b = (latents[:20].double() for latents in ends(Normal(6)))
    start, half, end = (slerp(a, b, torch.full((20,), t, dtype=torch.float64)) for t in (0, 0.5, 1))
    assert torch.allclose(start, a)
    assert torch.allclose(end, b)
    first = torch.nn.functional.cosine_similarity(a, half).acos()
    second = torch.nn.functional.cosine_similarity(half, b).acos()
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    middle = slerp(a, b, torch.full((20,), 0.5, dtype=torch.float64))
    assert torch.allclose(middle.norm(dim=1), torch.ones(20, dtype=torch.float64))  # it stays on the sphere
    assert torch.allclose(first + second, (a * b).sum(1).acos())


def test_slerp_takes_one_path_at_many_positions() -> None:
    a, b = (latents[3].double() for latents in ends(Normal(6)))
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    assert torch.allclose(slerp(a, b, t), slerp(a.expand(7, -1), b.expand(7, -1), t))


def test_slerp_is_linear_between_parallel_latents() -> None:
    a = torch.tensor([[1.0], [1], [2]]).double()
    b = torch.tensor([[3.0], [-1], [2]]).double()
    half = torch.full((3,), 0.5, dtype=torch.float64)
    assert torch.equal(slerp(a, b, half), lerp(a, b, half))


def test_the_prior_is_inferred_from_latents() -> None:
    assert exceeds_uniform(ends(Normal(100), 64)[0])
    assert not exceeds_uniform(ends(Uniform(100), 2000)[0])


def test_the_lowest_and_highest_percent_are_trimmed() -> None:
    values = np.r_[np.full(198, 2.0), 0, 1e9]
    measure = trimmed_mean("ppl", values)
    assert measure.value == 2
    assert measure.low == measure.high == 2
    squares = np.arange(200.0) ** 2
    assert trimmed_mean("ppl", squares[::-1]).value == pytest.approx(squares[1:199].mean())
    assert trimmed_mean("ppl", values[:1]).low is None


def test_points_are_rejected_and_a_diverged_generator_gives_nan() -> None:
    with pytest.raises(LeafwingError, match="points"):
        ppl.measure(FakeEvidence(torch.zeros(3, 2), torch.zeros(3, 2)))
    broken = linear_evidence(Normal(6), 5, scale=float("nan"))
    assert all(np.isnan(measure.value) and measure.low is None for measure in ppl.measure(broken))


def test_the_step_is_the_papers() -> None:
    assert EPSILON == 1e-4


def test_codes_stay_those_of_the_start_and_the_rest_follows_its_prior() -> None:
    code, z = torch.eye(3)[torch.arange(256) % 3], torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    latents = torch.cat([code, z], 1)
    t = torch.full((128,), 0.3, dtype=torch.float64)
    between = ppl.path_of(latents)(latents[:128].double(), latents[128:].double(), t)
    assert torch.equal(between[:, :3].float(), code[:128])
    assert torch.allclose(between[:, 3:], slerp(z[:128].double(), z[128:].double(), t))

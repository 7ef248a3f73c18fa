"""Priors: moments, ranges, determinism, and the error for an unknown name."""

from __future__ import annotations

import pytest
import torch

from leafwing.parts.priors import Categorical, Normal, Product, Uniform, by_name

pytestmark = pytest.mark.machine


def draw(name: str, n: int = 4000, size: int = 5, seed: int = 0) -> torch.Tensor:
    return by_name(name, size)(n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_latents_have_one_row_per_sample(name: str) -> None:
    assert draw(name, 7, 3).shape == (7, 3)
    assert by_name(name, 3).size == 3


def test_normal_latents_have_mean_0_and_variance_1() -> None:
    z = draw("normal")
    assert z.mean().item() == pytest.approx(0, abs=0.03)
    assert z.var().item() == pytest.approx(1, abs=0.05)
    assert z.pow(4).mean().item() == pytest.approx(3, abs=0.3)  # kurtosis of a normal distribution


def test_uniform_latents_fill_minus_1_to_1() -> None:
    z = draw("uniform")
    assert -1 <= z.min() < -0.99
    assert 0.99 < z.max() <= 1
    assert z.mean().item() == pytest.approx(0, abs=0.03)
    assert z.var().item() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_numbers_of_a_latent_are_independent(name: str) -> None:
    correlation = torch.corrcoef(draw(name).T) - torch.eye(5)
    assert correlation.abs().max() < 0.06


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_latents_depend_only_on_the_generator_if_there_is_one(name: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(draw(name, seed=1), draw(name, seed=1))
    assert not torch.equal(draw(name, seed=1), draw(name, seed=2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["normal", "uniform"])
def test_without_a_generator_latents_are_fresh_and_follow_the_global_seed(name: str) -> None:
    prior = by_name(name, 4)
    torch.manual_seed(3)
    first, second = prior(2), prior(2)
    torch.manual_seed(3)
    assert not torch.equal(first, second)
    assert torch.equal(prior(2), first)


def test_priors_are_found_by_name() -> None:
    assert by_name("normal", 4) == Normal(4)
    assert by_name("uniform", 4) == Uniform(4)


def test_an_unknown_prior_is_reported_with_the_existing_ones() -> None:
    with pytest.raises(ValueError, match="no prior 'cauchy'; there are: normal, uniform"):
        by_name("cauchy", 4)


@pytest.mark.parametrize("size", [0, -3])
def test_a_latent_needs_a_positive_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, not {size}"):
        by_name("normal", size)


def test_categories_are_one_hot_and_uniform() -> None:
    z = Categorical(4)(8000, generator=torch.Generator().manual_seed(0))
    assert z.shape == (8000, 4)
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert (z.sum(1) == 1).all()
    assert z.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_a_product_concatenates_its_named_factors() -> None:
    z = Product({"noise": Normal(3), "digit": Categorical(10), "slant": Uniform(1)})
    latents = z(500, generator=torch.Generator().manual_seed(0))
    assert z.size == latents.shape[1] == 14
    parts = z.parts(latents)
    assert [(name, part.shape[1]) for name, part in parts.items()] == [("noise", 3), ("digit", 10), ("slant", 1)]
    assert torch.equal(torch.cat(list(parts.values()), 1), latents)
    assert (parts["digit"].sum(1) == 1).all()
    assert parts["slant"].abs().max() <= 1 < parts["noise"].abs().max()
    assert torch.equal(z(500, generator=torch.Generator().manual_seed(0)), latents)

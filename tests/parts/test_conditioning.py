"""How labels and attributes condition G and D: projection by hand, the concatenated input, and their effect."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from leafwing.parts.conditioning import Concatenation, ConditionalGenerator, Projection

pytestmark = pytest.mark.machine


class Trunk(nn.Module):
    """A critic with known features."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.values = features

    def features(self, x: Tensor) -> Tensor:
        return self.values

    def score(self, features: Tensor) -> Tensor:
        return features.flatten(1).amax(1)


class Recorder(nn.Module):
    """A network that stores its input."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x.flatten(1).sum(1)


def projection(features: Tensor, table: list[list[float]]) -> Projection:
    module = Projection(Trunk(features), features.shape[1], len(table))
    with torch.no_grad():
        module.embedding.weight.copy_(torch.tensor(table))
    return module


def test_projection_adds_the_inner_product_of_label_and_features() -> None:
    module = projection(torch.tensor([[1.0, 2.0], [3.0, -1.0]]), [[10.0, 1.0], [0.0, 5.0]])
    # psi: 2 and 3; <V y, phi>: label 1 gives 0*1 + 5*2 = 10, label 0 gives 10*3 + 1*(-1) = 29
    assert module(torch.zeros(2, 1), torch.tensor([1, 0])).tolist() == [12.0, 32.0]


def test_projection_sums_maps_over_positions() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [1.0, 1.0]]]])
    module = projection(maps, [[1.0, 0.0], [1.0, 100.0]])
    # phi = (10, 2), psi = 4
    assert module(torch.zeros(1, 1), torch.tensor([0])).tolist() == [14.0]
    assert module(torch.zeros(1, 1), torch.tensor([1])).tolist() == [214.0]


def test_a_projected_label_is_learned() -> None:
    module = projection(torch.tensor([[1.0, 2.0]]), [[0.0, 0.0], [0.0, 0.0]])
    module(torch.zeros(1, 1), torch.tensor([1])).sum().backward()
    assert module.embedding.weight.grad is not None
    assert module.embedding.weight.grad.tolist() == [[0.0, 0.0], [1.0, 2.0]]


def test_concatenation_adds_one_constant_channel_per_class() -> None:
    inner = Recorder()
    x = torch.randn(2, 3, 4, 5)
    Concatenation(inner, 4)(x, torch.tensor([2, 0]))
    assert inner.x.shape == (2, 7, 4, 5)
    assert torch.equal(inner.x[:, :3], x)
    expected = torch.zeros(2, 4, 4, 5)
    expected[0, 2], expected[1, 0] = 1, 1
    assert torch.equal(inner.x[:, 3:], expected)


def test_concatenation_works_for_vectors() -> None:
    inner = Recorder()
    Concatenation(inner, 3)(torch.tensor([[5.0, 6.0]]), torch.tensor([1]))
    assert inner.x.tolist() == [[5.0, 6.0, 0.0, 1.0, 0.0]]


def test_the_label_is_appended_to_the_latent() -> None:
    inner = Recorder()
    ConditionalGenerator(inner, 3)(torch.tensor([[0.5, -0.5], [1.0, 2.0]]), torch.tensor([2, 0]))
    assert inner.x.tolist() == [[0.5, -0.5, 0.0, 0.0, 1.0], [1.0, 2.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", [Concatenation, ConditionalGenerator])
def test_the_label_takes_the_precision_of_the_input(kind: type[nn.Module]) -> None:
    inner = Recorder()
    kind(inner, 3)(torch.zeros(2, 2, dtype=torch.float64), torch.tensor([0, 1]))
    assert inner.x.dtype == torch.float64


def test_another_label_gives_another_output() -> None:
    torch.manual_seed(0)
    x, y, other = torch.randn(3, 6), torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    critic, generator = Concatenation(nn.Linear(9, 1), 3), ConditionalGenerator(nn.Linear(9, 4), 3)
    for module in (critic, generator):
        assert ((module(x, y) - module(x, other)).abs().amax(1) > 1e-3).all()


# --- attributes --------------------------------------------------------------------------------------------------------------

ATTRIBUTES = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def test_projection_adds_the_inner_product_of_the_sum_of_attributes_and_features() -> None:
    module = Projection(Trunk(torch.tensor([[1.0, 2.0], [3.0, -1.0]])), 2, 0, 3)
    with torch.no_grad():
        module.linear.weight.copy_(
            torch.tensor([[10.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
        )  # V: a row per feature, a column per attribute
    # psi: 2 and 3; V a = (12, 4) and (2, 4): 12*1 + 4*2 = 20, and 2*3 + 4*(-1) = 2
    assert module(torch.zeros(2, 1), ATTRIBUTES).tolist() == [22.0, 5.0]
    assert not hasattr(module, "embedding")


def test_projecting_label_and_attributes_is_projecting_one_vector() -> None:
    features = torch.randn(2, 4)
    separate = Projection(Trunk(features), 4, 2, 3)
    joint = Projection(Trunk(features), 4, 0, 5)
    with torch.no_grad():
        joint.linear.weight.copy_(torch.cat([separate.embedding.weight.T, separate.linear.weight], dim=1))
    label = torch.tensor([1, 0])
    joined = torch.cat([torch.tensor([[0.0, 1.0], [1.0, 0.0]]), ATTRIBUTES], dim=1)
    assert torch.allclose(separate(torch.zeros(2, 1), label, ATTRIBUTES), joint(torch.zeros(2, 1), joined))


def test_initial_weights_for_a_label_alone_are_unchanged() -> None:
    torch.manual_seed(3)
    module = Projection(Trunk(torch.zeros(1, 2)), 2, 4)
    torch.manual_seed(3)
    embedding = nn.Embedding(4, 2)
    nn.init.normal_(embedding.weight, std=0.02)
    assert torch.equal(module.embedding.weight, embedding.weight)
    assert list(module.state_dict()) == ["embedding.weight"]


def test_attributes_are_channels_after_those_of_the_label() -> None:
    inner = Recorder()
    label = torch.tensor([1, 0])
    Concatenation(inner, 2)(torch.zeros(2, 1, 2, 2), label, ATTRIBUTES)
    assert inner.x[:, 1:, 0, 1].tolist() == [[0.0, 1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 1.0]]
    ConditionalGenerator(inner, 0)(torch.tensor([[0.5], [2.0]]), ATTRIBUTES)
    assert inner.x.tolist() == [[0.5, 1.0, 0.0, 1.0], [2.0, 0.0, 0.0, 1.0]]

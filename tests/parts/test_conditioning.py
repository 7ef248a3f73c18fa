"""How a label and attributes enter G and D: projection by hand, concatenation seen from inside, and that they matter."""

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
        self.known = features

    def features(self, x: Tensor) -> Tensor:
        return self.known

    def score(self, features: Tensor) -> Tensor:
        return features.flatten(1).amax(1)


class Seen(nn.Module):
    """A network that keeps its input."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x.flatten(1).sum(1)


def projection(features: Tensor, table: list[list[float]]) -> Projection:
    made = Projection(Trunk(features), features.shape[1], len(table))
    with torch.no_grad():
        made.embedding.weight.copy_(torch.tensor(table))
    return made


def test_projection_adds_the_inner_product_of_label_and_features() -> None:
    made = projection(torch.tensor([[1.0, 2.0], [3.0, -1.0]]), [[10.0, 1.0], [0.0, 5.0]])
    # psi: 2 and 3; <V y, phi>: label 1 gives 0*1 + 5*2 = 10, label 0 gives 10*3 + 1*(-1) = 29
    assert made(torch.zeros(2, 1), torch.tensor([1, 0])).tolist() == [12.0, 32.0]


def test_projection_sums_maps_over_their_places() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [1.0, 1.0]]]])
    made = projection(maps, [[1.0, 0.0], [1.0, 100.0]])
    # phi = (10, 2), psi = 4
    assert made(torch.zeros(1, 1), torch.tensor([0])).tolist() == [14.0]
    assert made(torch.zeros(1, 1), torch.tensor([1])).tolist() == [214.0]


def test_a_projected_label_is_learned() -> None:
    made = projection(torch.tensor([[1.0, 2.0]]), [[0.0, 0.0], [0.0, 0.0]])
    made(torch.zeros(1, 1), torch.tensor([1])).sum().backward()
    assert made.embedding.weight.grad is not None
    assert made.embedding.weight.grad.tolist() == [[0.0, 0.0], [1.0, 2.0]]


def test_concatenation_adds_one_channel_a_class_that_is_the_same_at_every_pixel() -> None:
    inside = Seen()
    x = torch.randn(2, 3, 4, 5)
    Concatenation(inside, 4)(x, torch.tensor([2, 0]))
    assert inside.x.shape == (2, 7, 4, 5)
    assert torch.equal(inside.x[:, :3], x)
    expected = torch.zeros(2, 4, 4, 5)
    expected[0, 2], expected[1, 0] = 1, 1
    assert torch.equal(inside.x[:, 3:], expected)


def test_concatenation_works_for_vectors() -> None:
    inside = Seen()
    Concatenation(inside, 3)(torch.tensor([[5.0, 6.0]]), torch.tensor([1]))
    assert inside.x.tolist() == [[5.0, 6.0, 0.0, 1.0, 0.0]]


def test_the_label_stands_beside_the_latent() -> None:
    inside = Seen()
    ConditionalGenerator(inside, 3)(torch.tensor([[0.5, -0.5], [1.0, 2.0]]), torch.tensor([2, 0]))
    assert inside.x.tolist() == [[0.5, -0.5, 0.0, 0.0, 1.0], [1.0, 2.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", [Concatenation, ConditionalGenerator])
def test_the_label_takes_on_the_precision_of_what_it_joins(kind: type[nn.Module]) -> None:
    inside = Seen()
    kind(inside, 3)(torch.zeros(2, 2, dtype=torch.float64), torch.tensor([0, 1]))
    assert inside.x.dtype == torch.float64


def test_another_label_gives_another_output() -> None:
    torch.manual_seed(0)
    x, y, other = torch.randn(3, 6), torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    concatenated, beside = Concatenation(nn.Linear(9, 1), 3), ConditionalGenerator(nn.Linear(9, 4), 3)
    for made in (concatenated, beside):
        assert ((made(x, y) - made(x, other)).abs().amax(1) > 1e-3).all()


# --- attributes --------------------------------------------------------------------------------------------------------------

ATTRIBUTES = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def test_projection_adds_the_inner_product_of_the_sum_of_attributes_and_features() -> None:
    made = Projection(Trunk(torch.tensor([[1.0, 2.0], [3.0, -1.0]])), 2, 0, 3)
    with torch.no_grad():
        made.linear.weight.copy_(
            torch.tensor([[10.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
        )  # V: a row a feature, a column an attribute
    # psi: 2 and 3; V a = (12, 4) and (2, 4): 12*1 + 4*2 = 20, and 2*3 + 4*(-1) = 2
    assert made(torch.zeros(2, 1), ATTRIBUTES).tolist() == [22.0, 5.0]
    assert not hasattr(made, "embedding")


def test_projecting_label_and_attributes_is_projecting_one_vector() -> None:
    features = torch.randn(2, 4)
    both = Projection(Trunk(features), 4, 2, 3)
    whole = Projection(Trunk(features), 4, 0, 5)
    with torch.no_grad():
        whole.linear.weight.copy_(torch.cat([both.embedding.weight.T, both.linear.weight], dim=1))
    label = torch.tensor([1, 0])
    joined = torch.cat([torch.tensor([[0.0, 1.0], [1.0, 0.0]]), ATTRIBUTES], dim=1)
    assert torch.allclose(both(torch.zeros(2, 1), label, ATTRIBUTES), whole(torch.zeros(2, 1), joined))


def test_a_label_alone_draws_the_weights_it_always_drew() -> None:
    torch.manual_seed(3)
    made = Projection(Trunk(torch.zeros(1, 2)), 2, 4)
    torch.manual_seed(3)
    embedding = nn.Embedding(4, 2)
    nn.init.normal_(embedding.weight, std=0.02)
    assert torch.equal(made.embedding.weight, embedding.weight)
    assert list(made.state_dict()) == ["embedding.weight"]


def test_attributes_are_channels_and_stand_behind_the_label() -> None:
    inside = Seen()
    label = torch.tensor([1, 0])
    Concatenation(inside, 2)(torch.zeros(2, 1, 2, 2), label, ATTRIBUTES)
    assert inside.x[:, 1:, 0, 1].tolist() == [[0.0, 1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 1.0]]
    ConditionalGenerator(inside, 0)(torch.tensor([[0.5], [2.0]]), ATTRIBUTES)
    assert inside.x.tolist() == [[0.5, 1.0, 0.0, 1.0], [2.0, 0.0, 0.0, 1.0]]

"""MLPs and small layers: shapes for images and points, maxout by hand, dropout rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing import networks
from leafwing.game import DataSpec
from leafwing.networks import mlp
from leafwing.networks.layers import Maxout, dcgan_weights

pytestmark = pytest.mark.machine

POINTS, PICTURES = DataSpec.vectors(2), DataSpec.images(5, 7, 3)


@pytest.mark.parametrize("data", [POINTS, PICTURES, DataSpec.images(16, 16, 1)], ids=str)
def test_shapes_follow_the_data(data: DataSpec) -> None:
    samples = mlp.Generator(data, 4, (8, 8))(torch.randn(3, 4))
    assert samples.shape == (3, *data.shape)
    assert mlp.Critic(data, (8, 8))(samples).shape == (3,)
    assert mlp.Critic(data, (8, 8), pieces=3, dropout=0.5)(samples).shape == (3,)


def test_images_are_bounded_by_tanh_and_points_are_not() -> None:
    torch.manual_seed(0)
    z = torch.randn(64, 4) * 1000
    assert mlp.Generator(PICTURES, 4, (8,))(z).abs().max() <= 1
    assert mlp.Generator(POINTS, 4, (8,))(z).abs().max() > 1


def test_the_default_networks_for_points_have_three_hidden_layers_of_eight_times_the_width() -> None:
    g, d = networks.generator(POINTS, 6, 4), networks.critic(POINTS, 4)
    assert [m.out_features for m in g.modules() if isinstance(m, nn.Linear)] == [32, 32, 32, 2]
    assert [m.out_features for m in d.modules() if isinstance(m, nn.Linear)] == [32, 32, 32, 1]
    assert d(g(torch.randn(5, 6))).shape == (5,)


def test_maxout_is_the_maximum_of_its_linear_pieces() -> None:
    layer = Maxout(1, 2, 3)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0], [-1.0], [0.0], [2.0], [0.5], [0.0]]))
        layer.linear.bias.copy_(torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0, -10.0]))
    # first unit max(x, -x, .5), second max(2x, x/2, -10)
    assert layer(torch.tensor([[2.0], [-3.0], [0.1]])).tolist() == pytest.approx(
        [pytest.approx([2.0, 4.0]), pytest.approx([3.0, -1.5]), pytest.approx([0.5, 0.2])]
    )


def test_dropout_is_active_in_training_only_and_weaker_on_the_input() -> None:
    d = mlp.Critic(PICTURES, (8, 8), pieces=2, dropout=0.5)
    assert [m.p for m in d.modules() if isinstance(m, nn.Dropout)] == pytest.approx([0.2, 0.5, 0.5])
    x = torch.randn(2, *PICTURES.shape)
    torch.manual_seed(0)
    assert not torch.equal(d(x), d(x))
    d.eval()
    assert torch.equal(d(x), d(x))


def test_without_dropout_there_is_no_dropout_layer() -> None:
    d = mlp.Critic(PICTURES, (8,))
    assert not any(isinstance(m, nn.Dropout) for m in d.modules())


def test_features_then_score_is_the_critic() -> None:
    d = mlp.Critic(POINTS, (8, 6))
    x = torch.randn(4, 2)
    assert d.features(x).shape == (4, 6)
    assert torch.equal(d.score(d.features(x)), d(x))


def test_scores_are_not_bounded() -> None:
    torch.manual_seed(0)
    d = mlp.Critic(POINTS, (8,))
    scores = d(torch.randn(200, 2) * 100)
    assert scores.abs().max() > 1


def test_dcgan_weights_does_not_change_other_modules() -> None:
    embedding = nn.Embedding(3, 3)
    before = embedding.weight.clone()
    dcgan_weights(embedding)
    assert torch.equal(embedding.weight, before)

"""SRResNet and its discriminator: the paper's layers, any size, the initialisation without normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing.game import DataSpec
from leafwing.networks.enlarger import Block, Critic, Generator

pytestmark = pytest.mark.machine


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_images_of_any_size_are_enlarged(scale: int, norm: str) -> None:
    net = torch.fx.symbolic_trace(Generator(3, 1, scale, 4, blocks=2, norm=norm))
    for height, width in [(1, 1), (5, 8), (9, 3)]:
        assert net(torch.randn(2, 1, height, width)).shape == (2, 3, scale * height, scale * width)


def test_g_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        net = Generator(3, 3, 4)
    layers = [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert layers == [(3, 64, 9), *[(64, 64, 3)] * 33, *[(64, 256, 3)] * 2, (64, 3, 9)]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 33
    assert sum(isinstance(m, nn.PReLU) for m in net.modules()) == 19


def test_d_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        net = Critic(DataSpec.images(96, 96))
    layers = [(m.out_channels, m.stride[0]) for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert layers == [(64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2)]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 7
    assert [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)] == [
        (512 * 36, 1024),
        (1024, 1),
    ]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 40), (128, 300), (500, 33)])
def test_d_scores_images_of_any_size_with_few_weights(height: int, width: int) -> None:
    net = Critic(DataSpec.images(height, width), 2)
    scores, maps = net.score_and_features(torch.randn(3, 3, height, width))
    assert scores.shape == (3,)
    assert [m.shape[1] for m in maps] == [2, 4, 8, 16]
    assert [m.shape[2] for m in maps] == [-(-height // 2**i) for i in (1, 2, 3, 4)]
    assert sum(p.numel() for p in net.head.parameters()) <= (16 * 9 * 9 + 1) * 32 + 33


def test_score_and_features_agree_with_the_score() -> None:
    net, x = Critic(DataSpec.images(24, 24), 2).eval(), torch.randn(2, 3, 24, 24)
    assert torch.equal(net(x), net.score_and_features(x)[0])


def test_without_normalisation_residuals_are_small_at_first() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 32, 16, 16)
    block = Block(32, "none")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in block.modules())
    assert torch.allclose(block(x) - x, 0.2 * block.body(x), atol=1e-6)
    deviation = block.body[0].weight.std().item()
    assert deviation == pytest.approx(0.1 * (2 / (9 * 32)) ** 0.5, rel=0.05), "a tenth of He's initialisation"
    assert (block(x) - x).std() < 0.01
    assert (Block(32, "batch")(x) - x).std() > 0.5

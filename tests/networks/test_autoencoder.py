"""The convolutional autoencoder."""

import pytest
import torch
from torch import nn

from leafwing.game import DataSpec
from leafwing.networks.autoencoder import Autoencoder, multiple, translator


@pytest.mark.parametrize(("height", "width", "base"), [(16, 16, 4), (64, 64, 4), (32, 48, 4)])
def test_images_become_images_through_a_base_of_about_4_pixels(height: int, width: int, base: int) -> None:
    data = DataSpec.images(height, width, 3)
    net = Autoencoder(data, 1, 4, max_width=8)
    x = torch.randn(2, 1, height, width)
    assert net(x).shape == (2, 3, height, width)
    assert net(x).abs().max() <= 1
    assert net.encode(x).shape[2] == base
    assert multiple(data) == height // base


def test_sides_need_only_be_divisible_by_the_multiple() -> None:
    data = DataSpec.images(32, 32)
    net, k = Autoencoder(data, 3, 4).eval(), multiple(data)
    assert net(torch.randn(1, 3, 3 * k, 5 * k)).shape == (1, 3, 3 * k, 5 * k)


def test_it_has_the_layers_of_64_px_of_the_paper() -> None:
    net = Autoencoder(DataSpec.images(64, 64), 3)
    channels = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert channels == [64, 128, 256, 512, 256, 128, 64, 3]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 6


def test_it_can_be_traced() -> None:
    net = Autoencoder(DataSpec.images(16, 16), 3, 4).eval()
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(torch.fx.symbolic_trace(net)(x), net(x))


def test_points_are_translated_by_an_mlp() -> None:
    net = translator(DataSpec.vectors(2), DataSpec.vectors(3), 4)
    assert net(torch.randn(5, 3)).shape == (5, 2)
    assert multiple(DataSpec.vectors(2)) == 0

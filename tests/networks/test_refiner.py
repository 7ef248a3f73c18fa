"""The refiner and the critic of small patches."""

from __future__ import annotations

import torch

from leafwing.game import DataSpec
from leafwing.networks.refiner import Critic, Refiner


def test_images_of_any_size_are_refined() -> None:
    net = Refiner(DataSpec.images(16, 16, 2), 3, 4, blocks=2)
    for height, width in ((16, 16), (7, 9)):
        y = net(torch.rand(2, 3, height, width))
        assert y.shape == (2, 2, height, width)
        assert y.abs().max() <= 1


def test_a_pixel_depends_on_its_neighbourhood_only() -> None:
    """One convolution and two in each block, of 3x3 pixels: two blocks see five pixels in each direction."""
    torch.manual_seed(0)
    net, x = Refiner(DataSpec.images(32, 32, 1), 1, 4, blocks=2), torch.rand(1, 1, 32, 32)
    changed = x.clone()
    changed[..., 16, 16] += 1
    rows = (net(changed) - net(x)).abs().amax((0, 1, 3)).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (11, 21)


def test_a_refiner_can_be_traced_and_has_no_normalisation() -> None:
    net, x = Refiner(DataSpec.images(16, 16), 3, 4), torch.rand(1, 3, 8, 12)
    assert torch.equal(torch.fx.symbolic_trace(net)(x), net(x))
    assert not any("Norm" in type(module).__name__ for module in net.modules())


def test_the_critic_scores_patches() -> None:
    torch.manual_seed(0)
    net, x = Critic(DataSpec.images(64, 64), 8), torch.rand(2, 3, 64, 48)
    scores = net(x)
    assert scores.shape == (2, 16, 12)
    for weight in net.parameters():
        weight.data.abs_()  # all units active
    image = x[:1].clone().requires_grad_()
    net(image)[0, 8, 6].backward()
    assert image.grad is not None
    rows = image.grad.abs().amax((0, 1, 3)).nonzero().flatten()
    assert 7 <= int(rows.max() - rows.min()) < 23


def test_the_critic_has_the_channels_of_the_paper() -> None:
    net = Critic(DataSpec.images(35, 55, 1), 64)
    assert [layer.out_channels for layer in net.body if isinstance(layer, torch.nn.Conv2d)] == [96, 64, 32, 32, 1]
    assert net(torch.rand(1, 1, 35, 55)).shape == (1, 9, 14)

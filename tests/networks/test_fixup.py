"""Residual networks without normalisation: shapes, identity at initialisation, and scale independent of depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks import fixup
from leafwing.networks.fixup import Block, Critic, Generator

pytestmark = pytest.mark.machine


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (64, 96), (48, 80), (16, 64), (96, 96), (128, 128), (256, 256)])
def test_every_valid_size(size: tuple[int, int]) -> None:
    data = DataSpec.images(*size, 3)
    with torch.no_grad():
        samples = Generator(data, 6, 4, 8)(torch.randn(2, 6))
        assert samples.shape == (2, 3, *size)
        assert Critic(data, 4, 8)(samples).shape == (2,)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_one_to_four_channels(channels: int) -> None:
    data = DataSpec.images(16, 16, channels)
    samples = Generator(data, 6, 4, 8)(torch.randn(3, 6))
    assert samples.shape == (3, channels, 16, 16)
    assert Critic(data, 4, 8)(samples).shape == (3,)


@pytest.mark.parametrize("width", [1, 3, 12, 16, 20, 28, 32, 52])
def test_every_width_works(width: int) -> None:
    """Blocks have grouped convolutions, also for widths that the group size does not divide."""
    x = torch.randn(1, width, 4, 4)
    assert Block(width, blocks=4)(x).shape == x.shape


@pytest.mark.parametrize("channels", [4, 16, 32])
def test_a_block_is_the_identity_at_initialisation(channels: int) -> None:
    x = torch.randn(2, channels, 6, 6)
    assert torch.equal(Block(channels, blocks=8)(x), x)


def test_a_block_is_not_the_identity_after_a_step() -> None:
    torch.manual_seed(0)
    block, x = Block(8, blocks=8), torch.randn(2, 8, 6, 6)
    block(x).square().sum().backward()
    assert block.last.weight.grad is not None
    assert block.last.weight.grad.abs().sum() > 0
    with torch.no_grad():
        block.last.weight.sub_(block.last.weight.grad)
    assert not torch.allclose(block(x), x)


def test_all_blocks_of_both_networks_start_as_the_identity() -> None:
    data = DataSpec.images(32, 32, 3)
    for net in (Generator(data, 6, 4, 8), Critic(data, 4, 8)):
        blocks = [module for module in net.modules() if isinstance(module, Block)]
        assert len(blocks) == 4 * fixup.DEPTH  # 32, 16, 8 and 4 px
        for block in blocks:
            assert not block.last.weight.any()


def test_there_is_no_normalisation() -> None:
    data = DataSpec.images(16, 16, 3)
    for net in (Generator(data, 6, 4, 8), Critic(data, 4, 8)):
        assert not any("Norm" in type(module).__name__ for module in net.modules())
        assert not list(net.buffers())


def test_no_sample_depends_on_the_others() -> None:
    torch.manual_seed(0)
    data = DataSpec.images(16, 16, 3)
    d, x = Critic(data, 4, 8), torch.randn(4, 3, 16, 16)
    assert torch.allclose(d(x)[:1], d(x[:1]), atol=1e-5)


@pytest.mark.parametrize("side", [16, 128])
def test_scores_and_images_have_the_same_initial_scale_at_any_depth(side: int) -> None:
    torch.manual_seed(0)
    data = DataSpec.images(side, side, 3)
    with torch.no_grad():
        scores = Critic(data, 8, 16)(torch.randn(32, 3, side, side))
        samples = Generator(data, 32, 8, 16)(torch.randn(8, 32))
    assert 0 < scores.std() < 3
    assert 0.1 < samples.std() < 3


def test_weights_are_initialised_by_fan_in() -> None:
    torch.manual_seed(0)
    block = Block(32, blocks=16)
    assert block.first.weight.std().item() == pytest.approx(16**-0.25 / 32**0.5, rel=0.1)
    assert block.middle.weight.std().item() == pytest.approx(2**0.5 * 16**-0.25 / (16 * 9) ** 0.5, rel=0.1)
    assert not block.first.bias.any()


def test_images_are_not_bounded() -> None:
    torch.manual_seed(0)
    g = Generator(DataSpec.images(16, 16, 3), 6, 4, 8)
    with torch.no_grad():
        assert (g(torch.randn(64, 6) * 100)).abs().max() > 1


def test_every_weight_of_both_networks_gets_a_gradient() -> None:
    torch.manual_seed(0)
    data = DataSpec.images(16, 16, 3)
    for net, x in ((Generator(data, 6, 4, 8), torch.randn(4, 6)), (Critic(data, 4, 8), torch.randn(4, 3, 16, 16))):
        for module in net.modules():
            if isinstance(module, Block):
                nn.init.normal_(module.last.weight, std=0.1)  # at the identity the gradients of earlier layers are 0
        net(x).square().sum().backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


def test_the_error_for_an_invalid_size_names_the_nearest_valid_ones() -> None:
    for make in (lambda data: Generator(data, 6, 4, 8), lambda data: Critic(data, 4, 8)):
        with pytest.raises(LeafwingError, match="Nearest: --size 48x48 or 64x64"):
            make(DataSpec.images(60, 60))

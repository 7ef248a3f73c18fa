"""Residual networks without normalisation: shapes, identity at initialisation, and scale independent of depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing.engine.double_backward import DoubleBackward
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks import fixup
from leafwing.networks.fixup import Block, Critic, Generator, Resample

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
        assert net.state_dict().keys() == dict(net.named_parameters()).keys(), "there are no running statistics"


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
    """Both convolutions before a leaky ReLU with the same gain, sqrt(2 / (1 + 0.2^2)), divided by the fourth root of the blocks."""
    torch.manual_seed(0)
    block = Block(128, blocks=16)
    gain = (2 / 1.04) ** 0.5 / 2
    assert block.first.weight.std().item() == pytest.approx(gain / 128**0.5, rel=0.03)
    assert block.middle.weight.std().item() == pytest.approx(gain / (16 * 9) ** 0.5, rel=0.03)
    assert not block.first.bias.any()
    assert not block.middle.bias.any()


def test_only_layers_before_an_activation_have_biases() -> None:
    data = DataSpec.images(16, 16, 3)
    for net in (Generator(data, 6, 4, 8), Critic(data, 4, 8)):
        assert {name.split(".")[-2] for name, _ in net.named_parameters() if name.endswith("bias")} == {"first", "middle"}


LINE = torch.tensor([1.0, 3.0, 3.0, 1.0])
FACTORS = pytest.mark.parametrize("factor", [2, 0.5])


@pytest.mark.parametrize(("i", "j"), [(3, 4), (4, 4), (5, 2), (0, 7)])
def test_downsampling_is_the_outer_product_of_1_3_3_1(i: int, j: int) -> None:
    """Output row r sees rows 2 r - 1 to 2 r + 2, so an impulse at row i has weight i + 1 - 2 r of the line in it."""
    x = torch.zeros(1, 2, 8, 8)
    x[0, 1, i, j] = 64
    expected = torch.zeros(1, 2, 4, 4)
    for row in range(4):
        for column in range(4):
            if 0 <= i + 1 - 2 * row < 4 and 0 <= j + 1 - 2 * column < 4:
                expected[0, 1, row, column] = LINE[i + 1 - 2 * row] * LINE[j + 1 - 2 * column]
    assert torch.equal(Resample(2, 2, 0.5)(x), expected)


def test_upsampling_is_the_outer_product_of_1_3_3_1() -> None:
    x = torch.zeros(1, 2, 4, 4)
    x[0, 1, 2, 1] = 16
    expected = torch.zeros(1, 2, 8, 8)
    expected[0, 1, 3:7, 1:5] = LINE[:, None] * LINE
    assert torch.equal(Resample(2, 2, 2)(x), expected)


@FACTORS
def test_a_constant_stays_constant_inside_and_fades_at_the_border(factor: float) -> None:
    y = Resample(1, 1, factor)(torch.ones(1, 1, 8, 12))[0, 0]
    assert torch.equal(y[1:-1, 1:-1], torch.ones_like(y[1:-1, 1:-1]))
    side = 0.75 if factor > 1 else 0.875  # the missing weight is that of zeros beyond the border
    assert torch.equal(y[0, 1:-1], torch.full_like(y[0, 1:-1], side))
    assert y[0, 0] == y[-1, -1] == side**2


@FACTORS
def test_resampling_has_right_first_and_second_gradients(factor: float) -> None:
    torch.manual_seed(0)
    layer, x = Resample(2, 3, factor).double(), torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, [x])
    assert torch.autograd.gradgradcheck(lambda x: layer(x).square(), [x])


def test_gradient_penalties_of_the_critic_are_those_of_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the engine's convolutions, against the filter as a convolution that autograd differentiates itself."""
    torch.manual_seed(0)
    critic = Critic(DataSpec.images(16, 16, 3), 4, 8).double()
    for block in (module for module in critic.modules() if isinstance(module, Block)):
        nn.init.normal_(block.last.weight, std=0.3)
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64, requires_grad=True)

    def gradients() -> list[torch.Tensor]:
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        return [slope, *torch.autograd.grad(slope.square().sum(), list(critic.parameters()), allow_unused=True)]

    here = gradients()
    with DoubleBackward():
        inside = gradients()

    def plain(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), stride=2, padding=1, groups=x.shape[1])

    monkeypatch.setattr(fixup.Downsample, "apply", plain)
    for expected, *others in zip(gradients(), here, inside, strict=True):
        for other in others:
            assert (expected is None) == (other is None)
            if expected is not None:
                torch.testing.assert_close(other, expected)


@FACTORS
def test_resampling_in_bf16(factor: float) -> None:
    torch.manual_seed(0)
    layer, x = Resample(4, 4, factor), torch.randn(2, 4, 8, 8)
    expected = layer(x)
    inputs = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(inputs)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, atol=0.03, rtol=0.03)
    (gradient,) = torch.autograd.grad(result.float().square().sum(), inputs, create_graph=True)
    assert gradient.dtype == torch.bfloat16
    gradient.float().square().sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()


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


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_channels_double_where_the_resolution_halves(factor: float) -> None:
    """Width at the full resolution, twice as many at each half of it, at most `max_width`."""
    channels, _ = fixup.stages(DataSpec.images(32, 32), 4, 16, factor)
    assert channels == ([16, 16, 8, 4] if factor > 1 else [4, 8, 16, 16])

"""The DCGAN pair: all valid shapes, the paper's rules, and the sizes of the networks of a well-known tutorial."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing import networks
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks import dcgan
from leafwing.networks.layers import SelfAttention, doublings

pytestmark = pytest.mark.machine

SQUARES = [(side, side) for side in (16, 32, 48, 64, 96, 128, 256)]
RECTANGLES = [(64, 96), (48, 80), (16, 64), (80, 16), (32, 256)]


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("height", "width"), SQUARES + RECTANGLES)
def test_every_valid_size_gives_images_of_that_size_and_one_score_each(height: int, width: int, norm: str) -> None:
    data = DataSpec.images(height, width, 3)
    g = dcgan.Generator(data, 8, 2, norm=norm, max_width=8)
    d = dcgan.Critic(data, 2, norm=norm, max_width=8)
    with torch.no_grad():
        samples = g(torch.randn(2, 8))
        assert samples.shape == (2, 3, height, width)
        assert d(samples).shape == (2,)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_one_to_four_channels(channels: int) -> None:
    data = DataSpec.images(16, 32, channels)
    samples = dcgan.Generator(data, 4, 4)(torch.randn(3, 4))
    assert samples.shape == (3, channels, 16, 32)
    assert dcgan.Critic(data, 4)(samples).shape == (3,)


def test_the_critic_accepts_further_channels_of_a_condition() -> None:
    d = dcgan.Critic(DataSpec.images(16, 16, 3), 4, extra=5)
    assert d(torch.randn(2, 8, 16, 16)).shape == (2,)


@pytest.mark.parametrize(("activation", "norm"), [("relu", "batch"), ("selu", "none")])
def test_images_cover_and_never_leave_minus_1_to_1(activation: str, norm: str) -> None:
    torch.manual_seed(0)
    g = dcgan.Generator(DataSpec.images(16, 16, 1), 8, 8, norm=norm, activation=activation)
    with torch.no_grad():
        for layer in g.modules():
            if isinstance(layer, nn.ConvTranspose2d):
                layer.weight.mul_(100)
        samples = g(torch.randn(8, 8))
    assert samples.min() >= -1
    assert samples.max() <= 1
    assert samples.min() < -0.9
    assert samples.max() > 0.9


def test_scores_are_not_bounded() -> None:
    torch.manual_seed(0)
    d, x = dcgan.Critic(DataSpec.images(16, 16, 3), 4, norm="none"), torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        before = d(x)
        d.out.weight.mul_(-1e6)
        after = d(x)
    assert after.abs().max() > 1
    assert torch.allclose(after, -1e6 * before, rtol=1e-4)


def test_images_depend_on_latents_and_scores_on_images() -> None:
    torch.manual_seed(0)
    data = DataSpec.images(16, 16, 3)
    g, d = dcgan.Generator(data, 8, 4, norm="none").eval(), dcgan.Critic(data, 4, norm="none").eval()
    samples = g(torch.randn(2, 8))
    assert not torch.equal(samples[0], samples[1])
    scores = d(torch.randn(2, 3, 16, 16))
    assert scores[0] != scores[1]


def norms(net: nn.Module) -> list[str]:
    return [name for name, layer in net.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("side", [16, 64])
def test_normalisation_is_everywhere_but_at_gs_output_and_ds_input_and_score(side: int) -> None:
    data = DataSpec.images(side, side, 3)
    g, d = dcgan.Generator(data, 8, 4, max_width=16), dcgan.Critic(data, 4, max_width=16)
    halvings = {16: 2, 64: 4}[side]
    assert len(norms(g)) == halvings
    assert len(norms(d)) == halvings - 1
    order = [type(layer).__name__ for layer in d.body]
    assert order[:3] == ["Conv2d", "LeakyReLU", "Conv2d"]
    ends = [type(layer).__name__ for layer in g.body]
    assert ends[-2:] == ["ConvTranspose2d", "Tanh"]
    assert isinstance(d.out, nn.Conv2d)


def test_without_norm_there_is_no_normalisation_layer() -> None:
    data = DataSpec.images(64, 64, 3)
    assert norms(dcgan.Generator(data, 8, 4, norm="none")) == []
    assert norms(dcgan.Critic(data, 4, norm="none")) == []


def test_without_norm_no_sample_depends_on_its_neighbours() -> None:
    torch.manual_seed(0)
    d = dcgan.Critic(DataSpec.images(16, 16, 1), 4, norm="none").train()
    x = torch.randn(4, 1, 16, 16)
    assert torch.allclose(d(x)[:1], d(x[:1]), atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_layer_has_a_bias_exactly_where_no_norm_follows(norm: str) -> None:
    data = DataSpec.images(32, 32, 3)
    for net in (dcgan.Generator(data, 8, 4, norm=norm), dcgan.Critic(data, 4, norm=norm)):
        layers = list(net.body) + ([net.out] if hasattr(net, "out") else [])
        convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        for i in convolutions:
            followed = i + 1 < len(layers) and isinstance(layers[i + 1], nn.BatchNorm2d)
            assert (layers[i].bias is None) == followed


def test_weights_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    data = DataSpec.images(32, 32, 3)
    for net in (dcgan.Generator(data, 64, 32), dcgan.Critic(data, 32)):
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
                assert layer.weight.mean().abs().item() < 2e-3
                assert layer.bias is None or not layer.bias.any()
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.5)
                assert not layer.bias.any()


def count(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def test_at_64_px_the_networks_are_those_of_the_tutorial() -> None:
    """3,576,704 and 2,765,568 parameters without any bias; here G's last layer and D's first and last have one."""
    data = DataSpec.images(64, 64, 3)
    assert count(dcgan.Generator(data, 100, 64)) == 3_576_704 + 3
    assert count(dcgan.Critic(data, 64)) == 2_765_568 + 64 + 1


def test_channels_double_up_to_the_maximum() -> None:
    data = DataSpec.images(128, 128, 3)
    assert dcgan.widths(data, 64, 512) == [64, 128, 256, 512, 512]
    assert dcgan.widths(data, 64, 1024) == [64, 128, 256, 512, 1024]


def test_the_first_layer_may_be_wider_than_the_maximum() -> None:
    assert dcgan.widths(DataSpec.images(32, 32), 64, 16) == [64, 64, 64]


def test_features_are_the_last_hidden_layer_and_score_ends_the_critic() -> None:
    torch.manual_seed(0)
    d = dcgan.Critic(DataSpec.images(32, 48, 3), 4, norm="none")
    x = torch.randn(2, 3, 32, 48)
    assert d.features(x).shape == (2, d.features_size, 4, 6)
    assert torch.equal(d.score(d.features(x)), d(x))


def test_the_critic_is_leaky_and_the_generator_is_not() -> None:
    slopes = [m.negative_slope for m in dcgan.Critic(DataSpec.images(16, 16), 4).modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.2, 0.2]
    assert sum(isinstance(m, nn.ReLU) for m in dcgan.Generator(DataSpec.images(16, 16), 4, 4).modules()) == 2


def scales(activation: str) -> list[tuple[float, float]]:
    """Mean and variance after each activation of a critic whose weights are N(0, 1 / fan-in), away from the border."""
    torch.manual_seed(0)
    d = dcgan.Critic(DataSpec.images(64, 64, 3), 32, norm="none", activation=activation, max_width=256)
    for layer in d.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0, layer.weight[0].numel() ** -0.5)
    moments, x = [], torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        for layer in d.body:
            x = layer(x)
            if not isinstance(layer, nn.Conv2d):
                inner = x[:, :, 1:-1, 1:-1]  # zero padding takes variance away at the border
                moments.append((inner.mean().item(), inner.var().item()))
    return moments


def test_selu_keeps_activations_near_mean_0_and_variance_1_and_leaky_relu_does_not() -> None:
    for mean, variance in scales("selu"):
        assert abs(mean) < 0.15
        assert 0.7 < variance < 1.3
    assert scales("leaky_relu")[-1][1] < 0.3


@pytest.mark.parametrize(
    ("size", "near"),
    [
        ((100, 100), "96x96"),
        ((60, 60), "48x48 or 64x64"),
        ((64, 70), "64x64"),
        ((8, 8), "16x16"),
        ((300, 512), "256x256"),
        ((250, 250), "240x240 or 256x256"),
    ],
)
def test_an_illegal_size_is_answered_with_the_nearest_legal_ones(size: tuple[int, int], near: str) -> None:
    for make in (lambda data: networks.generator(data, 8, 4), lambda data: networks.critic(data, 4)):
        with pytest.raises(LeafwingError, match=f"size {size[0]}x{size[1]}: .*divisible by 16.*Nearest: --size {near}$"):
            make(DataSpec.images(*size))


@pytest.mark.parametrize(
    ("size", "halvings"),
    [
        ((16, 16), 2),
        ((32, 32), 3),
        ((64, 64), 4),
        ((64, 96), 4),
        ((48, 80), 4),
        ((128, 128), 5),
        ((256, 256), 6),
        ((16, 256), 2),
    ],
)
def test_images_are_halved_down_to_a_short_side_of_about_4(size: tuple[int, int], halvings: int) -> None:
    assert doublings(DataSpec.images(*size)) == halvings


def test_suggested_sizes_are_valid() -> None:
    for height in range(1, 300, 7):
        for width in (1, 16, 40, 100, 256, 999):
            try:
                doublings(DataSpec.images(height, width))
            except LeafwingError as error:
                for size in str(error).rpartition("--size ")[2].split(" or "):
                    doublings(DataSpec.images(*map(int, size.split("x"))))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(16, 16, (8, 8)), (32, 32, (16, 16)), (64, 64, (32, 32)), (128, 128, (32, 32)), (64, 96, (16, 24)), (32, 256, (4, 32))],
)
def test_attention_is_at_the_largest_map_of_32_pixels_or_half_the_image(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    data, sizes = DataSpec.images(height, width, 3), []
    g = dcgan.Generator(data, 8, 8, max_width=16, attention=True)
    d = dcgan.Critic(data, 8, norm="none", max_width=16, attention=True)
    for net in (g, d):
        (layer,) = (module for module in net.modules() if isinstance(module, SelfAttention))
        layer.register_forward_hook(lambda module, args, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        assert d(g(torch.randn(2, 8))).shape == (2,)
    assert sizes == [expected, expected]

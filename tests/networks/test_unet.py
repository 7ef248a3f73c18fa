"""The U-Net: sizes, the paper's layers, skip connections, dropout as noise, statistics of single images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks.unet import Generator, halvings

pytestmark = pytest.mark.machine

SMALL = DataSpec.images(32, 32, 3)


def maps(net: Generator, x: torch.Tensor) -> list[tuple[int, ...]]:
    """The shapes of the encoder's maps, without the batch."""
    shapes = []
    for layer in net.encoder:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    return shapes


@pytest.mark.parametrize(
    ("height", "width", "times"),
    [(16, 16, 4), (32, 32, 5), (48, 48, 4), (64, 96, 5), (48, 80, 4), (16, 256, 4), (256, 256, 8), (512, 512, 8)],
)
def test_every_valid_size_gives_images_of_that_size(height: int, width: int, times: int) -> None:
    data = DataSpec.images(height, width, 3)
    assert halvings(data) == times
    net = Generator(data, 2, 2, max_width=4)
    with torch.no_grad():
        samples = net(torch.randn(1, 2, height, width))
        assert maps(net, torch.randn(1, 2, height, width))[-1][1:] == (height >> times, width >> times)
    assert samples.shape == (1, 3, height, width)
    assert samples.abs().max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "nearest"),
    [(40, 64, "32x64 or 48x64"), (8, 16, "16x16"), (20, 70, "16x64 or 32x80"), (100, 100, "96x96 or 112x112")],
)
def test_other_sizes_are_refused_with_the_nearest_valid_ones(height: int, width: int, nearest: str) -> None:
    with pytest.raises(LeafwingError, match=f"^--size {height}x{width}: .* divisible by 16. Nearest: --size {nearest}$"):
        Generator(DataSpec.images(height, width), 3)


def test_at_256_pixels_it_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        net = Generator(DataSpec.images(256, 256), 3, norm="batch")
        assert [shape[0] for shape in maps(net, torch.empty(1, 3, 256, 256))] == [
            64,
            128,
            256,
            512,
            512,
            512,
            512,
            512,
        ]
    decoder = [layer for layer in net.decoder.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.in_channels for layer in decoder] == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    assert sum(p.numel() for p in net.parameters()) == 54_414_531, "54.414 M, as the authors' code prints"
    noisy = ["DropoutNoise" in str(layer) for layer in net.decoder]
    assert noisy == [True] * 3 + [False] * 5
    normalised = [any(isinstance(part, nn.BatchNorm2d) for part in layer) for layer in [*net.encoder, *net.decoder]]
    assert normalised == [False, *[True] * 6, False, *[True] * 7, False]


def test_details_reach_the_output_through_the_skip_connections() -> None:
    torch.manual_seed(0)
    net = Generator(SMALL, 1, 4, dropout=0)
    nn.init.zeros_(net.encoder[-1][-1].weight)
    x = torch.randn(1, 1, 32, 32).requires_grad_()
    (slope,) = torch.autograd.grad(net(x)[0, :, 16, 16].sum(), x)
    assert slope.abs().sum() > 0


def test_a_bottleneck_of_one_pixel_is_not_zeroed() -> None:
    torch.manual_seed(0)
    net = Generator(SMALL, 1, 4, dropout=0)
    net(torch.randn(2, 1, 32, 32)).square().sum().backward()
    weight = net.encoder[-1][-1].weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_dropout_is_noise_in_training_and_in_evaluation() -> None:
    x = torch.randn(2, 1, 32, 32)
    for training in (True, False):
        net = Generator(SMALL, 1, 4).train(training)
        assert not torch.equal(net(x), net(x))
        still = Generator(SMALL, 1, 4, dropout=0).train(training)
        assert torch.equal(still(x), still(x))


def test_with_instance_normalisation_the_result_does_not_depend_on_the_batch_or_the_mode() -> None:
    torch.manual_seed(0)
    net, x = Generator(SMALL.with_channels(1), 3, 4, dropout=0).double(), torch.randn(8, 3, 32, 32, dtype=torch.float64)
    whole = net(x)
    assert torch.allclose(torch.cat([net(row[None]) for row in x]), whole)
    assert torch.allclose(net.eval()(x), whole)


def test_with_batch_normalisation_evaluation_uses_running_statistics() -> None:
    torch.manual_seed(0)
    net, x = Generator(SMALL, 3, 4, norm="batch", dropout=0).double(), torch.randn(8, 3, 32, 32, dtype=torch.float64)
    whole = net(x)
    assert not torch.allclose(net(x[:1]), whole[:1])
    net.eval()
    assert torch.allclose(net(x[:1]), net(x)[:1])

"""The residual translator."""

import pytest
import torch

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks.residual import Generator


def test_it_accepts_images_of_other_sizes_than_the_data() -> None:
    net = Generator(DataSpec.images(16, 24, 3), 1, 4, blocks=2)
    for height, width in ((16, 24), (8, 40)):
        y = net(torch.rand(2, 1, height, width))
        assert y.shape == (2, 3, height, width)
        assert y.abs().max() <= 1


def test_the_paper_has_9_blocks_from_256_pixels_on() -> None:
    assert len(Generator(DataSpec.images(128, 128), 3, 2).blocks) == 6
    assert len(Generator(DataSpec.images(256, 320), 3, 2).blocks) == 9


def test_features_are_the_maps_of_the_forward_pass() -> None:
    torch.manual_seed(0)
    net, x = Generator(DataSpec.images(16, 16), 3, 4, blocks=3), torch.rand(1, 3, 16, 16)
    first, last = net.features(x, [0, 12])
    assert torch.equal(first, net.encoder[0](x))
    assert torch.equal(net.decoder(last), net(x))


@pytest.mark.parametrize("size", [(18, 16), (4, 16)])
def test_unusable_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(LeafwingError, match="divisible by 4"):
        Generator(DataSpec.images(*size), 3, 4)

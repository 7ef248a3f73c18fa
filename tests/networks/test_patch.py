"""PatchGAN: receptive fields, the paper's layers, conditions, and sizes that do not fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.networks.patch import DEPTHS, Critic, MultiScale, usable

pytestmark = pytest.mark.machine


@pytest.mark.parametrize("patch", DEPTHS)
def test_a_score_depends_on_a_patch_of_this_size(patch: int) -> None:
    side = 4 * 16 * -(-patch // 16)
    net = Critic(DataSpec.images(side, side, 1), 1, patch, 1, max_width=1, norm="none").double()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
    image, condition = torch.rand(2, 1, 1, side, side, dtype=torch.float64).requires_grad_()
    scores = net(image, condition)
    middle = scores.shape[1] // 2
    for slope in torch.autograd.grad(scores[0, middle, middle], (image, condition)):
        rows, columns = (slope[0, 0] != 0).nonzero().unbind(1)
        assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (patch, patch)


def test_at_70_pixels_it_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        net, pixel_net = (Critic(DataSpec.images(256, 256), 3, patch, norm="batch") for patch in (70, 1))
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.stride[0]) for layer in layers] == [(64, 2), (128, 2), (256, 2), (512, 1), (1, 1)]
    assert sum(p.numel() for p in net.parameters()) == 2_768_705, "2.769 M, as the authors' code prints"
    pixels = [layer for layer in pixel_net.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0]) for layer in pixels] == [(64, 1), (128, 1), (1, 1)]


@pytest.mark.parametrize(
    ("size", "patches"), [((16, 16), [1, 16, 34]), ((32, 64), [1, 16, 34, 70]), ((96, 96), [1, 16, 34, 70, 142, 286])]
)
def test_patches_must_fit_the_images(size: tuple[int, int], patches: list[int]) -> None:
    data = DataSpec.images(*size)
    assert usable(data) == patches
    for patch in patches:
        assert Critic(data, 0, patch, 2)(torch.randn(2, 3, *size)).dim() == 3
    sizes = ", ".join(map(str, patches))
    for patch in {*DEPTHS, 20} - {*patches}:
        with pytest.raises(
            LeafwingError, match=f"^patch={patch}: images of {size[0]}x{size[1]} .* patches of {sizes} pixels$"
        ):
            Critic(data, 0, patch, 2)


def test_scores_are_a_map_and_depend_on_image_and_condition() -> None:
    torch.manual_seed(0)
    net = Critic(DataSpec.images(16, 32, 3), 2, 16, 4).eval()
    image, condition = torch.randn(5, 3, 16, 32), torch.randn(5, 2, 16, 32)
    scores = net(image, condition)
    assert scores.shape == (5, 6, 14)
    assert not torch.equal(net(image, -condition), scores)
    assert not torch.equal(net(-image, condition), scores)
    assert torch.allclose(net(image[:1], condition[:1]), scores[:1], atol=1e-5), "a pair is scored on its own"


def test_each_scale_has_its_own_critic_and_counts_alike() -> None:
    net = MultiScale(DataSpec.images(64, 64), 2, inputs=1, patch=16, width=4)
    x, y = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    full, half = net(x, y).unbind(1)
    assert full.shape == half.shape
    assert torch.equal(full, net.critics[0](x, y))
    reduced = torch.nn.functional.avg_pool2d(torch.cat([x, y], 1), 3, 2, 1, count_include_pad=False)
    small = net.critics[1](reduced)
    assert {*half.flatten().tolist()} == {*small.flatten().tolist()}


def test_patches_must_fit_the_smallest_scale() -> None:
    with pytest.raises(LeafwingError, match="scales=2"):
        MultiScale(DataSpec.images(32, 32), 2, patch=70)


def test_too_many_scales_are_named() -> None:
    with pytest.raises(LeafwingError, match=r"scales=4: images of 4x4 are too small for patches of 16 pixels: use fewer"):
        MultiScale(DataSpec.images(32, 32), 4, patch=16)
    with pytest.raises(LeafwingError, match="images of 2x2 are too small for a discriminator of patches"):
        Critic(DataSpec.images(2, 2))

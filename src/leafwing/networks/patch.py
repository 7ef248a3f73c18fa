"""PatchGAN, the discriminator of pix2pix (Isola et al. 2016, arXiv:1611.07004, section 6.1.2): a score for each patch of an image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import DataSpec
from leafwing.networks.layers import dcgan_weights, make_norm
from leafwing.pixels import pool

DEPTHS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Number of layers with stride 2 by side of the patch, in pixels: the receptive field of a score."""


def usable(data: DataSpec) -> list[int]:
    """The patch sizes that images of this size allow: at least 3x3 positions must be left for the last two convolutions."""
    return [patch for patch, depth in DEPTHS.items() if min(data.height, data.width) >> depth >= 3]


def default_patch(data: DataSpec) -> int:
    """70 pixels for images from 128 pixels on (the paper's choice for 256), else 16; less if the images do not allow it."""
    largest = 70 if min(data.height, data.width) >= 128 else 16
    return max((size for size in usable(data) if size <= largest), default=1)


class Critic(nn.Module):
    """Images (n, channels, height, width), and what they belong to (n, inputs, height, width) -> scores (n, rows, columns), raw.

    With several scores of each patch (n, scores, rows, columns).

    Args:
        data: format of the images.
        inputs: number of channels of the input; 0 without one.
        patch: side of the patches in pixels, a key of `DEPTHS`; 0: `default_patch`.
        width: channels of the first layer; doubles at each further one.
        max_width: maximum number of channels in any layer.
        norm: `instance` or `batch`; the first layer and the scores have none.
        scores: number of scores of each patch.

    Raises:
        LeafwingError: no such patch size, or one too large for the images.
    """

    def __init__(
        self,
        data: DataSpec,
        inputs: int = 0,
        patch: int = 0,
        width: int = 64,
        *,
        max_width: int = 512,
        norm: str = "instance",
        scores: int = 1,
    ) -> None:
        super().__init__()
        patch = patch or default_patch(data)
        if not (sizes := usable(data)):
            raise LeafwingError(f"images of {data.height}x{data.width} are too small for a discriminator of patches")
        if patch not in sizes:
            raise InvalidOption(
                "patch",
                patch,
                f"images of {data.height}x{data.width} can be judged in patches of {', '.join(map(str, sizes))} pixels",
            )
        depth = DEPTHS[patch]
        # Convolutions of 4x4 pixels, the last two with stride 1; for single pixels 1x1.
        kernel, strides = (4, [2] * depth + [1]) if depth else (1, [1, 1])
        channels = [min(width * 2**i, max(max_width, width)) for i in range(len(strides))]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip([data.channels + inputs, *channels], channels, strict=False)):
            layers.append(nn.Conv2d(before, after, kernel, strides[i], kernel // 4, bias=i == 0))
            layers += [make_norm(norm, after)] if i else []
            layers.append(nn.LeakyReLU(0.2))
        self.body = nn.Sequential(*layers, nn.Conv2d(channels[-1], scores, kernel, 1, kernel // 4))
        self.apply(dcgan_weights)

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        return self.body(torch.cat([image, *conditions], 1)).squeeze(1)


class MultiScale(nn.Module):
    """Critics of the image, of the image at half the size, and so on: scores (n, scales, rows, columns), raw.

    Wang et al. 2018, High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs, arXiv:1711.11585, section 3.2.
    The smaller maps of scores are enlarged to the size of the first, so that every scale counts alike.

    Args:
        data: format of the images.
        scales: number of critics.
        inputs, patch, width, options: see `Critic`.

    Raises:
        LeafwingError: no such patch size, or too many scales for it.
    """

    def __init__(
        self, data: DataSpec, scales: int, inputs: int = 0, patch: int = 0, width: int = 64, **options: Any
    ) -> None:
        super().__init__()
        patch = patch or default_patch(data)
        sizes = [DataSpec.images(data.height >> i, data.width >> i, data.channels) for i in range(scales)]
        if patch in usable(data) and patch not in usable(sizes[-1]):
            raise InvalidOption(
                "scales",
                scales,
                f"images of {sizes[-1].height}x{sizes[-1].width} are too small for patches of {patch} pixels: use fewer",
            )
        self.critics = nn.ModuleList(Critic(size, inputs, patch, width, **options) for size in sizes)

    def forward(self, image: Tensor, *conditions: Tensor) -> Tensor:
        x = torch.cat([image, *conditions], 1)
        maps = [self.critics[0](x)[:, None]]
        for critic in self.critics[1:]:
            x = avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            maps.append(interpolate(critic(x)[:, None], maps[0].shape[2:]))
        return torch.cat(maps, 1)


class Semantic(nn.Module):
    """Images, and the classes of their pixels, one-hot (n, classes, height, width), or None -> scores (n, rows, columns), raw.

    A patch has a score for each class, and counts with those of the classes that it shows. Li et al. 2018, arXiv:1801.01726.

    Args:
        data: format of the images.
        classes: number of classes; 0 if there are only images.
        patch, width, options: see `Critic`.
    """

    def __init__(self, data: DataSpec, classes: int, patch: int = 0, width: int = 64, **options: Any) -> None:
        super().__init__()
        self.body = Critic(data, 0, patch, width, scores=max(1, classes), **options).body

    def forward(self, image: Tensor, maps: Tensor | None = None) -> Tensor:
        scores = self.body(image)
        shares = 1 if maps is None else pool(maps, *scores.shape[2:])
        return (scores * shares).sum(1)

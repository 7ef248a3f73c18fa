"""Derivatives of images in several directions: the gradient, and steerable filters.

Filters are computed where they are needed, on the images' device: they are small, and constants would have to be copied there.
"""

from __future__ import annotations

from math import cos, pi, sin

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

CUT = 3
"""Radius of the filters in standard deviations."""


def gradient(x: Tensor) -> Tensor:
    """Sobel's derivatives across and down, (n, channels, height, width) -> (n, channels, 2, height, width).

    Not normalised: a step of height 1 gives 4, on both of its sides. The border is continued by its pixels.
    """
    x = pad(x, (1, 1, 1, 1), mode="replicate")
    smooth_down, smooth_across = (
        x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :],
        x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:],
    )
    across = smooth_down[..., 2:] - smooth_down[..., :-2]
    down = smooth_across[..., 2:, :] - smooth_across[..., :-2, :]
    return torch.stack([across, down], 2)


def changes(maps: Tensor) -> Tensor:
    """Where the neighbours of a pixel belong to different classes: one-hot maps (n, classes, height, width) -> (n, 1, height, width).

    1 where the left and the right neighbour differ, or the upper and the lower, else 0: Li et al. 2018, arXiv:1801.01726.
    """
    x = pad(maps, (1, 1, 1, 1), mode="replicate")
    across, down = x[..., 1:-1, 2:] - x[..., 1:-1, :-2], x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
    return torch.maximum(across.abs(), down.abs()).amax(1, keepdim=True)


def edge_distance(x: Tensor, y: Tensor, maps: Tensor, soft: float = 0.0) -> Tensor:
    """Mean of w ||grad x| - |grad y||, w = 1 at the `changes` of the classes and `soft` elsewhere. Li et al. 2018, arXiv:1801.01726.

    Args:
        x: images (n, channels, height, width).
        y: images of that size; if their channels differ in number, the means over channels are compared.
        maps: the classes of each pixel, one-hot (n, classes, height, width).
        soft: weight of pixels that are not at an edge, 0 to 1.
    """
    x, y = (x, y) if x.shape == y.shape else (x.mean(1, keepdim=True), y.mean(1, keepdim=True))
    difference = (gradient(x).abs() - gradient(y).abs()).abs().mean((1, 2))
    return (((1 - soft) * changes(maps)[:, 0] + soft) * difference).mean()


def filters(sigma: float, directions: int, like: Tensor) -> Tensor:
    """First and second derivatives of a Gaussian in equally spaced directions: (2 directions, 1, side, side).

    A derivative in any direction is a sum of those along the axes: Freeman & Adelson 1991, The Design and Use of Steerable Filters,
    equations 1-2 and table III. The absolute values of each filter add up to 1, so that responses stay in the images' range.

    Args:
        sigma: standard deviation in pixels.
        directions: number of directions: 0, 180 / directions, ... degrees from the first axis.
        like: a tensor with the device and the type of the filters.
    """
    radius = max(1, round(CUT * sigma))
    place = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype) / sigma
    x, y = place[None, :], place[:, None]
    gaussian = torch.exp(-(x.square() + y.square()) / 2)
    result = []
    for angle in (pi * number / directions for number in range(directions)):
        along = cos(angle) * x + sin(angle) * y
        second = (along.square() - 1) * gaussian
        result += [along * gaussian, second - second.mean()]
    kernels = torch.stack(result)[:, None]
    return kernels / kernels.abs().sum((2, 3), keepdim=True)


def responses(x: Tensor, sigma: float = 1.0, directions: int = 4) -> Tensor:
    """What `filters` respond to images: (n, channels, height, width) -> (n, channels, 2 directions, height, width).

    The border is continued by its pixels.

    Args:
        x: images.
        sigma: standard deviation of the Gaussian in pixels.
        directions: number of directions.
    """
    kernels = filters(sigma, directions, x)
    radius = kernels.shape[2] // 2
    padded = pad(x, (radius, radius, radius, radius), mode="replicate").flatten(0, 1)[:, None]
    return conv2d(padded, kernels).unflatten(0, x.shape[:2])

"""Structure distance: whether a translation keeps the layout of its input. For outputs that are generated from images; no pairs.

As in Splice (Tumanyan et al. 2022, arXiv:2201.00424, section 4.1) and in Parmar et al. 2023, arXiv:2302.03027, two images
have the same structure if their parts resemble each other in the same way: the self-similarity matrices of their local descriptors
are compared, so no part of one image is compared with a part of the other, and appearance may change. Those papers take the keys of a
large published transformer as descriptors. Here they are gradients of brightness, which need no network:

    1. both images in brightness, at the smaller of their sizes, downsampled by averaging to at most 64 pixels a side
    2. the gradient at each pixel, its length divided by the mean length in the image, its direction modulo 180 degrees
    3. a descriptor for each cell of 4x4 pixels: the roots of its mean length in four directions, and a 1: flat cells are similar
    4. S = the cosine similarities of all pairs of cells

    structure_distance   1 - correlation of the entries of S of sample and source: 0 the same structure, 1 none in common
    structure_others     the same for the source of another sample: what a translation reaches that ignores its input

Contrast, brightness and swapping light and dark do not change it, colours hardly do; moved, added or lost outlines do, noise in flat
regions too. An image without any outlines has the distance 1 to all others, and 0 to another one without any.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.features import shrink
from leafwing.metrics.intervals import mean
from leafwing.metrics.reconstruction import to_unit
from leafwing.pixels import LUMA

SIDE, CELL = 64, 4
"""Maximum side of the compared images, and side of a cell, in pixels."""
FLAT = 1 / 255
"""Lower bound of the mean gradient, so that the rounding noise of an empty image is not a structure."""


def measure(evidence: Evidence) -> list[Measure]:
    """`structure_distance` and `structure_others`, with normal intervals over images.

    Raises:
        LeafwingError: the samples are not generated from images, masks or label maps.
    """
    matched, others, before = [], [], None
    for sources, samples in evidence.with_sources():
        size = (min(sources.shape[2], samples.shape[2]), min(sources.shape[3], samples.shape[3]))
        a, b = (self_similarity(to_brightness(images, size)) for images in (sources, samples))
        matched.append(distance(a, b))
        shifted = a.roll(1, 0) if before is None else torch.cat([before, a[:-1]])
        others.append(distance(shifted, b))
        before = a[-1:]
    if sum(map(len, others)) < 2:
        others = [np.full(1, np.nan)]  # there is no other sample
    return [
        mean("structure_distance", np.concatenate(matched), "lower"),
        mean("structure_others", np.concatenate(others)),
    ]


def to_brightness(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Images (b, 1 to 4, height, width) in [-1, 1] as brightness (b, 1, h, w) in [0, 1], downsampled to `size` and to at most 64."""
    images = to_unit(images)
    if images.shape[1] == 3:
        images = (images * torch.tensor(LUMA, dtype=images.dtype)[:, None, None]).sum(1, keepdim=True)
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode="area")
    return shrink(images, SIDE)


def descriptors(images: Tensor) -> Tensor:
    """The descriptors (b, cells, 5) of brightness (b, 1, height, width)."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    length = (across.square() + down.square()).sqrt()
    safe = length.clamp_min(torch.finfo(images.dtype).tiny)
    cosine, sine = (across.square() - down.square()) / safe, 2 * across * down / safe  # of twice the angle, times the length
    directions = torch.cat([cosine.relu(), (-cosine).relu(), sine.relu(), (-sine).relu()], 1)
    directions = directions / length.mean((1, 2, 3), keepdim=True).clamp_min(FLAT)
    height, width = images.shape[2:]
    cells = F.adaptive_avg_pool2d(directions, (-(-height // CELL), -(-width // CELL)))
    return torch.cat([cells.sqrt(), torch.ones_like(cells[:, :1])], 1).flatten(2).mT


def self_similarity(images: Tensor) -> Tensor:
    """The cosine similarities (b, cells, cells) of all pairs of cells of brightness (b, 1, height, width)."""
    normalised = F.normalize(descriptors(images), dim=2).float()
    return normalised @ normalised.mT


def distance(a: Tensor, b: Tensor) -> np.ndarray:
    """1 - correlation of the entries of self-similarities (b, cells, cells): (b,), 0 to 2."""
    a, b = (side.flatten(1).double() for side in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    lengths = a.norm(dim=1) * b.norm(dim=1)
    both_flat = torch.maximum(a.norm(dim=1), b.norm(dim=1)) < 1e-6
    result = 1 - (a * b).sum(1) / lengths.clamp_min(1e-12)
    return result.masked_fill(both_flat, 0).clamp_min(0).numpy()

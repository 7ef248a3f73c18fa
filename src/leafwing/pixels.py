"""How images are stored: pixels of 8 or 16 bits or the values that networks see, and their layout in memory.

Imports torch only when used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from torch import Tensor, nn


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of an array; of a copy, if that is read-only or stored in an order that torch does not know."""
    import numpy as np
    import torch

    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ("C", "W")))


LUMA = (0.299, 0.587, 0.114)
"""The share of red, green and blue in the brightness (ITU-R BT.601, as in Pillow)."""


@dataclass(frozen=True, eq=False)
class Window:
    """A part of each image of a batch, all of one size, in pixels of the image.

    Args:
        tops: the first row of each sample, int64 (n,).
        lefts: the first column of each sample, int64 (n,).
        height: rows.
        width: columns.
        image: height and width of the whole images.
    """

    tops: Tensor
    lefts: Tensor
    height: int
    width: int
    image: tuple[int, int]


def set_layout(module: nn.Module, layout: torch.memory_format) -> None:
    """Lays out all 4-D weights and buffers in place. `Module.to(memory_format=)` refuses modules with 3-D convolutions."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=layout)


def to_floats(pixels: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """uint8 in 0 to 255, or uint16 in 0 to 65,535 -> float32, or another type, in [-1, 1], any shape; the same on all devices."""
    import torch

    values = pixels.to(dtype or torch.float32)
    # By a tensor: GPUs multiply by the reciprocal of a number, whose last bit may differ from a quotient's.
    half = torch.full((), 32767.5 if pixels.dtype == torch.uint16 else 127.5, dtype=values.dtype, device=values.device)
    return values.div_(half).sub_(1)


def to_bytes(values: Tensor) -> Tensor:
    """Floats in [-1, 1] -> uint8 in 0 to 255, rounded to nearest, any shape; values outside are clipped."""
    return values.detach().float().clamp(-1, 1).add_(1).mul_(127.5).round_().byte()


def to_words(values: Tensor) -> Tensor:
    """The same in 16 bits: uint16 in 0 to 65,535."""
    import torch

    # float32 is exact to 24 bits; only the last step loses precision
    return values.detach().float().clamp(-1, 1).add_(1).mul_(32767.5).round_().to(torch.int32).to(torch.uint16)


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Pixels of 16 bits as uint8, any shape, for drawing; others are returned unchanged."""
    import numpy as np

    return np.rint(pixels / 257).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def composite_on_white(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) with 1 to 4 channels in [-1, 1], composited onto white if transparent: 1 or 3 channels."""
    if images.shape[1] in (1, 3):
        return images
    colours, alpha = images[:, :-1], (images[:, -1:] + 1) / 2
    return colours * alpha + (1 - alpha)


def images_to_tensor(images: np.ndarray) -> Tensor:
    """Stored images, uint8 or uint16 (n, height, width, channels) -> float32 (n, channels, height, width) in [-1, 1]."""
    import numpy as np
    import torch

    return to_floats(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2))


def flip(stored: Tensor, dimension: int) -> Tensor:
    """Stored pixels in reverse order along a dimension; torch itself does not flip uint16."""
    import torch

    words = stored.dtype == torch.uint16
    flipped = (stored.view(torch.int16) if words else stored).flip(dimension)
    return flipped.view(torch.uint16) if words else flipped


def pool(maps: Tensor, height: int, width: int, *, maximum: bool = False) -> Tensor:
    """Maps (n, channels, rows, columns) as the means or the maxima of their parts: (n, channels, height, width).

    As by torch's adaptive pooling, also on Apple's GPUs: where these refuse it, because a side is not a multiple, the CPU does it.
    """
    from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

    function: Callable[..., Tensor] = adaptive_max_pool2d if maximum else adaptive_avg_pool2d
    if maps.device.type == "mps" and (maps.shape[-2] % height or maps.shape[-1] % width):
        return function(maps.cpu(), (height, width)).to(maps.device)
    return function(maps, (height, width))


def crop_pixels(stored: Tensor, window: Window, first: int) -> Tensor:
    """Crops samples whose rows and columns are the dimensions `first` and `first + 1`; waits for no device."""
    import torch

    factor = window.image[0] // stored.shape[first]
    rows, columns = (
        (starts // factor)[:, None] + torch.arange(length // factor, device=stored.device)
        for starts, length in ((window.tops, window.height), (window.lefts, window.width))
    )
    samples = torch.arange(len(stored), device=stored.device)[:, None, None]
    if first == 1:
        return stored[samples, rows[:, :, None], columns[:, None, :]]
    frames = torch.arange(stored.shape[1], device=stored.device)[:, None, None]
    return stored[samples[..., None], frames, rows[:, None, :, None], columns[:, None, None, :]]


def crop_points(points: Tensor, window: Window) -> Tensor:
    """Points (n, k, 2), x and y as fractions of the image, as fractions of the window."""
    import torch

    starts = torch.stack([window.lefts, window.tops], 1).to(points.dtype)[:, None]
    height, width = window.image
    return torch.stack(
        [
            (points[..., 0] * width - starts[..., 0]) / window.width,
            (points[..., 1] * height - starts[..., 1]) / window.height,
        ],
        -1,
    )

"""How images are stored: 8-bit pixels or the values that networks see, and their layout in memory. Imports torch only when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn


def set_layout(module: nn.Module, layout: torch.memory_format) -> None:
    """Lays out all 4-D weights and buffers in place. `Module.to(memory_format=)` refuses modules with 3-D convolutions."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=layout)


def to_floats(pixels: Tensor) -> Tensor:
    """uint8 in 0 to 255 -> float32 in [-1, 1], any shape."""
    return pixels.float().div_(127.5).sub_(1)


def to_bytes(values: Tensor) -> Tensor:
    """Floats in [-1, 1] -> uint8 in 0 to 255, rounded to nearest, any shape; values outside are clipped."""
    return values.detach().float().clamp(-1, 1).add_(1).mul_(127.5).round_().byte()


def images_to_tensor(images: np.ndarray) -> Tensor:
    """Stored images, uint8 (n, height, width, channels) -> float32 (n, channels, height, width) in [-1, 1]."""
    import numpy as np
    import torch

    return to_floats(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2))

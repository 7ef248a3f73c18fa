"""A history of generated samples, which discriminators see beside new ones, so that they do not forget earlier fakes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ForAll(int):
    """The size of a random tensor that belongs to no sample: parts of a batch that are computed one by one all get the same one."""


class History(nn.Module):
    """Replaces half of the fakes by earlier ones: (n, *shape) in and out. Shrivastava et al. 2017, arXiv:1612.07828, section 2.3.

    A player without an optimiser, so that it is saved with the run. Nothing is replaced until it is full; then each new fake
    has an equal chance to be shown, or to be stored in place of an earlier one, which is shown.

    Args:
        size: number of stored samples.
        shape: shape of a sample.
    """

    fakes: Tensor
    count: Tensor

    def __init__(self, size: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("fakes", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        n, size = len(x), len(self.fakes)
        if not size:
            return x
        if n > size:  # so that no two of them are stored in one place
            return torch.cat([self(part) for part in x.split(size)])
        full = self.count >= size
        order = torch.arange(n, device=x.device)
        slots = (self.count + order) % size  # different ones for the parts of a batch, which have the same permutation
        slots = torch.where(full, torch.rand(ForAll(size), device=x.device).argsort()[slots], slots)
        earlier = self.fakes[slots].to(x.dtype)
        replaced = (full & (torch.rand(n, device=x.device) < 0.5)).view(-1, *[1] * (x.dim() - 1))
        stored = torch.where(full & ~replaced, earlier, x)
        self.fakes.index_copy_(0, slots, stored.to(self.fakes.dtype))
        self.count += n
        return torch.where(replaced, earlier, x)

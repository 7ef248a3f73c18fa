"""Where latents come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normal:
    """z ~ N(0, 1), independent. Latents (n, size)."""

    size: int

    def __call__(self, n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, self.size, device=device, generator=generator)


@dataclass(frozen=True)
class Uniform:
    """z ~ U(-1, 1), independent. Latents (n, size)."""

    size: int

    def __call__(self, n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
        return torch.rand(n, self.size, device=device, generator=generator) * 2 - 1


PRIORS: dict[str, type[Normal] | type[Uniform]] = {"normal": Normal, "uniform": Uniform}


def named(name: str, size: int) -> Normal | Uniform:
    """The prior called `normal` or `uniform`, with `size` numbers in a latent."""
    if name not in PRIORS:
        raise ValueError(f"no prior {name!r}; there are: {', '.join(PRIORS)}")
    if size < 1:
        raise ValueError(f"a latent needs at least 1 number, not {size}")
    return PRIORS[name](size)

"""Latent distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from leafwing.game import Prior


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


@dataclass(frozen=True)
class Categorical:
    """Uniform over `size` classes, one-hot. Latents (n, size)."""

    size: int

    def __call__(self, n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
        index = torch.randint(self.size, (n,), device=device, generator=generator)
        return (index[:, None] == torch.arange(self.size, device=device)).float()


@dataclass(frozen=True)
class Product:
    """Several independent named factors, concatenated. Latents (n, sum of the factors' sizes).

    Args:
        factors: name -> prior, in the order of the latent.
    """

    factors: Mapping[str, Prior]

    @property
    def size(self) -> int:
        return sum(factor.size for factor in self.factors.values())

    def __call__(self, n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
        return torch.cat([factor(n, device, generator) for factor in self.factors.values()], dim=1)

    def parts(self, latents: Tensor) -> dict[str, Tensor]:
        """Latents (n, size) split into factors: name -> (n, the factor's size)."""
        sizes = [factor.size for factor in self.factors.values()]
        return dict(zip(self.factors, latents.split(sizes, dim=1), strict=True))


PRIORS: dict[str, type[Normal] | type[Uniform]] = {"normal": Normal, "uniform": Uniform}


def by_name(name: str, size: int) -> Normal | Uniform:
    """The prior called `normal` or `uniform`, of dimension `size`."""
    if name not in PRIORS:
        raise ValueError(f"no prior {name!r}; there are: {', '.join(PRIORS)}")
    if size < 1:
        raise ValueError(f"the latent dimension must be at least 1, not {size}")
    return PRIORS[name](size)

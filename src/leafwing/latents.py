"""Latents as tensors: those of numbered samples, sweeps of a named part, and paths from one latent to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.game import Prior
from leafwing.parts.priors import Categorical
from leafwing.pixels import as_tensor

BLOCK = 64
"""Latents are drawn in blocks of this size, each with its own random generator."""
Interpolation = Literal["spherical", "linear"]


def numbered_latents(prior: Prior, n: int, seed: int, first: int = 0) -> Tensor:
    """The latents of samples `first` to `first + n - 1` of a seed, (n, size). Each depends only on the seed and on its number."""
    numbers = range(first // BLOCK, -(-(first + n) // BLOCK))
    blocks = [prior(BLOCK, "cpu", torch.Generator().manual_seed(seed << 24 | number)) for number in numbers]
    return torch.cat(blocks)[first % BLOCK :][:n]


def check_latents(latents: Tensor | np.ndarray, prior: Prior | None) -> Tensor:
    """Latents from outside as float32, (n, size).

    Args:
        latents: a tensor or an array.
        prior: where those of the output come from; None: any size.

    Raises:
        LeafwingError: another shape than (n, size), or numbers that are not floating-point.
    """
    latents = as_tensor(latents) if isinstance(latents, np.ndarray) else latents
    size = None if prior is None else prior(1, "cpu", torch.Generator()).shape[1]
    if latents.dim() != 2 or size not in (None, latents.shape[1]) or not latents.is_floating_point():
        raise LeafwingError(
            f"latents: give floating-point numbers of shape (n, {size or 'size'}), such as model.latents(n), not {latents.dtype} of "
            f"shape {tuple(latents.shape)}"
        )
    return latents.float()


def check_batch(batch: int, n: int) -> None:
    """Raises LeafwingError for a batch size, or a number of samples, that is not positive."""
    if batch < 1:
        raise InvalidOption("batch", batch, "must be at least 1")
    if not n:
        raise LeafwingError("give at least one sample, not 0")


def is_categorical(prior: Prior | None, code: str) -> bool:
    """Whether a named part of latents is one of several classes."""
    return isinstance(getattr(prior, "factors", {}).get(code), Categorical)


def sweep(latents: Tensor, prior: Prior | None, code: str, values: Sequence[float] | None = None) -> Tensor:
    """Each latent with one of its named parts set to each of k values, all else unchanged.

    Args:
        latents: (n, size).
        prior: where they come from.
        code: the name of one of its parts: a single number, or a categorical one.
        values: k numbers; None for a categorical part, which takes all classes in turn.

    Returns:
        (n * k, size), the first latent with all its values first.

    Raises:
        LeafwingError: no such part, values for a categorical one, or none for a single number; or a part of several numbers.
    """
    codes: Mapping[str, int] = {name: part.size for name, part in getattr(prior, "factors", {}).items()}
    available = [name for name in codes if codes[name] == 1 or is_categorical(prior, name)]
    if code not in available:
        if code in codes:
            raise InvalidOption(
                "sweep", code, f"a code of {codes[code]} numbers cannot be swept{did_you_mean('', available)}"
            )
        if not codes:
            reason = "the latents of this run have no named codes that could be varied; `leafwing walk RUN` films how samples change"
            raise InvalidOption("sweep", code, reason)
        raise LeafwingError(f"no code {code!r}{did_you_mean(code, available)}")
    size = codes[code]
    start = sum(list(codes.values())[: list(codes).index(code)])
    if (values is None) != is_categorical(prior, code):
        hint = (
            f"needs values, as in --sweep {code}=-1:1" if values is None else f"takes no values: it is one of {size} classes"
        )
        raise LeafwingError(f"code {code} {hint}")
    settings = torch.eye(size) if values is None else torch.tensor([[float(value)] for value in values])
    swept = latents.repeat_interleave(len(settings), 0)
    swept[:, start : start + size] = settings.repeat(len(latents), 1).to(swept)
    return swept


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Latents (n, size) on straight lines from a to b (n, size), at positions t (n,)."""
    return a + t[:, None] * (b - a)


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation from a to b (White 2016, arXiv:1609.04468); linear if they are parallel or antiparallel.

    Args:
        a, b: the ends, each (n, size), or (size,) for one path.
        t: positions on the path (n,), 0 at a and 1 at b.

    Returns:
        (n, size); the norm goes from that of a to that of b.
    """
    angle = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1).acos()[..., None]
    sine, t_column = angle.sin(), t[:, None]
    curved = (((1 - t_column) * angle).sin() * a + (t_column * angle).sin() * b) / sine
    return torch.where(sine > 1e-6, curved, lerp(a, b, t))


def interpolate_latents(a: Tensor, b: Tensor, positions: Tensor, interpolation: Interpolation = "spherical") -> Tensor:
    """Latents on the path from a (size,) to b (size,): (steps, size).

    Args:
        a, b: the end points.
        positions: positions on the path (steps,); 0 is a, 1 is b.
        interpolation: linear, or spherical: the direction moves along an arc (see `slerp`), and the norm changes linearly. A linear
            path between latents of a normal prior passes through smaller norms than any seen in training.
    """
    t = positions.to(a)[:, None]
    if interpolation == "linear":
        return (1 - t) * a + t * b
    directions = slerp(normalize(a[None], dim=1), normalize(b[None], dim=1), t[:, 0])
    return directions * ((1 - t) * a.norm() + t * b.norm())


def walk(ends: Tensor, count: int, loop: bool = True) -> Tensor:
    """A path through latents in equal steps along arcs (see `interpolate_latents`), (count, size).

    Args:
        ends: the latents on the way, (n, size), at least two.
        count: number of latents on the path, at least two.
        loop: return to the first one, which is not repeated at the end; else the path ends at the last one.
    """
    legs = [*pairwise([*ends, *(ends[:1] if loop else ())])]
    positions = [i * len(legs) / (count if loop else count - 1) for i in range(count)]
    path = []
    for leg, part in groupby(positions, lambda position: min(int(position), len(legs) - 1)):
        start, end = legs[leg]
        path.append(interpolate_latents(start, end, torch.tensor([position - leg for position in part])))
    return torch.cat(path)

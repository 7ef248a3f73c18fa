"""Latents specified by users: sample numbers, files, and paths between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.model import BLOCK, Model

WAYS = ("spherical", "straight")


def need_pictures(model: Model) -> None:
    """Raises LeafwingError for a run that generates points."""
    if model.spec.points:
        raise LeafwingError("this run generates points: the laboratory requires pictures")


def whole_numbers(name: str, text: str, most: int = 2**32 - 1) -> list[int]:
    """Non-negative integers from text such as `3,5,8` or `0:10`, which is 0 to 9.

    Raises:
        LeafwingError: invalid text; the message names the option, the invalid part and the format.
    """
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        if not first.isdecimal() or (colon and not last.isdecimal()):
            raise LeafwingError(f"--{name} {text!r}: {part.strip()!r} is not a whole number; write 3,5,8 or 0:10")
        found += range(int(first), int(last)) if colon else [int(first)]
    if not found or max(found) > most:
        raise LeafwingError(f"--{name} {text!r}: give at least one number from 0 to {most}")
    return found


def chosen(model: Model, samples: str, seed: int, file: Path | None = None) -> Tensor:
    """Latents by the numbers of samples of a seed, as in `leafwing sample`, or by rows of a file.

    Args:
        model: the model.
        samples: `3,5,8` or `0:10`.
        seed: random seed of the samples.
        file: an .npz with `latents` (n, size), or a .npy of it; the numbers then select its rows.

    Returns:
        (n, size).

    Raises:
        LeafwingError: invalid numbers, or a file without suitable latents.
    """
    numbers = whole_numbers("samples", samples, most=999_999)
    if file is None:
        return model.latents(max(numbers) + 1, seed)[numbers]
    known = saved(model, file)
    if max(numbers) >= len(known):
        raise LeafwingError(
            f"{file} contains {len(known)} latents, 0 to {len(known) - 1}: there is no number {max(numbers)}"
        )
    return known[numbers]


def saved(model: Model, file: Path) -> Tensor:
    """The latents of a file, (n, size); see `chosen`."""
    size = model.latents(1).shape[1]
    try:
        held = np.load(file, allow_pickle=False)
        rows = held["latents"] if isinstance(held, np.lib.npyio.NpzFile) else held
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise LeafwingError(f"{file} contains no latents (an .npz with `latents`, or a .npy): {error}") from None
    if rows.ndim != 2 or rows.shape[1] != size or not np.issubdtype(rows.dtype, np.number) or not np.isfinite(rows).all():
        raise LeafwingError(f"{file}: latents must be finite numbers of shape (n, {size}), not {rows.shape}")
    return torch.from_numpy(rows.astype(np.float32)).to(model.device)


def of_one_kind(model: Model, label: str | None = None) -> Callable[..., Tensor]:
    """`Model.generate` for tools that vary latents alone: all samples have the same class and attributes.

    Args:
        model: the model.
        label: the class; default: the first. Attributes are those of the first sample.
    """
    told = label if label is not None or not model.labels else 0
    row = model.attribute_rows(None, 1, 0, model.classes(told, 1))

    def made(latents: Tensor, batch: int = BLOCK) -> Tensor:
        attributes = row.repeat(len(latents), axis=0) if row.size else None
        return model.generate(latents, label=told, attributes=attributes, batch=batch)

    return made


def between(a: Tensor, b: Tensor, shares: Tensor, way: str = "spherical") -> Tensor:
    """Interpolated latents from a (size,) to b (size,): (len(shares), size); share 0 is a, share 1 is b.

    Args:
        a, b: the end points.
        shares: positions on the path, (steps,).
        way: straight, or spherical: along an arc, with norms between those of the ends (White 2016, arXiv:1609.04468). A straight
            line between latents of a normal prior passes through norms smaller than any seen in training.
    """
    if way not in WAYS:
        raise LeafwingError(f"--way {way}: choose from {', '.join(WAYS)}")
    t = shares.to(a)[:, None]
    straight = (1 - t) * a + t * b
    if way == "straight":
        return straight
    lengths = a.norm(), b.norm()
    angle = torch.arccos(torch.dot(a / lengths[0], b / lengths[1]).clamp(-1, 1))
    if not 1e-4 < angle < math.pi - 1e-4:  # (anti)parallel: no rotation, or no unique plane of rotation
        return straight
    turned = torch.sin((1 - t) * angle) * a / lengths[0] + torch.sin(t * angle) * b / lengths[1]
    return turned / torch.sin(angle) * ((1 - t) * lengths[0] + t * lengths[1])

"""Latents specified by users: sample numbers, files, and paths between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from leafwing.errors import LeafwingError
from leafwing.metrics.ppl import slerp
from leafwing.model import BLOCK, Model

Interpolation = Literal["spherical", "linear"]


def require_images(model: Model) -> None:
    """Raises LeafwingError for a run that generates points."""
    if model.spec.points:
        raise LeafwingError("this run generates points: the laboratory requires images")


def parse_numbers(name: str, text: str, most: int = 2**32 - 1) -> list[int]:
    """Non-negative integers from text such as `3,5,8` or `0:10`, which is 0 to 9.

    Raises:
        LeafwingError: invalid text; the message names the option, the invalid part and the format.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        if not first.isdecimal() or (colon and not last.isdecimal()):
            raise LeafwingError(f"--{name} {text!r}: {part.strip()!r} is not a whole number; write 3,5,8 or 0:10")
        numbers += range(int(first), int(last)) if colon else [int(first)]
    if not numbers or max(numbers) > most:
        raise LeafwingError(f"--{name} {text!r}: give at least one number from 0 to {most}")
    return numbers


def select_latents(model: Model, samples: str, seed: int, file: Path | None = None) -> Tensor:
    """Latents by sample number, as in `leafwing sample`, or by row number in a file.

    Args:
        model: the model.
        samples: `3,5,8` or `0:10`.
        seed: random seed of the samples.
        file: an .npz with `latents` (n, size), or a .npy file; the numbers then select its rows.

    Returns:
        (n, size).

    Raises:
        LeafwingError: invalid numbers, or a file without suitable latents.
    """
    numbers = parse_numbers("samples", samples, most=999_999)
    if file is None:
        return model.latents(max(numbers) + 1, seed)[numbers]
    latents = load_latents(model, file)
    if max(numbers) >= len(latents):
        raise LeafwingError(
            f"{file} contains {len(latents)} latents, 0 to {len(latents) - 1}: there is no number {max(numbers)}"
        )
    return latents[numbers]


def load_latents(model: Model, file: Path) -> Tensor:
    """The latents of a file, (n, size); see `select_latents`."""
    size = model.latents(1).shape[1]
    try:
        content = np.load(file, allow_pickle=False)
        rows = content["latents"] if isinstance(content, np.lib.npyio.NpzFile) else content
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise LeafwingError(f"{file} contains no latents (an .npz with `latents`, or a .npy): {error}") from None
    if rows.ndim != 2 or rows.shape[1] != size or not np.issubdtype(rows.dtype, np.number) or not np.isfinite(rows).all():
        raise LeafwingError(f"{file}: latents must be finite numbers of shape (n, {size}), not {rows.shape}")
    return torch.from_numpy(rows.astype(np.float32)).to(model.device)


def fix_conditions(model: Model, label: str | None = None) -> Callable[..., Tensor]:
    """`Model.generate` with the same class and attributes for all samples, for tools that vary only latents.

    Args:
        model: the model.
        label: the class; default: the first. Attributes are those of the first sample.
    """
    shared_label = label if label is not None or not model.labels else 0
    row = model.attribute_rows(None, 1, 0, model.classes(shared_label, 1))

    def generate(latents: Tensor, batch: int = BLOCK) -> Tensor:
        attributes = row.repeat(len(latents), axis=0) if row.size else None
        return model.generate(latents, label=shared_label, attributes=attributes, batch=batch)

    return generate


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

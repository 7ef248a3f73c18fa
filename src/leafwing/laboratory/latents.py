"""Latents specified by users (sample numbers, files), and samples from latents."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leafwing.data.arrays import load_arrays
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import Batch
from leafwing.laboratory.options import MOST
from leafwing.latents import BLOCK
from leafwing.model import Model
from leafwing.pictures import captions_of

Conditions = Mapping[str, Any]
"""Conditions that the user fixes, by field, as `Model.conditions` takes them: {"label": "cat", "attributes": {"smiling": 1}}."""
NO_CONDITIONS: Conditions = MappingProxyType({})


def parse_numbers(name: str, value: str | int | Sequence[int], most: int = 2**32 - 1) -> list[int]:
    """Non-negative integers from text such as `3,5,8` or `0:10`, which is 0 to 9, or from these numbers themselves.

    Raises:
        LeafwingError: invalid text; the message names the option, the invalid part and the format.
    """
    numbers: list[int] = []
    text = ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        ends = (first, last) if colon else (first,)
        if not all(re.fullmatch(r"[0-9]{1,20}", end) for end in ends):
            raise InvalidOption(name, text, f"{part.strip()!r} is not a whole number; write 3,5,8 or 0:10")
        numbers += range(int(first), min(int(last), int(first) + MOST + 1)) if colon else [int(first)]
    if len(numbers) > MOST:
        raise InvalidOption(name, text, f"at most {MOST:,} numbers")
    if not numbers or max(numbers) > most:
        raise InvalidOption(name, text, f"give at least one number from 0 to {most}")
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
    arrays = load_arrays(file)
    rows = arrays.get("latents", arrays.get(""))
    if rows is None:
        raise LeafwingError(
            f"{file} contains no latents (an .npz with `latents`, or a .npy), but {', '.join(arrays) or 'nothing'}"
        )
    if rows.ndim != 2 or rows.shape[1] != size or not np.issubdtype(rows.dtype, np.number) or not np.isfinite(rows).all():
        raise LeafwingError(f"{file}: latents must be finite numbers of shape (n, {size}), not {rows.shape}")
    return torch.from_numpy(rows.astype(np.float32)).to(model.device)


def generate(
    model: Model, latents: Tensor, conditions: Conditions, batch: int = BLOCK, *, same_noise: bool = True
) -> Tensor:
    """Samples from latents (n, size), with equal bits for equal latents and conditions, whatever n is.

    All have the same noise inside networks, so that differences come from latents and conditions, unless `same_noise` is false.
    """
    return torch.cat(list(model.stream(latents, batch=batch, pad=True, same_noise=same_noise, **conditions)))


@dataclass(frozen=True)
class Fixed:
    """`generate` with the same conditions for all samples, for tools that vary only latents.

    Args:
        model: the model.
        inputs: the conditions, one row.
        words: what the user should know about them; see `fixed_words`.
    """

    model: Model
    inputs: Batch
    words: Sequence[str]

    def __call__(self, latents: Tensor, batch: int = BLOCK) -> Tensor:
        return generate(self.model, latents, repeat(self.inputs, len(latents)), batch)


def fix_conditions(model: Model, conditions: Conditions, seed: int) -> Fixed:
    """Samples that all have the same conditions.

    Args:
        model: the model.
        conditions: specified conditions; the others are those of the first sample, which has the first class.
        seed: random seed of the samples.
    """
    first = model.conditions(1, seed, **conditions)
    return Fixed(model, first, fixed_words(model, first, conditions))


def fixed_words(model: Model, inputs: Batch, chosen: Container[str], samples: str = "All samples") -> list[str]:
    """A sentence about each condition that all samples have though nobody chose it: the samples of `leafwing sample` differ in it.

    Args:
        model: the model.
        inputs: their conditions, of which the first row is described.
        chosen: names of those that the user chose, or that vary.
        samples: what has these conditions, as the beginning of a sentence.
    """
    words = []
    for name in [name for name in inputs if name not in chosen]:
        if name == "label":
            words.append(f"{samples} are of class {model.labels[int(inputs.label[0])]}: --label chooses another.")
        else:
            (value,) = captions_of(model.spec, {name: inputs[name][:1]})
            words.append(f"{samples} have the {name} of sample 0{value and f' ({value})'}: --set chooses others.")
    return words


def repeat(conditions: Batch, n: int) -> Batch:
    """The first row of conditions, n times."""
    return conditions.rows(torch.zeros(n, dtype=torch.int64))

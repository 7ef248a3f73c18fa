"""Mixing: combine latents (rows) with conditions (columns). Do rows keep their style and columns their meaning?

The columns vary what the game itself separates: a condition (classes, attributes, captions), or a named part of the latent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from leafwing.conditions import resolve
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import Batch
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, fixed_words, generate, repeat
from leafwing.laboratory.needs import COMBINATIONS, IMAGES, LATENTS, needs
from leafwing.laboratory.options import require_counts, require_memory
from leafwing.laboratory.sheet import require_size, sheet
from leafwing.latents import is_categorical
from leafwing.metrics.features import Features
from leafwing.model import Model
from leafwing.pictures import captions_of, class_name
from leafwing.progress import ProgressCallback, no_progress

COLUMNS = 10


@needs(IMAGES, LATENTS, COMBINATIONS)
def mix(
    model: Model,
    *,
    features: Features,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    across: str | None = None,
    rows: int = 6,
    n: int = 64,
    seed: int = 0,
) -> Finding:
    """Combine the latents of some samples with the conditions, or with a named part of the latents, of others.

    Args:
        model: a model of images that is conditional or has named parts of the latent.
        features: the feature space in which variance is measured.
        conditions: what all samples should be, by field: {"label": 3}; the rest is that of the first samples.
        report_progress: progress callback.
        across: what the columns vary: a condition (label, attributes, ...), or the name of a part of the latent. Default: the first
            available one.
        rows: number of latents on the grid.
        n: number of latents for the variance shares.
        seed: random seed of the samples.

    Returns:
        `rows_share`, `columns_share`: fraction of the variance in feature space explained by the row (the latent) and by the column;
        `rest`: fraction due to their interaction.

    Raises:
        LeafwingError: nothing to vary, or a condition that is specified as well.
    """
    choices = [*(name for name in model.output.conditions if name not in conditions), *model.codes]
    if not choices:
        raise LeafwingError("all conditions are set, so nothing varies: set fewer of them")
    across = across or choices[0]
    if across not in choices:
        raise InvalidOption("across", across, f"choose from {', '.join(choices)}")
    require_counts(rows=rows)
    require_counts(2, n=n)
    latents = model.latents(max(n, rows), seed)
    classes = len(model.labels) if across == "label" else model.codes[across] if _is_categorical(model, across) else COLUMNS
    count = min(COLUMNS, classes)
    columns = _conditions_of_columns(model, across, count, seed, conditions)
    require_memory(model, count * n, n=n)
    require_memory(model, count * rows, rows=rows)
    require_size(model.spec, rows, count, rows=rows)
    images = []
    for i, latent in enumerate(latents):
        images.append(generate(model, _latents_of_columns(model, latent, across, count, seed), columns))
        report_progress("mixing", i + 1, len(latents))
    heads = _heads(model, across, count)
    points = np.stack([features(row)[0] for row in images[:n]]).astype(np.float64)  # (rows, columns, d)
    mean = points.mean((0, 1))
    total = ((points - mean) ** 2).mean((0, 1)).sum()
    by_row = ((points.mean(1) - mean) ** 2).mean(0).sum()
    by_column = ((points.mean(0) - mean) ** 2).mean(0).sum()
    figures = {
        "across": across,
        "rows_share": float(by_row / total) if total else None,
        "columns_share": float(by_column / total) if total else None,
        "rest": float(1 - (by_row + by_column) / total) if total else None,
        "space": features.name,
    }
    words = [
        f"Of the variance in feature space, {by_row / total:.0%} is explained by the latent, {by_column / total:.0%} by {across}, and "
        f"{1 - (by_row + by_column) / total:.0%} by their interaction."
    ] if total else []  # fmt: skip
    sheet_rows = [(f"sample {i}", row.cpu()) for i, row in enumerate(images[:rows])]
    legend = f"Each row: one latent. Each column: one value of {across}.{_captions(model, across, columns)}"
    image = sheet(f"Combinations of latents and {across}", sheet_rows, heads=heads, legend=legend)
    words += fixed_words(model, columns, [*conditions, across])
    return Finding(figures, words, {"mix": image})


def _conditions_of_columns(model: Model, across: str, n: int, seed: int, conditions: Conditions) -> Batch:
    """The conditions of n columns: what does not vary across them is that of the first sample."""
    if across in model.codes:
        return repeat(model.conditions(1, seed, **conditions), n)
    alone = replace(model.output, conditions=(across,))  # the others do not decide which values are taken
    values = resolve(alone, model.spec, model.examples, n, seed, {}).to(model.device)
    return Batch({**repeat(model.conditions(1, seed, **conditions), n), **values})


def _latents_of_columns(model: Model, latent: Tensor, across: str, n: int, seed: int) -> Tensor:
    """A latent (size,) for each of n columns, with different values of a part of it if `across` is one: (n, size)."""
    if across not in model.codes:
        return latent.expand(n, -1)
    size = model.codes[across]
    if _is_categorical(model, across):
        return model.sweep(latent[None], across)[:n]
    if size == 1:
        return model.sweep(latent[None], across, _values(n))
    start = sum(list(model.codes.values())[: list(model.codes).index(across)])
    swept = latent.repeat(n, 1)
    swept[:, start : start + size] = model.latents(n, seed + 1)[:, start : start + size]
    return swept


def _is_categorical(model: Model, across: str) -> bool:
    """Whether the columns are the classes of a part of the latent."""
    return is_categorical(model.output.prior, across)


def _values(n: int) -> list[float]:
    """The values of a continuous part of the latent."""
    return torch.linspace(-2, 2, n).tolist()


def _heads(model: Model, across: str, n: int) -> list[str]:
    if across == "label":
        return [class_name(name, index) for index, name in enumerate(model.labels[:n])]
    if model.codes.get(across) == 1 and not _is_categorical(model, across):
        return [f"{value:+.1f}" for value in _values(n)]
    return [str(i) for i in range(n)]


def _captions(model: Model, across: str, columns: Batch) -> str:
    """The captions or attributes of the columns, one line each; empty if something else varies."""
    texts = captions_of(model.spec, {across: columns[across]}) if across in columns and across != "label" else []
    return "".join(f"\n{i}: {text or 'none'}" for i, text in enumerate(texts)) if any(texts) else ""

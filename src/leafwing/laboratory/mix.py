"""Mixing: combine latents (rows) with conditions (columns). Do rows keep their style and columns their meaning?

The columns vary what the game itself separates: a condition (classes, attributes), or a named part of the latent.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import require_images
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.features import Features
from leafwing.model import Model
from leafwing.progress import ProgressCallback, no_progress

COLUMNS = 10


def mix(
    model: Model,
    *,
    features: Features,
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
        report_progress: progress callback.
        across: what the columns vary: label, attributes, or the name of a part of the latent. Default: the first available one.
        rows: number of latents on the grid.
        n: number of latents for the variance shares.
        seed: random seed of the samples.

    Returns:
        `rows_share`, `columns_share`: fraction of the variance in feature space explained by the row (the latent) and by the column;
        `rest`: fraction due to their interaction.

    Raises:
        LeafwingError: a run that generates points, or nothing to vary.
    """
    require_images(model)
    choices = [*(name for name in ("label", "attributes") if model.can(name)), *model.codes]
    if not choices:
        raise LeafwingError("this run has nothing to mix: it is unconditional, and its latents have no named parts")
    across = across or choices[0]
    if across not in choices:
        raise LeafwingError(f"--across {across}: choose from {', '.join(choices)}")
    if rows < 1 or n < 2:
        raise LeafwingError("--rows must be at least 1 and --n at least 2")
    latents = model.latents(max(n, rows), seed)
    images = []
    for i, latent in enumerate(latents):
        images.append(_row(model, latent, across, seed))
        report_progress("mixing", i + 1, len(latents))
    heads = _heads(model, across, len(images[0]))
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
    legend = f"Each row: one latent. Each column: one value of {across}."
    image = sheet(f"Combinations of latents and {across}", sheet_rows, heads=heads, legend=legend)
    return Finding(figures, words, {"mix": image})


def _row(model: Model, latent: Tensor, across: str, seed: int) -> Tensor:
    """Samples of one latent with every column value."""
    if across == "label":
        count = min(COLUMNS, len(model.labels))
        return model.generate(latent.expand(count, -1), label=list(range(count)))
    if across == "attributes":
        attributes = model.attribute_rows(None, COLUMNS, seed)
        return model.generate(latent.expand(COLUMNS, -1), label=0 if model.labels else None, attributes=attributes)
    size = model.codes[across]
    if size == 1:
        values: list[float] | None = torch.linspace(-2, 2, COLUMNS).tolist()
        return model.generate(model.sweep(latent[None], across, values))
    start = sum(list(model.codes.values())[: list(model.codes).index(across)])
    others = model.latents(COLUMNS, seed + 1)[:, start : start + size]
    swept = latent.repeat(COLUMNS, 1)
    swept[:, start : start + size] = others
    return model.generate(swept)


def _heads(model: Model, across: str, columns: int) -> list[str]:
    if across == "label":
        return [str(name) for name in model.labels[:columns]]
    if model.codes.get(across) == 1:
        return [f"{value:+.1f}" for value in torch.linspace(-2, 2, columns).tolist()]
    return [f"of {i}" for i in range(columns)]

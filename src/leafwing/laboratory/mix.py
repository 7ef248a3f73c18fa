"""Mixing: latents down, something else across. Do rows keep their style and columns their meaning?

What can be crossed is what the game takes apart itself: a condition (classes, attributes), or a named part of the latent.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.features import Features
from leafwing.model import Model

COLUMNS = 10


def mix(
    model: Model,
    *,
    features: Features,
    counting: Counting = quiet,
    across: str | None = None,
    rows: int = 6,
    n: int = 64,
    seed: int = 0,
) -> Finding:
    """Crosses the latents of some samples with the conditions, or with a named part of the latents, of others.

    Args:
        model: pictures, told a label or attributes, or with named parts of the latent.
        features: the space in which variation is measured.
        counting: told how far it is.
        across: what the columns change: label, attributes, or the name of a part of the latent. Default: the first of these there is.
        rows: latents on the sheet.
        n: latents over which the shares are worked out.
        seed: of the samples.

    Returns:
        `rows_share`, `columns_share`: which part of the variance in feature space comes with the row (the latent) and with the column,
        the same in all of the other; `rest`: what only both together decide.

    Raises:
        LeafwingError: points, or nothing that could be crossed.
    """
    need_pictures(model)
    known = [*(one for one in ("label", "attributes") if model.can(one)), *model.codes]
    if not known:
        raise LeafwingError(
            "this run has nothing to mix: it is told neither label nor attributes, and its latents have no named parts"
        )
    across = across or known[0]
    if across not in known:
        raise LeafwingError(f"--across {across}: this run can cross {', '.join(known)}")
    if rows < 1 or n < 2:
        raise LeafwingError("--rows is 1 and --n 2 at least")
    latents = model.latents(max(n, rows), seed)
    made = []
    for i, latent in enumerate(latents):
        made.append(_row(model, latent, across, seed))
        counting("mixing", i + 1, len(latents))
    heads = _heads(model, across, len(made[0]))
    seen = np.stack([features(row)[0] for row in made[:n]]).astype(np.float64)  # (rows, columns, d)
    total = ((seen - seen.mean((0, 1))) ** 2).mean((0, 1)).sum()
    by_row = ((seen.mean(1) - seen.mean((0, 1))) ** 2).mean(0).sum()
    by_column = ((seen.mean(0) - seen.mean((0, 1))) ** 2).mean(0).sum()
    figures = {
        "across": across,
        "rows_share": float(by_row / total) if total else None,
        "columns_share": float(by_column / total) if total else None,
        "rest": float(1 - (by_row + by_column) / total) if total else None,
        "space": features.name,
    }
    words = [
        f"Of the variance in feature space, {by_row / total:.0%} comes with the latent, {by_column / total:.0%} with {across}, and "
        f"{1 - (by_row + by_column) / total:.0%} only with both together."
    ] if total else []  # fmt: skip
    shown = [(f"sample {i}", row.cpu()) for i, row in enumerate(made[:rows])]
    legend = f"Each row: one latent. Each column: {across} of one kind."
    return Finding(figures, words, {"mix": sheet(f"Latents and {across}, crossed", shown, heads=heads, legend=legend)})


def _row(model: Model, latent: Tensor, across: str, seed: int) -> Tensor:
    """Samples of one latent with everything that is crossed."""
    if across == "label":
        count = min(COLUMNS, len(model.labels))
        return model.generate(latent.expand(count, -1), label=list(range(count)))
    if across == "attributes":
        told = model.attribute_rows(None, COLUMNS, seed)
        return model.generate(latent.expand(COLUMNS, -1), label=0 if model.labels else None, attributes=told)
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

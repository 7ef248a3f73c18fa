"""Truncation trick: smaller latents give better but less diverse samples. Brock et al. 2019, arXiv:1809.11096, section 3.1.

BigGAN resamples large components of a latent; here latents are multiplied by psi, so that individual samples can be followed.
"""

from __future__ import annotations

from math import nan

import numpy as np
import torch
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import Line, chart, need_charts, sheet
from leafwing.metrics.features import Features
from leafwing.metrics.prdc import NEAREST, precision_recall
from leafwing.metrics.samples import to_floats
from leafwing.model import BLOCK, Model
from leafwing.progress import Progress, no_progress


def truncate(
    model: Model,
    *,
    held: Dataset,
    features: Features,
    reader: Reader | None,
    report_progress: Progress = no_progress,
    psi: str = "0.2,0.4,0.6,0.8,1,1.2",
    n: int = 500,
    columns: int = 8,
    seed: int = 0,
) -> Finding:
    """Sweeps the scale of latents, and measures quality and diversity of samples.

    Args:
        model: a model of pictures.
        held: real pictures.
        features: the feature space in which samples are compared with them.
        reader: recognises samples; None if not available.
        report_progress: progress callback.
        psi: comma-separated scale factors of the latents.
        n: number of samples, and maximum number of real pictures.
        columns: number of samples on the sheet.
        seed: random seed of the samples and of the selection of real pictures.

    Returns:
        `sweep`: for each psi `precision` and `recall` against the real pictures (see `leafwing.metrics.prdc`), `distance`, the mean
        distance between two samples in feature space over that of real pictures, and `sure`, the fraction recognised by the reader.

    Raises:
        LeafwingError: a run that generates points, an invalid psi, or too few pictures.
    """
    need_pictures(model)
    need_charts()
    values = psis(psi)
    if n <= NEAREST or len(held) <= NEAREST or columns < 1:
        raise LeafwingError(
            f"truncation requires more than {NEAREST} samples and real pictures: --n {n}, {len(held)} real pictures"
        )
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(held))[:n])
    real = np.concatenate(
        [features(to_floats(held.pictures(part)))[0] for part in np.array_split(chosen, -(-len(chosen) // BLOCK))]
    )
    pairs = random.permutation(len(real)), random.permutation(len(real))
    between_real = float(np.linalg.norm(real[pairs[0]] - real[pairs[1]], axis=1).mean())
    latents, scaled = model.latents(n, seed), _scaled(model)
    sweep, rows = [], []
    for i, value in enumerate(values):
        shorter = torch.where(scaled, latents * value, latents)
        seen, sure = [], []
        for start, part in zip(range(0, n, BLOCK), shorter.split(BLOCK), strict=True):
            told = [j % len(model.labels) for j in range(start, start + len(part))] if model.labels else None
            made = model.generate(part, label=told)
            seen.append(features(made)[0])
            if reader:
                sure.append(next(iter(reader.read(made).values())) != UNREAD)
        fake = np.concatenate(seen)
        found = precision_recall(real, fake)
        apart = np.linalg.norm(fake[random.permutation(n)] - fake[random.permutation(n)], axis=1).mean()
        sweep.append(
            {
                "psi": value,
                "precision": found["precision"],
                "recall": found["recall"],
                "distance": float(apart / between_real) if between_real else nan,
                "sure": float(np.concatenate(sure).mean()) if sure else nan,
            }
        )
        rows.append((f"psi {value:g}", model.generate(shorter[:columns]).cpu()))
        report_progress("scaling latents", i + 1, len(values))
    best = max(sweep, key=lambda one: one["precision"])
    words = [
        f"Precision is highest at psi {best['psi']:g} ({best['precision']:.0%}, recall {best['recall']:.0%}); the mean distance "
        f"between samples there is {best['distance']:.2f} times that between real pictures."
    ]
    lines: dict[str, Line] = {name: (values, [one[name] for one in sweep]) for name in ("precision", "recall", "distance")}
    if reader:
        lines[f"sure ({reader.name})"] = (values, [one["sure"] for one in sweep])
    image = chart(
        "Truncation", lines, across="psi (scale factor of the latents)", up="fraction; distance relative to real pictures"
    )
    legend = "Each column: one latent, multiplied by psi."
    return Finding(
        {"sweep": sweep, "n": n, "real": len(real), "space": features.name},
        words,
        {"truncation": sheet("Truncation", rows, legend=legend), "sweep": image},
    )


def psis(text: str) -> list[float]:
    """The values of `--psi`, ascending.

    Raises:
        LeafwingError: an invalid value.
    """
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not all(0 < value < 10 for value in values):
        raise LeafwingError(f"--psi {text!r}: write numbers above 0 and below 10, such as 0.5,0.8,1")
    return values


def _scaled(model: Model) -> Tensor:
    """Which components of a latent are scaled: all but the one-hot ones of categories. Bool (1, size)."""
    drawn = model.latents(BLOCK)
    return ~((drawn == 0) | (drawn == 1)).all(0, keepdim=True)

"""Truncation: shorter latents give better samples and fewer kinds. Brock et al. 2019, arXiv:1809.11096, section 3.1, by scaling.

BigGAN draws the numbers of a latent anew until all are small; here all are multiplied by psi, so that one sample can be followed.
"""

from __future__ import annotations

from math import nan

import numpy as np
import torch
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import Line, chart, need_charts, sheet
from leafwing.metrics.features import Features
from leafwing.metrics.prdc import NEAREST, precision_recall
from leafwing.metrics.samples import to_floats
from leafwing.model import BLOCK, Model


def truncate(
    model: Model,
    *,
    held: Dataset,
    features: Features,
    reader: Reader | None,
    counting: Counting = quiet,
    psi: str = "0.2,0.4,0.6,0.8,1,1.2",
    n: int = 500,
    columns: int = 8,
    seed: int = 0,
) -> Finding:
    """Sweeps the length of latents, and measures how good and how varied samples are.

    Args:
        model: pictures.
        held: real pictures.
        features: the space in which samples are compared with them.
        reader: says of how many samples it is sure; None where nobody can.
        counting: told how far it is.
        psi: what latents are multiplied by, with commas between.
        n: how many samples, and real pictures at the most.
        columns: samples on the sheet.
        seed: of the samples, and of the choice of real pictures.

    Returns:
        `sweep`: for each psi `precision` and `recall` against the real pictures (see `leafwing.metrics.prdc`), `distance`, the mean
        distance of two samples in feature space over that of two real pictures, and `sure`, of which share the reader is.

    Raises:
        LeafwingError: points, a psi that is no number above 0, or too few pictures.
    """
    need_pictures(model)
    need_charts()
    values = psis(psi)
    if n <= NEAREST or len(held) <= NEAREST or columns < 1:
        raise LeafwingError(
            f"truncation compares more than {NEAREST} samples with as many real pictures: --n {n}, {len(held)} real"
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
        counting("shortening latents", i + 1, len(values))
    best = max(sweep, key=lambda one: one["precision"])
    words = [
        f"Precision is highest at psi {best['psi']:g} ({best['precision']:.0%}, recall {best['recall']:.0%}); samples there lie "
        f"{best['distance']:.2f} times as far apart as real pictures."
    ]
    lines: dict[str, Line] = {name: (values, [one[name] for one in sweep]) for name in ("precision", "recall", "distance")}
    if reader:
        lines[f"sure ({reader.name})"] = (values, [one["sure"] for one in sweep])
    image = chart(
        "Truncation", lines, across="psi: latents are multiplied by it", up="share; distance over that of real pictures"
    )
    legend = "Each column: one latent, multiplied by psi."
    return Finding(
        {"sweep": sweep, "n": n, "real": len(real), "space": features.name},
        words,
        {"truncation": sheet("Truncation", rows, legend=legend), "sweep": image},
    )


def psis(text: str) -> list[float]:
    """The numbers of `--psi`, ascending.

    Raises:
        LeafwingError: one is no number above 0.
    """
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not all(0 < value < 10 for value in values):
        raise LeafwingError(f"--psi {text!r}: write numbers above 0 and below 10, such as 0.5,0.8,1")
    return values


def _scaled(model: Model) -> Tensor:
    """Which numbers of a latent are scaled: all but those of categories, which are 0 or 1. Bool (1, size)."""
    drawn = model.latents(BLOCK)
    return ~((drawn == 0) | (drawn == 1)).all(0, keepdim=True)

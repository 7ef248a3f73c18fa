"""Truncation trick: smaller latents give better but less diverse samples. Brock et al. 2019, arXiv:1809.11096, section 3.1.

BigGAN resamples large components of a latent; here latents are multiplied by psi, so that individual samples can be followed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
import torch
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, generate
from leafwing.laboratory.needs import IMAGES, LATENTS, needs
from leafwing.laboratory.options import require_counts
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import Line, chart, require_charts, require_size, sheet
from leafwing.latents import BLOCK
from leafwing.metrics.clouds import blocks
from leafwing.metrics.conclusions import MIN_VARIETY
from leafwing.metrics.features import Features
from leafwing.metrics.glance import distances
from leafwing.metrics.prdc import NEAREST, precision_recall, variety
from leafwing.model import Model
from leafwing.pixels import images_to_tensor
from leafwing.progress import ProgressCallback, no_progress
from leafwing.quantities import real


@needs(IMAGES, LATENTS)
def truncate(
    model: Model,
    *,
    held_out: Dataset,
    features: Features,
    reader: Reader | None,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    psi: str = "0.2,0.4,0.6,0.8,1,1.2",
    n: int = 500,
    columns: int = 8,
    seed: int = 0,
) -> Finding:
    """Sweep the scale of latents, and measure quality and diversity of samples.

    Args:
        model: a model of images.
        held_out: real images.
        features: the feature space in which samples are compared with them.
        reader: attribute classifier of samples; None if not available.
        conditions: what all samples should be, by field: {"label": 3}; the rest as in `leafwing sample`, all classes in turn. The real
            images are of all classes in any case.
        report_progress: progress callback.
        psi: comma-separated scale factors of the latents.
        n: number of samples, and maximum number of real images.
        columns: number of samples on the grid.
        seed: random seed of the samples and of the selection of real images.

    Returns:
        `sweep`: for each psi `precision` and `recall` against the real images (see `leafwing.metrics.prdc`), `distance`, the mean
        distance between two samples in feature space over that of real images, `variety` (see `leafwing.metrics.prdc.variety`), below
        which a precision says nothing, and `sure`, the fraction recognised by the attribute classifier.

    Raises:
        LeafwingError: an invalid psi, or too few images.
    """
    check(model, psi=psi, n=n, columns=columns)
    values = parse_psi(psi)
    if len(held_out) <= NEAREST:
        raise LeafwingError(f"truncation requires more than {NEAREST} real images, and there are {len(held_out)}")
    random = np.random.default_rng(seed)
    indices = np.sort(random.permutation(len(held_out))[:n])
    real = np.concatenate(
        [
            features(images_to_tensor(held_out.pictures(part)))[0]
            for part in np.array_split(indices, -(-len(indices) // BLOCK))
        ]
    )
    real_distance = mean_distance(real)
    latents, inputs, is_scaled = model.latents(n, seed), model.conditions(n, seed, **conditions), _continuous(model)
    sweep, rows = [], []
    for i, value in enumerate(values):
        scaled = torch.where(is_scaled, latents * value, latents)
        blocks, sure = [], []
        for start in range(0, n, BLOCK):
            rows_of_block = slice(start, start + BLOCK)
            images = generate(model, scaled[rows_of_block], inputs.rows(rows_of_block), same_noise=False)
            blocks.append(features(images)[0])
            if reader:
                sure.append(next(iter(reader.read(images).values())) != UNREAD)
        fake = np.concatenate(blocks)
        measures = precision_recall(real, fake)
        sweep.append(
            {
                "psi": value,
                "precision": measures["precision"],
                "recall": measures["recall"],
                "distance": mean_distance(fake) / real_distance if real_distance else nan,
                "variety": variety(real, fake),
                "sure": float(np.concatenate(sure).mean()) if sure else nan,
            }
        )
        images = generate(model, scaled[:columns], inputs.rows(slice(columns)), same_noise=False)
        rows.append((f"psi {value:g}", images.cpu()))
        report_progress("scaling latents", i + 1, len(values))
    lines: dict[str, Line] = {name: (values, [row[name] for row in sweep]) for name in ("precision", "recall", "distance")}
    if reader:
        lines[f"sure ({reader.name})"] = (values, [row["sure"] for row in sweep])
    image = chart(
        "Truncation",
        lines,
        x_label="psi (scale factor of the latents)",
        y_label="fraction; distance relative to real images",
    )
    legend = "Each column: one latent, multiplied by psi."
    return Finding(
        {"sweep": sweep, "n": n, "real": len(real), "space": features.name},
        describe(sweep),
        {"truncation": sheet("Truncation", rows, legend=legend), "sweep": image},
    )


def mean_distance(features: np.ndarray) -> float:
    """Mean distance of two different ones of these features (n, d); n > 1."""
    x, n = torch.from_numpy(features).double(), len(features)
    return sum(float(distances(x[block], x).sum()) for block in blocks(n, n)) / (n * (n - 1))


def describe(sweep: Sequence[Mapping[str, float]]) -> list[str]:
    """At which psi precision is highest, among those whose samples are not copies of one picture, for which it says nothing."""
    alike = [row for row in sweep if row["variety"] < MIN_VARIETY]
    words = []
    if varied := [row for row in sweep if row not in alike]:
        best = max(varied, key=lambda row: row["precision"])
        words.append(
            f"Precision is highest at psi {best['psi']:g} ({best['precision']:.0%}, recall {best['recall']:.0%}); the mean distance "
            f"between samples there is {best['distance']:.2f} times that between real images."
        )
    if alike:
        values = ", ".join(f"{row['psi']:g}" for row in alike)
        words.append(f"At psi {values} the samples are copies of one picture, of which precision says nothing.")
    return words


def check(model: Model, *, psi: str, n: int, columns: int) -> None:
    """Raises LeafwingError for invalid options."""
    require_charts()
    values = parse_psi(psi)
    if n <= NEAREST:
        raise InvalidOption("n", n, f"truncation requires more than {NEAREST} samples")
    require_counts(n=n, columns=columns)
    require_size(model.spec, len(values), min(n, columns), columns=columns)


def parse_psi(text: str) -> list[float]:
    """The values of `--psi`, ascending.

    Raises:
        LeafwingError: an invalid value.
    """
    try:
        values = sorted({real(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not all(0 < value < 10 for value in values):
        raise InvalidOption("psi", text, "write numbers above 0 and below 10, such as 0.5,0.8,1")
    return values


def _continuous(model: Model) -> Tensor:
    """Mask of the components of a latent that are not part of a one-hot code, bool (1, size)."""
    latents = model.latents(BLOCK)
    return ~((latents == 0) | (latents == 1)).all(0, keepdim=True)

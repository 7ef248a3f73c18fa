"""Interpolation between latents: do samples change smoothly? Radford et al. 2015, arXiv:1511.06434, 6.1.

The paper: where a walk through latent space changes the content of images, "we can reason that the model has learned relevant and
interesting representations"; a generator that had memorised images would jump from one to the next. This tool measures the jumps.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from leafwing import films
from leafwing.errors import InvalidOption
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import (
    NO_CONDITIONS,
    Conditions,
    fix_conditions,
    parse_numbers,
    select_latents,
)
from leafwing.laboratory.needs import IMAGES, LATENTS, needs
from leafwing.laboratory.options import require_counts, require_memory
from leafwing.laboratory.sheet import Animation, require_size, sheet
from leafwing.latents import Interpolation, interpolate_latents
from leafwing.metrics.features import Features
from leafwing.model import Model
from leafwing.pictures import to_pixels
from leafwing.progress import ProgressCallback, no_progress

FINE = 32
"""Steps between two samples for measurement and animation."""
NO_CHANGE = 1e-6
"""Length of a path, relative to the features, up to which it is that of rounding."""


@needs(IMAGES, LATENTS)
def interpolate(
    model: Model,
    *,
    features: Features,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    samples: str = "0,1,2,3,4,5",
    latents: Path | None = None,
    interpolation: Interpolation = "spherical",
    steps: int = 9,
    seed: int = 0,
    animation: films.Kind = "webp",
    seconds: float = 4.0,
) -> Finding:
    """Interpolate from one sample to the next, and from the last back to the first.

    Args:
        model: a model of images.
        features: the feature space in which steps are measured.
        conditions: what all samples should be, by field: {"label": 3}; the rest is that of the first sample.
        report_progress: progress callback.
        samples: numbers of the samples to interpolate between, 3,5,8 or 0:10, as in `leafwing sample`, but with the conditions of
            sample 0 where none are set.
        latents: an .npz or .npy file of latents; --samples then selects its rows.
        interpolation: spherical, which keeps the norm of latents, or linear.
        steps: images per row of the grid.
        seed: random seed of the samples.
        animation: file type of the animated walk: webp, gif or mp4; mp4 needs PyAV (leafwing[film]).
        seconds: duration of the animated walk.

    Returns:
        `largest_step`, `median_step`: distances in feature space between neighbours on paths of 32 steps; `jump`: their ratio.
        `largest_share`: largest fraction of a path's length in one step; 1/32 if all are equal. `distance`: median distance
        between the end points. `stray`: path length relative to that distance. None if all samples are the same.

    Raises:
        LeafwingError: fewer than two samples or steps, invalid seconds, or PyAV is not installed.
    """
    ends, numbers = select_latents(model, samples, seed, latents), parse_numbers("samples", samples)
    if len(ends) < 2:
        raise InvalidOption("samples", samples, "interpolation requires at least two")
    require_counts(2, steps=steps)
    require_memory(model, len(ends) * FINE // 8, samples=samples)  # stored as bytes, and not twice
    require_memory(model, len(ends) * steps, steps=steps)
    require_size(model.spec, len(ends), steps, steps=steps)
    films.check_seconds(seconds)
    films.require(Path(f"walk.{animation}"))
    generate = fix_conditions(model, conditions, seed)
    paths, rows, frames = [], [], []
    for i, (first, last) in enumerate(pairwise([*range(len(ends)), 0])):
        images = generate(interpolate_latents(ends[first], ends[last], torch.linspace(0, 1, FINE + 1), interpolation))
        paths.append(features(images)[0])
        frames += list(to_pixels(images[:-1].cpu()))
        row = generate(interpolate_latents(ends[first], ends[last], torch.linspace(0, 1, steps), interpolation))
        rows.append((f"{numbers[first]} to {numbers[last]}", row.cpu()))
        report_progress("interpolating", i + 1, len(ends))
    lengths = [np.linalg.norm(np.diff(path, axis=0), axis=1) for path in paths]  # of the steps of each path
    distances = np.array([np.linalg.norm(path[-1] - path[0]) for path in paths])
    all_lengths = np.concatenate(lengths)
    median, largest = float(np.median(all_lengths)), float(all_lengths.max())
    least = NO_CHANGE * max(float(np.abs(path).max()) for path in paths)
    changing = [(path, d) for path, d in zip(lengths, distances, strict=True) if path.sum() > least]
    figures = {
        "walks": len(paths),
        "median_step": median,
        "largest_step": largest,
        "jump": largest / median if median and changing else None,
        "distance": float(np.median(distances)),
        "largest_share": float(np.max([path.max() / path.sum() for path, _ in changing])) if changing else None,
        "stray": float(np.median([path.sum() / max(d, 1e-12) for path, d in changing])) if changing else None,
        "space": features.name,
        "interpolation": interpolation,
    }
    words = ["The samples are all the same: nothing changes along the paths."]
    if changing:
        words = [
            f"No single step out of {FINE} makes more than {figures['largest_share']:.0%} of a path's length. A generator that "
            "jumped between memorised images would make all of it in one step."
        ]
    heads = [f"{i / (steps - 1):.2f}" for i in range(steps)]
    legend = f"Each row: {interpolation} interpolation from one sample to the next, in {steps} images. Above: position on the path."
    return Finding(
        figures,
        [*words, *generate.words],
        {"walks": sheet("Interpolation between samples", rows, heads=heads, legend=legend)},
        {"walk": Animation(frames, seconds, animation)},
        {"latents": ends.cpu().numpy()},
    )

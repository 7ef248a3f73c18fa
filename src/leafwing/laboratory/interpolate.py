"""Interpolation between latents: do samples change smoothly? Radford et al. 2015, arXiv:1511.06434, 6.1.

The paper: where a walk changes the meaning of pictures, "we can reason that the model has learned relevant and interesting
representations"; a generator that had memorised pictures would jump from one to the next. This tool measures the jumps.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import between, chosen, need_pictures, of_one_kind, whole_numbers
from leafwing.laboratory.sheet import film, sheet
from leafwing.metrics.features import Features
from leafwing.model import Model
from leafwing.progress import Progress, no_progress

FINE = 32
"""Steps between two samples for measurement and animation."""


def interpolate(
    model: Model,
    *,
    features: Features,
    report_progress: Progress = no_progress,
    samples: str = "0,1,2,3,4,5",
    file: Path | None = None,
    way: Literal["spherical", "straight"] = "spherical",
    steps: int = 9,
    label: str | None = None,
    seed: int = 0,
) -> Finding:
    """Interpolates from one sample to the next and back to the first.

    Args:
        model: a model of pictures.
        features: the feature space in which steps are measured.
        report_progress: progress callback.
        samples: numbers of the samples to interpolate between, as in `leafwing sample`: 3,5,8 or 0:10.
        file: an .npz or .npy file of latents; --samples then selects its rows.
        way: spherical (norm-preserving) or straight.
        steps: pictures per row of the sheet.
        label: class of all samples, for a run with labels.
        seed: random seed of the samples.

    Returns:
        `largest_step`, `median_step`: distances in feature space between neighbours on paths of 32 steps; `jump`: their ratio.
        `largest_share`: largest fraction of a path's length in one step; 1/32 if all are equal. `distance`: median distance
        between the end points. `stray`: path length relative to that distance.

    Raises:
        LeafwingError: a run of points, fewer than two samples, or steps.
    """
    need_pictures(model)
    ends, numbers = chosen(model, samples, seed, file), whole_numbers("samples", samples)
    if len(ends) < 2 or steps < 2:
        raise LeafwingError("interpolation requires at least two --samples and two --steps")
    generate = of_one_kind(model, label)
    walks, rows, frames = [], [], []
    ring = [*range(len(ends)), 0]
    for i, (first, last) in enumerate(pairwise(ring)):
        walk = between(ends[first], ends[last], torch.linspace(0, 1, FINE + 1), way)
        made = generate(walk)
        walks.append(features(made)[0])
        shown = generate(between(ends[first], ends[last], torch.linspace(0, 1, steps), way))
        rows.append((f"{numbers[first]} to {numbers[last]}", shown.cpu()))
        frames += [frame[None].cpu() for frame in made[:-1]]
        report_progress("interpolating", i + 1, len(ends))
    taken = [np.linalg.norm(np.diff(walk, axis=0), axis=1) for walk in walks]
    straight = np.array([np.linalg.norm(walk[-1] - walk[0]) for walk in walks])
    all_steps = np.concatenate(taken)
    median, largest = float(np.median(all_steps)), float(all_steps.max())
    figures = {
        "walks": len(walks),
        "median_step": median,
        "largest_step": largest,
        "jump": largest / median if median else None,
        "distance": float(np.median(straight)),
        "largest_share": float(np.max([steps.max() / max(steps.sum(), 1e-12) for steps in taken])),
        "stray": float(np.median([steps.sum() / max(d, 1e-12) for steps, d in zip(taken, straight, strict=True)])),
        "space": features.name,
        "way": way,
    }
    words = [
        f"No single step out of {FINE} makes more than {figures['largest_share']:.0%} of a path's length. A generator that jumped "
        "between memorised pictures would make all of it in one step."
    ]
    heads = [f"{i / (steps - 1):.2f}" for i in range(steps)]
    legend = f"Each row: {way} interpolation from one sample to the next, in {steps} pictures. Above: position on the path."
    return Finding(
        figures,
        words,
        {"walks": sheet("Interpolation between samples", rows, heads=heads, legend=legend)},
        {"walk": film(frames)},
        {"latents": ends.cpu().numpy()},
    )

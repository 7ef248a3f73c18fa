"""Interpolation: walk from latent to latent and look whether the picture changes smoothly. Radford et al. 2015, arXiv:1511.06434, 6.1.

The paper: where a walk changes the meaning of pictures, "we can reason that the model has learned relevant and interesting
representations"; a generator that had stored pictures would jump from one to the next. How much it jumps is measured here.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.latents import between, chosen, need_pictures, of_one_kind, whole_numbers
from leafwing.laboratory.sheet import film, sheet
from leafwing.metrics.features import Features
from leafwing.model import Model

FINE = 32
"""Steps of the walk that is measured and filmed, from one end to the next."""


def interpolate(
    model: Model,
    *,
    features: Features,
    counting: Counting = quiet,
    samples: str = "0,1,2,3,4,5",
    file: Path | None = None,
    way: Literal["spherical", "straight"] = "spherical",
    steps: int = 9,
    label: str | None = None,
    seed: int = 0,
) -> Finding:
    """Walks from one sample to the next and back to the first.

    Args:
        model: pictures.
        features: the space in which steps are measured.
        counting: told how far it is.
        samples: which samples to walk between, by number as `leafwing sample` shows them: 3,5,8 or 0:10.
        file: an .npz or .npy file of latents; the numbers are its rows then.
        way: spherical (along an arc, as long as latents are) or straight.
        steps: pictures in a row of the sheet.
        label: of which class all are, for a run with labels.
        seed: of the samples.

    Returns:
        `largest_step`, `median_step`: distances in feature space between neighbours of a walk of 32 steps, over all walks; `jump` is
        their quotient. `largest_share`: the largest part of a walk's way that one step made; 1/32 if all were equal. `distance`:
        the median distance between the ends. `stray`: how many times as long the way is as a straight one.

    Raises:
        LeafwingError: points, fewer than two samples, or steps.
    """
    need_pictures(model)
    ends, numbers = chosen(model, samples, seed, file), whole_numbers("samples", samples)
    if len(ends) < 2 or steps < 2:
        raise LeafwingError("an interpolation needs two --samples and two --steps at least")
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
        counting("walking", i + 1, len(ends))
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
        f"In no walk does one of {FINE} steps make more than {figures['largest_share']:.0%} of the way. A generator that jumped from "
        "one stored picture to another would make all of it in one."
    ]
    heads = [f"{i / (steps - 1):.2f}" for i in range(steps)]
    legend = f"Each row: a {way} walk from one sample to the next, in {steps} pictures. Above: how far along."
    return Finding(
        figures,
        words,
        {"walks": sheet("Interpolation between samples", rows, heads=heads, legend=legend)},
        {"walk": film(frames)},
        {"latents": ends.cpu().numpy()},
    )

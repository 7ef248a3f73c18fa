"""Inpainting: fill holes in images with the best-matching sample. Yeh et al. 2016, Semantic Image Inpainting with Deep
Generative Models, arXiv:1607.07539.

The paper searches for the sample that matches the known pixels (contextual loss) and that the critic scores as real (prior loss),
and pastes it into the hole with Poisson blending.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.data import Dataset
from leafwing.errors import InvalidOption, did_you_mean
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.fitting import (
    POOL,
    Box,
    best_of_each,
    critic_scores,
    fit,
    load_targets,
    starting_points,
)
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, generate, parse_numbers
from leafwing.laboratory.needs import IMAGES, LATENTS, needs
from leafwing.laboratory.options import read_picture, require_counts, require_memory, require_weights
from leafwing.laboratory.sheet import sheet
from leafwing.model import Model
from leafwing.pixels import images_to_tensor
from leafwing.progress import ProgressCallback, no_progress
from leafwing.quantities import plural

Mask = Literal["random", "centre", "left", "grid"]
MISSING, STRIDE = 0.8, 4
"""Missing fraction of `random`; stride of the known pixels and rows of `grid`."""
RATE = 0.02
COLUMNS, CHUNK = 12, 1_024
"""Maximum number of images on the grid, and number of training images compared at a time."""
KEPT = 8
"""Images in memory for each one that is completed."""


@needs(IMAGES, LATENTS)
def complete(
    model: Model,
    *,
    data: Dataset,
    held_out: Dataset,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    pictures: str = "0:16",
    mask: Mask | Path = "centre",
    starts: int = 4,
    steps: int = 300,
    prior: float = 0.1,
    seed: int = 0,
) -> Finding:
    """Fill holes in real images.

    The loss is the L1 distance over known pixels plus `prior` times softplus(-D(sample)), if the critic judges single samples. Latents
    stay within the range of the prior. Blended: the sample's gradients inside the hole with the image's colours as boundary values,
    solved with scipy. (OpenCV's seamlessClone does not change the outer 3 pixels of a hole, which leaves a seam in small images.)

    Args:
        model: a model of images.
        data: training images, searched for the nearest one.
        held_out: real images.
        conditions: what all images are, by field: {"label": 3}; the rest is theirs in the data.
        report_progress: progress callback.
        pictures: indices of real images in the order shuffled with seed 0, such as 3,5,8 or 0:10.
        mask: missing region: random (80% of the pixels), centre (a quarter), left (a half), grid (all but every 4th pixel of every
            4th row); or a PNG file, white where the image is known.
        starts: number of searches per image, started from the best of 100 random samples; the best result is used.
        steps: optimisation steps per search.
        prior: weight of the prior loss (critic).
        seed: random seed of the latents and of the random mask.

    Returns:
        `error`: for each method, the median over images of the mean squared error in the hole, for pixels in [-1, 1]: completed,
        blended, random (the best of 100 samples by the same loss), nearest (training image, by known pixels), mean (of the training
        images), flat (the mean known colour); `errors`: per image; `missing`: missing fraction. Array `latents`.

    Raises:
        LeafwingError: no such images, a mask of another size, or an option out of range.
    """
    check(model, pictures=pictures, mask=mask, starts=starts, steps=steps, prior=prior, seed=seed)
    known = _mask(mask, model, seed).to(model.device)
    targets = load_targets(model, held_out, pictures, conditions, seed=seed)
    n, images = len(targets.names), targets.images
    has_critic = prior > 0 and model.can("judge")

    def loss(latents: Tensor, indices: Tensor) -> Tensor:
        inputs: Conditions = targets.conditions.rows(indices)
        samples = model.render(latents, **inputs)
        losses = ((samples - images[indices]) * known).abs().flatten(1).sum(1)
        return losses + prior * F.softplus(-critic_scores(model, samples, inputs)) if has_critic else losses

    random = starting_points(model, loss, n, starts, seed)
    indices = torch.arange(n, device=model.device).repeat_interleave(starts)
    results = fit(
        loss, random, indices, Box.of(model), steps=steps, rate=RATE, report_progress=report_progress, what="completing"
    )
    latents = best_of_each(*results, starts)
    mean, nearest, trained_on = _training_baselines(data, images.cpu(), known.cpu(), report_progress)
    samples = generate(model, latents, targets.conditions)
    filled = {
        "completed": samples,
        "blended": _blend(images, samples, known),
        "random": generate(model, random[::starts], targets.conditions),
        "nearest": nearest.to(images),
        "mean": mean.to(images).expand_as(images),
        "flat": ((images * known).sum((2, 3), keepdim=True) / known.sum()).expand_as(images),
    }
    filled = {name: torch.where(known > 0, images, x) for name, x in filled.items()}
    hole_size = (1 - known).sum() * images.shape[1]
    errors = {name: ((x - images).square().flatten(1).sum(1) / hole_size).tolist() for name, x in filled.items()}
    error = {name: float(np.median(values)) for name, values in errors.items()}
    figures = {
        "pictures": n,
        "mask": str(mask),
        "missing": float((1 - known).mean()),
        "error": error,
        "errors": errors,
        "judged": has_critic,
    }
    numbers = ", ".join(f"{name} {error[name]:.4f}" for name in ("completed", "blended", "nearest", "mean", "flat"))
    words = [f"Median squared error in the hole over {plural(n, 'image')} (pixels in [-1, 1]): {numbers}."]
    if trained_on:
        words.append(
            f"The generator was trained on {trained_on} of them: complete others (`leafwing train --hold-out auto` holds some out)."
        )
    rows = [("image", images[:COLUMNS].cpu()), ("known", torch.where(known > 0, images, 0.0)[:COLUMNS].cpu())]
    rows += [
        (f"{title}: {error[name]:.2g}", filled[name][:COLUMNS].cpu())
        for name, title in (
            ("completed", "completed"),
            ("blended", "blended"),
            ("random", "best random"),
            ("nearest", "nearest training"),
            ("flat", "mean fill"),
        )
    ]
    legend = (
        "Grey in the second row is missing. Completed: the sample that best matches the known pixels is pasted into the hole. "
        f"Blended: the same with Poisson blending. Best random: the best of {max(POOL, starts)} random samples. Nearest training: the "
        "training image closest in the known pixels. Mean fill: the mean known colour. Numbers are median squared errors in the hole."
    )
    title = f"Completed images, mask: {Path(mask).name}"
    image = sheet(title, rows, heads=targets.names[:COLUMNS], legend=legend)
    return Finding(figures, words, {"completion": image}, arrays={"latents": latents.cpu().numpy()})


def check(
    model: Model,
    *,
    pictures: str,
    mask: Mask | Path,
    starts: int,
    steps: int,
    prior: float,
    seed: int,
) -> None:
    """Raises LeafwingError for invalid options."""
    require_counts(starts=starts, steps=steps)
    require_weights(prior=prior)
    require_memory(model, KEPT * len(parse_numbers("pictures", pictures)), pictures=pictures)
    _mask(mask, model, seed)


def _mask(mask: Mask | Path, model: Model, seed: int) -> Tensor:
    """The mask, float (height, width): 1 where images are known, 0 in the hole."""
    height, width = model.spec.height, model.spec.width
    known = torch.ones(height, width)
    if mask == "centre":
        known[height // 4 : height - height // 4, width // 4 : width - width // 4] = 0
    elif mask == "left":
        known[:, : width // 2] = 0
    elif mask == "grid":
        known.zero_()[::STRIDE, ::STRIDE] = 1
    elif mask == "random":
        known = (torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) >= MISSING).float()
    elif Path(mask).is_file():
        known = _read_mask(Path(mask), height, width)
    else:
        raise InvalidOption("mask", mask, f"not a file, nor the name of a mask{did_you_mean(str(mask), get_args(Mask))}")
    if not 0 < known.mean() < 1:
        raise InvalidOption("mask", mask, "some pixels must be known (white) and some missing (black)")
    return known


def _read_mask(file: Path, height: int, width: int) -> Tensor:
    mask = np.asarray(read_picture("mask", file, width, height, "L"))
    return torch.from_numpy(mask >= 128).float()


def _training_baselines(
    data: Dataset, images: Tensor, known: Tensor, report_progress: ProgressCallback
) -> tuple[Tensor, Tensor, int]:
    """The mean training image, for each image the closest training image by known pixels, excluding itself, and how many are in them.

    Args:
        data: training images.
        images: floats (n, channels, height, width) in [-1, 1].
        known: (height, width).
        report_progress: progress callback.
    """
    is_known = (known > 0).expand(images.shape[1:])
    target = images[:, is_known].double()
    total = torch.zeros(images.shape[1:], dtype=torch.float64)
    lowest, nearest, trained_on = torch.full((len(images),), torch.inf), images.clone(), set[int]()
    for start in range(0, len(data), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(data)))
        part = images_to_tensor(data.pictures(rows))
        total += part.double().sum(0)
        distance = torch.cdist(target, part[:, is_known].double())
        for i, k in (distance < 1e-6 * target.shape[1]).nonzero().tolist():
            if torch.equal(images[i], part[k]):
                distance[i, k] = torch.inf
                trained_on.add(i)
        closest, index = distance.min(1)
        better = closest < lowest
        lowest[better], nearest[better] = closest.float()[better], part[index[better]]
        report_progress("searching training images", int(rows[-1]) + 1, len(data))
    return (total / len(data)).float(), nearest, len(trained_on)


def _blend(images: Tensor, samples: Tensor, known: Tensor) -> Tensor:
    """Pérez et al. 2003, Poisson Image Editing: the sample's gradients in the hole, the image's colours as boundary values.

    There is no boundary condition at the border of an image.
    """
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    hole = (known == 0).cpu().numpy()
    number = np.cumsum(hole).reshape(hole.shape) - 1
    positions = np.stack(np.nonzero(hole), 1)
    offset = (images - samples).cpu().double().numpy()  # the correction: harmonic in the hole, known at its boundary
    entries, boundary = [], np.zeros((len(positions), offset.shape[0] * offset.shape[1]))
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        neighbours = positions + step
        rows = np.flatnonzero(((neighbours >= 0) & (neighbours < hole.shape)).all(1))
        y, x = neighbours[rows].T
        entries.append((np.ones(len(rows)), rows, rows))
        inner = hole[y, x]
        entries.append((-np.ones(inner.sum()), rows[inner], number[y[inner], x[inner]]))
        boundary[rows[~inner]] += offset[:, :, y[~inner], x[~inner]].reshape(boundary.shape[1], (~inner).sum()).T
    values, rows, columns = (np.concatenate(part) for part in zip(*entries, strict=True))
    solution = splu(csc_matrix((values, (rows, columns)), shape=(len(positions), len(positions)))).solve(boundary)
    correction = torch.zeros_like(samples)
    correction[:, :, (known == 0)] = torch.from_numpy(solution.T.copy()).view(*offset.shape[:2], -1).to(samples)
    return torch.where(known > 0, images, samples + correction).clamp(-1, 1)

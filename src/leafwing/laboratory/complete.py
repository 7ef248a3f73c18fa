"""Inpainting: fill holes in pictures with the best-matching sample. Yeh et al. 2016, Semantic Image Inpainting with Deep
Generative Models, arXiv:1607.07539.

The paper: search for the sample that matches the known pixels (contextual loss) and that the critic scores as real (prior loss); then
paste it into the hole with Poisson blending.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.data import Dataset
from leafwing.errors import LeafwingError, did_you_mean
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.fitting import POOL, Box, begin, cheapest, fit, judged, made_of, need_counts, need_weights, real
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import sheet
from leafwing.model import Model
from leafwing.progress import Progress, no_progress

MASKS = ["random", "centre", "left", "grid"]
MISSING, EVERY = 0.8, 4
"""Missing fraction of `random`; stride of the known pixels and rows of `grid`."""
RATE = 0.02
SHOWN, AT_ONCE = 12, 1_024
"""Number of pictures on a sheet, and of training pictures compared at a time."""


def complete(
    model: Model,
    *,
    data: Dataset,
    held: Dataset,
    report_progress: Progress = no_progress,
    pictures: str = "0:16",
    label: str | None = None,
    mask: str = "centre",
    starts: int = 4,
    steps: int = 300,
    prior: float = 0.1,
    seed: int = 0,
) -> Finding:
    """Fills holes in real pictures.

    The loss is the L1 distance over known pixels plus `prior` times softplus(-D(sample)), if the critic judges single samples. Latents
    stay within the range of the prior. Blended: the sample's gradients inside the hole with the picture's colours as boundary values,
    solved with scipy. (OpenCV's seamlessClone leaves the outer 3 pixels of a hole unchanged, which leaves a seam in small pictures.)

    Args:
        model: a model of pictures.
        data: training pictures, searched for the nearest one.
        held: real pictures.
        report_progress: progress callback.
        pictures: indices of real pictures in the order shuffled with seed 0, such as 3,5,8 or 0:10.
        label: class of the pictures, for a run with labels; default: their label in the data.
        mask: missing region: random (80 % of the pixels), centre (a quarter), left (a half), grid (all but every 4th pixel of every
            4th row); or a PNG file, white where the picture is known.
        starts: number of searches per picture, started from the best of 100 random samples; the best result is kept.
        steps: optimisation steps per search.
        prior: weight of the prior loss (critic).
        seed: random seed of the latents and of the random mask.

    Returns:
        `error`: for each method, the median over pictures of the mean squared error in the hole, for pixels in [-1, 1]: completed,
        blended, random (the best of 100 samples by the same loss), nearest (training picture, by known pixels), mean (of the training
        pictures), flat (the mean known colour); `errors`: per picture; `missing`: missing fraction. Array `latents`.

    Raises:
        LeafwingError: a run that generates points, no such pictures, a mask of another size, or an option out of range.
    """
    need_pictures(model)
    need_counts(starts=starts, steps=steps)
    need_weights(prior=prior)
    known = _mask(mask, model, seed).to(model.device)
    given = real(model, held, pictures, label)
    n, wanted = len(given.names), given.pictures
    judging = prior > 0 and model.can("judge")

    def cost(latents: Tensor, which: Tensor) -> Tensor:
        told = [one[which] for one in given.told]
        made = model.render(latents, *told)
        costs = ((made - wanted[which]) * known).abs().flatten(1).sum(1)
        return costs + prior * F.softplus(-judged(model, made, told)) if judging else costs

    random, whose = begin(model, cost, n, starts, seed), torch.arange(n, device=model.device).repeat_interleave(starts)
    tried = fit(
        cost, random, whose, Box.of(model), steps=steps, rate=RATE, report_progress=report_progress, what="completing"
    )
    latents = cheapest(*tried, starts)
    mean, near = _training(data, given.pixels, known.cpu(), report_progress)
    made = made_of(model, latents, given.told)
    filled = {
        "completed": made,
        "blended": _blended(wanted, made, known),
        "random": made_of(model, random[::starts], given.told),
        "nearest": near.to(wanted),
        "mean": mean.to(wanted).expand_as(wanted),
        "flat": ((wanted * known).sum((2, 3), keepdim=True) / known.sum()).expand_as(wanted),
    }
    filled = {name: torch.where(known > 0, wanted, own) for name, own in filled.items()}
    hole = (1 - known).sum() * wanted.shape[1]
    errors = {name: ((own - wanted).square().flatten(1).sum(1) / hole).tolist() for name, own in filled.items()}
    error = {name: float(np.median(own)) for name, own in errors.items()}
    figures = {
        "pictures": n,
        "mask": mask,
        "missing": float((1 - known).mean()),
        "error": error,
        "errors": errors,
        "judged": judging,
    }
    said = ", ".join(f"{name} {error[name]:.4f}" for name in ("completed", "blended", "nearest", "mean", "flat"))
    words = [f"Median squared error in the hole over {n} pictures (pixels in [-1, 1]): {said}."]
    if len(data) == len(held):
        words.append(
            "No pictures were held out, so the generator was trained on these: use `leafwing train --hold-out auto`."
        )
    heads, shown = given.names[:SHOWN], slice(SHOWN)
    rows = [("picture", wanted[shown].cpu()), ("known", torch.where(known > 0, wanted, 0.0)[shown].cpu())]
    rows += [
        (f"{title}: {error[name]:.2g}", filled[name][shown].cpu())
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
        f"Blended: the same with Poisson blending. Best random: the best of {POOL} random samples. Nearest training: the training "
        "picture closest in the known pixels. Mean fill: the mean known colour. Numbers are median squared errors in the hole."
    )
    return Finding(
        figures,
        words,
        {"completion": sheet(f"Completing pictures, mask: {Path(mask).name}", rows, heads=heads, legend=legend)},
        arrays={"latents": latents.cpu().numpy()},
    )


def _mask(mask: str, model: Model, seed: int) -> Tensor:
    """The mask, float (height, width): 1 where pictures are known, 0 in the hole."""
    height, width = model.spec.height, model.spec.width
    known = torch.ones(height, width)
    if mask == "centre":
        known[height // 4 : height - height // 4, width // 4 : width - width // 4] = 0
    elif mask == "left":
        known[:, : width // 2] = 0
    elif mask == "grid":
        known.zero_()[::EVERY, ::EVERY] = 1
    elif mask == "random":
        known = (torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) >= MISSING).float()
    elif Path(mask).is_file():
        known = _drawn(Path(mask), height, width)
    else:
        raise LeafwingError(f"--mask {mask}: neither a PNG file nor one of {', '.join(MASKS)}{did_you_mean(mask, MASKS)}")
    if not 0 < known.mean() < 1:
        raise LeafwingError(f"--mask {mask}: some pixels must be known (white) and some missing (black)")
    return known


def _drawn(file: Path, height: int, width: int) -> Tensor:
    from PIL import Image

    try:
        with Image.open(file) as image:
            drawn = np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise LeafwingError(f"--mask {file}: cannot read the picture ({error})") from None
    if drawn.shape != (height, width):
        raise LeafwingError(
            f"--mask {file}: {drawn.shape[1]}x{drawn.shape[0]} pixels, but pictures of this run have {width}x{height} (width x height)"
        )
    return torch.from_numpy(drawn >= 128).float()


def _training(data: Dataset, pixels: Tensor, known: Tensor, report_progress: Progress) -> tuple[Tensor, Tensor]:
    """The mean training picture, and for each picture the closest training picture by known pixels, excluding itself.

    Args:
        data: training pictures.
        pixels: uint8 (n, channels, height, width).
        known: (height, width).
        report_progress: progress callback.
    """
    places = (known > 0).expand(pixels.shape[1:])
    wanted, n = pixels[:, places].double(), len(pixels)
    total, least, near = torch.zeros(pixels.shape[1:], dtype=torch.float64), torch.full((n,), torch.inf), pixels.clone()
    for start in range(0, len(data), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(data)))
        part = torch.from_numpy(data.pictures(rows)).permute(0, 3, 1, 2)
        total += part.double().sum(0)
        apart = torch.cdist(wanted, part[:, places].double())
        for i, k in (apart < 1e-4 * wanted.shape[1]).nonzero().tolist():
            if torch.equal(pixels[i], part[k]):
                apart[i, k] = torch.inf
        closest, which = apart.min(1)
        better = closest < least
        least[better], near[better] = closest.float()[better], part[which[better]]
        report_progress("searching training pictures", int(rows[-1]) + 1, len(data))
    return (total / len(data)).float() / 127.5 - 1, near.float() / 127.5 - 1


def _blended(pictures: Tensor, made: Tensor, known: Tensor) -> Tensor:
    """Pérez et al. 2003, Poisson Image Editing: the sample's gradients in the hole, the picture's colours as boundary values.

    There is no boundary condition at the border of a picture.
    """
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    hole = (known == 0).cpu().numpy()
    number = np.cumsum(hole).reshape(hole.shape) - 1
    places = np.stack(np.nonzero(hole), 1)
    offset = (pictures - made).double().cpu().numpy()  # the correction: harmonic in the hole, known at its boundary
    entries, sides = [], np.zeros((len(places), offset.shape[0] * offset.shape[1]))
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        beside = places + step
        rows = np.flatnonzero(((beside >= 0) & (beside < hole.shape)).all(1))
        y, x = beside[rows].T
        entries.append((np.ones(len(rows)), rows, rows))
        inner = hole[y, x]
        entries.append((-np.ones(inner.sum()), rows[inner], number[y[inner], x[inner]]))
        sides[rows[~inner]] += offset[:, :, y[~inner], x[~inner]].reshape(sides.shape[1], (~inner).sum()).T
    values, rows, columns = (np.concatenate(one) for one in zip(*entries, strict=True))
    solved = splu(csc_matrix((values, (rows, columns)), shape=(len(places), len(places)))).solve(sides)
    added = torch.zeros_like(made)
    added[:, :, (known == 0)] = torch.from_numpy(solved.T.copy()).view(*offset.shape[:2], -1).to(made)
    return torch.where(known > 0, pictures, made + added).clamp(-1, 1)

"""Completion: holes in pictures, filled by the sample that fits what is left. Yeh et al. 2016, Semantic Image Inpainting with Deep
Generative Models, arXiv:1607.07539.

The paper: among all samples, look for the one that is like the picture where it is known (contextual loss) and that the critic takes
for real (prior loss); then paste it into the hole, its colours carried over by Poisson blending.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.fitting import POOL, Box, begin, cheapest, fit, judged, made_of, need_counts, need_weights, real
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import sheet
from leafwing.model import Model
from leafwing.recipes import did_you_mean

MASKS = ["random", "centre", "left", "grid"]
MISSING, EVERY = 0.8, 4
"""Of `random`: how much is missing. Of `grid`: every so manyth pixel of every so manyth row is known."""
RATE = 0.02
SHOWN, AT_ONCE = 12, 1_024
"""So many pictures a sheet shows; so many training pictures are compared at a time."""


def complete(
    model: Model,
    *,
    data: Dataset,
    held: Dataset,
    counting: Counting = quiet,
    pictures: str = "0:16",
    label: str | None = None,
    mask: str = "centre",
    starts: int = 4,
    steps: int = 300,
    prior: float = 0.1,
    seed: int = 0,
) -> Finding:
    """Fills holes in real pictures.

    The cost is the sum of absolute differences where the picture is known, and `prior` times softplus(-D(sample)) where the game has a
    critic of single samples. Latents stay where the prior draws them. Blended: inside the hole the sample's gradients, at its edge the
    picture's colours; scipy solves the equations. (OpenCV's seamlessClone leaves the outer 3 pixels of a hole as they are: in small
    pictures that keeps the seam.)

    Args:
        model: pictures.
        data: where the nearest training picture is looked for.
        held: real pictures.
        counting: told how far it is.
        pictures: which real pictures, by their place in the shuffled order of seed 0: 3,5,8 or 0:10.
        label: of which class they are, for a run with labels; else what the data say.
        mask: what is missing: random (80 % of the pixels), centre (a quarter), left (a half), grid (all but every 4th pixel of every
            4th row); or a PNG file, white where the picture is known.
        starts: how many searches there are for each picture, from the best of 100 random samples; the best is kept.
        steps: of each search.
        prior: weight of the critic's opinion.
        seed: of the random latents, and of the random mask.

    Returns:
        `error`: for each way of filling the median over pictures of the mean squared error in the hole, pixels from -1 to 1:
        completed, blended, random (the best of 100 samples by the same cost), nearest (training picture, by what is known), mean (of
        the training pictures), flat (the mean colour of what is known); `errors`: those of each picture; `missing`: the share of
        pixels. Array `latents`.

    Raises:
        LeafwingError: points, no such pictures, a mask of another size, or an option that is out of range.
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
    tried = fit(cost, random, whose, Box.of(model), steps=steps, rate=RATE, counting=counting, what="completing")
    latents = cheapest(*tried, starts)
    mean, near = _training(data, given.pixels, known.cpu(), counting)
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
    words = [f"Median squared error in the hole over {n} pictures (pixels from -1 to 1): {said}."]
    if len(data) == len(held):
        words.append(
            "No pictures were held out of training, so the generator was shown these: `leafwing train --hold-out auto` keeps some."
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
        "What is grey in the second row is missing. Completed: a sample is pasted into the hole, the one that is most like what is "
        f"known. Blended: its colours are carried over. Best random: the best of {POOL} random samples. Nearest "
        "training: the training picture that is most like what is known. Mean fill: the mean colour of what is known. The numbers are "
        "median squared errors in the hole."
    )
    return Finding(
        figures,
        words,
        {"completion": sheet(f"Completing pictures, mask: {Path(mask).name}", rows, heads=heads, legend=legend)},
        arrays={"latents": latents.cpu().numpy()},
    )


def _mask(mask: str, model: Model, seed: int) -> Tensor:
    """Float (height, width): 1 where pictures are known, 0 in the hole."""
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
        raise LeafwingError(f"--mask {file}: no picture that can be read ({error})") from None
    if drawn.shape != (height, width):
        raise LeafwingError(
            f"--mask {file}: {drawn.shape[1]}x{drawn.shape[0]} pixels, and pictures of this run have {width}x{height} (width x height)"
        )
    return torch.from_numpy(drawn >= 128).float()


def _training(data: Dataset, pixels: Tensor, known: Tensor, counting: Counting) -> tuple[Tensor, Tensor]:
    """The mean training picture, and for each picture the training picture that is most like it where it is known, but for itself.

    Args:
        data: training pictures.
        pixels: uint8 (n, channels, height, width).
        known: (height, width).
        counting: told how far it is.
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
        counting("looking through training pictures", int(rows[-1]) + 1, len(data))
    return (total / len(data)).float() / 127.5 - 1, near.float() / 127.5 - 1


def _blended(pictures: Tensor, made: Tensor, known: Tensor) -> Tensor:
    """Pérez et al. 2003, Poisson Image Editing: in the hole the gradients of what was made, at its edge the picture's colours.

    Beyond the border of a picture there is nothing to agree with.
    """
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    hole = (known == 0).cpu().numpy()
    number = np.cumsum(hole).reshape(hole.shape) - 1
    places = np.stack(np.nonzero(hole), 1)
    offset = (pictures - made).double().cpu().numpy()  # what must be added: smooth in the hole, known at its edge
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

"""GAN inversion: find latents that reproduce given pictures. Zhu et al. 2016, Generative Visual Manipulation on the Natural Image
Manifold, arXiv:1609.03552, 3.1.

The paper: project a photograph by optimisation (L-BFGS), by an encoder that predicts its latent, or by both, with the prediction as
starting point. What no latent reproduces, the generator has not learnt.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.fitting import POOL, Box, Cost, Real, begin, cheapest, fit, made_of, need_counts, need_weights, real
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.features import Features
from leafwing.metrics.own import opaque
from leafwing.model import Model
from leafwing.progress import Progress, no_progress

METHODS = ("adam", "lbfgs", "encoder", "hybrid")
SHOWN = 12
"""Number of pictures on the sheet."""
LONG = 1.5
"""Latents with a norm more than this many times the prior's are reported."""
PAIRS = 32
"""Number of sample pairs whose mean distance normalises both parts of the loss."""


def invert(
    model: Model,
    *,
    held: Dataset,
    features: Features,
    report_progress: Progress = no_progress,
    pictures: str = "0:8",
    file: Path | None = None,
    label: str | None = None,
    method: Literal["all", "adam", "lbfgs", "encoder", "hybrid"] = "all",
    starts: int = 4,
    steps: int = 200,
    weight: float = 0.1,
    seed: int = 0,
) -> Finding:
    """Finds the latents whose samples are most similar to given pictures.

    The loss is the mean squared pixel error plus `weight` times the squared feature distance, each normalised by its mean between two
    samples. Latents stay within the range of the prior.

    Args:
        model: a model of pictures.
        held: real pictures.
        features: the feature space in which pictures are compared in addition to pixels.
        report_progress: progress callback.
        pictures: indices of real pictures in the order shuffled with seed 0, such as 3,5,8 or 0:10.
        file: a picture file or folder to use instead.
        label: class of the pictures, for a run with labels; default: their label in the data.
        method: adam, lbfgs, encoder, hybrid (L-BFGS started from the encoder), or all that the run supports.
        starts: number of searches per picture, started from the best of 100 random samples; the best result is kept.
        steps: optimisation steps per search.
        weight: weight of the feature loss; 0 disables it.
        seed: random seed of the starting points.

    Returns:
        `error`: for each method, and for the best of 100 random samples, the median over pictures of the mean squared error of pixels
        in [-1, 1]; `errors`: per picture; `distance`: the same in feature space; `length`: root mean square of the latents, and of
        the prior. Arrays `latents`: latents of the best method for each picture; `latents_METHOD`: of each method.

    Raises:
        LeafwingError: a run that generates points, no such pictures, no encoder, or an option out of range.
    """
    need_pictures(model)
    need_counts(starts=starts, steps=steps)
    need_weights(weight=weight)
    if method in ("encoder", "hybrid") and not model.can("encode"):
        raise LeafwingError(f"--method {method}: this run has no encoder; choose adam or lbfgs (see `leafwing recipes`)")
    given = real(model, held, pictures, label, file)
    n, box = len(given.names), Box.of(model)
    cost = _cost(model, given, features, weight)
    random, each = begin(model, cost, n, starts, seed), torch.arange(n, device=model.device)
    found = {"random": random[::starts]}
    for name in [one for one in METHODS if method in (one, "all")]:
        search = partial(fit, steps=steps, report_progress=report_progress, what=f"inverting, {name}")
        if name in ("adam", "lbfgs"):
            found[name] = cheapest(*search(cost, random, each.repeat_interleave(starts), box, method=name), starts)
        elif model.can("encode"):
            found[name] = model.encode(given.pictures)
            if name == "hybrid":
                found[name] = search(cost, found[name], each, box, method="lbfgs")[0]
    made = {name: made_of(model, latents, given.told) for name, latents in found.items()}
    errors = {name: (own - given.pictures).square().flatten(1).mean(1).tolist() for name, own in made.items()}
    wanted = features(given.pictures)[0]
    distances = {name: np.linalg.norm(features(own)[0] - wanted, axis=1).tolist() for name, own in made.items()}
    tried = [name for name in found if name != "random"]
    best = [min(tried, key=lambda name: errors[name][i]) for i in range(n)]
    length = {name: float(own.square().mean().sqrt()) for name, own in (found | {"prior": model.latents(256)}).items()}
    error = {name: float(np.median(own)) for name, own in errors.items()}
    figures = {
        "pictures": n,
        "error": error,
        "distance": {name: float(np.median(own)) for name, own in distances.items()},
        "space": features.name,
        "length": length,
        "errors": errors,
    }
    first = min(tried, key=lambda name: error[name])
    words = [
        f"The best method for {n} pictures is {first}: median error {error[first]:.4f}, against {error['random']:.4f} for the best of "
        f"{POOL} random samples (mean squared error, pixels in [-1, 1])."
    ]
    longest = max(tried, key=lambda name: length[name])
    if length[longest] > LONG * length["prior"]:
        words.append(
            f"The latents found by {longest} have {length[longest] / length['prior']:.1f} times the norm of the prior's: such latents "
            "are very unlikely under it."
        )
    titles = {"random": "best random", "lbfgs": "L-BFGS", "adam": "Adam", "hybrid": "encoder, then L-BFGS"}
    rows = [("picture", given.pictures[:SHOWN].cpu())]
    rows += [(f"{titles.get(name, name)}: {error[name]:.2g}", own[:SHOWN].cpu()) for name, own in made.items()]
    legend = (
        f"Top: real pictures. Below: the most similar sample found by each method, with the method's median squared error. "
        f"`best random` is the best of {POOL} random samples; the searches start from the best {starts}."
    )
    arrays = {f"latents_{name}": found[name].cpu().numpy() for name in tried}
    arrays["latents"] = torch.stack([found[name][i] for i, name in enumerate(best)]).cpu().numpy()
    shown = sheet("Real pictures and their reconstructions", rows, heads=given.names[:SHOWN], legend=legend)
    return Finding(figures, words, {"inversion": shown}, arrays=arrays)


def _cost(model: Model, given: Real, features: Features, weight: float) -> Cost:
    """The loss between samples and pictures; see `invert`."""
    samples = model.sample(2 * PAIRS)
    unit = _apart(samples[:PAIRS], samples[PAIRS:]).mean().clamp(min=1e-12)
    wanted, feature_unit = None, torch.ones(())
    if weight:
        with torch.no_grad():
            seen = features.net(opaque(samples))[0]
            wanted = torch.cat([features.net(opaque(part))[0] for part in given.pictures.split(features.batch)])
        feature_unit = _apart(seen[:PAIRS], seen[PAIRS:]).mean().clamp(min=1e-12)

    def cost(latents: Tensor, which: Tensor) -> Tensor:
        made = model.render(latents, *(one[which] for one in given.told))
        costs = _apart(made, given.pictures[which]) / unit
        if wanted is not None:
            costs = costs + weight * _apart(features.net(opaque(made))[0], wanted[which]) / feature_unit
        return costs

    return cost


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each row: (n,)."""
    return (a - b).square().flatten(1).mean(1)

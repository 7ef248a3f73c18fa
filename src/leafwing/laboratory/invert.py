"""Inversion: the latents of given pictures. Zhu et al. 2016, Generative Visual Manipulation on the Natural Image Manifold,
arXiv:1609.03552, 3.1.

The paper: project a photograph by optimisation (L-BFGS), by a network that predicts its latent, or by both, the prediction being where
the optimisation begins. What no latent comes near to, the generator has not learnt.
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
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.fitting import POOL, Box, Cost, Real, begin, cheapest, fit, made_of, need_counts, need_weights, real
from leafwing.laboratory.latents import need_pictures
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.features import Features
from leafwing.metrics.own import opaque
from leafwing.model import Model

METHODS = ("adam", "lbfgs", "encoder", "hybrid")
SHOWN = 12
"""So many pictures a sheet shows."""
LONG = 1.5
"""So many times as long as the prior's, latents are worth a word."""
PAIRS = 32
"""Pairs of samples whose mean distance is the unit of either part of the cost."""


def invert(
    model: Model,
    *,
    held: Dataset,
    features: Features,
    counting: Counting = quiet,
    pictures: str = "0:8",
    file: Path | None = None,
    label: str | None = None,
    method: Literal["all", "adam", "lbfgs", "encoder", "hybrid"] = "all",
    starts: int = 4,
    steps: int = 200,
    weight: float = 0.1,
    seed: int = 0,
) -> Finding:
    """Finds the latents whose samples are most like given pictures.

    The cost is the mean squared error of the pixels, and `weight` times the squared distance of the features, either in units of what
    it is between two samples. Latents stay where the prior draws them.

    Args:
        model: pictures.
        held: real pictures.
        features: the space in which pictures are compared beside pixels.
        counting: told how far it is.
        pictures: which real pictures, by their place in the shuffled order of seed 0: 3,5,8 or 0:10.
        file: a picture, or a folder of pictures, instead of these.
        label: of which class they are, for a run with labels; else what the data say.
        method: all that the run can; adam; lbfgs; encoder; or hybrid, which goes on from the encoder with L-BFGS.
        starts: how many searches there are for each picture, from the best of 100 random samples; the best is kept.
        steps: of each search.
        weight: of the features beside the pixels; 0 leaves them out.
        seed: of the random latents.

    Returns:
        `error`: for each method the median over pictures of the mean squared error of pixels from -1 to 1, with the best of 100 random
        samples beside it; `errors`: those of each picture; `distance`: the same in feature space; `length`: root mean square of the
        latents, with that of the prior beside it. Arrays `latents`: for each picture those of its best method; `latents_METHOD`: of
        each.

    Raises:
        LeafwingError: points, no such pictures, no encoder where one is asked for, or an option that is out of range.
    """
    need_pictures(model)
    need_counts(starts=starts, steps=steps)
    need_weights(weight=weight)
    if method in ("encoder", "hybrid") and not model.can("encode"):
        raise LeafwingError(
            f"--method {method}: this run's game has no encoder; choose adam or lbfgs (`leafwing recipes` says which have one)"
        )
    given = real(model, held, pictures, label, file)
    n, box = len(given.names), Box.of(model)
    cost = _cost(model, given, features, weight)
    random, each = begin(model, cost, n, starts, seed), torch.arange(n, device=model.device)
    found = {"random": random[::starts]}
    for name in [one for one in METHODS if method in (one, "all")]:
        search = partial(fit, steps=steps, counting=counting, what=f"inverting, {name}")
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
        f"The best way to the latents of {n} pictures is {first}: median error {error[first]:.4f}, where the best of {POOL} random "
        f"samples has {error['random']:.4f} (mean squared, pixels from -1 to 1)."
    ]
    longest = max(tried, key=lambda name: length[name])
    if length[longest] > LONG * length["prior"]:
        words.append(
            f"Latents of {longest} are {length[longest] / length['prior']:.1f} times as long as the prior's: such samples "
            "are hardly ever drawn."
        )
    titles = {"random": "best random", "lbfgs": "L-BFGS", "adam": "Adam", "hybrid": "encoder, then L-BFGS"}
    rows = [("picture", given.pictures[:SHOWN].cpu())]
    rows += [(f"{titles.get(name, name)}: {error[name]:.2g}", own[:SHOWN].cpu()) for name, own in made.items()]
    legend = (
        f"Above: real pictures. Below: the sample most like each, as each method found it, and the method's median squared error. "
        f"`best random` is the best of {POOL} random samples; the searches begin from the best {starts}."
    )
    arrays = {f"latents_{name}": found[name].cpu().numpy() for name in tried}
    arrays["latents"] = torch.stack([found[name][i] for i, name in enumerate(best)]).cpu().numpy()
    shown = sheet("Real pictures and the samples most like them", rows, heads=given.names[:SHOWN], legend=legend)
    return Finding(figures, words, {"inversion": shown}, arrays=arrays)


def _cost(model: Model, given: Real, features: Features, weight: float) -> Cost:
    """How far samples are from the pictures; see `invert`."""
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

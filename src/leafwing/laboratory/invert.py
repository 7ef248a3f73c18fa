"""GAN inversion: find latents that reproduce given images. Zhu et al. 2016, Generative Visual Manipulation on the Natural Image
Manifold, arXiv:1609.03552, 3.1.

The paper projects a photograph by optimisation (L-BFGS), by an encoder that predicts its latent, or by both, with the prediction as
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
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.fitting import (
    POOL,
    Box,
    Loss,
    Targets,
    best_of_each,
    fit,
    load_targets,
    starting_points,
)
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, generate, parse_numbers
from leafwing.laboratory.needs import ENCODER, IMAGES, LATENTS, needs
from leafwing.laboratory.options import require_counts, require_memory, require_weights
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.features import Features
from leafwing.model import Model
from leafwing.pixels import composite_on_white
from leafwing.progress import ProgressCallback, no_progress
from leafwing.quantities import plural

Method = Literal["adam", "lbfgs", "encoder", "hybrid"]
METHODS: tuple[Method, ...] = ("adam", "lbfgs", "encoder", "hybrid")
TITLES = {
    "random": "best random",
    "adam": "Adam",
    "lbfgs": "L-BFGS",
    "encoder": "encoder",
    "hybrid": "encoder, then L-BFGS",
}
"""Row titles: of the methods, and of the best random sample."""
COLUMNS = 12
"""Maximum number of images on the grid."""
LONG = 1.5
"""Latents with a norm more than this many times the prior's are reported as unlikely."""
PAIRS = 32
"""Number of sample pairs whose mean distance normalises both parts of the loss."""


@needs(IMAGES, LATENTS)
def invert(
    model: Model,
    *,
    held_out: Dataset,
    features: Features,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    pictures: str = "0:8",
    file: Path | None = None,
    method: Literal["all", "adam", "lbfgs", "encoder", "hybrid"] = "all",
    starts: int = 4,
    steps: int = 200,
    weight: float = 0.1,
    seed: int = 0,
) -> Finding:
    """Find the latents whose samples are most similar to given images.

    The loss is the mean squared pixel error plus `weight` times the squared feature distance, each normalised by its mean between two
    samples. Latents stay within the range of the prior.

    Args:
        model: a model of images.
        held_out: real images.
        features: the feature space in which images are compared in addition to pixels.
        conditions: what all images are, by field: {"label": 3}; the rest is theirs in the data.
        report_progress: progress callback.
        pictures: indices of real images in the order shuffled with seed 0, such as 3,5,8 or 0:10.
        file: an image file or folder to use instead; the first 64 images of a folder, by name.
        method: adam, lbfgs, encoder, hybrid (L-BFGS started from the encoder), or all that the run supports.
        starts: number of searches per image, started from the best of 100 random samples; the best result is used.
        steps: optimisation steps per search.
        weight: weight of the feature loss; 0 disables it.
        seed: random seed of the starting points.

    Returns:
        `error`: for each method, and for the best of 100 random samples, the median over images of the mean squared error of pixels
        in [-1, 1]; `errors`: per image; `distance`: the same in feature space; `length`: root mean square of the latents, and of
        the prior. Arrays `latents`: latents of the best method for each image; `latents_METHOD`: of each method.

    Raises:
        LeafwingError: no such images, no encoder, or an option out of range.
    """
    check(model, pictures=pictures, file=file, method=method, starts=starts, steps=steps, weight=weight)
    targets = load_targets(model, held_out, pictures, conditions, file, seed)
    n, box = len(targets.names), Box.of(model)
    loss = _loss(model, targets, features, weight)
    random, indices = starting_points(model, loss, n, starts, seed), torch.arange(n, device=model.device)
    latents = {"random": random[::starts]}
    for name in METHODS:
        if method not in (name, "all"):
            continue
        search = partial(fit, steps=steps, report_progress=report_progress, what=f"inverting with {TITLES[name]}")
        if name in ("adam", "lbfgs"):
            latents[name] = best_of_each(*search(loss, random, indices.repeat_interleave(starts), box, method=name), starts)
        elif model.can("encode"):
            latents[name] = model.encode(targets.images)
            if name == "hybrid":
                latents[name] = search(loss, latents[name], indices, box, method="lbfgs")[0]
    images = {name: generate(model, z, targets.conditions) for name, z in latents.items()}
    errors = {name: (x - targets.images).square().flatten(1).mean(1).tolist() for name, x in images.items()}
    target_features = features(targets.images)[0]
    distances = {name: np.linalg.norm(features(x)[0] - target_features, axis=1).tolist() for name, x in images.items()}
    methods = [name for name in latents if name != "random"]
    best = [min(methods, key=lambda name: errors[name][i]) for i in range(n)]
    length = {name: float(z.square().mean().sqrt()) for name, z in (latents | {"prior": model.latents(256)}).items()}
    error = {name: float(np.median(values)) for name, values in errors.items()}
    figures = {
        "pictures": n,
        "error": error,
        "distance": {name: float(np.median(values)) for name, values in distances.items()},
        "space": features.name,
        "length": length,
        "errors": errors,
    }
    winner = min(methods, key=lambda name: error[name])
    words = [
        f"The best method for {plural(n, 'image')} is {TITLES[winner]}: median error {error[winner]:.4f}, against "
        f"{error['random']:.4f} for the best of {max(POOL, starts)} random samples (mean squared error, pixels in [-1, 1])."
    ]
    if targets.left_out:
        words.append(
            f"{file} has {n + targets.left_out:,} images, and these are the first {n} by name: to invert others, put them into a "
            "folder of their own."
        )
    longest = max(methods, key=lambda name: length[name])
    if length[longest] > LONG * length["prior"]:
        words.append(
            f"The latents found by {TITLES[longest]} have {length[longest] / length['prior']:.1f} times the norm of the prior's: "
            "latents of that norm are very unlikely under the prior."
        )
    rows = [("image", targets.images[:COLUMNS].cpu())]
    rows += [(f"{TITLES[name]}: {error[name]:.2g}", x[:COLUMNS].cpu()) for name, x in images.items()]
    legend = (
        f"Top: real images. Below: the most similar sample found by each method, with the method's median squared error. "
        f"`best random` is the best of {max(POOL, starts)} random samples; the searches start from the best {starts}."
    )
    arrays = {f"latents_{name}": latents[name].cpu().numpy() for name in methods}
    arrays["latents"] = torch.stack([latents[name][i] for i, name in enumerate(best)]).cpu().numpy()
    image = sheet("Real images and their reconstructions", rows, heads=targets.names[:COLUMNS], legend=legend)
    return Finding(figures, words, {"inversion": image}, arrays=arrays)


def check(
    model: Model,
    *,
    pictures: str,
    file: Path | None,
    method: str,
    starts: int,
    steps: int,
    weight: float,
) -> None:
    """Raises LeafwingError for invalid options."""
    require_counts(starts=starts, steps=steps)
    require_weights(weight=weight)
    if method in ("encoder", "hybrid"):
        ENCODER.check(
            model, f"invert --method {method}", "choose adam or lbfgs, or a recipe with an encoder (`leafwing recipes`)"
        )
    if file is None:
        require_memory(model, (2 + len(METHODS)) * len(parse_numbers("pictures", pictures)), pictures=pictures)


def _loss(model: Model, targets: Targets, features: Features, weight: float) -> Loss:
    """The loss between samples and target images; see `invert`."""
    samples = model.sample(2 * PAIRS)
    unit = _mse(samples[:PAIRS], samples[PAIRS:]).mean().clamp(min=1e-12)
    target_features, feature_unit = None, torch.ones(())
    if weight:
        with torch.no_grad():
            sample_features = features.net(composite_on_white(samples))[0]
            target_features = torch.cat(
                [features.net(composite_on_white(part))[0] for part in targets.images.split(features.batch)]
            )
        feature_unit = _mse(sample_features[:PAIRS], sample_features[PAIRS:]).mean().clamp(min=1e-12)

    def loss(latents: Tensor, indices: Tensor) -> Tensor:
        inputs: Conditions = targets.conditions.rows(indices)
        images = model.render(latents, **inputs)
        losses = _mse(images, targets.images[indices]) / unit
        if target_features is not None:
            losses = (
                losses + weight * _mse(features.net(composite_on_white(images))[0], target_features[indices]) / feature_unit
            )
        return losses

    return loss


def _mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each row: (n,)."""
    return (a - b).square().flatten(1).mean(1)

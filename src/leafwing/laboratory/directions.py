"""Latent directions along which samples change most, from the first layer's weights or activations.

`weights`: eigenvectors of W W^T, where W is the weight matrix of the first layer (Shen & Zhou 2021, arXiv:2007.06600, SeFa).
`activations`: principal components of the first layer's activations for many latents, mapped back to latents by least squares
(Harkonen et al. 2020, arXiv:2004.02546, GANSpace).
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan, nan
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from leafwing.errors import InvalidOption, LeafwingError
from leafwing.laboratory.finding import Finding
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, fix_conditions
from leafwing.laboratory.needs import IMAGES, LATENTS, needs
from leafwing.laboratory.options import require_counts
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.features import Features
from leafwing.model import Model
from leafwing.progress import ProgressCallback, no_progress

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
POOL = 2_000
"""Number of latents for the principal components."""
NO_CHANGE = 1e-5
"""Differences of a layer's outputs, relative to these, up to which they are those of rounding."""
N_MEASURED = 64
"""Number of latents moved along each direction for the figures."""
FARTHEST = 1_000
"""The largest reach: with far larger ones networks overflow."""


@needs(IMAGES, LATENTS)
def directions(
    model: Model,
    *,
    features: Features,
    reader: Reader | None,
    conditions: Conditions = NO_CONDITIONS,
    report_progress: ProgressCallback = no_progress,
    by: Literal["weights", "activations"] = "weights",
    k: int = 5,
    reach: float = 3.0,
    n: int = 4,
    seed: int = 0,
) -> Finding:
    """Find directions in latent space and show what they change.

    Args:
        model: a model of images.
        features: the feature space in which change is measured.
        reader: attribute classifier that recognises which properties change; None if not available.
        conditions: what all samples should be, by field: {"label": 3}; the rest is that of the first sample.
        report_progress: progress callback.
        by: source of the directions: the first layer's weights, or the principal components of its activations.
        k: number of directions, strongest first.
        reach: maximum shift to both sides, in standard deviations of the prior, at most 1,000.
        n: number of samples (rows) per grid.
        seed: random seed of the samples.

    Returns:
        `share`: fraction of the eigenvalue sum for each direction. `change`: mean distance in feature space between samples moved by
        -reach and by +reach; `change_random`: the same along random directions. `properties`: for each direction and property, the
        fraction of samples for which the attribute classifier's output differs between both ends; None without one.

    Raises:
        LeafwingError: an option out of range, or no layer that changes with the latents.
    """
    size = model.latents(1, seed).shape[1]
    if not 1 <= k <= size:
        raise InvalidOption("k", k, f"must be from 1 to {size}, the dimension of this run's latents")
    if not 0 < reach <= FARTHEST:
        raise InvalidOption("reach", reach, f"must be greater than 0 and at most {FARTHEST}")
    require_counts(n=n)
    generate = fix_conditions(model, conditions, seed)
    weights = first_layer(model, generate, seed)
    values, vectors = by_weights(weights) if by == "weights" else by_activations(weights, model.latents(POOL, seed))
    deviation = float(model.latents(POOL, seed).std())
    moves = vectors[:k] * reach * deviation
    random = torch.randn(k, size, generator=torch.Generator().manual_seed(seed)).to(moves)
    random = random / random.norm(dim=1, keepdim=True) * reach * deviation
    latents = model.latents(N_MEASURED, seed)
    change, change_random = list[float](), list[float]()
    properties = list[dict[str, float]]()
    for i in range(k):
        ends = [generate(latents + sign * moves[i]) for sign in (-1, 1)]
        change.append(_distance(features, *ends))
        change_random.append(_distance(features, *(generate(latents + sign * random[i]) for sign in (-1, 1))))
        if reader:
            properties.append(_changed(reader, *ends))
        report_progress("moving along directions", i + 1, k)
    figures = {
        "by": by,
        "share": (values[:k] / values.sum()).tolist(),
        "change": change,
        "change_random": float(np.mean(change_random)),
        "properties": properties if reader else None,
        "space": features.name,
    }
    words = [
        f"Direction {i}: {values[i] / values.sum():.0%} of the eigenvalue sum; changes samples "
        f"{change[i] / max(float(np.mean(change_random)), 1e-12):.1f} times as much as a random direction"
        + (f"; {describe_strongest(properties[i])}." if reader else ".")
        for i in range(k)
    ]
    steps = torch.linspace(-reach, reach, 7)
    heads = [f"{step:+.1f}" for step in steps.tolist()]
    legend = "Each row: a sample, moved to both sides; above: shift in standard deviations of the prior."
    sheets = {}
    for i in range(k):
        move = vectors[i] * deviation
        rows = [
            (f"sample {j}", generate(latents[j] + steps.to(move)[:, None] * move).cpu()) for j in range(min(n, N_MEASURED))
        ]
        sheets[f"direction{i}"] = sheet(f"Direction {i} of the first layer ({by})", rows, heads=heads, legend=legend)
    return Finding(figures, [*words, *generate.words], sheets, arrays={"directions": vectors[:k].cpu().numpy()})


def describe_strongest(properties: dict[str, float]) -> str:
    """The property that the classifier reads differently at both ends in most samples, from their fractions."""
    name = strongest(properties)
    if isnan(properties[name]):
        return "the classifier is sure of no property at both ends"
    if properties[name] == 0:
        return "the classifier reads the same properties at both ends"
    return f"what the classifier reads differently most often is {name}, in {properties[name]:.0%} of the samples"


def strongest(properties: dict[str, float]) -> str:
    """The property that changes in most samples."""
    return max(properties, key=lambda name: -1.0 if isnan(properties[name]) else properties[name])


def first_layer(model: Model, generate: Callable[..., Tensor], seed: int) -> Tensor:
    """The matrix (size, outputs) of the first layer applied to a latent, which is linear up to its bias, found by differences.

    A layer before it may read only a condition: its outputs are the same for all latents.

    Raises:
        LeafwingError: no layer changes with the latents.
    """
    size = model.latents(1, seed).shape[1]
    matrices: list[Tensor] = []

    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        if not matrices and len(output) == size + 1:
            flat = output.flatten(1).float()
            matrix = flat[1:] - flat[:1]
            if matrix.abs().max() > NO_CHANGE * flat.abs().max():
                matrices.append(matrix)

    layers = [
        layer for net in vars(model.game.sampling_nets).values() for layer in net.modules() if isinstance(layer, LAYERS)
    ]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        latent = model.latents(1, seed)
        steps = torch.cat([torch.zeros(1, size, device=latent.device), torch.eye(size, device=latent.device)])
        generate(latent + steps, batch=size + 1)
    finally:
        for handle in handles:
            handle.remove()
    if not matrices:
        raise LeafwingError(
            "directions needs a generator with a linear layer or a convolution that changes with the latents, and this one has none: "
            "its samples may all be the same"
        )
    return matrices[0]


def by_weights(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, largest first, and eigenvectors (size, size), one per row, of W W^T with columns normalised to length 1."""
    w = weights.cpu().double()  # not every device has float64
    w = w / w.norm(dim=0, keepdim=True).clamp(min=1e-12)
    values, vectors = torch.linalg.eigh(w @ w.T)
    return values.flip(0), _fix_signs(vectors.T.flip(0)).to(weights)


def by_activations(weights: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Variances of the principal components of a layer's activations, largest first, and their latent directions, one per row."""
    w, z = weights.cpu().double(), latents.cpu().double()
    activations = z @ w
    activations = activations - activations.mean(0)
    _, scale, components = torch.linalg.svd(activations, full_matrices=False)
    size = w.shape[0]
    coordinates = activations @ components[:size].T
    directions = torch.linalg.lstsq(coordinates, z - z.mean(0)).solution
    directions = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return scale[:size].square(), _fix_signs(directions).to(weights)


def _fix_signs(vectors: Tensor) -> Tensor:
    """Vectors (k, size) with their largest component positive, because the sign of an eigenvector is arbitrary."""
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def _distance(features: Features, first: Tensor, second: Tensor) -> float:
    return float(np.linalg.norm(features(first)[0] - features(second)[0], axis=1).mean())


def _changed(reader: Reader, first: Tensor, second: Tensor) -> dict[str, float]:
    """For each property, the fraction of the samples recognised at both ends for which these differ."""
    before, after = reader.read(first), reader.read(second)
    fractions = {}
    for name in reader.words:
        sure = (before[name] != UNREAD) & (after[name] != UNREAD)
        fractions[name] = float((before[name] != after[name])[sure].mean()) if sure.any() else nan
    return fractions

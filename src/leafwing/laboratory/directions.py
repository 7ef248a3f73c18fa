"""Directions in which pictures change most: of the first layer's weights, or of what it says.

`weights`: eigenvectors of W W^T, where W is what the first layer does to a latent (Shen & Zhou 2021, arXiv:2007.06600, SeFa).
`activations`: principal components of what the first layer says of many latents, led back to latents by least squares (Harkonen et al.
2020, arXiv:2004.02546, GANSpace).
"""

from __future__ import annotations

from collections.abc import Callable
from math import isnan, nan
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from leafwing.errors import LeafwingError
from leafwing.laboratory.finding import Counting, Finding, quiet
from leafwing.laboratory.latents import need_pictures, of_one_kind
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.laboratory.sheet import sheet
from leafwing.metrics.features import Features
from leafwing.model import Model

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
POOL = 2_000
"""Latents of which principal components are taken."""
MEASURED = 64
"""Latents that are moved along each direction for the figures."""


def directions(
    model: Model,
    *,
    features: Features,
    reader: Reader | None,
    counting: Counting = quiet,
    by: Literal["weights", "activations"] = "weights",
    k: int = 5,
    reach: float = 3.0,
    samples: int = 4,
    label: str | None = None,
    seed: int = 0,
) -> Finding:
    """Finds directions of the latent space and shows what they change.

    Args:
        model: pictures.
        features: the space in which change is measured.
        reader: says which properties change; None where nobody can.
        counting: told how far it is.
        by: where directions come from: the first layer's weights, or the principal components of what it says.
        k: how many directions, the strongest first.
        reach: how far samples are moved to both sides, in standard deviations of a latent's number.
        samples: rows of each strip.
        label: of which class all samples are, for a run with labels.
        seed: of the samples.

    Returns:
        `share`: of each direction, its part of all eigenvalues. `change`: mean distance in feature space between a sample moved by
        -reach and by +reach; `change_random`: the same along random directions. `properties`: of each direction, for each property
        the share of samples of which the reader says something else at both ends; None without a reader.

    Raises:
        LeafwingError: points, or numbers out of range.
    """
    need_pictures(model)
    size = model.latents(1, seed).shape[1]
    if not 1 <= k <= size:
        raise LeafwingError(f"--k {k}: latents of this run have {size} directions, so from 1 to {size}")
    if reach <= 0 or samples < 1:
        raise LeafwingError("--reach must be more than 0 and --samples 1 at least")
    generate = of_one_kind(model, label)
    weights = first_layer(model, generate, seed)
    values, vectors = by_weights(weights) if by == "weights" else by_activations(weights, model.latents(POOL, seed))
    deviation = float(model.latents(POOL, seed).std())
    moves = vectors[:k] * reach * deviation
    random = torch.randn(k, size, generator=torch.Generator().manual_seed(seed)).to(moves)
    random = random / random.norm(dim=1, keepdim=True) * reach * deviation
    latents = model.latents(MEASURED, seed)
    change, change_random = list[float](), list[float]()
    properties = list[dict[str, float]]()
    for i in range(k):
        ends = [generate(latents + sign * moves[i]) for sign in (-1, 1)]
        change.append(_distance(features, *ends))
        change_random.append(_distance(features, *(generate(latents + sign * random[i]) for sign in (-1, 1))))
        if reader:
            properties.append(_differ(reader, *ends))
        counting("moving along directions", i + 1, k)
    figures = {
        "by": by,
        "share": (values[:k] / values.sum()).tolist(),
        "change": change,
        "change_random": float(np.mean(change_random)),
        "properties": properties if reader else None,
        "space": features.name,
    }
    words = [
        f"Direction {i}: {values[i] / values.sum():.0%} of the eigenvalues, changes pictures "
        f"{change[i] / max(float(np.mean(change_random)), 1e-12):.1f} times as much as a random direction"
        + (f"; of the properties mostly {strongest(properties[i])}." if reader else ".")
        for i in range(k)
    ]
    steps = torch.linspace(-reach, reach, 7)
    heads = [f"{step:+.1f}" for step in steps.tolist()]
    legend = "Each row: a sample, moved to both sides; above: how far, in standard deviations of a latent's number."
    sheets = {}
    for i in range(k):
        move = vectors[i] * deviation
        rows = [
            (f"sample {j}", generate(latents[j] + steps.to(move)[:, None] * move).cpu())
            for j in range(min(samples, MEASURED))
        ]
        sheets[f"direction{i}"] = sheet(f"Direction {i} of the first layer ({by})", rows, heads=heads, legend=legend)
    return Finding(figures, words, sheets, arrays={"directions": vectors[:k].cpu().numpy()})


def strongest(properties: dict[str, float]) -> str:
    """The property that most samples change."""
    return max(properties, key=lambda name: -1.0 if isnan(properties[name]) else properties[name])


def first_layer(model: Model, generate: Callable[..., Tensor], seed: int) -> Tensor:
    """What the first layer that a latent meets does to it, a matrix (size, outputs): it is linear, so differences tell all of it."""
    size = model.latents(1, seed).shape[1]
    said: list[Tensor] = []

    def hook(module: nn.Module, given: object, made: Tensor) -> None:
        if not said:
            said.append(made)

    layers = [part for net in vars(model.game.shown).values() for part in net.modules() if isinstance(part, LAYERS)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        latent = model.latents(1, seed)
        steps = torch.cat([torch.zeros(1, size, device=latent.device), torch.eye(size, device=latent.device)])
        generate(latent + steps, batch=size + 1)
    finally:
        for handle in handles:
            handle.remove()
    flat = said[0].flatten(1).float()
    return flat[1:] - flat[:1]


def by_weights(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, the largest first, and eigenvectors (size, size), a row each, of W W^T with columns of length 1."""
    w = weights.double().cpu()
    w = w / w.norm(dim=0, keepdim=True).clamp(min=1e-12)
    values, vectors = torch.linalg.eigh(w @ w.T)
    return values.flip(0), _signed(vectors.T.flip(0)).to(weights)


def by_activations(weights: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Variances of the principal components of what a layer says, the largest first, and latents that lead along them, a row each."""
    w, z = weights.double().cpu(), latents.double().cpu()
    said = z @ w
    said = said - said.mean(0)
    _, scale, components = torch.linalg.svd(said, full_matrices=False)
    size = w.shape[0]
    along = said @ components[:size].T
    found = torch.linalg.lstsq(along, z - z.mean(0)).solution
    found = found / found.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return scale[:size].square(), _signed(found).to(weights)


def _signed(vectors: Tensor) -> Tensor:
    """Vectors (k, size) with their largest number positive: an eigenvector's sign is nobody's."""
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def _distance(features: Features, one: Tensor, other: Tensor) -> float:
    return float(np.linalg.norm(features(one)[0] - features(other)[0], axis=1).mean())


def _differ(reader: Reader, one: Tensor, other: Tensor) -> dict[str, float]:
    """For each property, the share of samples of which both ends are read and read differently."""
    before, after = reader.read(one), reader.read(other)
    found = {}
    for name in reader.words:
        sure = (before[name] != UNREAD) & (after[name] != UNREAD)
        found[name] = float((before[name] != after[name])[sure].mean()) if sure.any() else nan
    return found

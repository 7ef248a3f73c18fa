"""Feature networks: from pictures to the vectors in which distributions are compared. Named parts; each says what decides it.

`pixels` lies here, `own` and `inception` in their files. Pictures with transparency are laid on white first, by all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.errors import LeafwingError
from leafwing.metrics.own import opaque

if TYPE_CHECKING:
    from leafwing.data import Dataset

FEATURES = {
    "pixels": "no network: the pictures themselves, averaged down to 16x16",
    "own": "a small network trained once on the data: a classifier where there are labels, else self-supervised",
    "inception": "the network of published FID, with public weights of 95 MB; slow without a GPU",
}
"""Names of feature networks and what they are."""

SIDE = 16
"""Of `pixels`: 768 numbers in RGB, which a covariance of some thousand pictures can be told of."""

Net = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Pictures (b, 1 or 3, height, width) in [-1, 1] -> features (b, d) and, of a classifier, logits (b, classes)."""


@dataclass(frozen=True)
class Features:
    """A feature network, ready to be used.

    Args:
        name: a key of `FEATURES`.
        digest: a hash of what decides its features: of the weights, where there are any.
        net: the network.
        device: where it computes.
        batch: how many pictures it sees at a time.
        classifies: whether it gives logits.
    """

    name: str
    digest: str
    net: Net
    device: str = "cpu"
    batch: int = 64
    classifies: bool = False

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """Features float32 (b, d) of pictures (b, channels, height, width) in [-1, 1]; of a classifier probabilities too.

        Probabilities are float64 (b, classes) and sum to 1.
        """
        seen, told = [], []
        for part in pictures.split(self.batch):
            features, logits = self.net(opaque(part.to(self.device)))
            seen.append(features.float().cpu().numpy())
            if logits is not None:
                told.append(logits.cpu().double().softmax(1).numpy())
        return np.concatenate(seen), np.concatenate(told) if told else None


def load_features(
    name: str,
    data: Dataset | None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    cache: str | Path | None = None,
    counting: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Features:
    """A feature network by name.

    Args:
        name: a key of `FEATURES`.
        data: what `own` is trained on, if that was not done before; None for the others.
        weights: of `inception`: a file; None: the public one, downloaded once.
        device: where it computes. `own` is always trained on the CPU, because its weights are to be the same everywhere.
        cache: where `own` is kept. None: the cache of leafwing.
        counting: told how much of the training of `own` is done, out of how much.

    Raises:
        LeafwingError: no such network, no such weights, or they cannot be downloaded.
    """
    if weights is not None and name != "inception":
        raise LeafwingError(f"--weights {weights}: weights are given for --features inception alone, not for {name}")
    if name == "pixels":
        return Features(name, hashlib.sha256(f"area {SIDE}".encode()).hexdigest(), pixels)
    if name == "own":
        from leafwing.metrics import own

        assert data is not None, "`own` is trained on data"
        net, digest = own.own(data, cache=cache, counting=counting)
        return Features(name, digest, net.to(device), device, own.BATCH, net.classes > 0)
    if name == "inception":
        from leafwing.metrics import inception

        standard, digest = inception.inception(weights)
        return Features(name, digest, standard.to(device), device, inception.BATCH, True)
    raise LeafwingError(f"no feature network {name!r}; there are: {', '.join(FEATURES)}")


def pixels(pictures: Tensor) -> tuple[Tensor, None]:
    """The pictures, averaged down to at most 16 pixels a side, as vectors."""
    return shrunk(pictures, SIDE).flatten(1), None


def shrunk(pictures: Tensor, side: int) -> Tensor:
    """Pictures averaged down so that their longer side has at most so many pixels."""
    height, width = pictures.shape[2:]
    scale = side / max(height, width)
    if scale >= 1:
        return pictures
    return F.interpolate(pictures, (max(1, round(height * scale)), max(1, round(width * scale))), mode="area")

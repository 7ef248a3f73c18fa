"""Feature networks: they map images to the vectors with which distributions are compared; each has a digest of its weights.

`pixels` is defined here, the others in files of their own. All of them composite transparent images onto white first.
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

from leafwing.engine.setup import full_fp32
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.metrics import FEATURES, WITH_WEIGHTS
from leafwing.pixels import composite_on_white, pool
from leafwing.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from leafwing.data import Dataset

SIDE = 16
"""Side of `pixels`: 768 dimensions in RGB, few enough to estimate a covariance from some thousand images."""

Net = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Images (b, 1 or 3, height, width) in [-1, 1] -> features (b, d) and, for a classifier, logits (b, classes)."""


@dataclass(frozen=True)
class Features:
    """A feature network, ready for use.

    Args:
        name: a key of `FEATURES`.
        digest: hash of everything that determines its features: of the weights, if any.
        net: the network.
        device: where it computes.
        batch: batch size.
        classifies: whether it outputs logits.
    """

    name: str
    digest: str
    net: Net
    device: str = "cpu"
    batch: int = 64
    classifies: bool = False

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """Features float32 (b, d) of images (b, channels, height, width) in [-1, 1], and for a classifier probabilities.

        Probabilities are float64 (b, classes) and sum to 1.
        """
        outputs, probabilities = [], []
        for batch in images.split(self.batch):
            with full_fp32():
                features, logits = self.net(composite_on_white(batch.to(self.device)))
            outputs.append(features.float().cpu().numpy())
            if logits is not None:
                probabilities.append(logits.cpu().double().softmax(1).numpy())
        return np.concatenate(outputs), np.concatenate(probabilities) if probabilities else None


def load_features(
    name: str,
    data: Dataset | None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    cache: str | Path | None = None,
    report_progress: ProgressCallback = no_progress,
) -> Features:
    """A feature network by name.

    Args:
        name: a key of `FEATURES`.
        data: training data of `own`, if it is not in the cache yet; None for the others.
        weights: weight file of `lite0` or `inception`; None: that of the installed package, or the public one, downloaded once.
        device: device to compute on. `own` is always trained on the CPU, so that its weights are the same everywhere.
        cache: where `own` is cached. None: leafwing's cache.
        report_progress: progress callback for the training of `own`.

    Raises:
        LeafwingError: unknown network, or weights missing or not downloadable.
    """
    if weights is not None and name not in WITH_WEIGHTS:
        raise InvalidOption("weights", weights, f"only valid with --features {' or '.join(WITH_WEIGHTS)}, not {name}")
    if name == "pixels":
        return Features(name, hashlib.sha256(f"area {SIDE}".encode()).hexdigest(), pixels)
    if name == "own":
        from leafwing.metrics import own

        assert data is not None, "`own` is trained on data"
        net, digest = own.feature_network(data, cache=cache, report_progress=report_progress)
        return Features(name, digest, net.to(device), device, own.BATCH, net.classes > 0)
    if name == "lite0":
        from leafwing.metrics import photographs

        photographs_net, digest = photographs.feature_network(weights, device)
        batch = photographs.CPU_BATCH if device == "cpu" else photographs.BATCH
        return Features(name, digest, photographs_net, device, batch)
    if name == "inception":
        from leafwing.metrics import inception

        network, digest = inception.inception(weights)
        return Features(name, digest, network.to(device), device, inception.BATCH, True)
    raise LeafwingError(f"no feature network {name!r}; there are: {', '.join(FEATURES)}")


def pixels(images: Tensor) -> tuple[Tensor, None]:
    """Images downsampled to at most 16 pixels per side, as vectors."""
    return shrink(images, SIDE).flatten(1), None


def shrink(images: Tensor, side: int) -> Tensor:
    """Images downsampled by averaging so that the longer side has at most `side` pixels."""
    height, width = images.shape[2:]
    scale = side / max(height, width)
    if scale >= 1:
        return images
    return pool(images, max(1, round(height * scale)), max(1, round(width * scale)))

"""MS-SSIM of pairs of samples: how similar they are. Wang et al. 2003; for GANs Odena et al. 2017, arXiv:1610.09585, section 4.2.

Random pairs are compared, within a class if both sides have labels. Under mode collapse pairs of samples are more similar than pairs
of real images, so both values are reported, and neither is good or bad by itself.

Images are compared at 8 bits. The paper's five scales need 176 pixels (a window of 11, four halvings). Smaller
images use as many scales as their shorter side allows: 4 from 99 pixels, 3 from 44, 2 from 22, 1 from 11, with the first of the
paper's weights, rescaled to the same sum. So values for different image sizes cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from leafwing import optional
from leafwing.errors import LeafwingError
from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import mean
from leafwing.pixels import to_bytes

MAX_PAIRS = 1_000
WINDOW = 11
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the scales, finest first: Wang et al. 2003, section 3.2."""
MIN_SIDES = (11, 22, 44, 99, 176)
"""Minimum shorter side for 1, 2, ... scales, so that the window fits at every scale and torchmetrics accepts it."""


def measure(evidence: Evidence) -> list[Measure]:
    """`ms_ssim` of samples and `ms_ssim_real` of real images, each with the normal interval of a mean over disjoint pairs.

    Raises:
        LeafwingError: points, images below 11 pixels, fewer than two samples, or torchmetrics is not installed.
    """
    if evidence.spec.points:
        raise LeafwingError("ms_ssim requires images, and these are points: remove it from --metrics")
    fake_labels = evidence.fake_labels()
    # Same-class pairs are not comparable with any-class pairs, so a side without labels decides for both.
    real_labels = evidence.real_labels()
    if fake_labels is None or real_labels is None:
        fake_labels = real_labels = None
    fake = similarities(evidence.fake_pictures(), draw_pairs(evidence.n_fake, fake_labels, evidence.seed))
    real = similarities(evidence.real_pictures(), draw_pairs(evidence.n_real, real_labels, evidence.seed))
    return [mean("ms_ssim", fake), mean("ms_ssim_real", real)]


def draw_pairs(n: int, labels: np.ndarray | None, seed: int, max_pairs: int = MAX_PAIRS) -> np.ndarray:
    """Random pairs of n samples, of the same class if there are labels (n,), disjoint: int64 (at most `max_pairs`, 2).

    Raises:
        LeafwingError: there are no two samples of the same class.
    """
    random = np.random.default_rng(seed)
    classes = np.zeros(n, dtype=np.int64) if labels is None else labels
    by_class = []
    for label in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == label))
        by_class.append(members[: len(members) // 2 * 2].reshape(-1, 2))
    pairs = random.permutation(np.concatenate(by_class)) if by_class else np.empty((0, 2), dtype=np.int64)
    if not len(pairs):
        raise LeafwingError(f"ms_ssim requires two samples of the same class, and there are only {n} samples")
    return pairs[:max_pairs]


def similarities(chunks: Iterator[Tensor], pairs: np.ndarray) -> np.ndarray:
    """MS-SSIM of pairs (k, 2) of images in a stream of chunks (b, channels, height, width) in [-1, 1]: float64 (k,).

    Only the images of the pairs are kept, at 8 bits. All values are NaN if any image is not finite.

    Raises:
        LeafwingError: images below 11 pixels, or torchmetrics is not installed.
    """
    images: dict[int, Tensor] = {}
    indices, start = {int(i) for i in pairs.flat}, 0
    for chunk in chunks:
        if not chunk.isfinite().all():
            return np.full(len(pairs), np.nan)
        for i in indices.intersection(range(start, start + len(chunk))):
            images[i] = to_bytes(chunk[i - start])
        start += len(chunk)
    values = []
    for batch in np.array_split(pairs, -(-len(pairs) // 32)):
        first, second = (torch.stack([images[int(i)] for i in side]).float() / 255 for side in batch.T)
        values.append(ms_ssim(first, second))
    return np.concatenate(values)


def ms_ssim(first: Tensor, second: Tensor) -> np.ndarray:
    """Pairwise MS-SSIM of two batches of images (b, channels, height, width) in [0, 1], by torchmetrics: float64 (b,).

    Raises:
        LeafwingError: images below 11 pixels, or torchmetrics is not installed.
    """
    try:
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
    except ImportError as error:
        raise optional.not_installed("torchmetrics") from error

    side = min(first.shape[-2:])
    weights = WEIGHTS[: sum(side >= smallest for smallest in MIN_SIDES)]
    if not weights:
        raise LeafwingError(
            f"ms_ssim has a window of {WINDOW} pixels, but these images have only {side}: remove it from --metrics"
        )
    values = multiscale_structural_similarity_index_measure(
        first,
        second,
        kernel_size=WINDOW,
        reduction="none",
        data_range=1.0,
        betas=tuple(weight * sum(WEIGHTS) / sum(weights) for weight in weights),
        normalize="relu",
    )
    return values.double().numpy()

"""Samples against their real targets: PSNR, SSIM, L1, edge energy, feature distance. For outputs that are generated from images.

    psnr              10 log10(1 / mean squared error), in dB
    psnr_y            the same of the luma, without a border, as papers on super-resolution report it
    ssim              structural similarity: Wang et al. 2004, Image Quality Assessment, eq. 13, C1 = 0.01^2, C2 = 0.03^2
    l1                mean absolute error of values in [-1, 1], as in training losses
    edge_energy       mean length of the gradients of the samples, divided by that of the targets: below 1, samples are blurred
    feature_distance  Euclidean distance of the features of sample and target, by the feature network of the protocol

Images are compared at 8 bits, in colour (RGB) and whole; only `psnr_y` leaves out a border. Transparent images are composited onto
white first. Each value but the edge energy is a mean over images. An image counts at most 60 dB: 8 bits show no more, and the PSNR of
equal images is infinite.

The luma of `psnr_y` is Y' of ITU-R BT.601 in its range of 16 to 235, 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B from 0 to 1, not
rounded, and the peak is 255; grey images count as RGB. As many pixels are left out on each side as the sample is times larger than its
input, or 4 if it is not larger; the value is NaN if nothing is left.

SSIM is computed here, in windows inside the image, because the library that has it is optional and these are default metrics. There is
no further ratio of high frequencies: `edge_energy` uses differences of neighbouring pixels, the highest frequencies that images have,
and tells blurred from sharp enlargements (`bench/super_resolution.py`); energies of spectra depend on a few strong edges, because
they are squares.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import mean, standard_error, with_interval
from leafwing.pixels import composite_on_white

MAX_PSNR = 60.0
LUMA = (65.481, 128.553, 24.966)
BORDER = 4
"""Pixels that `psnr_y` leaves out on each side if samples are not larger than their inputs."""
WINDOW, SIGMA = 11, 1.5
"""The window of SSIM: side and standard deviation of a Gaussian, in pixels."""


def measure(evidence: Evidence) -> list[Measure]:
    """`psnr`, `psnr_y`, `ssim`, `l1`, `edge_energy` and `feature_distance`, with normal intervals; SSIM is NaN below 11 pixels.

    Raises:
        LeafwingError: the samples have no targets.
    """
    measures = measure_pairs(evidence.pairs(), evidence.scale)
    real, fake = evidence.real_features(), evidence.fake_features()
    return [*measures, feature_distance(fake, real)]


def measure_pairs(pairs: Iterable[tuple[Tensor, Tensor]], scale: int = 1) -> list[Measure]:
    """The measures but the feature distance, of any images, such as enlargements by a classical filter.

    Args:
        pairs: images and their targets, in chunks of both: (b, 1 to 4 channels, height, width) in [-1, 1].
        scale: how many times larger they are than what they were generated from; 1 if not larger.
    """
    border = scale if scale > 1 else BORDER
    parts = [compare(to_unit(fake), to_unit(real), border) for fake, real in pairs]
    squared, luma, ssim, absolute, fake_edges, real_edges = np.concatenate(parts, axis=1)
    return [
        mean("psnr", psnr(squared), "higher"),
        mean("psnr_y", psnr(luma), "higher"),
        mean("ssim", ssim, "higher"),
        mean("l1", 2 * absolute, "lower"),
        ratio("edge_energy", fake_edges, real_edges),
    ]


def feature_distance(fake: np.ndarray, real: np.ndarray) -> Measure:
    """The mean distance of the features of samples (n, d) to those of their targets (m, d), which are repeated if there are fewer."""
    distances = np.linalg.norm(fake.astype(np.float64) - real[np.arange(len(fake)) % len(real)], axis=1)
    return mean("feature_distance", distances, "lower")


def to_unit(images: Tensor) -> Tensor:
    """Images in [-1, 1] with 1 to 4 channels as float64 in [0, 1] with 1 or 3, composited onto white."""
    return (composite_on_white(images.double()) + 1) / 2


def compare(fake: Tensor, real: Tensor, border: int = BORDER) -> np.ndarray:
    """Squared errors of all colours and of the luma without the border, SSIM, absolute error and the gradients of both: (6, b).

    Args:
        fake, real: images (b, 1 or 3 channels, height, width) in [0, 1].
        border: pixels to leave out on each side.
    """
    difference = fake - real
    luma_error = inside(luma(fake) - luma(real), border).square()
    similarity = structural_similarity(fake, real)
    values = (difference.square(), luma_error, similarity, difference.abs(), gradients(fake), gradients(real))
    return torch.stack([value.flatten(1).mean(1) for value in values]).numpy()


def luma(images: Tensor) -> Tensor:
    """Y' of ITU-R BT.601 over 255, of RGB or grey images (b, channels, height, width) in [0, 1]: (b, height, width)."""
    weights = torch.tensor(LUMA, dtype=images.dtype) / 255
    return 16 / 255 + torch.einsum("bchw,c->bhw", images.expand(-1, 3, -1, -1), weights)


def inside(images: Tensor, border: int) -> Tensor:
    """Images (b, height, width) without so many pixels on each side; one NaN for each image that has no others."""
    if min(images.shape[1:]) <= 2 * border:
        return torch.full((len(images), 1, 1), torch.nan, dtype=images.dtype)
    return images[:, border : images.shape[1] - border, border : images.shape[2] - border]


def psnr(squared: np.ndarray) -> np.ndarray:
    """The PSNR in dB of mean squared errors of values in [0, 1], at most 60."""
    return -10 * np.log10(np.maximum(squared, 10 ** (-MAX_PSNR / 10)))


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """The SSIM of images (b, channels, height, width) in [0, 1] in each window; NaN if they are smaller than a window."""
    if min(a.shape[2:]) < WINDOW:
        return torch.full((len(a), 1), torch.nan, dtype=a.dtype)
    line = torch.exp(-((torch.arange(WINDOW, dtype=a.dtype) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    line = (line / line.sum()).expand(a.shape[1], 1, 1, WINDOW)

    def average(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, line, groups=len(line)), line.mT, groups=len(line))

    mean_a, mean_b = average(a), average(b)
    variances = average(a * a) - mean_a**2 + average(b * b) - mean_b**2
    covariance = average(a * b) - mean_a * mean_b
    brightness = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return brightness * (2 * covariance + 0.03**2) / (variances + 0.03**2)


def gradients(images: Tensor) -> Tensor:
    """The length of the gradient at each pixel that has a right and a lower neighbour: (b, channels, height - 1, width - 1)."""
    down, right = images.diff(dim=2)[..., :-1], images.diff(dim=3)[..., :-1, :]
    return (down.square() + right.square()).sqrt()


def ratio(name: str, above: np.ndarray, below: np.ndarray) -> Measure:
    """The mean of values (n,) over that of others, with its normal interval by the delta method; NaN if the others are all 0."""
    if not below.any():
        return Measure(name, float("nan"))
    value = float(above.mean() / below.mean())
    return with_interval(name, value, standard_error((above - value * below) / below.mean()), minimum=0)

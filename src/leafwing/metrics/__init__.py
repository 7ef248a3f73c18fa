"""Metrics of a Model: one file per metric, each with the pure function of its paper and a `measure(evidence)`.

`METRICS` lists them; a metric's file is imported on first use. `FEATURES` lists the feature networks, which `features` loads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from leafwing.metrics.evidence import Evidence, Measure

METRICS = {
    "fid": "Fréchet distance between Gaussians fitted to real and generated features",
    "kid": "kernel distance (squared MMD) between features; unbiased, so usable with few samples",
    "prdc": "precision, recall, density and coverage: fidelity and diversity separately",
    "inception_score": "confidence of a classifier on each sample, and diversity of its predictions",
    "swd": "sliced Wasserstein distance between patches, at each level of a Laplacian pyramid",
    "ms_ssim": "similarity of pairs of samples: high under mode collapse",
    "ppl": "perceptual path length: how much samples change under small steps in latent space",
    "reconstruction": "PSNR, SSIM, L1, edges and features of samples against their real targets",
    "structure": "whether samples keep the layout of the images that they are generated from",
    "cycle": "L1 and PSNR of images translated there and back, against the original",
    "segmenter": "whether label maps can be read back from the images generated from them",
    "modes": "number of covered modes and quality of the coverage: ring, grid, stacked",
    "leaks": "whether samples look as if they were augmented, for runs with augmentation",
    "memorisation": "whether samples are copies of training images",
}
"""Names of metrics, which are also their file names, with descriptions."""
OF_PICTURES = ("fid", "kid", "prdc", "inception_score", "swd", "ms_ssim", "memorisation")
"""The metrics that need images only; the others need a run, its latents or what it generates from."""
FEATURES = {
    "pixels": "no network: the images themselves, downsampled to 16x16",
    "own": "a small network trained once on the data: a classifier if there are labels, else self-supervised",
    "lite0": "a classifier of photographs, from an optional package (17 MB): sees misplaced parts, noise and patterns best",
    "inception": "the standard FID network, with public weights (95 MB); slow without a GPU",
}
"""Names and descriptions of the feature networks."""
WITH_WEIGHTS = ("lite0", "inception")
"""Those whose weights may be read from a file of the user's."""


def metric(name: str) -> Callable[[Evidence], list[Measure]]:
    """The `measure` of a metric, by name: a key of `METRICS`."""
    return importlib.import_module(f"leafwing.metrics.{name}").measure

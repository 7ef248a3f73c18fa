"""Numbers about a Model: one file per metric, each with the pure function of its paper and a `measure(evidence)`.

`METRICS` names them; a metric's file is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from leafwing.metrics.evidence import Evidence, Measure

METRICS = {
    "fid": "Frechet distance of features: how far the two clouds' means and covariances are apart",
    "kid": "kernel distance of features: unbiased, so that it can be used with few pictures",
    "prdc": "precision, recall, density, coverage: fidelity and variety apart",
    "inception_score": "how sure a classifier is of each sample, and how varied its answers are",
    "swd": "sliced Wasserstein distance of patches, at each level of a Laplacian pyramid",
    "ms_ssim": "how alike pairs of samples are: high where variety is lost",
    "ppl": "perceptual path length: how far samples jump when their latents move a little",
    "modes": "how many known modes are covered, and how well: ring, grid, stacked",
    "memorisation": "whether samples are copies of training pictures",
}
"""Names of metrics, which are the names of their files, and what they see."""


def metric(name: str) -> Callable[[Evidence], list[Measure]]:
    """The `measure` of a metric, by name: a key of `METRICS`."""
    return importlib.import_module(f"leafwing.metrics.{name}").measure

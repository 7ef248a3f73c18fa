"""There and back: how much of its input a translation keeps, measured by translating it back. For runs that translate both ways.

    cycle_l1     mean absolute error of values in [-1, 1] between an input and its translation there and back
    cycle_psnr   10 log10(1 / mean squared error) of the same, in dB, at most 60 for each image

Zhu et al. 2017, arXiv:1703.10593, minimise the first as a loss. The translation is rounded to 8 bits on the way, as in a file, so what
networks hide in invisible differences (Chu et al. 2017, arXiv:1712.02950) is lost here as it is for users. Needs no pairs.
"""

from __future__ import annotations

import numpy as np

from leafwing.metrics.evidence import Evidence, Measure
from leafwing.metrics.intervals import mean
from leafwing.metrics.reconstruction import psnr, to_unit


def measure(evidence: Evidence) -> list[Measure]:
    """`cycle_l1` and `cycle_psnr`, with normal intervals over images.

    Raises:
        LeafwingError: the run does not translate both ways.
    """
    absolute, squared = [], []
    for source, again in evidence.cycles():
        difference = (to_unit(again) - to_unit(source)).flatten(1)
        absolute.append(difference.abs().mean(1).numpy())
        squared.append(difference.square().mean(1).numpy())
    return [
        mean("cycle_l1", 2 * np.concatenate(absolute), "lower"),
        mean("cycle_psnr", psnr(np.concatenate(squared)), "higher"),
    ]

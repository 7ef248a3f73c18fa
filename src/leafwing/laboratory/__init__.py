"""The laboratory: tools that show what a trained GAN has learnt.

One file per tool; each is a pure function from a `Model` and further parameters to a `Finding`, and writes no files. It declares what
it needs of a run, such as latents or a critic; see `needs`. The parameters in `INPUTS` are supplied by `leafwing explore`; all others
are user options. A tool that needs real images has a function `check` beside it, which `leafwing explore` calls before it reads them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from leafwing.errors import LeafwingError, did_you_mean

if TYPE_CHECKING:
    from leafwing.laboratory.finding import Finding

TOOLS = {
    "interpolate": "interpolate latents; check that samples change smoothly",
    "arithmetic": "compute A - B + C with averaged latents",
    "filters": "show what D's convolutions respond to",
    "features": "train a linear classifier on D's feature maps (linear probe)",
    "dropout": "drop the feature maps of G that draw an object",
    "invert": "find latents that reproduce given images (inversion)",
    "complete": "fill holes in images (inpainting)",
    "edit": "paint strokes and find samples that match them",
    "mix": "combine the latents of some samples with the conditions of others",
    "directions": "find latent directions along which samples change most",
    "truncate": "trade diversity for quality (truncation trick)",
    "sift": "filter samples and test them as data augmentation",
}
"""Names and descriptions of the tools."""

WITH_CHARTS = ("features", "dropout", "truncate", "sift")
"""The tools that draw charts, for which they need matplotlib."""

INPUTS = {
    "data": "a Dataset: the training data of the run; if they were moved, all of its data by --data",
    "labelled": "a Dataset: the training data of the run, or --data",
    "held_out": "a Dataset: the held-out data, or --data; the training data if there is neither",
    "features": "a Features: the feature space in which images are compared",
    "conditions": "the conditions that the user set, by field",
    "reader": "a Reader, i.e. an attribute classifier, or None if there is none for these images",
    "report_progress": "progress callback",
}
"""Parameters of tools that are not user options, and what is passed for each; see `commands.explore`."""


def tool(name: str) -> Callable[..., Finding]:
    """The function of a tool.

    Raises:
        LeafwingError: no such tool.
    """
    if name not in TOOLS:
        raise LeafwingError(f"no tool {name!r}{did_you_mean(name, TOOLS)}")
    return getattr(importlib.import_module(f"leafwing.laboratory.{name}"), name)


def option_check(name: str) -> Callable[..., None] | None:
    """The function that checks options of a tool before data is read; None if the tool has none.

    It takes the model, and keyword arguments named like parameters of the tool; it raises LeafwingError for invalid values.
    """
    return getattr(importlib.import_module(f"leafwing.laboratory.{name}"), "check", None)

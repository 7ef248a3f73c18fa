"""The laboratory: what a trained GAN has learnt.

One file a tool; each is a pure function of a `Model` (and of what its parameters name beside it) to a `Finding`, and writes nothing.
The parameters of `FILLED` are given by `leafwing explore`; all others are the user's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from leafwing.errors import LeafwingError

if TYPE_CHECKING:
    from leafwing.laboratory.finding import Finding

TOOLS = {
    "interpolate": "walk between latents: does the picture change smoothly?",
    "arithmetic": "A - B + C with averages of latents",
    "filters": "what D's convolutions respond to",
    "features": "D's maps as features for a linear classifier",
    "dropout": "drop the maps that draw an object",
    "invert": "find the latents of given pictures",
    "complete": "fill holes in pictures",
    "edit": "paint strokes, get a picture that has them",
    "mix": "latents and conditions of different samples, crossed",
    "directions": "the directions in which pictures change most",
    "truncate": "less variety for better samples",
    "sift": "keep the samples that a judge accepts; do they help a classifier?",
}
"""Names of the tools and what they are for."""

FILLED = {
    "data": "a Dataset: what the run was trained on, or --data",
    "held": "a Dataset: what was kept out of training, or --data; what the run was trained on where there is neither",
    "features": "a Features: the space in which pictures are compared",
    "reader": "a Reader, or None where nobody can read the pictures",
    "counting": "told how far the tool is",
}
"""Parameters of tools that are not the user's, and what is given for each; see `commands.exploring`."""


def tool(name: str) -> Callable[..., Finding]:
    """The function of a tool.

    Raises:
        LeafwingError: there is no such tool.
    """
    if name not in TOOLS:
        from leafwing.recipes import did_you_mean

        raise LeafwingError(f"no tool {name!r}{did_you_mean(name, TOOLS)}")
    return getattr(importlib.import_module(f"leafwing.laboratory.{name}"), name)

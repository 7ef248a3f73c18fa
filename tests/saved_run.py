"""Run folders of small recipes with a checkpoint, without training: models of any fields, for sampling and translating."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bare_run import config
from leafwing.game import DataSpec
from leafwing.runs import Run

IMAGES = 64
"""The checkpoint."""
HEAD = '''"""Mine. Nobody 2020, A test, arXiv:2001.00001"""

import torch
from torch import nn

from leafwing import fields
from leafwing.game import Abilities, Batch, Game, Output, Player
from leafwing.parts.priors import Categorical, Normal, Product


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return self.factor * x


def mine(data, *, batch: int = 8):
    """A test."""
    size = (data.height, data.width)

    def squares(z, channels=3):
        return z[:, :1, None, None].expand(-1, channels, *size).tanh()

    players = {"G": Player(Scale(1)), "F": Player(Scale(-1))}
    return Game(players, [], Abilities([OUTPUTS]), batch=batch)
'''
"""The source of a recipe, in which its outputs are to be filled in."""
PLAIN = 'Output("image", lambda nets, inputs, clock: nets.G(squares(inputs.latent)), prior=Normal(2))'
"""The output of a recipe that generates images from latents."""


def save(folder: Path, spec: DataSpec, outputs: str, options: Mapping[str, Any] | None = None, **data: Any) -> Path:
    """A run folder with one checkpoint.

    Args:
        folder: the run folder, which must not exist; the recipe is written beside it.
        spec: the fields of its data.
        outputs: the source of the recipe's outputs; they may use `data`, `squares(latents)`, `nets.G` and `nets.F` (negative).
        options: reading options of its data.
        **data: further values of section `data` of run.json.
    """
    recipe = folder.parent / "mine.py"
    recipe.write_text(HEAD.replace("OUTPUTS", outputs), encoding="utf-8")
    settings = config("mine", options={"batch": 8})
    settings["data"] |= {"spec": spec.as_dict(), "options": dict(options or {}), **data}
    run = Run.create(settings, recipe, out=folder)
    game = run.build_game()
    run.config["conditions"] = list(dict.fromkeys(name for output in game.abilities.outputs for name in output.conditions))
    run.update()
    run.save_checkpoint(game, {"images": IMAGES}, last=1, milestone=0)
    return folder

"""Paired images in memory, and a translator whose values are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leafwing.data import Dataset
from leafwing.fields import Image
from leafwing.game import DataSpec

SIDE = 16
SCALE = '''"""Scale. Multiplies the input by a factor."""

import torch
from torch import nn

from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn


class Scale(nn.Module):
    """A factor for each colour."""

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((channels, 1, 1), factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def scale(data: DataSpec, *, factor: float = 0.5, batch: int = 8, lr: float = 0.01) -> Game:
    data.need("scale", image=Image, input=Image)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=nets.G(batch.input))

    def make(nets: Nets, inputs: Batch, clock: Clock) -> torch.Tensor:
        return nets.G(inputs.input)

    turn = Turn("G", play, [Term("l1", lambda r: (r.fake - r.real).abs().mean())])
    abilities = Abilities([Output("image", make, ("input",))])
    return Game({"G": Player(Scale(data.channels, factor), Adam(lr))}, [turn], abilities, batch=batch)
'''


def write_recipe(folder: Path) -> Path:
    path = folder / "scale.py"
    path.write_text(SCALE)
    return path


def paired_data(n: int = 60, source: str = "/pairs", labels: bool = False) -> Dataset:
    """Noise as inputs, and its negative as targets."""
    inputs = np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
    spec = DataSpec.images(SIDE, SIDE, input=Image(SIDE, SIDE), labels=("a", "b") if labels else ())
    columns = {"image": 255 - inputs, "input": inputs} | ({"label": np.arange(n) % 2} if labels else {})
    options = {"size": [SIDE, SIDE], "channels": 3, "fit": "crop", "background": "white", "mirror": False, "input": "left"}
    return Dataset(spec, columns, "ef" * 32, source, options)

"""Models with a linear generator, so that the right results of tools are known. No tests here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import leafwing
from leafwing import fields
from leafwing.data import Dataset
from leafwing.game import Abilities, Batch, Clock, DataSpec, Game, Nets, Output, Player
from leafwing.metrics.features import Features, load_features
from leafwing.model import Model
from leafwing.parts import priors

SIDE, SCALE = 16, 2
TINY: dict[str, Any] = {"width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32"}


class Waves(nn.Module):
    """Latents (n, channels * waves) -> images: sums of slow waves in each channel; class 1 is brighter by 0.4."""

    def __init__(self, waves: int, channels: int) -> None:
        super().__init__()
        y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
        frequencies = [(a, b) for a in range(4) for b in range(4)][:waves]
        patterns = [torch.cos(math.pi * a * y / SIDE) * torch.cos(math.pi * b * x / SIDE) for a, b in frequencies]
        basis = torch.zeros(channels, waves, channels, SIDE, SIDE)
        for channel in range(channels):
            for wave, pattern in enumerate(patterns):
                basis[channel, wave, channel] = pattern / pattern.norm()
        self.register_buffer("basis", basis.flatten(0, 1))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        images = SCALE * torch.einsum("nd,dchw->nchw", z, self.basis)
        return images if label is None else images + 0.4 * label.view(-1, 1, 1, 1)

    def encode(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,dchw->nd", x, self.basis) / SCALE


class Blocks(nn.Module):
    """Latents (n, channels * 16) -> images of 4x4 blocks; each component is a channel of a block's colour."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return nn.functional.interpolate(0.5 * z.view(-1, self.channels, 4, 4), (SIDE, SIDE), mode="nearest")


def world(
    kind: str = "waves",
    *,
    prior: str = "normal",
    labels: tuple[str, ...] = (),
    encodes: bool = False,
    dark: bool = False,
    channels: int = 3,
    waves: int = 3,
    bits: int = 8,
) -> Model:
    """A model of 16x16 images; `dark`: with a critic that prefers dark ones."""
    net: nn.Module = Waves(waves, channels) if kind == "waves" else Blocks(channels)
    size = channels * (waves if kind == "waves" else 16)
    abilities = Abilities(
        [Output("image", generate, ("label",) if labels else (), priors.by_name(prior, size))],
        encode=(lambda nets, x: nets.G.encode(x)) if encodes else None,
        judge=(lambda nets, x, inputs: -x.mean((1, 2, 3))) if dark else None,
    )
    spec = DataSpec.images(SIDE, SIDE, labels=labels, image=fields.Image(SIDE, SIDE, channels, bits))
    return Model(Game({"G": Player(net)}, [], abilities), spec)


def generate(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
    """The output of G."""
    return nets.G(inputs.latent, inputs.get("label"))


def dataset(model: Model, images: Tensor, labels: list[int] | None = None) -> Dataset:
    """Images as a data set."""
    options = {"fit": "crop", "background": "white"}
    columns = {"image": model.spec.fields["image"].to_stored(images).numpy()} | (
        {} if labels is None else {"label": np.array(labels, np.int64)}
    )
    return Dataset(model.spec, columns, "0" * 64, "test", options)


def shuffle(data: Dataset, tensor: Tensor) -> Tensor:
    """Rows in the order of the tools' image numbers."""
    return tensor[torch.from_numpy(data.epoch(0, 0)[0])]


def pixels() -> Features:
    """Pixels as feature space."""
    return load_features("pixels", None)


def train_run(root: Path) -> Path:
    """A run on noise, trained for two rounds."""
    folder, noise = root / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for i in range(16):
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return leafwing.train(folder, out=root / "run", images=16, hold_out=4, **TINY).folder

"""Hand-made models: the effect of each component of a latent is known, so the results of tools can be checked. No tests here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from leafwing.conditions import Examples
from leafwing.data import Dataset
from leafwing.fields import Box, Caption
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.laboratory.reading import UNREAD, Reader
from leafwing.metrics.features import Features
from leafwing.model import Model
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating, sampling
from leafwing.parts.priors import Normal
from leafwing.pictures import to_pixels

SPEC = DataSpec.images(16, 16)
LATENT = 4
TINY_RUN: dict[str, Any] = {
    "width": 8, "max_width": 16, "latent": 8, "batch": 8, "size": 16, "threads": 1, "precision": "fp32",
}  # fmt: skip
"""Options of a training that takes no time."""


def write_noise(folder: Path) -> Path:
    """24 images of noise in two classes."""
    noise = np.random.default_rng(0)
    for i in range(24):
        path = folder / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


class Painter(nn.Module):
    """Latents (n, 4) -> images: the first component is the brightness of the background, the second the side of a red square.

    The third component makes the square larger, the fourth has no effect. Two convolutions: the second draws four maps; the last is
    the square, the others are the background.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(LATENT, LATENT, bias=False)
        self.same, self.draw = nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 3, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.01])))
            self.same.weight.copy_(torch.eye(4)[:, :, None, None])
            colours = torch.tensor([[0.3, 0.3, 0.0, 0.9], [0.3, 0.0, 0.3, -0.4], [0.0, 0.3, 0.3, -0.4]])
            self.draw.weight.copy_(colours[:, :, None, None])

    def forward(self, z: Tensor) -> Tensor:
        factors = self.first(z) / torch.tensor([3.0, 2.0, 1.0, 0.01])
        background = torch.tanh(factors[:, 0])[:, None, None].expand(-1, 16, 16)
        x = torch.arange(16.0)
        middle = 8 + 4 * torch.tanh(3 * factors[:, 1])[:, None]
        half = 1.5 + 0.5 * torch.tanh(factors[:, 2])[:, None]
        across = torch.sigmoid(8 * (half - (x - middle).abs()))
        down = torch.sigmoid(8 * (half - (x - 8).abs()))
        square = across[:, None, :] * down[:, :, None]
        return torch.tanh(self.draw(self.same(torch.stack([background, background, background, 3 * square], 1))))


class Critic(nn.Module):
    """Images -> the redness of the reddest pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.deep = nn.Conv2d(2, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(torch.relu(self.conv(x))).mean((1, 2, 3)) + (x[:, 0] - x[:, 1]).amax((1, 2))


def painter(spec: DataSpec = SPEC) -> Model:
    """A model with these networks."""
    torch.manual_seed(0)
    z = Normal(LATENT)
    players = {"G": Player(Painter(), Adam(1e-3)), "D": Player(Critic(), Adam(1e-3))}
    model = Model(Game(players, duel(sampling(z), non_saturating), generating(z)), spec)
    for net in model.game.modules().values():
        net.requires_grad_(False)
    return model


def read(images: Tensor) -> dict[str, np.ndarray]:
    """Side of the square and brightness of the background; unread where there is no square."""
    box = find_boxes(images)
    has_square = ~np.isnan(box[:, 0])
    side = np.where(np.nan_to_num(box[:, 0] + box[:, 2] / 2) < 8, "left", "right")
    background = np.where(images[:, :, 0, 0].mean(1).cpu().numpy() > 0, "bright", "dark")
    return {"side": np.where(has_square, side, UNREAD), "background": np.where(has_square, background, UNREAD)}


def find_boxes(images: Tensor) -> np.ndarray:
    """The bounding box of red pixels, (n, 4); NaN if there are none."""
    red = ((images[:, 0] - images[:, 1]) > 0.5).cpu().numpy()
    boxes = np.full((len(red), 4), np.nan)
    for i, mask in enumerate(red):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[i] = columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return boxes


READER = Reader("test", {"side": ("left", "right"), "background": ("bright", "dark")}, read, find_boxes)
FEATURES = Features("pixels", "0", lambda images: (images.flatten(1), None))


class CaptionedPainter(nn.Module):
    """The images of `Painter`; if the first word of the caption is `blue`, red and blue are exchanged. The box has no effect."""

    def __init__(self) -> None:
        super().__init__()
        self.painter = Painter()

    def forward(self, z: Tensor, caption: Tensor, box: Tensor) -> Tensor:
        images = self.painter(z)
        return torch.where((caption[:, 0] == BLUE)[:, None, None, None], images.flip(1), images)


class CaptionedCritic(nn.Module):
    """The scores of `Critic`, plus numbers that depend on the caption and the box."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = Critic()

    def forward(self, x: Tensor, caption: Tensor, box: Tensor) -> Tensor:
        return self.critic(x) + caption[:, 0] + box.sum(1)


CAPTIONED = DataSpec.images(16, 16, labels=("a", "b"), caption=Caption(("red", "blue", "square"), 2), box=Box())
BLUE = 2


def captioned_painter(examples: int = 200) -> Model:
    """A model of images from captions and boxes, with the conditions of so many real samples."""
    torch.manual_seed(0)
    z, conditions = Normal(LATENT), ("caption", "box")
    players = {"G": Player(CaptionedPainter(), Adam(1e-3)), "D": Player(CaptionedCritic(), Adam(1e-3))}
    random = np.random.default_rng(0)
    columns = {
        "caption": np.stack([random.integers(1, 3, examples), np.full(examples, 3)], 1),
        "box": random.uniform(0, 0.5, (examples, 4)).astype(np.float32),
    }
    game = Game(players, duel(sampling(z, *conditions), non_saturating), generating(z, *conditions))
    model = Model(game, CAPTIONED, examples=Examples(columns if examples else {}))
    for net in model.game.modules().values():
        net.requires_grad_(False)
    return model


def captioned_data(model: Model, n: int = 40) -> Dataset:
    """Samples of a captioned model with their captions and boxes, and labels in turn."""
    columns: dict[str, np.ndarray] = {"image": to_pixels(model.sample(n, 3)), "label": np.arange(n) % 2}
    columns |= {name: values.numpy() for name, values in model.conditions(n, 3).items()}
    return Dataset(model.spec, columns, "0" * 64, "test", {"fit": "crop", "background": "white"})


def record_inputs(net: nn.Module) -> list[tuple[Tensor, ...]]:
    """A list that receives the inputs of each forward pass of a network."""
    calls: list[tuple[Tensor, ...]] = []
    net.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    return calls

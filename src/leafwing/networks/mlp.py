"""Multi-layer perceptrons, for points and for small images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from leafwing.game import DataSpec
from leafwing.networks.layers import Maxout


class Generator(nn.Module):
    """Latents (n, latent) -> ReLU layers -> samples; tanh output for images, linear output for points."""

    def __init__(self, data: DataSpec, latent: int, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [latent, *hidden]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(widths[-1], data.size)
        self.squash = nn.Identity() if data.points else nn.Tanh()
        self.shape = data.shape

    def forward(self, z: Tensor) -> Tensor:
        return self.squash(self.out(self.body(z))).unflatten(1, self.shape)


class Critic(nn.Module):
    """Samples -> ReLU layers, or maxout layers with dropout -> scores (n,).

    Args:
        data: format of the samples.
        hidden: units of each hidden layer.
        pieces: linear pieces per maxout unit; 0 for ReLU.
        dropout: dropout probability of hidden units; 0.4 times that for inputs (.5 and .2 in 2014).
    """

    def __init__(self, data: DataSpec, hidden: Sequence[int], pieces: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [data.size, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        if dropout:
            layers.append(nn.Dropout(0.4 * dropout))
        for inputs, outputs in pairwise(widths):
            layers += [Maxout(inputs, outputs, pieces)] if pieces else [nn.Linear(inputs, outputs), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(widths[-1], 1)
        self.features_size = widths[-1]

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def score(self, features: Tensor) -> Tensor:
        return self.out(features).squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.features(x))

"""Models with hand-made critics, and labelled images. No tests here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leafwing.data import Dataset
from leafwing.game import Abilities, DataSpec, Game, Player, scores
from leafwing.model import Model
from leafwing.parts.priors import Normal


def data(array: np.ndarray, labels: np.ndarray | None = None, names: Sequence[str] = (), source: str = "test") -> Dataset:
    """A data set of images uint8 (n, height, width, channels) and their classes."""
    _, height, width, channels = array.shape
    spec = DataSpec(height, width, channels, tuple(names), ("image", "label") if labels is not None else ("image",))
    return Dataset(spec, array, labels, "ab" * 32, source, {"mirror": False})


def model(
    critic: nn.Module,
    spec: DataSpec,
    generate: Callable[..., Tensor] | None = None,
    conditions: tuple[str, ...] = (),
    classify: Callable[[Any, Tensor], Tensor] | None = None,
    judges: bool = True,
) -> Model:
    """A model with a critic of images, conditional if there are conditions."""
    if conditions:
        judge: Callable[..., Tensor] = lambda nets, x, *values: scores(nets.D(x, *values))  # noqa: E731
    else:
        judge = lambda nets, x, label: scores(nets.D(x))  # noqa: E731
    abilities = Abilities(Normal(4), generate, conditions, classify=classify, judge=judge if judges else None)
    return Model(Game({"D": Player(critic.eval().requires_grad_(False))}, [], abilities), spec)


def weights(net: nn.Module) -> dict[str, Tensor]:
    """A copy of the state of a network."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

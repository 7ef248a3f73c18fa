"""Models with a critic that a test makes by hand, and labelled pictures of which it knows what tells them apart."""

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


def data(array: np.ndarray, labels: np.ndarray | None = None, names: Sequence[str] = (), source: str = "made") -> Dataset:
    """Pictures uint8 (n, height, width, channels), and their classes."""
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
    """A model whose critic takes pictures, and conditions where there are any."""
    if conditions:
        judge: Callable[..., Tensor] = lambda nets, x, *told: scores(nets.D(x, *told))  # noqa: E731
    else:
        judge = lambda nets, x, nothing: scores(nets.D(x))  # noqa: E731
    abilities = Abilities(Normal(4), generate, conditions, classify=classify, judge=judge if judges else None)
    return Model(Game({"D": Player(critic.eval().requires_grad_(False))}, [], abilities), spec)


def weights(net: nn.Module) -> dict[str, Tensor]:
    """A copy of everything a network knows."""
    return {name: one.clone() for name, one in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

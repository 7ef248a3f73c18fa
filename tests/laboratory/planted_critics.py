"""Models with hand-made critics, and labelled images. No tests here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leafwing.data import Dataset
from leafwing.fields import Label
from leafwing.game import Abilities, Batch, Clock, DataSpec, Game, Nets, Output, Player, scores
from leafwing.model import Model
from leafwing.parts.priors import Normal


def data(array: np.ndarray, labels: np.ndarray | None = None, names: Sequence[str] = (), source: str = "test") -> Dataset:
    """A data set of images uint8 (n, height, width, channels) and their classes."""
    _, height, width, channels = array.shape
    spec = DataSpec.images(height, width, channels, labels=names)
    columns = {"image": array} | ({} if labels is None else {"label": labels})
    return Dataset(spec, columns, "ab" * 32, source, {"mirror": False})


def without_labels(dataset: Dataset) -> Dataset:
    """The same images without their labels."""
    return replace(dataset, spec=DataSpec({"image": dataset.spec.fields["image"]}), columns={"image": dataset.array})


def with_classes(dataset: Dataset, names: Sequence[str], labels: np.ndarray | None = None) -> Dataset:
    """The same images with other class names, and other labels if there are any."""
    spec = replace(dataset.spec, fields={**dataset.spec.fields, "label": Label(tuple(names))})
    return replace(dataset, spec=spec, columns=dict(dataset.columns) | ({} if labels is None else {"label": labels}))


def model(
    critic: nn.Module,
    spec: DataSpec,
    generate: Callable[[Nets, Batch, Clock], Tensor] | None = None,
    conditions: tuple[str, ...] = (),
    classify: Callable[[Any, Tensor], Tensor] | None = None,
    judges: bool = True,
) -> Model:
    """A model with a critic of images, conditional if there are conditions; without `generate`, its samples are black."""

    def black(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return torch.full((inputs.n, *spec.shape), -1.0)

    def judge(nets: Nets, x: Tensor, inputs: Batch) -> Tensor:
        return scores(nets.D(x, *(inputs[name] for name in conditions)))

    output = Output("image", generate or black, conditions, Normal(4))
    abilities = Abilities([output], classify=classify, judge=judge if judges else None)
    return Model(Game({"D": Player(critic.eval().requires_grad_(False))}, [], abilities), spec)


def weights(net: nn.Module) -> dict[str, Tensor]:
    """A copy of the state of a network."""
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

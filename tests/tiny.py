"""Minimal games of the recipes on random images and points, as trained by the contract test and the golden logs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import torch

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.errors import LeafwingError
from leafwing.game import Batch, DataSpec, Game
from leafwing.loop import Training

PICTURES = DataSpec.images(16, 16, labels=("a", "b", "c"))
POINTS = DataSpec.vectors(2)
ATTRIBUTES = DataSpec.images(16, 16, attributes=("smiling", "colour=blue", "colour=red", "old"))
THREADS = int(os.environ.get("LEAFWING_TEST_THREADS", "1"))
"""Number of CPU threads in the tests: `make test-machines` also runs them with 2."""
SMALL = {"width": 8, "width_d": 8, "max_width": 16, "latent": 8, "batch": 6, "burst": 3, "burst_first": 1}


def supports(name: str, spec: DataSpec) -> bool:
    """Whether a recipe can train on this data and, if there are attributes, uses them."""
    try:
        game = build(name, spec)
    except LeafwingError:
        return False
    return not spec.attributes or any("attributes" in output.conditions for output in game.abilities.outputs)


def build(name: str, spec: DataSpec) -> Game:
    card = recipes.describe(name)
    names = {option.name for option in card.options}
    options = card.resolve({key: value for key, value in SMALL.items() if key in names})
    torch.manual_seed(1)
    return recipes.build(name, recipes.find(name), spec, options)


def batches(spec: DataSpec) -> Callable[[int, int], Batch]:
    """A pure function of (images, n), like `Dataset.batch`."""

    def at(images: int, n: int) -> Batch:
        generator = torch.Generator().manual_seed(images)
        if spec.points:
            return Batch(image=torch.randn(n, *spec.shape, generator=generator))
        image = torch.randint(0, 256, (n, *spec.shape), dtype=torch.uint8, generator=generator)
        image = image.to(torch.get_default_dtype()).div_(127.5).sub_(1)
        if spec.attributes:
            return Batch(image=image, attributes=torch.randint(0, 2, (n, len(spec.attributes)), generator=generator).float())
        return Batch(image=image, label=torch.randint(0, len(spec.labels), (n,), generator=generator))

    return at


def start(name: str, spec: DataSpec, images: int, precision: str = "fp32") -> Training:
    game = build(name, spec)
    return Training(game, batches(spec), Engine(game, choose("cpu", precision, THREADS)), images=images, batch=game.batch)


def tensors(game: Game) -> dict[str, torch.Tensor]:
    return {f"{n}:{k}": v.clone() for n, m in game.modules().items() for k, v in m.state_dict().items()}


def perturb(values: Mapping[str, torch.Tensor], by: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The tensors with each number multiplied by 1 + `by` or 1 - `by` at random."""
    result = {}
    for key, value in values.items():
        signs = torch.randint(0, 2, value.shape, generator=generator) * 2 - 1
        result[key] = value * (1 + by * signs).to(value.dtype) if value.is_floating_point() and by else value.clone()
    return result


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

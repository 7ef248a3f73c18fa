"""Minimal games of the recipes on random data of every kind, as trained by the contract test and the golden logs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.errors import LeafwingError
from leafwing.fields import (
    Attributes,
    Box,
    Caption,
    Clip,
    Field,
    Image,
    Keypoints,
    Label,
    Mask,
    Segmentation,
    Vector,
)  # fmt: skip
from leafwing.game import Batch, Clock, DataSpec, Game
from leafwing.loop import Training

PICTURES = DataSpec.images(16, 16, labels=("a", "b", "c"))
POINTS = DataSpec.vectors(2)
ATTRIBUTES = DataSpec.images(16, 16, attributes=("smiling", "colour=blue", "colour=red", "old"))
FIELDS: dict[type[Field], Field] = {
    kind.__class__: kind
    for kind in (
        Image(16, 16, 1), Clip(4, 16, 16), Mask(16, 16), Segmentation(16, 16, ("sky", "sea")), Vector(3), Label(("x", "y")),
        Attributes(("old", "new")), Caption(("a", "red", "blue", "star", "left", "right"), 5), Box(), Keypoints(("beak", "tail")),
    )
}  # fmt: skip
"""A field of every kind, the first choice where a recipe needs one of that kind."""
CAPTION, BOX, MAP = FIELDS[Caption], FIELDS[Box], FIELDS[Segmentation]
SPECS = [
    PICTURES,
    POINTS,
    ATTRIBUTES,
    DataSpec.images(16, 16, labels=("a", "b", "c"), labelled_image=Image(16, 16), labelled_label=Label(("a", "b", "c"))),
    DataSpec.images(16, 16, input=FIELDS[Image]),
    DataSpec.images(16, 16, labels=("a", "b", "c"), input=Image(16, 16)),
    DataSpec({"image": Image(16, 16), "input": FIELDS[Image]}, unpaired=("input",)),
    DataSpec.images(16, 16, input=Image(8, 8)),
    DataSpec.images(16, 16, input=Image(4, 4, 1)),
    DataSpec(
        {"image": Image(16, 16), "segmentation": MAP, "input": FIELDS[Image], "input_segmentation": MAP},
        unpaired=("input", "input_segmentation"),
    ),
    DataSpec.images(
        16, 16, attributes=("old", "new"), labelled_image=Image(16, 16), labelled_attributes=Attributes(("old", "new"))
    ),
    DataSpec.images(16, 16, low=Image(4, 4)),
    DataSpec.images(16, 16, hole=FIELDS[Mask]),
    DataSpec.images(16, 16, input=MAP),
    DataSpec.images(16, 16, segmentation=MAP),
    DataSpec.images(16, 16, caption=CAPTION),
    DataSpec.images(16, 16, caption=CAPTION, box=BOX),
    DataSpec.images(16, 16, caption=CAPTION, keypoints=FIELDS[Keypoints]),
    DataSpec.images(16, 16, clip=FIELDS[Clip]),
]
"""Data with every kind of field, and the combinations that data sets have."""
THREADS = int(os.environ.get("LEAFWING_TEST_THREADS", "1"))
"""Number of CPU threads in the tests: `make test-machines` also runs them with 2."""
SMALL = {
    "width": 8,
    "width_d": 8,
    "max_width": 16,
    "latent": 8,
    "batch": 6,
    "burst": 3,
    "burst_first": 1,
    "features": "critic",
    "pool": 6,
    "blocks": 1,
    "patches": 8,
    "backbone": "random",
    "resolution": 32,
    "mixed": 4,
}


class Needs(DataSpec):
    """Data that gain every field that a recipe needs."""

    def need(self, recipe: str, *, unpaired: object = (), **kinds: type[Field] | tuple[type[Field], ...]) -> None:
        for name, accepted in kinds.items():
            kind = accepted[0] if isinstance(accepted, tuple) else accepted
            self.fields.setdefault(name, FIELDS[kind])  # type: ignore[attr-defined]
        super().need(recipe, unpaired=unpaired, **kinds)  # type: ignore[arg-type]


@cache
def needed(name: str) -> DataSpec:
    """Data with the fields that a recipe needs and no others: colour images if it accepts them, else grey ones, else points.

    Raises:
        LeafwingError: it accepts none of them.
    """
    candidates: list[dict[str, Field]] = [
        {"image": Image(16, 16)}, {"image": FIELDS[Image]}, {"image": Image(16, 16), "input": Image(4, 4, 1)},
        {"image": Vector(2)},
    ]  # fmt: skip
    for fields in candidates:
        spec = Needs(fields)
        try:
            build(name, spec)
        except LeafwingError:
            if fields is candidates[-1]:
                raise
        else:
            break
    return DataSpec(spec.fields)


def on_labelled_images() -> list[str]:
    """The recipes that train on a plain folder of images, with one sub-folder per class."""
    return [name for name in recipes.names() if needed(name).fields.keys() <= {"image", "label"}]


@cache
def data_of(name: str) -> list[DataSpec]:
    """The data on which a recipe is tested: those of SPECS that it accepts and all of whose further fields it uses; else `needed`.

    One for each set of fields, because what a recipe does hardly depends on their sizes, and not on whether they are paired.
    """
    specs = [spec for spec in SPECS if supports(name, spec)]
    if not (needed(name).fields.keys() <= {"image", "label"} or needed(name) in specs):
        specs = [needed(name), *specs]
    sets: dict[tuple[object, ...], DataSpec] = {}
    for spec in specs:
        sets.setdefault((spec.points, *sorted(spec.fields)), spec)
    return [*sets.values()]


def first_data(name: str) -> DataSpec:
    """The first data on which a recipe is tested; labelled images wherever it accepts them."""
    return data_of(name)[0]


def always(game: Game) -> bool:
    return True


def cases(keep: Callable[[Game], bool] = always, only_first: bool = False) -> pytest.MarkDecorator:
    """Runs a test with `name` and `spec`: every recipe with all data on which it is tested, or only with the first.

    Args:
        keep: whether the test applies to a game.
        only_first: one case for each recipe.
    """
    pairs = [(name, spec) for name in recipes.names() for spec in data_of(name)[: 1 if only_first else None]]
    pairs = [(name, spec) for name, spec in pairs if keep is always or keep(inspected(name, spec))]
    return pytest.mark.parametrize(("name", "spec"), pairs, ids=[f"{name}-{describe(spec)}" for name, spec in pairs])


def describe(spec: DataSpec) -> str:
    """The fields of data in short: "points", "image+input"."""
    return "points" if spec.points else "+".join([*spec.fields, *(["unpaired"] if spec.unpaired else [])])


def supports(name: str, spec: DataSpec) -> bool:
    """Whether a recipe can train on this data and uses all fields; it may ignore the labels of images without further fields."""
    further = spec.fields.keys() - {"image", "label"}
    if not all(re.search(rf"\b{field}\b", card(name).path.read_text(encoding="utf-8")) for field in further):
        return False  # saves time: what a recipe uses it also names
    try:
        game = inspected(name, spec)
    except LeafwingError:
        return False
    return not further or spec.fields.keys() - {"image"} <= fields_used(game, spec)


class Recorder(Batch):
    """A batch that records the fields that are read."""

    def __init__(self, fields: Mapping[str, Tensor], names: set[str]) -> None:
        super().__init__(fields)
        self.names = names

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def fields_used(game: Game, spec: DataSpec) -> set[str]:
    """The fields that the game's plays read, that its outputs belong to, and that they are generated from."""
    names = {name for output in game.abilities.outputs for name in (output.field, *output.conditions)}
    for clock in phases(game):
        for turn in game.turns:
            if turn.times(clock):
                with torch.no_grad():
                    turn.play(game.nets, Recorder(batches(spec, game)(0, 2), names), clock)
    return names


def phases(game: Game) -> list[Clock]:
    """The first moment of each phase of training, i.e. of each stage and each selection of active turns."""
    total = 10**6
    moments = (game.at_stage(Clock(i * total // 50, total, number)) for i in range(50) for number in range(6))
    found = {(moment.stage, *(turn.times(moment) > 0 for turn in game.turns)): moment for moment in reversed([*moments])}
    return sorted(found.values(), key=lambda clock: clock.images)


card = cache(recipes.describe)
"""The card of a recipe, read once."""


_games: dict[tuple[str, str], Game] = {}


def inspected(name: str, spec: DataSpec) -> Game:
    """A game of a recipe on this data that is only looked at, built once: building them takes most of the time of collecting tests."""
    key = name, repr(spec)
    if key not in _games:
        _games[key] = build(name, spec)
    return _games[key]


def build(name: str, spec: DataSpec, **options: object) -> Game:
    names = {option.name for option in card(name).options}
    resolved = card(name).resolve({key: value for key, value in (SMALL | options).items() if key in names})
    torch.manual_seed(1)
    return recipes.build(name, recipes.find(name), spec, resolved)


def batches(spec: DataSpec, game: Game | None = None) -> Callable[[int, int], Batch]:
    """A pure function of (images, n), like `Dataset.batches`, with the further streams of a game."""

    def at(images: int, n: int) -> Batch:
        generator = torch.Generator().manual_seed(images)
        batch = Batch({name: random_samples(field, n, generator) for name, field in spec.fields.items()})
        streams = game.streams if game else ()
        further = {f"{stream}_{name}": field for stream in streams for name, field in spec.fields.items()}
        return Batch(batch | {name: random_samples(field, n, generator) for name, field in further.items()})

    return at


def random_samples(field: Field, n: int, generator: torch.Generator) -> Tensor:
    """Random samples of a field, as networks see them: (n, *field.shape)."""

    def integers(end: int, *shape: int, first: int = 0) -> Tensor:
        return torch.randint(first, end, (n, *shape), generator=generator)

    match field:
        case Image() | Clip():
            pixels = torch.randint(0, 256, (n, *field.shape), dtype=torch.uint8, generator=generator)
            return pixels.to(torch.get_default_dtype()).div_(127.5).sub_(1)
        case Mask():
            return integers(2, *field.shape).to(torch.get_default_dtype())
        case Segmentation(height=height, width=width):
            return field.to_network(integers(len(field.names), height, width))
        case Vector():
            return torch.randn(n, *field.shape, generator=generator)
        case Label():
            return integers(len(field.names))
        case Attributes():
            return integers(2, *field.shape).float()
        case Caption():
            words, lengths = integers(len(field.words) + 1, field.length, first=1), integers(field.length + 1, 1, first=1)
            return words * (torch.arange(field.length) < lengths)
        case Box():
            return torch.rand(n, 4, generator=generator) * 0.4 + 0.1
        case Keypoints():
            places, visible = torch.rand(n, *field.shape, generator=generator), integers(2, *field.shape)
            return torch.cat([places[..., :2], visible[..., 2:]], 2)
    raise NotImplementedError(f"random samples of {field}")


def start(name: str, spec: DataSpec, images: int, precision: str = "fp32", **options: object) -> Training:
    game = build(name, spec, **options)
    engine = Engine(game, choose("cpu", precision, THREADS))
    return Training(game, batches(spec, game), engine, images=images, batch=game.batch)


def tensors(game: Game) -> dict[str, torch.Tensor]:
    return {f"{n}:{k}": v.clone() for n, m in game.modules().items() for k, v in m.state_dict().items()}


def load(game: Game, state: Mapping[str, Tensor]) -> None:
    """Loads the result of `tensors`."""
    for name, module in game.modules().items():
        module.load_state_dict({key.split(":", 1)[1]: t for key, t in state.items() if key.split(":", 1)[0] == name})


def perturb(values: Mapping[str, torch.Tensor], by: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The tensors with each number multiplied by 1 + `by` or 1 - `by` at random."""
    result = {}
    for key, value in values.items():
        signs = torch.randint(0, 2, value.shape, generator=generator) * 2 - 1
        result[key] = value * (1 + by * signs).to(value.dtype) if value.is_floating_point() and by else value.clone()
    return result


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

"""Every recipe, used as its users do: trained with pictures held out, health checks and progress sheets, sampled and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import leafwing
from leafwing import data, health, recipes
from leafwing.data import Dataset
from leafwing.errors import LeafwingError
from leafwing.model import Model
from tiny import SMALL, THREADS, build, card

SIZE, ROUNDS, HELD_OUT = 16, 4, 20
DATA: list[dict[str, Any]] = [
    {},
    {"input": "low", "fields": "label"},
    {"input": "edges"},
    {"input": "unpaired", "fields": "segmentation"},
]
"""Data of sprites, simple ones first; a recipe is trained on the first that it accepts."""


@pytest.fixture(autouse=True, scope="module")
def every_data_set_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAFWING_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(health, "CHECK_INTERVAL", 2)
        patch.setattr(data, "load", lambda source, **options: sprites(options.get("input"), options.get("fields")))
        yield


load = data.load


@cache
def sprites(input: str | None, fields: str | None) -> Dataset:
    return load("sprites", size=SIZE, input=input, fields=fields)


def accepts(name: str, source: dict[str, Any]) -> bool:
    try:
        build(name, sprites(source.get("input"), source.get("fields")).spec)
    except LeafwingError:
        return False
    return True


@pytest.mark.parametrize("name", recipes.names())
def test_trained_with_held_out_pictures_sampled_and_evaluated(name: str, tmp_path: Path) -> None:
    source = next(source for source in DATA if accepts(name, source))
    options = {option: value for option, value in SMALL.items() if option in {item.name for item in card(name).options}}
    if any(need.startswith("labelled_") for need in card(name).needs):
        source = {**source, "labelled": 12}
    batch = int(options.get("batch", 6))  # type: ignore[call-overload]
    run = leafwing.train(
        "sprites", name, out=tmp_path / "run", size=SIZE, images=ROUNDS * batch, hold_out=HELD_OUT, log_every=2 * batch,
        health="warn", threads=THREADS, precision="fp32", progress=False, **source, **options,
    )  # fmt: skip
    assert run.stop_reason == "images"
    assert run.records()[-1]["health"], "no health check took place"
    assert [*run.samples.glob("*.png")], "no progress sheet was written"
    model, data_set = Model.load(run), sprites(source.get("input"), source.get("fields")).split(HELD_OUT)[1]
    rest = data_set.to_network(data_set.batch(0, 0, 2))
    for output in model.game.abilities.outputs:
        inputs = {field: rest[field] for field in output.conditions if model.spec.fields[field].has_pixels}
        assert isinstance(generated := model.sample(2, output=output.field, **inputs), Tensor)
        assert len(generated) == 2
    rows = leafwing.evaluate(run, metrics="kid", output="image", features="pixels", n=HELD_OUT, progress=False)
    assert [row["metric"] for row in rows] == ["kid"]

"""Interpolation, arithmetic, dropout, mixing, directions, truncation: checked on a model whose right results are known."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade import FEATURES, LATENT, READER, Painter, find_boxes, painter
from linear_world import world
from torch import Tensor, nn

from fake_mps import MPS, FakeMps
from leafwing import recipes
from leafwing.data import Dataset, load
from leafwing.errors import LeafwingError
from leafwing.game import Batch, Clock, DataSpec, Game, Nets, Player
from leafwing.laboratory import options
from leafwing.laboratory.arithmetic import arithmetic
from leafwing.laboratory.complete import complete
from leafwing.laboratory.directions import by_activations, by_weights, describe_strongest, directions, first_layer
from leafwing.laboratory.dropout import dropout, inside_box
from leafwing.laboratory.edit import edit
from leafwing.laboratory.finding import plain
from leafwing.laboratory.interpolate import interpolate
from leafwing.laboratory.invert import invert
from leafwing.laboratory.mix import mix
from leafwing.laboratory.truncate import parse_psi, truncate
from leafwing.metrics.features import Features, load_features
from leafwing.model import Model
from leafwing.parts.plays import generating
from leafwing.parts.priors import Normal
from tiny import ATTRIBUTES, PICTURES, build

pytestmark = pytest.mark.machine


def test_steps_are_equal_if_images_change_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = painter()
    monkeypatch.setattr(Painter, "forward", lambda self, z: z.mean(1)[:, None, None, None].expand(-1, 3, 16, 16))
    finding = interpolate(model, features=FEATURES, samples="1,2,3", interpolation="linear")
    assert finding.figures["largest_share"] == pytest.approx(1 / 32, rel=0.01)
    assert finding.figures["stray"] == pytest.approx(1, rel=0.01)


def test_all_samples_of_an_interpolation_have_the_same_attributes() -> None:
    model = Model(build("cgan", ATTRIBUTES), ATTRIBUTES)
    attributes = list[Tensor]()
    model.game.sampling_nets.G.register_forward_pre_hook(lambda module, args: attributes.append(args[1]))
    interpolate(model, features=FEATURES, samples="0,1", steps=2)
    assert len(torch.cat(attributes).unique(dim=0)) == 1


def test_a_jump_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that returns one of two stored images."""
    model = painter()
    stored = torch.zeros(2, 3, 16, 16)
    stored[1] = 1
    monkeypatch.setattr(Painter, "forward", lambda self, z: stored[(z[:, 0] > 0).long()])
    first = model.latents(40)[:, 0] > 0
    a, b = int(first.nonzero()[0]), int((~first).nonzero()[0])
    finding = interpolate(model, features=FEATURES, samples=f"{a},{b}", interpolation="linear")
    assert finding.figures["largest_share"] == 1
    assert "100%" in finding.words[0]


def test_sheets_animations_and_latents_of_an_interpolation() -> None:
    model = painter()
    finding = interpolate(model, features=FEATURES, samples="4,7", steps=3)
    assert len(finding.animations["walk"].frames) == 2 * 32
    assert np.array_equal(finding.arrays["latents"], model.latents(8)[[4, 7]].numpy())
    with pytest.raises(LeafwingError, match=r"samples=.4.: .* at least two"):
        interpolate(model, features=FEATURES, samples="4")
    with pytest.raises(LeafwingError, match=r"seconds=0: must be more than 0"):
        interpolate(model, features=FEATURES, seconds=0)


def test_arithmetic_succeeds_with_a_nearly_linear_generator() -> None:
    finding = arithmetic(painter(), reader=READER, average=10, trials=100)
    assert finding.figures["right"] > 0.9
    assert finding.figures["chance"] == pytest.approx(0.25, abs=0.05)
    assert finding.figures["moved"] >= finding.figures["right"]
    assert set(finding.sheets) == {"arithmetic", "turn"}


def test_concepts_in_words() -> None:
    model = painter()
    concepts = {"a": "side=left,background=dark", "b": "side=right,background=dark", "c": "side=right,background=bright"}
    finding = arithmetic(model, reader=READER, trials=20, **concepts)  # type: ignore[arg-type]
    assert finding.figures["reads"]["side"][0] == "left"
    assert finding.figures["reads"]["background"][0] == "bright"
    with pytest.raises(LeafwingError, match=r"no concept 'side=up'.*left, right"):
        arithmetic(model, reader=READER, a="side=up", b="1", c="2")
    with pytest.raises(LeafwingError, match="all of --a"):
        arithmetic(model, reader=READER, a="1,2,3")
    with pytest.raises(LeafwingError, match="--average 5000"):
        arithmetic(model, reader=READER, a="side=left", b="1", c="2", average=5000)


def test_without_a_reader_concepts_are_sample_numbers() -> None:
    model = painter()
    finding = arithmetic(model, reader=None, a="0,1,2", b="3,4,5", c="6:9")
    z = model.latents(9)
    assert finding.arrays["latents"][0] == pytest.approx(
        (z[0:3].mean(0) - z[3:6].mean(0) + z[6:9].mean(0)).numpy(), abs=1e-6
    )
    assert np.abs(finding.arrays["latents"][1:] - finding.arrays["latents"][0]).max() <= 0.25
    assert finding.figures["right"] is None
    with pytest.raises(LeafwingError, match="no attribute classifier"):
        arithmetic(model, reader=None)


def test_dropping_the_maps_of_an_object_removes_only_the_object() -> None:
    finding = dropout(painter(), reader=READER)
    assert finding.figures["dropped"] == 1
    assert "1 of 4 feature maps has a positive weight in a regression" in finding.words[0]
    assert finding.figures["found_before"] == 1
    assert finding.figures["vanished"] == 1
    assert finding.figures["contrast"] < 0.01
    assert finding.figures["changed"] < 1e-3
    assert finding.figures["changed_random"] > 10 * finding.figures["changed"]
    assert finding.figures["maps_for_most"] == 1


def test_hand_drawn_boxes(tmp_path: Path) -> None:
    model = painter()
    boxes = {i: box.tolist() for i, box in enumerate(find_boxes(model.sample(90)))}
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    finding = dropout(model, reader=None, boxes=path)
    assert finding.figures["boxes"] == 90
    assert finding.figures["accuracy"] > 0.95
    assert np.isnan(finding.figures["vanished"])
    assert plain(finding.figures)["vanished"] is None
    file = tmp_path / "latents.npy"
    np.save(file, model.latents(90).numpy())
    assert plain(dropout(model, reader=None, boxes=path, latents=file).figures) == plain(finding.figures)
    np.save(file, model.latents(50).numpy())
    with pytest.raises(LeafwingError, match="a box for sample 89"):
        dropout(model, reader=None, boxes=path, latents=file)
    for content, message in (
        ({"0": [10, 0, 8, 4]}, "not inside an image of 16 x 16"),
        ({"0": [1, 2, 3]}, r"boxes\.json"),
        ([1], r"boxes\.json"),
        ({"0": [1, 1, 0, 4]}, "not inside"),
        ({"0": [1, 1, 2, 2]}, "1 boxes are too few"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(LeafwingError, match=message):
            dropout(model, reader=READER, boxes=path)
    with pytest.raises(LeafwingError, match="draw boxes"):
        dropout(model, reader=None)


def test_pixels_inside_a_box() -> None:
    mask = inside_box(np.array([2.0, 3.0, 2.0, 1.0]), 6, 8)
    assert mask.nonzero()[0].tolist() == [3, 3]
    assert mask.nonzero()[1].tolist() == [2, 3]


def test_mixing_parts_of_the_latent() -> None:
    spec = DataSpec.images(16, 16)
    model = Model(build("infogan", spec), spec)
    finding = mix(model, features=FEATURES, n=8)
    assert finding.figures["across"] == next(iter(model.codes))
    assert finding.figures["rows_share"] + finding.figures["columns_share"] + finding.figures["rest"] == pytest.approx(1)
    with pytest.raises(LeafwingError, match="across="):
        mix(model, features=FEATURES, across="label")
    with pytest.raises(LeafwingError, match="mix needs conditions, or latents with named parts, and this run has neither"):
        mix(painter(), features=FEATURES)


def record_sheets(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A list that receives the column heads and the legend of each sheet of a mix."""
    sheets: list[dict[str, Any]] = []
    tool = importlib.import_module("leafwing.laboratory.mix")
    draw = tool.sheet

    def record(*args: Any, **options: Any) -> Any:
        sheets.append(options)
        return draw(*args, **options)

    monkeypatch.setattr(tool, "sheet", record)
    return sheets


@pytest.mark.parametrize("categories", [3, 12])
def test_the_columns_of_a_category_are_its_classes_in_order(categories: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, sheets = DataSpec.images(16, 16), record_sheets(monkeypatch)
    options = recipes.describe("infogan").resolve({"latent": 6, "categories": categories, "width": 4, "max_width": 8})
    model = Model(recipes.build("infogan", recipes.find("infogan"), spec, options), spec)
    inputs = list[Tensor]()
    make = model.output.make

    def record(nets: Nets, batch: Batch, clock: Clock) -> Tensor:
        inputs.append(batch.latent)
        return make(nets, batch, clock)

    model.game.abilities.outputs[0] = replace(model.output, make=record)  # type: ignore[index]
    mix(model, features=FEATURES, n=2, rows=2, across="category", seed=4)
    count = min(10, categories)
    assert inputs[0][:count, 6 : 6 + categories].argmax(1).tolist() == [*range(count)]
    assert sheets[0]["heads"] == [str(i) for i in range(count)]


def test_the_attributes_of_the_columns_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sheets = Model(build("cgan", ATTRIBUTES), ATTRIBUTES), record_sheets(monkeypatch)
    mix(model, features=FEATURES, n=2, rows=2, across="attributes")
    rows = model.conditions(10)["attributes"].bool().tolist()
    lines = [
        f"{i}: {', '.join(name for name, bit in zip(model.attributes, row, strict=True) if bit)}"
        for i, row in enumerate(rows)
    ]
    assert sheets[0]["legend"].splitlines()[1:] == lines
    assert sheets[0]["heads"] == [str(i) for i in range(10)]


def test_mixing_labels() -> None:
    model = Model(build("cgan", PICTURES), PICTURES)
    finding = mix(model, features=FEATURES, n=6, rows=2)
    assert finding.figures["across"] == "label"
    assert 0 <= finding.figures["columns_share"] <= 1


def test_the_matrix_of_the_first_layer() -> None:
    model = painter()
    weights = first_layer(model, model.generate, 0)
    assert torch.allclose(weights, torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.01])), atol=1e-5)
    values, vectors = by_activations(weights, model.latents(4_000))
    assert torch.allclose(vectors.abs(), torch.eye(LATENT), atol=0.1)
    assert values[0] > 2 * values[1] > 4 * values[2]


def test_directions_are_eigenvectors_of_the_weights() -> None:
    weights = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    values, vectors = by_weights(weights)
    w = (weights / weights.norm(dim=0)).double()
    assert torch.allclose((w @ w.T) @ vectors[0].double(), values[0] * vectors[0].double(), atol=1e-4)
    assert (values.diff() <= 0).all()


@pytest.mark.parametrize("function", [by_weights, lambda weights: by_activations(weights, weights.mT)])
def test_directions_need_no_float64_of_the_device(function: Any) -> None:
    weights = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    with FakeMps():
        vectors = function(weights.to("mps"))[1]
        assert vectors.device == MPS
        assert torch.allclose(vectors.cpu(), function(weights)[1])


def test_the_strongest_direction_changes_the_right_property() -> None:
    finding = directions(painter(), features=FEATURES, reader=READER, by="activations", k=4)
    assert finding.figures["change"][0] > 10 * finding.figures["change"][3]
    assert finding.figures["properties"][0]["background"] > 0.9
    assert finding.figures["properties"][1]["side"] > 0.9
    assert finding.figures["properties"][3]["side"] == 0
    assert set(finding.sheets) == {f"direction{i}" for i in range(4)}
    with pytest.raises(LeafwingError, match=r"k='?5"):
        directions(painter(), features=FEATURES, reader=None, k=5)


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"label": 0.123, "size": 0.05}, "most often is label, in 12% of the samples"),
        ({"label": nan, "size": 0.05}, "most often is size, in 5% of the samples"),
        ({"label": 0.0, "size": 0.0}, "the same properties at both ends"),
        ({"label": nan}, "sure of no property"),
    ],
)
def test_the_property_that_changes_most_is_named_with_its_share(properties: dict[str, float], words: str) -> None:
    assert words in describe_strongest(properties)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Samples of the painter as a data set."""
    from leafwing.pictures import to_image, to_pixels

    folder = tmp_path_factory.mktemp("real")
    for i, pixels in enumerate(to_pixels(painter().sample(60, seed=9))):
        to_image(pixels).save(folder / f"{i}.png")
    return load(folder, size=16)


def test_samples_of_shorter_latents_are_closer_together(real: Dataset) -> None:
    features = load_features("pixels", None)
    finding = truncate(painter(), held_out=real, features=features, reader=READER, psi="0.1,1", n=60)
    short, full = finding.figures["sweep"]
    assert short["distance"] < 0.6 * full["distance"]
    assert full["distance"] == pytest.approx(1, abs=0.25)
    assert short["recall"] < full["recall"]
    assert full["sure"] == 1


def test_no_image_is_compared_with_itself(real: Dataset) -> None:
    """All features are equally far apart, so that a distance of 1 is exact, also with six real images."""
    numbers = itertools.count()
    features = Features("pixels", "", lambda images: (torch.eye(16)[[next(numbers) for _ in images]], None))
    few = replace(real, rows=np.arange(6))
    finding = truncate(painter(), held_out=few, features=features, reader=None, psi="1", n=8, columns=1, seed=1)
    assert finding.figures["sweep"][0]["distance"] == pytest.approx(1)


def test_psi_multiplies_latents_once(real: Dataset) -> None:
    """Distances of samples of a linear generator are in proportion."""
    finding = truncate(world(), held_out=real, features=load_features("pixels", None), reader=None, psi="0.25,0.5,1", n=400)
    quarter, half, full = (row["distance"] for row in finding.figures["sweep"])
    assert half == pytest.approx(full / 2, rel=0.01)
    assert quarter == pytest.approx(full / 4, rel=0.01)


@pytest.mark.parametrize(("deviations", "best"), [((0.02, 1.0), "1"), ((0.02, 0.03), "")])
def test_the_precision_of_copies_of_one_picture_is_not_the_highest(
    real: Dataset, monkeypatch: pytest.MonkeyPatch, deviations: tuple[float, ...], best: str
) -> None:
    varieties, precisions = iter(deviations), iter([1.0, 0.5])
    monkeypatch.setattr(
        "leafwing.laboratory.truncate.precision_recall",
        lambda real, fake: {"precision": next(precisions), "recall": 0.0},
    )
    monkeypatch.setattr("leafwing.laboratory.truncate.variety", lambda real, fake: next(varieties))
    words = truncate(painter(), held_out=real, features=load_features("pixels", None), reader=None, psi="0.1,1", n=20).words
    assert [word.startswith(f"Precision is highest at psi {best} ") for word in words] == (
        [True, False] if best else [False]
    )
    assert words[-1] == (
        f"At psi {'0.1' if best else '0.1, 1'} the samples are copies of one picture, of which precision says nothing."
    )


def collapsed() -> Model:
    """A generator whose samples are all the same."""
    model = Model(build("dcgan", PICTURES), PICTURES)
    for weights in model.game.players["G"].net.parameters():
        weights.data.zero_()
    return model


def test_a_collapsed_generator_is_not_praised() -> None:
    finding = interpolate(collapsed(), features=FEATURES, samples="0,1")
    assert finding.words == ["The samples are all the same: nothing changes along the paths."]
    assert [finding.figures[name] for name in ("largest_share", "jump", "stray")] == [None] * 3
    with pytest.raises(LeafwingError, match=r"directions needs a generator .* changes with the latents"):
        directions(collapsed(), features=FEATURES, reader=None, k=2)


class AfterACondition(nn.Module):
    """A layer that reads something else comes before the one that reads the latents."""

    def __init__(self) -> None:
        super().__init__()
        self.condition, self.latent = nn.Linear(3, 5), nn.Linear(LATENT, 7, bias=False)

    def forward(self, z: Tensor) -> Tensor:
        shift = self.condition(torch.ones(len(z), 3)).mean(1)
        return (self.latent(z).mean(1) + shift)[:, None, None, None].expand(-1, 3, 16, 16)


@pytest.mark.parametrize(
    ("tool", "given", "message"),
    [
        (truncate, {"n": 50_001}, "n=50001: must be at most 50,000"),
        (
            truncate,
            {"n": 50_000, "columns": 50_000, "psi": "1,2,3,4,5,6,7,8"},
            "columns=50000: a sheet of .* pixels could not be opened",
        ),
        (dropout, {"n": 50_001}, "n=50001: must be at most 50,000"),
        (dropout, {"n": 0}, "n=0: must be at least 1"),
        (directions, {"k": 2, "reach": 1e30}, r"reach=1e\+30: must be greater than 0 and at most 1000"),
        (interpolate, {"samples": "0:9", "steps": 50_000}, "steps=50000: a sheet of .* pixels could not be opened"),
        (mix, {"rows": 50_000, "across": "attributes"}, "rows=50000: a sheet of .* pixels could not be opened"),
    ],
)
def test_counts_have_an_upper_end(
    tool: Callable[..., object], given: dict[str, Any], message: str, real: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leafwing.laboratory.options.available_memory", lambda: None)
    inputs: dict[str, Any] = {"features": FEATURES, "reader": READER, "held_out": real}
    wanted = inspect.signature(tool).parameters
    model = Model(build("cgan", ATTRIBUTES), ATTRIBUTES) if tool is mix else painter()
    with pytest.raises(LeafwingError, match=message):
        tool(model, **{name: value for name, value in inputs.items() if name in wanted}, **given)


@pytest.mark.parametrize(
    ("tool", "option"),
    [(interpolate, "samples"), (interpolate, "steps"), (dropout, "n"), (mix, "n"), (arithmetic, "trials"), (complete, "pictures"),
     (invert, "pictures"), (edit, "candidates")],
)  # fmt: skip
def test_images_that_a_tool_keeps_have_to_fit_into_memory(
    tool: Callable[..., object], option: str, real: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 1 MiB of free memory: 85 images of 16x16 pixels in two copies."""
    monkeypatch.setattr(options, "available_memory", lambda: 1 << 20)
    given: dict[str, Any] = {"features": FEATURES, "reader": READER, "held_out": real, "data": real, "paint": "red,0,0,2,2"}
    given |= {"samples": "0,1", "steps": 2, "n": 2, "rows": 2, "trials": 2, "pictures": "0", "candidates": 2}
    given[option] = {"samples": "0:90", "pictures": "0:90"}.get(option, 90)
    wanted = inspect.signature(tool).parameters
    model = Model(build("cgan", ATTRIBUTES), ATTRIBUTES) if tool is mix else painter()
    with pytest.raises(LeafwingError, match=rf"{option}=.*: needs about .* of memory, and 1 MiB are free: choose fewer"):
        tool(model, **{name: value for name, value in given.items() if name in wanted})


def test_the_first_layer_is_the_first_one_that_reads_the_latents() -> None:
    z, net = Normal(LATENT), AfterACondition()
    model = Model(Game({"G": Player(net)}, [], generating(z)), PICTURES)
    weights = first_layer(model, lambda latents, batch: torch.cat([*model.stream(latents, batch=batch)]), 0)
    assert torch.allclose(weights, net.latent.weight.T, atol=1e-5)


def test_lengths_and_jumps_of_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brightness along two paths of 32 steps: 31 equal steps and one of ten times their length, and back."""
    steps = torch.ones(32)
    steps[20] = 10
    path = torch.cat([torch.zeros(1), steps.cumsum(0)]) / 100
    monkeypatch.setattr(
        "leafwing.laboratory.interpolate.interpolate_latents", lambda a, b, at, how: at[:, None].expand(-1, LATENT)
    )
    monkeypatch.setattr(
        Painter, "forward", lambda self, z: path[(z[:, 0] * 32).round().long()].view(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    )
    figures = interpolate(painter(), features=FEATURES, samples="0,1", interpolation="linear").figures
    assert figures["walks"] == 2
    assert figures["jump"] == pytest.approx(10, rel=1e-3)
    assert figures["largest_step"] == pytest.approx(10 * figures["median_step"], rel=1e-3)
    assert figures["largest_share"] == pytest.approx(10 / 41, rel=1e-3)
    assert figures["distance"] == pytest.approx(41 * figures["median_step"], rel=1e-3)
    assert figures["stray"] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("text", ["", "0", "-1,1", "x", "nan", "inf", "1,,2"])
def test_an_invalid_psi_is_refused(text: str) -> None:
    with pytest.raises(LeafwingError, match="psi="):
        parse_psi(text)

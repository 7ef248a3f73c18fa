"""Interpolation, arithmetic, dropout, mixing, directions, truncation: held against a world in which the answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import FEATURES, LATENT, READER, Painter, painter
from torch import Tensor

from leafwing.data import Dataset, load
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec
from leafwing.laboratory.arithmetic import arithmetic
from leafwing.laboratory.directions import by_activations, by_weights, directions, first_layer
from leafwing.laboratory.dropout import dropout, inside_box
from leafwing.laboratory.finding import plain
from leafwing.laboratory.interpolate import interpolate
from leafwing.laboratory.mix import mix
from leafwing.laboratory.truncate import psis, truncate
from leafwing.metrics.features import load_features
from leafwing.model import Model
from tiny import PICTURES, POINTS, TOLD, build

pytestmark = pytest.mark.machine


def test_steps_of_a_walk_are_equal_where_pictures_change_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    model = painter()
    monkeypatch.setattr(Painter, "forward", lambda self, z: z.mean(1)[:, None, None, None].expand(-1, 3, 16, 16))
    found = interpolate(model, features=FEATURES, samples="1,2,3", way="straight")
    assert found.figures["largest_share"] == pytest.approx(1 / 32, rel=0.01)
    assert found.figures["stray"] == pytest.approx(1, rel=0.01)


def test_all_samples_of_a_walk_have_the_same_attributes() -> None:
    model = Model(build("cgan", TOLD), TOLD)
    told = list[Tensor]()
    model.game.shown.G.register_forward_pre_hook(lambda module, given: told.append(given[1]))
    interpolate(model, features=FEATURES, samples="0,1", steps=2)
    assert len(torch.cat(told).unique(dim=0)) == 1


def test_a_jump_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that has stored two pictures and shows one or the other."""
    model = painter()
    stored = torch.zeros(2, 3, 16, 16)
    stored[1] = 1
    monkeypatch.setattr(Painter, "forward", lambda self, z: stored[(z[:, 0] > 0).long()])
    first = model.latents(40)[:, 0] > 0
    a, b = int(first.nonzero()[0]), int((~first).nonzero()[0])
    found = interpolate(model, features=FEATURES, samples=f"{a},{b}", way="straight")
    assert found.figures["largest_share"] == 1
    assert "100%" in found.words[0]


def test_sheets_films_and_latents_of_a_walk() -> None:
    model = painter()
    found = interpolate(model, features=FEATURES, samples="4,7", steps=3)
    assert len(found.films["walk"]) == 2 * 32
    assert np.array_equal(found.arrays["latents"], model.latents(8)[[4, 7]].numpy())
    with pytest.raises(LeafwingError, match="two --samples"):
        interpolate(model, features=FEATURES, samples="4")


def test_sums_of_latents_show_what_they_should_in_a_world_that_is_straight() -> None:
    found = arithmetic(painter(), reader=READER, average=10, trials=100)
    assert found.figures["right"] > 0.9
    assert found.figures["chance"] == pytest.approx(0.25, abs=0.05)
    assert found.figures["moved"] >= found.figures["right"]
    assert set(found.sheets) == {"arithmetic", "turn"}


def test_the_words_of_concepts_are_checked() -> None:
    model = painter()
    found = arithmetic(
        model, reader=READER, a="side=left,ground=dark", b="side=right,ground=dark", c="side=right,ground=bright", trials=20
    )
    assert found.figures["reads"]["side"][0] == "left"
    assert found.figures["reads"]["ground"][0] == "bright"
    with pytest.raises(LeafwingError, match=r"no concept 'side=up'.*left, right"):
        arithmetic(model, reader=READER, a="side=up", b="1", c="2")
    with pytest.raises(LeafwingError, match="all of --a"):
        arithmetic(model, reader=READER, a="1,2,3")
    with pytest.raises(LeafwingError, match="--average 5000"):
        arithmetic(model, reader=READER, a="side=left", b="1", c="2", average=5000)


def test_without_a_reader_concepts_are_numbers_of_samples() -> None:
    model = painter()
    found = arithmetic(model, reader=None, a="0,1,2", b="3,4,5", c="6:9")
    z = model.latents(9)
    assert found.arrays["latents"][0] == pytest.approx((z[0:3].mean(0) - z[3:6].mean(0) + z[6:9].mean(0)).numpy(), abs=1e-6)
    assert np.abs(found.arrays["latents"][1:] - found.arrays["latents"][0]).max() <= 0.25
    assert found.figures["right"] is None
    with pytest.raises(LeafwingError, match="no reader"):
        arithmetic(model, reader=None)


def test_dropping_the_maps_of_an_object_removes_it_and_nothing_else() -> None:
    found = dropout(painter(), reader=READER)
    assert found.figures["dropped"] == 1
    assert found.figures["found_before"] == 1
    assert found.figures["vanished"] == 1
    assert found.figures["contrast"] < 0.01
    assert found.figures["changed"] < 1e-3
    assert found.figures["changed_random"] > 10 * found.figures["changed"]
    assert found.figures["maps_for_most"] == 1


def test_boxes_that_are_drawn_by_hand(tmp_path: Path) -> None:
    model = painter()
    drawn = {i: box.tolist() for i, box in enumerate(READER.box(model.sample(90)))}
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(drawn))
    found = dropout(model, reader=None, boxes=path)
    assert found.figures["boxes"] == 90
    assert found.figures["accuracy"] > 0.95
    assert np.isnan(found.figures["vanished"])
    assert plain(found.figures)["vanished"] is None
    kept = tmp_path / "latents.npy"
    np.save(kept, model.latents(90).numpy())
    assert plain(dropout(model, reader=None, boxes=path, file=kept).figures) == plain(found.figures)
    np.save(kept, model.latents(50).numpy())
    with pytest.raises(LeafwingError, match="a box for sample 89"):
        dropout(model, reader=None, boxes=path, file=kept)
    for wrong, message in (
        ({"0": [10, 0, 8, 4]}, "not inside a picture of 16 x 16"),
        ({"0": [1, 2, 3]}, r"boxes\.json"),
        ([1], r"boxes\.json"),
        ({"0": [1, 1, 0, 4]}, "not inside"),
        ({"0": [1, 1, 2, 2]}, "1 boxes are too few"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(LeafwingError, match=message):
            dropout(model, reader=READER, boxes=path)
    with pytest.raises(LeafwingError, match="draw boxes"):
        dropout(model, reader=None)


def test_which_pixels_are_in_a_box() -> None:
    mask = inside_box(np.array([2.0, 3.0, 2.0, 1.0]), 6, 8)
    assert mask.nonzero()[0].tolist() == [3, 3]
    assert mask.nonzero()[1].tolist() == [2, 3]


def test_rows_and_columns_share_the_variance_of_what_is_crossed() -> None:
    model = Model(build("infogan", DataSpec(16, 16, 3)), DataSpec(16, 16, 3))
    found = mix(model, features=FEATURES, n=8)
    assert found.figures["across"] == next(iter(model.codes))
    assert found.figures["rows_share"] + found.figures["columns_share"] + found.figures["rest"] == pytest.approx(1)
    with pytest.raises(LeafwingError, match="--across"):
        mix(model, features=FEATURES, across="label")
    with pytest.raises(LeafwingError, match="nothing to mix"):
        mix(painter(), features=FEATURES)


def test_crossing_labels() -> None:
    model = Model(build("cgan", PICTURES), PICTURES)
    found = mix(model, features=FEATURES, n=6, rows=2)
    assert found.figures["across"] == "label"
    assert 0 <= found.figures["columns_share"] <= 1


def test_what_the_first_layer_does_is_found_without_knowing_it() -> None:
    model = painter()
    weights = first_layer(model, model.generate, 0)
    assert torch.allclose(weights, torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.01])), atol=1e-5)
    values, vectors = by_activations(weights, model.latents(4_000))
    assert torch.allclose(vectors.abs(), torch.eye(LATENT), atol=0.1)
    assert values[0] > 2 * values[1] > 4 * values[2]


def test_eigenvectors_are_those_of_the_weights() -> None:
    weights = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    values, vectors = by_weights(weights)
    w = (weights / weights.norm(dim=0)).double()
    assert torch.allclose((w @ w.T) @ vectors[0].double(), values[0] * vectors[0].double(), atol=1e-4)
    assert (values.diff() <= 0).all()


def test_the_strongest_direction_changes_what_it_should() -> None:
    found = directions(painter(), features=FEATURES, reader=READER, by="activations", k=4)
    assert found.figures["change"][0] > 10 * found.figures["change"][3]
    assert found.figures["properties"][0]["ground"] > 0.9
    assert found.figures["properties"][1]["side"] > 0.9
    assert found.figures["properties"][3]["side"] == 0
    assert set(found.sheets) == {f"direction{i}" for i in range(4)}
    with pytest.raises(LeafwingError, match="--k 5"):
        directions(painter(), features=FEATURES, reader=None, k=5)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Pictures that the painter made."""
    from leafwing.pictures import to_image, to_pixels

    folder = tmp_path_factory.mktemp("real")
    for i, pixels in enumerate(to_pixels(painter().sample(60, seed=9))):
        to_image(pixels).save(folder / f"{i}.png")
    return load(folder, size=16)


def test_shorter_latents_lie_closer_together(real: Dataset) -> None:
    features = load_features("pixels", None)
    found = truncate(painter(), held=real, features=features, reader=READER, psi="0.1,1", n=60)
    short, full = found.figures["sweep"]
    assert short["distance"] < 0.6 * full["distance"]
    assert full["distance"] == pytest.approx(1, abs=0.25)
    assert short["recall"] < full["recall"]
    assert full["sure"] == 1


@pytest.mark.parametrize("text", ["", "0", "-1,1", "x", "nan", "inf", "1,,2"])
def test_a_psi_that_is_no_number_is_named(text: str) -> None:
    with pytest.raises(LeafwingError, match="--psi"):
        psis(text)


def test_points_are_refused_by_all() -> None:
    model = Model(build("gan", POINTS), POINTS)
    for tool, given in (
        (interpolate, {"features": FEATURES}), (arithmetic, {"reader": None}), (dropout, {"reader": None}),
        (mix, {"features": FEATURES}), (directions, {"features": FEATURES, "reader": None}),
    ):  # fmt: skip
        with pytest.raises(LeafwingError, match="points"):
            tool(model, **given)  # type: ignore[operator]

"""Editing: strokes get their colour, and the rest of the image stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_world import SIDE, train_run, world
from PIL import Image

from leafwing import cli
from leafwing.errors import LeafwingError
from leafwing.laboratory.edit import _edges, _masked_mean, _read_strokes, edit

pytestmark = pytest.mark.machine


def test_a_stroke_gets_its_colour_and_the_rest_stays() -> None:
    model = world("blocks")
    finding = edit(model, paint="red,4,4,8,4", sample=2, edges=0, candidates=4)
    figures = finding.figures
    assert figures["after"][0] < figures["before"] / 50
    assert figures["outside"][0] < 0.01
    assert figures["loss"] == sorted(figures["loss"])
    assert len(figures["after"]) == len(figures["distance"]) == 4
    assert np.array_equal(finding.arrays["latents"][0], model.latents(3)[2].numpy())
    images = model.generate(torch.from_numpy(finding.arrays["latents"]))
    assert torch.allclose(images[1, :, 5, 5], torch.tensor([1.0, -1, -1]), atol=0.2)
    assert edit(model, paint="red,4,4,8,4", sample=2, edges=0, candidates=4).figures == figures


def test_the_latent_stays_nearer_with_a_larger_weight() -> None:
    model = world("blocks")
    far, near = (edit(model, paint="red,4,4,8,4", candidates=2, near=weight).figures for weight in (0.01, 2))
    assert near["distance"][0] < far["distance"][0] / 1.5
    assert near["after"][0] > far["after"][0]


def test_latents_stay_in_the_range_of_a_uniform_prior() -> None:
    finding = edit(world("blocks", prior="uniform"), paint="white,0,0,8,8", candidates=2)
    assert np.abs(finding.arrays["latents"]).max() <= 1


def test_edges_are_measured_by_direction() -> None:
    model = world("blocks")
    upright = torch.full((1, 3, SIDE, SIDE), -1.0)
    upright[..., SIDE // 2 :] = 1
    level = upright.transpose(2, 3).contiguous()
    a, b = _edges(upright, model).sum((2, 3))[0], _edges(level, model).sum((2, 3))[0]
    assert a.argmax() == 0
    assert b.argmax() == 4
    assert a[4] < a[0] / 20
    assert torch.allclose(_edges(-upright, model), _edges(upright, model), atol=1e-5)


def test_the_edge_loss_adds_edges_that_colours_do_not_require() -> None:
    """A box of the colour that the image already has there, with an edge around it: only the edge is missing."""
    model = world("blocks", channels=1)
    paint = "gray,4,4,8,8"
    colours, painted = _read_strokes(paint, None, model)
    start = model.sample(1)
    target = torch.where(painted > 0, colours, start)

    def edge_error(edges: float) -> float:
        latents = torch.from_numpy(edit(model, paint=paint, candidates=1, edges=edges).arrays["latents"])
        images = model.generate(latents)[1:]
        return float(_masked_mean((_edges(images, model) - _edges(target, model)).square(), torch.ones(8, 8)))

    assert edge_error(1.0) < edge_error(0.0)


def test_strokes_are_read_from_a_picture_with_alpha(tmp_path: Path) -> None:
    drawing = np.zeros((SIDE, SIDE, 4), np.uint8)
    drawing[4:8, 0:4] = (0, 255, 0, 255)
    drawing[0:4, 0:4] = (255, 255, 255, 60)  # counts as transparent
    Image.fromarray(drawing).save(tmp_path / "strokes.png")
    model = world("blocks")
    colours, painted = _read_strokes("#0000ff,12,12,4,4", tmp_path / "strokes.png", model)
    assert painted.sum() == 32
    assert colours[:, 5, 2].tolist() == [-1, 1, -1]
    assert colours[:, 13, 13].tolist() == [-1, -1, 1]
    finding = edit(model, strokes=tmp_path / "strokes.png", candidates=2)
    assert finding.figures["after"][0] < finding.figures["before"] / 10
    grey, _ = _read_strokes("white,0,0,4,4", None, world("blocks", channels=1))
    assert grey.shape == (1, SIDE, SIDE)


def test_invalid_input_is_refused(tmp_path: Path) -> None:
    model = world("blocks")
    Image.new("RGBA", (8, 8)).save(tmp_path / "small.png")
    Image.new("RGBA", (SIDE, SIDE)).save(tmp_path / "clear.png")
    for message, options in [
        ("nothing is painted", {}),
        ("nothing is painted", {"strokes": tmp_path / "clear.png"}),
        ("small.png.: 8x8 pixels", {"strokes": tmp_path / "small.png"}),
        ("cannot read the image", {"strokes": tmp_path / "none.png"}),
        ("not inside the image", {"paint": "red,10,10,12,2"}),
        ("not inside the image", {"paint": "red,-1,0,2,2"}),
        ("write COLOUR,X,Y", {"paint": "redd,0,0,2,2"}),
        ("write COLOUR,X,Y", {"paint": "red,0,0,2"}),
        ("write COLOUR,X,Y", {"paint": "red,0,0,2,２"}),
        ("does not generate its image from 'label'", {"paint": "red,0,0,2,2", "conditions": {"label": "a"}}),
        ("sample='?-1", {"paint": "red,0,0,2,2", "sample": -1}),
        ("candidates='?0", {"paint": "red,0,0,2,2", "candidates": 0}),
        ("near='?-1", {"paint": "red,0,0,2,2", "near": -1}),
    ]:
        with pytest.raises(LeafwingError, match=message):
            edit(model, **options)  # type: ignore[arg-type]


def test_a_sample_is_edited_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(train_run(tmp_path))
    words = ["explore", run, "edit", "--paint", "red,0,0,8,8;#ffffff,8,8,4,4", "--steps", "3", "--candidates", "2"]
    assert cli.run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["figures"]["painted"] == 80 / 256
    assert {Path(file).name for file in document["written"]} == {"edit.png", "latents.npy", "figures.json"}
    assert cli.run(["explore", run, "edit", "--paint", "red,9,9,9,9"]) == 2
    assert "not inside the image" in capsys.readouterr().err

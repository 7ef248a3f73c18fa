"""Editing: strokes reach their colour, and what was not painted stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_world import SIDE, trained, world
from PIL import Image

from leafwing import cli
from leafwing.errors import LeafwingError
from leafwing.laboratory.edit import _edges, _painted, _within, edit

pytestmark = pytest.mark.machine


def test_a_stroke_gets_its_colour_and_all_else_stays() -> None:
    model = world("blocks")
    found = edit(model, paint="red,4,4,8,4", sample=2, edges=0, candidates=4)
    figures = found.figures
    assert figures["after"][0] < figures["before"] / 50
    assert figures["outside"][0] < 0.01
    assert figures["cost"] == sorted(figures["cost"])
    assert len(figures["after"]) == len(figures["distance"]) == 4
    assert np.array_equal(found.arrays["latents"][0], model.latents(3)[2].numpy())
    made = model.generate(torch.from_numpy(found.arrays["latents"]))
    assert torch.allclose(made[1, :, 5, 5], torch.tensor([1.0, -1, -1]), atol=0.2)
    assert edit(model, paint="red,4,4,8,4", sample=2, edges=0, candidates=4).figures == figures


def test_the_latent_stays_nearer_the_more_that_counts() -> None:
    model = world("blocks")
    far, near = (edit(model, paint="red,4,4,8,4", candidates=2, near=weight).figures for weight in (0.01, 2))
    assert near["distance"][0] < far["distance"][0] / 1.5
    assert near["after"][0] > far["after"][0]


def test_a_uniform_prior_is_not_left() -> None:
    found = edit(world("blocks", prior="uniform"), paint="white,0,0,8,8", candidates=2)
    assert np.abs(found.arrays["latents"]).max() <= 1


def test_edges_are_counted_by_their_direction() -> None:
    model = world("blocks")
    upright = torch.full((1, 3, SIDE, SIDE), -1.0)
    upright[..., SIDE // 2 :] = 1
    level = upright.transpose(2, 3).contiguous()
    a, b = _edges(upright, model).sum((2, 3))[0], _edges(level, model).sum((2, 3))[0]
    assert a.argmax() == 0
    assert b.argmax() == 4
    assert a[4] < a[0] / 20
    assert torch.allclose(_edges(-upright, model), _edges(upright, model), atol=1e-5)


def test_painted_edges_are_drawn_where_colours_alone_leave_them() -> None:
    """A box of the colour that is there already, with an edge around it: colours are met at once, the edge must be made."""
    model = world("blocks", channels=1)
    paint = "gray,4,4,8,8"
    colours, painted = _painted(paint, None, model)
    start = model.sample(1)
    wanted = torch.where(painted > 0, colours, start)

    def apart(edges: float) -> float:
        latents = torch.from_numpy(edit(model, paint=paint, candidates=1, edges=edges).arrays["latents"])
        made = model.generate(latents)[1:]
        return float(_within((_edges(made, model) - _edges(wanted, model)).square(), torch.ones(8, 8)))

    assert apart(1.0) < apart(0.0)


def test_strokes_are_read_from_a_picture_with_alpha(tmp_path: Path) -> None:
    drawn = np.zeros((SIDE, SIDE, 4), np.uint8)
    drawn[4:8, 0:4] = (0, 255, 0, 255)
    drawn[0:4, 0:4] = (255, 255, 255, 60)  # as good as transparent
    Image.fromarray(drawn).save(tmp_path / "strokes.png")
    model = world("blocks")
    colours, painted = _painted("#0000ff,12,12,4,4", tmp_path / "strokes.png", model)
    assert painted.sum() == 32
    assert colours[:, 5, 2].tolist() == [-1, 1, -1]
    assert colours[:, 13, 13].tolist() == [-1, -1, 1]
    found = edit(model, strokes=tmp_path / "strokes.png", candidates=2)
    assert found.figures["after"][0] < found.figures["before"] / 10
    grey, _ = _painted("white,0,0,4,4", None, world("blocks", channels=1))
    assert grey.shape == (1, SIDE, SIDE)


def test_what_cannot_be_edited_is_said(tmp_path: Path) -> None:
    model = world("blocks")
    Image.new("RGBA", (8, 8)).save(tmp_path / "small.png")
    Image.new("RGBA", (SIDE, SIDE)).save(tmp_path / "clear.png")
    for message, given in [
        ("nothing is painted", {}),
        ("nothing is painted", {"strokes": tmp_path / "clear.png"}),
        ("small.png: 8x8 pixels", {"strokes": tmp_path / "small.png"}),
        ("cannot read the picture", {"strokes": tmp_path / "none.png"}),
        ("not inside the picture", {"paint": "red,10,10,12,2"}),
        ("not inside the picture", {"paint": "red,-1,0,2,2"}),
        ("write COLOUR,X,Y", {"paint": "redd,0,0,2,2"}),
        ("write COLOUR,X,Y", {"paint": "red,0,0,2"}),
        ("no labels", {"paint": "red,0,0,2,2", "label": "a"}),
        ("--sample -1", {"paint": "red,0,0,2,2", "sample": -1}),
        ("--candidates 0", {"paint": "red,0,0,2,2", "candidates": 0}),
        ("--near -1", {"paint": "red,0,0,2,2", "near": -1}),
    ]:
        with pytest.raises(LeafwingError, match=message):
            edit(model, **given)  # type: ignore[arg-type]


def test_a_sample_is_edited_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(trained(tmp_path))
    asked = ["explore", run, "edit", "--paint", "red,0,0,8,8;#ffffff,8,8,4,4", "--steps", "3", "--candidates", "2"]
    assert cli.run([*asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["figures"]["painted"] == 80 / 256
    assert {Path(file).name for file in said["written"]} == {"edit.png", "latents.npy", "figures.json"}
    assert cli.run(["explore", run, "edit", "--paint", "red,9,9,9,9"]) == 2
    assert "not inside the picture" in capsys.readouterr().err

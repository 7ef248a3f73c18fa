"""Completion: in a linear world the known part of a picture says what is in the hole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_world import SIDE, held, stream, trained, world
from PIL import Image

from leafwing import cli
from leafwing.errors import LeafwingError
from leafwing.laboratory.complete import MASKS, _blended, _mask, _training, complete

pytestmark = pytest.mark.machine


@pytest.mark.parametrize("mask", ["centre", "random"])
def test_what_is_missing_is_found_where_the_world_is_linear(mask: str) -> None:
    model = world()
    data = held(model, model.sample(6, seed=7))
    found = complete(model, data=data, held=data, mask=mask, pictures="0:6", starts=1, steps=300)
    error = found.figures["error"]
    assert error["completed"] < error["flat"] / 20
    assert error["completed"] < error["random"] / 20
    assert error["completed"] < error["nearest"] / 20
    assert error["blended"] < error["flat"] / 20
    assert found.arrays["latents"].shape == (6, 9)
    assert not found.figures["judged"]
    again = complete(model, data=data, held=data, mask=mask, pictures="0:6", starts=1, steps=300)
    assert again.figures == found.figures


def test_nothing_looks_into_the_hole() -> None:
    model = world(waves=9)
    known = _mask("centre", model, 0)
    picture = 0.3 * model.sample(1, seed=7)
    other = torch.where(known > 0, picture, -picture)
    filled = []
    for one in (picture, other):
        data = held(model, one)
        found = complete(model, data=held(model, model.sample(5)), held=data, pictures="0", starts=1, steps=20)
        mean = (one * known).sum((2, 3), keepdim=True) / known.sum()
        missed = float((one - mean).square()[..., known == 0].mean())
        assert found.figures["error"]["flat"] == pytest.approx(missed, rel=0.05)
        filled.append(found.arrays["latents"])
        made = model.generate(torch.from_numpy(filled[-1]))
        filled.append((_blended(one, made, known) * (1 - known)).numpy())
    assert np.array_equal(filled[0], filled[2])
    assert np.array_equal(filled[1], filled[3])


def test_masks() -> None:
    model = world()
    known = {name: _mask(name, model, 0) for name in MASKS}
    missing = {name: float(1 - one.mean()) for name, one in known.items()}
    assert missing["centre"] == 0.25
    assert missing["left"] == 0.5
    assert missing["grid"] == 15 / 16
    assert 0.7 < missing["random"] < 0.9
    assert known["centre"][8, 8] == known["left"][0, 0] == 0
    assert known["centre"][0, 0] == known["left"][0, 15] == known["grid"][4, 8] == 1
    assert torch.equal(known["random"], _mask("random", model, 0))
    assert not torch.equal(known["random"], _mask("random", model, 1))


def test_a_mask_is_drawn_white_where_the_picture_is_known(tmp_path: Path) -> None:
    drawn = np.full((SIDE, SIDE), 255, np.uint8)
    drawn[3:6, 2:12] = 0
    Image.fromarray(drawn).save(tmp_path / "hole.png")
    model = world()
    assert torch.equal(_mask(str(tmp_path / "hole.png"), model, 0), torch.from_numpy(drawn).float() / 255)
    data = held(model, model.sample(2))
    found = complete(model, data=data, held=data, mask=str(tmp_path / "hole.png"), pictures="0:2", starts=1, steps=2)
    assert found.figures["missing"] == pytest.approx(30 / 256)


@pytest.mark.parametrize("mask", MASKS)
def test_blending_takes_gradients_from_the_sample_and_colours_from_the_picture(mask: str) -> None:
    model = world()
    known = _mask(mask, model, 0)
    picture = 0.3 * model.sample(2, seed=3)
    tinted = picture + torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1)
    assert torch.allclose(_blended(picture, tinted, known), picture, atol=1e-5)
    other = _blended(picture, 0.3 * model.sample(2, seed=4), known)
    assert torch.equal(other * known, picture * known)
    assert not torch.allclose(other, picture, atol=0.05)


def test_the_nearest_training_picture_is_nearest_where_the_picture_is_known_and_not_itself() -> None:
    model = world()
    known = _mask("centre", model, 0)
    pictures = model.sample(30, seed=2)
    twin = pictures[4].clone()
    twin[:, 8, 8] = -twin[:, 8, 8]
    data = held(model, torch.cat([pictures, twin[None]]))
    own = torch.from_numpy(data.pictures([4, 9])).permute(0, 3, 1, 2)
    mean, near = _training(data, own, known, lambda what, done, total: None)
    assert torch.allclose(near[0], twin, atol=0.01)
    assert not torch.allclose(near[1], pictures[9], atol=0.01)
    assert torch.allclose(mean, torch.cat([pictures, twin[None]]).mean(0), atol=0.01)


def test_the_critic_decides_where_the_picture_leaves_room() -> None:
    model = world(dark=True, waves=9)
    data = held(model, model.sample(2, seed=7))
    filled = []
    for prior in (0, 1000):
        found = complete(model, data=data, held=data, mask="left", pictures="0:2", starts=1, steps=60, prior=prior)
        assert found.figures["judged"] == (prior > 0)
        filled.append(model.generate(torch.from_numpy(found.arrays["latents"])).mean())
    assert filled[1] < filled[0] - 0.1


def test_pictures_keep_their_class() -> None:
    model = world(labels=("dim", "bright"))
    data = held(model, model.sample(4, seed=7, label=[0, 1, 0, 1]), [0, 1, 0, 1])
    truth = stream(data, model.latents(4, seed=7))
    found = complete(model, data=data, held=data, pictures="0:4", starts=1, steps=300)
    assert np.allclose(found.arrays["latents"], truth.numpy(), atol=0.2)


def test_what_cannot_be_completed_is_said(tmp_path: Path) -> None:
    model = world()
    data = held(model, model.sample(3))
    Image.new("L", (20, 10)).save(tmp_path / "small.png")
    Image.new("L", (SIDE, SIDE), 255).save(tmp_path / "white.png")
    (tmp_path / "text.png").write_text("no picture")
    for message, given in [
        ("--mask center: .*did you mean centre", {"mask": "center"}),
        ("small.png: 20x10 pixels", {"mask": str(tmp_path / "small.png")}),
        ("some pixels must be known", {"mask": str(tmp_path / "white.png")}),
        ("cannot read the picture", {"mask": str(tmp_path / "text.png")}),
        ("no labels", {"label": "dim"}),
        ("there are 3 pictures, 0 to 2", {"pictures": "3,4"}),
        ("--prior -1", {"prior": -1}),
        ("--starts 0", {"starts": 0}),
    ]:
        with pytest.raises(LeafwingError, match=message):
            complete(model, data=data, held=data, **{"pictures": "0:2", **given})  # type: ignore[arg-type]


def test_a_run_completes_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path)
    asked = ["explore", str(run), "complete", "--pictures", "0:3", "--steps", "3", "--mask", "left"]
    assert cli.run([*asked, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["figures"]["judged"]
    assert len(said["words"]) == 1  # these pictures were held out
    assert {Path(file).name for file in said["written"]} == {"completion.png", "latents.npy", "figures.json"}

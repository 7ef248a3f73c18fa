"""Inpainting: with a linear generator the known part of an image determines the hole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from linear_world import SIDE, dataset, shuffle, train_run, world
from PIL import Image

from fake_mps import FakeMps
from leafwing import cli
from leafwing.errors import LeafwingError
from leafwing.laboratory.complete import Mask, _blend, _mask, _training_baselines, complete
from leafwing.pixels import images_to_tensor

pytestmark = pytest.mark.machine

MASKS = get_args(Mask)


@pytest.mark.parametrize("mask", ["centre", "random"])
def test_a_hole_is_filled_correctly_with_a_linear_generator(mask: Mask) -> None:
    model = world()
    data = dataset(model, model.sample(6, seed=7))
    finding = complete(model, data=data, held_out=data, mask=mask, pictures="0:6", starts=1, steps=300)
    error = finding.figures["error"]
    assert error["completed"] < error["flat"] / 20
    assert error["completed"] < error["random"] / 20
    assert error["completed"] < error["nearest"] / 20
    assert error["blended"] < error["flat"] / 20
    assert finding.arrays["latents"].shape == (6, 9)
    assert not finding.figures["judged"]
    again = complete(model, data=data, held_out=data, mask=mask, pictures="0:6", starts=1, steps=300)
    assert again.figures == finding.figures


def test_pixels_in_the_hole_have_no_effect() -> None:
    model = world(waves=9)
    known = _mask("centre", model, 0)
    picture = 0.3 * model.sample(1, seed=7)
    other = torch.where(known > 0, picture, -picture)
    filled = []
    for image in (picture, other):
        data = dataset(model, image)
        finding = complete(model, data=dataset(model, model.sample(5)), held_out=data, pictures="0", starts=1, steps=20)
        mean = (image * known).sum((2, 3), keepdim=True) / known.sum()
        expected = float((image - mean).square()[..., known == 0].mean())
        assert finding.figures["error"]["flat"] == pytest.approx(expected, rel=0.05)
        filled.append(finding.arrays["latents"])
        sample = model.generate(torch.from_numpy(filled[-1]))
        filled.append((_blend(image, sample, known) * (1 - known)).numpy())
    assert np.array_equal(filled[0], filled[2])
    assert np.array_equal(filled[1], filled[3])


def test_masks() -> None:
    model = world()
    known = {name: _mask(name, model, 0) for name in MASKS}
    missing = {name: float(1 - mask.mean()) for name, mask in known.items()}
    assert missing["centre"] == 0.25
    assert missing["left"] == 0.5
    assert missing["grid"] == 15 / 16
    assert 0.7 < missing["random"] < 0.9
    assert known["centre"][8, 8] == known["left"][0, 0] == 0
    assert known["centre"][0, 0] == known["left"][0, 15] == known["grid"][4, 8] == 1
    assert torch.equal(known["random"], _mask("random", model, 0))
    assert not torch.equal(known["random"], _mask("random", model, 1))


def test_a_mask_file_is_white_where_the_image_is_known(tmp_path: Path) -> None:
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[3:6, 2:12] = 0
    Image.fromarray(mask).save(tmp_path / "hole.png")
    model = world()
    assert torch.equal(_mask(tmp_path / "hole.png", model, 0), torch.from_numpy(mask).float() / 255)
    grey = np.where(mask == 0, 30_000, 40_000).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    assert torch.equal(_mask(tmp_path / "deep.png", model, 0), torch.from_numpy(mask).float() / 255)
    data = dataset(model, model.sample(2))
    finding = complete(model, data=data, held_out=data, mask=tmp_path / "hole.png", pictures="0:2", starts=1, steps=2)
    assert finding.figures["missing"] == pytest.approx(30 / 256)


@pytest.mark.parametrize("mask", MASKS)
def test_blending_takes_gradients_from_the_sample_and_colours_from_the_image(mask: Mask) -> None:
    model = world()
    known = _mask(mask, model, 0)
    picture = 0.3 * model.sample(2, seed=3)
    tinted = picture + torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1)
    assert torch.allclose(_blend(picture, tinted, known), picture, atol=1e-5)
    with FakeMps():  # no float64
        assert torch.allclose(_blend(picture.to("mps"), tinted.to("mps"), known.to("mps")).cpu(), picture, atol=1e-5)
    other = _blend(picture, 0.3 * model.sample(2, seed=4), known)
    assert torch.equal(other * known, picture * known)
    assert not torch.allclose(other, picture, atol=0.05)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_nearest_training_image_is_nearest_in_the_known_pixels_and_not_the_image_itself(bits: int) -> None:
    model = world(channels=1, bits=bits)
    known = _mask("centre", model, 0)
    pictures = model.sample(30, seed=2)
    twin = pictures[4].clone()
    twin[:, 8, 8] = -twin[:, 8, 8]
    data = dataset(model, torch.cat([pictures, twin[None]]))
    images = images_to_tensor(data.pictures([4, 9]))
    mean, nearest, seen = _training_baselines(data, images, known, lambda what, done, total: None)
    assert seen == 2
    assert torch.allclose(nearest[0], twin, atol=0.01)
    assert not torch.allclose(nearest[1], pictures[9], atol=0.01)
    assert torch.allclose(mean, torch.cat([pictures, twin[None]]).mean(0), atol=0.01)


def test_the_critic_decides_where_known_pixels_do_not() -> None:
    model = world(dark=True, waves=9)
    data = dataset(model, model.sample(2, seed=7))
    filled = []
    for prior in (0, 1000):
        finding = complete(model, data=data, held_out=data, mask="left", pictures="0:2", starts=1, steps=60, prior=prior)
        assert finding.figures["judged"] == (prior > 0)
        filled.append(model.generate(torch.from_numpy(finding.arrays["latents"])).mean())
    assert filled[1] < filled[0] - 0.1


def test_pictures_keep_their_class() -> None:
    model = world(labels=("dim", "bright"))
    data = dataset(model, model.sample(4, seed=7, label=[0, 1, 0, 1]), [0, 1, 0, 1])
    truth = shuffle(data, model.latents(4, seed=7))
    finding = complete(model, data=data, held_out=data, pictures="0:4", starts=1, steps=300)
    assert np.allclose(finding.arrays["latents"], truth.numpy(), atol=0.2)


def test_invalid_input_is_refused(tmp_path: Path) -> None:
    model = world()
    data = dataset(model, model.sample(3))
    Image.new("L", (20, 10)).save(tmp_path / "small.png")
    Image.new("L", (SIDE, SIDE), 255).save(tmp_path / "white.png")
    (tmp_path / "text.png").write_text("no picture")
    cases: list[tuple[str, dict[str, Any]]] = [
        ("mask='?center'?: .*did you mean centre", {"mask": "center"}),
        ("small.png.: 20x10 pixels", {"mask": tmp_path / "small.png"}),
        ("some pixels must be known", {"mask": tmp_path / "white.png"}),
        ("cannot read the image", {"mask": tmp_path / "text.png"}),
        ("does not generate its image from 'label'", {"conditions": {"label": "dim"}}),
        ("there are 3 images, 0 to 2", {"pictures": "3,4"}),
        ("prior='?-1", {"prior": -1}),
        ("starts='?0", {"starts": 0}),
    ]
    for message, options in cases:
        with pytest.raises(LeafwingError, match=message):
            complete(model, data=data, held_out=data, **{"pictures": "0:2", **options})


def test_a_run_completes_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_run(tmp_path)
    words = ["explore", str(run), "complete", "--pictures", "0:3", "--steps", "3", "--mask", "left"]
    assert cli.run([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["figures"]["judged"]
    assert len(document["words"]) == 1  # these images were held out
    assert {Path(file).name for file in document["written"]} == {"completion.png", "latents.npy", "figures.json"}

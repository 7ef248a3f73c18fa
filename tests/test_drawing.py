"""Samples as pictures to look at: tensors, grids and films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import leafwing
from leafwing import fields
from leafwing.drawing import RATE, Film
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import Abilities, Batch, DataSpec, Game, Nets, Output
from leafwing.model import Model
from leafwing.parts.priors import Normal
from leafwing.pictures import to_pixels


def squares(nets: Nets, inputs: Batch, clock: Any) -> Tensor:
    """Images of one colour: that of the latent, or of the class."""
    colours = inputs.label[:, None].float().expand(-1, 3) - 1 if "label" in inputs else inputs.latent.tanh()
    return colours[:, :, None, None].expand(-1, 3, 16, 16)


def model_of(spec: DataSpec, output: Output) -> Model:
    return Model(Game({}, [], Abilities([output])), spec)


PLAIN = DataSpec.images(16, 16)
LABELLED = DataSpec.images(16, 16, labels=("ant", "bee", "cat"))
IMAGES = Output("image", squares, prior=Normal(3))
POINTS = Output("image", lambda nets, inputs, clock: inputs.latent[:, :2], prior=Normal(3))
CLIPS = Output("clip", lambda nets, inputs, clock: torch.zeros(len(inputs.latent), 3, 3, 16, 16), prior=Normal(3))
NUMBERS = Output("image", lambda nets, inputs, clock: inputs.latent[:, :1], prior=Normal(3))


@pytest.fixture
def plain() -> Model:
    return model_of(PLAIN, IMAGES)


# --- tensors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_one_image_is_drawn_pixel_for_pixel(channels: int, mode: str) -> None:
    image = torch.linspace(-1.1, 1.1, channels * 6 * 5).reshape(channels, 6, 5)
    drawn = leafwing.to_image(image)
    assert (drawn.mode, drawn.size) == (mode, (5, 6))
    assert np.array_equal(np.asarray(drawn).reshape(6, 5, channels), to_pixels(image[None])[0])
    assert leafwing.to_image(image.numpy()).tobytes() == drawn.tobytes()


def test_several_images_are_one_grid_and_small_ones_are_enlarged() -> None:
    drawn = leafwing.to_image(torch.ones(4, 3, 16, 16))
    assert all(2 * 128 <= side <= 2 * 128 + 30 for side in drawn.size)
    assert np.asarray(drawn.convert("L").crop((20, 20, 100, 100))).min() == 255
    assert all(side >= 200 for side in leafwing.to_image(torch.ones(1, 3, 200, 200)).size)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(16, 16), r"not a tensor of shape \(16, 16\)"),
        (torch.zeros(5, 16, 16), r"of 1 to 4 channels.*\(5, 16, 16\)"),
        (torch.zeros(0, 3, 16, 16), r"\(0, 3, 16, 16\)"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), r"floating-point values in \[-1, 1\], not torch.uint8"),
    ],
)
def test_other_tensors_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        leafwing.to_image(images)


# --- grids ----------------------------------------------------------------------------------------------------------------


def test_a_grid_shows_the_samples_of_the_seed(plain: Model) -> None:
    grid, samples = plain.grid(6, seed=3, columns=3), plain.sample(6, seed=3)
    assert 3 * 128 <= grid.width <= 3 * 128 + 40
    assert 2 * 128 <= grid.height <= 2 * 128 + 30
    cell_width, cell_height = grid.width / 3, grid.height / 2
    for i, colour in enumerate(to_pixels(samples)[:, 0, 0]):
        place = (round((i % 3 + 0.5) * cell_width), round((i // 3 + 0.5) * cell_height))
        assert grid.getpixel(place) == tuple(colour.tolist())


def test_a_grid_takes_the_conditions_of_sample() -> None:
    model = model_of(LABELLED, Output("image", squares, ("label",), prior=Normal(3)))
    assert model.grid(4, label="cat").tobytes() != model.grid(4, label="ant").tobytes()
    assert model.grid(4).height > model.grid(4, label="ant").height, "the classes are written below"
    with pytest.raises(LeafwingError, match="no class 'dog'"):
        model.grid(4, label="dog")


def test_points_are_plotted_and_clips_are_strips() -> None:
    assert model_of(DataSpec.vectors(2), POINTS).grid(100).size == (512, 512)
    clips = model_of(DataSpec({"image": fields.Image(16, 16), "clip": fields.Clip(3, 16, 16)}), CLIPS).grid(2)
    assert clips.width > clips.height


def test_what_cannot_be_drawn_is_refused(plain: Model) -> None:
    with pytest.raises(LeafwingError, match="a vector cannot be drawn"):
        model_of(DataSpec.vectors(1), NUMBERS).grid(4)
    with pytest.raises(LeafwingError, match="columns=0: must be a whole number of at least 1"):
        plain.grid(4, columns=0)


# --- films ----------------------------------------------------------------------------------------------------------------


def test_a_film_visits_the_samples_and_comes_back(plain: Model) -> None:
    film, samples = plain.film(3, seed=5, seconds=1.2), to_pixels(plain.sample(3, seed=5))
    steps = round(1.2 * RATE / 3)
    assert len(film.frames) == 3 * steps
    assert film.step * len(film.frames) == pytest.approx(1200, rel=0.02)
    colours = np.array([frame.getpixel((9, 9)) for frame in film.frames], int)
    for i in range(3):
        assert colours[i * steps] == pytest.approx(samples[i, 0, 0].astype(int), abs=1)
    assert {frame.size for frame in film.frames} == {(256, 256)}
    jumps = np.abs(np.diff([*colours, colours[0]], axis=0)).max(axis=1)
    ends = np.abs(colours[::steps] - colours[[steps, 2 * steps, 0]]).max()
    assert jumps.max() < 0.6 * ends, "the last frame leads back to the first"


def test_noise_inside_networks_does_not_flicker_in_a_film() -> None:
    def noisy(nets: Nets, inputs: Batch, clock: Any) -> Tensor:
        return torch.rand(len(inputs.latent), 3, 16, 16) - 0.5

    film = model_of(PLAIN, Output("image", noisy, prior=Normal(3))).film(2, seconds=0.4)
    assert len({frame.tobytes() for frame in film.frames}) == 1


def test_all_frames_of_a_film_have_the_conditions_of_its_first_sample() -> None:
    model = model_of(LABELLED, Output("image", squares, ("label",), prior=Normal(3)))
    for conditions, colour in (({}, 0), ({"label": "cat"}, 255)):
        film = model.film(2, seconds=0.2, **conditions)
        assert {frame.getpixel((0, 0)) for frame in film.frames} == {(colour,) * 3}
        name = conditions.get("label", LABELLED.labels[0])
        assert repr(film).endswith(f", all of {name})")
        assert film._repr_html_().endswith(f"<p>all of {name}</p>")


@pytest.mark.parametrize("name", ["walk.webp", "walk.gif"])
def test_a_film_is_saved_and_shows_itself(plain: Model, tmp_path: Path, name: str) -> None:
    film = plain.film(2, seconds=0.4)
    assert film.save(str(tmp_path / name)) == tmp_path / name
    with Image.open(tmp_path / name) as read:
        assert getattr(read, "n_frames", 1) == 10
    assert repr(film) == "Film(10 frames of 256x256, 0.4 s)"
    assert film._repr_html_().startswith('<img style="max-width: 100%" src="data:image/webp;base64,')


def test_a_film_makes_its_folder_and_none_for_a_type_that_it_has_not(tmp_path: Path) -> None:
    film = Film([Image.new("RGB", (32, 32))] * 2, 40)
    with pytest.raises(LeafwingError, match="unsupported file type"):
        film.save(tmp_path / "new" / "f.avi")
    assert list(tmp_path.iterdir()) == []
    assert film.save(tmp_path / "new" / "f.webp").is_file()
    with pytest.raises(StorageError, match="cannot write"):
        film.save(tmp_path / "new" / "f.webp" / "g.webp")


def test_a_film_of_another_size_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    Film([Image.new("RGB", (33, 32))] * 2, 40).save(tmp_path / "odd.mp4")
    assert "34x32 pixels, padded" in capfd.readouterr().err
    Film([Image.new("RGB", (33, 32))] * 2, 40).save(tmp_path / "odd.mp4", progress=False)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("spec", "output", "options", "message"),
    [
        (PLAIN, IMAGES, {"n": 1}, "n=1: must be a whole number of at least 2"),
        (PLAIN, IMAGES, {"seconds": 0}, "seconds=0"),
        (DataSpec.vectors(2), POINTS, {}, "a film shows images, and these samples are a vector"),
        (DataSpec({"image": fields.Image(16, 16), "clip": fields.Clip(3, 16, 16)}), CLIPS, {}, "these samples are a clip"),
    ],
)
def test_impossible_films_are_refused(spec: DataSpec, output: Output, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        model_of(spec, output).film(**options)

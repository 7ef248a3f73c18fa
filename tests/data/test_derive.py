"""Derived inputs: pure functions of the pixels, with the values that their descriptions promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_helpers import picture, write
from PIL import Image as PillowImage

from leafwing.data import load, load_pack
from leafwing.data.derive import DERIVED, derived_fields
from leafwing.data.pack import pixel_shape
from leafwing.errors import LeafwingError
from leafwing.fields import Image, Mask

LOW4 = [40, 42, 42, 52, 54, 54, 136, 138, 138, 148, 150, 150, 168, 170, 170, 148, 134, 134, 72, 74, 74, 84, 86, 86]
"""The pixels of `low4` for a picture of ascending bytes, as the first version computed them."""


def images(channels: int, height: int = 24, width: int = 32, n: int = 3) -> np.ndarray:
    return np.stack([picture(seed, height, width, channels).reshape(height, width, channels) for seed in range(n)])


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_function_yields_the_declared_fields_image_by_image(name: str, channels: int) -> None:
    if name == "grey" and channels < 3:
        pytest.skip("grey images are refused")
    pixels = images(channels)
    before, columns = pixels.copy(), DERIVED[name](pixels)
    fields = derived_fields(name, Image(24, 32, channels))
    assert columns.keys() == fields.keys()
    for key, column in columns.items():
        assert column.dtype == np.uint8
        assert column.shape == (3, *pixel_shape(fields[key]))
        assert all(np.array_equal(DERIVED[name](pixels[i : i + 1])[key][0], column[i]) for i in range(3))
    assert np.array_equal(pixels, before)
    assert not np.array_equal(columns["input"][0], columns["input"][1])


def test_grey_is_the_luminance() -> None:
    pixels = images(3)
    expected = np.stack([np.asarray(PillowImage.fromarray(image).convert("L")) for image in pixels])[..., None]
    assert np.abs(DERIVED["grey"](pixels)["input"].astype(int) - expected).max() <= 1
    invisible = np.concatenate([pixels, np.zeros((3, 24, 32, 1), np.uint8)], 3)
    assert (DERIVED["grey"](invisible)["input"] == 255).all()


def test_edges_of_a_step_are_white_and_of_a_flat_image_black() -> None:
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    assert not DERIVED["edges"](pixels)["input"].any()
    pixels[:, :, 4:] = 255
    line = DERIVED["edges"](pixels)["input"][0, 3, :, 0]
    assert line.tolist() == [0, 0, 0, 255, 255, 0, 0, 0]


def test_blur_keeps_a_flat_image_and_spreads_a_point_by_a_sixteenth_of_the_side() -> None:
    assert (DERIVED["blur"](np.full((1, 32, 48, 3), 77, np.uint8))["input"] == 77).all()
    pixels = np.zeros((1, 64, 64, 1), np.uint8)
    pixels[0, 24:40, 24:40] = 255
    row = DERIVED["blur"](pixels)["input"][0, 32, :, 0].astype(float)
    expected = np.convolve(pixels[0, 32, :, 0].astype(float), _gaussian(4.0), "same") * row[32] / 243.4
    assert np.abs(row - expected).max() < 8
    clear = np.zeros((1, 32, 32, 4), np.uint8)
    clear[:, :, :16] = (200, 100, 50, 255)
    colours = DERIVED["blur"](clear)["input"][0, 16]
    visible = colours[:, 3] > 32
    assert np.abs(colours[visible, :3].astype(int) - (200, 100, 50)).max() <= 2  # the invisible black does not bleed


def _gaussian(sigma: float) -> np.ndarray:
    x = np.arange(-16, 17)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_low_resolutions_average_blocks(factor: int) -> None:
    pixels = images(3)
    low = DERIVED[f"low{factor}"](pixels)["input"]
    assert low.shape == (3, 24 // factor, 32 // factor, 3)
    block = pixels[1, 2 * factor : 3 * factor, 3 * factor : 4 * factor]
    assert np.array_equal(low[1, 2, 3], block.astype(float).mean((0, 1)).round())


def test_the_pixels_of_low4_are_those_of_earlier_versions() -> None:
    low = DERIVED["low4"](np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3))["input"]
    assert low.ravel().tolist() == LOW4


def test_a_hole_covers_a_quarter_at_a_place_that_depends_on_the_content() -> None:
    pixels = images(3, n=12)
    columns = DERIVED["hole"](pixels)
    mask = columns["hole"]
    assert mask.mean((1, 2, 3)).tolist() == [0.25] * 12
    assert (columns["input"][mask[..., 0] == 1] == 128).all()
    assert np.array_equal(columns["input"][mask[..., 0] == 0], pixels[mask[..., 0] == 0])
    corners = {tuple(np.argwhere(image)[0]) for image in mask}
    assert len(corners) > 6
    shuffled = DERIVED["hole"](pixels[::-1])
    assert np.array_equal(shuffled["hole"][::-1], mask)


@pytest.mark.parametrize("name", DERIVED)
def test_a_folder_with_a_derived_input(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "set", [f"{i}.png" for i in range(5)])
    data = load(source, input=name, size="24x32", mirror=True)
    for key, column in DERIVED[name](data.array).items():
        assert np.array_equal(data.columns[key], column)
        assert data.spec.fields[key] == derived_fields(name, Image(24, 32, 3))[key]
    packed = load_pack(data.fingerprint)
    assert packed
    assert packed.spec == data.spec
    assert load(source, **data.options).fingerprint == data.fingerprint
    assert f"input: {name}, derived from each image" in data.notes


def test_a_hole_is_also_a_mask_for_networks(tmp_path: Path) -> None:
    data = load(write(tmp_path / "set", ["a.png"]), input="hole", size=32)
    assert data.spec.fields["hole"] == Mask(32, 32)
    batch = data.batches(0)(0, 1)
    assert set(batch.hole.unique().tolist()) == {0, 1}
    assert batch.hole.shape == (1, 1, 32, 32)


def test_images_that_do_not_allow_an_input_are_refused_before_anything_is_written(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "set", ["a.png"])
    with pytest.raises(
        LeafwingError, match="input='low4': both sides must be divisible by 4, not 30x33; choose --size 32x32"
    ):
        load(source, input="low4", size="30x33")
    with pytest.raises(LeafwingError, match=r"input='low8': .* divisible by 8, not 32x36; choose --size 32x32"):
        load(source, input="low8", size="32x36")
    with pytest.raises(LeafwingError, match="input='grey': the images have no colours"):
        load(source, input="grey", channels=1)
    assert not any(cache.iterdir())

"""The geometry and the resampling of crops."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageDraw

from leafwing.data import align
from leafwing.data.pictures import UnusableImageError

PLACES = (0.3, 0.4, 0.7, 0.4)


def dots(size: tuple[int, int], points: list[tuple[float, float]], radius: float, mode: str = "RGB") -> Image.Image:
    """A grey picture with a smooth dot at each point: red, green, blue, ...; white if the picture is grey."""
    rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
    pixels = np.full((size[1], size[0], 3), 40.0)
    for channel, (x, y) in enumerate(points):
        weight = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
        pixels[..., channel % 3] += 200 * weight
    return Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8)).convert(mode)


def centre(image: Image.Image, channel: int) -> np.ndarray:
    """The centre of mass of what is brighter than the background."""
    weight = np.asarray(image).astype(float)[..., channel] - 40
    weight[weight < 60] = 0
    rows, columns = np.mgrid[: image.height, : image.width] + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("size", [32, 64, 200])
@pytest.mark.parametrize("angle", [0, 17, -50, 90, 175])
@pytest.mark.parametrize("distance", [40, 150, 600])
def test_two_points_get_their_places(size: int, angle: float, distance: float) -> None:
    side = 4 * distance
    middle = np.array([side / 2 + 3.3, side / 2 - 2.6])
    half = distance / 2 * np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    points = [tuple(middle - half), tuple(middle + half)]
    image = dots((side, side), points, distance / 20)
    crop = align.by_points(*points, PLACES, size)
    result = align.warp(image, crop)
    assert result.size == (size, size)
    assert crop.side == pytest.approx(distance / 0.4)
    assert crop.angle == pytest.approx(angle)
    for channel, place in enumerate((PLACES[:2], PLACES[2:])):
        assert np.abs(centre(result, channel) - np.multiply(place, size)).max() < 0.25
    assert np.abs(crop.place(np.array(points)) - np.multiply([PLACES[:2], PLACES[2:]], size)).max() < 1e-6


def test_places_may_be_anywhere_also_one_above_the_other() -> None:
    crop = align.by_points((10, 20), (60, 20), (0.5, 0.2, 0.5, 0.8), 100)
    np.testing.assert_allclose(crop.place(np.array([[10, 20], [60, 20]])), [[50, 20], [50, 80]], atol=1e-9)
    np.testing.assert_allclose(crop.locate(crop.place(np.array([[3.0, 4.0]]))), [[3, 4]], atol=1e-9)


def test_shrinking_does_not_alias() -> None:
    """Stripes of one pixel become their mean; they would become wide stripes if pixels were left out."""
    stripes = np.zeros((700, 700), np.uint8)
    stripes[:, ::2] = 255
    for scale, angle in ((2.6, 0), (7.3, 10), (13, 0)):
        step = scale * complex(math.cos(math.radians(angle)), math.sin(math.radians(angle)))
        result = np.asarray(align.warp(Image.fromarray(stripes), align.Crop(complex(200, 50), step, int(300 / scale))))
        assert np.abs(result.astype(float) - 127.5).max() < 6


def test_a_crop_of_whole_pixels_is_the_part_of_the_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    result = np.asarray(align.warp(Image.fromarray(pixels), align.Crop(complex(10, 5), 1 + 0j, 40)))
    np.testing.assert_array_equal(result, pixels[5:45, 10:50])
    whole = np.asarray(align.warp(Image.fromarray(pixels[:, :60]), align.Crop(0j, 1 + 0j, 60)))
    np.testing.assert_array_equal(whole, pixels[:, :60])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
def test_modes(mode: str) -> None:
    image = Image.new("I;16", (50, 40), 30_000) if mode == "I;16" else Image.new("RGB", (50, 40), "white").convert(mode)
    result = align.warp(align.plain(image), align.by_points((20, 20), (30, 22), PLACES, 16))
    expected = {"P": "RGB", "1": "L", "CMYK": "RGB"}.get(mode, mode)
    assert result.mode == expected
    assert (np.asarray(result) == np.asarray(result)[0, 0]).all()
    if mode == "I;16":
        assert np.asarray(result)[0, 0] == 30_000


def test_values_that_are_neither_8_nor_16_bits() -> None:
    with pytest.raises(UnusableImageError, match="neither 8 nor 16 bits"):
        align.plain(Image.new("F", (8, 8), 0.5))


def test_over_the_edge() -> None:
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1))
    image, crop = Image.fromarray(ramp), align.Crop(complex(-10, 0), 1 + 0j, 50)
    assert align.share_outside(crop, 100, 100) == pytest.approx(0.2, abs=0.02)
    assert align.share_outside(align.Crop(0j, 1 + 0j, 100), 100, 100) == 0
    np.testing.assert_array_equal(np.asarray(align.warp(image, crop, "reflect"))[0, :11], np.arange(20, -1, -2))
    np.testing.assert_array_equal(np.asarray(align.warp(image, crop, "edge"))[0, :11], np.zeros(11))


def test_boxes() -> None:
    crop = align.by_box((10, 20, 30, 20), 200, 100, 1.2, 64)
    assert (crop.corner, crop.side) == (complex(7, 12), pytest.approx(36))
    moved = align.by_box((0, 0, 30, 20), 200, 100, 1.5, 64)
    assert moved.corner == 0
    too_high = align.by_box((20, 0, 150, 100), 200, 100, 1, 64)
    assert (too_high.corner, too_high.side) == (complex(20, -25), 150)
    assert align.clip_box((-5, 10, 20, 20), 100, 100) == (0, 10, 15, 20)
    for box in [(-15, 10, 20, 20), (300, 10, 20, 20), (0, 0, 1e300, 10), (-1e300, 0, 1, 1)]:
        with pytest.raises(UnusableImageError, match="less than half of its box"):
            align.clip_box(box, 100, 100)


def test_turn_and_side() -> None:
    assert align.turn((0, 0), (10, 0), (5, 8)) == 0
    assert align.turn((0, 0), (10, 0), (8, 8)) == pytest.approx(0.3)
    assert align.turn((0, 0), (0, 10), (-8, 8)) == pytest.approx(0.3)
    assert align.side_of((0, 0), (10, 0), (5, 8)) == pytest.approx(0.8)
    assert align.side_of((10, 0), (0, 0), (5, 8)) == pytest.approx(-0.8)


def test_sharpness() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    soft = image.resize((16, 16)).resize((64, 64))
    assert align.sharpness(image) > 20 * align.sharpness(soft)
    deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    assert align.sharpness(deep) == pytest.approx(align.sharpness(image))


def face(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """A picture with two rings and a cross at random places, in random colours, and these places."""
    colours = rng.integers(0, 256, (2, 3))
    noise = rng.integers(0, 256, (12, 12, 3), np.uint8)
    image = Image.fromarray(noise).resize((240, 240), Image.Resampling.BICUBIC)
    image = Image.blend(image, Image.new("RGB", image.size, tuple(colours[0].tolist())), 0.6)
    pen = ImageDraw.Draw(image)
    x, y = rng.uniform(60, 110, 2)
    points = np.array([[x, y], [x + 60, y + rng.uniform(-15, 15)], [x + 30, y + 50]])
    for left, top in points[:2]:
        pen.ellipse((left - 12, top - 12, left + 12, top + 12), outline="black", width=4)
    (left, top) = points[2]
    pen.line((left - 10, top, left + 10, top), fill="white", width=4)
    pen.line((left, top - 10, left, top + 10), fill="white", width=4)
    return image, points


def test_points_on_other_things_are_unlike_the_others() -> None:
    rng = np.random.default_rng(0)
    patches, wrong = [], (3, 11)
    for index in range(20):
        image, points = face(rng)
        if index in wrong:
            points = points * 0.5
        patches.append(align.surroundings(image, points, tuple(points[0]), tuple(points[1])))
    values = align.resemblance(patches)
    right = np.delete(values, wrong)
    assert right.min() > 0.2 > 0.1 > values[[*wrong]].max()


def test_points_that_are_missing_do_not_count() -> None:
    rng = np.random.default_rng(0)
    patches = []
    for index in range(12):
        image, points = face(rng)
        two = (tuple(points[0]), tuple(points[1]))
        if index == 5:
            points[2] = np.nan
        patches.append(align.surroundings(image, points, *two))
    assert not patches[5][2].any()
    assert align.resemblance(patches)[5] > 0.2


def test_resemblance_needs_no_copy_of_all_patches() -> None:
    patches = list(np.random.default_rng(0).normal(size=(400, 40, 169)).astype(np.float16))
    tracemalloc.start()
    try:
        align.resemblance(patches)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < sum(patch.nbytes for patch in patches) / 10

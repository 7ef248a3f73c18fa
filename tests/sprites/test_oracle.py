"""The oracle: exact on clean images, robust to mild noise and blur, not confident without exactly one sprite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from leafwing.errors import LeafwingError
from leafwing.sprites import agreement, draw, pictures, read, scenes
from leafwing.sprites.oracle import MIN_CONFIDENCE, TOLERANCE
from leafwing.sprites.words import WORDS

N = 300


def noisy(images: np.ndarray, sd: float) -> np.ndarray:
    """Adds Gaussian noise with a standard deviation in units of [-1, 1], and rounds."""
    random = np.random.Generator(np.random.Philox(1))
    return np.rint((images + 127.5 * sd * random.standard_normal(images.shape)).clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize(("size", "n"), [(16, N), (23, 60), (32, N), (48, 60), (64, N), (97, 12), (128, 60)])
def test_clean_pictures_are_read_exactly(size: int, n: int) -> None:
    images, expected = pictures(n, size, seed=11)
    reading = read(images)
    assert agreement(reading, expected) == dict.fromkeys((*WORDS, "caption", "sure"), 1.0)
    assert reading.confidence.min() > 0.98
    for name in ("x", "y", "radius"):
        assert np.abs(getattr(reading.scenes, name) - getattr(expected, name)).max() < 0.002, name
    angle_error = np.abs(reading.scenes.angle - expected.angle)
    assert np.median(angle_error) < 0.2
    assert angle_error.max() < 4
    assert np.abs(reading.box - expected.box(size)).max() < 0.25
    assert agreement(reading, expected.captions) == agreement(reading, expected)


@pytest.mark.parametrize(
    ("size", "sd", "min_correct", "min_sure"),
    [(16, 0.1, 0.99, 0.9), (16, 0.2, 0.95, 0.4), (32, 0.2, 0.99, 0.9), (64, 0.3, 0.99, 0.97)],
)
def test_noise_is_read_through(size: int, sd: float, min_correct: float, min_sure: float) -> None:
    images, expected = pictures(N, size, seed=12)
    reading = read(noisy(images, sd))
    correct = np.all([getattr(reading.scenes, part) == getattr(expected, part) for part in WORDS], axis=0)
    assert correct.mean() >= min_correct
    assert reading.sure.mean() >= min_sure


def test_the_colour_is_that_of_the_whole_sprite() -> None:
    # Single pixels alone give 0.94.
    images, expected = pictures(600, 16, seed=3)
    assert (read(noisy(images, 0.4)).scenes.colour == expected.colour).mean() > 0.95


def test_a_mild_blur_is_read_through() -> None:
    images, expected = pictures(N, 32, seed=13)
    soft = images.astype(np.float32)
    for axis in (1, 2):  # 1/4, 1/2, 1/4 twice: a Gaussian of one pixel
        for _ in range(2):
            soft = soft / 2 + (np.roll(soft, 1, axis) + np.roll(soft, -1, axis)) / 4
    assert agreement(read(np.rint(soft).astype(np.uint8)), expected)["caption"] >= 0.98


def test_all_types_of_array_are_read_alike() -> None:
    images, _ = pictures(20, 32, seed=14)
    floats = images.astype(np.float32) / 127.5 - 1
    planes = torch.from_numpy(floats).permute(0, 3, 1, 2)
    reference = read(images)
    for other in (floats, floats.astype(np.float64), floats.transpose(0, 3, 1, 2), planes, torch.from_numpy(images)):
        reading = read(other)
        assert np.array_equal(reading.scenes.combination, reference.scenes.combination)
        assert np.allclose(reading.confidence, reference.confidence, atol=1e-4)
    assert np.array_equal(read(planes.bfloat16()).scenes.combination, reference.scenes.combination)
    alone = read(images[7:8])
    assert alone.scenes.combination[0] == reference.scenes.combination[7], "images are independent"
    assert len(read(images[:0])) == 0


def test_images_without_a_sprite_have_no_confidence() -> None:
    random = np.random.Generator(np.random.Philox(2))
    static = random.integers(0, 256, (60, 32, 32, 3), np.uint8)
    blank = np.repeat(np.repeat(random.integers(0, 256, (60, 1, 1, 3), np.uint8), 32, 1), 32, 2)
    slope = np.repeat(np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None, None], 32, 2), 3, 3)
    chequers = ((np.indices((32, 32)).sum(axis=0) // 4 % 2) * 200).astype(np.uint8)[None, :, :, None].repeat(3, 3)
    for nothing, most in ((static, 0.1), (blank, 0.1), (noisy(blank, 0.1), 0.1), (slope, 0.5), (chequers, 0.5)):
        reading = read(nothing)
        assert reading.confidence.max() < most
        assert not reading.sure.any()


def test_two_sprites_have_little_confidence() -> None:
    one, expected = pictures(60, 32, seed=15)
    ground = one[:, :1, :1]
    other = np.roll(one, (16, 16), axis=(1, 2))
    both = np.where((one != ground).any(axis=3, keepdims=True), one, other)
    assert read(both).confidence.max() < MIN_CONFIDENCE
    assert agreement(read(both), expected)["caption"] == 0


def test_images_with_nan_or_infinity_have_no_confidence() -> None:
    images, _ = pictures(3, 32, seed=16)
    floats = images.astype(np.float32) / 127.5 - 1
    floats[1, 4, 5, 0] = np.nan
    floats[2, 30, 30, 1] = -np.inf
    assert read(floats).sure.tolist() == [True, False, False]
    assert (read(floats).confidence[1:] == 0).all()


def test_colours_may_be_a_little_off() -> None:
    images, expected = pictures(N, 32, seed=17)
    off = (images.astype(int) + np.array([15, -12, 10])).clip(0, 255).astype(np.uint8)
    result = agreement(read(off), expected)
    assert result["caption"] > 0.99
    assert TOLERANCE > 15
    # A sprite on an unknown background is not explained.
    pink = np.where((images == images[:, :1, :1]).all(axis=3, keepdims=True), np.uint8([255, 120, 190]), images).astype(
        np.uint8
    )
    assert read(pink).sure.mean() < 0.05


def test_agreement_counts_specified_words() -> None:
    images, expected = pictures(100, 32, seed=18)
    reading = read(images)
    wrong = replace(expected, colour=np.where(np.arange(100) < 30, (expected.colour + 1) % 6, expected.colour))
    result = agreement(reading, wrong)
    assert result["colour"] == result["caption"] == pytest.approx(0.7)
    assert result["shape"] == result["sure"] == 1
    stars = agreement(reading, ["a star"] * 100)
    assert set(stars) == {"shape", "caption", "sure"}
    assert stars["shape"] == stars["caption"] == pytest.approx((expected.shape == 3).mean())
    # Half of the captions name a colour: `colour` is a share of that half, `caption` of all.
    mixed = agreement(reading, [f"a {expected[i].colour} circle" if i % 2 else f"a {expected[i].shape}" for i in range(100)])
    assert mixed["colour"] == 1
    circles = (expected.shape == 0) | (np.arange(100) % 2 == 0)
    assert mixed["caption"] == pytest.approx(circles.mean())
    nothing = agreement(read(np.full((4, 32, 32, 3), 125, np.uint8)), ["a grey picture"] * 4)
    assert nothing == {"background": 0, "caption": 0, "sure": 0}


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((2, 32, 32), np.uint8, r"\(n, size, size, 3\), not"),
        ((2, 32, 32, 1), np.uint8, r"\(n, size, size, 3\), not"),
        ((2, 32, 16, 3), np.uint8, r"\(n, size, size, 3\), not"),
        ((2, 8, 8, 3), np.uint8, "--size 8: .*16 to 128"),
        ((2, 32, 32, 3), np.int64, "uint8, or floats in \\[-1, 1\\], not int64"),
    ],
)
def test_other_shapes_and_types_are_refused(shape: tuple[int, ...], kind: type, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        read(np.zeros(shape, kind))


def test_agreement_needs_one_scene_per_image() -> None:
    reading = read(pictures(3, 16)[0])
    with pytest.raises(LeafwingError, match=r"^3 .* 2 "):
        agreement(reading, scenes(2))
    with pytest.raises(LeafwingError, match="circle, square"):
        agreement(reading, ["a dog"] * 3)
    with pytest.raises(LeafwingError, match=r"^0 .* 0 "):
        agreement(read(draw.draw(scenes(0), 16)), scenes(0))

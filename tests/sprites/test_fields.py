"""Fields by name: their samples are as documented, fit their kinds, and are mirrored with the image."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from leafwing.errors import LeafwingError
from leafwing.fields import Keypoints
from leafwing.sprites import FIELDS, Scenes, agreement, draw, emit, parse, pictures, read, scenes
from leafwing.sprites.scene import place_of
from leafwing.sprites.words import ATTRIBUTES, CAPTION_LENGTH, TEMPLATES, VOCABULARY


@pytest.mark.parametrize("size", [16, 32])
def test_every_field_has_the_documented_type_and_shape(size: int) -> None:
    sample = scenes(7, seed=1)
    fields = emit(sample, size, FIELDS)
    assert list(fields) == list(FIELDS)
    for name, array in fields.items():
        dtype, dimensions = re.findall(r"(uint8|int64|float32) \((.*?)\)", FIELDS[name].about)[-1]
        assert array.dtype == dtype, name
        sizes = {"n": 7, "size": size, "size / 4": size // 4}
        expected = tuple(sizes.get(word) or int(word) for word in re.findall(r"[^,]+", dimensions.replace(", ", ",")))
        assert array.shape == expected, name


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_the_shape_and_range_that_networks_expect(name: str, size: int) -> None:
    kind = FIELDS[name].kind(size)
    values = kind.to_network(torch.from_numpy(emit(scenes(60, seed=1), size, name)[name]))
    assert values.shape == (60, *kind.shape)
    if kind.has_pixels:
        pixels = kind.kind in ("image", "clip")
        assert values.min() >= (-1 if pixels else 0)
        assert values.max() <= 1
        assert len(values.unique()) > 2 if pixels else set(values.unique().tolist()) == {0, 1}
    if name == "segmentation":
        assert (values.sum(1) == 1).all()
        assert (values[:, 0] == 0).any(dim=(1, 2)).all(), "a sprite in each"


def mirrored(sample: Scenes) -> Scenes:
    """Scenes whose sprites are flipped left to right."""
    return replace(sample, x=1 - sample.x, angle=-sample.angle, place=place_of(1 - sample.x, sample.y))


@pytest.mark.parametrize("name", FIELDS)
def test_mirrored_fields_are_those_of_the_mirrored_scene(name: str) -> None:
    sample = scenes(200, seed=3)
    kind = FIELDS[name].kind(32)
    flipped = kind.mirror(torch.from_numpy(emit(sample, 32, name)[name])).numpy()
    expected = emit(mirrored(sample), 32, name)[name]
    assert (flipped.shape, flipped.dtype) == (expected.shape, expected.dtype)
    if name == "hole":  # a random box around the sprite
        assert not draw.coverage(mirrored(sample), 32)[flipped[..., 0] == 0].any()
    elif name == "attributes":  # they are independent of the image; data sets omit left and right
        sides = [ATTRIBUTES.index("left"), ATTRIBUTES.index("right")]
        assert np.array_equal(np.delete(flipped, sides, 1), np.delete(expected, sides, 1))
    elif name == "segmentation":
        clear = np.abs(draw.coverage(mirrored(sample), 32) - 0.5) > 1e-3
        assert np.array_equal(flipped[clear], expected[clear])
    elif kind.has_pixels:
        assert np.abs(flipped.astype(int) - expected).max() <= 1, "equal but for rounding"
    elif isinstance(kind, Keypoints) or name == "box":
        assert np.allclose(flipped, expected, atol=1e-6)
    else:
        assert np.array_equal(flipped, expected)


def test_the_oracle_reads_mirrored_captions_from_mirrored_images() -> None:
    sample = scenes(100, seed=4)
    images, captions = (emit(sample, 32, name)[name] for name in ("image", "caption"))
    kind = FIELDS["caption"].kind(32)
    texts = kind.to_plain(kind.mirror(torch.from_numpy(captions)).numpy())
    reading = read(FIELDS["image"].kind(32).mirror(torch.from_numpy(images)))
    assert agreement(reading, texts)["caption"] == 1
    assert agreement(reading, kind.to_plain(captions))["place"] < 0.5, "left is not right"


def test_captions_consist_of_the_vocabulary() -> None:
    assert VOCABULARY[: len(ATTRIBUTES)] == ATTRIBUTES
    assert len({*VOCABULARY}) == len(VOCABULARY) == 34
    sample = scenes(300, seed=5)
    tokens, kind = emit(sample, 16, "caption")["caption"], FIELDS["caption"].kind(16)
    assert {*sample.template} == {*range(len(TEMPLATES))}
    assert kind.to_plain(tokens) == [text.replace(",", "") for text in sample.captions]
    assert (tokens > 0).sum(1).max() == CAPTION_LENGTH == 14
    assert parse(kind.to_plain(tokens)[0]) == parse(str(sample.captions[0]))


def test_fields_belong_to_the_same_scenes() -> None:
    sample = scenes(20, seed=2)
    fields = emit(sample, 32, ["image", "label", "segmentation", "clip", "box"])
    assert np.array_equal(fields["image"], draw.draw(sample, 32))
    assert np.array_equal(fields["segmentation"].max(axis=(1, 2)), fields["label"] + 1)
    assert np.array_equal(fields["clip"][:, 0], fields["image"])
    assert np.allclose(fields["box"] * 32, sample.box(32))
    assert list(emit(sample, 32, "box")) == ["box"]
    assert list(emit(sample, 32)) == ["image", "label"]


def test_no_scenes_give_empty_fields() -> None:
    for name, array in emit(scenes(0), 16, FIELDS).items():
        assert len(array) == 0, name


def test_pictures_come_with_their_scenes() -> None:
    images, sample = pictures(10, 48, seed=3)
    assert (images.shape, images.dtype, len(sample)) == ((10, 48, 48, 3), np.uint8, 10)
    assert np.array_equal(images, draw.draw(scenes(10, seed=3), 48))


@pytest.mark.parametrize(
    ("size", "names", "message"),
    [
        (16, ["image", "mask"], "no field 'mask'; [Aa]vailable: image, label"),
        (16, ["keypoint"], "did you mean keypoints"),
        (8, ["label"], "--size 8: .*16 to 128"),
        (18, ["low"], "multiple of 4"),
    ],
)
def test_unknown_fields_and_sizes_are_refused(size: int, names: list[str], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        emit(scenes(2), size, names)


def test_pictures_of_unsupported_sizes_are_refused_before_any_work() -> None:
    with pytest.raises(LeafwingError, match="--size 256"):
        pictures(10**12, 256)

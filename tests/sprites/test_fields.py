"""Fields by name: types and shapes are as documented."""

from __future__ import annotations

import re

import numpy as np
import pytest

from leafwing.errors import LeafwingError
from leafwing.sprites import FIELDS, draw, emit, pictures, scenes


@pytest.mark.parametrize("size", [16, 32])
def test_every_field_has_the_documented_type_and_shape(size: int) -> None:
    sample = scenes(7, seed=1)
    fields = emit(sample, size, FIELDS)
    assert list(fields) == list(FIELDS)
    for name, array in fields.items():
        kind, dimensions = re.findall(r"(uint8|int64|float32|str) \((.*?)\)", FIELDS[name].about)[-1]
        assert array.dtype.kind == "U" if kind == "str" else array.dtype == kind, name
        sizes = {"n": 7, "size": size, "size / 4": size // 4}
        expected = tuple(sizes.get(word) or int(word) for word in re.findall(r"[^,]+", dimensions.replace(", ", ",")))
        assert array.shape == expected, name


def test_fields_belong_to_the_same_scenes() -> None:
    sample = scenes(20, seed=2)
    fields = emit(sample, 32, ["image", "label", "segmentation", "clip", "caption"])
    assert np.array_equal(fields["image"], draw.draw(sample, 32))
    assert np.array_equal(fields["segmentation"].max(axis=(1, 2)), fields["label"] + 1)
    assert np.array_equal(fields["clip"][:, 0], fields["image"])
    assert [sample[i].shape in caption for i, caption in enumerate(fields["caption"])] == [True] * 20
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

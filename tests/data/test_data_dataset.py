"""The stream of batches, and the built-in data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leafwing import sprites
from leafwing.data import BUILT_IN, Dataset, built_in, load, load_pack
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec


def numbered(n: int, mirror: bool = False) -> Dataset:
    """n images of 2x3; the left column of image i is i, the right column 255."""
    array = np.zeros((n, 2, 3, 1), np.uint8)
    array[:, :, 0, 0] = np.arange(n)[:, None]
    array[:, :, 2] = 255
    spec = DataSpec.images(2, 3, 1, labels=("a", "b"))
    return Dataset(spec, {"image": array, "label": np.arange(n) % 2}, "x", "x", {"mirror": mirror})


def samples(data: Dataset, seed: int, images: int, n: int) -> list[tuple[int, ...]]:
    batch = data.batch(seed, images, n)
    return [(*map(int, image.flatten()), int(label)) for image, label in zip(batch.image, batch.label, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30), st.integers(0, 2**40), st.integers(0, 200), st.lists(st.integers(0, 40), max_size=5), st.booleans()
)
def test_batches_of_any_size_are_slices_of_one_stream(n: int, seed: int, images: int, cuts: list[int], mirror: bool) -> None:
    data = numbered(n, mirror)
    whole = samples(data, seed, images, sum(cuts))
    parts: list[tuple[int, ...]] = []
    for cut in cuts:
        parts += samples(data, seed, images + len(parts), cut)
    assert parts == whole == samples(numbered(n, mirror), seed, images, sum(cuts))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000), st.integers(0, 5))
def test_an_epoch_shows_each_sample_once(n: int, seed: int, epoch: int) -> None:
    numbers = [sample[0] for sample in samples(numbered(n), seed, epoch * n, n)]
    assert sorted(numbers) == list(range(n))


def test_epochs_and_seeds_differ_and_labels_follow() -> None:
    data = numbered(40)
    first, second, other = samples(data, 0, 0, 40), samples(data, 0, 40, 40), samples(data, 1, 0, 40)
    assert len({tuple(first), tuple(second), tuple(other)}) == 3
    assert all(sample[-1] == sample[0] % 2 for sample in first)


def test_half_of_the_positions_are_mirrored_differently_in_each_epoch() -> None:
    data = numbered(200, mirror=True)
    plain = numbered(200)
    flipped = []
    for epoch in range(2):
        rows, straight = samples(data, 3, epoch * 200, 200), samples(plain, 3, epoch * 200, 200)
        for row, original in zip(rows, straight, strict=True):
            assert row[:3] in (original[:3], original[2::-1])
        flipped.append([row != original for row, original in zip(rows, straight, strict=True)])
        assert 60 < sum(flipped[-1]) < 140
    assert flipped[0] != flipped[1]


def test_types_and_shapes_of_a_batch() -> None:
    batch = numbered(5).batch(0, 0, 12)
    assert batch.image.dtype == torch.uint8
    assert batch.image.shape == (12, 2, 3, 1)
    seen = numbered(5).batches(0)(0, 12)
    assert seen.image.dtype == torch.float32
    assert seen.image.shape == (12, 1, 2, 3)
    assert seen.image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(seen.image[:, 0], batch.image[..., 0] / 127.5 - 1)
    assert batch.label.dtype == torch.int64
    batch.image.zero_()  # a copy: the data set does not change
    assert numbered(5).array[:, 0, 2].min() == 255
    assert numbered(5).batch(0, 3, 0).image.shape == (0, 2, 3, 1)
    for wrong in ((-1, 0, 1), (0, -1, 1), (0, 0, -1)):
        with pytest.raises(ValueError, match="negative"):
            numbered(5).batch(*wrong)


def test_the_order_never_changes() -> None:
    """Old runs must see the same stream when they are resumed: change this only in a new major version."""
    assert [sample[0] for sample in samples(numbered(8), 0, 0, 10)] == [0, 3, 7, 5, 1, 2, 6, 4, 3, 7]


def test_pictures_by_index() -> None:
    data = numbered(5, mirror=True)
    assert data.pictures([3, 1])[:, 0, 0, 0].tolist() == [3, 1]
    assert data.pictures(np.array([], int)).shape == (0, 2, 3, 1)


def test_a_million_samples() -> None:
    data = Dataset(DataSpec.images(1, 1, 1), {"image": np.zeros((1_000_000, 1, 1, 1), np.uint8)}, "x", "x", {})
    assert data.batch(0, 999_990, 20).image.shape == (20, 1, 1, 1)


def test_ring_has_eight_distinct_modes() -> None:
    centres = built_in.modes("ring")
    assert centres.shape == (8, 2)
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 9 * np.eye(8)
    assert gaps.min() == pytest.approx(2 * np.sin(np.pi / 8))
    assert np.linalg.norm(centres, axis=1) == pytest.approx(np.ones(8))


def test_grid_has_twenty_five_modes() -> None:
    centres = built_in.modes("grid")
    assert centres.shape == (25, 2)
    assert sorted({*centres.ravel().tolist()}) == [-4, -2, 0, 2, 4]
    assert len({tuple(centre) for centre in centres.tolist()}) == 25


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_points_lie_around_their_modes(name: str) -> None:
    data = load(name)
    assert (len(data), data.array.dtype, data.labels) == (100_000, np.float32, None)
    assert data.spec == DataSpec.vectors(2)
    centres = built_in.modes(name)
    offsets = data.array[:, None] - centres[None]
    nearest = np.linalg.norm(offsets, axis=2).argmin(1)
    assert set(np.bincount(nearest, minlength=len(centres))) == {100_000 // len(centres)}
    spread = np.take_along_axis(offsets, nearest[:, None, None], 1)[:, 0]
    assert spread.std(0) == pytest.approx([built_in.sigma(name)] * 2, rel=0.02)
    batch = data.batch(0, 99_990, 20)
    assert batch.image.shape == (20, 2)
    assert batch.image.dtype == torch.float32
    assert np.array_equal(load(name, **data.options).array, data.array)
    assert load_pack(data.fingerprint) is None
    for options in ({"size": 8}, {"channels": 1}, {"mirror": True}):
        with pytest.raises(LeafwingError, match=f"{name}.*--size, --channels and --mirror"):
            load(name, **options)


def test_digits() -> None:
    data = load("digits")
    assert data.spec == DataSpec.images(32, 32, 1, labels=tuple("0123456789"))
    assert data.array.shape == (1797, 32, 32, 1)
    assert (data.array.min(), data.array.max()) == (0, 255)
    assert data.array[:, :4].max() == data.array[:, :, 28:].max() == 0
    assert np.bincount(data.labels).min() > 170
    small = load("digits", size="16x24", channels=3, mirror=True)
    assert small.array.shape == (1797, 16, 24, 3)
    assert small.fingerprint != data.fingerprint
    assert np.array_equal(load("digits", **small.options).array, small.array)
    assert load("digits", size=128).spec.height == 128


def test_worlds_are_listed() -> None:
    assert set(BUILT_IN) == {"digits", "sprites", "ring", "grid", "stacked"}
    for function in (built_in.modes, built_in.sigma):
        with pytest.raises(LeafwingError, match="ring, grid"):
            function("digits")


def test_sprites_are_pictures_with_their_shape_as_label() -> None:
    data = load("sprites", size=16)
    assert (len(data), data.spec.shape) == (10_368, (3, 16, 16))
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [1_728] * 6
    reading = sprites.read(data.pictures(np.arange(200)))
    assert (reading.scenes.shape == data.labels[:200]).all()
    assert load("sprites", **data.options).fingerprint == data.fingerprint != load("sprites", size=32).fingerprint


@pytest.mark.parametrize("options", [{"size": "16x32"}, {"channels": 1}, {"size": 8}, {"size": 256}])
def test_sprites_that_cannot_be_drawn_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LeafwingError, match="sprite"):
        load("sprites", **options)

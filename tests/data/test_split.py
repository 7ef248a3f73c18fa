"""Held-out samples."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from leafwing.data import Dataset, load, split
from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import DataSpec

N = 300


def noise_images(n: int = N, seed: int = 0) -> Dataset:
    """n different images; the label of each is its index."""
    array = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    return labelled(array, np.arange(n))


def labelled(array: np.ndarray, labels: np.ndarray) -> Dataset:
    spec = DataSpec.images(4, 4, 1, labels=tuple(map(str, range(len(array)))))
    fingerprint = hashlib.sha256(array.tobytes()).hexdigest()
    return Dataset(spec, {"image": array, "label": labels}, fingerprint, "x", {})


def labels_shown(data: Dataset, n: int) -> list[int]:
    return data.batch(0, 0, n).label.tolist()


def test_both_parts_are_all_samples_and_no_sample_is_in_both() -> None:
    data = noise_images()
    train, held_out = data.split(40)
    assert (len(train), len(held_out)) == (N - 40, 40)
    assert sorted(labels_shown(train, len(train)) + labels_shown(held_out, len(held_out))) == list(range(N))
    assert set(labels_shown(train, 5 * N)).isdisjoint(labels_shown(held_out, 40)), "nor in later epochs"
    assert train.fingerprint == held_out.fingerprint == data.fingerprint


def test_images_and_batches_contain_the_same_samples() -> None:
    _, held_out = noise_images().split(40)
    batch = held_out.batch(3, 7, 20)
    indices = held_out.to_rows(np.arange(40)).tolist()
    pixels = held_out.pictures([indices.index(label) for label in batch.label.tolist()])
    assert torch.equal(batch.image, torch.from_numpy(pixels))


@pytest.mark.parametrize("resident", [True, False])
def test_every_transfer_method_yields_only_the_training_part(resident: bool) -> None:
    train, _ = noise_images().split(40)
    batches = train.batches(1, resident=resident)
    for start in range(0, 600, 50):
        expected = train.to_network(train.batch(1, start, 50))
        assert torch.equal(batches(start, 50).image, expected.image)
        assert torch.equal(batches(start, 50).label, expected.label)


def test_the_choice_depends_on_content_not_on_order() -> None:
    data = noise_images()
    order = np.random.default_rng(1).permutation(N)
    moved = labelled(data.array[order], order)
    assert set(labels_shown(moved.split(40)[1], 40)) == set(labels_shown(data.split(40)[1], 40))


def test_additional_images_change_the_choice_little() -> None:
    data, more = noise_images(), noise_images(30, 1)
    larger = labelled(np.concatenate([data.array, more.array]), np.arange(N + 30))
    before, after = (set(labels_shown(part.split(40)[1], 40)) for part in (data, larger))
    assert len(before - after) <= 10  # 30 of 330 samples are new: about four of the forty


def test_identical_images_are_on_the_same_side() -> None:
    data = noise_images()
    twice = labelled(np.concatenate([data.array, data.array]), np.arange(2 * N) % N)
    train, held_out = twice.split(41)
    assert set(labels_shown(train, len(train))).isdisjoint(labels_shown(held_out, len(held_out)))
    assert len(held_out) == 42


class _CountedReads(np.ndarray):
    """Counts how often samples are read, and refuses to copy several."""

    reads = 0

    def __getitem__(self, key: Any) -> Any:
        if np.ndim(key):
            raise MemoryError("many samples at once")
        type(self).reads += 1
        return np.asarray(self)[key]


def test_samples_are_hashed_once_and_never_copied_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise_images(seed=5)
    expected = [split.held_out(data.array[rows], 40) for rows in (slice(None), np.arange(1, N))]
    counted = replace(data, columns={**data.columns, "image": data.array.view(_CountedReads)})
    part = replace(counted, rows=np.arange(1, N))
    for _ in range(2):
        assert counted.split(40)[1].to_rows(np.arange(40)).tolist() == np.flatnonzero(expected[0]).tolist()
        assert part.split(40)[1].to_rows(np.arange(40)).tolist() == (np.flatnonzero(expected[1]) + 1).tolist()
    assert _CountedReads.reads == 2 * N - 1
    _CountedReads.reads = 0
    assert len(counted.split(41)[1]) == 41  # another number is another choice
    one_class = {"image": counted.array, "label": np.zeros(N, np.int64)}
    part = replace(part, spec=DataSpec.images(4, 4, 1, labels=("a",)), columns=one_class)
    assert len(part.with_labelled_stream(7).streams["labelled"].data) == 7


def test_none_held_out_is_the_data_set_itself() -> None:
    data = noise_images()
    train, held_out = data.split(0)
    assert train is data
    assert len(held_out) == 0


@pytest.mark.parametrize(("n", "held_out"), [(67, 0), (499, 0), (500, 125), (1_797, 449), (9_304, 1_000), (70_000, 7_000)])
def test_default_number_held_out(n: int, held_out: int) -> None:
    assert split.hold_out_count("auto", n) == held_out


def test_no_points_are_held_out_by_default() -> None:
    assert split.hold_out_count("auto", 100_000, points=True) == 0
    train, held_out = load("ring").split(1_000)
    assert (len(train), len(held_out)) == (99_000, 1_000)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("some", "hold_out=.*auto"),
        ("-1", "hold_out=.*auto"),
        ("1,5", "hold_out=.*auto"),
        (300, "hold_out='?300'?: .* only 300"),
    ],
)
def test_impossible_numbers_are_refused(value: str | int, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        split.hold_out_count(value, N)


def test_an_empty_training_part_is_refused() -> None:
    same = Dataset(DataSpec.images(4, 4, 1), {"image": np.zeros((9, 4, 4, 1), np.uint8)}, "x", "x", {})
    with pytest.raises(LeafwingError, match=r"--hold-out .* all images"):
        same.split(3)


def pairs(inputs: np.ndarray, images: np.ndarray | None = None, **options: Any) -> Dataset:
    """Different images, or these, with inputs of one pixel of these values; the label of each pair is its index."""
    data = noise_images(len(inputs)) if images is None else labelled(images, np.arange(len(images)))
    spec = replace(data.spec, fields={**data.spec.fields, "input": Image(1, 1, 1)})
    column = np.asarray(inputs, np.uint8).reshape(-1, 1, 1, 1)
    fingerprint = hashlib.sha256(data.array.tobytes() + column.tobytes()).hexdigest()
    return Dataset(spec, {**data.columns, "input": column}, fingerprint, "x", options)


def sides(data: Dataset, number: int) -> tuple[set[int], set[int]]:
    train, held_out = data.split_anew(number)
    return set(labels_shown(train, len(train))), set(labels_shown(held_out, len(held_out)))


def test_pairs_with_the_same_input_are_on_the_same_side() -> None:
    data = pairs(np.arange(N) % 100)
    assert data.shared_field() == "input"
    train, held_out = sides(data, 30)
    assert 30 <= len(held_out) <= 32, "whole groups of three"
    assert {index % 100 for index in train}.isdisjoint(index % 100 for index in held_out)
    assert {index % 100 for index in labels_shown(data.split(30)[1], 30)} & {
        index % 100 for index in labels_shown(data.split(30)[0], N - 30)
    }, "without it some are on both"


def test_pairs_are_also_connected_by_equal_images() -> None:
    images = noise_images(40).array.copy()
    images[1] = images[20]
    train, held_out = sides(pairs(np.array([0, 0, *range(1, 39)]), images), 39)
    (left,) = train
    assert left not in (0, 1, 20), "0 and 1 have the same input, 1 and 20 the same image"
    assert {0, 1, 20} <= held_out


def test_an_input_that_many_share_holds_nothing_together() -> None:
    data = pairs(np.array([0] * 200 + list(range(1, 101))))
    held_out = sides(data, 40)[1]
    assert len(held_out) == 40
    assert held_out == set(labels_shown(data.split(40)[1], 40))


def test_different_inputs_leave_the_split_as_it_was() -> None:
    data = pairs(np.arange(N))
    assert pairs(np.arange(200)).shared_field() is None
    assert data.shared_field() == "input", "300 inputs of one byte"
    assert pairs(np.zeros(20), input="edges").shared_field() is None
    assert noise_images().shared_field() is None

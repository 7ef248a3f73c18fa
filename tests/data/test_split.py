"""What is held out of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leafwing.data import Dataset, load, split
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec

N = 300


def noise(n: int = N, seed: int = 0) -> Dataset:
    """Pictures that differ, and whose label is their place."""
    array = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 1), dtype=np.uint8)
    spec = DataSpec(4, 4, 1, labels=tuple(map(str, range(n))), fields=("image", "label"))
    return Dataset(spec, array, np.arange(n), "x", "x", {})


def shown(data: Dataset, n: int) -> list[int]:
    return data.batch(0, 0, n).label.tolist()


def test_both_parts_are_all_samples_and_no_sample_is_in_both() -> None:
    data = noise()
    train, held = data.split(40)
    assert (len(train), len(held)) == (N - 40, 40)
    assert sorted(shown(train, len(train)) + shown(held, len(held))) == list(range(N))
    assert set(shown(train, 5 * N)).isdisjoint(shown(held, 40)), "nor in later epochs"
    assert train.fingerprint == held.fingerprint == data.fingerprint


def test_pictures_and_batches_tell_the_same_samples() -> None:
    _, held = noise().split(40)
    batch = held.batch(3, 7, 20)
    places = held.to_rows(np.arange(40)).tolist()
    pixels = held.pictures([places.index(label) for label in batch.label.tolist()])
    assert torch.equal(batch.image, torch.from_numpy(pixels).permute(0, 3, 1, 2))


@pytest.mark.parametrize("resident", [True, False])
def test_every_way_to_a_device_sees_the_training_part_alone(resident: bool) -> None:
    train, _ = noise().split(40)
    batches = train.batches(1, resident=resident)
    for start in range(0, 600, 50):
        expected = train.batch(1, start, 50)
        assert torch.equal(batches(start, 50).image, expected.image)
        assert torch.equal(batches(start, 50).label, expected.label)


def test_the_choice_follows_the_content_not_the_place() -> None:
    data = noise()
    order = np.random.default_rng(1).permutation(N)
    moved = Dataset(data.spec, data.array[order], order, "x", "x", {})
    assert set(shown(moved.split(40)[1], 40)) == set(shown(data.split(40)[1], 40))


def test_more_pictures_change_the_choice_little() -> None:
    data, more = noise(), noise(30, 1)
    larger = Dataset(data.spec, np.concatenate([data.array, more.array]), np.arange(N + 30), "x", "x", {})
    before, after = (set(shown(one.split(40)[1], 40)) for one in (data, larger))
    assert len(before - after) <= 10  # of 330 samples 30 are new: four or so of the forty


def test_equal_pictures_are_on_one_side() -> None:
    data = noise()
    twice = Dataset(data.spec, np.concatenate([data.array, data.array]), np.arange(2 * N) % N, "x", "x", {})
    train, held = twice.split(41)
    assert set(shown(train, len(train))).isdisjoint(shown(held, len(held)))
    assert len(held) == 42


def test_none_held_out_is_the_data_set_itself() -> None:
    data = noise()
    train, held = data.split(0)
    assert train is data
    assert len(held) == 0


@pytest.mark.parametrize(("n", "held"), [(67, 0), (499, 0), (500, 125), (1_797, 449), (9_304, 1_000), (70_000, 7_000)])
def test_how_many_are_held_out_when_nobody_says(n: int, held: int) -> None:
    assert split.hold_out_count("auto", n) == held


def test_points_hold_none_out_unless_asked() -> None:
    assert split.hold_out_count("auto", 100_000, points=True) == 0
    train, held = load("ring").split(1_000)
    assert (len(train), len(held)) == (99_000, 1_000)


@pytest.mark.parametrize(("given", "said"), [("some", "hold-out .*auto"), ("-1", "hold-out .*auto"), (300, "there are 300")])
def test_impossible_numbers_are_refused(given: str | int, said: str) -> None:
    with pytest.raises(LeafwingError, match=said):
        split.hold_out_count(given, N)


def test_nothing_left_is_refused() -> None:
    same = Dataset(DataSpec(4, 4, 1), np.zeros((9, 4, 4, 1), np.uint8), None, "x", "x", {})
    with pytest.raises(LeafwingError, match="leaves none to train on"):
        same.split(3)

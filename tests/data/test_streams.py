"""Additional streams: their own epochs, orders and flips, the same with every transfer method; and a few labelled samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leafwing.data import Dataset, device, split
from leafwing.data.seeds import stream_seed
from leafwing.errors import LeafwingError
from leafwing.game import Batch, DataSpec


def noise_images(n: int, *, mirror: bool = False, seed: int = 0) -> Dataset:
    """n images of noise in three classes, with an attribute; the class is the index modulo 3."""
    array = np.random.default_rng(seed).integers(0, 256, (n, 4, 3, 2), np.uint8)
    spec = DataSpec.images(4, 3, 2, labels=("a", "b", "c"), attributes=("old",))
    attributes = (np.arange(n)[:, None] % 2).astype(np.uint8)
    columns = {"image": array, "label": np.arange(n) % 3, "attributes": attributes}
    return Dataset(spec, columns, "x", "x", {"mirror": mirror})


def equal_batches(a: Batch, b: Batch) -> bool:
    return a.keys() == b.keys() and all(
        value.dtype == b[key].dtype and torch.equal(value, b[key]) for key, value in a.items()
    )


def concatenated(parts: list[Batch]) -> Batch:
    return Batch({key: torch.cat([part[key] for part in parts]) for key in parts[0]})


def find_rows(images: torch.Tensor, data: Dataset) -> list[int]:
    """The index in the data of each image of a batch, mirrored or not."""
    known = {image.tobytes(): row for row, image in enumerate(data.array)}
    known |= {image[:, ::-1].tobytes(): row for row, image in enumerate(data.array)}
    return [known[image.numpy().tobytes()] for image in images]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(9, 30),
    st.integers(0, 2**40),
    st.integers(0, 200),
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.booleans(),
)
def test_batches_of_any_size_are_slices_of_the_same_streams_with_every_method(
    n: int, seed: int, images: int, cuts: list[int], mirror: bool
) -> None:
    data = noise_images(n, mirror=mirror).with_labelled_stream(6)
    whole = data.batch(seed, images, sum(cuts))
    resident = data.batches(seed, "cpu", resident=True)
    halves = [data.batches(seed, "cpu", rank=rank, world_size=2) for rank in (0, 1)]
    parts: list[Batch] = []
    for cut in cuts:
        position = images + sum(part.n for part in parts)
        parts.append(data.batch(seed, position, cut))
        stored = data.to_network(parts[-1])
        assert equal_batches(resident(position, cut), stored)
        assert equal_batches(concatenated([half(position, cut) for half in halves]), stored)
    assert equal_batches(concatenated(parts), whole)


def test_a_batch_has_unchanged_samples_and_as_many_labelled_ones() -> None:
    plain = noise_images(30)
    data = plain.with_labelled_stream(6)
    assert tuple(data.spec.fields) == (*plain.spec.fields, "labelled_image", "labelled_label", "labelled_attributes")
    batch = data.batch(3, 7, 20)
    assert tuple(batch) == tuple(data.spec.fields)
    assert all(len(value) == 20 for value in batch.values())
    assert equal_batches(Batch({key: batch[key] for key in plain.spec.fields}), plain.batch(3, 7, 20))
    rows = find_rows(batch.labelled_image, data)
    assert [row % 3 for row in rows] == batch.labelled_label.tolist()
    assert [[row % 2] for row in rows] == batch.labelled_attributes.tolist()


def test_an_epoch_of_labelled_samples_shows_each_once_in_its_own_order() -> None:
    data = noise_images(30).with_labelled_stream(6)
    epochs = [find_rows(data.batch(0, 6 * epoch, 6).labelled_image, data) for epoch in range(8)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 6 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 4
    assert [row % 3 for row in sorted(epochs[0])].count(1) == 2
    other = find_rows(data.batch(1, 0, 6).labelled_image, data)
    assert sorted(other) == sorted(epochs[0]), "the training seed does not change the choice"


def test_orders_and_flips_of_two_streams_are_independent() -> None:
    data = noise_images(40, mirror=True)
    both = data.with_stream("twin", data)
    batch = both.batch(0, 0, 40)
    first, second = find_rows(batch.image, data), find_rows(batch.twin_image, data)
    assert sorted(first) == sorted(second)
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 8

    def flips(images: torch.Tensor, order: list[int]) -> list[bool]:
        straight = torch.from_numpy(data.array[order])
        return [not torch.equal(a, b) for a, b in zip(images, straight, strict=True)]

    ours, theirs = flips(batch.image, first), flips(batch.twin_image, second)
    assert ours != theirs
    assert 8 < sum(ours) < 32
    assert 8 < sum(theirs) < 32


def test_any_data_set_can_be_added_to_another() -> None:
    points = Dataset(
        DataSpec.vectors(2), {"image": np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)}, "x", "x", {}
    )
    data = noise_images(9).with_stream("points", points)
    batch = data.batch(2, 5, 12)
    assert torch.equal(batch.points_image, points.batch(stream_seed(2, "points"), 5, 12).image)
    assert equal_batches(data.batches(2, "cpu", resident=True)(5, 12), data.to_network(batch))
    assert stream_seed(2, "points") != stream_seed(3, "points") != stream_seed(3, "labelled")


def test_a_stream_of_the_same_samples_has_other_ones_at_every_position() -> None:
    """For wrong captions, for example: the names have the stream's name as prefix."""
    data = noise_images(40)
    both = data.with_stream("wrong", data)
    assert [*both.spec.fields] == [*data.spec.fields, *(f"wrong_{name}" for name in data.spec.fields)]
    assert both.spec.unpaired == ()
    batch = both.batch(0, 0, 400)
    assert equal_batches(Batch({name: batch[name] for name in data.columns}), data.batch(0, 0, 400))
    right, wrong = find_rows(batch.image, data), find_rows(batch.wrong_image, data)
    assert [row % 3 for row in wrong] == batch.wrong_label.tolist()
    assert sum(a == b for a, b in zip(right, wrong, strict=True)) < 30
    assert equal_batches(device.stored_batches(both, 0, torch.device("cpu"), True)(390, 9), both.batch(0, 390, 9))


def test_a_second_source_has_names_of_its_own_and_is_unpaired() -> None:
    data, other = noise_images(9), noise_images(12, seed=1)
    both = data.with_stream("other", other, {"image": "input"})
    assert [*both.spec.fields] == [*data.spec.fields, "input"]
    assert both.spec.unpaired == ("input",)
    batch = both.batch(0, 0, 12)
    assert len({*find_rows(batch.input, other)}) == 12
    assert both.to_network(batch).input.shape == (12, 2, 4, 3)
    plain = both.without_streams()
    assert (plain.spec.fields, plain.spec.unpaired, plain.streams) == (data.spec.fields, (), {})


def test_streams_of_the_same_samples_are_uploaded_once() -> None:
    data = noise_images(9).with_labelled_stream(6)
    resident = device.ResidentBatches(data, 0, torch.device("cpu"))
    assert resident.columns.keys() == {"image", "label", "attributes"}
    assert all(resident.streams["labelled"].columns[name] is column for name, column in resident.columns.items())


def test_the_choice_depends_on_content_and_seed() -> None:
    data = noise_images(60)
    order = np.random.default_rng(1).permutation(60)
    assert data.labels is not None
    chosen = split.choose_per_class(data.array, data.labels, data.spec.labels, 12)
    moved = split.choose_per_class(data.array[order], data.labels[order], data.spec.labels, 12)
    assert sorted(order[moved]) == chosen.tolist()
    assert np.bincount(data.labels[chosen]).tolist() == [4, 4, 4]
    other = split.choose_per_class(data.array, data.labels, data.spec.labels, 12, seed=1)
    assert set(other) != set(chosen)
    more = split.choose_per_class(data.array, data.labels, data.spec.labels, 24)
    assert set(chosen) < set(more)


def test_labelled_samples_are_not_held_out() -> None:
    train, held_out = noise_images(60).split(20)
    labelled = train.with_labelled_stream(12).streams["labelled"].data
    assert labelled.rows is not None
    assert held_out.rows is not None
    assert len(labelled) == 12
    assert not set(labelled.rows) & set(held_out.rows)


@pytest.mark.parametrize(
    ("number", "message"),
    [(7, "such as 6 or 9"), (2, "such as 3$"), (18, "6 images per class, but class b has only 5")],
)
def test_impossible_numbers_of_labelled_samples_are_refused(number: int, message: str) -> None:
    data = noise_images(17)
    data.columns = {"image": data.array, "label": np.array([0] * 6 + [1] * 5 + [2] * 6)}
    with pytest.raises(LeafwingError, match=message):
        data.with_labelled_stream(number)
    data.columns = {"image": data.array}
    with pytest.raises(LeafwingError, match="has no labels"):
        data.with_labelled_stream(number)


def test_samples_with_attributes_need_no_classes() -> None:
    data = noise_images(17)
    del data.columns["label"]
    labelled = data.with_labelled_stream(5).streams["labelled"].data
    assert len(labelled) == 5
    more = data.with_labelled_stream(9).streams["labelled"].data
    assert labelled.rows is not None
    assert more.rows is not None
    assert {*labelled.rows} < {*more.rows}
    with pytest.raises(LeafwingError, match="only 17 training images"):
        data.with_labelled_stream(18)

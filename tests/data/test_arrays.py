"""Images in NumPy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leafwing
from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.fields import Caption

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (6, 20, 24, 3), np.uint8)
GREY = COLOUR[..., 0]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path_factory.mktemp("cache")))


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOUR, COLOUR),
        (GREY, GREY[..., None]),
        (GREY[..., None], GREY[..., None]),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (np.dstack([COLOUR.reshape(-1, 24, 3), np.full((120, 24), 255, np.uint8)]).reshape(6, 20, 24, 4), COLOUR),
        (COLOUR / 255, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2) / 127.5 - 1, COLOUR),
        (COLOUR / COLOUR.max() * 1.0001, COLOUR),
        (COLOUR / COLOUR.max() * 16, COLOUR),
        (COLOUR.astype(np.float64), COLOUR),
        (COLOUR.astype(np.int64), COLOUR),
        (GREY > 127, 255 * (GREY > 127)[..., None]),
    ],
)
def test_arrays_of_several_types_are_images(tmp_path: Path, array: np.ndarray, expected: np.ndarray) -> None:
    data = load(save(tmp_path / "images.npy", array), size=(20, 24))
    assert np.array_equal(data.array, expected)
    assert load(tmp_path / "images.npy", **data.options).fingerprint == data.fingerprint


@pytest.mark.parametrize(("low", "high"), [(-0.01, 1), (-0.1, 1.1), (-0.05, 0.95)])
def test_values_that_resampling_takes_below_0_are_black(tmp_path: Path, low: float, high: float) -> None:
    values = np.clip(COLOUR / 255, 0, high)
    values[0, 0, 0], values[0, 0, 1] = low, high
    data = load(save(tmp_path / "images.npy", values), size=(20, 24))
    expected = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    assert np.array_equal(data.array, expected)
    assert (
        f"Values from 0 to 1 became 0 to 255; they go from {low:g} to {high:g}, as resampling leaves values from 0 to 1."
        in data.notes
    )


def test_values_from_minus_1_are_not_taken_for_values_from_0(tmp_path: Path) -> None:
    values = np.linspace(-0.11, 1, COLOUR.size).reshape(COLOUR.shape)
    assert load(save(tmp_path / "images.npy", values), size=(20, 24)).array.min() == round(0.89 * 127.5)


def test_pickled_objects_are_refused_with_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=COLOUR, labels=np.array(["cat"] * 6, object))
    with pytest.raises(
        LeafwingError, match=r"set\.npz: labels\.npy contains Python objects, .*save texts as array\.astype\(str\)"
    ):
        load(tmp_path / "set.npz")


def test_names_in_an_npz_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=COLOUR, labels=[2, 10, 2, 1, 1, 10], more=np.zeros(3))
    data = load(tmp_path / "set.npz", size=(20, 24))
    assert data.spec.labels == ("1", "2", "10")
    assert data.labels is not None
    assert data.labels.tolist() == [1, 2, 1, 0, 0, 2]
    assert "Not used in set.npz: more." in data.notes


def test_labels_of_several_values_are_refused_and_those_in_a_column_are_read(tmp_path: Path) -> None:
    numbers = np.array([2, 10, 2, 1, 1, 10])
    np.savez(tmp_path / "keras.npz", x_train=COLOUR, y_train=numbers[:, None])
    assert load(tmp_path / "keras.npz").spec.labels == load((COLOUR, numbers[:, None])).spec.labels == ("1", "2", "10")
    np.savez(tmp_path / "hot.npz", images=COLOUR, labels=np.eye(11)[numbers])
    with pytest.raises(
        LeafwingError, match=r"labels is \(6, 11\) float64: give a whole number.*labels\.argmax\(1\).*--labels none"
    ):
        load(tmp_path / "hot.npz")
    assert load(tmp_path / "hot.npz", labels="none").labels is None
    np.savez(tmp_path / "both.npz", images=COLOUR, labels=np.eye(11)[numbers], y=numbers)
    assert load(tmp_path / "both.npz").spec.labels == ("1", "2", "10")


def test_samples_of_a_run_are_a_source(tmp_path: Path) -> None:
    run = leafwing.train(
        "digits", "cgan", size=16, images=16, batch=8, width=4, max_width=8, out=tmp_path / "run", threads=1
    )
    path = leafwing.sample(run.folder, 5, format="npz", out=tmp_path / "samples.npz")
    with np.load(path) as file:
        samples, labels = file["samples"], file["labels"]
    data = load(path, size=16)
    assert np.array_equal(data.array, samples)
    assert data.labels is not None
    assert [int(data.spec.labels[index]) for index in data.labels] == labels.tolist()


def test_attributes_and_captions_of_samples_are_read(tmp_path: Path) -> None:
    attributes = np.array([[0, 1], [1, 1], [0, 0]] * 2, np.uint8)
    conditions = {"attributes": attributes, "attribute_names": ["round", "red"], "caption": ["a star", "a disc"] * 3}
    np.savez(tmp_path / "samples.npz", samples=COLOUR, **conditions)
    data = load(tmp_path / "samples.npz")
    assert data.spec.attributes == ("round", "red")
    assert np.array_equal(data.columns["attributes"], attributes)
    caption = data.spec.fields["caption"]
    assert isinstance(caption, Caption)
    assert {*caption.words} == {"a", "star", "disc"}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4)), "expected images"),
        (np.zeros((0, 4, 4), np.uint8), "expected images"),
        (np.zeros((3, 5, 5, 7), np.uint8), "expected images"),
        (np.full((3, 4, 4), 1000), "values from 1000 to 1000"),
        (np.array([[["x"]]]), "expected images"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        load(save(tmp_path / "images.npy", array))


def test_what_cannot_be_a_source_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "broken.npy").write_bytes(b"x")
    with pytest.raises(LeafwingError, match="not a readable NumPy file"):
        load(tmp_path / "broken.npy")
    (tmp_path / "set").mkdir()
    save(tmp_path / "set/0.npy", COLOUR[0])
    with pytest.raises(LeafwingError, match=r"Arrays \(\.npy, \.npz, \.h5\) are given by their own path"):
        load(tmp_path / "set")


def test_labels_of_an_array_can_be_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=COLOUR, labels=np.array([b"cat", b"dog"] * 3))
    assert load(tmp_path / "set.npz").spec.labels == ("cat", "dog")
    assert load(tmp_path / "set.npz", labels="none").labels is None
    with pytest.raises(LeafwingError, match="has its own labels"):
        load(tmp_path / "set.npz", labels="folders")
    (tmp_path / "zip.npy").write_bytes((tmp_path / "set.npz").read_bytes())
    assert len(load(tmp_path / "zip.npy")) == 6


def test_the_same_bytes_in_another_shape_are_other_images(tmp_path: Path) -> None:
    """Alone, and joined with others; square arrays are known by the same fingerprint as in earlier versions."""
    square = save(tmp_path / "square.npy", COLOUR.reshape(-1)[: 4 * 16 * 16 * 3].reshape(4, 16, 16, 3))
    for joined in ([], [square]):
        seen = set()
        for shape in ((6, 20, 24, 3), (6, 24, 20, 3), (6, 40, 12, 3)):
            data = load([save(tmp_path / "images.npy", COLOUR.reshape(shape)), *joined], size=20, fit="stretch")
            seen.add((data.fingerprint, data.array.tobytes()))
        assert len({fingerprint for fingerprint, _ in seen}) == len({pixels for _, pixels in seen}) == 3
    assert load(square, size=16).fingerprint == "36155fc007f6bac79bfd60c8ad8e0a34d24453334fa94fdd6eee7edd61bef1e8"

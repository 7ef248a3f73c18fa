"""The data set `stacked`: three digits in three channels, every triple equally often, from the built-in digits or the user's."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from leafwing.data import BUILT_IN, built_in, load, load_pack, stacked
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError
from leafwing.game import DataSpec


@pytest.fixture
def own_digits(tmp_path: Path) -> Path:
    """Forty digits in the format of MNIST: digit d is uniformly 20 d, or 20 d + 1 in the second half."""
    labels = np.arange(40, dtype=np.uint8) % 10
    greys = 20 * labels + (np.arange(40) >= 20)
    pixels = np.repeat(greys.astype(np.uint8), 28 * 28)
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">4I", 2051, 40, 28, 28) + pixels.tobytes())
    )
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2I", 2049, 40) + labels.tobytes()))
    return folder


def test_every_triple_is_equally_frequent() -> None:
    data = load("stacked")
    assert data.spec == DataSpec.images(32, 32, 3, labels=stacked.CLASSES)
    assert (len(data), data.array.dtype, data.source) == (50_000, np.uint8, "stacked")
    assert data.labels is not None
    assert set(np.bincount(data.labels)) == {50}
    assert (stacked.CLASSES[0], stacked.CLASSES[407]) == ("000", "407")
    batch = data.batch(0, 0, 5)
    assert (batch.image.shape, batch.image.dtype) == ((5, 32, 32, 3), torch.uint8)


def test_each_plane_holds_a_digit_of_its_class() -> None:
    data, digits = load("stacked"), load("digits")
    assert data.labels is not None
    assert digits.labels is not None
    known = {item.tobytes(): label for item, label in zip(digits.array, digits.labels.tolist(), strict=True)}
    for row in range(0, 50_000, 501):
        digits_read = [known[np.ascontiguousarray(data.array[row, :, :, plane]).tobytes()] for plane in range(3)]
        assert "".join(map(str, digits_read)) == data.spec.labels[data.labels[row]]
    # All digits are used, and the images of a triple differ.
    assert len({item.tobytes() for item in data.array[:, :, :, 0]}) == len(known)
    assert len({item.tobytes() for item in data.array[data.labels == 123]}) > 45


def test_it_is_always_the_same_and_its_options_reproduce_it() -> None:
    data = load("stacked", size=16)
    again = load("stacked", **data.options)
    assert np.array_equal(data.array, again.array)
    assert data.fingerprint == again.fingerprint != load("stacked").fingerprint
    assert load_pack(data.fingerprint) is None


def test_a_users_digits_are_stacked(own_digits: Path, tmp_path: Path) -> None:
    data = load(f"stacked:{own_digits}", cache=tmp_path / "cache")
    assert data.spec == DataSpec.images(32, 32, 3, labels=stacked.CLASSES)
    assert data.source == f"stacked:{own_digits}"
    assert data.labels is not None
    for row in (0, 123, 40_407):
        triple = data.spec.labels[data.labels[row]]
        assert [round(plane / 20) for plane in data.array[row, 9, 9].tolist()] == [int(digit) for digit in triple]
    assert set((data.array[:, 0, 0, 0] % 20).tolist()) == {0, 1}, "only the first picture of a digit is drawn"
    again = load(data.source, cache=tmp_path / "cache", **data.options)
    assert again.fingerprint == data.fingerprint != load("stacked").fingerprint


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("stacked:", {}, "stacked:mnist"),
        ("stacked:stacked", {}, "stacked:mnist"),
        ("stacked:nowhere", {}, "'nowhere': no such file"),
        ("stacked:ring", {}, "ring.*--size, --channels and --mirror"),
        ("stacked", {"channels": 1}, "channels='?1'?: .*three channels"),
    ],
)
def test_invalid_sources_are_refused(source: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        load(source, **options)


def test_images_other_than_digits_are_refused(own_digits: Path, tmp_path: Path) -> None:
    (own_digits / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">2I", 2049, 40) + bytes(i % 3 for i in range(40)))
    )
    with pytest.raises(LeafwingError, match=r"digits: its classes must be 0 to 9.* It has 0, 1, 2"):
        load(f"stacked:{own_digits}", cache=tmp_path / "cache")


def test_it_is_listed_and_recognised() -> None:
    assert "stacked" in BUILT_IN
    assert all(map(built_in.is_built_in, (*BUILT_IN, "stacked:mnist")))
    assert not any(map(built_in.is_built_in, ("cats", "./stacked", "stackedcats")))


def test_the_doctor_describes_it(own_digits: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path / "cache"))
    for source in ("stacked", f"stacked:{own_digits}"):
        report = doctor(source)
        assert (report.accepted, len(report.classes), report.balance) == (50_000, 1000, 1.0)
        assert not report.exact_duplicates
        assert "1,000 modes" in report.text()

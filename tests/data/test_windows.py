"""`--crop-from`: random windows of images that are stored larger, the same for all fields of a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import encoded, picture

from leafwing.data import Dataset, device, load, load_pack
from leafwing.data.doctor import doctor
from leafwing.data.windows import Windows
from leafwing.errors import LeafwingError
from leafwing.fields import Box, Clip, Image, Keypoints, Mask, Segmentation
from leafwing.game import DataSpec
from leafwing.metrics.targets import columns_of, target
from leafwing.pixels import Window

CPU = torch.device("cpu")
N, WHOLE, SIDE = 7, (20, 28), (12, 16)


def located(n: int = N, mirror: bool = False) -> Dataset:
    """Images whose pixels are their row and column, with every other kind of field that has a place."""
    rows, columns = np.meshgrid(np.arange(WHOLE[0]), np.arange(WHOLE[1]), indexing="ij")
    image = np.stack([np.stack([rows, columns, np.full_like(rows, i)], -1) for i in range(n)]).astype(np.uint8)
    spec = DataSpec.images(
        *WHOLE, 3, input=Image(5, 7, 1), clip=Clip(2, *WHOLE, 3), mask=Mask(*WHOLE), parts=Segmentation(*WHOLE, ("a", "b")),
        box=Box(), keypoints=Keypoints(("left_eye", "right_eye")),
    )  # fmt: skip
    columns_ = {
        "image": image,
        "input": image[:, ::4, ::4, 1:2].copy(),
        "clip": np.stack([image, image + 1], 1),
        "mask": (image[..., 1:2] % 2).astype(np.uint8),
        "parts": (image[..., 0] % 2).astype(np.uint8),
        "box": np.tile(np.array([0.25, 0.2, 0.5, 0.6], np.float32), (n, 1)),
        "keypoints": np.tile(np.array([[0.5, 0.5, 1], [0.0, 0.0, 1]], np.float32), (n, 1, 1)),
    }
    return Dataset(spec, columns_, "x", "x", {"mirror": mirror})


def test_every_field_sees_the_same_window() -> None:
    data = located().with_windows(*SIDE)
    batch = data.batch(0, 0, 200)
    tops, lefts = batch.image[:, 0, 0, 0].long(), batch.image[:, 0, 0, 1].long()
    assert {*tops.tolist()} == {0, 4, 8}, "windows must begin at pixels of the smaller input"
    assert {*lefts.tolist()} == {0, 4, 8, 12}
    for i, (top, left, number) in enumerate(zip(tops, lefts, batch.image[:, 0, 0, 2], strict=True)):
        rows, columns = slice(top, top + 12), slice(left, left + 16)
        for name in ("image", "mask", "parts"):
            whole = torch.from_numpy(data.stored_columns()[name][int(number)])
            assert torch.equal(batch[name][i], whole[rows, columns])
        assert torch.equal(batch.clip[i], torch.from_numpy(data.stored_columns()["clip"][int(number)])[:, rows, columns])
        assert torch.equal(batch.input[i], batch.image[i, ::4, ::4, 1:2])
        corners = np.array([0.25 * 28 - left, 0.2 * 20 - top, 0.75 * 28 - left, 0.8 * 20 - top]) / [16, 12, 16, 12]
        box = corners.clip(0, 1)
        assert np.allclose(batch.box[i], [*box[:2], *(box[2:] - box[:2])], atol=1e-6)
        points = (np.array([[14, 10], [0, 0]]) - [int(left), int(top)]) / [16, 12]
        assert np.allclose(batch.keypoints[i, :, :2], points.clip(0, 1), atol=1e-6)
        assert batch.keypoints[i, :, 2].tolist() == ((points >= 0) & (points <= 1)).all(1).astype(float).tolist()
    seen = data.to_network(batch)
    assert all(seen[name].shape[1:] == data.spec.fields[name].shape for name in seen)


def test_windows_are_a_function_of_seed_and_position_whatever_the_method() -> None:
    data = located(mirror=True).with_windows(*SIDE)
    whole = data.batch(3, 5, 30)
    methods = [
        lambda start, n: data.batch(3, start, n),
        device.stored_batches(data, 3, CPU, True),
        device.BatchPrefetcher(device.stored_batches(data, 3, CPU, False), CPU),
    ]
    for read in methods:
        for first, last in ((0, 1), (1, 12), (12, 30)):
            part = read(5 + first, last - first)
            assert all(torch.equal(part[name], whole[name][first:last]) for name in whole), first
    assert not torch.equal(data.batch(4, 5, 30).image, whole.image)
    epochs = [{int(i): tuple(p) for *p, i in data.batch(3, N * e, N).image[:, 0, 0].tolist()} for e in range(2)]
    assert epochs[0] != epochs[1]


def test_a_resident_batch_of_windows_reads_nothing_back() -> None:
    batches = located(mirror=True).with_windows(*SIDE).batches(0, "meta", resident=True)
    assert batches(5, 4).image.shape == (4, 3, 12, 16)


def test_everything_but_training_sees_the_centre() -> None:
    data = located(40).with_windows(*SIDE)
    top, left = 4, 4
    centre = located(40).array[:, top : top + 12, left : left + 16]
    assert np.array_equal(data.array, centre)
    assert np.shares_memory(data.array, data.stored_columns()["image"])
    assert np.array_equal(data.pictures([3, 5]), centre[[3, 5]])
    assert data.stored("input", [0]).shape == (1, 3, 4, 1)
    training, held_out = data.split(10)
    for calm in (held_out, target(data, "image"), columns_of(data, ["image", "input"]), data.centred()):
        image = calm.batch(0, 0, 9).image
        assert (image[:, 0, 0, :2] == torch.tensor([top, left])).all()
    assert len({tuple(p) for p in training.batch(0, 0, 30).image[:, 0, 0, :2].tolist()}) > 5
    assert target(data, "input").batch(0, 0, 2).image.shape == (2, 3, 4, 1)


def test_every_window_is_equally_probable() -> None:
    windows = Windows({}, (20, 28), 12, 16, 4)
    words = np.random.default_rng(0).integers(0, 2**64, 12_000, np.uint64)
    _, counts = np.unique(windows.offsets(words), axis=0, return_counts=True)
    assert len(counts) == 12
    assert abs(counts - 1000).max() < 5 * 1000**0.5
    assert windows.offsets(np.array([2**64 - 1, 0], np.uint64)).tolist() == [[8, 12], [0, 0]]


def test_without_the_option_nothing_changes() -> None:
    plain = located()
    assert plain.windows is None
    assert all(part.size == 0 for part in plain.epoch_parts(0, 0)[2:])
    window = Window(torch.zeros(N, dtype=torch.int64), torch.zeros(N, dtype=torch.int64), *WHOLE, WHOLE)
    for name, kind in plain.spec.fields.items():
        stored = torch.from_numpy(plain.columns[name])
        assert torch.allclose(kind.crop(stored, window).double(), stored.double()), name


def folder(path: Path, n: int = 4, size: tuple[int, int] = (60, 90)) -> Path:
    path.mkdir()
    for i in range(n):
        (path / f"{i}.png").write_bytes(encoded(picture(i, *size)))
    return path


def test_a_source_is_read_at_the_larger_size(tmp_path: Path) -> None:
    path = folder(tmp_path / "set")
    data = load(path, size="32x48", crop_from=40, input="low4")
    assert data.options["size"] == "32x48"
    assert data.options["crop_from"] == "40x60"
    assert data.spec.fields == {"image": Image(32, 48), "input": Image(8, 12)}
    whole = load(path, size="40x60", input="low4")
    assert np.array_equal(data.stored_columns()["image"], whole.array)
    assert np.array_equal(data.stored_columns()["input"], whole.columns["input"])
    assert data.fingerprint != whole.fingerprint
    for again in (load(path, **data.options), load_pack(data.fingerprint), load(path, **data.options)):
        assert torch.equal(again.batch(1, 0, 9).image, data.batch(1, 0, 9).image)
    assert doctor(path, size="32x48", crop_from=40, input="low4").fields["input"]["field"] == "image 8x12x3"
    second = load(path, size=32, crop_from="40x36", input=str(folder(tmp_path / "other", 3)))
    assert second.batch(0, 0, 5).input.shape == (5, 32, 32, 3)
    assert len({image.numpy().tobytes() for image in second.batch(0, 0, 60).input}) > 3


@pytest.mark.parametrize("source", ["digits", "sprites", "stacked"])
def test_built_in_data_have_windows(source: str) -> None:
    extra = {"input": "low"} if source == "sprites" else {"input": "edges"} if source == "digits" else {}
    data = load(source, size=32, crop_from=40, **extra)
    assert data.spec.shape[1:] == (32, 32)
    assert data.batch(0, 0, 4).image.shape[1:3] == (32, 32)
    again = load(source, **data.options)
    assert again.fingerprint == data.fingerprint != load(source, size=32, **extra).fingerprint
    assert torch.equal(again.batch(2, 0, 20).image, data.batch(2, 0, 20).image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64, "crop_from": 60}, "crop_from='60': windows of 64x64 pixels .* such as 72"),
        ({"size": 64, "crop_from": "64x64"}, "crop_from='64x64': windows"),
        ({"size": 64, "crop_from": "wide"}, "crop_from='wide': give one number"),
        ({"size": 32, "crop_from": 38, "input": "low4"}, "divisible by 4, not 38x38; choose --crop-from 40"),
        ({"size": 30, "crop_from": 40, "input": "low4"}, "divisible by 4, not 30x30; choose --size 32"),
    ],
)
def test_impossible_windows_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        load(folder(tmp_path / "set"), **options)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match="--crop-from: ring is a data set of points"):
        load("ring", crop_from=40)

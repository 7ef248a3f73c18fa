"""Images given from Python: arrays, tensors, data sets, and runs that are trained on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_helpers import picture
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import leafwing
from leafwing import data
from leafwing.errors import LeafwingError

PICTURES = np.stack([picture(seed, 20, 24) for seed in range(12)])
TENSOR = torch.from_numpy(PICTURES).permute(0, 3, 1, 2)
LABELS = [number % 3 for number in range(12)]
TINY: dict[str, Any] = {"size": 16, "batch": 4, "width": 4, "max_width": 8, "threads": 1}


class Photos(torch.utils.data.Dataset[Any]):
    """A data set as torchvision has them."""

    classes = ("cat", "dog", "owl")

    def __init__(self, labelled: bool = True) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return len(PICTURES)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self):
            raise IndexError
        photo = Image.fromarray(PICTURES[index])
        return (photo, LABELS[index]) if self.labelled else photo


class Changed(Photos):
    """The same with a transform of each item."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def __getitem__(self, index: int) -> Any:
        return self.change(*super().__getitem__(index), index)


@pytest.mark.parametrize(
    "images",
    [PICTURES, TENSOR, (TENSOR / 255).requires_grad_(), PICTURES / 127.5 - 1, [*PICTURES], Photos(labelled=False)],
    ids=["array", "tensor", "fractions", "signed", "list", "data set"],
)
def test_images_from_python(images: Any) -> None:
    loaded = data.load(images, size=(20, 24))
    assert np.array_equal(loaded.array, PICTURES)
    assert loaded.labels is None
    assert data.load(images, size=(20, 24)).fingerprint == loaded.fingerprint


@pytest.mark.parametrize(
    ("images", "classes"),
    [
        ((PICTURES, LABELS), ("0", "1", "2")),
        ((TENSOR, torch.tensor(LABELS)), ("0", "1", "2")),
        ((PICTURES, np.array(["cat", "dog", "owl"] * 4)), Photos.classes),
        (Photos(), Photos.classes),
        (TensorDataset(TENSOR / 255, torch.tensor(LABELS)), ("0", "1", "2")),
        (([Image.fromarray(image) for image in PICTURES], LABELS), ("0", "1", "2")),
        (([*PICTURES], LABELS), ("0", "1", "2")),
        ((PICTURES, np.array(LABELS, np.float32)), ("0", "1", "2")),
        ((Photos(), LABELS), ("0", "1", "2")),
        (
            [{"image": Image.fromarray(a), "label": label} for a, label in zip(PICTURES, LABELS, strict=True)],
            ("0", "1", "2"),
        ),
    ],
    ids=[
        "arrays",
        "tensors",
        "names",
        "data set",
        "tensor data set",
        "list of pictures",
        "list of arrays",
        "floats",
        "others",
        "dictionaries",
    ],
)
def test_labels_from_python(images: Any, classes: tuple[str, ...]) -> None:
    loaded = data.load(images, size=(20, 24))
    assert np.array_equal(loaded.array, PICTURES)
    assert loaded.spec.labels == classes
    assert loaded.labels is not None
    assert loaded.labels.tolist() == LABELS
    assert data.load(images, labels="none").labels is None


def test_none_stands_for_no_labels() -> None:
    loaded = data.load((PICTURES, None), size=(20, 24))
    assert np.array_equal(loaded.array, PICTURES)
    assert loaded.labels is None


@pytest.mark.parametrize("images", [tuple(PICTURES), tuple(map(Image.fromarray, PICTURES)), tuple(PICTURES[:2])])
def test_a_tuple_of_pictures_is_read_like_a_list(images: Any) -> None:
    loaded = data.load(images, size=(20, 24))
    assert np.array_equal(loaded.array, PICTURES[: len(images)])
    assert loaded.labels is None


def test_labels_given_with_a_data_set_replace_its_own() -> None:
    loaded = data.load((Photos(), ["x", "y"] * 6))
    assert loaded.spec.labels == ("x", "y")
    assert "The labels of its items are not used, because others are given with them." in loaded.notes


def test_labels_that_cannot_be_used_are_not_dropped_in_silence() -> None:
    with pytest.raises(LeafwingError, match=r"a tuple is images and their labels .* not \(ndarray, set\)"):
        data.load((PICTURES, set(range(12))), size=16)
    dataset = data.load([{"x": picture, "y": 1, "id": 2} for picture in PICTURES], size=16)
    assert dataset.notes == ["Not used of its items: y, id. The key of a class is label."]


def test_items_of_several_kinds() -> None:
    sizes = data.load(Changed(lambda photo, label, index: (photo.resize((30 + index, 40)), label)), size=16)
    assert len(sizes) == 12
    boxes = data.load(Changed(lambda photo, label, index: (photo, {"boxes": []})))
    assert boxes.labels is None
    assert "The second part of its items (dict) is no class, and is not used." in boxes.notes
    modes = data.load([Image.fromarray(PICTURES[0]).convert(mode) for mode in ("1", "P", "CMYK", "RGBA", "F", "I;16")])
    assert len(modes) == 6


def test_items_that_cannot_be_read_are_rejected_with_the_reason() -> None:
    def change(photo: Any, label: Any, index: int) -> Any:
        if index == 5:
            raise OSError("photo 5 is damaged")
        return photo, label

    loaded = data.load(Changed(change), labels="none")
    assert [(reject.name, reject.reason) for reject in loaded.rejects] == [
        ("images/0000005", "cannot be read: photo 5 is damaged")
    ]
    assert leafwing.doctor(Changed(change), labels="none").accepted == 11


def test_items_that_differ_each_time_are_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(LeafwingError, match="images/0000000 differs each time it is read: give the data set without random"):
        data.load(Changed(lambda photo, label, index: (photo.rotate(generator.random() * 90), label)))
    with pytest.raises(
        LeafwingError, match=r"item 1 is \(3, 6, 6\) uint8, and the first \(3, 5, 5\) uint8; give the data set"
    ):
        data.load([torch.zeros(3, 5 + index, 5 + index, dtype=torch.uint8) for index in range(3)])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (DataLoader(Photos()), r"a DataLoader gives batches, not images: give its data set, loader\.dataset"),
        ({"images": PICTURES}, r"not dict: save them with numpy\.savez\('images\.npz'"),
        (iter(PICTURES), r"data set with a length and items that are pictures, not"),
        (3, "not int: save them"),
        ([1, 2], r"memory:list: its items must be pictures .* and the first is int: save them"),
        ([], "no source: give a folder"),
        (Photos, "not type: save them"),
        (PICTURES[0, 0], r"memory:array: expected images .* it contains \(24, 3\) uint8"),
        (np.array([[["x"]]], object), "expected images"),
        ((PICTURES, [1, 2]), "memory:array: 2 labels for 12 images"),
        ((Photos(), Photos()), r"a tuple is images and their labels .* not \(Photos, Photos\); .*ConcatDataset"),
        ((PICTURES, LABELS, Photos.classes), r"not \(ndarray, list, tuple\)"),
        (([Image.fromarray(PICTURES[0])], [1, 2]), "2 labels for 1 images"),
        ("memory:array", r"given from Python, not by a path: give them again, leafwing\.resume"),
        (["a", "b"], "'a': no such file or folder"),
        (["digits", PICTURES], r"a source is a path or the name of a built-in data set, not ndarray"),
        ([("a", 1), ("b", 2)], "memory:list: its items must be pictures .* and the first is str"),
    ],
)
def test_what_is_no_source_says_what_to_do(tmp_path: Path, images: Any, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        leafwing.train(images, out=tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()


def test_inputs_are_paths(tmp_path: Path) -> None:
    message = r"not ndarray[.:] [sS]ave an array with numpy\.save\('inputs.npy', array\)"
    with pytest.raises(LeafwingError, match=message):
        leafwing.train("digits", "pix2pix", input=PICTURES, size=16, out=tmp_path / "run")
    with pytest.raises(LeafwingError, match=message):
        leafwing.doctor(PICTURES, input=PICTURES)
    unpaired = data.load(PICTURES, input="digits", size=16)
    assert (unpaired.source, unpaired.options["input"]) == ("memory:array", "digits")


def test_a_run_on_images_from_python_is_resumed(tmp_path: Path, cache: Path) -> None:
    run = leafwing.train(Photos(), "cgan", root=tmp_path, images=8, **TINY)
    assert run.folder.name == "0001-cgan-photos"
    assert run.data.source == "memory:Photos"
    leafwing.resume(run.folder, images=16)
    shutil.rmtree(cache)
    with pytest.raises(
        LeafwingError, match=r"not in the cache.*give them again, leafwing\.resume\(run, source=images\) or "
    ):
        leafwing.resume(run.folder, images=24)
    with pytest.raises(LeafwingError, match="memory:array has changed since"):
        leafwing.resume(run.folder, images=24, source=PICTURES[:8])
    leafwing.resume(run.folder, images=24, source=Photos())
    whole = leafwing.train(Photos(), "cgan", out=tmp_path / "whole", images=24, **TINY)
    weights = [folder.joinpath("weights-000000024.safetensors").read_bytes() for folder in (run.folder, whole.folder)]
    assert weights[0] == weights[1]


def test_a_data_set_is_a_source(tmp_path: Path) -> None:
    network = {name: value for name, value in TINY.items() if name != "size"}
    for name, images in (("digits", data.load("digits", size=16)), ("array", data.load(PICTURES, size=16, mirror=True))):
        run = leafwing.train(images, out=tmp_path / name, images=8, **network)
        assert (run.data.source, run.data.options) == (images.source, images.options)
        leafwing.resume(run.folder, images=16)
        leafwing.resume(run.folder, images=24, source=images)
        with pytest.raises(LeafwingError, match="size=32: a Dataset has been read already: give its options to data"):
            leafwing.train(images, size=32, out=tmp_path / "no")
        for size in (16, "16", "16x16", (16, 16)):
            assert data.load(images, size=size).fingerprint == data.load(images).fingerprint
    with pytest.raises(LeafwingError, match=r"this Dataset of digits is not as data\.load returns it now"):
        leafwing.train(data.load("digits", size=16).split(100)[0], out=tmp_path / "no", **network)
    with pytest.raises(LeafwingError, match="a Dataset has been read already"):
        leafwing.doctor(images)


def test_a_data_set_of_joined_sources_is_a_source(tmp_path: Path) -> None:
    for name, rows in (("a", PICTURES[:5]), ("b", PICTURES[5:])):
        np.savez(tmp_path / f"{name}.npz", images=rows)
    joined = data.load([tmp_path / "a.npz", tmp_path / "b.npz"], size=16)
    again = data.load(joined)
    assert (again.fingerprint, again.sources) == (joined.fingerprint, joined.sources)
    run = leafwing.train(joined, out=tmp_path / "run", images=8, batch=4, width=4, max_width=8, threads=1)
    assert [*(run.data.sources or ())] == ["a", "b"]
    with pytest.raises(LeafwingError, match=r"run has 2 sources .*: give as many"):
        leafwing.resume(run.folder, images=16, source=PICTURES)


def test_a_sheet_of_images_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [leafwing.show(images)[0].name for images in (PICTURES, Photos())] == ["array.png", "Photos.png"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(12), r"a whole number or a text as the label of each image, not ndarray \(12,\) as for image 0; .*argmax"),
        (torch.eye(12), r"not Tensor \(12,\) as for image 0"),
        ([0] * 11 + [b"cat"], "not bytes as for image 11"),
        (np.linspace(0, 1, 12), r"labels has numbers that are not whole, such as 0\.0909091.*--labels none uses none"),
    ],
    ids=["one-hot", "one-hot tensor", "bytes", "fractions"],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        data.load((PICTURES, labels))
    assert data.load((PICTURES, labels), labels="none").labels is None


def test_whole_numbers_of_another_type_and_missing_labels_are_labels() -> None:
    loaded = data.load((PICTURES, [1.0, float("nan"), None] + [2.0] * 9))
    assert loaded.spec.labels == ("1", "2")
    assert [reject.reason for reject in loaded.rejects] == ["no label in labels"] * 2


def test_a_later_item_that_is_no_picture_is_rejected() -> None:
    photos = [Image.fromarray(image) for image in PICTURES]
    loaded = data.load([*photos[:11], None])
    assert [(reject.name, reject.reason) for reject in loaded.rejects] == [
        ("images/0000011", "is NoneType, and the first item is a PIL picture")
    ]
    loaded = data.load([*[(photo, 0) for photo in photos[:11]], None])
    assert len(loaded) == 11


def test_a_data_set_that_raises_any_error_rejects_the_item_with_it() -> None:
    def change(photo: Any, label: Any, index: int) -> Any:
        return photo, {0: label}[index // 11]

    loaded = data.load(Changed(change), labels="none")
    assert [(reject.name, reject.reason) for reject in loaded.rejects] == [
        ("images/0000011", "cannot be read: its data set raises KeyError: 1")
    ]
    labelled = data.load(Changed(change))
    assert labelled.rejects == loaded.rejects
    assert len(labelled) == 11

    def never(photo: Any, label: Any, index: int) -> Any:
        raise KeyError("photo")

    with pytest.raises(
        LeafwingError, match=r"the first item cannot be read \(its data set raises KeyError: 'photo'\): save"
    ):
        data.load(Changed(never))

    def signed(photo: Any, label: Any, index: int) -> Any:
        return np.asarray({0: photo}[index // 11], np.float32) / 255

    with pytest.raises(LeafwingError, match=r"an item cannot be read \(its data set raises KeyError: 1\): save"):
        data.load(Changed(signed))


def test_pictures_of_32_bits() -> None:
    ramp = np.arange(400, dtype=np.int32).reshape(20, 20)
    for factor, white in ((100, 39900 // 257), (1000, 255)):  # as 16 bits, and beyond them
        pictures = [Image.fromarray(ramp * factor) for _ in range(3)]
        assert pictures[0].mode == "I"
        loaded = data.load(pictures, size=20)
        assert (loaded.array[0].min(), loaded.array[0].max()) == (0, white)

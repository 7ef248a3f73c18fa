"""Images in HDF5 files and Parquet tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import encoded, picture

from leafwing.data import load, opening, sources
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError
from leafwing.fields import Caption

PICTURES = np.stack([picture(seed, 20, 24) for seed in range(12)])
FILES = [encoded(image) for image in PICTURES]


def hdf5(path: Path, **content: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file.create_dataset(name.replace("__", "/"), data=values)
    return path


def parquet(path: Path, columns: dict[str, Any], features: dict[str, Any] | None = None, rows: int = 5) -> Path:
    """A Parquet file with this many rows in each row group, and Hugging Face's description of its columns."""
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)
    return path


def images(files: list[bytes | None], path: str | None = None) -> pa.Array:
    """Hugging Face's column of images."""
    return pa.array(
        [{"bytes": file, "path": path} for file in files], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )


CLASSES = {"label": {"_type": "ClassLabel", "names": ["cat", "dog"]}, "image": {"_type": "Image"}}


@pytest.mark.parametrize("values", [PICTURES, PICTURES.transpose(0, 3, 1, 2), (PICTURES / 255).astype(np.float32)])
def test_images_of_an_hdf5_file(tmp_path: Path, values: np.ndarray) -> None:
    path = hdf5(
        tmp_path / "set.h5", train__images=values, train__labels=[i % 3 for i in range(12)], features=np.zeros((12, 5))
    )
    data = load(path, size=(20, 24))
    assert np.array_equal(data.array, PICTURES)
    assert data.labels is not None
    assert data.labels.tolist() == [i % 3 for i in range(12)]
    assert "Images come from train/images in set.h5." in data.notes
    assert "Not used in set.h5: features." in data.notes
    assert load(path, size=(20, 24), labels="none").labels is None


def test_encoded_images_of_an_hdf5_file_are_read_like_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "set.hdf5", "w") as file:
        rows = file.create_dataset("pictures", 4, h5py.vlen_dtype(np.uint8))
        for row, content in enumerate([FILES[0], b"no image", FILES[2], FILES[3][:60]]):
            rows[row] = np.frombuffer(content, np.uint8)
        file.create_dataset("class_names", data=["a", "b", "a", "b"])
    data = load(tmp_path / "set.hdf5", size=(20, 24), labels="class_names")
    assert np.array_equal(data.array, PICTURES[[0, 2]])
    assert data.spec.labels == ("a",)
    assert [(reject.name, reject.reason.split(":")[0]) for reject in data.rejects] == [
        ("images/0000001", "not an image"),
        ("images/0000003", "truncated or corrupt"),
    ]


def test_an_hdf5_file_that_is_ambiguous_says_between_what(tmp_path: Path) -> None:
    with pytest.raises(
        LeafwingError,
        match=r"several arrays may be the images: 00, 01, 02, 03, 04, 05, 06, 07 \.\.\. \(12\)\. One is needed",
    ):
        load(hdf5(tmp_path / "a.h5", **{f"{row:02d}": image for row, image in enumerate(PICTURES)}))
    path = hdf5(tmp_path / "b.h5", images=PICTURES, masks=PICTURES[..., 0], label=[0, 1] * 6, labels=[1, 2] * 6)
    with pytest.raises(LeafwingError, match=r"several columns may be the labels: labels, label\. --labels labels chooses"):
        load(path)
    data = load(path, labels="label")
    assert data.spec.labels == ("0", "1")
    assert {"Not used in b.h5: masks.", "Columns that are not used: labels."} <= {*data.notes}
    with pytest.raises(LeafwingError, match=r"has its own labels, or none; .*or one of its columns: label, labels"):
        load(path, labels="folders")


@pytest.mark.parametrize("kind", ["h5", "npz"])
@pytest.mark.parametrize(
    ("others", "images", "labels"),
    [
        (["masks", "labels"], "images", "labels"),
        (["test_images", "test_labels", "train_labels"], "train_images", "train_labels"),  # MedMNIST
        (["x_test", "y_test", "y_train"], "x_train", "y_train"),  # Keras
        (["val", "labels"], "train", "labels"),
        (["a_masks", "y", "target"], "images", "target"),
        (["labels"], "photos", "labels"),
    ],
)
def test_the_images_and_labels_among_several_arrays(
    tmp_path: Path, kind: str, others: list[str], images: str, labels: str
) -> None:
    arrays: dict[str, Any] = {name: np.zeros((12, 20, 24), np.uint8) for name in others}
    arrays |= {name: [3] * 12 for name in others if name.rpartition("_")[2] in ("labels", "y") or name == "y_test"}
    arrays |= {images: PICTURES, labels: np.arange(12) % 2}
    path = tmp_path / f"set.{kind}"
    if kind == "h5":
        hdf5(path, **arrays)
    else:
        np.savez(path, **arrays)
    data = load(path, size=(20, 24))
    assert np.array_equal(data.array, PICTURES)
    assert data.spec.labels == ("0", "1")


@pytest.mark.parametrize("name", ["label", "labels", "Class", "category", "class_name", "target", "targets", "y", "Y"])
def test_labels_have_the_same_names_in_arrays_and_tables(tmp_path: Path, name: str) -> None:
    numbers = np.arange(12) % 2
    np.savez(tmp_path / "set.npz", images=PICTURES, **{name: numbers})  # type: ignore[arg-type]
    for path in (
        tmp_path / "set.npz",
        hdf5(tmp_path / "set.h5", images=PICTURES, **{name: numbers}),
        parquet(tmp_path / "set.parquet", {"image": images([*FILES]), name: numbers}),
    ):
        assert load(path, size=(20, 24)).spec.labels == ("0", "1"), path


def test_several_arrays_without_a_usual_name_are_an_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", masks=PICTURES[..., 0], photos=PICTURES)
    groups = hdf5(tmp_path / "set.h5", **{"a/images": PICTURES, "b/images": PICTURES})
    for path, names in ((tmp_path / "set.npz", "masks, photos"), (groups, "a/images, b/images")):
        with pytest.raises(LeafwingError, match=f"several arrays may be the images: {names}. One is needed"):
            load(path)


def test_labels_of_an_hdf5_file_may_be_in_a_column(tmp_path: Path) -> None:
    numbers = np.arange(12) % 2
    assert load(hdf5(tmp_path / "a.h5", images=PICTURES, y=numbers[:, None])).spec.labels == ("0", "1")
    with pytest.raises(LeafwingError, match=r"y is \(12, 2\) float64: give a whole number"):
        load(hdf5(tmp_path / "b.h5", images=PICTURES, y=np.eye(2)[numbers]))
    assert load(tmp_path / "b.h5", labels="none").labels is None


def test_an_hdf5_file_without_images_of_its_own_is_refused(tmp_path: Path) -> None:
    outside = hdf5(tmp_path / "outside.h5", images=PICTURES)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(outside), "images")
    with pytest.raises(LeafwingError, match="it contains nothing"):
        load(tmp_path / "links.h5")
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(PICTURES.shape, PICTURES.dtype)
        layout[:] = h5py.VirtualSource(str(outside), "images", PICTURES.shape)
        file.create_virtual_dataset("images", layout)
    with pytest.raises(LeafwingError, match="in other files, which are not read: images"):
        load(tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "objects.h5", "w") as file:
        file.create_dataset("images", (3,), h5py.ref_dtype)
    with pytest.raises(LeafwingError, match=r"expected images.*it contains images \(3,\) object"):
        load(tmp_path / "objects.h5")
    (tmp_path / "broken.h5").write_bytes(outside.read_bytes()[:3000])
    with pytest.raises(LeafwingError, match="not a readable HDF5 file"):
        load(tmp_path / "broken.h5")


@pytest.mark.parametrize("name", ["train/images", "images"])
def test_columns_of_another_split_in_an_hdf5_file_are_not_used(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file[name] = PICTURES
        file["test/labels"] = np.arange(len(PICTURES)) % 2
        if name != "images":
            file["train/labels"] = np.arange(len(PICTURES)) % 3
    data = load(tmp_path / "set.h5")
    assert data.spec.labels == (("0", "1", "2") if name != "images" else ())
    assert "Not used in set.h5: test/labels." in data.notes


def test_a_named_type_in_an_hdf5_file_is_not_a_data_set(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", images=PICTURES)
    with h5py.File(path, "a") as file:
        file["type"] = np.dtype("int8")
    assert np.array_equal(load(path, size=(20, 24)).array, PICTURES)


def test_measurements_in_a_column_of_labels_are_refused(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", images=PICTURES, labels=np.linspace(0, 1, 12))
    with pytest.raises(LeafwingError, match=r"labels has numbers that are not whole, such as 0\.0909091"):
        load(path)
    assert load(path, labels="none").labels is None


@pytest.mark.parametrize("names", [5, {"0": "a"}, "ab", ["a", 1]])
def test_names_of_classes_that_are_no_list_of_texts_are_not_used(tmp_path: Path, names: Any) -> None:
    columns = {"image": images([*FILES]), "label": [i % 2 for i in range(12)]}
    data = load(parquet(tmp_path / "a.parquet", columns, {"label": {"_type": "ClassLabel", "names": names}}))
    assert data.spec.labels == ("0", "1")
    assert (
        "The names of classes that the description of column label gives are no list of texts, and are not used."
        in data.notes
    )


def test_hugging_faces_table(tmp_path: Path) -> None:
    columns = {"image": images([*FILES]), "label": [i % 2 for i in range(12)], "url": ["x"] * 12, "size": [[1, 2]] * 12}
    data = load(parquet(tmp_path / "train.parquet", columns, CLASSES), size=(20, 24))
    assert np.array_equal(data.array, PICTURES)
    assert data.spec.labels == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1] * 6
    assert {
        "Images come from column image.",
        "Columns of a kind that is not read: size.",
        "Columns that are not used: url.",
    } <= {*data.notes}


def test_captions_and_attributes_of_a_table(tmp_path: Path) -> None:
    columns = {"jpg": [*FILES], "text": ["a red star"] * 11 + [None], "round": [True, False] * 6}
    data = load(parquet(tmp_path / "a.parquet", columns))
    assert len(data) == 11
    assert data.spec.attributes == ("round",)
    caption = data.spec.fields["caption"]
    assert isinstance(caption, Caption)
    assert caption.words == ("a", "red", "star")
    assert [(reject.name, reject.reason) for reject in data.rejects] == [("a/0000011", "no caption in column text")]


def test_rows_that_cannot_be_used_are_rejected_with_reasons(tmp_path: Path) -> None:
    rows = images([*FILES[:6], None, b"", b"<html>", FILES[9][:50], FILES[10], FILES[11]], "photos/x.jpg")
    labels = [0] * 10 + [-1, None]
    data = load(parquet(tmp_path / "a.parquet", {"image": rows, "label": labels}, CLASSES), size=(20, 24))
    assert len(data) == 6
    reasons = {reject.name: reject.reason for reject in data.rejects}
    assert reasons["a/0000006"] == "the row has only a path, photos/x.jpg, which is not read"
    assert reasons["a/0000007"] == "empty file"
    assert reasons["a/0000010"] == reasons["a/0000011"] == "no label in label"
    assert {*reasons} == {f"a/{row:07d}" for row in range(6, 12)}


def test_a_chosen_column_without_labels_is_an_error(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images([*FILES]), "captions": [["a star", "a ring"]] * 12})
    with pytest.raises(LeafwingError, match=r"labels='captions': this column of a\.parquet contains no labels"):
        load(path, labels="captions")
    assert "caption" in load(path).spec.fields


@pytest.mark.parametrize("features", [None, CLASSES])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_whole_numbers_that_pandas_stored_as_floats_are_classes(
    tmp_path: Path, features: Any, missing: float | None
) -> None:
    labels = pa.array([*[0.0, 1.0] * 5, 1.0, missing], pa.float64())
    data = load(parquet(tmp_path / "a.parquet", {"image": images([*FILES]), "label": labels}, features), size=(20, 24))
    assert data.spec.labels == (("cat", "dog") if features else ("0", "1"))
    assert (len(data), data.rejects[0].reason) == (11, "no label in label")


@pytest.mark.parametrize("kind", ["h5", "npz", "parquet", "python"])
@pytest.mark.parametrize(
    ("numbers", "classes", "count"),
    [
        ([0.0, 1.0, 2.0, 10.0], ("0", "1", "2", "10"), 12),
        ([0, 1, 10, -1], ("0", "1", "10"), 9),  # unlabelled
        ([-1, 1, -1, 1], ("-1", "1"), 12),
        ([-1, -1, -1, -1], (), 12),  # a test set
    ],
    ids=["floats", "negative", "signs", "no labels"],
)
def test_numbers_are_the_same_classes_in_every_kind_of_source(
    tmp_path: Path, kind: str, numbers: list[Any], classes: tuple[str, ...], count: int
) -> None:
    labels = np.array(numbers * 3)
    if kind == "npz":
        np.savez(tmp_path / "set.npz", images=PICTURES, labels=labels)
    elif kind == "h5":
        hdf5(tmp_path / "set.h5", images=PICTURES, labels=labels)
    elif kind == "parquet":
        parquet(tmp_path / "set.parquet", {"image": images([*FILES]), "label": labels.tolist()})
    data = load((PICTURES, labels) if kind == "python" else tmp_path / f"set.{kind}", size=(20, 24))
    assert (data.spec.labels or (), len(data)) == (classes, count)
    assert {reject.reason for reject in data.rejects} <= {"no label in labels", "no label in label"}
    assert count == 12 or any("mean no label: 3, such as -1; if they are a class, number" in note for note in data.notes)


def test_shards_of_a_table_are_one_source(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in range(3):
        rows = slice(4 * number, 4 * number + 4)
        content = {"image": images(FILES[rows]), "label": [0, 1, 0, 1]}
        parquet(folder / f"train-0000{number}-of-00003.parquet", content, CLASSES, rows=3)
    parquet(folder / "test-00000-of-00001.parquet", {"image": images(FILES[:2]), "label": [0, 0]}, CLASSES)
    (folder / "README.md").write_text("a data set")
    data = load(folder, size=(20, 24))
    assert np.array_equal(data.array, PICTURES)
    assert any(note.startswith("Not used: test-00000-of-00001.parquet, of another set") for note in data.notes)
    assert data.spec.labels == ("cat", "dog")
    (folder / "train-00001-of-00003.parquet").unlink()
    data = load(folder, size=(20, 24))
    assert len(data) == 8
    assert any(note.startswith("Only 2 of the 3 files") for note in data.notes)
    parquet(folder / "train-00002-of-00003.parquet", {"image": images(FILES[:2])})
    with pytest.raises(LeafwingError, match=r"its columns are not those of train-00000-of-00003\.parquet"):
        load(folder)
    parquet(folder / "other-training.parquet", {"image": images(FILES[:2])})
    with pytest.raises(LeafwingError, match=r"several data sets .*give the path of one file"):
        load(folder)


def test_tables_without_images_or_with_several_columns_of_them(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"no column has the bytes of image files .*its columns are: x int64"):
        load(parquet(tmp_path / "a.parquet", {"x": [1, 2]}))
    with pytest.raises(LeafwingError, match="several columns may be the images: before, after"):
        load(parquet(tmp_path / "b.parquet", {"before": FILES, "after": FILES}))
    (tmp_path / "c.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:500])
    with pytest.raises(LeafwingError, match="not a readable Parquet file"):
        load(tmp_path / "c.parquet")


def test_a_damaged_row_group_rejects_its_rows(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": FILES}, rows=4)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    data = load(path, size=(20, 24))
    assert len(data) == 8
    assert {reject.name for reject in data.rejects} == {f"a/{row:07d}" for row in range(4, 8)}
    assert all("damaged" in reject.reason for reject in data.rejects)


def test_rows_can_be_read_in_any_order_and_a_few_at_a_time(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": FILES}, rows=5)
    with opening.open_source(path, *sources.list_files(path)) as source:
        assert [source.read(row) for row in (7, 0, 11, 3, 4)] == [FILES[row] for row in (7, 0, 11, 3, 4)]
    report = doctor(path)
    assert (report.kind, report.accepted) == ("parquet", 12)


@pytest.mark.parametrize(("name", "module"), [("a.parquet", "pyarrow"), ("a.h5", "h5py")])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.parquet", None)
    with pytest.raises(LeafwingError, match=rf"need {module}, which is not installed: pip install 'leafwing\[tables\]'"):
        load(tmp_path / name)


# --- joined with other sources --------------------------------------------------------------------------------------------------


def test_tables_and_arrays_join_folders(tmp_path: Path) -> None:
    for number, label in enumerate(("cat", "dog")):
        file = tmp_path / "folder" / label / "1.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(FILES[number])
    bits = [True, False, True, False]
    table = parquet(
        tmp_path / "table.parquet",
        {"image": images(FILES[6:10]), "label": [0, 1, 1, 0], "text": ["a red star"] * 4, "wild": bits, "url": ["x"] * 4},
        CLASSES,
    )
    wild = np.array([*bits, False])
    array = hdf5(tmp_path / "array.h5", images=PICTURES[2:7], label=["cat", "cat", "owl", "dog", "owl"], wild=wild)
    data = load([tmp_path / "folder", table, array], size=(20, 24))
    assert np.array_equal(data.array, PICTURES[[2, 3, 4, 5, 6, 0, 1, 6, 7, 8, 9]])  # by name: array, folder, table
    assert data.labels is not None
    labels = [data.spec.labels[label] for label in data.labels]
    assert " ".join(labels) == "cat cat owl dog owl cat dog cat dog dog cat"
    assert any(note.startswith("Attributes are not used, because the sources do not all have") for note in data.notes)
    assert "Columns that are not used: url." in data.notes
    assert any(note.startswith("Not used: column text, with a caption for 4 of 11 images") for note in data.notes)
    both = load([table, array], size=(20, 24), labels="none")
    assert both.spec.attributes == ("wild",)
    assert both.attributes is not None
    assert both.attributes[:, 0].tolist() == [*map(int, wild), *map(int, bits)]
    assert "Attributes come from array/array.h5, table/table.parquet: wild." in both.notes
    assert doctor([table, array], size=(20, 24)).kind == "2 sources: hdf5, parquet"
    labelled = load([tmp_path / "folder", array], labels="folders")
    assert labelled.spec.labels == ("cat", "dog", "owl")
    with pytest.raises(LeafwingError, match=r"labels='wild': not a file of the source folder"):
        load([tmp_path / "folder", table], labels="wild")


def test_shards_that_are_given_one_by_one(tmp_path: Path) -> None:
    """As a pattern such as `train-*.parquet` gives them: the captions of all, and the files are no classes."""
    shards = [
        parquet(
            tmp_path / f"train-0000{number}-of-00002.parquet",
            {"image": images(FILES[6 * number : 6 * number + 6]), "text": [f"a star {number}"] * 6},
        )
        for number in (1, 0)
    ]
    data = load(shards, size=(20, 24))
    assert np.array_equal(data.array, PICTURES)
    assert data.labels is None
    caption = data.spec.fields["caption"]
    assert isinstance(caption, Caption)
    assert {"star", "0", "1"} <= {*caption.words}
    assert any("are used together, without labels; --labels folders" in note for note in data.notes)
    assert load(shards, labels="folders").spec.labels == ("train-00000-of-00002", "train-00001-of-00002")


def test_tables_beside_a_picture_are_mentioned(tmp_path: Path) -> None:
    for number in range(2):
        parquet(tmp_path / "set" / f"train-0000{number}-of-00002.parquet", {"image": images(FILES[:3])})
    (tmp_path / "set" / "banner.png").write_bytes(FILES[0])
    notes = load(tmp_path / "set").notes
    assert any(
        note.startswith(
            "Not used: 2 .parquet files, such as train-00000-of-00002.parquet, because the folder has pictures, such as"
        )
        for note in notes
    )
    assert not any("they are not images" in note for note in notes)

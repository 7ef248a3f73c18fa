"""Attributes: encoding of columns, errors, and that they stay with their images up to the batch."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import write

from leafwing.data import load, load_pack, loading
from leafwing.data.attributes import MAX_NUMBERS, MAX_VALUES, encode
from leafwing.data.doctor import doctor
from leafwing.errors import LeafwingError

LIST = "file,smiling,colour\n0.png,1,red\n1.png,0,blue\n2.png,0,green\n3.png,1,red\n"
NAMES = ("smiling", "colour=blue", "colour=green", "colour=red")
ROWS = [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]


def write_listed(folder: Path, text: str = LIST, n: int = 4) -> Path:
    """n different images and a list."""
    source = write(folder, [f"{index}.png" for index in range(n)])
    (source / "labels.csv").write_text(text, encoding="utf-8")
    return source


def zip_source(source: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(source.rglob("*.*")):
            archive.write(file, file.relative_to(source))
    return target


def cells(*values: str) -> list[tuple[int, str]]:
    return list(enumerate(values, 2))


# --- encoding of a column -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair", [("0", "1"), ("-1", "1"), ("no", "yes"), ("No", "YES"), ("False", "True"), ("0.0", "1.0"), ("-1.0", "1")]
)
def test_a_column_that_says_yes_or_no_is_one_attribute(pair: tuple[str, str]) -> None:
    column = encode("smiling", cells(*pair, pair[0]), "list")
    assert column.names == ("smiling",)
    assert [column.codes[value] for value in pair] == [(0,), (1,)]


def test_any_other_column_is_an_attribute_for_each_value() -> None:
    column = encode("colour", cells("red", "green", "red", "a=b, c"), "list")
    assert column.names == ("colour=a=b, c", "colour=green", "colour=red")
    assert column.codes == {"a=b, c": (1, 0, 0), "green": (0, 1, 0), "red": (0, 0, 1)}
    assert encode("sex", cells("male", "female"), "list").names == ("sex=female", "sex=male")
    assert encode("stars", cells("1", "0", "2"), "list").names == ("stars=0", "stars=1", "stars=2")


def test_columns_that_describe_nothing_are_ignored_with_a_reason() -> None:
    numbers = [str(30 + i) for i in range(MAX_NUMBERS + 1)]
    words = [f"word{i}" for i in range(MAX_VALUES + 1)]
    for values, reason in (
        (numbers, "more than 10"),
        (words, "more than 64"),
        (["1", "1"], "every image (1)"),
        ([], "no image"),
    ):
        column = encode("x", cells(*values), "list")
        assert column.names == ()
        assert reason in column.problem
    assert len(encode("x", cells(*numbers[:-1]), "list").names) == MAX_NUMBERS
    assert len(encode("x", cells(*words[:-1]), "list").names) == MAX_VALUES


def test_an_empty_cell_is_named() -> None:
    with pytest.raises(LeafwingError, match=r"cats: labels.csv, line 3: column smiling is empty"):
        encode("smiling", cells("1", "", "0"), "cats: labels.csv")


# --- from a list to a batch --------------------------------------------------------------------------------------------------


def test_attributes_without_labels(tmp_path: Path) -> None:
    source = write_listed(tmp_path / "set")
    for path in (source, zip_source(source, tmp_path / "set.zip")):
        data = load(path, size=40)
        assert (data.spec.labels, data.labels) == ((), None)
        assert data.spec.attributes == NAMES
        assert tuple(data.spec.fields) == ("image", "attributes")
        assert data.attributes is not None
        assert data.attributes.dtype == np.uint8
        assert data.attributes.tolist() == ROWS
        assert any("Attributes come from labels.csv" in note for note in data.notes)


def test_labels_and_attributes(tmp_path: Path) -> None:
    text = "Label,Smiling,file\nx,1,3.png\ny,0,0.png\ny,1,1.png\n"
    data = load(write_listed(tmp_path, text), size=40)
    assert tuple(data.spec.fields) == ("image", "label", "attributes")
    assert (data.spec.labels, data.spec.attributes) == (("x", "y"), ("Smiling",))
    assert data.labels is not None
    assert data.attributes is not None
    assert (data.labels.tolist(), data.attributes.tolist()) == ([1, 1, 0], [[0], [1], [1]])
    assert [reject.name for reject in data.rejects] == ["2.png"]


def test_class_folders_give_labels_where_the_list_gives_attributes_alone(tmp_path: Path) -> None:
    source = write(tmp_path, ["cat/a.png", "dog/b.png", "dog/c.png"])
    (source / "labels.csv").write_text("file,old\nb.png,yes\ncat/a.png,no\nc.png,no\n")
    data = load(source, size=40)
    assert (data.spec.labels, data.spec.attributes) == (("cat", "dog"), ("old",))
    assert data.labels is not None
    assert data.attributes is not None
    assert (data.labels.tolist(), data.attributes.tolist()) == ([0, 1, 1], [[0], [1], [0]])


def test_attributes_of_unreadable_images_are_dropped(tmp_path: Path) -> None:
    source = write_listed(tmp_path)
    (source / "1.png").write_bytes(b"broken")
    data = load(source, size=40)
    assert data.attributes is not None
    assert data.attributes.tolist() == [ROWS[0], ROWS[2], ROWS[3]]


def test_values_of_missing_files_give_no_attribute(tmp_path: Path) -> None:
    data = load(write_listed(tmp_path, LIST + "gone.png,0,violet\n"), size=40)
    assert data.spec.attributes == NAMES


@pytest.mark.parametrize("mirror", [False, True])
def test_batches_hold_the_attributes_of_their_pictures(tmp_path: Path, mirror: bool) -> None:
    data = load(write_listed(tmp_path), size=40, mirror=mirror)
    assert data.attributes is not None
    resident = data.batches(5, "cpu", resident=True)
    halves = [data.batches(5, "cpu", rank=rank, world_size=2) for rank in (0, 1)]
    for images, n in ((0, 4), (3, 9), (2, 0)):
        stored = data.batch(5, images, n)
        batch = data.to_network(stored)
        assert stored.attributes.dtype == torch.uint8
        assert batch.attributes.dtype == torch.float32
        assert batch.attributes.shape == (n, 4)
        for image, values in zip(stored.image.numpy(), batch.attributes.tolist(), strict=True):
            rows = [
                i for i, row in enumerate(data.array) if (row == image).all() or (mirror and (row[:, ::-1] == image).all())
            ]
            assert [data.attributes[rows[0]].tolist()] == [values]
        assert torch.equal(resident(images, n).attributes, batch.attributes)
        assert torch.equal(torch.cat([half(images, n).attributes for half in halves]), batch.attributes)


def test_a_split_keeps_pictures_and_attributes_together(tmp_path: Path) -> None:
    data = load(write_listed(tmp_path), size=40)
    assert data.attributes is not None
    for part in data.split(2):
        batch = part.batch(0, 0, len(part))
        assert part.rows is not None
        assert sorted(batch.attributes.tolist()) == sorted(data.attributes[part.rows].tolist())


def test_examples_are_those_of_real_samples(tmp_path: Path) -> None:
    data = load(write_listed(tmp_path), size=40)
    assert sorted(data.examples(["attributes"])["attributes"]) == sorted("".join(map(str, row)) for row in ROWS)
    assert len(data.examples(["attributes"], 3)["attributes"]) == 3
    sprites = load("sprites", size=16)
    assert sprites.labels is not None
    assert sprites.attributes is not None
    real = {(label, "".join(map(str, row))) for label, row in zip(sprites.labels, sprites.attributes.tolist(), strict=True)}
    examples = sprites.examples(["label", "attributes"])
    pairs = {*zip(examples["label"], examples["attributes"], strict=True)}
    assert len(examples["label"]) == len(examples["attributes"]) == 512
    assert pairs <= real


# --- the cache ---------------------------------------------------------------------------------------------------------------


def test_attributes_are_part_of_the_fingerprint_and_of_the_pack(tmp_path: Path) -> None:
    source = write_listed(tmp_path / "set")
    first = load(source, size=40)
    packed = load_pack(first.fingerprint)
    assert packed is not None
    assert packed.spec == first.spec
    assert packed.attributes is not None
    assert packed.attributes.tolist() == ROWS
    fingerprints = {first.fingerprint}
    for text in (LIST.replace("3.png,1", "3.png,0"), LIST.replace("smiling", "merry"), LIST.replace("red", "crimson")):
        (source / "labels.csv").write_text(text)
        fingerprints.add(load(source, size=40).fingerprint)
    assert len(fingerprints) == 4


def test_without_attributes_the_fingerprint_is_that_of_older_versions(tmp_path: Path) -> None:
    source = write(tmp_path, ["a.png", "b.png"])
    options = {"size": "16x16", "channels": 3, "fit": "crop", "background": [255, 255, 255]}
    for label, other in ((None, None), ("x", "y")):
        if label:
            (source / "labels.csv").write_text("file,label\na.png,x\nb.png,y\n")
        expected = hashlib.sha256(json.dumps([1, options]).encode())
        for name, value in (("a.png", label), ("b.png", other)):
            content = hashlib.sha256((source / name).read_bytes()).hexdigest()
            expected.update(json.dumps([name, content, value]).encode())
        assert load(source, size=16).fingerprint == expected.hexdigest()
    assert load("sprites").fingerprint.startswith("227e3fa296b3bb5c")


def test_a_pack_of_an_older_version_opens(tmp_path: Path, cache: Path) -> None:
    data = load(write(tmp_path, ["a.png", "b.png"]), size=16)
    path = cache / "packs" / data.fingerprint / "pack.json"
    about = json.loads(path.read_text())
    assert about.pop("attributes") == []
    assert about.pop("fields") == {}
    path.write_text(json.dumps(about))
    (path.parent / "checksums.json").unlink()
    packed = load_pack(data.fingerprint)
    assert packed is not None
    assert (packed.attributes, packed.spec) == (None, data.spec)


def test_a_pack_without_its_attributes_is_rebuilt(tmp_path: Path, cache: Path) -> None:
    source = write_listed(tmp_path)
    fingerprint = load(source, size=40).fingerprint
    (cache / "packs" / fingerprint / "attributes.npy").unlink()
    assert load_pack(fingerprint) is None
    again = load(source, size=40)
    assert again.attributes is not None
    assert again.attributes.tolist() == ROWS


def test_a_listing_of_an_older_version_does_not_hide_attributes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions ignored attribute columns; their listings, which are valid while no file changes, must not be used."""
    source = write_listed(tmp_path / "set", "file,label,smiling\n" + "".join(f"{i}.png,x,{i % 2}\n" for i in range(4)))
    with monkeypatch.context() as earlier:
        earlier.setattr(loading, "READING", 0)
        load(source, size=40)
    assert len(list((cache / "listings").iterdir())) == 2, "by the given and by the resolved options"
    assert load(source, size=40).spec.attributes == ("smiling",)
    assert len(list((cache / "listings").iterdir())) == 4


# --- errors and notes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\n0.png\n", "first line must name the columns"),
        ("file,smiling\n0.png,1\n1.png\n2.png,0\n", r"labels.csv, line 3: column smiling is empty"),
        ("file,smiling,smiling\n0.png,1,0\n", "columns 2 and 3 .*smiling"),
        ("file,a=b\n0.png,1\n", "column 2 .*'a=b'"),
        ("file,smiling\n0.png,1\n1.png,0\n0.png,0\n", r"line 4: 0\.png .*line 2"),
        ("file,smiling\n,1\n", "line 2: a file is needed"),
    ],
)
def test_bad_lists_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        load(write_listed(tmp_path, text))


def test_ignored_columns_are_noted(tmp_path: Path) -> None:
    text = "file,label,,age,same,smiling\n" + "".join(f"{i}.png,x,{i},{20 + i},yes,{i % 2}\n" for i in range(12))
    data = load(write_listed(tmp_path, text, 12), size=40)
    assert data.spec.attributes == ("smiling",)
    assert any("column age has 12 different numbers" in note for note in data.notes)
    assert any("column same " in note and "(yes)" in note for note in data.notes)


def test_the_doctor_counts_attributes(tmp_path: Path) -> None:
    source = write_listed(tmp_path / "set")
    report = doctor(source, size=40)
    assert report.attributes == {"smiling": 2, "colour=blue": 1, "colour=green": 1, "colour=red": 2}
    assert "smiling 50%" in report.text()
    assert any("cgan" in line and "attributes" in line for line in report.advice)
    shutil.rmtree(source)
    assert doctor("sprites").attributes["colour=red"] == 10_368 // 6


# --- built-in data sets -------------------------------------------------------------------------------------------------------


def test_sprites_have_attributes_that_agree_with_their_labels() -> None:
    data = load("sprites", size=16)
    assert data.attributes is not None
    assert data.attributes.shape == (len(data), 23)
    assert len(data.spec.attributes) == 23
    shapes = [data.spec.attributes.index(f"shape={name}") for name in data.spec.labels]
    assert (data.attributes[:, shapes].argmax(axis=1) == data.labels).all()
    for part in ("shape", "colour", "size", "background"):
        columns = [i for i, name in enumerate(data.spec.attributes) if name.startswith(f"{part}=")]
        assert (data.attributes[:, columns].sum(axis=1) == 1).all()


def test_mirrored_sprites_have_no_left_and_right() -> None:
    plain, mirrored = load("sprites", size=16), load("sprites", size=16, mirror=True)
    assert {*plain.spec.attributes} - {*mirrored.spec.attributes} == {"left", "right"}
    assert plain.attributes is not None
    assert mirrored.attributes is not None
    columns = [plain.spec.attributes.index(name) for name in mirrored.spec.attributes]
    assert (plain.attributes[:, columns] == mirrored.attributes).all()

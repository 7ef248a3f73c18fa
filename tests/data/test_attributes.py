"""Attributes: what columns of a list mean, what is refused, and that they stay with their pictures all the way to a batch."""

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


def listed(folder: Path, text: str = LIST, n: int = 4) -> Path:
    """n pictures, each another one, and a list."""
    source = write(folder, [f"{index}.png" for index in range(n)])
    (source / "labels.csv").write_text(text, encoding="utf-8")
    return source


def zipped(source: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for one in sorted(source.rglob("*.*")):
            archive.write(one, one.relative_to(source))
    return target


def cells(*values: str) -> list[tuple[int, str]]:
    return list(enumerate(values, 2))


# --- what a column means -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [("0", "1"), ("-1", "1"), ("no", "yes"), ("No", "YES"), ("False", "True"), ("0.0", "1.0"), ("-1.0", "1")]
)
def test_a_column_that_says_yes_or_no_is_one_attribute(said: tuple[str, str]) -> None:
    column = encode("smiling", cells(*said, said[0]), "list")
    assert column.names == ("smiling",)
    assert [column.codes[value] for value in said] == [(0,), (1,)]


def test_any_other_column_is_an_attribute_for_each_value() -> None:
    column = encode("colour", cells("red", "green", "red", "a=b, c"), "list")
    assert column.names == ("colour=a=b, c", "colour=green", "colour=red")
    assert column.codes == {"a=b, c": (1, 0, 0), "green": (0, 1, 0), "red": (0, 0, 1)}
    assert encode("sex", cells("male", "female"), "list").names == ("sex=female", "sex=male")
    assert encode("stars", cells("1", "0", "2"), "list").names == ("stars=0", "stars=1", "stars=2")


def test_columns_that_describe_nothing_are_left_out_and_the_reason_is_said() -> None:
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
    source = listed(tmp_path / "set")
    for place in (source, zipped(source, tmp_path / "set.zip")):
        data = load(place, size=40)
        assert (data.spec.labels, data.labels) == ((), None)
        assert data.spec.attributes == NAMES
        assert data.spec.fields == ("image", "attributes")
        assert data.attributes is not None
        assert data.attributes.dtype == np.uint8
        assert data.attributes.tolist() == ROWS
        assert any("Attributes come from labels.csv" in note for note in data.notes)


def test_labels_and_attributes(tmp_path: Path) -> None:
    text = "Label,Smiling,file\nx,1,3.png\ny,0,0.png\ny,1,1.png\n"
    data = load(listed(tmp_path, text), size=40)
    assert data.spec.fields == ("image", "label", "attributes")
    assert (data.spec.labels, data.spec.attributes) == (("x", "y"), ("Smiling",))
    assert data.labels is not None
    assert data.attributes is not None
    assert (data.labels.tolist(), data.attributes.tolist()) == ([1, 1, 0], [[0], [1], [1]])
    assert [one.name for one in data.rejects] == ["2.png"]


def test_class_folders_give_labels_where_the_list_gives_attributes_alone(tmp_path: Path) -> None:
    source = write(tmp_path, ["cat/a.png", "dog/b.png", "dog/c.png"])
    (source / "labels.csv").write_text("file,old\nb.png,yes\ncat/a.png,no\nc.png,no\n")
    data = load(source, size=40)
    assert (data.spec.labels, data.spec.attributes) == (("cat", "dog"), ("old",))
    assert data.labels is not None
    assert data.attributes is not None
    assert (data.labels.tolist(), data.attributes.tolist()) == ([0, 1, 1], [[0], [1], [0]])


def test_a_picture_that_cannot_be_read_takes_its_attributes_with_it(tmp_path: Path) -> None:
    source = listed(tmp_path)
    (source / "1.png").write_bytes(b"broken")
    data = load(source, size=40)
    assert data.attributes is not None
    assert data.attributes.tolist() == [ROWS[0], ROWS[2], ROWS[3]]


def test_what_a_list_says_of_files_that_are_not_there_makes_no_attribute(tmp_path: Path) -> None:
    data = load(listed(tmp_path, LIST + "gone.png,0,violet\n"), size=40)
    assert data.spec.attributes == NAMES


@pytest.mark.parametrize("mirror", [False, True])
def test_batches_hold_the_attributes_of_their_pictures(tmp_path: Path, mirror: bool) -> None:
    data = load(listed(tmp_path), size=40, mirror=mirror)
    assert data.attributes is not None
    resident = data.batches(5, "cpu", resident=True)
    halves = [data.batches(5, "cpu", share=(rank, 2)) for rank in (0, 1)]
    for images, n in ((0, 4), (3, 9), (2, 0)):
        batch = data.batch(5, images, n)
        assert batch.attributes.dtype == torch.float32
        assert batch.attributes.shape == (n, 4)
        for image, own in zip(batch.image.permute(0, 2, 3, 1).numpy(), batch.attributes.tolist(), strict=True):
            place = [
                i for i, one in enumerate(data.array) if (one == image).all() or (mirror and (one[:, ::-1] == image).all())
            ]
            assert [data.attributes[place[0]].tolist()] == [own]
        assert torch.equal(resident(images, n).attributes, batch.attributes)
        assert torch.equal(torch.cat([half(images, n).attributes for half in halves]), batch.attributes)


def test_a_split_keeps_pictures_and_attributes_together(tmp_path: Path) -> None:
    data = load(listed(tmp_path), size=40)
    assert data.attributes is not None
    for part in data.split(2):
        batch = part.batch(0, 0, len(part))
        assert part.rows is not None
        assert sorted(batch.attributes.tolist()) == sorted(data.attributes[part.rows].tolist())


def test_combinations_are_those_of_real_samples(tmp_path: Path) -> None:
    data = load(listed(tmp_path), size=40)
    assert sorted(data.combinations()) == sorted("".join(map(str, row)) for row in ROWS)
    assert len(data.combinations(3)) == 3
    told = load("sprites", size=16)
    assert told.labels is not None
    assert told.attributes is not None
    assert len(told.combinations()) == 512
    real = {f"{label}:{''.join(map(str, row))}" for label, row in zip(told.labels, told.attributes.tolist(), strict=True)}
    assert set(told.combinations()) <= real


# --- the cache ---------------------------------------------------------------------------------------------------------------


def test_attributes_are_part_of_the_fingerprint_and_of_the_pack(tmp_path: Path) -> None:
    source = listed(tmp_path / "set")
    first = load(source, size=40)
    packed = load_pack(first.fingerprint)
    assert packed is not None
    assert packed.spec == first.spec
    assert packed.attributes is not None
    assert packed.attributes.tolist() == ROWS
    seen = {first.fingerprint}
    for text in (LIST.replace("3.png,1", "3.png,0"), LIST.replace("smiling", "merry"), LIST.replace("red", "crimson")):
        (source / "labels.csv").write_text(text)
        seen.add(load(source, size=40).fingerprint)
    assert len(seen) == 4


def test_without_attributes_the_fingerprint_is_what_it_was_before_there_were_any(tmp_path: Path) -> None:
    source = write(tmp_path, ["a.png", "b.png"])
    options = {"size": "16x16", "channels": 3, "fit": "crop", "background": [255, 255, 255]}
    for label, other in ((None, None), ("x", "y")):
        if label:
            (source / "labels.csv").write_text("file,label\na.png,x\nb.png,y\n")
        expected = hashlib.sha256(json.dumps([1, options]).encode())
        for name, own in (("a.png", label), ("b.png", other)):
            content = hashlib.sha256((source / name).read_bytes()).hexdigest()
            expected.update(json.dumps([name, content, own]).encode())
        assert load(source, size=16).fingerprint == expected.hexdigest()
    assert load("sprites").fingerprint.startswith("227e3fa296b3bb5c")


def test_a_pack_from_before_there_were_attributes_opens(tmp_path: Path, cache: Path) -> None:
    data = load(write(tmp_path, ["a.png", "b.png"]), size=16)
    path = cache / "packs" / data.fingerprint / "pack.json"
    about = json.loads(path.read_text())
    assert about.pop("attributes") == []
    path.write_text(json.dumps(about))
    packed = load_pack(data.fingerprint)
    assert packed is not None
    assert (packed.attributes, packed.spec) == (None, data.spec)


def test_a_pack_without_its_attributes_is_made_anew(tmp_path: Path, cache: Path) -> None:
    source = listed(tmp_path)
    fingerprint = load(source, size=40).fingerprint
    (cache / "packs" / fingerprint / "attributes.npy").unlink()
    assert load_pack(fingerprint) is None
    again = load(source, size=40)
    assert again.attributes is not None
    assert again.attributes.tolist() == ROWS


def test_a_listing_from_before_there_were_attributes_does_not_hide_them(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list was read then, its columns were not: as long as no file changes, a listing alone is looked at."""
    source = listed(tmp_path / "set", "file,label,smiling\n" + "".join(f"{i}.png,x,{i % 2}\n" for i in range(4)))
    with monkeypatch.context() as earlier:
        earlier.setattr(loading, "READING", 0)
        load(source, size=40)
    assert len(list((cache / "listings").iterdir())) == 1
    assert load(source, size=40).spec.attributes == ("smiling",)
    assert len(list((cache / "listings").iterdir())) == 2


# --- what is refused, and what is said ---------------------------------------------------------------------------------------


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
        load(listed(tmp_path, text))


def test_columns_that_are_left_out_are_noted(tmp_path: Path) -> None:
    text = "file,label,,age,same,smiling\n" + "".join(f"{i}.png,x,{i},{20 + i},yes,{i % 2}\n" for i in range(12))
    data = load(listed(tmp_path, text, 12), size=40)
    assert data.spec.attributes == ("smiling",)
    assert any("column age has 12 different numbers" in note for note in data.notes)
    assert any("column same " in note and "(yes)" in note for note in data.notes)


def test_the_doctor_counts_attributes(tmp_path: Path) -> None:
    source = listed(tmp_path / "set")
    report = doctor(source, size=40)
    assert report.attributes == {"smiling": 2, "colour=blue": 1, "colour=green": 1, "colour=red": 2}
    assert "smiling 50%" in report.text()
    assert any("cgan" in one and "attributes" in one for one in report.advice)
    shutil.rmtree(source)
    assert doctor("sprites").attributes["colour=red"] == 10_368 // 6


# --- the built-in world ------------------------------------------------------------------------------------------------------


def test_sprites_have_attributes_that_agree_with_their_labels() -> None:
    data = load("sprites", size=16)
    assert data.attributes is not None
    assert data.attributes.shape == (len(data), 23)
    assert len(data.spec.attributes) == 23
    shapes = [data.spec.attributes.index(f"shape={name}") for name in data.spec.labels]
    assert (data.attributes[:, shapes].argmax(axis=1) == data.labels).all()
    for part in ("shape", "colour", "size", "background"):
        own = [place for place, name in enumerate(data.spec.attributes) if name.startswith(f"{part}=")]
        assert (data.attributes[:, own].sum(axis=1) == 1).all()


def test_mirrored_sprites_know_no_left_and_right() -> None:
    plain, mirrored = load("sprites", size=16), load("sprites", size=16, mirror=True)
    assert {*plain.spec.attributes} - {*mirrored.spec.attributes} == {"left", "right"}
    assert plain.attributes is not None
    assert mirrored.attributes is not None
    kept = [plain.spec.attributes.index(name) for name in mirrored.spec.attributes]
    assert (plain.attributes[:, kept] == mirrored.attributes).all()

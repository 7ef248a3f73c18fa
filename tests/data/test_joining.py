"""Several sources are read as if they lay in one folder, each under its own name."""

from __future__ import annotations

import json
import os
import re
import struct
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_helpers import encoded, picture, write

from leafwing.data import Dataset, compare, joining, load, load_pack, loading, pictures
from leafwing.data.doctor import doctor
from leafwing.data.loading import listing_signature
from leafwing.data.locating import distinct_names
from leafwing.data.opening import Listing
from leafwing.data.options import check
from leafwing.data.sources import File
from leafwing.errors import InvalidOption, LeafwingError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LEAFWING_CACHE", str(folder))
    return folder


def flat(folder: Path, count: int, start: int = 0) -> Path:
    """A folder of images, all different from those with other numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        (folder / f"{number}.png").write_bytes(encoded(picture(number)))
    return folder


def zipped(path: Path, folder: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, f"{top}{file.relative_to(folder).as_posix()}")
    return path


def counts(data: Dataset) -> dict[str, int]:
    """The number of images of each class."""
    return {} if data.labels is None else dict(Counter(data.spec.labels[index] for index in data.labels))


# --- one folder -----------------------------------------------------------------------------------------------------------------


def test_flat_folders_are_classes_and_the_same_data_as_one_folder_with_them(tmp_path: Path) -> None:
    """Also in the other order, and where the order of names is not that of paths ('-' comes before '/')."""
    cats, others = flat(tmp_path / "all" / "cats", 5), flat(tmp_path / "all" / "cats-2", 4, 10)
    whole = load(tmp_path / "all")
    for given in ([cats, others], (others, cats), {"cats-2": str(others), "cats": str(cats)}):
        data = load(given)  # type: ignore[arg-type]
        assert data.fingerprint == whole.fingerprint
        assert counts(data) == {"cats": 5, "cats-2": 4}
        assert np.array_equal(data.array, whole.array)
    assert any(note.startswith("Each source is a class: ") and f"cats from {cats}" in note for note in data.notes)
    assert counts(load([cats, others], labels="none")) == {}


def test_a_single_source_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "set", ["a/1.png", "b/2.png", "b/3.png"])
    alone = load(folder)
    assert load([folder]).fingerprint == alone.fingerprint
    assert (load([folder]).sources, alone.sources) == ({}, {})
    files = [
        File("cat/1.png", "/data/set/cat/1.png", 10, (1, 2)),
        File("dog/2.png", "/data/set/dog/2.png", 20, (3, 4)),
    ]
    listing = Listing(Path("/data/set"), files, [])
    expected = {
        "5bb4a5e6643f4677f8734a8a139e4a360bce76794b4c25e1561e9c73ee55f0e1": (check(None, None, "crop", "white"), None),
        "d40bd5a631c30a23416c456bcbdeca6969efd2f1ac4ba280f3c30654e295e6b1": (check(32, 3, "pad", "white"), "left"),
    }
    monkeypatch.setattr(loading, "READING", 4)
    monkeypatch.setattr(pictures, "special_formats", tuple)  # whatever is installed here
    for signature, (options, input) in expected.items():  # from before sources could be joined
        assert listing_signature([listing], options, input) == signature


def test_equal_class_folders_are_one_class(tmp_path: Path) -> None:
    first = write(tmp_path / "a", ["cat/1.png", "cat/2.png", "dog/1.png"])
    second = write(tmp_path / "b", ["cat/1.png", "bird/1.png", "bird/2.png"], height=44)
    third = write(tmp_path / "c", ["dog/1.png", "dog/2.png"], height=48)  # one folder alone would be no class
    data = load([first, second, third])
    assert counts(data) == {"bird": 2, "cat": 3, "dog": 3}
    assert "Classes of the same name in several sources are one class: cat, dog." in data.notes
    assert "Classes of one source: bird from b." in data.notes


def test_archives_idx_files_and_arrays_join_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", ["0/1.png", "0/2.png", "1/1.png", "1/2.png"])
    tar = tmp_path / "b.tar.gz"
    with tarfile.open(tar, "w:gz") as archive:
        archive.add(write(tmp_path / "t", ["1/x.png", "0/y.png"], height=48), "top")
    pixels = np.arange(3 * 30 * 30, dtype=np.uint8).reshape(3, 30, 30)
    np.savez(tmp_path / "c.npz", images=pixels, labels=np.array([0, 1, 2]))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 3, 30, 30) + pixels[::-1].tobytes())
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 3) + bytes([2, 2, 1]))
    joined = [folder, tar, tmp_path / "c.npz", tmp_path / "train-images-idx3-ubyte"]
    data = load(joined, size=30, channels=1)
    assert counts(data) == {"0": 4, "1": 5, "2": 3}
    assert list(data.sources) == ["a", "b", "c", "train"]
    assert np.array_equal(data.array[6:9, :, :, 0], pixels)
    assert np.array_equal(data.array[9:, :, :, 0], pixels[::-1])
    report = doctor(joined, size=30, channels=1)
    assert report.accepted == 12
    assert report.kind == "4 sources: folder, tar, array, idx"


def test_archives_of_one_folder_are_classes(tmp_path: Path) -> None:
    cats = zipped(tmp_path / "cats.zip", flat(tmp_path / "x", 3), "images/")
    dogs = zipped(tmp_path / "dogs.zip", flat(tmp_path / "y", 2, 5), "images/")
    assert counts(load([cats, dogs])) == {"cats": 3, "dogs": 2}
    assert counts(load([zipped(tmp_path / "1.zip", tmp_path / "x", "cat/"), zipped(tmp_path / "2.zip", tmp_path / "y", "dog/")])) == {
        "cat": 3, "dog": 2,
    }  # fmt: skip


def test_labels_of_some_sources_are_not_used(tmp_path: Path) -> None:
    labelled, plain = write(tmp_path / "a", ["cat/1.png", "dog/1.png"]), flat(tmp_path / "dog", 3, 10)
    data = load([labelled, plain])
    assert counts(data) == {}
    assert any(
        note.startswith("No labels are used, because dog has none, unlike a; --labels folders") for note in data.notes
    )
    assert not any("are the labels" in note for note in data.notes)
    assert counts(load([labelled, plain], labels="folders")) == {"cat": 1, "dog": 4}
    splits = load([flat(tmp_path / "train", 3, 20), flat(tmp_path / "test", 2, 30)])
    assert counts(splits) == {}
    together = "are used together, without labels; --labels folders makes each of them a class."
    assert f"The splits test, train {together}" in splits.notes
    numbered = load([flat(tmp_path / "train2017" / "train_images", 3, 20), flat(tmp_path / "val2017" / "val_images", 2, 30)])
    assert counts(numbered) == {}
    assert f"The splits train_images, val_images {together}" in numbered.notes
    years = [tmp_path / "train2017", tmp_path / "val2017"]
    assert counts(load(years)) == {}
    assert counts(load(years, labels="folders")) == {"train_images": 3, "val_images": 2}


def test_images_without_a_label_are_used_where_no_labels_are(tmp_path: Path) -> None:
    listed, plain = flat(tmp_path / "a", 5), flat(tmp_path / "b", 3, 10)
    write(plain, ["x/1.png", "y/2.png"], height=44)
    (listed / "labels.csv").write_text("file,label\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(4)))
    data = load([listed, plain])
    assert (len(data), counts(data), data.rejects) == (10, {}, [])
    assert not any("--labels none" in note for note in data.notes)
    assert any("labels.csv lists images: --labels labels.csv" in note or "a/labels.csv" in note for note in data.notes)
    (listed / "labels.csv").write_text("file,label,big\n" + "".join(f"{i}.png,{i % 2},{i % 2}\n" for i in range(4)))
    data = load([listed, plain])
    assert (len(data), counts(data), len(data.rejects)) == (9, {}, 1)
    assert any(note.endswith(", --labels none uses all images.") for note in data.notes)
    assert len(load([listed, plain], labels="none")) == 10


def test_tars_of_a_folder_are_named_after_themselves(tmp_path: Path) -> None:
    for number, name in enumerate(("cats", "dogs")):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(flat(tmp_path / name, 2, 5 * number), ".")
    for labels in (None, "folders"):
        assert counts(load([tmp_path / "cats.tar", tmp_path / "dogs.tar"], labels=labels)) == {"cats": 2, "dogs": 2}


def test_lists_of_each_source(tmp_path: Path) -> None:
    first, second = flat(tmp_path / "a", 3), flat(tmp_path / "b", 2)
    (first / "labels.csv").write_text("file,label,mood\n0.png,x,calm\n1.png,y,calm\n2.png,x,wild\n")
    (second / "labels.csv").write_text("file,mood,label\n0.png,shy,z\n1.png,calm,x\n")
    data = load([first, second])
    assert counts(data) == {"x": 3, "y": 1, "z": 1}
    assert data.spec.attributes == ("mood=calm", "mood=shy", "mood=wild")
    assert data.attributes is not None
    assert data.attributes.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    (second / "labels.csv").write_text("file,mood,label\n0.png,,z\n1.png,calm,x\n")
    with pytest.raises(LeafwingError, match=r"line 2 of b/labels.csv: column mood is empty"):
        load([first, second])
    (second / "labels.csv").write_text("file,label\n0.png,z\n1.png,x\n")
    data = load([first, second])
    assert data.attributes is None
    assert any(
        note.startswith("Attributes are not used, because the sources do not all have the same") for note in data.notes
    )
    (second / "labels.csv").unlink()
    with pytest.raises(InvalidOption, match="not a file of the source b"):
        load([first, second], labels="labels.csv")


def test_captions_of_all_sources_have_one_vocabulary(tmp_path: Path) -> None:
    first, second = flat(tmp_path / "a", 2), flat(tmp_path / "b", 2, 10)
    (first / "captions.csv").write_text("file,caption\n0.png,a red star\n1.png,a blue star\n")
    (second / "captions.csv").write_text("file,caption\n10.png,a red ring\n11.png,a green ring\n")
    caption = load([first, second]).spec.fields["caption"]
    assert {"star", "ring", "green"} <= {*caption.words}  # type: ignore[attr-defined]


def test_sizes_and_levels_are_those_of_the_joined_set(tmp_path: Path) -> None:
    small, large = flat(tmp_path / "small", 2), write(tmp_path / "large", ["1.png", "2.png", "3.png"], height=90, width=90)
    assert (load([small]).spec.height, load([large]).spec.height, load([small, large]).spec.height) == (32, 64, 64)


def test_pairs_in_each_source(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, ["A/1.png", "A/2.png", "B/1.png", "B/2.png"])
    data = load([tmp_path / "a", tmp_path / "b"], input="A")
    assert len(data) == 4
    assert counts(data) == {}
    with pytest.raises(LeafwingError, match=re.escape(f"{tmp_path / 'c'} has no folder")):
        load([tmp_path / "a", flat(tmp_path / "c", 2)], input="A")
    unpaired = load([flat(tmp_path / "x", 3), flat(tmp_path / "y", 3, 5)], input=str(tmp_path / "c"))
    assert unpaired.parts
    assert list(unpaired.sources) == ["x", "y"]


# --- names ----------------------------------------------------------------------------------------------------------------------


def test_names_are_distinct_and_say_where_images_come_from(tmp_path: Path) -> None:
    folder, archive = flat(tmp_path / "cats", 2), tmp_path / "cats.zip"
    zipped(archive, flat(tmp_path / "other", 2, 5))
    january, march = flat(tmp_path / "jan" / "photos", 2), flat(tmp_path / "mar" / "photos", 2, 5)
    assert distinct_names([folder, archive]) == ["cats", "cats.zip"]
    assert distinct_names([january, folder, march]) == ["jan-photos", "cats", "mar-photos"]
    data = load([january, march])
    assert data.spec.labels == ("jan-photos", "mar-photos")
    assert f"{january} is read under the name jan-photos." in data.notes


@pytest.mark.parametrize("case", ["built-in", "twice", "nested", "missing", "empty", "none", "no path", "name"])
def test_refusals(tmp_path: Path, case: str) -> None:
    cats = flat(tmp_path / "cats", 2)
    (tmp_path / "empty").mkdir()
    given, message = {
        "built-in": ([cats, "digits"], "digits is built in and cannot be joined"),
        "twice": ([cats, f"{cats}/../cats"], "are the same source"),
        "nested": ([tmp_path, cats], "lies in .*read twice"),
        "missing": ([cats, tmp_path / "cat"], "no such file or folder"),
        "empty": ([cats, tmp_path / "empty"], "empty has no images to join"),
        "none": ([], "no source"),
        "name": ({"a/b": cats, "c": tmp_path}, "'a/b' cannot be the name of a source"),
        "no path": ([cats, np.zeros(3)], "a source is a path"),
    }[case]
    with pytest.raises(LeafwingError, match=message):
        load(given)  # type: ignore[arg-type]
    with pytest.raises(LeafwingError, match=message):
        doctor(given)  # type: ignore[arg-type]


# --- the cache and changes ------------------------------------------------------------------------------------------------------


def test_joined_sources_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [flat(tmp_path / "b", 3), flat(tmp_path / "a", 2, 5)]
    data = load(given, size=32)
    monkeypatch.setattr(joining, "open_source", lambda *_: pytest.fail("a source was opened again"))
    again = load(json.loads(json.dumps(data.origin)), **json.loads(json.dumps(data.options)))
    assert (again.fingerprint, again.sources, again.source) == (data.fingerprint, data.sources, data.source)
    assert again.notes == data.notes
    assert list(data.sources) == ["b", "a"]
    assert load_pack(data.fingerprint) is not None
    assert compare(data.origin, data.options, data.fingerprint) is None


def test_changes_of_joined_sources_are_named(tmp_path: Path) -> None:
    a, b = flat(tmp_path / "a", 3), flat(tmp_path / "b", 2, 5)
    data = load([a, b])
    (b / "new.png").write_bytes(encoded(picture(99)))
    (a / "0.png").unlink()
    changes = compare(data.origin, data.options, data.fingerprint)
    assert changes is not None
    assert (changes.added, changes.removed) == (("b/new.png",), ("a/0.png",))
    os.rename(b, tmp_path / "c")
    changes = compare(data.origin, data.options, data.fingerprint)
    assert re.search(f"{b} cannot be found; .*--source", str(changes))
    moved = {"a": a, "b": tmp_path / "c"}
    assert str(compare(moved, data.options, data.fingerprint)).startswith("1 image added (b/new.png), 1 image removed")
    os.rename(a, tmp_path / "d")
    assert compare(data.origin, data.options, data.fingerprint) is None


# --- classes without images -----------------------------------------------------------------------------------------------------


def test_classes_without_a_usable_image_are_named_in_one_note(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["cat/1.png", "dog/1.png", "dog/2.png"])
    for name in ("empty", "nested/empty", ".hidden", "broken"):
        (folder / name).mkdir(parents=True)
    (folder / "broken" / "x.png").write_bytes(b"no image")
    expected = "Classes of which no image can be used: broken, empty, nested."
    for _ in range(2):  # the second time from the cache
        assert [note for note in load(folder).notes if "no image" in note] == [expected]
    assert [note for note in doctor(folder).notes if "no image" in note] == [expected]
    (folder / "later").mkdir()  # changes no file
    assert "Classes of which no image can be used: broken, empty, later, nested." in load(folder).notes
    assert not any("no image" in note for note in load(folder, labels="none").notes)
    other = flat(tmp_path / "bird", 2, 20)
    joined = load([folder, write(tmp_path / "more", ["empty/1.png", "cat/2.png"], height=48)])
    assert "Classes of which no image can be used: broken, later, nested." in joined.notes, (
        "another source has images of empty"
    )
    assert not any("no image" in note for note in load(other).notes)


def test_empty_folders_beside_the_only_one_with_images_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["cat/1.png", "cat/2.png"])
    (folder / "dog").mkdir()
    expected = "Folders without files, beside the only one with images, which is therefore no class: dog."
    assert expected in load(folder).notes
    assert expected in doctor(folder).notes

"""Labels and attributes from the layouts in which people have them; nothing that is not used goes unmentioned."""

from __future__ import annotations

import json
import random
import re
import shutil
import tarfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from data_helpers import encoded, picture

from leafwing.data import Dataset, load
from leafwing.data.doctor import doctor
from leafwing.data.labels import classes
from leafwing.data.loading import SurveyedSource
from leafwing.data.opening import Listing
from leafwing.data.options import check
from leafwing.data.pictures import strict
from leafwing.data.sources import is_hidden, list_files
from leafwing.errors import LeafwingError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAFWING_CACHE", str(tmp_path_factory.mktemp("cache")))


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Writes files; the content of an image is its number."""
    for index, (name, content) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data or encoded(picture(index, 40, 40)))
    return folder


def images(*names: str) -> dict[str, str | bytes]:
    return dict.fromkeys(names, b"")


def labels_of(data: Dataset) -> list[str]:
    assert data.labels is not None
    return [data.spec.labels[index] for index in data.labels]


FLAT = images(*(f"{i}.png" for i in range(4)))
AB = ["a", "b", "a", "b"]
LISTS: dict[str, tuple[str, str | bytes]] = {
    "another case": ("Labels.CSV", "file,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))),
    "semicolons": ("labels.csv", "file;label\n" + "".join(f"{i}.png;{AB[i]}\n" for i in range(4))),
    "tabs": ("labels.tsv", "file\tlabel\n" + "".join(f"{i}.png\t{AB[i]}\n" for i in range(4))),
    "UTF-16": ("labels.csv", ("file,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))).encode("utf-16")),
    "other titles": ("labels.csv", "image_id,class\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))),
    "name": ("labels.csv", "name,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))),
    "no extension": ("labels.csv", "file,label\n" + "".join(f"{i},{AB[i]}\n" for i in range(4))),
    "another extension": ("labels.csv", "file,label\n" + "".join(f"{i}.JPG,{AB[i]}\n" for i in range(4))),
    "absolute paths": ("labels.csv", "file,label\n" + "".join(f"/home/me/set/{i}.png,{AB[i]}\n" for i in range(4))),
    "Windows paths": ("labels.csv", "file,label\n" + "".join(f"C:\\set\\{i}.png,{AB[i]}\n" for i in range(4))),
    "metadata.jsonl": (
        "metadata.jsonl", "".join(json.dumps({"file_name": f"{i}.png", "label": AB[i]}) + "\n" for i in range(4))
    ),
    "no titles": ("labels.csv", "".join(f"{i}.png,{AB[i]}\n" for i in range(4))),
    "other titles, recognised by content": ("labels.csv", "Dateiname;Klasse\n" + "".join(f"{i}.png;{AB[i]}\n" for i in range(4))),
    "another title of the label": ("labels.csv", "id,breed\n" + "".join(f"{i},{AB[i]}\n" for i in range(4))),
    "an index": ("labels.csv", ",filename,label\n" + "".join(f"{i},{i}.png,{AB[i]}\n" for i in range(4))),
    "Excel's first line": ("labels.csv", "sep=;\r\nfile;label\r\n" + "".join(f"{i}.png;{AB[i]}\r\n" for i in range(4))),
    "empty lines first": ("labels.csv", "\n\nfile,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))),
    "old line ends": ("labels.csv", "file,label\r" + "".join(f"{i}.png,{AB[i]}\r" for i in range(4))),
    "UTF-16 without a mark": (
        "labels.csv", ("file,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))).encode("utf-16-le")
    ),
    "a byte order mark": ("labels.csv", "\ufefffile,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))),
    "metadata.csv": ("metadata.csv", "file_name,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
def test_lists_that_can_only_mean_one_thing_are_read(tmp_path: Path, case: str) -> None:
    name, content = LISTS[case]
    data = load(put(tmp_path / "set", FLAT | {name: content}))
    assert labels_of(data) == AB
    assert f"Labels come from {name}." in data.notes
    assert not any("not used" in note.lower() or "no captions" in note for note in data.notes), data.notes
    assert not any("UTF-8" in note for note in data.notes), "text in Unicode needs no word"


def test_what_was_assumed_about_a_list_is_said(tmp_path: Path) -> None:
    rows = "Name;Class\n" + "".join(f"{name}.jpg;x\n" for name in ("A", "b"))
    notes = load(put(tmp_path / "set", images("a.png", "B.png") | {"labels.csv": rows})).notes
    assert (
        "labels.csv is read with column Name as the file and with column Class as the label and with columns separated by ;."
        in notes
    )
    assert any(
        re.search(r"differ from the file in case, accents or extension: 2, such as A.jpg for a.png", note) for note in notes
    )


def test_accents_may_be_composed_or_not(tmp_path: Path) -> None:
    data = load(
        put(
            tmp_path / "set",
            images("Mu\u0308nchen.png", "Ko\u0308ln.png") | {"labels.csv": "file,label\nMünchen.png,a\nKöln.png,b\n"},
        )
    )
    assert sorted(labels_of(data)) == ["a", "b"]


def test_other_encodings_are_read_and_mentioned(tmp_path: Path) -> None:
    rows = "file,label\n0.png,Bär\n1.png,Kuh\n".encode("cp1252")
    data = load(put(tmp_path / "set", images("0.png", "1.png") | {"labels.csv": rows}))
    assert labels_of(data) == ["Bär", "Kuh"]
    assert any(note.startswith("Not UTF-8, and read as Windows-1252: labels.csv.") for note in data.notes)


def test_a_list_that_names_no_image_shows_the_nearest(tmp_path: Path) -> None:
    path = put(
        tmp_path / "set", images("photo_1.png", "photo_2.png") | {"labels.csv": "file,label\nimage-1.png,a\nimage-2.png,b\n"}
    )
    with pytest.raises(
        LeafwingError, match=r"none of the 2 files in labels.csv .* image-1.png, .* photo_1.png.* --labels none"
    ):
        load(path)
    data = load(path, labels="none")
    assert (len(data), data.labels) == (2, None)
    assert "labels.csv is not used (--labels none)." in data.notes
    assert load(path, **data.options).fingerprint == data.fingerprint


def test_names_that_two_folders_share_are_not_guessed(tmp_path: Path) -> None:
    rows = "file,label\n0.png,x\n1.png,y\n"
    data = load(put(tmp_path / "set", images("a/0.png", "b/0.png", "b/1.png") | {"labels.csv": rows}))
    assert labels_of(data) == ["y"]
    assert "Names in labels.csv that several images share: 1 (0.png); list their paths." in data.notes


def test_another_list_can_be_chosen(tmp_path: Path) -> None:
    files = FLAT | {
        "labels.csv": LISTS["semicolons"][1],
        "breeds.csv": "img,breed,label\n" + "".join(f"{i}.png,{i % 2},z{i}\n" for i in range(4)),
    }
    path = put(tmp_path / "set", files)
    assert any("breeds.csv" in note for note in load(path).notes)
    data = load(path, labels="breeds.csv")
    assert labels_of(data) == ["z0", "z1", "z2", "z3"]
    assert data.spec.attributes == ("breed",)
    assert data.options["labels"] == "breeds.csv"
    assert load(path, **data.options).fingerprint == data.fingerprint
    with pytest.raises(LeafwingError, match=r"labels='breed.csv': not a file of this source.*did you mean breeds.csv"):
        load(path, labels="breed.csv")
    with pytest.raises(LeafwingError, match=r"not a file of this source; give its name there: --labels breeds.csv$"):
        load(path, labels=str(path / "breeds.csv"))
    elsewhere = put(tmp_path, {"mine.csv": "file,label"}) / "mine.csv"
    with pytest.raises(LeafwingError, match=r"copy it to the images \(.*set\), and give its name there: --labels mine.csv$"):
        load(path, labels=str(elsewhere))


BY_FILE = {f"{i}.png": {"name": "a thing", "category": AB[i]} for i in range(4)}
RECORDS = [{"file_name": name, "Label": record["category"]} for name, record in BY_FILE.items()]


@pytest.mark.parametrize(
    "content", [BY_FILE, RECORDS, {"images": RECORDS}, {"0.png": "a", "1.png": "b", "2.png": "a", "3.png": "b"}]
)
def test_labels_in_json_are_read_if_the_user_asks_for_them(tmp_path: Path, content: Any) -> None:
    path = put(tmp_path / "set", FLAT | {"about.json": json.dumps(content)})
    assert load(path).labels is None
    assert labels_of(load(path, labels="about.json")) == AB


def test_a_list_in_json_that_is_advised_has_labels(tmp_path: Path) -> None:
    path = put(tmp_path / "set", FLAT | {"captions.json": json.dumps(BY_FILE)})
    assert "Not used in captions.json: category. --labels captions.json reads category from it." in load(path).notes
    assert labels_of(load(path, labels="captions.json")) == AB
    other = {name: {"caption": "a thing", "likes": 3} for name in BY_FILE}
    path = put(tmp_path / "other", FLAT | {"captions.json": json.dumps(other)})
    assert "Not used in captions.json: likes." in load(path).notes
    with pytest.raises(
        LeafwingError, match=r"captions.json.*contains no labels: in JSON, objects must name a file and a label"
    ):
        load(path, labels="captions.json")
    two = [*RECORDS, RECORDS[0] | {"Label": "z"}]
    path = put(tmp_path / "two", FLAT | {"about.json": json.dumps(two)})
    with pytest.raises(LeafwingError, match=r"about.json: 0.png has two labels, a and z"):
        load(path, labels="about.json")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("labels", [["a", "b", "", ""], ["a", "b", "a", "b", "c"]])
def test_metadata_with_few_or_contradictory_labels_is_only_captions(tmp_path: Path, name: str, labels: list[str]) -> None:
    rows = [{"file_name": f"{i % 4}.png", "text": f"caption {i}", "label": label} for i, label in enumerate(labels)]
    table = "file_name,text,label\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    text = table if name.endswith("csv") else "".join(json.dumps(row) + "\n" for row in rows)
    data = load(put(tmp_path / "set", FLAT | {name: text}))
    assert (len(data), data.labels) == (4, None)
    assert "caption" in data.spec.fields
    assert any(f"The labels in {name} are not used" in note for note in data.notes)


def test_celeba_attributes(tmp_path: Path) -> None:
    text = "4\nSmiling Male\n" + "".join(f"{i}.png {'-1' if i % 2 else ' 1'}  1\n" for i in range(3)) + "3.png -1 -1\n"
    files = images(*(f"img/{i}.png" for i in range(4))) | {"list_attr_celeba.txt": text, "identity_CelebA.txt": "0.png 1\n"}
    data = load(put(tmp_path / "set", files))
    assert data.spec.attributes == ("Smiling", "Male")
    assert data.attributes is not None
    assert data.attributes.tolist() == [[1, 1], [0, 1], [1, 1], [0, 0]]
    assert "Not used, because they are not images: identity_CelebA.txt." in data.notes


def test_several_words_in_a_cell_are_attributes(tmp_path: Path) -> None:
    rows = "image_name,tags\n0,clear water\n1,haze\n2,clear\n3,haze water\n"
    data = load(put(tmp_path / "set", FLAT | {"labels.csv": rows}))
    assert data.spec.attributes == ("clear", "haze", "water")
    assert data.attributes is not None
    assert data.attributes.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 1]]


MANY = [f"{'ab'[i % 2]}/{i}.png" for i in range(40)]
SPLIT = ["train/a/0.png", "train/b/1.png", "train/b/2.png", "test/3.png"]
TREES: dict[str, tuple[list[str], list[str] | None, str]] = {
    "a stray image": ([*MANY, "preview.png"], ["a"] * 20 + ["b"] * 20, "beside the class folders are not used: 1"),
    "an unlabelled split": (SPLIT, ["a", "b", "b"], r"Not used: test/ \(1 images\), without class"),
    "a class twice": (
        ["a/0.png", "b/1.png", "set/a/2.png", "set/b/3.png"], ["a", "b", "a", "b"], "also appear in deeper folders.*: 2 images"
    ),
    "many strays": (["a/0.png", "b/1.png", "2.png", "3.png"], None, "not used as labels, because 2 images are in none"),
    "several depths": (["a/0.png", "b/1.png", "c/d/2.png"], None, "lie at different depths.*--labels folders"),
    "splits with further words": (
        ["train_images/a/0.png", "test_images/b/1.png", "Val2017/b/2.png"], ["b", "b", "a"], "splits are used together"
    ),
    "splits twice": (
        ["seg_train/seg_train/a/0.png", "seg_train/seg_train/b/1.png", "seg_pred/seg_pred/2.png"], ["a", "b"], "Not used: seg_pred/"
    ),
    "splits below the classes": (["a/test/0.png", "a/train/1.png", "b/test/2.png"], ["a", "a", "b"], "folder names are the labels"),
    "the same folder in each class": (
        ["train/a/images/0.png", "train/b/images/1.png", "val/images/2.png"], ["a", "b"], "Not used: val/"
    ),
    "splits without classes": (["train_images/0.png", "test_images/1.png"], None, "splits are used together"),
    "two levels": (["a/x/0.png", "a/y/1.png", "b/x/2.png"], None, "2 deep.*--labels folders"),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_trees_that_are_nearly_class_folders(tmp_path: Path, case: str) -> None:
    names, expected, note = TREES[case]
    data = load(put(tmp_path / "set", images(*names)))
    assert (None if data.labels is None else labels_of(data)) == expected
    assert any(re.search(note, text) for text in data.notes), data.notes
    assert any(re.search(note, text) for text in doctor(tmp_path / "set").notes)


def test_folders_and_none(tmp_path: Path) -> None:
    path = put(tmp_path / "set", images("a/x/0.png", "a/y/1.png", "b/x/2.png", "3.png"))
    data = load(path, labels="folders")
    assert labels_of(data) == ["x", "y", "x"]
    assert [(reject.name, reject.reason) for reject in data.rejects] == [("3.png", "outside the class folders")]
    assert len(load(path, labels="none")) == 4
    with pytest.raises(LeafwingError, match="labels"):
        load("digits", labels="none")


def test_labels_of_one_split(tmp_path: Path) -> None:
    files = images("train/0.png", "train/1.png", "test/0.png") | {"train/labels.csv": "file,label\n0.png,a\n1.png,b\n"}
    data = load(put(tmp_path / "set", files))
    assert labels_of(data) == ["a", "b"]
    assert [reject.name for reject in data.rejects] == ["test/0.png"]
    both = put(tmp_path / "both", files | {"test/labels.csv": "file,label\n0.png,b\n"})
    assert sorted(labels_of(load(both))) == ["a", "b", "b"]


@pytest.mark.parametrize("place", ["folder", "zip", "tar", "tar of ."])
def test_a_list_above_all_images_is_read_wherever_the_folder_is_wrapped(tmp_path: Path, place: str) -> None:
    rows = "file,label\n" + "".join(f"images/{i}.png,{AB[i]}\n" for i in range(4))
    names = [f"mydata/images/{i}.png" for i in range(4)]
    path = put(tmp_path / "set", images(*names) | {"mydata/labels.csv": rows})
    if place == "tar of .":
        with tarfile.open(tmp_path / "set.tar", "w") as archive:
            archive.add(path / "mydata", ".")
        path = tmp_path / "set.tar"
    elif place != "folder":
        path = pack(path, place)
    data = load(path)
    assert labels_of(data) == AB
    assert not [note for note in data.notes if "is not used" in note]


def test_the_highest_of_several_lists_is_read_and_one_beside_other_images_is_not(tmp_path: Path) -> None:
    def rows(folder: str, labels: str) -> str:
        return "file,label\n" + "".join(f"{folder}{i}.png,{label}\n" for i, label in enumerate(labels))

    files = images(*(f"x/y/{i}.png" for i in range(4))) | {
        "x/labels.csv": rows("y/", "abab"),
        "x/y/labels.csv": rows("", "cccd"),
    }
    data = load(put(tmp_path / "set", files))
    assert labels_of(data) == AB
    assert (
        "x/y/labels.csv is not used, because labels come from x/labels.csv; --labels x/y/labels.csv reads it." in data.notes
    )
    data = load(put(tmp_path / "set", images("z/9.png")))
    expected = "x/labels.csv is not used, because images lie outside its folder; --labels x/labels.csv reads it."
    assert expected in data.notes


def test_the_top_of_a_tar_of_a_folder_is_no_class(tmp_path: Path) -> None:
    path = put(tmp_path / "set", images("0.png", "a/1.png", "a/2.png", "b/3.png"))
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(path, ".")
    for source in (path, tmp_path / "set.tar"):
        data = load(source, labels="folders")
        assert (data.spec.labels, len(data.rejects)) == (("a", "b"), 1)


def test_an_empty_text_in_json_is_no_label(tmp_path: Path) -> None:
    content = json.dumps({"0.png": "a", "1.png": "b", "2.png": " ", "3.png": ""})
    path = put(tmp_path / "set", FLAT | {"by_name.json": content, "empty.json": json.dumps({"0.png": " "})})
    data = load(path, labels="by_name.json")
    assert labels_of(data) == ["a", "b"]
    assert {reject.reason for reject in data.rejects} == {"no label in by_name.json"}
    with pytest.raises(LeafwingError, match="contains no labels"):
        load(path, labels="empty.json")


def test_lists_that_are_not_read_are_pointed_out(tmp_path: Path) -> None:
    tables = {
        "train.csv": "image_id,breed\n0,x\n1,y\n2,x\n3,y\n",
        "by_line.txt": "0.png x\n1.png y\n2.png y\n3.png y\n",
        "submission.csv": "image_id,breed\n77,x\n",
        "classes.txt": "x\ny\n",
    }
    path = put(tmp_path / "set", FLAT | tables)
    notes = load(path).notes
    assert "by_line.txt lists images: --labels by_line.txt reads labels or attributes from it; so do train.csv." in notes
    assert labels_of(load(path, labels="train.csv")) == ["x", "y", "x", "y"]
    chosen = load(path, labels="by_line.txt")
    assert labels_of(chosen) == ["x", "y", "y", "y"]
    assert (
        "by_line.txt is read as files and labels, without a line of titles and with columns separated by spaces."
        in chosen.notes
    )
    put(path, {"by_name.json": json.dumps({f"{i}.png": AB[i] for i in range(4)})})
    assert labels_of(load(path, labels="by_name.json")) == AB


def test_a_list_in_a_tar_can_be_chosen(tmp_path: Path) -> None:
    rows = "file,label\n" + "".join(f"{i}.png,{AB[i]}\n" for i in range(4))
    assert labels_of(load(pack(put(tmp_path / "set", FLAT | {"train.csv": rows}), "tar"), labels="train.csv")) == AB


def test_cells_without_a_title_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        LeafwingError, match=r"labels.csv, line 2: 3 cells, but the first line names 2 columns.*double quotes"
    ):
        load(put(tmp_path / "set", images("a, b.png") | {"labels.csv": "file,label\na, b.png,x\n"}))
    load(put(tmp_path / "trailing", images("a.png") | {"labels.csv": "file,label\na.png,x,,\n"}))


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (["Cat", "cat", "dog", "dog"], r"Cat \(1\) = cat \(1\)\. They are separate classes"),
        (["1", "1.0", "01", "2"], r"01 \(1\) = 1 \(1\) = 1.0 \(1\)"),
        (["B\u00e4r", "Ba\u0308r", "x", "x"], "separate classes"),
        (["a", "b", "NaN", "NaN"], r"may stand for a missing label: NaN \(2 images\)"),
    ],
)
def test_classes_that_look_like_one_are_mentioned(tmp_path: Path, labels: list[str], note: str) -> None:
    rows = "file,label\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels))
    data = load(put(tmp_path / "set", FLAT | {"labels.csv": rows}))
    assert set(data.spec.labels) == {*labels}
    assert any(re.search(note, text) for text in data.notes), data.notes
    assert not any(
        "separate classes" in text or "missing" in text for text in load(put(tmp_path / "b", images(*MANY))).notes
    )


def test_signed_whole_numbers_are_in_numerical_order() -> None:
    assert classes({"10", "-1", "-2", "0", "2"}) == ("-2", "-1", "0", "2", "10")
    assert classes({"10", "-", "9"}) == ("-", "10", "9")


SCORES = [f"0.{i + 1}5" for i in range(12)]


@pytest.mark.parametrize("labels", [SCORES, [*SCORES[:-1], "NaN"], [score.replace(".", ",") for score in SCORES]])
def test_measurements_are_no_classes(tmp_path: Path, labels: list[str]) -> None:
    files = images(*(f"{i}.png" for i in range(12)))
    rows = "file;label\n" + "".join(f"{i}.png;{label}\n" for i, label in enumerate(labels))
    path = put(tmp_path / "set", files | {"labels.csv": rows})
    with pytest.raises(
        LeafwingError, match=r"labels.csv has numbers that are not whole, such as 0.1.*, which are no .*--labels none"
    ):
        load(path)
    few = "".join(f"{i}.png;{labels[i % 3]}\n" for i in range(12))
    assert len(load(put(tmp_path / "set", {"labels.csv": f"file;label\n{few}"})).spec.labels) == 3


def test_measurements_in_metadata_are_not_used(tmp_path: Path) -> None:
    files = images(*(f"{i}.png" for i in range(12)))
    text = "".join(json.dumps({"file_name": f"{i}.png", "text": "a", "label": float(SCORES[i])}) + "\n" for i in range(12))
    data = load(put(tmp_path / "set", files | {"metadata.jsonl": text}))
    assert (data.labels, "caption" in data.spec.fields) == (None, True)
    assert any(
        "metadata.jsonl are not used, because they are many numbers that are not whole, such as 0.1" in n for n in data.notes
    )


def test_whole_numbers_in_json_may_be_written_as_fractions(tmp_path: Path) -> None:
    text = "".join(json.dumps({"file_name": f"{i}.png", "label": float(i % 2)}) + "\n" for i in range(4))
    path = put(tmp_path / "set", FLAT | {"metadata.jsonl": text})
    assert labels_of(load(path)) == labels_of(load(path, labels="metadata.jsonl")) == ["0", "1", "0", "1"]
    text = json.dumps({"labels": [[f"{i}.png", float(i % 2)] for i in range(4)]})
    assert labels_of(load(put(tmp_path / "stylegan", FLAT | {"dataset.json": text}))) == ["0", "1", "0", "1"]


def test_labels_in_metadata_that_cannot_be_used_are_mentioned(tmp_path: Path) -> None:
    text = "".join(json.dumps({"file_name": f"{i}.png", "label": [0, 1]}) + "\n" for i in range(4))
    notes = load(put(tmp_path / "set", FLAT | {"metadata.jsonl": text})).notes
    assert "The labels in metadata.jsonl are not used, because they are neither texts nor numbers, such as [0, 1]." in notes


def test_classes_of_a_single_image_are_mentioned(tmp_path: Path) -> None:
    rows = "file,label\n" + "".join(f"{i}.png,2024-01-{min(i, 10) + 10}\n" for i in range(12))
    notes = load(put(tmp_path / "set", images(*(f"{i}.png" for i in range(12))) | {"labels.csv": rows})).notes
    assert any(note.startswith("Of 11 classes 10 have a single image, such as 2024-01-10, ") for note in notes)


def test_attributes_of_celeba_as_a_table(tmp_path: Path) -> None:
    rows = "image_id,Smiling,Male\n" + "".join(f"{i}.png,{1 - 2 * (i % 2)},{2 * (i > 1) - 1}\n" for i in range(4))
    files = images(*(f"img/img/{i}.png" for i in range(4))) | {
        "list_attr_celeba.csv": rows,
        "list_eval_partition.csv": "x\n",
    }
    data = load(put(tmp_path / "set", files))
    assert data.spec.attributes == ("Smiling", "Male")
    assert data.attributes is not None
    assert data.attributes.tolist() == [[1, 0], [0, 0], [1, 1], [0, 1]]


ODD: dict[str, dict[str, Any]] = {
    "strays": images("a/0.png", "b/1.png", *(f"a/x{i}.png" for i in range(40)), "2.png")
    | {"notes.txt": "x", "a/readme": "x"},
    "lists": FLAT
    | {
        "labels.csv": LISTS["semicolons"][1],
        "metadata.jsonl": '{"file_name": "0.png", "label": "z"}\n',
        "x.mat": b"MATLAB 5.0",
    },
    "celeba": FLAT
    | {"list_attr_celeba.txt": "4\nA\n" + "".join(f"{i}.png 1\n" for i in range(4)), "identity_CelebA.txt": "0.png 1\n"},
    "annotations": FLAT
    | {f"xml/{i}.xml": "<a/>" for i in range(4)}
    | {"doc.pdf": b"%PDF", "empty.png.part": b"x", "movie.mp4": b"\0\0\0\x18ftyp"},
    "pairs": FLAT | {"pairs.csv": "image,input\n0.png,1.png\n"},
}


@pytest.mark.parametrize("case", ODD)
def test_every_file_is_used_or_rejected_or_mentioned(tmp_path: Path, case: str) -> None:
    data = load(put(tmp_path / "set", ODD[case]))
    rejected = {reject.name for reject in data.rejects}
    patterns = [word.rstrip(".") for note in data.notes for word in re.findall(r"[^\s,:;()]+", note)]
    left = [name for name in ODD[case] if name not in rejected and not any(fnmatch(name, pattern) for pattern in patterns)]
    assert [name for name in left if not name.endswith(".png")] == [], data.notes
    assert len(data) == sum(name.endswith(".png") and name not in rejected for name in ODD[case])


CONTENTS: dict[str, str | bytes] = {
    **dict.fromkeys(("readme.md", "license", "notes.txt", "x.log", "data.yaml"), "some words"),
    "doc.pdf": b"%PDF", "set.mat": b"MATLAB 5.0", "movie.mp4": b"\0\0\0\x18ftypisom", "inner.zip": b"PK\3\4", "x.bin": b"\0\1",
    "broken.jpg": b"\xff\xd8\xff", "empty.png": b"", "page.jpg": "<html>", "photo.HEIC": b"\0\0\0\x18ftypheic",
    "book.xlsx": b"PK\3\4xl/",
    "table.csv": "a,b\n1,2\n", "train.csv": "id,breed\n0,x\n", "list_eval_partition.txt": "0.png 1\n", "a.npy": b"\x93NUMPY",
    "metadata.csv": "file_name,text\n0.png,a word\n", "labels.json": "{}", "instances.json": "[]", "x.xml": "<a/>",
    "._x.png": b"\0\5\x16\7", ".hidden/x.png": b"x", "Thumbs.db": b"x",
}  # fmt: skip
PLACES = {
    "flat": ["{}.png"],
    "classes": ["a/{}.png", "b/{}.png"],
    "classes and strays": [*["a/{}.png", "b/{}.png"] * 12, "{}.png"],
    "splits": ["train/a/{}.png", "train/b/{}.png", "test/a/{}.png"],
    "an unlabelled split": ["train/a/{}.png", "train/b/{}.png", "test_images/{}.png"],
    "images in classes": ["a/images/{}.png", "b/images/{}.png"],
    "uneven": ["a/{}.png", "b/c/{}.png", "{}.png"],
    "masks": ["images/{}.png", "masks/{}.png"],
}
BESIDE = {"captions": ".txt", "positions": ".xml", "nothing": ""}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("place", PLACES)
def test_every_file_of_any_tree_is_an_image_or_rejected_or_used_or_mentioned(tmp_path: Path, place: str, kind: str) -> None:
    for seed in range(6):
        chance = random.Random(f"{place} {kind} {seed}")
        folders = sorted({pattern.rpartition("/")[0] for pattern in PLACES[place]} | {"", "annotations"})
        pictures = [PLACES[place][i % len(PLACES[place])].format(i) for i in range(26)]
        ending = BESIDE[chance.choice([*BESIDE])]
        beside = [str(Path(name).with_suffix(ending)) for name in pictures[: chance.choice([3, 26])] if ending]
        odd = {str(Path(chance.choice(folders), name)): CONTENTS[name] for name in chance.sample([*CONTENTS], 12)}
        files = images(*pictures) | dict.fromkeys(beside, "a word") | odd
        path = pack(put(tmp_path / str(seed), files), kind)
        listing = Listing(path, *list_files(path))
        with strict(), SurveyedSource.open([listing], check(None, None, "crop", "white"), None) as surveyed:
            source = surveyed.source
        usable = {plain(info.entry.name) for info in surveyed.infos if info.failure is None}
        rejected = {plain(info.entry.name) for info in surveyed.infos if info.failure}
        rejected |= {plain(reject.name) for reject in source.rejects}
        assert not usable & rejected
        words = [plain(word.rstrip(".")) for note in source.notes for word in re.findall(r"[^\s,:;()]+", note)]
        read = {plain(name) for name in source.used_files}
        known = usable | rejected | read | {name for name in files if is_hidden(name)}
        lost = [name for name in files if name not in known and not any(fnmatch(name, word) for word in words)]
        assert lost == [], source.notes
        assert usable <= {*pictures} | {*odd}
        assert [
            name for name in read - {*beside} if not name.endswith(".xml") and not any(fnmatch(name, word) for word in words)
        ] == [], source.notes


def plain(name: str) -> str:
    """A name in a tar without the folder that most of them begin with."""
    return name.removeprefix("./")


def pack(folder: Path, kind: str) -> Path:
    """A folder as it is, or as an archive beside it."""
    if kind == "folder":
        return folder
    return Path(shutil.make_archive(str(folder), kind, folder))

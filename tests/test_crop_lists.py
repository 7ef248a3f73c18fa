"""`prepare`: labels and captions of the crops, and other lists of their pictures."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import leafwing
from leafwing.commands.prepare import Preparation
from leafwing.data import load

NUMBER = 12
CLASSES = "abacba" * 2
TEXTS = ["a cat", "one red, fat cat", "zwei\tKatzen", 'a "cat"', "a dog", "= x"] * 2


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def picture(index: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def rows(text: str, first: str = "") -> str:
    """A line for each picture: `#` is its number, `@` its class, `~` its text."""
    numbered = [text.replace("#", str(i)).replace("@", CLASSES[i]).replace("~", TEXTS[i]) for i in range(NUMBER)]
    return lines(*[first] * bool(first), *numbered)


def each(suffix: str, contents: list[str] | str) -> dict[str, str]:
    return {f"{i}{suffix}": content for i, content in enumerate(contents)}


OBJECTS = [json.dumps({"label": CLASSES[i], "caption": TEXTS[i]}) for i in range(NUMBER)]
FOLDERS: dict[str, dict[str, str]] = {
    "labels": {"labels.csv": rows("#.png,@", "file,label")},
    "labels without extensions, in another order": {"labels.csv": lines("id,breed", *(f"{i},{i % 2}b" for i in (4, 11, 5, 2, 0)))},
    "labels and attributes": {"labels.csv": rows("#.png;@;1;x#", "file;label;wild;colour").replace("0.png;a;1", "0.png;a;0")},
    "attributes": {"labels.csv": rows("#.png,x@,x#", "file,size,colour")},
    "CelebA": {"list_attr_celeba.txt": rows("#.png 1 -1", "12\nWild Red").replace("0.png 1 -1", "0.png -1 1")},
    "StyleGAN": {"dataset.json": json.dumps({"labels": [[f"{i}.png", 2 * i] for i in range(NUMBER)]})},
    "metadata": {"metadata.jsonl": rows('{"file_name": "#.png", "label": #, "text": "a @"}')},
    "few captions, and texts": {"captions.csv": lines("file,caption", "0.png,a"), **each(".txt", TEXTS)},
    "several captions": {"captions.csv": rows("#.png,a @ cat", "file,caption") + rows("#.png,not @")},
    "classes": each(".cls", CLASSES),
    "nothing": {},
}  # fmt: skip


def write_folder(root: Path, texts: dict[str, str]) -> Path:
    root.mkdir()
    for i in range(NUMBER):
        (root / f"{i}.png").write_bytes(picture(i))
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def crop(source: Path, names: list[str] | None = None, **options: Any) -> Preparation:
    """Crops of the pictures of a source."""
    names = [f"{i}.png" for i in range(NUMBER)] if names is None else names
    boxes = source.parent / "my boxes.csv"
    boxes.write_text(lines("file,left,top,width,height", *(f"{name},8,8,20,20" for name in names)))
    return leafwing.prepare(source, boxes=boxes, size=16, out=source.parent / "crops", **options)


def described(source: Path) -> list[Any]:
    """What training reads of a source beside its images."""
    data = load(source, size=16)
    columns = [data.columns[name].tolist() for name in ("label", "attributes", "caption") if name in data.columns]
    return [data.spec.labels, data.spec.attributes, data.spec.fields.get("caption"), columns]


@pytest.mark.parametrize("case", FOLDERS)
def test_crops_have_the_labels_and_captions_of_their_pictures(tmp_path: Path, case: str) -> None:
    source = write_folder(tmp_path / "source", FOLDERS[case])
    result = crop(source)
    assert described(result.folder) == described(source)
    assert {path.name for path in result.folder.glob("*.*") if path.suffix != ".png"} <= {
        "prepared.csv",
        "labels.csv",
        "captions.csv",
    }


@pytest.mark.parametrize("others", [{}, each(".cls", CLASSES), each(".json", OBJECTS), each(".txt", TEXTS)])
def test_crops_from_webdataset(tmp_path: Path, others: dict[str, str]) -> None:
    path = tmp_path / "set.tar"
    members = {f"{i}.png": picture(i) for i in range(NUMBER)} | {name: text.encode() for name, text in others.items()}
    with tarfile.open(path, "w") as archive:
        for name, content in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert described(crop(path).folder) == described(path)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"label": list(CLASSES)},
        {"label": [0, 10, 2] * 4, "caption": TEXTS, "wild": [True, False] * 6, "url": TEXTS},
        {"wild": [True, False] * 6, "red": [False] * 11 + [True]},
    ],
)
def test_crops_from_a_table(tmp_path: Path, columns: dict[str, Any]) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table({"image": [picture(i) for i in range(NUMBER)], **columns}), path)
    names = [f"set/{i:07}" for i in range(NUMBER)]
    assert described(crop(path, names).folder) == described(path)


def test_parts_of_a_table_are_no_classes(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for part in range(2):
        pq.write_table(pa.table({"image": [picture(part)] * 3}), tmp_path / f"set/train-{part:05}-of-00002.parquet")
    names = [f"train-{part:05}-of-00002/{row:07}" for part in range(2) for row in range(3)]
    result = crop(tmp_path / "set", names)
    assert "The folders of the crops are files of the source, and no classes: train them with --labels none." in result.notes


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"labels.csv": rows("#.png,#.5", "file,label")}, "labels.csv has numbers that are not whole, such as 0.5"),
        (
            {"labels.csv": rows("other#.png,a", "file,label")},
            "none of the 12 files in labels.csv is here: it lists other0.png",
        ),
        ({"labels.csv": rows("#.png,@", "file,label") + "0.png,z\n"}, "line 14: 0.png has two labels, a and z."),
        ({"captions.csv": rows("#.png,~", "what,ever")}, "the first line must name the columns file,caption"),
        (
            {"metadata.jsonl": lines('{"file_name": "0.png", "label": "a"}', '{"file_name": "1.png", "label": null}')},
            "The labels in metadata.jsonl are not used, because only 1 of 2",
        ),
    ],
)
def test_what_training_would_refuse_is_copied_with_the_reason(tmp_path: Path, files: dict[str, str], note: str) -> None:
    source = write_folder(tmp_path / "source", files)
    result = crop(source)
    assert result.written == NUMBER
    assert any(note in text for text in result.notes)
    assert all((result.folder / name).read_text() == text for name, text in files.items())


def test_the_labels_of_pictures_that_differ_in_their_extension(tmp_path: Path) -> None:
    """A name that a crop may need is free for the picture that has it; the list has the names of the crops."""
    source = tmp_path / "source"
    source.mkdir()
    names = [f"{i}.{suffix}" for i in range(3) for suffix in ("gif", "jpg", "png")]
    for index, name in enumerate(names):
        (source / name).write_bytes(picture(index, {"jpg": "JPEG"}.get(name[-3:], name[-3:])))
    (source / "labels.csv").write_text(lines("file,label", *(f"{name},{name[-3:]}" for name in names)))
    result = crop(source, names)
    files = {path.name for path in result.folder.iterdir()} - {"prepared.csv", "labels.csv"}
    data = load(result.folder, size=16)
    assert len(data) == len(files) == 9
    assert {f"{i}.{suffix}" for i in range(3) for suffix in ("jpg", "png")} < files
    assert sorted(data.spec.labels) == ["gif", "jpg", "png"]
    labels = dict(line.split(",") for line in (result.folder / "labels.csv").read_text().splitlines()[1:])
    assert {labels[f"{i}.{suffix}"] == suffix for i in range(3) for suffix in ("jpg", "png")} == {True}
    others = files - {f"{i}.{suffix}" for i in range(3) for suffix in ("jpg", "png")}
    assert {labels[name] for name in others} == {"gif"}
    renamed = [
        note for note in result.notes if note.startswith("Crops with other names than their pictures: 3, such as 0-2.png")
    ]
    assert len(renamed) == ("0-2.png" in files)


def test_other_lists_of_pictures_are_copied_and_those_of_positions_are_not(tmp_path: Path) -> None:
    others = {
        "breeds.csv": rows("#,@", "id,breed"),
        "pairs.csv": rows("#.png,#.png", "input,image"),
        "train/labels.csv": rows("../#.png,@", "file,label"),
        "keypoints.csv": rows("#.png,eye,1,1", "file,name,x,y"),
        "old/boxes.csv": rows("../#.png,1,1,5,5", "file,left,top,width,height"),
        "notes.txt": "nothing",
    }
    source = write_folder(tmp_path / "source", {"labels.csv": rows("#.png,@", "file,label"), **others})
    result = crop(source)
    files = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*") if path.is_file()}
    copied = ["pairs.csv", "train/labels.csv", "breeds.csv"]  # those that are known by their names first
    assert files - {f"{i}.png" for i in range(NUMBER)} == {"prepared.csv", "labels.csv", *copied}
    assert all((result.folder / name).read_text() == others[name] for name in copied)
    assert [note for note in result.notes if note.startswith("Copied")] == [f"Copied unchanged: {', '.join(copied)}."]
    assert load(result.folder, size=16, labels="breeds.csv").spec.labels == ("a", "b", "c")


def test_folders_with_the_names_of_lists(tmp_path: Path) -> None:
    names = ["labels.csv/0.png", "Captions.csv/1.png", "2.png", "labels.csv-2/0.png"]
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for index, name in enumerate(names):
            archive.writestr(name, picture(index))
        archive.writestr(
            "metadata.csv", lines("file_name,label,text", *(f"{name},{name[-5]},a {i}" for i, name in enumerate(names)))
        )
        archive.writestr("2.png/breeds.csv", lines("file,label", *(f"{name},{name[-5]}" for name in names)))
    result = crop(tmp_path / "set.zip", names)
    assert result.written == 4
    data = load(result.folder, size=16)
    assert (len(data), data.spec.labels) == (4, ("0", "1", "2"))
    assert "caption" in data.spec.fields

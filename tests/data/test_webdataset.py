"""WebDataset: samples of several files in a tar, and tars that are read as one."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import encoded, picture, write

from leafwing.data import load
from leafwing.errors import LeafwingError
from leafwing.fields import Caption

PICTURES = np.stack([picture(seed, 20, 24) for seed in range(12)])
FILES = [encoded(image) for image in PICTURES]


def tar(path: Path, members: dict[str, bytes | str], mode: Any = "w") -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(start: int, stop: int, **others: Any) -> dict[str, bytes | str]:
    """An image for each number, and the other files of its sample, which are functions of the number."""
    return {
        f"{number:06d}.{suffix}": content(number)
        for number in range(start, stop)
        for suffix, content in {"png": lambda number: FILES[number], **others}.items()
    }


def test_labels_and_captions_of_samples(tmp_path: Path) -> None:
    members = samples(
        0, 6, cls=lambda i: str(i % 3), txt=lambda i: f"a star {i % 2}", json=lambda i: json.dumps({"url": "x"})
    )
    data = load(tar(tmp_path / "shard-000000.tar", members), size=(20, 24))
    assert np.array_equal(data.array, PICTURES[:6])
    assert data.spec.labels == ("0", "1", "2")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert isinstance(data.spec.fields["caption"], Caption)
    assert not data.rejects
    assert "Labels come from .cls files." in data.notes
    assert any(note.startswith("Not used: JSON files beside the images") for note in data.notes)


def test_labels_and_captions_in_json(tmp_path: Path) -> None:
    members = samples(0, 6, json=lambda i: json.dumps({"label": "ab"[i % 2], "caption": f"star {i}", "width": 24}))
    data = load(tar(tmp_path / "set.tar.gz", members, "w:gz"))
    assert data.spec.labels == ("a", "b")
    caption = data.spec.fields["caption"]
    assert isinstance(caption, Caption)
    assert {*caption.words} == {"star", *"012345"}
    assert "Not used in JSON files beside the images: width." in data.notes


def test_damaged_json_rejects_its_sample(tmp_path: Path) -> None:
    contents = [
        '{"caption": "a"}',
        "{",
        "[1]",
        '{"caption": ""}',
        '{"caption": "a b"}',
        '{"caption": "b"}',
        '{"caption": "c"}',
    ]
    data = load(tar(tmp_path / "set.tar", samples(0, 7, json=lambda i: contents[i])))
    assert {reject.name: reject.reason for reject in data.rejects} == {
        "000001.png": "000001.json is not readable JSON",
        "000002.png": "000002.json is not a JSON object",
        "000003.png": "no caption in 000003.json",
    }


def test_json_beside_images_in_a_folder_is_not_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", ["0.png", "1.png"])
    for number in range(2):
        (folder / f"{number}.json").write_text('{"label": 1, "caption": "a"}')
    data = load(folder)
    assert data.labels is None
    assert "caption" not in data.spec.fields


def test_labels_of_few_samples_are_not_used(tmp_path: Path) -> None:
    members = samples(0, 6, cls=lambda i: "1" if i < 3 else "")
    data = load(tar(tmp_path / "set.tar", members))
    assert len(data) == 6
    assert data.labels is None
    assert "Labels in .cls files are not used, because only 3 of 6 images have one." in data.notes


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz")])
def test_shards_are_one_source(tmp_path: Path, suffix: str, mode: str) -> None:
    for shard in range(3):
        members = samples(4 * shard, 4 * shard + 4, cls=lambda i: str(i % 2))
        tar(tmp_path / "set" / f"shard-{shard:06d}{suffix}", members, mode)
    (tmp_path / "set/sizes.json").write_text("{}")
    data = load(tmp_path / "set", size=(20, 24))
    assert np.array_equal(data.array, PICTURES)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1] * 6
    assert {
        "Read together: 3 tar files, from shard-000000" + suffix + " to shard-000002" + suffix + ".",
        "Not used: sizes.json.",
    } <= {*data.notes}


def test_names_that_shards_share_get_the_name_of_their_shard(tmp_path: Path) -> None:
    for shard in range(2):
        members = {f"{i}.png": FILES[4 * shard + i] for i in range(3)} | {f"{i}.cls": str(shard) for i in range(3)}
        tar(tmp_path / "set" / f"{shard:05d}.tar", members)
    data = load(tmp_path / "set", size=(20, 24))
    assert np.array_equal(data.array, PICTURES[[0, 1, 2, 4, 5, 6]])
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for shard in range(2):
        tar(tmp_path / "plain" / f"{shard:05d}.tar", {f"{i}.png": FILES[4 * shard + i] for i in range(3)})
    assert load(tmp_path / "plain").labels is None  # shards are no classes


def test_notes_of_each_shard_are_those_of_all(tmp_path: Path) -> None:
    for shard in range(2):
        tar(tmp_path / "set" / f"{shard}.tar", samples(4 * shard, 4 * shard + 4))
    tar(tmp_path / "set" / "1.tar", {"000004.png": FILES[4]}, "a")
    notes = load(tmp_path / "set").notes
    assert any(note.startswith("1.tar: Files that the archive contains several times: 1") for note in notes), notes


def test_class_folders_in_shards_are_labels_unless_their_images_have_the_same_names(tmp_path: Path) -> None:
    """A README in each shard changes nothing."""
    for folder, first in (("set", 3), ("same", 0)):
        for shard in range(2):
            numbers = range(first * shard, first * shard + 3)
            members = {f"{'ab'[i % 2]}/{i}.png": FILES[i + 3 * shard] for i in numbers} | {"README.md": "about"}
            tar(tmp_path / folder / f"{shard:05d}.tar", members)
    data = load(tmp_path / "set", size=(20, 24))
    assert data.labels is not None
    assert (data.spec.labels, data.labels.tolist()) == (("a", "b"), [0, 1, 0, 1, 0, 1])
    same = load(tmp_path / "same", size=(20, 24))
    assert same.labels is None
    assert any("several tar files have images of the same name; --labels folders uses them." in note for note in same.notes)
    assert load(tmp_path / "same", size=(20, 24), labels="folders").spec.labels == ("a", "b")


def test_pairs_in_shards(tmp_path: Path) -> None:
    for shard in range(2):
        members = {f"{i}_{side}.png": FILES[i + 6 * (side == "B")] for i in range(3 * shard, 3 * shard + 3) for side in "AB"}
        tar(tmp_path / "set" / f"{shard}.tar", members)
        tar(tmp_path / "packed" / f"{shard}.tar.gz", members, "w:gz")
    data = load(tmp_path / "set", size=(20, 24), input="A")
    assert np.array_equal(data.array, PICTURES[6:])
    assert np.array_equal(data.columns["input"], PICTURES[:6])
    with pytest.raises(LeafwingError, match="several compressed tars can only be read in their own order"):
        load(tmp_path / "packed", size=(20, 24), input="A")


def test_tars_beside_images_and_several_sets_of_tars(tmp_path: Path) -> None:
    folder = write(tmp_path / "mixed", ["0.png", "1.png"])
    tar(folder / "more.tar", {"2.png": FILES[2]})
    data = load(folder)
    assert len(data) == 2
    assert [reject.name for reject in data.rejects] == ["more.tar"]
    for name in ("cats-0.tar", "cats-1.tar", "dogs-0.tar"):
        tar(tmp_path / "sets" / name, {f"{name}.png": FILES[0]})
    with pytest.raises(LeafwingError, match=r"several data sets \(cats-0\.tar, dogs-0\.tar\); give the path of one file"):
        load(tmp_path / "sets")


def test_tars_that_are_joined(tmp_path: Path) -> None:
    """Captions of both are read, also from JSON, which beside images in a folder is not."""
    objects = {"json": lambda number: json.dumps({"caption": f"a star {number}"})}
    labels = {"cls": lambda number: str(number % 3)}
    first = tar(tmp_path / "a.tar.gz", samples(0, 6, **objects, **labels), "w:gz")
    second = tar(tmp_path / "b.tar", samples(6, 12, **objects, **labels))
    data = load([first, second], size=(20, 24))
    assert np.array_equal(data.array, PICTURES)
    assert data.labels is not None
    assert data.labels.tolist() == [number % 3 for number in range(12)]
    assert isinstance(data.spec.fields["caption"], Caption)
    folder = write(tmp_path / "c", ["1.png", "2.png"])
    (folder / "1.json").write_text(json.dumps({"caption": "a ring"}))
    mixed = load([first, second, folder], labels="none")
    assert len(mixed) == 12
    assert "Not used, because they are not images: a/*.cls (6 files), b/*.cls (6 files), c/1.json." in mixed.notes


def test_one_damaged_json_does_not_drop_the_labels_of_the_others(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for number in range(100):
        members[f"{number:06d}.png"] = FILES[number % 12]
        members[f"{number:06d}.json"] = json.dumps({"label": "ab"[number % 2]}) if number else "{"
    data = load(tar(tmp_path / "set.tar", members))
    assert data.spec.labels == ("a", "b")
    assert "000000.png" in {reject.name for reject in data.rejects}
    assert (
        "No labels in 1 of 100 JSON files beside the images, which are damaged, such as: 000000.json is not readable JSON."
        in data.notes
    )


@pytest.mark.parametrize("missing", [None, "", [], True])
def test_a_first_sample_without_a_label_does_not_drop_those_of_the_others(tmp_path: Path, missing: Any) -> None:
    labels = [missing, *["ab"[i % 2] for i in range(1, 24)]]
    members: dict[str, bytes | str] = {}
    for number, label in enumerate(labels):
        members |= {f"{number:02d}.png": FILES[number % 12], f"{number:02d}.json": json.dumps({"label": label})}
    data = load(tar(tmp_path / "set.tar", members))
    assert data.spec.labels == ("a", "b")
    assert [(reject.name, reject.reason) for reject in data.rejects] == [
        ("00.png", "no label in JSON files beside the images")
    ]


def test_numbers_of_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    for shard in (0, 2):
        tar(tmp_path / "set" / f"shard-{shard:06d}.tar", samples(4 * shard, 4 * shard + 4))
    data = load(tmp_path / "set")
    assert "Numbers that are missing between shard-000000.tar and shard-000002.tar: 000001." in data.notes


def test_shards_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    tar(tmp_path / "set" / "x-0.tar", samples(0, 4))
    tar(tmp_path / "set" / "x-0.tar.gz", samples(0, 4), "w:gz")
    with pytest.raises(LeafwingError, match=r"x-0\.tar and x-0\.tar\.gz are the same part of a data set twice; remove one"):
        load(tmp_path / "set")


def test_numbers_in_json_are_classes_if_they_are_whole(tmp_path: Path) -> None:
    whole = samples(0, 6, json=lambda i: json.dumps({"label": float(i % 2)}))
    assert load(tar(tmp_path / "whole.tar", whole), size=(20, 24)).spec.labels == ("0", "1")
    scores = samples(0, 12, json=lambda i: json.dumps({"label": i / 7}))
    data = load(tar(tmp_path / "scores.tar", scores), size=(20, 24))
    assert data.labels is None
    assert any("they are many numbers that are not whole, such as 0.14" in note for note in data.notes)


@pytest.mark.parametrize("suffix", ["id", "index", "key", "meta", "url", "wav"])
def test_another_file_of_a_sample_costs_neither_labels_nor_captions(tmp_path: Path, suffix: str) -> None:
    members = samples(0, 6, cls=lambda i: str(i % 3), txt=lambda i: f"a star {i}", **{suffix: lambda i: f"other {i}"})
    data = load(tar(tmp_path / "set.tar", members), size=(20, 24))
    assert len(data) == 6
    assert data.spec.labels == ("0", "1", "2")
    assert isinstance(data.spec.fields["caption"], Caption)


def test_two_images_of_one_name_are_why_labels_are_not_used(tmp_path: Path) -> None:
    members = samples(0, 6, jpg=lambda i: encoded(PICTURES[i], "JPEG"), cls=lambda i: str(i % 3))
    data = load(tar(tmp_path / "set.tar", members))
    assert len(data) == 12
    assert data.labels is None
    assert (
        "Of these, 6 could belong to several images each, such as 000000.cls to 000000.jpg or 000000.png; one image of each name is "
        "needed." in data.notes
    )

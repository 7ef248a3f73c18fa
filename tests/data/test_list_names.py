"""Which files the names in a list mean: never those of another split, and never two names the same file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from data_helpers import write

from leafwing.data import Dataset, load
from leafwing.data.lists import Names
from leafwing.data.sources import Entry, Source
from leafwing.errors import LeafwingError

TRAIN = [f"train/{i}.png" for i in range(3)]  # a part of what its list has
TEST = [f"test/{i}.png" for i in range(6)]


def put(folder: Path, names: Sequence[str], **lists: str) -> Path:
    """Images, and a list for each path, in which `_` stands for `/`."""
    write(folder, [*names])
    for name, content in lists.items():
        (folder / f"{name.replace('_', '/')}.csv").write_text(content)
    return folder


def rows(title: str, *names: str) -> str:
    return f"file,{title}\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names))


def names_of(data: Dataset) -> list[str]:
    return [data.spec.labels[index] for index in data.labels] if data.labels is not None else []


@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_list_in_a_split_does_not_mean_files_of_another(tmp_path: Path, folder: str) -> None:
    files = [name.replace("/", f"/{folder}") for name in TRAIN + TEST]
    source = put(tmp_path / "set", files, train_labels=rows("label", *(f"{i}.png" for i in range(6))))
    data = load(source)
    assert names_of(data) == ["a", "b", "a"]
    assert {reject.name for reject in data.rejects} == {*files[3:]}
    assert "Files in train/labels.csv that do not exist: 3 (3.png, 4.png, 5.png)." in data.notes


def test_captions_in_a_split_do_not_mean_files_of_another(tmp_path: Path) -> None:
    files = [*TRAIN, "test/3.png"]
    data = load(put(tmp_path / "set", files, train_captions=rows("caption", *(f"{i}.png" for i in range(6)))))
    assert [(reject.name, reject.reason) for reject in data.rejects] == [("test/3.png", "no caption in train/captions.csv")]
    assert "Entries of train/captions.csv without an image: 3 (3.png, 4.png, 5.png)." in data.notes


@pytest.mark.parametrize("title", ["label", "caption"])
def test_names_that_splits_share_are_an_error(tmp_path: Path, title: str) -> None:
    table = rows(title, *(f"{i}.png" for i in range(6)))
    source = put(tmp_path / "set", TRAIN + TEST, **{f"{title}s": table})
    with pytest.raises(
        LeafwingError,
        match=rf"{title}s.csv lists 0.png, which may be test/0.png or train/0.png: list paths such as train/0.png",
    ):
        load(source)
    (source / f"{title}s.csv").write_text(rows(title, *TRAIN, *TEST))
    assert len(load(source)) == 9


def test_a_list_of_which_splits_share_every_name_says_so(tmp_path: Path) -> None:
    with pytest.raises(LeafwingError, match=r"labels.csv lists 0.png, which may be test/0.png or train/0.png"):
        load(put(tmp_path / "set", TRAIN + TEST, labels=rows("label", "0.png", "2.png")))


@pytest.mark.parametrize("title", ["label", "caption", "smiling"])
def test_a_flat_folder_does_not_take_the_lines_of_another_split(tmp_path: Path, title: str) -> None:
    name = f"{'labels' if title == 'smiling' else title + 's'}"
    source = put(
        tmp_path / "set", ["0.png", "1.png"], **{name: rows(title, "test/0.png", "train/1.png", "test/1.png", "train/0.png")}
    )
    with pytest.raises(
        LeafwingError, match=rf"{name}.csv: test/0.png and train/0.png could both be 0.png; remove the lines"
    ):
        load(source)
    (source / f"{name}.csv").write_text(rows(title, "train/0.png", "train/1.png"))
    assert len(load(source)) == 2


@pytest.mark.parametrize(
    ("paths", "file", "listed"),
    [
        (["1.png", "a/2.png"], "x.csv", {"1.png": 0, "2.png": 1}),
        (["1.png", "test/2.png"], "x.csv", {"1.png": 0, "2.png": None}),
        (["1.png", "test/2.png", "val/2.png"], "x.csv", {"1.png": 0, "2.png": None}),
        (["train/1.png", "train/a/2.png"], "train/x.csv", {"1.png": 0, "2.png": 1}),
        (["a/1.png", "a/test/2.png"], "a/x.csv", {"1.png": 0, "2.png": None}),
        (["test/1.png", "test/2.png"], "x.csv", {"1.png": 0, "2.png": 1}),
        (["a/1.png", "b/2.png"], "x.csv", {"a/1.png": 0, "2.png": 1}),
        (["a/1.png", "2.png"], "x.csv", {"/home/Me/set/a/1.png": 0, "/home/me/set/a/2.png": None}),
        (["a/1.png", "2.png"], "x.csv", {"/home/me/set/a/1.png": 0, "/home/me/set/2.png": 1}),
        (["1.png", "2.png"], "x.csv", {"a/1.png": 0, "b/2.png": 1}),  # folders that are no longer there
        (["1.png", "2.png"], "x.csv", {"1.png": 0, "b/2.png": None}),
        (["a/1.png", "b/1.png"], "a/x.csv", {"1.png": 0, "../b/1.png": 1}),
        (["a/1.png", "b/1.png"], "a/x.csv", {"/home/me/a/1.png": 0, "/home/me/b/1.png": 1}),
        (["a/1.png", "b/2.PNG"], "a/x.csv", {"1.png": 0, "2.PNG": None}),
        (["a/1.jpg", "b/1.png", "b/2.png"], "a/x.csv", {"1.png": 0, "2.png": None}),
        (["a/1.png", "b/2.png"], "lists/x.csv", {"1.png": 0, "b/2.png": 1}),
        (["./a/1.png", "./b/1.png"], "./a/x.csv", {"1.png": 0, "../b/1.png": 1}),  # in a tar
        (["1.jpg"], "x.csv", {"1.jpg": 0, "1.png": None}),
        (["1.jpg"], "x.csv", {"1.jpg": 0, "1.JPG": 0, "1.png": None}),
    ],
)  # fmt: skip
def test_the_names_of_a_list_are_files_of_one_place(paths: list[str], file: str, listed: dict[str, int | None]) -> None:
    entries = [Entry(path, None, 1) for path in paths]
    source = Source("folder", Path("set"), entries, lambda location: b"")
    assert Names(entries).in_list(listed, source, file) == listed


def test_names_that_only_resemble_a_file_are_not_merged() -> None:
    entries = [Entry("1.bmp", None, 1)]
    source = Source("folder", Path("set"), entries, lambda location: b"")
    with pytest.raises(LeafwingError, match=r"set: x.csv: 1.jpg and 1.png could both be 1.bmp"):
        Names(entries).in_list(["1.jpg", "1.png"], source, "x.csv")


@pytest.mark.parametrize(
    "files",
    [{"text/train/0.txt": "a", "text/test/0.txt": "b"}, {"train/text/1.txt": "a"}, {f"text/{i}.txt": "a" for i in range(3)}],
)
def test_text_files_of_another_split_are_not_captions(tmp_path: Path, files: dict[str, str]) -> None:
    paths = ["0.png"] if "text/train/0.txt" in files else ["train/images/0.png", "test/images/1.png"]
    paths += ["test/images/0.png", "test/images/2.png"] * ("text/1.txt" in files)
    source = write(tmp_path / "set", paths)
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    assert "caption" not in load(source).spec.fields


def test_another_file_of_a_photograph_does_not_share_its_name(tmp_path: Path) -> None:
    """A camera's raw file and its settings beside each image; the list names neither extension."""
    source = put(tmp_path / "set", [f"img/{i}.png" for i in range(4)], labels="id,breed\n0,a\n1,b\n2,a\n3,b\n")
    for i in range(4):
        (source / f"img/{i}.dng").write_bytes(b"II*\0raw")
        (source / f"img/{i}.txt").write_text(f"a star {i}")
    data = load(source)
    assert names_of(data) == ["a", "b", "a", "b"]
    assert "caption" in data.spec.fields

"""What the doctor says of pairs: recognised layouts, pictures without a partner, equal names, aspect ratios."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from data_helpers import encoded, picture

from leafwing.data import load
from leafwing.data.doctor import doctor


def put(path: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def two(a: Callable[[int], str], b: Callable[[int], str], n: int = 6) -> dict[str, bytes | str]:
    files: dict[str, bytes | str] = {a(i): encoded(picture(i, 40, 40)) for i in range(n)}
    return files | {b(i): encoded(picture(i + n, 40, 40)) for i in range(n)}


def split(i: int) -> str:
    return "train" if i else "test"


WIDE: dict[str, bytes | str] = {f"{'train' if i < 4 else 'val'}/{i}.png": encoded(picture(i, 40, 80)) for i in range(8)}
LISTED = two(lambda i: f"{i}.png", lambda i: f"{i}0.png") | {"two.csv": "input,image\n1.png,10.png\n2.png,20.png\n"}
LAYOUTS = {
    "folders": (two(lambda i: f"A/{i}.png", lambda i: f"B/{i}.jpg"), "folders", ["A", "B"]),
    "splits above": (two(lambda i: f"{split(i)}/A/{i}.png", lambda i: f"{split(i)}/B/{i}.png"), "folders", ["A", "B"]),
    "joined splits": (two(lambda i: f"{split(i)}A/{i}.png", lambda i: f"{split(i)}B/{i}.png"), "folders", ["A", "B"]),
    "suffixes": (two(lambda i: f"{i}_A.png", lambda i: f"{i}_B.png"), "suffixes", ["A", "B"]),
    "list": (LISTED, "list", ["two.csv"]),
    "halves": (WIDE, "halves", ["left", "right"]),
}


@pytest.mark.parametrize(("files", "kind", "options"), LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_layout_is_recognised_and_its_options_read_it(
    tmp_path: Path, files: dict[str, bytes | str], kind: str, options: list[str]
) -> None:
    path = put(tmp_path / "set", files)
    report = doctor(path)
    assert [(layout["kind"], [*layout["options"]]) for layout in report.as_dict()["layouts"]] == [(kind, options)]
    assert f"--input {options[0]}" in report.text()
    for option in options:
        data = load(path, input=option)
        assert len(data) == (2 if kind == "list" else 8 if kind == "halves" else 6)
        assert not doctor(path, input=option).layouts


def test_unpaired_domains_are_recognised(tmp_path: Path) -> None:
    path = put(tmp_path / "set", two(lambda i: f"trainA/a{i}.png", lambda i: f"trainB/b{i}.png"))
    (layout,) = doctor(path).layouts
    assert layout["kind"] == "domains"
    first, second = layout["options"]
    assert load(second, input=first).spec.unpaired == ("input",)


def test_training_domains_are_recommended(tmp_path: Path) -> None:
    path = put(tmp_path / "set", {f"{part}/{part}{i}.png": encoded(picture(i, 40, 40)) for part in PARTS for i in range(3)})
    (layout,) = doctor(path).layouts
    assert layout["options"] == (f"{path}/trainA", f"{path}/trainB")


PARTS = ("testA", "testB", "trainA", "trainB")
MASKED = {
    "suffix": ("cat/{}.jpg", "cat/{}_mask.png", "_mask"),
    "suffix with a number": ("{}.png", "{}_mask_1.png", "_mask_1"),
    "folder": ("images/{}.jpg", "masks/{}.png", "masks"),
    "VOC": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png", "SegmentationClass"),
}


@pytest.mark.parametrize("case", MASKED)
def test_masks_among_the_images_are_mentioned(tmp_path: Path, case: str) -> None:
    image, mask, option = MASKED[case]
    names = [pattern.format(i) for i in range(4) for pattern in (image, mask)]
    path = put(tmp_path / "set", {name: encoded(picture(i, 40, 40)) for i, name in enumerate(names)})
    (note,) = [note for note in load(path).notes if note.startswith("Masks are among the images")]
    assert f"4, such as {mask.format(0)}." in note
    assert note.endswith(f"--input {option}.")
    paired = load(path, input=option)
    assert len(paired) == 4
    assert not any("Masks" in note for note in paired.notes)


def test_images_without_originals_are_not_masks(tmp_path: Path) -> None:
    path = put(tmp_path / "set", {f"{i}_mask.png": encoded(picture(i, 40, 40)) for i in range(4)})
    assert not any("Masks" in note for note in load(path).notes)


@pytest.mark.parametrize(
    "files",
    [
        {f"{label}/{label}{i}.png": encoded(picture(i + 9 * (label == "cat"), 40, 40)) for label in ("cat", "dog") for i in range(4)},
        {f"{i}.png": encoded(picture(i, 40, 60)) for i in range(4)},
    ],
    ids=["classes", "plain"],
)  # fmt: skip
def test_other_images_are_not_taken_for_pairs(tmp_path: Path, files: dict[str, bytes | str]) -> None:
    assert not doctor(put(tmp_path / "set", files)).layouts


def test_pictures_without_a_partner_are_named(tmp_path: Path) -> None:
    files = two(lambda i: f"A/photo_{i}.png", lambda i: f"B/photo_{i}.jpg")
    files |= {"A/photo_9.png": encoded(picture(50, 40, 40)), "B/photo-9.jpg": encoded(picture(51, 40, 40))}
    files |= {"B/photo_1.bmp": encoded(picture(52, 40, 40)), "A/photo_2.png": encoded(picture(2, 40, 80))}
    report = doctor(put(tmp_path / "set", files), input="A")
    pairs = report.as_dict()["pairs"]
    assert pairs["count"] == 6
    assert len(pairs["examples"]) == 3
    assert pairs["without_partner"] == [
        ["A/photo_9.png", "no partner in the folder B (the nearest name is B/photo-9.jpg)"],
        ["B/photo-9.jpg", "no partner in the folder A (the nearest name is A/photo_9.png)"],
    ]
    assert pairs["same_names"] == [["B/photo_1.jpg", "same name as B/photo_1.bmp, apart from the extension"]]
    assert pairs["different_ratios"] == [["B/photo_2.jpg", "40x40, and its input A/photo_2.png 40x80 (height x width)"]]
    text = report.text()
    for part in (
        "pairs:     6, such as B/photo_0.jpg from A/photo_0.png",
        "without a partner: 2",
        "pairs of different aspect ratios: 1",
    ):
        assert part in text

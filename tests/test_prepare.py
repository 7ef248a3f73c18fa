"""`prepare`: pictures with landmarks or boxes become a folder of crops."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import leafwing
from leafwing import cli
from leafwing.commands.prepare import Preparation
from leafwing.data import load
from leafwing.errors import InvalidOption, LeafwingError, StorageError

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
"""Of the left eye, the right eye and the mouth."""
SHAPE = np.array([-30, 30, 40j, -45 - 20j, -40 - 45j, -20 - 35j, 20 - 35j, 40 - 45j, 45 - 20j])
"""The nine points of a frontal face, as complex numbers around the middle of its eyes."""


def face(
    size: tuple[int, int], middle: complex, *, angle: float = 0, scale: float = 1, turn: float = 0
) -> tuple[Any, list[float]]:
    """A picture of a face whose eyes and mouth are dots on smooth noise, and its nine points as x, y, x, y, ..."""
    shape = SHAPE + np.where(np.arange(9) == 2, 60 * turn, 0)
    points = middle + scale * shape * np.exp(1j * math.radians(angle))
    noise = np.random.default_rng(round(abs(middle))).integers(60, 120, (6, 6, 3), np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for point, colour in zip(points[:3], COLOURS, strict=True):
        pen.circle((point.real - 0.5, point.imag - 0.5), 6 * scale, fill=colour)
    for point in points[3:]:
        pen.circle((point.real - 0.5, point.imag - 0.5), 4 * scale, outline="black", width=2)
    return image, [number for point in points for number in (point.real, point.imag)]


def write_cat(path: Path, image: Any, numbers: list[float], **options: Any) -> None:
    """A picture and its file of nine points."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    path.with_name(f"{path.name}.cat").write_text("9 " + " ".join(f"{number:.2f}" for number in numbers))


def place_of(image: Any, colour: tuple[int, int, int]) -> tuple[float, float]:
    """The centre of the pixels of a colour."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    matches = np.abs(pixels - colour).sum(2) < 180
    assert matches.any()
    rows, columns = np.nonzero(matches)
    return columns.mean() + 0.5, rows.mean() + 0.5


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    """Faces of several sizes and angles in two folders: 14 that can be used."""
    root = tmp_path / "cats"
    for index in range(14):
        angle = (0, 20, -35, 60, 100, -90, 170)[index % 7]
        image, numbers = face((420, 360), complex(200 + index, 180 - index), angle=angle, scale=1 + index % 3 / 2)
        suffix = "jpg" if index % 2 else "png"
        write_cat(root / f"{'ab'[index % 2]}/{index:02}.{suffix}", image, numbers, **({"quality": 95} if index % 2 else {}))
    return root


def rows_of(result: Preparation) -> dict[str, dict[str, str]]:
    with (result.folder / "prepared.csv").open(newline="") as file:
        return {row["source"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("out", [".", "/"])
def test_an_output_without_a_name_is_refused(cats: Path, out: str) -> None:
    with pytest.raises(InvalidOption, match="give the name of a new folder"):
        leafwing.prepare(cats, landmarks=True, out=out)


def test_eyes_are_level_and_in_place(cats: Path, tmp_path: Path) -> None:
    result = leafwing.prepare(cats, landmarks=True, size=64, out=tmp_path / "out")
    assert (result.written, result.pictures, result.rejected) == (14, 14, [])
    for row in rows_of(result).values():
        with Image.open(result.folder / row["crop"]) as image:
            assert image.size == (64, 64)
            assert image.format == ("JPEG" if row["crop"].endswith("jpg") else "PNG")
            for colour, place in zip(COLOURS, [(0.3, 0.4), (0.7, 0.4)], strict=False):
                assert math.dist(place_of(image, colour), (64 * place[0], 64 * place[1])) < 1
    names = sorted(path.relative_to(cats).as_posix() for path in cats.rglob("*") if path.suffix != ".cat" and path.is_file())
    assert names == sorted(
        path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*.???") if path.suffix != ".csv"
    )
    assert result.sheet == tmp_path / "out-sheet.png"
    with Image.open(result.sheet) as sheet:
        assert sheet.format == "PNG"
    assert any("quality 95" in note for note in result.notes)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    data = load(result.folder, size=64)
    assert len(data) == 14
    assert data.spec.labels == ("a", "b")


def test_the_table_has_the_place_of_each_crop(cats: Path, tmp_path: Path) -> None:
    """It is enough to find a landmark of the picture in the crop."""
    result = leafwing.prepare(cats, landmarks=True, size=48, at="0.25,0.5,0.75,0.5", out=tmp_path / "out")
    rows = rows_of(result)
    assert len(rows) == 14
    for name, row in rows.items():
        numbers = list(map(float, (cats / f"{name}.cat").read_text().split()[1:]))
        corner, step = complex(float(row["left"]), float(row["top"])), float(row["side"]) / 48
        step *= np.exp(1j * math.radians(float(row["angle"])))
        for index, place in enumerate([(0.25, 0.5), (0.75, 0.5)]):
            point = (complex(*numbers[2 * index : 2 * index + 2]) - corner) / step
            assert math.dist((point.real, point.imag), (48 * place[0], 48 * place[1])) < 0.1


def test_what_is_small_turned_blurred_or_out_of_place_is_rejected(cats: Path, tmp_path: Path) -> None:
    def add(name: str, image: Any, numbers: list[float]) -> None:
        write_cat(cats / "a" / name, image, numbers)

    add("small.png", *face((300, 300), 150 + 150j, scale=0.4))
    add("turned.png", *face((300, 300), 150 + 150j, turn=0.3))
    image, numbers = face((300, 300), 150 + 150j)
    blurred = image.resize((24, 24), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    add("blurred.png", blurred, numbers)
    image, numbers = face((300, 300), 150 + 150j, angle=10)
    add("exchanged.png", image, [*numbers[2:4], *numbers[:2], *numbers[4:]])
    add("one_place.png", image, [*numbers[:2], *numbers[:2], *numbers[4:]])
    add("huge.png", image, [1e300, 1e300, *numbers[2:]])
    add("other_size.png", image, [2.1 * number for number in numbers])
    add("ear_outside.png", *face((300, 300), 150 + 50j, scale=1.2))
    add("outside.png", *face((300, 300), 32 + 150j))
    image, numbers = face((400, 400), 270 + 250j)
    add("other_picture.png", image, [0.5 * number for number in numbers])
    (cats / "a" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (cats / "a" / "damaged.png.cat").write_text("9 " + " ".join(["5"] * 18))
    image.save(cats / "a" / "alone.png")
    result = leafwing.prepare(cats, landmarks=True, size=64, frontal=0.2, sharp=100, out=tmp_path / "out")
    reasons = {item.name.removeprefix("a/"): item.reason for item in result.rejected}
    assert reasons.pop("small.png") == "its crop has 60 pixels a side"
    assert reasons.pop("turned.png") == "turned by 0.30"
    assert reasons.pop("blurred.png").startswith("sharpness ")
    assert reasons.pop("exchanged.png").startswith("left_eye and right_eye are exchanged, or mouth is wrong")
    assert reasons.pop("one_place.png") == "left_eye and right_eye are at one place"
    assert reasons.pop("huge.png") == "left_eye outside the picture of 300x300 pixels"
    assert "outside the picture of 300x300 pixels" in reasons.pop("other_size.png")
    assert reasons.pop("outside.png").endswith("of its crop lies outside the picture")
    assert reasons.pop("other_picture.png").startswith("its landmarks lie on other things than those of the other pictures")
    assert reasons.pop("damaged.png")
    assert reasons.pop("alone.png") == "no landmarks in .cat files"
    assert reasons == {}
    assert result.written == 15
    assert sum(result.rules.values()) == 11
    assert any(
        note.startswith("Pictures with landmarks outside of them: 2 (a/ear_outside.png left_ear_tip")
        for note in result.notes
    )
    rows = rows_of(result)
    assert len(rows) == 26
    assert {row["source"] for row in rows.values() if row["reason"]} == {item.name for item in result.rejected}
    written = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*.???")} - {"prepared.csv"}
    assert written == {row["crop"] for row in rows.values() if row["crop"]}


def test_smaller_crops_are_enlarged_on_request(tmp_path: Path) -> None:
    write_cat(tmp_path / "cats/1.png", *face((300, 300), 150 + 150j, scale=0.4))
    with pytest.raises(
        LeafwingError,
        match=r"not one of 1 pictures is used: 1 crops with less than 64 pixels a side.*\. \S+: its crop has \d+ pixels a side$",
    ):
        leafwing.prepare(tmp_path / "cats", landmarks=True, out=tmp_path / "out")
    with pytest.raises(LeafwingError, match="not one of 1 pictures"):
        leafwing.prepare(tmp_path / "cats", landmarks=True, out=tmp_path / "new/folder/out")
    assert [path.name for path in tmp_path.iterdir()] == ["cats"]
    result = leafwing.prepare(tmp_path / "cats", landmarks=True, out=tmp_path / "out", smallest=32)
    assert result.written == 1
    assert "Enlarged crops: 1, such as 1.png." in result.notes


@pytest.mark.parametrize("outside", ["reflect", "edge", "reject"])
def test_over_the_edge(tmp_path: Path, outside: str) -> None:
    write_cat(tmp_path / "cats/in.png", *face((300, 300), 150 + 150j))
    write_cat(tmp_path / "cats/over.png", *face((300, 300), 60 + 150j))
    result = leafwing.prepare(tmp_path / "cats", landmarks=True, out=tmp_path / "out", outside=outside)
    if outside == "reject":
        assert [item.name for item in result.rejected] == ["over.png"]
        return
    assert result.written == 2
    assert any(
        note.startswith("Crops that reach over the edge of their picture") and " 1, " in note for note in result.notes
    )
    with Image.open(result.folder / "over.png") as image:
        assert math.dist(place_of(image, COLOURS[0]), (0.3 * 64, 0.4 * 64)) < 1
        left = np.asarray(image)[:, :5].astype(int)
        assert (np.ptp(left, axis=1).max() <= 1) == (outside == "edge")


def points_list(path: Path, faces: dict[str, list[float]], names: tuple[str, ...]) -> None:
    rows = [
        f"{file},{name},{numbers[2 * index]},{numbers[2 * index + 1]}"
        for file, numbers in faces.items()
        for index, name in enumerate(names)
    ]
    path.write_text("\n".join(["file,name,x,y", *rows]))


@pytest.mark.parametrize("layout", ["csv", "spelled", "named", "pts", "coco"])
def test_layouts_of_landmarks(tmp_path: Path, layout: str) -> None:
    """The subject's left eye is at the right; points without such names are chosen by number."""
    root = tmp_path / "faces"
    root.mkdir()
    faces = {}
    for index in range(3):
        image, numbers = face((300, 300), 150 + 150j, angle=10 * index)
        image.save(root / f"{index}.png")
        faces[f"{index}.png"] = numbers[:6]
    options: dict[str, Any] = {"landmarks": True}
    names = ("RightEye", "LeftEye", "Mouth") if layout == "spelled" else ("right_eye", "left_eye", "mouth")
    if layout in ("csv", "spelled"):
        points_list(root / "keypoints.csv", faces, names)
    elif layout == "named":
        points_list(tmp_path / "my list.csv", faces, ("a", "b", "c"))
        options = {"landmarks": tmp_path / "my list.csv", "points": "a,b,c", "frontal": 0.1}
    elif layout == "pts":
        for name, numbers in faces.items():
            text = "\n".join(f"{numbers[2 * i]} {numbers[2 * i + 1]}" for i in range(3))
            (root / name).with_suffix(".pts").write_text(f"version: 1\nn_points: 3\n{{\n{text}\n}}\n")
        options["points"] = [1, 2]
    else:
        items = [
            {"image_id": i, "category_id": 1, "keypoints": [*n[:2], 2, *n[2:4], 2, *n[4:], 2]}
            for i, n in enumerate(faces.values())
        ]
        small = {"image_id": 0, "category_id": 1, "keypoints": [1, 1, 2, 3, 1, 2, 2, 2, 2]}
        content = {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(faces)],
            "annotations": [small, *items],
            "categories": [{"id": 1, "name": "person", "keypoints": [*names]}],
        }
        (root / "person_keypoints.json").write_text(json.dumps(content))
    result = leafwing.prepare(root, out=tmp_path / "out", **options)
    assert result.written == 3
    for index in range(3):
        with Image.open(tmp_path / f"out/{index}.png") as image:
            for colour, place in zip(COLOURS, [(0.3, 0.4), (0.7, 0.4)], strict=False):
                assert math.dist(place_of(image, colour), (64 * place[0], 64 * place[1])) < 1
    swapped = [note for note in result.notes if note.startswith(f"{names[0]} is the left one in most pictures")]
    assert len(swapped) == (layout in ("csv", "spelled", "coco"))
    if swapped:  # the mouth is still the third landmark
        assert leafwing.prepare(root, out=tmp_path / "frontal", frontal=0.9, **options).written == 3


BOXES = {"a/0.png": [(40, 30, 80, 40)], "b/1.png": [(10, 10, 64, 64), (100, 50, 90, 90)]}
"""Left, top, width and height."""


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Pictures with filled boxes in two colours."""
    root = tmp_path / "pictures"
    for name, items in BOXES.items():
        image = Image.new("RGB", (260, 200), (90, 90, 90))
        for colour, (left, top, across, down) in zip(COLOURS, items, strict=False):
            ImageDraw.Draw(image).rectangle((left, top, left + across - 1, top + down - 1), fill=colour)
        (root / name).parent.mkdir(parents=True)
        image.save(root / name)
    return root


def write_boxes(root: Path, layout: str) -> Any:
    """A list of `BOXES`, and the value of `boxes` that reads it."""
    rows = [(name, box) for name, items in BOXES.items() for box in items]
    if layout == "csv":
        (root / "boxes.csv").write_text(
            "\n".join(["file,left,top,width,height", *(f"{n},{','.join(map(str, b))}" for n, b in rows)])
        )
    elif layout == "voc":
        for name, items in BOXES.items():
            corners = [{"xmin": x, "ymin": y, "xmax": x + across, "ymax": y + down} for x, y, across, down in items]
            numbers = ["".join(f"<{key}>{value}</{key}>" for key, value in box.items()) for box in corners]
            objects = "".join(f"<object><name>x</name><bndbox>{box}</bndbox></object>" for box in numbers)
            (root / name).with_suffix(".xml").write_text(f"<annotation>{objects}</annotation>")
    else:
        files = {name: index for index, name in enumerate(BOXES)}
        content = {
            "images": [{"id": i, "file_name": n, "width": 520, "height": 400} for n, i in files.items()],
            "annotations": [{"image_id": files[n], "category_id": 7, "bbox": [2 * side for side in b]} for n, b in rows],
            "categories": [{"id": 7, "name": "cell"}],
        }
        (root.parent / "annotations.json").write_text(json.dumps(content))
        return root.parent / "annotations.json"
    return True


@pytest.mark.parametrize("layout", ["csv", "voc", "coco"])
def test_boxes(boxes: Path, tmp_path: Path, layout: str) -> None:
    """The largest box of each, centred in the square with the margin; COCO's are for twice the size here."""
    result = leafwing.prepare(boxes, boxes=write_boxes(boxes, layout), margin=0.1, size=60, out=tmp_path / "out")
    assert result.written == 2
    rows = rows_of(result)
    assert [float(rows["a/0.png"][key]) for key in ("left", "top", "side", "angle")] == pytest.approx([32, 2, 96, 0])
    assert [float(rows["b/1.png"][key]) for key in ("left", "top", "side")] == pytest.approx([91, 41, 108])
    with Image.open(result.folder / "b/1.png") as image:
        matches = np.abs(np.asarray(image).astype(int) - COLOURS[1]).sum(2) < 180
        assert np.nonzero(matches)[0].min() == pytest.approx(5, abs=1)
        assert matches.sum() == pytest.approx(50 * 50, rel=0.06)
    assert any(note.startswith("Pictures with several boxes: 1;") for note in result.notes)
    assert len(load(result.folder).spec.labels) == 2


def test_a_crop_of_every_box_and_by_share(boxes: Path, tmp_path: Path) -> None:
    write_boxes(boxes, "csv")
    for name in ("labels.csv", "breeds.csv"):
        (boxes / name).write_text("file,label\na/0.png,x\nb/1.png,y\n")
    result = leafwing.prepare(boxes, boxes=True, every_box=True, share=0.8, size=64, out=tmp_path / "out")
    files = sorted(path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*.png"))
    assert files == ["a/0.png", "b/1-1.png", "b/1-2.png"]
    with Image.open(result.folder / "b/1-2.png") as image:
        matches = np.abs(np.asarray(image).astype(int) - COLOURS[1]).sum(2) < 180
        assert matches.sum() == pytest.approx((0.8 * 64) ** 2, rel=0.06)
    data = load(result.folder)
    assert [data.spec.labels[label] for label in data.labels] == ["x", "y", "y"]
    assert any(note.startswith("Not copied: breeds.csv") for note in result.notes)


def test_crowds_in_coco_are_not_used(boxes: Path, tmp_path: Path) -> None:
    annotations = [
        {"image_id": 0, "bbox": [40, 30, 80, 40], "iscrowd": 0},
        {"image_id": 0, "bbox": [0, 0, 250, 190], "iscrowd": 1},
        {"image_id": 1, "bbox": [0, 0, 250, 190], "iscrowd": 1},
    ]
    content = {"images": [{"id": i, "file_name": n} for i, n in enumerate(BOXES)], "annotations": annotations}
    (tmp_path / "list.json").write_text(json.dumps(content))
    result = leafwing.prepare(boxes, boxes=tmp_path / "list.json", size=60, every_box=True, out=tmp_path / "out")
    assert [float(rows_of(result)["a/0.png"][key]) for key in ("left", "top", "side")] == pytest.approx([40, 10, 80])
    assert [(item.name, item.reason) for item in result.rejected] == [("b/1.png", "only crowds (iscrowd) in list.json")]
    assert "Annotations of crowds (iscrowd) in list.json are not used: 2." in result.notes
    content["annotations"] = annotations[1:]
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(LeafwingError, match=r"list\.json has none of a picture here \(only crowds"):
        leafwing.prepare(boxes, boxes=tmp_path / "list.json", size=60, out=tmp_path / "out2")


def test_files_beside_pictures_that_are_not_used_are_one_note(boxes: Path, tmp_path: Path) -> None:
    write_boxes(boxes, "csv")
    for name in "abcd":
        (boxes / f"{name}.json").write_text("{}")
    result = leafwing.prepare(boxes, boxes=True, size=60, out=tmp_path / "out")
    assert [note for note in result.notes if note.startswith("Not used")] == [
        "Not used: a.json, b.json, c.json ..., because the boxes come from boxes.csv; --boxes FILE chooses."
    ]


def test_sizes_in_coco_that_are_no_sizes_count_as_unknown(boxes: Path, tmp_path: Path) -> None:
    images = [{"id": 0, "file_name": "a/0.png", "width": 10**400, "height": "x"}]
    content = {"images": images, "annotations": [{"image_id": 0, "bbox": [40, 30, 80, 40]}]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    result = leafwing.prepare(boxes, boxes=tmp_path / "list.json", size=60, out=tmp_path / "out")
    assert [float(rows_of(result)["a/0.png"][key]) for key in ("left", "top", "side")] == pytest.approx([40, 10, 80])


def test_a_list_may_name_anything(boxes: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (200, 200)).save(secret)
    lines = [
        "../secret.png,0,0,99,99",
        f"{secret},0,0,99,99",
        "=cmd(),0,0,99,99",
        "a/0.png,40,30,80,40",
        "b/1.png,1e300,0,9,9",
    ]
    (boxes / "boxes.csv").write_text("\n".join(["file,left,top,width,height", *lines]))
    result = leafwing.prepare(boxes, boxes=True, size=60, out=tmp_path / "out")
    assert sorted(path.name for path in result.folder.rglob("*.png")) == ["0.png"]
    assert [item.reason for item in result.rejected] == [
        "less than half of its box lies inside the picture of 260x200 pixels"
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-sheet.png", "pictures", "secret.png"]


def test_names_in_an_archive_stay_in_the_output_folder(tmp_path: Path) -> None:
    image, numbers = face((300, 300), 150 + 150j)
    write_cat(tmp_path / "1.png", image, numbers)
    with zipfile.ZipFile(tmp_path / "cats.zip", "w") as archive:
        for name in ("../../1.png", "/abs/2.png", "/ABS/2.PNG", "Prepared.csv/3.png"):
            archive.write(tmp_path / "1.png", name)
            archive.write(tmp_path / "1.png.cat", f"{name}.cat")
    result = leafwing.prepare(tmp_path / "cats.zip", landmarks=True, out=tmp_path / "x/out")
    files = sorted(path.relative_to(tmp_path / "x").as_posix() for path in (tmp_path / "x").rglob("*") if path.is_file())
    assert result.written == 4
    assert len({name.casefold() for name in files}) == 6  # also where upper and lower case are one
    assert {"out-sheet.png", "out/1.png", "out/prepared.csv", "out/prepared.csv-2/3.png"} < {*files}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must be in COCO's layout"),
        ("{", "not readable JSON"),
        ('{"images": [{"id": 1}], "annotations": [{"bbox": [1, 2, 3, 4]}]}', "images need an id and a file_name"),
        ('{"images": [], "annotations": [{"bbox": [1, 2, 3, 4]}]}', "item 1 of annotations: needs the image_id"),
        ('{"images": [], "annotations": [7, {"bbox": 1}]}', "item 1 of annotations: needs the image_id"),
        (
            '{"images": [{"id": 1, "file_name": "a/0.png"}], "annotations": [{"image_id": 1, "bbox": [1, 2, "x", 4]}]}',
            "list of numbers",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a/0.png"}], "annotations": [{"image_id": 1, "bbox": [1, 2]}]}',
            "bbox needs left, top",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a/0.png"}], "annotations": [{"image_id": 1, "bbox": [1, 2, NaN, 4]}]}',
            "list of numbers",
        ),
        (
            '{"images": [{"id": 1, "file_name": "c.png"}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}',
            "none of a picture",
        ),
    ],
)
def test_invalid_coco(boxes: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(LeafwingError, match=message):
        leafwing.prepare(boxes, boxes=tmp_path / "list.json", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say what to crop"),
        ({"landmarks": True, "boxes": True}, "choose one of --landmarks and --boxes"),
        ({"landmarks": True, "size": 4}, "size=4: a whole number from 8"),
        ({"landmarks": True, "at": "0.3,0.4"}, "give x and y of two different places"),
        ({"landmarks": True, "at": (0.3, 0.4, 0.3, 0.4)}, "give x and y of two different places"),
        ({"landmarks": True, "at": "0.3,0.4,nan,0.4"}, "give x and y of two different places"),
        ({"landmarks": True, "points": "left_eye"}, "give two or three different landmarks .* 1 left_eye, 2 right_eye"),
        ({"landmarks": True, "points": "1,12"}, "give two or three different landmarks"),
        ({"landmarks": True, "points": "1,1"}, "give two or three different landmarks"),
        ({"landmarks": True, "points": "1,2", "frontal": 0.2}, "needs a third landmark"),
        ({"landmarks": True, "margin": 0.1}, "--margin is for --boxes"),
        ({"landmarks": True, "every_box": True}, "--every-box is for --boxes"),
        ({"landmarks": True, "sharp": float("nan")}, "sharp=nan: a number from 0 on"),
        ({"landmarks": True, "outside": "black"}, "choose from reflect, edge, reject"),
        ({"landmarks": "points.csv"}, "neither a list in the source nor a file"),
        ({"boxes": True}, "no boxes of its pictures: there is no boxes.csv"),
        ({"boxes": True, "frontal": 0.2}, "--frontal is for --landmarks"),
        ({"boxes": True, "share": 0.5, "margin": 0.1}, "--margin and --share: choose one"),
        ({"boxes": True, "share": 2}, "from 0.05 to 1"),
    ],
)
def test_invalid_options(cats: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        leafwing.prepare(cats, out=tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["cats"]


def test_nothing_is_overwritten(cats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, sheet = tmp_path / "out", tmp_path / "out-sheet.png"
    for path in (out, sheet):
        path.write_text("mine")
        with pytest.raises(LeafwingError, match=f"{path.name} exists: choose another --out"):
            leafwing.prepare(cats, landmarks=True, out=out)
        assert path.read_text() == "mine"
        path.unlink()
    with pytest.raises(InvalidOption, match="lies inside the source"):
        leafwing.prepare(cats, landmarks=True, out=cats / "out")

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageError, match="No space left"):
        leafwing.prepare(cats, landmarks=True, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["cats"]


def test_the_command(cats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, numbers = face((300, 300), 150 + 150j, scale=0.4)
    write_cat(cats / "a/small.png", image, numbers)
    assert cli.run(["prepare", str(cats), "--landmarks", "--size", "64", "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "out")
    assert (
        "14 crops of 64x64 from 15 pictures, by .cat files: left_eye at 0.3, 0.4 and right_eye at 0.7, 0.4" in captured.err
    )
    assert "crops with less than 64 pixels a side in their picture (--smallest): 1 (a/small.png" in captured.err
    assert "turn of the crops (--frontal): half below 0.00" in captured.err
    words = ["prepare", str(cats), "--landmarks", "--points", "1,2,3", "--out", str(tmp_path / "two"), "--json"]
    assert cli.run(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["written"], document["rejected"][0]["name"]) == (14, "a/small.png")
    assert cli.run(["prepare", str(cats), "--out", str(tmp_path / "three")]) == 2
    assert "say what to crop" in capsys.readouterr().err
    assert cli.run(["prepare", str(cats), "--landmarks", "a.csv", "b.csv", "--out", str(tmp_path / "three")]) == 2
    assert "one list at most" in capsys.readouterr().err
    assert cli.run(["prepare", "--landmarks", str(cats), "--out", str(tmp_path / "three")]) == 2
    assert "the source comes first" in capsys.readouterr().err


def test_rotated_deep_and_transparent_pictures(tmp_path: Path) -> None:
    """Landmarks are those of the upright picture; grey with 16 bits and transparency stay."""
    root = tmp_path / "cats"
    image, numbers = face((320, 280), 150 + 140j)
    exif = Image.Exif()
    exif[0x0112] = 6
    write_cat(root / "rotated.jpg", image.transpose(Image.Transpose.ROTATE_90), numbers, exif=exif, quality=95)
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
    write_cat(root / "deep.png", deep, numbers)
    image.putalpha(128)
    write_cat(root / "clear.webp", image, numbers, lossless=True)
    image.save(root / "clear.gif")
    (root / "clear.gif.cat").write_text((root / "clear.webp.cat").read_text())
    result = leafwing.prepare(root, landmarks=True, out=tmp_path / "out")
    assert result.written == 4
    names = {path.name for path in result.folder.iterdir()} - {"prepared.csv"}
    assert names == {"rotated.jpg", "deep.png", "clear.webp", "clear.png"}
    assert "Written as PNG, not as their own type of file: 1, such as clear.png." in result.notes
    with Image.open(result.folder / "rotated.jpg") as crop:
        assert math.dist(place_of(crop, COLOURS[0]), (0.3 * 64, 0.4 * 64)) < 1
        assert crop.getexif().get(0x0112, 1) == 1
    with Image.open(result.folder / "deep.png") as crop:
        assert crop.mode == "I;16"
        assert np.asarray(crop).max() > 10_000
    with Image.open(result.folder / "clear.webp") as crop:
        assert crop.mode == "RGBA"
        assert np.abs(np.asarray(crop)[..., 3].astype(int) - 128).max() <= 2


def test_tar_archives(cats: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "cats.tar.gz", "w:gz") as archive:
        archive.add(cats, "cats")
    result = leafwing.prepare(tmp_path / "cats.tar.gz", landmarks=True, out=tmp_path / "out")
    assert result.written == 14
    assert (tmp_path / "out/cats/a/00.png").is_file()


def test_several_compressed_tars(cats: Path, tmp_path: Path) -> None:
    import tarfile

    (tmp_path / "shards").mkdir()
    for name in ("a", "b"):
        with tarfile.open(tmp_path / f"shards/cats-{'ab'.index(name)}.tar.gz", "w:gz") as archive:
            archive.add(cats / name, f"cats/{name}")
    result = leafwing.prepare(tmp_path / "shards", landmarks=True, out=tmp_path / "out")
    assert result.written == 14
    assert result.sheet.is_file()


def test_a_damaged_picture_without_landmarks_is_no_error(cats: Path, tmp_path: Path) -> None:
    import zipfile

    buffer = io.BytesIO()
    face((420, 360), complex(150, 130))[0].save(buffer, "PNG")
    data = buffer.getvalue()
    path = tmp_path / "cats.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(cats.rglob("*")):
            archive.write(file, str(file.relative_to(cats)))
        archive.writestr("unmarked.png", data)
    content = bytearray(path.read_bytes())
    content[content.index(data) + len(data) // 2] ^= 0xFF
    path.write_bytes(content)
    result = leafwing.prepare(path, landmarks=True, out=tmp_path / "out")
    assert result.written == 14
    assert any(rejected.name == "unmarked.png" for rejected in result.rejected)

"""Boxes and key points beside images: layouts, geometry for every fit, what is not used, and damaged files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import encoded
from PIL import Image

from leafwing.data import Dataset, load, positions
from leafwing.data.doctor import doctor
from leafwing.data.positions import CAT
from leafwing.errors import LeafwingError
from leafwing.fields import Box, Keypoints
from leafwing.game import DataSpec, MissingField

NAMES = ["0.png", "1.png", "2.png", "3.png"]
BOXES = [(10, 20, 40, 30), (30, 10, 20, 20), (25, 0, 50, 50), (40, 10, 10, 40)]
"""Left, top, width, height in images of 100 x 50 pixels (width x height)."""


def marked(index: int, box: tuple[int, int, int, int] = (0, 0, 0, 0), size: tuple[int, int] = (100, 50)) -> Image.Image:
    """A black image, slightly different for each index, with a white box."""
    image = Image.new("RGB", size, (0, 0, 40 + index))
    left, top, width, height = box
    if width:
        image.paste((255, 255, 255), (left, top, left + width, top + height))
    return image


def write_with(folder: Path, files: dict[str, str], names: list[str] = NAMES) -> Path:
    """Images of 100 x 50 pixels in which the boxes are white, and files beside them."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(marked(index, BOXES[index])))
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def notes(data: Dataset) -> str:
    return "\n".join(data.notes)


def voc(box: tuple[float, ...] | list[tuple[float, ...]], size: tuple[int, int] = (100, 50)) -> str:
    """A VOC annotation."""
    boxes = box if isinstance(box, list) else [box]
    objects = "".join(
        f"<object><name>cell</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for x, y, w, h in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


def boxes_csv(boxes: list[tuple[int, int, int, int]] = BOXES) -> str:
    return lines("file,left,top,width,height", *(f"{n},{','.join(map(str, b))}" for n, b in zip(NAMES, boxes, strict=True)))


CORNERS = [f"{n},{x},{y},{x + w},{y + h}" for n, (x, y, w, h) in zip(NAMES, BOXES, strict=True)]
LAYOUTS = {
    "sides": {"boxes.csv": boxes_csv()},
    "short": {"boxes.csv": boxes_csv().replace("left,top,width,height", "x,y,w,h")},
    "celeba": {"boxes.csv": boxes_csv().replace("file,left,top", "image_id,x_1,y_1")},
    "corners": {"boxes.csv": lines("file;x1;y1;x2;y2", *(row.replace(",", ";") for row in CORNERS))},
    "min and max": {"boxes.csv": lines("filename,xmin,ymin,xmax,ymax", *CORNERS)},
    "size of the image": {"boxes.csv": lines("filename,xmin,ymin,xmax,ymax,width,height", *(f"{row},100,50" for row in CORNERS))},
    "voc beside": {f"{n[:1]}.xml": voc(b) for n, b in zip(NAMES, BOXES, strict=True)},
    "voc": {f"Annotations/{n[:1]}.xml": voc(b) for n, b in zip(NAMES, BOXES, strict=True)},
    "voc of another size": {f"{n[:1]}.xml": voc(tuple(2 * side for side in b), (200, 100)) for n, b in zip(NAMES, BOXES, strict=True)},
    "cub": {
        "images.txt": lines(*(f"{7 + i} {n}" for i, n in enumerate(NAMES))),
        "bounding_boxes.txt": lines(*(f"{7 + i} {x}.0 {y}.0 {w}.0 {h}.0" for i, (x, y, w, h) in enumerate(BOXES))),
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_boxes(tmp_path: Path, layout: str) -> None:
    source = write_with(tmp_path, LAYOUTS[layout])
    data = load(source, size=(50, 100), fit="stretch")
    assert data.spec.fields["box"] == Box()
    assert data.columns["box"].dtype == np.float32
    np.testing.assert_allclose(data.columns["box"], np.array(BOXES) / (100, 50, 100, 50), rtol=1e-6)
    assert "Box: 4 images, from " in notes(data)
    assert data.rejects == []
    report = doctor(source, size=(50, 100), fit="stretch")
    assert report.notes == data.notes
    assert report.fields["box"]["area"] == {"min": 0.08, "median": 0.16, "max": 0.5}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["10,10,30,30,20,20", "20,0,50,20,30,20"], [[0.1, 0.2, 0.2, 0.4], [0.2, 0, 0.3, 0.4]]),
        (["10,10,30,30,21,21", "20,0,50,20,31,21"], [[0.1, 0.2, 0.2, 0.4], [0.2, 0, 0.3, 0.4]]),
        (["0,0,200,100,200,100", "0,0,200,100,200,100"], [[0, 0, 1, 1], [0, 0, 1, 1]]),
        (["10,10,110,60,100,50", "20,0,50,20,100,50"], [[0.1, 0.2, 0.9, 0.8], [0.2, 0, 0.3, 0.4]]),
    ],
    ids=[
        "sides of the boxes",
        "with both edges",
        "whole images of another size",
        "sizes of the images, one of which a box has",
    ],
)
def test_whose_width_and_height_a_list_of_corners_has(tmp_path: Path, rows: list[str], expected: list[list[float]]) -> None:
    text = lines("file,left,top,right,bottom,width,height", *(f"{n},{row}" for n, row in zip(NAMES, rows, strict=False)))
    data = load(write_with(tmp_path, {"boxes.csv": text}, NAMES[:2]), size=(50, 100), fit="stretch")
    np.testing.assert_allclose(data.columns["box"], expected, rtol=1e-6)
    assert ("The columns width and height in boxes.csv are not used" in notes(data)) == rows[0].startswith("10,10,30")


def test_voc_folders_beside_a_folder_of_images(tmp_path: Path) -> None:
    files = {f"VOC2012/Annotations/{n[:1]}.xml": voc(b) for n, b in zip(NAMES, BOXES, strict=True)}
    data = load(write_with(tmp_path, files, [f"VOC2012/JPEGImages/{name}" for name in NAMES]), size=(50, 100))
    np.testing.assert_allclose(data.columns["box"], np.array(BOXES) / (100, 50, 100, 50), rtol=1e-6)


@pytest.mark.parametrize("size", ["32x32", "20x48", "48x24"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("mirror", [False, True])
def test_boxes_lie_where_their_pixels_are(tmp_path: Path, size: str, fit: str, mirror: bool) -> None:
    """The box encloses exactly the white pixels of the fitted image, mirrored or not."""
    data = load(write_with(tmp_path, {"boxes.csv": boxes_csv()}), size=size, fit=fit, background="black", mirror=mirror)
    assert len(data) == 4
    batch = data.batch(0, 0, 12)
    height, width = batch.image.shape[1:3]
    for image, box in zip(batch.image, batch.box, strict=True):
        white = image[:, :, 0] > 127
        rows, columns = torch.nonzero(white.any(1)).flatten(), torch.nonzero(white.any(0)).flatten()
        expected = [
            int(columns[0]) / width,
            int(rows[0]) / height,
            (int(columns[-1]) + 1) / width,
            (int(rows[-1]) + 1) / height,
        ]
        left, top, across, down = box.tolist()
        assert min(left, top) >= 0
        assert max(left + across, top + down) <= 1 + 1e-6
        np.testing.assert_allclose([left, top, left + across, top + down], expected, atol=0.75 / min(height, width))


def test_boxes_refer_to_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    upright = marked(0, (10, 30, 20, 40), (50, 100))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    for name, kind in (("a.jpg", "JPEG"), ("b.png", "PNG"), ("c.webp", "WEBP")):
        (tmp_path / name).write_bytes(encoded(stored, kind, exif=exif))
    (tmp_path / "boxes.csv").write_text(
        "file,left,top,width,height\n" + "".join(f"{n},10,30,20,40\n" for n in ("a.jpg", "b.png", "c.webp"))
    )
    data = load(tmp_path, size="100x50")
    np.testing.assert_allclose(data.columns["box"], [[0.2, 0.3, 0.4, 0.4]] * 3, rtol=1e-6)
    for image in data.array:
        assert image[35:65, 15:25, 0].min() > 200
        assert image[:25, :, 0].max() < 60


def test_the_largest_of_several_boxes_is_used(tmp_path: Path) -> None:
    text = boxes_csv() + "0.png,0,0,100,49\n0.png,0,0,5,5\n2.png,0,0,5,5\n"
    data = load(write_with(tmp_path, {"boxes.csv": text}), size=(50, 100))
    np.testing.assert_allclose(data.columns["box"][0], [0, 0, 1, 0.98], rtol=1e-6)
    assert "Images with several boxes: 2 (7 boxes in all); the largest of each is used." in data.notes


def test_boxes_outside_the_part_that_is_used(tmp_path: Path) -> None:
    boxes = [(0, 0, 20, 20), (20, 10, 20, 20), (90, -5, 30, 30), (-10, 5, 200, 40)]
    source = write_with(tmp_path, {"boxes.csv": boxes_csv(boxes)})
    data = load(source, size=32)  # the centre: pixels 25 to 75
    assert [(reject.name, reject.reason) for reject in data.rejects] == [
        (name, "its box lies outside the part of the image that is used; --fit pad uses all of it")
        for name in ("0.png", "2.png")
    ]
    np.testing.assert_allclose(data.columns["box"], [[0, 0.2, 0.3, 0.4], [0, 0.1, 1, 0.8]], rtol=1e-6)
    assert [reject.name for reject in doctor(source, size=32).rejected] == ["0.png", "2.png"]
    padded = load(source, size=32, fit="pad")
    np.testing.assert_allclose(
        padded.columns["box"],
        [[0, 0.25, 0.2, 0.2], [0.2, 0.35, 0.2, 0.2], [0.9, 0.25, 0.1, 0.25], [0, 0.3, 1, 0.4]],
        rtol=1e-6,
    )


def test_images_that_are_rejected_because_of_a_list_are_counted_with_the_way_out(tmp_path: Path) -> None:
    boxes = [(0, 0, 20, 20), (20, 10, 20, 20), (200, 10, 30, 30), (30, 10, 20, 20)]
    source = write_with(tmp_path, {"boxes.csv": boxes_csv(boxes)})
    note = "Rejected because of boxes.csv: 2; they are used, without a box, if you move boxes.csv away."
    data = load(source, size=32)
    assert note in data.notes
    assert note in load(source, size=32).notes, "from the cache"
    assert note in doctor(source, size=32).notes
    assert data.rejects[1].reason == "its box lies outside the image of 50x100 pixels (height x width)"
    (source / "boxes.csv").write_text(boxes_csv([(200, 10, 30, 30)] * 4))
    with pytest.raises(LeafwingError, match=r"outside the image of 50x100.* if you move boxes\.csv away\.$"):
        load(source, size=32)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.csv", lines("file,left,top,width,height,label", *(f"{name},.1,.1,.5,.9,cat" for name in [*NAMES, "9.png"]))),
        ("boxes.csv", "file,xmin,ymin,xmax,ymax,width,height\n" + "".join(f"{name},0,0,1,1,100,50\n" for name in NAMES)),
        ("keypoints.csv", "file,name,x,y\n" + "".join(f"{name},eye,.3,1\n" for name in NAMES)),
        ("0.xml", voc((0.1, 0.2, 0.5, 0.5))),
    ],
)
def test_fractions_instead_of_pixels_are_not_used(tmp_path: Path, name: str, text: str) -> None:
    names = NAMES[:1] if name == "0.xml" else NAMES
    data = load(write_with(tmp_path, {name: text}, names), size=32)
    assert (len(data), [*data.spec.fields]) == (len(names), ["image"])
    assert any("because no position in it reaches 2, as if they were fractions" in note for note in data.notes)

    def accept(spec: DataSpec) -> None:
        raise MissingField("box", "boxes", "")

    with pytest.raises(MissingField, match=r"no further fields\. Not used: .*give pixels"):
        load(tmp_path, size=16, accept=accept)


def test_boxes_without_an_area_are_counted(tmp_path: Path) -> None:
    text = boxes_csv([(1, 1, 0, 5), *BOXES[1:]]) + "1.png,0,0,-3,2\n"
    data = load(write_with(tmp_path, {"boxes.csv": text}), size=(50, 100))
    assert "Boxes without an area: 2 (boxes.csv, line 2; boxes.csv, line 6); they are not used." in data.notes
    assert [reject.name for reject in data.rejects] == ["0.png"]
    assert "width and height must be positive (boxes.csv, line 2)" in data.rejects[0].reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,left,top,width,height\n0.png,1,2,3,x\n", r"boxes.csv, line 2: height must be a number, not x"),
        ("file,left,top,width,height\n0.png,1,2,3,inf\n", r"boxes.csv, line 2: height must be a number, not inf"),
        ("file,left,top,width,height\n0.png,1,2,3,4\n1.png,1,,3,4\n", r"boxes.csv, line 3: top must be a number, not empty"),
        ("file,left,top\n0.png,1,2\n", r"must name the columns file,left,top,width,height or file,x1,y1,x2,y2; it is: file,left,top"),
        ("file,left,top,width,height\n0.png,1,2,3,4,5\n", r"boxes.csv, line 2: 6 cells, but the first line names 5 columns"),
    ],
)  # fmt: skip
def test_damaged_lists_of_boxes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        load(write_with(tmp_path, {"boxes.csv": text}), size=(50, 100))


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation><object>", "1.xml is not readable XML"),
        (BOMB, "1.xml has a DOCTYPE, which is not accepted"),
        ("<html/>", "1.xml is not a VOC annotation (it begins with html)"),
        (voc([]), "no box in 1.xml"),
        (voc(BOXES[0]).replace("10", "ten"), "1.xml has no number in bndbox/xmin"),
        (voc(BOXES[1], (50, 100)), "its box is for an image of 100x50 pixels (height x width), but it has 50x100"),
    ],
)
def test_damaged_voc_files_reject_their_image(tmp_path: Path, content: str, reason: str) -> None:
    data = load(write_with(tmp_path, LAYOUTS["voc beside"] | {"1.xml": content}), size=(50, 100))
    assert [reject.name for reject in data.rejects] == ["1.png"]
    assert data.rejects[0].reason.startswith(reason)
    assert len(data.columns["box"]) == 3


def test_other_xml_files_are_no_boxes(tmp_path: Path) -> None:
    data = load(write_with(tmp_path, {f"{i}.xml": "<xmp/>" for i in range(4)}), size=(50, 100))
    assert (len(data), [*data.spec.fields]) == (4, ["image"])
    assert "Not used, because they are not images: *.xml (4 files)." in data.notes


def test_names_of_objects_and_lonely_files_are_named(tmp_path: Path) -> None:
    data = load(write_with(tmp_path, LAYOUTS["voc"] | {"Annotations/9.xml": voc(BOXES[0])}), size=(50, 100))
    assert "Names of the objects in VOC annotations are not used (cell 4)." in data.notes
    assert "Entries of VOC annotations without an image: 1 (Annotations/9.xml)." in data.notes


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"boxes.csv": "file,x,y,w,h\n"}, "Not used: boxes.csv, without any box."),
        (
            {f"{i}.xml": BOMB for i in range(4)},
            "Not used: VOC annotations, without any box (0.xml has a DOCTYPE, which is not accepted).",
        ),
        (
            {f"{name}.cat": "" for name in NAMES},
            "Not used: .cat files, without any key points (0.png.cat must contain 9 and then x and y of nine points).",
        ),
    ],
)
def test_files_without_anything_usable_are_named(tmp_path: Path, files: dict[str, str], note: str) -> None:
    data = load(write_with(tmp_path, files), size=(50, 100))
    assert (len(data), [*data.spec.fields]) == (4, ["image"])
    assert note in data.notes


# --- key points ----------------------------------------------------------------------------------------------------------------

POINTS = {"left_eye": (30, 20), "right_eye": (60, 20), "nose": (45, 30)}


def parts_csv(*further: str, header: str = "file,name,x,y") -> str:
    return lines(header, *(f"{n},{part},{x},{y}" for n in NAMES for part, (x, y) in POINTS.items()), *further)


POINT_LAYOUTS = {
    "parts.csv": {"parts.csv": parts_csv()},
    "keypoints.csv": {"keypoints.csv": parts_csv(header="image,keypoint,x,y")},
    "visible": {
        "parts.csv": lines("file,part,x,y,visible", *(f"{n},{p},{x},{y},1" for n in NAMES for p, (x, y) in POINTS.items()))
    },
    "cub": {
        "images.txt": lines(*(f"{1 + i} {n}" for i, n in enumerate(NAMES))),
        "parts/parts.txt": "1 left eye\n2 right eye\n3 nose\n",
        "parts/part_locs.txt": lines(
            *(f"{1 + i} {1 + k} {x}.0 {y}.0 1" for i in range(4) for k, (x, y) in enumerate(POINTS.values()))
        ),
    },
}


@pytest.mark.parametrize("layout", POINT_LAYOUTS)
def test_every_layout_of_key_points(tmp_path: Path, layout: str) -> None:
    source = write_with(tmp_path, POINT_LAYOUTS[layout])
    data = load(source, size=(50, 100))
    assert data.spec.fields["keypoints"] == Keypoints(tuple(POINTS))
    assert data.columns["keypoints"].dtype == np.float32
    np.testing.assert_allclose(data.columns["keypoints"], [[[0.3, 0.4, 1], [0.6, 0.4, 1], [0.45, 0.6, 1]]] * 4, rtol=1e-6)
    assert "Key points: 4 images, from " in notes(data)
    assert "Ignored files" not in notes(data)
    assert doctor(source).fields["keypoints"]["visible"] == dict.fromkeys(POINTS, 1.0)


def test_invisible_points(tmp_path: Path) -> None:
    rows = [f"{n},{p},{x},{y},yes" for n in NAMES for p, (x, y) in POINTS.items()]
    rows[0], rows[4] = "0.png,left_eye,0,0,no", "1.png,right_eye,,,0"
    source = write_with(tmp_path, {"parts.csv": lines("file,name,x,y,visible", *rows[:-1])})
    data = load(source, size=(50, 100))
    assert data.columns["keypoints"][:, :, 2].tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0]]
    assert data.columns["keypoints"][0, 0].tolist() == data.columns["keypoints"][3, 2].tolist() == [0, 0, 0]
    assert "Images without some of the 3 key points: 1; these points count as invisible." in data.notes
    assert doctor(source, size=(50, 100)).fields["keypoints"]["visible"] == {
        "left_eye": 0.75,
        "right_eye": 0.75,
        "nose": 0.75,
    }


def test_points_outside_the_part_that_is_used_are_invisible(tmp_path: Path) -> None:
    text = lines(
        "file,name,x,y",
        *(f"{n},a,{x},-4" for n, x in zip(NAMES, (10, 50, 50, 50), strict=True)),
        *(f"{n},b,{x},25" for n, x in zip(NAMES, (20, 50, 25, 80), strict=True)),
    )
    data = load(write_with(tmp_path, {"parts.csv": text}), size=32)
    assert [(reject.name, reject.reason[:60]) for reject in data.rejects] == [
        (name, "all of its key points lie outside the part of the image that") for name in ("0.png", "3.png")
    ]
    np.testing.assert_allclose(data.columns["keypoints"], [[[0.5, 0, 0], [0.5, 0.5, 1]], [[0.5, 0, 0], [0, 0.5, 1]]])


def test_mirrored_points_exchange_left_and_right(tmp_path: Path) -> None:
    data = load(write_with(tmp_path, {"parts.csv": parts_csv()}), size=(50, 100), mirror=True)
    rows = {
        tuple(round(value, 2) for value in point) for points in data.batch(0, 0, 32).keypoints.tolist() for point in points
    }
    assert rows == {(0.3, 0.4, 1), (0.6, 0.4, 1), (0.45, 0.6, 1), (0.4, 0.4, 1), (0.7, 0.4, 1), (0.55, 0.6, 1)}
    mirrored = next(points for points in data.batch(0, 0, 32).keypoints if abs(float(points[2, 0]) - 0.55) < 1e-3)
    np.testing.assert_allclose(mirrored[:2, 0], [0.4, 0.7], rtol=1e-6)  # the left eye is left again


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (parts_csv("0.png,nose,1,2"), r"parts.csv, line 14: 0.png already has a point nose, in line 4"),
        (parts_csv("0.png,,1,2"), r"parts.csv, line 14: a name of the point is needed"),
        (parts_csv("0.png,mouth,1,y"), r"parts.csv, line 14: y must be a number, not y"),
        ("file,x,y\n", r"must name the columns file,name,x,y \(and possibly visible\); it is: file,x,y"),
    ],
)
def test_damaged_lists_of_points(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LeafwingError, match=message):
        load(write_with(tmp_path, {"parts.csv": text}), size=(50, 100))


NINE = [(40, 20), (60, 20), (50, 30), (30, 18), (28, 5), (42, 12), (58, 12), (72, 5), (70, 18)]
"""A cat that looks straight ahead: mirrored, its points are those of the same cat."""
CAT_FILE = "9 " + " ".join(f"{x} {y}" for x, y in NINE) + " "


def test_cat_files(tmp_path: Path) -> None:
    files = {f"{name}.cat": CAT_FILE for name in NAMES}
    data = load(write_with(tmp_path, files), size=(50, 100), mirror=True)
    field = data.spec.fields["keypoints"]
    assert field == Keypoints(CAT)
    expected = np.array([[x / 100, y / 50, 1] for x, y in NINE])
    np.testing.assert_allclose(data.columns["keypoints"], [expected] * 4, rtol=1e-6)
    np.testing.assert_allclose(field.mirror(torch.from_numpy(data.columns["keypoints"][:1].copy()))[0], expected, rtol=1e-5)
    assert "Key points: 4 images, from .cat files." in data.notes


KNOWN = "9 " + " ".join(map(str, range(18)))
"""A file that is known to be wrong."""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("8 " + CAT_FILE[2:], "1.png.cat must contain 9 and then x and y of nine points"),
        (CAT_FILE[:20], "1.png.cat must contain 9"),
        (CAT_FILE.replace("72", "nan"), "1.png.cat must contain 9"),
        ("", "1.png.cat must contain 9"),
        (KNOWN + " \n", "1.png.cat is known to be wrong: it has the points of another size of the image"),
    ],
)
def test_damaged_cat_files_reject_their_image(
    tmp_path: Path, content: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(positions, "KNOWN_WRONG", {hashlib.sha256(KNOWN.encode()).hexdigest()})
    files = {f"{name}.cat": CAT_FILE for name in NAMES} | {"1.png.cat": content}
    data = load(write_with(tmp_path, files), size=(50, 100))
    assert [reject.name for reject in data.rejects] == ["1.png"]
    assert data.rejects[0].reason.startswith(reason)


def test_captions_boxes_and_points_together(tmp_path: Path) -> None:
    captions = lines("file,caption", *(f"{name},image {name[0]}" for name in NAMES[1:]))
    files = {
        "boxes.csv": boxes_csv(),
        "parts.csv": parts_csv(),
        "captions.csv": captions,
        "labels.csv": "file,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n",
    }
    source = write_with(tmp_path, files)
    data = load(source, size=(50, 100))
    assert [*data.spec.fields] == ["image", "label", "caption", "box", "keypoints"]
    assert [(reject.name, reject.reason) for reject in data.rejects] == [("0.png", "no caption in captions.csv")]
    np.testing.assert_allclose(data.columns["box"], np.array(BOXES[1:]) / (100, 50, 100, 50), rtol=1e-6)
    batch = data.batches(0)(0, 6)
    assert (batch.box.shape, batch.keypoints.shape, batch.caption.dtype) == ((6, 4), (6, 3, 3), torch.int64)
    report = doctor(source, size=(50, 100))
    assert [*report.fields] == ["caption", "box", "keypoints"]
    assert "Further fields (caption, box, keypoints) are used only by recipes that take them" in report.text()
    for name in ("caption:", "box:", "keypoints:"):
        assert name in report.text()

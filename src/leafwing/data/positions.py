"""Boxes and key points beside images. `side_fields` chooses a layout, `pictures` knows which part is used.

Boxes: `boxes.csv`, Pascal VOC's XML files, CUB's `bounding_boxes.txt`. Key points: `parts.csv` or `keypoints.csv`, CUB's
`part_locs.txt`, the `.cat` files of the CAT data set. Coordinates are pixels of the upright image, as viewers show it: after its
EXIF orientation is applied. An annotation that says for which image size it was made is scaled to the actual size.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from xml.etree import ElementTree

import numpy as np

from leafwing.data.lists import (
    FILE,
    Annotations,
    Layout,
    Names,
    Table,
    first,
    folder_of,
    read_table,
    read_text,
    read_texts,
    read_xml,
)
from leafwing.data.options import Target
from leafwing.data.pictures import Picture, UnusableImageError, fractions
from leafwing.data.sources import Source, clean
from leafwing.errors import LeafwingError
from leafwing.fields import Box, Keypoints

CORNERS = (
    ("x1", "xmin", "x_min", "left"),
    ("y1", "ymin", "y_min", "top"),
    ("x2", "xmax", "x_max", "right"),
    ("y2", "ymax", "y_max", "bottom"),
)
SIDES = (("left", "x", "x1", "x_1", "xmin"), ("top", "y", "y1", "y_1", "ymin"), ("width", "w"), ("height", "h"))
BOX_LAYOUTS = (
    {
        "file": FILE,
        **dict(zip(("left", "top", "right", "bottom"), CORNERS, strict=True)),
        "image width?": ("width",),
        "image height?": ("height",),
    },
    {"file": FILE, **dict(zip(("left", "top", "width", "height"), SIDES, strict=True))},
)
"""Columns of boxes: two corners, possibly with the size of the image, or a corner and the sides."""
POINT_LAYOUTS = (
    {
        "file": FILE,
        "name": ("name", "part", "point", "keypoint", "landmark"),
        "x": ("x",),
        "y": ("y",),
        "visible?": ("visible", "v"),
    },
)
CAT = (
    "left_eye", "right_eye", "mouth", "left_ear_outer", "left_ear_tip", "left_ear_inner",
    "right_ear_inner", "right_ear_tip", "right_ear_outer",
)  # fmt: skip
"""The nine points of the CAT data set in order. Left is left in the image; mirroring exchanges outer points with outer points."""
KNOWN_WRONG = {"ae91d917a42d994d9781d143c5b8bcc404d8e27cc141d7669e43e47509ee8941"}
"""sha256 of the numbers, separated by spaces, of files of that data set with the points of another size of the image."""
TREES = ("annotations", "annotation", "xml")
"""Names of folders of files beside a folder of images."""

Size = tuple[float, float]
"""Width and height in pixels of the image that an annotation was made for; (0, 0) if unknown."""


def box_layouts(source: Source, names: Names) -> Iterator[Layout]:
    """The layouts of boxes of which a source has files, best first: the files in words, and what reads them."""
    if files := _files(source, r"boxes\.[ct]sv"):
        yield first(files), partial(read_boxes, source, files, names)
    if files := _files(source, r"bounding_boxes\.txt", beside="images.txt"):
        yield first(files), partial(_read_cub, source, files, names)
    xml = _files(source, r".*\.xml")
    if owners := names.owners(xml, TREES):
        yield "VOC annotations", partial(_read_voc, source, owners, [file for file in xml if file not in owners])


def point_layouts(source: Source, names: Names, *, check: bool = True) -> Iterator[Layout]:
    """The same for key points; with `check` without the `.cat` files that are known to be wrong."""
    if files := _files(source, r"(parts|key_?points|landmarks)\.[ct]sv"):
        yield first(files), partial(read_points, source, files, names)
    if files := [name for name in _files(source, r"part_locs\.txt") if f"{_above(name)}images.txt" in source.side_files]:
        yield first(files), partial(_read_cub, source, files, names)
    cat = _files(source, r".*\.cat")
    if owners := names.owners(cat, TREES):
        yield ".cat files", partial(_read_cat, source, owners, [file for file in cat if file not in owners], check)


def find_lists(source: Source) -> list[str]:
    """The lists of a source that are lists of boxes or key points by their names."""
    return _files(source, r"(boxes|parts|key_?points|landmarks)\.[ct]sv|(bounding_boxes|parts|part_locs)\.txt")


def encode_boxes(values: Mapping[int, list[Any]], notes: list[str]) -> tuple[Box, dict[int, list[float]], dict[int, str]]:
    """The largest box of each image: left, top, width, height, and the width and height of the image if known, else 0."""
    if several := sum(len(boxes) > 1 for boxes in values.values()):
        total = sum(map(len, values.values()))
        notes.append(f"Images with several boxes: {several:,} ({total:,} boxes in all); the largest of each is used.")
    largest: dict[int, list[float]] = {index: max(boxes, key=lambda box: box[2] * box[3]) for index, boxes in values.items()}
    return Box(), largest, {}


def encode_points(
    values: Mapping[int, list[Any]], notes: list[str]
) -> tuple[Keypoints, dict[int, list[list[float]]], dict[int, str]]:
    """The points of each image in one order: x, y, and 1 if visible, else 0; points that are not listed are invisible."""
    names = tuple(dict.fromkeys(name for points in values.values() for name, *_ in points))
    rows: dict[int, list[list[float]]] = {}
    for index, points in values.items():
        by_name = {name: [x, y, visible] for name, x, y, visible in points}
        rows[index] = [by_name.get(name, [0.0, 0.0, 0.0]) for name in names]
    if incomplete := sum(len(points) < len(names) for points in values.values()):
        notes.append(f"Images without some of the {len(names)} key points: {incomplete:,}; these points count as invisible.")
    return Keypoints(names), rows, {}


def place_box(box: Sequence[float], picture: Picture, target: Target) -> np.ndarray:
    """A box as fractions of the fitted image, clipped to it: float32 (4,).

    Raises:
        UnusableImageError: less than a pixel of it remains, or it was made for an image with other proportions.
    """
    left, top, width, height, *size = box
    across, down = scale((size[0], size[1]), picture.width, picture.height)
    corners = np.array([[left * across, top * down], [(left + width) * across, (top + height) * down]])
    places, _ = _clipped(corners, picture, target)
    x1, y1, x2, y2 = places.ravel()
    if (x2 - x1) * target.width < 1 or (y2 - y1) * target.height < 1:
        is_in_picture = bool((corners[0] < (picture.width, picture.height)).all() and (corners[1] > 0).all())
        raise UnusableImageError(_outside("its box lies outside", picture, target, is_in_picture))
    return np.array([x1, y1, x2 - x1, y2 - y1], np.float32)


def place_points(points: Sequence[Sequence[float]], picture: Picture, target: Target) -> np.ndarray:
    """Key points as fractions of the fitted image: float32 (points, 3); those outside are moved to its edge and count as invisible.

    Raises:
        UnusableImageError: none is visible.
    """
    rows = np.array(points, np.float64)
    places, inside = _clipped(rows[:, :2], picture, target)
    visible = (rows[:, 2] > 0) & inside
    if not visible.any():
        in_picture = ((rows[:, :2] >= 0) & (rows[:, :2] <= (picture.width, picture.height))).all(1) & (rows[:, 2] > 0)
        raise UnusableImageError(_outside("all of its key points lie outside", picture, target, bool(in_picture.any())))
    return np.column_stack([places, visible]).astype(np.float32)


def _clipped(points: np.ndarray, picture: Picture, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Points in pixels (n, 2), moved into the image and into the part that is used, as fractions; and which ones were inside."""
    clipped = points.clip(0, (picture.width, picture.height))
    places = fractions(clipped, picture.width, picture.height, target, picture.box)
    inside = places.clip(0, 1)
    return inside, ((clipped == points) & (inside == places)).all(1)


def _outside(what: str, picture: Picture, target: Target, is_in_picture: bool) -> str:
    if not is_in_picture:
        return f"{what} the image of {picture.height}x{picture.width} pixels (height x width)"
    return f"{what} the part of the image that is used{'; --fit pad uses all of it' * (target.fit == 'crop')}"


def scale(size: Size, picture_width: int, picture_height: int) -> Size:
    """The factors from pixels of an image of this size to pixels of the actual one.

    Raises:
        UnusableImageError: it has other proportions.
    """
    width, height = size
    if width <= 0 or height <= 0:
        return 1.0, 1.0
    across, down = picture_width / width, picture_height / height
    if not 0.98 < across / down < 1.02:
        raise UnusableImageError(
            f"its box is for an image of {height:g}x{width:g} pixels (height x width), but it has {picture_height}x{picture_width}"
        )
    return across, down


def _files(source: Source, pattern: str, beside: str = "") -> list[str]:
    """The side files with such names, in lower case, possibly only those beside another file."""
    return sorted(
        name
        for name in source.side_files
        if re.fullmatch(pattern, name.rpartition("/")[2].lower())
        and (not beside or f"{folder_of(name)}{beside}" in source.side_files)
    )


def _above(name: str) -> str:
    """The folder above the folder of a file."""
    return folder_of(folder_of(name).rstrip("/"))


def _number(text: str | None, where: str, what: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LeafwingError(f"{where}: {what} must be a number, not {clean(text or '') or 'empty'}.")
    return number


def read_boxes(source: Source, files: Sequence[str], names: Names) -> Annotations:
    """The boxes in lists with columns, see `BOX_LAYOUTS`; LeafwingError for an invalid one."""
    result = Collected(first(files), files)
    for file in files:
        table = read_table(source, file, BOX_LAYOUTS, "file,left,top,width,height or file,x1,y1,x2,y2")
        result.note_unused(file, table)
        columns = table.columns
        indices = names.in_list([cells[columns["file"]] for _, cells in table.rows], source, file)
        boxes: list[list[float]] = []
        for line, cells in table.rows:
            where = f"{table.where}, line {line}"
            numbers = {role: _number(cells[index], where, role) for role, index in columns.items() if role != "file"}
            if "right" in numbers:
                numbers["width"], numbers["height"] = numbers["right"] - numbers["left"], numbers["bottom"] - numbers["top"]
            boxes.append(
                [numbers.get(role, 0.0) for role in ("left", "top", "width", "height", "image width", "image height")]
            )
        if "image width" in columns and _repeat_sides(boxes):
            boxes = [[*box[:4], 0.0, 0.0] for box in boxes]
            result.annotations.notes.append(
                f"The columns width and height in {file} are not used, because they are those of the boxes, not of the images."
            )
        for (line, cells), box in zip(table.rows, boxes, strict=True):
            name = cells[columns["file"]]
            result.add_box(indices[name], name, f"{file}, line {line}", box)
    return result.finish()


def _repeat_sides(boxes: Sequence[Sequence[float]]) -> bool:
    """Whether the columns that may be the sizes of the images have the sides of the boxes, possibly with both edges counted.

    Boxes that all begin in the upper left corner may be whole images.
    """
    differences = {round(box[side + 2] - box[side], 3) for box in boxes for side in (2, 3)}
    return differences <= {0, 1} and any(box[0] or box[1] for box in boxes)


def read_points(source: Source, files: Sequence[str], names: Names) -> Annotations:
    """The key points in lists with columns, see `POINT_LAYOUTS`; LeafwingError for an invalid one."""
    result = Collected(first(files), files)
    lines: dict[tuple[int, str], int] = {}
    for file in files:
        table = read_table(source, file, POINT_LAYOUTS, "file,name,x,y (and possibly visible)")
        result.note_unused(file, table)
        columns = table.columns
        indices = names.in_list([cells[columns["file"]] for _, cells in table.rows], source, file)
        for line, cells in table.rows:
            where = f"{table.where}, line {line}"
            name, x, y = (cells[columns[role]] for role in ("name", "x", "y"))
            visible = (
                cells[columns["visible"]].lower() not in ("0", "0.0", "no", "false", "")
                if "visible" in columns
                else bool(x or y)
            )
            point = [_number(x, where, "x"), _number(y, where, "y"), 1.0] if visible else [0.0, 0.0, 0.0]
            if not name:
                raise LeafwingError(f"{where}: a name of the point is needed.")
            index = indices[cells[columns["file"]]]
            if index is None:
                result.missing[cells[columns["file"]]] = None
            elif (before := lines.setdefault((index, name), line)) != line:
                raise LeafwingError(
                    f"{where}: {clean(cells[columns['file']])} already has a point {clean(name)}, in line {before}."
                )
            else:
                result.annotations.values.setdefault(index, []).append((clean(name), *point))
    return result.finish()


def _read_cub(source: Source, files: Sequence[str], names: Names) -> Annotations:
    """CUB: numbers of images in `images.txt`, and per line the number of an image and its box or one of its points."""
    result = Collected(first(files), files)
    for file in files:
        points = file.endswith("part_locs.txt")
        folder = _above(file) if points else folder_of(file)
        images = dict(_pairs(source, f"{folder}images.txt"))
        parts = (
            dict(_pairs(source, f"{folder_of(file)}parts.txt"))
            if points and f"{folder_of(file)}parts.txt" in source.side_files
            else {}
        )
        indices = {key: names.find(path, f"{folder}images/") for key, path in images.items()}
        result.missing |= {path: None for key, path in images.items() if indices[key] is None}
        result.annotations.used += [f"{folder}images.txt", *([f"{folder_of(file)}parts.txt"] if parts else [])]
        for line, text in enumerate(read_text(source, file).split("\n"), 1):
            cells = text.split()
            where = f"{source.path}: {file}, line {line}"
            if not cells:
                continue
            if len(cells) != 5 or cells[0] not in images:
                raise LeafwingError(f"{where}: the number of an image in images.txt and 4 further numbers are needed.")
            index, values = indices[cells[0]], [_number(cell, where, "every value") for cell in cells[1:]]
            if not points:
                result.add_box(index, images[cells[0]], f"{file}, line {line}", [*values, 0.0, 0.0])
            elif index is not None:
                name = parts.get(cells[1], cells[1]).replace(" ", "_")
                result.annotations.values.setdefault(index, []).append((name, values[1], values[2], float(values[3] > 0)))
    return result.finish()


def _pairs(source: Source, file: str) -> Iterator[tuple[str, str]]:
    """The lines of a file of CUB: a number and a text."""
    for line in read_text(source, file).splitlines():
        key, _, text = line.strip().partition(" ")
        if key:
            yield key, text.strip()


def _read_voc(source: Source, owners: Mapping[str, int], missing: list[str]) -> Annotations | None:
    """Pascal VOC: an XML file for each image, beside it or in Annotations/."""
    result = Collected("VOC annotations", [*owners])
    titles: Counter[str] = Counter()
    others = 0
    for file, text, problem in read_texts(source, [*owners]):
        index = owners[file]
        try:
            if problem:
                raise ValueError(problem.removeprefix(f"{file} "))
            root = read_xml(text)
            if root.tag != "annotation":
                others += 1
                raise ValueError(f"is not a VOC annotation (it begins with {root.tag})")
            size = [_element(root, f"size/{side}", 0.0) for side in ("width", "height")]
            for item in root.iter("object"):
                titles[(item.findtext("name") or "").strip()] += 1
                left, top, right, bottom = (_element(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
                result.add_box(index, file, file, [left, top, right - left, bottom - top, *size])
            result.annotations.failures.setdefault(index, f"no box in {file}")
        except ValueError as error:
            result.annotations.values.pop(index, None)
            result.annotations.failures[index] = f"{file} {error}"
    if others == len(owners):
        return None
    result.missing = dict.fromkeys(missing)
    if titles:
        counts = ", ".join(f"{clean(name)} {count:,}" for name, count in titles.most_common(6))
        result.annotations.notes.append(
            f"Names of the objects in VOC annotations are not used ({counts}{' ...' * (len(titles) > 6)})."
        )
    return result.finish()


def _element(parent: ElementTree.Element, path: str, default: float | None = None) -> float:
    """The number in an element of an XML document; ValueError without one."""
    text = parent.findtext(path)
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    if default is None:
        raise ValueError(f"has no number in {path}")
    return default


def _read_cat(source: Source, owners: Mapping[str, int], missing: list[str], check: bool) -> Annotations:
    """The CAT data set: for x.jpg a file x.jpg.cat with the number of points, 9, and their coordinates."""
    result = Annotations(".cat files", used=[*owners], missing=missing)
    for file, text, problem in read_texts(source, [*owners]):
        cells = text.split()
        try:
            numbers = [float(cell) for cell in cells[1:]]
        except ValueError:
            numbers = []
        if problem:
            result.failures[owners[file]] = problem
        elif cells[:1] != ["9"] or len(numbers) != 18 or not all(map(math.isfinite, numbers)):
            result.failures[owners[file]] = f"{file} must contain 9 and then x and y of nine points"
        elif check and hashlib.sha256(" ".join(cells).encode()).hexdigest() in KNOWN_WRONG:
            result.failures[owners[file]] = f"{file} is known to be wrong: it has the points of another size of the image"
        else:
            result.values[owners[file]] = [(name, *numbers[2 * i : 2 * i + 2], 1.0) for i, name in enumerate(CAT)]
    return result


class Collected:
    """Annotations while they are read: what is missing, boxes without an area, and fractions instead of pixels."""

    def __init__(self, files: str, used: Sequence[str]) -> None:
        self.annotations = Annotations(files, used=[*used])
        self.missing: dict[str, None] = {}
        self.flat: list[str] = []

    def note_unused(self, file: str, table: Table) -> None:
        if table.unused:
            self.annotations.notes.append(f"Not used in {file}: {first(table.unused, 6)}.")

    def add_box(self, index: int | None, name: str, where: str, box: list[float]) -> None:
        """Adds a box of the entry with this index; `where` names its file and line."""
        if index is None:
            self.missing[name] = None
        elif box[2] <= 0 or box[3] <= 0:
            self.flat.append(where)
            self.annotations.failures[index] = (
                f"no usable box in {self.annotations.files}: width and height must be positive ({where})"
            )
        else:
            self.annotations.values.setdefault(index, []).append(box)

    def finish(self) -> Annotations:
        self.annotations.missing = [clean(name) for name in self.missing]
        if self._are_fractions():
            files = self.annotations.files
            text = "no position in it reaches 2, as if they were fractions of the image: give pixels"
            self.annotations.failures = dict.fromkeys(self.annotations.values, text)
            self.annotations.values, self.annotations.missing = {}, []
            self.annotations.notes.append(f"Not used: {files}, because {text}.")
        if self.flat:
            self.annotations.notes.append(
                f"Boxes without an area: {len(self.flat):,} ({'; '.join(self.flat[:3])}); they are not used."
            )
        return self.annotations

    def _are_fractions(self) -> bool:
        """Whether all boxes and points lie within two pixels of the corner; a box may have a size of the image of its own."""
        rows = [row for values in self.annotations.values.values() for row in values]
        far = [
            row[1:3] if isinstance(row, tuple) else (row[0] + row[2], row[1] + row[3], 2 * (0 < row[4] < 2)) for row in rows
        ]
        return bool(rows) and all(number < 2 for numbers in far for number in numbers)

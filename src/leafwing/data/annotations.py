"""Boxes and key points from which pictures are cropped: the layouts of `positions`, COCO, `.pts` files, and lists that are named.

Training reads only the layouts of `positions`; here a list may have any name and may lie outside the source.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from leafwing.data import positions
from leafwing.data.lists import Annotations, Layout, Names, first, read_json, read_text, read_texts
from leafwing.data.positions import Collected
from leafwing.data.sources import Source, clean
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean

OPTIONS = {"boxes": "boxes", "landmarks": "key points"}
"""The option for each kind of annotation, and its name in words."""
LAYOUTS = {
    "boxes": "boxes.csv (columns file,left,top,width,height or file,x1,y1,x2,y2), bounding_boxes.txt, VOC or COCO",
    "landmarks": "keypoints.csv (columns file,name,x,y), part_locs.txt, .cat or .pts files, or COCO",
}


Landmark = tuple[str, float, float, float]
"""Name, x, y, and 1 if visible, else 0."""


def read(source: Source, option: str, file: str | None = None) -> Annotations:
    """The boxes or key points of the pictures of a source.

    Args:
        source: the source.
        option: boxes or landmarks.
        file: a list in the source, or the path of one elsewhere; None: the first layout of which the source has files.

    Returns:
        For each entry its boxes, as `positions.encode_boxes` takes them, or its points, as `positions.encode_points` does.

    Raises:
        LeafwingError: there are none, or a list is invalid.
    """
    names = Names(source.entries)
    layouts = _layouts(source, names, option) if file is None else _listed(source, names, option, file)
    empty: list[str] = []
    others: list[str] = []
    chosen: Annotations | None = None
    for files, read_files in layouts:
        if chosen is not None:
            others.append(files)
            continue
        result = read_files()
        if result is None:
            continue
        if result.values:
            chosen = result
        else:
            why = result.missing[:1] or [*result.failures.values()][:1]
            empty.append(f"{files} has none of a picture here{f' ({why[0]})' if why else ''}")
    if chosen is None:
        raise LeafwingError(
            f"{source.path}: no {OPTIONS[option]} of its pictures: "
            + ("; ".join(empty) if empty else f"there is no {LAYOUTS[option]}; --{option} FILE names a list")
        )
    if others:
        chosen.notes.append(
            f"Not used: {first(others)}, because the {OPTIONS[option]} come from {chosen.files}; --{option} FILE chooses."
        )
    return chosen


def _layouts(source: Source, names: Names, option: str) -> Iterator[Layout]:
    """The layouts of which a source has files, best first."""
    if option == "boxes":
        yield from positions.box_layouts(source, names)
    else:
        yield from positions.point_layouts(source, names, check=False)
        pts = [name for name in source.side_files if name.lower().endswith(".pts")]
        if owners := names.owners(pts, positions.TREES):
            yield ".pts files", partial(_read_pts, source, owners)
    for name in sorted(name for name in source.side_files if name.lower().endswith(".json")):
        yield name, partial(_read_coco, source, name, names, option, required=False)


def _listed(source: Source, names: Names, option: str, file: str) -> Iterator[Layout]:
    """The layout of a list that is named."""
    if file in source.side_files:
        holder, name = source, file
    elif Path(file).is_file():
        path = Path(file)
        holder, name = Source("file", path.parent, [], _read_bytes, side_files={path.name: path}), path.name
    else:
        raise InvalidOption(option, file, "neither a list in the source nor a file" + did_you_mean(file, source.side_files))
    suffix = Path(name).suffix.lower()
    if suffix == ".json":
        yield name, partial(_read_coco, holder, name, names, option)
    elif suffix in (".csv", ".tsv"):
        yield name, partial(positions.read_boxes if option == "boxes" else positions.read_points, holder, [name], names)
    else:
        raise InvalidOption(
            option, file, "must be a .csv or .tsv list, or .json in COCO's layout; other layouts are read without"
        )


def _read_bytes(location: Any) -> bytes:
    return Path(location).read_bytes()


def _read_pts(source: Source, owners: Mapping[str, int]) -> Annotations:
    """For x.jpg a file x.pts: `n_points: 68`, and x and y of each point, a line for each, between braces."""
    result = Annotations(".pts files", used=[*owners])
    for file, text, problem in read_texts(source, [*owners]):
        lines = text.partition("{")[2].partition("}")[0].split("\n")
        try:
            points = [tuple(map(float, line.split())) for line in lines if line.strip()]
        except ValueError:
            points = []
        if problem:
            result.failures[owners[file]] = problem
        elif not points or any(len(point) != 2 or not all(map(math.isfinite, point)) for point in points):
            result.failures[owners[file]] = f"{file} must contain x and y of each point between braces, a line for each"
        else:
            result.values[owners[file]] = [(str(number), *point, 1.0) for number, point in enumerate(points, 1)]
    return result


def _read_coco(source: Source, file: str, names: Names, option: str, required: bool = True) -> Annotations | None:
    """COCO: images have an id and a file_name, annotations an image_id and a bbox, or keypoints that their category names.

    Args:
        source: holds the file.
        file: its name.
        names: finds the pictures.
        option: boxes or landmarks.
        required: whether another content is an error; else the result is None.
    """
    where = f"{source.path}: {file}"
    try:
        content = read_json(where, read_text(source, file))
    except LeafwingError:
        if required:
            raise
        return None
    key = "bbox" if option == "boxes" else "keypoints"
    items = content.get("annotations") if isinstance(content, dict) else None
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(items, list) or not isinstance(images, list) or not _mentions(items, key):
        if required:
            raise LeafwingError(f"{where}: must be in COCO's layout, with images, and annotations with {key}.")
        return None
    try:
        listed = {image["id"]: image for image in images if isinstance(image["file_name"], str)}
        categories = {item["id"]: item for item in content.get("categories") or []}
    except (TypeError, KeyError):
        raise LeafwingError(f"{where}: images need an id and a file_name, and categories an id.") from None
    result = Collected(file, [file])
    indices = names.in_list([str(image["file_name"]) for image in listed.values()], source, file)
    people: dict[int, list[list[Landmark]]] = {}
    titles: Counter[str] = Counter()
    crowds = 0
    for number, item in enumerate(items, 1):
        place = f"{where}, item {number} of annotations"
        try:
            image, category = listed[item["image_id"]], categories.get(item.get("category_id"), {})
            values = item.get(key)
            title = str(category.get("name", ""))
        except (TypeError, KeyError, AttributeError):
            raise LeafwingError(f"{place}: needs the image_id of an image.") from None
        if values is None:
            continue
        numbers = _numbers(values, place, key)
        index = indices[image["file_name"]]
        if item.get("iscrowd"):  # a region with many objects
            crowds += 1
            if index is not None:
                result.annotations.failures[index] = f"only crowds (iscrowd) in {file}"
            continue
        titles[title] += 1
        if option == "boxes":
            if len(numbers) != 4:
                raise LeafwingError(f"{place}: bbox needs left, top, width and height.")
            sides = (image.get("width"), image.get("height"))
            size = [side if isinstance(side, int | float) and 0 < side < 1e9 else 0 for side in sides]
            result.add_box(index, image["file_name"], f"{file}, item {number}", [*numbers, *map(float, size)])
        elif index is None:
            result.missing[image["file_name"]] = None
        elif any(numbers[2::3]):
            people.setdefault(index, []).append(_points(numbers, category.get("keypoints"), place))
    _choose_largest(people, result.annotations)
    if crowds:
        result.annotations.notes.append(f"Annotations of crowds (iscrowd) in {file} are not used: {crowds:,}.")
    if any(titles) and option == "boxes":
        counts = ", ".join(f"{clean(name)} {count:,}" for name, count in titles.most_common(6))
        result.annotations.notes.append(f"Categories in {file} are not used ({counts}{' ...' * (len(titles) > 6)}).")
    return result.finish()


def _mentions(items: list[Any], key: str) -> bool:
    return any(isinstance(item, dict) and key in item for item in items)


def _numbers(values: Any, where: str, key: str) -> list[float]:
    if not isinstance(values, list) or not all(
        isinstance(value, int | float) and abs(value) < 1e9 and not isinstance(value, bool) for value in values
    ):
        raise LeafwingError(f"{where}: {key} must be a list of numbers.")
    return [float(value) for value in values]


def _points(numbers: list[float], titles: Any, where: str) -> list[Landmark]:
    """The points of an object: x, y and visibility of each, under the names of its category, or else numbers."""
    if len(numbers) % 3:
        raise LeafwingError(f"{where}: keypoints need x, y and visibility of each point.")
    labels = titles if isinstance(titles, list) and 3 * len(titles) == len(numbers) else range(1, len(numbers) // 3 + 1)
    triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    return [(clean(str(label)), x, y, float(visible > 0)) for label, (x, y, visible) in zip(labels, triples, strict=True)]


def _choose_largest(people: Mapping[int, list[list[Landmark]]], annotations: Annotations) -> None:
    """The points of the largest object of each picture."""

    def extent(points: list[Landmark]) -> float:
        across = [x for _, x, _, visible in points if visible]
        down = [y for _, _, y, visible in points if visible]
        return max(across) - min(across) + max(down) - min(down)

    for index, objects in people.items():
        annotations.values[index] = [*max(objects, key=extent)]
    if several := sum(len(objects) > 1 for objects in people.values()):
        annotations.notes.append(f"Pictures with key points of several objects: {several:,}; those of the largest are used.")

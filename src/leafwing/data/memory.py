"""Images given from Python instead of a path: an array, a tensor, a data set with a length whose items are pictures, or a `Dataset`.

They are read like the rows of a table: in order, by one thread, one at a time. A run knows them by their content and finds them in the
cache; if they are not there any more, they are given again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from leafwing.data import formats
from leafwing.data.arrays import IMAGES, ONE_HOT, row_entries, source_of
from leafwing.data.dataset import Dataset
from leafwing.data.label_lists import LABEL, class_name
from leafwing.data.options import parse_size
from leafwing.data.pictures import UnusableImageError
from leafwing.data.sources import DAMAGED, Column, Source
from leafwing.errors import InvalidOption, LeafwingError

PREFIX = "memory:"
PICTURES = ("image", "img", *IMAGES)
"""Keys of the picture in items that are dictionaries, best first."""
WAY_OUT = "save them with numpy.savez('images.npz', images=images, labels=labels) and give its path"


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images from Python as a source; as a text their name, such as `memory:array`."""

    value: Any

    def __str__(self) -> str:
        if isinstance(self.value, Dataset):
            return self.value.source
        return PREFIX + ("array" if _is_arrays(self.value) else type(self.value).__name__)

    def open(self) -> Source:
        """The images as an open source.

        Raises:
            LeafwingError: not images.
        """
        path = Path(str(self))
        images, labels = _split(path, self.value)
        classes, from_items = None, None
        if isinstance(images, Dataset):
            raise LeafwingError("a Dataset has been read already: give what it was loaded from")
        if _is_array(images):
            source = source_of("memory", path, _array(images), "images")
            source.sequential = True
        else:
            source, from_items = _open_items(path, images)
        if labels is None:
            labels, classes = from_items, getattr(images, "classes", None)
        elif from_items is not None:
            source.notes.append("The labels of its items are not used, because others are given with them.")
        if labels is not None:
            if len(labels) != len(source.entries):
                raise LeafwingError(f"{self}: {len(labels):,} labels for {len(source.entries):,} images")
            source.columns["labels"] = Column("number", partial(_labels, path, labels, classes))
            source.label_columns = ["labels"]
        return source


def as_source(source: Any) -> Any:
    """A path or a name, or several of these, as they are, and images from Python as an `InMemory`.

    Raises:
        LeafwingError: something else; the message says what to do.
    """
    if source is None or isinstance(source, str | os.PathLike | InMemory):
        return source
    items = source.values() if isinstance(source, Mapping) else source if isinstance(source, list | tuple) else None
    if items is not None and (not items or any(isinstance(item, str | os.PathLike) for item in items)):
        return source
    if isinstance(source, Dataset) or _is_arrays(source):
        return InMemory(source)
    what = type(source).__name__
    if hasattr(source, "dataset") and not hasattr(source, "__getitem__"):
        raise LeafwingError(f"a {what} gives batches, not images: give its data set, loader.dataset")
    if isinstance(source, type | Mapping | set | bytes) or not (
        hasattr(source, "__getitem__") and hasattr(source, "__len__")
    ):
        raise LeafwingError(
            f"a source is a path, the name of a built-in data set, an array of images, (images, labels), or a data set with a length "
            f"and items that are pictures, not {what}: {WAY_OUT}"
        )
    return InMemory(source)


def check_options(data: Dataset, options: Mapping[str, Any]) -> None:
    """Checks that options given with a data set are those it was loaded with, or not given."""
    defaults = {"fit": "crop", "background": "white", "mirror": False}
    for name, value in options.items():
        if value == defaults.get(name):
            continue
        same = str if name not in ("size", "crop_from") else lambda size: size and parse_size(size)
        if same(value) != same(data.options.get(name)):
            raise InvalidOption(name, value, "a Dataset has been read already: give its options to data.load")


def require_same(data: Dataset, again: Dataset | None) -> Dataset:
    """A data set, if this is what a run gets that loads it again.

    Raises:
        LeafwingError: it was changed since, or its source was.
    """
    if again is None or data.rows is not None or (again.fingerprint, again.spec) != (data.fingerprint, data.spec):
        raise LeafwingError(
            f"this Dataset of {data.source} is not as data.load returns it now (it is a part, has further streams, or its files have "
            "changed), so that a run could not read it again: give the source, or save its images and labels with numpy.savez and "
            "give that file"
        )
    return data


def _is_array(value: Any) -> bool:
    """Whether this is an array or a tensor."""
    return isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "numpy"))


def _is_arrays(value: Any) -> bool:
    """Whether this is an array of images, or such an array and labels."""
    pair = isinstance(value, tuple) and len(value) == 2 and _is_array(value[0]) and len(value[0].shape) > 2
    return _is_array(value) or (pair and hasattr(value[1], "__len__"))


def _split(path: Path, value: Any) -> tuple[Any, _Items | None]:
    """Images, and their labels if this is a tuple of both.

    Raises:
        LeafwingError: a tuple of something else than images and labels, or pictures.
    """
    if not isinstance(value, tuple) or all(isinstance(item, Image.Image) for item in value):
        return value, None
    if all(_is_array(item) and item.ndim < 4 and item.shape == value[0].shape for item in value):
        return value, None
    if len(value) == 2 and hasattr(value[0], "__len__"):
        images, labels = value
        if labels is None:
            return images, None
        if hasattr(labels, "__len__") and not isinstance(labels, str | bytes | Mapping | set | frozenset):
            first = _plain(next(iter(labels), None))
            if _is_array(labels) or first is None or isinstance(first, int | float | str):
                return images, _Items([*labels], None)
    raise LeafwingError(
        f"{path}: a tuple is images and their labels (images, labels), or pictures, not ("
        f"{', '.join(type(item).__name__ for item in value)}); several data sets are joined by torch.utils.data.ConcatDataset"
    )


def _array(value: Any) -> np.ndarray:
    """An array or tensor as an array."""
    if isinstance(value, np.ndarray):
        return value
    value = value.detach().cpu()
    return np.asarray((value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy())


class _Items:
    """The labels or the pictures of a data set, item by item."""

    def __init__(self, items: Any, key: Any) -> None:
        self.items, self.key = items, key

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> Any:
        """A label or picture.

        Raises:
            Exception: one of `DAMAGED`; what else the data set raises becomes one of these.
        """
        try:
            item = self.items[row]
            return item if self.key is None else item[self.key]
        except (*DAMAGED, MemoryError, LeafwingError):
            raise
        except Exception as error:  # the code is the user's
            raise RuntimeError(f"its data set raises {type(error).__name__}: {error}") from error


class _Stack:
    """Arrays of one shape as the rows of one array."""

    def __init__(self, path: Path, pictures: _Items) -> None:
        self.path, self.pictures = path, pictures
        first = _array(pictures[0])
        self.shape, self.dtype = (len(pictures), *first.shape), first.dtype

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            return np.stack([self[row] for row in range(*rows.indices(len(self.pictures)))])
        picture = self.pictures[rows]
        array = _array(picture) if _is_array(picture) else np.asarray(picture)
        if array.shape != self.shape[1:] or array.dtype != self.dtype:
            raise LeafwingError(
                f"{self.path}: item {rows} is {array.shape} {array.dtype}, and the first {self.shape[1:]} {self.dtype}; give the data "
                "set without the transform to tensors, so that its items are PIL pictures"
            )
        return array


def _open_items(path: Path, items: Any) -> tuple[Source, _Items | None]:
    """The pictures of a data set, and its labels if there are any."""
    if not len(items):
        raise LeafwingError(f"{path}: no images")
    try:
        first = _Items(items, None)[0]
    except DAMAGED as error:
        raise LeafwingError(f"{path}: the first item cannot be read ({error}): {WAY_OUT}") from error
    picture_key, label_key = _keys(first)
    picture = first if picture_key is None else first[picture_key]
    pictures = _Items(items, picture_key)
    if _is_array(picture):
        try:
            source = source_of("memory", path, _Stack(path, pictures), "images")
        except DAMAGED as error:
            raise LeafwingError(f"{path}: an item cannot be read ({error}): {WAY_OUT}") from error
    elif isinstance(picture, Image.Image):
        source = Source("memory", path, row_entries("images", len(items), 0), partial(_encode, pictures), labelled=True)
    else:
        raise LeafwingError(
            f"{path}: its items must be pictures (PIL, or arrays), or begin with one, and the first is {type(picture).__name__}: "
            f"{WAY_OUT}"
        )
    source.sequential = True
    if label_key is None:
        if unused := [str(key) for key in first if key != picture_key] if isinstance(first, Mapping) else []:
            source.notes.append(f"Not used of its items: {', '.join(unused)}. The key of a class is {LABEL[0]}.")
        return source, None
    label = _plain(first[label_key])
    if isinstance(label, bool) or not isinstance(label, int | str):
        source.notes.append(f"The second part of its items ({type(label).__name__}) is no class, and is not used.")
        return source, None
    return source, _Items(items, label_key)


def _keys(item: Any) -> tuple[Any, Any]:
    """The keys of the picture and of the label in an item; None if it is the picture itself, or has no label."""
    if isinstance(item, Mapping):
        picture, label = (next((key for key in names if key in item), None) for names in (PICTURES, (*LABEL, "labels")))
        return picture, label
    return (0, 1 if len(item) > 1 else None) if isinstance(item, tuple | list) and item else (None, None)


def _encode(pictures: _Items, row: int) -> bytes:
    """A picture as a file.

    Raises:
        UnusableImageError: it is not an image.
    """
    picture = pictures[row]
    if not isinstance(picture, Image.Image):
        raise UnusableImageError(f"is {type(picture).__name__}, and the first item is a PIL picture")
    picture = ImageOps.exif_transpose(formats.to_positive(picture))
    if picture.mode == "I":  # 32 bits, which PNG has not
        values = np.asarray(picture)
        fits = 0 <= values.min() <= values.max() <= 65535
        picture = Image.fromarray(values.astype(np.uint16 if fits else np.float32))
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = picture.convert("F" if picture.mode == "F" else "RGB")
    file = io.BytesIO()
    if picture.mode == "F":
        picture.save(file, "TIFF")
    else:
        picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _plain(value: Any) -> Any:
    """A number of numpy or torch, alone or in a row of one, as one of Python; other values as they are."""
    return value.item() if getattr(value, "shape", None) in ((), (1,)) else value


def _labels(path: Path, labels: _Items, classes: Any) -> list[Any]:
    """Labels by row, by the names of classes if there are any; for an item that cannot be read, what it raises.

    Raises:
        LeafwingError: a label is neither a number nor a text.
    """
    names = classes if isinstance(classes, list | tuple) else ()
    values: list[Any] = []
    for row in range(len(labels)):
        try:
            value = _plain(labels[row])
        except DAMAGED as error:
            values.append(error)
            continue
        if value is not None and not isinstance(value, int | float | str):
            shape = getattr(value, "shape", None)
            what = type(value).__name__ + (f" {tuple(shape)}" if shape is not None else "")
            raise LeafwingError(
                f"{path}: give a whole number or a text as the label of each image, not {what} as for image {row}; {ONE_HOT}"
            )
        values.append(class_name(value, names))
    return values

"""Images in NumPy files: `.npy`, and `.npz` as `leafwing sample --npz` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from leafwing.errors import LeafwingError

SUFFIXES = (".npy", ".npz")
IMAGES = ("samples", "images", "x", "X", "data", "x_train", "arr_0")
"""Names of the images in an .npz file, best first."""
LABELS = ("labels", "label", "y", "Y", "targets", "y_train")
EXPECTED = (
    "images (n, height, width) or (n, height, width, channels), uint8 or floating-point numbers from 0 to 1 or -1 to 1"
)


class ImageArray(NamedTuple):
    """Images from a NumPy file: bytes (n, height, width) or (n, height, width, channels); labels as text, if there are any; notes."""

    pixels: np.ndarray
    labels: list[str] | None
    notes: list[str]


def read_array(path: Path) -> ImageArray:
    """Reads a NumPy file.

    Raises:
        LeafwingError: it cannot be read, or contains no images.
    """
    try:
        content: Any = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        named: dict[str, Any] = {"": content} if isinstance(content, np.ndarray) else dict(content)
    except Exception as error:  # damaged files make numpy raise nearly any type
        raise LeafwingError(f"{path}: not a readable NumPy file ({str(error) or type(error).__name__}).") from None
    candidates = [name for name in (*IMAGES, *named) if name in named and named[name].ndim in (3, 4)]
    if not candidates:
        shapes = ", ".join(f"{name} {array.shape} {array.dtype}".strip() for name, array in named.items())
        raise LeafwingError(f"{path}: expected {EXPECTED}; it contains {shapes or 'nothing'}.")
    name = candidates[0]
    pixels, note = _pixels(path, named[name])
    notes = [f"Images come from {name} in {path.name}."] * bool(name) + [note] * bool(note)
    labels, label = None, next((key for key in LABELS if key in named and named[key].shape == (len(pixels),)), None)
    if label is not None:
        labels = [
            value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in named[label].tolist()
        ]
        notes.append(f"Labels come from {label} in {path.name}.")
    if unused := [key for key in named if key not in (name, label)]:
        notes.append(f"Not used in {path.name}: {', '.join(unused)}.")
    return ImageArray(pixels, labels, notes)


def _pixels(path: Path, array: np.ndarray) -> tuple[np.ndarray, str]:
    """Bytes (n, height, width) or (n, height, width, channels), and how they were converted.

    Raises:
        LeafwingError: another shape, type or range.
    """
    if array.ndim == 4 and array.shape[-1] not in (1, 2, 3, 4) and array.shape[1] in (1, 2, 3, 4):
        array = np.moveaxis(array, 1, -1)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype.kind not in "biuf" or not array.size or (array.ndim == 4 and array.shape[-1] not in (2, 3, 4)):
        raise LeafwingError(f"{path}: expected {EXPECTED}; it contains {array.shape} {array.dtype}.")
    if array.dtype == np.uint8:
        return array, ""
    if array.dtype == bool:
        return array.astype(np.uint8) * 255, "Values false and true became black and white."
    low, high = (float(value) for value in (array.min(), array.max()))
    if np.issubdtype(array.dtype, np.floating) and -1 <= low <= high <= 1:
        black = -1.0 if low < 0 else 0.0
        scaled = np.rint((np.asarray(array, np.float32) - black) * (255 / (1 - black))).astype(np.uint8)
        return scaled, f"Values from {black:g} to 1 became 0 to 255."
    if 0 <= low <= high <= 255 and (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        return np.rint(array).astype(np.uint8), ""
    raise LeafwingError(f"{path}: expected {EXPECTED}; it has {array.dtype} values from {low:g} to {high:g}.")

"""Random windows of images that are stored larger than they are used: `--crop-from`. All fields of a sample have the same window.

Batches of the training data see a random window of each sample, a function of seed, epoch and position; everything else sees the
centre. `dataset` chooses the random words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import lcm

import numpy as np

from leafwing.fields import Box, Clip, Field, Keypoints


@dataclass(frozen=True, eq=False)
class Windows:
    """The stored samples, and the possible windows.

    Args:
        columns: the stored samples of each field by name, of whole images.
        image: height and width of the whole images.
        height: rows of a window.
        width: columns of a window.
        step: every window begins at a multiple of this, so that it does in smaller fields too.
    """

    columns: Mapping[str, np.ndarray]
    image: tuple[int, int]
    height: int
    width: int
    step: int

    def offsets(self, words: np.ndarray) -> np.ndarray:
        """The first row and column of a window for each random word, uint64 (n,): int64 (n, 2), all equally probable."""
        halves = np.stack([words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)], 1)
        sides = zip(self.image, (self.height, self.width), strict=True)
        counts = np.array([(whole - part) // self.step + 1 for whole, part in sides], np.uint64)
        return ((halves * counts) >> np.uint64(32)).astype(np.int64) * self.step

    @property
    def centre(self) -> tuple[int, int]:
        """The first row and column of the window in the centre."""
        top, left = (
            (whole - part) // (2 * self.step) * self.step
            for whole, part in zip(self.image, (self.height, self.width), strict=True)
        )
        return top, left


def find_windows(fields: Mapping[str, Field], columns: Mapping[str, np.ndarray], height: int, width: int) -> Windows:
    """The windows of this size in stored samples; `image` and smaller fields in proportion."""
    whole = columns["image"].shape[1:3]
    sides = [kind.height for name, kind in fields.items() if name in columns and kind.has_pixels]  # type: ignore[attr-defined]
    return Windows(columns, (whole[0], whole[1]), height, width, lcm(*(whole[0] // side for side in sides)))


def window_field(kind: Field, windows: Windows) -> Field:
    """The field of the windows of a field."""
    if not kind.has_pixels:
        return kind
    factor = windows.image[0] // kind.height  # type: ignore[attr-defined]
    return replace(kind, height=windows.height // factor, width=windows.width // factor)  # type: ignore[type-var]


def centre_column(kind: Field, column: np.ndarray, windows: Windows) -> np.ndarray:
    """The centre of the stored samples of a field: a view of them, or a copy of boxes and key points."""
    top, left = windows.centre
    if kind.has_pixels:
        factor = windows.image[0] // kind.height  # type: ignore[attr-defined]
        rows, columns = (
            slice(start // factor, (start + length) // factor)
            for start, length in ((top, windows.height), (left, windows.width))
        )
        return column[:, :, rows, columns] if isinstance(kind, Clip) else column[:, rows, columns]
    if not isinstance(kind, Box | Keypoints):
        return column
    import torch

    from leafwing.pixels import Window

    tops, lefts = (torch.full((len(column),), start) for start in (top, left))
    window = Window(tops, lefts, windows.height, windows.width, windows.image)
    return kind.crop(torch.from_numpy(np.array(column)), window).numpy()

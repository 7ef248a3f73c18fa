"""Duplicate images: the same file, or the same image saved again at another size or quality.

Near duplicates are found in two steps. A 64-bit difference hash (is each of 8x8 cells darker than its right neighbour?)
finds pairs that differ in at most 4 bits: saving a photograph again flips 0 to 4, unrelated ones differ in about 32. Then
the two thumbnails must agree, because simple drawings can share a hash without being similar. Images with little contrast have
no meaningful hash and are skipped. Nothing here reads files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_BITS = 4
"""Maximum number of differing bits out of 64."""
_BANDS = (0, 13, 26, 39, 52)
"""Start of each of five bands of bits: if at most four bits differ, at least one band is equal."""
_NEIGHBOURS = 200
"""Maximum number of neighbours in a band to compare with each image: thousands of drawings on black (digits) share a band."""
_FLAT = 12
"""Grey levels of 0 to 255: with less contrast than this between cells, the hash is noise."""
_MAX_MEAN, _MAX_CELL, _MAX_BRIGHTNESS = 5.0, 40.0, 24.0
"""Two thumbnails agree up to these grey levels: on average, at the worst cell, and in overall brightness."""
_SIDE = 16


@dataclass(frozen=True, slots=True)
class Sketch:
    """Summary of an image: its hash, a thumbnail (16, 16, 3) uint8, whether it has too little contrast to compare."""

    bits: int
    thumbnail: np.ndarray
    flat: bool


def sketch(pixels: np.ndarray) -> Sketch:
    """Makes a sketch of pixels (height, width, channels) uint8."""
    channels = pixels.shape[2]
    image = Image.fromarray(pixels if channels > 1 else pixels[:, :, 0])
    if channels in (2, 4):  # so that invisible pixels do not count
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    cells = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes(), "big")
    thumbnail = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX))
    return Sketch(bits, thumbnail, bool(cells.max() - cells.min() < _FLAT))


def exact(hashes: Sequence[str]) -> list[list[int]]:
    """Groups of two or more positions with the same hash."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, value in enumerate(hashes):
        groups[value].append(index)
    return [group for group in groups.values() if len(group) > 1]


def near(sketches: Sequence[Sketch]) -> list[list[int]]:
    """Groups of two or more positions with nearly the same image.

    If more than a few hundred images share a band of their hash, only those with the closest hashes are compared, so
    that the time stays proportional to the number of images: seconds for 50,000.
    """
    indices = np.array([index for index, item in enumerate(sketches) if not item.flat], dtype=np.int64)
    if len(indices) < 2:
        return []
    bits = np.array([sketches[index].bits for index in indices], dtype=np.uint64)
    thumbnails = np.stack([sketches[index].thumbnail for index in indices])
    coarse = _coarse(thumbnails)
    root = np.arange(len(indices))
    for first in _BANDS:
        # With the band rotated to the front, sorting groups images of one band, with the most similar next to each other.
        rotated = (bits << np.uint64(first)) | (bits >> np.uint64((64 - first) % 64))
        order = np.argsort(rotated, kind="stable")
        band = rotated[order] >> np.uint64(64 - 12)
        starts = np.arange(len(indices) - 1)
        for shift in range(1, _NEIGHBOURS + 1):
            starts = starts[starts + shift < len(indices)]
            starts = starts[band[starts] == band[starts + shift]]
            a, b = order[starts], order[starts + shift]
            close = (np.bitwise_count(bits[a] ^ bits[b]) <= MAX_BITS) & (root[a] != root[b])
            a, b = a[close], b[close]
            if a.size:
                # Differences of patch averages are a lower bound: what fails here would fail below, at a higher cost.
                likely = np.abs(coarse[a] - coarse[b]).mean(axis=1) <= _MAX_MEAN
                a, b = a[likely], b[likely]
                agree = _thumbnails_agree(thumbnails[a], thumbnails[b])
                _merge(root, a[agree], b[agree])
            if not starts.size:
                break
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in zip(indices.tolist(), root.tolist(), strict=True):
        groups[label].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _coarse(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails (n, 16, 16, 3) averaged over 4x4 patches and colours, minus their overall brightness: float32 (n, 16)."""
    patches = thumbnails.reshape(-1, 4, 4, 4, 4, 3).mean(axis=(2, 4, 5), dtype=np.float32).reshape(-1, 16)
    return np.asarray(patches - patches.mean(axis=1, keepdims=True))


def _thumbnails_agree(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which of the pairs of thumbnails (n, 16, 16, 3) agree: bool (n,)."""
    difference = a.astype(np.float32) - b.astype(np.float32)
    shift = difference.mean(axis=(1, 2, 3), keepdims=True)
    rest = np.abs(difference - shift)
    worst = rest.mean(axis=3).max(axis=(1, 2))
    agree = (rest.mean(axis=(1, 2, 3)) <= _MAX_MEAN) & (worst <= _MAX_CELL) & (np.abs(shift[:, 0, 0, 0]) <= _MAX_BRIGHTNESS)
    return np.asarray(agree)


def _merge(root: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Merges the groups of a[i] and b[i]; `root` maps each image to its group."""
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        low, high = sorted((int(root[x]), int(root[y])))
        if low != high:
            root[root == high] = low

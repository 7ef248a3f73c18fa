"""Batches: a data set as an endless stream whose every sample is a function of the seed and its position.

So a run that stops and goes on, or that is cut into other batch sizes, sees the same pictures. Where the pictures come from
is the business of `pack` and `worlds`; torch is imported by the first batch only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from leafwing.data.sources import Reject
from leafwing.game import Batch, DataSpec

_ORDER, _MIRROR = 0, 1


@dataclass(eq=False)
class Dataset:
    """Samples of one shape, in memory or mapped from a pack.

    Args:
        spec: shape and class names.
        array: (n, height, width, channels) uint8, or (n, 2) float32 for points; never written to.
        labels: (n,) int64 class indices, or None.
        fingerprint: a hash of the content and of the options that decide the pixels; mirroring is not part of it.
        source: a built-in name or an absolute path.
        options: plain JSON such that `load(source, **options)` gives the same data set.
        rejects: files that are not used, with reasons.
        notes: what a user may want to know about how the source was read.
    """

    spec: DataSpec
    array: np.ndarray
    labels: np.ndarray | None
    fingerprint: str
    source: str
    options: dict[str, Any]
    rejects: list[Reject] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self.array)

    def __repr__(self) -> str:
        return f"Dataset({self.source!r}, {len(self)} samples of {self.spec.shape}, {len(self.spec.labels)} classes)"

    def batch(self, seed: int, images: int, n: int) -> Batch:
        """The samples at stream positions `images` to `images + n - 1`.

        A pure function of its arguments: batches of any size cut the same stream. Every epoch (`len(self)` positions) holds
        each sample once, in an order of its own. With mirroring, half of the positions are flipped left to right.

        Args:
            seed: chooses the stream; 0 or more.
            images: the first position, which is how many samples were shown before.
            n: how many samples; may exceed the data set.

        Returns:
            `image`: uint8 (n, channels, height, width) in channels_last order, or float32 (n, 2) for points; `label`: int64
            (n,) when there are labels. On the CPU.

        Raises:
            ValueError: a negative seed, position or count.
        """
        if min(seed, images, n) < 0:
            raise ValueError(f"batch(seed={seed}, images={images}, n={n}): none may be negative")
        import torch

        indices, mirrored = self._positions(seed, images, n)
        rows = np.take(self.array, indices, axis=0)
        if mirrored is not None:
            rows[mirrored] = rows[mirrored, :, ::-1]
        image = torch.from_numpy(rows)
        fields = {"image": image if self.spec.points else image.permute(0, 3, 1, 2)}
        if self.labels is not None:
            fields["label"] = torch.from_numpy(np.take(self.labels, indices))
        return Batch(fields)

    def pictures(self, indices: Any) -> np.ndarray:
        """A copy of some samples, never mirrored.

        Args:
            indices: integers (n,).

        Returns:
            uint8 (n, height, width, channels), or float32 (n, 2) for points.
        """
        return np.take(self.array, np.asarray(indices, dtype=np.int64), axis=0)

    def _positions(self, seed: int, images: int, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """For each position its sample, and whether it is flipped (None without mirroring)."""
        size = len(self)
        indices, mirrored = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=bool)]
        position = images
        while position < images + n:
            epoch, start = divmod(position, size)
            stop = min(size, start + images + n - position)
            indices.append(_order(seed, epoch, size)[start:stop])
            if self.options.get("mirror"):
                mirrored.append(_flips(seed, epoch, size)[start:stop])
            position += stop - start
        return np.concatenate(indices), np.concatenate(mirrored) if self.options.get("mirror") else None


def _bits(seed: int, epoch: int, purpose: int, n: int) -> np.ndarray:
    """n random words of 64 bits. numpy promises the raw stream of Philox for good, but not that of `permutation`."""
    found = np.random.Philox(np.random.SeedSequence((seed, epoch, purpose))).random_raw(n)
    return np.asarray(found, dtype=np.uint64)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The permutation of one epoch; the last few are kept."""
    return np.argsort(_bits(seed, epoch, _ORDER, n), kind="stable")


@lru_cache(maxsize=4)
def _flips(seed: int, epoch: int, n: int) -> np.ndarray:
    """Which positions of one epoch are mirrored."""
    return _bits(seed, epoch, _MIRROR, n) >= np.uint64(1 << 63)

"""Which training pictures a picture is nearest to, seen coarsely: as they lie, or mirrored and moved a little.

A picture is brought to 32x32 and its middle 28x28 is averaged over boxes of 4x4 pixels; what remains (7x7 and the colours) is
centred and scaled to length 1. So neither noise, nor brightness, nor contrast decides what is near: a small GAN's copies are noisy,
and samples of its first minutes are pale, which in raw pixels makes them near to everything. The distance of two pictures is that of
their sketches, from 0 (the same up to brightness and contrast) over 1.41 (unrelated) to 2.

Nothing here judges; see `copying`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, REACH, BOX = 32, 2, 4
"""Pixels: the square that pictures are brought to, how far they may be moved in it, and the boxes that are averaged."""
WAYS = ("in place", "moved")
"""As the training pictures lie, where a GAN's copies are; or mirrored or not, and moved by up to `REACH` pixels of `SIDE`."""
_FLAT = 1e-3
"""Sketches shorter than this before scaling are those of flat pictures, which are like nothing."""


@dataclass(frozen=True)
class Nearest:
    """For n pictures their k nearest training pictures, nearest first.

    Args:
        distances: float32 (n, k), 0 to 2.
        indices: int64 (n, k), which training pictures, by their place in the stream.
        mirrored: bool (n,), whether the nearest one is nearest as its mirror image.
    """

    distances: np.ndarray
    indices: np.ndarray
    mirrored: np.ndarray


def boxes(pictures: Tensor) -> Tensor:
    """Averages over every box of 4x4 pixels: float32 (n, channels, 29, 29) of pictures (n, channels, height, width) in [-1, 1].

    Transparent pictures are laid on white.
    """
    shown = pictures.float().nan_to_num()
    if shown.shape[1] in (2, 4):
        alpha = (shown[:, -1:] + 1) / 2
        shown = shown[:, :-1] * alpha + (1 - alpha)
    if shown.shape[2:] != (SIDE, SIDE):
        shown = F.interpolate(shown, size=(SIDE, SIDE), mode="area")
    return F.avg_pool2d(shown, BOX, stride=1)


def sketches(pictures: Iterable[Tensor]) -> Tensor:
    """The sketches of pictures, chunk after chunk: float32 (n, d), each of length 1, or 0 for a flat picture; (0, 0) of none."""
    made = [_sketch(boxes(chunk), REACH, REACH) for chunk in pictures]
    return torch.cat(made) if made else torch.empty(0, 0)


def nearest(
    queries: Tensor, pictures: Iterable[Tensor], k: int, own: Tensor | None = None, block: int = 1024
) -> dict[str, Nearest]:
    """The k nearest training pictures of each query, in each of the `WAYS`.

    Memory does not grow with the number of training pictures, and the time is that of queries x pictures x 50 products of
    sketches: 10,000 x 5,000 at 2.5e9 of 147 numbers.

    Args:
        queries: sketches (n, d).
        pictures: all training pictures, in chunks (b, channels, height, width) in [-1, 1]; there must be at least k (and one more with
            `own`).
        k: how many.
        own: int64 (n,), for each query the training picture that it is itself, which does not count; -1 for none.
        block: so many queries at a time.
    """
    kept = {way: _Best(len(queries), k) for way in WAYS}
    start = 0
    for chunk in pictures:
        for part in chunk.split(512):
            variants = list(_variants(boxes(part.to(queries.device))))
            for low in range(0, len(queries), block):
                rows = slice(low, low + block)
                likeness = _likeness(queries[rows], variants)
                if own is not None:
                    place = own[rows] - start
                    inside = (place >= 0) & (place < len(part))
                    for values in likeness.values():
                        values[inside.nonzero()[:, 0], place[inside]] = -torch.inf
                kept["in place"].add(rows, start, likeness["in place"])
                moved = torch.maximum(likeness["moved"], likeness["flipped"])
                kept["moved"].add(rows, start, moved, likeness["flipped"])
            start += len(part)
    return {way: best.found() for way, best in kept.items()}


def _sketch(averages: Tensor, top: int, left: int) -> Tensor:
    """The sketch of the 28x28 pixels that begin at (top, left): (n, d)."""
    end = SIDE - 2 * REACH - BOX + 1
    flat = averages[:, :, top : top + end : BOX, left : left + end : BOX].flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > _FLAT, centred / length.clamp_min(_FLAT), 0.0)


def _variants(averages: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Every way that training pictures may lie, the one in place first: "moved" or "flipped" too, and sketches (n, d)."""
    middle = (REACH, REACH)
    places = [
        middle,
        *((top, left) for top in range(2 * REACH + 1) for left in range(2 * REACH + 1) if (top, left) != middle),
    ]
    for name, shown in (("moved", averages), ("flipped", averages.flip(3))):
        for top, left in places:
            yield name, _sketch(shown, top, left)


def _likeness(queries: Tensor, variants: list[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Cosines (n, b) of queries and training pictures: in place, and the best of those moved and of those flipped too."""
    found: dict[str, Tensor] = {}
    room = queries.new_empty(len(queries), len(variants[0][1]))
    for name, sketch in variants:
        if name in found:
            torch.maximum(found[name], torch.mm(queries, sketch.T, out=room), out=found[name])
        else:
            found[name] = queries @ sketch.T
            found.setdefault("in place", found[name].clone())
    return found


class _Best:
    """The k best of each query so far."""

    def __init__(self, n: int, k: int) -> None:
        self.likeness = torch.full((n, k), -torch.inf)
        self.indices = torch.full((n, k), -1)
        self.mirrored = torch.zeros((n, k), dtype=torch.bool)

    def add(self, rows: slice, start: int, likeness: Tensor, flipped: Tensor | None = None) -> None:
        """Takes in cosines (n, b) of the training pictures from `start` on; `flipped` are those of their mirror images."""
        k = self.likeness.shape[1]
        values, places = likeness.topk(min(k, likeness.shape[1]))
        mirrors = torch.zeros_like(places, dtype=torch.bool) if flipped is None else flipped.gather(1, places) >= values
        joined = torch.cat([self.likeness[rows], values.cpu()], 1)
        self.likeness[rows], order = joined.topk(k)
        self.indices[rows] = torch.cat([self.indices[rows], places.cpu() + start], 1).gather(1, order)
        self.mirrored[rows] = torch.cat([self.mirrored[rows], mirrors.cpu()], 1).gather(1, order)

    def found(self) -> Nearest:
        """Distances instead of cosines."""
        distances = (2 - 2 * self.likeness).clamp_min(0).sqrt().numpy()
        return Nearest(distances, self.indices.numpy(), self.mirrored[:, 0].numpy())

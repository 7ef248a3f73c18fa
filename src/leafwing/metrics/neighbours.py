"""Nearest training pictures of a picture in two feature spaces: coarse colours and edge orientations.

A picture is resized to 32x32 and averaged over boxes of 4x4 pixels. *Colours* are the non-overlapping averages in the central 28x28
(7x7). *Edges* are orientation histograms of the averages' gradients in 4x4 cells, which capture shapes without colour (after Dalal &
Triggs 2005, Histograms of Oriented Gradients). Both are centred and scaled to length 1, which makes distances insensitive to noise,
brightness and contrast: a small GAN's copies are noisy, and its early samples have low contrast, which in raw pixels makes them close
to everything. The distance between two pictures is that of their sketches: 0 (identical up to brightness and contrast), about 1.41
(unrelated), at most 2.

Statistics are in `copying`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, REACH, BOX = 32, 2, 4
"""In pixels: side to which pictures are resized, maximum shift, and side of the averaging boxes."""
CELLS, DIRECTIONS = 4, 8
"""Of `edges`: cells per side, and orientation bins from 0 to 180 degrees."""
WAYS = ("in place", "moved", "edges")
"""Colours without alignment, where a GAN's copies are; colours with mirroring and shifts of up to `REACH` pixels; edges with
mirroring."""
AT_ONCE = 512
"""Number of training pictures compared at a time."""
_FLAT = 1e-3
"""Sketches shorter than this before scaling belong to flat pictures, which match nothing."""


@dataclass(frozen=True)
class Sketches:
    """The sketches of n pictures in both spaces.

    Args:
        colours: float32 (n, d), each of length 1, or 0 for a flat picture.
        edges: float32 (n, 128), likewise.
    """

    colours: Tensor
    edges: Tensor

    def __len__(self) -> int:
        return len(self.colours)

    def __getitem__(self, rows: Tensor | slice) -> Sketches:
        return Sketches(self.colours[rows], self.edges[rows])

    def __add__(self, other: Sketches) -> Sketches:
        """The concatenation of both."""
        if not len(other):
            return self
        return Sketches(torch.cat([self.colours, other.colours]), torch.cat([self.edges, other.edges]))


@dataclass(frozen=True)
class Nearest:
    """The k nearest training pictures of n pictures, nearest first.

    Args:
        distances: float32 (n, k), 0 to 2.
        indices: int64 (n, k), indices of the training pictures in the stream.
        mirrored: bool (n,), whether the nearest one matches as its mirror image.
    """

    distances: np.ndarray
    indices: np.ndarray
    mirrored: np.ndarray


def boxes(pictures: Tensor) -> Tensor:
    """Averages over all 4x4 boxes: float32 (n, channels, 29, 29) from pictures (n, channels, height, width) in [-1, 1].

    Transparent pictures are composited onto white.
    """
    shown = pictures.float().nan_to_num()
    if shown.shape[1] in (2, 4):
        alpha = (shown[:, -1:] + 1) / 2
        shown = shown[:, :-1] * alpha + (1 - alpha)
    if shown.shape[2:] != (SIDE, SIDE):
        shown = F.interpolate(shown, size=(SIDE, SIDE), mode="area")
    return F.avg_pool2d(shown, BOX, stride=1)


def edges(averages: Tensor) -> Tensor:
    """Orientation histograms of averages (n, channels, 29, 29): (n, 128), centred, of length 1."""
    grey = averages.mean(1)
    down, right = grey[:, 1:, :-1] - grey[:, :-1, :-1], grey[:, :-1, 1:] - grey[:, :-1, :-1]
    direction = torch.atan2(down, right).remainder(torch.pi) * (DIRECTIONS / torch.pi)
    bins = torch.arange(DIRECTIONS, device=grey.device).view(-1, 1, 1)
    away = (direction[:, None] - bins).abs()
    part = (1 - torch.minimum(away, DIRECTIONS - away)).clamp_min(0)  # linear interpolation between bins
    strength = (down**2 + right**2).sqrt()[:, None] * part
    return _scaled(F.avg_pool2d(strength, strength.shape[-1] // CELLS).flatten(1))


def sketches(pictures: Iterable[Tensor]) -> Sketches:
    """The sketches of pictures that come in chunks."""
    found = [Sketches(_colours(averages, REACH, REACH), edges(averages)) for averages in map(boxes, pictures)]
    if not found:
        return Sketches(torch.empty(0, 0), torch.empty(0, 0))
    return Sketches(torch.cat([one.colours for one in found]), torch.cat([one.edges for one in found]))


def nearest(
    queries: Sketches,
    pictures: Iterable[Tensor],
    k: int,
    own: Tensor | None = None,
    block: int = 1024,
    told: Callable[[int], None] = lambda done: None,
) -> dict[str, Nearest]:
    """The k nearest training pictures of each query, in each of the `WAYS`.

    Memory is independent of the number of training pictures; time is that of queries x pictures x 50 dot products of sketches:
    2.5e9 of length 147 for 10,000 x 5,000.

    Args:
        queries: n pictures.
        pictures: all training pictures, in chunks (b, channels, height, width) in [-1, 1]; at least k (k + 1 with
            `own`).
        k: number of neighbours.
        own: int64 (n,), index of each query among the training pictures, which is excluded; -1 for none.
        block: queries per block.
        told: progress callback: training pictures done.
    """
    kept = {way: _Best(len(queries), k) for way in WAYS}
    start = 0
    for averages in _together(boxes(chunk.to(queries.colours.device)) for chunk in pictures):
        variants, outlines = list(_variants(averages)), (edges(averages), edges(averages.flip(3)))
        for low in range(0, len(queries), block):
            rows = slice(low, low + block)
            likeness = _likeness(queries[rows], variants, outlines)
            if own is not None:
                place = own[rows] - start
                inside = (place >= 0) & (place < len(averages))
                for one in (values for pair in likeness.values() for values in pair):
                    one[inside.nonzero()[:, 0], place[inside]] = -torch.inf
            for way, both in likeness.items():
                kept[way].add(rows, start, *both)
        start += len(averages)
        told(start)
    return {way: best.found() for way, best in kept.items()}


def _together(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Chunks concatenated to some hundreds of rows, which makes products faster."""
    held: list[Tensor] = []
    for chunk in chunks:
        held.append(chunk)
        if sum(map(len, held)) >= AT_ONCE:
            yield torch.cat(held)
            held = []
    if held:
        yield torch.cat(held)


def _scaled(rows: Tensor) -> Tensor:
    """Rows centred and scaled to length 1; flat rows become 0."""
    centred = rows - rows.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > _FLAT, centred / length.clamp_min(_FLAT), 0.0)


def _colours(averages: Tensor, top: int, left: int) -> Tensor:
    """The colours of the 28x28 window at (top, left): (n, d)."""
    end = SIDE - 2 * REACH - BOX + 1
    return _scaled(averages[:, :, top : top + end : BOX, left : left + end : BOX].flatten(1))


def _variants(averages: Tensor) -> Iterator[tuple[str, Tensor]]:
    """All shifts and mirrorings of training pictures, the unaligned one first: "moved" or "flipped", and sketches (n, d)."""
    middle = (REACH, REACH)
    places = [
        middle,
        *((top, left) for top in range(2 * REACH + 1) for left in range(2 * REACH + 1) if (top, left) != middle),
    ]
    for name, shown in (("moved", averages), ("flipped", averages.flip(3))):
        for top, left in places:
            yield name, _colours(shown, top, left)


def _likeness(
    queries: Sketches, variants: list[tuple[str, Tensor]], outlines: tuple[Tensor, Tensor]
) -> dict[str, tuple[Tensor, ...]]:
    """For each way, cosine similarities (n, b) of queries and training pictures, and of their mirror images where those count."""
    found: dict[str, Tensor] = {}
    colours = queries.colours
    room = colours.new_empty(len(colours), len(variants[0][1]))
    for name, sketch in variants:
        if name in found:
            torch.maximum(found[name], torch.mm(colours, sketch.T, out=room), out=found[name])
        else:
            found[name] = colours @ sketch.T
            found.setdefault("in place", found[name].clone())
    as_is, flipped = (queries.edges @ one.T for one in outlines)
    return {"in place": (found["in place"],), "moved": (found["moved"], found["flipped"]), "edges": (as_is, flipped)}


class _Best:
    """The k nearest of each query so far."""

    def __init__(self, n: int, k: int) -> None:
        self.likeness = torch.full((n, k), -torch.inf)
        self.indices = torch.full((n, k), -1)
        self.mirrored = torch.zeros((n, k), dtype=torch.bool)

    def add(self, rows: slice, start: int, as_is: Tensor, flipped: Tensor | None = None) -> None:
        """Merges cosine similarities (n, b) with the training pictures from `start` on, and optionally with their mirror images."""
        likeness = as_is if flipped is None else torch.maximum(as_is, flipped)
        k = self.likeness.shape[1]
        values, places = likeness.topk(min(k, likeness.shape[1]))
        mirrors = torch.zeros_like(places, dtype=torch.bool) if flipped is None else flipped.gather(1, places) >= values
        joined = torch.cat([self.likeness[rows], values.cpu()], 1)
        self.likeness[rows], order = joined.topk(k)
        self.indices[rows] = torch.cat([self.indices[rows], places.cpu() + start], 1).gather(1, order)
        self.mirrored[rows] = torch.cat([self.mirrored[rows], mirrors.cpu()], 1).gather(1, order)

    def found(self) -> Nearest:
        """The result, as distances instead of cosines."""
        distances = (2 - 2 * self.likeness).clamp_min(0).sqrt().numpy()
        return Nearest(distances, self.indices.numpy(), self.mirrored[:, 0].numpy())

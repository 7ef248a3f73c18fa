"""Nearest training images of an image in two feature spaces: coarse colours and edge orientations.

An image is resized to 32x32 and averaged over boxes of 4x4 pixels. *Colours* are the non-overlapping averages in the central 28x28
(7x7). *Edges* are orientation histograms of the averages' gradients in 4x4 cells, which capture shapes without colour (after Dalal &
Triggs 2005, Histograms of Oriented Gradients). Both are centred and scaled to length 1, which makes distances insensitive to noise,
brightness and contrast: a small GAN's copies are noisy, and its early samples have low contrast, which in raw pixels makes them close
to everything. The distance between two images is that of their sketches: 0 (identical up to brightness and contrast), about 1.41
(unrelated), at most 2.

Statistics are in `copying`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from leafwing.pixels import composite_on_white

SIDE, MAX_SHIFT, BOX = 32, 2, 4
"""In pixels: side to which images are resized, maximum shift, and side of the averaging boxes."""
CELLS, DIRECTIONS = 4, 8
"""Of `edges`: cells per side, and orientation bins from 0 to 180 degrees."""
COMPARISONS = ("in place", "moved", "edges")
"""Colours without alignment, where a GAN's copies are; colours with mirroring and shifts of up to `MAX_SHIFT` pixels; edges with
mirroring."""
CHUNK = 512
"""Number of training images compared at a time."""
_FLAT = 1e-3
"""Sketches shorter than this before scaling belong to flat images, which match nothing."""


@dataclass(frozen=True)
class Sketches:
    """The sketches of n images in both spaces.

    Args:
        colours: float32 (n, d), each of length 1, or 0 for a flat image.
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
    """The k nearest training images of n images, nearest first.

    Args:
        distances: float32 (n, k), 0 to 2.
        indices: int64 (n, k), indices of the training images in the stream.
        mirrored: bool (n,), whether the nearest one matches as its mirror image.
    """

    distances: np.ndarray
    indices: np.ndarray
    mirrored: np.ndarray


def boxes(images: Tensor) -> Tensor:
    """Averages over all 4x4 boxes: float32 (n, channels, 29, 29) from images (n, channels, height, width) in [-1, 1].

    Transparent images are composited onto white.
    """
    images = composite_on_white(images.float().nan_to_num())
    if images.shape[2:] != (SIDE, SIDE):
        images = F.interpolate(images, size=(SIDE, SIDE), mode="area")
    return F.avg_pool2d(images, BOX, stride=1)


def edges(averages: Tensor) -> Tensor:
    """Orientation histograms of averages (n, channels, 29, 29): (n, 128), centred, of length 1."""
    grey = averages.mean(1)
    down, right = grey[:, 1:, :-1] - grey[:, :-1, :-1], grey[:, :-1, 1:] - grey[:, :-1, :-1]
    direction = torch.atan2(down, right).remainder(torch.pi) * (DIRECTIONS / torch.pi)
    bins = torch.arange(DIRECTIONS, device=grey.device).view(-1, 1, 1)
    offset = (direction[:, None] - bins).abs()
    weight = (1 - torch.minimum(offset, DIRECTIONS - offset)).clamp_min(0)  # linear interpolation between bins
    strength = (down**2 + right**2).sqrt()[:, None] * weight
    return _normalise(F.avg_pool2d(strength, strength.shape[-1] // CELLS).flatten(1))


def sketches(images: Iterable[Tensor]) -> Sketches:
    """The sketches of images that come in chunks."""
    parts = [Sketches(_colours(averages, MAX_SHIFT, MAX_SHIFT), edges(averages)) for averages in map(boxes, images)]
    if not parts:
        return Sketches(torch.empty(0, 0), torch.empty(0, 0))
    return Sketches(torch.cat([part.colours for part in parts]), torch.cat([part.edges for part in parts]))


def nearest(
    queries: Sketches,
    images: Iterable[Tensor],
    k: int,
    exclude: Tensor | None = None,
    block: int = 1024,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, Nearest]:
    """The k nearest training images of each query, for each of the `COMPARISONS`.

    Memory is independent of the number of training images; time is that of queries x images x 50 dot products of sketches:
    2.5e9 of length 147 for 10,000 x 5,000.

    Args:
        queries: sketches of n images.
        images: all training images, in chunks (b, channels, height, width) in [-1, 1]; at least k (k + 1 with `exclude`).
        k: number of neighbours.
        exclude: int64 (n,), index of the training image to ignore for each query, usually itself; -1 for none.
        block: queries per block.
        report: progress callback: number of training images done.
    """
    best = {name: _Best(len(queries), k) for name in COMPARISONS}
    start = 0
    for averages in _merge_chunks(boxes(chunk.to(queries.colours.device)) for chunk in images):
        variants, outlines = list(_variants(averages)), (edges(averages), edges(averages.flip(3)))
        for low in range(0, len(queries), block):
            rows = slice(low, low + block)
            similarities = _similarities(queries[rows], variants, outlines)
            if exclude is not None:
                columns = exclude[rows] - start
                inside = (columns >= 0) & (columns < len(averages))
                for matrix in (matrix for pair in similarities.values() for matrix in pair):
                    matrix[inside.nonzero()[:, 0], columns[inside]] = -torch.inf
            for name, pair in similarities.items():
                best[name].add(rows, start, *pair)
        start += len(averages)
        report(start)
    return {name: neighbours.result() for name, neighbours in best.items()}


def seconds_per_pair() -> float:
    """How long the comparison of two images takes here, measured on the second of two passes over a chunk of noise."""
    images = torch.rand(CHUNK, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    queries = sketches([images])
    started = 0.0
    for _ in range(2):
        started = time.perf_counter()
        nearest(queries, [images], 1)
    return (time.perf_counter() - started) / CHUNK**2


def _merge_chunks(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Chunks concatenated to at least `CHUNK` rows, which makes products faster."""
    pending: list[Tensor] = []
    for chunk in chunks:
        pending.append(chunk)
        if sum(map(len, pending)) >= CHUNK:
            yield torch.cat(pending)
            pending = []
    if pending:
        yield torch.cat(pending)


def _normalise(rows: Tensor) -> Tensor:
    """Rows centred and scaled to length 1; flat rows become 0."""
    centred = rows - rows.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    return torch.where(length > _FLAT, centred / length.clamp_min(_FLAT), 0.0)


def _colours(averages: Tensor, top: int, left: int) -> Tensor:
    """The colours of the 28x28 window at (top, left): (n, d)."""
    end = SIDE - 2 * MAX_SHIFT - BOX + 1
    return _normalise(averages[:, :, top : top + end : BOX, left : left + end : BOX].flatten(1))


def _variants(averages: Tensor) -> Iterator[tuple[str, Tensor]]:
    """All shifts and mirrorings of training images, the unaligned one first: "moved" or "flipped", and sketches (n, d)."""
    centre = (MAX_SHIFT, MAX_SHIFT)
    windows = [
        centre,
        *((top, left) for top in range(2 * MAX_SHIFT + 1) for left in range(2 * MAX_SHIFT + 1) if (top, left) != centre),
    ]
    for name, images in (("moved", averages), ("flipped", averages.flip(3))):
        for top, left in windows:
            yield name, _colours(images, top, left)


def _similarities(
    queries: Sketches, variants: list[tuple[str, Tensor]], outlines: tuple[Tensor, Tensor]
) -> dict[str, tuple[Tensor, ...]]:
    """For each comparison, cosine similarities (n, b) of queries and training images, and of their mirror images if they count."""
    maxima: dict[str, Tensor] = {}
    colours = queries.colours
    buffer = colours.new_empty(len(colours), len(variants[0][1]))
    for name, sketch in variants:
        if name in maxima:
            torch.maximum(maxima[name], torch.mm(colours, sketch.T, out=buffer), out=maxima[name])
        else:
            maxima[name] = colours @ sketch.T
            maxima.setdefault("in place", maxima[name].clone())
    upright, flipped = (queries.edges @ outline.T for outline in outlines)
    return {"in place": (maxima["in place"],), "moved": (maxima["moved"], maxima["flipped"]), "edges": (upright, flipped)}


class _Best:
    """The k nearest of each query so far."""

    def __init__(self, n: int, k: int) -> None:
        self.similarities = torch.full((n, k), -torch.inf)
        self.indices = torch.full((n, k), -1)
        self.mirrored = torch.zeros((n, k), dtype=torch.bool)

    def add(self, rows: slice, start: int, upright: Tensor, flipped: Tensor | None = None) -> None:
        """Merges cosine similarities (n, b) with the training images from `start` on, and optionally with their mirror images."""
        similarities = upright if flipped is None else torch.maximum(upright, flipped)
        k = self.similarities.shape[1]
        values, columns = similarities.topk(min(k, similarities.shape[1]))
        mirrored = torch.zeros_like(columns, dtype=torch.bool) if flipped is None else flipped.gather(1, columns) >= values
        self.similarities[rows], order = torch.cat([self.similarities[rows], values.cpu()], 1).topk(k)
        self.indices[rows] = torch.cat([self.indices[rows], columns.cpu() + start], 1).gather(1, order)
        self.mirrored[rows] = torch.cat([self.mirrored[rows], mirrored.cpu()], 1).gather(1, order)

    def result(self) -> Nearest:
        """The neighbours, with distances instead of cosines."""
        distances = (2 - 2 * self.similarities).clamp_min(0).sqrt().numpy()
        return Nearest(distances, self.indices.numpy(), self.mirrored[:, 0].numpy())

"""Pictures of any size for networks that need sides divisible by a number: padded by reflection; whole or in strips, by memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from leafwing.engine.footprint import FRAGMENTATION, LiveBytes
from leafwing.engine.graph import UnknownLayerError, record
from leafwing.engine.share import NumberedDraws
from leafwing.engine.strips import Source, Strips
from leafwing.engine.turns import is_out_of_memory
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.machine import available_memory
from leafwing.quantities import SMALLEST_TILE, TILES

WHOLE_LIMIT = 1 << 30
"""Bytes above which a picture on the CPU is computed in strips even if there is more memory."""


class Piece(NamedTuple):
    """A part of the results for several pictures.

    Args:
        pictures: which of them.
        top: the first row.
        height: number of rows of the whole results.
        samples: the rows, (pictures, channels, rows, width).
    """

    pictures: slice
    top: int
    height: int
    samples: Tensor


def assemble(pieces: Iterable[Piece], n: int, convert: Callable[[Tensor], Tensor], axis: int) -> Tensor:
    """The results for n pictures, after a conversion of each piece.

    Args:
        pieces: all pieces.
        n: number of pictures.
        convert: from a piece's samples to what is returned.
        axis: the dimension of rows after it.
    """
    result: Tensor | None = None
    for piece in pieces:
        part = convert(piece.samples)
        if len(part) == n and part.shape[axis] == piece.height:
            return part
        if result is None:
            shape = [n, *part.shape[1:]]
            shape[axis] = piece.height
            result = torch.empty(shape, dtype=part.dtype)
        result[piece.pictures].narrow(axis, piece.top, part.shape[axis]).copy_(part)
    if result is None:
        raise ValueError("there are no pieces")
    return result


def check_images(
    images: Mapping[str, Tensor],
    shapes: Mapping[str, Sequence[int]],
    n: int,
    size: tuple[int, int],
) -> None:
    """Checks that the inputs with pixels have n samples, their channels, and sizes in the same proportion as in training.

    Args:
        images: (n, channels, height, width) by name.
        shapes: their shapes in training, without the batch; the first one is that of the picture.
        n: number of pictures.
        size: height and width of the picture.

    Raises:
        LeafwingError: one is missing or has another shape.
    """
    trained = next(iter(shapes.values()))[1:]
    for name, (channels, *sides) in shapes.items():
        if name not in images:
            raise LeafwingError(f"this run generates from {' and '.join(shapes)}: {name} is missing")
        expected = (n, channels, *(ceil(a * Fraction(b, c)) for a, b, c in zip(size, sides, trained, strict=True)))
        if tuple(images[name].shape) != expected or not images[name].is_floating_point():
            actual = f"{tuple(images[name].shape)} of {images[name].dtype}"
            raise LeafwingError(f"{name}: give a floating-point tensor of shape {expected}, not {actual}")


def reflection(length: int, total: int) -> Tensor:
    """The indices of a side of `length` pixels after padding to `total` at its end by reflection, repeated if necessary: (total,)."""
    period = max(1, 2 * (length - 1))
    places = torch.arange(total) % period
    return torch.minimum(places, period - places).clamp(max=length - 1)


@dataclass(frozen=True)
class Extent:
    """The size of a picture, of the padded one, and of the result.

    Args:
        size: height and width of the picture.
        padded: the same after padding.
        result: of the result, without what was padded.
    """

    size: tuple[int, int]
    padded: tuple[int, int]
    result: tuple[int, int]


class AnySize:
    """A function of pictures of any size: fully convolutional.

    Args:
        function: from inputs (1, channels, height, width) by name, and the number of the picture, to (1, channels, height, width).
        shapes: the shapes of the inputs in training, without the batch; the first one is that of the picture.
        result: height and width of its result in training.
        multiple: both sides of the picture must be divisible by this.
        device: where it computes.
        say: receives messages, each once.
    """

    def __init__(
        self,
        function: Callable[[dict[str, Tensor], int], Tensor],
        shapes: Mapping[str, tuple[int, ...]],
        result: tuple[int, int],
        multiple: int,
        device: torch.device,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.function, self.shapes, self.multiple, self.device = function, shapes, multiple, device
        self.trained = next(iter(shapes.values()))[1:]
        self.scale = tuple(Fraction(after, before) for after, before in zip(result, self.trained, strict=True))
        self._say, self._messages = say, set[str]()

    def say(self, text: str) -> None:
        """Passes a message on, if it is new."""
        if text not in self._messages:
            self._messages.add(text)
            self._say(text)

    def shapes_at(self, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The shapes (1, channels, height, width) of the inputs for a picture of this padded size.

        Raises:
            LeafwingError: an input would have no whole number of pixels.
        """
        factors = [Fraction(side, trained) for side, trained in zip(size, self.trained, strict=True)]
        shapes = {}
        for name, (channels, *sides) in self.shapes.items():
            new = [side * factor for side, factor in zip(sides, factors, strict=True)]
            if any(side.denominator > 1 for side in new):
                raise LeafwingError(f"{name} has no whole number of pixels for a picture of {size[1]}x{size[0]} pixels")
            shapes[name] = (1, channels, *map(int, new))
        return shapes

    @cached_property
    def least(self) -> int:
        """The smallest side that works, because layers such as reflection padding need several pixels."""
        for side in range(self.multiple, max(self.trained), self.multiple):
            try:
                record(lambda inputs: self.function(inputs, 0), self.shapes_at((side, side)), self.device)
            except (UnknownLayerError, LeafwingError):
                continue
            return side
        return max(self.trained)

    def extent(self, height: int, width: int) -> Extent:
        """The sizes for a picture of this height and width."""
        sides = [ceil(side / self.multiple) * self.multiple for side in (height, width)]
        if any(side < trained for side, trained in zip(sides, self.trained, strict=True)):
            least = self.least
            sides = [max(side, least) for side in sides]
        result = tuple(ceil(side * factor) for side, factor in zip((height, width), self.scale, strict=True))
        return Extent((height, width), (sides[0], sides[1]), (result[0], result[1]))

    @cached_property
    def bytes_per_pixel(self) -> float:
        """Memory of a pass, per pixel of the picture."""
        inputs = {name: torch.zeros(1, *shape, device=self.device) for name, shape in self.shapes.items()}
        with torch.no_grad(), LiveBytes([]) as live:
            self.function(inputs, 0)
        fragmentation = 1 if self.device.type == "cuda" else FRAGMENTATION
        return fragmentation * max(live.history, default=0) / (self.trained[0] * self.trained[1])

    def memory(self) -> float:
        """Bytes that a whole picture may need."""
        if self.device.type == "cuda":
            return 0.7 * torch.cuda.mem_get_info(self.device)[0]
        free = available_memory()
        return WHOLE_LIMIT if free is None else min(WHOLE_LIMIT, free / 2)

    @cached_property
    def hindrance(self) -> str | None:
        """Why it cannot be computed in strips, for users; None if it can. Strips are compared with the whole for a random picture."""
        generator = torch.Generator().manual_seed(0)
        inputs = {
            name: (torch.rand(1, *shape, generator=generator) * 2 - 1).to(self.device) for name, shape in self.shapes.items()
        }
        sources: dict[str, Source] = {name: partial(rows_of, value) for name, value in inputs.items()}
        try:
            plan = Strips(
                lambda inputs: self.function(inputs, 0), self.shapes_at((self.trained[0], self.trained[1])), self.device
            )
            strips = torch.cat([*plan.compute(sources, NumberedDraws(0, 1), tile=SMALLEST_TILE)], 2).float()
        except UnknownLayerError as error:
            return str(error)
        with torch.no_grad(), NumberedDraws(0, 1):
            whole = self.function(inputs, 0).float()
        same = whole.shape == strips.shape and bool(((whole - strips).abs() <= 1 / 255).all())
        return None if same else "its result in tiles differs from that of the whole picture"

    def pieces(
        self,
        read: Callable[[str, slice, Tensor, Tensor], Tensor],
        n: int,
        size: tuple[int, int],
        whole: Callable[[dict[str, Tensor], slice], Tensor],
        draws: Callable[[int], NumberedDraws],
        *,
        tile: int | str = "auto",
        batch: int = 16,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Piece]:
        """The results for n pictures of one size, whole or in strips.

        Args:
            read: the input of this name for some of the pictures, of these rows and columns: (n, channels, rows, columns).
            n: number of pictures.
            size: height and width.
            whole: computes several pictures in one pass, from their inputs.
            draws: the random numbers of a picture by its number.
            tile: see `check_tile`.
            batch: maximum number of pictures in one pass.
            report: progress of a picture in strips.

        Raises:
            LeafwingError: tiles are required, but a layer does not allow them; or there is not enough memory.
        """
        extent = self.extent(*size)
        shapes = self.shapes_at(extent.padded)
        places = {
            name: tuple(reflection(self._side(name, axis, extent), shape[2 + axis]) for axis in (0, 1))
            for name, shape in shapes.items()
        }
        height, width = extent.result

        def rows_of_picture(name: str, i: int, start: int, stop: int) -> Tensor:
            rows, columns = places[name]
            return read(name, slice(i, i + 1), rows[start:stop], columns)

        def inputs(pictures: slice) -> dict[str, Tensor]:
            return {name: read(name, pictures, *places[name]) for name in shapes}

        count = min(batch, n)
        pixels = extent.padded[0] * extent.padded[1]
        if tile == "auto" and n * pixels > self.trained[0] * self.trained[1]:
            count = min(count, int(self.memory() / (pixels * self.bytes_per_pixel)))
        if not count and self.hindrance is not None:
            self.say(
                f"a picture of {size[1]}x{size[0]} pixels may be too large for memory, but tiles are not possible: {self.hindrance}"
            )
            count = 1
        start = 0
        while count and tile in TILES and start < n:
            pictures = slice(start, min(start + count, n))
            try:
                samples = whole(inputs(pictures), pictures)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if tile == "whole" or (count == 1 and self.hindrance is not None):
                    advice = "use --tile auto" if self.hindrance is None else f"tiles are not possible: {self.hindrance}"
                    raise LeafwingError(
                        f"not enough memory for a whole picture of {size[1]}x{size[0]} pixels: {advice}"
                    ) from error
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                if count == 1:
                    self.say("not enough memory for whole pictures: the larger ones are computed in tiles")
                count //= 2
                continue
            self._check_result(samples.shape, extent)
            yield Piece(pictures, 0, height, samples[:, :, :height, :width])
            start = pictures.stop
        if start < n and self.hindrance is not None:
            raise InvalidOption("tile", tile, f"this run translates whole pictures only: {self.hindrance}")
        for i in range(start, n):
            plan = Strips(lambda maps, i=i: self.function(maps, i), shapes, self.device)  # type: ignore[misc]
            self._check_result(plan.output.shape, extent)
            sources: dict[str, Source] = {name: partial(rows_of_picture, name, i) for name in shapes}
            top = 0
            side = tile if isinstance(tile, int) else None
            for samples in plan.compute(sources, draws(i), tile=side, report=report, on_less=self._say_less):
                if top < height:
                    yield Piece(slice(i, i + 1), top, height, samples[:, :, : height - top, :width])
                top += samples.shape[2]

    def _side(self, name: str, axis: int, extent: Extent) -> int:
        """A side of an input before padding."""
        return ceil(extent.size[axis] * Fraction(self.shapes[name][1 + axis], self.trained[axis]))

    def _say_less(self) -> None:
        self.say("not enough memory for the tiles: they are halved")

    def _check_result(self, shape: Sequence[int], extent: Extent) -> None:
        expected = tuple(side * factor for side, factor in zip(extent.padded, self.scale, strict=True))
        if tuple(shape[2:]) != expected:
            raise LeafwingError(
                f"the network makes {shape[3]}x{shape[2]} pixels of {extent.padded[1]}x{extent.padded[0]}, "
                f"not {expected[1]}x{expected[0]}: "
                "its recipe should not declare `multiple`"
            )


def rows_of(maps: Tensor, start: int, stop: int) -> Tensor:
    """Rows of maps (n, channels, height, width)."""
    return maps[:, :, start:stop]

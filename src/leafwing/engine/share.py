"""Random tensors of which each sample has rows of its own, however the samples are divided into passes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from leafwing.parts.history import ForAll

FACTORIES: dict[Any, int] = {torch.rand: 0, torch.randn: 0, torch.randint: 2}
"""Functions that draw a tensor, with the position of their size argument."""
LIKE: dict[Any, Callable[..., Tensor]] = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
IN_PLACE = {Tensor.uniform_, Tensor.normal_, Tensor.exponential_}


class SharedDraws(TorchFunctionMode):
    """While active, a random tensor for a part of a batch consists of the part's rows of a tensor drawn for the whole batch.

    A turn in micro-batches, or in several processes with equal random states, therefore uses the same random numbers as the
    whole batch, and recipes need no code for it. Draws are stored in order: call `rewind` before each further part. If the part's
    size divides the first dimension, each sample has as many consecutive rows; other tensors, and those of a size `ForAll`, are
    equal for all parts. Permutations, dropout and draws with a generator of their own are not shared.

    Args:
        total: number of samples in the whole batch.
        rows: the part that passes through the networks now.
    """

    on_cpu = False
    """Whether the numbers are drawn on the CPU, and then moved to their device, which waits for them."""

    def __init__(self, total: int, rows: slice) -> None:
        super().__init__()
        self.total, self.rows = total, rows
        self._draws: list[Tensor] = []
        self._next = 0

    def rewind(self, rows: slice) -> None:
        """Repeats the same draws for other rows."""
        self.rows, self._next = rows, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:  # of no sample: weights of a frozen network that is built at its first use
            return function(*args, **kwargs)
        if function in FACTORIES:
            return self._call_factory(function, FACTORIES[function], args, kwargs)
        if function in LIKE:
            like = args[0]
            # Always contiguous: the layout of a draw must not depend on the batch.
            options = {"dtype": like.dtype, "device": like.device, **kwargs}
            return self._call_factory(LIKE[function], 0, (tuple(like.shape),), options)
        if function in IN_PLACE:
            target: Tensor = args[0]
            empty = partial(target.new_empty, device="cpu" if self.on_cpu else None)
            values = self._draw(tuple(target.shape), lambda size: function(empty(size), *args[1:], **kwargs))
            return target.copy_(values)
        return function(*args, **kwargs)

    def _call_factory(
        self, function: Callable[..., Tensor], position: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """The size is the `size` argument, the argument at `position`, or all arguments from there on."""
        device = kwargs.get("device")
        if self.on_cpu and device is not None and torch.device(device).type != "cpu":
            return self._call_factory(function, position, args, {**kwargs, "device": "cpu"}).to(device)
        if "size" in kwargs:
            kwargs = dict(kwargs)
            return self._draw(tuple(kwargs.pop("size")), lambda size: function(*args, size=size, **kwargs))
        if position and not isinstance(args[position - 1], int):  # randint(high, size)
            position -= 1
        before, size = args[:position], args[position:]
        if len(size) == 1 and not isinstance(size[0], int):
            size = tuple(size[0])
        return self._draw(tuple(size), lambda size: function(*before, size, **kwargs))

    def _draw(self, size: tuple[int, ...], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        each, rest = (0, 1) if not size or isinstance(size[0], ForAll) else divmod(size[0], self.rows.stop - self.rows.start)
        each = 0 if rest else each  # rows of a sample
        if self._next == len(self._draws):
            self._draws.append(draw((self.total * each, *size[1:]) if each else size))
        values = self._draws[self._next]
        self._next += 1
        values = values[self.rows.start * each : self.rows.stop * each] if each else values
        if values.shape != size:
            raise ValueError(
                f"a random tensor of size {tuple(size)} does not fit the rows of samples {self.rows.start} to {self.rows.stop} of one "
                f"of {tuple(self._draws[self._next - 1].shape)} for the whole batch: parts of a batch must draw alike. A tensor that "
                f"belongs to no sample has the size ForAll({size[0]}), of leafwing.parts.history"
            )
        return values


class RepeatedDraws(SharedDraws):
    """While active, the random numbers of several samples in a row are those of the first: a tensor of n * times rows has n rows of
    its own.

    Args:
        total: number of samples, n * times.
        times: how many in a row share their numbers.
    """

    def __init__(self, total: int, times: int) -> None:
        super().__init__(total, slice(0, total))
        self.times = times

    def _draw(self, size: tuple[int, ...], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        if not size or size[0] != self.total:
            return draw(size)
        return draw((size[0] // self.times, *size[1:])).repeat_interleave(self.times, 0)


class NumberedDraws(SharedDraws):
    """While active, the random numbers of a sample depend only on the seed, on the sample's number and on the order of draws.

    Noise inside a generator is therefore the same in passes of any size. Tensors whose first dimension is not the number of samples
    are drawn as usual. Large maps are drawn a few rows at a time, so that `rows_of` can repeat a part. All are drawn
    on the CPU, whatever their device, and torch's generator of the CPU is seeded.

    Args:
        seed: random seed in the upper bits, a sample's number in the lower 24.
        n: number of samples in this pass, from that number on.
        same: all samples get the random numbers of the first one, so that they differ only by their inputs.
    """

    on_cpu = True
    BLOCK = 64
    """Samples whose numbers are drawn at once."""
    LARGE = 1 << 20
    """Numbers per sample above which a map is drawn in pieces of about as many."""

    def __init__(self, seed: int, n: int, same: bool = False) -> None:
        number = seed & (1 << 24) - 1
        super().__init__(n, slice(number, number + n))
        self.seed, self.same = seed - number, same

    def _draw(self, size: tuple[int, ...], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        if not size or size[0] != self.total:
            return draw(size)
        position, self._next = self._next, self._next + 1
        numbers = range(self.rows.start, self.rows.start + 1 if self.same else self.rows.stop)
        if self.is_large(size):
            values = torch.cat([self._rows(position, number, size, draw, 0, size[2]) for number in numbers])
        else:
            start = numbers.start // self.BLOCK * self.BLOCK
            blocks = []
            for number in range(start, numbers.stop, self.BLOCK):
                # A hash, so that the noise is independent of the latents, whose seeds have the same parts.
                self._seed(number, position)
                blocks.append(draw((self.BLOCK, *size[1:])))
            values = torch.cat(blocks)[numbers.start - start :][: len(numbers)]
        return values.expand(size).contiguous() if self.same else values

    def is_large(self, size: tuple[int, ...]) -> bool:
        """Whether numbers of this size, with the samples as first dimension, are maps that are drawn a few rows at a time."""
        return len(size) == 4 and size[0] == self.total and prod(size[1:]) > self.LARGE

    def skip(self) -> int:
        """The position of the next draw, which is left out."""
        self._next += 1
        return self._next - 1

    def rows_of(
        self,
        position: int,
        function: Callable[..., Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        start: int,
        stop: int,
    ) -> Tensor:
        """Rows of the large map of the first sample that a call of one of `FACTORIES` draws: (1, channels, stop - start, width)."""
        return _Part(self, position, start, stop)._call_factory(function, FACTORIES[function], args, kwargs)

    def _rows(
        self,
        position: int,
        number: int,
        size: tuple[int, ...],
        draw: Callable[[tuple[int, ...]], Tensor],
        start: int,
        stop: int,
    ) -> Tensor:
        """Rows of the map of one sample: (1, channels, stop - start, width)."""
        _, channels, height, width = size
        step = max(1, self.LARGE // (channels * width))
        parts = []
        for top in range(start // step * step, stop, step):
            self._seed(number, position, top)
            part = draw((1, channels, min(step, height - top), width))
            parts.append(part[:, :, max(start - top, 0) : stop - top])
        return torch.cat(parts, 2)

    def _seed(self, *parts: int) -> None:
        key = " ".join(map(str, ("noise", self.seed, *parts))).encode()
        torch.default_generator.manual_seed(int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big"))


class _Part(SharedDraws):
    """Draws rows of one large map."""

    on_cpu = True

    def __init__(self, draws: NumberedDraws, position: int, start: int, stop: int) -> None:
        super().__init__(1, slice(0, 1))
        self.draws, self.position, self.start, self.stop = draws, position, start, stop

    def _draw(self, size: tuple[int, ...], draw: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        return self.draws._rows(self.position, self.draws.rows.start, size, draw, self.start, self.stop)

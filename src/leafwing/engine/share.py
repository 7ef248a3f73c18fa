"""Random tensors drawn for a whole batch while only a part of it passes the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FACTORIES: dict[Any, int] = {torch.rand: 0, torch.randn: 0, torch.randint: 2}
LIKE: dict[Any, Callable[..., Tensor]] = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
IN_PLACE = {Tensor.uniform_, Tensor.normal_, Tensor.exponential_}


class Share(TorchFunctionMode):
    """While it is active, whoever draws random numbers for a part of a batch gets that part's rows of a draw for all of it.

    So a turn that is cut into micro-batches, or spread over processes that began with the same random state, plays with the
    numbers that the whole batch would have had, and no recipe knows of it. Draws are kept in their order: `rewind` before
    each further part. Only draws whose first dimension is the part's size are cut; others are the same for every part.
    Permutations and dropout are each part's own.

    Args:
        whole: how many samples the whole batch has.
        rows: which of them pass the networks now.
    """

    def __init__(self, whole: int, rows: slice) -> None:
        super().__init__()
        self.whole, self.rows = whole, rows
        self._kept: list[Tensor] = []
        self._next = 0

    def rewind(self, rows: slice) -> None:
        """The same draws once more, for other rows."""
        self.rows, self._next = rows, 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in FACTORIES:
            return self._made(function, FACTORIES[function], args, kwargs)
        if function in LIKE:
            like = args[0]
            # Made contiguous whatever the original is: how a draw lies in memory must not depend on its batch.
            about = {"dtype": like.dtype, "device": like.device, **kwargs}
            return self._made(LIKE[function], 0, (tuple(like.shape),), about)
        if function in IN_PLACE:
            target: Tensor = args[0]
            whole = self._draw(tuple(target.shape), lambda size: function(target.new_empty(size), *args[1:], **kwargs))
            return target.copy_(whole)
        return function(*args, **kwargs)

    def _made(self, function: Callable[..., Tensor], place: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """A factory's tensor; its size is the `size` argument, or one argument or all from `place` on."""
        if "size" in kwargs:
            kwargs = dict(kwargs)
            return self._draw(tuple(kwargs.pop("size")), lambda size: function(*args, size=size, **kwargs))
        if place and not isinstance(args[place - 1], int):  # randint(high, size)
            place -= 1
        before, size = args[:place], args[place:]
        if len(size) == 1 and not isinstance(size[0], int):
            size = tuple(size[0])
        return self._draw(tuple(size), lambda size: function(*before, size, **kwargs))

    def _draw(self, size: tuple[int, ...], make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
        part = self.rows.stop - self.rows.start
        cut = bool(size) and size[0] == part
        if self._next == len(self._kept):
            self._kept.append(make((self.whole, *size[1:]) if cut else size))
        found = self._kept[self._next]
        self._next += 1
        return found[self.rows] if cut else found

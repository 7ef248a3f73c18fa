"""The training loop: which turn is next, when to read the losses, when to stop. It knows turns and nothing else.

It names no GAN family, writes no files and prints nothing: the caller iterates over `Tick`s, which come between two turns, and may
save, draw or print before requesting the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from leafwing.engine import Engine, memory, synchronise
from leafwing.errors import Diverged
from leafwing.game import Batch, Batches, Clock, Game, Turn

Shown = tuple[int, Sequence[Turn], Tensor]
"""Images shown before a unit of turns, the unit, and its losses, still on the device."""
ENDS = ("", "asked", "seconds")
"""Reasons to stop before all images are shown; several processes agree on one by its index."""


@dataclass(frozen=True)
class Tick:
    """What happened since the last tick.

    Args:
        clock: where training is.
        seconds: training time so far, over all sessions; excludes time spent between ticks.
        images_per_second: real images shown per second of training since the last tick.
        costs: mean of each loss term since the last tick, keyed by "movers/term", such as "D/gradient_penalty".
        memory: peak memory in bytes, of the device on CUDA, else of the process.
        done: why training stops here: images, seconds or asked; empty if it continues.
    """

    clock: Clock
    seconds: float
    images_per_second: float
    costs: Mapping[str, float]
    memory: int
    done: str = ""


class Training:
    """A game being trained.

    Args:
        game: the game to train.
        batches: the data.
        engine: executes the turns.
        images: number of real images to train on.
        batch: real images per turn.

    The caller may store further state for resuming in `beside`: plain types and tensors.
    """

    def __init__(self, game: Game, batches: Batches, engine: Engine, *, images: int, batch: int) -> None:
        self.game, self.batches, self.engine, self.batch = game, batches, engine, batch
        self.clock = Clock(0, images, 0)
        self.seconds = 0.0
        self.beside: dict[str, Any] = {}
        # Position in the round: current turn, how often it was already taken, first turn, images shown at the start of the round.
        self.turn, self.taken, self.first, self.began = 0, 0, -1, 0

    def state(self) -> dict[str, Any]:
        """Everything needed for resuming besides the networks, as plain types and tensors."""
        return {
            "images": self.clock.images,
            "round": self.clock.round,
            "turn": self.turn,
            "taken": self.taken,
            "first": self.first,
            "began": self.began,
            "seconds": self.seconds,
            "beside": self.beside,
            **self.engine.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.clock = Clock(state["images"], self.clock.total, state["round"])
        self.turn, self.taken, self.first, self.began = (state[key] for key in ("turn", "taken", "first", "began"))
        self.seconds, self.beside = state["seconds"], dict(state.get("beside", {}))
        self.engine.restore(state)

    def ticks(
        self, every: int, *, seconds: float = inf, watch: Callable[[Clock], bool] = lambda clock: False
    ) -> Iterator[Tick]:
        """Trains until all images have been shown, yielding a tick about every `every` images and one at the end.

        Ticks, and the end of the images, coincide with the end of a round; the time limit and `watch` can stop after any unit of
        turns. Several processes agree at the end of a round to stop at the end of the next.

        Args:
            every: images between ticks.
            seconds: time limit in seconds of training, over all sessions.
            watch: called after every turn; returning True requests a stop.

        Raises:
            Diverged: a loss or weight is NaN or infinite; the message names player, loss term and images.
        """
        device, processes = self.engine.setup.device, self.engine.processes
        costs: list[Shown] = []
        started, shown = time.perf_counter(), self.clock.images
        batch: Batch | None = None
        done, wish = "images" if self.began == self.clock.images >= self.clock.total else "", ""
        while not done:
            turn, ended = self.game.turns[self.turn], False
            if self.taken < turn.times(replace(self.clock, images=self.began)):
                batch = self._take(turn, batch, costs)
                wish = "asked" if watch(self.clock) else ""
                if time.perf_counter() - started + self.seconds >= seconds:
                    wish = "seconds"
                done = wish if processes.world == 1 else ""
            elif self.turn + 1 < len(self.game.turns):
                self.turn, self.taken = self.turn + 1, 0
            else:
                self._end_round()
                done = ENDS[processes.agree(ENDS.index(wish))] if processes.world > 1 else ""
                ended = self.clock.images // every != shown // every
                done = "images" if self.clock.images >= self.clock.total else done
            if done or ended:
                synchronise(device)
                passed = time.perf_counter() - started
                self.seconds += passed
                means = mean_costs(costs, processes.average)
                self.engine.check_weights(self.clock.images)
                yield Tick(self.clock, self.seconds, (self.clock.images - shown) / passed, means, memory(device), done)
                costs.clear()
                started, shown = time.perf_counter(), self.clock.images

    def _take(self, turn: Turn, batch: Batch | None, costs: list[Shown]) -> Batch:
        """Takes one turn, together with the turns that share its round.

        The first turn of a round draws a batch each time it is taken; later turns reuse the last one.
        """
        if self.first < 0:
            self.first = self.turn
        draws = self.turn == self.first
        if draws:
            batch = self.engine.prepare(self.batches(self.clock.images, self.batch))
        elif batch is None:  # resumed in the middle of a round
            batch = self.engine.prepare(self.batches(self.clock.images - self.batch, self.batch))
        unit = [turn]
        start = replace(self.clock, images=self.began)
        if self.taken + 1 == turn.times(start):
            following = self.game.turns[self.turn + 1 :]
            unit += takewhile(lambda other: other.same_round and other.times(start), following)
        costs.append((self.clock.images, unit, self.engine.take(unit, batch, self.clock)))
        if len(unit) > 1:
            self.turn, self.taken = self.turn + len(unit) - 1, 0
        self.taken += 1
        if draws:
            self.clock = replace(self.clock, images=self.clock.images + self.batch)
        return batch

    def _end_round(self) -> None:
        if self.clock.images == self.began:
            raise ValueError(f"no player moves in round {self.clock.round}: none of the game's turns is active")
        self.engine.average(self.clock.images - self.began)
        self.clock = replace(self.clock, round=self.clock.round + 1)
        self.turn, self.taken, self.first, self.began = 0, 0, -1, self.clock.images


def mean_costs(
    costs: list[Shown], over_processes: Callable[[list[Tensor]], None] = lambda tensors: None
) -> dict[str, float]:
    """The mean of each loss term by "movers/term", averaged over processes, with a single device-to-host copy.

    Raises:
        Diverged: a loss is NaN or infinite; the message names the first one, its player and the images shown before it.
    """
    if not costs:
        return {}
    together = torch.cat([values for _, _, values in costs])
    over_processes([together])
    numbers = iter(together.tolist())
    sums: dict[str, list[float]] = {}
    for images, unit, _ in costs:
        for turn in unit:
            for term in turn.losses:
                value = next(numbers)
                if not isfinite(value):
                    who = " and ".join(turn.movers)
                    raise Diverged(f"loss {term.name!r} of player {who} became {value} at {images:,} images")
                sums.setdefault(f"{'+'.join(turn.movers)}/{term.name}", []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}

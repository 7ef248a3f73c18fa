"""The training loop: which turn is next, when to read the losses, when to stop. It knows turns and nothing else.

It names no GAN family, writes no files and prints nothing: the caller iterates over `Tick`s, which come between two turns, and may
save, draw or print before requesting the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from leafwing.engine import Engine, peak_memory, synchronise
from leafwing.errors import Diverged, LeafwingError
from leafwing.game import Batch, BatchSource, Clock, Game, Optimiser, Turn

UnitLosses = tuple[int, Sequence[Turn], Tensor]
"""Images shown before a unit of turns, the unit, and its losses, still on the device."""
STOP_REASONS = ("", "interrupted", "time_limit")
"""Reasons to stop before all images are shown; several processes agree on one by its index."""


@dataclass(frozen=True)
class Tick:
    """What happened since the last tick.

    Args:
        clock: the progress of training.
        seconds: training time so far, over all sessions, including the time spent between ticks.
        images_per_second: real images shown per second since the last tick, without the time spent between ticks.
        losses: mean of each loss term since the last tick, keyed by "movers/term", such as "D/gradient_penalty".
        memory: peak memory in bytes, of the device on CUDA, else of the process.
        stop_reason: why training stops here: images, time_limit or interrupted; empty if it continues.
    """

    clock: Clock
    seconds: float
    images_per_second: float
    losses: Mapping[str, float]
    memory: int
    stop_reason: str = ""


@dataclass(frozen=True)
class Phase:
    """A part of training with its own batch size and optimisers.

    Args:
        images: it begins with the first round that starts at this many images or later.
        batch: real images per update.
        optimisers: by player.
    """

    images: int
    batch: int
    optimisers: Mapping[str, Optimiser]


class Training:
    """A game being trained.

    Args:
        game: the game to train.
        batches: the source of training batches.
        engine: executes the turns.
        images: number of real images to train on.
        batch: real images per update.
        planned: the number planned when training began, if it has been extended since; see `Clock`.
        phases: batch sizes and optimisers over training, the first from 0 images on; none if they stay those of the game.

    The caller may store further state for resuming in `extra`: plain types and tensors.
    """

    def __init__(
        self,
        game: Game,
        batches: BatchSource,
        engine: Engine,
        *,
        images: int,
        batch: int,
        planned: int = 0,
        phases: Sequence[Phase] = (),
    ) -> None:
        self.game, self.batches, self.engine, self.batch = game, batches, engine, batch
        self.clock = Clock(0, images, 0, planned)
        self.seconds = 0.0
        self.extra: dict[str, Any] = {}
        # Position in the round: current turn, how often it was taken, first active turn, images shown at the start of the round.
        self.turn, self.repeats, self.first_turn, self.round_start = 0, 0, -1, 0
        # A game is built with its latest options, so its optimisers are those of the last phase.
        self.phases, self.phase = phases, None if not phases else phases[-1]
        self._set_phase()

    def state(self) -> dict[str, Any]:
        """Everything needed for resuming besides the networks, as plain types and tensors."""
        # Names on disk, in resume.pt: "taken" is `repeats`; "beside" is `extra`, unrelated to `Round.beside`.
        return {
            "images": self.clock.images,
            "round": self.clock.round,
            "turn": self.turn,
            "taken": self.repeats,
            "first": self.first_turn,
            "began": self.round_start,
            "seconds": self.seconds,
            "beside": self.extra,
            **self.engine.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.clock = replace(self.clock, images=state["images"], round=state["round"])
        self.turn, self.repeats, self.first_turn, self.round_start = (
            state[key] for key in ("turn", "taken", "first", "began")
        )
        self.seconds, self.extra = state["seconds"], dict(state.get("beside", {}))
        self._set_phase()
        self.engine.restore(state)

    def move_to(self, progress: float) -> None:
        """Goes on with a first round at this share of training, 0 to 1, without what comes before it: only to measure its speed."""
        images = int(progress * self.clock.total)
        self.clock = replace(self.clock, images=images, round=0)
        self.turn, self.repeats, self.first_turn, self.round_start = 0, 0, -1, images
        self._set_phase()

    def ticks(
        self,
        every: int | Callable[[], int],
        *,
        seconds: float = inf,
        first: float = inf,
        should_stop: Callable[[Clock], bool] = lambda clock: False,
    ) -> Iterator[Tick]:
        """Trains until all images have been shown, yielding a tick about every `every` images and one at the end.

        Ticks, and the end of the images, coincide with the end of a round; the time limit and `should_stop` can stop after any
        unit of turns. Several processes agree at the end of a round to stop at the end of the next.

        Args:
            every: images between ticks; a function if that may change.
            seconds: time limit in seconds of training, over all sessions, which includes the time spent between ticks.
            first: seconds of training after which there is a tick, if there was none in this call; not with several processes.
            should_stop: called after every unit of turns; True requests a stop.

        Raises:
            Diverged: a loss or weight is NaN or infinite; the message names player, loss term and images.
        """
        device, processes = self.engine.setup.device, self.engine.processes
        losses: list[UnitLosses] = []
        start_time, start_images = time.perf_counter(), self.clock.images
        batch: Batch | None = None
        interval = every if callable(every) else lambda: every
        is_first = processes.world_size == 1
        reason, request = "images" if self.round_start == self.clock.images >= self.clock.total else "", ""
        while not reason:
            turn, at_tick = self.game.turns[self.turn], False
            if self.repeats < turn.times(replace(self.clock, images=self.round_start)):
                batch = self._take(turn, batch, losses)
                request = "interrupted" if should_stop(self.clock) else ""
                if time.perf_counter() - start_time + self.seconds >= seconds:
                    request = "time_limit"
                reason = request if processes.world_size == 1 else ""
            elif self.turn + 1 < len(self.game.turns):
                self.turn, self.repeats = self.turn + 1, 0
            else:
                self._end_round()
                reason = STOP_REASONS[processes.agree(STOP_REASONS.index(request))] if processes.world_size > 1 else ""
                at_tick = self.clock.images // interval() != start_images // interval()
                at_tick |= is_first and time.perf_counter() - start_time + self.seconds >= first
                reason = "images" if self.clock.images >= self.clock.total else reason
            if reason or at_tick:
                synchronise(device)
                elapsed = time.perf_counter() - start_time
                self.seconds += elapsed
                means = mean_losses(losses, processes.all_reduce_mean)
                self.engine.complete_averages()
                self.engine.check_weights(self.clock.images)
                speed = (self.clock.images - start_images) / elapsed
                paused = time.perf_counter()
                yield Tick(self.clock, self.seconds, speed, means, peak_memory(device), reason)
                losses.clear()
                is_first = False
                start_time, start_images = time.perf_counter(), self.clock.images
                self.seconds += start_time - paused

    def _take(self, turn: Turn, batch: Batch | None, losses: list[UnitLosses]) -> Batch:
        """Takes one turn, together with the turns that share its round.

        The first turn of a round draws a batch each time it is taken; later turns reuse the last one.
        """
        if self.first_turn < 0:
            self.first_turn = self.turn
            self._set_phase()
        draws = self.turn == self.first_turn
        if draws:
            batch = self.engine.prepare(self.batches(self.clock.images, self.batch))
        elif batch is None:  # resumed in the middle of a round
            batch = self.engine.prepare(self.batches(self.clock.images - self.batch, self.batch))
        start = replace(self.clock, images=self.round_start)
        is_last = self.repeats + 1 == turn.times(start)
        unit = self.game.unit(self.turn, start) if is_last else [turn]
        losses.append((self.clock.images, unit, self.engine.take(unit, batch, self.clock)))
        if len(unit) > 1:
            self.turn, self.repeats = self.turn + len(unit) - 1, 0
        self.repeats += 1
        if draws:
            self.clock = replace(self.clock, images=self.clock.images + self.batch)
        return batch

    def _set_phase(self) -> None:
        """Sets the batch size and the optimisers of the current round."""
        phase = next((phase for phase in reversed(self.phases) if phase.images <= self.round_start), None)
        if phase is not None and phase is not self.phase:
            self.phase, self.batch = phase, phase.batch
            self.engine.set_optimisers(phase.optimisers)

    def _end_round(self) -> None:
        if self.clock.images == self.round_start:
            raise LeafwingError(
                f"no player moves in round {self.clock.round}, after {self.clock.images:,} images: none of the game's turns is "
                "active. If a run is to be extended, `during` of its last turns must end at inf, not at 1"
            )
        self.engine.update_ema(self.clock.images - self.round_start, self.clock.images)
        self.clock = replace(self.clock, round=self.clock.round + 1)
        self.turn, self.repeats, self.first_turn, self.round_start = 0, 0, -1, self.clock.images


def mean_losses(
    losses: list[UnitLosses], average: Callable[[list[Tensor]], None] = lambda tensors: None
) -> dict[str, float]:
    """The mean of each loss term by "movers/term", averaged over processes, with a single device-to-host copy.

    Raises:
        Diverged: a loss is NaN or infinite; the message names the first one, its player and the images shown before it.
    """
    if not losses:
        return {}
    joined = torch.cat([values for _, _, values in losses])
    average([joined])
    numbers = iter(joined.tolist())
    by_name: dict[str, list[float]] = {}
    for images, unit, _ in losses:
        for turn in unit:
            for term in turn.losses:
                value = next(numbers)
                if not isfinite(value):
                    movers = f"player{'s' * (len(turn.movers) > 1)} {' and '.join(turn.movers)}"
                    raise Diverged(f"loss {term.name!r} of {movers} became {value} at {images:,} images")
                by_name.setdefault(f"{'+'.join(turn.movers)}/{term.name}", []).append(value)
    return {name: sum(values) / len(values) for name, values in by_name.items()}

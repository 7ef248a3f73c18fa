"""Turns taken on a device: play, let the movers pay, step. Whole, in micro-batches, in several processes, or replayed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from leafwing.engine.batch_norm import synchronise_batch_norm
from leafwing.engine.capture import Graphs, HeldBatches, HeldClock, Recorder, Work
from leafwing.engine.double_backward import DoubleBackward
from leafwing.engine.processes import Processes
from leafwing.engine.products import Products
from leafwing.engine.setup import Setup, keep_freed_memory
from leafwing.engine.share import Share
from leafwing.errors import Diverged
from leafwing.game import Adam, Batch, Clock, Game, Nets, Optimiser, RMSprop, Round, Turn, at

WARM = 3  # so often a unit is taken for real before it is recorded: what is set up at first use must be set up


@dataclass
class Stage:
    """A part of a unit of turns.

    Args:
        work: does it.
        recordable: whether all that changes from round to round lies in tensors that stay where they are.
    """

    work: Work
    recordable: bool


@dataclass
class Recording:
    """A unit of turns that was recorded: what to do, and where each turn's costs appear."""

    works: list[Work]
    costs: dict[int, Tensor]


class Engine:
    """A game on a device: takes turns, averages, and holds the optimisers.

    Args:
        game: what is played; its networks are moved to the device.
        setup: where and how.
        say: is told, once each, what could not be done as wished.
        recorder: how turns are recorded; None for the device's own way, where `setup` asks for it.
        processes: who else trains this game, each with its share of every batch; None for nobody.
    """

    def __init__(
        self,
        game: Game,
        setup: Setup,
        *,
        say: Callable[[str], None] = lambda text: None,
        recorder: Recorder | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.game, self.setup, self.say = game, setup, say
        self.processes = processes or Processes()
        self.device = torch.device(self.processes.device(setup.device))
        torch.set_num_threads(setup.threads)
        if setup.keep_freed:
            keep_freed_memory()
        layout = torch.channels_last if setup.layout == "channels_last" else torch.contiguous_format
        for module in game.modules().values():
            module.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        for player in game.players.values():
            player.net.train()
            synchronise_batch_norm(player.net, self.processes)
        # A parameter that the recipe froze stays frozen.
        self.weights = {
            name: [p for p in player.net.parameters() if p.requires_grad] for name, player in game.players.items()
        }
        self.optimisers = {
            name: optimiser(player.optimiser, self.weights[name], self.device, fused=setup.fused, capture=setup.capture)
            for name, player in game.players.items()
            if player.optimiser is not None
        }
        self.convolves = any(
            isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for net in game.modules().values() for module in net.modules()
        )
        self.rate = 1.0
        self.micro_batch = setup.micro_batch
        self.recorder = recorder or (Graphs(self.device) if setup.capture else None)
        self.compiled = self._compile() if setup.compile else None
        self._unfrozen: frozenset[str] | None = None
        self._seen: dict[Hashable, int | Recording] = {}
        self._clock, self._batches = HeldClock(self.device), HeldBatches()

    # --- a unit of turns -----------------------------------------------------------------------------------------------

    def prepare(self, batch: Batch) -> Batch:
        """The batch on the device; uint8 pictures become floats in [-1, 1]."""
        moved = Batch({name: self._sent(value) for name, value in batch.items()})
        for name, value in moved.items():
            if value.dtype == torch.uint8:
                moved[name] = value.to(torch.get_default_dtype()).div_(127.5).sub_(1)
            if value.dim() == 4 and self.setup.layout == "contiguous":
                moved[name] = moved[name].contiguous()
        return moved if self.recorder is None else self._batches.put(moved)

    def _sent(self, value: Tensor) -> Tensor:
        """A tensor on the device, without waiting. Pageable memory may be read after the call returns, so it is pinned first."""
        if self.device.type == "cuda" and value.device.type == "cpu" and not value.is_pinned():
            value = value.pin_memory()
        return value.to(self.device, non_blocking=True)

    def take(self, turns: Sequence[Turn], batch: Batch, clock: Clock) -> Tensor:
        """Take a turn, or a turn and those that go on with its round. Waits for nothing.

        Args:
            turns: the unit: all but the first have `same_round`.
            batch: from `prepare`.
            clock: where training is.

        Returns:
            The costs, detached, in the order of the turns and of what each pays: (terms,).
        """
        costs: dict[int, Tensor] = {}
        if self.recorder is None:
            for stage in self._stages(turns, batch, clock, costs):
                stage.work()
            return torch.cat(list(costs.values()))
        key = (*map(id, turns), self.game.shape(clock), *(value.shape for value in batch.values()))
        seen = self._seen.get(key, 0)
        self._clock.set(clock)
        for turn in turns:
            self._schedule(turn, clock)
        if isinstance(seen, int) and seen >= WARM:
            seen = self._record(key, turns, batch, clock)
        if isinstance(seen, Recording):
            for work in seen.works:
                work()
            return torch.cat(list(seen.costs.values()))
        for stage in self._stages(turns, batch, self._clock if self.recorder else clock, costs):
            self.recorder.warm(stage.work) if self.recorder and stage.recordable else stage.work()
        self._seen[key] = seen + 1
        return torch.cat(list(costs.values()))

    def _record(self, key: Hashable, turns: Sequence[Turn], batch: Batch, clock: Clock) -> int | Recording:
        """A recording of the unit; where the device cannot, this is said once and nothing is recorded any more."""
        assert self.recorder is not None
        costs: dict[int, Tensor] = {}
        random = self.random()
        try:
            self._clock.set(clock, recording=True)
            works: list[Work] = []
            for stage in self._stages(turns, batch, self._clock, costs):
                if stage.recordable:
                    works.append(self.recorder.record(stage.work))
                else:
                    works += [self._with_gradients(), stage.work] if self.recorder.fixed else [stage.work]
            self._seen[key] = found = Recording(works, costs)
            return found
        except (RuntimeError, ValueError) as error:
            self.say(f"turns cannot be captured, training continues without: {str(error).splitlines()[0]}")
            self.recorder = None
            self.set_random(random)
            return 0

    def _with_gradients(self) -> Work:
        """Puts the gradients of this recording back, where another one of the same player may have put its own."""
        gradients = [(weight, weight.grad) for weights in self.weights.values() for weight in weights]

        def put_back() -> None:
            for weight, gradient in gradients:
                weight.grad = gradient

        return put_back

    def _stages(self, turns: Sequence[Turn], batch: Batch, clock: Clock, costs: dict[int, Tensor]) -> Iterator[Stage]:
        """What a unit consists of: for each turn the costs with their gradients, then the step.

        What several processes exchange is not recorded: batch normalisation does so in the midst of a pass.
        """
        unit = Unit(self, turns, batch, clock)
        for number, turn in enumerate(turns):

            def pay(number: int = number) -> None:
                costs[number] = unit.pay(number)

            yield Stage(pay, recordable=self.processes.world == 1)
            inside = self.processes.world == 1 and not any(
                outside(self.game.players[name].optimiser) for name in turn.movers
            )

            def step(turn: Turn = turn) -> None:
                self._step(turn, clock)

            yield Stage(step, recordable=inside)

    def _step(self, turn: Turn, clock: Clock) -> None:
        self.processes.average(weight.grad for name in turn.movers for weight in self.weights[name])
        if self.recorder is None:
            self._schedule(turn, clock)
        for name in turn.movers:
            self.optimisers[name].step()
        with torch.no_grad():
            for after in turn.after:
                after(self.game.nets)

    def nets(self, turns: Sequence[Turn]) -> Nets:
        """The networks as these turns see them: compiled ones cannot be differentiated twice."""
        return self.game.nets if self.compiled is None or any(map(watched, turns)) else self.compiled

    def _compile(self) -> Nets:
        return Nets(**{name: torch.compile(player.net) for name, player in self.game.players.items()})

    def let_move(self, movers: frozenset[str]) -> None:
        """Exactly the movers get gradients: that is why no recipe writes detach() or no_grad()."""
        if movers == self._unfrozen:
            return
        for name, weights in self.weights.items():
            for weight in weights:
                weight.requires_grad_(name in movers)
        self._unfrozen = movers

    def _schedule(self, turn: Turn, clock: Clock) -> None:
        for name in turn.movers:
            spec = self.game.players[name].optimiser
            for group in self.optimisers[name].param_groups:
                for key in ("lr", "momentum"):
                    if callable(schedule := getattr(spec, key, None)):
                        value = schedule(clock) * (self.rate if key == "lr" else 1.0)
                        if isinstance(group[key], Tensor):
                            group[key].fill_(value)
                        else:
                            group[key] = value
                if isinstance(spec, Adam) and callable(spec.betas[1]):
                    group["betas"] = (spec.betas[0], spec.betas[1](clock))

    def slow_down(self, rate: float) -> None:
        """Every learning rate is from now on its recipe's times this number, which `state` keeps."""
        self.rate = rate
        for name, own in self.optimisers.items():
            spec = self.game.players[name].optimiser
            assert spec is not None
            if not callable(spec.lr):
                for group in own.param_groups:
                    group["lr"] = spec.lr * rate
        self._seen.clear()  # recordings hold the rates, and the optimisers' tensors, of their time

    # --- averages, checks, state ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def average(self, images: int) -> None:
        """Draw each averaged copy towards its network, as much as so many images are worth by its half-life."""
        for player in self.game.players.values():
            if player.average is None:
                continue
            towards = 1 - 0.5 ** (images / player.ema)
            copies: list[Tensor] = list(player.average.parameters())
            sources: list[Tensor] = list(player.net.parameters())
            for copied, source in zip(player.average.buffers(), player.net.buffers(), strict=True):
                if source.is_floating_point():
                    copies.append(copied)
                    sources.append(source)
                else:
                    copied.copy_(source)
            torch._foreach_lerp_(copies, sources, towards)

    def check_weights(self, images: int) -> None:
        """Raises Diverged, naming the player, when a weight is not a finite number."""
        for name, player in self.game.players.items():
            values = [t for t in (*player.net.parameters(), *player.net.buffers()) if t.is_floating_point()]
            # A sum is not finite if one of its numbers is not, and is ten times as fast as the largest of them on a CPU.
            if values and not torch.stack([value.sum() for value in values]).isfinite().all():
                state = player.net.state_dict()
                culprit = next((key for key, t in state.items() if not t.isfinite().all()), None)
                if culprit is None:  # the numbers are finite, and too large to be added up
                    continue
                raise Diverged(f"weight {culprit!r} of player {name} is NaN or infinite at {images:,} images")

    def state(self) -> dict[str, Any]:
        """Optimisers and random state, plain types and tensors only."""
        optimisers = {name: own.state_dict() for name, own in self.optimisers.items()}
        return {"optimisers": optimisers, "random": self.random(), "rate": self.rate}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, saved in state["optimisers"].items():
            own = self.optimisers[name]
            # How the optimiser works is this machine's choice, not the saved one's; what is scheduled is set before each step.
            ways = [
                {key: group[key] for key in ("fused", "foreach", "capturable") if key in group}
                | ({"lr": group["lr"]} if isinstance(group["lr"], Tensor) else {})
                for group in own.param_groups
            ]
            groups = [{**group, **way} for group, way in zip(saved["param_groups"], ways, strict=True)]
            own.load_state_dict({**saved, "param_groups": groups})
        self.slow_down(state.get("rate", 1.0))
        self.set_random(state["random"])

    def random(self) -> dict[str, Tensor]:
        """The state of the generators that a turn may draw from."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            random["mps"] = torch.mps.get_rng_state()
        return random

    def set_random(self, random: Mapping[str, Tensor]) -> None:
        """Go on drawing from such a state; a device that it does not know keeps its own."""
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)
        elif self.device.type == "mps" and "mps" in random:
            torch.mps.set_rng_state(random["mps"])


class Unit:
    """Turns over one batch that are taken together: the first plays a round, the others judge it anew.

    Args:
        engine: whose game it is.
        turns: all but the first have `same_round`.
        batch: what is real.
        clock: where training is.
    """

    def __init__(self, engine: Engine, turns: Sequence[Turn], batch: Batch, clock: Clock) -> None:
        self.engine, self.turns, self.batch, self.clock = engine, turns, batch, clock
        self.bf16 = engine.setup.precision == "bf16"
        self.round: Round | None = None
        self.random = engine.random()
        self._deal()

    def _deal(self) -> None:
        """Cut the batch into parts; whoever sees but a part of it draws random numbers for the whole."""
        n, size = self.batch.n, self.engine.micro_batch or self.batch.n
        self.parts = [slice(start, min(n, start + size)) for start in range(0, n, size)]
        self.round = None
        processes = self.engine.processes
        self.before = n * processes.rank  # so many rows of the whole batch are those of other processes
        cut = len(self.parts) > 1 or processes.world > 1
        self.shares = [Share(n * processes.world, self.parts[0]) if cut else None for _ in range(len(self.turns) + 1)]

    def pay(self, number: int) -> Tensor:
        """The costs of one of the turns, detached, with the gradients of its movers in place: (terms,)."""
        engine, turn = self.engine, self.turns[number]
        while True:
            for name in turn.movers:
                engine.optimisers[name].zero_grad(set_to_none=True)
            try:
                costs = [self._part(number, rows) for rows in self.parts]
                return costs[0] if len(costs) == 1 else torch.stack(costs).sum(0)
            except Exception as error:
                self._give_way(error)

    def _part(self, number: int, rows: slice) -> Tensor:
        """The costs of one turn on a part of the batch, weighed by its share; gradients are added up."""
        engine, turn = self.engine, self.turns[number]
        weight = (rows.stop - rows.start) / self.batch.n
        if number == 0 or len(self.parts) > 1 or self.round is None:
            self.round = self._play(number, rows)
        r, last = self.round, number == len(self.turns) - 1
        if len(self.turns) > 1:
            r = r.again(r.real, r.fake if last else r.fake.detach())
        engine.let_move(frozenset(turn.movers))
        if watched(turn):
            r = r.again(
                r.real.detach().requires_grad_(), r.fake if r.fake.requires_grad else r.fake.detach().requires_grad_()
            )
        with self._convolving(watched(turn)):
            with self._drawing(number + 1, rows), self._precision(self.bf16 and not watched(turn)):
                costs = [term.loss(r) for term in turn.losses]
            stacked = torch.stack(costs) if weight == 1 else torch.stack(costs) * weight
            stacked.sum().backward(inputs=[p for name in turn.movers for p in engine.weights[name]])
        return stacked.detach()

    def _play(self, number: int, rows: slice) -> Round:
        """The round of a part of the batch. Who moves later in the unit is played with a way back to it."""
        later = self.turns[number:] if len(self.parts) == 1 else self.turns[number : number + 1]
        self.engine.let_move(frozenset(name for turn in later for name in turn.movers))
        batch = self.batch
        if len(self.parts) > 1:
            batch = Batch({name: value[rows] for name, value in batch.items()})
        twice = any(map(watched, self.turns))
        with self._drawing(0, rows), self._precision(self.bf16 and not twice), self._convolving(twice):
            return self.turns[0].play(self.engine.nets(self.turns), batch, self.clock)

    def _drawing(self, which: int, rows: slice) -> Share | nullcontext[None]:
        """Random tensors are drawn for the whole batch, and these rows of them used: for the play (0), or for a turn's costs."""
        share = self.shares[which]
        if share is None:
            return nullcontext()
        share.rewind(slice(self.before + rows.start, self.before + rows.stop))
        return share

    def _precision(self, bf16: bool) -> torch.autocast:
        return torch.autocast(self.engine.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)

    def _convolving(self, twice: bool) -> DoubleBackward | Products | nullcontext[None]:
        """How convolutions are computed: such that they are cheap to differentiate twice, where that is done, or as products."""
        engine = self.engine
        if not engine.convolves:
            return nullcontext()
        if twice:
            return DoubleBackward()
        return Products() if engine.setup.products and self.bf16 and engine.compiled is None else nullcontext()

    def _give_way(self, error: Exception) -> None:
        """Go on with less: uncompiled, or with smaller parts, from the same random numbers. Raises what neither helps against.

        Running statistics of batch normalisation have then seen a part of the batch twice. In several processes nobody gives way.
        """
        engine, largest = self.engine, max(rows.stop - rows.start for rows in self.parts)
        if engine.processes.world > 1:  # one that gave way alone would ask for other exchanges than the others
            raise error
        if engine.compiled is not None and not out_of_memory(error):
            engine.compiled = None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            engine.say(f"the networks cannot be compiled, training continues without: {reason[0]}")
        elif out_of_memory(error) and largest > 1:
            engine.micro_batch = -(-largest // 2)
            engine.say(
                f"out of memory: continuing with micro-batches of {engine.micro_batch} images (gradient accumulation); "
                f"the batch size is still {self.batch.n}. Use --micro-batch {engine.micro_batch} to start like this"
            )
        else:
            raise error
        engine.set_random(self.random)
        self._deal()


def watched(turn: Turn) -> bool:
    """Whether a turn differentiates twice."""
    return any(term.input_gradient for term in turn.losses)


def out_of_memory(error: Exception) -> bool:
    """Whether a device or the machine had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def outside(spec: Optimiser | None) -> bool:
    """Whether a player's step takes numbers that change with the clock and cannot be tensors."""
    if isinstance(spec, Adam):
        return callable(spec.betas[1])
    return any(callable(getattr(spec, key, None)) for key in ("lr", "momentum"))


def optimiser(
    spec: Optimiser, weights: list[nn.Parameter], device: torch.device, *, fused: bool = True, capture: bool = False
) -> torch.optim.Optimizer:
    """The torch optimiser that a player asks for.

    Args:
        spec: which, with what rates.
        weights: what it moves.
        device: where they are.
        fused: one kernel for all weights, or the plainest implementation.
        capture: its step can be recorded.
    """
    start = Clock()
    lr: Any = at(spec.lr, start)
    if isinstance(spec, Adam):
        if capture and callable(spec.lr):
            lr = torch.full((), lr, device=device, dtype=torch.float32)  # whatever the weights are: fused steps want it so
        betas = (spec.betas[0], at(spec.betas[1], start))
        way: dict[str, Any] = {"fused": True} if fused else {"foreach": False}
        return torch.optim.Adam(weights, lr, betas, spec.eps, capturable=capture, **way)
    if isinstance(spec, RMSprop):
        return torch.optim.RMSprop(weights, lr, spec.alpha, spec.eps, foreach=fused, capturable=capture)
    way = {"fused": True} if fused else {"foreach": False}
    return torch.optim.SGD(weights, lr, at(spec.momentum, start), **way)

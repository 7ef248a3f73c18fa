"""Executes turns on a device: whole, in micro-batches, in several processes, or replayed after capture."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from leafwing.engine.augmentation import Augmentation
from leafwing.engine.batch_norm import synchronise_batch_norm
from leafwing.engine.capture import CaptureBackend, CapturedClock, CudaGraphs, StaticBatches, Work
from leafwing.engine.double_backward import DoubleBackward
from leafwing.engine.losses import differentiates_twice, losses_of
from leafwing.engine.processes import Processes
from leafwing.engine.products import Products
from leafwing.engine.setup import REQUESTED, Setup, keep_freed_memory
from leafwing.engine.share import SharedDraws
from leafwing.errors import Diverged, LeafwingError
from leafwing.game import EMA_SHARE, Batch, Clock, Game, Nets, Optimiser, Round, Turn
from leafwing.pixels import set_layout

POWER_ITERATIONS = 2
"""Power iterations for the largest singular values of averaged weights, from those of the network, which are close."""
ONE_IMAGE = (
    "the networks of this recipe need at least 2 images at a time, as they normalise by the variance of a batch: choose a --batch "
    "of at least 2, and no --micro-batch or one of at least 2 that leaves no rest of a single image"
)
WARM_UPS = 3  # executions of a unit before it is captured, so that everything allocated at first use exists


@dataclass
class Phase:
    """A part of a unit of turns: the backward pass of one turn, or its step.

    Args:
        work: executes it.
        capturable: whether all data that changes from round to round is in tensors with fixed addresses.
    """

    work: Work
    capturable: bool


@dataclass
class CapturedUnit:
    """A captured unit of turns.

    Args:
        callables: called in order to replay it.
        losses: the tensors that receive each turn's losses.
    """

    callables: list[Work]
    losses: dict[int, Tensor]


class Engine:
    """Executes the turns of a game on a device, and owns its optimisers.

    Args:
        game: its networks are moved to the device.
        setup: device, precision and the other execution settings.
        notify: called with a message whenever a setting has to be changed.
        capture_backend: captures turns; None for CUDA graphs if `setup.capture`, else no capture. Several processes capture nothing.
        processes: the processes that train this game together; None for a single process.
        augmentation: changes images before judges see them; None: judges see them as they are.
    """

    def __init__(
        self,
        game: Game,
        setup: Setup,
        *,
        notify: Callable[[str], None] = lambda text: None,
        capture_backend: CaptureBackend | None = None,
        processes: Processes | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.game, self.setup, self.notify = game, setup, notify
        self.processes = processes or Processes()
        self.device = torch.device(self.processes.device(setup.device))
        self.augmentation = None if augmentation is None else augmentation.to(self.device)
        torch.set_num_threads(setup.threads)
        if setup.keep_freed:
            keep_freed_memory()
        layout = torch.channels_last if setup.layout == "channels_last" else torch.contiguous_format
        for player in game.players.values():
            player.net.train(player.optimiser is not None)  # a frozen network must not update its statistics
        for module in game.modules().values():
            set_layout(module.to(self.device), layout)
            synchronise_batch_norm(module, self.processes)
        for term in (term for turn in game.turns for term in turn.losses):
            if prepare := getattr(term.loss, "prepare", None):
                prepare(self.device)
        # A parameter that the recipe froze stays frozen.
        self.weights = {
            name: [p for p in player.net.parameters() if p.requires_grad] for name, player in game.players.items()
        }
        # Communication between processes cannot be captured, and batch normalisation communicates within a pass.
        is_alone = self.processes.world_size == 1
        capture = setup.capture and is_alone
        if setup.capture and not capture and setup.why.get("capture") == REQUESTED:
            notify("turns are not captured, because several processes train this game")
        self.optimisers = {
            name: player.optimiser.build(self.weights[name], self.device, fused=setup.fused, capture=capture)
            for name, player in game.players.items()
            if player.optimiser is not None
        }
        self.has_convolutions = any(
            isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for net in game.modules().values() for module in net.modules()
        )
        # By player: images shown at the beginning of the round in which it moved first.
        self.first_moves: dict[str, int] = {}
        self.lr_scale = 1.0
        self.micro_batch = setup.micro_batch
        self.capture_backend = capture_backend or (CudaGraphs(self.device) if capture else None) if is_alone else None
        self.compiled = self._compile() if setup.compile else None
        self._trainable: frozenset[str] | None = None
        self._stage = ""  # as text, which a checkpoint can hold
        # By turns and shapes of a unit: the captured unit, or how often it was executed before capture.
        self._captured: dict[Hashable, int | CapturedUnit] = {}
        self._clock, self._batches = CapturedClock(self.device), StaticBatches()

    # --- a unit of turns -----------------------------------------------------------------------------------------------

    def prepare(self, batch: Batch) -> Batch:
        """The batch on the device, in the layout of the networks."""
        moved = Batch({name: self._to_device(value) for name, value in batch.items()})
        if self.setup.layout == "contiguous":
            moved = Batch({name: value.contiguous() for name, value in moved.items()})
        return moved if self.capture_backend is None else self._batches.put(moved)

    def parts(self, n: int) -> list[slice]:
        """The micro-batches of a batch of n images.

        A rest of one image gets a second one from the part before, because batch normalisation may have no statistics of one.
        """
        size = self.micro_batch or n
        ends = [*range(size, n, size), n]
        if size > 2 and n > size and n % size == 1:
            ends[-2] -= 1
        return [slice(start, end) for start, end in pairwise([0, *ends])]

    def _to_device(self, value: Tensor) -> Tensor:
        """Copies without synchronising. The copy may read host memory after this returns, so that is pinned first."""
        if self.device.type == "cuda" and value.device.type == "cpu" and not value.is_pinned():
            value = value.pin_memory()
        return value.to(self.device, non_blocking=True)

    def take(self, turns: Sequence[Turn], batch: Batch, clock: Clock) -> Tensor:
        """Takes a turn together with the turns that share its round. Does not synchronise with the device.

        Args:
            turns: the unit: all but the first have `same_round`.
            batch: from `prepare`.
            clock: the progress of training.

        Returns:
            The losses, detached, in the order of the turns and their terms: (terms,).
        """
        losses: dict[int, Tensor] = {}
        clock = self._at_stage(clock)
        for name in (name for turn in turns for name in turn.movers):
            self.first_moves.setdefault(name, clock.images)  # until `update_ema`, which knows when the round began
        if self.augmentation is not None:
            self.augmentation.set_clock(clock)
        if self.capture_backend is None:
            for phase in self._phases(turns, batch, clock, losses):
                phase.work()
            return torch.cat(list(losses.values()))
        key = (*map(id, turns), clock.stage, *(value.shape for value in batch.values()))
        entry = self._captured.get(key, 0)
        self._clock.set(clock)
        for turn in turns:
            self._schedule(turn, clock)
        if isinstance(entry, int) and entry >= WARM_UPS:
            entry = self._capture(key, turns, batch, clock)
        if isinstance(entry, CapturedUnit):
            for run in entry.callables:
                run()
            return torch.cat(list(entry.losses.values()))
        for phase in self._phases(turns, batch, self._clock if self.capture_backend else clock, losses):
            self.capture_backend.warm_up(phase.work) if self.capture_backend and phase.capturable else phase.work()
        self._captured[key] = entry + 1
        return torch.cat(list(losses.values()))

    def _at_stage(self, clock: Clock) -> Clock:
        """The clock with the stage of training. When the stage changes, the optimisers of players that `resets` start again."""
        clock = self.game.at_stage(clock)
        if self._stage not in ("", repr(clock.stage)):
            for name, player in self.game.players.items():
                if player.resets and name in self.optimisers:
                    self.optimisers[name].state.clear()
                    self._captured.clear()  # captured steps contain the old moments
        self._stage = repr(clock.stage)
        return clock

    def _capture(self, key: Hashable, turns: Sequence[Turn], batch: Batch, clock: Clock) -> int | CapturedUnit:
        """Captures the unit. If that fails, notifies, switches capture off and returns 0."""
        assert self.capture_backend is not None
        losses: dict[int, Tensor] = {}
        rng_state = self.rng_state()
        try:
            self._clock.set(clock, capturing=True)
            callables: list[Work] = []
            for phase in self._phases(turns, batch, self._clock, losses):
                if phase.capturable:
                    callables.append(self.capture_backend.capture(phase.work))
                else:
                    callables += (
                        [self._restore_gradients(), phase.work] if self.capture_backend.static_outputs else [phase.work]
                    )
            self._captured[key] = captured = CapturedUnit(callables, losses)
            return captured
        except (RuntimeError, ValueError) as error:
            self.notify(f"turns cannot be captured, training continues without capture: {str(error).splitlines()[0]}")
            self.capture_backend = None
            self.set_rng_state(rng_state)
            return 0

    def _restore_gradients(self) -> Work:
        """Work that sets each `grad` to the tensor that this captured unit writes; another one may have replaced it."""
        gradients = [(weight, weight.grad) for weights in self.weights.values() for weight in weights]

        def restore() -> None:
            for weight, gradient in gradients:
                weight.grad = gradient

        return restore

    def _phases(self, turns: Sequence[Turn], batch: Batch, clock: Clock, losses: dict[int, Tensor]) -> Iterator[Phase]:
        """The phases of a unit: for each turn the backward pass, which stores its losses, then the step."""
        unit = Unit(self, turns, batch, clock)
        for number, turn in enumerate(turns):

            def backward(number: int = number) -> None:
                losses[number] = unit.backward(number)

            yield Phase(backward, capturable=True)
            optimisers = (self.game.players[name].optimiser for name in turn.movers)
            capturable = not any(spec and spec.on_host for spec in optimisers)

            def step(turn: Turn = turn) -> None:
                self._step(turn, clock)

            yield Phase(step, capturable=capturable)

    def _step(self, turn: Turn, clock: Clock) -> None:
        self.processes.all_reduce_mean(weight.grad for name in turn.movers for weight in self.weights[name])
        if self.capture_backend is None:
            self._schedule(turn, clock)
        for name in turn.movers:
            self.optimisers[name].step()
        with torch.no_grad():
            for after in turn.after:
                after(self.game.nets)

    def nets(self, turns: Sequence[Turn]) -> Nets:
        """The networks for these turns: compiled ones unless a turn differentiates twice, which they do not support."""
        return self.game.nets if self.compiled is None or any(map(differentiates_twice, turns)) else self.compiled

    def _compile(self) -> Nets:
        return Nets(**{name: torch.compile(player.net) for name, player in self.game.players.items()})

    def set_trainable(self, players: frozenset[str]) -> None:
        """Sets `requires_grad` of exactly these players' weights, so that no recipe needs detach() or no_grad()."""
        if players == self._trainable:
            return
        for name, weights in self.weights.items():
            for weight in weights:
                weight.requires_grad_(name in players)
        self._trainable = players

    def _schedule(self, turn: Turn, clock: Clock) -> None:
        for name in turn.movers:
            spec = self.game.players[name].optimiser
            assert spec is not None
            for key, value in spec.scheduled(clock).items():
                value = value * self.lr_scale if key == "lr" else value
                for group in self.optimisers[name].param_groups:
                    if isinstance(group[key], Tensor):
                        group[key].fill_(value)
                    else:
                        group[key] = value

    def scale_learning_rates(self, factor: float) -> None:
        """Sets every learning rate to `factor` times the recipe's, from now on; `state` includes the factor."""
        self.lr_scale = factor
        for name, optimiser in self.optimisers.items():
            spec = self.game.players[name].optimiser
            assert spec is not None
            if not callable(spec.lr):
                for group in optimiser.param_groups:
                    group["lr"] = spec.lr * factor
        self._captured.clear()  # captured units contain the old rates and the optimisers' old tensors

    def set_optimisers(self, optimisers: Mapping[str, Optimiser]) -> None:
        """Gives players optimisers that differ from theirs in the learning rate only: the moments stay."""
        for name, optimiser in optimisers.items():
            self.game.players[name].optimiser = optimiser
        self.scale_learning_rates(self.lr_scale)

    # --- averages, checks, state ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def update_ema(self, images: int, shown: int) -> None:
        """Updates the moving average of each player's weights after a round; see `Player.ema`. Until it moves, it is a copy.

        Args:
            images: number of images of the round.
            shown: images shown so far.
        """
        before = shown - images
        self.first_moves = {name: min(first, before) for name, first in self.first_moves.items()}
        for name, player in self.game.players.items():
            if player.ema_net is None:
                continue
            first = self.first_moves.get(name)
            half_life = 0.0 if first is None else min(player.ema, EMA_SHARE * (shown - first))
            average_into(player.ema_net, player.net, 1 - 0.5 ** (images / half_life) if half_life else 1.0)

    @torch.no_grad()
    def complete_averages(self) -> None:
        """Computes what is no average of its own in the moving averages, before they are used or saved."""
        for player in self.game.players.values():
            if player.ema_net is not None:
                normalise_spectra(player.ema_net, player.net)

    def check_weights(self, images: int) -> None:
        """Checks that all weights and buffers are finite.

        Raises:
            Diverged: a value is NaN or infinite; the message names the player and the weight.
        """
        for name, player in self.game.players.items():
            values = [t for t in (*player.net.parameters(), *player.net.buffers()) if t.is_floating_point()]
            # The sum of a tensor with a non-finite value is not finite, and on a CPU ten times as fast as the maximum.
            if values and not torch.stack([value.sum() for value in values]).isfinite().all():
                state = player.net.state_dict()
                culprit = next((key for key, t in state.items() if not t.isfinite().all()), None)
                if culprit is None:  # only the sum overflows
                    continue
                raise Diverged(f"weight {culprit!r} of player {name} is NaN or infinite at {images:,} images")

    def state(self) -> dict[str, Any]:
        """Optimisers, random state, and what differs between processes, as plain types and tensors.

        Several processes must call this at the same time.
        """
        return {
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "random": self.rng_state(),
            "rate": self.lr_scale,
            "stage": self._stage,
            "first_moves": self.first_moves,
            "local": self._local_buffers(),
            **({} if self.augmentation is None else {"augmentation": self.augmentation.state_dict()}),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, saved in state["optimisers"].items():
            optimiser = self.optimisers[name]
            # Implementation flags are chosen on this machine, not restored. Schedules set their values before each step.
            flags = [
                {key: group[key] for key in ("fused", "foreach", "capturable") if key in group}
                | ({"lr": group["lr"]} if isinstance(group["lr"], Tensor) else {})
                for group in optimiser.param_groups
            ]
            groups = [{**group, **values} for group, values in zip(saved["param_groups"], flags, strict=True)]
            optimiser.load_state_dict({**saved, "param_groups": groups})
        self.scale_learning_rates(state.get("rate", 1.0))
        self.set_rng_state(state["random"])
        self._stage = state.get("stage", "")
        # Earlier versions counted from the beginning for all players.
        self.first_moves = dict(state.get("first_moves", dict.fromkeys(self.game.players, 0)))
        if self.augmentation is not None and "augmentation" in state:
            self.augmentation.restore(state["augmentation"])
        buffers, world_size = self._buffers(), self.processes.world_size
        # With another number of processes all of them continue with the buffers of the first, which the weights file has.
        for name, values in state.get("local", {}).items():
            if len(values) == world_size:
                buffers[name].copy_(values[self.processes.rank])

    def _buffers(self) -> dict[str, Tensor]:
        """The buffers of all modules, by "module:buffer"."""
        modules = self.game.modules().items()
        return {f"{name}:{key}": buffer for name, module in modules for key, buffer in module.named_buffers()}

    def _local_buffers(self) -> dict[str, list[Tensor]]:
        """The buffers that differ between processes, such as a history of samples: their values by rank."""
        buffers, world_size = self._buffers(), self.processes.world_size
        if world_size == 1 or not buffers:
            return {}
        sums = self.processes.gather(torch.stack([buffer.double().nan_to_num().sum() for buffer in buffers.values()])[None])
        differing = (sums != sums[:1]).any(0).tolist()
        names = [name for name, differs in zip(buffers, differing, strict=True) if differs]
        return {name: [*self.processes.gather(buffers[name][None]).cpu()] for name in names}

    def rng_state(self) -> dict[str, Tensor]:
        """The state of the random generators that turns use."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            states["mps"] = torch.mps.get_rng_state()
        return states

    def set_rng_state(self, states: Mapping[str, Tensor]) -> None:
        """Restores the result of `rng_state()`; the generator of a device that is not in it is left alone."""
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)
        elif self.device.type == "mps" and "mps" in states:
            torch.mps.set_rng_state(states["mps"])


class Unit:
    """Turns over one batch that share a round: the first plays it, the others score its samples again.

    Args:
        engine: executes the turns.
        turns: all but the first have `same_round`.
        batch: from `Engine.prepare`.
        clock: the progress of training.
    """

    def __init__(self, engine: Engine, turns: Sequence[Turn], batch: Batch, clock: Clock) -> None:
        self.engine, self.turns, self.batch, self.clock = engine, turns, batch, clock
        self.bf16 = engine.setup.precision == "bf16"
        self.round: Round | None = None
        self.rng_state = engine.rng_state()
        self.sign = None if engine.augmentation is None else engine.augmentation.sign.clone()
        self._split()

    def _split(self) -> None:
        """Splits the batch into micro-batches. If a process sees only a part, random tensors are drawn for the whole batch."""
        n, processes = self.batch.n, self.engine.processes
        self.parts = self.engine.parts(n)
        self.round = None
        self.offset = n * processes.rank  # index of this process's first row in the whole batch
        partial = len(self.parts) > 1 or processes.world_size > 1
        self.draws = [
            SharedDraws(n * processes.world_size, self.parts[0]) if partial else None for _ in range(len(self.turns) + 1)
        ]

    def backward(self, number: int) -> Tensor:
        """Computes the gradients of one turn's movers; its losses, detached: (terms,)."""
        engine, turn = self.engine, self.turns[number]
        while True:
            for name in turn.movers:
                engine.optimisers[name].zero_grad(set_to_none=True)
            try:
                losses = [self._backward(number, rows) for rows in self.parts]
                self._adapt()
                return losses[0] if len(losses) == 1 else torch.stack(losses).sum(0)
            except Exception as error:
                self._recover(error)

    def _adapt(self) -> None:
        """Adapts the probability of augmentations if the turn has measured the critic; part of what is captured."""
        augmentation, processes = self.engine.augmentation, self.engine.processes
        if augmentation is not None and augmentation.observed:
            processes.all_reduce_mean([augmentation.sign])
            augmentation.adapt(self.batch.n * processes.world_size)

    def _backward(self, number: int, rows: slice) -> Tensor:
        """Accumulates the gradients of one turn on a part of the batch; its losses, weighted by the size of the part."""
        engine, turn = self.engine, self.turns[number]
        weight = (rows.stop - rows.start) / self.batch.n
        if number == 0 or len(self.parts) > 1 or self.round is None:
            self.round = self._play(number, rows)
        r, last = self.round, number == len(self.turns) - 1
        if len(self.turns) > 1:
            r = r.with_samples(r.real, r.fake if last or r.fake is None else r.fake.detach())
        engine.set_trainable(frozenset(turn.movers))
        if differentiates_twice(turn):
            r = r.with_samples(None if r.real is None else r.real.detach().requires_grad_(), with_gradient(r.fake))
        with self._convolutions(differentiates_twice(turn)):
            with self._random(number + 1, rows), self._autocast(self.bf16 and not differentiates_twice(turn)):
                losses = losses_of(turn, r)
            if engine.augmentation is not None:
                engine.augmentation.observe(r, weight)
            stacked = torch.stack(losses) if weight == 1 else torch.stack(losses) * weight
            stacked.sum().backward(inputs=[p for name in turn.movers for p in engine.weights[name]])
        return stacked.detach()

    def _play(self, number: int, rows: slice) -> Round:
        """The round of a part of the batch, differentiable by the movers of this turn and of the later turns that use it."""
        later = self.turns[number:] if len(self.parts) == 1 else self.turns[number : number + 1]
        self.engine.set_trainable(frozenset(name for turn in later for name in turn.movers))
        batch = self.batch
        if len(self.parts) > 1:
            batch = Batch({name: value[rows] for name, value in batch.items()})
        twice = any(map(differentiates_twice, self.turns))
        with self._random(0, rows), self._autocast(self.bf16 and not twice), self._convolutions(twice):
            r = self.turns[0].play(self.engine.nets(self.turns), batch, self.clock)
        return r if self.engine.augmentation is None else self.engine.augmentation.wrap(r)

    def _random(self, index: int, rows: slice) -> SharedDraws | nullcontext[None]:
        """Random tensors are drawn for the whole batch, then indexed by `rows`. `index`: 0 for the play, else 1 + the turn's."""
        draws = self.draws[index]
        if draws is None:
            return nullcontext()
        draws.rewind(slice(self.offset + rows.start, self.offset + rows.stop))
        return draws

    def _autocast(self, bf16: bool) -> torch.autocast:
        return torch.autocast(self.engine.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)

    def _convolutions(self, twice: bool) -> DoubleBackward | Products | nullcontext[None]:
        """The implementation of convolutions: with a cheap double backward pass, as matrix products, or PyTorch's."""
        engine = self.engine
        if not engine.has_convolutions:
            return nullcontext()
        if twice:
            return DoubleBackward()
        return Products() if engine.setup.products and self.bf16 and engine.compiled is None else nullcontext()

    def _recover(self, error: Exception) -> None:
        """Prepares another attempt, without compilation or with smaller micro-batches, from the same random state.

        Running statistics of batch normalisation may then include a part of the batch twice. With several processes there is no
        recovery: a process that retried alone would no longer communicate in the same order as the others.

        Raises:
            LeafwingError: a part of one image, of which batch normalisation has no statistics.
            Exception: `error`, if neither can help.
        """
        if isinstance(error, ValueError) and "Expected more than 1 value per channel" in str(error):
            raise LeafwingError(ONE_IMAGE) from error
        engine, largest = self.engine, max(rows.stop - rows.start for rows in self.parts)
        if engine.processes.world_size > 1:
            raise error
        if engine.compiled is not None and not is_out_of_memory(error):
            engine.compiled = None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            engine.notify(f"the networks cannot be compiled, training continues without compilation: {reason[0]}")
        elif is_out_of_memory(error) and largest > 1:
            engine.micro_batch = -(-largest // 2)
            engine.notify(
                f"out of memory: continuing with micro-batches of {engine.micro_batch} images (gradient accumulation); "
                f"the batch size is still {self.batch.n}. Use --micro-batch {engine.micro_batch} to start like this"
            )
        else:
            raise error
        engine.set_rng_state(self.rng_state)
        if engine.augmentation is not None and self.sign is not None:
            engine.augmentation.sign.copy_(self.sign)
        self._split()


def average_into(average: nn.Module, net: nn.Module, share: float) -> None:
    """Moves an average towards a network: weights, and the running statistics of normalisation, by a share in [0, 1]. Other buffers
    are copied."""
    buffers = dict(net.named_buffers())
    averages: list[Tensor] = list(average.parameters())
    sources: list[Tensor] = list(net.parameters())
    for name, buffer in average.named_buffers():
        if buffer.is_floating_point() and name.rpartition(".")[2].startswith("running_"):
            averages.append(buffer)
            sources.append(buffers[name])
        else:
            buffer.copy_(buffers[name])
    torch._foreach_lerp_(averages, sources, share)


def normalise_spectra(average: nn.Module, net: nn.Module) -> None:
    """Gives spectral normalisation in an average the singular vectors of the averaged weights, by power iteration.

    It starts from those of the network, so that the result does not depend on how often it was called.
    """
    for module, source in zip(average.modules(), net.modules(), strict=True):
        if isinstance(module, ParametrizationList):
            for buffer, start in zip(module.buffers(), source.buffers(), strict=True):
                buffer.copy_(start)
            for _ in range(POWER_ITERATIONS):
                module.train()()  # one iteration, as in a forward pass of training
            module.eval()


def with_gradient(samples: Tensor | None) -> Tensor | None:
    """Samples that carry gradients, as those of a mover already do; None for a round without samples."""
    return samples if samples is None or samples.requires_grad else samples.detach().requires_grad_()


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error means that the device or the host ran out of memory."""
    texts = ("DefaultCPUAllocator", "MPS backend out of memory", "CUDA error: out of memory")
    of_runtime = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return of_runtime or isinstance(error, torch.OutOfMemoryError | MemoryError)

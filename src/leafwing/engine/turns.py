"""Turns taken on a device: play, let the movers pay, step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from leafwing.engine.setup import Setup, keep_freed_memory
from leafwing.errors import Diverged
from leafwing.game import SGD, Adam, Batch, Clock, Game, RMSprop, Turn, at


class Engine:
    """A game on a device: takes turns, averages, and holds the optimisers.

    Args:
        game: what is played; its networks are moved to the device.
        setup: where and how.
    """

    def __init__(self, game: Game, setup: Setup) -> None:
        self.game, self.setup = game, setup
        self.device = torch.device(setup.device)
        torch.set_num_threads(setup.threads)
        keep_freed_memory()
        for module in game.modules().values():
            module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for player in game.players.values():
            player.net.train()
        # A parameter that the recipe froze stays frozen.
        self.weights = {
            name: [p for p in player.net.parameters() if p.requires_grad] for name, player in game.players.items()
        }
        self.optimisers = {
            name: optimiser(player.learns, self.weights[name], self.device)
            for name, player in game.players.items()
            if player.learns is not None
        }
        self._unfrozen: frozenset[str] | None = None

    def prepare(self, batch: Batch) -> Batch:
        """The batch on the device; uint8 pictures become floats in [-1, 1]."""
        moved = Batch({name: value.to(self.device, non_blocking=True) for name, value in batch.items()})
        for name, value in moved.items():
            if value.dtype == torch.uint8:
                moved[name] = value.float().div_(127.5).sub_(1)
        return moved

    def take(self, turn: Turn, batch: Batch, clock: Clock) -> Tensor:
        """Play, let the movers pay, step. Returns the costs, detached, in the order of `turn.pays`; waits for nothing."""
        self._let_move(turn.movers)
        watched = any(term.watches for term in turn.pays)
        bf16 = self.setup.precision == "bf16" and not watched
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            round_ = turn.play(self.game.nets, batch, clock)
            if watched:
                for samples in (round_.real, round_.fake):
                    if not samples.requires_grad:
                        samples.requires_grad_()
            costs = [term.cost(round_) for term in turn.pays]
        for name in turn.movers:
            self.optimisers[name].zero_grad(set_to_none=True)
        torch.stack(costs).sum().backward(inputs=[p for name in turn.movers for p in self.weights[name]])
        for name in turn.movers:
            self._schedule(name, clock)
            self.optimisers[name].step()
        with torch.no_grad():
            for after in turn.after:
                after(self.game.nets)
        return torch.stack([cost.detach() for cost in costs])

    def _let_move(self, movers: tuple[str, ...]) -> None:
        """Exactly the movers get gradients: that is why no recipe writes detach() or no_grad()."""
        if frozenset(movers) == self._unfrozen:
            return
        for name, weights in self.weights.items():
            for weight in weights:
                weight.requires_grad_(name in movers)
        self._unfrozen = frozenset(movers)

    def _schedule(self, name: str, clock: Clock) -> None:
        learns = self.game.players[name].learns
        for group in self.optimisers[name].param_groups:
            for key in ("lr", "momentum"):
                if callable(value := getattr(learns, key, None)):
                    group[key] = value(clock)
            if isinstance(learns, Adam) and callable(learns.betas[1]):
                group["betas"] = (learns.betas[0], learns.betas[1](clock))

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
            if values and not torch.stack(torch._foreach_norm(values, float("inf"))).isfinite().all():
                culprit = next(key for key, t in player.net.state_dict().items() if not t.isfinite().all())
                raise Diverged(f"weight {culprit!r} of player {name} is not a finite number at {images:,} images")

    def state(self) -> dict[str, Any]:
        """Optimisers and random state, plain types and tensors only."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        elif self.device.type == "mps":
            random["mps"] = torch.mps.get_rng_state()
        return {"optimisers": {name: o.state_dict() for name, o in self.optimisers.items()}, "random": random}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, saved in state["optimisers"].items():
            self.optimisers[name].load_state_dict(saved)
        random = state["random"]
        torch.set_rng_state(random["cpu"])
        if self.device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], self.device)
        elif self.device.type == "mps" and "mps" in random:
            torch.mps.set_rng_state(random["mps"])


def optimiser(learns: Adam | RMSprop | SGD, weights: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """The torch optimiser that a player asks for, fused where that exists."""
    start = Clock()
    fused = device.type in ("cpu", "cuda")
    match learns:
        case Adam():
            betas = (learns.betas[0], at(learns.betas[1], start))
            return torch.optim.Adam(weights, at(learns.lr, start), betas, learns.eps, fused=fused)
        case RMSprop():
            return torch.optim.RMSprop(weights, at(learns.lr, start), learns.alpha, learns.eps, foreach=True)
        case SGD():
            return torch.optim.SGD(weights, at(learns.lr, start), at(learns.momentum, start), fused=fused)

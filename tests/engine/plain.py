"""Training as a reader of the papers would write it, without the engine: what everything faster must be equal to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from leafwing.game import SGD, Adam, Batch, Clock, Game, Optimiser, RMSprop, Round, Turn, at

Hand = Callable[[Turn, Sequence[Tensor]], Sequence[Tensor]]
"""(turn, the gradients of its movers) -> the gradients that they step with."""


def optimiser(spec: Optimiser, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    start = Clock()
    match spec:
        case Adam():
            return torch.optim.Adam(weights, at(spec.lr, start), (spec.betas[0], at(spec.betas[1], start)), spec.eps)
        case RMSprop():
            return torch.optim.RMSprop(weights, at(spec.lr, start), spec.alpha, spec.eps, foreach=False)
        case SGD():
            return torch.optim.SGD(weights, at(spec.lr, start), at(spec.momentum, start), foreach=False)


class Plain:
    """A game, its optimisers, and the round that was played last."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.met: Round | None = None
        self.optimisers = {
            name: optimiser(player.optimiser, list(player.net.parameters()))
            for name, player in game.players.items()
            if player.optimiser
        }

    def weights(self, turn: Turn) -> list[torch.nn.Parameter]:
        """What a turn moves."""
        return [p for name in turn.movers for p in self.game.players[name].net.parameters()]

    def take(self, turn: Turn, batch: Batch, clock: Clock, hand: Hand = lambda turn, gradients: gradients) -> list[Tensor]:
        """Takes a turn; its costs."""
        moves_g = any(name.startswith("G") for name in turn.movers)
        if turn.same_round:
            r = self.met.again(self.met.real, self.met.fake)
        else:
            self.met = turn.play(self.game.nets, batch, clock)
            r = self.met.again(self.met.real, self.met.fake if moves_g else self.met.fake.detach())
        if any(term.input_gradient for term in turn.losses):
            r = r.again(r.real.detach().requires_grad_(), r.fake if moves_g else r.fake.requires_grad_())
        found = [term.loss(r) for term in turn.losses]
        weights = self.weights(turn)
        gradients = torch.autograd.grad(sum(found), weights, retain_graph=not turn.same_round)
        for weight, gradient in zip(weights, hand(turn, gradients), strict=True):
            weight.grad = gradient
        for name in turn.movers:
            spec = self.game.players[name].optimiser
            for group in self.optimisers[name].param_groups:
                group["lr"] = at(spec.lr, clock)
                if isinstance(spec, SGD):
                    group["momentum"] = at(spec.momentum, clock)
                if isinstance(spec, Adam):
                    group["betas"] = (spec.betas[0], at(spec.betas[1], clock))
            self.optimisers[name].step()
        with torch.no_grad():
            for after in turn.after:
                after(self.game.nets)
        return [cost.detach() for cost in found]


def train(game: Game, batches: Callable[[int, int], Batch], images: int) -> list[float]:
    """Trains a game; the costs of all turns in order."""
    plain = Plain(game)
    shown, number, costs = 0, 0, []
    while shown < images:
        began, batch, drawn = shown, None, None
        start = Clock(began, images, number)
        for turn in game.turns:
            for _ in range(turn.times(start)):
                clock = Clock(shown, images, number)
                if drawn in (None, turn):
                    drawn, batch = turn, batches(shown, game.batch)
                    batch = Batch({k: v / 127.5 - 1 if v.dtype == torch.uint8 else v for k, v in batch.items()})
                    shown += game.batch
                if turn.same_round:
                    clock = Clock(shown - game.batch, images, number)
                costs += [cost.item() for cost in plain.take(turn, batch, clock)]
        number += 1
        for player in game.players.values():
            if player.average is not None:
                keep = 0.5 ** ((shown - began) / player.ema)
                with torch.no_grad():
                    for mine, live in zip(
                        player.average.state_dict().values(), player.net.state_dict().values(), strict=True
                    ):
                        mine.copy_(keep * mine + (1 - keep) * live if mine.is_floating_point() else live)
    return costs

"""A plain implementation of training, as in the papers, without the engine: the reference for everything faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from leafwing.game import SGD, Adam, Batch, Clock, Game, Optimiser, RMSprop, Round, Turn, at

Substitute = Callable[[Turn, Sequence[Tensor]], Sequence[Tensor]]
"""(turn, gradients of its movers' weights) -> the gradients for the step."""


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
    """A game, its optimisers, and the last round."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.round: Round | None = None
        self.optimisers = {
            name: optimiser(player.optimiser, list(player.net.parameters()))
            for name, player in game.players.items()
            if player.optimiser
        }

    def weights(self, turn: Turn) -> list[torch.nn.Parameter]:
        """The weights of a turn's movers."""
        return [p for name in turn.movers for p in self.game.players[name].net.parameters()]

    def take(
        self, turn: Turn, batch: Batch, clock: Clock, substitute: Substitute = lambda turn, gradients: gradients
    ) -> list[Tensor]:
        """Takes a turn; its losses."""
        moves_g = any(name.startswith("G") for name in turn.movers)
        if turn.same_round:
            r = self.round.with_samples(self.round.real, self.round.fake)
        else:
            self.round = turn.play(self.game.nets, batch, clock)
            r = self.round.with_samples(self.round.real, self.round.fake if moves_g else self.round.fake.detach())
        if any(term.second_order for term in turn.losses):
            r = r.with_samples(r.real.detach().requires_grad_(), r.fake if moves_g else r.fake.requires_grad_())
        losses = [term.loss(r) for term in turn.losses]
        weights = self.weights(turn)
        gradients = torch.autograd.grad(sum(losses), weights, retain_graph=not turn.same_round)
        for weight, gradient in zip(weights, substitute(turn, gradients), strict=True):
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
        return [loss.detach() for loss in losses]


def train(game: Game, batches: Callable[[int, int], Batch], images: int) -> list[float]:
    """Trains a game; the losses of all turns in order."""
    plain = Plain(game)
    shown, number, losses = 0, 0, []
    while shown < images:
        round_start, batch, drawing = shown, None, None
        start = Clock(round_start, images, number)
        for turn in game.turns:
            for _ in range(turn.times(start)):
                clock = Clock(shown, images, number)
                if drawing in (None, turn):
                    drawing, batch = turn, batches(shown, game.batch)
                    batch = Batch({k: v / 127.5 - 1 if v.dtype == torch.uint8 else v for k, v in batch.items()})
                    shown += game.batch
                if turn.same_round:
                    clock = Clock(shown - game.batch, images, number)
                losses += [loss.item() for loss in plain.take(turn, batch, clock)]
        number += 1
        for player in game.players.values():
            if player.ema_net is not None:
                decay = 0.5 ** ((shown - round_start) / player.ema)
                with torch.no_grad():
                    for average, current in zip(
                        player.ema_net.state_dict().values(), player.net.state_dict().values(), strict=True
                    ):
                        average.copy_(decay * average + (1 - decay) * current if average.is_floating_point() else current)
    return losses

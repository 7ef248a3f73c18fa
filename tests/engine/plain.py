"""A plain implementation of training, as in the papers, without the engine: the reference for everything faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from leafwing.engine.turns import POWER_ITERATIONS
from leafwing.game import EMA_SHARE, SGD, Adam, Batch, Clock, Game, Optimiser, RMSprop, Round, Turn, at

Gradients = Sequence[Tensor | None]
"""The gradient of each weight, None for a weight that a turn does not use."""
Substitute = Callable[[Turn, Gradients], Gradients]
"""(turn, gradients of its movers' weights) -> the gradients for the step."""


def optimiser(spec: Optimiser, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    start = Clock()
    match spec:
        case Adam():
            kind = torch.optim.AdamW if spec.weight_decay else torch.optim.Adam
            betas = (spec.betas[0], at(spec.betas[1], start))
            return kind(weights, at(spec.lr, start), betas, spec.eps, weight_decay=spec.weight_decay or spec.l2)
        case RMSprop():
            return torch.optim.RMSprop(weights, at(spec.lr, start), spec.alpha, spec.eps, foreach=False)
        case SGD():
            return torch.optim.SGD(weights, at(spec.lr, start), at(spec.momentum, start), foreach=False)
    return spec.build(weights, torch.device("cpu"), fused=False)


class Plain:
    """A game, its optimisers, and the last round."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.round: Round | None = None
        self.optimisers = {
            name: optimiser(player.optimiser, trainable(player.net))
            for name, player in game.players.items()
            if player.optimiser
        }

    def weights(self, turn: Turn) -> list[torch.nn.Parameter]:
        """The weights of a turn's movers."""
        return [p for name in turn.movers for p in trainable(self.game.players[name].net)]

    def take(
        self, turn: Turn, batch: Batch, clock: Clock, substitute: Substitute = lambda turn, gradients: gradients
    ) -> list[Tensor]:
        """Takes a turn; its losses."""
        if not turn.same_round:
            self.round = turn.play(self.game.nets, batch, self.game.at_stage(clock))
        assert self.round is not None
        r = self.round.with_samples(self.round.real, self.round.fake)
        if any(term.second_order for term in turn.losses):
            r = r.with_samples(differentiable(r.real), differentiable(r.fake))
        losses = [term.loss(r) for term in turn.losses]
        weights = self.weights(turn)
        gradients = torch.autograd.grad(sum(losses), weights, retain_graph=not turn.same_round, allow_unused=True)
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


def trainable(net: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights that the recipe did not freeze."""
    return [p for p in net.parameters() if p.requires_grad]


def differentiable(samples: Tensor | None) -> Tensor | None:
    """Samples by which losses can be differentiated."""
    return samples if samples is None or samples.requires_grad else samples.detach().requires_grad_()


def train(game: Game, batches: Callable[[int, int], Batch], images: int) -> list[float]:
    """Trains a game; the losses of all turns in order."""
    plain = Plain(game)
    shown, number, losses = 0, 0, []
    began: dict[str, int] = {}  # by player: images shown before the first round in which it moves
    while shown < images:
        round_start, batch, drawing = shown, None, None
        start = Clock(round_start, images, number)
        for turn in game.turns:
            for _ in range(turn.times(start)):
                clock = Clock(shown, images, number)
                if drawing in (None, turn):
                    drawing, batch = turn, batches(shown, game.batch)
                    shown += game.batch
                if turn.same_round:
                    clock = Clock(shown - game.batch, images, number)
                losses += [loss.item() for loss in plain.take(turn, batch, clock)]
                began = dict.fromkeys(turn.movers, round_start) | began
        number += 1
        for name, player in game.players.items():
            if player.ema_net is not None:
                share = EMA_SHARE * (shown - began.get(name, shown))
                decay = 0.5 ** ((shown - round_start) / min(player.ema, share)) if share else 0
                average(player.ema_net, player.net, decay)
    for player in game.players.values():
        for module in player.ema_net.modules() if player.ema_net is not None else ():
            if torch.nn.utils.parametrize.is_parametrized(module):
                for _ in range(POWER_ITERATIONS):
                    _ = module.train().weight  # an iteration of the power method of spectral normalisation
                module.eval()
    return losses


@torch.no_grad()
def average(averaged: torch.nn.Module, net: torch.nn.Module, decay: float) -> None:
    """The moving average of weights and of batch normalisation's statistics."""
    weights, current = dict(net.named_parameters()), net.state_dict()
    for name, value in averaged.state_dict().items():
        is_average = name in weights or name.endswith(("running_mean", "running_var"))
        value.copy_(decay * value + (1 - decay) * current[name] if is_average else current[name])

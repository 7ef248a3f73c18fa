"""Training as a reader of the papers would write it, without the engine: what everything faster must be equal to."""

from __future__ import annotations

from collections.abc import Callable

import torch

from leafwing.game import SGD, Adam, Batch, Clock, Game, Learns, RMSprop, at


def optimiser(learns: Learns, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    start = Clock()
    match learns:
        case Adam():
            return torch.optim.Adam(weights, at(learns.lr, start), (learns.betas[0], at(learns.betas[1], start)), learns.eps)
        case RMSprop():
            return torch.optim.RMSprop(weights, at(learns.lr, start), learns.alpha, learns.eps, foreach=False)
        case SGD():
            return torch.optim.SGD(weights, at(learns.lr, start), at(learns.momentum, start), foreach=False)


def train(game: Game, batches: Callable[[int, int], Batch], images: int) -> list[float]:
    """Trains a game; the costs of all turns in order."""
    own = {
        name: optimiser(player.learns, list(player.net.parameters()))
        for name, player in game.players.items()
        if player.learns
    }
    shown, number, costs = 0, 0, []
    while shown < images:
        began, batch, drawn, met = shown, None, None, None
        start = Clock(began, images, number)
        for turn in game.turns:
            for _ in range(turn.times(start)):
                clock = Clock(shown, images, number)
                if drawn in (None, turn):
                    drawn, batch = turn, batches(shown, game.batch)
                    batch = Batch({k: v / 127.5 - 1 if v.dtype == torch.uint8 else v for k, v in batch.items()})
                    shown += game.batch
                if turn.same_round:
                    r = met.again(met.real, met.fake)
                    clock = Clock(shown - game.batch, images, number)
                else:
                    met = turn.play(game.nets, batch, clock)
                    moves_g = any(name.startswith("G") for name in turn.movers)
                    r = met.again(met.real, met.fake if moves_g else met.fake.detach())
                if any(term.watches for term in turn.pays):
                    r = r.again(r.real.detach().requires_grad_(), r.fake if moves_g else r.fake.requires_grad_())
                found = [term.cost(r) for term in turn.pays]
                weights = [p for name in turn.movers for p in game.players[name].net.parameters()]
                gradients = torch.autograd.grad(sum(found), weights, retain_graph=not turn.same_round)
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.grad = gradient
                for name in turn.movers:
                    learns = game.players[name].learns
                    for group in own[name].param_groups:
                        group["lr"] = at(learns.lr, clock)
                        if isinstance(learns, SGD):
                            group["momentum"] = at(learns.momentum, clock)
                        if isinstance(learns, Adam):
                            group["betas"] = (learns.betas[0], at(learns.betas[1], clock))
                    own[name].step()
                with torch.no_grad():
                    for after in turn.after:
                        after(game.nets)
                costs += [cost.item() for cost in found]
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

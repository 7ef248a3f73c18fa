"""Standard ways to create a round, and the standard order of turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from leafwing.game import Abilities, Batch, Clock, Nets, Output, Play, Prior, Round, Term, Turn, scores
from leafwing.parts.objectives import Objective


def sampling(prior: Prior, *conditions: str, g: str = "G", d: str = "D") -> Play:
    """G generates fakes from new latents, D scores them; both are conditioned on the batch's fields named in `conditions`.

    Real and fake samples pass through D as separate batches, so that batch statistics do not mix them.

    Args:
        prior: the distribution of latents.
        *conditions: names of fields.
        g: name of the generator.
        d: name of the discriminator.
    """

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        generator, critic = getattr(nets, g), getattr(nets, d)
        z = prior(batch.n, batch.image.device)
        if not conditions:
            return Round(nets, real=batch.image, fake=generator(z), judge=critic, clock=clock)
        values = [batch[name] for name in conditions]
        return Round(nets, real=batch.image, fake=generator(z, *values), judge=lambda x: critic(x, *values), clock=clock)

    return play


def duel(
    play: Play,
    objective: Objective,
    *,
    critic: Sequence[Term] = (),
    generator: Sequence[Term] = (),
    n_critic: int | Callable[[Clock], int] = 1,
    after: Sequence[Callable[[Nets], None]] = (),
    after_generator: Sequence[Callable[[Nets], None]] = (),
    same_round: bool = False,
    g: str = "G",
    d: str = "D",
) -> list[Turn]:
    """D moves n_critic times, each time on a batch of its own, then G once: Goodfellow et al. 2014, algorithm 1.

    Args:
        play: creates a round.
        objective: the adversarial losses.
        critic: further loss terms of D.
        generator: further loss terms of G.
        n_critic: D updates per G update, or a function of the clock.
        after: applied to the networks after each step of D.
        after_generator: applied to the networks after each step of G.
        same_round: G's loss uses the fakes of D's last turn, as in many implementations, instead of new ones, as in the algorithm:
            one forward pass of G less.
        g: the players that move in G's turn, separated by spaces.
        d: the players that move in D's turn.
    """
    return [
        Turn(d, play, [Term("adversarial", objective.critic), *critic], repeat=n_critic, after=after),
        Turn(g, play, [Term("adversarial", objective.generator), *generator], after=after_generator, same_round=same_round),
    ]


class Packed(nn.Module):
    """A discriminator of several samples at once: (n, channels, ...) -> scores (n / packing,). Lin et al. 2017, arXiv:1712.04086.

    If n is not divisible by `packing`, the first samples are repeated.

    Args:
        net: a discriminator whose samples have `packing` times as many channels.
        packing: number of samples judged at once.
    """

    def __init__(self, net: nn.Module, packing: int) -> None:
        super().__init__()
        self.net, self.packing = net, packing

    def forward(self, x: Tensor) -> Tensor:
        missing = -len(x) % self.packing
        whole = torch.cat([x, x[torch.arange(missing, device=x.device) % len(x)]]) if missing else x
        return self.net(whole.unflatten(0, (-1, self.packing)).flatten(1, 2))


def generating(prior: Prior, *conditions: str, g: str = "G", d: str = "D") -> Abilities:
    """The abilities that match `sampling`, with the same arguments: images from latents and conditions, and D's scores."""

    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return getattr(nets, g)(inputs.latent, *(inputs[name] for name in conditions))

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return scores(getattr(nets, d)(samples, *(inputs[name] for name in conditions)))

    return Abilities([Output("image", make, conditions, prior)], judge=judge)


def straight_through(step: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """The steps of values, with the gradient of the values, by which latents can be searched. Bengio et al. 2013, arXiv:1308.3432."""
    return step(values) + (values - values.detach())

"""AdaGAN. Tolstikhin et al. 2017, AdaGAN: Boosting Generative Models, arXiv:1701.02386

Boosting: each GAN is trained mostly on the data that the mixture of its predecessors misses; the model is the mixture.

C separates the data from the mixture of the finished components, so r = (1 - p) / p measures how well the mixture covers a
sample, whose weight is (lambda - (1 - beta) r)+ / beta with beta = 1 / t for component t: all end up with equal weight. The
paper trains C to convergence before each component; here it trains alongside. The paper resamples the training set by weight;
here D's loss on a real sample is multiplied by its weight. The paper finds lambda by sorting the training set; here L learns
it: the weights have mean 1 where E (lambda - (1 - beta) r)+^2 / 2 - beta lambda is minimal. C has no batch normalisation, with
which it would judge batches, not samples. Components share the training images equally; networks are DCGAN's.
"""

from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from leafwing import networks
from leafwing.game import SGD, Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn, scores
from leafwing.networks.mixture import Component, mixture
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating

POINTS = {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


class Excess(nn.Module):
    """(1 - beta) r (n,) -> (lambda - (1 - beta) r)+ (n,). With lambda = 1, full coverage gives equal weights."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.ones(()))

    def forward(self, covered: Tensor) -> Tensor:
        return relu(self.level - covered)


def adagan(
    data: DataSpec,
    *,
    components: int = 4,
    weights: Literal["boost", "bagging"] = "boost",
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """Several pairs of DCGAN networks, a discriminator for their mixture, non-saturating objective with weighted data.

    Args:
        components: number of GANs, trained one after another.
        weights: boost, or bagging, which trains every component on the unweighted data.
        latent: dimension of the latent vector, not counting the component selector.
        prior: distribution of the latent vector.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of each G.
        lr_d: learning rate of each D and of C.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of each G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    z, boosts = priors.by_name(prior, latent), weights == "boost" and components > 1
    pairs = [("G", "D"), *((f"G{t}", f"D{t}") for t in range(2, components + 1))]

    def selector(k: int) -> priors.Product:
        return priors.Product({"component": priors.Categorical(k), "noise": z})

    def mixed(nets: Nets, latents: Tensor, k: int) -> Tensor:
        return mixture([getattr(nets, g) for g, _ in pairs[:k]], latents)

    def part(t: int) -> list[Turn]:
        (g, d), beta = pairs[t - 1], 1 / t
        during = ((t - 1) / components, inf if t == components else t / components)

        def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
            fake = getattr(nets, g)(z(batch.n, batch.image.device))
            return Round(nets, real=batch.image, fake=fake, judge=getattr(nets, d), clock=clock)

        def against_mixture(nets: Nets, batch: Batch, clock: Clock) -> Round:
            fake = mixed(nets, selector(t - 1)(batch.n, batch.image.device), t - 1)
            return Round(nets, real=batch.image, fake=fake, judge=nets.C, clock=clock)

        def excess(r: Any) -> Tensor:
            return r.nets.L((1 - beta) * (-scores(r.nets.C(r.augment(r.real)))).exp())  # with p = sigmoid(s), r is exp(-s)

        def weighted(r: Any) -> Tensor:
            return (excess(r) / beta * softplus(-r.real_score)).mean() + softplus(r.fake_score).mean()

        def level(r: Any) -> Tensor:
            return excess(r).square().mean() / 2 - beta * r.nets.L.level

        critic = Term("adversarial", weighted if boosts and t > 1 else non_saturating.critic)
        generator = Term("adversarial", non_saturating.generator)
        turns = [Turn(d, play, [critic], repeat=n_critic, during=during)]
        turns.append(Turn(g, play, [generator], during=during, after=[lambda nets: getattr(nets, g).begin()]))
        if boosts and t > 1:
            turns.append(Turn("C", against_mixture, [Term("mixture", non_saturating.critic)], during=during))
            turns.append(Turn("L", against_mixture, [Term("level", level)], during=during, same_round=True))
        return turns

    players, adam_d = {}, Adam(lr_d, (beta1, 0.999))
    for g, d in pairs:
        net = Component(networks.generator(data, latent, width, max_width=max_width))
        players[g] = Player(net, Adam(lr_g, (beta1, 0.999)), ema=ema)
        players[d] = Player(networks.critic(data, width, max_width=max_width), adam_d)
    if boosts:
        players["C"] = Player(networks.critic(data, width, norm="none", max_width=max_width), adam_d)
        players["L"] = Player(Excess(), SGD(0.1))
    output = Output("image", lambda nets, inputs, clock: mixed(nets, inputs.latent, components), prior=selector(components))
    return Game(players, [turn for t in range(1, components + 1) for turn in part(t)], Abilities([output]), batch)

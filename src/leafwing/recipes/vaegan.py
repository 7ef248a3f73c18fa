"""VAE-GAN. Larsen et al. 2015, Autoencoding beyond pixels using a learned similarity metric, arXiv:1512.09300

A variational auto-encoder whose decoder plays a GAN, and whose pictures are compared by what the critic sees in them.

L_Dis is half the squared error of D's last hidden layer (equation 7). E pays it and the divergence from the prior, and nothing of the
GAN; G pays gamma times L_Dis and fools D with samples and with reconstructions; D is shown both. RMSprop as in the authors' code, the
rates of which decay from .025 in other units; 3e-4 here. Their code also rests D while its cost of real samples or of fakes is
below .68 - .35, and G while one is above .68 + .35, unless both would rest: the option `gate`, off unless asked for. A resting
player's costs are multiplied by 0, and logged so, which waits for nobody; RMSprop then does not move, but goes on forgetting, so the
first steps after a rest are longer. Each part of a batch that is cut decides for itself, and so does each process.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from leafwing import networks
from leafwing.game import Batch, Clock, DataSpec, Game, Nets, Player, RMSprop, Round, Term, Turn, exact
from leafwing.networks import dcgan
from leafwing.networks.encoders import Encoder
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import generating

BALANCE = 0.68  # as in the authors' code; a D that cannot tell pays log 2, which is .69


def vaegan(
    data: DataSpec,
    *,
    gamma: float = 1e-2,
    divergence_weight: float = 1.0,
    gate: float = 0.0,
    latent: int = 128,
    width: int = 64,
    widest: int = 512,
    lr_g: float = 3e-4,
    lr_d: float = 3e-4,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, an encoder, features of the critic as the measure of likeness.

    Args:
        gamma: weight of L_Dis in what G pays, per feature; the GAN weighs 1.
        divergence_weight: weight of the divergence from the prior in what E pays.
        gate: D rests while it is so far below .68, its cost at balance, and G while D is so far above (.35 in the authors' code); 0
            for no rest.
        latent: numbers in a latent, which are normal.
        width: channels of the layers next to the picture; doubled at each halving.
        widest: the most channels that a layer may have.
        lr_g: learning rate of G and E.
        lr_d: learning rate of D.
        n_critic: turns of D for one of E and G.
        ema: half-life of G's and E's averaged copies in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    data.need_pictures("vaegan")
    z = priors.Normal(latent)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        mean, spread = exact(nets.E(batch.image)).chunk(2, dim=1)
        code = mean + (spread / 2).exp() * torch.randn_like(mean)
        fake = nets.G(z(batch.n, batch.image.device))
        facts = {"mean": mean, "spread": spread, "copy": nets.G(code)}
        return Round(nets, real=batch.image, fake=fake, judge=nets.D, clock=clock, **facts)

    def divergence(r: Round) -> Tensor:
        each = r.mean.square() + r.spread.exp() - 1 - r.spread  # type: ignore[attr-defined]
        return divergence_weight * each.sum(1).mean() / 2

    def likeness(r: Round) -> Tensor:
        there, here = (exact(r.nets.D.features(x)) for x in (r.real, r.copy))  # type: ignore[attr-defined]
        return (there - here).square().flatten(1).sum(1).mean() / 2

    def gated(term: Term, ahead: bool) -> Term:
        """The term of a player who rests where D is ahead, or where it is behind."""

        def cost(r: Round) -> Tensor:
            costs = torch.stack([softplus(-r.real_score).mean(), softplus(r.fake_score).mean()])
            low, high = (costs < BALANCE - gate).any(), (costs > BALANCE + gate).any()
            return term.cost(r) * ((~low | high) if ahead else (~high | low))

        return Term(term.name, cost) if gate else term

    copies = Term("copies", lambda r: softplus(exact(r.judge(r.copy))).mean())
    passing = Term("copies", lambda r: softplus(-exact(r.judge(r.copy))).mean())
    alike = Term("likeness", lambda r: gamma * likeness(r))
    paid_by_d = Term("adversarial", non_saturating.critic), copies
    paid_by_g = Term("adversarial", non_saturating.generator), passing, alike
    trunk = networks.critic(data, width, widest=widest)
    assert isinstance(trunk, dcgan.Critic)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, widest=widest), RMSprop(lr_g), ema=ema),
            "E": Player(Encoder(data, 2 * latent, width, widest=widest), RMSprop(lr_g), ema=ema),
            "D": Player(trunk, RMSprop(lr_d)),
        },
        turns=[
            Turn("D", play, [gated(term, True) for term in paid_by_d], repeat=n_critic),
            Turn("E", play, [Term("divergence", divergence), Term("likeness", likeness)]),
            Turn("G", play, [gated(term, False) for term in paid_by_g]),
        ],
        abilities=replace(generating(z), encode=lambda nets, x: nets.E(x)[:, :latent]),
        batch=batch,
    )

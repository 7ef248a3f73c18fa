"""VAE-GAN. Larsen et al. 2015, Autoencoding beyond pixels using a learned similarity metric, arXiv:1512.09300

A variational autoencoder whose decoder is a GAN generator, with a reconstruction loss in the discriminator's feature space.

L_Dis is half the squared error of D's last hidden layer (equation 7), summed over its features. E minimises it plus the KL
divergence from the prior, without the GAN loss; G minimises gamma times L_Dis and fools D with samples and reconstructions; D is
trained on both. G's GAN loss is the non-saturating one; in the paper and its code G maximises D's loss. Gamma is 1e-2, the default
of the authors' code; its script for faces has 1e-5. RMSprop as there, whose learning rates decay from 0.025 in other units; 3e-4
here.

Their code also pauses D while its loss on real samples or on fakes is below 0.68 - 0.35, and G while one is above 0.68 + 0.35,
unless both would pause. This is the option `gate`, off by default. With it D's losses on samples and on reconstructions are
halved, so that real and fake weigh the same, as there: only then are both losses of an undecided D log 2. A paused player's
losses are multiplied by 0, and logged as 0, which avoids a device synchronisation. RMSprop then takes no step, but its running
averages still decay, so the first steps after a pause are larger. Each micro-batch and each process decides separately.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Batch, Clock, DataSpec, Game, Nets, Player, RMSprop, Round, Term, Turn, to_fp32
from leafwing.networks import dcgan
from leafwing.networks.encoders import Encoder
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import generating

BALANCE = 0.68  # as in the authors' code; the loss of an undecided D is log 2 = 0.69


def vaegan(
    data: DataSpec,
    *,
    gamma: float = 1e-2,
    divergence_weight: float = 1.0,
    gate: float = 0.0,
    latent: int = 128,
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 3e-4,
    lr_d: float = 3e-4,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, an encoder, reconstruction loss on the discriminator's features.

    Args:
        gamma: weight of L_Dis, a sum over D's features, in G's loss; the GAN loss has weight 1.
        divergence_weight: weight of the KL divergence from the prior in E's loss.
        gate: D pauses while its loss is more than this below 0.68, its value at equilibrium, and G while it is more than this
            above (authors' code: 0.35); D's losses on fakes are halved then. 0 disables pausing.
        latent: dimension of the latent vector, which is normal.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G and E.
        lr_d: learning rate of D.
        n_critic: D updates per update of E and G.
        ema: half-life of the EMA of G's and E's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    data.need("vaegan", image=Image)
    z = priors.Normal(latent)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        mean, log_variance = to_fp32(nets.E(batch.image)).chunk(2, dim=1)
        code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        fake = nets.G(z(batch.n, batch.image.device))
        extras = {"mean": mean, "log_variance": log_variance, "reconstruction": nets.G(code)}
        return Round(nets, real=batch.image, fake=fake, judge=nets.D, clock=clock, **extras)

    def divergence(r: Round) -> Tensor:
        per_element = r.mean.square() + r.log_variance.exp() - 1 - r.log_variance  # type: ignore[attr-defined]
        return divergence_weight * per_element.sum(1).mean() / 2

    def reconstruction(r: Round) -> Tensor:
        real, reconstructed = (to_fp32(r.nets.D.features(x)) for x in (r.real, r.reconstruction))  # type: ignore[attr-defined]
        return (real - reconstructed).square().flatten(1).sum(1).mean() / 2

    def gated(term: Term, ahead: bool) -> Term:
        """The term of a player that pauses while D is too far ahead (or, if not `ahead`, behind)."""

        def gated_loss(r: Round) -> Tensor:
            losses = torch.stack([softplus(-r.real_score).mean(), softplus(r.fake_score).mean()])
            low, high = (losses < BALANCE - gate).any(), (losses > BALANCE + gate).any()
            return term.loss(r) * ((~low | high) if ahead else (~high | low))

        return Term(term.name, gated_loss) if gate else term

    share = 0.5 if gate else 1.0
    d_adversarial = Term("adversarial", lambda r: softplus(-r.real_score).mean() + share * softplus(r.fake_score).mean())
    d_reconstructions = Term("copies", lambda r: share * softplus(to_fp32(r.judge(r.reconstruction))).mean())
    g_reconstructions = Term("copies", lambda r: softplus(-to_fp32(r.judge(r.reconstruction))).mean())
    reconstruction_term = Term("reconstruction", lambda r: gamma * reconstruction(r))
    d_terms = d_adversarial, d_reconstructions
    g_terms = Term("adversarial", non_saturating.generator), g_reconstructions, reconstruction_term
    trunk = networks.critic(data, width, max_width=max_width)
    assert isinstance(trunk, dcgan.Critic)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), RMSprop(lr_g), ema=ema),
            "E": Player(Encoder(data, 2 * latent, width, max_width=max_width), RMSprop(lr_g), ema=ema),
            "D": Player(trunk, RMSprop(lr_d)),
        },
        turns=[
            Turn("D", play, [gated(term, True) for term in d_terms], repeat=n_critic),
            Turn("E", play, [Term("divergence", divergence), Term("reconstruction", reconstruction)]),
            Turn("G", play, [gated(term, False) for term in g_terms]),
        ],
        abilities=replace(generating(z), encode=lambda nets, x: nets.E(x)[:, :latent]),
        batch=batch,
    )

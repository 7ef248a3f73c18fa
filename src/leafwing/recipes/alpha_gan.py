"""alpha-GAN. Rosca et al. 2017, Variational Approaches for Auto-Encoding Generative Adversarial Networks, arXiv:1706.04987

An autoencoder with two discriminators: D for images (real, or sampled and reconstructed), C for latents (prior, or encoded).

E and G take one turn together, on the sum of all their losses: lambda times the mean absolute reconstruction error, E's loss
against C, and G's against D for samples and for reconstructions, whose gradient E gets too. C's loss has the prior as its real
side and codes as its fake side: algorithm 1 in the paper's first version has them swapped. Adam 8e-4 with betas (0.5, 0.9) as in
a third-party implementation (V. Shepardson), two updates of E and G per update of D and of C as in its example; no batch
normalisation in C. That code averages the two losses against D, which are summed here: its lambda of 10 weighs twice as much. The
networks are DCGAN's; C is an MLP.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import softplus

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term, Turn, to_fp32
from leafwing.networks.encoders import Encoder
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import generating


def alpha_gan(
    data: DataSpec,
    *,
    reconstruction: float = 10.0,
    latent: int = 128,
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 8e-4,
    lr_d: float = 8e-4,
    beta1: float = 0.5,
    beta2: float = 0.9,
    n_generator: int = 2,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, an encoder, an image discriminator and a latent discriminator.

    Args:
        reconstruction: weight of the reconstruction loss (mean absolute error).
        latent: dimension of the latent vector, which is normal.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G and E.
        lr_d: learning rate of D and C.
        beta1: Adam's beta1.
        beta2: Adam's beta2.
        n_generator: updates of E and G per round.
        n_critic: updates of D and C per round, all of them on one batch.
        ema: half-life of the EMA of G's and E's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    data.need("alpha_gan", image=Image)
    z = priors.Normal(latent)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        latents, code = z(batch.n, batch.image.device), nets.E(batch.image)
        extras = {"latents": latents, "code": code, "reconstruction": nets.G(code)}
        return Round(nets, real=batch.image, fake=nets.G(latents), judge=nets.D, clock=clock, **extras)

    def reconstruction_loss(r: Any) -> Tensor:
        return reconstruction * (to_fp32(r.reconstruction) - r.real).abs().mean()

    def code_loss(r: Any) -> Tensor:
        return softplus(-to_fp32(r.nets.C(r.latents))).mean() + softplus(to_fp32(r.nets.C(r.code))).mean()

    widths = [latent, 8 * width, 8 * width]
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    c = nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
    adam_g, adam_d = (Adam(lr, (beta1, beta2)) for lr in (lr_g, lr_d))
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), adam_g, ema=ema),
            "E": Player(Encoder(data, latent, width, max_width=max_width), adam_g, ema=ema),
            "D": Player(networks.critic(data, width, max_width=max_width), adam_d),
            "C": Player(c, adam_d),
        },
        turns=[
            Turn(
                "E G",
                play,
                [
                    Term("copy", reconstruction_loss),
                    Term("codes", lambda r: softplus(-to_fp32(r.nets.C(r.code))).mean()),
                    Term("copies", lambda r: softplus(-to_fp32(r.judge(r.reconstruction))).mean()),
                    Term("adversarial", non_saturating.generator),
                ],
                repeat=n_generator,
            ),
            Turn(
                "D",
                play,
                [
                    Term("adversarial", non_saturating.critic),
                    Term("copies", lambda r: softplus(to_fp32(r.judge(r.reconstruction))).mean()),
                ],
                repeat=n_critic,
            ),
            Turn("C", play, [Term("codes", code_loss)], repeat=n_critic),
        ],
        abilities=replace(generating(z), encode=lambda nets, x: nets.E(x)),
        batch=batch,
    )

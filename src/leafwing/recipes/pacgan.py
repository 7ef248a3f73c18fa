"""PacGAN. Lin et al. 2017, PacGAN: The power of two samples in generative adversarial networks, arXiv:1712.04086

The discriminator judges several samples at once, all real or all fake, so that it can detect a lack of variety among fakes.

Everything else is as in the GAN being packed: here DCGAN's networks and objective, and MLPs on points. Only the discriminator's first
layer grows. A batch of 64 images gives 32 packs, so D has half as many scores as in that GAN; the authors' code keeps the number of
packs, and doubles the images. It also has uniform latents, and updates G twice per update of D.
"""

from dataclasses import replace
from typing import Literal

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import Packed, duel, generating, sampling

POINTS = {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


def pacgan(
    data: DataSpec,
    *,
    packing: int = 2,
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
    """DCGAN networks, a discriminator that sees packs of samples, non-saturating objective.

    Args:
        packing: number of samples that D judges jointly (m in the paper).
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    z = priors.by_name(prior, latent)
    d = networks.critic(data.with_channels(packing * data.channels), width, max_width=max_width)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(Packed(d, packing), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), non_saturating, n_critic=n_critic),
        abilities=replace(generating(z), judge=None),  # D cannot score a single sample
        batch=batch,
    )

"""SN-GAN. Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, arXiv:1802.05957

D's weight matrices are divided by their largest singular value, which bounds its Lipschitz constant at little cost.

One power iteration per forward pass, hinge loss, Adam 2e-4 with beta1 0.5 and one D update per G update: setting C of the
paper's table 1. The networks are DCGAN's, the discriminator without batch normalisation.
"""

from typing import Literal

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.networks.layers import spectral
from leafwing.parts import priors
from leafwing.parts.objectives import hinge
from leafwing.parts.plays import duel, generating, sampling

POINTS = {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


def sngan(
    data: DataSpec,
    *,
    latent: int = 128,
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
    """DCGAN networks, spectrally normalised discriminator, hinge loss.

    Args:
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
    d = networks.critic(data, width, norm="none", max_width=max_width).apply(spectral)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(d, Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), hinge, n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

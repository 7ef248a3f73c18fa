"""f-GAN. Nowozin et al. 2016, Training Generative Neural Samplers using Variational Divergence Minimization, arXiv:1606.00709

An f-divergence defines a GAN: the discriminator maximises a variational lower bound on it, the generator minimises that bound.

The divergence is selected by name from six of the paper's; Neyman's, Jeffrey's, the weighted Jensen-Shannon and alpha divergences
are left out. By default G minimises the alternative loss recommended in section 3.2 of the paper instead
of the bound itself. Networks and learning rates are DCGAN's; for points both networks are MLPs with three hidden layers of 8 x
width.
"""

from typing import Literal

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import variational
from leafwing.parts.plays import duel, generating, sampling

POINTS = {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


def fgan(
    data: DataSpec,
    *,
    divergence: Literal[
        "total_variation", "kl", "reverse_kl", "pearson", "squared_hellinger", "jensen_shannon"
    ] = "jensen_shannon",
    saturating: bool = False,
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
    """DCGAN networks, a variational bound on an f-divergence.

    Args:
        divergence: f-divergence to minimise.
        saturating: G minimises the bound itself (equation 6) instead of the loss recommended in section 3.2.
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
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(networks.critic(data, width, max_width=max_width), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), variational(divergence, saturating=saturating), n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

"""WGAN-GP. Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028

WGAN with a penalty that pushes the norm of the critic's input gradient towards 1, in place of weight clipping.

The critic has no batch normalisation, because the penalty applies to each sample individually. Adam 1e-4 with betas (0, 0.9),
five D updates per G update, latent dimension 128, penalty weight (lambda) 10 (the paper's toy problems: 0.1).
"""

from typing import Literal

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import wasserstein
from leafwing.parts.penalties import gradient_penalty
from leafwing.parts.plays import duel, generating, sampling

POINTS = {"penalty": 0.1, "latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


def wgan_gp(
    data: DataSpec,
    *,
    penalty: float = 10.0,
    n_critic: int = 5,
    latent: int = 128,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    beta1: float = 0.0,
    beta2: float = 0.9,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, Wasserstein loss, gradient penalty.

    Args:
        penalty: weight of the gradient penalty.
        n_critic: D updates per G update.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        beta2: Adam's beta2.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    z = priors.by_name(prior, latent)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, beta2)), ema=ema),
            "D": Player(networks.critic(data, width, norm="none", max_width=max_width), Adam(lr_d, (beta1, beta2))),
        },
        turns=duel(sampling(z), wasserstein, critic=[gradient_penalty(penalty)], n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

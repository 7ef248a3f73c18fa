"""WGAN-GP. Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028

WGAN with a penalty that pulls the critic's slope to 1, in place of clipped weights.

The critic has no batch normalisation, because the penalty is about each sample alone. Adam 1e-4 with betas (0, .9), five turns of D
for one of G, a latent of 128, penalty 10 (the paper's toy problems: 0.1).
"""

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
    prior: str = "normal",
    width: int = 64,
    widest: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    beta1: float = 0.0,
    beta2: float = 0.9,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, Wasserstein objective, gradient penalty.

    Args:
        penalty: weight of the gradient penalty.
        n_critic: turns of D for one of G.
        latent: numbers in a latent.
        prior: where latents come from: normal or uniform.
        width: channels of the layers next to the picture; doubled at each halving.
        widest: the most channels that a layer may have.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's first decay rate.
        beta2: Adam's second decay rate.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    z = priors.named(prior, latent)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, widest=widest), Adam(lr_g, (beta1, beta2)), ema=ema),
            "D": Player(networks.critic(data, width, norm="none", widest=widest), Adam(lr_d, (beta1, beta2))),
        },
        turns=duel(sampling(z), wasserstein, critic=[gradient_penalty(penalty)], n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

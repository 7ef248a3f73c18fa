"""BGAN. Hjelm et al. 2017, Boundary-Seeking Generative Adversarial Networks, arXiv:1702.08431

The generator aims at the critic's decision boundary, where it cannot tell, instead of at being taken for real.

This is the paper's continuous form: D as in the GAN, G pays half the square of its score. The discrete form, which weighs samples of
a discrete generator, is not here. Networks are DCGAN's; rates the paper's 1e-4 with beta1 .5, recalled and not checked again.
"""

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import boundary_seeking
from leafwing.parts.plays import duel, generating, sampling

POINTS = {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


def bgan(
    data: DataSpec,
    *,
    latent: int = 64,
    prior: str = "normal",
    width: int = 64,
    widest: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, boundary-seeking objective.

    Args:
        latent: numbers in a latent.
        prior: where latents come from: normal or uniform.
        width: channels of the layers next to the picture; doubled at each halving.
        widest: the most channels that a layer may have.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's first decay rate.
        n_critic: turns of D for one of G.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    z = priors.named(prior, latent)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, widest=widest), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(networks.critic(data, width, widest=widest), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), boundary_seeking, n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

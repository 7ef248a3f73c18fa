"""LSGAN. Mao et al. 2016, Least Squares Generative Adversarial Networks, arXiv:1611.04076

D and G regress D's scores to target values by least squares instead of using a sigmoid cross-entropy.

D's target is b for reals and a for fakes, G's target is c for fakes. (a, b, c) = (0, 1, 1) is the paper's code; (-1, 1, 0)
minimises a Pearson divergence; (0, 1, 0.5) is the variant that A. Jolicoeur-Martineau's Meow generator
(cat faces, 2017) describes, but whose own code could not run (its options were declared boolean). Learning rates are the Meow
generator's; its networks are twice as wide (128 to 1,024 channels), and its G is updated on the fakes that D was shown. The paper's
LSUN model has a latent dimension of 1,024 and a learning rate of 1e-3.
"""

from typing import Literal

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import least_squares
from leafwing.parts.plays import duel, generating, sampling

POINTS = {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


def lsgan(
    data: DataSpec,
    *,
    a: float = 0.0,
    b: float = 1.0,
    c: float = 1.0,
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, least-squares objective.

    Args:
        a: D's target for fakes.
        b: D's target for reals.
        c: G's target for fakes; 1, or 0.5 for the Meow generator's variant.
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
        turns=duel(sampling(z), least_squares(a, b, c), n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

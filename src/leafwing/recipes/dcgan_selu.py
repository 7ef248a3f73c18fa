"""SELU-DCGAN. Klambauer et al. 2017, Self-Normalizing Neural Networks, arXiv:1706.02515

DCGAN with SELU in place of batch normalisation and ReLU in both networks, as in the Meow generator for 128 px.

Networks and learning rates are those of A. Jolicoeur-Martineau's Meow generator (cat faces, 2017): the width doubles down to
4x4 (1,024 channels at 128 px), and D's learning rate is a quarter of G's. Its convolutions have no biases, and G's update reuses
the fakes that D was shown; here they have biases, and the fakes are new. Weights are initialised from N(0, 0.02) as there; the SELU
paper prescribes N(0, 1/fan-in).
"""

from typing import Literal

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating, sampling


def dcgan_selu(
    data: DataSpec,
    *,
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 1024,
    lr_g: float = 2e-4,
    lr_d: float = 5e-5,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """Self-normalising G and D, non-saturating objective.

    Args:
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the source.
        batch: batch size (real images per update).
    """
    data.need("dcgan_selu", image=Image)
    z = priors.by_name(prior, latent)
    g = networks.generator(data, latent, width, norm="none", activation="selu", max_width=max_width)
    d = networks.critic(data, width, norm="none", activation="selu", max_width=max_width)
    return Game(
        players={
            "G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(d, Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), non_saturating, n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

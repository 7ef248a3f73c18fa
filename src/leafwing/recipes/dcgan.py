"""DCGAN. Radford, Metz & Chintala 2015, Unsupervised Representation Learning with Deep Convolutional GANs, arXiv:1511.06434

Strided convolutions, batch normalisation, ReLU in G and leaky ReLU in D: the first recipe to try on images.

The paper's guidelines: no pooling, no fully connected hidden layers, batch normalisation everywhere except G's output and D's
input, N(0, 0.02) weights, Adam 2e-4 with beta1 0.5, batch size 128. D and G are updated once each; as in the authors' Torch code,
G's loss uses the same generated images that D was trained on.
"""

from typing import Literal

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating, sampling


def dcgan(
    data: DataSpec,
    *,
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 128,
) -> Game:
    """Convolutional G and D, non-saturating objective.

    Args:
        latent: dimension of the latent vector.
        prior: latent distribution: normal (the authors' Torch code) or uniform (the paper).
        width: channels of the layers next to the image (paper: 128); doubles each time the resolution halves.
        max_width: maximum number of channels in any layer (paper: 1024).
        lr_g: learning rate of G.
        lr_d: learning rate of D (A. Jolicoeur-Martineau's Meow generator for cat faces, 2017: 5e-5).
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    data.need("dcgan", image=Image)
    z = priors.by_name(prior, latent)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(networks.critic(data, width, max_width=max_width), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), non_saturating, n_critic=n_critic, same_round=True),
        abilities=generating(z),
        batch=batch,
    )

"""SAGAN. Zhang et al. 2018, Self-Attention Generative Adversarial Networks, arXiv:1805.08318

Self-attention relates all positions of a feature map; spectral normalisation in both networks, a higher learning rate for D.

Attention is applied at 32x32, or at half the image size where that is smaller; its weight gamma starts at 0. Hinge loss, one
D update per G update, Adam with betas (0, 0.9) and learning rates 1e-4 for G and 4e-4 for D. The networks are DCGAN's, D
without batch normalisation, where the paper's are residual; they are unconditional, while the paper conditions its batch
normalisation and D on the class. h keeps all channels, f and g an eighth; in the paper's later version h has an eighth too and
a fourth convolution restores the width, and the authors' code pools keys and values.
"""

from typing import Literal

from leafwing.fields import Image
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.networks import dcgan
from leafwing.networks.layers import spectral
from leafwing.parts import priors
from leafwing.parts.objectives import hinge
from leafwing.parts.plays import duel, generating, sampling


def sagan(
    data: DataSpec,
    *,
    latent: int = 128,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 4e-4,
    beta1: float = 0.0,
    beta2: float = 0.9,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks with self-attention and spectral normalisation in both, hinge loss.

    Args:
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        beta2: Adam's beta2.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size, real images per update (paper: 256).
    """
    data.need("sagan", image=Image)
    z = priors.by_name(prior, latent)
    g = dcgan.Generator(data, latent, width, max_width=max_width, attention=True).apply(spectral)
    d = dcgan.Critic(data, width, norm="none", max_width=max_width, attention=True).apply(spectral)
    return Game(
        players={
            "G": Player(g, Adam(lr_g, (beta1, beta2)), ema=ema),
            "D": Player(d, Adam(lr_d, (beta1, beta2))),
        },
        turns=duel(sampling(z), hinge, n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

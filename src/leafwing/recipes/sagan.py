"""SAGAN. Zhang et al. 2018, Self-Attention Generative Adversarial Networks, arXiv:1805.08318

A layer in each network lets every place of a map see all others; spectral normalisation in both, and D learns faster than G.

Attention is at the map of 32 pixels, or at half the picture where that is smaller; its weight gamma begins at 0. Hinge objective, a
turn of each, Adam with betas (0, .9) and rates 1e-4 for G and 4e-4 for D. Networks are DCGAN's, D without batch normalisation,
where the paper's are residual; they are told no class, as its batch normalisation and D are. h keeps all channels, f and g an eighth;
in the paper's later text h has an eighth too and a fourth convolution leads back, and the authors' code pools keys and values.
"""

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
    prior: str = "normal",
    width: int = 64,
    widest: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 4e-4,
    beta1: float = 0.0,
    beta2: float = 0.9,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks with self-attention and spectral normalisation in both, hinge objective.

    Args:
        latent: numbers in a latent.
        prior: where latents come from: normal or uniform.
        width: channels of the layers next to the picture; doubled at each halving.
        widest: the most channels that a layer may have.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's first decay rate.
        beta2: Adam's second decay rate.
        n_critic: turns of D for one of G.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn (the paper: 256).
    """
    data.need_pictures("sagan")
    z = priors.named(prior, latent)
    g = dcgan.Generator(data, latent, width, widest=widest, attention=True).apply(spectral)
    d = dcgan.Critic(data, width, norm="none", widest=widest, attention=True).apply(spectral)
    return Game(
        players={
            "G": Player(g, Adam(lr_g, (beta1, beta2)), ema=ema),
            "D": Player(d, Adam(lr_d, (beta1, beta2))),
        },
        turns=duel(sampling(z), hinge, n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

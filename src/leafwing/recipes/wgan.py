"""WGAN. Arjovsky, Chintala & Bottou 2017, Wasserstein GAN, arXiv:1701.07875

The critic estimates the Wasserstein distance between real and generated images; its weights are clipped to keep it Lipschitz.

RMSprop at 5e-5, five D updates per G update. As in the authors' code, D takes bursts of 100 updates before each of
the first 25 updates of G and before every 500th. Those first 25 rounds alone consume 160,000 images, so use a smaller
`burst` for short runs. Weights are clipped after D's step, as in the paper's algorithm 1; the authors' code clips before it.
"""

from typing import Literal

from leafwing import networks
from leafwing.game import Clock, DataSpec, Game, Player, RMSprop
from leafwing.parts import priors
from leafwing.parts.objectives import wasserstein
from leafwing.parts.penalties import clip_weights
from leafwing.parts.plays import duel, generating, sampling

POINTS = {"clip": 0.1, "burst": 5, "latent": 2, "width": 16, "lr_g": 5e-4, "lr_d": 5e-4, "batch": 128}


def wgan(
    data: DataSpec,
    *,
    clip: float = 0.01,
    n_critic: int = 5,
    burst: int = 100,
    burst_first: int = 25,
    burst_every: int = 500,
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 5e-5,
    lr_d: float = 5e-5,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, Wasserstein loss, weight clipping.

    Args:
        clip: D's weights are clipped to [-clip, clip].
        n_critic: D updates per G update.
        burst: D updates in a burst.
        burst_first: number of initial G updates preceded by a burst.
        burst_every: interval of further bursts, in G updates.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    z = priors.by_name(prior, latent)

    def d_updates(clock: Clock) -> int:
        return burst if clock.round < burst_first or clock.round % burst_every == 0 else n_critic

    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), RMSprop(lr_g), ema=ema),
            "D": Player(networks.critic(data, width, max_width=max_width), RMSprop(lr_d)),
        },
        turns=duel(sampling(z), wasserstein, n_critic=d_updates, after=[clip_weights("D", clip)]),
        abilities=generating(z),
        batch=batch,
    )

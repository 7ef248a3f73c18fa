"""WGAN. Arjovsky, Chintala & Bottou 2017, Wasserstein GAN, arXiv:1701.07875

The critic estimates a distance between real and generated pictures; its weights are clipped to keep it Lipschitz.

RMSprop at 5e-5, five turns of D for one of G. As in the authors' code, D takes bursts of 100 turns for the first 25 turns of G and
at every 500th: those 25 rounds alone show 160,000 images, so short trainings want a smaller `burst`. Weights are clipped after D's
step, as in the paper's algorithm 1; the authors' code clips before it.
"""

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
    prior: str = "normal",
    width: int = 64,
    widest: int = 512,
    lr_g: float = 5e-5,
    lr_d: float = 5e-5,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, Wasserstein objective, clipped weights.

    Args:
        clip: every weight of D stays within plus and minus this.
        n_critic: turns of D for one of G.
        burst: turns of D in a burst.
        burst_first: the first so many turns of G have a burst.
        burst_every: so does every turn of G divisible by this.
        latent: numbers in a latent.
        prior: where latents come from: normal or uniform.
        width: channels of the layers next to the picture; doubled at each halving.
        widest: the most channels that a layer may have.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    z = priors.named(prior, latent)

    def turns_of_d(clock: Clock) -> int:
        return burst if clock.round < burst_first or clock.round % burst_every == 0 else n_critic

    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, widest=widest), RMSprop(lr_g), ema=ema),
            "D": Player(networks.critic(data, width, widest=widest), RMSprop(lr_d)),
        },
        turns=duel(sampling(z), wasserstein, n_critic=turns_of_d, after=[clip_weights("D", clip)]),
        abilities=generating(z),
        batch=batch,
    )

"""R3GAN. Huang et al. 2024, The GAN is dead; long live the GAN! A Modern Baseline GAN, arXiv:2501.05441

Relativistic pairing of real and fake, with gradient penalties on both (R1 and R2): stable without any normalisation.

Networks, filters, initial weights and losses are those of the paper and of its authors' code, at small widths; gamma must be tuned
for each data set. The authors' presets, which have up to 768 channels and train on more than 250 million images:

    CIFAR-10, 32 px    gamma 0.05 -> 0.005    batch 512     augmentation 0 -> 0.55
    FFHQ, 64 px        gamma 2 -> 0.2         batch 256     augmentation 0 -> 0.3
    FFHQ, 256 px       gamma 150 -> 15        batch 256     augmentation 0 -> 0.3
    ImageNet, 32 px    gamma 0.5 -> 0.05      batch 4096    augmentation 0 -> 0.5
    ImageNet, 64 px    gamma 1 -> 0.1         batch 4096    augmentation 0 -> 0.4

Their schedules are cosines over the first 20 million images (200 million for ImageNet), constant from there on. Here they span the
training, however short it is, so that it ends with the small steps and the weak penalty. So does the probability of augmentation:
small data need it most, the presets have it throughout, and at the pace of the authors it would stay below 0.002 for a million
images. It rises linearly to 0.3, with ADA's changes; the authors halve that of colours and add a cutout. The half-life of their
average of G grows from 0 to 500 thousand images and more; here it is constant and short, as trainings are.

For points, which the paper does not cover, both networks are MLPs with three hidden layers of 8 x width, there is no augmentation,
and the defaults are those in `POINTS`.
"""

from typing import Literal

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.networks import fixup
from leafwing.parts import priors
from leafwing.parts.objectives import relativistic
from leafwing.parts.penalties import r1, r2
from leafwing.parts.plays import duel, generating, sampling
from leafwing.parts.schedules import cosine

POINTS = {
    "gamma": 0.1, "gamma_end": 0.02, "latent": 2, "width": 16, "lr_g": 3e-3, "lr_d": 3e-3, "lr_end": 0.0,
    "ema": 0, "batch": 128,
}  # fmt: skip


def r3gan(
    data: DataSpec,
    *,
    gamma: float = 1.0,
    gamma_end: float = 0.1,
    latent: int = 64,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 32,
    max_width: int = 256,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    lr_end: float = 0.25,
    n_critic: int = 1,
    ema: float = 10_000,
    batch: int = 64,
) -> Game:
    """Residual networks without normalisation, relativistic pairing, R1 and R2, rising augmentation.

    Args:
        gamma: initial weight of R1 and R2 (each is gamma / 2 times the squared gradient norm).
        gamma_end: final weight of R1 and R2.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels at full resolution; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: initial learning rate of G.
        lr_d: initial learning rate of D.
        lr_end: final learning rate as a fraction of the initial one.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it.
        batch: batch size, real images per update (authors: 256 at 64 and 256 px).
    """
    z = priors.by_name(prior, latent)
    g = networks.generator(data, latent, width) if data.points else fixup.Generator(data, latent, width, max_width)
    d = networks.critic(data, width) if data.points else fixup.Critic(data, width, max_width)
    slope = cosine(gamma, gamma_end)

    def with_rate(lr: float) -> Adam:
        return Adam(cosine(lr, lr * lr_end), betas=(0.0, cosine(0.9, 0.99)))

    return Game(
        players={
            "G": Player(g, with_rate(lr_g), ema=ema),
            "D": Player(d, with_rate(lr_d)),
        },
        turns=duel(sampling(z), relativistic, critic=[r1(slope), r2(slope)], n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
        augment="none" if data.points else "p=0:0.3",
    )

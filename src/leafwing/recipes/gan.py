"""GAN. Goodfellow et al. 2014, Generative Adversarial Networks, arXiv:1406.2661

The original: two multi-layer perceptrons, for small images and for points.

Sizes are those of the authors' MNIST model: two ReLU layers in G, two maxout layers with dropout in D, SGD with increasing
momentum, batch size 100. The rest is not their setting: pixels are in [-1, 1] (tanh) where theirs are in [0, 1] (sigmoid), the
latent is U(-1, 1) and theirs normal, weights have torch's default initialisation and theirs are U(-0.05, 0.05) in G and ten times
smaller in D, and D minimises the sum of its two losses, theirs half of it, which for SGD is half the learning rate. So their 0.1 is
not comparable; here it diverges to NaN on digits of 32 px within 10,000 images (bench/health.py), and the default is 0.02. The
learning rate decays by a factor of 1.000004 per update. On points the defaults, in `POINTS`, are small networks, Adam at 1e-3 and no
dropout.
"""

from typing import Literal

from leafwing.game import SGD, Adam, DataSpec, Game, Optimiser, Player
from leafwing.networks import mlp
from leafwing.parts import priors
from leafwing.parts.objectives import minimax, non_saturating
from leafwing.parts.plays import duel, generating, sampling
from leafwing.parts.schedules import decay, linear

POINTS = {
    "latent": 2, "prior": "normal", "width": 128, "width_d": 128, "pieces": 2, "dropout": 0, "optimiser": "adam",
    "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128,
}  # fmt: skip


def gan(
    data: DataSpec,
    *,
    saturating: bool = False,
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "uniform",
    width: int = 1200,
    width_d: int = 240,
    pieces: int = 5,
    dropout: float = 0.5,
    optimiser: Literal["sgd", "adam"] = "sgd",
    lr_g: float = 0.02,
    lr_d: float = 0.02,
    momentum: float = 0.7,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 100,
) -> Game:
    """MLP networks, the original objective.

    Args:
        saturating: G minimises the minimax loss (equation 1) instead of the one recommended in section 3.
        latent: dimension of the latent vector.
        prior: latent distribution: uniform or normal.
        width: units in each of G's two hidden layers.
        width_d: maxout units in each of D's two hidden layers.
        pieces: linear pieces per maxout unit.
        dropout: dropout probability of D's hidden units; 0.4 times that for inputs.
        optimiser: sgd with increasing momentum, or adam with beta1 0.5.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        momentum: final momentum of SGD, increased from 0.5 over 250 epochs of 60,000 images.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    z = priors.by_name(prior, latent)

    def with_rate(lr: float) -> Optimiser:
        if optimiser == "adam":
            return Adam(lr)
        return SGD(decay(lr, 1.000004, images=batch), momentum=linear(0.5, momentum, images=250 * 60_000))

    return Game(
        players={
            "G": Player(mlp.Generator(data, latent, (width, width)), with_rate(lr_g), ema=ema),
            "D": Player(mlp.Critic(data, (width_d, width_d), pieces=pieces, dropout=dropout), with_rate(lr_d)),
        },
        turns=duel(sampling(z), minimax if saturating else non_saturating, n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

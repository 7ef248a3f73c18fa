"""GAN. Goodfellow et al. 2014, Generative Adversarial Networks, arXiv:1406.2661

The first one: two multi-layer perceptrons, for small pictures and for points.

Sizes are those of the authors' MNIST model: G of two ReLU layers, D of two maxout layers with dropout, SGD with growing momentum,
batch 100; pixels here run from -1 to 1 (tanh) where theirs run from 0 to 1 (sigmoid), and the latent is U(-1, 1). With their rate, .1,
training on such pictures of 32 pixels ends in nan within 10,000 images; here it is a fifth of that.
The rate falls by a factor of 1.000004 each update. For points, small networks, Adam at 1e-3 and no dropout do better: those are
the defaults in `POINTS`.
"""

from typing import Literal

from leafwing.game import SGD, Adam, DataSpec, Game, Learns, Player
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
    prior: str = "uniform",
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
        saturating: G minimises the minimax cost (equation 1) instead of the one advised in section 3.
        latent: numbers in a latent.
        prior: where latents come from: uniform or normal.
        width: units in each of G's two hidden layers.
        width_d: maxout units in each of D's two hidden layers.
        pieces: linear pieces of a maxout unit.
        dropout: share of D's hidden units dropped; inputs are dropped at 0.4 times that.
        optimiser: sgd with growing momentum, or adam with beta1 .5.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        momentum: what SGD's momentum grows to, from .5, over 250 epochs of 60,000 images.
        n_critic: turns of D for one of G.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    z = priors.named(prior, latent)

    def learns(lr: float) -> Learns:
        if optimiser == "adam":
            return Adam(lr)
        return SGD(decay(lr, 1.000004, images=batch), momentum=linear(0.5, momentum, images=250 * 60_000))

    return Game(
        players={
            "G": Player(mlp.Generator(data, latent, (width, width)), learns(lr_g), ema=ema),
            "D": Player(mlp.Critic(data, (width_d, width_d), pieces=pieces, dropout=dropout), learns(lr_d)),
        },
        turns=duel(sampling(z), minimax if saturating else non_saturating, n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

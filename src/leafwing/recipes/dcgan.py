"""DCGAN. Radford, Metz & Chintala 2015, Unsupervised Representation Learning with Deep Convolutional GANs, arXiv:1511.06434

Convolutions with strides, batch normalisation, ReLU up and leaky ReLU down: the first recipe to try on pictures.

The paper's rules: no pooling, no fully connected hidden layer, normalisation everywhere but at G's output and D's input,
N(0, .02) weights, Adam 2e-4 with beta1 .5, batch 128. D and G move once each; as in the authors' Torch code, G pays for the
very fakes that D was shown.
"""

from leafwing import networks
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating, sampling


def dcgan(
    data: DataSpec,
    *,
    latent: int = 100,
    prior: str = "normal",
    width: int = 64,
    widest: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 128,
) -> Game:
    """Convolutional G and D, non-saturating objective.

    Args:
        latent: numbers in a latent.
        prior: where latents come from: normal (the authors' Torch code) or uniform (the paper).
        width: channels of the layers next to the picture (the paper: 128); doubled at each halving.
        widest: the most channels that a layer may have (the paper: 1024).
        lr_g: learning rate of G.
        lr_d: learning rate of D; the Meow generator's code has 5e-5.
        beta1: Adam's first decay rate.
        n_critic: turns of D for one of G.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    data.need_pictures("dcgan")
    z = priors.named(prior, latent)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, widest=widest), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(networks.critic(data, width, widest=widest), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z), non_saturating, n_critic=n_critic, same_round=True),
        abilities=generating(z),
        batch=batch,
    )

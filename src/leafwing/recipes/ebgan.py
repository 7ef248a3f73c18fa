"""EBGAN. Zhao, Mathieu & LeCun 2016, Energy-based Generative Adversarial Network, arXiv:1609.03126

The discriminator is an autoencoder and its reconstruction error is the energy: low on data, at least a margin elsewhere.

G may be penalised for fakes whose *codes* point in the same direction (the pull-away term, section 2.4; some implementations
use the images themselves). The energy is the mean squared error per pixel in [-1, 1], so a margin of 1 is large. The networks
are DCGAN's, the decoder mirrors the encoder; Adam 2e-4 with beta1 0.5. The paper's margin for MNIST is 10, on the norm of the
error rather than its mean square.
"""

from typing import Literal

from torch import Tensor, nn

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.networks import dcgan
from leafwing.networks.layers import dcgan_weights
from leafwing.parts import priors
from leafwing.parts.objectives import energy
from leafwing.parts.penalties import pull_away
from leafwing.parts.plays import duel, generating, sampling


class AutoEncoder(nn.Module):
    """Images (n, channels, height, width) in [-1, 1] -> scores (n,): the negative mean squared reconstruction error."""

    def __init__(self, data: DataSpec, width: int, max_width: int) -> None:
        super().__init__()
        channels = dcgan.widths(data, width, max_width)
        self.encode = dcgan.Critic(data, width, max_width=max_width).body
        layers: list[nn.Module] = []
        for inputs, outputs in zip(channels[::-1], channels[-2::-1], strict=False):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
        self.decode = nn.Sequential(*layers, nn.ConvTranspose2d(channels[0], data.channels, 4, 2, 1), nn.Tanh())
        self.decode.apply(dcgan_weights)

    def forward(self, x: Tensor) -> Tensor:
        return -(self.decode(self.encode(x)) - x).square().flatten(1).mean(1)


def ebgan(
    data: DataSpec,
    *,
    margin: float = 1.0,
    pull: float = 0.1,
    latent: int = 100,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, an autoencoder as discriminator, hinge loss on the energy.

    Args:
        margin: energy above which fakes no longer contribute to D's loss.
        pull: weight of the pull-away term; 0 disables it.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    data.need("ebgan", image=Image)
    z = priors.by_name(prior, latent)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(AutoEncoder(data, width, max_width), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(
            sampling(z),
            energy(margin),
            generator=[pull_away(lambda r: r.nets.D.encode(r.augment(r.fake)), pull)] if pull else [],
            n_critic=n_critic,
        ),
        abilities=generating(z),
        batch=batch,
    )

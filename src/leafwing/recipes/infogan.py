"""InfoGAN. Chen et al. 2016, Interpretable Representation Learning by Information Maximizing GANs, arXiv:1606.03657

Part of the latent is a code that a head of D must read back from the picture, so that the code comes to mean something.

Both players pay -L_I (equation 5), less the constant entropy: the cross entropy of a category and half the squared error of numbers
from -1 to 1 (a Gaussian of fixed width). As in the authors' code the head Q shares D's trunk and learns with D, G learns five times as
fast as D, and both kinds of codes weigh 1. log(categories) less D's cost `category` is the bound of the mutual information, in nats.
Networks are DCGAN's.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leafwing import networks
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term
from leafwing.networks import dcgan
from leafwing.networks.layers import dcgan_weights
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating


class Critic(nn.Module):
    """Pictures (n, channels, height, width) -> scores (n,) and what Q reads: logits of the category and the means of the codes."""

    def __init__(self, net: dcgan.Critic, codes: int) -> None:
        super().__init__()
        self.net = net
        height, width = net.out.kernel_size
        self.read = nn.Sequential(
            nn.Conv2d(net.features_size, 128, (height, width), bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(128, codes),
        ).apply(dcgan_weights)  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.features(x)
        return self.net.score(features), self.read(features)


def infogan(
    data: DataSpec,
    *,
    categories: int = 10,
    codes: int = 2,
    information: float = 1.0,
    latent: int = 62,
    prior: str = "uniform",
    width: int = 64,
    widest: int = 512,
    lr_g: float = 1e-3,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 128,
) -> Game:
    """DCGAN networks, a head that reads the code, non-saturating objective.

    Args:
        categories: values of the categorical code.
        codes: how many numbers from -1 to 1 the code has besides.
        information: weight, in what G pays, of the information that the picture must hold about the code; with 0 nothing asks G to
            show its code, and Q only tries to read it.
        latent: numbers in a latent beside the code.
        prior: where those come from: normal or uniform.
        width: channels of the layers next to the picture; doubled at each halving.
        widest: the most channels that a layer may have.
        lr_g: learning rate of G.
        lr_d: learning rate of D and Q.
        beta1: Adam's first decay rate.
        n_critic: turns of D for one of G.
        ema: half-life of G's averaged copy in images; 0 for none, as in the paper.
        batch: real images in a turn.
    """
    data.need_pictures("infogan")
    numbers = {f"code{i}": priors.Uniform(1) for i in range(codes)}
    z = priors.Product({"noise": priors.named(prior, latent), "category": priors.Categorical(categories), **numbers})
    trunk = networks.critic(data, width, widest=widest)
    assert isinstance(trunk, dcgan.Critic)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        latents = z(batch.n, batch.image.device)
        code = latents[:, latent:]
        return Round(nets, real=batch.image, fake=nets.G(latents), judge=nets.D, clock=clock, code=code)

    def reading(weight: float) -> list[Term]:
        def category(r: Any) -> Tensor:
            return weight * cross_entropy(r.fake_heads[:, :categories], r.code[:, :categories])

        def number(r: Any) -> Tensor:
            return weight * 0.5 * (r.fake_heads[:, categories:] - r.code[:, categories:]).square().sum(1).mean()

        return [Term("category", category), *([Term("codes", number)] if codes else [])]

    return Game(
        players={
            "G": Player(networks.generator(data, z.size, width, widest=widest), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(Critic(trunk, categories + codes), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(play, non_saturating, critic=reading(1), generator=reading(information), n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

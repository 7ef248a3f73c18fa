"""InfoGAN. Chen et al. 2016, Interpretable Representation Learning by Information Maximizing GANs, arXiv:1606.03657

Part of the latent is a code that a head of D must recover from the generated image, so that the code becomes interpretable.

Both players minimise -L_I (equation 5) without the constant entropy: cross-entropy for the categorical code and half the
squared error for the continuous codes in [-1, 1] (a Gaussian of fixed width). As in the authors' code the head Q shares D's
trunk and is trained with D, G's learning rate is five times D's, and both kinds of codes have weight 1. log(categories) minus
D's loss `category` is the lower bound on the mutual information, in nats. The networks are DCGAN's.
"""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term
from leafwing.networks import dcgan
from leafwing.networks.layers import dcgan_weights
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating


class Critic(nn.Module):
    """Images (n, channels, height, width) -> scores (n,) and Q's output: category logits and means of the continuous codes."""

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
    prior: Literal["normal", "uniform"] = "uniform",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 1e-3,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 128,
) -> Game:
    """DCGAN networks, a head that recovers the code, non-saturating objective.

    Args:
        categories: number of values of the categorical code.
        codes: number of continuous codes, each in [-1, 1].
        information: weight of the mutual information term in G's loss; with 0, G is not trained to express the code and Q merely
            tries to recover it.
        latent: dimension of the noise part of the latent, without the code.
        prior: distribution of the noise part.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D and Q.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    data.need("infogan", image=Image)
    continuous = {f"code{i}": priors.Uniform(1) for i in range(codes)}
    z = priors.Product({"noise": priors.by_name(prior, latent), "category": priors.Categorical(categories), **continuous})
    trunk = networks.critic(data, width, max_width=max_width)
    assert isinstance(trunk, dcgan.Critic)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        latents = z(batch.n, batch.image.device)
        code = latents[:, latent:]
        return Round(nets, real=batch.image, fake=nets.G(latents), judge=nets.D, clock=clock, code=code)

    def code_terms(weight: float) -> list[Term]:
        def category(r: Any) -> Tensor:
            return weight * cross_entropy(r.fake_heads[:, :categories], r.code[:, :categories])

        def continuous_codes(r: Any) -> Tensor:
            return weight * 0.5 * (r.fake_heads[:, categories:] - r.code[:, categories:]).square().sum(1).mean()

        return [Term("category", category), *([Term("codes", continuous_codes)] if codes else [])]

    return Game(
        players={
            "G": Player(networks.generator(data, z.size, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(Critic(trunk, categories + codes), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(play, non_saturating, critic=code_terms(1), generator=code_terms(information), n_critic=n_critic),
        abilities=generating(z),
        batch=batch,
    )

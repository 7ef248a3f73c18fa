"""AC-GAN. Odena, Olah & Shlens 2016, Conditional Image Synthesis with Auxiliary Classifier GANs, arXiv:1610.09585

G is conditioned on a class label; D has an auxiliary classifier head, and both minimise the classification error.

The classification loss L_C is added to the GAN loss L_S: for D on real images, for G on generated ones. In the paper (equations
2 and 3) D also minimises it on generated images, so that G and D can agree on features that identify a class to nobody else:
the option `class_fakes`. The networks are DCGAN's; the class head is linear on D's last feature map, averaged over positions.
Adam 2e-4 with beta1 0.5 as in the paper.
"""

from dataclasses import replace
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leafwing import networks
from leafwing.fields import Image, Label
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term, scores
from leafwing.networks import dcgan
from leafwing.parts import priors
from leafwing.parts.conditioning import ConditionalGenerator
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating


class Critic(nn.Module):
    """Images (n, channels, height, width) -> scores (n,) and class logits (n, classes)."""

    def __init__(self, net: dcgan.Critic, classes: int) -> None:
        super().__init__()
        self.net = net
        self.classes = nn.Linear(net.features_size, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.features(x)
        return self.net.score(features), self.classes(features.mean((2, 3)))


def acgan(
    data: DataSpec,
    *,
    class_weight: float = 1.0,
    class_fakes: bool = False,
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
    """DCGAN networks, a class head on D, non-saturating objective.

    Args:
        class_weight: weight of the classification loss of both players.
        class_fakes: D's classification loss includes generated images, as in the paper.
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
    data.need("acgan", image=Image, label=Label)
    classes, z = len(data.labels), priors.by_name(prior, latent)
    trunk = networks.critic(data, width, max_width=max_width)
    assert isinstance(trunk, dcgan.Critic)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        fake = nets.G(z(batch.n, batch.image.device), batch.label)
        return Round(nets, real=batch.image, fake=fake, judge=nets.D, clock=clock, label=batch.label)

    real = Term("class_real", lambda r: class_weight * cross_entropy(r.real_heads, r.label))
    fake = Term("class_fake", lambda r: class_weight * cross_entropy(r.fake_heads, r.label))
    g = ConditionalGenerator(networks.generator(data, latent + classes, width, max_width=max_width), classes)
    return Game(
        players={
            "G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(Critic(trunk, classes), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(
            play, non_saturating, critic=[real, fake] if class_fakes else [real], generator=[fake], n_critic=n_critic
        ),
        abilities=replace(
            generating(z, "label"), classify=lambda nets, x: nets.D(x)[1], judge=lambda nets, x, inputs: scores(nets.D(x))
        ),
        batch=batch,
    )

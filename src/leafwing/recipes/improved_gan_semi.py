"""Improved-GAN-semi. Salimans et al. 2016, Improved Techniques for Training GANs, arXiv:1606.03498

D is a classifier with an extra class for generated images: it also learns from unlabelled images, so few labels suffice.

Section 5 with the MLPs and settings of the released MNIST code. D outputs a logit for each of K classes; the logit of the class
"generated" is fixed at 0, so the logsumexp of the K logits is the logit of "real", from which the GAN loss follows (halved, as
in the code). Labelled images are a separate stream (`--labelled`); without it, every image's label is used. G is trained by
feature matching on D's last hidden layer. Gaussian noise is added to the input of every layer of D. Differences: weights have
no data-dependent initialisation, and the EMA of D, which classifies, has a shorter half-life.
"""

from dataclasses import replace
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm

from leafwing.fields import Image, Label
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term, Turn
from leafwing.networks.layers import Noise
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.penalties import feature_matching
from leafwing.parts.plays import generating


def _dense(inputs: int, outputs: int) -> nn.Module:
    """A linear layer with weight normalisation."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return weight_norm(layer)


class Critic(nn.Module):
    """Images -> the logit of "real" (n,) and class logits (n, classes)."""

    def __init__(self, data: DataSpec, width: int) -> None:
        super().__init__()
        sizes = [data.size, *(max(1, width // part) for part in (1, 2, 4, 4, 4))]
        layers: list[nn.Module] = [nn.Flatten(), Noise(0.3)]
        for inputs, outputs in pairwise(sizes):
            layers += [_dense(inputs, outputs), nn.ReLU(), Noise(0.5)]
        self.body = nn.Sequential(*layers[:-1])
        self.out = nn.Sequential(layers[-1], _dense(sizes[-1], len(data.labels)))

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer: (n, width / 4)."""
        return self.body((x + 1) / 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.out(self.features(x))
        return logits.logsumexp(1), logits


class Generator(nn.Module):
    """Latents (n, latent) -> two softplus layers with batch normalisation -> images."""

    def __init__(self, data: DataSpec, latent: int, width: int) -> None:
        super().__init__()
        layers, units = list[nn.Module](), max(1, width // 2)
        for inputs in (latent, units):
            layers += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.Softplus()]
        self.body = nn.Sequential(*layers, _dense(units, data.size), nn.Tanh())
        self.shape = data.shape

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z).unflatten(1, self.shape)


def improved_gan_semi(
    data: DataSpec,
    *,
    unlabelled: float = 0.5,
    latent: int = 100,
    width: int = 1000,
    lr_g: float = 3e-3,
    lr_d: float = 3e-3,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    ema_d: float = 10_000,
    batch: int = 100,
) -> Game:
    """MLPs for small images; D is also a classifier.

    Args:
        unlabelled: weight of the GAN loss in D's loss; 0 trains D on the labelled images alone.
        latent: dimension of the latent vector.
        width: units in D's first layer; its other layers have a half and a quarter of that, G's a half.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it.
        ema_d: the same for D, which classifies; the code's 0.0001 per step corresponds to 690,000.
        batch: batch size (real images per update).
    """
    data.need("improved_gan_semi", image=Image, label=Label)
    z = priors.by_name("uniform", latent)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        labelled, label = batch.get("labelled_image", batch.image), batch.get("labelled_label", batch.get("label"))
        fake = nets.G(z(batch.n, batch.image.device))
        return Round(nets, batch.image, fake, nets.D, labelled=labelled, label=label, clock=clock)

    classification = Term("class", lambda r: cross_entropy(r.nets.D(r.augment(r.labelled))[1].float(), r.label))
    adversarial = Term("adversarial", lambda r: unlabelled * non_saturating.critic(r))
    match = feature_matching(lambda r, x: r.nets.D.features(r.augment(x)))
    return Game(
        players={
            "G": Player(Generator(data, latent, width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(Critic(data, width), Adam(lr_d, (beta1, 0.999)), ema=ema_d),
        },
        turns=[Turn("D", play, [classification, adversarial], repeat=n_critic), Turn("G", play, [match])],
        abilities=replace(generating(z), classify=lambda nets, x: nets.D(x)[1]),
        batch=batch,
    )

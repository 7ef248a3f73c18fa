"""Improved-GAN-semi. Salimans et al. 2016, Improved Techniques for Training GANs, arXiv:1606.03498

D names the class of real pictures, or says that one is generated: few labels suffice, as all pictures teach it what is real.

Section 5 with the perceptrons and settings of the released code for MNIST. D gives a logit for each of K classes, that of generated
pictures is 0: log sum exp of the K is the logit of "real", and the GAN's cost follows (half of it, as in the code). Labelled pictures
are a stream of their own (`--labelled`); without it, every picture's label is used. G matches the mean of D's last features. Noise
enters all layers of D. We differ: weights are not initialised from data, and D's average, which classifies, forgets faster.
"""

from dataclasses import replace
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm

from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term, Turn
from leafwing.networks.layers import Noise
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating
from leafwing.parts.penalties import feature_matching
from leafwing.parts.plays import generating


def _dense(inputs: int, outputs: int) -> nn.Module:
    """A linear layer with normalised weights."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return weight_norm(layer)


class Critic(nn.Module):
    """Pictures -> the logit of "real" (n,), and logits of the classes (n, classes)."""

    def __init__(self, data: DataSpec, width: int) -> None:
        super().__init__()
        sizes = [data.size, width, width // 2, width // 4, width // 4, width // 4]
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
    """Latents (n, latent) -> two softplus layers with batch normalisation -> pictures."""

    def __init__(self, data: DataSpec, latent: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (latent, width // 2):
            layers += [nn.Linear(inputs, width // 2, bias=False), nn.BatchNorm1d(width // 2), nn.Softplus()]
        self.body = nn.Sequential(*layers, _dense(width // 2, data.size), nn.Tanh())
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
    """Perceptrons for small pictures; D classifies.

    Args:
        unlabelled: weight of the GAN's cost in D's; 0 for a classifier of the labelled pictures alone.
        latent: numbers in a latent.
        width: units of D's first layer; the others have a half and a quarter, G's a half.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's first decay rate.
        n_critic: turns of D for one of G.
        ema: half-life of G's averaged copy in images; 0 for none.
        ema_d: the same of D's, which classifies; .0001 a step in the code is 690,000.
        batch: real images in a turn.
    """
    data.need_pictures("improved_gan_semi")
    data.need_labels("improved_gan_semi")
    z = priors.named("uniform", latent)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        few, label = batch.get("labelled_image", batch.image), batch.get("labelled_label", batch.get("label"))
        fake = nets.G(z(batch.n, batch.image.device))
        return Round(nets, batch.image, fake, nets.D, few=few, label=label, clock=clock)

    named = Term("class", lambda r: cross_entropy(r.nets.D(r.few)[1].float(), r.label))
    real = Term("adversarial", lambda r: unlabelled * non_saturating.critic(r))
    match = feature_matching(lambda r, x: r.nets.D.features(x))
    return Game(
        players={
            "G": Player(Generator(data, latent, width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(Critic(data, width), Adam(lr_d, (beta1, 0.999)), ema=ema_d),
        },
        turns=[Turn("D", play, [named, real], repeat=n_critic), Turn("G", play, [match])],
        abilities=replace(generating(z), classify=lambda nets, x: nets.D(x)[1]),
        batch=batch,
    )

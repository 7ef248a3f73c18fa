"""cGAN. Mirza & Osindero 2014, Conditional Generative Adversarial Nets, arXiv:1411.1784

G and D both receive a class label or attributes, so that you can ask for samples of a class or with given attributes.

The objective is the paper's; the networks are DCGAN's instead of its MLPs. The condition (a label, attributes, or both as one
vector) is concatenated to G's latent. D uses a projection (Miyato & Koyama 2018, arXiv:1802.05637) or concatenation with
one constant feature map per component, as in DCGAN implementations; the paper feeds image and condition through a hidden layer
each and concatenates the results.
"""

from typing import Literal

from leafwing import networks
from leafwing.fields import Attributes, Image, Label
from leafwing.game import Adam, DataSpec, Game, Player
from leafwing.parts import priors
from leafwing.parts.conditioning import Concatenation, ConditionalGenerator, Projection
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel, generating, sampling


def cgan(
    data: DataSpec,
    *,
    condition_on: Literal["auto", "label", "attributes", "both"] = "auto",
    conditioning: Literal["projection", "concatenation"] = "projection",
    condition_scale: float = 1.0,
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
    """Class- or attribute-conditional DCGAN networks, non-saturating objective.

    Args:
        condition_on: what G and D are conditioned on: label, attributes or both; auto: the label if there are
            labels, else attributes.
        conditioning: how D receives the condition: projection or concatenation.
        condition_scale: factor of the condition in G's input. A one-hot label has length 1, 100 normal latents about 10; in the
            paper the label has a hidden layer of its own, five times as wide as the latent's.
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
    data.need("cgan", image=Image)
    if condition_on == "auto":
        condition_on = "attributes" if data.attributes and not data.labels else "label"
    if condition_on != "attributes":
        data.need("cgan", label=Label)
    if condition_on != "label":
        data.need("cgan", attributes=Attributes)
    classes = 0 if condition_on == "attributes" else len(data.labels)
    attributes = 0 if condition_on == "label" else len(data.attributes)
    conditions = ("label", "attributes") if condition_on == "both" else (condition_on,)
    z = priors.by_name(prior, latent)
    generator = networks.generator(data, latent + classes + attributes, width, max_width=max_width)
    g = ConditionalGenerator(generator, classes, condition_scale)
    if conditioning == "projection":
        trunk = networks.critic(data, width, max_width=max_width)
        d: Projection | Concatenation = Projection(trunk, trunk.features_size, classes, attributes)
    else:
        d = Concatenation(networks.critic(data, width, max_width=max_width, extra=classes + attributes), classes)
    return Game(
        players={
            "G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(d, Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(sampling(z, *conditions), non_saturating, n_critic=n_critic),
        abilities=generating(z, *conditions),
        batch=batch,
    )

"""BiGAN. Donahue, Krahenbuhl & Darrell 2016, Adversarial Feature Learning, arXiv:1605.09782

Adds an encoder: D sees image-latent pairs, and (x, E(x)) is indistinguishable from (G(z), z) only if E inverts G.

With a stochastic encoder this is ALI (Dumoulin et al. 2016, Adversarially Learned Inference, arXiv:1606.00704), which samples
E(x) from a Gaussian whose mean and log-variance the encoder predicts. G and E are updated together, after D; the authors update
all three at once. The networks are DCGAN's, where BiGAN uses MLPs on MNIST and ALI has dropout, and maxout for CIFAR-10; Adam 2e-4
with beta1 0.5 (ALI: 1e-4).
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Player, Round, Term, Turn, scores
from leafwing.networks.encoders import Encoder, JointCritic
from leafwing.parts import priors
from leafwing.parts.objectives import joint
from leafwing.parts.plays import generating


def bigan(
    data: DataSpec,
    *,
    encoder: Literal["deterministic", "stochastic"] = "deterministic",
    latent: int = 50,
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
    """DCGAN networks, an encoder, a discriminator of image-latent pairs.

    Args:
        encoder: deterministic (BiGAN) or stochastic (ALI).
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G and E.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        n_critic: D updates per update of G and E.
        ema: half-life of the EMA of G's and E's weights, in images; 0 disables it, as in the paper.
        batch: batch size (real images per update).
    """
    data.need("bigan", image=Image)
    z, stochastic = priors.by_name(prior, latent), encoder == "stochastic"

    def code(output: Tensor) -> Tensor:
        if not stochastic:
            return output
        mean, log_variance = output.chunk(2, dim=1)
        return mean + (log_variance / 2).exp() * torch.randn_like(mean)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        latents = z(batch.n, batch.image.device)
        codes = code(nets.E(batch.image))
        fake = nets.G(latents)
        judge, judge_fake = lambda x: nets.D(x, codes), lambda x: nets.D(x, latents)
        return Round(nets, real=batch.image, fake=fake, judge=judge, judge_fake=judge_fake, clock=clock)

    e = Encoder(data, 2 * latent if stochastic else latent, width, max_width=max_width)
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "E": Player(e, Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(JointCritic(data, latent, width, max_width=max_width), Adam(lr_d, (beta1, 0.999))),
        },
        turns=[
            Turn("D", play, [Term("adversarial", joint.critic)], repeat=n_critic),
            Turn("G E", play, [Term("adversarial", joint.generator)]),
        ],
        abilities=replace(
            generating(z),
            encode=lambda nets, x: nets.E(x)[:, :latent],
            judge=lambda nets, x, inputs: scores(nets.D(x, nets.E(x)[:, :latent])),
        ),
        batch=batch,
    )

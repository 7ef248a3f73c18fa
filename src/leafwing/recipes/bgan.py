"""BGAN. Hjelm et al. 2017, Boundary-Seeking Generative Adversarial Networks, arXiv:1702.08431

G is trained to produce samples on D's decision boundary, where D is undecided, rather than samples that D classifies as real.

In the continuous form D is trained as in the GAN and G minimises half the square of D's score. The discrete form is for binary
images, and the data is binarised: G outputs the probability of each pixel being on, `draws` images are sampled per latent, and
G minimises their negative log-likelihoods, each weighted by exp(s) normalised over the samples of its latent (section 2.3); the
images shown to users are the most likely ones. The networks are DCGAN's; learning rates, latent dimension and draws are
those of the authors' code, which shows D all draws; here D sees one.
"""

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from leafwing import networks
from leafwing.fields import Image
from leafwing.game import Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, scores, to_fp32
from leafwing.parts import priors
from leafwing.parts.objectives import Objective, boundary_seeking
from leafwing.parts.plays import duel, generating, sampling, straight_through

POINTS = {"latent": 2, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 128}


def bgan(
    data: DataSpec,
    *,
    discrete: bool = False,
    draws: int = 20,
    latent: int = 64,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    beta1: float = 0.5,
    n_critic: int = 1,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """DCGAN networks, boundary-seeking objective.

    Args:
        discrete: use the discrete form, for binary images.
        draws: images sampled per latent in the discrete form.
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
    z = priors.by_name(prior, latent)
    play, objective, abilities = sampling(z), boundary_seeking, generating(z)

    def binarise(values: Tensor) -> Tensor:
        """1 where a value is positive, else -1."""
        return (values > 0).to(values.dtype) * 2 - 1

    def discrete_play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        mean = to_fp32(nets.G(z(batch.n, batch.image.device)))[:, None]  # mean of a pixel in {-1, 1}: (n, 1, ...)
        samples = binarise(mean + 1 - 2 * torch.rand(batch.n, draws, *data.shape, device=mean.device))
        return Round(nets, binarise(batch.image), samples[:, 0], nets.D, mean=mean, samples=samples, clock=clock)

    def discrete_loss(r: Any) -> Tensor:
        judged = r.augment(r.samples.flatten(0, 1), alike=draws)  # weights compare the draws of a latent, not their changes
        weights = to_fp32(r.nets.D(judged)).unflatten(0, (-1, draws)).softmax(1)
        log_likelihood = ((1 + r.samples * r.mean) / 2).clamp_min(1e-6).log().flatten(2).sum(2)
        return -(weights * log_likelihood).sum(1).mean()

    if discrete:
        data.need("bgan in its discrete form", image=Image)
        play, objective = discrete_play, Objective(boundary_seeking.critic, discrete_loss)
        output = Output("image", lambda nets, inputs, clock: straight_through(binarise, nets.G(inputs.latent)), prior=z)
        abilities = replace(abilities, outputs=[output], judge=lambda nets, x, inputs: scores(nets.D(binarise(x))))
    return Game(
        players={
            "G": Player(networks.generator(data, latent, width, max_width=max_width), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(networks.critic(data, width, max_width=max_width), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(play, objective, n_critic=n_critic),
        abilities=abilities,
        batch=batch,
    )

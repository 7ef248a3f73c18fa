"""sGAN. Olut et al. 2018, Generative Adversarial Training for MRA Image Synthesis Using Multi-Contrast MRI, arXiv:1804.04366

Makes an image of one kind from several of other kinds of the same thing, and keeps thin structures: vessels in angiography.

From the abstract: magnetic resonance angiography from T1- and T2-weighted images, with the discriminator of pix2pix, and a loss term
that compares the responses of steerable filters to the generated and to the real image by a Huber function. The rest is our choice.
Filters: the first and second derivatives of a Gaussian of 1 pixel in 4 directions, which respond to edges and to lines; the Huber
function is quadratic up to 0.1, and divided by that, so that large differences count as in L1; weight 100. As in pix2pix: G's loss
includes 100 x L1, D's is halved and it sees the contrasts too, Adam 2e-4 with beta1 0.5. G is the residual translator.

A contrast is a channel of `input`, or a further field of the data that `further` names. There is no noise: G is deterministic.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from leafwing.errors import LeafwingError
from leafwing.fields import Image, Mask, Segmentation
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, scores
from leafwing.networks import patch, residual
from leafwing.parts.objectives import Objective, non_saturating
from leafwing.parts.plays import duel
from leafwing.parts.steerable import responses

QUADRATIC = 0.1
"""Differences of responses up to which the Huber function is quadratic."""


def sgan_mra(
    data: DataSpec,
    *,
    further: str = "",
    steerable: float = 100.0,
    sigma: float = 1.0,
    directions: int = 4,
    adversarial: float = 1.0,
    l1: float = 100.0,
    blocks: int = 0,
    width: int = 64,
    max_width: int = 256,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    ema: float = 0,
    batch: int = 4,
) -> Game:
    """Residual translator, PatchGAN, non-saturating objective, L1 distance and a steerable-filter loss.

    Args:
        further: names of fields with pixels that are contrasts besides `input`, separated by commas.
        steerable: weight of the steerable-filter loss.
        sigma: standard deviation of the filters' Gaussian, in pixels: about the half width of the structures to be kept.
        directions: number of directions of the filters.
        adversarial: weight of the adversarial loss of G.
        l1: weight of the L1 distance between generated and real images.
        blocks: residual blocks of G; 0: 9 from 256 px on, else 6.
        width: channels at full resolution; doubles at each halving.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images; 0 disables it.
        batch: batch size (pairs per update).
    """
    contrasts = ("input", *(name.strip() for name in further.split(",") if name.strip()))
    pixels: Any = (Image, Mask, Segmentation)
    data.need("sgan_mra", image=Image, input=pixels, **dict.fromkeys({*contrasts} - {"image", "input"}, pixels))
    kinds = [data.fields[name] for name in contrasts]
    if len({*contrasts, "image"}) <= len(contrasts) or any(kind.shape[1:] != data.shape[1:] for kind in kinds):
        raise LeafwingError(f"recipe sgan_mra: contrasts are different fields of the image's size: {data.describe()}")
    inputs = sum(kind.shape[0] for kind in kinds)
    objective = Objective(
        critic=lambda r: 0.5 * non_saturating.critic(r), generator=lambda r: adversarial * non_saturating.generator(r)
    )

    def joined(fields: Batch) -> Tensor:
        return torch.cat([fields[name] for name in contrasts], 1)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        x = joined(batch)
        return Round(nets, real=batch.image, fake=nets.G(x), judge=nets.D, beside=x, clock=clock)

    def distance(r: Round) -> Tensor:
        return l1 * (r.fake - r.real).abs().mean()

    def lines(r: Round) -> Tensor:
        real, fake = (responses(image, sigma, directions) for image in (r.real, r.fake))
        return steerable / QUADRATIC * huber_loss(fake, real, delta=QUADRATIC)

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return scores(nets.D(samples, joined(inputs))).flatten(1).mean(1)

    g = residual.Generator(data, inputs, width, max_width=max_width, blocks=blocks)
    d = patch.Critic(data, inputs, width=width, max_width=max_width)
    output = Output("image", lambda nets, inputs, clock: nets.G(joined(inputs)), contrasts, multiple=residual.MULTIPLE)
    return Game(
        players={"G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema), "D": Player(d, Adam(lr_d, (beta1, 0.999)))},
        turns=duel(play, objective, generator=[Term("l1", distance), Term("steerable", lines)], same_round=True),
        abilities=Abilities([output], judge=judge),
        batch=batch,
    )

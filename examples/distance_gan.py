"""DistanceGAN. Benaim & Wolf 2017, One-Sided Unsupervised Domain Mapping, arXiv:1706.00826

Translates to another kind of images without pairs, in one direction: two inputs that differ much must become images that differ much.

Distances are mean absolute differences, standardised by those of the real samples of their kind (eq. 5). The paper computes these
statistics once from all training samples; here they are those of the batch. G is a U-Net without dropout, not a residual network.
"""

from typing import Any

import torch
from torch import Tensor

from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term
from leafwing.networks import patch, unet
from leafwing.parts.objectives import non_saturating
from leafwing.parts.plays import duel


def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
    return Round(nets, real=batch.image, fake=nets.G(batch.input), judge=nets.D, clock=clock, input=batch.input)


def distances(x: Tensor) -> Tensor:
    """The distance of each pair of samples (n, ...): (pairs,)."""
    i, j = torch.triu_indices(len(x), len(x), 1, device=x.device)
    return (x[i] - x[j]).abs().flatten(1).mean(1)


def distance_gan(
    data: DataSpec,
    *,
    distance: float = 1.0,
    width: int = 32,
    max_width: int = 256,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    batch: int = 16,
) -> Game:
    """U-Net, PatchGAN, non-saturating objective, and distances that are kept.

    Args:
        distance: weight of the absolute difference between the standardised distances of inputs and of their translations.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        batch: batch size (images of each kind per update), at least 3.
    """
    data.need("distance_gan", unpaired=["input"], image=Image, input=Image)

    def keep_distances(r: Any) -> Tensor:
        before, after, real = (distances(x) for x in (r.input, r.fake, r.real))
        standardised = (before - before.mean()) / before.std(), (after - real.mean()) / real.std()
        return distance * (standardised[0] - standardised[1]).abs().mean()

    g = unet.Generator(data, data.fields["input"].shape[0], width, max_width=max_width, dropout=0)
    d = patch.Critic(data, patch=16, width=width, max_width=max_width)
    output = Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",), multiple=2 ** unet.halvings(data))
    return Game(
        players={"G": Player(g, Adam(lr_g)), "D": Player(d, Adam(lr_d))},
        turns=duel(play, non_saturating, generator=[Term("distance", keep_distances)]),
        abilities=Abilities([output], judge=lambda nets, samples, inputs: nets.D(samples).flatten(1).mean(1)),
        batch=batch,
    )

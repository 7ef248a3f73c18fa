"""pix2pix. Isola, Zhu, Zhou & Efros 2016, Image-to-Image Translation with Conditional Adversarial Networks, arXiv:1611.07004

Images from images, learnt from pairs: edges to photographs, labels to facades, grey to colour.

A conditional GAN whose condition is an image x. G is a U-Net; its only noise is dropout, in training and when sampling. D scores
patches of the pair (x, y), its loss is halved as in the paper, and G also minimises the L1 distance to the real y. With
--adversarial 0 there is no D, and G minimises the L1 distance alone, the paper's baseline.

The paper uses batch statistics, also when sampling, with a batch size of 1. This equals instance normalisation, which does not
depend on the batch size and is used here. As in the authors' code, the bottleneck is not normalised (errata), and G's loss
uses the same generated images that D was trained on. The paper's images have 256 px; with smaller ones the U-Net has fewer layers.
"""

from typing import Literal

from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.fields import Image, Mask, Segmentation
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn, scores
from leafwing.networks import patch as patches
from leafwing.networks import unet
from leafwing.parts.objectives import Objective, non_saturating
from leafwing.parts.plays import duel


def pix2pix(
    data: DataSpec,
    *,
    adversarial: float = 1.0,
    l1: float = 100.0,
    patch: int = 0,
    scales: int = 1,
    dropout: float = 0.5,
    norm: Literal["instance", "batch"] = "instance",
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    ema: float = 0,
    batch: int = 4,
) -> Game:
    """U-Net, PatchGAN, non-saturating objective and L1 distance.

    Args:
        adversarial: weight of the adversarial loss of G; 0 for the L1 distance alone.
        l1: weight of the L1 distance between generated and real images.
        patch: side of the patches that D scores, in pixels: 1, 16, 34, 70 (paper), 142 or 286; 0 chooses 70 for images from 128 px on,
            else 16.
        scales: number of discriminators, each for images of half the size of the one before (pix2pixHD); 1 as in the paper.
        dropout: probability of dropout in the first three layers of G's decoder.
        norm: normalisation: instance; or batch, with running statistics when sampling.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (pairs per update); the paper has 1 for hundreds of pairs, 4 for more.
    """
    data.need("pix2pix", image=Image, input=(Image, Mask, Segmentation))
    inputs, *size = data.fields["input"].shape
    if tuple(size) != data.shape[1:]:
        raise LeafwingError(
            f"input and image must have the same size: {data.fields['input']}, {data.fields['image']}. "
            "Choose another --input (blur instead of low4); recipe srgan enlarges images"
        )
    objective = Objective(
        critic=lambda r: 0.5 * non_saturating.critic(r), generator=lambda r: adversarial * non_saturating.generator(r)
    )

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        x = batch.input
        return Round(nets, real=batch.image, fake=nets.G(x), judge=nets.D, beside=x, clock=clock)

    def play_alone(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=nets.G(batch.input), clock=clock)

    def distance(r: Round) -> Tensor:
        return l1 * (r.fake - r.real).abs().mean()

    def translate(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return nets.G(inputs.input)

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return scores(nets.D(samples, inputs.input)).flatten(1).mean(1)

    g = unet.Generator(data, inputs, width, max_width=max_width, norm=norm, dropout=dropout)
    output = Output("image", translate, ("input",), multiple=2 ** unet.halvings(data))
    terms = [Term("l1", distance)]
    players = {"G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema)}
    if not adversarial:
        return Game(players, [Turn("G", play_alone, terms)], Abilities([output]), batch)
    d = patches.MultiScale(data, scales, inputs, patch, width, max_width=max_width, norm=norm)
    return Game(
        players={**players, "D": Player(d, Adam(lr_d, (beta1, 0.999)))},
        turns=duel(play, objective, generator=terms, same_round=True),
        abilities=Abilities([output], judge=judge),
        batch=batch,
    )

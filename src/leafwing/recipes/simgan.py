"""SimGAN. Shrivastava et al. 2016, Learning from Simulated and Unsupervised Images through Adversarial Training, arXiv:1612.07828

Makes synthetic images look real and leaves what they show in place, so that their annotations still hold.

The refiner G changes an input x; D scores small patches of refined and of real images, without pairs. D minimises the cross
entropy summed over its map of scores; G sp(-s(G(x))) summed over the map, plus l1 |psi(G(x)) - psi(x)| summed over pixels, where
psi is the identity or the mean of the colour channels. Half of D's refined images come from a history. G is first trained to keep
x, then D alone; after that each round has two updates of G and one of D.

The L1 weight .5, 2:1 updates, Adam 1e-3 and a history of 50 batches are those of a third-party implementation for grey images of
35x55 pixels (carpedm20/simulated-unsupervised-tensorflow); its batch is 512. The distance is averaged over channels here, so that
the weight means the same for colour images. The 1000 and 200 first steps of G and of D are shares of training, so that short runs
too reach the adversarial part. Gradients are not clipped, and the convolutions of G pad by reflection.
"""

from math import inf
from typing import Any, Literal

from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn
from leafwing.networks import refiner
from leafwing.parts.history import History
from leafwing.parts.objectives import non_saturating


def simgan(
    data: DataSpec,
    *,
    l1: float = 0.5,
    keep: Literal["pixels", "brightness"] = "pixels",
    pool: int = 1600,
    g_alone: float = 0.1,
    d_alone: float = 0.02,
    turns_of_g: int = 2,
    blocks: int = 4,
    width: int = 64,
    lr_g: float = 1e-3,
    lr_d: float = 1e-3,
    beta1: float = 0.9,
    ema: float = 0,
    batch: int = 32,
) -> Game:
    """Refiner of residual blocks, critic of local patches, cross entropy and self-regularisation.

    Args:
        l1: weight of the L1 distance between refined image and input, summed over pixels.
        keep: what that distance compares: pixels, or brightness, the mean of the colour channels, which leaves colours free.
        pool: number of earlier refined images that are stored for D; 0: D sees new ones only.
        g_alone: share of training, at its start, in which G minimises the L1 distance alone.
        d_alone: share of training after that in which only D moves.
        turns_of_g: G updates per D update.
        blocks: number of residual blocks of G.
        width: channels of G's layers, and of D's second layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (images of each kind per update).
    """
    data.need("simgan", unpaired=["input"], image=Image, input=Image)
    if (shape := data.fields["input"].shape) != data.shape:
        raise LeafwingError(
            f"recipe simgan refines inputs in place, so input and image need the same format: {data.fields['input']}, "
            f"{data.fields['image']}. Set --size, and --channels for both"
        )

    if g_alone + d_alone >= 1:
        raise LeafwingError(f"g_alone={g_alone} and d_alone={d_alone}: their sum must be below 1")

    def refine(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, fake=nets.G(batch.input), judge=nets.D, input=batch.input)

    def compare(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, real=batch.image, fake=nets.past(nets.G(batch.input)), judge=nets.D)

    def critic(r: Round) -> Tensor:
        return r.real_score[0].numel() * non_saturating.critic(r)

    def realism(r: Round) -> Tensor:
        return r.fake_score[0].numel() * non_saturating.generator(r)

    def distance(r: Any) -> Tensor:
        difference = r.fake - r.input
        if keep == "brightness":
            difference = difference.mean(1, keepdim=True)
        return l1 * difference.abs().mean(1).sum((1, 2)).mean()

    def translate(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return nets.G(inputs.input)

    regularisation = Term("self_regularisation", distance)
    return Game(
        players={
            "G": Player(refiner.Refiner(data, shape[0], width, blocks=blocks), Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(refiner.Critic(data, width), Adam(lr_d, (beta1, 0.999))),
            "past": Player(History(pool, shape)),
        },
        turns=[
            Turn("G", refine, [regularisation], during=(0, g_alone)),
            Turn(
                "G",
                refine,
                [Term("adversarial", realism), regularisation],
                repeat=turns_of_g,
                during=(g_alone + d_alone, inf),
            ),
            Turn("D", compare, [Term("adversarial", critic)], during=(g_alone, inf)),
        ],
        abilities=Abilities(
            [Output("image", translate, ("input",), multiple=1)],
            judge=lambda nets, samples, inputs: nets.D(samples).flatten(1).mean(1),
        ),
        batch=batch,
    )

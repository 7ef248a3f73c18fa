"""SGAN. Tang et al. 2018, CT Image Enhancement Using Stacked Generative Adversarial Networks, arXiv:1807.07144

Two stacked GANs: the first one removes noise, the second one makes a larger and sharper image of the result.

From the abstract: the first GAN reduces the noise of a CT image, the second one generates an image of higher resolution with enhanced
boundaries and high contrast; low-quality images are synthesised from natural images of high quality, and CT images are added
progressively by transfer learning. The rest is our choice. G1 maps an input with noise to the image at the input's size, G2 maps what
G1 makes to the image. Each has a discriminator of patches, and minimises L1 + .01 sp(-s). They are trained one after the other: G1 in
the first half of training, G2 on a fixed G1 in the second. Networks: `restorer`, of 8 blocks. Adam 2e-4 with beta1 0.9.

The noise is part of training: inputs such as `--input low4` are clean, and normal noise is added to each; `--noise 0` is for inputs
that are noisy already. What G1 should make is the image, averaged to the input's size. There is no transfer from natural images.
"""

from math import inf

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn, scores
from leafwing.networks import patch, restorer
from leafwing.parts.objectives import non_saturating


def sgan_ct(
    data: DataSpec,
    *,
    noise: float = 0.2,
    first: float = 0.5,
    adversarial: float = 0.01,
    l1: float = 1.0,
    blocks: int = 8,
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.9,
    ema: float = 0,
    batch: int = 16,
) -> Game:
    """A denoiser and an upscaler, each with a discriminator of patches; non-saturating objective and L1 distance.

    Args:
        noise: standard deviation of the noise that is added to inputs in training, where pixels are from -1 to 1.
        first: share of training in which G1 is trained; G2 is trained in the rest, 0 to 1.
        adversarial: weight of the adversarial loss of G1 and G2.
        l1: weight of the L1 distance.
        blocks: residual blocks of each generator.
        width: channels of the generators, and of the discriminators' first layer.
        max_width: maximum number of channels in any layer of the discriminators.
        lr_g: learning rate of G1 and G2.
        lr_d: learning rate of their discriminators.
        beta1: Adam's beta1.
        ema: half-life of the EMA of the generators' weights, in images; 0 disables it.
        batch: batch size (pairs per update).
    """
    data.need("sgan_ct", image=Image, input=Image)
    inputs, *small = data.fields["input"].shape
    scale = data.height // small[0]
    if [scale * side for side in small] != [data.height, data.width] or scale & (scale - 1):
        raise LeafwingError(
            f"recipe sgan_ct enlarges 1, 2, 4 or 8 times, not from {data.fields['input']} to {data.fields['image']}: "
            "choose --input low2, low4 or low8"
        )
    middle = Image(small[0], small[1], data.channels)

    def degrade(x: Tensor) -> Tensor:
        return (x + noise * torch.randn_like(x)).clamp(-1, 1) if noise else x

    def denoise(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, avg_pool2d(batch.image, scale), nets.G1(degrade(batch.input)), nets.D1, clock=clock)

    def enlarge(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.G2(nets.G1(degrade(batch.input))), nets.D2, clock=clock)

    def deceive(r: Round) -> Tensor:
        return adversarial * non_saturating.generator(r)

    def distance(r: Round) -> Tensor:
        return l1 * (r.fake - r.real).abs().mean()

    def critic(kind: Image) -> Player:
        spec = DataSpec({"image": kind})
        return Player(patch.Critic(spec, width=width, max_width=max_width), Adam(lr_d, (beta1, 0.999)))

    def generator(channels: int, scale: int) -> Player:
        net = restorer.Generator(channels, data.channels, scale, width, blocks=blocks)
        return Player(net, Adam(lr_g, (beta1, 0.999)), ema=ema)

    real_or_fake, similar = (
        [Term("adversarial", non_saturating.critic)],
        [Term("adversarial", deceive), Term("l1", distance)],
    )
    return Game(
        players={
            "G1": generator(inputs, 1),
            "D1": critic(middle),
            "G2": generator(data.channels, scale),
            "D2": critic(Image(data.height, data.width, data.channels)),
        },
        turns=[
            Turn("D1", denoise, real_or_fake, during=(0, first)),
            Turn("G1", denoise, similar, during=(0, first), same_round=True),
            Turn("D2", enlarge, real_or_fake, during=(first, inf)),
            Turn("G2", enlarge, similar, during=(first, inf), same_round=True),
        ],
        abilities=Abilities(
            [
                Output("image", lambda nets, inputs, clock: nets.G2(nets.G1(inputs.input)), ("input",), multiple=1),
                Output("denoised", lambda nets, inputs, clock: nets.G1(inputs.input), ("input",), kind=middle, multiple=1),
            ],
            judge=lambda nets, samples, inputs: scores(nets.D2(samples)).flatten(1).mean(1),
        ),
        batch=batch,
    )

"""CycleGAN. Zhu et al. 2017, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, arXiv:1703.10593

Translates between two kinds of images without pairs: what is translated there and back must be the original.

G makes images from inputs, F inputs from images, and each kind has a discriminator of patches with the least-squares objective. D's
loss is halved, and D sees a history of 50 fakes. If image and input have the same number of channels, G(image) should equal the image
and F(input) the input: the paper's identity loss, with half the cycle's weight, the authors' default. Learning rates fall to 0 in the
second half of training. As in the paper, G and F are residual networks and the batch size is 1. The paper's patches have 70 px;
below 128 px they have 16 here.
"""

from typing import Any

from torch import Tensor

from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn, scores
from leafwing.networks import patch as patches
from leafwing.networks import residual
from leafwing.networks.layers import other_domain
from leafwing.parts.history import History
from leafwing.parts.objectives import Objective, least_squares
from leafwing.parts.schedules import linear_at_the_end

OBJECTIVE = Objective(critic=least_squares().critic, generator=lambda s: 2 * least_squares().generator(s))


def cyclegan(
    data: DataSpec,
    *,
    cycle: float = 10.0,
    identity: float = 0.5,
    pool: int = 50,
    blocks: int = 0,
    patch: int = 0,
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    decay: float = 0.5,
    beta1: float = 0.5,
    ema: float = 0,
    batch: int = 1,
) -> Game:
    """Two translators, two PatchGANs, least-squares objective, cycle consistency and identity.

    Args:
        cycle: weight of the L1 distance between what was translated there and back, and the original.
        identity: weight of the identity loss relative to that of the cycle; without effect if image and input differ in channels.
        pool: number of earlier fakes of each kind that are stored to be shown to the discriminators; 0 for none.
        blocks: residual blocks of each translator; 0: 6 below 256 px, else 9 (paper).
        patch: side of the patches that D scores, in pixels: 1, 16, 34, 70 (paper), 142 or 286; 0: 70 from 128 px on, else 16.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of both translators.
        lr_d: learning rate of both discriminators.
        decay: fraction of training after which the learning rates fall linearly to 0; 1 keeps them constant.
        beta1: Adam's beta1.
        ema: half-life of the EMA of the translators' weights, in images; 0 disables it, as in the paper.
        batch: batch size (images of each kind per update).
    """
    data.need("cyclegan", unpaired=["input"], image=Image, input=Image)
    inputs = other_domain(data)

    def translate(nets: Nets, batch: Batch, clock: Clock) -> Round:
        fake_image, fake_input = nets.G(batch.input), nets.F(batch.image)
        other = Round(nets, batch.input, fake_input, nets.D_input)
        cycled = {"image_again": nets.G(fake_input), "input_again": nets.F(fake_image)}
        return Round(nets, batch.image, fake_image, nets.D_image, clock=clock, other=other, **cycled)

    def judge_images(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.past_images(nets.G(batch.input)), nets.D_image, clock=clock)

    def judge_inputs(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.input, nets.past_inputs(nets.F(batch.image)), nets.D_input, clock=clock)

    def adversarial(r: Any) -> Tensor:
        return OBJECTIVE.generator(r) + OBJECTIVE.generator(r.other)

    def consistency(r: Any) -> Tensor:
        return cycle * ((r.image_again - r.real).abs().mean() + (r.input_again - r.other.real).abs().mean())

    def sameness(r: Any) -> Tensor:
        images, inputs = r.real, r.other.real
        return cycle * identity * ((r.nets.G(images) - images).abs().mean() + (r.nets.F(inputs) - inputs).abs().mean())

    def translator(to: DataSpec, channels: int) -> Player:
        net = residual.Generator(to, channels, width, max_width=max_width, blocks=blocks)
        return Player(net, Adam(linear_at_the_end(lr_g, decay), (beta1, 0.999)), ema=ema)

    def critic(of: DataSpec) -> Player:
        d = patches.Critic(of, patch=patch, width=width, max_width=max_width)
        return Player(d, Adam(linear_at_the_end(lr_d, decay), (beta1, 0.999)))

    comparable = data.channels == inputs.channels
    further = [Term("identity", sameness)] if identity and comparable else []
    terms = [Term("adversarial", adversarial), Term("cycle", consistency), *further]
    outputs = [
        Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",), multiple=residual.MULTIPLE),
        Output("input", lambda nets, inputs, clock: nets.F(inputs.image), ("image",), multiple=residual.MULTIPLE),
    ]
    turns = [
        Turn("G F", translate, terms),
        Turn("D_image", judge_images, [Term("adversarial", OBJECTIVE.critic)]),
        Turn("D_input", judge_inputs, [Term("adversarial", OBJECTIVE.critic)]),
    ]
    return Game(
        players={
            "G": translator(data, inputs.channels),
            "F": translator(inputs, data.channels),
            "D_image": critic(data),
            "D_input": critic(inputs),
            "past_images": Player(History(pool, data.shape)),
            "past_inputs": Player(History(pool, inputs.shape)),
        },
        turns=turns,
        abilities=Abilities(outputs, judge=lambda nets, samples, inputs: scores(nets.D_image(samples)).flatten(1).mean(1)),
        batch=batch,
        notes=["image and input differ in channels, so there is no identity loss"] if identity and not comparable else [],
    )

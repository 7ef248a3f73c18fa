"""CycleGAN. Zhu et al. 2017, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, arXiv:1703.10593

Translates between two kinds of images without pairs: what is translated there and back must be the original.

G makes images from inputs, F inputs from images, and each kind has a discriminator. The networks are smaller than the paper's, and the
U-Nets' dropout is off, so that a translation is a function of its input. Discriminators see a history of 50 fakes, as in the paper.
"""

from torch import Tensor

from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn
from leafwing.networks import patch, unet
from leafwing.parts.history import History
from leafwing.parts.objectives import least_squares

OBJECTIVE = least_squares()


def translate(nets: Nets, batch: Batch, clock: Clock) -> Round:
    """Both translations, there and back, for the generators."""
    image, input = batch.image, batch.input
    fake_image, fake_input = nets.G(input), nets.F(image)
    return Round(
        nets,
        real=image,
        fake=fake_image,
        judge=nets.D_image,
        other=Round(nets, real=input, fake=fake_input, judge=nets.D_input),
        image_again=nets.G(fake_input),
        input_again=nets.F(fake_image),
    )


def judge_images(nets: Nets, batch: Batch, clock: Clock) -> Round:
    """Real images, and earlier or new translations of inputs."""
    return Round(nets, real=batch.image, fake=nets.past_images(nets.G(batch.input)), judge=nets.D_image)


def judge_inputs(nets: Nets, batch: Batch, clock: Clock) -> Round:
    """Real inputs, and earlier or new translations of images."""
    return Round(nets, real=batch.input, fake=nets.past_inputs(nets.F(batch.image)), judge=nets.D_input)


def cycle_gan(
    data: DataSpec,
    *,
    cycle: float = 10.0,
    width: int = 32,
    max_width: int = 256,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    batch: int = 4,
) -> Game:
    """Two U-Nets, two PatchGANs, least-squares objective and cycle consistency.

    Args:
        cycle: weight of the L1 distance between what was translated there and back, and the original.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of both generators.
        lr_d: learning rate of both discriminators.
        batch: batch size (images of each kind per update).
    """
    data.need("cycle_gan", unpaired=["input"], image=Image, input=Image)
    image, input = data.fields["image"], data.fields["input"]
    inputs = DataSpec({"image": input})

    def adversarial(r: Round) -> Tensor:
        return OBJECTIVE.generator(r) + OBJECTIVE.generator(r.other)

    def consistency(r: Round) -> Tensor:
        return cycle * ((r.image_again - r.real).abs().mean() + (r.input_again - r.other.real).abs().mean())

    def generator(kind: DataSpec, channels: int) -> Player:
        return Player(unet.Generator(kind, channels, width, max_width=max_width, dropout=0), Adam(lr_g))

    def critic(kind: DataSpec) -> Player:
        return Player(patch.Critic(kind, patch=16, width=width, max_width=max_width), Adam(lr_d))

    turns = [
        Turn("G F", translate, [Term("adversarial", adversarial), Term("cycle", consistency)]),
        Turn("D_image", judge_images, [Term("adversarial", OBJECTIVE.critic)]),
        Turn("D_input", judge_inputs, [Term("adversarial", OBJECTIVE.critic)]),
    ]
    outputs = [
        Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",)),
        Output("input", lambda nets, inputs, clock: nets.F(inputs.image), ("image",)),
    ]
    return Game(
        players={
            "G": generator(data, input.shape[0]),
            "F": generator(inputs, image.shape[0]),
            "D_image": critic(data),
            "D_input": critic(inputs),
            "past_images": Player(History(50, image.shape)),
            "past_inputs": Player(History(50, input.shape)),
        },
        turns=turns,
        abilities=Abilities(outputs, judge=lambda nets, samples, inputs: nets.D_image(samples).flatten(1).mean(1)),
        batch=batch,
    )

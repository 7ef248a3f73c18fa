"""SeUDA. Chen et al. 2018, Semantic-Aware GANs for Unsupervised Domain Adaptation in Chest X-ray Segmentation, arXiv:1806.00600

Segments images of a new kind, for which there are no masks, with a segmenter that was trained on another kind.

Stage one trains the segmenter S on images and their masks. Then S is frozen: G translates inputs, the new kind, into images, and
S segments the result. G and F, the way back, are trained as in CycleGAN (Zhu et al. 2017): least squares, cycle consistency, and for
each kind a critic of patches and a history of fakes. A further critic compares the masks that S predicts for translated and for
real images, so that G keeps what S needs.

The networks are CycleGAN's residual translators, for S too (the paper's is a dilated ResNet-101). Not re-checked against the paper:
the weight of the masks' loss, and that predictions are compared with predictions. Learning rates do not decay.
"""

from math import inf
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from leafwing.errors import LeafwingError
from leafwing.fields import Image, Mask, Segmentation
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn
from leafwing.networks import patch, residual
from leafwing.parts.history import History
from leafwing.parts.objectives import least_squares

OBJECTIVE = least_squares()


def seuda(
    data: DataSpec,
    *,
    semantic: float = 1.0,
    cycle: float = 10.0,
    segmenter_share: float = 0.3,
    pool: int = 50,
    blocks: int = 0,
    width: int = 64,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    batch: int = 4,
) -> Game:
    """A segmenter, two translators, three critics of patches; least squares and cycle consistency.

    Args:
        semantic: weight of the adversarial loss of masks; 0 for plain cycle-consistent translation.
        cycle: weight of the L1 distance between what was translated there and back, and the original.
        segmenter_share: share of training, at its start, in which only the segmenter is trained.
        pool: number of earlier translations of each kind that are stored for the critics; 0: they see new ones only.
        blocks: number of residual blocks of each translator and of the segmenter; 0: 9 from 256 px on, else 6.
        width: channels of the layers next to the image; doubles each time the resolution halves, up to 256.
        lr_g: learning rate of both translators.
        lr_d: learning rate of the critics.
        batch: batch size (images of each kind per update).
    """
    data.need("seuda", unpaired=["input"], image=Image, segmentation=(Segmentation, Mask), input=Image)
    image, mask, input = (data.fields[name] for name in ("image", "segmentation", "input"))
    if not image.shape[1:] == mask.shape[1:] == input.shape[1:]:
        raise LeafwingError(f"recipe seuda needs images, masks and inputs of one size: {image}, {mask}, {input}")
    channels, inputs, classes = (field.shape[0] for field in (image, input, mask))
    binary = isinstance(mask, Mask)
    loss = binary_cross_entropy_with_logits if binary else cross_entropy

    def segment(nets: Nets, x: Tensor) -> Tensor:
        return nets.S(x).sigmoid() if binary else nets.S(x).softmax(1)

    def predict(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, logits=nets.S(batch.image), mask=batch.segmentation)

    def translate(nets: Nets, batch: Batch, clock: Clock) -> Round:
        x, y = nets.G(batch.input), nets.F(batch.image)
        masks = Round(nets, batch.image, x, lambda image: nets.D_mask(segment(nets, image)))
        return Round(nets, batch.image, x, nets.D_image, back=Round(nets, batch.input, y, nets.D_input), masks=masks)

    def compare(nets: Nets, batch: Batch, clock: Clock) -> Round:
        r: Any = translate(nets, batch, clock)
        r.fake, r.back.fake = nets.past_images(r.fake), nets.past_inputs(r.back.fake)
        return r

    def consistency(r: Any) -> Tensor:
        return cycle * ((r.nets.G(r.back.fake) - r.real).abs().mean() + (r.nets.F(r.fake) - r.back.real).abs().mean())

    def network(outputs: int, inputs: int) -> residual.Generator:
        return residual.Generator(data.with_channels(outputs), inputs, width, blocks=blocks)

    def critic(channels: int) -> Player:
        return Player(patch.Critic(data.with_channels(channels), width=width, max_width=256), Adam(lr_d, (0.5, 0.999)))

    s = network(classes, channels)
    s.decoder[-1] = nn.Identity()  # logits instead of values in [-1, 1]
    critics = [
        Term("adversarial", lambda r: OBJECTIVE.critic(r) + OBJECTIVE.critic(r.back)),
        Term("semantic", lambda r: OBJECTIVE.critic(r.masks)),
    ]
    generators = [
        Term("adversarial", lambda r: OBJECTIVE.generator(r) + OBJECTIVE.generator(r.back)),
        Term("cycle", consistency),
        Term("semantic", lambda r: semantic * OBJECTIVE.generator(r.masks)),
    ]
    outputs = [
        Output("segmentation", lambda nets, x, clock: segment(nets, nets.G(x.input)), ("input",), multiple=4),
        Output("image", lambda nets, x, clock: nets.G(x.input), ("input",), multiple=4),
    ]
    return Game(
        players={
            "S": Player(s, Adam(1e-3)),
            "G": Player(network(channels, inputs), Adam(lr_g, (0.5, 0.999))),
            "F": Player(network(inputs, channels), Adam(lr_g, (0.5, 0.999))),
            **{f"D_{name}": critic(n) for name, n in (("image", channels), ("input", inputs), ("mask", classes))},
            **{f"past_{field}s": Player(History(pool, data.fields[field].shape)) for field in ("image", "input")},
        },
        turns=[
            Turn("S", predict, [Term("segmentation", lambda r: loss(r.logits, r.mask))], during=(0, segmenter_share)),
            Turn("D_image D_input D_mask", compare, critics, during=(segmenter_share, inf)),
            Turn("G F", translate, generators, during=(segmenter_share, inf)),
        ],
        abilities=Abilities(outputs),
        batch=batch,
    )

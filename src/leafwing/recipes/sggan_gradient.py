"""SG-GAN. Li, Liang, Jia & Xing 2018, Semantic-aware Grad-GAN for Virtual-to-Real Urban Scene Adaption, arXiv:1801.01726

Translates between two kinds of images without pairs, and keeps the edges between the classes of their segmentations.

G makes images from inputs, F inputs from images, and what is translated there and back is the original (10 x L1). Where the
segmentation of an original changes, Sobel's derivatives of it and of its translation should have equal absolute values: 5 x
`edge_distance`. Discriminators score each patch for each class, weighted with the classes that it shows: those of the original, for
translations. Least squares, a history of 50 translations with their segmentations, Adam 2e-4 with beta1 0.5: the authors' code.

Segmentations of inputs are optional (`input_segmentation`). Without them only translations of images keep edges, and discriminators
score patches without classes, because those of a translated input are unknown. Differences: residual translators, an option of the
authors' code, whose default is a U-Net; batch 4 instead of 1; classes are compared themselves, not as colours, and averaged over the
region of a score, not sampled; patches of 70 pixels, or 16 in images below 128 pixels.
"""

from typing import Any

import torch
from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.fields import Image, Segmentation
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Play, Player, Round, Term, Turn
from leafwing.networks import patch, residual
from leafwing.parts.history import History
from leafwing.parts.objectives import least_squares
from leafwing.parts.steerable import edge_distance

OBJECTIVE = least_squares()
MAPS = {"image": "segmentation", "input": "input_segmentation"}


def sggan_gradient(
    data: DataSpec,
    *,
    cycle: float = 10.0,
    edges: float = 5.0,
    soft: float = 0.0,
    pool: int = 50,
    blocks: int = 0,
    width: int = 64,
    max_width: int = 256,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    ema: float = 0,
    batch: int = 4,
) -> Game:
    """Two residual translators, semantic-aware PatchGANs, least squares, cycle consistency and a gradient-sensitive loss.

    Args:
        cycle: weight of the L1 distance between what was translated there and back, and the original.
        edges: weight of the gradient-sensitive loss.
        soft: weight in that loss of pixels that are not at an edge, 0 to 1; the authors' code mentions 0.1.
        pool: number of earlier translations of each kind that are stored for the discriminators; 0: they see new ones only.
        blocks: residual blocks of each translator; 0: 9 from 256 px on, else 6.
        width: channels at full resolution; doubles at each halving.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of both translators.
        lr_d: learning rate of both discriminators.
        beta1: Adam's beta1.
        ema: half-life of the EMA of the translators' weights, in images; 0 disables it, as in the paper.
        batch: batch size (images of each kind per update).
    """
    data.need("sggan_gradient", unpaired=["input"], image=Image, input=Image, segmentation=Segmentation)
    kinds = {name: data.fields[name] for name in ("image", "input", *MAPS.values()) if name in data.fields}
    maps = {kinds[name].shape[0] for name in MAPS.values() if name in kinds}
    if len({kind.shape[1:] for kind in kinds.values()}) > 1 or len(maps) > 1:
        raise LeafwingError(f"all fields must have one size, and both segmentations the same classes: {data.describe()}")
    classes = maps.pop() if len(kinds) == 4 else 0

    def translate(nets: Nets, batch: Batch, clock: Clock) -> Round:
        fake_image, fake_input = nets.G(batch.input), nets.F(batch.image)
        shown, input_shown = (batch[name] if classes else None for name in MAPS.values())
        back = Round(nets, batch.input, fake_input, nets.D_input, beside=input_shown, beside_fake=shown, maps=input_shown)
        again = {"image_again": nets.G(fake_input), "input_again": nets.F(fake_image), "maps": batch.segmentation}
        return Round(nets, batch.image, fake_image, nets.D_image, beside=shown, beside_fake=input_shown, back=back, **again)

    def judging(name: str, other: str, g: str) -> Play:
        def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
            critic, past, fake = getattr(nets, f"D_{name}"), getattr(nets, f"past_{name}s"), getattr(nets, g)(batch[other])
            if not classes:
                return Round(nets, batch[name], past(fake), critic)
            fake, shown = past(torch.cat([fake, batch[MAPS[other]]], 1)).split([fake.shape[1], classes], 1)
            return Round(nets, batch[name], fake, critic, beside=batch[MAPS[name]], beside_fake=shown)

        return play

    def adversarial(r: Any) -> Tensor:  # the factor 2: the authors' loss of G is not halved
        return 2 * (OBJECTIVE.generator(r) + OBJECTIVE.generator(r.back))

    def consistency(r: Any) -> Tensor:
        return cycle * ((r.image_again - r.real).abs().mean() + (r.input_again - r.back.real).abs().mean())

    def sensitive(r: Any) -> Tensor:
        pairs = [(r.real, r.back.fake, r.maps), (r.back.real, r.fake, r.back.maps)]
        return edges * torch.stack([edge_distance(x, y, maps, soft) for x, y, maps in pairs if maps is not None]).sum()

    def player(name: str, other: str) -> dict[str, Player]:
        kind = DataSpec({"image": kinds[name]})
        g = residual.Generator(kind, kinds[other].shape[0], width, max_width=max_width, blocks=blocks)
        stored = (kind.channels + classes, *kind.shape[1:])
        return {
            "G" if name == "image" else "F": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema),
            f"D_{name}": Player(patch.Semantic(kind, classes, width=width, max_width=max_width), Adam(lr_d, (beta1, 0.999))),
            f"past_{name}s": Player(History(pool, stored)),
        }

    terms = [Term("adversarial", adversarial), Term("cycle", consistency), Term("edges", sensitive)]
    critic = [Term("adversarial", OBJECTIVE.critic)]
    turns = [
        Turn("G F", translate, terms),
        Turn("D_image", judging("image", "input", "G"), critic),
        Turn("D_input", judging("input", "image", "F"), critic),
    ]
    outputs = [
        Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",), multiple=residual.MULTIPLE),
        Output("input", lambda nets, inputs, clock: nets.F(inputs.image), ("image",), multiple=residual.MULTIPLE),
    ]
    return Game({**player("image", "input"), **player("input", "image")}, turns, Abilities(outputs), batch)

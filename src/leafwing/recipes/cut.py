"""CUT. Park, Efros, Zhang & Zhu 2020, Contrastive Learning for Unpaired Image-to-Image Translation, arXiv:2007.15651

Translates to another kind of images without pairs and in one direction: each patch must be recognisable by what it was made from.

One generator and one discriminator of patches with the least-squares objective, D's loss halved. G's own encoder describes a patch
of what was made and the patches of its source; a small MLP per layer makes unit vectors of them, and the vector at the same position
must be the most similar one (cross-entropy over 256 patches of the same image, temperature 0.07). The layers are those of the authors'
code: the input, both downsamplings, and residual blocks 1 and 5. The same holds between G(image) and the image, the paper's identity
loss. FastCUT, which is cheaper, is --contrast 10 --identity 0; the paper then also mirrors images within G.

The weights are the paper's; the authors' code averages both contrasts, which halves them, and its networks blur before they subsample.
Where image and input differ in channels, the encoder sees the mean of an image's channels. The paper's images have 256 px.
"""

from typing import Any

import torch
from torch import Tensor

from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, scores
from leafwing.networks import patch as critics
from leafwing.networks import residual
from leafwing.networks.heads import Heads
from leafwing.networks.layers import other_domain
from leafwing.parts.contrast import patch_contrast
from leafwing.parts.objectives import Objective, least_squares
from leafwing.parts.plays import duel
from leafwing.parts.schedules import linear_at_the_end

LAYERS = (0, 4, 7, 10, 14)
"""The padded input, the convolutions of both downsamplings, and the outputs of residual blocks 1 and 5; see `residual.Generator`."""
OBJECTIVE = Objective(critic=least_squares().critic, generator=lambda s: 2 * least_squares().generator(s))
"""D: 1/2 (s(x) - 1)^2 + 1/2 s(G)^2; G: (s(G) - 1)^2."""


def cut(
    data: DataSpec,
    *,
    contrast: float = 1.0,
    identity: float = 1.0,
    patches: int = 256,
    temperature: float = 0.07,
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
    """Residual translator, PatchGAN, least-squares objective, patchwise contrast.

    Args:
        contrast: weight of the contrast between what was made and its input; 10 for FastCUT.
        identity: weight of the contrast between an image and what G makes of it; 0 for FastCUT.
        patches: number of patches of each image and layer that are compared.
        temperature: divides the similarities; smaller values demand more distinct patches.
        patch: side of the patches that D scores, in pixels: 1, 16, 34, 70 (paper), 142 or 286; 0: 70 from 128 px on, else 16.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G and of the MLPs.
        lr_d: learning rate of D.
        decay: fraction of training after which the learning rates fall linearly to 0; 1 keeps them constant.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (images of each kind per update).
    """
    data.need("cut", unpaired=["input"], image=Image, input=Image)
    inputs = other_domain(data).channels

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, batch.image, nets.G(batch.input), nets.D, clock=clock, input=batch.input)

    def as_input(image: Tensor) -> Tensor:
        return image if data.channels == inputs else image.mean(1, keepdim=True).expand(-1, inputs, -1, -1)

    def between(nets: Nets, result: Tensor, source: Tensor) -> Tensor:
        return patch_contrast(
            lambda x: nets.G.features(x, LAYERS), nets.H, as_input(result), source, patches=patches, temperature=temperature
        )

    def content(r: Any) -> Tensor:
        return contrast * between(r.nets, r.fake, r.input)

    def sameness(r: Any) -> Tensor:
        source = as_input(r.real)
        return identity * between(r.nets, r.nets.G(source), source)

    def translate(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return nets.G(inputs.input)

    g = residual.Generator(data, inputs, width, max_width=max_width)
    channels = [part.shape[1] for part in g.features(torch.zeros(1, inputs, 16, 16), LAYERS)]
    d = critics.Critic(data, patch=patch, width=width, max_width=max_width)
    adam_g, adam_d = (Adam(linear_at_the_end(lr, decay), (beta1, 0.999)) for lr in (lr_g, lr_d))
    terms = [Term("contrast", content)] + ([Term("identity", sameness)] if identity else [])
    return Game(
        players={"G": Player(g, adam_g, ema=ema), "H": Player(Heads(channels), adam_g), "D": Player(d, adam_d)},
        turns=duel(play, OBJECTIVE, generator=terms, same_round=True, g="G H"),
        abilities=Abilities(
            [Output("image", translate, ("input",), multiple=residual.MULTIPLE)],
            judge=lambda nets, samples, inputs: scores(nets.D(samples)).flatten(1).mean(1),
        ),
        batch=batch,
    )

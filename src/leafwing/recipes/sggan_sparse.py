"""SG-GAN. Zhang et al. 2018, Sparsely Grouped Multi-task GANs for Facial Attribute Manipulation, arXiv:1805.07509

Changes attributes of images, and needs the attributes of only a few of them.

From an image x, G makes two for each attribute i: x(i, 0) without and x(i, 1) with it. D is a WGAN critic with gradient penalty,
with a head for each attribute that learns from labelled images (`--labelled`; without it, from all). G makes images that D takes for
real and whose head i reads as intended, and consistent pairs: from x(i, v) it makes x(i, 0) and x(i, 1) again. Weights of 10, 1 and
10 for penalty, attributes and consistency, five updates of D per update of G, Adam 1e-4 with beta1 0.5, and a last layer that also
sees x: as in the authors' code. To set several attributes, G is applied several times.

Differences: the code averages over the attributes and sums over both values; here each image draws one of each, so every term is half
of theirs but D's cross-entropy of attributes, which thus weighs twice as much. One convolution makes all outputs; in the code each has
features of its own. D's first layer has a stride, as in DCGAN. Batch 16 instead of 2, a constant learning rate. Of a category, such as
colour=red, only the value 1 is set.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from leafwing.fields import Attributes, Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn, scores
from leafwing.networks import editor, residual
from leafwing.parts.objectives import wasserstein
from leafwing.parts.penalties import gradient_penalty


def sggan_sparse(
    data: DataSpec,
    *,
    penalty: float = 10.0,
    class_weight: float = 1.0,
    reconstruction: float = 10.0,
    blocks: int = 0,
    width: int = 64,
    width_d: int = 32,
    max_width: int = 512,
    lr_g: float = 1e-4,
    lr_d: float = 1e-4,
    beta1: float = 0.5,
    n_critic: int = 5,
    ema: float = 0,
    batch: int = 16,
) -> Game:
    """Residual translator with two outputs for each attribute, WGAN-GP critic with attribute heads, consistency.

    Args:
        penalty: weight of the gradient penalty.
        class_weight: weight of the attributes' cross-entropy, for both players.
        reconstruction: weight of the consistency of each pair.
        blocks: residual blocks of G; 0: 9 from 256 px on, else 6.
        width: channels of G at full resolution; doubles at each halving.
        width_d: channels of D's first layer; doubles at each downsampling.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        n_critic: D updates per G update.
        ema: half-life of the EMA of G's weights, in images; 0 disables it.
        batch: batch size (real images per update).
    """
    data.need("sggan_sparse", image=Image, attributes=Attributes)
    names = data.attributes

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        x, rows = batch.image, torch.arange(batch.n, device=batch.image.device)
        which, value = (torch.randint(end, (batch.n,), device=x.device) for end in (len(names), 2))
        pair = nets.G(x)[rows, which]
        labelled, attributes = batch.get("labelled_image", x), batch.get("labelled_attributes", batch.get("attributes"))
        extras = {
            "which": which,
            "value": value,
            "pair": pair,
            "labelled": labelled,
            "attributes": attributes,
            "clock": clock,
        }
        return Round(nets, x, pair[rows, value], nets.D, **extras)

    def read_labelled(r: Any) -> Tensor:
        logits = Round(r.nets, real=r.augment(r.labelled), judge=r.nets.D).real_heads
        return class_weight * cross_entropy(logits, r.attributes.to(logits))

    def read_as_intended(r: Any) -> Tensor:
        return class_weight * cross_entropy(r.fake_heads.gather(1, r.which[:, None])[:, 0], r.value.to(r.fake_heads))

    def consistency(r: Any) -> Tensor:  # the sum of both values, as in the code
        again = r.nets.G(r.fake)[torch.arange(len(r.fake), device=r.fake.device), r.which]
        return reconstruction * 2 * (again - r.pair).abs().mean()

    def change(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        x = inputs.image
        for number, name in enumerate(names):
            (without, present), target = nets.G(x)[:, number].unbind(1), inputs.attributes[:, number, None, None, None]
            x = torch.where(target > 0.75, present, x if "=" in name else torch.where(target < 0.25, without, x))
        return x

    critic = [Term("adversarial", wasserstein.critic), gradient_penalty(penalty), Term("attributes", read_labelled)]
    generator = [
        Term("adversarial", wasserstein.generator),
        Term("attributes", read_as_intended),
        Term("consistency", consistency),
    ]
    g = editor.Generator(data, width, max_width=max_width, blocks=blocks)
    d = editor.Critic(data, width_d, max_width=max_width)
    return Game(
        players={"G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema), "D": Player(d, Adam(lr_d, (beta1, 0.999)))},
        turns=[Turn("D", play, critic, repeat=n_critic), Turn("G", play, generator)],
        abilities=Abilities(
            [Output("image", change, ("image", "attributes"), multiple=residual.MULTIPLE)],
            judge=lambda nets, samples, inputs: scores(nets.D(samples)),
        ),
        batch=batch,
    )

"""DiscoGAN. Kim et al. 2017, Learning to Discover Cross-Domain Relations with Generative Adversarial Networks, arXiv:1703.05192

Relates two kinds of images without pairs: translators in both directions, and what goes there and back must be the original.

G makes images from inputs, F inputs from images. Each minimises r times the squared error of what was translated there and back, plus
1 - r times 0.1 sp(-s) + 0.9 of feature matching: the squared difference between the batch means of D's features of real and fake
samples, in all of its hidden layers but the first. D's loss is halved. As in the authors' code, r is 0.01 for 10,000 updates of 64
images, then 0.5 (here from the middle of training at the latest); D moves in every third round and the translators, convolutional
autoencoders, in the others. At 64 px the networks are the authors', with tanh for the sigmoid, further biases, and initial weights
from N(0, 0.02). On points all networks are MLPs, and there is no feature matching.
"""

from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from leafwing import networks
from leafwing.fields import Image, Vector
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn, at, to_fp32
from leafwing.networks import autoencoder
from leafwing.networks.layers import other_domain, score_with_activations
from leafwing.parts.objectives import non_saturating

POINTS = {"feature_matching": 0.0, "warm_up": 0, "width": 16, "lr_g": 1e-3, "lr_d": 1e-3, "batch": 256}


def discogan(
    data: DataSpec,
    *,
    consistency: Literal["none", "one_way", "both"] = "both",
    rate: float = 0.5,
    warm_up: int = 640_000,
    feature_matching: float = 0.9,
    n_generator: int = 2,
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    l2: float = 1e-5,
    ema: float = 0,
    batch: int = 64,
) -> Game:
    """Two autoencoders, two DCGAN discriminators, non-saturating objective, feature matching and reconstruction.

    Args:
        consistency: of both; one_way: of inputs only, without D for inputs; none: also without F (the paper's baselines).
        rate: r, the share of the reconstruction in the translators' loss, after the warm-up.
        warm_up: images with r = 0.01; at most half of the training.
        feature_matching: share of the feature matching in the rest of the loss.
        n_generator: rounds in which the translators move for one in which D moves.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of both translators.
        lr_d: learning rate of both discriminators.
        beta1: Adam's beta1.
        l2: weight decay, added to the gradient.
        ema: half-life of the EMA of the translators' weights, in images; 0 disables it, as in the paper.
        batch: batch size (images of each kind per update).
    """
    data.need("discogan", unpaired=["input"], image=(Image, Vector), input=(Image, Vector))
    inputs = other_domain(data)
    both, cycles = consistency == "both", consistency != "none"

    def share(clock: Clock) -> float:
        is_warming_up = clock.images < warm_up and clock.planned_progress < 0.5
        return (0.01 if is_warming_up else rate) if cycles else 0.0

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        x, y = batch.input, batch.image
        other = Round(nets, x, nets.F(y), lambda x: score_with_activations(nets.D_input, x)) if both else None
        return Round(
            nets, y, nets.G(x), lambda y: score_with_activations(nets.D_image, y), clock=clock, input=x, other=other
        )

    def kinds(r: Any) -> list[Round]:
        return [r, r.other] if both else [r]

    def critic_loss(r: Any) -> Tensor:
        return torch.stack([0.5 * non_saturating.critic(kind) for kind in kinds(r)]).sum()

    def adversarial(r: Any) -> Tensor:
        loss = torch.stack([non_saturating.generator(kind) for kind in kinds(r)]).sum()
        return (1 - at(share, r.clock)) * (1 - feature_matching) * loss

    def features(r: Any) -> Tensor:
        pairs = [zip(kind.real_output[1][1:], kind.fake_output[1][1:], strict=True) for kind in kinds(r)]
        loss = torch.stack([(to_fp32(a).mean(0) - to_fp32(b).mean(0)).square().mean() for a, b in chain(*pairs)]).sum()
        return (1 - at(share, r.clock)) * feature_matching * loss

    def both_ways(r: Any) -> Tensor:
        pairs = [(r.nets.F(r.fake), r.input)] + ([(r.nets.G(r.other.fake), r.real)] if both else [])
        return at(share, r.clock) * torch.stack([(to_fp32(again) - x).square().mean() for again, x in pairs]).sum()

    adam_g, adam_d = (Adam(lr, (beta1, 0.999), l2=l2) for lr in (lr_g, lr_d))
    translator = partial(autoencoder.translator, width=width, max_width=max_width)
    critic = partial(networks.critic, width=width, max_width=max_width)
    terms = [Term("adversarial", adversarial)]
    terms += [Term("features", features)] if feature_matching else []
    terms += [Term("reconstruction", both_ways)] if cycles else []
    multiple, period = autoencoder.multiple(data), n_generator + 1
    players = {"G": Player(translator(data, inputs), adam_g, ema=ema), "D_image": Player(critic(data), adam_d)}
    outputs = [Output("image", lambda nets, inputs, clock: nets.G(inputs.input), ("input",), multiple=multiple)]
    if cycles:
        players["F"] = Player(translator(inputs, data), adam_g, ema=ema)
        outputs.append(Output("input", lambda nets, inputs, clock: nets.F(inputs.image), ("image",), multiple=multiple))
    if both:
        players["D_input"] = Player(critic(inputs), adam_d)
    return Game(
        players,
        turns=[
            Turn("D_image D_input" if both else "D_image", play, [Term("adversarial", critic_loss)], every=period),
            Turn("G F" if cycles else "G", play, terms, repeat=lambda clock: int(clock.round % period > 0)),
        ],
        abilities=Abilities(outputs, judge=lambda nets, samples, inputs: nets.D_image(samples)),
        batch=batch,
    )

"""SiGAN. Hsu et al. 2018, SiGAN: Siamese Generative Adversarial Network for Identity-Preserving Face Hallucination, arXiv:1807.08370

Enlarges small images of known identities so that the result can still be recognised: the label says who or what each image shows.

Two generators with shared weights enlarge a pair of images, and one discriminator scores both results. G also minimises the L1
distance of both to the real images, and a contrastive loss: half the squared distance d of the embeddings of two generated images
of one identity, half of max(0, margin - d)^2 for different ones. With --contrast 0 identities play no part.

Not re-checked against the paper beyond its abstract: the embedding is a second output of D here, which learns it from real pairs
with the same loss. Every image of a batch is paired with each of the partners' batch, because few random pairs have one identity;
pairs of equal and of different identities count alike. Weights and margin are our choice.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import relu

from leafwing.errors import LeafwingError
from leafwing.fields import Image, Label
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, scores
from leafwing.networks import dcgan, restorer
from leafwing.parts.objectives import Objective, non_saturating
from leafwing.parts.plays import duel


class Critic(nn.Module):
    """Images (n, channels, height, width) -> scores (n,), and embeddings (n, embedding)."""

    def __init__(self, net: dcgan.Critic, embedding: int) -> None:
        super().__init__()
        self.net, self.embedding = net, nn.Linear(net.features_size, embedding)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.features(x)
        return self.net.score(features), self.embedding(features.mean((2, 3)))


def sigan(
    data: DataSpec,
    *,
    adversarial: float = 1.0,
    l1: float = 100.0,
    contrast: float = 10.0,
    margin: float = 1.0,
    embedding: int = 32,
    blocks: int = 4,
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.5,
    ema: float = 0,
    batch: int = 16,
) -> Game:
    """Residual upscaler, DCGAN's critic with an embedding, non-saturating objective, L1 distance and contrastive loss.

    Args:
        adversarial: weight of the adversarial loss of G.
        l1: weight of the L1 distance between generated and real images.
        contrast: weight of the contrastive loss of both players; 0: none.
        margin: distance that embeddings of different identities should have.
        embedding: dimension of the embedding.
        blocks: number of residual blocks of G.
        width: channels of G's layers, and of D's first; D's double each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images; 0 disables it, as in the paper.
        batch: batch size (pairs of images per update).
    """
    data.need("sigan", image=Image, input=Image, label=Label)
    (inputs, *small), sides = data.fields["input"].shape, data.shape[1:]
    scale = sides[0] // small[0]
    if scale.bit_count() != 1 or list(sides) != [scale * side for side in small]:
        raise LeafwingError(
            f"recipe sigan enlarges inputs 1, 2, 4, ... times, not {data.fields['input']} to {data.fields['image']}: try --input low4"
        )
    trunk = dcgan.Critic(data, width, max_width=max_width)

    def play(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(
            nets, batch.image, nets.G(batch.input), nets.D,
            partner=Round(nets, batch.partner_image, nets.G(batch.partner_input), nets.D),
            same=batch.label[:, None] == batch.partner_label,
        )  # fmt: skip

    def both(loss: Callable[[Any], Tensor], weight: float = 1.0) -> Callable[[Any], Tensor]:
        return lambda r: weight * (loss(r) + loss(r.partner)) / 2

    def contrastive(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
        squares = (a[:, None] - b).square().sum(2)
        apart = relu(margin - (squares + 1e-8).sqrt()).square()
        return contrast / 2 * (mean_of(squares, same) + mean_of(apart, ~same))

    def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
        return (values * chosen).sum() / chosen.sum().clamp_min(1)

    distance = Term("l1", both(lambda r: (r.fake - r.real).abs().mean(), l1))
    real = Term("contrastive", lambda r: contrastive(r.real_heads, r.partner.real_heads, r.same))
    fake = Term("contrastive", lambda r: contrastive(r.fake_heads, r.partner.fake_heads, r.same))
    g = restorer.Generator(inputs, data.channels, scale, width, blocks=blocks)
    output = Output("image", lambda nets, x, clock: nets.G(x.input), ("input",), multiple=1)
    return Game(
        players={
            "G": Player(g, Adam(lr_g, (beta1, 0.999)), ema=ema),
            "D": Player(Critic(trunk, embedding), Adam(lr_d, (beta1, 0.999))),
        },
        turns=duel(
            play,
            Objective(critic=both(non_saturating.critic), generator=both(non_saturating.generator, adversarial)),
            critic=[real] if contrast else [],
            generator=[distance, fake] if contrast else [distance],
        ),
        abilities=Abilities([output], judge=lambda nets, samples, inputs: scores(nets.D(samples))),
        batch=batch,
        streams=["partner"],
    )

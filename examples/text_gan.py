"""GAN-INT-CLS. Reed et al. 2016, Generative Adversarial Text to Image Synthesis, arXiv:1605.05396

Images from sentences: D also learns to refuse a real image with the caption of another one.

Training has two stages. First a text encoder T and an image encoder V learn which caption belongs to which image of the batch; this
stands in for the paper's pre-trained encoder. Then T stays as it is, and G and D are trained. The captions of other images come from a
second stream of the same data, in another order. G also has to please D halfway between two captions.
"""

from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional

from leafwing import networks
from leafwing.fields import Caption, Image
from leafwing.game import Abilities, Adam, Batch, Clock, DataSpec, Game, Nets, Output, Player, Round, Term, Turn, scores
from leafwing.parts import priors
from leafwing.parts.objectives import non_saturating


class TextEncoder(nn.Module):
    """Captions (n, length), 0 after the last word -> (n, size): the mean of the words' embeddings."""

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(words + 1, size), nn.Linear(size, size)

    def forward(self, caption: Tensor) -> Tensor:
        present = (caption > 0)[..., None]
        return self.out((self.words(caption) * present).sum(1) / present.sum(1).clamp_min(1))


class TextGenerator(nn.Module):
    """Latents (n, latent), texts (n, size) -> images."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, text: Tensor) -> Tensor:
        return self.net(torch.cat([z, text], 1))


class TextCritic(nn.Module):
    """Images, texts (n, size) -> scores (n,): the text joins the last feature map."""

    def __init__(self, net: networks.dcgan.Critic, size: int) -> None:
        super().__init__()
        self.net, self.join = net, nn.Conv2d(net.features_size + size, net.features_size, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        features = self.net.features(x)
        joined = torch.cat([features, text[:, :, None, None].expand(-1, -1, *features.shape[2:])], 1)
        return self.net.score(functional.leaky_relu(self.join(joined), 0.2))


def text_gan(
    data: DataSpec,
    *,
    encoding: float = 0.2,
    embedding: int = 32,
    latent: int = 32,
    width: int = 64,
    max_width: int = 512,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    lr_t: float = 1e-3,
    batch: int = 64,
) -> Game:
    """DCGAN networks that also see a sentence; matching-aware D, interpolated captions.

    Args:
        encoding: share of training in which the encoders are trained.
        embedding: dimension of the embedding of a sentence.
        latent: dimension of the latent vector.
        width: channels of the layers next to the image; doubles each time the resolution halves.
        max_width: maximum number of channels in any layer.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        lr_t: learning rate of the encoders.
        batch: batch size (real images per update).
    """
    data.need("text_gan", image=Image, caption=Caption)
    z = priors.Normal(latent)
    words = len(data.fields["caption"].words)

    def match(nets: Nets, batch: Batch, clock: Clock) -> Round:
        return Round(nets, images=nets.V(batch.image), texts=nets.T(batch.caption))

    def matching(r: Round) -> Tensor:
        similarity = r.images @ r.texts.T
        pairs = torch.arange(len(similarity), device=similarity.device)
        return functional.cross_entropy(similarity, pairs) + functional.cross_entropy(similarity.T, pairs)

    def draw(nets: Nets, batch: Batch, clock: Clock) -> Round:
        text, wrong, latents = nets.T(batch.caption), nets.T(batch.wrong_caption), z(batch.n, batch.image.device)

        def score_between() -> Tensor:
            between = (text + wrong) / 2
            return scores(nets.D(r.augment(nets.G(latents, between)), between))

        r = Round(
            nets,
            real=batch.image,
            fake=nets.G(latents, text),
            judge=lambda x: nets.D(x, text),
            score_wrong=lambda: scores(nets.D(r.augment(batch.image), wrong)),
            score_between=score_between,
        )
        return r

    def critic(r: Round) -> Tensor:
        wrong = functional.softplus(r.score_wrong()) + functional.softplus(r.fake_score)
        return functional.softplus(-r.real_score).mean() + 0.5 * wrong.mean()

    def between(r: Round) -> Tensor:
        return functional.softplus(-r.score_between()).mean()

    def make(nets: Nets, inputs: Batch, clock: Clock) -> Tensor:
        return nets.G(inputs.latent, nets.T(inputs.caption))

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return scores(nets.D(samples, nets.T(inputs.caption)))

    g = TextGenerator(networks.generator(data, latent + embedding, width, max_width=max_width))
    d = TextCritic(networks.critic(data, width, max_width=max_width), embedding)
    v = nn.Sequential(
        nn.Conv2d(data.channels, 32, 4, 4),
        nn.LeakyReLU(0.2),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, embedding),
    )
    first, then = (0, encoding), (encoding, inf)
    return Game(
        players={
            "G": Player(g, Adam(lr_g)),
            "D": Player(d, Adam(lr_d)),
            "T": Player(TextEncoder(words, embedding), Adam(lr_t)),
            "V": Player(v, Adam(lr_t)),
        },
        turns=[
            Turn("T V", match, [Term("matching", matching)], during=first),
            Turn("D", draw, [Term("adversarial", critic)], during=then),
            Turn("G", draw, [Term("adversarial", non_saturating.generator), Term("between", between)], during=then),
        ],
        abilities=Abilities([Output("image", make, ("caption",), z)], judge=judge),
        batch=batch,
        streams=["wrong"],
    )

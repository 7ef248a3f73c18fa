"""Projected. Sauer et al. 2021, Projected GANs Converge Faster, arXiv:2111.01007

D sees images only through a frozen network for photographs, whose maps are mixed at random; four small critics judge them.

The network is EfficientNet-lite0, as in the authors' code, G is FastGAN's, and images are seen through DiffAugment (`--augment`).
The frozen network is not part of checkpoints. Features of a network of this family must not judge the results: they are what G was
trained for. The authors enlarge images to 224 px before the network; the default here is 128, four times as fast. Larger images are
reduced to it, and what is lost in that D does not see. Other differences: each of their critics has at least one layer with a slope;
here that of the smallest map is linear at 128 px. Their maps are enlarged after mixing, and their G normalises z and has no tanh.
"""

from typing import Literal

from torch import Tensor

from leafwing.errors import LeafwingError
from leafwing.fields import Image
from leafwing.game import Abilities, Adam, Batch, DataSpec, Game, Nets, Player, scores
from leafwing.networks import fastgan
from leafwing.networks import projected as networks
from leafwing.parts import priors
from leafwing.parts.objectives import hinge
from leafwing.parts.plays import duel, generating, sampling


def projected(
    data: DataSpec,
    *,
    backbone: Literal["lite0", "random"] = "lite0",
    resolution: int = 128,
    mixed: int = 64,
    latent: int = 256,
    prior: Literal["normal", "uniform"] = "normal",
    width: int = 64,
    max_width: int = 1024,
    lr_g: float = 2e-4,
    lr_d: float = 2e-4,
    beta1: float = 0.0,
    ema: float = 20_000,
    batch: int = 64,
) -> Game:
    """FastGAN's generator, critics of a frozen network's mixed maps, hinge loss, DiffAugment.

    Args:
        backbone: the frozen network: lite0, from an optional package; random, the same with constant random weights.
        resolution: side to which images are resized before they enter the frozen network, a multiple of 32 (authors: 224).
        mixed: channels of the largest mixed map; twice as many in each smaller one.
        latent: dimension of the latent vector.
        prior: distribution of the latents.
        width: channels of G at 128 px; times 0.5 at 256 px, 2 at 32 and 64 px, 4 at 16 px, 8 at 8 px, 16 at 4 px.
        max_width: maximum number of channels in any layer of G.
        lr_g: learning rate of G.
        lr_d: learning rate of D.
        beta1: Adam's beta1.
        ema: half-life of the EMA of G's weights, in images; 0 disables it.
        batch: batch size (real images per update).
    """
    data.need("projected", image=Image)
    if resolution < 32 or resolution % 32:
        raise LeafwingError(f"recipe projected: resolution={resolution}: must be a multiple of 32")
    z, side = priors.by_name(prior, latent), max(data.height, data.width)
    blind = f"D sees images reduced to {resolution} px, and no finer details: resolution={-(-side // 32) * 32} shows it all"

    def judge(nets: Nets, samples: Tensor, inputs: Batch) -> Tensor:
        return scores(nets.D(samples)).mean(1)

    return Game(
        players={
            "G": Player(fastgan.Generator(data, latent, width, max_width), Adam(lr_g, (beta1, 0.99)), ema=ema),
            "D": Player(networks.Critic(mixed, resolution, backbone), Adam(lr_d, (beta1, 0.99))),
        },
        turns=duel(sampling(z), hinge),
        abilities=Abilities(generating(z).outputs, judge=judge),
        batch=batch,
        augment="diff",
        notes=[blind] if resolution < side else [],
        pretrained=["lite0"] if backbone == "lite0" else [],
    )

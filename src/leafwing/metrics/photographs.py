"""The feature network `lite0`: the mean over positions of a stage of a classifier of photographs; see `networks.lite0`."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from leafwing.networks import lite0

SMALLEST, LARGEST = 128, 224
"""The longer side of an image in pixels: smaller images are enlarged to the one, larger ones reduced to the other."""
BATCH, CPU_BATCH = 16, 4
"""Batch sizes of feature extraction, elsewhere and on a CPU, whose cache holds the maps of few images: there
larger batches take longer per image."""
SMALLEST_SIDE = 32
"""Sides in pixels from which images are judged by this network without being asked for it."""


class Network(nn.Module):
    """Images (n, 1 or 3, height, width) in [-1, 1] -> the means of stage 5, (n, 112); it does not classify.

    Grey images count as RGB. The aspect ratio stays.

    Args:
        net: the classifier's first five stages.
    """

    def __init__(self, net: lite0.Lite0) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.net(at_size(x))[-1].mean((2, 3)), None


def at_size(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) resized for the network, bilinearly and antialiased."""
    height, width = images.shape[2:]
    longer = max(height, width)
    scale = min(max(longer, SMALLEST), LARGEST) / longer
    if scale == 1:
        return images
    sides = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(images, sides, mode="bilinear", align_corners=False, antialias=True)


def feature_network(weights: str | Path | None = None, device: str = "cpu") -> tuple[Network, str]:
    """The network and the hash of its weights.

    Args:
        weights: the published file; None: that of the installed package.
        device: where it computes.

    Raises:
        LeafwingError: the package is not installed, or the file is not the published one.
    """
    return Network(lite0.load(device, weights)).eval(), lite0.SHA256

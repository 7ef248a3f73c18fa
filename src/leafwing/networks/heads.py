"""Small networks that turn the features at some positions of a network's maps into vectors (Park et al. 2020, arXiv:2007.15651)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import normalize

from leafwing.game import to_fp32
from leafwing.networks.layers import dcgan_weights


class Heads(nn.Module):
    """An MLP for each of several feature maps: from the features at some positions to unit vectors.

    Args:
        channels: channels of each map.
        size: dimension of the vectors, and of the hidden layer.
    """

    def __init__(self, channels: Sequence[int], size: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(count, size), nn.ReLU(), nn.Linear(size, size)) for count in channels
        )
        self.apply(dcgan_weights)

    def forward(self, maps: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Maps (n, channels, height, width) and positions (n, patches) in each -> vectors (n, patches, size) of each, in fp32."""
        vectors = []
        for head, features, places in zip(self.heads, maps, positions, strict=True):
            flat = features.flatten(2)
            chosen = flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)
            vectors.append(normalize(to_fp32(head(chosen)), dim=2))
        return vectors

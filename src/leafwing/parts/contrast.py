"""Contrast between patches: a patch of what was generated should be recognised among all patches of its source.

Park et al. 2020, Contrastive Learning for Unpaired Image-to-Image Translation, arXiv:2007.15651, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

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


def random_positions(features: Tensor, count: int) -> Tensor:
    """Random positions of a map (n, channels, height, width), without repetition and for each sample its own: (n, count) or all."""
    n, _, height, width = features.shape
    return torch.rand(n, height * width, device=features.device).argsort(1)[:, :count]


def contrast(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of recognising the key at the position of each query among all keys of the same image: eq. 2, a scalar.

    Args:
        queries: unit vectors (n, patches, size).
        keys: unit vectors (n, patches, size).
        temperature: divides the similarities.
    """
    similarities = queries @ keys.transpose(1, 2) / temperature  # (n, query, key)
    positions = torch.arange(keys.shape[1], device=keys.device)
    return cross_entropy(similarities.flatten(0, 1), positions.repeat(len(keys)))


def patch_contrast(
    features: Callable[[Tensor], Sequence[Tensor]],
    heads: nn.Module,
    result: Tensor,
    source: Tensor,
    *,
    patches: int = 256,
    temperature: float = 0.07,
) -> Tensor:
    """The mean `contrast` over several feature maps between what was generated and its source: eq. 3. Keys have no gradient.

    Args:
        features: images -> feature maps (n, channels, height, width).
        heads: `Heads` for these maps.
        result: generated images, as `features` takes them.
        source: the images that they were generated from.
        patches: number of positions in each map; a smaller map has fewer.
        temperature: see `contrast`.
    """
    with torch.no_grad():
        maps = features(source)
        positions = [random_positions(part, patches) for part in maps]
        keys = heads(maps, positions)
    queries = heads(features(result), positions)
    return torch.stack([contrast(*pair, temperature) for pair in zip(queries, keys, strict=True)]).mean()

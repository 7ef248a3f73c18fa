"""Contrast between patches: a patch of what was generated should be recognised among all patches of its source.

Park et al. 2020, Contrastive Learning for Unpaired Image-to-Image Translation, arXiv:2007.15651, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from leafwing.game import to_fp32


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
    with torch.autocast(queries.device.type, enabled=False):  # bf16 has steps of 0.06 where logits are about 14
        similarities = to_fp32(queries) @ to_fp32(keys).transpose(1, 2) / temperature  # (n, query, key)
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
        heads: (maps, positions in each) -> unit vectors (n, patches, size) of each map.
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

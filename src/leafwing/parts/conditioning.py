"""How a label, attributes or both enter G and D.

A condition is what a batch calls `label`, class indices (n,), or `attributes`, zeros and ones (n, attributes). Told both, G and D see
them as one vector: the label as a one among zeros, then the attributes.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


def one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Labels (n,) as (n, classes) with a one each; torch's own reads the largest label on the host first."""
    return (label[:, None] == torch.arange(classes, device=label.device)).to(dtype)


def vector(told: tuple[Tensor, ...], classes: int, dtype: torch.dtype) -> Tensor:
    """Conditions as one vector each, (n, numbers): labels (n,) become (n, classes), attributes (n, attributes) stay as they are."""
    parts = [one_hot(one, classes, dtype) if one.dim() == 1 else one.to(dtype) for one in told]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class LabelBesideLatent(nn.Module):
    """G(z, y) = G([z, y]): the condition joins the latent. Mirza & Osindero 2014, arXiv:1411.1784, section 3.2.

    Args:
        net: a generator whose latents have as many more numbers as the condition has.
        classes: how many labels there are; 0 where only attributes are told.
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, z: Tensor, *told: Tensor) -> Tensor:
        return self.net(torch.cat([z, vector(told, self.classes, z.dtype)], dim=1))


class Concatenation(nn.Module):
    """D(x, y) = D([x, y]): every pixel is told the condition, one channel a number. arXiv:1411.1784, as in DCGAN codes.

    Args:
        net: a critic whose pictures have as many more channels as the condition has numbers.
        classes: how many labels there are; 0 where only attributes are told.
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        beside = vector(told, self.classes, x.dtype)
        if x.dim() == 4:
            beside = beside[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.net(torch.cat([x, beside], dim=1))


class Trunk(Protocol):
    """A critic in two steps."""

    def features(self, x: Tensor) -> Tensor: ...
    def score(self, features: Tensor) -> Tensor: ...


class Projection(nn.Module):
    """D(x, y) = psi(phi(x)) + <V y, phi(x)>. Miyato & Koyama 2018, arXiv:1802.05637, eq. 6.

    V has a column for each number of the condition; the column of a label is looked up, which is the same as the product.

    Args:
        net: a critic with `features(x)` -> (n, features) or (n, features, h, w), and `score(features)` -> (n,).
        features: how many features there are; maps are summed over their places, as in the paper.
        classes: how many labels there are; 0 where only attributes are told.
        attributes: how many attributes there are; 0 where only the label is told.
    """

    def __init__(self, net: Trunk, features: int, classes: int, attributes: int = 0) -> None:
        super().__init__()
        self.net = net
        if classes:
            self.embedding = nn.Embedding(classes, features)
            nn.init.normal_(self.embedding.weight, std=0.02)
        if attributes:
            self.linear = nn.Linear(attributes, features, bias=False)
            nn.init.normal_(self.linear.weight, std=0.02)

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        phi = self.net.features(x)
        pooled = phi.flatten(2).sum(2) if phi.dim() > 2 else phi
        score = self.net.score(phi)
        for one in told:
            column = self.embedding(one) if one.dim() == 1 else self.linear(one.to(self.linear.weight.dtype))
            score = score + (column * pooled).sum(1)
        return score

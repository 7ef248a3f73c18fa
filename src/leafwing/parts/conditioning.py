"""How a label, attributes or both enter G and D.

A condition is a batch's `label`, class indices (n,), or `attributes`, zeros and ones (n, attributes). With both, G and D see one
vector: the one-hot label, then the attributes.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


def one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot encoding of labels (n,): (n, classes). torch's own version synchronises with the host."""
    return (label[:, None] == torch.arange(classes, device=label.device)).to(dtype)


def vector(conditions: tuple[Tensor, ...], classes: int, dtype: torch.dtype) -> Tensor:
    """Conditions concatenated to vectors (n, size): labels (n,) become one-hot, attributes (n, attributes) are unchanged."""
    parts = [one_hot(c, classes, dtype) if c.dim() == 1 else c.to(dtype) for c in conditions]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class ConditionalGenerator(nn.Module):
    """G(z, y) = G([z, y]): the condition is concatenated to the latent. Mirza & Osindero 2014, arXiv:1411.1784, section 3.2.

    Args:
        net: a generator whose latent dimension includes the size of the condition.
        classes: number of classes; 0 for attributes alone.
        scale: factor of the condition.
    """

    def __init__(self, net: nn.Module, classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.net, self.classes, self.scale = net, classes, scale

    def forward(self, z: Tensor, *conditions: Tensor) -> Tensor:
        return self.net(torch.cat([z, self.scale * vector(conditions, self.classes, z.dtype)], dim=1))


class Concatenation(nn.Module):
    """D(x, y) = D([x, y]): the condition as constant feature maps, one per component. arXiv:1411.1784, as in DCGAN implementations.

    Args:
        net: a discriminator whose input channels include the size of the condition.
        classes: number of classes; 0 for attributes alone.
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        condition = vector(conditions, self.classes, x.dtype)
        if x.dim() == 4:
            condition = condition[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.net(torch.cat([x, condition], dim=1))


class Trunk(Protocol):
    """A discriminator split into features and score."""

    def features(self, x: Tensor) -> Tensor: ...
    def score(self, features: Tensor) -> Tensor: ...


class Projection(nn.Module):
    """D(x, y) = psi(phi(x)) + <V y, phi(x)>. Miyato & Koyama 2018, arXiv:1802.05637, eq. 6.

    V has a column for each component of the condition; for labels it is an embedding, which is equivalent to the product.

    Args:
        net: a discriminator with `features(x)` -> (n, features) or (n, features, h, w), and `score(features)` -> (n,).
        features: number of features; maps are summed over positions, as in the paper.
        classes: number of classes; 0 for attributes alone.
        attributes: number of attributes; 0 for labels alone.
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

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        phi = self.net.features(x)
        pooled = phi.flatten(2).sum(2) if phi.dim() > 2 else phi
        score = self.net.score(phi)
        for c in conditions:
            column = self.embedding(c) if c.dim() == 1 else self.linear(c.to(self.linear.weight.dtype))
            score = score + (column * pooled).sum(1)
        return score

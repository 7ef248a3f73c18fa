"""How a label enters G and D."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


def one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Labels (n,) as (n, classes) with a one each; torch's own reads the largest label on the host first."""
    return (label[:, None] == torch.arange(classes, device=label.device)).to(dtype)


class LabelBesideLatent(nn.Module):
    """G(z, y) = G([z, onehot(y)]): the label joins the latent. Mirza & Osindero 2014, arXiv:1411.1784, section 3.2.

    Args:
        net: a generator whose latents have `classes` more numbers.
        classes: how many labels there are.
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.net(torch.cat([z, one_hot(label, self.classes, z.dtype)], dim=1))


class Concatenation(nn.Module):
    """D(x, y) = D([x, onehot(y)]): every pixel is told the label, one channel a class. arXiv:1411.1784, as in DCGAN codes.

    Args:
        net: a critic whose pictures have `classes` more channels.
        classes: how many labels there are.
    """

    def __init__(self, net: nn.Module, classes: int) -> None:
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        told = one_hot(label, self.classes, x.dtype)
        if x.dim() == 4:
            told = told[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.net(torch.cat([x, told], dim=1))


class Trunk(Protocol):
    """A critic in two steps."""

    def features(self, x: Tensor) -> Tensor: ...
    def score(self, features: Tensor) -> Tensor: ...


class Projection(nn.Module):
    """D(x, y) = psi(phi(x)) + <V y, phi(x)>. Miyato & Koyama 2018, arXiv:1802.05637, eq. 6.

    Args:
        net: a critic with `features(x)` -> (n, features) or (n, features, h, w), and `score(features)` -> (n,).
        features: how many features there are; maps are summed over their places, as in the paper.
        classes: how many labels there are.
    """

    def __init__(self, net: Trunk, features: int, classes: int) -> None:
        super().__init__()
        self.net = net
        self.embedding = nn.Embedding(classes, features)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        phi = self.net.features(x)
        pooled = phi.flatten(2).sum(2) if phi.dim() > 2 else phi
        return self.net.score(phi) + (self.embedding(label) * pooled).sum(1)

"""Adversarial losses of discriminator and generator: pure functions of the scores of real and fake samples.

A score is the discriminator's raw output, before any sigmoid. Penalties live in `penalties`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


class Scores(Protocol):
    """Scores of a batch of real and of fake samples, (n,) each; `game.Round` is one."""

    @property
    def real_score(self) -> Tensor: ...
    @property
    def fake_score(self) -> Tensor: ...


@dataclass(frozen=True)
class Objective:
    """The losses of both sides.

    Args:
        critic: scores -> the discriminator's loss, a scalar.
        generator: scores -> the generator's loss, a scalar.
    """

    critic: Callable[[Any], Tensor]
    generator: Callable[[Any], Tensor]


def _margin(score: Tensor) -> Tensor:
    return torch.rand_like(score) * 0.2 + 0.8


minimax = Objective(
    critic=lambda s: softplus(-s.real_score).mean() + softplus(s.fake_score).mean(),
    generator=lambda s: -softplus(s.fake_score).mean(),
)
"""D: sp(-s(x)) + sp(s(G)); G: -sp(s(G)), which saturates. Goodfellow et al. 2014, arXiv:1406.2661, eq. 1."""

non_saturating = Objective(
    critic=minimax.critic,
    generator=lambda s: softplus(-s.fake_score).mean(),
)
"""D: sp(-s(x)) + sp(s(G)); G: sp(-s(G)). Goodfellow et al. 2014, arXiv:1406.2661, section 3."""

wasserstein = Objective(
    critic=lambda s: s.fake_score.mean() - s.real_score.mean(),
    generator=lambda s: -s.fake_score.mean(),
)
"""D: s(G) - s(x); G: -s(G). Arjovsky et al. 2017, arXiv:1701.07875, eq. 2-3. The negative of D's loss estimates the distance."""

relativistic = Objective(
    critic=lambda s: softplus(s.fake_score - s.real_score).mean(),
    generator=lambda s: softplus(s.real_score - s.fake_score).mean(),
)
"""D: sp(-(s(x) - s(G))); G the reverse, on pairs. Jolicoeur-Martineau 2018, arXiv:1807.00734; Huang et al. 2024, eq. 2."""


hinge = Objective(
    critic=lambda s: relu(1 - s.real_score).mean() + relu(1 + s.fake_score).mean(),
    generator=lambda s: -s.fake_score.mean(),
)
"""D: max(0, 1 - s(x)) + max(0, 1 + s(G)); G: -s(G). Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, eq. 16-17."""


noisy_hinge = Objective(
    critic=lambda s: relu(_margin(s.real_score) - s.real_score).mean() + relu(_margin(s.fake_score) + s.fake_score).mean(),
    generator=lambda s: -s.fake_score.mean(),
)
"""D: max(0, u - s(x)) + max(0, u + s(G)), u ~ U(0.8, 1) for each score; G: -s(G). Liu et al. 2021, arXiv:2101.04775, authors' code."""

boundary_seeking = Objective(
    critic=minimax.critic,
    generator=lambda s: 0.5 * s.fake_score.square().mean(),
)
"""D as in the GAN; G: 1/2 (log D(G) - log(1 - D(G)))^2, which is 1/2 s(G)^2. Hjelm et al. 2017, arXiv:1702.08431, eq. 13."""


joint = Objective(
    critic=minimax.critic,
    generator=lambda s: softplus(s.real_score).mean() + softplus(-s.fake_score).mean(),
)
"""D: sp(-s(x, E(x))) + sp(s(G(z), z)); G and E together the reverse of both. Dumoulin et al. 2016, arXiv:1606.00704, algorithm 1;
Donahue et al. 2016, arXiv:1605.09782, eq. 3 and section 3.4."""


def smoothed(target: float = 0.9) -> Objective:
    """The non-saturating GAN with target probability `target` instead of 1 for real samples, and still 0 for fake ones.

    One-sided label smoothing: Salimans et al. 2016, arXiv:1606.03498, section 3.4.

    Args:
        target: the discriminator's target probability for real samples.
    """
    return Objective(
        critic=lambda s: (
            target * softplus(-s.real_score).mean()
            + (1 - target) * softplus(s.real_score).mean()
            + softplus(s.fake_score).mean()
        ),
        generator=non_saturating.generator,
    )


def energy(margin: float) -> Objective:
    """D: E(x) + max(0, m - E(G)); G: E(G), where the energy E is the negative score. Zhao et al. 2016, arXiv:1609.03126, eq. 1-2.

    Args:
        margin: m, the energy above which fakes do not contribute.
    """
    return Objective(
        critic=lambda s: -s.real_score.mean() + relu(margin + s.fake_score).mean(),
        generator=lambda s: -s.fake_score.mean(),
    )


def ranking(margin: float) -> Objective:
    """D: max(0, s(G) + margin - s(x)), on pairs; G: -s(G). Juefei-Xu et al. 2017, arXiv:1704.04865.

    Args:
        margin: required margin of the score of a real sample over that of a fake one.
    """
    return Objective(
        critic=lambda s: relu(s.fake_score + margin - s.real_score).mean(),
        generator=wasserstein.generator,
    )


@dataclass(frozen=True)
class Divergence:
    """An f-divergence: T(v) is the discriminator's output for its score v, and f*(T(v)) the loss on fakes.

    Args:
        activation: v -> T(v) = g_f(v).
        conjugate: v -> f*(g_f(v)).
    """

    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]


DIVERGENCES = {
    "total_variation": Divergence(lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
    "kl": Divergence(lambda v: v, lambda v: (v - 1).exp()),
    "reverse_kl": Divergence(lambda v: -(-v).exp(), lambda v: v - 1),
    "pearson": Divergence(lambda v: v, lambda v: v.square() / 4 + v),
    "squared_hellinger": Divergence(lambda v: 1 - (-v).exp(), lambda v: v.exp() - 1),
    "jensen_shannon": Divergence(lambda v: log(2) - softplus(-v), lambda v: softplus(v) - log(2)),
}
"""Nowozin, Cseke & Tomioka 2016, arXiv:1606.00709, tables 2 and 6; f* o g_f is written out, because it is simpler than both."""


def variational(divergence: str, *, saturating: bool = False) -> Objective:
    """D: -(E T(x) - E f*(T(G))), the negative of a lower bound on the divergence; G: -E T(G), or -E f*(T(G)) as in the bound.

    Nowozin, Cseke & Tomioka 2016, arXiv:1606.00709, eq. 6 and section 3.2.

    Args:
        divergence: a key of `DIVERGENCES`.
        saturating: G minimises the bound itself.
    """
    f = DIVERGENCES[divergence]
    return Objective(
        critic=lambda s: f.conjugate(s.fake_score).mean() - f.activation(s.real_score).mean(),
        generator=lambda s: -(f.conjugate if saturating else f.activation)(s.fake_score).mean(),
    )


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Objective:
    """D: 1/2 (s(x) - b)^2 + 1/2 (s(G) - a)^2; G: 1/2 (s(G) - c)^2. Mao et al. 2016, arXiv:1611.04076, eq. 2.

    Args:
        a: the discriminator's target for fakes.
        b: the discriminator's target for reals.
        c: the generator's target for fakes.
    """
    return Objective(
        critic=lambda s: 0.5 * (s.real_score - b).square().mean() + 0.5 * (s.fake_score - a).square().mean(),
        generator=lambda s: 0.5 * (s.fake_score - c).square().mean(),
    )

"""What critic and generator want: pure functions of the scores of real and fake samples.

A score is the critic's raw output, before any sigmoid. Penalties live in `penalties`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.nn.functional import softplus


class Scores(Protocol):
    """Scores of a batch of real and of fake samples, (n,) each; `game.Round` is one."""

    @property
    def real_score(self) -> Tensor: ...
    @property
    def fake_score(self) -> Tensor: ...


@dataclass(frozen=True)
class Objective:
    """What the two sides minimise.

    Args:
        critic: scores -> the critic's cost, a scalar.
        generator: scores -> the generator's cost, a scalar.
    """

    critic: Callable[[Any], Tensor]
    generator: Callable[[Any], Tensor]


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
"""D: s(G) - s(x); G: -s(G). Arjovsky et al. 2017, arXiv:1701.07875, eq. 2-3. Minus D's cost estimates the distance."""

relativistic = Objective(
    critic=lambda s: softplus(s.fake_score - s.real_score).mean(),
    generator=lambda s: softplus(s.real_score - s.fake_score).mean(),
)
"""D: sp(-(s(x) - s(G))); G the reverse, on pairs. Jolicoeur-Martineau 2018, arXiv:1807.00734; Huang et al. 2024, eq. 2."""


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Objective:
    """D: 1/2 (s(x) - b)^2 + 1/2 (s(G) - a)^2; G: 1/2 (s(G) - c)^2. Mao et al. 2016, arXiv:1611.04076, eq. 2.

    Args:
        a: what the critic wants the score of a fake to be.
        b: what the critic wants the score of a real to be.
        c: what the generator wants the score of a fake to be.
    """
    return Objective(
        critic=lambda s: 0.5 * (s.real_score - b).square().mean() + 0.5 * (s.fake_score - a).square().mean(),
        generator=lambda s: 0.5 * (s.fake_score - c).square().mean(),
    )

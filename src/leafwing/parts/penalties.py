"""Further loss terms besides the objective (gradient penalties, regularisers), and operations after a step (weight clipping)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from leafwing.game import Nets, Prior, Round, Scheduled, Term, at, scores, to_fp32


def input_gradient(score: Tensor, samples: Tensor) -> Tensor:
    """Gradient of each score with respect to its own sample, flattened to (n, elements per sample); differentiable again."""
    (gradient,) = torch.autograd.grad(score.sum(), samples, create_graph=True)
    return gradient.flatten(1)


def gradient_penalty(weight: float = 10.0) -> Term:
    """weight * E (|grad s(x^)| - 1)^2 with x^ = u x + (1 - u) G(z), u ~ U(0, 1) for each pair.

    Gulrajani et al. 2017, arXiv:1704.00028, eq. 3.
    """

    def loss(r: Round) -> Tensor:
        u = torch.rand(len(r.real), *[1] * (r.real.dim() - 1), device=r.real.device)
        mixed = (u * r.real + (1 - u) * r.fake).detach().requires_grad_()
        return weight * (input_gradient(scores(r.judge(mixed)), mixed).norm(dim=1) - 1).square().mean()

    return Term("gradient_penalty", loss, second_order=True)


def r1(gamma: Scheduled = 1.0) -> Term:
    """gamma / 2 * E |grad s(x)|^2 at real samples. Mescheder et al. 2018, arXiv:1801.04406, eq. 9."""
    return Term(
        "r1",
        lambda r: at(gamma, r.clock) / 2 * input_gradient(r.real_score, r.real).square().sum(1).mean(),
        second_order=True,
    )


def r2(gamma: Scheduled = 1.0) -> Term:
    """gamma / 2 * E |grad s(G(z))|^2 at fake samples. Mescheder et al. 2018, arXiv:1801.04406, section 4.1."""
    return Term(
        "r2",
        lambda r: at(gamma, r.clock) / 2 * input_gradient(r.fake_score, r.fake).square().sum(1).mean(),
        second_order=True,
    )


def pull_away(code: Callable[[Round], Tensor], weight: float = 0.1) -> Term:
    """weight times the mean squared cosine similarity between the codes of two fakes, which pushes them apart.

    Zhao et al. 2016, arXiv:1609.03126, section 2.4.

    Args:
        code: round -> codes of the fakes, (n, ...).
        weight: weight of the term.
    """

    def loss(r: Round) -> Tensor:
        unit = normalize(to_fp32(code(r)).flatten(1), dim=1)
        n = len(unit)
        return weight * ((unit @ unit.T).square().sum() - n) / max(1, n * (n - 1))

    return Term("pull_away", loss)


def feature_matching(features: Callable[[Round, Tensor], Tensor]) -> Term:
    """Mean square over features of E f(x) - E f(G). Salimans et al. 2016, arXiv:1606.03498, section 3.1.

    Args:
        features: round, samples (n, ...) -> features whose means are matched, (n, ...).
    """

    def loss(r: Round) -> Tensor:
        real, fake = (to_fp32(features(r, samples)).flatten(1).mean(0) for samples in (r.real, r.fake))
        return (real - fake).square().mean()

    return Term("feature_matching", loss)


class HistoricalAverage(nn.Module):
    """weight * |theta - mean of all theta so far|^2 of one player. Salimans et al. 2016, arXiv:1606.03498, section 3.3.

    The mean is updated after each step of the player, so `update` must be in its turn's `after`.

    Args:
        net: the player's network.
        player: its name.
        weight: weight of the term.
    """

    count: Tensor
    mean: Tensor

    def __init__(self, net: nn.Module, player: str, weight: float) -> None:
        super().__init__()
        self.player, self.weight = player, weight
        self.register_buffer("count", torch.ones(()))
        self.register_buffer("mean", self._weights(net).detach().clone())

    @staticmethod
    def _weights(net: nn.Module) -> Tensor:
        return torch.cat([weight.flatten() for weight in net.parameters()])

    def forward(self, r: Round) -> Tensor:
        return self.weight * (self._weights(getattr(r.nets, self.player)) - self.mean).square().sum()

    @torch.no_grad()
    def restart(self, nets: Nets) -> None:
        """Forgets the past: the mean is that of the current weights."""
        self.count.fill_(1.0)
        self.mean.copy_(self._weights(getattr(nets, self.player)))

    @torch.no_grad()
    def update(self, nets: Nets) -> None:
        """Updates the mean with the current weights."""
        self.count += 1
        self.mean += (self._weights(getattr(nets, self.player)) - self.mean) / self.count


class PreviousStageRanking(nn.Module):
    """weight * E max(0, s'(G'(z)) + margin - s(x)): D must score real samples higher than the previous stage's D scores its fakes.

    Juefei-Xu et al. 2017, arXiv:1704.04865. `snapshot_g` and `snapshot_d` copy the current weights, so they must be in the
    `after` of the turns whose final state is the reference.

    Args:
        g: the current generator.
        d: the current discriminator.
        prior: the generator's prior.
        margin: the margin.
        weight: weight of the term.
    """

    def __init__(self, g: nn.Module, d: nn.Module, prior: Prior, margin: float, weight: float) -> None:
        super().__init__()
        self.G, self.D = (copy.deepcopy(net).requires_grad_(False) for net in (g, d))
        self.prior, self.margin, self.weight = prior, margin, weight

    def forward(self, r: Round) -> Tensor:
        previous = scores(self.D(r.augment(self.G(self.prior(len(r.real), r.real.device)))))
        return self.weight * relu(previous + self.margin - r.real_score).mean()

    def snapshot_g(self, nets: Nets) -> None:
        """Copies the current weights of G."""
        self._copy(self.G, nets.G)

    def snapshot_d(self, nets: Nets) -> None:
        """Copies the current weights of D."""
        self._copy(self.D, nets.D)

    @torch.no_grad()
    def _copy(self, target: nn.Module, source: nn.Module) -> None:
        torch._foreach_copy_(list(target.state_dict().values()), list(source.state_dict().values()))


def clip_weights(player: str, bound: float = 0.01) -> Callable[[Nets], None]:
    """Every weight of the player that is trained is clamped to [-bound, bound]. For the `after` of a turn in which the player moves:
    only there do those that are not frozen require gradients.

    Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1, line 7.
    """

    def clip(nets: Nets) -> None:
        weights = [weight for weight in getattr(nets, player).parameters() if weight.requires_grad]
        if not weights:
            raise ValueError(f"clip_weights({player!r}) belongs into the `after` of a turn in which {player} moves")
        torch._foreach_clamp_min_(weights, -bound)
        torch._foreach_clamp_max_(weights, bound)

    return clip

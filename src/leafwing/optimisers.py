"""The update rules of players, with their hyper-parameters. Part of the vocabulary of `game`; torch is imported when one is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from leafwing.clock import Clock, Scheduled, at
from leafwing.errors import LeafwingError

if TYPE_CHECKING:
    import torch
    from torch import nn


@runtime_checkable
class Optimiser(Protocol):
    """An update rule with its hyper-parameters; `build` makes the torch optimiser."""

    @property
    def lr(self) -> Scheduled: ...

    @property
    def on_host(self) -> bool:
        """Whether a step uses scheduled values that cannot be tensors, so that it cannot be captured."""
        ...

    def build(
        self, weights: list[nn.Parameter], device: torch.device, *, fused: bool = True, capture: bool = False
    ) -> torch.optim.Optimizer:
        """The torch optimiser.

        Args:
            weights: the parameters to optimise.
            device: their device.
            fused: one kernel for all weights instead of a loop over them.
            capture: whether its step can be captured.
        """
        ...

    def scheduled(self, clock: Clock) -> dict[str, Any]:
        """The current values of scheduled hyper-parameters, by their name in torch's parameter groups."""
        ...


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2014, arXiv:1412.6980); with weight decay AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101).

    `l2` times the weights is added to their gradient, the older form of weight decay; not together with `weight_decay`.
    """

    lr: Scheduled
    betas: tuple[float, Scheduled] = (0.5, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    l2: float = 0.0

    def __post_init__(self) -> None:
        if self.weight_decay and self.l2:
            raise LeafwingError("Adam: weight_decay and l2 are two forms of one thing: choose one")

    @property
    def on_host(self) -> bool:
        return callable(self.betas[1])

    def build(
        self, weights: list[nn.Parameter], device: torch.device, *, fused: bool = True, capture: bool = False
    ) -> torch.optim.Optimizer:
        import torch

        start = Clock()
        lr: Any = at(self.lr, start)
        if capture and callable(self.lr):
            lr = torch.full((), lr, device=device, dtype=torch.float32)  # fused Adam requires float32, whatever the weights
        betas = (self.betas[0], at(self.betas[1], start))
        implementation: dict[str, Any] = {"fused": True} if fused else {"foreach": False}
        if self.weight_decay:
            implementation["weight_decay"] = self.weight_decay
            return torch.optim.AdamW(weights, lr, betas, self.eps, capturable=capture, **implementation)
        return torch.optim.Adam(weights, lr, betas, self.eps, weight_decay=self.l2, capturable=capture, **implementation)

    def scheduled(self, clock: Clock) -> dict[str, Any]:
        values: dict[str, Any] = {"lr": self.lr(clock)} if callable(self.lr) else {}
        return values | ({"betas": (self.betas[0], self.betas[1](clock))} if callable(self.betas[1]) else {})


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton 2012, lecture 6e of Neural Networks for Machine Learning)."""

    lr: Scheduled
    alpha: float = 0.99
    eps: float = 1e-8

    @property
    def on_host(self) -> bool:
        return callable(self.lr)

    def build(
        self, weights: list[nn.Parameter], device: torch.device, *, fused: bool = True, capture: bool = False
    ) -> torch.optim.Optimizer:
        import torch

        return torch.optim.RMSprop(weights, at(self.lr, Clock()), self.alpha, self.eps, foreach=fused, capturable=capture)

    def scheduled(self, clock: Clock) -> dict[str, Any]:
        return {"lr": self.lr(clock)} if callable(self.lr) else {}


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum."""

    lr: Scheduled
    momentum: Scheduled = 0.0

    @property
    def on_host(self) -> bool:
        return callable(self.lr) or callable(self.momentum)

    def build(
        self, weights: list[nn.Parameter], device: torch.device, *, fused: bool = True, capture: bool = False
    ) -> torch.optim.Optimizer:
        import torch

        start = Clock()
        implementation: dict[str, Any] = {"fused": True} if fused else {"foreach": False}
        return torch.optim.SGD(weights, at(self.lr, start), at(self.momentum, start), **implementation)

    def scheduled(self, clock: Clock) -> dict[str, Any]:
        values = {"lr": self.lr, "momentum": self.momentum}
        return {name: value(clock) for name, value in values.items() if callable(value)}

"""The critic as a feature extractor: its feature maps, and an untrained copy with random weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leafwing.errors import LeafwingError
from leafwing.game import Nets
from leafwing.laboratory.layers import CONVOLUTIONS, need_convolutions, watched
from leafwing.model import Model, evaluating

SETTLE = 30
"""Number of power iterations of spectral normalisation for newly initialised weights."""


@dataclass(frozen=True, eq=False)
class Critic:
    """A critic whose feature maps can be read.

    Args:
        nets: the networks.
        judge: nets, pictures and conditions -> scores.
        told: the conditions, one row of each: always those of class 0, so that no label leaks.
        layers: the convolutions with spatial output, first to last, without transposed ones.
        taps: for each, the last normalisation or activation directly after it, or the convolution itself.
        shape: shape of a picture.
        device: device of the networks.
    """

    nets: Nets
    judge: Callable[..., Tensor]
    told: Sequence[Tensor]
    layers: Sequence[nn.Conv2d]
    taps: Sequence[nn.Module]
    shape: tuple[int, ...]
    device: torch.device

    def score(self, pictures: Tensor) -> Tensor:
        """Scores (n,) of pictures (n, channels, height, width) in one pass, in the networks' current mode."""
        told = [one.expand(len(pictures), *one.shape[1:]) for one in self.told]
        return self.judge(self.nets, pictures.to(self.device), *(told or (None,)))

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The outputs of `taps` for pictures, from one pass."""
        with watched(self.taps) as seen:
            self.score(pictures)
            return list(seen)


def critic_of(model: Model) -> Critic:
    """The critic of a model.

    Raises:
        LeafwingError: there is no critic that scores single samples, or it has no convolutions.
    """
    judge = model.game.abilities.judge
    if judge is None:
        raise LeafwingError(
            "this game has no critic that scores single samples, which this tool requires: see `leafwing recipes` for other recipes"
        )
    return _traced(model.game.shown, judge, model.told(1, 0 if model.labels else None), model.spec.shape, model.device)


def untrained(critic: Critic, pictures: Tensor, seed: int) -> Critic:
    """A critic of the same architecture with random weights, initialised as by torch, and batch statistics from real pictures.

    Args:
        critic: is not modified.
        pictures: real pictures (n, channels, height, width) for the running statistics of batch normalisation.
        seed: random seed of the weights.
    """
    nets = copy.deepcopy(critic.nets)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for net in vars(nets).values():
            _redraw(net.cpu())  # the same weights on every device
            net.to(critic.device)
        other = _traced(nets, critic.judge, critic.told, critic.shape, critic.device)
        norms = [
            part
            for net in vars(nets).values()
            for part in net.modules()
            if isinstance(part, nn.modules.batchnorm._BatchNorm)
        ]
        pace = [norm.momentum for norm in norms]
        for net in vars(nets).values():
            net.train()
        for norm in norms:
            norm.momentum = None  # cumulative average
        for part in pictures.split(64) if norms else ():
            other.score(part)
        for norm, before in zip(norms, pace, strict=True):
            norm.momentum = before
        for net in vars(nets).values():
            net.eval()
    return other


def _redraw(net: nn.Module) -> None:
    """Re-initialises all weights, including parametrised ones."""
    bent = {part: _lists(part) for part in net.modules() if parametrize.is_parametrized(part)}
    inside = {part for lists in bent.values() for one in lists.values() for part in one.modules()}
    for part in net.modules():
        reset: Callable[[], None] | None = getattr(part, "reset_parameters", None)
        if part in inside:
            continue
        if reset is None:
            for weight in part.parameters(recurse=False):
                weight.normal_(float(weight.mean()), float(weight.std(correction=0)))
        elif part not in bent:
            reset()
        else:
            _redraw_bent(part, list(bent[part]))


def _redraw_bent(part: nn.Module, names: Sequence[str]) -> None:
    """Re-initialises a layer with parametrised weights as the plain layer would be."""
    bare = copy.deepcopy(part)  # torch's way of removing parametrisations changes the class, which all copies share
    bare.__class__ = parametrize.type_before_parametrizations(part)
    del bare.parametrizations
    for name in names:
        bare.register_parameter(name, nn.Parameter(torch.empty_like(getattr(part, name)), requires_grad=False))
    fresh: Any = bare.reset_parameters
    fresh()
    for name, weight in bare.named_parameters(recurse=False):
        if name in names:
            setattr(part, name, weight.detach())
        else:
            getattr(part, name).copy_(weight)
    part.train()
    for _ in range(SETTLE):
        for name in names:
            getattr(part, name)  # each access in training mode is one power iteration
    part.eval()


def _lists(part: nn.Module) -> dict[str, nn.Module]:
    """The parametrisations of a layer, by weight name."""
    return dict(part.parametrizations.named_children()) if isinstance(part.parametrizations, nn.Module) else {}


def _traced(
    nets: Nets, judge: Callable[..., Tensor], told: Sequence[Tensor], shape: tuple[int, ...], device: torch.device
) -> Critic:
    """A critic whose convolutions and taps are found by a forward pass."""
    passed: list[tuple[nn.Module, object, Tensor]] = []
    parts = dict.fromkeys(part for net in vars(nets).values() for part in net.modules())
    looked = [part for part in parts if isinstance(part, CONVOLUTIONS) or not list(part.children())]

    def note(module: nn.Module, given: tuple[object, ...], made: object) -> None:
        if isinstance(made, Tensor):
            passed.append((module, given[0] if given else None, made))

    handles = [part.register_forward_hook(note) for part in looked]
    critic = Critic(nets, judge, told, (), (), shape, device)
    try:
        with torch.no_grad(), evaluating(nets):
            critic.score(torch.zeros(1, *shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    often = [module for module, _, _ in passed]
    layers: list[nn.Conv2d] = []
    taps: list[nn.Module] = []
    for i, (module, _, made) in enumerate(passed):
        if not isinstance(module, nn.Conv2d) or often.count(module) > 1 or math.prod(made.shape[2:]) == 1:
            continue
        tap: nn.Module = module
        last = made
        for later, given, then in passed[i + 1 :]:
            if given is not last or then.shape != made.shape or isinstance(later, CONVOLUTIONS) or often.count(later) > 1:
                break
            tap, last = later, then
        layers.append(module)
        taps.append(tap)
    need_convolutions(layers, 1, "critic")
    return Critic(nets, judge, told, layers, taps, shape, device)

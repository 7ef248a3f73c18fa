"""The critic as a network that looks at pictures: its maps, and a twin of it that never learnt."""

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
"""Passes in training mode until fresh weights know how they are normalised: power iterations of spectral normalisation."""


@dataclass(frozen=True, eq=False)
class Critic:
    """How a picture passes the networks that judge.

    Args:
        nets: the networks.
        judge: nets, pictures and conditions -> scores.
        told: the conditions, one row of each: those of class 0, whatever a picture shows, so that its label is told to nobody.
        layers: the convolutions that make maps, first to last; not those that make a single number, nor those that draw (transposed).
        taps: for each what passes its maps on: what normalises or bends them alone behind it, or the convolution itself.
        shape: of a picture.
        device: where the networks are.
    """

    nets: Nets
    judge: Callable[..., Tensor]
    told: Sequence[Tensor]
    layers: Sequence[nn.Conv2d]
    taps: Sequence[nn.Module]
    shape: tuple[int, ...]
    device: torch.device

    def score(self, pictures: Tensor) -> Tensor:
        """Scores (n,) of pictures (n, channels, height, width) in one pass, in the mode in which the networks are."""
        told = [one.expand(len(pictures), *one.shape[1:]) for one in self.told]
        return self.judge(self.nets, pictures.to(self.device), *(told or (None,)))

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """What each of `taps` makes of pictures, in one pass."""
        with watched(self.taps) as seen:
            self.score(pictures)
            return list(seen)


def critic_of(model: Model) -> Critic:
    """The critic of a model.

    Raises:
        LeafwingError: it has no critic of single samples, or one without convolutions.
    """
    judge = model.game.abilities.judge
    if judge is None:
        raise LeafwingError(
            "this game has no critic that judges single samples, and this tool looks into it: `leafwing recipes` says which recipes "
            "there are"
        )
    return _traced(model.game.shown, judge, model.told(1, 0 if model.labels else None), model.spec.shape, model.device)


def untrained(critic: Critic, pictures: Tensor, seed: int) -> Critic:
    """A critic of the same shape with other random weights, drawn as torch draws them. Its normalisation is that of real pictures.

    Args:
        critic: stays as it is.
        pictures: real ones (n, channels, height, width), by which batch normalisation is set.
        seed: of the weights.
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
            norm.momentum = None  # the mean of all that is shown
        for part in pictures.split(64) if norms else ():
            other.score(part)
        for norm, before in zip(norms, pace, strict=True):
            norm.momentum = before
        for net in vars(nets).values():
            net.eval()
    return other


def _redraw(net: nn.Module) -> None:
    """Other random weights, and for those that are divided by a norm that norm."""
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
    """The same for a layer some of whose weights are parametrised: they are drawn as in the plain layer, and handed over."""
    bare = copy.deepcopy(part)  # torch's own way back to a plain layer changes the class, which all copies share
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
            getattr(part, name)  # each look in training mode is a step of power iteration
    part.eval()


def _lists(part: nn.Module) -> dict[str, nn.Module]:
    """What a layer's weights are made by, by the name of the weight."""
    return dict(part.parametrizations.named_children()) if isinstance(part.parametrizations, nn.Module) else {}


def _traced(
    nets: Nets, judge: Callable[..., Tensor], told: Sequence[Tensor], shape: tuple[int, ...], device: torch.device
) -> Critic:
    """A critic whose convolutions and taps are found by letting a picture pass."""
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

"""The critic as a feature extractor: its feature maps, and an untrained copy with random weights."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from leafwing.game import Batch, Nets, eval_mode
from leafwing.laboratory.latents import NO_CONDITIONS, Conditions, repeat
from leafwing.laboratory.layers import CONVOLUTIONS, record_outputs, require_convolutions
from leafwing.model import Model

POWER_ITERATIONS = 30
"""Number of power iterations of spectral normalisation for newly initialised weights."""


@dataclass(frozen=True, eq=False)
class Critic:
    """A critic whose feature maps can be read.

    Args:
        nets: the networks.
        judge: nets, images and conditions -> scores; see `Abilities.judge`.
        conditions: one row: all images have the same conditions, so that no label leaks.
        layers: the convolutions with spatial output, first to last, without transposed ones.
        taps: for each, the last normalisation or activation directly after it, or the convolution itself.
        shape: shape of an image.
        device: device of the networks.
    """

    nets: Nets
    judge: Callable[[Nets, Tensor, Batch], Tensor]
    conditions: Batch
    layers: Sequence[nn.Conv2d]
    taps: Sequence[nn.Module]
    shape: tuple[int, ...]
    device: torch.device

    def score(self, images: Tensor) -> Tensor:
        """Scores (n,) of images (n, channels, height, width) in one pass, in the networks' current mode."""
        return self.judge(self.nets, images.to(self.device), repeat(self.conditions, len(images)))

    def maps(self, images: Tensor) -> list[Tensor]:
        """The outputs of `taps` for images, from one pass."""
        with record_outputs(self.taps) as outputs:
            self.score(images)
            return list(outputs)


def critic_of(model: Model, conditions: Conditions = NO_CONDITIONS, seed: int = 0) -> Critic:
    """The critic of a model that has one.

    Args:
        model: the model.
        conditions: specified conditions of all images; the others are those of the first sample.
        seed: random seed of the sample.

    Raises:
        LeafwingError: it has no convolutions.
    """
    judge = model.game.abilities.judge
    assert judge is not None, "tools declare that they need a critic"
    return _trace(model.game.sampling_nets, judge, model.conditions(1, seed, **conditions), model.spec.shape, model.device)


def untrained(critic: Critic, images: Tensor, seed: int) -> Critic:
    """A critic of the same architecture with random weights, initialised as by torch, and batch statistics from real images.

    Args:
        critic: is not modified.
        images: real images (n, channels, height, width) for the running statistics of batch normalisation.
        seed: random seed of the weights.
    """
    nets = copy.deepcopy(critic.nets)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for net in vars(nets).values():
            _reinitialise(net.cpu())  # the same weights on every device
            net.to(critic.device)
        other = _trace(nets, critic.judge, critic.conditions, critic.shape, critic.device)
        norms = [
            layer
            for net in vars(nets).values()
            for layer in net.modules()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        ]
        momenta = [norm.momentum for norm in norms]
        for net in vars(nets).values():
            net.train()
        for norm in norms:
            norm.momentum = None  # cumulative average
        for part in images.split(64) if norms else ():
            other.score(part)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for net in vars(nets).values():
            net.eval()
    return other


def _reinitialise(net: nn.Module) -> None:
    """Re-initialises all weights, including parametrised ones."""
    parametrised = {layer: _parametrisations(layer) for layer in net.modules() if parametrize.is_parametrized(layer)}
    excluded = {module for lists in parametrised.values() for item in lists.values() for module in item.modules()}
    for layer in net.modules():
        reset: Callable[[], None] | None = getattr(layer, "reset_parameters", None)
        if layer in excluded:
            continue
        if reset is None:
            for weight in layer.parameters(recurse=False):
                weight.normal_(float(weight.mean()), float(weight.std(correction=0)))
        elif layer not in parametrised:
            reset()
        else:
            _reinitialise_parametrised(layer, list(parametrised[layer]))


def _reinitialise_parametrised(layer: nn.Module, names: Sequence[str]) -> None:
    """Re-initialises a layer with parametrised weights as the plain layer would be."""
    plain = copy.deepcopy(layer)  # torch removes parametrisations by changing the class, which all copies share
    plain.__class__ = parametrize.type_before_parametrizations(layer)
    del plain.parametrizations
    for name in names:
        plain.register_parameter(name, nn.Parameter(torch.empty_like(getattr(layer, name)), requires_grad=False))
    reset: Any = plain.reset_parameters
    reset()
    for name, weight in plain.named_parameters(recurse=False):
        if name in names:
            setattr(layer, name, weight.detach())
        else:
            getattr(layer, name).copy_(weight)
    layer.train()
    for _ in range(POWER_ITERATIONS):
        for name in names:
            getattr(layer, name)  # each access in training mode is one power iteration
    layer.eval()


def _parametrisations(layer: nn.Module) -> dict[str, nn.Module]:
    """The parametrisations of a layer, by weight name."""
    return dict(layer.parametrizations.named_children()) if isinstance(layer.parametrizations, nn.Module) else {}


def _trace(
    nets: Nets,
    judge: Callable[[Nets, Tensor, Batch], Tensor],
    conditions: Batch,
    shape: tuple[int, ...],
    device: torch.device,
) -> Critic:
    """A critic whose convolutions and taps are found by a forward pass."""
    calls: list[tuple[nn.Module, object, Tensor]] = []
    modules = dict.fromkeys(module for net in vars(nets).values() for module in net.modules())
    layers_to_trace = [module for module in modules if isinstance(module, CONVOLUTIONS) or not list(module.children())]

    def hook(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            calls.append((module, inputs[0] if inputs else None, output))

    handles = [layer.register_forward_hook(hook) for layer in layers_to_trace]
    critic = Critic(nets, judge, conditions, (), (), shape, device)
    try:
        with torch.no_grad(), eval_mode(nets):
            critic.score(torch.zeros(1, *shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    counts = Counter(module for module, _, _ in calls)
    layers: list[nn.Conv2d] = []
    taps: list[nn.Module] = []
    for i, (module, _, output) in enumerate(calls):
        if not isinstance(module, nn.Conv2d) or counts[module] > 1 or math.prod(output.shape[2:]) == 1:
            continue
        tap: nn.Module = module
        tap_output = output
        for next_module, x, y in calls[i + 1 :]:
            is_pointwise = x is tap_output and y.shape == output.shape and not isinstance(next_module, CONVOLUTIONS)
            if not is_pointwise or counts[next_module] > 1:
                break
            tap, tap_output = next_module, y
        layers.append(module)
        taps.append(tap)
    require_convolutions(layers, 1, "critic")
    return Critic(nets, judge, conditions, layers, taps, shape, device)

"""Compares the engine with plain training, from the same state before each unit of turns, so that differences cannot accumulate.

The tolerance is the effect of rounding, which depends on the networks, the loss and the state: where two terms nearly cancel, few
of the seven digits remain. So it is measured each time: plain training takes the same turns again with the same random numbers,
but with every weight, every value of the batch and every layer's output perturbed, up or down by one unit of rounding. Another order
of summation amounts to a few of these roundings: `SUMS`.

A loss has kinks: if rounding moves the input of a leaky ReLU across zero, the gradient jumps. So a few units may differ by more
(`LOOSE`), whereas an error of the engine affects most units; in fp64 this does not happen, and there all must be equal.

A step depends on little more than the sign of a gradient (Adam, RMSprop), for which no rounding bound exists at zero. So gradients
are compared, and plain training then steps with the engine's: both steps must be equal up to a few units of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import torch
from plain import Gradients, Plain
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leafwing.engine import Engine, choose
from leafwing.game import Batch, Clock, DataSpec, Game, Turn
from leafwing.loop import Training
from tiny import THREADS, batches, build, load, perturb, tensors

PERTURBATIONS = 2
SUMS = 20
"""The longest sum, the gradient of a weight, has 6 x 8 x 8 = 384 terms; as many random roundings add up to about 20."""
STEPS = 4
"""A step has about ten operations per weight, with rounding relative to the weight or to the step; see `compare`."""
LOOSE = 0.1
"""Maximum fraction of units that may meet a kink. Measured: none in most runs, at most one of twenty."""
EPS = torch.finfo(torch.float32).eps
UNIT = {"fp32": EPS, "bf16": 2.0**-8}
"""Maximum relative change by one rounding: one unit in the last place."""

Numbers = dict[str, Tensor]


@dataclass
class Difference:
    """The difference of a unit of turns from plain training.

    Args:
        sums: for each loss, gradient and buffer, the difference over the effect of a perturbation.
        steps: for each weight after the step, the difference in units of rounding.
    """

    sums: dict[str, float]
    steps: dict[str, float]


class DrawInFp32(TorchFunctionMode):
    """randn_like draws in fp32: in bf16 the generator would give other numbers."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.randn_like and args[0].dtype == torch.bfloat16:
            return torch.randn_like(args[0].float()).bfloat16()
        return function(*args, **(kwargs or {}))


def lockstep(name: str, spec: DataSpec, rounds: int, precision: str = "fp32", unit: float = 0) -> list[Difference]:
    """Trains a game with the engine; the difference of each unit of turns from plain training in fp32, in units of rounding."""
    unit = unit or UNIT[precision]
    game, plain = build(name, spec), Plain(build(name, spec))
    engine = Engine(game, choose("cpu", precision, THREADS))
    layers = [layer for net in vars(plain.game.nets).values() for layer in net.modules() if not [*layer.children()]]
    gradients: list[Tensor | None] = []
    for optimiser in engine.optimisers.values():
        optimiser.register_step_pre_hook(
            lambda optimiser, *_: gradients.extend(
                None if p.grad is None else p.grad.clone() for group in optimiser.param_groups for p in group["params"]
            )
        )
    take, differences = engine.take, []

    def take_both(turns: Sequence[Turn], batch: Batch, clock: Clock) -> Tensor:
        before, rng_state = tensors(game), engine.rng_state()
        states = {
            name: [copy_state(optimiser.state.get(p, {})) for group in optimiser.param_groups for p in group["params"]]
            for name, optimiser in engine.optimisers.items()
        }
        gradients.clear()
        losses = take(turns, batch, clock)
        rng_state_after = engine.rng_state()
        plain_turns = [plain.game.turns[game.turns.index(turn)] for turn in turns]

        def take_plain(unit: float, seed: int) -> tuple[Numbers, Numbers]:
            generator = torch.Generator().manual_seed(seed)
            load(plain.game, perturb(before, unit, generator))
            for name, optimiser in plain.optimisers.items():
                optimiser.state.clear()
                weights = [p for group in optimiser.param_groups for p in group["params"]]
                optimiser.state.update(
                    {p: copy_state(state) for p, state in zip(weights, states[name], strict=True) if state}
                )
            engine.set_rng_state(rng_state)
            perturbed = Batch(perturb(batch, unit, generator))
            hooks = [layer.register_forward_hook(perturb_output(unit, generator)) for layer in layers if unit]
            numbers: Numbers = {}
            engine_gradients = iter(gradients)

            def substitute(turn: Turn, plain_gradients: Gradients) -> list[Tensor | None]:
                count = sum(key.startswith("gradient") for key in numbers)
                numbers.update({f"gradient {count + i}": zero_if_none(g) for i, g in enumerate(plain_gradients)})
                return [None if (g := next(engine_gradients)) is None else g.clone() for _ in plain_gradients]

            plain_losses = [loss for turn in plain_turns for loss in plain.take(turn, perturbed, clock, substitute)]
            for hook in hooks:
                hook.remove()
            return numbers | {f"loss {i}": loss for i, loss in enumerate(plain_losses)}, tensors(plain.game)

        numbers, after = take_plain(0, 0)
        assert torch.equal(engine.rng_state()["cpu"], rng_state_after["cpu"]), "other random numbers were drawn"
        near = [take_plain(unit, seed + 1) for seed in range(PERTURBATIONS)]
        ours = dict(zip((key for key in numbers if key.startswith("g")), map(zero_if_none, gradients), strict=True))
        ours |= {f"loss {i}": loss for i, loss in enumerate(losses)}
        differences.append(compare((ours, tensors(game)), (numbers, after), near, before, weight_names(game), unit))
        engine.set_rng_state(rng_state_after)
        return losses

    engine.take = take_both  # type: ignore[method-assign, assignment]
    torch.manual_seed(5)
    images = rounds * game.batch * game.turns[0].times(Clock())
    with DrawInFp32():
        list(Training(game, batches(spec, game), engine, images=images, batch=game.batch).ticks(10**9))
    return differences


def perturb_output(unit: float, generator: torch.Generator) -> Callable[..., Tensor | None]:
    """A hook that perturbs the output of a layer."""

    def hook(layer: nn.Module, args: Any, out: Any) -> Tensor | None:
        return perturb({"out": out}, unit, generator)["out"] if isinstance(out, Tensor) else None

    return hook


def violations(units: list[Difference]) -> list[str]:
    """The names of numbers that differ by more than rounding."""
    steps = sorted((key, ratio) for unit in units for key, ratio in unit.steps.items() if not ratio <= STEPS)
    sums = [worst for unit in units if not (worst := max((r, key) for key, r in unit.sums.items()))[0] <= SUMS]
    return [f"{key} after a step: {ratio:.1f}" for key, ratio in steps] + (
        [f"{key}: {ratio:.1f}" for ratio, key in sums] if len(sums) > ceil(LOOSE * len(units)) else []
    )


def copy_state(state: dict[str, object]) -> dict[str, object]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}


def zero_if_none(gradient: Tensor | None) -> Tensor:
    """The gradient, or a zero for a weight without one."""
    return torch.zeros(()) if gradient is None else gradient


def weight_names(game: Game) -> set[str]:
    """The names of the players' parameters."""
    return {f"{n}:{k}" for n, player in game.players.items() for k, _ in player.net.named_parameters()}


def compare(
    ours: tuple[Numbers, Numbers],
    theirs: tuple[Numbers, Numbers],
    near: list[tuple[Numbers, Numbers]],
    before: Numbers,
    weights: set[str],
    unit: float,
) -> Difference:
    """The difference of two units. Gradients are compared relative to the norm of all gradients, because of cancellation."""
    sums, steps = {}, {}
    gradients = [key for key in theirs[0] if key.startswith("gradient")]
    whole = torch.stack([theirs[0][key].double().norm() for key in gradients]).norm().item()
    for index, (mine, plain) in enumerate(zip(ours, theirs, strict=True)):
        assert mine.keys() == plain.keys()
        for key in mine.keys() - weights:
            difference = (mine[key].double() - plain[key].double()).norm().item()
            if not mine[key].is_floating_point():
                assert difference == 0, key
                continue
            effect = max((perturbed[index][key].double() - plain[key].double()).norm().item() for perturbed in near)
            size = whole if key in gradients else plain[key].double().norm().item()
            bound = effect + unit * size
            sums[key] = difference / bound if bound else inf if difference else 0.0
    for key in weights:
        # A gradient over the root of its mean square is at most 1 / sqrt(1 - 0.999) = 32 with all optimisers here.
        size = theirs[1][key].abs() + 32 * (theirs[1][key] - before[key]).abs().max()
        steps[key] = ((ours[1][key] - theirs[1][key]).abs() / (EPS * size).clamp_min(1e-37)).max().item()
    return Difference(sums, steps)

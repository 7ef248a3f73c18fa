"""The engine and plain training side by side, from the same state before each unit of turns, so that nothing can drift apart.

How far apart may they be? As far as rounding makes them, and that depends on the networks, the cost and the moment: where two
terms nearly cancel, little is left of seven digits. So it is measured there and then: plain training takes the same turns again
with every weight, every number of the batch and every layer's output nudged, up or down by one unit of rounding, from the same
random numbers. A sum in another order is a few such roundings on top of each other: `SUMS`.

A cost has kinks: where a sum that rounding moves across zero enters a leaky ReLU, the gradient jumps. So a few units may be farther
apart (`LOOSE`), which no mistake of the engine is content with; in fp64 kinks are never met, and there all must be equal.

A step takes little more than the sign of a gradient (Adam, RMSprop), which no rounding bound survives at zero. So gradients are
compared, and plain training then steps with the engine's: both steps must be equal to a few units of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import torch
from plain import Plain
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leafwing.engine import Engine, choose
from leafwing.game import Batch, Clock, DataSpec, Game, Turn
from leafwing.loop import Training
from tiny import THREADS, batches, build, nudged, tensors

NUDGES = 2
SUMS = 20
"""The longest sum here has 6 x 8 x 8 = 384 terms, the gradient of a weight. So many roundings, as often up as down, are like 20."""
STEPS = 4
"""A step is some ten operations on each weight, whose roundings are relative to the weight or to the step; see `compare`."""
LOOSE = 0.1
"""At most so many of the units may meet a kink. Measured: none of most trainings' units, one of twenty at the worst."""
EPS = torch.finfo(torch.float32).eps
UNIT = {"fp32": EPS, "bf16": 2.0**-8}
"""How much a number changes at most when it is rounded once: one in the last place."""

Numbers = dict[str, Tensor]


@dataclass
class Apart:
    """How far a unit of turns was from plain training.

    Args:
        sums: of each cost, gradient and buffer: how many times as far as a nudge moves it.
        steps: of each weight after the step: how many units of rounding.
    """

    sums: dict[str, float]
    steps: dict[str, float]


class DrawnInFull(TorchFunctionMode):
    """Noise that is shaped like a tensor is drawn in fp32: in bf16 the generator would give other numbers."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, given: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.randn_like and given[0].dtype == torch.bfloat16:
            return torch.randn_like(given[0].float()).bfloat16()
        return function(*given, **(named or {}))


def lockstep(name: str, spec: DataSpec, rounds: int, precision: str = "fp32", unit: float = 0) -> list[Apart]:
    """Trains a game with the engine; how far each unit of turns is from plain training in fp32, in units of rounding."""
    unit = unit or UNIT[precision]
    game, plain = build(name, spec), Plain(build(name, spec))
    engine = Engine(game, choose("cpu", precision, THREADS))
    layers = [layer for net in vars(plain.game.nets).values() for layer in net.modules() if not [*layer.children()]]
    stepped: list[Tensor] = []
    for own in engine.optimisers.values():
        own.register_step_pre_hook(
            lambda own, *_: stepped.extend(p.grad.clone() for group in own.param_groups for p in group["params"])
        )
    take, found = engine.take, []

    def taken(turns: Sequence[Turn], batch: Batch, clock: Clock) -> Tensor:
        before, random = tensors(game), engine.random()
        memory = {
            name: [copied(own.state.get(p, {})) for group in own.param_groups for p in group["params"]]
            for name, own in engine.optimisers.items()
        }
        stepped.clear()
        costs = take(turns, batch, clock)
        left = engine.random()
        mirrored = [plain.game.turns[game.turns.index(turn)] for turn in turns]

        def plainly(unit: float, seed: int) -> tuple[Numbers, Numbers]:
            generator = torch.Generator().manual_seed(seed)
            put(plain.game, nudged(before, unit, generator))
            for name, own in plain.optimisers.items():
                own.state.clear()
                weights = [p for group in own.param_groups for p in group["params"]]
                own.state.update({p: copied(kept) for p, kept in zip(weights, memory[name], strict=True) if kept})
            engine.set_random(random)
            shown = Batch(nudged(batch, unit, generator))
            hooks = [layer.register_forward_hook(rounding(unit, generator)) for layer in layers if unit]
            numbers: Numbers = {}
            ours = iter(stepped)

            def hand(turn: Turn, gradients: Sequence[Tensor]) -> list[Tensor]:
                numbers.update({f"gradient {len(numbers) + i}": g for i, g in enumerate(gradients)})
                return [next(ours).clone() for _ in gradients]

            paid = torch.stack([cost for turn in mirrored for cost in plain.take(turn, shown, clock, hand)])
            for hook in hooks:
                hook.remove()
            return numbers | {f"cost {i}": cost for i, cost in enumerate(paid)}, tensors(plain.game)

        numbers, after = plainly(0, 0)
        assert torch.equal(engine.random()["cpu"], left["cpu"]), "other random numbers were drawn"
        near = [plainly(unit, seed + 1) for seed in range(NUDGES)]
        ours = dict(zip((key for key in numbers if key.startswith("g")), stepped, strict=True))
        ours |= {f"cost {i}": cost for i, cost in enumerate(costs)}
        found.append(compare((ours, tensors(game)), (numbers, after), near, before, weighed(game), unit))
        engine.set_random(left)
        return costs

    engine.take = taken  # type: ignore[method-assign, assignment]
    torch.manual_seed(5)
    images = rounds * game.batch * game.turns[0].times(Clock())
    with DrawnInFull():
        list(Training(game, batches(spec), engine, images=images, batch=game.batch).ticks(10**9))
    return found


def rounding(unit: float, generator: torch.Generator) -> Callable[..., Tensor | None]:
    """A hook that nudges what a layer gives."""

    def hook(layer: nn.Module, given: Any, out: Any) -> Tensor | None:
        return nudged({"out": out}, unit, generator)["out"] if isinstance(out, Tensor) else None

    return hook


def within(units: list[Apart]) -> list[str]:
    """What is too far apart to be rounding, by name; nothing if all is well."""
    late = sorted((key, ratio) for unit in units for key, ratio in unit.steps.items() if not ratio <= STEPS)
    far = [worst for unit in units if not (worst := max((r, key) for key, r in unit.sums.items()))[0] <= SUMS]
    return [f"{key} after a step: {ratio:.1f}" for key, ratio in late] + (
        [f"{key}: {ratio:.1f}" for ratio, key in far] if len(far) > ceil(LOOSE * len(units)) else []
    )


def copied(state: dict[str, object]) -> dict[str, object]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}


def put(game: Game, state: Numbers) -> None:
    """The tensors of `tiny.tensors`, back in their places."""
    for name, module in game.modules().items():
        module.load_state_dict({key.split(":", 1)[1]: t for key, t in state.items() if key.split(":", 1)[0] == name})


def weighed(game: Game) -> set[str]:
    """Which tensors are weights that learn."""
    return {f"{n}:{k}" for n, player in game.players.items() for k, _ in player.net.named_parameters()}


def compare(
    ours: tuple[Numbers, Numbers],
    theirs: tuple[Numbers, Numbers],
    near: list[tuple[Numbers, Numbers]],
    before: Numbers,
    weights: set[str],
    unit: float,
) -> Apart:
    """How far apart two units are. What cancels within a gradient is small beside the whole gradient, and rounded like the rest."""
    sums, steps = {}, {}
    gradients = [key for key in theirs[0] if key.startswith("gradient")]
    whole = torch.stack([theirs[0][key].double().norm() for key in gradients]).norm().item()
    for which, (mine, plain) in enumerate(zip(ours, theirs, strict=True)):
        assert mine.keys() == plain.keys()
        for key in mine.keys() - weights:
            difference = (mine[key].double() - plain[key].double()).norm().item()
            if not mine[key].is_floating_point():
                assert difference == 0, key
                continue
            moved = max((nudge[which][key].double() - plain[key].double()).norm().item() for nudge in near)
            size = whole if key in gradients else plain[key].double().norm().item()
            bound = moved + unit * size
            sums[key] = difference / bound if bound else inf if difference else 0.0
    for key in weights:
        # A gradient over the root of its mean square is at most 1 / sqrt(1 - 0.999) = 32 with all optimisers here.
        size = theirs[1][key].abs() + 32 * (theirs[1][key] - before[key]).abs().max()
        steps[key] = ((ours[1][key] - theirs[1][key]).abs() / (EPS * size).clamp_min(1e-37)).max().item()
    return Apart(sums, steps)

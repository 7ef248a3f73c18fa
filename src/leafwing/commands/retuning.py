"""Learning rates and batch sizes that change when a run is resumed: which options may change, from when, and as what.

A run continues with other values of those options that change nothing in its game but learning rates and the batch size, whatever
their names: the game is built with both values, and everything else in it is compared. The values are a function of the images
shown, so a later resume, a replay and a run that has rolled back use the same ones at the same point. In the same way options
without an effect are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.clock import at
from leafwing.config import OptionChange
from leafwing.errors import InvalidOption, LeafwingError, as_flag, did_you_mean
from leafwing.game import Game, Player
from leafwing.recipes import Card, Option, Value
from leafwing.runs import train_again
from leafwing.settings import reserved_names

if TYPE_CHECKING:
    from leafwing.loop import Phase, Training
    from leafwing.runs import Run

Timeline = Sequence[tuple[int, Mapping[str, Value]]]
"""All hyper-parameters by the number of images from which they hold, the first from 0 on."""


# --- over training -----------------------------------------------------------------------------------------------------------


def timeline(options: Mapping[str, Value], changes: Sequence[OptionChange]) -> Timeline:
    """The hyper-parameters over training, from those at its end and their changes."""
    values, parts = dict(options), []
    for change in reversed(changes):
        parts.append((change.images, values))
        values = {**values, **change.before}
    return [(0, values), *reversed(parts)]


def changes_of(line: Timeline) -> tuple[dict[str, Value], tuple[OptionChange, ...]]:
    """The hyper-parameters at the end, and their changes: the inverse of `timeline`."""
    changes = []
    for (_, old), (images, new) in pairwise(line):
        if names := [name for name in new if new[name] != old[name]]:
            changes.append(OptionChange(images, {name: old[name] for name in names}, {name: new[name] for name in names}))
    return dict(line[-1][1]), tuple(changes)


def scaled_rates(options: Mapping[str, Any], lr_g: float, lr_d: float) -> str:
    """The options of a command line that multiply the learning rates of G and D by these factors; empty if the recipe has none."""
    factors = {"lr_g": lr_g, "lr_d": lr_d}
    rates = {
        name: options[name] * factor
        for name, factor in factors.items()
        if isinstance(options.get(name), float) and factor != 1
    }
    return "".join(f" --{name.replace('_', '-')} {rate:g}" for name, rate in rates.items())


def values_at(line: Timeline, images: int) -> dict[str, Value]:
    """The hyper-parameters from a number of images on."""
    return dict([values for start, values in line if start <= images][-1])


def changed(line: Timeline, images: int, values: Mapping[str, Value]) -> Timeline:
    """A timeline with these values from a number of images on. Later changes of other options stay."""
    earlier = [part for part in line if part[0] < images]
    later = [(start, {**old, **values}) for start, old in line if start > images]
    return [*earlier, (images, {**values_at(line, images), **values}), *later]


def replayed(old: Run, card: Card, values: Mapping[str, object], images: int) -> Timeline:
    """The hyper-parameters of a replay: those of the old run, with its changes. Options that are given hold all the time.

    Args:
        old: the run that is replayed.
        card: its recipe.
        values: options given for the replay.
        images: length of the replay; later changes are left out.
    """
    line = timeline(old.options, old.history.option_changes)
    return [(start, card.resolve({**part, **values})) for start, part in line if start < max(images, 1)]


def build_phases(build: Callable[[Mapping[str, Value]], Game], line: Timeline) -> list[Phase]:
    """The batch sizes and optimisers over training; none if nothing changes. Leaves the random state as it is."""
    from leafwing.loop import Phase

    if len(line) == 1:
        return []
    phases = []
    for images, values in line:
        game = _build_seeded(build, values)
        optimisers = {name: player.optimiser for name, player in game.players.items() if player.optimiser is not None}
        phases.append(Phase(images, game.batch, optimisers))
    return phases


def remaining(phases: Sequence[Phase], start: int) -> Sequence[Phase]:
    """The phases of training from a number of images on: the one that holds then, and all later ones."""
    earlier = sum(phase.images <= start for phase in phases)
    return phases[max(0, earlier - 1) :]


def _build_seeded(build: Callable[[Mapping[str, Value]], Game], values: Mapping[str, Value]) -> Game:
    """A game with the same initial weights every time."""
    from leafwing.engine.setup import seeded

    with seeded(0):
        return build(values)


# --- which options have an effect ---------------------------------------------------------------------------------------------


def without_effect(
    build: Callable[[Mapping[str, Value]], Game],
    values: Mapping[str, Value],
    defaults: Mapping[str, Value],
    names: Iterable[str],
) -> list[str]:
    """The options among `names` without which, at their defaults, exactly the same game would be built.

    Args:
        build: hyper-parameters -> game.
        values: all hyper-parameters.
        defaults: their defaults for these data.
        names: the options that are given.
    """
    others = {name: {**values, name: defaults[name]} for name in names if values[name] != defaults[name]}
    idle: list[str] = []
    if not others:
        return idle
    game = _build_seeded(build, values)
    for name, without in others.items():
        with suppress(LeafwingError):  # if it cannot be built without the option, this has an effect
            other = _build_seeded(build, without)
            if not _difference(_pace(game), _pace(other), "", {}) and not difference(game, other):
                idle.append(name)
    return idle


def _pace(game: Game) -> list[Any]:
    """What `difference` leaves out."""
    return [game.batch, *(player.optimiser and player.optimiser.lr for player in game.players.values())]


# --- which options may change ------------------------------------------------------------------------------------------------


def check_changes(run: Run, values: Mapping[str, object], line: Timeline, images: int, known: Iterable[str]) -> Timeline:
    """The timeline of a run that is resumed with other values of some of its recipe's options.

    Args:
        run: the run.
        values: the options that are given; those that have this value already change nothing.
        line: its hyper-parameters so far.
        images: images shown until now.
        known: names of the other options of `resume`, for suggestions.

    Raises:
        LeafwingError: no such option, an invalid value, or one that changes more than learning rates and the batch size.
    """
    checked = check_values(run, values, known)
    now = values_at(line, images)
    new = {name: value for name, value in checked.items() if value != now[name]}
    if not new:
        return line
    before = _build_seeded(run.build_game, now)
    for name, value in new.items():
        now = {**now, name: value}
        after = _build_seeded(run.build_game, now)
        if place := difference(before, after):
            typed = as_flag(name, value if isinstance(value, bool) else values[name])
            raise InvalidOption(
                name,
                values[name],
                "only learning rates and the batch size can be changed in an existing run; this option also changes "
                f"{place}. To train a new run with it: leafwing {train_again(run)} {typed}",
            )
        before = after
    return changed(line, images, new)


def check_values(run: Run, values: Mapping[str, object], known: Iterable[str]) -> dict[str, Value]:
    """The options that are given in their types; arguments as for `check_changes`.

    Raises:
        LeafwingError: no such option, or an invalid value.
    """
    options = {option.name: option for option in run.card().options}
    return {name: _check(run, name, value, options, known) for name, value in values.items() if value is not None}


def describe_change(old: Timeline, new: Timeline, training: Training) -> list[str]:
    """What changes now, and the learning rates if they are not simply those of the options. Empty if nothing changes."""
    clock, scale = training.clock, training.engine.lr_scale
    _, changes = changes_of([(0, values_at(old, clock.images)), (clock.images, values_at(new, clock.images))])
    lines = [str(change) for change in changes]
    players = {name: player.optimiser for name, player in training.game.players.items() if player.optimiser is not None}
    optimisers = next((phase.optimisers for phase in reversed(training.phases) if phase.images <= clock.images), players)
    if lines and (scale != 1 or any(callable(optimiser.lr) for optimiser in optimisers.values())):
        rates = ", ".join(f"{name} {at(optimiser.lr, clock) * scale:.3g}" for name, optimiser in optimisers.items())
        lines.append(
            f"learning rates at this point{f', {scale:g} times the schedule after rollbacks' if scale != 1 else ''}: {rates}"
        )
    return lines


def _check(run: Run, name: str, value: object, options: Mapping[str, Option], known: Iterable[str]) -> Value:
    """The value in the type of the option.

    Raises:
        LeafwingError: no such option of the run's recipe, or an invalid value.
    """
    if name in options:
        return options[name].check(run.recipe, value)
    others = {option.name for card in recipes.catalogue() for option in card.options}
    if name in reserved_names() or name in others:
        why = "" if name in reserved_names() else f"recipe {run.recipe} has no such option, and "
        raise InvalidOption(
            name,
            value,
            f"{why}resume continues with the settings of the run and changes only those of `leafwing resume --help`, learning rates "
            f"and the batch size; for others start a new run: leafwing {train_again(run)}",
        )
    names = [*known, *(option for option in options if option == "batch" or option.startswith("lr"))]
    near = did_you_mean(f"--{name}".replace("_", "-"), [f"--{other.replace('_', '-')}" for other in names])
    raise InvalidOption(name, value, f"no such option{near}")


def difference(old: Game, new: Game) -> str:
    """Where two games with equal initial weights differ besides the batch size and learning rates; empty if nowhere.

    A learning rate that becomes a schedule, or ceases to be one, counts as a difference.
    """
    return _difference(old, new, "", {})


def _difference(a: Any, b: Any, place: str, compared: dict[tuple[int, int], Any]) -> str:
    if a is b or (id(a), id(b)) in compared:
        return ""
    compared[id(a), id(b)] = a, b  # kept, because the number of an object that is gone is given to another
    parts, others = _parts(a), _parts(b)
    same_kind = _name(type(a)) == _name(type(b))
    if not same_kind or parts is None or others is None:
        return "" if same_kind and _equal(a, b) else place
    if missing := parts.keys() ^ others.keys():
        return _join(place, min(map(str, missing)))
    return next(filter(None, (_difference(parts[name], others[name], _join(place, name), compared) for name in parts)), "")


def _name(kind: type) -> tuple[str, str]:
    """What classes are compared by, because a parametrised layer has one of its own, and a recipe's file is executed for each game."""
    return kind.__module__, kind.__qualname__


def _join(place: str, name: object) -> str:
    """The place of a part. torch's dictionaries of layers and tensors go without saying."""
    return place if name in ("_modules", "_parameters", "_buffers") else f"{place}.{name}".lstrip(".")


def _equal(a: Any, b: Any) -> bool:
    """Whether two values without parts are equal."""
    import numpy as np
    import torch

    if isinstance(a, type):
        return _name(a) == _name(b)
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else bool(a == b)


def _parts(value: Any) -> Mapping[Any, Any] | None:
    """What a part of a game consists of, by name: without the batch size and learning rates; None if it has no parts."""
    import torch

    if isinstance(value, Game):
        return {**vars(value), "batch": 0, "notes": ()}
    if isinstance(value, Player) and value.optimiser is not None:
        slots = {name for kind in type(value.optimiser).__mro__ for name in getattr(kind, "__slots__", ())}
        optimiser = {name: getattr(value.optimiser, name) for name in slots | {*getattr(value.optimiser, "__dict__", ())}}
        optimiser |= {"kind": type(value.optimiser), "lr": callable(value.optimiser.lr)}
        return {**vars(value), "optimiser": optimiser}
    if isinstance(value, torch.nn.Module):  # hooks have numbers that count up in a process
        return {name: [*part.values()] if name.endswith("_hooks") else part for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    if isinstance(value, FunctionType):
        enclosed = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        return {
            "code": value.__code__,
            "defaults": (value.__defaults__, value.__kwdefaults__),
            **{name: cell.cell_contents for name, cell in enclosed},
        }
    if isinstance(value, MethodType):
        return {"function": value.__func__, "object": value.__self__}
    if isinstance(value, partial):
        return {"function": value.func, "arguments": value.args, **value.keywords}
    if isinstance(value, torch.Tensor | type) or not hasattr(value, "__dict__"):
        return None
    return vars(value)

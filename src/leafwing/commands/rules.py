"""Checks of a recipe's game before training begins, so that mistakes are neither silent nor found in the middle of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import ceil
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.commands.outputs import check_abilities
from leafwing.errors import LeafwingError
from leafwing.game import Clock, DataSpec, Game, Player, Turn
from leafwing.model import Model

if TYPE_CHECKING:
    from leafwing.loop import Training

LARGEST = 64
"""Samples of a rehearsal: the usual batch size, as losses may need a whole batch, but no more, as memory is not checked yet."""


def check_game(game: Game, recipe: str) -> None:
    """Refuses a game whose training would fail, would not be what it says, or could not be resumed exactly.

    Args:
        game: the game.
        recipe: the name of its recipe.

    Raises:
        LeafwingError: the message names the recipe and the player, turn or term, and says what to do.
    """
    for problem in (*of_turns(game), *of_players(game.players, game.turns), *of_names(game.turns)):
        raise LeafwingError(f"recipe {recipe}: {problem}")


def of_players(players: Mapping[str, Any], turns: Sequence[Turn]) -> Iterator[str]:
    """What is wrong with players, as sentences."""
    import torch

    moved = {name for turn in turns for name in turn.movers}
    owners: dict[int, str] = {}
    for name, player in players.items():
        if not isinstance(player, Player):
            yield f"player {name} is a {type(player).__name__}: make it a Player(net, optimiser)"
            return
        weights = {key: weight for key, weight in player.net.named_parameters() if weight.requires_grad}
        for key, weight in weights.items():
            other = players[owners.setdefault(id(weight), name)]
            if other is not player and (other.optimiser or player.optimiser):
                yield (
                    f"the players {owners[id(weight)]} and {name} share the weight {key!r}: put what they share into a player of "
                    "its own, or let one network return a tuple (scores, heads)"
                )
        if player.optimiser is None and name in moved:
            yield f"a turn moves the player {name}, which has no optimiser: give it one, such as Player(net, Adam(2e-4))"
        if player.optimiser is not None:
            if name not in moved:
                yield f"no turn moves the player {name}: add a turn, or leave out its optimiser if it is not to be trained"
            try:
                player.optimiser.build([*weights.values()], torch.device("cpu"), fused=False)
            except (AttributeError, TypeError, ValueError) as error:
                yield f"the player {name} cannot have this optimiser; one such as Adam(2e-4) needs weights to train: {error}"


def of_turns(game: Game) -> Iterator[str]:
    """What is wrong with turns, as sentences."""
    if not game.turns:
        yield "the game has no turns, so no player would move"
    if game.batch < 1:
        yield f"the batch size of the game is {game.batch}, but must be at least 1"
    for turn in game.turns:
        if not turn.movers:
            yield "a turn moves no player: name those that move, separated by spaces, such as 'D'"
        if not turn.losses:
            yield f"the turn {turn.moves!r} has no losses: give it a list of Term(name, loss)"
        if not isinstance(turn.after, Sequence) or not all(callable(function) for function in turn.after):
            yield f"`after` of the turn {turn.moves!r} must be a list of functions, such as [clip_weights('D', 0.01)]"
    # Between rounds in which all others rest, at least one turn is in every round.
    steady = [turn for turn in game.turns if turn.every == 1 and turn.repeat != 0]
    ends = sorted({0.0, *(moment for turn in game.turns for moment in turn.during if 0 < moment < 1)})
    for moment in ends:
        if game.turns and not any(turn.during[0] <= moment < turn.during[1] for turn in steady):
            yield (
                f"from {moment:.0%} of training on there are rounds in which no player moves: `during` of the turns must cover all of "
                "training, with every=1"
            )


def of_names(turns: Sequence[Turn]) -> Iterator[str]:
    """Names of terms that mean two things, as sentences."""
    terms = [(turn, term) for turn in turns for term in turn.losses]
    for (turn, term), (later, other) in combinations(terms, 2):
        if term.name != other.name:
            continue
        if has_state(term.loss) and has_state(other.loss) and term.loss is not other.loss:
            yield (
                f"two losses with state have the name {term.name!r}, in the turns {turn.moves!r} and {later.moves!r}, and only one "
                "would be saved: give them different names"
            )
        overlap = turn.during[0] < later.during[1] and later.during[0] < turn.during[1]
        if turn.movers == later.movers and overlap:
            yield f"two losses of {turn.moves!r} have the name {term.name!r}, and the log would show their mean: rename one"


def has_state(loss: object) -> bool:
    """Whether a loss is a module, which checkpoints contain."""
    from torch import nn

    return isinstance(loss, nn.Module)


def check_own(training: Training, card: recipes.Card, spec: DataSpec) -> None:
    """Checks what the code of a recipe returns that is not an installed one: its turns and its abilities.

    Args:
        training: before its first turn; it is not changed.
        card: the recipe.
        spec: the fields of the data.

    Raises:
        LeafwingError: see `check_turns` and `check_abilities`.
    """
    if card.path.parent != recipes.FOLDER:
        check_turns(training, card)
        model = Model(training.game, spec, str(training.engine.device), clock=Clock(total=1))
        check_abilities(model, training.batches(0, training.batch))


def check_turns(training: Training, card: recipes.Card) -> None:
    """Rehearses every turn: its play, its losses and their gradients on one batch. Nothing is changed.

    Args:
        training: before its first turn.
        card: the recipe.

    Raises:
        LeafwingError: a turn fails, or does not move one of its movers; the message names the turn and the line of the recipe.
    """
    from leafwing.engine.turns import Unit, is_out_of_memory

    engine, game, total = training.engine, training.game, training.clock.total
    modules = [*game.modules().values(), *([] if engine.augmentation is None else [engine.augmentation])]
    buffers = [
        (part, name, buffer, buffer.clone())
        for module in modules
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    rng_state, micro_batch = engine.rng_state(), engine.micro_batch
    batch = training.batches(0, training.batch)
    batch = engine.prepare(batch.rows(slice(min(batch.n, LARGEST))))
    try:
        for index, turn in enumerate(game.turns):
            if turn.same_round or turn.during[0] >= 1:
                continue
            clock = game.at_stage(Clock(ceil(max(0, turn.during[0]) * total), total))
            turns = game.unit(index, clock)
            unit = Unit(engine, turns, batch, clock)
            for number, part in enumerate(turns):
                try:
                    unit.backward(number)
                except Exception as error:
                    if is_out_of_memory(error):
                        return
                    what = str(error)
                    if not isinstance(error, LeafwingError):
                        reason = error.args[0] if isinstance(error, KeyError) else error
                        what = f"the turn {part.moves!r} fails: {type(error).__name__}: {reason}"
                    raise LeafwingError(f"recipe {card.name}: {what}{recipes.place(error, card.path)}") from error
                for name in part.movers:
                    if all(weight.grad is None for weight in engine.weights[name]):
                        reason = f"does not move {name}, because none of its losses depends on it"
                        raise LeafwingError(f"recipe {card.name}: the turn {part.moves!r} {reason}")
    finally:
        for module, name, buffer, before in buffers:
            module._buffers[name] = buffer.copy_(before)
        for weight in (weight for weights in engine.weights.values() for weight in weights):
            weight.grad = None
        if engine.augmentation is not None:
            engine.augmentation.observed = False
        engine.micro_batch = micro_batch
        engine.set_rng_state(rng_state)

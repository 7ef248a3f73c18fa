"""Every option of every recipe has an effect: with another value the game is another one, or trains otherwise.

Options and values come from the recipes' signatures, so that a new option is covered without a test of its own. Whether the effect is
the right one is not seen here but in tests/recipes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from functools import cache
from itertools import combinations, islice, zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch

from leafwing import recipes
from leafwing.engine import Engine, choose
from leafwing.errors import LeafwingError
from leafwing.fields import Attributes, Image, Label
from leafwing.game import Clock, DataSpec, Game, Optimiser, at
from leafwing.loop import Training
from leafwing.networks import lite0
from leafwing.recipes import Option, Value
from tiny import FIELDS, POINTS, SMALL, THREADS, batches, data_of, tensors

pytestmark = pytest.mark.machine

ROUNDS = 6
"""Length of a training. It is planned to end after these, so that it passes through all stages and schedules."""
CLOCKS = [
    *(Clock(images, total) for total in (10**4, 10**8) for images in range(0, total + 1, total // 20)),
    *(Clock(6 * number, 10**8, number) for number in (*range(40), *range(100, 3000, 100))),
]
"""Moments at which schedules and turns are compared: over the whole of training, and round by round."""
Choice = tuple[str, Value]
"""An option's name and value."""


def numbers(option: Option, value: float) -> Iterator[Value]:
    """Other values of a numeric option that its bounds allow, the mildest first; not 0, which often switches something off.

    Small numbers in the help text of an integer are among them, because it may name the only ones that are possible.
    """
    whole = [value + 1, 2 * value, value // 2, 1, 10, *(int(text) for text in re.findall(r"\b\d\d?\b", option.help))]
    real = [2 * value, value / 2, (1 + value) / 2, 0.001, 0.03, 1.0, 100 * value, value / 100]
    for candidate in dict.fromkeys(whole if option.type is int else real):
        with suppress(LeafwingError):
            if (checked := option.check("", candidate)) not in (0, value):
                yield checked


def values(option: Option, value: Value) -> list[list[tuple[Value, Value]]]:
    """Pairs of values in groups: one pair of each must differ.

    Of names each two differ, but `auto` may mean any of them. Of numbers a pair with the value and one without must, so that it is not
    only asked whether the option was changed.
    """
    if option.choices:
        return [
            [pair]
            for pair in combinations([choice for choice in option.choices if choice not in ("auto", *lacking(option))], 2)
        ]
    if isinstance(value, bool):
        return [[(value, not value)]]
    if isinstance(value, str):
        return [[(value, "other")]]  # text names a field
    others = [*numbers(option, value)]
    sizes = [*combinations(others, 2)]
    return [[(value, other) for other in others], *([sizes] if sizes else [])]


def lacking(option: Option) -> list[str]:
    """The choices of an option that need a package which is not installed."""
    return [choice for choice in option.choices or () if choice == "lite0" and not lite0.is_installed()]


def settings(game: Game) -> dict[str, Any]:
    """What a game does, without its weights: optimisers and turns over time, averages, outputs, shapes of its networks.

    Not what it only says of its options: an option that stands in `resolved`, `notes` or `pretrained` may still be without an effect.
    """

    def current(value: object, clock: Clock) -> object:
        return [current(part, clock) for part in value] if isinstance(value, tuple) else at(value, clock)  # type: ignore[arg-type]

    def rule(optimiser: Optimiser | None) -> object:
        parts = [] if optimiser is None else [getattr(optimiser, field.name) for field in fields(optimiser)]  # type: ignore[arg-type]
        return type(optimiser), [[current(part, clock) for clock in CLOCKS] for part in parts]

    return {
        "players": {name: (rule(player.optimiser), player.ema, player.resets) for name, player in game.players.items()},
        "turns": [
            (turn.moves, [term.name for term in turn.losses], [turn.times(clock) for clock in CLOCKS], turn.same_round)
            for turn in game.turns
        ],
        "outputs": [
            (one.field, one.conditions, one.prior and one.prior.size, one.multiple) for one in game.abilities.outputs
        ],
        "others": (game.batch, game.augment, game.streams, [*map(game.stage, CLOCKS)]),
        "shapes": {key: value.shape for key, value in tensors(game).items()},
    }


class Record:
    """What an iterator yields, read as far as it is needed and no further, as often as it is needed."""

    def __init__(self, source: Iterator[object]) -> None:
        self.source, self.read = source, []

    def __iter__(self) -> Iterator[object]:
        yield from self.read
        for value in self.source:
            self.read.append(value)
            yield value


class Trials:
    """Games of a recipe on data, each built and trained once for its options: those of SMALL but for the given ones."""

    def __init__(self, name: str, recipe: recipes.Recipe, spec: DataSpec) -> None:
        self.recipe, self.spec, self.card = recipe, spec, recipes.describe(name)
        self.small = {option.name: SMALL.get(option.name, option.default) for option in self.card.options}
        self.settings, self.training = cache(self._settings), cache(self._training)

    def game(self, *choices: Choice) -> Game:
        torch.manual_seed(1)
        return recipes.build(self.card.name, self.recipe, self.spec, self.card.resolve({**self.small, **dict(choices)}))

    def _settings(self, *choices: Choice) -> dict[str, Any]:
        """The settings of a game; none if the recipe refuses the options."""
        try:
            return settings(self.game(*choices))
        except LeafwingError:
            return {}

    def _training(self, *choices: Choice) -> Record:
        return Record(self.rounds(self.game(*choices)))

    def rounds(self, game: Game) -> Iterator[object]:
        """The losses of each round of a whole training, then the weights."""
        engine = Engine(game, choose("cpu", "fp32", THREADS))
        training = Training(game, batches(self.spec, game), engine, images=ROUNDS * game.batch, batch=game.batch)
        state = torch.manual_seed(2).get_state()
        ticks = training.ticks(game.batch)
        while torch.set_rng_state(state) or (tick := next(ticks, None)):
            state = torch.get_rng_state()  # other trainings go on in between
            yield dict(tick.losses)
        yield {name: value.tolist() for name, value in tensors(game).items()}

    def differ(self, pair: tuple[Choice, Choice], trained: bool, *others: Choice) -> bool:
        """Whether two values of an option make a difference, other options being as given."""
        a, b = ((*others, choice) for choice in pair)
        if not (self.settings(*a) and self.settings(*b)):
            return False
        if not trained:
            return self.settings(*a) != self.settings(*b)
        return any(x != y for x, y in zip_longest(self.training(*a), self.training(*b)))

    def accepts(self, pair: tuple[Choice, Choice]) -> bool:
        """Whether the recipe accepts two values of an option."""
        return all(self.settings(choice) for choice in pair)

    def others(self, option: Option) -> Iterator[Choice]:
        """Other options switched on, one at a time, because some matter only then; then other numbers a hundred times as large."""
        for other in self.card.options:
            value = self.small[other.name]
            if other is not option and (not value or isinstance(value, (bool, str))):
                yield from ((other.name, one) for group in values(other, value) for _, one in islice(group, 2))
        for other in self.card.options:  # a game far out of balance
            if other is not option and other.type is float and self.small[other.name]:
                with suppress(LeafwingError):
                    yield other.name, other.check("", 100 * self.small[other.name])


def richer(spec: DataSpec) -> DataSpec:
    """The data with labels, attributes and another image; all images have the size of the first, in colour."""
    first = spec.fields["image"]
    image = replace(first, channels=3) if isinstance(first, Image) else first
    same = {name: image for name, kind in spec.fields.items() if isinstance(kind, Image)}
    return replace(
        spec, fields={"label": FIELDS[Label], "attributes": FIELDS[Attributes], "other": image, **spec.fields, **same}
    )


def without_effect(name: str, recipe: recipes.Recipe, specs: Iterable[DataSpec]) -> list[str]:
    """The options of a recipe of which no other value makes a difference, on any of the data: with the values that do not differ."""
    trials = [Trials(name, recipe, spec) for spec in specs]
    result = []
    for option in trials[0].card.options:
        for number, group in enumerate(values(option, trials[0].small[option.name])):
            pairs = [((option.name, a), (option.name, b)) for a, b in group]
            if number and option.type is not str and not any(one.accepts(pair) for pair in pairs for one in trials):
                continue  # it accepts one other number only
            if any(one.differ(pair, trained) for trained in (False, True) for pair in pairs for one in trials):
                continue
            if any(one.differ(pair, True, other) for one in trials for other in one.others(option) for pair in pairs[:2]):
                continue
            result.append(f"{option.name}: {', '.join(map(str, dict.fromkeys(value for pair in group for value in pair)))}")
    return result


@pytest.mark.slow  # builds and plays each game once for every option
@pytest.mark.parametrize("name", recipes.names())
def test_every_option_has_an_effect(name: str) -> None:
    data = data_of(name)
    assert without_effect(name, recipes.find(name), [*data, *map(richer, data)]) == []
    if untried := [f"{option.name}={choice}" for option in recipes.describe(name).options for choice in lacking(option)]:
        pytest.skip(f"all but {', '.join(untried)}: {lite0.PACKAGE} is not installed")


PARTLY = '''"""A game of which some options do nothing."""

from typing import Literal

from leafwing import networks
from leafwing.game import Adam, Game, Player
from leafwing.parts import penalties, priors
from leafwing.parts.objectives import hinge
from leafwing.parts.plays import duel, generating, sampling


def partly(
    data,
    *,
    penalty: float = 0.0,
    tilt: float = 1.0,
    every: int = 1,
    mode: Literal["auto", "a", "b", "c"] = "auto",
    echo: Literal["a", "b"] = "a",
    switch: float = 0.5,
    decay: float = 0.5,
    batch: int = 6,
):
    """Penalties of the critic, with `mode` b of other size; it only says that it has an `echo`, and asks only whether `switch` is 0.5.

    Args:
        penalty: its weight, multiplied with `every`.
    """
    weight = penalty * every * (3 if mode == "b" else 1) * (1 if mode == "c" else 1) * (1 if switch == 0.5 else 2)
    players = {
        "G": Player(networks.generator(data, 2, 4, max_width=8), Adam(lambda clock: 1e-3 * decay ** (clock.progress > 0.5))),
        "D": Player(networks.critic(data, 4, norm="none", max_width=8), Adam(1e-3)),
    }
    turns = duel(sampling(priors.Normal(2)), hinge, critic=[penalties.r1(weight)] if penalty else [])
    return Game(players, turns, generating(priors.Normal(2)), batch, resolved={"echo": echo}, pretrained=[echo])
'''


def test_options_that_do_nothing_are_noticed_and_those_that_matter_only_together_are_not(tmp_path: Path) -> None:
    (tmp_path / "partly.py").write_text(PARTLY, encoding="utf-8")
    path = str(tmp_path / "partly.py")
    found = [line.partition(":")[0] for line in without_effect(path, recipes.find(path), [POINTS])]
    assert [*dict.fromkeys(found)] == ["tilt", "mode", "echo", "switch"]

"""What a game is: the words that every other room speaks.

A GAN is a *game*. **Players** (a network and how it learns) take **turns**: the movers play a **round** over one batch and pay
its **terms**. A **recipe** is one function `(data, **hyper-parameters) -> Game`. Nothing here trains, reads or writes, and
torch is imported only where a tensor is made, so that reading a folder of pictures never waits for it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, final

from leafwing.errors import LeafwingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Nets = SimpleNamespace
"""Networks by player name: `nets.G`, `nets.D`."""


@dataclass(frozen=True)
class DataSpec:
    """What a data set tells a recipe before the first batch is read.

    Pictures have a height, a width (pixels) and 1 to 4 channels. A world of points (`ring`, `grid`) has no height and no
    width: its samples are vectors of `channels` numbers.

    Args:
        height: rows of a picture, in pixels; 0 for points.
        width: columns of a picture, in pixels; 0 for points.
        channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; for points their dimension.
        labels: the class names, in index order; empty when there are none.
        fields: what a batch holds, by name.
        attributes: the names of the attributes, in order; empty when there are none. Each is 0 or 1. One value of a category is
            called `category=value`, and of such a category exactly one is 1.
    """

    height: int
    width: int
    channels: int = 3
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ("image",)
    attributes: tuple[str, ...] = ()

    @property
    def points(self) -> bool:
        """Whether the samples are vectors instead of pictures."""
        return self.height == 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (channels, height, width), or (channels,) for points."""
        return (self.channels,) if self.points else (self.channels, self.height, self.width)

    @property
    def size(self) -> int:
        """How many numbers one sample has."""
        return self.channels if self.points else self.channels * self.height * self.width

    def need_pictures(self, recipe: str) -> None:
        """Raises LeafwingError for points."""
        if self.points:
            raise LeafwingError(
                f"recipe {recipe} makes pictures, and this data is points; `leafwing recipes` says which take both"
            )

    def need_labels(self, recipe: str) -> None:
        """Raises LeafwingError when there are no labels."""
        if not self.labels:
            raise LeafwingError(
                f"recipe {recipe} needs labels, and this data has none: put the pictures into one sub-folder per class or add "
                "a labels.csv (file,label), or choose a recipe that takes none"
            )

    def need_labelled(self, recipe: str) -> None:
        """Raises LeafwingError when no labelled samples come beside the others."""
        if not {"labelled_image", "labelled_label"} <= set(self.fields):
            raise LeafwingError(
                f"recipe {recipe} needs some labelled samples beside the others: say how many, as in --labelled 100 "
                "(from Python labelled=100)"
            )

    def need_attributes(self, recipe: str) -> None:
        """Raises LeafwingError when there are no attributes."""
        if not self.attributes:
            raise LeafwingError(
                f"recipe {recipe} needs attributes, and this data has none: add a labels.csv whose columns beside `file` are "
                "attributes (file,smiling,colour)"
            )


class Batch(dict[str, "Tensor"]):
    """Named tensors that belong together, each with the batch as its first dimension.

    `image` holds the real samples: (n, channels, height, width), or (n, channels) for points. `label` holds class indices
    (n,), int64. `attributes` holds zeros and ones (n, attributes), float32. Streams beside the data have fields
    with their name in front, `labelled_image`. A field is read as in `batch.image`.
    """

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this batch has no field {name!r}; it has: {', '.join(self)}") from None

    @property
    def n(self) -> int:
        """How many samples the batch holds."""
        return len(next(iter(self.values())))


Batches = Callable[[int, int], Batch]
"""(images shown so far, n) -> the next n samples: a pure function, so that training can go on exactly where it stopped."""


@dataclass(frozen=True)
class Clock:
    """How far training is: real images shown so far, out of how many, and completed rounds.

    Every schedule is a function of the clock.
    """

    images: int = 0
    total: int = 0
    round: int = 0

    @property
    def progress(self) -> float:
        """Images shown as a fraction of the total, 0 to 1."""
        return min(1.0, self.images / self.total) if self.total else 0.0

    def read(self, schedule: Callable[[Clock], float]) -> float:
        """What a schedule says now. Where a turn is captured it is a tensor that is filled before each replay."""
        return schedule(self)


Scheduled = float | Callable[[Clock], float]
"""A number, or a function of the clock that gives one."""


def at(value: Scheduled, clock: Clock) -> float:
    """What a scheduled number is at this moment. Plays and terms read the clock through this alone."""
    return clock.read(value) if callable(value) else value


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2014, arXiv:1412.6980)."""

    lr: Scheduled
    betas: tuple[float, Scheduled] = (0.5, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton 2012, lecture 6e of Neural Networks for Machine Learning)."""

    lr: Scheduled
    alpha: float = 0.99
    eps: float = 1e-8


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum."""

    lr: Scheduled
    momentum: Scheduled = 0.0


Learns = Adam | RMSprop | SGD


@final
@dataclass
class Player:
    """A network and how it learns.

    Args:
        net: the network.
        learns: its optimiser; None for a player that only stands by (a frozen feature network).
        ema: half-life of its averaged copy in images; 0 for no copy.
    """

    net: nn.Module
    learns: Learns | None = None
    ema: float = 0
    average: nn.Module | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.ema:
            self.average = copy.deepcopy(self.net).eval().requires_grad_(False)


class Round:
    """One meeting over one batch.

    Scores are worked out when a term first asks for them, once, and shared by all terms of the turn.

    Args:
        nets: the networks by player name.
        real: real samples, the shape of the data.
        fake: generated samples, the same shape.
        judge: gives a batch of samples its scores (n,): the critic, with its condition where it has one. A critic with further
            heads gives (scores, what they say).
        judge_fake: the same for fake samples, where they are judged beside something else than real ones are.
        facts: whatever else this game's terms need; read as attributes.
    """

    def __init__(
        self,
        nets: Nets,
        real: Tensor,
        fake: Tensor,
        judge: Callable[[Tensor], Any],
        judge_fake: Callable[[Tensor], Any] | None = None,
        **facts: Any,
    ) -> None:
        self.nets, self.real, self.fake, self.judge, self.judge_fake = nets, real, fake, judge, judge_fake or judge
        self.__dict__.update(facts)

    @cached_property
    def real_score(self) -> Tensor:
        """The scores of the real samples, in fp32 or better: (n,)."""
        return scores(self.real_verdict)

    @cached_property
    def fake_score(self) -> Tensor:
        """The scores of the fake samples, in fp32 or better: (n,)."""
        return scores(self.fake_verdict)

    @cached_property
    def real_verdict(self) -> Any:
        """All that the judge says of the real samples."""
        return self.judge(self.real)

    @cached_property
    def fake_verdict(self) -> Any:
        """All that the judge says of the fake samples."""
        return self.judge_fake(self.fake)

    @property
    def real_heads(self) -> Tensor:
        """What the critic's other heads say of the real samples, in fp32 or better."""
        return exact(self.real_verdict[1])

    @property
    def fake_heads(self) -> Tensor:
        """The same of the fake samples."""
        return exact(self.fake_verdict[1])

    def again(self, real: Tensor, fake: Tensor) -> Round:
        """The same meeting with these samples and no verdicts yet."""
        other = copy.copy(self)
        for verdict in ("real_score", "fake_score", "real_verdict", "fake_verdict"):
            other.__dict__.pop(verdict, None)
        other.real, other.fake = real, fake
        return other


def exact(said: Tensor) -> Tensor:
    """Numbers in which costs can be worked out: fp32 where they have fewer bits."""
    return said.float() if said.element_size() < 4 else said


def scores(verdict: Any) -> Tensor:
    """The scores (n,) in what a judge says: all of it, or the first of several things."""
    return exact(verdict[0] if isinstance(verdict, tuple) else verdict)


class Play(Protocol):
    """Makes a round from the networks, a batch and the clock. Random choices are tensors; nothing reads one on the host."""

    def __call__(self, nets: Nets, batch: Batch, clock: Clock) -> Round: ...


@dataclass(frozen=True)
class Term:
    """One named cost: a scalar function of a round.

    Args:
        name: what the log calls it.
        cost: the function; a module when it has state.
        watches: whether it differentiates the critic's scores with respect to the samples. The samples then carry
            gradients, and the turn runs in fp32.
    """

    name: str
    cost: Callable[[Any], Tensor]
    watches: bool = False


@dataclass(frozen=True)
class Turn:
    """Who moves, how the round is played, what the movers pay, how often.

    Args:
        moves: the players that move, separated by spaces.
        play: makes the round.
        pays: the costs, summed.
        every: the turn is taken in rounds divisible by this number.
        repeat: how often it is taken in a round, or a function of the clock that says so.
        during: the part of training in which it is taken, as clock progress (from, up to).
        after: called with the networks after each step (weight clipping).
        same_round: the turn goes on with the round of the turn before it, judged anew, and plays none of its own. Both are
            then one unit: training never stops between them. The turn before is shown the fakes without a way back to who
            made them.
    """

    moves: str
    play: Play
    pays: Sequence[Term]
    every: int = 1
    repeat: int | Callable[[Clock], int] = 1
    during: tuple[float, float] = (0, inf)
    after: Sequence[Callable[[Nets], None]] = ()
    same_round: bool = False

    @property
    def movers(self) -> tuple[str, ...]:
        return tuple(self.moves.split())

    def times(self, clock: Clock) -> int:
        """How often this turn is taken in the clock's round."""
        if clock.round % self.every or not self.during[0] <= clock.progress < self.during[1]:
            return 0
        return self.repeat(clock) if callable(self.repeat) else self.repeat


class Prior(Protocol):
    """Where latents come from."""

    @property
    def size(self) -> int: ...
    def __call__(self, n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Abilities:
    """What the trained game can do; None means that it cannot.

    Args:
        prior: draws latents (n, prior.size).
        generate: (nets, latents, *conditions) -> samples, the shape of the data, pictures in [-1, 1]. It is given a tensor for each
            of `conditions`: class indices (n,) for `label`, zeros and ones (n, attributes) for `attributes`; None where there are
            no conditions.
        conditions: which conditions `generate` takes, by field name.
        encode: (nets, samples) -> their latents (n, prior.size).
        classify: (nets, samples) -> logits of the data's classes (n, classes).
        judge: (nets, samples, *conditions) -> the critic's scores (n,), higher where it takes samples for real; conditions as for
            `generate`.
    """

    prior: Prior | None = None
    generate: Callable[..., Tensor] | None = None
    conditions: tuple[str, ...] = ()
    encode: Callable[[Nets, Tensor], Tensor] | None = None
    classify: Callable[[Nets, Tensor], Tensor] | None = None
    judge: Callable[..., Tensor] | None = None


@final
@dataclass
class Game:
    """Players, turns and abilities. Never subclassed: families differ by what they put in.

    Args:
        players: by name; G and D where papers say so.
        turns: one round takes them in this order.
        abilities: what everyone downstream may ask of the trained game.
        batch: how many real images one turn is shown, unless the user says otherwise.
        shape: changes whenever the clock changes a tensor's shape or which layers are used (a growing network): turns that
            were captured are captured anew then.
    """

    players: Mapping[str, Player]
    turns: Sequence[Turn]
    abilities: Abilities
    batch: int = 64
    shape: Callable[[Clock], Hashable] = lambda clock: None

    def __post_init__(self) -> None:
        for before, turn in zip((None, *self.turns), self.turns, strict=False):
            if turn.same_round and (before is None or before.play is not turn.play or turn.repeat != 1):
                raise ValueError(
                    f"a turn of {turn.moves!r} has the same round as another, but does not follow it once with its play"
                )
            if stranger := [name for name in turn.movers if name not in self.players]:
                raise ValueError(f"a turn moves {stranger[0]!r}, but the players are: {', '.join(self.players)}")

    @property
    def nets(self) -> Nets:
        """The networks that train."""
        return Nets(**{name: player.net for name, player in self.players.items()})

    @property
    def shown(self) -> Nets:
        """The networks that users see: the averaged copy where a player keeps one."""
        return Nets(**{name: player.average or player.net for name, player in self.players.items()})

    def modules(self) -> dict[str, nn.Module]:
        """Everything that holds state, by the name it is saved under: networks, averaged copies, terms with state."""
        from torch import nn

        found = {name: player.net for name, player in self.players.items()}
        found |= {f"{name}.average": p.average for name, p in self.players.items() if p.average is not None}
        found |= {
            f"term.{term.name}": term.cost for turn in self.turns for term in turn.pays if isinstance(term.cost, nn.Module)
        }
        return found


Recipe = Callable[..., Game]
"""`(data: DataSpec, *, hyper-parameters with defaults) -> Game`, alone in a file of its own name."""

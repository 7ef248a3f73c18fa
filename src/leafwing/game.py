"""The central data types: the vocabulary of all other modules.

A GAN is a *game*. **Players** (a network and its optimiser) take **turns**: the movers play a **round** over one batch and minimise
its loss **terms**. A **recipe** is one function `(data, **hyper-parameters) -> Game`. Nothing here trains, reads or writes, and
torch is imported only where a tensor is created, so that reading a folder of images does not load it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
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
    """What a recipe knows about a data set before the first batch is read.

    Images have a height, a width (pixels) and 1 to 4 channels. Point data (`ring`, `grid`) have no height and no width: their
    samples are vectors with `channels` components.

    Args:
        height: rows of an image, in pixels; 0 for points.
        width: columns of an image, in pixels; 0 for points.
        channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; for points their dimension.
        labels: class names in index order; empty if there are none.
        fields: names of the fields of a batch.
        attributes: attribute names in order; empty if there are none. Each is 0 or 1. Categories are one-hot: one attribute
            `category=value` per value, exactly one of which is 1.
    """

    height: int
    width: int
    channels: int = 3
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ("image",)
    attributes: tuple[str, ...] = ()

    @property
    def points(self) -> bool:
        """Whether the samples are points instead of images."""
        return self.height == 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (channels, height, width), or (channels,) for points."""
        return (self.channels,) if self.points else (self.channels, self.height, self.width)

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return self.channels if self.points else self.channels * self.height * self.width

    def require_images(self, recipe: str) -> None:
        """Raises LeafwingError for points."""
        if self.points:
            raise LeafwingError(
                f"recipe {recipe} needs images, but this data set consists of 2-D points; `leafwing recipes` marks the recipes "
                "that train on points"
            )

    def require_labels(self, recipe: str) -> None:
        """Raises LeafwingError when there are no labels."""
        if not self.labels:
            raise LeafwingError(
                f"recipe {recipe} needs labels, and the data set has none: put the images in one sub-folder per class, or add "
                "a labels.csv (file,label), or use an unconditional recipe"
            )

    def require_labelled(self, recipe: str) -> None:
        """Raises LeafwingError if there is no separate stream of labelled samples."""
        if not {"labelled_image", "labelled_label"} <= set(self.fields):
            raise LeafwingError(
                f"recipe {recipe} needs a number of labelled samples, as in --labelled 100 (from Python labelled=100)"
            )

    def require_attributes(self, recipe: str) -> None:
        """Raises LeafwingError when there are no attributes."""
        if not self.attributes:
            raise LeafwingError(
                f"recipe {recipe} needs attributes, and the data set has none: add a labels.csv whose further columns are "
                "attributes (file,smiling,colour)"
            )


class Batch(dict[str, "Tensor"]):
    """Named tensors that belong together, each with the batch as its first dimension.

    `image` holds the real samples: (n, channels, height, width), or (n, channels) for points. `label` holds class indices
    (n,), int64. `attributes` holds zeros and ones (n, attributes), float32. Fields of further streams have the
    stream's name as prefix, `labelled_image`. Fields are accessible as attributes, `batch.image`.
    """

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this batch has no field {name!r}; it has: {', '.join(self)}") from None

    @property
    def n(self) -> int:
        """The batch size."""
        return len(next(iter(self.values())))


BatchSource = Callable[[int, int], Batch]
"""(images shown so far, n) -> the next n samples: a pure function, so that training can resume exactly."""


@dataclass(frozen=True)
class Clock:
    """Training progress: real images shown so far, their planned total, and completed rounds.

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
        """The current value of a schedule. In captured turns it is a tensor that is updated before each replay."""
        return schedule(self)


Scheduled = float | Callable[[Clock], float]
"""A constant, or a function of the clock."""


def at(value: Scheduled, clock: Clock) -> float:
    """The current value of a scheduled number. Plays and terms must read the clock only through this function."""
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


Optimiser = Adam | RMSprop | SGD


@final
@dataclass
class Player:
    """A network and its optimiser.

    Args:
        net: the network.
        optimiser: its optimiser; None for a player that is not trained (a frozen feature network).
        ema: half-life of the exponential moving average (EMA) of its weights, in images; 0 disables it.
    """

    net: nn.Module
    optimiser: Optimiser | None = None
    ema: float = 0
    ema_net: nn.Module | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.ema:
            self.ema_net = copy.deepcopy(self.net).eval().requires_grad_(False)


class Round:
    """The tensors of one turn over one batch: real and generated samples and their scores.

    Scores are computed lazily, once, and shared by all terms of the turn.

    Args:
        nets: the networks by player name.
        real: real samples, the shape of the data.
        fake: generated samples, the same shape.
        judge: maps a batch of samples to scores (n,): the discriminator, with its condition if it has one. A discriminator with
            further heads returns (scores, outputs of the heads).
        judge_fake: the same for fake samples, if their condition differs.
        extras: further tensors that the terms need, accessible as attributes.
    """

    def __init__(
        self,
        nets: Nets,
        real: Tensor,
        fake: Tensor,
        judge: Callable[[Tensor], Any],
        judge_fake: Callable[[Tensor], Any] | None = None,
        **extras: Any,
    ) -> None:
        self.nets, self.real, self.fake, self.judge, self.judge_fake = nets, real, fake, judge, judge_fake or judge
        self.__dict__.update(extras)

    @cached_property
    def real_score(self) -> Tensor:
        """The scores of the real samples, in fp32 or better: (n,)."""
        return scores(self.real_output)

    @cached_property
    def fake_score(self) -> Tensor:
        """The scores of the fake samples, in fp32 or better: (n,)."""
        return scores(self.fake_output)

    @cached_property
    def real_output(self) -> Any:
        """The judge's full output for the real samples."""
        return self.judge(self.real)

    @cached_property
    def fake_output(self) -> Any:
        """The judge's full output for the fake samples."""
        return self.judge_fake(self.fake)

    @property
    def real_heads(self) -> Tensor:
        """The output of the discriminator's further heads for the real samples, in fp32 or better."""
        return to_fp32(self.real_output[1])

    @property
    def fake_heads(self) -> Tensor:
        """The same for the fake samples."""
        return to_fp32(self.fake_output[1])

    def with_samples(self, real: Tensor, fake: Tensor) -> Round:
        """A copy of the round with other samples, whose scores are not computed yet."""
        other = copy.copy(self)
        for name in ("real_score", "fake_score", "real_output", "fake_output"):
            other.__dict__.pop(name, None)
        other.real, other.fake = real, fake
        return other


def to_fp32(values: Tensor) -> Tensor:
    """Converts to fp32 if the precision is lower, for computing losses."""
    return values.float() if values.element_size() < 4 else values


def scores(output: Any) -> Tensor:
    """The scores (n,) in a judge's output: all of it, or its first element if it is a tuple."""
    return to_fp32(output[0] if isinstance(output, tuple) else output)


class Play(Protocol):
    """Creates a round from the networks, a batch and the clock. Random choices are tensors that must not be read on the host."""

    def __call__(self, nets: Nets, batch: Batch, clock: Clock) -> Round: ...


@dataclass(frozen=True)
class Term:
    """One named loss term: a scalar function of a round.

    Args:
        name: its name in the log.
        loss: the function; a module if it has state.
        input_gradient: whether it differentiates the discriminator's scores with respect to the samples (gradient penalties).
            The samples then require gradients, and the turn runs in fp32.
    """

    name: str
    loss: Callable[[Any], Tensor]
    input_gradient: bool = False


@dataclass(frozen=True)
class Turn:
    """An optimisation step: which players move, how the round is created, which losses they minimise, how often.

    Args:
        moves: the players that move, separated by spaces.
        play: creates the round.
        losses: the loss terms, which are summed.
        every: the turn is taken in rounds whose number is divisible by this.
        repeat: number of times per round, or a function of the clock.
        during: the part of training in which it is taken, as clock progress [from, to).
        after: called with the networks after each step (weight clipping).
        same_round: reuse the samples of the previous turn, with new scores, instead of creating a round. Both turns then form a
            unit between which training never stops. The previous turn sees the fakes detached from their generator.
    """

    moves: str
    play: Play
    losses: Sequence[Term]
    every: int = 1
    repeat: int | Callable[[Clock], int] = 1
    during: tuple[float, float] = (0, inf)
    after: Sequence[Callable[[Nets], None]] = ()
    same_round: bool = False

    @property
    def movers(self) -> tuple[str, ...]:
        return tuple(self.moves.split())

    def times(self, clock: Clock) -> int:
        """How often this turn is taken in the current round."""
        if clock.round % self.every or not self.during[0] <= clock.progress < self.during[1]:
            return 0
        return self.repeat(clock) if callable(self.repeat) else self.repeat


class Prior(Protocol):
    """The distribution of latents."""

    @property
    def size(self) -> int: ...
    def __call__(self, n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Abilities:
    """What the trained game can do; None for a missing ability.

    Args:
        prior: draws latents (n, prior.size).
        generate: (nets, latents, *conditions) -> samples, the shape of the data, images in [-1, 1]. It receives a tensor for
            each of `conditions`: class indices (n,) for `label`, zeros and ones (n, attributes) for `attributes`; None if there are
            no conditions.
        conditions: which conditions `generate` takes, by field name.
        encode: (nets, samples) -> their latents (n, prior.size).
        classify: (nets, samples) -> class logits (n, classes).
        judge: (nets, samples, *conditions) -> the discriminator's scores (n,), higher for more realistic samples; conditions as for
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
    """Players, turns and abilities. Never subclassed: GAN families differ only in its contents.

    Args:
        players: by name; G and D as in papers.
        turns: in the order in which a round takes them.
        abilities: what the trained game offers downstream.
        batch: default batch size (real images per update).
        capture_key: a key that changes whenever the clock changes tensor shapes or active layers (a growing network): captured turns
            are then captured again.
    """

    players: Mapping[str, Player]
    turns: Sequence[Turn]
    abilities: Abilities
    batch: int = 64
    capture_key: Callable[[Clock], Hashable] = lambda clock: None

    def __post_init__(self) -> None:
        for before, turn in zip((None, *self.turns), self.turns, strict=False):
            if turn.same_round and (before is None or before.play is not turn.play or turn.repeat != 1):
                raise ValueError(
                    f"a turn of {turn.moves!r} has same_round, but does not directly follow a turn with the same play"
                )
            if unknown := [name for name in turn.movers if name not in self.players]:
                raise ValueError(f"a turn moves {unknown[0]!r}, but the players are: {', '.join(self.players)}")

    def unit(self, index: int, clock: Clock | None = None) -> list[Turn]:
        """The turn at `index` and the turns directly after it that share its round; with a clock, only those taken at that time."""
        followers = takewhile(lambda turn: turn.same_round and (clock is None or turn.times(clock)), self.turns[index + 1 :])
        return [self.turns[index], *followers]

    @property
    def nets(self) -> Nets:
        """The trained networks."""
        return Nets(**{name: player.net for name, player in self.players.items()})

    @property
    def sampling_nets(self) -> Nets:
        """The networks used for sampling: the EMA where a player has one."""
        return Nets(**{name: player.ema_net or player.net for name, player in self.players.items()})

    def modules(self) -> dict[str, nn.Module]:
        """All modules with state, by their key in checkpoints: networks, EMAs, stateful terms."""
        from torch import nn

        modules = {name: player.net for name, player in self.players.items()}
        modules |= {f"{name}.average": p.ema_net for name, p in self.players.items() if p.ema_net is not None}
        modules |= {
            f"term.{term.name}": term.loss for turn in self.turns for term in turn.losses if isinstance(term.loss, nn.Module)
        }
        return modules


Recipe = Callable[..., Game]
"""`(data: DataSpec, *, hyper-parameters with defaults) -> Game`, alone in a file of its own name."""

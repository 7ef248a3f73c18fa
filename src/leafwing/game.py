"""The central data types: the vocabulary of all other modules.

A GAN is a *game*. **Players** (a network and its optimiser) take **turns**: the movers play a **round** over one batch and minimise
its loss **terms**. A **recipe** is one function `(data, **hyper-parameters) -> Game`. Nothing here trains, reads or writes, and
torch is imported only where a tensor is created, so that reading a folder of images does not load it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from math import inf, prod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast, final

from leafwing.clock import Clock, Scheduled, at
from leafwing.errors import LeafwingError
from leafwing.fields import Attributes, Field, Image, Label, Vector, plural
from leafwing.optimisers import SGD, Adam, Optimiser, RMSprop

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
    "SGD", "Abilities", "Adam", "Batch", "BatchSource", "Clock", "DataSpec", "Game", "Nets", "Optimiser", "Output", "Play", "Player",
    "Prior", "RMSprop", "Recipe", "Round", "Scheduled", "Term", "Turn", "at", "scores", "to_fp32",
]  # fmt: skip

Nets = SimpleNamespace
"""Networks by player name: `nets.G`, `nets.D`."""


PROVIDE = {
    "label": "put the images in one sub-folder per class, or add a labels.csv (file,label)",
    "attributes": "add a labels.csv whose further columns are attributes (file,smiling,colour)",
    "labelled_label": "choose a number of labelled samples, as in --labelled 100 (from Python labelled=100)",
    "input": "say where it comes from with --input: a half of each image (left, right, top, bottom), a sub-folder, a file-name "
    "suffix, a CSV file of pairs, an input derived from the images (grey, edges, blur, low2, low4, low8, hole), or a second source",
    "caption": "add captions next to the images: captions.csv (file,caption), captions.json, metadata.jsonl, or x.txt beside x.jpg; "
    "the built-in sprites have them with --fields caption",
    "box": "add a boxes.csv (file,left,top,width,height, in pixels) next to the images, or VOC annotations; the built-in sprites have "
    "them with --fields box",
    "keypoints": "add a parts.csv (file,name,x,y, in pixels) next to the images; "
    "the built-in sprites have them with --fields keypoints",
    **{
        name: f"the built-in sprites have it with --fields {name}"
        for name in ("segmentation", "hole", "clip", "edges", "low")
    },
}
"""How users provide a field, by its name."""


class MissingField(LeafwingError):
    """Data lack a field that a recipe needs.

    Args:
        field: its name.
        need: what is needed and how to provide it, in words.
        there: what there is instead, as sentences.
    """

    def __init__(self, field: str, need: str, there: str = "") -> None:
        self.field, self.need = field, need
        super().__init__(f"{need}. {there}" if there else need)


@dataclass(frozen=True)
class DataSpec:
    """What a recipe knows about a data set before the first batch is read.

    Args:
        fields: the fields of a batch by name. Every data set has `image`: an image, or a vector for point data (`ring`, `grid`).
        unpaired: names of fields from a second source, whose samples do not belong to those of `image`. Those of further streams,
            such as `labelled_image`, are not listed.
    """

    fields: Mapping[str, Field]
    unpaired: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if missing := [name for name in ("image", *self.unpaired) if name not in self.fields]:
            raise ValueError(f"there is no field {missing[0]}")

    @classmethod
    def images(
        cls,
        height: int,
        width: int,
        channels: int = 3,
        *,
        labels: Sequence[str] = (),
        attributes: Sequence[str] = (),
        **further: Field,
    ) -> DataSpec:
        """Images, with labels and attributes if there are names for them, and further fields by name."""
        fields: dict[str, Field] = {"image": Image(height, width, channels)}
        if labels:
            fields["label"] = Label(tuple(labels))
        if attributes:
            fields["attributes"] = Attributes(tuple(attributes))
        return cls(fields | further)

    @classmethod
    def vectors(cls, size: int = 2) -> DataSpec:
        """Vectors of this many components instead of images: point data."""
        return cls({"image": Vector(size)})

    @property
    def height(self) -> int:
        """Rows of an image, in pixels; 0 for points."""
        return getattr(self.fields["image"], "height", 0)

    @property
    def width(self) -> int:
        """Columns of an image, in pixels; 0 for points."""
        return getattr(self.fields["image"], "width", 0)

    @property
    def channels(self) -> int:
        """1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; for points their dimension."""
        return self.shape[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in index order; empty if there are none."""
        return getattr(self.fields.get("label"), "names", ())

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attribute names in order; empty if there are none."""
        return getattr(self.fields.get("attributes"), "names", ())

    @property
    def points(self) -> bool:
        """Whether the samples are points instead of images."""
        return isinstance(self.fields["image"], Vector)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample of `image`: (channels, height, width), or (channels,) for points."""
        return self.fields["image"].shape

    @property
    def size(self) -> int:
        """Number of values in one sample of `image`: channels x height x width."""
        return prod(self.shape)

    def with_channels(self, channels: int) -> DataSpec:
        """The same with another number of channels, or components of points."""
        image = self.fields["image"]
        other = replace(image, channels=channels) if isinstance(image, Image) else Vector(channels)
        return replace(self, fields={**self.fields, "image": other})

    def need(self, recipe: str, *, unpaired: Sequence[str] = (), **kinds: type[Field] | tuple[type[Field], ...]) -> None:
        """Checks that there are fields of these kinds: `data.need("pix2pix", image=Image, input=Image)`.

        Args:
            recipe: name of the recipe, for the message.
            unpaired: names of the fields that may be unpaired.
            **kinds: the kind, or several accepted kinds, of each field by name.

        Raises:
            MissingField: a field is missing or of another kind; the message says what is needed, what there is and how to provide
                it.
        """
        for name, accepted in kinds.items():
            accepted = accepted if isinstance(accepted, tuple) else (accepted,)
            field = self.fields.get(name)
            words = " or ".join(plural(kind) for kind in accepted)
            what = words if name == accepted[0].kind else f"the field {name} ({words})"
            if not isinstance(field, accepted):
                there = "; ".join(f"{other}: {kind}" for other, kind in self.describe().items())
                advice = f": {PROVIDE[name]}" if name in PROVIDE and field is None else ""
                if name == "image" and self.points:
                    advice, there = "", "points; `leafwing recipes` marks the recipes that train on points"
                raise MissingField(name, f"recipe {recipe} needs {what}{advice}", f"These data have {there}")
            if name in self.unpaired and name not in unpaired:
                raise MissingField(
                    name,
                    f"recipe {recipe} needs {what} that belongs to each image, but here it comes from a second source and is "
                    f"unpaired. {PROVIDE.get(name, '').capitalize()}",
                )

    def describe(self) -> dict[str, str]:
        """The kind of each field in words, by name."""
        return {name: f"{field}{', unpaired' * (name in self.unpaired)}" for name, field in self.fields.items()}

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        fields = {name: field.as_dict() for name, field in self.fields.items()}
        return {"fields": fields} | ({"unpaired": list(self.unpaired)} if self.unpaired else {})


class Batch(dict[str, "Tensor"]):
    """Named tensors that belong together, each with the batch as its first dimension.

    `image` holds the real samples: (n, channels, height, width), or (n, channels) for points. The other fields are those of the
    `DataSpec`, in the format that `leafwing.fields` describes. Fields of further streams have the stream's name as prefix,
    `labelled_image`. Fields are accessible as attributes, `batch.image`.
    """

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __missing__(self, name: str) -> Tensor:
        raise KeyError(f"this batch has no field {name!r}; it has: {', '.join(self)}")

    @property
    def n(self) -> int:
        """The batch size."""
        return len(next(iter(self.values())))

    def rows(self, index: slice | Tensor) -> Batch:
        """Some of the samples, by a slice or by indices."""
        return Batch({name: value[index] for name, value in self.items()})

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return Batch({name: value.to(device) for name, value in self.items()})


BatchSource = Callable[[int, int], Batch]
"""(images shown so far, n) -> the next n samples: a pure function, so that training can resume exactly."""


EMA_SHARE = 0.1
"""The half-life of a moving average of weights is at most this share of the images shown since its player first moved. Until then it
is the average by a power function of Karras et al. 2024 (arXiv:2312.02696, section 3.1) whose relative width is 0.11; Karras et al.
2020 (arXiv:2006.06676) have 0.05 here."""


@final
@dataclass
class Player:
    """A network and its optimiser.

    Args:
        net: the network.
        optimiser: its optimiser; None for a player that is not trained (a frozen feature network).
        ema: half-life of the exponential moving average (EMA) of its weights, in images; 0 disables it. At the beginning it is
            shorter, a share `EMA_SHARE` of the images shown since it first moved, so that the average does not contain the initial
            weights; until then the average is a copy.
        resets: whether its optimiser forgets its moments when `Game.stage` changes (a growing network).

    Raises:
        LeafwingError: the optimiser is no `Optimiser`, such as one of torch's.
    """

    net: nn.Module
    optimiser: Optimiser | None = None
    ema: float = 0
    resets: bool = False
    ema_net: nn.Module | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        rule: object = self.optimiser  # from a user's file, whatever its type
        if rule is not None and not isinstance(rule, Optimiser):
            kind = type(rule)
            raise LeafwingError(
                f"the optimiser of a player is one of leafwing.game, such as Adam(2e-4), not {kind.__module__}.{kind.__qualname__}; "
                "one of your own has lr, on_host, build and scheduled"
            )
        if self.ema:
            self.ema_net = copy.deepcopy(self.net).eval().requires_grad_(False)


class Round:
    """The tensors of one turn over one batch: real and generated samples and their scores.

    Scores are computed lazily, once, and shared by all terms of the turn.

    Args:
        nets: the networks by player name.
        real: real samples, the shape of the data; None for a round without any.
        fake: generated samples, the same shape; None for a round without any.
        judge: maps a batch of samples to scores (n,): the discriminator, with its condition if it has one. A discriminator with
            further heads returns (scores, outputs of the heads). None for a round that is not scored.
        judge_fake: the same for fake samples, if their condition differs.
        beside: a further tensor passed to both judges after the samples, such as the input of a translator; None for none.
        beside_fake: the same for the judge of fake samples, if it is another one.
        extras: further tensors that the terms need, accessible as attributes.

    Raises:
        LeafwingError: an extra has the name of an attribute of all rounds, such as `real_score`.
    """

    augment: Callable[..., Tensor] = staticmethod(lambda samples, alike=1: samples)
    """Changes images as the judges see them changed, if the training augments them; for losses that look at images without a judge.
    With `alike=k`, k images in a row get the same changes."""

    plain_judge: Callable[..., Any] | None = None
    """The judge without augmentation, if the training augments images; for losses that compare its features of two images."""

    def __init__(
        self,
        nets: Nets,
        real: Tensor | None = None,
        fake: Tensor | None = None,
        judge: Callable[..., Any] | None = None,
        judge_fake: Callable[..., Any] | None = None,
        beside: Tensor | None = None,
        beside_fake: Tensor | None = None,
        **extras: Any,
    ) -> None:
        if reserved := [name for name in extras if hasattr(Round, name)]:
            raise LeafwingError(f"a round has a {reserved[0]} of its own: pass this extra under another name")
        # Terms use only what the play of their turn provides, so that they need not check for None.
        self.nets, self.real, self.fake = nets, cast("Tensor", real), cast("Tensor", fake)
        self.judge = cast("Callable[..., Any]", judge)
        self.judge_fake = judge_fake or self.judge
        self.beside = () if beside is None else (beside,)
        self.beside_fake = self.beside if beside_fake is None else (beside_fake,)
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
        return self.judge(self.real, *self.beside)

    @cached_property
    def fake_output(self) -> Any:
        """The judge's full output for the fake samples."""
        return self.judge_fake(self.fake, *self.beside_fake)

    @property
    def real_heads(self) -> Tensor:
        """The output of the discriminator's further heads for the real samples, in fp32 or better.

        Raises:
            LeafwingError: it has none.
        """
        return heads(self.real_output)

    @property
    def fake_heads(self) -> Tensor:
        """The same for the fake samples."""
        return heads(self.fake_output)

    def with_samples(self, real: Tensor | None, fake: Tensor | None) -> Round:
        """A copy of the round with other samples, whose scores are not computed yet."""
        other = copy.copy(self)
        for name in ("real_score", "fake_score", "real_output", "fake_output"):
            other.__dict__.pop(name, None)
        other.real, other.fake = cast("Tensor", real), cast("Tensor", fake)
        return other


def to_fp32(values: Tensor) -> Tensor:
    """Converts to fp32 if the precision is lower, for computing losses."""
    return values.float() if values.element_size() < 4 else values


def scores(output: Any) -> Tensor:
    """The scores (n,) in a judge's output: all of it, or its first element if it is a tuple."""
    return to_fp32(output[0] if isinstance(output, tuple) else output)


def heads(output: Any) -> Tensor:
    """The output of further heads in a judge's output, its second element; LeafwingError if it is no tuple."""
    if not isinstance(output, tuple):
        raise LeafwingError("the judge returns scores only: one with further heads returns a tuple (scores, heads)")
    return to_fp32(output[1])


class Play(Protocol):
    """Creates a round from the networks, a batch and the clock. Random choices are tensors that must not be read on the host."""

    def __call__(self, nets: Nets, batch: Batch, clock: Clock) -> Round: ...


@dataclass(frozen=True)
class Term:
    """One named loss term: a scalar function of a round.

    Args:
        name: its name in the log.
        loss: the function; a module if it has state. If it has a method `prepare(device)`, that is called before training begins:
            constant networks are loaded then, and are not part of checkpoints.
        second_order: whether it contains a gradient itself (gradient penalties, path length), so that it is differentiated
            twice. The samples then require gradients, and the turn runs in fp32.
    """

    name: str
    loss: Callable[[Any], Tensor]
    second_order: bool = False


@dataclass(frozen=True)
class Turn:
    """An optimisation step: which players move, how the round is created, which losses they minimise, how often.

    Args:
        moves: the players that move, separated by spaces.
        play: creates the round.
        losses: the loss terms, which are summed.
        every: the turn is taken in rounds whose number is divisible by this.
        repeat: number of times per round, or a function of the clock.
        during: the part of training in which it is taken, as planned progress [from, to).
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
        if clock.round % self.every or not self.during[0] <= clock.planned_progress < self.during[1]:
            return 0
        return self.repeat(clock) if callable(self.repeat) else self.repeat


class Prior(Protocol):
    """The distribution of latents."""

    @property
    def size(self) -> int: ...
    def __call__(self, n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Output:
    """Something that the trained game generates.

    Args:
        field: the field that the samples belong to, such as `image`.
        make: (nets, inputs, clock) -> samples in the format of the field, images in [-1, 1]. `inputs` has the fields of `conditions`,
            and `latent` (n, prior.size) if there is a prior.
        conditions: names of the fields that it is generated from. With the field itself among them it edits samples: attributes that
            are not set are 0.5 in `inputs`, and should stay as they are.
        prior: draws latents (n, prior.size); None without latents.
        kind: the field's kind, if the data have no field of this name.
        multiple: conditions with pixels may have any size whose sides are divisible by this, and what is generated has a size in
            proportion: networks that are fully convolutional. 0: only the sizes of the data.
    """

    field: str
    make: Callable[[Nets, Batch, Clock], Tensor]
    conditions: tuple[str, ...] = ()
    prior: Prior | None = None
    kind: Field | None = None
    multiple: int = 0


@dataclass(frozen=True)
class Abilities:
    """What the trained game can do.

    Args:
        outputs: what it generates, the main output first.
        encode: (nets, samples) -> their latents (n, prior.size); None if it cannot, as below.
        classify: (nets, samples) -> class logits (n, classes).
        judge: (nets, samples, inputs) -> the discriminator's scores (n,), higher for more realistic samples of the main output;
            `inputs` has the fields of its conditions.
    """

    outputs: Sequence[Output] = ()
    encode: Callable[[Nets, Tensor], Tensor] | None = None
    classify: Callable[[Nets, Tensor], Tensor] | None = None
    judge: Callable[[Nets, Tensor, Batch], Tensor] | None = None


@final
@dataclass
class Game:
    """Players, turns and abilities. Never subclassed: GAN families differ only in its contents.

    Args:
        players: by name; G and D as in papers.
        turns: in the order in which a round takes them.
        abilities: what the trained game offers downstream.
        batch: default batch size (real images per update).
        stage: the stage of training: a key that changes whenever tensor shapes or active layers change (a growing network). It
            should depend on `Clock.planned_progress`. Captured turns are captured again in each stage, and plays find the stage in
            `clock.stage`.
        streams: names of further streams of the same data with an order of their own: with `wrong`, each batch has `wrong_caption`,
            the captions of other images.
        augment: the method's own augmentation of what critics see, unless the user chooses one; see the setting of this name.
        resolved: options whose value `auto` the recipe replaced, by name. `run.json` records these values, so that a run continues
            with them on other machines.
        notes: what users should know about this game, as sentences; shown once when training begins.
        pretrained: the published networks, such as `lite0`, through which a critic sees the samples; those that a loss has as its
            attribute `pretrained` are added. They do not judge what they trained; see `metrics.choice`.
    """

    players: Mapping[str, Player]
    turns: Sequence[Turn]
    abilities: Abilities
    batch: int = 64
    stage: Callable[[Clock], Hashable] = lambda clock: None
    streams: Sequence[str] = ()
    augment: str = "none"
    resolved: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    notes: Sequence[str] = ()
    pretrained: Sequence[str] = ()

    def __post_init__(self) -> None:
        if wrong := [turn for turn in self.turns if not all(isinstance(term, Term) for term in turn.losses)]:
            raise ValueError(f"the losses of the turn {wrong[0].moves!r} must be a list of Term(name, loss)")
        losses = [term.loss for turn in self.turns for term in turn.losses]
        self.pretrained = sorted({*self.pretrained, *(name for loss in losses for name in getattr(loss, "pretrained", ()))})
        for before, turn in zip((None, *self.turns), self.turns, strict=False):
            if turn.same_round and (before is None or before.play is not turn.play or turn.repeat != 1):
                raise ValueError(
                    f"a turn of {turn.moves!r} has same_round, but does not directly follow a turn with the same play"
                )
            if unknown := [name for name in turn.movers if name not in self.players]:
                raise ValueError(f"a turn moves {unknown[0]!r}, but the players are: {', '.join(self.players)}")

    def at_stage(self, clock: Clock) -> Clock:
        """The clock with the current stage."""
        return replace(clock, stage=self.stage(clock))

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

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of these modules, by "module:tensor", contiguous and on the CPU."""
        return {
            f"{name}:{key}": value.detach().cpu().contiguous()
            for name, module in self.modules().items()
            for key, value in module.state_dict().items()
        }


Recipe = Callable[..., Game]
"""`(data: DataSpec, *, hyper-parameters with defaults) -> Game`, alone in a file of its own name."""


@contextmanager
def eval_mode(nets: Nets) -> Iterator[None]:
    """Puts networks into evaluation mode and restores the mode of each module afterwards."""
    training = [module for net in vars(nets).values() for module in net.modules() if module.training]
    for net in vars(nets).values():
        net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True

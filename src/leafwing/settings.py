"""What a training is told beside its recipe: every setting once, with its type, its default and its help.

A field's docstring is the help of its flag, and the guide's table of options is made from it. Names, flags, the sections of
`run.json`, and the names that no recipe may give to a hyper-parameter all follow from these classes: adding an option touches this
file, and the place that uses it. Nothing here imports torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from leafwing.errors import LeafwingError
from leafwing.quantities import count, duration, whole

Count = Annotated[int, "count"]
"""A number of images, written 200k or 1.5M."""
Seconds = Annotated[float, "duration"]
"""A duration in seconds, written 10m or 1h30m."""
Natural = Annotated[int, 0]
"""A whole number of at least 0."""
Positive = Annotated[int, 1]
"""A whole number of at least 1."""


@dataclass(frozen=True)
class Reading:
    """How pictures are read, and which of them are trained on."""

    size: tuple[int, int] | int | str | None = None
    """Height and width in pixels: 64, or 64x96 (height x width). Default: 64; 32 where the pictures are smaller."""
    channels: int | None = None
    """1 for grey, 3 for RGB, 4 for RGBA. Default: as the pictures are."""
    fit: Literal["crop", "pad", "stretch"] | None = None
    """How a picture of another shape is made to fit. Default: crop."""
    background: str | None = None
    """Colour behind transparency and padding: a name or #rrggbb. Default: white."""
    mirror: bool | None = None
    """Also show every picture mirrored left to right. Default: no."""
    hold_out: int | str | None = None
    """Pictures kept out of training for evaluation: a number, or auto. Default: none."""
    labelled: Positive | None = None
    """Pictures shown with their labels in a second stream, for recipes that need few labels. Default: no such stream."""
    labelled_seed: Natural | None = None
    """Random seed of the choice of labelled pictures. Default: 0."""


@dataclass(frozen=True)
class Schedule:
    """How long training lasts, and from what random numbers it starts."""

    images: Count = 200_000
    """Real images to show in all: 200k, 1.5M."""
    time: Seconds | None = None
    """Stop after this much training time, if that comes first: 10m, 1h30m. Default: no limit."""
    seed: Natural = 0
    """Random seed of the weights, the latents and the order of the data."""
    stop_on: str | None = None
    """Stop when this metric no longer improves: kid, prdc.recall, ... Default: never."""
    patience: Positive = 5
    """Checkpoints without improvement before --stop-on ends training."""


@dataclass(frozen=True)
class Watching:
    """What is done when training goes wrong."""

    health: Literal["warn", "stop", "roll_back", "off"] = "warn"
    """On a health alarm: warn, stop, or roll back to the last healthy checkpoint and halve the learning rates; off: no checks."""
    roll_backs: Natural = 3
    """Maximum number of roll-backs."""


@dataclass(frozen=True)
class Folder:
    """What training leaves in the run folder, and how often. 0 stands for an interval that was not chosen yet."""

    save_every: Count = 0
    """Images between checkpoints. Default: a twentieth of the images, or of those that --time allows."""
    keep_last: Positive = 2
    """Number of most recent checkpoints to keep."""
    keep_every: Natural = 5
    """Keep every N-th checkpoint permanently; 0: none."""
    grid_every: Count = 0
    """Images between sample grids. Default: a twentieth of the images, or of those that --time allows."""
    log_every: Count = 0
    """Images between lines of log.jsonl. Default: a two-hundredth of the images, at most 2,000."""


@dataclass(frozen=True)
class Machine:
    """Where and how the networks are computed. What is left open is chosen from what the machine has."""

    device: Annotated[str, ("auto", "cpu", "cuda", "mps")] | None = None
    """Device to train on. Default: auto, the first available of cuda, mps and cpu."""
    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Arithmetic precision. Default: auto, bf16 where the hardware computes it."""
    threads: int | str | None = None
    """CPU threads, or auto: fewer while other programs use the cores. Default: one per core available to the process."""
    layout: Literal["auto", "channels_last", "contiguous"] | None = None
    """Memory layout of images and convolutions. Default: auto, channels_last."""
    fused: bool | None = None
    """Fused optimisers (one kernel for all weights). Default: where available."""
    keep_freed: bool | None = None
    """Keep freed memory for the next step instead of returning it to the system (glibc). Default: yes."""
    products: bool | None = None
    """Compute convolutions of small feature maps as matrix products. Default: on a CPU with AMX, in bf16."""
    capture: bool | None = None
    """Record turns as CUDA graphs and replay them. Default: on CUDA."""
    compile: bool | None = None
    """Compile the networks with torch.compile, which takes long and pays on some GPUs. Default: no."""
    micro_batch: Natural | None = None
    """Micro-batch size (gradient accumulation): the same step with less memory. Default: the whole batch."""
    resident: bool | None = None
    """Keep the data set in device memory. Default: where it fits."""


@dataclass(frozen=True)
class Settings:
    """Everything that a training is told beside its source and its recipe."""

    reading: Reading = field(default_factory=Reading)
    schedule: Schedule = field(default_factory=Schedule)
    watching: Watching = field(default_factory=Watching)
    folder: Folder = field(default_factory=Folder)
    machine: Machine = field(default_factory=Machine)


Section = TypeVar("Section", Reading, Schedule, Watching, Folder, Machine)
SECTIONS: dict[str, type[Any]] = {
    "reading": Reading, "schedule": Schedule, "watching": Watching, "folder": Folder, "machine": Machine,
}  # fmt: skip
CALL = (
    "source",
    "recipe",
    "settings",
    "out",
    "root",
    "replay",
    "from",
    "devices",
    "tensorboard",
    "progress",
    "dry_run",
    "json",
)
"""What a call of `train`, or its command line, is told beside settings."""


@dataclass(frozen=True)
class Setting:
    """One setting as a command line and a guide show it.

    Args:
        name: of the field.
        section: the key of its class in `SECTIONS`.
        type: without the None that stands for "not chosen".
        default: of the field.
        help: its docstring, with the default.
        choices: values that it can have, where they are few.
    """

    name: str
    section: str
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...] = ()

    def convert(self, value: object) -> Any:
        """A value as it was typed or given, as this setting holds it.

        Raises:
            LeafwingError: it cannot be; the message names the setting.
        """
        if value is None:
            return None
        kind = get_args(self.type)[1] if get_origin(self.type) is Annotated else self.type
        if kind == "count":
            return count(value, self.name)  # type: ignore[arg-type]
        if kind == "duration":
            return duration(value, self.name)  # type: ignore[arg-type]
        if kind in (0, 1) and not isinstance(kind, bool):
            return whole(self.name, value, kind)
        if kind is bool:
            if str(value).lower() not in ("true", "false"):
                raise LeafwingError(f"{self.name} {value!r}: true or false")
            return str(value).lower() == "true"
        return value


@cache
def catalogue() -> dict[str, Setting]:
    """Every setting by name, in the order of the classes."""
    found: dict[str, Setting] = {}
    for section, kind in SECTIONS.items():
        hints, docs = get_type_hints(kind, include_extras=True), docstrings(kind)
        for one in fields(kind):
            inner = [part for part in get_args(hints[one.name]) if part is not type(None)]
            plain = inner[-1] if type(None) in get_args(hints[one.name]) else hints[one.name]
            choices = get_args(plain) if get_origin(plain) is Literal else ()
            if get_origin(plain) is Annotated and isinstance(get_args(plain)[1], tuple):
                plain, choices = get_args(plain)  # a few usual values, and others that the engine knows: cuda:1
            text = docs[one.name]
            if "Default:" not in text:
                text += f" Default: {'none' if one.default is None else f'{one.default:,}' if one.type == 'Count' else one.default}."
            found[one.name] = Setting(one.name, section, plain, one.default, text, choices)
    return found


def docstrings(kind: type[Any]) -> dict[str, str]:
    """The docstring below each field of a class, by the field's name."""
    body = next(node for node in _text().body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    found = {}
    for line, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
            assert isinstance(after.value, ast.Constant)
            found[line.target.id] = str(after.value.value)
    return found


@cache
def _text() -> ast.Module:
    return ast.parse(Path(__file__).read_text(encoding="utf-8"))


def reserved() -> frozenset[str]:
    """Names that no recipe may give to a hyper-parameter: those of settings and of the call itself."""
    return frozenset({*CALL, *catalogue()})


def separated(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords of a call as settings, checked, and everything else, which is a recipe's. What is None was not given."""
    known = catalogue()
    chosen = {name: known[name].convert(value) for name, value in given.items() if name in known and value is not None}
    return chosen, {name: value for name, value in given.items() if name not in known}


def given_in(settings: Settings) -> dict[str, Any]:
    """What settings say beside their defaults, by name."""
    found: dict[str, Any] = {}
    for section in fields(settings):
        part = getattr(settings, section.name)
        found |= {one.name: value for one in fields(part) if (value := getattr(part, one.name)) != one.default}
    return found


def updated(section: Section, given: Mapping[str, Any]) -> Section:
    """A section with what is given for its own fields; the rest of what is given belongs to others."""
    own = {one.name for one in fields(section)}
    return replace(section, **{name: value for name, value in given.items() if name in own})

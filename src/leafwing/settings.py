"""The settings of a training run besides its recipe, each defined once, with type, default and help.

A field's docstring is the help of its flag. The flags, the sections of `run.json`, the names that hyper-parameters must not use
and the tables of the guide (`make docs`) follow from these classes, so a new option is a field here and the code that uses it. Nothing
here imports torch.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from leafwing import augment_option
from leafwing.errors import InvalidOption
from leafwing.quantities import LARGEST, LONGEST, count, duration, ungrouped, whole

Count = Annotated[int, "count"]
"""A number of images, written 200k or 1.5M."""
Seconds = Annotated[float, "duration"]
"""A duration in seconds, written 10m or 1h30m."""


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a whole number."""

    least: int
    most: int = LARGEST


@dataclass(frozen=True)
class Form:
    """The form of a text: a function that returns the value of a text, and raises InvalidOption for one of another form."""

    read: Callable[[str], Any]


def auto_or(least: int, most: int = LARGEST) -> Form:
    """The form of `auto`, or of a whole number within bounds."""

    def read(text: str) -> int | str:
        try:
            return text if text == "auto" else whole(ungrouped(text), "", least, most)
        except InvalidOption as error:
            raise InvalidOption("", text, f"{error.reason}, or auto") from None

    return Form(read)


def _augmentation(text: str) -> str:
    """The text of an augmentation, checked."""
    augment_option.parse(text)
    return text


Natural = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
MAX_THREADS = 4096
"""More CPU threads than any machine has."""


@dataclass(frozen=True)
class DataSettings:
    """How images are read, and which of them are used for training."""

    size: tuple[int, int] | int | str | None = None
    """Height and width in pixels: 64, or 64x96 (height x width). Default: 64; 32 if the images are smaller, or without --recipe on
    a slow machine."""
    channels: int | None = None
    """1 grey, 2 grey + alpha, 3 RGB, 4 RGBA. Default: 1 or 3, as the images are, on --background where they are transparent."""
    fit: Literal["crop", "pad", "stretch", "tiles"] | None = None
    """Fitting images with another aspect ratio: crop (centre crop), pad (add bars) or stretch (distort); or tiles: large images
    are cut into tiles of this size at their own resolution. Default: crop."""
    crop_from: tuple[int, int] | int | str | None = None
    """Read images at this larger size, and train on random windows of --size, the same for all fields of a sample: --size 256
    --crop-from 286 (the shorter side, or height x width). Default: no windows."""
    bits: Literal["auto", "8", "16"] | None = None
    """Bits of greyscale images: 8; 16 if all images have them; auto, 16 if all images of a field have them. Default: auto with
    --input, else 8."""
    levels: str | None = None
    """Values of greyscale images that become black and white: 0:4095, -1000:400, or percentiles of all values, 1%:99%. Default: auto,
    from the values of all images with more than 8 bits; those with 8 bits are not changed."""
    input_levels: str | None = None
    """Values of greyscale inputs that become black and white, if inputs are files of their own. Default: auto, as for --levels."""
    background: str | None = None
    """Colour behind transparency and padding: a name or #rrggbb. Default: white."""
    mirror: bool | None = None
    """Randomly flip images horizontally (p = 0.5). Default: no."""
    input: str | None = None
    """Where the input of a translator comes from: left, right, top or bottom, a half of each image; grey, edges, blur, low2, low4,
    low8 or hole, derived from the images; a CSV file of pairs; a sub-folder; a file-name suffix; or a second source, unpaired.
    Default: no input."""
    labels: str | None = None
    """Where labels and attributes come from: folders, none, or a list in the source, such as train.csv. Default: labels.csv or another
    list that is recognised, else folders."""
    fields: str | None = None
    """Fields of the built-in sprites besides the image, separated by commas: caption,box. Default: label,attributes."""
    hold_out: Annotated[int | str, auto_or(0)] | None = None
    """Images held out of training for evaluation: a number, or auto (10%, but at least 1,000 and at most 25%; none if
    there are fewer than 500 images. For recipes that generate from images: 10%, none if there are fewer than 10). Default: none; auto
    with --stop-on, and for recipes that generate from images."""
    duplicates: Literal["keep", "first"] = "keep"
    """Images that repeat an earlier one, exactly or nearly: keep all, or only the first. `leafwing doctor` lists them."""
    labelled: Positive | None = None
    """Number of training images with labels or attributes, for semi-supervised recipes. Default: no labelled subset."""
    labelled_seed: Natural | None = None
    """Random seed for choosing the labelled images. Default: 0."""


READING_OPTIONS = (
    "size", "channels", "fit", "background", "mirror", "input", "fields", "crop_from", "bits", "levels", "input_levels", "labels",
)  # fmt: skip
"""Settings of `DataSettings` that are arguments of `data.load`."""


@dataclass(frozen=True)
class Schedule:
    """How long training lasts, and its random seed."""

    images: Count = 200_000
    """Training length in real images shown (not epochs): 200k, 1.5M. Default: 200,000 with --recipe; without, as many as --time
    allows."""
    time: Seconds | None = None
    """Stop after this much training time, with its checkpoints and samples, if that comes first: 10m, 1h30m; a number alone is
    seconds. Default: no limit with --recipe or --images; else an hour."""
    seed: Natural = 0
    """Random seed of the weights, the latents and the order of the data."""
    stop_on: str | None = None
    """Stop when this metric no longer improves: kid, recall, psnr, ... Default: never."""
    patience: Positive = 5
    """Checkpoints without improvement before --stop-on ends training."""


@dataclass(frozen=True)
class CriticSettings:
    """What critics see."""

    augment: Annotated[str, Form(_augmentation)] | None = None
    """Random changes of real and generated images before the discriminator sees them, for small data sets: diff (DiffAugment:
    color, translation and cutout; diff:color,translation for some of them; diff:p=0.7 for 70% of the images), ada (flips, rotations,
    shifts, scales and colours, with a probability that adapts to how well the critic tells real images from fakes), p=0.3 or p=0:0.3
    (the same with a given probability, or with one that changes from the start to the end of training), or none. Default: that of
    the recipe, mostly none."""


@dataclass(frozen=True)
class TransferSettings:
    """What a training takes over from another one."""

    start: str | None = None
    """Start from the weights of another run (folder, name or number; RUN@200k for an earlier checkpoint), as far as they fit; what
    does not fit is listed. Default: random weights."""
    freeze: str | None = None
    """Layers that are not trained: D:4, the first four of D in the order of its definition; D:4,G:2. Default: none."""


@dataclass(frozen=True)
class HealthSettings:
    """The response to training problems."""

    health: Literal["warn", "stop", "rollback", "off"] = "warn"
    """Response to a health alarm: warn, stop, or rollback (return to the last healthy checkpoint and halve the learning rates);
    off: no checks."""
    max_rollbacks: Natural = 3
    """Maximum number of rollbacks."""


@dataclass(frozen=True)
class OutputSettings:
    """What training writes into the run folder, and how often. 0: the interval is not chosen yet."""

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
class HardwareSettings:
    """Where and how the networks are computed. None: chosen to suit the machine."""

    device: Annotated[str, ("auto", "cpu", "cuda", "mps")] | None = None
    """Device to train on. Default: auto, the first available of cuda, mps and cpu."""
    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Arithmetic precision. Default: auto, the faster of the two on this device."""
    threads: Annotated[int | str, auto_or(1, MAX_THREADS)] | None = None
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
    """Capture training steps as CUDA graphs. Default: on CUDA."""
    compile: bool | None = None
    """Compile the networks with torch.compile, which is slow to start and worthwhile on some GPUs. Default: no."""
    micro_batch: Natural | None = None
    """Micro-batch size (gradient accumulation): the same step with less memory. Default: the whole batch."""
    resident: bool | None = None
    """Keep the data set in device memory. Default: where it fits."""


@dataclass(frozen=True)
class Settings:
    """All settings of a training run besides its source and its recipe."""

    reading: DataSettings = field(default_factory=DataSettings)
    schedule: Schedule = field(default_factory=Schedule)
    critic: CriticSettings = field(default_factory=CriticSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    watching: HealthSettings = field(default_factory=HealthSettings)
    folder: OutputSettings = field(default_factory=OutputSettings)
    machine: HardwareSettings = field(default_factory=HardwareSettings)


Section = TypeVar(
    "Section", DataSettings, Schedule, CriticSettings, TransferSettings, HealthSettings, OutputSettings, HardwareSettings
)
SECTIONS: dict[str, type[Any]] = {
    "reading": DataSettings, "schedule": Schedule, "critic": CriticSettings, "transfer": TransferSettings,
    "watching": HealthSettings, "folder": OutputSettings, "machine": HardwareSettings,
}  # fmt: skip
REVOCABLE = ("start", "freeze", "stop_on", "input", "crop_from", "labelled")
"""Settings that `none` turns off, because a replayed run may have them."""
TRAIN_ARGUMENTS = (
    "source",
    "recipe",
    "settings",
    "out",
    "root",
    "replay",
    "from",
    "devices",
    "or_resume",
    "tensorboard",
    "progress",
    "dry_run",
    "verbose",
    "json",
)
"""Arguments of `train`, or of its command line, that are not settings."""
COMMAND_LINE = ("sources", "help", "help_all")
"""Further words of its command line."""
ARGUMENT_HELP = {
    "recipe": "A recipe, or the path of a recipe file. Default: chosen from the images, this machine and --time; --dry-run shows "
    "what.",
    "out": "The run folder, which must not exist. Default: numbered under --root.",
    "root": "Folder that contains the numbered run folders.",
    "replay": "Start from the settings of an earlier run (its folder or run.json); options given here take precedence.",
}
"""Help texts of those that are arguments in Python too, with the names of flags."""
INSTEAD = {
    "labels": "Labels are given with their images: leafwing.train((images, labels), ...)",
    "input": "Save an array with numpy.save('inputs.npy', array) and give its path",
}
"""What to do instead of giving arrays and lists as settings that are texts."""


@dataclass(frozen=True)
class Setting:
    """One setting, as the command line and the guide show it.

    Args:
        name: name of the field.
        section: key of its class in `SECTIONS`.
        type: type of the value, without the None that means "not chosen".
        default: default of the field.
        help: docstring of the field, with the default.
        choices: the possible values, if there are few.
        is_closed: whether no other values are possible.
        is_text: whether all values are texts.
    """

    name: str
    section: str
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    is_closed: bool = False
    is_text: bool = False

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The smallest and the largest number, as it is stored; of an interval, 0 means that it is not chosen yet. None: no number."""
        kind = get_args(self.type)[1] if get_origin(self.type) is Annotated else None
        if kind == "count":
            return 0 if self.default == 0 else 1, LARGEST
        if kind == "duration":
            return 0, LONGEST
        return (kind.least, kind.most) if isinstance(kind, Range) else None

    def convert(self, value: object) -> Any:
        """The value of a command line or a keyword argument, in this setting's type.

        Raises:
            LeafwingError: an invalid value; the message names the setting.
        """
        if value is None or (self.name in REVOCABLE and isinstance(value, str) and value == "none"):
            return None
        if self.is_closed:
            value = str(value)
            if value not in self.choices:
                raise InvalidOption(self.name, value, f"choose from {', '.join(self.choices)}")
            return value
        if self.choices:  # of a device, which may be torch's
            if str(value).partition(":")[0] not in self.choices:
                raise InvalidOption(self.name, value, f"choose from {', '.join(self.choices)}")
            return str(value)
        if self.is_text:
            return self._text(value)
        kind = get_args(self.type)[1] if get_origin(self.type) is Annotated else self.type
        if kind == "count":
            return count(value, self.name)  # type: ignore[arg-type]
        if kind == "duration":
            return duration(value, self.name)  # type: ignore[arg-type]
        if isinstance(kind, Range):
            return whole(value, self.name, kind.least, kind.most)
        if isinstance(kind, Form):
            text = str(value) if hasattr(value, "__index__") and not isinstance(value, bool) else self._text(value)
            try:
                return kind.read(text)
            except InvalidOption as error:
                raise InvalidOption(self.name, value, error.reason) from None
        if kind is bool:
            if str(value).lower() not in ("true", "false"):
                raise InvalidOption(self.name, value, "must be true or false")
            return str(value).lower() == "true"
        return value

    def _text(self, value: object) -> str:
        """A text, a path or a number as text.

        Raises:
            InvalidOption: something else; the message says what the setting means.
        """
        if isinstance(value, str | os.PathLike):
            return os.fspath(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        instead = INSTEAD.get(self.name, self.help)
        raise InvalidOption(self.name, value, f"must be text, not {type(value).__name__}. {instead}")


@cache
def all_settings() -> dict[str, Setting]:
    """Every setting by name, in the order of the classes."""
    settings: dict[str, Setting] = {}
    for section, kind in SECTIONS.items():
        hints, docs = get_type_hints(kind, include_extras=True), docstrings(kind)
        for item in fields(kind):
            hint = hints[item.name]
            types = [part for part in get_args(hint) if part is not type(None)]
            plain = types[-1] if type(None) in get_args(hint) else hint
            is_closed = get_origin(plain) is Literal
            choices = get_args(plain) if is_closed else ()
            if get_origin(plain) is Annotated and isinstance(get_args(plain)[1], tuple):
                plain, choices = get_args(plain)  # the usual values; with a number behind a colon there are more: cuda:1
            text = docs[item.name]
            if "Default:" not in text:
                default = f"{item.default:,}" if item.type == "Count" else item.default
                text += f" Default: {'none' if default is None else default}."
            settings[item.name] = Setting(item.name, section, plain, item.default, text, choices, is_closed, types == [str])
    return settings


def docstrings(kind: type[Any]) -> dict[str, str]:
    """The docstring below each field of a class, by the field's name."""
    body = next(node for node in _module().body if isinstance(node, ast.ClassDef) and node.name == kind.__name__).body
    texts = {}
    for line, after in pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(after, ast.Expr):
            assert isinstance(after.value, ast.Constant)
            texts[line.target.id] = " ".join(str(after.value.value).split())
    return texts


@cache
def _module() -> ast.Module:
    return ast.parse(Path(__file__).read_text(encoding="utf-8"))


def reserved_names() -> frozenset[str]:
    """Names that hyper-parameters of recipes must not use: those of settings and of arguments of `train`."""
    return frozenset({*TRAIN_ARGUMENTS, *COMMAND_LINE, *all_settings()})


def split_keywords(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits keyword arguments into settings, converted and without None values, and the rest: options of the recipe.

    The word `none` for one of `REVOCABLE` is a setting with the value None, which a replayed run does not replace.

    Raises:
        LeafwingError: an invalid value of a setting.
    """
    known = all_settings()
    settings = {name: known[name].convert(value) for name, value in keywords.items() if name in known and value is not None}
    return settings, {name: value for name, value in keywords.items() if name not in known}


def non_defaults(settings: Settings) -> dict[str, Any]:
    """The settings that differ from their defaults, by name."""
    values: dict[str, Any] = {}
    for section in SECTIONS:
        part = getattr(settings, section)
        values |= {item.name: value for item in fields(part) if (value := getattr(part, item.name)) != item.default}
    return values


def replace_fields(section: Section, values: Mapping[str, Any]) -> Section:
    """A copy of a section with new values for its fields; names of other sections are ignored."""
    names = {item.name for item in fields(section)}
    return replace(section, **{name: value for name, value in values.items() if name in names})

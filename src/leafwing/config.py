"""The content of `run.json`: its sections as classes, and reading them from plain JSON; lines of logs and of results; files of earlier
versions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict

from msgspec import Meta

from leafwing import files
from leafwing.errors import LeafwingError
from leafwing.fields import Attributes, Field, Image, Label, Vector, from_dict
from leafwing.files import Typed
from leafwing.game import DataSpec
from leafwing.quantities import LARGEST, LONGEST
from leafwing.recipes import Value
from leafwing.settings import (
    SECTIONS,
    CriticSettings,
    HardwareSettings,
    HealthSettings,
    OutputSettings,
    Schedule,
    TransferSettings,
    all_settings,
)

Natural = Annotated[int, Meta(ge=0, le=LARGEST)]
Positive = Annotated[int, Meta(ge=1, le=LARGEST)]
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Seconds = Annotated[float, Meta(ge=0, le=LONGEST)]
"""Numbers in files."""
DAMAGED_LINE = "restore the file from a copy, or delete the line"
SAVED = ("schedule", "critic", "transfer", "watching", "folder", "machine")
"""The sections of settings in `run.json`. How images are read is in its section `data`, as it was resolved."""


@dataclass(frozen=True)
class BestCheckpoint:
    """The best checkpoint so far, and the metric that decided."""

    images: Natural
    metric: str
    value: Finite | None


@dataclass(frozen=True)
class ThreadChange:
    """A change of the number of CPU threads during training."""

    images: Natural
    threads: Positive


@dataclass(frozen=True)
class DataChange:
    """A change of the training data when a run was resumed.

    Args:
        images: number of images shown until then.
        fingerprint: fingerprint of the data until then.
        samples: number of its samples.
    """

    images: Natural
    fingerprint: str
    samples: Natural


@dataclass(frozen=True)
class Start:
    """The weights of another run with which training began.

    Args:
        folder: that run.
        images: its checkpoint.
        sha256: hash of the file of weights.
        loaded, of: number of tensors that were loaded, of those of the new networks.
        before: the images that the weights were trained on with which that run began.
    """

    folder: str
    images: Natural
    sha256: str
    loaded: Natural
    of: Natural
    before: Natural = 0


@dataclass(frozen=True)
class OptionChange:
    """A change of hyper-parameters when a run was resumed: learning rates, the batch size.

    Args:
        images: it holds from the first round that starts at this many images or later.
        before: their values until then, by name.
        after: their values from then on.
    """

    images: Natural
    before: dict[str, Value]
    after: dict[str, Value]

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value} ({self.before[name]} before)" for name, value in self.after.items())
        return f"{values} from {self.images:,} images on"


@dataclass(frozen=True)
class History:
    """Section `history` of `run.json`, which training itself writes.

    Args:
        best: the best checkpoint, if a metric decides when to stop.
        rolled_back: rollbacks: `from` and `to` (images), `why`, and `rate`, the factor of the learning rates from then on.
        thread_changes: changes of the number of CPU threads, made or still to be repeated by a replay.
        open_intervals: intervals of checkpoints and grids that are still to be determined from the time limit.
        derived_intervals: intervals that follow from the length of training, and follow it if it changes.
        intervals_since: images shown when they last followed it; checkpoints from before all stay.
        stop_features: the feature network with which a metric decides when to stop; None if none was chosen.
        planned: the number of images planned when training began, if it has been extended since; 0 if not.
        data_changes: changes of the training data.
        start: the weights of another run with which training began.
        option_changes: changes of hyper-parameters, made or still to be repeated by a replay or after a rollback. `options` in
            `run.json` has the values after all of them.
        trained_on_held_out: whether held-out samples were shown in training all the same, or may have been: in the training from
            whose weights this one began, or before the data changed.
        no_improvement: images shown when a metric last ended training; patience counts from there if the run is resumed. 0: never.
        processes: the processes on each machine that share the cores, each with as many threads as `machine` says.
    """

    best: BestCheckpoint | None = None
    rolled_back: tuple[dict[str, Any], ...] = ()
    thread_changes: tuple[ThreadChange, ...] = ()
    open_intervals: tuple[str, ...] = ()
    derived_intervals: tuple[str, ...] = ()
    intervals_since: Natural = 0
    stop_features: str | None = None
    planned: Natural = 0
    data_changes: tuple[DataChange, ...] = ()
    start: Start | None = None
    option_changes: tuple[OptionChange, ...] = ()
    trained_on_held_out: bool = False
    no_improvement: Natural = 0
    processes: Positive = 1

    @property
    def before(self) -> int:
        """The images that the weights were trained on with which training began; 0 for random ones."""
        return self.start.before + self.start.images if self.start else 0


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Section `data` of `run.json`.

    Args:
        source: folder, archive or built-in name; of joined sources all paths, in words.
        options: how images are read, resolved: size, channels, fit, background, mirror, and input, fields, crop_from and bits if they
            were chosen. A second source, which provides the input, is an absolute path or a built-in name.
        fingerprint: hash of names, contents, labels and options.
        samples: number of samples, including the held-out ones.
        rejected: number of rejected images.
        duplicates: number of samples that are not used because they repeat an earlier one; None: repetitions are used.
        held_out: number of samples held out of training.
        held_out_by: `input` if samples with equal inputs are on the same side of the split; None if no inputs are equal, and for runs
            of earlier versions.
        labelled: number of samples in a second stream, with labels; None without one.
        labelled_seed: random seed of their choice.
        spec: what the recipe knows of the data.
        examples: the conditions of some real samples by field, as `Dataset.examples` returns them; sampling follows them.
        parts: the fingerprints of the two sources by field, `image` and `input`; `input_labels`, the option `labels` with which the
            second one was read (runs of earlier versions have none); None without a second source.
        sources: the absolute paths of joined sources, by the names that they are read under; None for one source.
    """

    source: str
    options: dict[str, Any]
    fingerprint: str
    samples: Natural
    rejected: Natural
    duplicates: Natural | None = None
    held_out: Natural = 0
    held_out_by: str | None = None
    labelled: Natural | None = None
    labelled_seed: Natural | None = None
    spec: DataSpec
    examples: dict[str, list[Any]] | None = None
    parts: dict[str, str] | None = None
    sources: dict[str, str] | None = None

    @property
    def used(self) -> int:
        """Number of samples in training and held out."""
        return self.samples - (self.duplicates or 0)

    @property
    def origin(self) -> str | Mapping[str, str]:
        """The source, as `leafwing.data.load` takes it."""
        return self.sources or self.source

    def as_dict(self) -> dict[str, Any]:
        """The section as plain JSON, without what is None."""
        values = {item.name: getattr(self, item.name) for item in fields(self)} | {"spec": self.spec.as_dict()}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The content of `run.json` that a run needs; it also holds `versions`."""

    recipe: str
    options: dict[str, Value]
    data: DataConfig
    schedule: Schedule
    watching: HealthSettings
    folder: OutputSettings
    machine: HardwareSettings
    critic: CriticSettings = field(default_factory=CriticSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    conditions: tuple[str, ...] = ()
    pretrained: tuple[str, ...] = ()
    history: History = field(default_factory=History)


def convert_json(path: Path, plain: Any, kind: type[Typed], section: str = "") -> Typed:
    """The plain JSON content of a file, or of a section of it, as an object of this type.

    Raises:
        LeafwingError: it does not match; the message names the file, the key and the expected type.
    """
    return files.convert(path, plain, kind, section, field=_convert_field)


def _convert_field(kind: type[Any], plain: Any) -> Any:
    """A field of a DataSpec from plain JSON; ValueError if it is none."""
    import msgspec

    if kind is not Field:
        raise ValueError(f"not a field: {plain}")
    try:
        return from_dict(plain)
    except msgspec.ValidationError as error:  # as a ValueError, its place gets the place of the field as prefix
        raise ValueError(str(error).replace(" - at `$.", " in `")) from None


RENAMED = {
    "checkpoint": "save_every", "keep": "keep_last", "samples": "grid_every", "log": "log_every", "roll_backs": "max_rollbacks",
}  # fmt: skip
"""Settings that had other names in earlier versions: old -> new."""


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """A `run.json` in the present format.

    Before settings had sections, all of them were in one section `training`; `rollback` was `roll_back`; and the data had no
    fields but a shape, labels and attributes, with attributes of real samples in `combinations`.
    """
    data = config.get("data", {})
    if "fields" in (spec := data.get("spec", {})) and not isinstance(spec["fields"], dict):
        config = config | {"data": _upgrade_data(data)}
    training = {RENAMED.get(name, name): value for name, value in config.get("training", config.get("watching", {})).items()}
    if training.get("health") == "roll_back":
        training["health"] = "rollback"
    if "training" not in config:
        return config | ({"watching": training} if "watching" in config else {})
    new = {name: value for name, value in config.items() if name != "training"}
    for section in SAVED:
        names = {item.name for item in fields(SECTIONS[section])}
        new[section] = {name: value for name, value in training.items() if name in names and value is not None}
    new["history"] = {item.name: training[item.name] for item in fields(History) if training.get(item.name) is not None}
    return new


class _AnyRecord(TypedDict, total=False):
    images: Required[Natural]
    seconds: Seconds
    images_per_second: Finite
    translates: bool
    diverged: str
    alarms: list[dict[str, Any]]
    rolled_back: dict[str, Any]


class LogRecord(_AnyRecord, total=False):
    """A line of `log.jsonl`, as far as commands read it."""

    losses: dict[str, Finite]
    round: Natural


class CheckRecord(_AnyRecord):
    """One that was written at a health check."""

    health: dict[str, Finite | None]
    losses: dict[str, Finite]
    round: Natural


class StoredScale(TypedDict):
    """The scale of a number, see `metrics.scale.Scale.of`."""

    real: Finite | None
    noise: Finite | None
    others: Literal["training images", "other real images", "halves"]
    n_real: Natural
    n_others: Natural
    n_noise: Natural


class MetricRow(TypedDict, total=False):
    """A line of `metrics.jsonl`, as far as commands read it; all versions have written the required keys."""

    metric: Required[str]
    by: Required[str]
    run: Required[str]
    images: Required[Natural]
    n: Required[Natural]
    value: Required[Finite | None]
    low: Required[Finite | None]
    high: Required[Finite | None]
    better: Required[str]
    protocol: Required[dict[str, Any]]
    fingerprint: Required[str]
    by_class: dict[str, Finite]
    variety: Finite
    scale: StoredScale | None
    verdict: str
    words: str
    page: str
    report: str


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a `log.jsonl` in the present format, without a last line that is incomplete because the process was killed.

    Raises:
        LeafwingError: another line is damaged; the message names it.
    """
    lines = files.json_lines(path)
    records = []
    for number, _, plain in lines:
        if plain is None and number != lines[-1].number:
            raise LeafwingError(f"{path}, line {number}: not a JSON object; {DAMAGED_LINE}")
        if plain is not None:
            section = f"line {number}"
            files.convert(path, plain.get("health", {}), dict[str, Any], f"{section}.health", DAMAGED_LINE)
            files.convert(path, plain.get("alarms", []), list[dict[str, Any]], f"{section}.alarms", DAMAGED_LINE)
            record = upgrade_record(plain)
            files.convert(path, record, CheckRecord if "health" in record else LogRecord, section, DAMAGED_LINE)
            records.append(record)
    return records


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`, oldest first, without lines that are incomplete because a process was killed.

    Raises:
        LeafwingError: a line is damaged in another way; the message names it.
    """
    lines = files.json_lines(path)
    for line in lines:
        if line.row is not None:
            files.convert(path, line.row, MetricRow, f"line {line.number}", DAMAGED_LINE)
        elif not line.is_cut and line is not lines[-1]:
            raise LeafwingError(f"{path}, line {line.number}: not a JSON object; {DAMAGED_LINE}")
    return [line.row for line in lines if line.row is not None]


def check_bounds(path: Path, config: Config) -> None:
    """Raises LeafwingError for a number among the settings of a `run.json` that no option may have."""
    for name, setting in all_settings().items():
        if setting.section not in SAVED or setting.bounds is None:
            continue
        value, (least, most) = getattr(getattr(config, setting.section), name), setting.bounds
        if value is not None and not least <= value <= most:
            raise LeafwingError(
                f"{path}: {setting.section}.{name}: {value} is not from {least} to {most:,}; {files.RESTORE}"
            )


RENAMED_SIGNALS = {"echo": "conditional_variety", "held": "held_out_separation"}
"""Health signals that had other names in earlier versions: old -> new."""


def upgrade_record(record: dict[str, Any]) -> dict[str, Any]:
    """A line of `log.jsonl` in the present format.

    In earlier versions `losses` was `costs`, two health signals had other names, the symptom of an alarm was `about`, and alarms of
    the kind `stagnation` were `still`.
    """
    if "costs" not in record:
        return record
    new = {"losses" if key == "costs" else key: value for key, value in record.items()}
    if "health" in new:
        new["health"] = {RENAMED_SIGNALS.get(name, name): value for name, value in new["health"].items()}
    if "alarms" in new:
        new["alarms"] = [_upgrade_alarm(alarm) for alarm in new["alarms"]]
    return new


def _upgrade_alarm(alarm: Mapping[str, Any]) -> dict[str, Any]:
    """An alarm in a line of `log.jsonl` in the present format."""
    new = {"symptom" if key == "about" else key: value for key, value in alarm.items()}
    return new | {"kind": "stagnation" if new.get("kind") == "still" else new.get("kind")}


def _upgrade_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The section `data` of a `run.json` without fields in the present format."""
    old = data["spec"]
    kinds: dict[str, Field] = {
        "image": Image(old["height"], old["width"], old["channels"]) if old["height"] else Vector(old["channels"]),
        "label": Label(tuple(old["labels"])),
        "attributes": Attributes(tuple(old["attributes"])),
    }
    spec = DataSpec({name: kinds[name.removeprefix("labelled_")] for name in old["fields"]})
    examples: dict[str, list[Any]] = {}
    for text in (data.get("combinations") or "").split():
        label, _, attributes = text.rpartition(":")
        examples.setdefault("attributes", []).append(attributes)
        if label:
            examples.setdefault("label", []).append(int(label))
    new = {name: value for name, value in data.items() if name != "combinations"}
    return new | {"spec": spec.as_dict()} | ({"examples": examples} if examples else {})

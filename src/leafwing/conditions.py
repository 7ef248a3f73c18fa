"""Conditions: from what users say, such as `label="cat"` or `caption="a red star"`, to the inputs of an output.

Conditions that the user leaves open follow the real data: `Examples` holds the conditions of some real samples, and an unspecified
condition is taken from one of them that matches the specified ones. torch is imported only where a tensor is created, so that wrong
names and values are refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.fields import Attributes, Caption, Clip, Field, Image, Label
from leafwing.game import Batch, DataSpec, Output
from leafwing.pixels import as_tensor

if TYPE_CHECKING:
    from torch import Tensor

FAR = 4.0
"""Networks without a final activation leave [-1, 1] a little; values beyond this are in another unit."""
UNSET = 0.5
"""In the format of networks, an attribute that an output which edits samples leaves as it is; see `Output`."""


@dataclass(frozen=True)
class Examples:
    """The conditions of some real samples.

    Args:
        columns: stored samples of fields by name, all of one length.
    """

    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, spec: DataSpec, columns: Mapping[str, Sequence[Any]]) -> Examples:
        """From the plain JSON that `Dataset.examples` returns."""
        return cls({name: spec.fields[name].from_plain(values) for name, values in columns.items() if name in spec.fields})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def settable(output: Output, spec: DataSpec) -> list[str]:
    """The names that users can set: the conditions without pixels, and the attributes by their own names."""
    names = [name for name in output.conditions if not spec.fields[name].has_pixels and name != "attributes"]
    attributes = spec.fields.get("attributes")
    return names + (attributes.settable if "attributes" in output.conditions and isinstance(attributes, Attributes) else [])


def pixel_conditions(output: Output, spec: DataSpec) -> list[str]:
    """The conditions that are images, masks and so on."""
    return [name for name in output.conditions if spec.fields[name].has_pixels]


def edits(output: Output) -> bool:
    """Whether an output is generated from the field that it belongs to: it changes samples."""
    return output.field in output.conditions


def way_back(output: Output, outputs: Sequence[Output], spec: DataSpec) -> Output | None:
    """The output that translates samples of another back into what they were generated from; None if there is none."""
    sources = pixel_conditions(output, spec)
    if len(sources) != 1:
        return None
    return next(
        (
            other
            for other in outputs
            if other.field == sources[0] != output.field and pixel_conditions(other, spec) == [output.field]
        ),
        None,
    )


def parse_settings(texts: Sequence[str], output: Output, spec: DataSpec) -> dict[str, str]:
    """Settings by name from texts NAME=VALUE: `["caption=a red star", "smiling=1,colour=red"]`.

    Values may contain commas. One text may hold several attributes, separated by commas.

    Raises:
        LeafwingError: another format, or two values of one name.
    """
    kind = spec.fields.get("attributes")
    attributes = set(kind.settable) if "attributes" in output.conditions and isinstance(kind, Attributes) else set()
    values: dict[str, str] = {}
    for text in texts:
        text = str(text)
        parts = re.split(r",(?=[^,=]+=)", text)
        if not attributes.issuperset(part.partition("=")[0].strip() for part in parts):
            parts = [text]
        for setting in parts:
            name, equals, value = (part.strip() for part in setting.partition("="))
            if not (name and equals and value):
                raise InvalidOption(
                    "conditions", setting, "write NAME=VALUE, as in smiling=1 or caption=a red star", flag="set"
                )
            if values.setdefault(name, value) != value:
                raise LeafwingError(f"--set {name} is given twice, as {values[name]} and as {value}")
    return values


def read_settings(
    settings: Sequence[str] | Mapping[str, Any], output: Output, spec: DataSpec, label: str | int | None = None
) -> dict[str, Any]:
    """Settings by name, from a mapping, or from one or several texts NAME=VALUE.

    Args:
        settings: by name, or texts; see `parse_settings`.
        output: what is generated.
        spec: the data's fields.
        label: the setting of this name, if it is given separately.

    Raises:
        LeafwingError: a text of another format, two values of one name, or a label of a run without labels.
    """
    if label is not None and "label" not in output.conditions:
        raise InvalidOption("label", label, _lacks(output, spec, "label"))
    texts = [settings] if isinstance(settings, str) else settings
    named = dict(texts) if isinstance(texts, Mapping) else {**parse_settings(texts, output, spec)}
    if label is None:
        return named
    if str(named.get("label", label)) != str(label):
        raise LeafwingError(f"label is given twice, as {named['label']} and as {label}")
    return named | {"label": label}


def from_settings(output: Output, spec: DataSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions by field from settings by name: attributes may be set by their own names, `{"smiling": "1", "label": "7"}`.

    Raises:
        LeafwingError: nothing of this name can be set.
    """
    known = settable(output, spec)
    conditions: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            reason = (
                f"no condition {name!r}{did_you_mean(name, known)}"
                if known
                else _lacks(output, spec, "label", "attributes", "caption")
            )
            raise InvalidOption("conditions", f"{name}={value}", reason, flag="set")
        if name in output.conditions:
            conditions[name] = value
        else:
            conditions.setdefault("attributes", {})[name] = value
    return conditions


def _lacks(output: Output, spec: DataSpec, *names: str) -> str:
    """That an output is generated without these conditions, and what to do."""
    words = {"label": "labels", "attributes": "attributes", "caption": "captions"}
    *others, last = [words[name] for name in names]
    lacking = f"this run was trained without {', '.join(others)}{' or ' if others else ''}{last}"
    if known := settable(output, spec):
        return f"{lacking}; --set can set {', '.join(known)}"
    if sources := " and ".join(pixel_conditions(output, spec)):
        return f"{lacking}: its {output.field} is generated from {sources} (`leafwing translate RUN PICTURES`)"
    if unused := [words[name] for name in names if name in spec.fields]:
        data = " and ".join(unused)
        return f"{lacking}: the data have {data}, which its recipe does not use; `leafwing recipes` lists those that do"
    return (
        f"{lacking}. Labels come from a folder for each class, or a list (docs/guide/pictures.md), and the recipe has to use them: "
        "`leafwing recipes` lists those that do"
    )


def _needs_pictures(output: Output, spec: DataSpec, pixels: Sequence[str]) -> LeafwingError:
    """The error about an output whose conditions include images; `pixels`: these conditions."""
    return LeafwingError(
        f"this run generates its {output.field} from {' and '.join(pixels)} ({spec.fields[pixels[0]]}), not from latents alone: "
        "`leafwing translate RUN PICTURES` (from Python: model.translate)"
    )


def ignored_words(spec: DataSpec, settings: Mapping[str, Any]) -> list[str]:
    """One sentence for each caption, given as a text, of which some words are ignored."""
    kinds = {
        name: kind for name, kind in spec.fields.items() if isinstance(kind, Caption) and isinstance(settings.get(name), str)
    }
    return [
        f"{name}: {', '.join(words)} ignored: not a word of the training captions, or beyond {kind.length} words"
        for name, kind in kinds.items()
        if (words := kind.ignored(settings[name]))
    ]


def open_fields(output: Output, spec: DataSpec, settings: Mapping[str, Any]) -> list[str]:
    """The conditions, other than images, labels and attributes, that are not set."""
    kinds = {name: spec.fields[name] for name in output.conditions if settings.get(name) is None}
    return [name for name, kind in kinds.items() if not (kind.has_pixels or isinstance(kind, Label | Attributes))]


def resolve(
    output: Output,
    spec: DataSpec,
    examples: Examples,
    n: int,
    seed: int,
    conditions: Mapping[str, Any],
    *,
    first: int = 0,
) -> Batch:
    """The conditions of n samples, in the format of networks, on the CPU.

    Unspecified labels take all classes in turn. All other unspecified conditions are those of a random example that has the
    specified label and attributes; if there is none, those of any example, changed where they were specified. The choice depends only
    on the seed and on the sample's number. For an output that edits samples, unspecified attributes are `UNSET`.

    Args:
        output: what is generated.
        spec: the data's fields.
        examples: the conditions of real samples.
        n: number of samples.
        seed: random seed.
        conditions: by field. One value for all samples, a sequence of n values, or a tensor (n, ...) in the format of networks; for
            `attributes` also some of them by name, `{"smiling": 1, "colour": "red"}`.
        first: the number of the first sample.

    Raises:
        LeafwingError: an unknown condition, an invalid value, a wrong number of values, or one that has to be specified.
    """
    import torch

    for name in conditions:
        if name not in output.conditions:
            takes = ", ".join(output.conditions) or "no conditions"
            raise LeafwingError(f"this run does not generate its {output.field} from {name!r}; it takes {takes}")
    open_names = [name for name in output.conditions if conditions.get(name) is None]
    if pixels := [name for name in open_names if spec.fields[name].has_pixels]:
        raise _needs_pictures(output, spec, pixels)
    partial = conditions.get("attributes") if isinstance(conditions.get("attributes"), Mapping) else None
    result = Batch()
    for name in output.conditions:
        if name not in open_names and not (name == "attributes" and partial is not None):
            result[name] = _values(name, spec.fields[name], conditions[name], n)
    label = spec.fields.get("label")
    if "label" in open_names and isinstance(label, Label):
        result["label"] = torch.arange(first, first + n) % len(label.names)
    kind = spec.fields.get("attributes")
    if edits(output) and "attributes" in output.conditions and "attributes" not in result and isinstance(kind, Attributes):
        chosen = kind.columns(partial or {})
        result["attributes"] = torch.tensor([float(chosen.get(i, UNSET)) for i in range(len(kind.names))]).expand(n, -1)
    remaining = [name for name in output.conditions if name not in result]
    if remaining:
        classes = result["label"].numpy() if "label" in result else None
        random = np.random.Philox(np.random.SeedSequence((seed, 0))).random_raw(first + n)[first:].astype(np.uint64)
        rows = _example_rows(spec, examples, random, seed, classes, partial or {}, remaining)
        result |= {name: spec.fields[name].to_network(torch.from_numpy(values)) for name, values in rows.items()}
    return Batch({name: result[name] for name in output.conditions})


def _values(name: str, kind: Field, value: Any, n: int) -> Tensor:
    """The values of one condition: (n, ...)."""
    import torch

    if isinstance(value, np.ndarray | np.generic):
        value = as_tensor(np.asarray(value)) if value.dtype.kind in "biuf" else value.tolist()
    if isinstance(value, torch.Tensor):
        if isinstance(kind, Label | Caption):
            _require_whole(name, value)
        if value.shape == kind.shape and isinstance(kind, Label):
            value = int(value)
        else:
            return _tensor(name, kind, value, n)
    if isinstance(kind, Attributes) and not isinstance(value, str):
        try:
            return _tensor(name, kind, torch.as_tensor(value), n)
        except (TypeError, ValueError):
            raise LeafwingError(
                f"{name}: give zeros and ones, in the order {', '.join(kind.names)}, for each sample"
            ) from None
    if isinstance(value, str | int | float) or not _is_list_of_values(kind, value):
        return kind.parse(value).expand(n, *kind.shape)
    if len(value) != n:
        raise LeafwingError(f"{len(value)} values of {name} for {n} samples: give one, or one per sample")
    if isinstance(kind, Label):
        return torch.tensor([kind.index(item) for item in value], dtype=torch.int64)
    return torch.stack([kind.parse(item) for item in value])


def _require_whole(name: str, value: Tensor) -> None:
    """Raises LeafwingError if some of the numbers are not whole."""
    if value.is_floating_point() and (wrong := value[~value.isfinite() | (value != value.round())]).numel():
        raise LeafwingError(f"{name}: give whole numbers, which are indices, not {wrong.flatten()[0]:g}")


def _is_list_of_values(kind: Field, value: Any) -> bool:
    """Whether a sequence has one value per sample, as opposed to the numbers of a single box or vector."""
    if isinstance(kind, Label | Caption):
        return True
    return bool(len(value)) and not isinstance(value[0], int | float)


def _tensor(name: str, kind: Field, value: Tensor, n: int) -> Tensor:
    """A tensor (n, ...), or of a single value for all samples, checked."""
    if value.shape == kind.shape and value.dim():
        value = value.expand(n, *kind.shape)
    if tuple(value.shape) != (n, *kind.shape):
        need = "sample needs" if n == 1 else "samples need"
        raise LeafwingError(f"{name} of shape {tuple(value.shape)}: {n} {need} shape {(n, *kind.shape)} ({kind})")
    if isinstance(kind, Image | Clip) and not value.is_floating_point():
        raise LeafwingError(
            f"{name}: give floating-point values in [-1, 1], not {value.dtype}; "
            f"model.spec.fields[{name!r}].to_network converts stored images"
        )
    if isinstance(kind, Label):
        if n and not 0 <= int(value.min()) <= int(value.max()) < len(kind.names):
            kind.index(int(value.max() if int(value.max()) >= len(kind.names) else value.min()))  # raises
        return value.long().cpu()
    if isinstance(kind, Attributes) and not ((value == 0) | (value == 1)).all():
        raise LeafwingError(f"{name}: give zeros and ones, in the order {', '.join(kind.names)}")
    return value.long().cpu() if isinstance(kind, Caption) else value.float().cpu()


def _example_rows(
    spec: DataSpec,
    examples: Examples,
    random: np.ndarray,
    seed: int,
    classes: np.ndarray | None,
    settings: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """The stored conditions of samples by their random numbers uint64 (n,), from examples of the given classes and attributes."""
    kind = spec.fields.get("attributes")
    fixed = kind.columns(settings) if isinstance(kind, Attributes) else {}
    columns, values = list(fixed), list(fixed.values())
    available = dict(examples.columns)
    if "attributes" in names and "attributes" not in available and isinstance(kind, Attributes):
        available["attributes"] = random_attributes(kind.names, seed)
    if missing := [name for name in names if name not in available]:
        name = missing[0]
        raise LeafwingError(f"this run has no examples of {name} to choose from: set one ({spec.fields[name]})")
    attributes, labels = available.get("attributes"), available.get("label")
    total = len(available[names[0]])
    chosen = np.empty(len(random), np.int64)
    class_of = np.full(len(random), -1) if classes is None else classes
    for index in np.unique(class_of):
        members, pool = class_of == index, np.arange(total)
        if index >= 0 and labels is not None and len(labels) == total and (labels == index).any():
            pool = np.flatnonzero(labels == index)
        if columns and attributes is not None:
            matches = pool[(attributes[pool][:, columns] == values).all(axis=1)]
            pool = matches if len(matches) else pool
        chosen[members] = pool[random[members] % np.uint64(len(pool))]
    rows = {name: available[name][chosen] for name in names}
    if "attributes" in rows:
        rows["attributes"][:, columns] = values
    return rows


def random_attributes(names: Sequence[str], seed: int, n: int = 512) -> np.ndarray:
    """Random attributes for a model without examples, uint8 (n, attributes): one value per category, 0 or 1 for the others."""
    count = len(names)
    bits = np.random.Philox(np.random.SeedSequence((seed, 1))).random_raw(n * count).astype(np.uint64).reshape(n, count)
    categories = [name.partition("=")[0] for name in names]
    rows = np.zeros((n, count), np.uint8)
    for category in dict.fromkeys(categories):
        columns = [i for i, name in enumerate(categories) if name == category]
        if "=" in names[columns[0]]:
            rows[:, columns] = np.eye(len(columns), dtype=np.uint8)[bits[:, columns].argmax(axis=1)]
        else:
            rows[:, columns[0]] = bits[:, columns[0]] >> np.uint64(63)
    return rows


def pictures_to_network(name: str, pictures: Any, kind: Field, any_size: bool) -> Tensor:
    """The pictures that a model translates, as networks see them: float32 (n, *shape of the field, or its channels in any size).

    Args:
        name: of the field.
        pictures: see `samples_to_network`.
        kind: the field.
        any_size: whether their size may differ from that of the field.

    Raises:
        LeafwingError: another type, shape or range.
    """
    sides = tuple(getattr(pictures, "shape", ()))
    shape: tuple[Any, ...] = kind.shape
    if any_size:
        is_first = len(sides) != 4 or sides[1] == shape[0] or sides[3] != shape[0]
        shape = shape[0], *((sides[2:] if is_first else sides[1:3]) if len(sides) == 4 else ("height", "width"))
    return samples_to_network(pictures, kind, shape, name)


def samples_to_network(samples: Any, kind: Field, shape: Sequence[Any], name: str = "samples") -> Tensor:
    """Samples as networks see them: float32 (n, *shape), images in [-1, 1].

    Args:
        samples: a tensor or an array of these values; or, of images, bytes or 16-bit values (n, height, width, channels), or
            with channels first.
        kind: the field.
        shape: of one sample.
        name: what they are, for messages.

    Raises:
        LeafwingError: another type, shape or range.
    """
    import torch

    if isinstance(samples, np.ndarray) and samples.dtype.kind in "biuf":
        samples = as_tensor(samples)
    expected = f"(n, {', '.join(map(str, shape))})"
    if not isinstance(samples, torch.Tensor):
        raise LeafwingError(
            f"{name}: give a tensor or an array {expected}, not {type(samples).__name__}; `leafwing translate` and `score` read files"
        )
    is_image = isinstance(kind, Image)
    if is_image and samples.dtype in (torch.uint8, torch.uint16):
        stored = samples.movedim(1, -1) if tuple(samples.shape[1:]) == tuple(shape) else samples
        if tuple(stored.movedim(-1, 1).shape[1:]) == tuple(shape):
            samples = kind.to_network(stored)
    if tuple(samples.shape[1:]) != tuple(shape):
        raise LeafwingError(f"{name} of shape {tuple(samples.shape)}: those of this run have shape {expected}")
    if is_image and not samples.is_floating_point():
        raise LeafwingError(f"{name} of type {samples.dtype}: give floating-point values in [-1, 1], or uint8")
    samples = samples.float()
    if is_image and len(samples):
        low, high = float(samples.min()), float(samples.max())
        if not -FAR <= low <= high <= FAR:
            raise LeafwingError(
                f"{name}: values from {low:g} to {high:g} are far outside of [-1, 1]: divide values from 0 to 255 by 127.5 and "
                "subtract 1, or give them as uint8"
            )
    return samples

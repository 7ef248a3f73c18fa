"""Evaluation protocols: the conditions under which a metric was computed. Only values from the same protocol are ranked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from leafwing.errors import LeafwingError

VERSION = 2
"""Version of all metrics and feature networks: increment it when the same samples give a different value."""

AS_REAL, DEFAULTS = "as the real ones", "defaults"
"""Conditions of the samples: those of the real images, or the model's defaults, such as all classes equally often."""
_CONDITIONS = {AS_REAL: "conditions of the real images", DEFAULTS: "default conditions"}
_SPLITS = {"train": "training", "held-out": "held-out", "all": "training and held-out", "other": "other"}

MAIN = "image"
"""The output of nearly all models."""

MARKS = ("trained_through", "trained_on_held_out")
"""Conditions that are recorded only where they hold: the numbers are better than the model deserves."""
WHERE_SET = (*MARKS, "held_out_by")
"""All conditions that are recorded only where they are set, so that the fingerprints of others stay as they were."""

FILTER = "lanczos"
"""Resampling filter with which images are resized when they are loaded."""


@dataclass(frozen=True)
class Protocol:
    """The conditions of one evaluation. The evaluated run is not among them, as it is the object of comparison.

    Args:
        data: fingerprint of the real data, which covers their pixels.
        split: part of the data: `held-out`, `train` (the model's training set), `all` data of which the model was trained on a
            part, or `other` data.
        held_out: number of held-out images; with `other` data, of the held-out images that samples are generated from if they are
            unpaired, else 0.
        n_real: number of real images.
        n_fake: number of generated samples.
        output: the field that was generated and compared, such as `image`.
        shape: "64x64x3": height, width, channels; "16x64x64x3" for clips, all of whose frames are compared as images; "points".
        fit: how images of another aspect ratio were fitted: crop, pad or stretch.
        background: colour behind transparency and padding.
        resize: resampling filter.
        mirror: whether half of the real images were mirrored.
        conditions: classes, captions and so on of samples from conditional models: `as the real ones`, or the model's `defaults`.
            Unconditional models have the same value, so that they can be compared.
        features: name of the feature network; empty for metrics without one.
        network: hash of the feature network.
        seed: random seed of the samples and of the selection of real images.
        precision: precision of generation. Samples are rounded to 8 bits, like the real images.
        version: version of the metrics.
        trained_through: the network of the same family as `features` through which the training looked: the numbers are circular,
            and are ranked with none. Empty, and no part of the fingerprint, for all others.
        trained_on_held_out: whether held-out images were shown in training all the same, or may have been; see `config.History`. If
            not, it is no part of the fingerprint.
        held_out_by: the field of which equal values were held out together; see `config.DataConfig`. Without one, or without held-out
            images, it is empty and no part of the fingerprint.
    """

    data: str
    split: str
    held_out: int
    n_real: int
    n_fake: int
    shape: str
    fit: str
    background: str
    mirror: bool
    conditions: str
    features: str
    network: str
    seed: int
    precision: str
    resize: str = FILTER
    version: int = VERSION
    output: str = MAIN
    trained_through: str = ""
    trained_on_held_out: bool = False
    held_out_by: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {name: value for name, value in asdict(self).items() if name not in WHERE_SET or value}

    @property
    def fingerprint(self) -> str:
        """A hash of all conditions: 12 hexadecimal digits."""
        return fingerprint(self.as_dict())


def fingerprint(conditions: Mapping[str, Any]) -> str:
    """A hash of conditions in plain JSON, independent of their order: 12 hexadecimal digits."""
    text = json.dumps(dict(conditions), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def upgrade(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `metrics.jsonl` as this version writes it, with the protocol and the fingerprint of today; others are unchanged.

    Rows from before there were other conditions than classes and attributes have the key `labels`.
    """
    before = row.get("protocol")
    if not before or "labels" not in before:
        return dict(row)
    conditions = {"in turn": DEFAULTS}.get(before["labels"], before["labels"])
    renamed = {"conditions" if name == "labels" else name: value for name, value in before.items()}
    protocol = {**renamed, "conditions": conditions, "output": MAIN}
    return {**row, "protocol": protocol, "fingerprint": fingerprint(protocol)}


def describe(conditions: Mapping[str, Any]) -> str:
    """One-line description of the conditions, ending with the fingerprint."""
    is_points = conditions["shape"] == "points"
    kind = "points" if is_points else "clips" if conditions["shape"].count("x") == 3 else "images"
    parts = [
        f"{conditions['n_fake']:,} samples vs. {conditions['n_real']:,} {_SPLITS[conditions['split']]} {kind}",
        *([] if is_points else [f"{conditions['shape']}, {conditions['fit']}, {conditions['resize']}"]),
        *(["mirrored"] if conditions["mirror"] else []),
        *(["all frames as images"] if kind == "clips" else []),
        *([] if conditions["output"] == MAIN else [f"output {conditions['output']}"]),
        *([] if is_points else [_CONDITIONS[conditions["conditions"]]]),
        *([f"features {conditions['features']} {conditions['network'][:8]}"] if conditions["features"] else []),
        *([f"circular: trained through {through}"] if (through := conditions.get("trained_through")) else []),
        *(["not unseen: trained on held-out images too"] if conditions.get("trained_on_held_out") else []),
        *([f"held out by {field}"] if (field := conditions.get("held_out_by")) else []),
        f"data {conditions['data'][:8]}",
        f"seed {conditions['seed']}",
        f"{conditions['precision']}",
        f"version {conditions['version']}",
    ]
    return ", ".join(parts) + f"; fingerprint {fingerprint(conditions)}"


def require_same_protocol(rows: Iterable[Mapping[str, Any]]) -> None:
    """Checks that values can be ranked, i.e. that they come from the same protocol.

    Args:
        rows: as returned by `leafwing.commands.evaluate`, with `metric`, `protocol`, and optionally `run`. Only values of the same
            metric are compared.

    Raises:
        LeafwingError: two values of one metric come from different protocols; the message names the differences.
    """
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        other = first.setdefault(row["metric"], row)
        a, b = other["protocol"], row["protocol"]
        if differing := [name for name in {**a, **b} if a.get(name) != b.get(name)]:
            differences = "; ".join(f"{name}: {_shorten(a.get(name))} and {_shorten(b.get(name))}" for name in differing)
            runs = f" ({other['run']} and {row['run']})" if "run" in row and "run" in other else ""
            raise LeafwingError(
                f"values of {row['metric']}{runs} come from different evaluation protocols and cannot be ranked: {differences}. "
                "Evaluate both with the same data, -n, --features, --seed and --precision"
            )


def _shorten(value: object) -> str:
    """A condition for a message; hashes are shortened."""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text[:12] if len(text) in (16, 64) and set(text) <= set("0123456789abcdef") else text or "none"

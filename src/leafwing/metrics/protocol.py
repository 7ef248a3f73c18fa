"""Under which conditions a number was worked out. Numbers made under different conditions are never ranked together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from leafwing.errors import LeafwingError

VERSION = 1
"""Of all metrics and feature networks together: raise it when the same samples give another number."""

FILTER = "lanczos"
"""With which pictures of another size are resized when they are read."""


@dataclass(frozen=True)
class Protocol:
    """The conditions of one evaluation. Which run was evaluated is not among them: it is what is compared.

    Args:
        data: fingerprint of the real data, which covers their pixels.
        split: which part of them: `held-out`, `train` (what the model was trained on), `all` of the data of which the model was
            trained on a part, or `other` data.
        held_out: how many of them were kept out of training.
        n_real: how many real pictures were looked at.
        n_fake: how many samples.
        shape: "64x64x3": height, width, channels; "points".
        fit: how pictures of another shape were made to fit: crop, pad or stretch.
        background: colour behind transparency and padding.
        resize: the filter.
        mirror: whether half of the real pictures were shown mirrored.
        labels: which classes and attributes samples of models with such are made of: `as the real ones`, or `in turn` and attributes
            as the run knows them. It is the same for models without, which can be compared with those.
        features: name of the feature network; empty for metrics without one.
        network: what decides its features, as a hash.
        seed: of the samples, and of the choice of real pictures.
        precision: in which samples are made. They are rounded to 8 bits, as the real pictures are.
        version: of the metrics.
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
    labels: str
    features: str
    network: str
    seed: int
    precision: str
    resize: str = FILTER
    version: int = VERSION

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that differ when any of the conditions does."""
        return fingerprint(self.as_dict())


def fingerprint(conditions: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of conditions in plain JSON, whatever their order."""
    text = json.dumps(dict(conditions), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def line(conditions: Mapping[str, Any]) -> str:
    """Conditions in one line for people; ends with the fingerprint."""
    points = conditions["shape"] == "points"
    what = "points" if points else "pictures"
    said = [
        f"{conditions['n_fake']:,} samples against {conditions['n_real']:,} {what} ({conditions['split']})",
        *([] if points else [f"{conditions['shape']} by {conditions['fit']}, {conditions['resize']}"]),
        *(["mirrored"] if conditions["mirror"] else []),
        *([] if points else [f"labels {conditions['labels']}"]),
        *([f"features {conditions['features']} {conditions['network'][:8]}"] if conditions["features"] else []),
        f"data {conditions['data'][:8]}",
        f"seed {conditions['seed']}",
        f"{conditions['precision']}",
        f"version {conditions['version']}",
    ]
    return ", ".join(said) + f"; fingerprint {fingerprint(conditions)}"


def comparable(rows: Iterable[Mapping[str, Any]]) -> None:
    """Refuses to rank numbers that were made under different conditions.

    Args:
        rows: as `leafwing.commands.evaluate` gives them: with `metric`, `protocol`, and `run` where there is one. Numbers of one
            metric are ranked together, those of different metrics are not.

    Raises:
        LeafwingError: two numbers of one metric differ in their conditions; the message says in which, and how.
    """
    first: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        other = first.setdefault(row["metric"], row)
        a, b = other["protocol"], row["protocol"]
        if differing := [name for name in {**a, **b} if a.get(name) != b.get(name)]:
            told = "; ".join(f"{name}: {_short(a.get(name))} and {_short(b.get(name))}" for name in differing)
            whose = f" ({other['run']} and {row['run']})" if "run" in row and "run" in other else ""
            raise LeafwingError(
                f"these numbers of {row['metric']}{whose} were made under different conditions and cannot be ranked: {told}. "
                "Evaluate both under the same ones: the same data, -n, --features, --seed and --precision"
            )


def _short(value: object) -> str:
    """A condition in a message; hashes cut short."""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text[:12] if len(text) in (16, 64) and set(text) <= set("0123456789abcdef") else text or "none"

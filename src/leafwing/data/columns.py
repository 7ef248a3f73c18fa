"""Statistics and examples of the fields of a data set, for the doctor's report. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from leafwing.fields import Box, Caption, Field, Keypoints, Mask, Segmentation

EXAMPLES = 3


def describe(field: Field, column: np.ndarray) -> dict[str, Any]:
    """What a column contains, as plain JSON: its kind, and counts, shares and examples that depend on the kind.

    Args:
        field: the field.
        column: stored samples (n, ...), at least one.
    """
    summary = {"kind": field.kind, "field": str(field)}
    for kind, function in _FUNCTIONS.items():
        if isinstance(field, kind):
            summary |= function(field, column)
    return summary


def sentence(summary: dict[str, Any]) -> str:
    """The result of `describe` in one line."""
    kind = summary["kind"]
    if kind == "caption":
        low, high = summary["captions_per_image"]
        each = f"{low}" if low == high else f"{low} to {high}"
        examples = "; ".join(f'"{text}"' for text in summary["examples"])
        return (
            f"{summary['captions']:,} captions ({each} per image), {summary['words']:,} different words, median length "
            f"{summary['median_length']:g} words, longest {summary['longest']}, as in {examples}"
        )
    if kind == "box":
        low, middle, high = (f"{summary['area'][key]:.0%}" for key in ("min", "median", "max"))
        example = ", ".join(f"{side:.2f}" for side in summary["example"])
        return f"{low} to {high} of the image, median {middle}, as in {example} (left, top, width, height)"
    if kind == "keypoints":
        return "visible " + ", ".join(f"{name} {share:.0%}" for name, share in summary["visible"].items())
    shares = summary.get("shares")
    return summary["field"] + (", " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()) if shares else "")


def _captions(field: Any, column: np.ndarray) -> dict[str, Any]:
    rows = column if column.ndim == 3 else column[:, None]
    lengths = (rows > 0).sum(-1)
    number = (lengths > 0).sum(1)
    written = lengths[lengths > 0]
    steps = np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).astype(int))
    return {
        "captions": int(number.sum()),
        "captions_per_image": [int(number.min()), int(number.max())],
        "words": len(field.words),
        "median_length": float(np.median(written)) if len(written) else 0.0,
        "longest": int(lengths.max()),
        "examples": [field.decode(rows[row, 0].tolist()) for row in steps],
    }


def _boxes(field: Any, column: np.ndarray) -> dict[str, Any]:
    areas = column[:, 2] * column[:, 3]
    numbers = {"min": areas.min(), "median": np.median(areas), "max": areas.max()}
    return {
        "area": {key: round(float(value), 4) for key, value in numbers.items()},
        "example": np.round(column[0].astype(float), 4).tolist(),
    }


def _points(field: Any, column: np.ndarray) -> dict[str, Any]:
    shares = (column[:, :, 2] > 0).mean(0)
    return {"visible": {name: round(float(share), 4) for name, share in zip(field.names, shares, strict=True)}}


def _mask(field: Any, column: np.ndarray) -> dict[str, Any]:
    return {"shares": {"covered": round(float((column > 0).mean()), 4)}}


def _segmentation(field: Any, column: np.ndarray) -> dict[str, Any]:
    counts = np.bincount(column.ravel(), minlength=len(field.names))
    return {"shares": {name: round(float(count / column.size), 4) for name, count in zip(field.names, counts, strict=False)}}


_FUNCTIONS: dict[type[Field], Callable[[Any, np.ndarray], dict[str, Any]]] = {
    Caption: _captions,
    Box: _boxes,
    Keypoints: _points,
    Mask: _mask,
    Segmentation: _segmentation,
}

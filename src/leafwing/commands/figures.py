"""The figures of an evaluation, as rows and as text: first what they mean, on the scale from real images to noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leafwing.metrics.evidence import Measure

LEADING = ("fid", "kid")
"""The measures that may lead: distances, which are smaller for better samples. The first is never zero or negative."""
LIKE_NOISE = 0.8
"""Samples are almost as far from the real images as noise is above this times its value."""
MANY_TWINS = 0.05
"""This share of near-duplicates among the samples is worth a sentence."""
AT_EITHER_END = 5
"""Of more than twice as many classes only the best and the worst are named."""
IN_WORDS, DETAILS = ("leaks",), ("copied_near", "nearer", "distance_ratio")
"""Metrics, and single numbers, that are shown in words, and as numbers only on request."""


def as_row(measure: Measure) -> dict[str, Any]:
    """A measure as plain JSON; NaN and infinite values become None."""
    values = {"value": measure.value, "low": measure.low, "high": measure.high}
    finite = {name: float(value) if value is not None and isfinite(value) else None for name, value in values.items()}
    return {"metric": measure.name, **finite, "better": measure.better}


def as_document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of `evaluate` as one JSON document: `run`, `rows`, and the `verdict` on memorisation of the last checkpoint, if any."""
    verdicts = [row["verdict"] for row in rows if row.get("verdict")]
    return {"run": rows[-1]["run"], "rows": list(rows)} | ({"verdict": verdicts[-1]} if verdicts else {})


def as_text(rows: Sequence[Mapping[str, Any]], verbose: bool = False, metrics: str | None = None) -> str:
    """Rows of `evaluate` as text: what they mean, a table, and what else there is to say.

    Args:
        rows: the rows.
        verbose: with the numbers that are summed up in words, and the whole protocols.
        metrics: those that the user named, separated by commas: all of their numbers are shown.
    """
    from leafwing.tables import align_columns

    named = {name.strip() for name in (metrics or "").split(",")}
    main = [row for row in rows if verbose or row.get("by") in named or not is_detail(row)] or rows
    text = [*lead(rows), align_columns(cells(main)), *remarks(rows, verbose)]
    if not verbose:
        text.append("--verbose: all numbers, and the conditions under which they are comparable")
    return "\n".join(text)


def is_detail(row: Mapping[str, Any]) -> bool:
    """Whether a number only stands behind a sentence of `remarks`."""
    return row.get("by") in IN_WORDS or row["metric"] in DETAILS


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The table of these rows, from its head on."""
    from leafwing.metrics.caveats import MARK, is_flattered
    from leafwing.metrics.conclusions import says_nothing

    of_run = all("images" in row for row in rows)
    has_scale = any(row.get("scale") for row in rows)
    lines = [[*["images"] * of_run, "metric", "value", "95% interval", *["real images", "noise"] * has_scale, "better"]]
    for row in rows:
        interval = "" if None in (row["low"], row["high"]) else f"{row['low']:.4g} to {row['high']:.4g}"
        if says_nothing(row):
            interval = "no variety: not comparable"
        scale = [show((row.get("scale") or {}).get(end), "") for end in ("real", "noise")] if has_scale else []
        images = [f"{row['images']:,}"] if of_run else []
        name = row["metric"] + MARK * is_flattered(row)
        lines.append([*images, name, show(row["value"]), interval, *scale, row["better"] or ""])
    return lines


def remarks(rows: Sequence[Mapping[str, Any]], verbose: bool = False) -> list[str]:
    """What the scale is, the words of metrics that have some, and what was compared; verbose: a line for each protocol."""
    from leafwing.metrics.caveats import FLATTERY, LOW_RECALL, is_flattered, is_low_recall
    from leafwing.metrics.protocol import describe

    words = [(f"{row['images']:,} images: " if "images" in row else "") + row["words"] for row in rows if row.get("words")]
    words += [f"The closest pairs are in {row['page']}, in the folder of the run." for row in rows if row.get("page")]
    notes = (note for row in rows if (note := describe_scale(row)))
    protocols = [describe(row["protocol"]) for row in rows]
    if not verbose:
        parts = [text.split(", ") for text in protocols]
        protocols = [
            ", ".join([text[0], *(part for part in text if part.startswith(("circular", "not unseen")))]) for text in parts
        ]
    flattery = [FLATTERY] if any(is_flattered(row) for row in rows) else []
    recall = [LOW_RECALL] if any(is_low_recall(row) for row in rows) else []
    return [*dict.fromkeys([*flattery, *recall, *notes, *words, *protocols])]


def show(value: float | None, unknown: str = "unknown") -> str:
    """A value in a cell."""
    return unknown if value is None else f"{value:.4g}"


def lead(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the figures of the last checkpoint mean, in a few sentences; empty without a scale."""
    from leafwing.metrics.caveats import is_flattered
    from leafwing.metrics.conclusions import says_nothing

    last = [row for row in rows if row.get("images") == rows[-1].get("images")] if rows else []
    by_name = {row["metric"]: row for row in last if row.get("scale") and row["value"] is not None and is_on_scale(row)}
    name = next((name for name in LEADING if name in by_name), "")
    sentences = [where(by_name[name])] if name else []
    precision = by_name.get("precision")
    if precision and not says_nothing(precision) and not is_flattered(precision):
        value, real = (round(100 * share) for share in (precision["value"], precision["scale"]["real"]))
        could = f"{value} of 100 samples could be real images; of 100 other real images, {real} could"
        sentences.append(f"To the feature network, {could}.")
        if len(precision.get("by_class", {})) > 1:
            sentences.append(describe_classes(precision["by_class"]))
    twins = next((row["value"] for row in last if row["metric"] == "duplicates"), None) or 0
    if twins >= MANY_TWINS:
        sentences.append(f"{round(100 * twins)} of 100 samples are nearly identical to another one.")
    if any(says_nothing(row) for row in last):
        variety = next(row["variety"] for row in last if says_nothing(row))
        sentences.append(
            f"The samples are nearly the same picture: they vary {variety:.0%} as much as real images in these features."
        )
    return [" ".join(sentences)] if sentences else []


def describe_classes(shares: Mapping[str, float]) -> str:
    """How many samples of each class could be real images, from their shares, highest first; of many classes, the ends."""
    texts = [f"{name} ({round(100 * share)})" for name, share in shares.items()]
    if len(texts) > 2 * AT_EITHER_END:
        between = len(texts) - 2 * AT_EITHER_END
        texts[AT_EITHER_END:-AT_EITHER_END] = [f"{between} classes between"]
    return f"Of 100 samples of each class: {', '.join(texts)}."


def is_on_scale(row: Mapping[str, Any]) -> bool:
    """Whether a value and its scale may be compared: FID is higher for fewer images, and a scale from halves would flatter. One end of
    a scale may be unknown."""
    scale = row["scale"]
    if scale["real"] is None or scale["noise"] is None:
        return False
    return row["metric"] != "fid" or scale["n_others"] == scale["n_real"] == row["n"]


def where(row: Mapping[str, Any]) -> str:
    """Where a distance lies on its scale, in a sentence."""
    name, value, real, noise = row["metric"].upper(), row["value"], row["scale"]["real"], row["scale"]["noise"]
    ends = f"{name} {show(value)}; other real images have {show(real)}, random noise {show(noise)}"
    if value >= noise:
        return f"The samples are farther from the real images than random noise: {ends}."
    if value > LIKE_NOISE * noise:
        return f"The samples are almost as far from the real images as random noise: {ends}."
    if min(value, value if row["low"] is None else row["low"]) <= real:
        return f"By this measure the samples are as near to the real images as other real images are: {ends}."
    times = f"{value / real:.1f} times that of other real images, and " if name == "FID" and real > 0 else ""
    return f"The distance of the samples from the real images is {times}{100 * value / noise:.2g}% of that of random noise: {ends}."


def describe_scale(row: Mapping[str, Any]) -> str:
    """What the columns of the scale are; empty for a row without one."""
    scale = row.get("scale")
    if not scale:
        return ""
    others = {
        "training images": f"{scale['n_others']:,} training images against the same {scale['n_real']:,}: a generator of copies "
        "would have these",
        "other real images": f"{scale['n_others']:,} other real images against the same {scale['n_real']:,}",
        "halves": f"one half of the real images against the other, {scale['n_others']:,} against {scale['n_real']:,}: of so few, FID "
        "is higher",
    }[scale["others"]]
    return f"real images: {others}; noise: {scale['n_noise']} pictures of uniform noise. Both depend on the data only."

"""The report on an image source; `leafwing.data.doctor` examines it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leafwing.progress import Progress, reporter_of
from leafwing.recipes._recommended import Facts, Kind, by_kind
from leafwing.settings import split_keywords

if TYPE_CHECKING:
    from leafwing.data.doctor import SourceReport


def doctor(source: Any, *, progress: Progress = None, **options: Any) -> SourceReport:
    """Examines an image source: its content, rejected images with reasons, duplicates, and advice. Never changes the source.

    Args:
        source: a folder, an archive, a built-in name, several paths to join, or images from Python; see `leafwing.data.load`.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        **options: `settings.READING_OPTIONS` but mirror, as for `train`.

    Returns:
        A report: `text()` for people, `as_dict()` for programs.
    """
    from leafwing.data.doctor import doctor as examine

    reading, other = split_keywords(options)
    report = examine(source, progress=reporter_of(progress).report_reading, **reading, **other)
    if report.accepted:
        report.advice.append(recommendation(report, options))
    return report


def recommendation(report: SourceReport, reading: Mapping[str, Any]) -> str:
    """The next command, and what it would do, as far as that does not depend on the machine.

    Args:
        report: the report on the source.
        reading: the reading options that the user has set.
    """
    kind: Kind = "points" if "points" in report.kind else "images"
    if "input" in report.fields or "input" in report.options:
        small = str(report.options.get("input", "")).startswith("low")
        kind = "enlarging" if small else "unpaired" if any("unpaired" in note for note in report.notes) else "pairs"
    smallest = min(report.classes.values()) if len(report.classes) > 1 else None
    choice = by_kind(Facts(kind, report.tiles or report.accepted, smallest=smallest))
    options = ", ".join(f"{name} {value}" for name, value in {**choice.options, **choice.settings}.items())
    words = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in reading.items() if value is not None]
    return (
        f"Next: {' '.join(['leafwing train', report.source, *words])}\n      without --recipe chooses {choice.recipe}"
        f"{f' ({options})' if options else ''}, because of {'; '.join(choice.reasons)}. Add --dry-run to see width and length, which "
        "depend on the speed of this machine and on --time."
    )

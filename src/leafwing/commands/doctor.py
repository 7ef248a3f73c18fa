"""The report on an image source; `leafwing.data.doctor` examines it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leafwing.progress import Reporter
from leafwing.settings import split_keywords

if TYPE_CHECKING:
    from leafwing.data.doctor import SourceReport


def doctor(source: Any, *, progress: Reporter | None = None, **options: Any) -> SourceReport:
    """Examines an image source: its content, rejected images with reasons, duplicates, and advice. Never changes the source.

    Args:
        source: a folder, an archive, a built-in name, several paths to join, or images from Python; see `leafwing.data.load`.
        progress: receives messages and progress; None: nothing is shown.
        **options: `settings.READING_OPTIONS` but mirror, as for `train`.

    Returns:
        A report: `text()` for people, `as_dict()` for programs.
    """
    from leafwing.data.doctor import doctor as examine

    reading, other = split_keywords(options)
    return examine(source, progress=(progress or Reporter()).report_reading, **reading, **other)

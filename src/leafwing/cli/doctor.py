"""`leafwing doctor`."""

from __future__ import annotations

from typing import Any

from leafwing.cli.shared import Json, as_json, explicit, with_settings
from leafwing.progress import ConsoleReporter
from leafwing.settings import READING_OPTIONS


@with_settings(*(name for name in READING_OPTIONS if name != "mirror"))
def command(source: str, /, *, json: Json = False, **reading: Any) -> int:
    """Examine an image source: what it contains, which images are rejected and why, and advice. Changes nothing.

    Parameters
    ----------
    source
        A folder, a .zip or .tar archive, IDX files, or a built-in data set: digits, sprites, stacked, ring, grid.
    """
    from leafwing import commands

    report = commands.doctor(source, progress=ConsoleReporter(), **explicit(reading))
    print(as_json(report.as_dict()) if json else report.text())
    return 0

"""`leafwing doctor`."""

from __future__ import annotations

from typing import Any

from leafwing.cli.shared import Json, Sources, as_json, explicit, one_or_several, with_settings
from leafwing.progress import ConsoleReporter
from leafwing.settings import READING_OPTIONS


@with_settings(*(name for name in READING_OPTIONS if name != "mirror"))
def command(*sources: Sources, json: Json = False, **reading: Any) -> int:
    """Examine an image source: what it contains, which images are rejected and why, and advice. Changes nothing."""
    from leafwing import commands

    report = commands.doctor(one_or_several(sources) or [], progress=ConsoleReporter(), **explicit(reading))
    print(as_json(report.as_dict()) if json else report.text())
    return 0

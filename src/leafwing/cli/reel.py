"""`leafwing reel`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from leafwing.cli.shared import OUTPUT, Json, Root, as_json, speaks


def command(
    run: str,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(help="Output file (.webp, .gif or .mp4). Default: reel.webp in the run folder.", group=OUTPUT)
    ] = None,
    seconds: Annotated[float, Parameter(help="Duration in seconds.", group=OUTPUT)] = 6.0,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """The progress of a run as an animation.

    Parameters
    ----------
    run
        Folder, name, number or `last`.
    """
    from leafwing import commands

    made = commands.reel(run, out=out, seconds=seconds, root=root)
    if not speaks():
        return 0
    print(as_json({"written": str(made)}) if json else made)
    return 0

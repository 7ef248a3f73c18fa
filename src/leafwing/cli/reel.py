"""`leafwing reel`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from leafwing.cli.shared import OUTPUT, Json, Root, RunName, as_json, is_main_process, option
from leafwing.progress import ConsoleReporter


def command(
    run: RunName,
    /,
    *,
    out: Annotated[
        Path | None,
        option(
            "Output file (.webp, .gif or .mp4). Default: reel.webp in the run folder; with other options a new file in outputs.",
            OUTPUT,
        ),
    ] = None,
    seconds: Annotated[float, option("Duration in seconds.", OUTPUT)] = 6.0,
    size: Annotated[
        int | None, option("Longer side of the film in pixels. Default: that of the sample grids, at most 1080.", OUTPUT)
    ] = None,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """Film the training progress of a run."""
    from leafwing import commands

    path = commands.reel(run, out=out, seconds=seconds, size=size, root=root, progress=ConsoleReporter())
    if is_main_process():
        print(as_json({"written": str(path)}) if json else path)
    return 0

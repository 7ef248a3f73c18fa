"""`leafwing translate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leafwing.cli.shared import FOLDER, OUTPUT, Json, Root, RunName, Trust, as_json, explicit, option, with_settings
from leafwing.progress import ConsoleReporter


@with_settings("device", device="Device to compute on. Default: cpu.")
def command(
    run: RunName,
    pictures: Annotated[str, Parameter(help="An image file, a folder or an archive.", show_default=False)],
    /,
    *,
    output: Annotated[
        str | None, option("What to generate, if the run generates several fields from images.", OUTPUT)
    ] = None,
    set: Annotated[list[str] | None, option("Set a further condition: NAME=VALUE. Repeatable.", OUTPUT)] = None,
    seed: Annotated[int, option("Random seed, if anything is random.", OUTPUT)] = 0,
    checkpoint: Annotated[str, option("Checkpoint: images shown (200k), last or best.", FOLDER)] = "last",
    out: Annotated[Path | None, option("Output folder. Default: in the run's translations folder.", OUTPUT)] = None,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
    **machine: Any,
) -> int:
    """Generate pictures from pictures, with a run that learnt it; names, folders and sizes are kept."""
    from leafwing import commands

    result = commands.translate(
        run,
        pictures,
        output=output,
        conditions=set or (),
        seed=seed,
        checkpoint=checkpoint,
        out=out,
        trust=trust,
        root=root,
        progress=ConsoleReporter(),
        **explicit(machine),
    )
    document = {**asdict(result), "folder": str(result.folder)}
    print(as_json(document) if json else result.folder)
    return 0

"""`leafwing translate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from leafwing.cli.shared import (
    FOLDER,
    OUTPUT,
    Json,
    Root,
    RunName,
    Trust,
    as_json,
    check_order,
    explicit,
    flag,
    option,
    with_settings,
)
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
    back: Annotated[bool, flag("Translate in the reverse direction of a two-way run.", OUTPUT)] = False,
    seed: Annotated[int, option("Random seed, if anything is random.", OUTPUT)] = 0,
    samples: Annotated[int, option("Results for each picture, if they are random: name-1.png, name-2.png, ...", OUTPUT)] = 1,
    resolution: Annotated[
        Literal["own", "training"],
        option(
            "own: each picture in its own size, where the network allows it; training: stretched to the size of training.",
            OUTPUT,
        ),
    ] = "own",
    tile: Annotated[
        str, option("Large pictures: auto (tiles where memory needs them), whole, or the side of tiles in pixels.", OUTPUT)
    ] = "auto",
    derive: Annotated[
        bool | None,
        Parameter(
            help="Whether the input is derived from each picture, or is a half of it, as in training. Default: grey, edges and hole "
            "are derived, blur and low4 are not; a half is taken of pictures that are twice as wide (or high) as the input.",
            group=OUTPUT,
        ),
    ] = None,
    checkpoint: Annotated[str, option("Checkpoint: images shown (200k), last or best.", FOLDER)] = "last",
    out: Annotated[Path | None, option("Output folder. Default: in the run's translations folder.", OUTPUT)] = None,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
    **machine: Any,
) -> int:
    """Generate pictures from pictures, with a run that learnt it; names, folders and sizes are kept."""
    from leafwing import commands

    check_order("translate", run, pictures)

    result = commands.translate(
        run,
        pictures,
        output=output,
        back=back,
        conditions=set or (),
        seed=seed,
        samples=samples,
        resolution=resolution,
        tile=tile,
        derive=derive,
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

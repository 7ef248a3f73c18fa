"""`leafwing walk`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from leafwing.cli.shared import (
    FOLDER,
    OUTPUT,
    Conditions,
    Json,
    OutputField,
    Root,
    RunName,
    Trust,
    as_json,
    explicit,
    option,
    with_settings,
)
from leafwing.progress import ConsoleReporter


@with_settings("device", device="Device to compute on. Default: cpu.")
def command(
    run: RunName,
    /,
    *,
    seeds: Annotated[
        str,
        option("The samples of these seeds, in this order: 3,5,8 or 0-5, as `leafwing sample --seeds` writes them.", OUTPUT),
    ] = "0-5",
    seconds: Annotated[float, option("Duration in seconds.", OUTPUT)] = 6.0,
    fps: Annotated[float, option("Images per second.", OUTPUT)] = 25,
    size: Annotated[
        int | None,
        option(
            "Longer side of the film in pixels. Default: small images are enlarged by a whole factor, to at most 512 pixels.",
            OUTPUT,
        ),
    ] = None,
    loop: Annotated[
        bool,
        Parameter(
            help="Return to the first seed, so that the film repeats without a jump; or end at the last one.", group=OUTPUT
        ),
    ] = True,
    label: Annotated[
        str | None, option("Class by name or index. Default: one image for each class, at most 20.", OUTPUT)
    ] = None,
    set: Conditions = None,
    output: OutputField = None,
    checkpoint: Annotated[str, option("Checkpoint: images shown (200k), last or best.", FOLDER)] = "last",
    out: Annotated[
        Path | None,
        option("Output file (.webp, .gif or .mp4). Default: a new .webp file in the run's folder outputs.", OUTPUT),
    ] = None,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
    **machine: Any,
) -> int:
    """Film a walk through latent space: one sample changes into the next, and the last into the first."""
    from leafwing import commands

    path = commands.walk(
        run, seeds, seconds=seconds, fps=fps, size=size, loop=loop, label=label, conditions=set or (), output=output,
        checkpoint=checkpoint, out=out, trust=trust, root=root, progress=ConsoleReporter(), **explicit(machine),
    )  # fmt: skip
    print(
        as_json({"written": str(path), "seeds": seeds, "seconds": seconds, "label": label, "set": set or []})
        if json
        else path
    )
    return 0

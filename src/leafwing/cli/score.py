"""`leafwing score`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

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
    set: Annotated[list[str] | None, option("What the pictures should match: NAME=VALUE. Repeatable.", OUTPUT)] = None,
    seed: Annotated[int, option("Random seed of unspecified conditions.", OUTPUT)] = 0,
    checkpoint: Annotated[str, option("Checkpoint: images shown (200k), last or best.", FOLDER)] = "last",
    out: Annotated[Path | None, option("A CSV file instead of standard output.", OUTPUT)] = None,
    trust: Trust = False,
    root: Root = Path("runs"),
    json: Json = False,
    **machine: Any,
) -> int:
    """Score pictures with a run's discriminator: higher is more realistic, on a scale that depends on the run."""
    from leafwing import commands

    check_order("score", run, pictures)

    result = commands.score(
        run, pictures, conditions=set or (), seed=seed, checkpoint=checkpoint, out=out, trust=trust, root=root,
        progress=ConsoleReporter(), **explicit(machine),
    )  # fmt: skip
    if json:
        print(as_json(asdict(result)))
        return 0
    print(result.out or result.table(), end="" if not result.out else "\n")
    for item in result.rejected:
        print(f"rejected: {item['name']}: {item['reason']}", file=sys.stderr)
    return 0

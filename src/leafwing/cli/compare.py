"""`leafwing compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from leafwing.cli.shared import MACHINE, OUTPUT, TRAINING, as_json, explicit, flag, option, with_settings
from leafwing.progress import ConsoleReporter
from leafwing.settings import READING_OPTIONS

METRICS = Group("Metrics", sort_key=4)


@with_settings("hold_out", default="auto")
@with_settings(*READING_OPTIONS, "device")
def command(
    source: str,
    /,
    *,
    recipes: Annotated[str, option("Recipe names or recipe files, separated by commas.", TRAINING)],
    seeds: Annotated[str, option("Number of seeds, counted from 0, or a list of seeds: 7,8.", TRAINING)] = "3",
    images: Annotated[
        str | None,
        option("Real images shown in each training run. Default: 200k, or as many as fit into --minutes.", TRAINING),
    ] = None,
    minutes: Annotated[
        float | None,
        option(
            "Give every run the same training time in minutes (CPU time on a CPU) instead of the same number of images. "
            "With --images: time limit per run.",
            TRAINING,
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        option(
            "Set a hyper-parameter: width=32 for all recipes that have it, wgan_gp.width=16 for one. Repeatable.", TRAINING
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        option(
            "Metrics, separated by commas; the first one ranks the recipes. Default: fid,kid,prdc,memorisation; with reconstruction "
            "for images from paired images; modes for data with known modes.",
            METRICS,
        ),
    ] = None,
    features: Annotated[
        str | None,
        option(
            "Feature network: lite0, own, pixels or inception. Default: lite0 for images in colour from 32 px on if it is installed "
            "and no recipe looks through it, else own.",
            METRICS,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        option("Weights file of lite0 or inception. Default: of the installed package, or downloaded once.", METRICS),
    ] = None,
    n: Annotated[
        str | None,
        Parameter(
            name=("--n", "-n"),
            help="Number of samples per checkpoint. Default: the number of real images, at most 5,000.",
            group=METRICS,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        option("Number of runs trained at the same time. Default: one per CPU core as memory allows, one per GPU.", MACHINE),
    ] = None,
    out: Annotated[Path, option("Folder of the comparison; an unfinished one there is continued.", OUTPUT)] = Path(
        "comparison"
    ),
    json: Annotated[bool, flag("Print table.json instead of a table.", OUTPUT)] = False,
    **settings: Any,
) -> int:
    """Train recipes with several seeds, evaluate them under one protocol, and write one report: who won, by how much, what failed.

    Parameters
    ----------
    source
        A folder, a .zip or .tar archive, IDX files, or a built-in data set: digits, sprites, stacked, ring, grid.
    """
    from leafwing.commands.comparison.compare import compare
    from leafwing.commands.comparison.report import as_text

    table = compare(
        source,
        recipes,
        seeds=seeds,
        images=images,
        minutes=minutes,
        options=set or (),
        metrics=metrics,
        features=features,
        weights=weights,
        n=n,
        jobs=jobs,
        out=out,
        progress=ConsoleReporter(),
        **explicit(settings),
    )
    print(as_json(table) if json else as_text(table))
    return 0

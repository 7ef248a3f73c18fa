"""`leafwing compare` as it is typed: its options, turned into one call of `compare`. `cli` loads this when it is first asked for."""

from __future__ import annotations

import json as format_json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from leafwing.commands.comparison.compare import compare as run_comparison
from leafwing.commands.comparison.report import as_text
from leafwing.progress import Screen

PICTURES, TRAINING, NUMBERS, MACHINE, OUTPUT = (
    Group(name, sort_key=key) for key, name in enumerate(("Pictures", "Training", "Numbers", "Machine", "Output"), 1)
)


def about(text: str, group: Group) -> Parameter:
    """What --help says of an option, and where."""
    return Parameter(help=text, group=group)


def command(
    source: str,
    /,
    *,
    recipes: Annotated[str, about("Recipe names or recipe files, separated by commas.", TRAINING)],
    seeds: Annotated[str, about("Number of seeds, counted from 0, or a list of seeds: 7,8.", TRAINING)] = "3",
    images: Annotated[str | None, about("Real images that each training shows. Default: 200k.", TRAINING)] = None,
    minutes: Annotated[
        float | None,
        about(
            "Equal training time instead of equal images, in processor time on a CPU; with --images, a time limit.", TRAINING
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        Parameter(
            help="Set a hyper-parameter: width=32 for all recipes that have it, wgan_gp.width=16 for one. Repeatable.",
            group=TRAINING,
            negative="",
        ),
    ] = None,
    size: Annotated[str | None, about("Height and width in pixels: 64, or 64x96 (height x width).", PICTURES)] = None,
    channels: Annotated[int | None, about("1 for grey, 3 for RGB, 4 for RGBA.", PICTURES)] = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None, about("How a picture of another shape is made to fit.", PICTURES)
    ] = None,
    background: Annotated[str | None, about("Colour behind transparency and padding.", PICTURES)] = None,
    mirror: Annotated[bool | None, about("Also show every picture mirrored left to right.", PICTURES)] = None,
    hold_out: Annotated[str, about("Pictures kept out of training for evaluation: a number, or auto.", PICTURES)] = "auto",
    metrics: Annotated[str | None, about("Metrics, separated by commas; the first one ranks the recipes.", NUMBERS)] = None,
    features: Annotated[str | None, about("Feature network: own, pixels or inception.", NUMBERS)] = None,
    weights: Annotated[Path | None, about("Weights file of inception.", NUMBERS)] = None,
    n: Annotated[str | None, Parameter(name=["-n", "--n"], help="Number of samples per checkpoint.", group=NUMBERS)] = None,
    jobs: Annotated[
        int | None,
        about("Trainings that run at the same time. Default: one per CPU core as memory allows, one per GPU.", MACHINE),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], about("Device for training and evaluation.", MACHINE)] = "auto",
    out: Annotated[Path, about("Folder of the comparison; an unfinished one there is continued.", OUTPUT)] = Path(
        "comparison"
    ),
    json: Annotated[bool, Parameter(help="Print table.json instead of a table.", group=OUTPUT, negative="")] = False,
) -> int:
    """Train recipes with several seeds, evaluate them under one protocol, and write one report: who won, by how much, what failed.

    Parameters
    ----------
    source
        A folder, a .zip or .tar, IDX files, or digits, ring, grid, stacked.
    """
    found = run_comparison(
        source,
        recipes,
        seeds=seeds,
        images=images,
        minutes=minutes,
        size=size,
        channels=channels,
        fit=fit,
        background=background,
        mirror=mirror,
        hold_out=hold_out,
        options=set or (),
        metrics=metrics,
        features=features,
        weights=weights,
        n=n,
        jobs=jobs,
        device=device,
        out=out,
        progress=Screen(),
    )
    print(format_json.dumps(found, indent=2, ensure_ascii=False) if json else as_text(found))
    return 0

"""`leafwing compare` as it is typed: its options, turned into one call of `compare`. `cli` loads this when it is first asked for."""

from __future__ import annotations

import json as format_json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from leafwing.commands.comparison.comparing import compare as run_comparison
from leafwing.commands.comparison.telling import as_text
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
    recipes: Annotated[str, about("Names, or paths of recipe files, separated by commas.", TRAINING)],
    seeds: Annotated[str, about("How many, from 0; or which ones: 7,8.", TRAINING)] = "3",
    images: Annotated[str | None, about("Images that each training shows. Default: 200k.", TRAINING)] = None,
    minutes: Annotated[
        float | None,
        about("As many images are shown as fit, on a CPU into processor time; with --images a limit of time.", TRAINING),
    ] = None,
    set: Annotated[
        list[str] | None,
        Parameter(
            help="width=32 for every recipe that has the option, wgan_gp.width=16 for one. May be repeated.",
            group=TRAINING,
            negative="",
        ),
    ] = None,
    size: Annotated[str | None, about("64, or 64x96 (height x width).", PICTURES)] = None,
    channels: Annotated[int | None, about("1 grey, 3 RGB, 4 RGBA.", PICTURES)] = None,
    fit: Annotated[Literal["crop", "pad", "stretch"] | None, about("How pictures are made to fit.", PICTURES)] = None,
    background: Annotated[str | None, about("Colour behind transparency and padding.", PICTURES)] = None,
    mirror: Annotated[bool | None, about("Also show every picture mirrored left to right.", PICTURES)] = None,
    hold_out: Annotated[str, about("Pictures kept out of training for the numbers, or auto.", PICTURES)] = "auto",
    metrics: Annotated[str | None, about("As for evaluate, separated by commas; the first one ranks.", NUMBERS)] = None,
    features: Annotated[str | None, about("As for evaluate: own, pixels or inception.", NUMBERS)] = None,
    weights: Annotated[Path | None, about("As for evaluate: the weights of inception.", NUMBERS)] = None,
    n: Annotated[str | None, Parameter(name=["-n", "--n"], help="Samples of each checkpoint.", group=NUMBERS)] = None,
    jobs: Annotated[
        int | None, about("Trainings at a time. Default: one a CPU core as far as memory allows, one a GPU.", MACHINE)
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], about("Where to train and to evaluate.", MACHINE)] = "auto",
    out: Annotated[Path, about("Folder of everything; a comparison in it goes on.", OUTPUT)] = Path("comparison"),
    json: Annotated[bool, Parameter(help="Print table.json instead of a table.", group=OUTPUT, negative="")] = False,
) -> int:
    """Train several recipes with several seeds, evaluate them alike, and write one report: who won, by how much, what failed.

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

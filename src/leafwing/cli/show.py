"""`leafwing show` as it is typed: its options, turned into one call of `show`. `cli` loads this when it is first asked for."""

from __future__ import annotations

import json as format_json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from leafwing.commands.show import show as draw
from leafwing.progress import Screen

PICTURES, OUTPUT = (Group(name, sort_key=key) for key, name in enumerate(("Pictures", "Output"), 1))


def about(text: str, group: Group) -> Parameter:
    """What --help says of an option, and where."""
    return Parameter(help=text, group=group, negative="")


def command(
    source: str,
    /,
    *,
    size: Annotated[str | None, about("Height and width in pixels: 64, or 64x96 (height x width).", PICTURES)] = None,
    channels: Annotated[int | None, about("1 for grey, 3 for RGB, 4 for RGBA.", PICTURES)] = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None, about("How a picture of another shape is made to fit.", PICTURES)
    ] = None,
    background: Annotated[str | None, about("Colour behind transparency and padding.", PICTURES)] = None,
    seed: Annotated[int, about("Random seed of the choice of pictures.", OUTPUT)] = 0,
    out: Annotated[
        Path | None, about("Output .png file. Default: named after the source, in the current folder.", OUTPUT)
    ] = None,
    json: Annotated[bool, about("One JSON document on standard output and nothing else there.", OUTPUT)] = False,
) -> int:
    """A contact sheet of a source as training will see it, with its classes and attributes.

    Parameters
    ----------
    source
        A folder, a .zip or .tar, IDX files, or digits, sprites, ring, grid.
    """
    reading = {"size": size, "channels": channels, "fit": fit, "background": background}
    made, found = draw(source, seed=seed, out=out, progress=Screen(), **reading)
    if json:
        print(format_json.dumps({"written": str(made), **found}, indent=2, ensure_ascii=False))
        return 0
    print(made)
    print(f"  {found['samples']:,} samples, {found['size']}")
    for title in ("classes", "attributes"):
        shares = [f"{name} {count / found['samples']:.0%}" for name, count in found[title].items()]
        if shares:
            print(f"  {title}: {', '.join(shares[:64])}{f' and {len(shares) - 64} more' if len(shares) > 64 else ''}")
    return 0

"""`leafwing doctor`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from leafwing.cli.shared import PICTURES, Json, as_json
from leafwing.progress import Screen


def command(
    source: str,
    /,
    *,
    size: Annotated[
        str | None, Parameter(help="The intended training size: 64, or 64x96 (height x width).", group=PICTURES)
    ] = None,
    channels: Annotated[int | None, Parameter(help="1 for grey, 3 for RGB, 4 for RGBA.", group=PICTURES)] = None,
    fit: Annotated[
        Literal["crop", "pad", "stretch"] | None,
        Parameter(help="How a picture of another shape is made to fit.", group=PICTURES),
    ] = None,
    background: Annotated[str | None, Parameter(help="Colour behind transparency and padding.", group=PICTURES)] = None,
    json: Json = False,
) -> int:
    """What is in a source of pictures, what will be rejected and why, and advice. Never changes it.

    Parameters
    ----------
    source
        A folder, a .zip or .tar archive, IDX files, or a built-in data set: digits, sprites, stacked, ring, grid.
    """
    from leafwing import commands

    report = commands.doctor(source, size=size, channels=channels, fit=fit, background=background, progress=Screen())
    print(as_json(report.as_dict()) if json else report.text())
    return 0

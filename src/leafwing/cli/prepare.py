"""`leafwing prepare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from leafwing.cli.shared import DATA, OUTPUT, Json, as_json, flag, option, with_settings
from leafwing.progress import ConsoleReporter
from leafwing.quantities import whole

FILTERS = Group("Filters", sort_key=2)


def list_option(text: str) -> Parameter:
    """An option that is a flag, or has the name of a list."""
    return Parameter(help=text, group=DATA, negative="", consume_multiple=True)


@with_settings("size", size="Side of the crops in pixels. Default: 64.")
def command(
    source: Annotated[str, Parameter(help="A folder or an archive of pictures.", show_default=False)],
    /,
    *,
    out: Annotated[Path, option("Output folder, which must not exist.", OUTPUT)],
    landmarks: Annotated[
        list[str] | None,
        list_option("Align by two landmarks of each picture, from the files beside them, or from the list that is named."),
    ] = None,
    boxes: Annotated[
        list[str] | None,
        list_option("Crop around the box of each picture, from the files beside them, or from the list that is named."),
    ] = None,
    points: Annotated[
        str | None,
        option(
            "The two landmarks to align by, by name or number, and optionally a third one for --frontal. Default: the two eyes "
            "and the mouth.",
            DATA,
        ),
    ] = None,
    every_box: Annotated[bool, flag("A crop of each box, instead of the largest one of each picture.", DATA)] = False,
    at: Annotated[str, option("x,y,x,y of the two landmarks, as fractions of the crop.", OUTPUT)] = "0.3,0.4,0.7,0.4",
    margin: Annotated[
        float | None, option("Added to a box on each side, as a fraction of its longer side. Default: 0.", OUTPUT)
    ] = None,
    share: Annotated[
        float | None, option("Instead of --margin: the longer side of the box, as a fraction of the crop.", OUTPUT)
    ] = None,
    outside: Annotated[
        Literal["reflect", "edge", "reject"],
        option(
            "Where a crop extends beyond its picture: reflect (fill with the mirrored picture), edge (repeat the outermost pixels) or "
            "reject.",
            OUTPUT,
        ),
    ] = "reflect",
    smallest: Annotated[
        float | None,
        option(
            "Reject crops whose side, in the original picture, is shorter than this many pixels. Default: --size, so that nothing is "
            "enlarged.",
            FILTERS,
        ),
    ] = None,
    frontal: Annotated[
        float | None,
        option(
            "Reject faces whose third landmark is farther from the centre line than this fraction of the distance between the "
            "other two: 0.2.",
            FILTERS,
        ),
    ] = None,
    sharp: Annotated[float | None, option("Reject crops whose Laplacian has a lower variance than this.", FILTERS)] = None,
    json: Json = False,
    **settings: Any,
) -> int:
    """Make a folder of aligned crops that train takes, from pictures with landmarks or boxes."""
    from leafwing import commands

    size = whole(settings.get("size") or 64, "size", 1)
    result = commands.prepare(
        source, out=out, landmarks=chosen("landmarks", landmarks), boxes=chosen("boxes", boxes), size=size, points=points, at=at,
        margin=margin, share=share, every_box=every_box, outside=outside, smallest=smallest, frontal=frontal, sharp=sharp,
        progress=ConsoleReporter(),
    )  # fmt: skip
    document = {**asdict(result), "folder": str(result.folder), "sheet": str(result.sheet)}
    print(as_json(document) if json else result.folder)
    return 0


def chosen(name: str, words: list[str] | None) -> bool | str:
    """The value of an option that is a flag or has a value."""
    from leafwing.errors import InvalidOption

    if words is None or len(words) < 2:
        return False if words is None else words[0] if words else True
    raise InvalidOption(name, " ".join(words), "one list at most")

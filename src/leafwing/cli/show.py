"""`leafwing show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from leafwing.cli.shared import OUTPUT, Json, Sources, as_json, explicit, one_or_several, option, with_settings
from leafwing.progress import ConsoleReporter
from leafwing.settings import READING_OPTIONS


@with_settings(
    *(name for name in READING_OPTIONS if name != "mirror"),
    "augment",
    augment="Show what critics see with this --augment of train: some images, each as it is and seven times changed. Default: none.",
)
def command(
    *sources: Sources,
    seed: Annotated[int, option("Random seed of the choice of images.", OUTPUT)] = 0,
    out: Annotated[
        Path | None, option("Output .png file. Default: named after the source, in the current folder.", OUTPUT)
    ] = None,
    json: Json = False,
    **reading: Any,
) -> int:
    """Draw a contact sheet of a source as training will see it, with all of its fields, and print what it contains."""
    from leafwing.commands.show import show

    path, content = show(one_or_several(sources) or [], seed=seed, out=out, progress=ConsoleReporter(), **explicit(reading))
    if json:
        print(as_json({"written": str(path), **content}))
        return 0
    print(path)
    print(f"  {content['samples']:,} samples, {content['size']}")
    width = max(map(len, content["fields"])) + 1
    for name, kind in content["fields"].items():
        print(f"  {name + ':':{width}} {kind}")
    for title in ("classes", "attributes"):
        percentages = [f"{name} {count / content['samples']:.0%}" for name, count in content[title].items()]
        if percentages:
            rest = f" and {len(percentages) - 64} more" if len(percentages) > 64 else ""
            print(f"  {title}: {', '.join(percentages[:64])}{rest}")
    return 0

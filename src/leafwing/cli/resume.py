"""`leafwing resume`, and the summary at the end of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from leafwing import recipes
from leafwing.cli.shared import (
    DATA,
    OUTPUT,
    TRAINING,
    Devices,
    Json,
    Root,
    RunName,
    Trust,
    as_json,
    explicit,
    flag,
    is_main_process,
    one_or_several,
    option,
    program,
    with_settings,
)
from leafwing.errors import INTERRUPTED, UNHEALTHY, LeafwingError
from leafwing.progress import ConsoleReporter
from leafwing.quantities import show_duration
from leafwing.settings import all_settings

SETTINGS = ("images", "time", "device", "threads", "micro_batch", "health", "max_rollbacks", "input")
"""The training settings that `resume` takes."""
FLAGS_OF_TRAIN = ("or_resume", "dry_run", "verbose")
"""The flags of `train`, besides settings and options of recipes, that `resume` does not have."""


def finish(run: Any, json: bool) -> int:
    """The end of `train` and `resume`: makes the reel, prints the results and what to do next, and returns the exit code."""
    from leafwing import health
    from leafwing.commands import closing
    from leafwing.commands.figures import show

    code = {"interrupted": INTERRUPTED, "unhealthy": UNHEALTHY}.get(run.stop_reason, 0)
    if not is_main_process():
        return INTERRUPTED if run.stop_reason == "interrupted" else 0
    records = run.records()
    last = records[-1]
    images = last["images"]
    glance, problem = closing.try_to_look(run)
    reel, no_reel = closing.try_to_animate(run)
    end = closing.ending(run, glance)
    words = [*filter(None, (no_reel, problem)), *closing.describe(end)]
    why, next_command = closing.next_step(run, end)
    result = {
        "run": str(run.folder),
        "images": images,
        "seconds": last["seconds"],
        "stop_reason": run.stop_reason,
        "samples": str(run.samples / f"{images:09d}.png"),
        "reel": str(reel) if reel else None,
        "weights": str(run.weights()[images]),
        "best": asdict(run.history.best) if run.history.best else None,
        "alarms": [alarm.as_dict() for alarm in health.alarms(records)],
        "rolled_back": [record["rolled_back"] for record in records if "rolled_back" in record],
        "glance": asdict(glance) if glance else None,
        "words": words,
        "next": f"{program()} {next_command}",
    }
    if json:
        print(as_json(result))
        return code
    verb = "trained on" if end.is_as_planned else "stopped early after"
    print(f"{verb} {images:,} images in {show_duration(last['seconds'])}: {closing.describe_plan(end)}")
    print(f"  run      {result['run']}\n  samples  {result['samples']}" + (f"\n  reel     {reel}" if reel else ""))
    for change in run.history.option_changes:
        if change.images < images:
            print(f"  options  {change}")
    if best := result["best"]:
        print(f"  best     {best['metric']} {show(best['value'])} at {best['images']:,} images (--checkpoint best)")
    print("\n".join([*words, f"next, {why}:", f"  {result['next']}"]))
    return code


def spell_out(words: Sequence[str]) -> list[str]:
    """The command line of `resume` in which flags of `train` have a value, so that they are refused like its other options.

    Args:
        words: the command line.

    Raises:
        LeafwingError: a name with a dot, which the parser takes for an item of a table.
    """
    flags = {name for name, setting in all_settings().items() if setting.type is bool} | {*FLAGS_OF_TRAIN}
    flags |= {option.name for card in recipes.catalogue() for option in card.options if option.type is bool}
    spelt = [*words]
    for place, word in enumerate(words):
        name = word.partition("=")[0]
        if name.startswith("--") and "." in name:
            raise LeafwingError(f"{name}: no such option; leafwing resume --help lists the options, and none has a dot")
        flag = word.removeprefix("--").replace("-", "_")
        is_alone = place == 1 or all(following.startswith("-") for following in words[place + 1 : place + 2])
        if word.startswith("--") and flag.removeprefix("no_") in flags and is_alone:
            spelt[place] = f"--{flag.removeprefix('no_').replace('_', '-')}={flag in flags}"
    return spelt


@with_settings(
    *SETTINGS,
    default="as before",
    images="New total number of images, or +100k to add to the old total.",
    time="New limit of the total training time, or +10m on top of the time used. Default: the old one, if it has not been "
    "reached, and without --images.",
    max_rollbacks="Maximum number of rollbacks, counting earlier ones.",
    input="Where the second source, of unpaired inputs, is now, if it has moved.",
)
def command(
    run: RunName,
    /,
    *,
    source: Annotated[
        list[str] | None,
        Parameter(
            help="Where the images are now, if they have moved; of joined sources all, in the same order. Default: as before.",
            group=DATA,
            negative="",
            consume_multiple=True,
        ),
    ] = None,
    changed: Annotated[
        Literal["old", "new"] | None,
        option(
            "If the images have changed since: old, continue with the images as they were, from the cache; new, with those that "
            "are there now. Default: stop and say what has changed.",
            DATA,
        ),
    ] = None,
    devices: Devices = 1,
    trust: Trust = False,
    tensorboard: Annotated[bool, flag("Write TensorBoard files too.", OUTPUT)] = False,
    root: Root = Path("runs"),
    json: Json = False,
    **settings: Annotated[
        str,
        Parameter(
            name="--OPTION", help="A new value of a learning rate or the batch size: --lr-g 1e-4 --batch 32.", group=TRAINING
        ),
    ],
) -> int:
    """Continue a run exactly from its last checkpoint.

    Options of the recipe that change nothing but learning rates or the batch size may change, and hold from there on.
    `leafwing train --from RUN --help` lists the options of the run's recipe.
    """
    from leafwing import commands

    switched = {"True": True, "False": False}  # by `spell_out`
    options: dict[str, Any] = {name.replace("-", "_"): switched.get(value, value) for name, value in settings.items()}
    data = explicit({"source": one_or_several(source or ()), "changed": changed})
    resumed = commands.resume(
        run, trust=trust, tensorboard=tensorboard, root=root, progress=ConsoleReporter(), **data, **explicit(options)
    )
    return finish(resumed, json)

"""`leafwing resume`, and how a training ends on the screen."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from leafwing.cli.shared import (
    INTERRUPTED,
    MACHINE,
    OUTPUT,
    TRAINING,
    UNHEALTHY,
    Devices,
    Json,
    Root,
    Trust,
    called,
    speaks,
)
from leafwing.progress import Screen
from leafwing.quantities import show_count, show_duration


def finish(run: Any, as_json: bool) -> int:
    """The end of `train` and `resume`: the reel, and what there is to see and to do."""
    from leafwing import commands, health

    code = {"asked": INTERRUPTED, "unhealthy": UNHEALTHY}.get(run.done, 0)
    if not speaks():
        return INTERRUPTED if run.done == "asked" else 0
    records = run.records()
    last = records[-1]
    images = last["images"]
    made = {
        "run": str(run.folder),
        "images": images,
        "seconds": last["seconds"],
        "done": run.done,
        "samples": str(run.samples / f"{images:09d}.png"),
        "reel": str(commands.reel(run.folder)),
        "weights": str(run.weights()[images]),
        "best": asdict(run.history.best) if run.history.best else None,
        "alarms": [asdict(alarm) for alarm in health.alarms(records)],
        "rolled_back": [record["rolled_back"] for record in records if "rolled_back" in record],
    }
    if as_json:
        print(json.dumps(made, indent=2))
    else:
        stopped = code or run.done in ("no_better", "seconds")
        print(f"{'stopped after' if stopped else 'showed'} {images:,} images in {show_duration(last['seconds'])}")
        print(f"  run      {made['run']}\n  samples  {made['samples']}\n  reel     {made['reel']}")
        print(f"  health   {health.summary(records)}")
        if best := made["best"]:
            print(f"  best     {best['metric']} {best['value']:.4g} at {best['images']:,} images (--checkpoint best)")
        total = run.settings.schedule.images
        more = "" if images < total else f" --images +{show_count(total)}"
        command = called()
        trust = "" if run.recipe_is_installed() else " --trust"
        go_on = f"  {command} resume {run.folder}{more}{trust}"
        what = "-n 10 --label all" if "label" in run.config["conditions"] else "-n 64"
        if "attributes" in run.config["conditions"]:
            first = run.spec.attributes[0]
            what += f" --set '{first if '=' in first else first + '=1'}'"
        cut_short = run.done == "seconds" and images < total
        print("try next:" if cut_short else f"try next:\n{go_on}")
        print(f"  {command} sample {run.folder} {what} --seed 3{trust}")
        if cut_short:
            print(
                f"warning: the time limit ended this training after {images:,} of {total:,} images, so the pictures may be poor. "
                f"To show the rest:\n{go_on}"
            )
    return code


def command(
    run: str,
    /,
    *,
    images: Annotated[str | None, Parameter(help="New total of images, or +100k to add to it.", group=TRAINING)] = None,
    time: Annotated[
        str | None, Parameter(help="New limit of total training time, or +10m to add to it.", group=TRAINING)
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None,
        Parameter(help="Continue on another device. Default: as before.", group=MACHINE),
    ] = None,
    threads: Annotated[str | None, Parameter(help="CPU threads, or auto. Default: as before.", group=MACHINE)] = None,
    micro_batch: Annotated[
        int | None, Parameter(help="Micro-batch size (gradient accumulation). Default: as before.", group=MACHINE)
    ] = None,
    health: Annotated[
        Literal["warn", "stop", "roll_back", "off"] | None,
        Parameter(help="On a health alarm: warn, stop, roll back, or no checks. Default: as before.", group=TRAINING),
    ] = None,
    roll_backs: Annotated[
        int | None, Parameter(help="Maximum number of roll-backs in total. Default: as before.", group=TRAINING)
    ] = None,
    devices: Devices = 1,
    trust: Trust = False,
    tensorboard: Annotated[bool, Parameter(help="Write TensorBoard files too.", group=OUTPUT, negative="")] = False,
    root: Root = Path("runs"),
    json: Json = False,
) -> int:
    """Continue a run exactly from its last checkpoint.

    Parameters
    ----------
    run
        Folder, name, number or `last`.
    """
    from leafwing import commands

    done = commands.resume(
        run,
        images=images,
        time=time,
        device=device,
        threads=threads,
        micro_batch=micro_batch,
        health=health,
        roll_backs=roll_backs,
        trust=trust,
        tensorboard=tensorboard,
        root=root,
        progress=Screen(),
    )
    return finish(done, json)

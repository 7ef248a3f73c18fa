"""What a training would be, before it begins: the plan with measured speed and the memory it will take. Nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leafwing.commands.feeding import fed
from leafwing.commands.plan import prepare, resolve
from leafwing.progress import Silent
from leafwing.runs import refuse
from leafwing.settings import Settings, given_in, separated


def forecast(
    source: str | Path | None = None,
    recipe: str | None = None,
    settings: Settings | None = None,
    *,
    replay: str | Path | None = None,
    out: str | Path | None = None,
    progress: Silent | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What `train` would do with the same arguments: the resolved plan, with parameters, memory, speed and time.

    A few steps are trained and thrown away; no run folder is made. Memory is worked out, for half and twice the batch too.
    """
    from leafwing.engine.footprint import estimate_footprint

    refuse(out)
    given, own = separated({**(given_in(settings) if settings else {}), **options})
    plan = resolve(source, recipe, given, own, progress or Silent(), replay)
    training = prepare(plan, images=10**12)
    batch, schedule = training.game.batch, plan.settings.schedule
    needs = estimate_footprint(training.engine, fed(plan.config["data"], plan.data)[0].batch(schedule.seed, 0, 4), batch)
    list(training.ticks(10**12, seconds=1.0))  # the first turns are slower
    before, started = training.clock.images, training.seconds
    list(training.ticks(10**12, seconds=started + 3.0))
    speed = (training.clock.images - before) / (training.seconds - started)
    parameters = {name: sum(p.numel() for p in player.net.parameters()) for name, player in training.game.players.items()}
    seconds = schedule.images / speed
    return {
        **plan.config,
        "why": dict(plan.why),
        "batch": batch,
        "parameters": parameters,
        "memory": needs.total,
        "memory_by_batch": {str(size): needs.at(size).total for size in (max(1, batch // 2), batch, 2 * batch)},
        "images_per_second": round(speed, 1),
        "seconds": round(min(seconds, schedule.time or seconds)),
        "epochs": round(schedule.images / (len(plan.data) - plan.config["data"]["held_out"]), 1),
    }

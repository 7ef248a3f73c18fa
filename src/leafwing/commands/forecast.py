"""A dry run: the plan of a training run with its measured speed and estimated memory. Writes no run folder."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from leafwing.commands.closing import expectation
from leafwing.commands.first_checks import check_training
from leafwing.commands.plan import build_training, resolve_training
from leafwing.commands.recommend import fill_in
from leafwing.commands.replaying import naming_origin
from leafwing.commands.speed import MEASURING, images_within, left_out, mean_speed, measured_parts
from leafwing.commands.transfer import start_from, with_start
from leafwing.config import History
from leafwing.errors import InvalidOption
from leafwing.progress import OnceReporter, Progress, reporter_of
from leafwing.quantities import show_count
from leafwing.recipes._recommended import SMALL
from leafwing.runs import ROOT, Run, refuse_existing
from leafwing.settings import Settings, non_defaults, split_keywords


def forecast(
    source: Any = None,
    recipe: str | None = None,
    settings: Settings | None = None,
    *,
    replay: str | Path | Run | None = None,
    out: str | Path | None = None,
    root: str | Path = ROOT,
    devices: int = 1,
    progress: Progress = None,
    **options: Any,
) -> dict[str, Any]:
    """What `train` would do with the same arguments: the resolved plan, with parameters, memory, speed and time.

    Trains for a few seconds and discards the result. The memory is estimated, also for half and twice the batch size. With several
    `devices`, which would share every batch, speed, time and memory are still those of one process.

    Raises:
        LeafwingError: invalid input, or a batch that the devices cannot share equally.
    """
    refuse_existing(out)
    if devices < 1:
        raise InvalidOption("devices", devices, "must be at least 1")
    chosen, hyperparameters = split_keywords({**(non_defaults(settings) if settings else {}), **options})
    if settings and replay is None:
        chosen.setdefault("images", settings.schedule.images)  # the user's choice, also if it is the default
    check_training(source, recipe, chosen, hyperparameters, replay)
    chosen = with_start(chosen, root)
    from leafwing.commands.threads import settle_threads
    from leafwing.engine import isolated
    from leafwing.engine.footprint import estimate_footprint
    from leafwing.engine.processes import check_divisible

    reporter, is_named, by_user = OnceReporter(reporter_of(progress)), recipe is not None, chosen
    with isolated(), naming_origin(replay, {**chosen, **hyperparameters}):
        recipe, chosen, hyperparameters, speed = fill_in(source, recipe, chosen, hyperparameters, reporter, replay)
        plan = resolve_training(source, recipe, chosen, hyperparameters, reporter, replay)
        training = build_training(plan, images=10**12)
        option = plan.settings.transfer.start
        start = start_from(training.game, option, reporter.say) if option else None
        training.phases = training.phases[:1]  # if a replayed run changed its batch size, all numbers are those of the first
        batch = training.phases[0].batch if training.phases else training.batch
        check_divisible(batch, devices)
        schedule = plan.settings.schedule
        memory = estimate_footprint(training.engine, training.batches(0, 4), batch)
        if speed is None:
            reporter.say(MEASURING)
            settle_threads(training, plan.settings.machine)
            parts = measured_parts(training)
        else:
            parts = [(1.0, speed)]
    parameters = {name: sum(p.numel() for p in player.net.parameters()) for name, player in training.game.players.items()}
    duration = min(schedule.images / mean_speed(parts), schedule.time or inf)
    within = images_within(parts, schedule.images, duration)
    shown = min(schedule.images, max(1, round(within)))
    if schedule.time and (begin := left_out(training.game, shown, schedule.images)):
        reporter.warn(
            f"--time ends this training after about {show_count(shown)} images, before its last stage, which begins at "
            f"{show_count(begin)}: choose fewer --images, about {show_count(round(schedule.time * mean_speed(parts)))} fit into it"
        )
    spec = plan.data_config.spec
    expected = expectation(spec, shown, History(start=start).before)
    hindering = {
        "--recipe": is_named,
        "--size": "size" in by_user and max(spec.height, spec.width) > SMALL,
        "--images": "images" in by_user and shown == schedule.images,
    }
    if expected and replay is None and "start" not in by_user and any(hindering.values()):
        *others, last = (name for name, hinders in hindering.items() if hinders)
        words = f"{', '.join(others)} and {last}" if others else last
        expected += f"; without {words}, size and networks are chosen for the time"
    return {
        **plan.config,
        "why": dict(plan.reasons),
        "fields": spec.describe(),
        "batch": batch,
        "devices": devices,
        "augment": plan.settings.critic.augment or training.game.augment,
        "parameters": parameters,
        "memory": memory.total,
        "memory_by_batch": {str(size): memory.at(size).total for size in (max(1, batch // 2), batch, 2 * batch)},
        "images_per_second": round(within / duration, 1),
        "seconds": round(duration),
        "shown": shown,
        "expect": expected,
        "epochs": round(shown / (plan.data_config.used - plan.data_config.held_out), 1),
    }

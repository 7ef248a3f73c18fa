"""Training a recipe on a data source, and resuming a run exactly from its last checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from leafwing import optional
from leafwing.commands.capacity import check_memory, out_of_memory
from leafwing.commands.closing import describe_length
from leafwing.commands.feeding import held_out_batches, reload_data, split_data, trained_on_held_out
from leafwing.commands.first_checks import check_training
from leafwing.commands.hardware import divide_threads, slow_here
from leafwing.commands.launching import join_processes
from leafwing.commands.plan import (
    build_training,
    changed_machine,
    check_watching,
    fit_to_length,
    new_training,
    resolve_training,
)
from leafwing.commands.recommend import fill_in
from leafwing.commands.replaying import naming_origin, open_replay
from leafwing.commands.retuning import build_phases, changes_of, check_changes, check_values, describe_change, timeline
from leafwing.commands.session import run_session, sheet_rows, tensorboard_writer
from leafwing.commands.speed import left_out
from leafwing.commands.stopping import choose_stop_features, parse_stop_on
from leafwing.commands.transfer import start_again, start_from, trained_on, with_start
from leafwing.config import DataChange, DataConfig, ThreadChange
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.files import RESTORE, guide_page
from leafwing.option_names import Pace, refuse
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import count, duration, show_count, show_duration
from leafwing.runs import ROOT, Run, refuse_existing, train_again
from leafwing.settings import Settings, all_settings, non_defaults, replace_fields, split_keywords

if TYPE_CHECKING:
    from leafwing.data import Dataset

ADVICE = "The last checkpoint is kept: `leafwing resume` continues from there, with any number of processes"
SLOWEST = 0.1
"""The lowest speed in a log, which has one digit after the point; 0 below."""
LATEST = 10
"""Lines of the log from which the speed of an earlier session is read: earlier ones may be of another machine, load or batch size."""


def train(
    source: Any = None,
    recipe: str | None = None,
    settings: Settings | None = None,
    *,
    out: str | Path | None = None,
    root: str | Path = ROOT,
    replay: str | Path | Run | None = None,
    tensorboard: bool = False,
    progress: Progress = None,
    **options: Any,
) -> Run:
    """Trains a recipe on a data source and creates a run folder.

    Args:
        source: a folder, an archive, a built-in name, several paths to join, or images from Python; see `leafwing.data.load`. None:
            that of the replayed run.
        recipe: an installed recipe or the path of a recipe file. None: that of the replayed run; else the recipe, options and settings
            that are recommended for these images, this machine and the time (`recipes._recommended`).
        settings: all settings; see `leafwing.settings` for their meanings and defaults.
        out: the run folder, which must not exist; None: numbered under `root`.
        root: folder of the numbered run folders.
        replay: a run, its folder or its `run.json`, whose settings are used unless given here.
        tensorboard: write TensorBoard files into the run folder too.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        **options: settings by name (`size=64`, `images="200k"`), which override `settings`; and hyper-parameters of the recipe.

    Returns:
        The run. Its `stop_reason` says why training ended: `images`, `time_limit`, `unhealthy`, `no_improvement`, or `interrupted` by
        Ctrl-C or another signal (`commands.stop_signals`), which finishes the turn and writes a checkpoint.

    Raises:
        LeafwingError: invalid input; nothing was written.
        Diverged: a loss or weight became NaN or infinite; the last good checkpoint is kept.
        StorageError: the run folder or the cache is not writable.
    """
    values, hyperparameters = split_keywords({**(non_defaults(settings) if settings else {}), **options})
    if settings and replay is None:
        values.setdefault("images", settings.schedule.images)  # the user's choice, also if it is the default
    refuse_existing(out)
    if tensorboard:
        optional.require("tensorboard")
    check_training(source, recipe, values, hyperparameters, replay)
    values = with_start(values, root)
    is_named, sets_images = recipe is not None, "images" in values
    with join_processes(ADVICE) as processes, naming_origin(replay, {**values, **hyperparameters}):
        progress = reporter_of(progress) if processes.first else Reporter()
        recipe, values, hyperparameters, _ = fill_in(source, recipe, values, hyperparameters, progress, replay, processes)
        with processes.first_on_machine():
            plan = resolve_training(source, recipe, values, hyperparameters, progress, replay, processes)
        writer = tensorboard_writer() if tensorboard else None
        training = build_training(plan, progress.say, processes)
        with out_of_memory(training, plan.options):
            check_memory(training, plan.options, progress.warn)
        if plan.settings.transfer.start:
            start = start_from(training.game, plan.settings.transfer.start, progress.say)
            plan.config["history"]["start"] = asdict(start)
            plan.config["transfer"]["start"] = f"{start.folder}@{start.images}"  # so that a replay takes the same
            before = open_replay(replay).history.start if replay and "start" not in values else None
            if before is not None and before.sha256 != start.sha256:
                progress.warn(
                    f"{start.folder} has other weights at {start.images:,} images than when the replayed run began: the weights will "
                    "differ"
                )
            if plan.data_config.held_out and trained_on(Run(start.folder), plan.data_config):
                plan.config["history"]["trained_on_held_out"] = True
                progress.warn(
                    f"{start.folder}, from whose weights this training begins, was trained on images that are held out here, or may "
                    "have been: they are not unseen, and evaluations will say so. It would need the same --hold-out and data"
                )
        conditions = list(dict.fromkeys(name for output in training.game.abilities.outputs for name in output.conditions))
        plan.config["conditions"] = conditions
        if training.game.pretrained:
            plan.config["pretrained"] = training.game.pretrained
        stored = [name for name in conditions if not plan.data.spec.fields[name].has_pixels]
        if set(stored) - {"label"}:  # sampling needs them, without the data
            plan.config["data"]["examples"] = plan.data.examples(stored)
        run = Run.create(plan.config, plan.card.path, out=out, root=root) if processes.first else None
        folder = processes.broadcast(None if run is None else str(run.folder))
        run = run or Run(folder, trust=True)
        progress.say(f"run folder: {run.folder}")
        every = show_count(plan.settings.folder.grid_every)
        progress.say(f"progress sheets: {run.samples}, one about every {every} images")
        progress.say(
            "shown below: images, speed, time left, and the loss of each network (G makes samples, D judges them), which says little "
            f"about quality; words: {guide_page('glossary.md')}"
        )
        images = plan.settings.schedule.images
        if is_named or sets_images:
            progress.say(describe_length(run, images, plan.settings.schedule.time))
        if is_named and plan.settings.schedule.time and (begin := left_out(training.game, 0, images)):
            progress.say(
                f"the stages of {plan.card.name} follow --images, not --time: other networks begin to be trained after "
                f"{show_count(begin)} of {show_count(images)} images, if the time suffices for so many; --dry-run measures it"
            )
        if plan.settings.critic.augment is None and training.game.augment != "none":
            progress.say(
                f"critics see changed images by default in {plan.card.name}: --augment {training.game.augment}; none turns it off"
            )
        if "augment" in values and training.engine.augmentation and len(training.engine.optimisers) < 2:
            progress.say(
                f"--augment {values['augment']} has no effect: only one network is trained, and none that judges its pictures"
            )
        for note in training.game.notes:
            if note not in plan.notes:
                progress.say(note)
        with run.lock() if processes.first else nullcontext():
            rows = sheet_rows(run, plan.data, training.game)
            with out_of_memory(training, plan.options):
                return run_session(run, training, progress, writer, held_out_batches(run, plan.data, training), rows)


def resume(
    run: str | Path | Run,
    *,
    images: int | str | None = None,
    time: float | str | None = None,
    device: str | None = None,
    threads: int | str | None = None,
    micro_batch: int | None = None,
    health: str | None = None,
    max_rollbacks: int | None = None,
    changed: str | None = None,
    source: Any = None,
    input: str | Path | None = None,
    trust: bool = False,
    tensorboard: bool = False,
    root: str | Path = ROOT,
    progress: Progress = None,
    **options: Any,
) -> Run:
    """Continues a run exactly from its last checkpoint: on a CPU the weights become those of an uninterrupted run.

    Args:
        run: the run, its folder, name or number, or `last`.
        images: a new total number of images, or `+100k` to add to the old total.
        time: a new limit of the total training time, or `+10m` on top of the time used; None: the old limit, if it has not
            been reached and there are no new `images`.
        device: another device: auto, cpu, cuda or mps. The weights then match an uninterrupted run up to rounding.
        threads: another number of CPU threads, or `auto`; likewise.
        micro_batch: another micro-batch size; likewise.
        health: another response to health alarms; see `leafwing.settings`.
        max_rollbacks: maximum number of rollbacks, counting earlier ones.
        changed: if the images have changed since: `old` continues with the images as they were, which must be in the cache; `new` with
            those that are there now, which the run records; None refuses.
        source: where the images are now, if they have moved; of joined sources all, in the same order; or images from Python, if they
            were given so and are not in the cache.
        input: where the second source is now, if it has moved.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.
        tensorboard: write TensorBoard files too.
        root: folder of the numbered run folders.
        progress: True or None: shown; False: not; or a `leafwing.Reporter`, which receives messages and progress.
        **options: new values of the recipe's options that change nothing but learning rates or the batch size: `lr_g=1e-4, batch=32`.
            They hold from here on, and the run records that.

    Raises:
        LeafwingError: no such run, a finished one, an incomplete checkpoint, changed data, or an option that cannot change.
    """
    if changed not in (None, "old", "new"):
        raise InvalidOption("changed", changed, "choose from old, new")
    new_total(images, 0, count, "images")
    new_total(time, 0.0, duration, "time")
    if tensorboard:
        optional.require("tensorboard")
    machine_changes, _ = split_keywords({"device": device, "threads": threads, "micro_batch": micro_batch})
    watching_changes, _ = split_keywords({"health": health, "max_rollbacks": max_rollbacks})
    known = [
        name for name, item in signature(resume).parameters.items() if item.kind is item.KEYWORD_ONLY and name != "progress"
    ]
    unread = Run.open(run, root=root)
    refuse_other_names(unread, options)
    check_values(unread, options, known)
    check_watching(replace_fields(unread.settings.watching, watching_changes), watching_changes)
    from leafwing.engine.probe import phase_changes

    with join_processes(ADVICE) as processes:
        progress = reporter_of(progress) if processes.first else Reporter()
        with unread.lock() if processes.first else nullcontext():
            opened = Run.open(run, root=root, trust=trust)  # as another session may have left it
            old = opened.settings
            machine = divide_threads(old.machine, machine_changes, opened.history.processes, processes, progress.say)
            machine = changed_machine(machine, machine_changes)
            for text in slow_here(machine, machine_changes, processes, opened):
                progress.warn(text)
            state = opened.resume_state()
            refuse_lost_state(opened, state)
            require_intervals(opened)
            shown = state["images"] if state else 0
            old_line = timeline(opened.options, opened.history.option_changes)
            line = check_changes(opened, options, old_line, shown, known)
            hyperparameters, option_changes = changes_of(line)
            used = float(state["seconds"]) if state else 0.0
            total, limit = new_length(opened, images, time, shown if state else None, used)
            with processes.first_on_machine():
                dataset = reload_data(opened, progress, changed, source, input)
            data_config, data_changes = changed_data(opened, dataset, shown)
            flattered, has_changed = opened.history.trained_on_held_out, data_changes != opened.history.data_changes
            if shown and has_changed and not flattered and trained_on_held_out(opened.data, data_config, dataset):
                flattered = True
                progress.warn(
                    "images on which this run was trained are held out now, or may be: they are not unseen, as evaluations will say"
                )
            settings = replace(
                old,
                schedule=replace(old.schedule, images=total, time=limit),
                watching=replace_fields(old.watching, watching_changes),
                machine=machine,
            )
            open_intervals, since = opened.history.open_intervals, opened.history.intervals_since
            if (total, limit) != (old.schedule.images, old.schedule.time):
                derived = opened.history.derived_intervals
                folder, open_intervals = fit_to_length(old.folder, derived, settings.schedule)
                settings, since = replace(settings, folder=folder), shown if "save_every" in derived else since
            data, _ = split_data(data_config, dataset)
            planned = opened.history.planned or old.schedule.images
            training = new_training(
                lambda: opened.build_game(hyperparameters), data, settings, progress.say, processes,
                planned=planned, phases=build_phases(opened.build_game, line), start=state["began"] if state else 0,
            )  # fmt: skip
            training.game.pretrained = sorted({*training.game.pretrained, *opened.pretrained})
            if any(moment > total / planned for moment in phase_changes(training.game.turns)):
                progress.warn(
                    f"the stages of this training were planned for {planned:,} images, and those that begin after {total:,} are left "
                    f"out: `leafwing {train_again(opened)} --images {total}` plans them anew"
                )
            if old.schedule.stop_on:
                choose_stop_features(
                    opened, training.game, parse_stop_on(old.schedule.stop_on)[0]
                )  # raises if not installed
            if state:
                opened.load_weights(training.game, shown)
                training.restore(state)
            elif opened.history.start:
                start_again(training.game, opened.history.start)
            with out_of_memory(training, hyperparameters, resumed=True):
                check_memory(training, hyperparameters, progress.warn, resumed=True)
            changes = tuple(change for change in opened.history.thread_changes if change.images <= training.clock.images)
            if threads is not None:
                changes = (ThreadChange(training.clock.images, training.engine.setup.threads),) if threads == "auto" else ()
            planned = 0 if planned == total else planned
            history: dict[str, Any] = {
                "thread_changes": changes, "planned": planned, "data_changes": data_changes, "option_changes": option_changes,
                "open_intervals": open_intervals, "intervals_since": since,
                "trained_on_held_out": flattered,
                "processes": processes.local_world_size,
            }  # fmt: skip
            processes.barrier()  # all processes have read the files that the first one changes now
            if processes.first:
                if opened.truncate_log(training.clock.images) and shown:
                    progress.warn(
                        f"{opened.folder / 'log.jsonl'} was missing: it begins at {shown:,} images now, and alarms and curves know "
                        "nothing of the training before"
                    )
                opened.update(settings, data_config, hyperparameters, **history)
            else:
                opened.settings, opened.data, opened.history = settings, data_config, replace(opened.history, **history)
                opened.options = hyperparameters
            progress.say(describe_rest(opened, training.clock.images, used, old.schedule.time))
            for text in describe_change(old_line, line, training):
                progress.say(text)
            writer = tensorboard_writer() if tensorboard else None
            rows = sheet_rows(opened, dataset, training.game)
            with out_of_memory(training, opened.options, resumed=True):
                return run_session(opened, training, progress, writer, held_out_batches(opened, dataset, training), rows)


def new_length(
    run: Run, images: int | str | None, time: float | str | None, shown: int | None, used: float
) -> tuple[int, float | None]:
    """The total number of images of a resumed training, and the limit of its total time in seconds; None without one. A limit that
    was not reached stays, unless there are new `images`.

    Args:
        run: the run, with its old settings.
        images, time: the options of `resume`.
        shown: images shown so far; None before the first checkpoint.
        used: seconds of training so far.

    Raises:
        LeafwingError: no images or no time is left.
    """
    before = run.settings.schedule.images
    total = new_total(images, max(before, shown or 0 if images else 0), count, "images")
    old = run.settings.schedule.time
    limit = (
        (None if images or old is None or used >= old else old) if time is None else new_total(time, used, duration, "time")
    )
    if limit is not None and used >= limit:
        raise LeafwingError(
            f"{run.folder} has already been trained for {show_duration(used)}, so --time {time} is too short; use a longer limit, or "
            "+10m on top of the time used"
        )
    if shown is None or shown < total:
        return total, limit
    if images:
        raise LeafwingError(
            f"{run.folder} has already been trained on {shown:,} images, so --images {images} is too low; use a larger total, or +N "
            "to add to it"
        )
    raise LeafwingError(
        f"{run.folder} has already been trained on all of its {total:,} images; continue with "
        f"`leafwing resume {run.folder} --images +100k`"
    )


def describe_rest(run: Run, shown: int, used: float, before: float | None) -> str:
    """The first line of a resumed training: where it goes on, how much remains, and what has become of its time limit.

    Args:
        run: the run, with its new settings.
        shown, used: images shown so far, and seconds of training.
        before: its earlier time limit in seconds; None without one.
    """
    total, limit = run.settings.schedule.images, run.settings.schedule.time
    line = f"{run.folder}: resuming at {shown:,} of {total:,} images, {total - shown:,} to go"
    if shown and shown == run.history.no_improvement:
        line += ", or until --stop-on sees no improvement from here on"
    speeds = [record.get("images_per_second", 0.0) for record in run.records()[-LATEST:]]
    if speeds := [speed for speed in speeds if speed >= SLOWEST]:
        line += f", about {show_duration((total - shown) / median(speeds))} at its latest speed"
    if limit is not None:
        return f"{line}; it stops after {show_duration(max(0.0, limit - used))} if that comes first (--time)"
    if before is None:
        return line
    return f"{line}; its time limit of {show_duration(before)} no longer holds, --time +10m sets another"


def require_intervals(run: Run) -> None:
    """Raises LeafwingError if an interval of checkpoints, sample grids or log lines is not chosen, as that of every training is."""
    folder = run.settings.folder
    for name in ("save_every", "grid_every", "log_every"):
        if not getattr(folder, name):
            raise LeafwingError(f"{run.folder / 'run.json'}: folder.{name}: 0 is not an interval; {RESTORE}")


def refuse_other_names(run: Run, options: Mapping[str, Any]) -> None:
    """Raises LeafwingError for an option of `resume` that has another name here."""
    known = {item.name: item.help for item in run.card().options if item.name == "batch" or item.name.startswith("lr")}
    known |= {name: setting.help for name, setting in all_settings().items() if name in signature(resume).parameters}
    images = run.data.used - run.data.held_out
    batch, critic = int(run.options.get("batch", 0)), int(run.options.get("n_critic", 1))
    refuse("resume", options, known, Pace(lambda: images, run.recipe, batch, critic, more=True))


def changed_data(run: Run, dataset: Dataset, images: int) -> tuple[DataConfig, tuple[DataChange, ...]]:
    """The section `data` of a run that continues with this data, and the changes of its data so far.

    Raises:
        LeafwingError: the networks do not fit the data.
    """
    config, changes = run.data, run.history.data_changes
    config = replace(config, source=dataset.source, sources=dict(dataset.sources) or None)
    if config.parts:
        config = replace(config, options=config.options | {"input": dataset.options["input"]})
    if dataset.fingerprint == config.fingerprint:
        return config, changes
    new = replace(
        config,
        options=dataset.options,
        fingerprint=dataset.fingerprint,
        samples=len(dataset),
        rejected=len(dataset.rejects),
        parts=dict(dataset.parts) or None,
    )
    used = dataset
    if config.duplicates is not None:
        used = dataset.distinct()
        new = replace(new, duplicates=len(dataset) - len(used))
    if config.held_out >= len(used):
        raise LeafwingError(
            f"{dataset.source}: {len(used):,} images are too few, because {run.folder} holds out {config.held_out:,}; "
            "continue with the images as they were (--changed old), or start a new run"
        )
    new = replace(new, held_out_by=used.shared_field() if new.held_out else None)
    if (spec := split_data(new, dataset)[0].spec) != config.spec:
        names = sorted(
            name for name in {*spec.fields, *config.spec.fields} if spec.fields.get(name) != config.spec.fields.get(name)
        )
        raise LeafwingError(
            f"{dataset.source}: the networks of {run.folder} do not fit the images that are there now ({', '.join(names)}: other "
            "classes, size or channels); continue with the images as they were (--changed old), or start a new run"
        )
    return new, (*changes, DataChange(images, config.fingerprint, config.samples))


def refuse_lost_state(run: Run, state: dict[str, Any] | None) -> None:
    """Raises LeafwingError if the newest weights are missing, or `resume.pt` is missing or too old for them.

    If the process is killed between the two files of a checkpoint, there is one newer weights file, which training writes again
    with the same content.
    Several newer files, or weights without any `resume.pt`, mean that `resume.pt` was lost or replaced: resuming would overwrite
    them.
    """
    weights = run.weights()
    if state and state["images"] and state["images"] not in weights:
        hint = (
            f"; `leafwing sample {shlex.quote(str(run.folder))} --checkpoint {max(weights)}` still works" if weights else ""
        )
        raise LeafwingError(
            f"the newest checkpoint ({state['images']:,} images) is missing in {run.folder}, so this run cannot be resumed{hint}"
        )
    newer = [images for images in weights if state is None or images > state["images"]]
    exists = (run.folder / "resume.pt").exists()  # written when training starts
    rollbacks = state.get("beside", {}).get("health", {}).get("rolled_back", []) if state else []
    if state and rollbacks and rollbacks[-1]["to"] == state["images"]:
        return  # killed during a rollback, which was about to remove the newer weights
    if not newer or (exists and len(newer) == 1):
        return
    problem = (
        "has no resume.pt" if state is None else f"its resume.pt belongs to {state['images']:,} images, which is too old"
    )
    raise LeafwingError(
        f"{run.folder} has weights at {newer[-1]:,} images but {problem}. Resuming would go back to "
        f"{state['images'] if state else 0:,} images and overwrite them. Restore the run's own resume.pt (copies often omit it), "
        f"or train again: `leafwing {train_again(run)}`. Sampling and evaluation do not need resume.pt"
    )


def new_total(value: int | float | str | None, base: Any, parse: Callable[..., Any], name: str) -> Any:
    """A new total; a value with + is added to the base, and None is the base itself."""
    if value is None:
        return base
    text = str(value).strip()
    return base + parse(text[1:], name) if text.startswith("+") else parse(text, name)

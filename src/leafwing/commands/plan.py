"""Resolves a training run before it begins: checks all arguments and determines everything that `run.json` records."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.augment_option import parse
from leafwing.commands.feeding import (
    add_streams,
    data_check,
    generates_from_pictures,
    inherited_options,
    parse_labelled,
    permissive_spec,
    split_data,
)
from leafwing.commands.hardware import divide_threads, slow_here
from leafwing.commands.replaying import describe_other_data, not_repeated, open_replay
from leafwing.commands.retuning import build_phases, changes_of, remaining, replayed, timeline, without_effect
from leafwing.commands.stopping import check_stop_data, check_stop_on, check_stop_output, require_decisive
from leafwing.commands.transfer import find_start, freeze
from leafwing.config import DataConfig, History, OptionChange, ThreadChange
from leafwing.errors import InvalidOption, LeafwingError
from leafwing.game import Clock
from leafwing.machine import versions
from leafwing.progress import Reporter
from leafwing.quantities import check_seed, show_duration, whole
from leafwing.runs import Run, settings_sections
from leafwing.settings import (
    MAX_THREADS,
    READING_OPTIONS,
    DataSettings,
    HardwareSettings,
    HealthSettings,
    OutputSettings,
    Schedule,
    Settings,
    replace_fields,
)

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.data.lacking import Accept
    from leafwing.data.locating import Place
    from leafwing.engine import Setup
    from leafwing.engine.augmentation import Augmentation
    from leafwing.engine.processes import Processes
    from leafwing.game import DataSpec, Game
    from leafwing.loop import Phase, Training
    from leafwing.recipes import Card, Value


INTERVALS = ("save_every", "grid_every", "log_every")
"""The intervals that follow from the length of training if the user sets none."""
LONGEST_TICK = 2_000
"""Most images between two lines of the log, unless the user chose more."""

INDEPENDENT = ("precision", "threads", "layout", "compile", "micro_batch")
"""Hardware settings that do not depend on the device."""


@dataclass(frozen=True)
class TrainingPlan:
    """A resolved training run.

    Args:
        card: description of the recipe.
        reference: name of the recipe, or path of its file.
        data: all samples, including the held-out ones.
        options: all hyper-parameters.
        data_config: section `data` of `run.json`.
        settings: all settings, fully resolved.
        history: changes of hyper-parameters and of the number of threads that a replay repeats, and intervals that are still to be
            determined.
        config: content of `run.json`.
        reasons: the reason for each hardware setting, in words.
        notes: the notes of the recipe that have been shown.
    """

    card: Card
    reference: str
    data: Dataset
    options: Mapping[str, Value]
    data_config: DataConfig
    settings: Settings
    history: History
    config: dict[str, Any]
    reasons: Mapping[str, str]
    notes: Sequence[str] = ()


def resolve_training(
    source: Any,
    recipe: str | None,
    values: Mapping[str, Any],
    options: Mapping[str, Value],
    progress: Reporter,
    replay: str | Path | Run | None = None,
    processes: Processes | None = None,
    accepts: Sequence[Accept] = (),
) -> TrainingPlan:
    """Resolves and checks all arguments of a training run. Arguments take precedence over a replayed run, and that over the defaults.

    Args:
        source: as for `train`; None: that of the replayed run.
        recipe: name or file; None: that of the replayed run, or the default.
        values: settings by name, from `settings.split_keywords`.
        options: hyper-parameters of the recipe.
        progress: receives messages and progress.
        replay: `run.json` or folder of an earlier run.
        processes: the processes that share the work; None: this one only.
        accepts: what else is asked of the fields of the data, before any image is read.

    Raises:
        LeafwingError: invalid input.
    """
    from leafwing import data
    from leafwing.data.locating import locate
    from leafwing.data.memory import PREFIX
    from leafwing.data.split import hold_out_count

    old = open_replay(replay) if replay else None
    source = old.data.origin if old and source is None else source
    if source is None:
        raise LeafwingError("train needs an image source: a folder, an archive, or " + ", ".join(data.BUILT_IN))
    place = locate(source)
    if old and recipe is None and not old.recipe_is_installed():
        path = shlex.quote(str(old.folder / "recipe.py"))
        raise InvalidOption(
            "replay", replay, f"its recipe is not an installed one: give its file with --recipe {path}", flag="from"
        )
    reference = recipe or (old.recipe if old else recipes.DEFAULT)
    card = recipes.describe(reference)
    base = old.settings if old else Settings()
    schedule = replace_fields(base.schedule, values)
    if base.schedule.time and "images" in values and "time" not in values:
        schedule = replace(schedule, time=None)
        progress.say(f"--images is given without --time: the limit of {show_duration(base.schedule.time)} no longer holds")
    check_schedule(schedule, values)
    critic, watching = replace_fields(base.critic, values), replace_fields(base.watching, values)
    check_watching(watching, values)
    transfer = replace_fields(base.transfer, values)
    if old and transfer.start and "start" not in values:
        try:
            find_start(transfer.start)
        except LeafwingError as error:
            raise InvalidOption("start", transfer.start, f"{error}; --start none begins with random weights") from None
    folder = replace_fields(base.folder, values)
    inherited_intervals = [name for name in old.history.derived_intervals if name not in values] if old else []
    derived_intervals = tuple(name for name in INTERVALS if name in inherited_intervals or not getattr(folder, name))
    open_intervals: tuple[str, ...] = ()
    is_fitted = old is not None and (schedule.images, schedule.time) == (base.schedule.images, base.schedule.time)
    if not is_fitted or {*INTERVALS} & values.keys():
        folder, open_intervals = fit_to_length(folder, derived_intervals, schedule)
    folder = with_intervals(folder, schedule.images)
    for name in ("save_every", "grid_every"):
        if {name, "log_every"} & values.keys() and getattr(folder, name) < folder.log_every:
            of_run = f" (as in {old.folder})" if old and "log_every" not in values else ""
            reason = f"they are written with lines of the log, so --log-every {folder.log_every}{of_run} must not be higher"
            raise InvalidOption(name, getattr(folder, name), reason)
    old_options: Mapping[str, Value] = {}
    option_changes: tuple[OptionChange, ...] = ()
    if old and card.name == old.recipe:
        old_options, option_changes = changes_of(replayed(old, card, options, schedule.images))
        for change in option_changes:
            progress.say(f"as in {old.folder}: {change}")
        for text in not_repeated(old):
            progress.say(text)
    hyperparameters = card.resolve({**old_options, **options})
    if {*recipes.HALF_LIVES} & options.keys():
        recipes.refuse_decays(hyperparameters)
    machine = base.machine
    if values.get("device", machine.device) != machine.device:  # what was chosen for the other device is chosen again
        independent = {name: getattr(machine, name) for name in INDEPENDENT if name != "precision"}
        machine = replace_fields(HardwareSettings(), independent)
    local = processes.local_world_size if processes else 1
    changes = old.history.thread_changes if old and "threads" not in values and old.history.processes == local else ()
    machine = divide_threads(machine, values, old.history.processes if old else local, processes, progress.say)
    machine = replace_fields(machine, values)
    threads = changes[0].threads if changes and machine.threads == "auto" else machine.threads
    setup = choose_setup(replace_fields(machine, {"threads": threads}))
    for text in slow_here(machine_settings(setup), values, processes, old):
        progress.warn(text)

    reading = replace_fields(DataSettings(), values)
    check_before_reading(place, card, str(reference), {**old_options, **options}, reading)
    parse_labelled(reading.labelled, reading.labelled_seed)
    load_options = {name: value for name in READING_OPTIONS if (value := getattr(reading, name)) is not None}
    inherited = inherited_options(old.data, place) if old else {}
    replaced = {*values, "input_levels"} if "input" in values else {*values}  # also by None, which turns them off
    inherited = {name: value for name, value in inherited.items() if name not in replaced}
    checks = [check for check in (data_check(card, str(reference), hyperparameters), *accepts) if check]

    def accept(spec: DataSpec) -> None:
        for check in checks:
            check(spec)

    loading = {**inherited, **load_options}
    dataset = data.load(place, **loading, progress=progress.report_reading, accept=accept if checks else None)
    if dataset.spec.points:
        hyperparameters = card.resolve({**old_options, **options}, points=True)
        if machine.precision in (None, "auto"):
            setup = choose_setup(replace_fields(machine, {"threads": threads, "precision": "fp32"}))  # decides others, too
            setup = replace(setup, why={**setup.why, "precision": "points need more digits than bf16 has"})
    if values.get("products") and not setup.products:
        progress.say(f"--products has no effect: {setup.why['products']}")
    if old and dataset.fingerprint != old.data.fingerprint:
        progress.say(describe_other_data(old, dataset))
    if dataset.rejects:
        command = "leafwing.doctor(images)" if dataset.source.startswith(PREFIX) else f"leafwing doctor {as_words(place)}"
        progress.say(f"rejected images: {len(dataset.rejects)}; `{command}` lists them with reasons")
    for note in dataset.notes:
        progress.say(note)
    chosen = {name.strip() for value in hyperparameters.values() if isinstance(value, str) for name in value.split(",")}
    if unused := [
        name for name in dataset.spec.fields if name not in {"image", "label", "attributes", *card.needs, *chosen}
    ]:
        progress.say(f"fields of the data that {card.name} does not ask for: {', '.join(unused)}")
    if schedule.stop_on is not None:
        check_stop_on(schedule.stop_on, dataset)
    used, repeated = find_repeated(dataset, reading.duplicates, old, "duplicates" in values, progress)
    hold_out = reading.hold_out if reading.hold_out is not None or not old else old.data.held_out
    from_pictures = hold_out in (None, "auto") and generates_from_pictures(
        card, str(reference), hyperparameters, dataset.spec
    )
    if hold_out is None:
        hold_out = "auto" if schedule.stop_on or from_pictures else 0
    held_out = hold_out_count(hold_out, len(used), dataset.spec.points, from_pictures)
    is_repeated = old is not None and old.data.fingerprint == dataset.fingerprint  # of an earlier version, perhaps
    shared = old.data.held_out_by if old and is_repeated else used.shared_field() if held_out else None
    if hold_out == "auto" and not dataset.spec.points:
        progress.say(describe_held_out(held_out, len(used), from_pictures))
    labelled = old.data.labelled if old and "labelled" not in values else reading.labelled
    labelled_seed = old.data.labelled_seed if old and labelled and reading.labelled_seed is None else reading.labelled_seed
    labelled, labelled_seed = parse_labelled(labelled, labelled_seed)
    resolved = machine_settings(setup)
    if machine.threads == "auto" and not changes:
        resolved, changes = replace_fields(resolved, {"threads": "auto"}), (ThreadChange(0, setup.threads),)
    settings = Settings(reading, schedule, critic, transfer, watching, folder, resolved)
    history = History(
        thread_changes=changes,
        open_intervals=open_intervals,
        derived_intervals=derived_intervals,
        option_changes=option_changes,
        processes=local,
    )
    data_config = DataConfig(
        source=dataset.source,
        options=dataset.options,
        fingerprint=dataset.fingerprint,
        samples=len(dataset),
        rejected=len(dataset.rejects),
        duplicates=repeated,
        held_out=held_out,
        held_out_by=shared,
        labelled=labelled,
        labelled_seed=labelled_seed,
        spec=dataset.spec,
        parts=dict(dataset.parts) or None,
        sources=dict(dataset.sources) or None,
    )
    training_part = split_data(data_config, dataset)[0]
    data_config = replace(data_config, spec=training_part.spec)
    if lost := lost_classes(dataset, training_part):
        progress.warn(lost)
    notes: tuple[str, ...] = ()
    build = partial(recipes.build, card.name, recipes.find(reference), data_config.spec)
    for name in without_effect(build, hyperparameters, card.resolve({}, points=dataset.spec.points), options):
        progress.say(f"--{name.replace('_', '-')} {options[name]} has no effect with these data and options")
    if "auto" in hyperparameters.values():  # the recipe may resolve such options
        game = build(hyperparameters)
        hyperparameters, notes = {**hyperparameters, **game.resolved}, tuple(game.notes)
        for note in notes:
            progress.say(note)
    config = {
        "recipe": card.name,
        "options": hyperparameters,
        "data": data_config.as_dict(),
        **settings_sections(settings),
        "history": asdict(history),
        "versions": versions(),
    }
    return TrainingPlan(
        card, str(reference), dataset, hyperparameters, data_config, settings, history, config, setup.why, notes
    )


def check_before_reading(
    place: Place, card: Card, reference: str, options: Mapping[str, Value], reading: DataSettings
) -> None:
    """Checks what options decide without any image, because reading all images may take minutes.

    Args:
        place: the source.
        card: the recipe.
        reference: its name or file.
        options: the hyper-parameters that were set.
        reading: how the images are read.

    Raises:
        LeafwingError: a size that the recipe cannot generate, with the nearest one, or another option that it refuses with any images.
    """
    from leafwing.data.built_in import BUILT_IN
    from leafwing.data.options import check, check_input

    size, input = check(reading.size, None, "crop", "white").size, check_input(reading.input)
    if isinstance(place, str) and place in BUILT_IN:
        return  # nothing is read, and the size may be fixed
    hyperparameters = card.resolve(options)

    def build(height: int, width: int) -> str:
        try:
            recipes.build(card.name, recipes.find(reference), permissive_spec(height, width, input), hyperparameters)
        except LeafwingError as error:
            if size:
                raise
            return str(error)
        return ""

    if size:
        build(*size)
    elif options and reference == card.name:
        problem = build(64, 64)
        if any(f"{name}=" in problem for name in options) and problem == build(
            32, 32
        ):  # so it does not depend on the images
            raise LeafwingError(problem)


def check_watching(watching: HealthSettings, values: Mapping[str, Any]) -> None:
    """Raises InvalidOption if the user chose a number of rollbacks, but not to roll back."""
    if "max_rollbacks" in values and watching.health != "rollback":
        raise InvalidOption(
            "max_rollbacks", values["max_rollbacks"], "needs --health rollback, without which nothing rolls back"
        )


def describe_held_out(number: int, n: int, from_pictures: bool) -> str:
    """What `--hold-out auto` does with n images, or pairs; images may be generated from pictures."""
    from leafwing.data.split import MIN_PAIRS, MIN_SIZE

    if number:
        sheets = "progress sheets and " if from_pictures else ""
        return f"held out of training: {number:,} of {n:,}, for {sheets}evaluation; see --hold-out"
    least = MIN_PAIRS if from_pictures else MIN_SIZE
    return f"held out of training: none, because --hold-out auto needs {least} images; --hold-out {max(1, n // 10)} takes a tenth"


def find_repeated(
    dataset: Dataset, option: str, old: Run | None, is_set: bool, progress: Reporter
) -> tuple[Dataset, int | None]:
    """The samples that are used, and the number of those that are not because they repeat an earlier one; None if all are used.

    Args:
        dataset: all samples.
        option: `--duplicates`.
        old: the replayed run.
        is_set: whether the user has set the option; else it is that of the replayed run.
        progress: receives the message.
    """
    leave_out = option == "first" if is_set or old is None else old.data.duplicates is not None
    if not leave_out:
        return dataset, None
    if dataset.spec.points:
        raise InvalidOption("duplicates", option, "only images are compared, and these data are points")
    used = dataset.distinct()
    repeated = len(dataset) - len(used)
    progress.say(f"not used, because they repeat an earlier image: {repeated:,} of {len(dataset):,} images")
    return used, repeated


def lost_classes(dataset: Dataset, training: Dataset) -> str:
    """Which classes of the data have no image to train on, in words; empty if all have some."""
    if dataset.labels is None:
        return ""
    remaining = training.stored("label", range(len(training)))
    lost = [dataset.spec.labels[index] for index in sorted({*dataset.labels.tolist()} - {*remaining.tolist()})]
    names = ", ".join(lost[:6]) + (f" and {len(lost) - 6} more" if len(lost) > 6 else "")
    why = "all of their images are held out, or repeat earlier ones (--duplicates first)"
    return f"classes without an image to train on: {names}; {why}" if lost else ""


def as_words(place: Place) -> str:
    """A source as the words of a command line."""
    return shlex.join(map(str, place.values())) if isinstance(place, dict) else shlex.quote(str(place))


def check_schedule(schedule: Schedule, values: Mapping[str, Any]) -> None:
    """Raises LeafwingError for an invalid seed or stopping rule."""
    check_seed(schedule.seed, "seed")
    if schedule.stop_on is not None:
        require_decisive(schedule.stop_on)
    elif "patience" in values:
        raise InvalidOption("patience", values["patience"], "needs --stop-on, the metric that decides")


def fit_to_length(
    folder: OutputSettings, derived: Sequence[str], schedule: Schedule
) -> tuple[OutputSettings, tuple[str, ...]]:
    """The settings of a training of another length, with the derived intervals fitted to it; and those of them that the speed decides,
    because time is limited."""
    folder = with_intervals(replace_fields(folder, dict.fromkeys(derived, 0)), schedule.images)
    return folder, tuple(derived) if schedule.time else ()


def with_intervals(folder: OutputSettings, images: int) -> OutputSettings:
    """Fills in the intervals that are not chosen: about 20 checkpoints and grids, and 200 lines of the log."""
    twentieth = max(1, images // 20)
    filled = {name: getattr(folder, name) or max(twentieth, folder.log_every) for name in ("save_every", "grid_every")}
    log_every = folder.log_every or min(LONGEST_TICK, max(1, images // 200), *filled.values())
    return replace_fields(folder, {**filled, "log_every": log_every})


def choose_setup(machine: HardwareSettings) -> Setup:
    """The hardware settings, with those that are not chosen filled in to suit this machine.

    Raises:
        LeafwingError: a choice that does not exist on this machine or at all.
    """
    from leafwing.engine import choose

    chosen = {item.name: value for item in fields(machine) if (value := getattr(machine, item.name)) is not None}
    return choose(**{**chosen, "threads": thread_count(machine)})


def machine_settings(setup: Setup) -> HardwareSettings:
    """A setup as settings."""
    return HardwareSettings(**{item.name: getattr(setup, item.name) for item in fields(HardwareSettings)})


def thread_count(machine: HardwareSettings) -> int | None:
    """The number of threads to start with; None for the default, which `auto` starts with too."""
    threads = machine.threads
    return None if threads in (None, "auto") else whole(threads, "threads", 1, MAX_THREADS)


def build_training(
    plan: TrainingPlan,
    notify: Callable[[str], None] = lambda text: None,
    processes: Processes | None = None,
    images: int | None = None,
) -> Training:
    """Builds the training loop of a plan, before its first turn.

    Args:
        plan: the resolved training run.
        notify: callback for messages.
        processes: the processes that share the work; None: this one only.
        images: total number of images, if not the plan's.

    Raises:
        LeafwingError: the recipe does not suit the data, or `stop_on` neither of them.
    """
    from leafwing.commands.rules import check_game, check_own

    data, held_out = split_data(plan.data_config, plan.data)
    recipe = recipes.find(plan.reference)

    def build(options: Mapping[str, Value]) -> Game:
        game = recipes.build(plan.card.name, recipe, data.spec, options)
        check_game(game, plan.card.name)
        return game

    phases = build_phases(build, timeline(plan.options, plan.history.option_changes))
    training = new_training(lambda: build(plan.options), data, plan.settings, notify, processes, images, phases=phases)
    check_own(training, plan.card, data.spec)
    if stop_on := plan.settings.schedule.stop_on:
        check_stop_data(stop_on, training.game, data, held_out)
    return training


def new_training(
    build: Callable[[], Game],
    data: Dataset,
    settings: Settings,
    notify: Callable[[str], None] = lambda text: None,
    processes: Processes | None = None,
    images: int | None = None,
    planned: int = 0,
    phases: Sequence[Phase] = (),
    start: int = 0,
) -> Training:
    """Builds a training loop before its first turn.

    Args:
        build: returns a new game.
        data: the training data.
        settings: the settings, fully resolved.
        notify, processes, images: see `build_training`.
        planned, phases: see `Training`.
        start: images shown before the round with which it goes on; only a rollback returns to batch sizes of before.

    Raises:
        LeafwingError: the recipe declares outputs that do not fit the data, or cannot be trained on single images, as here.
    """
    import torch

    from leafwing.commands.outputs import check_outputs
    from leafwing.engine import Engine
    from leafwing.engine.footprint import check_parts
    from leafwing.loop import Training
    from leafwing.model import Model
    from leafwing.networks import lite0

    torch.manual_seed(settings.schedule.seed)
    game = build()
    if settings.transfer.freeze:
        freeze(game, settings.transfer.freeze, notify)
    setup = choose_setup(settings.machine)
    images = images or settings.schedule.images
    augmentation = build_augmentation(settings.critic.augment or game.augment, data.spec, planned or images)
    if "lite0" in game.pretrained:
        lite0.load(setup.device)  # raises if it is not installed
    engine = Engine(game, setup, notify=notify, processes=processes, augmentation=augmentation)
    sizes = {phase.batch for phase in remaining(phases, start)} or {game.batch}
    for batch in sizes:
        engine.processes.check_divisible(batch)
    if settings.watching.health == "rollback":
        past = {phase.batch for phase in phases} - sizes
        if unequal := [batch for batch in past if batch % engine.processes.world_size]:
            raise InvalidOption(
                "health", "rollback", f"a rollback may return to batches of {unequal[0]}, which {engine.processes.world_size} "
                "processes cannot share: use another number of them, or --health warn",
            )  # fmt: skip
        sizes |= past
    data = add_streams(data, game)
    batches = data.batches(
        settings.schedule.seed,
        str(engine.device),
        resident=setup.resident,
        rank=engine.processes.rank,
        world_size=engine.processes.world_size,
    )
    check_parts(engine, batches, sizes)
    examples = data.to_network(data.batch(0, 0, 2))
    check_outputs(Model(game, data.spec, str(engine.device), clock=Clock(total=1)), examples)
    if settings.schedule.stop_on is not None:
        check_stop_output(settings.schedule.stop_on, game, data.spec)
    return Training(game, batches, engine, images=images, batch=game.batch, planned=planned, phases=phases)


def build_augmentation(option: str, spec: DataSpec, planned: int) -> Augmentation | None:
    """The augmentation of what critics see, by its option; None for `none`.

    Raises:
        InvalidOption: not an augmentation, or the data are points.
    """
    from leafwing.engine.augmentation import Augmentation
    from leafwing.fields import Image

    if (parsed := parse(option)) is None:
        return None
    images = {name: field for name, field in spec.fields.items() if isinstance(field, Image)}
    if not images:
        raise InvalidOption("augment", option, "it changes images, and these data are points")
    return Augmentation(parsed, {field.channels for field in images.values()}, planned)


def changed_machine(machine: HardwareSettings, changes: Mapping[str, Any]) -> HardwareSettings:
    """The hardware settings of a run that resumes with another device, thread count or micro-batch size.

    Another device drops the settings that depend on it, so that they are chosen again.
    """
    if not changes:
        return machine
    if "device" in changes:
        machine = replace_fields(HardwareSettings(), {name: getattr(machine, name) for name in INDEPENDENT})
    machine = replace_fields(machine, changes)
    resolved = machine_settings(choose_setup(machine))
    return replace_fields(resolved, {"threads": "auto"}) if machine.threads == "auto" else resolved

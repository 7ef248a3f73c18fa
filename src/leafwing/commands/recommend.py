"""The recommended training: applies the rule of `recipes/_recommended.py` to a source and this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.commands.plan import build_training, check_before_reading, choose_setup, resolve_training
from leafwing.commands.speed import MEASURING, measured_speed
from leafwing.commands.transfer import find_start
from leafwing.errors import LeafwingError, did_you_mean, nearest
from leafwing.machine import is_busy, load
from leafwing.progress import Reporter
from leafwing.quantities import show_count, show_duration
from leafwing.recipes import _recommended as rule
from leafwing.runs import Run
from leafwing.settings import READING_OPTIONS, DataSettings, HardwareSettings, replace_fields

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.data.sources import RejectedFile
    from leafwing.engine.processes import Processes
    from leafwing.recipes import Value


AUTO = {"threads": "auto"}
"""What a recommended training does with threads, unless the user sets their number."""


class OnlyProgress(Reporter):
    """Passes on the progress of reading images, and drops messages, which follow when the training is planned."""

    def __init__(self, progress: Reporter) -> None:
        self.progress = progress

    def report_progress(self, what: str, done: int, total: int) -> None:
        self.progress.report_progress(what, done, total)


def fill_in(
    source: Any,
    recipe: str | None,
    values: Mapping[str, Any],
    options: Mapping[str, Value],
    progress: Reporter,
    replay: Any = None,
    processes: Processes | None = None,
) -> tuple[str | None, dict[str, Any], dict[str, Value], float | None]:
    """The recipe, settings and options of a training, with those of the recommended one if no recipe is named and no run replayed;
    and its images per second, if they were measured for that.

    Args:
        source, recipe, values, options, progress, replay: as for `plan.resolve_training`.
        processes: the processes that share the work: the first one chooses for all.
    """
    if recipe is not None or replay is not None or source is None:
        return recipe, dict(values), dict(options), None
    if processes is None or processes.world_size == 1:
        choice = asdict(recommend(source, values, options, progress))
    else:
        from leafwing.engine.processes import DAY

        first = asdict(recommend(source, values, options, progress, processes.world_size)) if processes.first else None
        processes.barrier(DAY)
        choice = processes.broadcast(first)
    settings = {**choice["settings"], **values}
    if "images" in values:
        settings = {name: value for name, value in settings.items() if name != "time" or name in values}
    return choice["recipe"], settings, {**choice["options"], **options}, choice["speed"]


def recommend(
    source: Any, values: Mapping[str, Any], options: Mapping[str, Value], progress: Reporter, processes: int = 1
) -> rule.Choice:
    """The recommended training of a source on this machine, said to the user with its reasons.

    Reads the images, and trains for some seconds to measure the speed if the length is not set.

    Args:
        source, values, options, progress: as for `plan.resolve_training`.
        processes: number of processes; those on GPUs are taken to be as fast as this one, those on CPUs share its cores.

    Raises:
        LeafwingError: invalid input, or an option that the recommended recipe does not have.
    """
    import torch

    from leafwing.commands.threads import settle_threads
    from leafwing.data.locating import locate

    choose_setup(replace_fields(HardwareSettings(), {**AUTO, **values}))  # raises, before the images are read
    reading, before, threads = OnlyProgress(progress), load(), torch.get_num_threads()
    speeds: dict[str, float] = {}

    def speed(choice: rule.Choice) -> float:
        key = repr((choice.recipe, choice.options, choice.settings))
        if key not in speeds:
            check_options(choice.recipe, options)
            if not speeds:
                progress.say(MEASURING)
            settings, further = {**AUTO, **choice.settings, **values}, {**choice.options, **options}
            plan = resolve_training(source, choice.recipe, settings, further, reading)
            training = build_training(plan, images=10**12)
            settle_threads(training, plan.settings.machine)
            on_gpu = training.engine.device.type == "cuda"
            speeds[key] = measured_speed(training) * (processes if on_gpu else 1)
            torch.set_num_threads(threads)
        return speeds[key]

    start, images_of_start = open_start(str(values["start"])) if values.get("start") else (None, 0)
    if start is not None:
        values = {"size": f"{start.spec.height}x{start.spec.width}", "channels": start.spec.channels, **values}
    elif values.get("input") is None:
        card = recipes.describe(recipes.DEFAULT)  # for all that generate images from latents, the same sizes are possible
        settings = replace_fields(DataSettings(), values)
        check_before_reading(locate(source), card, card.name, {}, settings)
    facts = replace(facts_of(source, values, options, reading, start), before=images_of_start)
    try:
        choice = rule.choose(facts, speed) if start is None else rule.with_length(started(start, facts), facts, speed)
    finally:
        torch.set_num_threads(threads)
    choice = replace(choice, settings={**AUTO, **choice.settings})
    check_options(choice.recipe, options)
    origin = "recommended" if start is None else f"as in {start.name}"
    progress.say(f"no --recipe given; {origin}: {describe(choice, values, options)}")
    for reason in [*choice.reasons, *describe_hold_out(facts, values), *describe_load(before if speeds else None)]:
        progress.say(f"  {reason}")
    return choice


def describe_hold_out(facts: rule.Facts, values: Mapping[str, Any]) -> list[str]:
    """A line about measuring, which is too late after training, if nothing is held out by the user's choice or by this rule; none
    for so few images that all are needed."""
    from leafwing.data.split import default_count

    number = default_count(facts.pictures)
    if facts.kind != "images" or {"hold_out", "stop_on"} & values.keys() or not number:
        return []
    return [rule.HOLD_OUT.format(number)]


def describe_load(before: tuple[float, int] | None) -> list[str]:
    """A line about a busy machine, whose measured speed is lower than it could be; none if it is not busy.

    Args:
        before: `machine.load` before the measurement; None if nothing was measured.
    """
    if before is None or not is_busy(before):
        return []
    return [
        f"measured while the machine is busy (load {before[0]:.1f} on {before[1]} cores): another moment may give other networks, "
        "another size or another length; for the same again, use --from RUN"
    ]


def open_start(text: str) -> tuple[Run | None, int]:
    """The run of `--start` if its recipe is an installed one, and the number of images that its weights were trained on."""
    run, images = find_start(text)
    return (run if run.recipe_is_installed() and not run.spec.points else None), run.history.before + images


def started(run: Run, facts: rule.Facts) -> rule.Choice:
    """The recipe, options and size of a run whose weights a training starts from: others would not fit.

    Two things may differ: for data without labels the recipe is the one that is recommended for them, if that of the run was
    recommended for labels; and critics that saw pictures as they are see changed ones where there are few.
    """
    recipe, options = run.recipe, run.options
    settings = {"size": f"{run.spec.height}x{run.spec.width}", "channels": run.spec.channels}
    reasons = ["its weights fit its own networks and size"]
    if recipe in rule.RECIPES and {"label", "attributes"} & {*run.config.get("conditions", ())} and not facts.labelled:
        recipe = rule.by_kind(facts).recipe
        known = {option.name for option in recipes.describe(recipe).options}
        options = {name: value for name, value in options.items() if name in known}
        reasons = [
            f"no labels here, which {run.recipe} needs: {recipe}, with its options and size, and the weights that fit"
        ]
    if run.settings.critic.augment:
        settings["augment"] = run.settings.critic.augment
    elif rule.needs_augmentation(facts) and run.build_game().augment == "none":
        settings["augment"] = rule.AUGMENT
        reasons.append(rule.AUGMENTED)
    return rule.reading_all(rule.Choice(recipe, options, settings, reasons), facts)


def describe(choice: rule.Choice, values: Mapping[str, Any], options: Mapping[str, Value]) -> str:
    """A choice in a line, without what the user has set.

    Args:
        choice: what is recommended.
        values, options: as for `plan.resolve_training`.
    """
    shown = {"images": show_count, "ema": show_count, "time": show_duration}
    chosen = {**choice.options, **choice.settings}
    parts = [
        f"{name} {shown[name](value) if name in shown else value}"
        for name, value in chosen.items()
        if name not in {*values, *options}
    ]
    return ", ".join([choice.recipe, *parts])


def facts_of(
    source: Any, values: Mapping[str, Any], options: Mapping[str, Value], progress: Reporter, start: Run | None = None
) -> rule.Facts:
    """What the rule must know of a source: of all of its images, if labels are not used.

    Args:
        source: as for `plan.resolve_training`.
        values, options: the settings and options that the user has set.
        progress: receives the progress of reading.
        start: the run from whose weights training starts, and whose recipe it has.
    """
    from leafwing import data
    from leafwing.data.locating import locate

    reading = {name: values[name] for name in READING_OPTIONS if values.get(name) is not None}

    def read(labels: str | None) -> Dataset:
        return data.load(locate(source), **{**reading, "labels": labels}, progress=progress.report_reading)

    dataset = read(values.get("labels"))
    facts = facts_of_data(dataset, values, options)
    if isinstance(source, data.Dataset):  # it has been read already
        return replace(facts, may_shrink=False)
    uses_labels = bool({*recipes.describe(start.recipe).needs} - {"image", "input"}) if start else rule.uses_labels(facts)
    if not uses_labels and lacks_labels(values, dataset.rejects):
        with suppress(LeafwingError):  # not with these images
            every = read("none")
            if (more := len(every) - len(dataset)) > 0:
                return replace(facts_of_data(every, values, options), smallest=facts.smallest, unlabelled=more)
    return facts


def lacks_labels(values: Mapping[str, Any], rejects: Sequence[RejectedFile]) -> bool:
    """Whether images are left out only for want of a label or attributes, and the user has not chosen where these come from."""
    from leafwing.data.labels import UNLABELLED

    return values.get("labels") is None and any(reject.reason.startswith(UNLABELLED) for reject in rejects)


def facts_of_data(dataset: Dataset, values: Mapping[str, Any], options: Mapping[str, Value]) -> rule.Facts:
    """What the rule must know of data, by the settings and options that the user has set."""
    from leafwing.data.split import hold_out_count

    spec = dataset.spec
    kind: rule.Kind = "points" if spec.points else "images"
    if "input" in spec.fields:
        sizes = [getattr(spec.fields[name], "height", 0) for name in ("image", "input")]
        kind = "unpaired" if "input" in spec.unpaired else "enlarging" if sizes[0] > sizes[1] else "pairs"
    used = dataset.distinct() if values.get("duplicates") == "first" else dataset
    hold_out = values.get("hold_out", "auto" if values.get("stop_on") or kind not in ("images", "points") else 0)
    held_out = hold_out_count(hold_out, len(used), spec.points, kind not in ("images", "points"))
    used = used.split_anew(held_out)[0]
    smallest = None
    if dataset.labels is not None and len(spec.labels) > 1:
        counts = Counter(used.stored("label", range(len(used))).tolist())
        smallest = min(counts[label] for label in {*dataset.labels.tolist()})
    return rule.Facts(
        kind=kind,
        pictures=len(used),
        side=max(spec.height, spec.width),
        smallest=smallest,
        labelled=dataset.labels is not None or dataset.attributes is not None,
        images=values.get("images"),
        seconds=values.get("time", rule.HOUR),
        may_shrink=may_shrink(values),
        chosen={*values, *options},
    )


def may_shrink(values: Mapping[str, Any]) -> bool:
    """Whether a smaller size than the default shows the same: not if the user has set it, and not of windows and tiles, which would
    show less."""
    return not {"size", "crop_from"} & values.keys() and values.get("fit") != "tiles"


def check_any(options: Mapping[str, Value]) -> None:
    """Raises LeafwingError for an option that no recipe has that might be recommended."""
    known = {option.name for name in rule.RECIPES for option in recipes.describe(name).options}
    for name in options:
        if name not in known:
            near = nearest(name, known)
            guess = f"; did you mean {near}? O" if near else ": o"
            raise LeafwingError(
                f"no option {name!r}{guess}ptions depend on the recipe, see `leafwing train --recipe X --help`"
            )


def check_options(recipe: str, options: Mapping[str, Value]) -> None:
    """Raises LeafwingError for an option that the recommended recipe does not have."""
    known = {option.name for option in recipes.describe(recipe).options}
    for name in options:
        if name not in known:
            raise LeafwingError(
                f"{recipe}, the recipe recommended for this source, has no option {name!r}{did_you_mean(name, known)}; name "
                "a recipe that has it with --recipe"
            )

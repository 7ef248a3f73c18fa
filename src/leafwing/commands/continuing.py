"""One command that begins a run or continues it, and what of its arguments an existing run does not use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from leafwing import recipes
from leafwing.calls import checked
from leafwing.commands.first_checks import reading_options
from leafwing.commands.training import resume, train
from leafwing.errors import LeafwingError
from leafwing.progress import Progress, Reporter, reporter_of
from leafwing.quantities import count, duration
from leafwing.runs import Run
from leafwing.settings import all_settings, non_defaults, split_keywords

RESUMED = ("images", "time", "start")
"""Settings whose values in an existing run are not those that were given: the first two continue it, the third names a checkpoint."""


def train_or_resume(
    source: Any = None, recipe: str | None = None, *, out: str | Path | None = None, progress: Progress = None,
    **options: Any,
) -> Run:  # fmt: skip
    """`train`, or if the run folder exists already, `resume`: one command for jobs that are interrupted and started again.

    An existing run keeps its own settings; only these options matter: `images`, if it is more than before, and `time`, which is then
    counted anew. What else is given and differs from the run's is named. The run reads `source` and `input` again only if its own are
    neither in the cache nor where they were. A finished run is returned as it is, also one that `stop_on` has ended.

    Args:
        source, recipe, out, progress, options: as for `train`; `out` is required.

    Raises:
        LeafwingError: as for `train` and `resume`.
    """
    if out is None:
        raise LeafwingError("--or-resume needs --out FOLDER, the run to begin or to continue")
    progress = reporter_of(progress)
    if not (Path(out) / "run.json").exists():
        if recipe is None and options.get("images") is None and options.get("replay") is None:
            raise LeafwingError(
                "--or-resume needs --images, the length over all jobs, or --recipe: --time is that of one job, and without a recipe "
                "the length would follow from it"
            )
        return checked(train)(source, recipe, out=out, progress=progress, **options)
    copy, file = Path(out) / "recipe.py", Path(os.path.expanduser(recipe or ""))
    trust = file.is_file() and copy.is_file() and file.read_bytes() == copy.read_bytes()
    run, more = Run.open(out, trust=trust), options.get("images")
    again, second, unused = sources_again(run, source, options.get("input"), progress)
    if unused := [*differences(run, recipe, options), *unused]:
        progress.say(f"not used, because {run.folder} exists and keeps its own: {', '.join(unused)}")
    state = run.resume_state()
    total = max(run.settings.schedule.images, 0 if more is None else count(more, "images"))
    if state and state["images"] >= total:
        progress.say(f"{run.folder} has been trained on all of its {total:,} images already")
        return run
    if state and state["images"] == run.history.no_improvement and total == run.settings.schedule.images:
        progress.say(f"{run.folder} has ended already: --stop-on saw no improvement; `leafwing resume` trains it on")
        run.stop_reason = "no_improvement"
        return run
    progress.say(f"{run.folder} exists: it is continued with its own settings")
    time = None if options.get("time") is None else f"+{duration(options['time'], 'time')}"
    return resume(
        out, images=total if total > run.settings.schedule.images else None, time=time, source=again, input=second, trust=trust,
        tensorboard=options.get("tensorboard", False), progress=progress,
    )  # fmt: skip


def differences(run: Run, recipe: str | Path | None, arguments: Mapping[str, Any]) -> list[str]:
    """The arguments of `train` that are not those of an existing run, each with the run's value: `lr_g=0.1 (it has 0.0002)`.

    Not what the run resolved for itself: `auto`, the held-out part unless it is a number, inputs, and labels of its own kind.

    Raises:
        LeafwingError: an invalid value.
    """
    chosen = {name: value for name, value in arguments.items() if name not in signature(train).parameters}
    if settings := arguments.get("settings"):
        chosen = {**non_defaults(settings), **chosen}
    values, options = split_keywords(chosen)
    recorded: dict[str, Any] = {
        name: getattr(getattr(run.settings, setting.section), name)
        for name, setting in all_settings().items()
        if setting.section != "reading" and name not in RESUMED
    }
    recorded |= {"mirror": run.data.options.get("mirror", False)}
    if (text := str(values.get("hold_out"))).isascii() and text.isdecimal():
        recorded["hold_out"], values["hold_out"] = run.data.held_out, int(text)
    for name, value in run.data.options.items():
        if name in values and reading_options({name: values[name]}) != reading_options({name: value}):
            recorded[name] = value
    known = {option.name: option for option in run.card().options}
    recorded |= {name: run.options.get(name) for name in options}
    values |= {name: known[name].check(run.recipe, value) if name in known else value for name, value in options.items()}
    if recipe is not None:
        values["recipe"], recorded["recipe"] = recipes.describe(str(recipe)).name, run.recipe
    return [
        f"{name}={value} (it has {recorded[name]})"
        for name, value in values.items()
        if name in recorded and str(value) not in ("auto", str(recorded[name]))
    ]


def sources_again(
    run: Run, source: Any, input: str | Path | None, progress: Reporter
) -> tuple[Any, str | Path | None, list[str]]:
    """The source and the second source that `resume` gets; and the source in words, if it is not the run's and is not used.

    Args:
        run: the run.
        source, input: as for `train`.
        progress: receives the progress of reading.

    Returns:
        Each of the two only if the run's own is neither in the cache nor where it was, else None. Images from Python are compared with
        the run's if they are arrays: the items of a data set would all have to be read.
    """
    from leafwing import data
    from leafwing.data.locating import describe, locate
    from leafwing.data.memory import InMemory

    def is_lost(origin: Any, fingerprint: str) -> bool:
        try:
            locate(origin)
        except LeafwingError:
            return data.load_pack(fingerprint) is None
        return False

    parts = run.data.parts or {"image": run.data.fingerprint}
    second = input if input and run.data.parts and is_lost(run.data.options["input"], parts["input"]) else None
    try:
        place = None if source is None else locate(source)
    except LeafwingError:  # it is not there any more; if the run needs it, `resume` says so
        place = None
    if place is None:
        return None, second, []
    if is_lost(run.data.origin, parts["image"]):
        return source, second, []
    if describe(place) != run.data.source:
        return None, second, [f"source={describe(place)} (it has {run.data.source})"]
    if isinstance(place, InMemory) and isinstance(place.value, data.Dataset):
        is_other = place.value.fingerprint != run.data.fingerprint
    else:
        options = {name: value for name, value in run.data.options.items() if not run.data.parts or name != "input"}
        is_other = isinstance(place, InMemory) and bool(
            data.compare(place, options, parts["image"], progress=progress.report_reading)
        )
    return None, second, ["the images (it has others)"] if is_other else []

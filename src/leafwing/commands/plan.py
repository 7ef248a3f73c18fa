"""A training, resolved before it begins: everything that `run.json` will say, checked, and the training that it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.commands.feeding import anything, asked_few, fed
from leafwing.commands.stopping import deciding, suits
from leafwing.errors import LeafwingError
from leafwing.progress import Silent
from leafwing.runs import Change, History, Run, saved, spec_to, versions
from leafwing.settings import Machine, Reading, Schedule, Settings, catalogue, updated

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine import Setup
    from leafwing.engine.processes import Processes
    from leafwing.game import Recipe
    from leafwing.loop import Training
    from leafwing.recipes import Card, Value

SEED_LIMIT = 2**32


@dataclass(frozen=True)
class Plan:
    """A training, resolved before it begins.

    Args:
        card: the recipe.
        reference: its name, or the path of its file.
        data: what is trained on, with what is held out.
        settings: nothing in them is left open.
        history: what is known of it before it begins: changes of threads that a replay is to make, intervals that are still open.
        config: everything that `run.json` will say.
        why: what decided each choice of the machine, in words.
    """

    card: Card
    reference: str
    data: Dataset
    settings: Settings
    history: History
    config: dict[str, Any]
    why: Mapping[str, str]


def resolve(
    source: str | Path | None,
    recipe: str | None,
    given: Mapping[str, Any],
    options: Mapping[str, Value],
    progress: Silent,
    replay: str | Path | None = None,
) -> Plan:
    """Everything that decides a training: what is given, else what is replayed, else the defaults; all of it checked.

    Args:
        source: of the pictures; None: that of the replayed run.
        recipe: its name or file; None: that of the replayed run, or the default.
        given: settings by name, from `settings.separated`.
        options: the recipe's hyper-parameters.
        progress: who is told.
        replay: the `run.json` or folder of an earlier run.
    """
    from leafwing import data
    from leafwing.data.options import check
    from leafwing.data.split import hold_out_count

    old = replayed(replay) if replay else None
    about: dict[str, Any] = old.config["data"] if old else {"options": {}}
    source = about.get("source") if source is None else source
    if source is None:
        raise LeafwingError("train needs a source of pictures: a folder, an archive, or " + ", ".join(data.WORLDS))
    if old and recipe is None and not old.recipe_is_installed():
        raise LeafwingError(f"--from {replay} was trained with a recipe of its own: name the file with --recipe")
    named = recipe or (old.recipe if old else recipes.DEFAULT)
    card = recipes.describe(named)
    before = old.settings if old else Settings()
    schedule = scheduled(updated(before.schedule, given), given)
    watching = updated(before.watching, given)
    one_of("health", watching.health, catalogue()["health"].choices)
    folder = updated(before.folder, given)
    open_intervals = [name for name in ("save_every", "grid_every") if not getattr(folder, name)] if schedule.time else []
    twentieth, line = max(1, schedule.images // 20), min(2_000, max(1, schedule.images // 200))
    for name, default in (("save_every", twentieth), ("grid_every", twentieth), ("log_every", line)):
        folder = updated(folder, {name: getattr(folder, name) or default})
    earlier = old.config["options"] if old and card.name == old.recipe else {}
    chosen = card.resolve({**earlier, **options})
    machine = updated(before.machine, given)
    replays_threads = old is not None and "threads" not in given
    changes = old.history.thread_changes if old and replays_threads else ()
    threads = changes[0].threads if changes and machine.threads == "auto" else machine.threads
    setup = set_up(updated(machine, {"threads": threads}))

    if given.get("size") is not None and source not in data.WORLDS:
        # The recipe says now what it thinks of this size, not after all pictures have been read.
        height, width = check(given["size"], None, "crop", "white").size or (64, 64)
        recipes.build(card.name, recipes.find(named), anything(height, width), chosen)
    reading = updated(Reading(), given)
    asked_few(reading.labelled, reading.labelled_seed)
    options_of_reading = {name: value for name in READ if (value := getattr(reading, name)) is not None}
    dataset = data.load(source, **{**about["options"], **options_of_reading}, progress=progress.packing)
    if dataset.spec.points:
        chosen = card.resolve({**earlier, **options}, points=True)
        if machine.precision in (None, "auto"):
            setup = replace(setup, precision="fp32", why={**setup.why, "precision": "points need more digits than bf16 has"})
    if dataset.rejects:
        progress.say(f"{len(dataset.rejects)} pictures cannot be used; `leafwing doctor {source}` says which and why")
    for note in dataset.notes:
        progress.say(note)
    if schedule.stop_on is not None:
        suits(schedule.stop_on, dataset)
    hold_out = about.get("held_out") if reading.hold_out is None else reading.hold_out
    held_out = hold_out_count(
        hold_out if hold_out is not None else ("auto" if schedule.stop_on else 0), len(dataset), dataset.spec.points
    )
    few = asked_few(
        about.get("labelled") if reading.labelled is None else reading.labelled,
        about.get("labelled_seed") if reading.labelled_seed is None else reading.labelled_seed,
    )
    adapts = machine.threads == "auto" and not changes
    known = updated(Machine(), {one.name: getattr(setup, one.name) for one in fields(Machine)})
    if adapts:
        known, changes = updated(known, {"threads": "auto"}), (Change(0, setup.threads),)
    settings = Settings(reading, schedule, watching, folder, known)
    history = History(thread_changes=changes, open_intervals=tuple(open_intervals))
    config = {
        "recipe": card.name,
        "options": chosen,
        "data": {
            "source": dataset.source,
            "options": dataset.options,
            "fingerprint": dataset.fingerprint,
            "samples": len(dataset),
            "rejected": len(dataset.rejects),
            "held_out": held_out,
            **few,
            "spec": spec_to(fed({"held_out": held_out, **few}, dataset)[0].spec if few else dataset.spec),
        },
        **saved(settings),
        "history": asdict(history),
        "versions": versions(),
    }
    return Plan(card, str(named), dataset, settings, history, config, setup.why)


READ = ("size", "channels", "fit", "background", "mirror")
"""Settings of `Reading` that `data.load` is told."""


def scheduled(schedule: Schedule, given: Mapping[str, Any]) -> Schedule:
    """A schedule, checked."""
    if schedule.seed >= SEED_LIMIT:
        raise LeafwingError(f"seed {schedule.seed}: a seed is from 0 to {SEED_LIMIT - 1}")
    if schedule.stop_on is not None:
        deciding(schedule.stop_on)
    elif "patience" in given:
        raise LeafwingError(f"--patience {given['patience']} needs --stop-on: which metric is to get no better?")
    return schedule


def set_up(machine: Machine) -> Setup:
    """What is chosen from this machine where its settings leave it open.

    Raises:
        LeafwingError: a choice that does not exist, here or at all.
    """
    from leafwing.engine import choose

    told = {one.name: value for one in fields(machine) if (value := getattr(machine, one.name)) is not None}
    return choose(**{**told, "threads": threads_of(machine)})


def threads_of(machine: Machine) -> int | None:
    """The number of threads that is asked for; None for the default, from which `auto` starts too."""
    threads = machine.threads
    if threads in (None, "auto") or isinstance(threads, int):
        return threads if isinstance(threads, int) else None
    if not str(threads).strip().isdigit():
        raise LeafwingError(f"threads {threads!r}: give a number of CPU threads, or auto")
    return int(str(threads))


def prepare(
    plan: Plan,
    say: Callable[[str], None] = lambda text: None,
    processes: Processes | None = None,
    images: int | None = None,
) -> Training:
    """The training of a resolved plan, at its beginning.

    Args:
        plan: what is trained.
        say: told what could not be done as wished.
        processes: who else trains.
        images: another number of images than the plan's.
    """
    return begun(plan.config, plan.settings, recipes.find(plan.reference), plan.data, say, processes, images)


def begun(
    config: Mapping[str, Any],
    settings: Settings,
    recipe: Recipe,
    dataset: Dataset,
    say: Callable[[str], None] = lambda text: None,
    processes: Processes | None = None,
    images: int | None = None,
) -> Training:
    """A training at its beginning, from what `run.json` says."""
    import torch

    from leafwing.engine import Engine
    from leafwing.loop import Training

    shown, _ = fed(config["data"], dataset)
    torch.manual_seed(settings.schedule.seed)
    game = recipes.build(config["recipe"], recipe, shown.spec, config["options"])
    setup = set_up(settings.machine)
    engine = Engine(game, setup, notify=say, processes=processes)
    engine.processes.rows(game.batch)  # raises: it cannot be shared
    return Training(
        game,
        shown.batches(
            settings.schedule.seed,
            str(engine.device),
            resident=setup.resident,
            share=(engine.processes.rank, engine.processes.world),
        ),
        engine,
        images=images or settings.schedule.images,
        batch=game.batch,
    )


def one_of(name: str, value: object, choices: Sequence[str]) -> str:
    """A setting that has a few values, or a LeafwingError that names them."""
    if value not in choices:
        raise LeafwingError(f"{name} {value!r}: choose from {', '.join(choices)}")
    return str(value)


def elsewhere(machine: Machine, given: Mapping[str, Any]) -> Machine:
    """The machine of a run that goes on with another device, thread count or micro-batch: what depends on it is chosen anew."""
    if not given:
        return machine
    kept = ("precision", "threads", "layout", "compile", "micro_batch")
    base = updated(Machine(), {name: getattr(machine, name) for name in kept}) if "device" in given else machine
    wanted = updated(base, given)
    setup = set_up(wanted)
    found = updated(Machine(), {one.name: getattr(setup, one.name) for one in fields(Machine)})
    return updated(found, {"threads": "auto"}) if wanted.threads == "auto" else found


def replayed(path: str | Path) -> Run:
    """An earlier run, given by its folder or its `run.json`, to be replayed.

    Raises:
        LeafwingError: it cannot be read.
    """
    path = Path(path)
    if not path.is_dir() and path.name != "run.json":
        raise LeafwingError(f"--from {path}: give the run.json of a run folder")
    return Run(path if path.is_dir() else path.parent)

"""A training, resolved before it begins: everything that `run.json` will say, checked, and the training that it describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.commands.feeding import anything, asked_few, fed
from leafwing.errors import LeafwingError
from leafwing.progress import Silent
from leafwing.quantities import count, duration, whole
from leafwing.runs import Run, spec_to, versions

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine.processes import Processes
    from leafwing.loop import Training
    from leafwing.recipes import Card, Value

DATA_OPTIONS = ("size", "channels", "fit", "background", "mirror")
MACHINE_OPTIONS = (
    "device",
    "precision",
    "threads",
    "layout",
    "fused",
    "keep_freed",
    "products",
    "capture",
    "compile",
    "micro_batch",
    "resident",
)
TRAIN_OPTIONS = (
    *DATA_OPTIONS, "hold_out", "labelled", "labelled_seed", *MACHINE_OPTIONS, "images", "time", "seed", "replay", "checkpoint",
    "keep", "keep_every", "samples", "log", "health", "roll_backs", "stop_on", "patience",
)  # fmt: skip
HEALTH = ("warn", "stop", "roll_back", "off")
"""What is done about an alarm: it is said; or training stops; or goes back, and on from there more slowly. Off: nobody looks."""
SEED_LIMIT = 2**32


@dataclass(frozen=True)
class Plan:
    """A training, resolved: everything that `run.json` will say, what it was resolved from, and why."""

    card: Card
    reference: str
    data: Dataset
    config: dict[str, Any]
    why: Mapping[str, str]


def resolve(given: Mapping[str, Any], options: Mapping[str, Value], progress: Silent) -> Plan:
    """Everything that decides a training: what is given, else what is replayed, else the defaults; all of it checked."""
    from leafwing import data, engine
    from leafwing.commands import stopping
    from leafwing.data.options import check
    from leafwing.data.split import asked

    old = read_config(given["replay"]) if given.get("replay") else {"training": {}, "data": {"options": {}}, "options": {}}

    def setting(name: str, default: Any, group: str = "training") -> Any:
        value = given.get(name)
        return old[group].get(name, default) if value is None else value

    source = setting("source", None, "data")
    if source is None:
        raise LeafwingError("train needs a source of pictures: a folder, an archive, or " + ", ".join(data.WORLDS))
    named = given.get("recipe") or old.get("recipe", recipes.DEFAULT)
    if not given.get("recipe") and not old.get("installed", True):
        raise LeafwingError(f"--from {given['replay']} was trained with a recipe of its own: name the file with --recipe")
    card = recipes.describe(named)
    numbers: dict[str, Any] = {"images": count(setting("images", 200_000))}
    for name, default in (
        ("checkpoint", max(1, numbers["images"] // 20)),
        ("samples", max(1, numbers["images"] // 20)),
        ("log", min(2_000, max(1, numbers["images"] // 200))),
    ):
        numbers[name] = count(setting(name, default), name)
    numbers["time"] = None if setting("time", None) is None else duration(setting("time", None))
    for name, default, least in (("keep", 2, 1), ("keep_every", 5, 0), ("seed", 0, 0), ("roll_backs", 3, 0)):
        numbers[name] = whole(name, setting(name, default), least)
    stop_on = setting("stop_on", None)
    if stop_on is not None:
        stopping.asked(stop_on)
        numbers |= {"stop_on": stop_on, "patience": whole("patience", setting("patience", stopping.PATIENCE), 1)}
    elif given.get("patience") is not None:
        raise LeafwingError(f"--patience {given['patience']} needs --stop-on: which metric is to get no better?")
    numbers["health"] = one_of("health", setting("health", "warn"), HEALTH)
    if numbers["seed"] >= SEED_LIMIT:
        raise LeafwingError(f"seed {numbers['seed']}: a seed is from 0 to {SEED_LIMIT - 1}")
    if numbers["time"] is not None:
        # Time may end training long before its images are shown: how many will be is seen when it has run for a while.
        numbers["open_intervals"] = [name for name in ("checkpoint", "samples") if setting(name, None) is None]
    replayed = old["options"] if card.name == old.get("recipe") else {}
    chosen = card.resolve({**replayed, **options})
    machine = {name: value for name in MACHINE_OPTIONS if (value := setting(name, None)) is not None}
    machine["threads"], adapts = asked_threads(machine.get("threads"))
    setup = engine.choose(**machine)
    if adapts:
        numbers["adapt_threads"] = True
    elif given.get("threads") is None and old["training"].get("thread_changes"):
        numbers["thread_changes"] = old["training"]["thread_changes"]

    if given.get("size") is not None and source not in data.WORLDS:
        # The recipe says now what it thinks of this size, not after all pictures have been read.
        height, width = check(given["size"], None, "crop", "white").size or (64, 64)
        recipes.build(card.name, recipes.find(named), anything(height, width), chosen)
    reading = {name: value for name in DATA_OPTIONS if (value := given.get(name)) is not None}
    dataset = data.load(source, **{**old["data"]["options"], **reading}, progress=progress.packing)
    if dataset.spec.points:
        chosen = card.resolve({**replayed, **options}, points=True)
        if machine.get("precision", "auto") == "auto":
            setup = replace(setup, precision="fp32", why={**setup.why, "precision": "points need more digits than bf16 has"})
    if dataset.rejects:
        progress.say(f"{len(dataset.rejects)} pictures cannot be used; `leafwing doctor {source}` says which and why")
    for note in dataset.notes:
        progress.say(note)
    if stop_on is not None:
        stopping.suits(stop_on, dataset)
    hold_out = given.get("hold_out")
    if hold_out is None:
        hold_out = setting("held_out", "auto" if stop_on else 0, "data")
    held_out = asked(hold_out, len(dataset), dataset.spec.points)
    few = asked_few(setting("labelled", None, "data"), setting("labelled_seed", None, "data"))
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
        "training": {**numbers, **{name: getattr(setup, name) for name in MACHINE_OPTIONS}},
        "versions": versions(),
    }
    return Plan(card, str(named), dataset, config, setup.why)


def prepare(
    config: Mapping[str, Any],
    recipe: Callable[..., Any],
    dataset: Dataset,
    say: Callable[[str], None] = lambda text: None,
    processes: Processes | None = None,
) -> Training:
    """The training of a resolved plan, at its beginning."""
    import torch

    from leafwing.engine import Engine, choose
    from leafwing.loop import Training

    settings = config["training"]
    shown, _ = fed(config["data"], dataset)
    torch.manual_seed(settings["seed"])
    game = recipes.build(config["recipe"], recipe, shown.spec, config["options"])
    setup = choose(**{name: settings[name] for name in MACHINE_OPTIONS if settings.get(name) is not None})
    engine = Engine(game, setup, say=say, processes=processes)
    engine.processes.share(game.batch)  # raises: it cannot be shared
    return Training(
        game,
        shown.batches(
            settings["seed"],
            str(engine.device),
            resident=setup.resident,
            share=(engine.processes.rank, engine.processes.world),
        ),
        engine,
        images=settings["images"],
        batch=game.batch,
    )


def asked_threads(threads: Any) -> tuple[int | None, bool]:
    """A number of threads, None for the default, and whether it may change in training (`auto`)."""
    if threads is None or isinstance(threads, int):
        return threads, False
    if threads == "auto":
        return None, True
    if not str(threads).strip().isdigit():
        raise LeafwingError(f"threads {threads!r}: give a number of CPU threads, or auto")
    return int(threads), False


def one_of(name: str, value: object, choices: Sequence[str]) -> str:
    """A setting that has a few values, or a LeafwingError that names them."""
    if value not in choices:
        raise LeafwingError(f"{name} {value!r}: choose from {', '.join(choices)}")
    return str(value)


def elsewhere(settings: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """The settings of a run that goes on with another device, thread count or micro-batch: what depends on it is chosen anew."""
    from leafwing.engine import choose

    asked = {name: value for name, value in given.items() if value is not None}
    if not asked:
        return dict(settings)
    kept = ("precision", "threads", "layout", "compile", "micro_batch") + (() if "device" in asked else MACHINE_OPTIONS)
    setup = choose(**{name: settings[name] for name in kept if settings.get(name) is not None} | asked)
    return {**settings, **{name: getattr(setup, name) for name in MACHINE_OPTIONS}}


def read_config(path: str | Path) -> dict[str, Any]:
    """The `run.json` of an earlier run, given by file or by folder, to be replayed.

    Raises:
        LeafwingError: it cannot be read, or its recipe is not an installed one.
    """
    path = Path(path)
    opened = Run(path if path.is_dir() else path.parent) if path.is_dir() or path.name == "run.json" else None
    if opened is None:
        raise LeafwingError(f"--from {path}: give the run.json of a run folder")
    return opened.config | {"installed": opened.recipe_is_installed()}

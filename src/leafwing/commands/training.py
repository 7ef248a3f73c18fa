"""Train, forecast, resume: here data, recipe, loop and run folder meet."""

from __future__ import annotations

import signal
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files, recipes
from leafwing.commands.feeding import anything, asked_few, fed, unseen
from leafwing.errors import Diverged, LeafwingError, StorageError
from leafwing.progress import Silent
from leafwing.quantities import count, duration, whole
from leafwing.runs import ROOT, Run, refuse, spec_to, versions

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine.processes import Processes
    from leafwing.game import Batches
    from leafwing.loop import Training
    from leafwing.model import Model
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
GO_ON = "The last checkpoint is kept: `leafwing resume` goes on from there, with as many processes as you like"


@dataclass(frozen=True)
class Plan:
    """A training, resolved: everything that `run.json` will say, what it was resolved from, and why."""

    card: Card
    reference: str
    data: Dataset
    config: dict[str, Any]
    why: Mapping[str, str]


def train(
    source: str | Path | None = None,
    recipe: str | None = None,
    *,
    size: int | str | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: str | None = None,
    background: str | None = None,
    mirror: bool | None = None,
    hold_out: int | str | None = None,
    labelled: int | None = None,
    labelled_seed: int | None = None,
    images: int | str | None = None,
    time: float | str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    root: str | Path = ROOT,
    replay: str | Path | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    layout: str | None = None,
    fused: bool | None = None,
    keep_freed: bool | None = None,
    products: bool | None = None,
    capture: bool | None = None,
    compile: bool | None = None,
    micro_batch: int | None = None,
    resident: bool | None = None,
    checkpoint: int | str | None = None,
    keep: int | None = None,
    keep_every: int | None = None,
    samples: int | str | None = None,
    log: int | str | None = None,
    health: str | None = None,
    roll_backs: int | None = None,
    stop_on: str | None = None,
    patience: int | None = None,
    tensorboard: bool = False,
    progress: Silent | None = None,
    **options: Value,
) -> Run:
    """Train a recipe on a source of pictures, and leave a run folder.

    Args:
        source: a folder, an archive or a built-in name; see `leafwing.data.load`.
        recipe: an installed recipe or the path of a recipe file. None: dcgan.
        size, channels, fit, background, mirror: how pictures are read; see `leafwing.data.load`.
        hold_out: how many pictures are kept out of training, for numbers that it has not seen, or `auto`; see
            `leafwing.data.split`. None: none.
        labelled: how many pictures are shown with their labels in a stream of their own, equally many of each class; see
            `Dataset.label_some`. None: there is no such stream.
        labelled_seed: which ones. None: 0.
        images: how many real images are shown in all. None: 200,000.
        time: stop after so long, if the images have not been shown before: 10m, 1h30m or seconds.
        seed: of the weights, the latents and the order of the data. None: 0.
        out: the run folder; None: numbered under `root`.
        root: where numbered run folders lie.
        replay: a `run.json` whose settings hold wherever none is given here.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
        threads: CPU threads. None: as many as help just now.
        layout: how pictures lie in memory: auto, channels_last or contiguous.
        fused: optimisers step in one kernel. None: where there is one.
        keep_freed: keep freed memory for the next step instead of handing it back (glibc). None: yes.
        products: compute convolutions of small maps as matrix products. None: on a CPU with AMX, in bf16.
        capture: record turns as CUDA graphs and replay them. None: on CUDA.
        compile: pass the networks through `torch.compile`, which takes long and pays on some GPUs.
        micro_batch: how many images pass the networks at a time, for the same step with less memory. None: all of a turn.
        resident: keep the data on the device. None: where they fit.
        checkpoint: images between checkpoints. None: a twentieth of the images.
        keep: how many of the last weights files stay.
        keep_every: every so-manieth checkpoint stays for good; 0 for none.
        samples: images between sample grids. None: a twentieth of the images.
        log: images between lines of `log.jsonl`. None: a two-hundredth of the images, 2,000 at the most.
        health: what is done when training falls ill: `warn` (None), `stop`, `roll_back` to the last healthy checkpoint and on with
            halved learning rates, or `off`: nobody looks.
        roll_backs: how often at most. None: 3.
        stop_on: a metric that is worked out at every checkpoint, such as `kid` or `prdc.recall`; training ends when it has not got
            better for a while, and the best checkpoint stays. Then `hold_out` is `auto` unless it is said otherwise.
        patience: how many checkpoints that is. None: 5.
        tensorboard: write TensorBoard files into the run folder too.
        progress: who is told; None for nobody.
        **options: the recipe's hyper-parameters.

    Returns:
        The run. Its `done` says why training ended: `images`, `seconds`, `unhealthy`, `no_better`, or `asked` by Ctrl-C or SIGTERM,
        which finish the turn and write a checkpoint.

    Raises:
        LeafwingError: bad input; nothing was written.
        Diverged: a cost or weight was not a finite number; the last good checkpoint is kept.
        StorageError: the run folder or the cache cannot be written.
    """
    given = dict(locals())
    with together(GO_ON) as processes:
        if processes.first:
            refuse(out)
        progress = progress or Silent()
        heard = progress if processes.first else Silent()
        with processes.first_on_machine():
            plan = resolve({**given, "progress": heard}, options, heard)
        plan.config["training"]["threads"] = processes.tell(plan.config["training"]["threads"])  # each has tried them out
        writer = tensorboard_writer() if tensorboard else None
        training = prepare(plan.config, recipes.find(plan.reference), plan.data, heard.say, processes)
        plan.config["conditions"] = list(training.game.abilities.conditions)
        if "attributes" in plan.config["conditions"]:  # for whoever samples later, without the data
            plan.config["data"]["combinations"] = " ".join(plan.data.combinations())
        run = Run.create(plan.config, plan.card.path, out=out, root=root) if processes.first else None
        folder = processes.tell(None if run is None else str(run.folder))
        run = run or Run(folder, trust=True)
        heard.say(f"run folder: {run.folder}")
        with run.lock() if processes.first else nullcontext():
            return carry_on(run, training, heard, writer, unseen(run, plan.data, training))


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
    replayed = old["options"] if card.name == old.get("recipe") else {}
    chosen = card.resolve({**replayed, **options})
    machine = {name: value for name in MACHINE_OPTIONS if (value := setting(name, None)) is not None}
    setup = engine.choose(**machine)

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


def resume(
    run: str | Path,
    *,
    images: int | str | None = None,
    time: float | str | None = None,
    device: str | None = None,
    threads: int | None = None,
    micro_batch: int | None = None,
    health: str | None = None,
    roll_backs: int | None = None,
    trust: bool = False,
    tensorboard: bool = False,
    root: str | Path = ROOT,
    progress: Silent | None = None,
) -> Run:
    """Go on with a run exactly where its last checkpoint is: on a CPU the weights become those of an uninterrupted run.

    Args:
        run: folder, name, number or `last`.
        images: a new total, or `+100k` for so many more.
        time: a new limit of training time, or `+10m`; None lifts the old one.
        device: go on somewhere else: auto, cpu, cuda or mps. The weights are then those of an uninterrupted run up to rounding.
        threads: CPU threads, likewise.
        micro_batch: how many images pass the networks at a time, likewise.
        health: another way of meeting alarms than before; see `train`.
        roll_backs: how often training goes back at most, those before counted.
        trust: execute the folder's `recipe.py` although it is no installed recipe.
        tensorboard: write TensorBoard files too.
        root: where numbered run folders lie.
        progress: who is told; None for nobody.

    Raises:
        LeafwingError: no such run, it is finished, or its data have changed.
    """
    with together(GO_ON) as processes:
        heard = (progress or Silent()) if processes.first else Silent()
        opened = Run.open(run, root=root, trust=trust)
        settings = elsewhere(opened.config["training"], device=device, threads=threads, micro_batch=micro_batch)
        ways: dict[str, Any] = {} if health is None else {"health": one_of("health", health, HEALTH)}
        ways |= {} if roll_backs is None else {"roll_backs": whole("roll_backs", roll_backs, 0)}
        with opened.lock() if processes.first else nullcontext():
            state = opened.resume_state()
            total = more(images, max(settings["images"], state["images"] if state and images else 0), count, "images")
            limit = None if time is None else more(time, float(state["seconds"]) if state else 0.0, duration, "time")
            if state and state["images"] >= total:
                advice = f"go on with `leafwing resume {opened.folder} --images +100k`"
                raise LeafwingError(f"{opened.folder} has shown its {total:,} images; {advice}")
            with processes.first_on_machine():
                dataset = same_data(opened, heard)
            config = {**opened.config, "training": {**settings, "images": total}}
            training = prepare(config, opened.function(), dataset, heard.say, processes)
            if state:
                opened.load_weights(training.game, state["images"])
                training.restore(state)
            changes = {name: settings[name] for name in MACHINE_OPTIONS if name in settings}
            opened.config["training"].update(images=total, time=limit, **changes, **ways)
            processes.barrier()  # all have read what the first will now change
            if processes.first:
                opened.forget_after(training.clock.images)
                opened.update()
            heard.say(f"{opened.folder}: going on at {training.clock.images:,} images")
            writer = tensorboard_writer() if tensorboard else None
            return carry_on(opened, training, heard, writer, unseen(opened, dataset, training))


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


def carry_on(run: Run, training: Training, progress: Silent, writer: Any, held: Batches | None = None) -> Run:
    """Run the loop to its end, leaving log lines, sample grids and checkpoints behind; `held` is data kept out of training."""
    from leafwing.commands.stopping import Stopping
    from leafwing.commands.watching import Monitor
    from leafwing.model import Model

    settings = run.config["training"]
    processes = training.engine.processes
    model = Model(training.game, run.spec, str(training.engine.device), combinations=run.combinations)
    limit = settings["time"]
    start = training.clock.images
    summary = writer(str(run.folder)) if writer and processes.first else None
    if start == 0 and processes.first:
        save_samples(run, model, 0)
    monitor = Monitor(run, training, progress, held)
    stopping = Stopping(run, training, progress) if settings.get("stop_on") else None
    if stopping and start in run.weights():
        stopping.look(start)  # a kill may have come before it
    with asked_to_stop() as asked, progress.training(start, settings["images"], limit):

        def watch(clock: Any) -> bool:
            progress.shown(clock.images)
            return asked.is_set()

        def session() -> bool:
            """Train until the end, or until training goes back: then True."""
            last = dict.fromkeys(("checkpoint", "samples"), training.clock.images)
            for tick in training.ticks(settings["log"], seconds=limit or inf, watch=watch):
                images = tick.clock.images
                record = {
                    "images": images,
                    "seconds": round(tick.seconds, 3),
                    "images_per_second": round(tick.images_per_second, 1),
                    "costs": dict(tick.costs),
                    "memory": tick.memory,
                    "round": tick.clock.round,
                    **monitor.look(tick),
                }
                action = monitor.judge(record)
                run.done = "unhealthy" if action == "stop" else tick.done
                if processes.first:
                    run.log(record)
                    progress.tick(record)
                    if summary:
                        for name, value in (tick.costs | record.get("health", {})).items():
                            summary.add_scalar(name, value, images)
                if action == "roll_back":
                    monitor.go_back()
                    return True
                if run.done or images // settings["samples"] != last["samples"] // settings["samples"]:
                    last["samples"] = images
                    if processes.first:
                        save_samples(run, model, images)
                if run.done or images // settings["checkpoint"] != last["checkpoint"] // settings["checkpoint"]:
                    last["checkpoint"] = images
                    if processes.first:
                        monitor.keep()
                    if stopping and stopping.look(images):
                        run.done = run.done or "no_better"
                if run.done:
                    return False
            return False

        try:
            going_on = True
            while going_on:
                try:
                    going_on = session()
                except Diverged as error:
                    monitor.survive(error)
        except StorageError as error:
            raise StorageError(f"{error}. Then go on with `leafwing resume {run.folder}`") from error
        finally:
            if summary:
                summary.close()
    return run


@contextmanager
def together(advice: str) -> Iterator[Processes]:
    """The processes of this training: those that torchrun or `--devices` started, or this one alone.

    Raises:
        ProcessLost: another one ended.
    """
    from leafwing.engine.processes import Processes

    with Processes.join() as processes, processes.others_alive(advice):
        yield processes


def save_samples(run: Run, model: Model, images: int) -> None:
    """The progress picture: the same latents every time."""
    from leafwing.pictures import png, sheet

    files.write(run.samples / f"{images:09d}.png", png(sheet(model)))


def forecast(
    source: str | Path | None = None, recipe: str | None = None, *, progress: Silent | None = None, **given: Any
) -> dict[str, Any]:
    """What `train` would do with the same arguments: the resolved plan, with parameters, memory, speed and time.

    A few steps are trained and thrown away; no run folder is made. Memory is worked out, for half and twice the batch too.
    """
    from leafwing.engine.footprint import footprint

    refuse(given.get("out"))
    settings = {name: given.pop(name, None) for name in TRAIN_OPTIONS}
    plan = resolve({"source": source, "recipe": recipe, **settings}, given, progress or Silent())
    asked = plan.config["training"]
    endless = {**plan.config, "training": {**asked, "images": 10**12}}
    training = prepare(endless, recipes.find(plan.reference), plan.data)
    batch = training.game.batch
    needs = footprint(training.engine, fed(plan.config["data"], plan.data)[0].batch(asked["seed"], 0, 4), batch)
    list(training.ticks(10**12, seconds=1.0))  # the first turns are slower
    before, started = training.clock.images, training.seconds
    list(training.ticks(10**12, seconds=started + 3.0))
    speed = (training.clock.images - before) / (training.seconds - started)
    parameters = {name: sum(p.numel() for p in player.net.parameters()) for name, player in training.game.players.items()}
    seconds = asked["images"] / speed
    return {
        **plan.config,
        "why": dict(plan.why),
        "batch": batch,
        "parameters": parameters,
        "memory": needs.total,
        "memory_by_batch": {str(size): needs.at(size).total for size in (max(1, batch // 2), batch, 2 * batch)},
        "images_per_second": round(speed, 1),
        "seconds": round(min(seconds, asked["time"] or seconds)),
        "epochs": round(asked["images"] / (len(plan.data) - plan.config["data"]["held_out"]), 1),
    }


def same_data(run: Run, progress: Silent) -> Dataset:
    """The data of a run, from the cache or from its source.

    Raises:
        LeafwingError: neither is there, or the source has changed.
    """
    from leafwing import data

    about = run.config["data"]
    packed = data.load_pack(about["fingerprint"], mirror=bool(about["options"].get("mirror")))
    if packed is not None:
        return packed
    try:
        found = data.load(about["source"], **about["options"], progress=progress.packing)
    except StorageError:
        raise
    except LeafwingError as error:
        raise LeafwingError(
            f"the data of {run.folder} are not in the cache, and their source cannot be read: {error}"
        ) from None
    if found.fingerprint != about["fingerprint"]:
        raise LeafwingError(
            f"{about['source']} has changed since {run.folder} was trained on it (fingerprint {about['fingerprint'][:12]}, now "
            f"{found.fingerprint[:12]}): put the old pictures back, or train anew"
        )
    return found


def more(value: int | float | str | None, now: float, read: Callable[..., Any], name: str) -> Any:
    """A new total, or with + an addition to the present one."""
    if value is None:
        return now
    text = str(value).strip()
    return now + read(text[1:], name) if text.startswith("+") else read(text, name)


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


def tensorboard_writer() -> Callable[[str], Any]:
    """TensorBoard's writer, or a LeafwingError that says how to install it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise LeafwingError("TensorBoard is not installed: pip install 'leafwing[tensorboard]'") from None
    return SummaryWriter


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by Ctrl-C or SIGTERM; a second Ctrl-C stops at once. Does nothing outside the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def stop(number: int, frame: types.FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

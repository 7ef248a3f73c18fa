"""Train a recipe on a source of pictures, and go on with a run exactly where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.commands.feeding import same_data, unseen
from leafwing.commands.launching import together
from leafwing.commands.plan import HEALTH, MACHINE_OPTIONS, asked_threads, elsewhere, one_of, prepare, resolve
from leafwing.commands.session import carry_on, tensorboard_writer
from leafwing.errors import LeafwingError
from leafwing.progress import Silent
from leafwing.quantities import count, duration, whole
from leafwing.runs import ROOT, Run, refuse

if TYPE_CHECKING:
    from leafwing.recipes import Value

GO_ON = "The last checkpoint is kept: `leafwing resume` goes on from there, with as many processes as you like"


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
    threads: int | str | None = None,
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
        threads: CPU threads. None: one for each core that this process may use. `auto`: fewer while other programs keep the cores
            busy; each change is recorded in `run.json`, and a replay makes it again.
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


def resume(
    run: str | Path,
    *,
    images: int | str | None = None,
    time: float | str | None = None,
    device: str | None = None,
    threads: int | str | None = None,
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
        threads: CPU threads, likewise; or `auto`, see `train`.
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
        number, adapts = asked_threads(threads)
        settings = elsewhere(opened.config["training"], device=device, threads=number, micro_batch=micro_batch)
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
            if threads is None:
                begun = training.clock.images
                kept = [one for one in settings.get("thread_changes", []) if one["images"] <= begun]
                changes |= {"thread_changes": kept} if kept else {}
            else:
                changes |= {"thread_changes": [], "adapt_threads": adapts}
            opened.config["training"].update(images=total, time=limit, **changes, **ways)
            processes.barrier()  # all have read what the first will now change
            if processes.first:
                opened.forget_after(training.clock.images)
                opened.update()
            heard.say(f"{opened.folder}: going on at {training.clock.images:,} images")
            writer = tensorboard_writer() if tensorboard else None
            return carry_on(opened, training, heard, writer, unseen(opened, dataset, training))


def more(value: int | float | str | None, now: float, read: Callable[..., Any], name: str) -> Any:
    """A new total, or with + an addition to the present one."""
    if value is None:
        return now
    text = str(value).strip()
    return now + read(text[1:], name) if text.startswith("+") else read(text, name)

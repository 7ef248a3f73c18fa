"""Train a recipe on a source of pictures, and go on with a run exactly where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from leafwing.commands.feeding import same_data, unseen
from leafwing.commands.launching import together
from leafwing.commands.plan import begun, elsewhere, one_of, prepare, resolve
from leafwing.commands.session import carry_on, tensorboard_writer
from leafwing.errors import LeafwingError
from leafwing.progress import Silent
from leafwing.quantities import count, duration
from leafwing.runs import ROOT, Change, Run, refuse
from leafwing.settings import Settings, catalogue, given_in, separated, updated

GO_ON = "The last checkpoint is kept: `leafwing resume` goes on from there, with as many processes as you like"


def train(
    source: str | Path | None = None,
    recipe: str | None = None,
    settings: Settings | None = None,
    *,
    out: str | Path | None = None,
    root: str | Path = ROOT,
    replay: str | Path | None = None,
    tensorboard: bool = False,
    progress: Silent | None = None,
    **options: Any,
) -> Run:
    """Train a recipe on a source of pictures, and leave a run folder.

    Args:
        source: a folder, an archive or a built-in name; see `leafwing.data.load`. None: that of the replayed run.
        recipe: an installed recipe or the path of a recipe file. None: that of the replayed run, or dcgan.
        settings: how pictures are read, how long training lasts, what is kept, and where it runs; see `leafwing.settings`, which
            has the default and the meaning of each.
        out: the run folder; None: numbered under `root`.
        root: where numbered run folders lie.
        replay: a `run.json` whose settings hold wherever none is given here.
        tensorboard: write TensorBoard files into the run folder too.
        progress: who is told; None for nobody.
        **options: any setting by its name (`size=64`, `images="200k"`), instead of or beside `settings`; and the recipe's
            hyper-parameters.

    Returns:
        The run. Its `done` says why training ended: `images`, `seconds`, `unhealthy`, `no_better`, or `asked` by Ctrl-C or SIGTERM,
        which finish the turn and write a checkpoint.

    Raises:
        LeafwingError: bad input; nothing was written.
        Diverged: a cost or weight was not a finite number; the last good checkpoint is kept.
        StorageError: the run folder or the cache cannot be written.
    """
    given, hyper = separated({**(given_in(settings) if settings else {}), **options})
    with together(GO_ON) as processes:
        if processes.first:
            refuse(out)
        heard = (progress or Silent()) if processes.first else Silent()
        with processes.first_on_machine():
            plan = resolve(source, recipe, given, hyper, heard, replay)
        writer = tensorboard_writer() if tensorboard else None
        training = prepare(plan, heard.say, processes)
        plan.config["conditions"] = list(training.game.abilities.conditions)
        if "attributes" in plan.config["conditions"]:  # for whoever samples later, without the data
            plan.config["data"]["combinations"] = " ".join(plan.data.combinations())
        run = Run.create(plan.config, plan.card.path, out=out, root=root) if processes.first else None
        folder = processes.broadcast(None if run is None else str(run.folder))
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
        threads: CPU threads, likewise; or `auto`.
        micro_batch: micro-batch size, likewise.
        health: another reaction to alarms than before; see `leafwing.settings`.
        roll_backs: the maximum number of roll-backs, those before counted.
        trust: execute the folder's `recipe.py` although it is not an installed recipe.
        tensorboard: write TensorBoard files too.
        root: where numbered run folders lie.
        progress: who is told; None for nobody.

    Raises:
        LeafwingError: no such run, it is finished, its checkpoint is not complete, or its data have changed.
    """
    elsewhere_given, _ = separated({"device": device, "threads": threads, "micro_batch": micro_batch})
    watching_given, _ = separated({"health": health, "roll_backs": roll_backs})
    if health is not None:
        one_of("health", health, catalogue()["health"].choices)
    with together(GO_ON) as processes:
        heard = (progress or Silent()) if processes.first else Silent()
        opened = Run.open(run, root=root, trust=trust)
        before = opened.settings
        machine = elsewhere(before.machine, elsewhere_given)
        with opened.lock() if processes.first else nullcontext():
            state = opened.resume_state()
            nothing_is_lost(opened, state)
            shown = state["images"] if state else 0
            total = more(images, max(before.schedule.images, shown if images else 0), count, "images")
            limit = None if time is None else more(time, float(state["seconds"]) if state else 0.0, duration, "time")
            if state and shown >= total:
                advice = f"go on with `leafwing resume {opened.folder} --images +100k`"
                raise LeafwingError(f"{opened.folder} has shown its {total:,} images; {advice}")
            with processes.first_on_machine():
                dataset = same_data(opened, heard)
            settings = replace(
                before,
                schedule=replace(before.schedule, images=total, time=limit),
                watching=updated(before.watching, watching_given),
                machine=machine,
            )
            training = begun(opened.config, settings, opened.function(), dataset, heard.say, processes)
            if state:
                opened.load_weights(training.game, shown)
                training.restore(state)
            changes = tuple(one for one in opened.history.thread_changes if one.images <= training.clock.images)
            if threads is not None:
                changes = (Change(training.clock.images, training.engine.setup.threads),) if threads == "auto" else ()
            opened.settings, opened.history = settings, replace(opened.history, thread_changes=changes)
            processes.barrier()  # all have read what the first will now change
            if processes.first:
                opened.forget_after(training.clock.images)
                opened.update()
            heard.say(f"{opened.folder}: going on at {training.clock.images:,} images")
            writer = tensorboard_writer() if tensorboard else None
            return carry_on(opened, training, heard, writer, unseen(opened, dataset, training))


def nothing_is_lost(run: Run, state: dict[str, Any] | None) -> None:
    """Raises LeafwingError where going on would replace weights that are not its own past.

    Training goes on from `resume.pt`. A kill between the two files of a checkpoint leaves one weights file that is newer, and it will
    be written again, the same; more than one, or weights without any `resume.pt`, come from elsewhere.
    """
    newer = [images for images in run.weights() if state is None or images > state["images"]]
    complete = (run.folder / "resume.pt").exists()  # it is there from the beginning
    went_back = state["beside"].get("health", {}).get("rolled_back", []) if state else []
    if state and went_back and went_back[-1]["to"] == state["images"]:
        return  # a kill in the midst of a roll-back: what lies behind it is what it was about to remove
    if not newer or (complete and len(newer) == 1):
        return
    what = "has no resume.pt" if state is None else f"has a resume.pt of {state['images']:,} images, which is too old"
    raise LeafwingError(
        f"{run.folder} holds weights of {newer[-1]:,} images but {what}, so training cannot go on there, and going back to "
        f"{state['images'] if state else 0:,} images would replace them. Bring the run's own resume.pt back (a copy often leaves it "
        f"out), or train again elsewhere: `leafwing train --from {run.folder}`; samples and numbers need no resume.pt"
    )


def more(value: int | float | str | None, now: float, read: Callable[..., Any], name: str) -> Any:
    """A new total, or with + an addition to the present one."""
    if value is None:
        return now
    text = str(value).strip()
    return now + read(text[1:], name) if text.startswith("+") else read(text, name)

"""One session of training: the loop runs until it ends or is asked to stop; what it leaves is written between two ticks."""

from __future__ import annotations

import signal
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from leafwing import files
from leafwing.errors import Diverged, LeafwingError, StorageError
from leafwing.progress import Silent
from leafwing.runs import Run
from leafwing.settings import updated

if TYPE_CHECKING:
    from leafwing.game import Batches
    from leafwing.loop import Tick, Training
    from leafwing.model import Model


def carry_on(run: Run, training: Training, progress: Silent, writer: Any, held: Batches | None = None) -> Run:
    """Run the loop to its end, leaving log lines, sample grids and checkpoints behind; `held` is data kept out of training."""
    from leafwing.commands.stopping import Stopping
    from leafwing.commands.threads import Threads
    from leafwing.commands.watching import Monitor
    from leafwing.model import Model

    processes = training.engine.processes
    model = Model(training.game, run.spec, str(training.engine.device), combinations=run.combinations)
    limit = run.settings.schedule.time
    start = training.clock.images
    summary = writer(str(run.folder)) if writer and processes.first else None
    if start == 0 and processes.first:
        run.begin()
        save_samples(run, model, 0)
    monitor = Monitor(run, training, progress, held)
    stopping = Stopping(run, training, progress) if run.settings.schedule.stop_on else None
    threads = Threads(run, training, progress)
    if stopping and start in run.weights():
        stopping.look(start)  # a kill may have come before it
    left = None if limit is None else limit - training.seconds
    with asked_to_stop() as asked, progress.training(start, run.settings.schedule.images, left):

        def watch(clock: Any) -> bool:
            progress.shown(clock.images)
            return asked.is_set()

        def session() -> bool:
            """Train until the end, or until training goes back: then True."""
            last = dict.fromkeys(("checkpoint", "grid"), training.clock.images)
            for tick in training.ticks(run.settings.folder.log_every, seconds=limit or inf, should_stop=watch):
                images = tick.clock.images
                record = {
                    "images": images,
                    "seconds": round(tick.seconds, 3),
                    "images_per_second": round(tick.images_per_second, 1),
                    "costs": dict(tick.losses),
                    "memory": tick.memory,
                    "round": tick.clock.round,
                    **monitor.look(tick),
                    **threads.look(tick),
                }
                fit_intervals(run, tick)
                folder = run.settings.folder
                action = monitor.judge(record)
                run.done = "unhealthy" if action == "stop" else tick.done
                if processes.first:
                    run.log(record)
                    progress.tick(record)
                    if summary:
                        for name, value in (tick.losses | record.get("health", {})).items():
                            summary.add_scalar(name, value, images)
                if action == "roll_back":
                    monitor.go_back()
                    return True
                if run.done or images // folder.grid_every != last["grid"] // folder.grid_every:
                    last["grid"] = images
                    if processes.first:
                        save_samples(run, model, images)
                if run.done or images // folder.save_every != last["checkpoint"] // folder.save_every:
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


def fit_intervals(run: Run, tick: Tick) -> None:
    """Where time will end training before its images are shown: checkpoints and grids at twentieths of what will be shown.

    Intervals that were given stay as they are. Done once, when a twentieth of the time has passed.
    """
    schedule, still_open = run.settings.schedule, run.history.open_intervals
    if not still_open or not schedule.time or tick.seconds < schedule.time / 20:
        return
    expected = tick.clock.images / tick.seconds * schedule.time
    changes = {name: max(1, round(expected / 20)) for name in still_open if expected < schedule.images}
    run.update(replace(run.settings, folder=updated(run.settings.folder, changes)), open_intervals=())


def save_samples(run: Run, model: Model, images: int) -> None:
    """The progress picture: the same latents every time."""
    from leafwing.pictures import png, sheet

    files.write(run.samples / f"{images:09d}.png", png(sheet(model)))


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

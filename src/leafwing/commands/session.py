"""One session of training: runs the loop until its end or a stop signal, and writes files between two ticks."""

from __future__ import annotations

import shlex
import signal
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from leafwing import files, optional
from leafwing.commands import stop_signals
from leafwing.commands.plan import with_intervals
from leafwing.commands.speed import left_out
from leafwing.errors import Diverged, StorageError
from leafwing.fields import Vector
from leafwing.progress import Reporter
from leafwing.runs import Run, train_again
from leafwing.settings import replace_fields

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.engine.processes import Processes
    from leafwing.game import Batch, BatchSource, Game
    from leafwing.loop import Tick, Training
    from leafwing.model import Model


SHEET_ROWS = 8
"""Number of real samples on a progress sheet."""


def run_session(
    run: Run,
    training: Training,
    progress: Reporter,
    writer: Any,
    held_out: BatchSource | None = None,
    rows: Batch | None = None,
) -> Run:
    """Runs the loop to its end; writes log lines, sample grids and checkpoints.

    Args:
        run: the run folder.
        training: before its first turn, or restored.
        progress: receives messages and progress.
        writer: creates a TensorBoard writer for a folder; None: no TensorBoard files.
        held_out: held-out data, if there is any.
        rows: the real samples on progress sheets; see `sheet_rows`.

    Returns:
        The run; its `stop_reason` says why training ended.

    Raises:
        Diverged: a loss or weight became NaN or infinite.
        StorageError: the run folder is not writable.
    """
    from leafwing.commands.stopping import EarlyStopping
    from leafwing.commands.threads import ThreadMonitor
    from leafwing.commands.watching import Monitor
    from leafwing.conditions import Examples
    from leafwing.model import Model

    processes = training.engine.processes
    examples = Examples.from_plain(run.spec, run.data.examples or {})
    model = Model(training.game, run.spec, str(training.engine.device), examples=examples)
    limit = run.settings.schedule.time
    start = training.clock.images
    if start == 0 and processes.first:
        run.mark_started()
        save_samples(run, model, 0, rows)
    monitor = Monitor(run, training, progress, held_out)
    stopping = EarlyStopping(run, training, progress) if run.settings.schedule.stop_on else None
    threads = ThreadMonitor(run, training, progress)
    seconds_left = None if limit is None else limit - training.seconds
    if threading.current_thread() is not threading.main_thread():
        progress.say(
            "training in a thread: it can be repeated exactly only if no other thread uses PyTorch meanwhile, because they share "
            "its random numbers"
        )
    with ExitStack() as stack:
        stop_requested = stack.enter_context(stop_requests())

        def check(images: int) -> str:
            """Measures a checkpoint; returns why training should stop, if it should. A signal meanwhile says what happens."""
            how = "giving up" if processes.world_size == 1 else "after"
            stop_requested.announce = partial(progress.say, f"stopping: {how} the measurement of this checkpoint")
            reason = stopping.check(images, stop_requested.is_set) if stopping else ""
            stop_requested.announce = None
            return reason

        if start and start in run.weights():  # missing if the training was interrupted after writing the checkpoint
            run.stop_reason = check(start)
            if run.stop_reason:
                return run
        if summary := writer(str(run.folder)) if writer and processes.first else None:
            stack.callback(summary.close)
        stack.enter_context(progress.training(start, run.settings.schedule.images, seconds_left))

        def after_turn(clock: Any) -> bool:
            with undisturbed(progress):
                progress.after_turn(clock.images)
            return stop_requested.is_set()

        def train() -> bool:
            """Trains until the end or the next rollback; returns whether it was a rollback, after which training continues."""
            last = dict.fromkeys(("checkpoint", "grid", "tick"), training.clock.images)
            early = limit / 20 if limit and run.history.open_intervals else inf  # slow trainings have no other tick by then
            for tick in training.ticks(
                lambda: run.settings.folder.log_every, seconds=limit or inf, first=early, should_stop=after_turn
            ):
                images = tick.clock.images
                record = {
                    "images": images,
                    "seconds": round(tick.seconds, 3),
                    "images_per_second": round(tick.images_per_second, 1),
                    "losses": dict(tick.losses),
                    "memory": tick.memory,
                    "round": tick.clock.round,
                    **augment_record(training),
                    **monitor.measure(tick),
                    **threads.check(tick),
                    **new_options(run, last["tick"], images),
                }
                last["tick"] = images
                fit_intervals(run, tick, processes)
                folder = run.settings.folder
                response = monitor.respond(record)
                run.stop_reason = "unhealthy" if response == "stop" else tick.stop_reason
                if processes.first:
                    run.log(record)
                    with undisturbed(progress):
                        progress.tick(record if limit is None else {**record, "time_left": limit - tick.seconds})
                    if summary:
                        numbers = {**tick.losses, **augment_record(training), **record.get("health", {})}
                        for name, value in numbers.items():
                            summary.add_scalar(name, value, images)
                        if "options" in record:
                            summary.add_text("options", ", ".join(f"{k}={v}" for k, v in record["options"].items()), images)
                if response == "rollback":
                    monitor.roll_back()
                    return True
                if run.stop_reason or images // folder.grid_every != last["grid"] // folder.grid_every:
                    last["grid"] = images
                    if processes.first:
                        save_samples(run, model, images, rows)
                if run.stop_reason or images // folder.save_every != last["checkpoint"] // folder.save_every:
                    last["checkpoint"] = images
                    monitor.save_checkpoint()
                    if stopping and run.stop_reason != "interrupted":  # then it is evaluated when the run is resumed
                        reason = check(images)
                        run.stop_reason = run.stop_reason or reason
                if run.stop_reason:
                    return False
            return False

        try:
            while True:
                try:
                    if not train():
                        break
                except Diverged as error:
                    monitor.handle_divergence(error)  # rolls back, or raises
        except StorageError as error:
            raise StorageError(f"{error}. Then continue with `leafwing resume {shlex.quote(str(run.folder))}`") from error
    shown, planned = training.clock.images, training.clock.planned or training.clock.total
    if run.stop_reason == "time_limit" and (begin := left_out(training.game, shown, planned)):
        progress.warn(
            f"the time ended before the last stage of this training, which begins at {begin:,} images and trains other networks: "
            f"`leafwing resume {shlex.quote(str(run.folder))}` goes on to there; `leafwing {train_again(run)} --images {shown}` plans "
            "all stages for the images of this time"
        )
    return run


@contextmanager
def undisturbed(progress: Reporter) -> Iterator[None]:
    """Lets a reporter of the user's draw random numbers from torch without changing the training."""
    if type(progress).__module__.startswith("leafwing."):
        yield
        return
    import torch

    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def augment_record(training: Training) -> dict[str, float]:
    """The probability of augmentations, for the log, if it changes."""
    augmentation = training.engine.augmentation
    if augmentation is None or not augmentation.changes:
        return {}
    return {"augment_p": round(float(augmentation.p), 4)}


def new_options(run: Run, before: int, images: int) -> dict[str, Any]:
    """The hyper-parameters that have changed between two ticks, for the log."""
    changes = [change.after for change in run.history.option_changes if before <= change.images < images]
    return {"options": {name: value for after in changes for name, value in after.items()}} if changes else {}


def fit_intervals(run: Run, tick: Tick, processes: Processes) -> None:
    """Adapts the default intervals of checkpoints and grids to the images that the time limit allows: about 20 of each.

    Called at every tick, in every process; acts once, after a twentieth of the time. Intervals set by the user stay as they are.
    All processes take those of the first one, because their times differ, and each checkpoint needs all of them.
    """
    schedule, names, folder = run.settings.schedule, run.history.open_intervals, run.settings.folder
    if not names or not schedule.time:
        return
    changed = None
    if tick.seconds >= schedule.time / 20:
        expected = round(tick.clock.images / tick.seconds * schedule.time)
        is_shorter = expected < schedule.images
        changed = asdict(with_intervals(replace_fields(folder, dict.fromkeys(names, 0)), expected) if is_shorter else folder)
    changed = processes.broadcast(changed)
    if changed is None:
        return
    settings = replace(run.settings, folder=replace_fields(folder, changed))
    if processes.first:
        run.update(settings, open_intervals=())
    else:
        run.settings, run.history = settings, replace(run.history, open_intervals=())


def save_samples(run: Run, model: Model, images: int, rows: Batch | None = None) -> None:
    """Writes the progress sheet, from the same latents and real samples every time, and its animation if it shows clips."""
    from leafwing import films, model_sheet, pictures

    with files.storage(str(run.samples)):
        run.samples.mkdir(exist_ok=True)  # copies of runs often lack empty folders
    model.clock = model.game.at_stage(run.clock(images))
    if isinstance(model.kind(model.output), Vector):
        files.write(run.samples / f"{images:09d}.png", pictures.png(model_sheet.sample_sheet(model)))
        return
    sheet = model_sheet.progress_sheet(model, rows)
    files.write(run.samples / f"{images:09d}.png", pictures.png(sheet.image()))
    if sheet.frames:
        films.write(run.samples / f"{images:09d}.webp", sheet.animation(), pictures.FRAME_MS)


def sheet_rows(run: Run, dataset: Dataset, game: Game) -> Batch | None:
    """The real samples on progress sheets, in the format of networks: held-out ones if there are any, spread over the data.

    Args:
        run: the run.
        dataset: all of its data.
        game: its game.

    Returns:
        The fields that the outputs are and are generated from; None if these are only images, labels and attributes, because sheets
        then show generated samples only.
    """
    import numpy as np
    import torch

    from leafwing.commands.feeding import split_data
    from leafwing.game import Batch

    outputs = game.abilities.outputs
    if not {name for output in outputs for name in output.conditions} - {"label", "attributes"}:
        return None
    data = split_data(run.data, dataset)[1] if run.data.held_out else dataset
    columns = {name: (data, name) for name in data.columns}
    for stream in data.streams.values():
        columns |= {name: (stream.data, key) for key, name in stream.names.items()}
    names = dict.fromkeys(name for output in outputs for name in (*output.conditions, output.field))
    sources = {name: columns[name] for name in names if name in columns}
    count = min(SHEET_ROWS, *(len(source) for source, _ in sources.values()))
    batch = Batch()
    for name, (source, key) in sources.items():
        indices = np.linspace(0, len(source) - 1, count).astype(np.int64)
        batch[name] = source.spec.fields[key].to_network(torch.from_numpy(source.stored(key, indices)))
    return batch


def tensorboard_writer() -> Callable[[str], Any]:
    """The class of TensorBoard writers.

    Raises:
        LeafwingError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise optional.not_installed("tensorboard") from None
    return SummaryWriter


class StopRequest(threading.Event):
    """A request to end a training; `announce` is called at the first one, while something runs that takes long to end."""

    announce: Callable[[], None] | None = None

    def set(self) -> None:
        if self.announce and not self.is_set():
            self.announce()
        super().set()


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """An event that Ctrl-C or another signal sets (see `commands.stop_signals`); a second Ctrl-C or SIGTERM raises
    KeyboardInterrupt. Never set outside the main thread."""
    requested = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return

    def stop(number: int, frame: types.FrameType | None) -> None:
        if requested.is_set() and number in stop_signals.URGENT:
            raise KeyboardInterrupt
        requested.set()

    previous = {number: signal.signal(number, stop) for number in stop_signals.numbers()}
    try:
        yield requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

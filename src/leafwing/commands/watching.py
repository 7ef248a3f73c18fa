"""Health monitoring during training: checks at ticks, the log, warnings, rollbacks. `leafwing.health` has the rules.

Rolling back to a checkpoint needs its `resume.pt`, but only the newest checkpoint has one. With `--health rollback`, each checkpoint
therefore keeps a copy, `resume-000050000.pt`, as long as an alarm can reach back to it. A rollback takes effect when `resume.pt` is
replaced by an earlier copy. All other changes in the folder follow; after a crash in between, the next resume completes them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import files, health
from leafwing.commands.retuning import scaled_rates
from leafwing.conditions import pixel_conditions
from leafwing.engine.probe import SAMPLES, Probe
from leafwing.errors import Diverged
from leafwing.progress import Reporter
from leafwing.runs import Run, train_again

if TYPE_CHECKING:
    from leafwing.game import BatchSource
    from leafwing.loop import Tick, Training

ROLL_BACK_LR_FACTOR = 0.5
"""Factor of the learning rates at each rollback."""
LIMITED = 3_000_000
"""Checks of a training with a time limit are at least as frequent as in one of so many images: its own may be any large number."""


def against_divergence(run: Run, has_checkpoint: bool) -> str:
    """What to try after a NaN, each as a sentence with its command, to follow another one."""
    trust = "" if run.recipe_is_installed() else " --trust"
    anew = f"leafwing {train_again(run)}"
    command = f"leafwing resume {shlex.quote(str(run.folder))}{trust}" if has_checkpoint else anew
    slower, text = scaled_rates(run.options, lr_g=0.5, lr_d=0.5), ""
    if slower:
        text += f". Lower learning rates often help: `{command}{slower}`"
    if run.settings.machine.precision == "bf16":
        text += f". fp32 has more digits than bf16: `{anew} --precision fp32`"
    return text


class Monitor:
    """Monitors the health of a training run. Used in every process; only the first one writes files.

    Args:
        run: its settings `watching` and `folder` say what to do.
        training: before its first turn, or restored.
        progress: receives messages.
        held_out: held-out data, if there is any.
    """

    def __init__(self, run: Run, training: Training, progress: Reporter, held_out: BatchSource | None = None) -> None:
        self.run, self.training, self.progress = run, training, progress
        self.processes = training.engine.processes
        self.mode = run.settings.watching.health
        self.last = training.clock.images
        outputs = training.game.abilities.outputs
        self.translates = bool(outputs) and bool(pixel_conditions(outputs[0], run.spec))
        state = training.extra.get("health", {})
        self.held_out = held_out
        self.probe: Probe | None = None
        if self.mode != "off":
            self.probe = self._new_probe(state)
        self.roll_backs: list[dict[str, Any]] = list(state.get("rolled_back", []))
        self.planned_roll_back: dict[str, Any] = {}
        self.reported: set[str] = set()
        self.records: list[dict[str, Any]] = []
        self.alarms: list[health.Alarm] = []
        if self.roll_backs and self.processes.first:
            self._rewind_folder()
        if self.mode == "rollback":
            if training.clock.images == 0:
                self.save_checkpoint()
            if self.processes.first:
                self._save_state_copy()
        if self.processes.first:
            self._read_log()

    def _read_log(self) -> None:
        self.records = self.run.records()
        self.alarms = health.alarms(self.records)

    @property
    def interval(self) -> int:
        """Images between two checks, with the present batch size."""
        training, settings = self.training, self.run.settings
        images = settings.schedule.images if settings.schedule.time is None else min(settings.schedule.images, LIMITED)
        interval = health.interval(training.batch, images, recorded=training.engine.setup.capture)
        return max(settings.folder.log_every, interval)

    def _samples(self) -> int:
        """Samples that each process examines: no more than fit into memory."""
        engine = self.training.engine
        forward = engine.setup.micro_batch or self.training.batch // self.processes.world_size
        return min(SAMPLES, max(8, forward))

    def _new_probe(self, state: Mapping[str, Any]) -> Probe:
        """A probe that goes on from the state of another."""
        training = self.training
        probe = Probe(training.engine, training.batches, n=self._samples(), held_out=self.held_out, spec=self.run.spec)
        probe.restore(state)
        return probe

    # --- checks --------------------------------------------------------------------------------------------------------

    def measure(self, tick: Tick) -> dict[str, Any]:
        """The health signals at this tick, for the log, if a check is due. To be called in every process."""
        images, last = tick.clock.images, self.last
        self.last = images
        if self.probe is None or images // self.interval == last // self.interval:
            return {}
        if self.probe.n != self._samples():  # the batch size has changed
            self.probe = self._new_probe(self.probe.state())
        translates = {"translates": True} if self.translates else {}
        return {"health": self.probe.measure(tick.clock), **translates}

    def respond(self, record: dict[str, Any]) -> str:
        """Reports new alarms, adds them to the log record, and returns the response: nothing, `stop` or `rollback`.

        To be called in every process; all get the response of the first.
        """
        if "health" not in record:
            return ""
        new: list[health.Alarm] = []
        if self.processes.first:
            self.records.append(record)
            earlier = {(alarm.symptom, alarm.since) for alarm in self.alarms}
            self.alarms = health.alarms(self.records)
            new = [alarm for alarm in self.alarms if (alarm.symptom, alarm.since) not in earlier]
            if new:
                record["alarms"] = [alarm.as_dict() for alarm in new]
            for alarm in new:
                if alarm.kind not in self.reported:
                    self.progress.warn(str(alarm))
                    if not self.reported:
                        self.progress.say(f"what alarms mean: {files.guide_page('health.md')}")
                    self.reported.add(alarm.kind)
        if self.mode == "stop":
            return "stop" if self.processes.broadcast(bool(new)) else ""
        if self.mode != "rollback":
            return ""
        serious = [alarm for alarm in new if alarm.kind in health.SLOWER_HELPS]
        if not self.processes.broadcast(bool(serious)):
            return ""
        since, why = (min(alarm.since for alarm in serious), serious[0].kind) if serious else (0, "")
        return "rollback" if self._plan_roll_back(since, why) else "stop"

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def save_checkpoint(self) -> None:
        """Writes a checkpoint, with everything that resuming and rolling back need. To be called in every process."""
        self._store_state()
        state = self.training.state()
        if not self.processes.first:
            return
        folder = self.run.settings.folder
        last = folder.keep_last
        if self.mode == "rollback":
            oldest = self._oldest_needed()
            last = max(last, 1 + sum(images >= oldest for images in self.run.weights()))
        milestone = folder.keep_every * folder.save_every
        self.run.save_checkpoint(self.training.game, state, last=last, milestone=milestone)
        if self.mode == "rollback":
            self._save_state_copy()

    def _store_state(self) -> None:
        state = self.probe.state() if self.probe else {}
        self.training.extra["health"] = {"rolled_back": self.roll_backs, **state}

    def _state_copy(self, images: int) -> Path:
        """The copy of `resume.pt` that belongs to a checkpoint."""
        return self.run.folder / f"resume-{images:09d}.pt"

    def _rollback_points(self) -> list[int]:
        """The checkpoints to which training can roll back, by images, oldest first."""
        return sorted(self.run.state_copies().keys() & self.run.weights().keys())

    def _oldest_needed(self) -> int:
        """The newest checkpoint that is older than any future alarm can reach back."""
        reach = self.training.clock.images - health.REACH * self.interval
        return max((images for images in self._rollback_points() if images < reach), default=0)

    def _save_state_copy(self) -> None:
        """Copies `resume.pt`, and removes copies that no future alarm can reach back to."""
        source, copy = self.run.folder / "resume.pt", self._state_copy(self.training.clock.images)
        if source.exists() and not copy.exists():
            files.write(copy, source.read_bytes())
        oldest = self._oldest_needed()
        for images, path in self.run.state_copies().items():
            if images < oldest:
                path.unlink(missing_ok=True)

    # --- rollbacks ----------------------------------------------------------------------------------------------------

    def handle_divergence(self, error: Diverged) -> None:
        """Rolls back after a NaN or infinite value.

        Raises:
            Diverged: the same error with advice, if a rollback is not enabled or not possible.
        """
        if self.processes.first:
            record = {"images": self.training.clock.images, "seconds": round(self.training.seconds, 3), "losses": {}}
            self.run.log({**record, "diverged": str(error)})
        if self.mode == "rollback" and self._plan_roll_back(inf, "nan"):
            self.progress.warn(str(error))
            self.roll_back()
            return
        weights = list(self.run.weights())
        good = f"the last good checkpoint has {weights[-1]:,} images" if weights else "there is no checkpoint yet"
        raise Diverged(
            f"{error}. Training of {self.run.folder} stopped; {good}{against_divergence(self.run, bool(weights))}"
        ) from None

    def _plan_roll_back(self, since: float, why: str) -> bool:
        """Plans a rollback to the newest checkpoint before `since` (images); False if there is none or the maximum is reached."""
        self.planned_roll_back = {}
        if self.processes.first:
            points = self._rollback_points()
            if points and len(self.roll_backs) < self.run.settings.watching.max_rollbacks:
                to = max((images for images in points if images < since), default=points[0])
                rate = ROLL_BACK_LR_FACTOR ** (len(self.roll_backs) + 1)
                self.planned_roll_back = {"from": self.training.clock.images, "to": to, "why": why, "rate": rate}
        self.planned_roll_back = self.processes.broadcast(self.planned_roll_back)
        return bool(self.planned_roll_back)

    def roll_back(self) -> None:
        """Returns to the planned checkpoint, with lower learning rates. The training time is not set back."""
        training, to, seconds = self.training, self.planned_roll_back["to"], self.training.seconds
        state = self.run.read_state(self._state_copy(to))
        self.run.load_weights(training.game, to)
        training.restore(state)
        training.engine.scale_learning_rates(self.planned_roll_back["rate"])
        training.seconds, self.last, self.roll_backs = seconds, to, [*self.roll_backs, self.planned_roll_back]
        if self.probe:
            self.probe.restore(training.extra["health"])
        self._store_state()
        self.processes.barrier()  # all processes have read the files that the first one may now remove
        state = training.state()
        if self.processes.first:
            self.run.write_state(state)
            self._rewind_folder()
            self._read_log()
            text = "rolled back from {from:,} to {to:,} images ({why}); all learning rates are now {rate:g} times those of the recipe"
            self.progress.warn(text.format(**self.planned_roll_back))

    def _rewind_folder(self) -> None:
        """Restores the folder to the current checkpoint, and logs the rollbacks that led to it."""
        images, run = self.training.clock.images, self.run
        best = None if run.history.best and run.history.best.images > images else run.history.best
        run.rewind(images)
        logged = [record["rolled_back"] for record in run.records() if "rolled_back" in record]
        for entry in self.roll_backs:
            if entry not in logged:
                run.log({"images": images, "seconds": round(self.training.seconds, 3), "losses": {}, "rolled_back": entry})
        run.update(rolled_back=tuple(self.roll_backs), best=best)

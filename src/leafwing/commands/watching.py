"""Health monitoring of a running training: checks between ticks, logging, warnings, roll-backs. The rules are in `leafwing.health`.

Rolling back to a checkpoint needs its `resume.pt`, which only the newest checkpoint has. So with `--health roll_back` each checkpoint
keeps a copy, `resume-000050000.pt`, until it is older than any alarm can reach. A roll-back takes effect when `resume.pt` is replaced
by a healthy one; all other changes in the folder follow, and the next resume completes them if the process is killed in between.
"""

from __future__ import annotations

import io
import re
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from leafwing import files, health
from leafwing.engine.probe import SAMPLES, Probe
from leafwing.errors import Diverged, LeafwingError
from leafwing.progress import Silent
from leafwing.runs import Run

if TYPE_CHECKING:
    from leafwing.game import Batches
    from leafwing.loop import Tick, Training

SLOWER = 0.5
"""What the learning rates are multiplied by, each time that training goes back."""


class Monitor:
    """Watches a training, in every process, and keeps what that needs in the run folder, in the first.

    Args:
        run: its settings say what to do: sections `watching` and `folder`.
        training: at its beginning, or restored.
        progress: who is told.
        held: data that are kept out of training.
    """

    def __init__(self, run: Run, training: Training, progress: Silent, held: Batches | None = None) -> None:
        self.run, self.training, self.progress = run, training, progress
        self.processes = training.engine.processes
        self.way = run.settings.watching.health
        often = health.every(training.batch, run.settings.schedule.images, recorded=training.engine.setup.capture)
        self.every = max(run.settings.folder.log_every, often)
        self.last = training.clock.images
        kept = training.extra.get("health", {})
        self.probe: Probe | None = None
        if self.way != "off":
            passing = training.engine.micro_batch or training.batch // self.processes.world
            n = min(SAMPLES, max(8, passing))  # no more than memory has room for
            self.probe = Probe(training.engine, training.batches, n=n, held_out=held)
            self.probe.restore(kept)
        self.rolled: list[dict[str, Any]] = list(kept.get("rolled_back", []))
        self.back: dict[str, Any] = {}
        self.said: set[str] = set()
        self.records: list[dict[str, Any]] = []
        self.known: list[health.Alarm] = []
        if not self.processes.first:
            return
        if self.rolled:
            self._tidy()
        if self.way == "roll_back":
            if training.clock.images == 0:
                self.keep()
            self._copy_state()
        self._read()

    def _read(self) -> None:
        self.records = self.run.records()
        self.known = health.alarms(self.records)

    # --- looking and judging -------------------------------------------------------------------------------------------

    def look(self, tick: Tick) -> dict[str, Any]:
        """What is measured at this tick, for its line in the log. To be called in every process."""
        images = tick.clock.images
        if self.probe is None or images // self.every == self.last // self.every:
            return {}
        self.last = images
        return {"health": self.probe.measure(tick.clock)}

    def judge(self, record: dict[str, Any]) -> str:
        """What is to be done after this tick: nothing, `stop` or `roll_back`. New alarms are said, and put into the record.

        To be called in every process; all get the answer of the first.
        """
        if "health" not in record:
            return ""
        fresh: list[health.Alarm] = []
        if self.processes.first:
            self.records.append(record)
            found, known = health.alarms(self.records), {(alarm.about, alarm.since) for alarm in self.known}
            fresh, self.known = [alarm for alarm in found if (alarm.about, alarm.since) not in known], found
            if fresh:
                record["alarms"] = [asdict(alarm) for alarm in fresh]
            for alarm in fresh:
                if alarm.kind not in self.said:
                    self.said.add(alarm.kind)
                    self.progress.warn(str(alarm))
        if self.way == "stop":
            return "stop" if self.processes.broadcast(bool(fresh)) else ""
        if self.way != "roll_back":
            return ""
        serious = [alarm for alarm in fresh if alarm.kind in health.SLOWER_HELPS]
        if not self.processes.broadcast(bool(serious)):
            return ""
        since, why = (min(alarm.since for alarm in serious), serious[0].kind) if serious else (0, "")
        return "roll_back" if self._can_go_back(since, why) else "stop"

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Writes a checkpoint, with what going on exactly, and going back, will need. In the first process only."""
        self._set_beside()
        folder = self.run.settings.folder
        last = folder.keep_last
        if self.way == "roll_back":
            oldest = self._oldest_needed()
            last = max(last, 1 + sum(images >= oldest for images in self.run.weights()))
        milestone = folder.keep_every * folder.save_every
        self.run.keep(self.training.game, self.training.state(), last=last, milestone=milestone)
        if self.way == "roll_back":
            self._copy_state()

    def _set_beside(self) -> None:
        seen = self.probe.state() if self.probe else {}
        self.training.extra["health"] = {"rolled_back": self.rolled, **seen}

    def _copy(self, images: int) -> Path:
        return self.run.folder / f"resume-{images:09d}.pt"

    def _copies(self) -> list[int]:
        """Checkpoints to which training can go back, by images, oldest first."""
        found = (re.fullmatch(r"resume-(\d+)\.pt", path.name) for path in self.run.folder.glob("resume-*.pt"))
        return sorted({int(match[1]) for match in found if match} & self.run.weights().keys())

    def _oldest_needed(self) -> int:
        """The newest checkpoint that no alarm to come can be older than."""
        reach = self.training.clock.images - health.REACH * self.every
        return max((images for images in self._copies() if images < reach), default=0)

    def _copy_state(self) -> None:
        source, copy = self.run.folder / "resume.pt", self._copy(self.training.clock.images)
        if source.exists() and not copy.exists():
            files.write(copy, source.read_bytes())
        oldest = self._copy(self._oldest_needed()).name
        for path in self.run.folder.glob("resume-*.pt"):
            if path.name < oldest:
                path.unlink(missing_ok=True)

    # --- going back ----------------------------------------------------------------------------------------------------

    def survive(self, error: Diverged) -> None:
        """Goes back after a number that is not finite.

        Raises:
            Diverged: the same, with advice, when that is not wanted or not possible.
        """
        if self.processes.first:
            record = {"images": self.training.clock.images, "seconds": round(self.training.seconds, 3), "costs": {}}
            self.run.log({**record, "diverged": str(error)})
        if self.way == "roll_back" and self._can_go_back(inf, "nan"):
            self.progress.warn(str(error))
            self.go_back()
            return
        kept = list(self.run.weights())
        good = f"the last good checkpoint has {kept[-1]:,} images" if kept else "there was no checkpoint yet"
        advice = "A smaller learning rate (lr_g, lr_d) or --precision fp32 often helps"
        raise Diverged(f"{error}. Training of {self.run.folder} stopped; {good}. {advice}") from None

    def _can_go_back(self, since: float, why: str) -> bool:
        """Whether there is a checkpoint and a roll-back left; `go_back` then goes to the newest from before `since` (images)."""
        self.back = {}
        if self.processes.first:
            copies = self._copies()
            if copies and len(self.rolled) < self.run.settings.watching.roll_backs:
                to, rate = max((one for one in copies if one < since), default=copies[0]), SLOWER ** (len(self.rolled) + 1)
                self.back = {"from": self.training.clock.images, "to": to, "why": why, "rate": rate}
        self.back = self.processes.broadcast(self.back)
        return bool(self.back)

    def go_back(self) -> None:
        """Training is again where the checkpoint was, and its learning rates are smaller. Its seconds go on."""
        training, to, seconds = self.training, self.back["to"], self.training.seconds
        try:
            state = torch.load(self._copy(to), weights_only=True, map_location="cpu")
        except Exception as error:
            raise LeafwingError(f"{self._copy(to)} cannot be read: {error}") from error
        self.run.load_weights(training.game, to)
        training.restore(state)
        training.engine.scale_learning_rates(self.back["rate"])
        training.seconds, self.last, self.rolled = seconds, to, [*self.rolled, self.back]
        if self.probe:
            self.probe.restore(training.extra["health"])
        self._set_beside()
        self.processes.barrier()  # all have read what the first may now remove
        if self.processes.first:
            held = io.BytesIO()
            torch.save(training.state(), held)
            files.write(self.run.folder / "resume.pt", held.getvalue())
            self._tidy()
            self._read()
            text = (
                "rolled back from {from:,} to {to:,} images ({why}); all learning rates are now {rate:g} times the recipe's"
            )
            self.progress.warn(text.format(**self.back))

    def _tidy(self) -> None:
        """The folder as it was at the present checkpoint, but for the lines that say how training came back to it."""
        images, run = self.training.clock.images, self.run
        best = None if run.history.best and run.history.best.images > images else run.history.best
        run.rewind(images)
        said = [record["rolled_back"] for record in run.records() if "rolled_back" in record]
        for entry in self.rolled:
            if entry not in said:
                run.log({"images": images, "seconds": round(self.training.seconds, 3), "costs": {}, "rolled_back": entry})
        run.update(rolled_back=tuple(self.rolled), best=best)

"""`compare.json`: what a comparison was asked for, and what has been done of it, so that the same call can go on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leafwing import files
from leafwing.commands.comparison.plan import Plan
from leafwing.errors import LeafwingError


class Book:
    """`compare.json`: what was asked for, and what has been done so far. One process writes it, its threads in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "compare.json"
        self.turn = threading.Lock()
        self.kept: dict[str, Any] = {}
        if self.path.exists():
            try:
                self.kept = json.loads(self.path.read_text(encoding="utf-8"))
                self.kept["asked"], self.kept["recipes"], self.kept["runs"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise LeafwingError(f"{self.path} cannot be read ({error}): choose another --out") from None

    def begin(self, plan: Plan) -> None:
        """Take up the plan, or go on with what is there.

        Raises:
            LeafwingError: the folder holds another comparison; the message says in what they differ.
        """
        wanted: dict[str, dict[str, Any]] = {
            name: {"reference": one.reference, "digest": one.digest, "options": one.resolved}
            for name, one in plan.entrants.items()
        }
        if self.kept:
            old = self.kept
            differ = [
                f"{key}: {old['asked'].get(key)} there, {plan.asked[key]} now"
                for key in plan.asked
                if old["asked"].get(key) != plan.asked[key]
            ]
            for name, one in old["recipes"].items():
                if name not in wanted:
                    differ.append(f"recipe {name} was left out")
                elif {"digest": "", **one} != wanted[name]:
                    now, then = wanted[name]["options"], one["options"]
                    told = [
                        f"{key}={then.get(key)} there, {value} now" for key, value in now.items() if then.get(key) != value
                    ]
                    differ.append(f"recipe {name}: {', '.join(told) or 'another file'}")
            if gone := sorted({*old["seeds"]} - {*plan.seeds}):
                differ.append(f"seeds {', '.join(map(str, gone))} were left out")
            if differ:
                why = f"{self.folder} holds another comparison ({'; '.join(differ)})"
                raise LeafwingError(f"{why}. Choose another --out, or go on with: {old['command']}")
            plan.images.update({name: images for name, images in old["images"].items() if name in wanted})
            plan.threads = old["threads"]
        self.kept = {
            "command": plan.command,
            "asked": plan.asked,
            "recipes": wanted,
            "seeds": plan.seeds,
            "images": plan.images,
            "threads": plan.threads,
            "runs": self.kept.get("runs", {}),
        }
        self._write()

    def note(self, key: str, value: Any) -> None:
        """Keep something."""
        with self.turn:
            self.kept[key] = value
            self._write()

    def of(self, name: str, seed: int) -> dict[str, Any]:
        """What was done of a run."""
        return dict(self.kept["runs"].get(f"{name}-seed{seed}", {}))

    def done(self, name: str, seed: int, **what: Any) -> None:
        """Keep something about a run."""
        with self.turn:
            self.kept["runs"].setdefault(f"{name}-seed{seed}", {}).update(what)
            self._write()

    def run(self, name: str, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / f"{name}-seed{seed}"

    def _write(self) -> None:
        files.write(self.path, json.dumps(self.kept, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def opened(folder: Path) -> Iterator[Book]:
    """The book of a folder, which is made if need be and held while it is used.

    Raises:
        LeafwingError: there is something else in it, or another process works there.
    """
    import filelock

    begun = {folder / "runs", folder / "logs", folder / ".lock"}  # all that a kill at the very beginning leaves
    found = {*folder.iterdir()} if folder.is_dir() else {folder} if folder.exists() else set[Path]()
    if not (folder / "compare.json").exists() and (
        found - begun or any(one.is_dir() and any(one.iterdir()) for one in found)
    ):
        raise LeafwingError(f"{folder} exists and holds no comparison: choose another --out")
    with files.storage(str(folder)):
        for inner in (folder, folder / "runs", folder / "logs"):
            inner.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise LeafwingError(f"{folder}: another leafwing compare works there just now") from None
    try:
        yield Book(folder)
    finally:
        lock.release()

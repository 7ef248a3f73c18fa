"""The run folder: create, log, keep, resume, rebuild.

A run folder appears whole or not at all, and is never overwritten or deleted. To use a model only `run.json`, `recipe.py` and a
weights file are needed, and nothing in them is executed unless the recipe is known or trusted.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from leafwing import files, recipes
from leafwing.errors import LeafwingError, StorageError
from leafwing.game import DataSpec, Game, Recipe
from leafwing.quantities import count
from leafwing.settings import SECTIONS, Settings

if TYPE_CHECKING:
    from torch import Tensor

ROOT = "runs"
NUMBERS, LABORATORY = "metrics.jsonl", "explore"
"""Where a run folder keeps the numbers of `evaluate`, and what the tools of the laboratory found."""
SAVED = ("schedule", "watching", "folder", "machine")
"""Sections of `run.json` that hold settings; how pictures are read stands in its section `data`, as it was resolved."""


@dataclass(frozen=True)
class Best:
    """The best checkpoint so far: images shown, and the metric with its value."""

    images: int
    metric: str
    value: float | None


@dataclass(frozen=True)
class Change:
    """From so many images on there are so many CPU threads."""

    images: int
    threads: int


@dataclass(frozen=True)
class History:
    """What training itself has written into `run.json`.

    Args:
        best: the best checkpoint, where a metric decides when to stop.
        rolled_back: each time that training went back: from, to (images), why, and the factor of the learning rates from then on.
        thread_changes: CPU threads that training changed by itself, or that a replay is to change.
        open_intervals: settings of the folder that are still to follow what the limit of time allows to show.
    """

    best: Best | None = None
    rolled_back: tuple[dict[str, Any], ...] = ()
    thread_changes: tuple[Change, ...] = ()
    open_intervals: tuple[str, ...] = ()


class UntrustedRecipe(LeafwingError):
    """A run folder holds a recipe that is not an installed one: nothing of it is run until the user says so."""


class Run:
    """A run folder.

    Args:
        folder: the folder, which must hold a `run.json`.
        trust: run the folder's `recipe.py` even when it is no installed recipe.

    Raises:
        LeafwingError: the folder is no run folder.
    """

    def __init__(self, folder: str | Path, *, trust: bool = False) -> None:
        self.folder, self.trust = Path(folder), trust
        self.samples = self.folder / "samples"
        self.done = ""  # why the last training in this process ended: images, seconds or asked
        path = self.folder / "run.json"
        try:
            self.config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if "training" in self.config:
                self.config = in_sections(self.config)
            self.spec = spec_from(self.config["data"]["spec"])
            self.recipe = str(self.config["recipe"])
            for needed in ("options", *SAVED):
                self.config[needed]
            self.config["options"] = recipes.current_options(self.recipe, self.folder / "recipe.py", self.config["options"])
        except FileNotFoundError:
            raise LeafwingError(f"{self.folder} is not a run folder: it has no run.json") from None
        except (OSError, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise LeafwingError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
        self.settings: Settings = checked(path, self.config, Settings)
        self.history: History = checked(path, self.config.get("history", {}), History, "history")

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def open(cls, name: str | Path, *, root: str | Path = ROOT, trust: bool = False) -> Run:
        """A run by folder, by name or number under `root`, or `last` for the newest one there.

        Raises:
            LeafwingError: there is none; the message lists those that there are.
        """
        if Path(name).is_dir():
            return cls(name, trust=trust)
        found = folders(root)
        wanted = str(name)
        if wanted == "last" and found:
            return cls(max(found, key=lambda folder: (folder / "run.json").stat().st_mtime_ns), trust=trust)
        for folder in found:
            if wanted == folder.name or (wanted.isdigit() and folder.name.split("-")[0].lstrip("0") == wanted.lstrip("0")):
                return cls(folder, trust=trust)
        known = ", ".join(folder.name for folder in found[-8:]) or "none"
        raise LeafwingError(f"no run {wanted!r}; runs under {root}: {known}")

    @classmethod
    def create(cls, config: Mapping[str, Any], recipe: Path, *, out: str | Path | None, root: str | Path = ROOT) -> Run:
        """A new run folder with its `run.json` and `recipe.py`; it appears under its name only when both are written.

        Args:
            config: what `run.json` holds.
            recipe: the recipe's file, copied.
            out: the folder; numbered under `root` if not given.

        Raises:
            LeafwingError: the folder exists.
            StorageError: it cannot be written.
        """
        refuse(out)
        parent = Path(out).parent if out else Path(root)
        with files.storage(str(parent)):
            parent.mkdir(parents=True, exist_ok=True)
            growing = parent / f".new-{os.getpid()}-{time.time_ns()}"
            growing.mkdir()
        files.write(growing / "recipe.py", recipe.read_bytes())
        files.write(growing / "run.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        files.write(growing / "log.jsonl", "")
        with files.storage(str(growing)):
            (growing / "samples").mkdir()
        while True:
            folder = Path(out) if out else Path(root) / f"{next_number(root):04d}-{config['recipe']}-{slug(config)}"
            try:
                os.rename(growing, folder)
                return cls(folder, trust=True)
            except OSError as error:
                if out or not folder.exists():
                    raise StorageError(f"cannot make {folder}: {error.strerror}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a process trains this run.

        Raises:
            LeafwingError: another process holds it.
        """
        import filelock

        with files.storage(str(self.folder)):
            lock = filelock.FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise LeafwingError(f"{self.folder} is being trained by another process") from None
        except OSError as error:
            raise StorageError(f"cannot write {self.folder}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    @property
    def combinations(self) -> list[list[int]]:
        """What real samples have together: each its class, or -1, and its attributes; empty where nobody was told attributes."""
        said = [one.rpartition(":") for one in self.config["data"].get("combinations", "").split()]
        return [[int(label) if label else -1, *map(int, own)] for label, _, own in said]

    # --- what happened -------------------------------------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        """One more line in `log.jsonl`."""
        with files.storage(str(self.folder / "log.jsonl")), (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """The lines of `log.jsonl`; a last line that a kill cut short is left out."""
        try:
            text = (self.folder / "log.jsonl").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return list(files.json_lines(text, whole=True))

    def forget_after(self, images: int) -> None:
        """Drops the log's lines past a checkpoint: training from there writes them again."""
        kept = [record for record in self.records() if record.get("images", 0) <= images]
        files.write(self.folder / "log.jsonl", "".join(json.dumps(record) + "\n" for record in kept))

    def numbers(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, oldest first; lines that cannot be read are left out."""
        try:
            text = (self.folder / NUMBERS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return [row for row in files.json_lines(text) if "metric" in row]

    def add_numbers(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends whole lines to `metrics.jsonl`; one that a kill cut short stays alone on its line.

        Raises:
            StorageError: it cannot be written.
        """
        path = self.folder / NUMBERS
        text = "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows)
        with files.storage(str(path)), path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    text = "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def rewind(self, images: int) -> None:
        """Everything that describes later weights goes, because the same number of images will be other weights.

        Weights, copies of `resume.pt`, grids, samples, numbers, reports and what the laboratory found; the log as `forget_after`.
        """
        later = re.compile(r"(?:weights-|resume-|memorisation-)?(\d{9})(?:[-.].*)?")
        places = (self.folder, self.samples, self.folder / LABORATORY)
        for path in [path for place in places if place.is_dir() for path in place.iterdir()]:
            match = later.fullmatch(path.name)
            if match and int(match[1]) > images:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if any(row["images"] > images for row in self.numbers()):
            kept = [row for row in self.numbers() if row["images"] <= images]
            files.write(self.folder / NUMBERS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
        self.forget_after(images)

    def update(self, settings: Settings | None = None, **history: Any) -> None:
        """New settings, and changes of the history, in `run.json`."""
        self.settings = settings or self.settings
        self.history = replace(self.history, **history)
        self.config |= {**saved(self.settings), "history": asdict(self.history)}
        files.write(self.folder / "run.json", json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def weights(self) -> dict[int, Path]:
        """The weights files by images shown, oldest first."""
        found = {}
        for path in self.folder.glob("weights-*.safetensors"):
            if match := re.fullmatch(r"weights-(\d+)\.safetensors", path.name):
                found[int(match[1])] = path
        return dict(sorted(found.items()))

    def shown(self, checkpoint: int | str | None) -> int | None:
        """A checkpoint's images from what a user asks for: 200k, `last` or `best`; None means the newest, as `last` does.

        Raises:
            LeafwingError: no number, or no checkpoint of this run is known to be the best.
        """
        if checkpoint != "best":
            return None if checkpoint in (None, "last") else count(checkpoint, "checkpoint")
        if self.history.best is None:
            raise LeafwingError(f"{self.folder} knows no best checkpoint: only training with --stop-on looks for it")
        return self.history.best.images

    def keep(self, game: Game, state: Mapping[str, Any], *, last: int, milestone: int) -> Path:
        """Writes a checkpoint: the weights first, then `resume.pt`, which names them; each appears whole or not at all.

        Args:
            game: whose networks are kept.
            state: what resuming needs beside them, in plain types and tensors.
            last: how many weights files stay.
            milestone: of the older ones the first in every so many images stays too; 0 for none. The best one stays, where the run
                knows it.

        Raises:
            StorageError: the disk is full or the folder cannot be written; the checkpoint before is intact.
        """
        import torch
        from safetensors.torch import save

        images = int(state["images"])
        path = self.folder / f"weights-{images:09d}.safetensors"
        tensors = state_of(game)
        # One entry of metadata: safetensors writes several in an order that changes from process to process.
        files.write(path, save(tensors, metadata={"images": str(images)}))
        held = io.BytesIO()  # torch reports a full disk in its own words; `files` in ours
        torch.save(dict(state), held)
        files.write(self.folder / "resume.pt", held.getvalue())
        found = self.weights()
        kept = {images, *list(found)[-last:], self.history.best.images if self.history.best else images}
        if milestone:
            kept |= {min(group) for _, group in groupby(found, lambda shown: shown // milestone)}
        for old in found.keys() - kept:
            found[old].unlink(missing_ok=True)
        return path

    def begin(self) -> None:
        """Marks that training begins, so that weights without a `resume.pt` are known to have lost it.

        Raises:
            StorageError: the folder cannot be written.
        """
        import torch

        path = self.folder / "resume.pt"
        if not path.exists():
            marker = io.BytesIO()
            torch.save({"images": 0, "begun": True}, marker)
            files.write(path, marker.getvalue())

    def resume_state(self) -> dict[str, Any] | None:
        """What `keep` was given last, read without executing anything; None before the first checkpoint."""
        import torch

        path = self.folder / "resume.pt"
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
            return None if "begun" in state else state
        except Exception as error:
            raise LeafwingError(f"{path} cannot be read: {error}") from error

    def load_weights(self, game: Game, images: int | None = None) -> int:
        """Fills the game's networks from a weights file, the newest if not said; returns its images.

        Raises:
            LeafwingError: there is no such file, it is damaged, or it does not fit the recipe.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        found = self.weights()
        if not found:
            raise LeafwingError(f"{self.folder} holds no weights: its training ended before the first checkpoint")
        images = max(found) if images is None else images
        if images not in found:
            raise LeafwingError(f"{self.folder} has no weights of {images:,} images; it has: {', '.join(map(str, found))}")
        try:
            tensors = load_file(found[images])
        except (SafetensorError, OSError) as error:
            raise LeafwingError(f"{found[images]} is damaged: {error}") from error
        own = state_of(game)
        if own.keys() != tensors.keys() or any(own[key].shape != tensors[key].shape for key in own):
            raise LeafwingError(f"{found[images]} does not fit the networks of recipe {self.recipe} with this run's options")
        for name, module in game.modules().items():
            module.load_state_dict(
                {key.removeprefix(f"{name}:"): t for key, t in tensors.items() if key.startswith(f"{name}:")}
            )
        return images

    # --- rebuilding ----------------------------------------------------------------------------------------------------

    def recipe_is_installed(self) -> bool:
        """Whether the folder's recipe equals the installed one of its name."""
        own = self.folder / "recipe.py"
        if not own.is_file():
            raise LeafwingError(f"{self.folder} has no recipe.py")
        return recipes.is_installed(self.recipe, own)

    def function(self) -> Recipe:
        """The recipe that rebuilds this run: the installed one when the folder's equals it, else the folder's if trusted.

        Raises:
            UntrustedRecipe: the folder's recipe is not installed; the message shows it.
        """
        if self.recipe_is_installed():
            return recipes.find(self.recipe)
        own = self.folder / "recipe.py"
        if self.trust:
            return load_trusted(own, self.recipe)
        raise UntrustedRecipe(
            f"{own.read_text(encoding='utf-8', errors='replace')}\n"
            f"{own} (above) is not an installed recipe, and using this run executes it. "
            "If you trust it, say so: --trust (from Python: trust=True)"
        )

    def game(self) -> Game:
        """The game of this run, with fresh networks."""
        return recipes.build(self.recipe, self.function(), self.spec, self.config["options"])


def load_trusted(path: Path, name: str) -> Recipe:
    """The recipe function called `name` from a run folder's file, which is executed."""
    module = types.ModuleType(f"leafwing_trusted_{name}_{recipes.digest(path)[:8]}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[module.__name__]
        raise LeafwingError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise LeafwingError(f"{path} holds no function {name}")
    return cast("Recipe", getattr(module, name))


def state_of(game: Game) -> dict[str, Tensor]:
    """Every tensor that a game's networks and terms hold, by "module:tensor", on the CPU and contiguous."""
    return {
        f"{name}:{key}": value.detach().cpu().contiguous()
        for name, module in game.modules().items()
        for key, value in module.state_dict().items()
    }


def saved(settings: Settings) -> dict[str, Any]:
    """The sections of `run.json` that hold settings."""
    return {name: asdict(getattr(settings, name)) for name in SAVED}


Checked = TypeVar("Checked")


def checked(path: Path, plain: Any, kind: type[Checked], section: str = "") -> Checked:
    """What a file says, as this type.

    Raises:
        LeafwingError: it does not fit; the message names the file, the key, and what was expected.
    """
    import msgspec

    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        key = (section + where.rstrip("`")).lstrip(".") or section
        raise LeafwingError(f"{path}: {key}: {what[:1].lower()}{what[1:]}") from None


RENAMED = {"checkpoint": "save_every", "keep": "keep_last", "samples": "grid_every", "log": "log_every"}


def in_sections(old: Mapping[str, Any]) -> dict[str, Any]:
    """A `run.json` from before settings had sections, as it would be written now."""
    training = {RENAMED.get(name, name): value for name, value in old["training"].items()}
    found = {name: value for name, value in old.items() if name != "training"}
    for section in SAVED:
        own = {one.name for one in fields(SECTIONS[section])}
        found[section] = {name: value for name, value in training.items() if name in own and value is not None}
    found["history"] = {one.name: training[one.name] for one in fields(History) if training.get(one.name) is not None}
    return found


def spec_from(plain: Mapping[str, Any]) -> DataSpec:
    """A DataSpec from its JSON form."""
    return DataSpec(
        int(plain["height"]),
        int(plain["width"]),
        int(plain["channels"]),
        tuple(plain["labels"]),
        tuple(plain["fields"]),
        tuple(plain.get("attributes", ())),  # runs from before there were any do not say
    )


def spec_to(spec: DataSpec) -> dict[str, Any]:
    """The JSON form of a DataSpec."""
    return asdict(spec)


def refuse(out: str | Path | None) -> None:
    """Raises LeafwingError if the folder exists: a run folder is never overwritten."""
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists, and a run folder is never overwritten: choose another --out, or resume that run")


def folders(root: str | Path = ROOT) -> list[Path]:
    """The run folders under a root, in the order of their names."""
    return sorted(path.parent for path in Path(root).glob("*/run.json") if not path.parent.name.startswith("."))


def next_number(root: str | Path) -> int:
    """One more than the highest number that a folder under the root begins with."""
    taken = [int(match[0]) for path in Path(root).glob("*") if (match := re.match(r"\d+", path.name))]
    return max(taken, default=0) + 1


def slug(config: Mapping[str, Any]) -> str:
    """A short name of the data, for the folder's name."""
    stem = Path(str(config["data"]["source"])).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_").lower()[:24] or "data"


def versions() -> dict[str, str | None]:
    """What this run was made with: leafwing and its commit, Python, torch, the machine, its processor and its GPU, if it has one."""
    import torch

    from leafwing import __version__

    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "leafwing": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": f"{processor()}, {os.cpu_count()} cores",
        **gpu,
    }


@cache
def processor() -> str:
    """The name of the CPU, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        name = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    except OSError:
        name = ""
    return name or platform.processor() or platform.machine()


@cache
def commit() -> str | None:
    """The commit of leafwing's own source tree, with + when it was changed since; None for an installed copy."""
    here = Path(__file__).resolve().parent
    if not (here.parent.parent / ".git").exists():
        return None
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if status.strip() else "")

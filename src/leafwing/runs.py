"""The run folder: creating, logging, checkpoints, resuming, rebuilding the game.

A run folder appears complete or not at all, and is never overwritten or deleted. A model needs only `run.json`, `recipe.py` and a
weights file, and nothing in them is executed unless the recipe is installed or trusted.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import sys
import time
import types
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypedDict, cast

from leafwing import files, notebook, recipes, weights_file
from leafwing.calls import checked_methods
from leafwing.config import SAVED, Config, DataConfig, check_bounds, convert_json, read_log, read_metrics, upgrade_config
from leafwing.errors import InvalidOption, LeafwingError, StorageError, nearest
from leafwing.game import Clock, Game, Recipe
from leafwing.quantities import count
from leafwing.settings import Settings

ROOT = "runs"
METRICS, LABORATORY, TRANSLATIONS, OUTPUTS = "metrics.jsonl", "explore", "translations", "outputs"
"""The file with the results of `evaluate`, and the folders of `explore`, of `translate`, and of `sample`, `walk` and `reel`."""

_WHOLE = ("images", "round", "turn", "taken", "first", "began")
ResumeState = TypedDict("ResumeState", {**dict.fromkeys(_WHOLE, int), "seconds": float, "optimisers": dict[str, Any]})  # type: ignore[misc]
"""The content of `resume.pt`, as far as every version of it is plain and the same."""


class UntrustedRecipe(LeafwingError):
    """The run's recipe is not an installed one: it is not executed without the user's consent."""


@checked_methods
class Run:
    """A run folder.

    Args:
        folder: the folder, which must contain a `run.json`.
        trust: execute the folder's `recipe.py` even if it is not an installed recipe.

    Raises:
        LeafwingError: not a run folder, or a damaged `run.json`.
    """

    def __init__(self, folder: str | Path, *, trust: bool = False) -> None:
        self._typed, self._absolute, self.trust = Path(folder), Path(folder).absolute(), trust
        self.stop_reason = ""  # of the last session in this process; see `train`
        path = self.folder / "run.json"
        if not path.is_file():
            raise LeafwingError(
                f"{self.folder} is not a run folder, because it has no run.json: give a folder created by `leafwing train`; "
                "`leafwing runs` lists them"
            )
        plain = files.read_json(path, "restore it from a copy: it holds the settings of the run and cannot be rebuilt")
        try:
            self.config: dict[str, Any] = upgrade_config(plain)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LeafwingError(
                f"{path}: incomplete or edited ({type(error).__name__}: {error}); restore it from a copy"
            ) from None
        config = convert_json(path, self.config, Config)
        check_bounds(path, config)
        self.recipe, self.data, self.spec = config.recipe, config.data, config.data.spec
        self.options = recipes.current_options(config.recipe, self.folder / "recipe.py", config.options)
        self.config["options"] = self.options
        self.settings = Settings(
            schedule=config.schedule,
            critic=config.critic,
            transfer=config.transfer,
            watching=config.watching,
            folder=config.folder,
            machine=config.machine,
        )
        self.history, self.pretrained = config.history, config.pretrained

    @property
    def folder(self) -> Path:
        """The folder as it was written, or its absolute path when that means another one, because the current folder has changed."""
        return self._typed if self._typed.absolute() == self._absolute else self._absolute

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def samples(self) -> Path:
        """The folder of progress sheets."""
        return self.folder / "samples"

    @property
    def outputs(self) -> Path:
        """The folder of what `sample`, `walk` and `reel` write."""
        return self.folder / OUTPUTS

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """The latest progress sheet, and what it shows, in notebooks; as the folder is now, which `resume` may have changed."""
        sheets = [*self.sheets().values()]
        current = Run.open(self) if (self.folder / "run.json").is_file() else self
        shown, total = (self.records() or [{}])[-1].get("images", 0), current.settings.schedule.images
        text = f"{self.folder}: {self.recipe} on {current.data.source}, {shown:,} of {total:,} images"
        text += f", ended by {self.stop_reason}" if shown < total and self.stop_reason not in ("", "images") else ""
        return notebook.lines([text]) + (notebook.picture(sheets[-1].read_bytes()) if sheets else "")

    @classmethod
    def open(cls, name: str | Path | Run, *, root: str | Path = ROOT, trust: bool = False) -> Run:
        """Opens a run by folder, by name or number under `root`, or `last` for the one trained last; a `Run` is read again.

        Raises:
            LeafwingError: no such run; the message lists the existing ones.
        """
        if isinstance(name, Run):
            return cls(name.folder, trust=trust or name.trust)
        if os.path.isdir(name):  # False also for text that is too long for a path
            return cls(name, trust=trust)
        existing = folders(root)
        name = str(name)
        if name == "last" and existing:
            return cls(trained_last(existing), trust=trust)
        for folder in existing:
            if name == folder.name or (name.isdigit() and folder.name.split("-")[0].lstrip("0") == name.lstrip("0")):
                return cls(folder, trust=trust)
        if not existing:
            raise LeafwingError(no_runs(root) if name == "last" else f"no run {name!r}: {no_runs(root)}")
        guess = "; did you mean last?" if nearest(name, ["last"]) else ""
        raise LeafwingError(
            f"no run {name!r} in {root}{guess}; available: {', '.join(folder.name for folder in existing[-8:])}"
        )

    @classmethod
    def create(cls, config: Mapping[str, Any], recipe: Path, *, out: str | Path | None, root: str | Path = ROOT) -> Run:
        """Creates a run folder, which appears under its name only when `run.json` and `recipe.py` are written.

        Args:
            config: content of `run.json`.
            recipe: file of the recipe, which is copied.
            out: the folder, which must not exist; None: numbered under `root`.
            root: folder of the numbered run folders.

        Raises:
            LeafwingError: the folder exists.
            StorageError: it cannot be written.
        """
        refuse_existing(out)
        parent = Path(out).parent if out else Path(root)
        with files.storage(str(parent)):
            parent.mkdir(parents=True, exist_ok=True)
            temporary = parent / f".new-{os.getpid()}-{time.time_ns()}"
            temporary.mkdir()
        try:
            files.write(temporary / "recipe.py", recipe.read_bytes())
            files.write(temporary / "run.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
            files.write(temporary / "log.jsonl", "")
            with files.storage(str(temporary)):
                (temporary / "samples").mkdir()
            while True:
                folder = Path(out) if out else Path(root) / f"{next_number(root):04d}-{config['recipe']}-{slug(config)}"
                try:
                    os.rename(temporary, folder)
                    break
                except OSError as error:
                    if out or not folder.exists():
                        raise StorageError(f"cannot create {folder}: {error.strerror}") from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(folder, trust=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """A lock for the process that trains this run.

        Raises:
            LeafwingError: another process holds it.
            StorageError: the folder is not writable.
        """
        busy = f"{self.folder} is being trained by another process: wait, or stop that one with Ctrl-C"
        with files.locked(self.folder / ".lock", f"{busy}; `leafwing sample` works meanwhile"):
            yield

    def clock(self, images: int) -> Clock:
        """The progress of training at a checkpoint."""
        return Clock(images, self.settings.schedule.images, planned=self.history.planned)

    # --- logs and metrics ----------------------------------------------------------------------------------------------

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a line to `log.jsonl`.

        Raises:
            StorageError: it cannot be written, or is not there any more: a new one would begin in the middle.
        """
        path = self._require_log()
        with files.storage(str(path)), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _require_log(self) -> Path:
        """The file `log.jsonl`; raises StorageError if it is missing in the folder."""
        path = self.folder / "log.jsonl"
        if self.folder.is_dir() and not path.exists():
            raise StorageError(f"{path} was taken away while training: put it back, or resume with a log that begins there")
        return path

    def records(self) -> list[dict[str, Any]]:
        """The lines of `log.jsonl`, none if it is missing; see `config.read_log`."""
        return read_log(self.folder / "log.jsonl")

    def truncate_log(self, images: int) -> bool:
        """Removes the log lines after a checkpoint, which training from there writes again; returns whether the log was missing."""
        path = self.folder / "log.jsonl"
        is_missing, records = not path.exists(), [record for record in self.records() if record["images"] <= images]
        files.write(path, "".join(json.dumps(record) + "\n" for record in records))
        return is_missing

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, none if it is missing; see `config.read_metrics`."""
        return read_metrics(self.folder / METRICS)

    def add_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends rows to `metrics.jsonl`, on a new line even if the last line is incomplete because the process was killed.

        Raises:
            StorageError: the file cannot be written.
        """
        path = self.folder / METRICS
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
        """Removes everything that belongs to later weights, because training will write other weights there.

        That is weights, copies of `resume.pt`, progress sheets, translations, metrics, laboratory results, and log lines. What is in
        `outputs` stays, and so do lines of metrics that cannot be read.
        """
        self._require_log()
        later = re.compile(r"(?:weights-|resume-|memorisation-)?(\d{9,})(?:[-.].*)?")
        parents = (self.folder, self.samples, self.folder / LABORATORY, self.folder / TRANSLATIONS)
        for path in [path for parent in parents if parent.is_dir() for path in parent.iterdir()]:
            match = later.fullmatch(path.name)
            if match and int(match[1]) > images:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if any(row["images"] > images for row in self.metrics()):
            lines = [
                text for _, text, row in files.json_lines(self.folder / METRICS) if row is None or row["images"] <= images
            ]
            files.write(self.folder / METRICS, "\n".join([*lines, ""]))
        self.truncate_log(images)

    def update(
        self,
        settings: Settings | None = None,
        data: DataConfig | None = None,
        options: dict[str, recipes.Value] | None = None,
        **history: Any,
    ) -> None:
        """Writes new settings, another section `data`, other hyper-parameters and changes of the history to `run.json`."""
        if data is not None:
            self.data, self.spec = data, data.spec
            self.config["data"] = data.as_dict()
        if options is not None:
            self.options = self.config["options"] = options
        self.settings = settings or self.settings
        self.history = replace(self.history, **history)
        self.config |= {**settings_sections(self.settings), "history": asdict(self.history)}
        files.write(self.folder / "run.json", json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")

    # --- checkpoints ---------------------------------------------------------------------------------------------------

    def weights(self) -> dict[int, Path]:
        """The weights files by images shown, oldest first."""
        return files.numbered(self.folder, "weights-", ".safetensors")

    def state_copies(self) -> dict[int, Path]:
        """The copies of `resume.pt` for rollbacks, likewise."""
        return files.numbered(self.folder, "resume-", ".pt")

    def sheets(self) -> dict[int, Path]:
        """The progress sheets, likewise."""
        return files.numbered(self.samples, "", ".png")

    def require_weights(self, images: int | None = None) -> Path:
        """The weights file of a checkpoint, by images shown; None: of the newest.

        Raises:
            LeafwingError: no such file; the message says whether it was never written or is missing here.
        """
        weights = self.weights()
        if not weights:
            shown = max((record.get("images", 0) for record in self.records()), default=0)
            if files.is_locked(self.folder / ".lock"):
                rest = f"its first checkpoint comes at about {self.settings.folder.save_every:,} images, and it has shown {shown:,}"
                raise LeafwingError(f"{self.folder} is being trained and has no weights yet: {rest}")
            if self._had_checkpoint(shown):
                after = f", but was trained on {shown:,} images" if shown else " and no log of its training"
                raise LeafwingError(
                    f"{self.folder} has no weights file (weights-*.safetensors){after}: the folder is incomplete. Copy the file "
                    "from where the run was trained"
                )
            raise LeafwingError(
                f"{self.folder} has no weights: its training ended before the first checkpoint, after {shown:,} images. To train "
                f"again: leafwing {train_again(self)}"
            )
        if images is not None and images not in weights:
            raise self.no_checkpoint(images)
        return weights[max(weights) if images is None else images]

    def no_checkpoint(self, images: int, or_all: str = "") -> LeafwingError:
        """The error about a checkpoint that does not exist, at so many images, with the nearest one."""
        weights = list(self.weights())
        nearest = f"; the nearest is {min(weights, key=lambda shown: abs(shown - images))}" if len(weights) > 1 else ""
        existing = ", ".join(map(str, weights)) + or_all
        return LeafwingError(f"{self.folder} has no checkpoint at {images:,} images; available: {existing}{nearest}")

    def _had_checkpoint(self, shown: int) -> bool:
        """Whether weights were written, as far as the other files show; `shown` is the number of images in the log."""
        path = self.folder / "resume.pt"
        if path.is_file():  # only that of a checkpoint has tensors, not that of `mark_started`
            try:
                with zipfile.ZipFile(path) as archive:
                    return any("/data/" in name for name in archive.namelist())
            except (OSError, zipfile.BadZipFile):
                return True
        return shown > 0 or not (self.folder / "log.jsonl").exists()

    def resolve_checkpoint(self, checkpoint: int | str | None, words: str = "last, best") -> int | None:
        """The images of a checkpoint given as a number of images (200k), `last` or `best`; None means the newest, as `last` does.

        Args:
            checkpoint: the checkpoint.
            words: the words that the caller accepts, for messages.

        Raises:
            LeafwingError: not a number, or the best checkpoint is not known.
        """
        if checkpoint != "best":
            if str(checkpoint).strip() == "0":  # a training with rollbacks begins with one
                return 0
            try:
                return None if checkpoint in (None, "last") else count(checkpoint, "checkpoint")
            except InvalidOption as error:
                expected = f"must be {words} or a number of images shown, such as 200k"
                raise InvalidOption("checkpoint", checkpoint, expected) from error
        if self.history.best is None:
            raise LeafwingError(f"{self.folder} has no best checkpoint: only training with --stop-on determines it")
        return self.history.best.images

    def save_checkpoint(self, game: Game, state: Mapping[str, Any], *, last: int, milestone: int) -> Path:
        """Writes a checkpoint: first the weights, then `resume.pt`, which names them, each atomically. Removes old weights.

        A `run.json` that was taken away while training is written again, because without it the rest would be of no use.

        Args:
            game: the game whose networks are saved.
            state: what else resuming needs, in plain types and tensors.
            last: number of most recent weights files to keep.
            milestone: of the older ones, the first in every `milestone` images is kept too; 0: none. The best one is always kept, and
                so are those from before the intervals changed.

        Returns:
            The weights file.

        Raises:
            StorageError: the disk is full or the folder is not writable; the previous checkpoint is intact.
        """
        images = int(state["images"])
        path = self.folder / f"weights-{images:09d}.safetensors"
        if self.folder.is_dir() and not (self.folder / "run.json").exists():
            self.update()
        files.write(path, weights_file.serialise(game.tensors(), images=images))
        self.write_state(state)
        weights = self.weights()
        keep = {images, *list(weights)[-last:], self.history.best.images if self.history.best else images}
        keep |= {number for number in weights if number <= self.history.intervals_since}
        if milestone:
            keep |= {min(group) for _, group in groupby(weights, lambda number: number // milestone)}
        for old in weights.keys() - keep:
            with files.storage(str(weights[old])):
                weights[old].unlink(missing_ok=True)
        return path

    def mark_started(self) -> None:
        """Writes a placeholder for `resume.pt` when training starts, so that a lost `resume.pt` can be detected later.

        Raises:
            StorageError: the folder is not writable.
        """
        if not (self.folder / "resume.pt").exists():
            self.write_state({"images": 0, "begun": True})

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Writes `resume.pt`: plain types and tensors."""
        import torch

        buffer = io.BytesIO()  # `files.write` reports a full disk as a StorageError
        torch.save(dict(state), buffer)
        files.write(self.folder / "resume.pt", buffer.getvalue())

    def resume_state(self) -> dict[str, Any] | None:
        """The state in the last checkpoint; None before the first checkpoint."""
        path = self.folder / "resume.pt"
        if not path.exists():
            return None
        state = self.read_state(path)
        if "begun" in state:
            return None
        files.convert(path, state, ResumeState)
        return state

    @staticmethod
    def read_state(path: Path) -> dict[str, Any]:
        """What `write_state` wrote, or a copy of it, loaded without executing code.

        Raises:
            LeafwingError: it is damaged, or something else.
        """
        import torch

        files.require_file(path)
        try:
            with zipfile.ZipFile(path) as archive:
                is_damaged = archive.testzip() is not None
            state = None if is_damaged else torch.load(path, weights_only=True, map_location="cpu")
        except Exception:  # torch raises many types, and its words advise loading without checks
            state = None
        if not isinstance(state, dict):
            raise LeafwingError(
                f"{path} cannot be read: it is damaged, or not written by leafwing, and was not loaded; restore it from a copy. "
                "Sampling and evaluation do not need it"
            )
        return state

    def load_weights(self, game: Game, images: int | None = None) -> int:
        """Loads a weights file (None: the newest) into the networks of a game.

        Returns:
            The images of the checkpoint.

        Raises:
            LeafwingError: no such file, one that is damaged or has changed, or one that does not fit the recipe.
        """
        path = self.require_weights(images)
        images = max(self.weights()) if images is None else images
        try:
            tensors = weights_file.read(path)
        except LeafwingError:
            self.require_weights(images)  # raises if training has removed it meanwhile
            raise
        expected = game.tensors()
        if expected.keys() != tensors.keys() or any(expected[key].shape != tensors[key].shape for key in expected):
            raise LeafwingError(f"{path} does not fit the networks of recipe {self.recipe} with this run's options")
        for name, module in game.modules().items():
            module.load_state_dict(
                {key.removeprefix(f"{name}:"): t for key, t in tensors.items() if key.startswith(f"{name}:")}
            )
        return images

    # --- rebuilding ----------------------------------------------------------------------------------------------------

    def recipe_is_installed(self) -> bool:
        """Whether the folder's recipe is identical to the installed one of its name."""
        path = self.folder / "recipe.py"
        if not path.is_file():
            raise LeafwingError(f"{self.folder} has no recipe.py")
        return recipes.is_installed(self.recipe, path)

    def recipe_function(self) -> Recipe:
        """The recipe of this run: the installed one if the folder's is identical, else the folder's if it is trusted.

        Raises:
            UntrustedRecipe: the folder's recipe is neither installed nor trusted; the message shows it.
        """
        if self.recipe_is_installed():
            return recipes.find(self.recipe)
        path = self.folder / "recipe.py"
        if self.trust:
            return load_trusted(path, self.recipe)
        raise UntrustedRecipe(
            f"{path.read_text(encoding='utf-8', errors='replace')}\n"
            f"{path} (above) is not an installed recipe, and using this run executes it. "
            "If you trust it, add --trust (in Python: trust=True)"
        )

    def build_game(self, options: Mapping[str, recipes.Value] | None = None) -> Game:
        """The game of this run, with fresh networks; or with other hyper-parameters than the run's.

        Raises:
            LeafwingError: untrusted recipe, or an option in `run.json` that it does not have, or of another type or range.
        """
        recipe, values = self.recipe_function(), dict(self.options if options is None else options)
        if self.recipe_is_installed():
            try:
                checked = recipes.describe(self.recipe).resolve(values)
            except LeafwingError as error:
                raise LeafwingError(f"{self.folder / 'run.json'}: {error}") from None
            values = {name: checked[name] for name in values}
        return recipes.build(self.recipe, recipe, self.spec, values)

    def card(self) -> recipes.Card:
        """The description of its recipe, read from the source text."""
        return recipes.describe(self.recipe if self.recipe_is_installed() else str(self.folder / "recipe.py"), self.recipe)


def train_again(run: Run) -> str:
    """The command that trains a new run like this one, without the name of the program; options may follow."""
    words = ["train", "--from", str(run.folder)]
    return shlex.join(words if run.recipe_is_installed() else [*words, "--recipe", str(run.folder / "recipe.py")])


def load_trusted(path: Path, name: str) -> Recipe:
    """The function `name` of a recipe file, which is executed."""
    module = types.ModuleType(f"leafwing_trusted_{name}_{recipes.digest(path)[:8]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their module there
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    except Exception as error:
        del sys.modules[module.__name__]
        raise LeafwingError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise LeafwingError(f"{path} has no function {name}")
    return cast("Recipe", getattr(module, name))


def settings_sections(settings: Settings) -> dict[str, Any]:
    """The sections of settings in `run.json`."""
    return {name: asdict(getattr(settings, name)) for name in SAVED}


def refuse_existing(out: str | Path | None) -> None:
    """Raises LeafwingError if the folder exists, because run folders are never overwritten, or if it cannot be made."""
    if out is not None and Path(out).exists():
        raise LeafwingError(f"{out} exists, and run folders are never overwritten: choose another --out, or resume that run")
    if out is not None and (file := next((path for path in Path(out).parents if path.is_file()), None)):
        raise StorageError(f"cannot write {out}: {file} is a file, not a folder; choose another --out")


def folders(root: str | Path = ROOT) -> list[Path]:
    """The run folders in a folder, sorted by name."""
    paths = Path(os.path.expanduser(root)).glob("*/run.json")
    return sorted(path.parent for path in paths if not path.parent.name.startswith("."))


def trained_last(existing: Iterable[Path]) -> Path:
    """The run folder that `last` means: the one in which a training, also a resumed one, wrote last.

    Evaluating, sampling and analysing a run write other files, and do not count.
    """

    def written(folder: Path) -> tuple[int, str]:
        paths = (folder / name for name in ("run.json", "log.jsonl", "resume.pt"))
        return max(path.stat().st_mtime_ns for path in paths if path.exists()), folder.name

    return max(existing, key=written)


def no_runs(root: str | Path) -> str:
    """The message about a folder without runs."""
    return f"no runs in {root if Path(root).is_absolute() else f'./{root}'} yet: train one first, or give --root"


def next_number(root: str | Path) -> int:
    """The next free number of a run folder: one more than the highest in use."""
    numbers = [int(match[0]) for path in Path(root).glob("*") if (match := re.match(r"\d+", path.name))]
    return max(numbers, default=0) + 1


def slug(config: Mapping[str, Any]) -> str:
    """A short name of the data source, for the name of the run folder."""
    joined = config["data"].get("sources")
    source = str(config["data"]["source"]).removeprefix("memory:")
    stem = "_".join(joined) if joined else Path(source).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_").lower()[:24] or "data"

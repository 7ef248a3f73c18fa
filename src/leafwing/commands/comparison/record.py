"""`compare.json`: the conditions of a comparison and the state of each run, so that the same call can continue it."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypedDict

import msgspec

from leafwing import files
from leafwing.commands.comparison.plan import ComparisonPlan, Conditions, Cost
from leafwing.config import convert_json
from leafwing.errors import LeafwingError

Status = Literal["finished", "diverged", "failed"]
CHECKPOINTS = 8
"""Number of checkpoints of each run that are evaluated if a record does not say so."""


class RecipeEntry(msgspec.Struct, frozen=True):
    """A recipe in `compare.json`.

    Args:
        reference: its name, or the path of its file.
        options: all hyper-parameters, resolved.
        digest: of a user's recipe file; empty for an installed recipe.
    """

    reference: str
    options: dict[str, Any]
    digest: str = ""


class RunState(msgspec.Struct):
    """The state of one run in `compare.json`.

    Args:
        processor: CPU time of all its training sessions in seconds; None if unknown.
        images: shown when its training ended; None before that, and in records of earlier versions. It may have been resumed since.
        status: how its training ended; None before that.
        message: why it did not finish.
        evaluation: the arguments of its evaluation; None if it was not evaluated.
        variety: relative variety of its final samples; None if not measured.
        rows: rows of `commands.evaluate`, of all its checkpoints.
        evaluation_error: why its evaluation failed.
    """

    processor: float | None = None
    images: int | None = None
    status: Status | None = None
    message: str = msgspec.field(default="", name="said")
    evaluation: dict[str, Any] | None = None
    variety: float | None = None
    rows: list[dict[str, Any]] = msgspec.field(default_factory=list, name="numbers")
    evaluation_error: str = msgspec.field(default="", name="unevaluated")


class EvaluationRow(TypedDict):
    """The keys of a row of `commands.evaluate` that the report needs."""

    metric: str
    images: int
    value: float | None
    low: float | None
    high: float | None
    better: str
    protocol: dict[str, Any]
    fingerprint: str


class Content(msgspec.Struct):
    """The content of `compare.json`; see `ComparisonPlan` for the fields other than `runs`.

    `features` is the feature network; earlier versions did not record one that the user named, and the first ones none at all.
    `checkpoints` is the number of checkpoints of each run that are evaluated, 0 until it is chosen; earlier versions, which did not
    record it, evaluated all that were kept.
    """

    command: str
    conditions: Conditions = msgspec.field(name="asked")
    recipes: dict[str, RecipeEntry]
    seeds: list[int]
    images: dict[str, int]
    threads: int
    runs: dict[str, RunState] = msgspec.field(default_factory=dict)
    features: str = ""
    checkpoints: int | None = None
    costs: dict[str, Cost] = msgspec.field(default_factory=dict)


class Record:
    """The file `compare.json` of a folder: read once, and rewritten at every change. Safe for use by several threads.

    Raises:
        LeafwingError: the file is damaged; the message names the key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "compare.json"
        self.lock = threading.Lock()
        self.content: Content | None = load(self.path) if self.path.exists() else None

    def begin(self, plan: ComparisonPlan) -> None:
        """Records a plan, or continues the recorded one: then the plan gets its numbers of images and threads.

        Raises:
            LeafwingError: the folder contains a different comparison; the message lists the differences.
        """
        recipes = {
            name: RecipeEntry(recipe.reference, recipe.resolved, recipe.digest) for name, recipe in plan.recipes.items()
        }
        old = self.content
        settle_features(plan, old)
        if old:
            if changes := differences(old, plan, recipes):
                changed = ["the images and labels as they were"] if has_changed_since(old, plan) else []
                changed += [
                    f"{entry.reference} as it was"
                    for name, entry in old.recipes.items()
                    if name in recipes
                    and entry.reference == recipes[name].reference
                    and entry.digest != recipes[name].digest
                ]
                restore = f"restore {' and '.join(changed)} and " if changed else ""
                way = f"{restore}continue it with: {old.command}"
                raise LeafwingError(
                    f"{self.folder} contains a different comparison ({'; '.join(changes)}). Choose another --out, or {way}"
                )
            plan.images |= {name: images for name, images in old.images.items() if name in recipes}
            plan.threads = old.threads
            plan.costs = {name: cost for name, cost in old.costs.items() if name in recipes}
            plan.checkpoints = CHECKPOINTS if old.checkpoints is None else old.checkpoints
        runs = old.runs if old else {}
        features = plan.evaluation.get("features") or (old.features if old else "")
        self.content = Content(
            plan.command,
            plan.conditions,
            recipes,
            plan.seeds,
            plan.images,
            plan.threads,
            runs,
            features,
            plan.checkpoints,
            plan.costs,
        )
        self._write()

    def set_budget(self, plan: ComparisonPlan) -> None:
        """Records what was measured: what each recipe costs; and what follows: its images, and how many checkpoints are evaluated."""
        with self.lock:
            self._content.images, self._content.checkpoints, self._content.costs = plan.images, plan.checkpoints, plan.costs
            self._write()

    def run_state(self, name: str, seed: int) -> RunState:
        """A copy of the state of a run."""
        return copy.copy(self._content.runs.get(run_name(name, seed), RunState()))

    def update_run(self, name: str, seed: int, **changes: Any) -> None:
        """Changes fields of the state of a run."""
        with self.lock:
            state = self._content.runs.setdefault(run_name(name, seed), RunState())
            for field, value in changes.items():
                setattr(state, field, value)
            self._write()

    def reset_run(self, name: str, seed: int) -> None:
        """Forgets everything about a run but its CPU time, because its training begins or continues."""
        with self.lock:
            self._content.runs[run_name(name, seed)] = RunState(self.run_state(name, seed).processor)
            self._write()

    def run_folder(self, name: str, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / run_name(name, seed)

    def log_file(self, name: str, seed: int) -> Path:
        """The file with the output of a run's training and evaluation."""
        return self.folder / "logs" / f"{run_name(name, seed)}.txt"

    @property
    def _content(self) -> Content:
        assert self.content is not None, "begin comes first"
        return self.content

    def _write(self) -> None:
        files.write(self.path, json.dumps(msgspec.to_builtins(self._content), indent=1, ensure_ascii=False) + "\n")


def run_name(recipe: str, seed: int) -> str:
    """The name of a run in `compare.json`, and of its folder."""
    return f"{recipe}-seed{seed}"


def load(path: Path) -> Content:
    """Reads a `compare.json`.

    Raises:
        LeafwingError: it is not valid JSON, or a value is missing or has a wrong type; the message names the file and the key.
    """
    from leafwing.metrics.protocol import upgrade

    plain = convert_json(
        path, files.read_json(path, "restore it from a copy, or choose another --out"), dict[str, Any], "document"
    )
    for field in msgspec.structs.fields(Content):
        if field.required and field.encode_name not in plain:
            raise LeafwingError(f"{path}: {field.encode_name} is missing")
    # Entry by entry first, because msgspec does not name the keys of dictionaries.
    for section, kind in (("recipes", RecipeEntry), ("runs", RunState)):
        for key, entry in convert_json(path, plain.get(section, {}), dict[str, Any], section).items():
            converted = convert_json(path, entry, kind, f"{section}.{key}")
            if isinstance(converted, RunState):
                convert_json(path, converted.rows, list[EvaluationRow], f"{section}.{key}.numbers")
    content = convert_json(path, plain, Content)
    for state in content.runs.values():
        state.rows = [upgrade(row) for row in state.rows]
    return content


def settle_features(plan: ComparisonPlan, old: Content | None) -> None:
    """Lets a continued comparison keep its feature network and the weights of that, if the user named none.

    Raises:
        LeafwingError: it is not installed here, or a recipe that was added looks through it.
    """
    from leafwing.metrics.choice import FeatureChoice, require_available, require_unseen

    if plan.choice is None:
        return
    if old:
        before = next((state.evaluation for state in old.runs.values() if state.evaluation), {})
        name = old.features or before.get("features") or "own"
        require_unseen(name, plan.pretrained)
        if before.get("features") == name and "weights" in before:
            plan.evaluation["weights"] = before["weights"]
        else:
            require_available(name)
        plan.choice = FeatureChoice(name, "as before in this comparison")
    plan.evaluation["features"] = plan.choice.name


def differences(old: Content, plan: ComparisonPlan, recipes: dict[str, RecipeEntry]) -> list[str]:
    """What prevents a plan from continuing a recorded comparison. Recipes and seeds may be added, nothing else may change."""
    before, now = msgspec.structs.asdict(old.conditions), msgspec.structs.asdict(plan.conditions)
    changes = [
        f"{key}: {before[key]} before, {now[key]} now" for key in now if before[key] != now[key] and key != "fingerprint"
    ]
    if has_changed_since(old, plan):
        changes.append(f"{old.conditions.source} has changed since that comparison began")
    for name, entry in old.recipes.items():
        if name not in recipes:
            changes.append(f"missing recipe: {name}")
        elif (entry.options, entry.digest) != (recipes[name].options, recipes[name].digest):
            options = [
                f"{key}={entry.options.get(key)} before, {value} now"
                for key, value in recipes[name].options.items()
                if entry.options.get(key) != value
            ]
            changes.append(f"recipe {name}: {', '.join(options) or 'its file has changed'}")
    if missing := sorted({*old.seeds} - {*plan.seeds}):
        changes.append(f"missing seeds: {', '.join(map(str, missing))}")
    if plan.requested_threads not in (None, old.threads):
        changes.append(f"threads: {old.threads} before, {plan.requested_threads} now")
    return changes


def has_changed_since(old: Content, plan: ComparisonPlan) -> bool:
    """Whether the images or labels of a source have changed since a comparison began."""
    before, now = old.conditions, plan.conditions
    return before.fingerprint != now.fingerprint and (before.source, before.data) == (now.source, now.data)


@contextmanager
def open_record(folder: Path) -> Iterator[Record]:
    """The record of a comparison's folder, which is created if necessary and locked while in use.

    Raises:
        LeafwingError: the folder contains something else, or another process uses it.
        StorageError: it is not writable.
    """
    ours = {folder / "runs", folder / "logs", folder / ".lock"}  # all that exists if the process is killed early
    existing = {*folder.iterdir()} if folder.is_dir() else {folder} if folder.exists() else set[Path]()
    if not (folder / "compare.json").exists() and (
        existing - ours or any(path.is_dir() and any(path.iterdir()) for path in existing)
    ):
        raise LeafwingError(f"{folder} exists and is not the folder of a comparison: choose another --out")
    with files.storage(str(folder)):
        for path in (folder, folder / "runs", folder / "logs"):
            path.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / ".lock", f"another leafwing compare is running in {folder}"):
        yield Record(folder)

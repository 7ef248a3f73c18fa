"""What is compared: who takes part, on what, with which options, how much at a time. Everything is checked before anything begins."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leafwing import recipes
from leafwing.commands.comparison.side_by_side import available_memory
from leafwing.commands.evaluate import classifies, suitable
from leafwing.errors import LeafwingError, did_you_mean
from leafwing.machine import cores
from leafwing.progress import Silent
from leafwing.quantities import count, whole
from leafwing.recipes import Value

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.game import Turn

SPARE_MEMORY = 0.8
"""Trainings together may take so much of the memory that is free."""


@dataclass
class Entrant:
    """A recipe that takes part: what its trainings are told, and what must be known to judge them.

    Args:
        reference: its name, or the path of its file.
        options: those that were set.
        resolved: all of them.
        batch: real images in a turn.
        turns: of its game, to count the generator's steps.
        footprint: bytes that a training takes; 0 where that was not worked out.
        digest: of the text of a file of the user's; empty for an installed recipe.
    """

    reference: str
    options: dict[str, Value]
    resolved: dict[str, Value]
    batch: int
    turns: Sequence[Turn]
    footprint: int
    digest: str = ""

    @property
    def own(self) -> bool:
        """Whether it is a file of the user's."""
        return self.reference.endswith(".py") or "/" in self.reference


@dataclass
class Plan:
    """A comparison, resolved."""

    entrants: dict[str, Entrant]
    seeds: list[int]
    data: Dataset
    asked: dict[str, Any]
    evaluation: dict[str, Any]
    command: str
    device: str
    jobs: int
    threads: int
    images: dict[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(recipe, seed): all recipes of the first seed first, so that there is soon something of each."""
        return [(name, seed) for seed in self.seeds for name in self.entrants]


def resolve(given: Mapping[str, Any], progress: Silent) -> Plan:
    """Everything that is asked for, checked: each recipe is resolved and built on the data as its training will do it.

    Raises:
        LeafwingError: something of it cannot be; nothing was written.
    """
    import torch

    from leafwing.commands.plan import READ, prepare
    from leafwing.commands.plan import resolve as resolved
    from leafwing.engine import choose
    from leafwing.settings import separated

    references = words(given["recipes"])
    names = [recipes.describe(reference).name for reference in references]
    if not names or len({*names}) < len(names):
        raise LeafwingError(f"--recipes {','.join(references)}: name at least one recipe, and each once")
    seeds = chosen_seeds(given["seeds"])
    minutes = given["minutes"]
    if minutes is not None and not 0 < minutes < 1e6:
        raise LeafwingError(f"--minutes {minutes}: a training lasts more than 0 minutes")
    images = count(given["images"] or 200_000) if given["images"] or minutes is None else None
    chosen = shared_out(given["options"], dict(zip(names, references, strict=True)))
    evaluation = checked_evaluation(given)
    device = choose(given["device"], "auto", 1).device
    runs = len(names) * len(seeds)
    if given["jobs"] is not None:
        whole("jobs", given["jobs"], 1)

    entrants: dict[str, Entrant] = {}
    reading = {key: given[key] for key in (*READ, "hold_out")}
    settings, _ = separated({"images": images, "device": "cpu", "precision": "fp32", "threads": 1, **reading})
    for name, reference in zip(names, references, strict=True):
        one = resolved(given["source"], reference, settings, chosen[name], progress)
        started = prepare(one)
        needed = memory_of(started, one.data) if device == "cpu" and given["jobs"] is None and runs > 1 else 0
        entrants[name] = Entrant(
            str(one.card.path) if reference != name else name,
            chosen[name],
            one.config["options"],
            started.game.batch,
            started.game.turns,
            needed,
            recipes.digest(one.card.path) if reference != name else "",
        )
    data, held_out = one.data, one.config["data"]["held_out"]
    if metrics := evaluation.get("metrics"):
        suitable(metrics, data.spec.points, data.source)
        if "inception_score" in metrics:
            classifies(evaluation.get("features", "own"), data.spec)
    places = torch.cuda.device_count() if device == "cuda" else cores() if device == "cpu" else 1
    jobs = given["jobs"] or places
    if not given["jobs"] and (there := available_memory()) and (most := max(one.footprint for one in entrants.values())):
        jobs = max(1, min(jobs, int(SPARE_MEMORY * there / most)))
    jobs = min(jobs, runs)
    return Plan(
        entrants,
        seeds,
        data,
        {
            "source": data.source,
            "data": data.options,
            "fingerprint": data.fingerprint,
            "held_out": held_out,
            "images": images,
            "minutes": minutes,
            "device": device,
        },
        evaluation,
        command_line(given, references, seeds),
        device,
        jobs,
        max(1, cores() // jobs),
        {} if images is None else dict.fromkeys(names, images),
    )


def words(value: str | Sequence[str] | None) -> list[str]:
    """A list, or text separated by commas, as a list."""
    parts = value.split(",") if isinstance(value, str) else value or []
    return [str(part).strip() for part in parts if str(part).strip()]


def chosen_seeds(value: int | str | Sequence[int]) -> list[int]:
    """`3`: 0, 1 and 2; `7,8` or a list: these."""
    several = not isinstance(value, int | str) or "," in str(value)
    if not several:
        return list(range(whole("seeds", value, 1)))
    found = [whole("seed", seed, 0) for seed in (words(value) if isinstance(value, str) else value)]  # type: ignore[union-attr]
    if not found or len({*found}) < len(found):
        raise LeafwingError(f"--seeds {value}: how many, or which ones, each once")
    return found


def shared_out(given: Sequence[str] | Mapping[str, Value], references: Mapping[str, str]) -> dict[str, dict[str, Value]]:
    """The hyper-parameters of each recipe.

    Args:
        given: `width=32` for every recipe that has it, `wgan_gp.width=16` for one, which counts more.
        references: recipes by name.

    Raises:
        LeafwingError: no recipe has the option, or it is not written so.
    """
    pairs: list[tuple[str, Value]] = list(given.items()) if isinstance(given, Mapping) else []
    for text in [] if isinstance(given, Mapping) else given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise LeafwingError(f"--set {text}: write name=value, or recipe.name=value")
        pairs.append((key.strip(), value.strip()))
    cards = {name: recipes.describe(reference) for name, reference in references.items()}
    has = {name: {option.name for option in card.options} for name, card in cards.items()}
    found: dict[str, dict[str, Value]] = {name: {} for name in references}
    for key, setting in sorted(pairs, key=lambda pair: "." in pair[0]):
        recipe, dot, option = key.replace("-", "_").rpartition(".")
        if dot and recipe not in cards:
            raise LeafwingError(f"--set {key}: no recipe {recipe!r} takes part{did_you_mean(recipe, list(cards))}")
        takers = [recipe] if dot else [name for name in cards if option in has[name]]
        if not takers:
            known = sorted(set().union(*has.values()))
            raise LeafwingError(f"--set {key}: no recipe here has this option{did_you_mean(option, known)}")
        for name in takers:
            found[name][option] = setting
    for name, card in cards.items():
        card.resolve(found[name])  # raises: unknown, or no such value
    return found


def checked_evaluation(given: Mapping[str, Any]) -> dict[str, Any]:
    """How runs are evaluated, in plain JSON; what was not said is left out, and left to `evaluate`."""
    from leafwing.metrics import METRICS
    from leafwing.metrics.features import FEATURES

    found: dict[str, Any] = {}
    if given["metrics"] is not None:
        found["metrics"] = words(given["metrics"])
        for name in found["metrics"]:
            if name not in METRICS:
                raise LeafwingError(f"no metric {name!r}{did_you_mean(name, METRICS)}")
    if given["features"] not in (None, *FEATURES):
        raise LeafwingError(f"no feature network {given['features']!r}{did_you_mean(given['features'], FEATURES)}")
    if given["weights"] is not None and (given["features"] != "inception" or not Path(given["weights"]).is_file()):
        raise LeafwingError(f"--weights {given['weights']}: give the file of weights of --features inception")
    for name in ("features", "weights"):
        if given[name] is not None:
            found[name] = str(given[name])
    if given["n"] is not None:
        found["n"] = count(given["n"], "n")
    return found


def memory_of(training: Any, data: Dataset) -> int:
    """Bytes that a training will take on the CPU, worked out."""
    from leafwing.engine.footprint import estimate_footprint

    return estimate_footprint(training.engine, data.batch(0, 0, 4), training.game.batch).total


def command_line(given: Mapping[str, Any], references: Sequence[str], seeds: Sequence[int]) -> str:
    """The command that asks for the same."""
    counted = list(seeds) == list(range(len(seeds)))
    line = ["leafwing", "compare", str(given["source"]), "--recipes", ",".join(references)]
    line += ["--seeds", str(len(seeds)) if counted else ",".join(map(str, seeds))]
    for name in ("images", "minutes", "size", "channels", "fit", "background", "features", "weights", "n", "jobs"):
        if (value := given[name]) is not None:
            shown = (
                "x".join(map(str, value))
                if isinstance(value, tuple)
                else f"{value:.12g}"
                if isinstance(value, float)
                else value
            )
            line += ["-n" if name == "n" else f"--{name}", str(shown)]
    if given["mirror"] is not None:
        line.append("--mirror" if given["mirror"] else "--no-mirror")
    if str(given["hold_out"]) != "auto":
        line += ["--hold-out", str(given["hold_out"])]
    if given["metrics"] is not None:
        line += ["--metrics", ",".join(words(given["metrics"]))]
    options = given["options"]
    for text in (f"{key}={value}" for key, value in options.items()) if isinstance(options, Mapping) else options:
        line += ["--set", text]
    if given["device"] != "auto":
        line += ["--device", given["device"]]
    return shlex.join([*line, "--out", str(given["out"])])


def slots(plan: Plan) -> list[dict[str, str]]:
    """What the children of each slot find in their environment: their number of threads and, where there are several, their GPU."""
    import torch

    common = {"OMP_NUM_THREADS": str(plan.threads)}
    if plan.device != "cuda":
        return [common] * plan.jobs
    asked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = asked.split(",") if asked else [str(number) for number in range(torch.cuda.device_count())]
    return [common | {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(plan.jobs)]

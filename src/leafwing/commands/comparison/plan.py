"""The plan of a comparison: recipes, data, options and parallelism. Everything is checked before anything is written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from leafwing import recipes
from leafwing.commands.capacity import check_memory
from leafwing.commands.feeding import data_check, pace_of_training
from leafwing.commands.first_checks import check_training
from leafwing.commands.real_data import check_samples, too_few
from leafwing.commands.selection import (
    WITHOUT_NETWORK,
    check_features,
    check_metrics,
    check_output,
    require_classifier,
    require_packages,
    world_of,
)
from leafwing.errors import InvalidOption, LeafwingError, did_you_mean
from leafwing.machine import available_memory, cores
from leafwing.option_names import Pace, refuse_unknown
from leafwing.progress import OnceReporter, Reporter
from leafwing.quantities import check_seed, count, show_bytes, whole
from leafwing.recipes import Value
from leafwing.settings import (
    MAX_THREADS,
    READING_OPTIONS,
    DataSettings,
    HardwareSettings,
    Schedule,
    Settings,
    all_settings,
    replace_fields,
    split_keywords,
)

if TYPE_CHECKING:
    from leafwing.data import Dataset
    from leafwing.data.lacking import Accept
    from leafwing.game import DataSpec, Output, Turn
    from leafwing.loop import Training
    from leafwing.metrics.choice import FeatureChoice

SETTINGS = (*READING_OPTIONS, "hold_out", "device")
"""The training settings that `compare` takes; see `leafwing.settings`."""
HOLD_OUT = "auto"
"""Default of `hold_out` in a comparison."""
MOST_SEEDS = 1_000
"""The largest number of seeds, each of which is a training of every recipe."""
MEMORY_FRACTION = 0.8
"""Maximum fraction of the available memory that all parallel runs together may use."""


@dataclass
class ComparedRecipe:
    """A recipe in a comparison.

    Args:
        reference: its name, or the path of its file.
        options: the hyper-parameters that the user set.
        resolved: all hyper-parameters.
        batch: real images per turn.
        turns: of its game, to count generator steps.
        outputs: of its game, the main one first.
        footprint: estimated memory of training in bytes; 0 if not estimated.
        digest: of a user's recipe file; empty for an installed recipe.
        pretrained: the published networks through which its critic or a loss looks.
    """

    reference: str
    options: dict[str, Value]
    resolved: dict[str, Value]
    batch: int
    turns: Sequence[Turn]
    outputs: Sequence[Output]
    footprint: int = 0
    digest: str = ""
    pretrained: Sequence[str] = ()

    @property
    def output(self) -> Output:
        """The main output of its game."""
        return self.outputs[0]

    @property
    def is_file(self) -> bool:
        """Whether it is a user's recipe file."""
        return self.reference.endswith(".py") or "/" in self.reference


class Conditions(msgspec.Struct, frozen=True):
    """What is equal for all runs of a comparison, and must not change when it is continued.

    Args:
        source: of the data.
        data: options of `leafwing.data.load`, resolved.
        fingerprint: of the data.
        held_out: number of images held out of training.
        images: number of real images on which every run is trained; None with `minutes` alone.
        minutes: see `compare`.
        device: cpu, cuda or mps.
    """

    source: str
    data: dict[str, Any]
    fingerprint: str
    held_out: int
    images: int | None
    minutes: float | None
    device: str


class Cost(msgspec.Struct, frozen=True):
    """What a recipe costs on this machine under its load at the time, as measured in the beginning, in wall-clock time.

    Args:
        training: seconds per real image shown.
        evaluation: seconds per sample.
        start: seconds until a process starts with either.
    """

    training: float
    evaluation: float
    start: float


@dataclass
class ComparisonPlan:
    """A comparison with all choices made.

    Args:
        recipes: the recipes, by name.
        seeds: of the runs of each recipe.
        data: the data set, including the held-out part.
        conditions: what is equal for all runs.
        evaluation: arguments of `leafwing.evaluate` that the user set.
        command: the command line that is equivalent to the call.
        jobs: number of runs trained at a time.
        threads: CPU threads of each run.
        images: real images on which a run is trained, by recipe; filled in later if they depend on measured speeds.
        requested_threads: the number that the user chose, if any.
        choice: the feature network, if the user named none; None if no metric needs one, too.
        costs: of each recipe, where measured.
        checkpoints: number of checkpoints of each run that are evaluated; 0: to be chosen by the costs.
    """

    recipes: dict[str, ComparedRecipe]
    seeds: list[int]
    data: Dataset
    conditions: Conditions
    evaluation: dict[str, Any]
    command: str
    jobs: int
    threads: int
    images: dict[str, int] = field(default_factory=dict)
    requested_threads: int | None = None
    choice: FeatureChoice | None = None
    costs: dict[str, Cost] = field(default_factory=dict)
    checkpoints: int = 0

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(recipe, seed) of all runs in the order in which they start: all recipes with the first seed come first."""
        return [(name, seed) for seed in self.seeds for name in self.recipes]

    @property
    def pretrained(self) -> dict[str, Sequence[str]]:
        """The published networks that training looks through, by recipe."""
        return {name: recipe.pretrained for name, recipe in self.recipes.items()}

    @property
    def device(self) -> str:
        """cpu, cuda or mps."""
        return self.conditions.device

    def settings(self, seed: int) -> Settings:
        """The settings shared by all runs and speed measurements with this seed."""
        reading, _ = split_keywords({} if self.data.spec.points else self.conditions.data)  # the resolved bits are a number
        return Settings(
            reading=replace_fields(DataSettings(), {**reading, "hold_out": self.conditions.held_out}),
            schedule=Schedule(seed=seed),
            machine=HardwareSettings(device=self.device, threads=self.threads),
        )


def resolve_comparison(arguments: Mapping[str, Any], progress: Reporter) -> ComparisonPlan:
    """Checks all arguments, and builds every recipe on the data as in training.

    Args:
        arguments: of `compare`, by name.
        progress: receives messages about the data.

    Raises:
        LeafwingError: invalid arguments; nothing was written.
    """
    from leafwing.data.locating import find

    place = find(arguments["source"])  # raises: no such source, or several
    references = split_list(arguments["recipes"])
    names = [recipes.describe(reference).name for reference in references]
    if not names or len({*names}) < len(names):
        raise InvalidOption("recipes", ",".join(references), "name at least one recipe, and each only once")
    arguments = with_shared_options(arguments, references)
    seeds = parse_seeds(arguments["seeds"])
    minutes = arguments["minutes"]
    if minutes is not None and not 0 < minutes < 1e6:
        raise InvalidOption("minutes", minutes, "must be greater than 0")
    images = count(arguments["images"] or 200_000) if arguments["images"] or minutes is None else None
    options = assign_options(arguments["options"], dict(zip(names, references, strict=True)))
    evaluation = check_evaluation(arguments)
    require_packages(**{name: value for name, value in evaluation.items() if name != "n"}, data=place)
    jobs, threads = arguments["jobs"], arguments["threads"]
    for name, value in (("jobs", jobs), ("threads", threads)):
        if value is not None:
            whole(value, name, 1, MAX_THREADS)
    pace = pace_of_training(
        arguments["source"], references[0], {"hold_out": HOLD_OUT, **arguments["settings"]}, options[names[0]]
    )
    user_settings = {"device": "auto", **check_settings(arguments["settings"], pace)}
    settings, _ = split_keywords({"images": images, "precision": "fp32", "threads": 1, **user_settings})
    for name, reference in zip(names, references, strict=True):
        check_training(arguments["source"], reference, settings, options[name])
    import torch

    from leafwing.commands.plan import build_training, check_before_reading, resolve_training
    from leafwing.engine import choose

    device = choose(settings["device"], "auto", 1).device
    settings = {**settings, "device": "cpu"}
    runs = len(names) * len(seeds)

    compared: dict[str, ComparedRecipe] = {}
    notes = OnceReporter(progress)
    reading = replace_fields(DataSettings(), settings)
    checks: list[Accept] = []
    for name, reference in zip(names, references, strict=True):  # all before the first one reads the images
        card = recipes.describe(reference)
        check_before_reading(place, card, reference, options[name], reading)
        if check := data_check(card, reference, card.resolve(options[name])):
            checks.append(check)
    for name, reference in zip(names, references, strict=True):
        resolved = resolve_training(
            arguments["source"], reference, settings, options[name], notes, accepts=() if compared else checks
        )
        training = build_training(resolved)
        if device == "cpu":  # the trainings above are built there
            check_memory(training, resolved.options, notes.warn, recipe=name)
        estimate = device == "cpu" and jobs != 1 and runs > 1
        is_installed = reference == name
        compared[name] = ComparedRecipe(
            name if is_installed else str(resolved.card.path),
            options[name],
            resolved.config["options"],
            training.game.batch,
            training.game.turns,
            training.game.abilities.outputs,
            estimate_memory(training) if estimate else 0,
            "" if is_installed else recipes.digest(resolved.card.path),
            training.game.pretrained,
        )
    data, held_out = resolved.data, resolved.config["data"]["held_out"]
    require_same_task(compared, data.spec)
    if metrics := evaluation.get("metrics"):
        check_metrics(metrics, data.spec.points, data.source)
        for recipe in compared.values():
            check_output(metrics, recipe.outputs, recipe.output, data.spec)
        if "leaks" in metrics:
            raise LeafwingError("metric leaks is for single runs with augmentation: use `leafwing evaluate`")
        if "inception_score" in metrics:
            require_classifier(evaluation.get("features", "own"), data.spec)
    require_enough(compared, data, held_out, evaluation, notes)
    choice = choose_comparison_features(compared, data, evaluation)
    if n := evaluation.get("n"):
        for recipe in compared.values():
            check_samples(n, recipe.output, data.spec, choice.name if choice else evaluation.get("features", ""))
    free, footprint = available_memory(), max(recipe.footprint for recipe in compared.values())
    fitting = runs if free is None or not footprint else max(1, int(MEMORY_FRACTION * free / footprint))
    if jobs is None:
        jobs = torch.cuda.device_count() if device == "cuda" else max(1, cores() // (threads or 1)) if device == "cpu" else 1
        jobs = min(jobs, fitting)
    jobs = min(jobs, runs)
    if jobs > fitting:
        notes.warn(
            f"{jobs} trainings at a time need about {show_bytes(jobs * footprint)} of memory, and {show_bytes(free or 0)} are free: "
            f"they may run out of memory; in that case try --jobs {fitting}"
        )
    return ComparisonPlan(
        compared,
        seeds,
        data,
        Conditions(data.source, data.options, data.fingerprint, held_out, images, minutes, device),
        evaluation,
        command_line(arguments, references, seeds),
        jobs,
        threads or max(1, cores() // jobs),
        {} if images is None else dict.fromkeys(names, images),
        threads,
        choice,
    )


def require_enough(
    compared: Mapping[str, ComparedRecipe], data: Dataset, held_out: int, evaluation: Mapping[str, Any], progress: Reporter
) -> None:
    """Says which of the default metrics are left out, because there are too few real images.

    Raises:
        LeafwingError: one that the user named is not defined for so few, or none by which recipes could be ranked.
    """
    from leafwing.metrics.clouds import LEAST
    from leafwing.metrics.targets import keeping_metrics

    first, requested = next(iter(compared.values())), evaluation.get("metrics")
    names = requested or [*LEAST, *keeping_metrics(first.outputs, first.output, data.spec)]
    if data.spec.points or world_of(data.source) == "stacked":
        names = requested or ["modes"]
    real = data.split_anew(held_out)[1] if held_out else data
    lacking, problem = too_few(names, real, first.output.field, evaluation.get("n"))
    if lacking and (requested or not {*names} - {*lacking}):
        least = max(LEAST[name] for name in lacking)
        more = f"hold out more (--hold-out {least}), or " if len(data) > least else ""
        raise InvalidOption("metrics", ",".join(names), f"{problem}: {more}choose others")
    if lacking:
        progress.say(f"left out: {problem}; see --hold-out")


def choose_comparison_features(
    compared: Mapping[str, ComparedRecipe], data: Dataset, evaluation: Mapping[str, Any]
) -> FeatureChoice | None:
    """The feature network with which all runs are evaluated, if the user named none; None if no metric needs one, too.

    Raises:
        LeafwingError: the one that the user named is not installed, or one of the recipes looks through it.
    """
    from leafwing.metrics.choice import choose_features, require_available

    first, requested = next(iter(compared.values())), evaluation.get("features")
    metrics = evaluation.get("metrics") or (["modes"] if data.spec.points or world_of(data.source) == "stacked" else ["fid"])
    if not set(metrics) - set(WITHOUT_NETWORK):
        return None
    kind = first.output.kind or data.spec.fields[first.output.field]
    pretrained = {name: recipe.pretrained for name, recipe in compared.items()}
    choice = choose_features(kind, pretrained, metrics=metrics, requested=requested)
    if requested and "weights" not in evaluation:
        require_available(requested)
    return None if requested else choice


def split_list(value: str | Sequence[str] | None) -> list[str]:
    """A list, or text separated by commas, as a list without empty entries."""
    parts = value.split(",") if isinstance(value, str) else value or []
    return [str(part).strip() for part in parts if str(part).strip()]


def parse_seeds(value: int | str | Sequence[int]) -> list[int]:
    """A number of seeds, counted from 0 (`3`: 0, 1 and 2), or a list of seeds (`7,8`).

    Raises:
        LeafwingError: something else, or more than `MOST_SEEDS`.
    """
    is_list = not isinstance(value, int | str) or "," in str(value)
    try:
        if is_list:
            listed = split_list(value) if isinstance(value, str) else value
            seeds: Sequence[int] = [check_seed(seed) for seed in listed]  # type: ignore[union-attr]
        else:
            seeds = range(whole(value, "seeds", 1))
    except InvalidOption:
        seeds = []
    if len(seeds) > MOST_SEEDS:
        raise InvalidOption("seeds", value, f"at most {MOST_SEEDS:,} seeds")
    if not seeds or len({*seeds}) < len(seeds):
        raise InvalidOption(
            "seeds", value, "must be a number of seeds, such as 3, or a list of different seeds, such as 7,8"
        )
    return [*seeds]


def check_settings(settings: Mapping[str, Any], pace: Pace) -> dict[str, Any]:
    """The settings that were given, with the default of `hold_out`.

    Args:
        settings: by name.
        pace: what epochs and steps mean, for messages.

    Raises:
        LeafwingError: `compare` has no argument of this name.
    """
    refuse_unknown("compare", settings, {name: all_settings()[name].help for name in SETTINGS}, pace)
    return {"hold_out": HOLD_OUT} | {name: value for name, value in settings.items() if value is not None}


def with_shared_options(arguments: Mapping[str, Any], references: Sequence[str]) -> dict[str, Any]:
    """The arguments of `compare`, with keywords that are options of all recipes among its `options`.

    Raises:
        LeafwingError: only some of the recipes have such an option.
    """
    options_of = {card.name: {item.name for item in card.options} for card in map(recipes.describe, references)}
    known = set().union(*options_of.values()) - {*SETTINGS}
    chosen = {name: value for name, value in arguments["settings"].items() if name in known}
    for name in chosen:
        if lacking := [recipe for recipe, names in options_of.items() if name not in names]:
            raise LeafwingError(
                f"{' and '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no option {name!r}. For the others: "
                f'options={{"{name}": ...}}'
            )
    options = arguments["options"]
    texts = [f"{name}={value}" for name, value in chosen.items()]
    merged = {**chosen, **options} if isinstance(options, Mapping) else [*texts, *options]
    settings = {name: value for name, value in arguments["settings"].items() if name not in chosen}
    return {**arguments, "options": merged, "settings": settings}


def assign_options(
    options: Sequence[str] | Mapping[str, Value], references: Mapping[str, str]
) -> dict[str, dict[str, Value]]:
    """The hyper-parameters of each recipe.

    Args:
        options: `width=32` for every recipe that has the option, `wgan_gp.width=16` for one recipe, which takes precedence.
        references: recipes by name.

    Raises:
        LeafwingError: no recipe has the option, or its value is invalid.
    """
    pairs: list[tuple[str, Value]] = list(options.items()) if isinstance(options, Mapping) else []
    for text in [] if isinstance(options, Mapping) else options:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidOption("options", text, "write name=value, or recipe.name=value", flag="set")
        pairs.append((key.strip(), value.strip()))
    cards = {name: recipes.describe(reference) for name, reference in references.items()}
    option_names = {name: {option.name for option in card.options} for name, card in cards.items()}
    assigned: dict[str, dict[str, Value]] = {name: {} for name in references}
    for key, setting in sorted(pairs, key=lambda pair: "." in pair[0]):
        recipe, dot, option = key.replace("-", "_").rpartition(".")
        if dot and recipe not in cards:
            raise InvalidOption(
                "options", key, f"recipe {recipe!r} is not compared{did_you_mean(recipe, cards)}", flag="set"
            )
        names = [recipe] if dot else [name for name in cards if option in option_names[name]]
        if not names:
            suggestions = did_you_mean(option, sorted(set().union(*option_names.values())))
            raise InvalidOption("options", key, f"none of the recipes has this option{suggestions}", flag="set")
        for name in names:
            assigned[name][option] = setting
    for name, card in cards.items():
        card.resolve(assigned[name])  # raises: unknown option or invalid value
    return assigned


def check_evaluation(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `leafwing.evaluate` that were given, in plain JSON.

    Raises:
        LeafwingError: unknown metric or feature network, or a missing file.
    """
    from leafwing.metrics import METRICS, WITH_WEIGHTS

    metrics, features, weights = (arguments[name] for name in ("metrics", "features", "weights"))
    evaluation: dict[str, Any] = {}
    if metrics is not None:
        evaluation["metrics"] = split_list(metrics)
        for name in evaluation["metrics"]:
            if name not in METRICS:
                raise LeafwingError(f"no metric {name!r}{did_you_mean(name, METRICS)}")
    check_features(features)
    if weights is not None and (features not in WITH_WEIGHTS or not Path(weights).is_file()):
        raise InvalidOption("weights", weights, f"must be the weights file of --features {' or '.join(WITH_WEIGHTS)}")
    evaluation |= {name: str(arguments[name]) for name in ("features", "weights") if arguments[name] is not None}
    if arguments["n"] is not None:
        evaluation["n"] = count(arguments["n"], "n")
    return evaluation


def estimate_memory(training: Training) -> int:
    """Estimated memory of training on the CPU, in bytes."""
    from leafwing.engine.footprint import estimate_footprint

    return estimate_footprint(training.engine, training.batches(0, 4), training.game.batch).total


def require_same_task(recipes: Mapping[str, ComparedRecipe], spec: DataSpec) -> None:
    """Checks that recipes generate the same field from the same kind of conditions: all from latents, or all from the same images.

    Raises:
        LeafwingError: they do not; the message names two recipes that differ.
    """
    from leafwing.conditions import pixel_conditions

    tasks = {
        name: f"{recipe.output.field} from {' and '.join(sorted(pixel_conditions(recipe.output, spec))) or 'latents'}"
        for name, recipe in recipes.items()
    }
    first = next(iter(tasks))
    for name, task in tasks.items():
        if task != tasks[first]:
            raise LeafwingError(
                f"{first} generates {tasks[first]}, and {name} {task}: compare only recipes that generate the same from the same"
            )


def command_line(arguments: Mapping[str, Any], references: Sequence[str], seeds: Sequence[int]) -> str:
    """The command line that is equivalent to a call of `compare`."""
    counts_from_0 = list(seeds) == list(range(len(seeds)))
    words = ["leafwing", "compare", str(arguments["source"]), "--recipes", ",".join(references)]
    words += ["--seeds", str(len(seeds)) if counts_from_0 else ",".join(map(str, seeds))]
    settings = {name: value for name in SETTINGS if (value := arguments["settings"].get(name)) is not None}
    defaults = {"hold_out": HOLD_OUT, "device": "auto"}
    values = {
        **{name: arguments[name] for name in ("images", "minutes")},
        **{name: value for name, value in settings.items() if value != defaults.get(name)},
        "metrics": None if arguments["metrics"] is None else split_list(arguments["metrics"]),
        **{name: arguments[name] for name in ("features", "weights", "n", "jobs", "threads")},
    }
    for name, value in values.items():
        words += option_words(name, value)
    options = arguments["options"]
    for text in [f"{key}={value}" for key, value in options.items()] if isinstance(options, Mapping) else options:
        words += ["--set", text]
    return shlex.join([*words, "--out", str(arguments["out"])])


def option_words(name: str, value: object) -> list[str]:
    """An option on a command line; nothing for None."""
    flag = "-n" if name == "n" else f"--{name.replace('_', '-')}"
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, tuple):  # a size
        return [flag, "x".join(map(str, value))]
    if isinstance(value, list):
        return [flag, ",".join(value)]
    return [flag, f"{value:.12g}" if isinstance(value, float) else str(value)]


def slots(plan: ComparisonPlan) -> list[dict[str, str]]:
    """The environment of the child processes in each slot: the number of threads and, with several GPUs, which GPU."""
    import torch

    common = {"OMP_NUM_THREADS": str(plan.threads)}
    if plan.device != "cuda":
        return [common] * plan.jobs
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return [common | {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(plan.jobs)]
